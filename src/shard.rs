//! The data plane: one shard is one core, one ring, one thread, and shares nothing.
//!
//! In the order in which a request meets it: [`accept`], [`connection`], [`exchange`] (one
//! request on one screen) and its stages [`parse`], [`authenticate`], [`body`], [`route`],
//! [`cache`], [`ledger`], [`upstream`] (as often as [`retry`] says), [`relay`] or [`tunnel`]
//! ([`track`]: one answer for many readers), [`record`]; [`reply`] where tidegate itself answers,
//! [`management`] where a side thread does. Below them: [`models`] (what it remembers), [`emit`]
//! (heads written anew), [`stream`], [`outbox`] and [`tls`] (bytes on sockets), [`mesh`] (what it says to other
//! shards), [`buffer`], [`clock`], [`runtime`].

pub mod accept;
pub mod connection;
pub mod exchange;
pub mod parse;
pub mod authenticate;
pub mod body;
pub mod universal;
pub mod route;
pub mod retry;
pub mod cache;
pub mod ledger;
pub mod upstream;
pub mod relay;
pub mod track;
pub mod tunnel;
pub mod record;
pub mod remembered;
pub mod reply;
pub mod management;
pub mod meters;
pub mod models;
pub mod emit;
pub mod outbox;
pub mod stream;
pub mod tls;
pub mod mesh;
pub mod buffer;
pub mod clock;
pub mod runtime;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use crossbeam_channel::Sender;

use self::{
    buffer::Buffers,
    cache::{Cache, CacheParts},
    clock::{Clock, Deadlines, Moment},
    ledger::post::Ledger,
    mesh::{Mesh, Message},
    meters::Meters,
    models::Models,
    outbox::Outbox,
    upstream::{host::Hosts, keys::Keys},
};
use crate::{
    domain::id::{RequestId, RequestIds},
    handoff::{
        counters::{Counters, Plain},
        ledger::{Batch, Charge},
        log_health::LogHealth,
        log_queue::LogSender,
        mailbox::{ApiAnswer, Post, Question},
        mesh::MeshEnd,
    },
    snapshot::Snapshot,
};

/// Everything that one shard owns. Nothing of it is seen by another thread.
pub struct Shard {
    /// Its number, from 0.
    pub number: usize,
    /// Its clock.
    pub clock: Clock,
    /// Its deadlines.
    pub deadlines: Rc<Deadlines>,
    /// Its free buffers.
    pub buffers: Buffers,
    /// The small sends of its turn.
    pub outbox: Rc<Outbox>,
    /// The origins that it has called.
    pub hosts: Hosts,
    /// The keys of providers that have several.
    pub keys: Keys,
    /// The models that it has seen.
    pub models: Models,
    /// Meters for the next answers.
    pub meters: Meters,
    /// What it says to other shards and hears from them.
    pub mesh: Mesh,
    /// Its part of the response cache.
    pub cache: Cache,
    /// What it counts.
    pub counters: RefCell<Counters>,
    /// Its way into the log.
    pub log: RefCell<LogSender>,
    /// How the log is.
    pub health: Arc<LogHealth>,
    /// Limits and budgets, as far as it owns or asks for them.
    pub ledger: Ledger,
    /// Where names are looked up.
    pub resolve: Post<Question>,
    /// Where management requests are answered.
    pub api: Post<Question>,
    /// Certificates that providers must show; offers no protocol, which means HTTP/1.1.
    pub tls: Arc<rustls::ClientConfig>,
    /// The same, offering HTTP/2 before HTTP/1.1.
    pub tls_h2: Arc<rustls::ClientConfig>,
    ids: RefCell<RequestIds>,
    snapshot: RefCell<Rc<Held>>,
    tickets: RefCell<Tickets>,
    /// Gateways whose first use was told to the `api` thread.
    implied: RefCell<Vec<Box<str>>>,
    draining: Cell<bool>,
    connections: Cell<usize>,
}

/// Gateways whose first use is remembered. The next snapshot has them, and makes room.
const IMPLIED_MAX: usize = 64;

/// What a shard is made of.
pub struct Parts {
    /// Its number, from 0.
    pub number: usize,
    /// The configuration to begin with.
    pub snapshot: Arc<Snapshot>,
    /// Where configurations go that nobody uses any more.
    pub worn: Sender<Arc<Snapshot>>,
    /// Random, and different for each shard.
    pub seed: [u8; 6],
    /// Its end of the mesh.
    pub mesh: MeshEnd<Message>,
    /// What its cache is made of.
    pub cache: CacheParts,
    /// Its way into the log.
    pub log: LogSender,
    /// How the log is.
    pub health: Arc<LogHealth>,
    /// What its counters held before.
    pub charges: Vec<Charge>,
    /// Where reservations are written down.
    pub journal: Post<Batch>,
    /// Where names are looked up.
    pub resolve: Post<Question>,
    /// Where management requests are answered.
    pub api: Post<Question>,
    /// Certificates that providers must show; offers no protocol, which means HTTP/1.1.
    pub tls: Arc<rustls::ClientConfig>,
    /// The same, offering HTTP/2 before HTTP/1.1.
    pub tls_h2: Arc<rustls::ClientConfig>,
}

/// A configuration in use. The last exchange to let go of it sends it back: freeing one takes
/// longer than a shard should stand still.
struct Held {
    snapshot: Option<Arc<Snapshot>>,
    worn: Sender<Arc<Snapshot>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            // Nobody there to take it: the server is ending.
            let _ = self.worn.try_send(snapshot);
        }
    }
}

/// The configuration that an exchange began with, to its end.
pub struct SnapshotRef(Rc<Held>);

impl std::ops::Deref for SnapshotRef {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        // Taken in `Held::drop` only.
        self.0.snapshot.as_ref().expect("a held snapshot is there")
    }
}

/// Management requests that wait for their answer.
#[derive(Default)]
struct Tickets {
    next: u64,
    open: HashMap<u64, Ticket>,
}

#[derive(Default)]
struct Ticket {
    answer: Option<ApiAnswer>,
    waker: Option<Waker>,
}

impl Shard {
    /// Makes the shard on its own thread.
    pub fn new(parts: Parts) -> Self {
        let held = Held {
            snapshot: Some(parts.snapshot),
            worn: parts.worn,
        };
        Self {
            number: parts.number,
            clock: Clock::start(),
            deadlines: Rc::default(),
            buffers: Buffers::default(),
            outbox: Rc::default(),
            hosts: Hosts::default(),
            keys: Keys::default(),
            models: Models::default(),
            meters: Meters::default(),
            mesh: Mesh::new(parts.mesh),
            cache: Cache::new(parts.cache),
            counters: RefCell::default(),
            log: RefCell::new(parts.log),
            health: parts.health,
            ledger: Ledger::new(parts.number, parts.charges, parts.journal),
            resolve: parts.resolve,
            api: parts.api,
            tls: parts.tls,
            tls_h2: parts.tls_h2,
            ids: RefCell::new(RequestIds::new(parts.seed)),
            snapshot: RefCell::new(Rc::new(held)),
            tickets: RefCell::default(),
            implied: RefCell::default(),
            draining: Cell::new(false),
            connections: Cell::new(0),
        }
    }

    /// The configuration now.
    pub fn snapshot(&self) -> SnapshotRef {
        SnapshotRef(Rc::clone(&self.snapshot.borrow()))
    }

    /// Takes over a new configuration; exchanges in flight keep theirs.
    pub fn replace_snapshot(&self, snapshot: Arc<Snapshot>) {
        let worn = self.snapshot.borrow().worn.clone();
        let held = Held {
            snapshot: Some(snapshot),
            worn,
        };
        *self.snapshot.borrow_mut() = Rc::new(held);
        self.implied.borrow_mut().clear();
    }

    /// Tells the `api` thread that a gateway which nobody made was used, once a snapshot.
    pub fn note_implied(&self, gateway: &str) {
        let mut implied = self.implied.borrow_mut();
        if implied.len() >= IMPLIED_MAX || implied.iter().any(|known| **known == *gateway) {
            return;
        }
        let question = Question::Implied {
            gateway: gateway.into(),
        };
        if self.api.send(question).is_ok() {
            implied.push(gateway.into());
        }
    }

    /// Makes the id of the exchange that began at `moment`.
    pub fn next_id(&self, moment: Moment) -> RequestId {
        let millis = self.clock.unix_micros(moment) / 1_000;
        self.ids.borrow_mut().next(millis)
    }

    /// Counts one.
    pub fn count(&self, plain: Plain) {
        self.counters.borrow_mut().bump(plain);
    }

    /// Counts a request that was none.
    pub fn count_malformed(&self) {
        self.count(Plain::Malformed);
    }

    /// Notes that an exchange is in flight for as long as the value lives.
    pub fn in_flight(self: &Rc<Self>) -> Gauge {
        Gauge::new(self, Plain::ExchangesInFlight)
    }

    /// Notes that a stream is being relayed for as long as the value lives.
    pub fn stream_open(self: &Rc<Self>) -> Gauge {
        Gauge::new(self, Plain::StreamsOpen)
    }

    /// Notes that a connection to a provider is open for as long as the value lives.
    pub fn upstream_open(self: &Rc<Self>) -> Gauge {
        Gauge::new(self, Plain::UpstreamOpen)
    }

    /// A copy of what it counts, with what is only known when it is asked for.
    pub fn counted(&self) -> Counters {
        let mut counters = self.counters.borrow_mut();
        counters.set(Plain::UpstreamIdle, self.hosts.idle_count() as u64);
        counters.set(Plain::UpstreamBreakers, self.hosts.open_breakers() as u64);
        counters.set(Plain::PermitsOut, self.ledger.outstanding().0 as u64);
        let cache = self.cache.counts();
        for (plain, value) in [
            (Plain::CacheEntries, cache.entries),
            (Plain::CacheBytes, cache.bytes),
            (Plain::CacheHits, cache.hits),
            (Plain::CacheMisses, cache.misses),
            (Plain::CacheInserts, cache.inserts),
            (Plain::CacheRefused, cache.refused),
            (Plain::CacheEvictions, cache.evictions),
            (Plain::CacheExpired, cache.expired),
            (Plain::CachePurged, cache.purged),
        ] {
            counters.set(plain, value);
        }
        counters.clone()
    }

    /// Says whether the shard finishes what runs and takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Begins to drain: idle connections end, others with their exchange.
    pub fn drain(&self) {
        self.draining.set(true);
        self.hosts.close_idle();
        self.deadlines.wake_all();
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Opens a ticket for a management request.
    pub fn open_ticket(&self) -> u64 {
        let mut tickets = self.tickets.borrow_mut();
        tickets.next += 1;
        let ticket = tickets.next;
        tickets.open.insert(ticket, Ticket::default());
        ticket
    }

    /// Takes the answer to a ticket, if it is there; else the task is woken when it comes.
    pub fn take_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Option<ApiAnswer> {
        let mut tickets = self.tickets.borrow_mut();
        let ticket = tickets.open.get_mut(&ticket)?;
        if ticket.answer.is_none() {
            ticket.waker = Some(cx.waker().clone());
        }
        ticket.answer.take()
    }

    /// Forgets a ticket.
    pub fn close_ticket(&self, ticket: u64) {
        self.tickets.borrow_mut().open.remove(&ticket);
    }

    fn answered(&self, ticket: u64, answer: ApiAnswer) {
        let mut tickets = self.tickets.borrow_mut();
        // Its caller may have gone away meanwhile.
        if let Some(ticket) = tickets.open.get_mut(&ticket) {
            ticket.answer = Some(answer);
            if let Some(waker) = ticket.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Raises a gauge for as long as it lives.
pub struct Gauge {
    shard: Rc<Shard>,
    plain: Plain,
}

impl Gauge {
    fn new(shard: &Rc<Shard>, plain: Plain) -> Self {
        shard.count(plain);
        Self {
            shard: Rc::clone(shard),
            plain,
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        // A panic may have left the counters borrowed; a wrong gauge is the lesser harm.
        if let Ok(mut counters) = self.shard.counters.try_borrow_mut() {
            counters.lower(self.plain);
        }
    }
}
