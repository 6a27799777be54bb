//! Reading along: an answer that is on its way, on the shard that fetches it and on others.
//!
//! The leader of a flight has its answer's [`Track`] here from its head on, and the flight's owner
//! tells whoever asks for the key which shard leads. Who is on that shard reads the track itself.
//! Another shard has one mirror of it, a track of its own which its readers share: the mirror asks
//! for a frame at a time, and only when one of its readers has passed on what there was. So an answer goes
//! through a ring once for each shard, as shared bytes, and what waits in a ring is one frame for each
//! mirror.
//!
//! A mirror that hears nothing, or that the frames ran away from, is cut: its readers get an error, never
//! an end that they could take for the whole.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use super::flight::{FLIGHT_LIMIT, FlightId};
use crate::{
    domain::{short_hash::ShortMap, usage::Usage},
    shard::{
        Shard,
        accept::spawn,
        mesh,
        track::{JoinError, Pace, Reader, Track, Tracks, Writer},
    },
};

/// The head of an answer that is followed live: immutable, shared by all who read along.
#[derive(Debug, PartialEq, Eq)]
pub struct LiveHead {
    /// The whole key; compared by who wants to read along.
    pub key: Box<[u8]>,
    /// HTTP status.
    pub status: u16,
    /// Header fields, each with its line end, ready to be sent.
    pub fields: Box<[u8]>,
    /// Value of `content-type`; empty if there was none.
    pub content_type: Box<[u8]>,
    /// Length of the body, where the provider told it.
    pub length: Option<u64>,
    /// It is an event stream.
    pub stream: bool,
    /// The model that the leader's record has.
    pub model: Box<[u8]>,
}

/// A flight: its owner, and the number there.
pub type OfOwner = (usize, FlightId);

/// A flight with the shard that leads it: leader, owner, number.
pub type OfLeader = (usize, usize, FlightId);

/// One mirror: its shard, and its number there. A flight may have another one when the first has
/// left, and what was for that is not for this.
pub type MirrorId = (usize, u64);

/// What two shards tell each other about an answer.
#[derive(Debug)]
pub enum Notice {
    /// Somebody waits for the answer, or nobody any more: from the flight's owner to its leader.
    Followed {
        /// The flight.
        flight: OfOwner,
        /// Whether anybody does.
        followed: bool,
    },
    /// The next frame, please.
    Want {
        /// The flight.
        flight: OfOwner,
        /// The mirror that wants it.
        mirror: MirrorId,
    },
    /// No more, please.
    Leave {
        /// The mirror that leaves.
        mirror: MirrorId,
    },
    /// What was wanted.
    Fed {
        /// The mirror's number.
        mirror: u64,
        /// What comes.
        fed: Fed,
    },
}

/// What a mirror is fed.
#[derive(Debug)]
pub enum Fed {
    /// A frame, and its microseconds after the answer's head.
    Frame(Arc<[u8]>, u32),
    /// The clean end, and what the answer used.
    End(Box<Usage>),
    /// There is no such answer, or it is cut.
    Cut,
}

/// The answers that are followed on one shard.
pub struct Lives {
    /// The tracks of this shard.
    pub tracks: Tracks,
    /// What this shard fetches.
    led: RefCell<ShortMap<OfOwner, Track>>,
    /// Whether anybody waits for what this shard has asked for.
    followed: RefCell<ShortMap<OfOwner, Rc<Cell<bool>>>>,
    /// Whom it feeds.
    fed: RefCell<ShortMap<MirrorId, Rc<Feeding>>>,
    /// What it reads from other shards.
    mirrors: RefCell<ShortMap<OfLeader, Track>>,
    /// What comes for its mirrors, by their numbers.
    inboxes: RefCell<ShortMap<u64, Rc<Inbox>>>,
    /// The number of its last mirror.
    last: Cell<u64>,
}

/// What was fed to a mirror and is not taken yet: one thing, since it asks for one.
#[derive(Default)]
struct Inbox {
    fed: Cell<Option<Fed>>,
    waker: Cell<Option<Waker>>,
}

/// What a mirror on another shard wants.
#[derive(Default)]
struct Feeding {
    wanted: Cell<bool>,
    left: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Lives {
    /// No answers yet; their tracks may hold so many bytes together.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            tracks: Tracks::new(bytes_max),
            led: RefCell::default(),
            followed: RefCell::default(),
            fed: RefCell::default(),
            mirrors: RefCell::default(),
            inboxes: RefCell::default(),
            last: Cell::new(0),
        }
    }

    /// An answer is asked for. What is given back is set while others wait for it.
    pub fn ask(&self, flight: OfOwner) -> Rc<Cell<bool>> {
        let mut followed = self.followed.borrow_mut();
        Rc::clone(followed.entry(flight).or_default())
    }

    /// An answer begins that this shard fetches.
    pub fn begin(&self, flight: OfOwner, track: &Track) {
        self.led.borrow_mut().insert(flight, track.clone());
    }

    /// Nobody joins it any more. Who reads, reads on.
    pub fn end(&self, flight: OfOwner) {
        // Called while a panic unwinds, too.
        if let Ok(mut led) = self.led.try_borrow_mut() {
            led.remove(&flight);
        }
        if let Ok(mut followed) = self.followed.try_borrow_mut() {
            followed.remove(&flight);
        }
    }

    /// How many answers are fetched here, fed to others and read from others.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (led, fed) = (self.led.borrow().len(), self.fed.borrow().len());
        (led, fed, self.mirrors.borrow().len())
    }
}

/// Reads along from the beginning.
pub fn join(shard: &Rc<Shard>, flight: OfLeader) -> Result<Reader, JoinError> {
    let (leader, owner, number) = flight;
    let lives = &shard.cache.lives;
    if leader == shard.number {
        let led = lives.led.borrow();
        return led.get(&(owner, number)).ok_or(JoinError::Closed)?.join(0);
    }
    if let Some(mirror) = lives.mirrors.borrow().get(&flight) {
        return mirror.join(0);
    }
    let (writer, track) = lives.tracks.open();
    let reader = track.join(0)?;
    let inbox = Rc::<Inbox>::default();
    let number = lives.last.get() + 1;
    lives.last.set(number);
    lives.mirrors.borrow_mut().insert(flight, track);
    lives.inboxes.borrow_mut().insert(number, Rc::clone(&inbox));
    let registered = Registered {
        shard: Rc::clone(shard),
        flight,
        number,
    };
    spawn(shard, run_mirror(registered, inbox, writer));
    Ok(reader)
}

/// A mirror in the list, for as long as it is fed.
struct Registered {
    shard: Rc<Shard>,
    flight: OfLeader,
    number: u64,
}

impl Registered {
    fn id(&self) -> MirrorId {
        (self.shard.number, self.number)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let lives = &self.shard.cache.lives;
        if let Ok(mut mirrors) = lives.mirrors.try_borrow_mut() {
            mirrors.remove(&self.flight);
        }
        if let Ok(mut inboxes) = lives.inboxes.try_borrow_mut() {
            inboxes.remove(&self.number);
        }
        let mirror = self.id();
        tell(&self.shard, self.flight.0, Notice::Leave { mirror });
    }
}

async fn run_mirror(registered: Registered, inbox: Rc<Inbox>, writer: Writer) {
    let shard = &registered.shard;
    let (leader, owner, number) = registered.flight;
    let deadline = shard.deadlines.open();
    while writer.may_go_on().await == Pace::Wanted {
        let notice = Notice::Want {
            flight: (owner, number),
            mirror: registered.id(),
        };
        tell(shard, leader, notice);
        deadline.set(Some(shard.clock.now().after(FLIGHT_LIMIT)));
        let next = poll_fn(|cx| {
            if let Some(fed) = inbox.fed.take() {
                return Poll::Ready(fed);
            }
            if deadline.is_past(shard.clock.coarse(), cx) {
                return Poll::Ready(Fed::Cut);
            }
            inbox.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        });
        match writer.while_read(next).await {
            Some(Fed::Frame(bytes, micros)) => writer.push_frame(bytes, micros),
            Some(Fed::End(usage)) => return writer.end_used(*usage),
            // Dropped, the writer cuts its readers.
            Some(Fed::Cut) | None => return,
        }
    }
}

/// Takes what another shard says about an answer.
pub fn hear(shard: &Rc<Shard>, notice: Notice) {
    let lives = &shard.cache.lives;
    match notice {
        Notice::Followed { flight, followed } => {
            if let Some(known) = lives.followed.borrow().get(&flight) {
                known.set(followed);
            }
        }
        Notice::Want { flight, mirror } => want(shard, flight, mirror),
        Notice::Leave { mirror } => {
            let left = lives.fed.borrow_mut().remove(&mirror);
            if let Some(feeding) = left {
                feeding.left.set(true);
                wake(&feeding.waker);
            }
        }
        Notice::Fed { mirror, fed } => {
            let inbox = lives.inboxes.borrow().get(&mirror).map(Rc::clone);
            if let Some(inbox) = inbox {
                inbox.fed.set(Some(fed));
                wake(&inbox.waker);
            }
        }
    }
}

fn want(shard: &Rc<Shard>, flight: OfOwner, mirror: MirrorId) {
    let lives = &shard.cache.lives;
    let known = lives.fed.borrow().get(&mirror).map(Rc::clone);
    if let Some(feeding) = known {
        feeding.wanted.set(true);
        return wake(&feeding.waker);
    }
    let led = lives.led.borrow().get(&flight).cloned();
    let Some(Ok(reader)) = led.map(|track| track.join(0)) else {
        return feed(shard, mirror, Fed::Cut);
    };
    let feeding = Rc::new(Feeding {
        wanted: Cell::new(true),
        ..Feeding::default()
    });
    let mut fed = lives.fed.borrow_mut();
    fed.insert(mirror, Rc::clone(&feeding));
    drop(fed);
    spawn(
        shard,
        run_feeding(Rc::clone(shard), mirror, feeding, reader),
    );
}

/// Feeds a mirror, a frame for each wish.
async fn run_feeding(shard: Rc<Shard>, mirror: MirrorId, feeding: Rc<Feeding>, mut reader: Reader) {
    loop {
        let wanted = poll_fn(|cx| {
            if feeding.wanted.replace(false) {
                return Poll::Ready(());
            }
            feeding.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        });
        if feeding.unless_left(wanted).await.is_none() {
            return;
        }
        let Some(next) = feeding.unless_left(reader.next()).await else {
            return;
        };
        let fed = match next {
            Ok(Some(piece)) => {
                let micros = piece.micros;
                Fed::Frame(piece.into_frame(), micros)
            }
            Ok(None) => Fed::End(Box::new(reader.usage())),
            Err(_) => Fed::Cut,
        };
        let last = !matches!(fed, Fed::Frame(..));
        if last {
            shard.cache.lives.fed.borrow_mut().remove(&mirror);
        }
        feed(&shard, mirror, fed);
        if last {
            return;
        }
    }
}

impl Feeding {
    /// Runs `work`; `None`: the mirror left before its end.
    async fn unless_left<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.left.get() {
                return Poll::Ready(None);
            }
            let polled = work.as_mut().poll(cx).map(Some);
            if polled.is_pending() {
                self.waker.set(Some(cx.waker().clone()));
            }
            polled
        })
        .await
    }
}

fn feed(shard: &Rc<Shard>, (to, mirror): MirrorId, fed: Fed) {
    tell(shard, to, Notice::Fed { mirror, fed });
}

fn tell(shard: &Rc<Shard>, to: usize, notice: Notice) {
    mesh::tell(shard, to, mesh::Notice::Cache(super::Notice::Along(notice)));
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
