//! The `api` thread: answers management requests, health checks and scrapes.
//!
//! It never waits for one caller. What needs the counts of the shards is put aside while they
//! are collected, at most [`COUNT_LIMIT`]; what needs disk or database is handed to a [`room`];
//! everything else is answered at once. Reading order: [`route`] (one table of what is served),
//! [`request`], [`envelope`], [`failure`] and [`field`] (what comes in and goes out), [`count`]
//! (asking the shards), [`room`], [`office`] and [`archive`] (where things are kept); then the
//! answers, a file for each resource.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    reload::{ReloadCommand, standing::Standing},
    store::{Store, vault::Vault},
};
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
pub mod request;
pub mod envelope;
pub mod failure;
pub mod field;
pub mod count;
pub mod room;
pub mod office;
pub mod archive;
pub mod health;
pub mod scrape;
pub mod account;
pub mod analytics;
pub mod page;
pub mod open_api;
pub mod gateway;
pub mod cache;
pub mod custom_provider;
pub mod provider_config;
pub mod dynamic_route;
pub mod dataset;
pub mod evaluation;
pub mod logs;
pub mod url;
pub mod billing;
pub mod audit_log;

use self::{
    archive::{Archive, ArchiveHandler},
    count::{Count, Counted},
    office::{Office, OfficeHandler, Records},
    request::Request,
    room::{Errand, Room, guarded},
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
}

/// What the API makes, and what it needs to make it known.
pub struct ApiState {
    /// `control.db`, once for each of the two rooms.
    pub stores: [Store; 2],
    /// Where records lie, and what deletes them.
    pub records: Records,
    /// Opens what is sealed in it.
    pub vault: Vault,
    /// Tells shards of changes.
    pub reload: Post<ReloadCommand>,
}

/// The running thread; it ends when this is dropped.
pub struct Api {
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. Questions come from `questions`, answers go to the shards of `parts`.
pub fn start(questions: Letterbox<Question>, parts: ApiParts, state: ApiState) -> io::Result<Api> {
    let [for_office, for_archive] = state.stores;
    let standing = || Arc::clone(&parts.standing);
    let (log, deleter) = (
        state.records.log.clone(),
        Arc::clone(&state.records.deleter),
    );
    let archive = Archive::new(for_archive, standing(), log, deleter);
    let office = Office::new(
        for_office,
        state.vault,
        standing(),
        state.reload,
        state.records,
        parts.shards.clone(),
    );
    let rooms = Rooms {
        office: Room::open("api-state", office, parts.shards.clone())?,
        archive: Room::open("api-logs", archive, parts.shards.clone())?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, bell) = (Arc::clone(&stop), Arc::clone(&questions.bell));
    let builder = std::thread::Builder::new().name("api".to_owned());
    let thread = builder.spawn(move || Desk::new(parts, rooms).run(&questions, &stopped))?;
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
pub struct Place {
    shard: usize,
    ticket: u64,
}

/// The thread's state.
struct Desk {
    parts: ApiParts,
    /// The last counts of each shard: one that is silent does not make the sums fall.
    known: Vec<Counters>,
    counts: Vec<(Count, Vec<(Place, CountedHandler)>)>,
    rooms: Rooms,
}

/// The threads beside this one.
struct Rooms {
    office: Room<(&'static Route, OfficeHandler)>,
    archive: Room<(&'static Route, ArchiveHandler)>,
}

type CountedHandler = fn(&ApiParts, &Counted<'_>) -> ApiAnswer;

impl Desk {
    fn new(parts: ApiParts, rooms: Rooms) -> Self {
        Self {
            known: parts.shards.iter().map(|_| Counters::default()).collect(),
            counts: Vec::new(),
            rooms,
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
            match questions.wait(wait) {
                Some(Question::Api {
                    shard,
                    ticket,
                    call,
                }) => self.take(Place { shard, ticket }, call, Instant::now()),
                Some(Question::Implied { gateway }) => {
                    // One that is not made now is made at a later use.
                    let _ = self.rooms.office.enter(Errand::Implied { gateway });
                }
                Some(Question::Resolve { .. }) | None => {}
            }
            self.look_at_counts(Instant::now());
        }
    }

    fn take(&mut self, place: Place, call: Box<ApiCall>, now: Instant) {
        let route = match route::find(&call) {
            Ok(route) => route,
            Err(refusal) => return self.answer(place, refusal),
        };
        let request = Request::new(route, &call);
        let account = request.name("account_id");
        let known = self.parts.standing.account_id();
        if !account.is_empty() && known.is_some_and(|known| known != account) {
            return self.answer(place, route::unknown_account());
        }
        match route.handler {
            Handler::Now(handler) => {
                self.answer(place, guarded(|| handler(&self.parts, &request)));
            }
            Handler::Counted(handler) => {
                if self.counts.len() < COUNTS_MAX {
                    let count = Count::start(&self.parts.shards, now + COUNT_LIMIT);
                    self.counts.push((count, Vec::new()));
                }
                if let Some((_, waiting)) = self.counts.last_mut() {
                    waiting.push((place, handler));
                }
            }
            Handler::Stored(handler) => {
                let errand = Errand::Call {
                    place,
                    handler: (route, handler),
                    call,
                };
                if let Err(refusal) = self.rooms.office.enter(errand) {
                    self.answer(place, refusal);
                }
            }
            Handler::Scanned(handler) => {
                let errand = Errand::Call {
                    place,
                    handler: (route, handler),
                    call,
                };
                if let Err(refusal) = self.rooms.archive.enter(errand) {
                    self.answer(place, refusal);
                }
            }
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

#[cfg(test)]
mod tests;
