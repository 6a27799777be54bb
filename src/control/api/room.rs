//! Rooms: threads beside the `api` thread for requests that take their time with disk and
//! database, so that health checks and scrapes never wait for them.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{Place, envelope};
use crate::{
    handoff::mailbox::{ApiAnswer, ApiCall, Letterbox, Order, Post, letterbox},
    sys::bell::Bell,
};

/// What a room is asked.
pub enum Errand<H> {
    /// Answer a request.
    Call {
        /// Where the answer goes.
        place: Place,
        /// What answers.
        handler: H,
        /// The request.
        call: Box<ApiCall>,
    },
    /// A gateway was used that nobody made.
    Implied {
        /// Its id.
        gateway: Box<str>,
    },
}

/// What happens in a room.
pub trait Work: Send + 'static {
    /// What answers one kind of request.
    type Handler: Copy + Send + 'static;

    /// Answers a request.
    fn answer(&mut self, handler: Self::Handler, call: &ApiCall) -> ApiAnswer;

    /// Makes a gateway that was used.
    fn implied(&mut self, gateway: &str);

    /// Lets go of what is kept for the next request: there was none for a while.
    fn rest(&mut self) {}
}

/// A room; its thread ends when this is dropped.
pub struct Room<H: Send + 'static> {
    post: Post<Errand<H>>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Requests that wait in one room; each may hold a body of some megabytes.
const WAITING_MAX: usize = 64;

/// Looks without an errand after which a room lets go of what it keeps: half a minute.
const IDLE_LOOKS: u64 = 60;

/// How often a room looks whether it is to end, should the bell be missed.
const LOOK: Duration = Duration::from_millis(500);

impl<H: Copy + Send + 'static> Room<H> {
    /// Opens a room: `work` is done on a thread called `name`, answers go to `shards`.
    pub fn open(
        name: &str,
        work: impl Work<Handler = H>,
        shards: Vec<Post<Order>>,
    ) -> io::Result<Self> {
        let (post, errands) = letterbox()?;
        let (waiting, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let bell = Arc::clone(&errands.bell);
        let (left, stopped) = (Arc::clone(&waiting), Arc::clone(&stop));
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || run(work, &errands, &shards, &left, &stopped))?;
        Ok(Self {
            post,
            waiting,
            stop,
            bell,
            thread: Some(thread),
        })
    }

    /// Hands an errand in; gives the refusal if there are too many.
    pub fn enter(&self, errand: Errand<H>) -> Result<(), ApiAnswer> {
        let full = self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX;
        if full || self.post.send(errand).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(envelope::failure(
                503,
                envelope::CODE_REQUEST,
                "too many management requests wait already; try again",
            ));
        }
        Ok(())
    }
}

impl<H: Send + 'static> Drop for Room<H> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if let Some(thread) = self.thread.take() {
            // Its panics were caught where they arose.
            let _ = thread.join();
        }
    }
}

fn run<W: Work>(
    mut work: W,
    errands: &Letterbox<Errand<W::Handler>>,
    shards: &[Post<Order>],
    waiting: &AtomicUsize,
    stop: &AtomicBool,
) {
    let mut idle = 0;
    while !stop.load(Ordering::Acquire) {
        let Some(errand) = errands.wait(LOOK) else {
            idle += 1;
            if idle == IDLE_LOOKS {
                work.rest();
            }
            continue;
        };
        idle = 0;
        waiting.fetch_sub(1, Ordering::Relaxed);
        match errand {
            Errand::Call {
                place,
                handler,
                call,
            } => {
                let answer = guarded(|| work.answer(handler, &call));
                if let Some(post) = shards.get(place.shard) {
                    let ticket = place.ticket;
                    // A full mailbox belongs to a shard that is stuck; its caller times out.
                    let _ = post.send(Order::Answer { ticket, answer });
                }
            }
            Errand::Implied { gateway } => {
                let done = catch_unwind(AssertUnwindSafe(|| work.implied(&gateway)));
                if done.is_err() {
                    tracing::error!("making a gateway panicked; please report this");
                }
            }
        }
    }
}

/// Runs a handler. Should one panic, the thread lives on for the others.
pub fn guarded(handler: impl FnOnce() -> ApiAnswer) -> ApiAnswer {
    catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|_| {
        tracing::error!("a management request panicked; please report this");
        envelope::failure(
            500,
            envelope::CODE_REQUEST,
            "tidegate failed to make this answer",
        )
    })
}
