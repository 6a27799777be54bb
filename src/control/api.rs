//! The `api` thread: answers management requests, health checks and scrapes.
//!
//! It never waits for one caller. What needs the counts of the shards is put aside while they
//! are collected, at most [`COUNT_LIMIT`]; everything else is answered at once. Reading order:
//! [`route`] (one table of what is served), [`count`] (asking the shards), then the answers:
//! [`health`], [`scrape`], [`account`], [`analytics`], [`page`], [`open_api`], and [`envelope`], their common
//! form.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{logs::folder::LogDir, reload::standing::Standing};
use crate::{
    handoff::{
        counters::Counters,
        log_health::LogHealth,
        log_queue::LogCounters,
        mailbox::{ApiAnswer, ApiCall, Letterbox, Order, Post, Question},
    },
    sys::bell::Bell,
};

pub mod route;
pub mod count;
pub mod health;
pub mod scrape;
pub mod account;
pub mod analytics;
pub mod page;
pub mod open_api;
pub mod envelope;

use self::{
    count::{Count, Counted},
    route::{Handler, Route},
};

/// What the thread answers from.
pub struct ApiParts {
    /// The mailbox of each shard, by its number.
    pub shards: Vec<Post<Order>>,
    /// How the log store is.
    pub log_health: Arc<LogHealth>,
    /// What each shard handed to the log writer.
    pub log_counters: Vec<Arc<LogCounters>>,
    /// The word for the driver that the shards run on.
    pub driver: String,
    /// Why a better driver was refused; `None` if none was.
    pub driver_reason: Option<String>,
    /// Set while the server wants no new requests.
    pub draining: Arc<AtomicBool>,
    /// How the configuration stands.
    pub standing: Arc<Standing>,
    /// Where records lie.
    pub log: LogDir,
}

/// The running thread; it ends when this is dropped.
pub struct Api {
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. Questions come from `questions`, answers go to the shards of `parts`.
pub fn start(questions: Letterbox<Question>, parts: ApiParts) -> io::Result<Api> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, bell) = (Arc::clone(&stop), Arc::clone(&questions.bell));
    let builder = std::thread::Builder::new().name("api".to_owned());
    let thread = builder.spawn(move || Desk::new(parts).run(&questions, &stopped))?;
    Ok(Api {
        stop,
        bell,
        thread: Some(thread),
    })
}

impl Api {
    /// Ends the thread and waits for it: no longer than one answer takes.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if let Some(thread) = self.thread.take() {
            // Its panics were caught where they arose.
            let _ = thread.join();
        }
    }
}

/// Longest wait for the shards' counts. A shard turns its loop in microseconds.
pub const COUNT_LIMIT: Duration = Duration::from_secs(1);

/// How often the thread looks whether counts have come.
const COUNT_POLL: Duration = Duration::from_millis(2);

/// How often the thread looks whether it is to end, should the bell be missed.
const LOOK: Duration = Duration::from_millis(500);

/// Collections at once. Only a shard that is stuck lets them pile up; further requests then
/// share the youngest.
const COUNTS_MAX: usize = 8;

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    ticket: u64,
}

/// The thread's state.
struct Desk {
    parts: ApiParts,
    /// The last counts of each shard: one that is silent does not make the sums fall.
    known: Vec<Counters>,
    counts: Vec<(Count, Vec<(Place, CountedHandler)>)>,
}

type CountedHandler = fn(&ApiParts, &Counted<'_>) -> ApiAnswer;

impl Desk {
    fn new(parts: ApiParts) -> Self {
        Self {
            known: parts.shards.iter().map(|_| Counters::default()).collect(),
            counts: Vec::new(),
            parts,
        }
    }

    fn run(mut self, questions: &Letterbox<Question>, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let wait = if self.counts.is_empty() {
                LOOK
            } else {
                COUNT_POLL
            };
            if let Some(Question::Api {
                shard,
                ticket,
                call,
            }) = questions.wait(wait)
            {
                self.take(Place { shard, ticket }, &call, Instant::now());
            }
            self.look_at_counts(Instant::now());
        }
    }

    fn take(&mut self, place: Place, call: &ApiCall, now: Instant) {
        match route::find(call) {
            Ok(Route {
                handler: Handler::Now(handler),
                ..
            }) => {
                self.answer(place, guarded(|| handler(&self.parts, call)));
            }
            Ok(Route {
                handler: Handler::Counted(handler),
                ..
            }) => {
                if self.counts.len() < COUNTS_MAX {
                    let count = Count::start(&self.parts.shards, now + COUNT_LIMIT);
                    self.counts.push((count, Vec::new()));
                }
                if let Some((_, waiting)) = self.counts.last_mut() {
                    waiting.push((place, *handler));
                }
            }
            Err(refusal) => self.answer(place, refusal),
        }
    }

    /// Answers those whose counts are complete or overdue.
    fn look_at_counts(&mut self, now: Instant) {
        let mut at = 0;
        while let Some((count, _)) = self.counts.get_mut(at) {
            if !count.look(&mut self.known, now) {
                at += 1;
                continue;
            }
            let (count, waiting) = self.counts.remove(at);
            let counted = Counted {
                known: &self.known,
                silent: count.silent(),
            };
            for (place, handler) in waiting {
                self.answer(place, guarded(|| handler(&self.parts, &counted)));
            }
        }
    }

    fn answer(&self, place: Place, answer: ApiAnswer) {
        let Place { shard, ticket } = place;
        if let Some(post) = self.parts.shards.get(shard) {
            // A full mailbox belongs to a shard that is stuck; its caller times out.
            let _ = post.send(Order::Answer { ticket, answer });
        }
    }
}

/// Runs a handler. Should one panic, the thread lives on for the others.
fn guarded(handler: impl FnOnce() -> ApiAnswer) -> ApiAnswer {
    catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|_| {
        tracing::error!("a management request panicked; please report this");
        envelope::failure(
            500,
            envelope::CODE_REQUEST,
            "tidegate failed to make this answer",
        )
    })
}

#[cfg(test)]
mod tests;
