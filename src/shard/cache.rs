//! Stage 5: do we know the answer? The response cache, as an exchange uses it.
//!
//! Each key has one owner among the shards, which keeps the entry and knows who is fetching it.
//! Nothing here is on the path of an exchange that does not ask for the cache.
//!
//! **How an exchange goes through it**, in this order:
//!
//! 1. [`Cache::is_on`], the TTL that applies, and [`admission::may_be_answered`]: does the cache
//!    concern this request at all? A body that passes through, or an upgrade, never.
//! 2. [`key::CredentialDigest::of`] (unless the gateway's callers share), [`key::KeyParts::row`],
//!    [`key::HashedRow::key`]: its key. Digests of its parts go into the record.
//! 3. [`look`] with an [`Intent`]: [`Intent::Share`] usually, [`Intent::Fresh`] for
//!    `cf-aig-skip-cache`. It awaits the owner for at most [`ASK_LIMIT`] and, as a follower, the
//!    leader for at most the given patience. Dropping it (the caller hung up) undoes it. Its
//!    [`Lookup::Hit`] was compared with the whole key: it is sent, its body as it is in the `Arc`,
//!    and costs nothing.
//! 4. On a [`Lookup::Miss`] the provider is asked, and the [`Keeper`] kept beside the attempt. If
//!    [`admission::head_may_be_kept`] says no to the head, [`Keeper::not_kept`] at once. The body is
//!    gathered beside the relay, behind a [`cached::Front`], while it is not larger than
//!    [`Cache::answer_bytes_max`]; when it is, [`Keeper::not_kept`].
//! 5. At the end [`failure::reports_error`]; then [`Keeper::keep`] with an exact-size [`Cached`], or [`Keeper::not_kept`], or [`Keeper::failed`] if the provider
//!    gave nothing. A keeper that is dropped instead (the caller went away) hands the lead on.
//!
//! Called by others: `mesh.rs` calls [`answer`], [`hear`] and [`unclaimed`]; `accept.rs` calls
//! [`tick`], and [`Cache::purge`] for `Order::Forget`, which every shard gets.
//!
//! Reading order: [`key`], [`cached`], [`admission`], [`failure`], [`store`], [`flight`].

pub mod key;
pub mod cached;
pub mod admission;
pub mod failure;
pub mod store;
pub mod flight;
pub mod live;
pub mod run;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use self::{
    cached::Cached,
    flight::{Ending, FlightId, Flights, Role, Verdict},
    key::{Key, KeySecret, Rows},
    live::{LiveHead, Lives},
    run::{RunHead, Runs},
    store::{Stamp, Store, StoreCounts},
};
use super::{
    Shard,
    clock::Moment,
    mesh::{self, Asker, Asking},
    track,
};
use crate::domain::cache::{KeyHash, Purge};

/// Longest wait for an owner's word. It takes microseconds, and longer where thousands ask at once:
/// just then a miss is dear, for who gives up asks the provider.
pub const ASK_LIMIT: Duration = Duration::from_secs(1);

/// What a shard asks the owner of a key.
#[derive(Debug)]
pub enum Question {
    /// Is there an answer?
    Find {
        /// The key.
        hash: KeyHash,
        /// What the asker does if there is none.
        intent: Intent,
    },
    /// Is there a run? For the shard that fetched it.
    Run {
        /// Its number.
        number: u64,
        /// Its token.
        token: u128,
    },
}

/// What an exchange wants of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// An answer, or to fetch one for all who ask meanwhile.
    Share,
    /// An answer, or to fetch one by itself.
    Alone,
    /// A new answer, to be kept in place of the old one.
    Fresh,
}

/// What the owner of a key answers.
#[derive(Debug)]
pub enum Answer {
    /// Here it is, if the key is the same.
    Found(Arc<Cached>),
    /// Fetch it, others wait for it.
    Lead {
        /// The key.
        hash: KeyHash,
        /// What to report about.
        flight: FlightId,
        /// What to store it with.
        stamp: Stamp,
    },
    /// Wait: another answer follows on the same ticket.
    Follow {
        /// The shard that leads.
        leader: usize,
        /// Its flight.
        flight: FlightId,
    },
    /// Read along: the answer has begun.
    Live {
        /// The shard that has it.
        leader: usize,
        /// Its flight.
        flight: FlightId,
        /// The answer's head.
        head: Arc<LiveHead>,
    },
    /// The run that was asked for, if there is one.
    Run(Option<Arc<RunHead>>),
    /// Fetch it.
    Alone {
        /// What to store it with.
        stamp: Stamp,
    },
}

/// What a shard tells the owner of a key.
#[derive(Debug)]
pub enum Notice {
    /// An answer to be kept.
    Keep {
        /// The key.
        hash: KeyHash,
        /// The answer.
        cached: Arc<Cached>,
        /// For how many seconds.
        ttl_seconds: u32,
        /// From the question.
        stamp: Stamp,
        /// The flight that ends with it.
        flight: Option<FlightId>,
    },
    /// A flight ended without an answer that is kept.
    Ended {
        /// The key.
        hash: KeyHash,
        /// The flight.
        flight: FlightId,
        /// How.
        ending: Ending,
    },
    /// A flight's answer has begun, and may be followed live.
    Live {
        /// The key.
        hash: KeyHash,
        /// The flight.
        flight: FlightId,
        /// The answer's head.
        head: Arc<LiveHead>,
    },
    /// About an answer that is followed live, between the shard that has it and one that reads.
    Along(live::Notice),
    /// A follower waits no longer.
    Leave {
        /// The key.
        hash: KeyHash,
        /// The follower.
        asker: Asker,
    },
}

/// What a shard's cache is made of.
#[derive(Debug, Clone)]
pub struct CacheParts {
    /// Bytes that this shard may fill; 0 is off.
    pub share: u64,
    /// What keys are hashed with, the same on every shard.
    pub secret: KeySecret,
}

/// The part of the cache that one shard owns.
pub struct Cache {
    /// What keys are hashed with.
    pub secret: KeySecret,
    /// What it has hashed of keys.
    pub rows: RefCell<Rows>,
    store: RefCell<Store>,
    flights: RefCell<Flights>,
    /// Answers that are followed live, here or from here.
    pub lives: Lives,
    /// Streams that can be read again.
    pub runs: Runs,
}

/// Entries that are looked at on one tick, and flights whose limit is.
const SWEPT_A_TICK: usize = 64;

impl Cache {
    /// An empty cache.
    pub fn new(parts: CacheParts) -> Self {
        Self {
            lives: Lives::new(parts.share),
            runs: Runs::default(),
            secret: parts.secret,
            rows: RefCell::default(),
            store: RefCell::new(Store::new(parts.share)),
            flights: RefCell::default(),
        }
    }

    /// Says whether anything can be cached; the same on every shard.
    pub fn is_on(&self) -> bool {
        self.store.borrow().is_on()
    }

    /// Greatest answer that is kept, in bytes; the same on every shard.
    pub fn answer_bytes_max(&self) -> u64 {
        self.store.borrow().answer_bytes_max()
    }

    /// What the store has counted and holds.
    pub fn counts(&self) -> StoreCounts {
        self.store.borrow().counts()
    }

    /// How many flights are under way here, and how many askers follow.
    pub fn flights(&self) -> (usize, usize) {
        self.flights.borrow().counts()
    }

    /// Forgets answers, of which this shard may own some.
    pub fn purge(&self, what: Purge) {
        self.store.borrow_mut().purge(what);
    }
}

/// What a look-up came to.
pub enum Lookup {
    /// The answer.
    Hit(Arc<Cached>),
    /// The answer is on its way: its head, and where its body is read.
    Live(Arc<LiveHead>, track::Reader),
    /// The provider has to be asked. Without a keeper the owner said nothing, and nothing is kept.
    Miss(Option<Keeper>),
}

/// How often an answer is asked for that was on its way and is gone when it is to be read: it has
/// been stored since, or its leader went away. After that the cache stays out of it.
const TRIES_MAX: usize = 4;

/// Looks for the answer to a request. If another request is fetching it, reads along from the answer's
/// beginning, or waits for that, up to `patience`.
pub async fn look(
    shard: &Rc<Shard>,
    key: &Key,
    body: &[u8],
    intent: Intent,
    patience: Duration,
) -> Lookup {
    let hash = key.hash;
    let owner = hash.owner(shard.mesh.shards());
    let keeper = |stamp, flight: Option<FlightId>| Keeper {
        shard: Rc::clone(shard),
        owner,
        hash,
        stamp,
        flight,
        followed: flight.map(|flight| shard.cache.lives.ask((owner, flight))),
    };
    for _ in 0..TRIES_MAX {
        let at_once = (owner == shard.number)
            .then(|| decide(shard, hash, intent, None))
            .flatten();
        let answer = match at_once {
            Some(answer) => Some(answer),
            // Boxed, like everything rare.
            None => Box::pin(ask(shard, owner, hash, intent, patience)).await,
        };
        let Some(answer) = answer else {
            return Lookup::Miss(None);
        };
        match answer {
            Answer::Found(cached) if key.matches(body, cached.key()) => {
                return Lookup::Hit(cached);
            }
            Answer::Live {
                leader,
                flight,
                head,
            } if key.matches(body, &head.key) => {
                if let Ok(mut reader) = live::join(shard, (leader, owner, flight))
                    && reader.ready().await.is_ok()
                {
                    return Lookup::Live(head, reader);
                }
            }
            // Another key of that hash, which nobody has met yet; or a promise of a promise.
            Answer::Found(_) | Answer::Follow { .. } | Answer::Live { .. } | Answer::Run(_) => {
                return Lookup::Miss(None);
            }
            Answer::Lead { flight, stamp, .. } => {
                return Lookup::Miss(Some(keeper(stamp, Some(flight))));
            }
            Answer::Alone { stamp } => return Lookup::Miss(Some(keeper(stamp, None))),
        }
    }
    Lookup::Miss(None)
}

/// Asks the owner once, and waits for what it promises.
async fn ask(
    shard: &Rc<Shard>,
    owner: usize,
    hash: KeyHash,
    intent: Intent,
    patience: Duration,
) -> Option<Answer> {
    let question = mesh::Question::Cache(Question::Find { hash, intent });
    let mut asking = mesh::ask(shard, owner, question);
    let mut answer = asking.answer(ASK_LIMIT).await;
    if let Some(mesh::Answer::Cache(Answer::Follow { .. })) = answer {
        let mut following = Following {
            shard,
            owner,
            hash,
            asking,
            told: false,
        };
        answer = following.asking.answer(patience).await;
        following.told = answer.is_some();
    }
    match answer {
        Some(mesh::Answer::Cache(answer)) => Some(answer),
        Some(mesh::Answer::Failed) | None => None,
    }
}

/// A follower that waits. Dropped before it was told anything, it says that it is gone, so that
/// nobody makes it a leader.
struct Following<'s> {
    shard: &'s Rc<Shard>,
    owner: usize,
    hash: KeyHash,
    asking: Asking,
    told: bool,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        if !self.told {
            let asker = self.asking.asker();
            let hash = self.hash;
            tell(self.shard, self.owner, Notice::Leave { hash, asker });
        }
    }
}

/// Leave to keep the answer that its exchange fetches; where the exchange leads, others wait for
/// it. Dropped, it says that the exchange went away.
#[must_use = "whoever follows waits for its word"]
pub struct Keeper {
    shard: Rc<Shard>,
    owner: usize,
    hash: KeyHash,
    stamp: Stamp,
    flight: Option<FlightId>,
    followed: Option<Rc<Cell<bool>>>,
}

impl Keeper {
    /// Set while others wait for the answer, where the exchange leads.
    pub fn followed(&self) -> Option<Rc<Cell<bool>>> {
        self.followed.clone()
    }

    /// Says whether others may be waiting.
    pub fn leads(&self) -> bool {
        self.flight.is_some()
    }

    /// Lets others read along: gives the writer of the answer's track, and the track. `None` where
    /// the exchange does not lead.
    pub fn go_live(&self, head: Arc<LiveHead>) -> Option<(track::Writer, track::Track)> {
        let flight = self.flight?;
        let (writer, track) = self.shard.cache.lives.tracks.open();
        self.shard.cache.lives.begin((self.owner, flight), &track);
        let hash = self.hash;
        let notice = Notice::Live { hash, flight, head };
        tell(&self.shard, self.owner, notice);
        Some((writer, track))
    }

    fn take_flight(&mut self) -> Option<FlightId> {
        let flight = self.flight.take()?;
        self.shard.cache.lives.end((self.owner, flight));
        Some(flight)
    }

    /// Keeps an answer, and gives it to whoever waits. A `ttl` of less than a second is for them
    /// alone.
    pub fn keep(mut self, cached: Arc<Cached>, ttl: Duration) {
        let notice = Notice::Keep {
            hash: self.hash,
            cached,
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
            stamp: self.stamp,
            flight: self.take_flight(),
        };
        tell(&self.shard, self.owner, notice);
    }

    /// Says that the answer is not one to keep: who waits does so in vain.
    pub fn not_kept(mut self) {
        self.end(Ending::NotKept);
    }

    /// Says that there is no answer.
    pub fn failed(mut self) {
        self.end(Ending::Failed);
    }

    fn end(&mut self, ending: Ending) {
        if let Some(flight) = self.take_flight() {
            let hash = self.hash;
            let notice = Notice::Ended {
                hash,
                flight,
                ending,
            };
            tell(&self.shard, self.owner, notice);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end(Ending::Gone);
    }
}

fn tell(shard: &Rc<Shard>, owner: usize, notice: Notice) {
    mesh::tell(shard, owner, mesh::Notice::Cache(notice));
}

/// Answers a question, here at the owner.
pub fn answer(shard: &Rc<Shard>, asker: Asker, question: &Question) -> Answer {
    match *question {
        Question::Find { hash, intent } => {
            let answer = decide(shard, hash, intent, Some(asker));
            answer.unwrap_or_else(|| Answer::Alone {
                stamp: shard.cache.store.borrow().stamp(),
            })
        }
        Question::Run { number, token } => Answer::Run(run::answer(shard, number, token)),
    }
}

/// Says what who asks for a key is to do. Without an asker it is an exchange of the owner's own shard,
/// which need not be known unless it waits. `None`: it would wait, and has to ask as others do.
fn decide(
    shard: &Rc<Shard>,
    hash: KeyHash,
    intent: Intent,
    asker: Option<Asker>,
) -> Option<Answer> {
    let now = shard.clock.now();
    let cache = &shard.cache;
    let mut store = cache.store.borrow_mut();
    let stamp = store.stamp();
    if intent == Intent::Fresh {
        return Some(Answer::Alone { stamp });
    }
    let mut flights = cache.flights.borrow_mut();
    let asker = match asker {
        Some(asker) => asker,
        None if intent == Intent::Share && flights.is_under_way(hash) => return None,
        None => Asker {
            shard: shard.number,
            // Who leads is known by its shard and its flight.
            ticket: 0,
        },
    };
    if let Some(cached) = store.find(hash, now) {
        return Some(Answer::Found(cached));
    }
    if intent == Intent::Alone || !store.is_on() {
        return Some(Answer::Alone { stamp });
    }
    if let Some((leader, flight, head)) = flights.live(hash, stamp) {
        return Some(Answer::Live {
            leader,
            flight,
            head,
        });
    }
    let role = flights.join(hash, asker, stamp, now);
    drop(flights);
    Some(match role {
        Role::Lead(flight) => Answer::Lead {
            hash,
            flight,
            stamp,
        },
        Role::Follow { leader, flight } => {
            tell_leader(shard, hash, 1);
            Answer::Follow { leader, flight }
        }
        Role::Alone => Answer::Alone { stamp },
    })
}

/// Tells the leader of a key's flight whether anybody waits for its answer, when their number has just become
/// `count`: the first came, or the last left.
fn tell_leader(shard: &Rc<Shard>, hash: KeyHash, count: usize) {
    let waiting = shard.cache.flights.borrow().waiting(hash);
    let Some((waiting, leader, flight)) = waiting else {
        return;
    };
    if waiting == count {
        let notice = live::Notice::Followed {
            flight: (shard.number, flight),
            followed: waiting > 0,
        };
        tell(shard, leader, Notice::Along(notice));
    }
}

/// Takes a notice, here at the owner.
pub fn hear(shard: &Rc<Shard>, notice: Notice) {
    let now = shard.clock.now();
    let cache = &shard.cache;
    match notice {
        Notice::Keep {
            hash,
            cached,
            ttl_seconds,
            stamp,
            flight,
        } => {
            let expires = now.after(Duration::from_secs(ttl_seconds.into()));
            let mut store = cache.store.borrow_mut();
            let Some(flight) = flight else {
                store.insert(hash, cached, stamp, now, expires);
                return;
            };
            store.insert(hash, Arc::clone(&cached), stamp, now, expires);
            drop(store);
            end(shard, hash, flight, Ending::Stored, Some(&cached), now);
        }
        Notice::Ended {
            hash,
            flight,
            ending,
        } => end(shard, hash, flight, ending, None, now),
        Notice::Live { hash, flight, head } => {
            let mut flights = cache.flights.borrow_mut();
            let followers = flights.go_live(hash, flight, Arc::clone(&head));
            let leader = flights.live(hash, Stamp::default()).map(|live| live.0);
            drop(flights);
            for asker in followers {
                let answer = Answer::Live {
                    leader: leader.unwrap_or_default(),
                    flight,
                    head: Arc::clone(&head),
                };
                promised(shard, asker, answer);
            }
        }
        Notice::Along(notice) => live::hear(shard, notice),
        Notice::Leave { hash, asker } => {
            cache.flights.borrow_mut().leave(hash, asker);
            tell_leader(shard, hash, 0);
        }
    }
}

fn end(
    shard: &Rc<Shard>,
    hash: KeyHash,
    flight: FlightId,
    ending: Ending,
    cached: Option<&Arc<Cached>>,
    now: Moment,
) {
    let mut verdicts = Vec::new();
    let mut flights = shard.cache.flights.borrow_mut();
    flights.end(hash, flight, ending, now, &mut verdicts);
    drop(flights);
    announce(shard, hash, &verdicts, cached);
}

fn announce(
    shard: &Rc<Shard>,
    hash: KeyHash,
    verdicts: &[(Asker, Verdict)],
    cached: Option<&Arc<Cached>>,
) {
    let stamp = shard.cache.store.borrow().stamp();
    for (asker, verdict) in verdicts {
        let answer = match (verdict, cached) {
            (Verdict::Stored, Some(cached)) => Answer::Found(Arc::clone(cached)),
            (Verdict::Lead(flight), _) => Answer::Lead {
                hash,
                flight: *flight,
                stamp,
            },
            (Verdict::Alone | Verdict::Stored, _) => Answer::Alone { stamp },
        };
        promised(shard, *asker, answer);
    }
}

/// Gives a follower the answer that it was promised.
fn promised(shard: &Rc<Shard>, asker: Asker, answer: Answer) {
    let later = mesh::Notice::Later {
        ticket: asker.ticket,
        answer: mesh::Answer::Cache(answer),
    };
    mesh::tell(shard, asker.shard, later);
}

/// An answer that came too late for its asker. A lead is handed on.
pub fn unclaimed(shard: &Rc<Shard>, owner: usize, answer: &Answer) {
    if let Answer::Lead { hash, flight, .. } = *answer {
        let ending = Ending::Gone;
        let notice = Notice::Ended {
            hash,
            flight,
            ending,
        };
        tell(shard, owner, notice);
    }
}

/// Looks after what nobody touches: once a tick.
pub fn tick(shard: &Rc<Shard>, now: Moment) {
    run::tick(shard, now);
    let cache = &shard.cache;
    cache.store.borrow_mut().sweep(now, SWEPT_A_TICK);
    let mut expired = Vec::new();
    cache
        .flights
        .borrow_mut()
        .expire(now, SWEPT_A_TICK, &mut expired);
    for (hash, asker, verdict) in expired {
        announce(shard, hash, &[(asker, verdict)], None);
    }
}

#[cfg(test)]
mod tests;
