//! One origin as a shard knows it: its addresses, the idle connections to it, and the HTTP/2
//! connections that exchanges share.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    breaker::Breaker,
    connect::Connection,
    h2::{Lease, Link},
};
use crate::{provider::address::Origin, shard::clock::Moment};

/// Idle connections kept to one origin by one shard; more are closed.
const IDLE_MAX: usize = 256;

/// How long a connection may lie idle. Providers close theirs after some 60 s and more; to be
/// earlier avoids the race.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// How long addresses are used without asking again. The system's resolver does not tell their
/// lifetime; this is the shortest that is usual.
const ADDRESSES_FRESH: Duration = Duration::from_secs(30);

/// How long old addresses are used while new ones cannot be had.
const ADDRESSES_STALE: Duration = Duration::from_hours(1);

/// How long a failed look-up is taken for an answer.
const FAILURE_FRESH: Duration = Duration::from_secs(2);

/// Origins that a shard remembers. Templates make origins from paths, so callers could make up
/// any number.
const HOSTS_MAX: usize = 1024;

/// Every origin that a shard has called, by name.
#[derive(Default)]
pub struct Hosts {
    all: RefCell<HashMap<Origin, Rc<Host>>>,
    /// The one that was asked for last: most shards call few.
    last: RefCell<Option<Rc<Host>>>,
}

impl Hosts {
    /// The host of `origin`, made on first use.
    pub fn find(&self, origin: &Origin, now: Moment) -> Rc<Host> {
        if let Some(last) = &*self.last.borrow()
            && last.origin == *origin
        {
            last.used.set(now);
            return Rc::clone(last);
        }
        let host = self.look_up(origin, now);
        *self.last.borrow_mut() = Some(Rc::clone(&host));
        host
    }

    fn look_up(&self, origin: &Origin, now: Moment) -> Rc<Host> {
        let mut all = self.all.borrow_mut();
        if let Some(host) = all.get(origin) {
            host.used.set(now);
            return Rc::clone(host);
        }
        if all.len() >= HOSTS_MAX {
            let oldest = all.iter().min_by_key(|(_, host)| host.used.get());
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                all.remove(&oldest);
            }
        }
        let host = Rc::new(Host::new(origin.clone(), now));
        all.insert(origin.clone(), Rc::clone(&host));
        host
    }

    /// Gives the answer of a look-up to every origin of that name.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "every host gets the same, in any order"
    )]
    pub fn resolved(&self, name: &str, answer: &Result<Vec<SocketAddr>, Box<str>>, now: Moment) {
        for (origin, host) in self.all.borrow().iter() {
            if &*origin.host == name {
                host.resolved(answer, now);
            }
        }
    }

    /// Closes idle connections that are old or dead. Called about once a second.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "every host gets the same, in any order"
    )]
    pub fn sweep(&self, now: Moment) {
        for host in self.all.borrow().values() {
            host.sweep(now);
        }
    }

    /// Closes all idle connections.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "every host gets the same, in any order"
    )]
    pub fn close_idle(&self) {
        for host in self.all.borrow().values() {
            host.idle.borrow_mut().clear();
            for link in host.links.take() {
                link.retire();
            }
        }
    }

    /// How many origins are not connected to because they could not be reached.
    pub fn open_breakers(&self) -> usize {
        let all = self.all.borrow();
        all.values().filter(|host| host.breaker.is_open()).count()
    }

    /// How many connections wait for an exchange.
    pub fn idle_count(&self) -> usize {
        let all = self.all.borrow();
        let idle = |host: &Rc<Host>| {
            let links = host.links.borrow();
            host.idle.borrow().len() + links.iter().filter(|link| link.is_idle()).count()
        };
        all.values().map(idle).sum()
    }
}

/// One origin.
pub struct Host {
    /// Scheme, name and port.
    pub origin: Origin,
    /// The `Host` field that it gets.
    pub authority: Box<str>,
    used: Cell<Moment>,
    idle: RefCell<Vec<Idle>>,
    /// HTTP/2 connections that take exchanges.
    links: RefCell<Vec<Rc<Link>>>,
    /// What the origin agreed on when it was last offered HTTP/2.
    speaks_h2: Cell<Option<bool>>,
    /// A connection is being opened that others wait to share.
    dialing: Cell<bool>,
    wait_for_dial: RefCell<Vec<Waker>>,
    /// Stops connecting where that is in vain.
    pub breaker: Rc<Breaker>,
    addresses: RefCell<Addresses>,
    /// Where in the list the last good connection was made, so that a dead first address is not
    /// tried by every connection.
    pub(super) good: Cell<Option<SocketAddr>>,
}

struct Idle {
    connection: Box<Connection>,
    since: Moment,
}

#[derive(Default)]
struct Addresses {
    known: Vec<SocketAddr>,
    failure: Option<Box<str>>,
    /// When the answer came; `None` before the first.
    at: Option<Moment>,
    asked: bool,
    waiting: Vec<Waker>,
}

/// What a host knows of its addresses.
pub enum Lookup {
    /// These, to be tried in order. `ask`: they are getting old, so ask again meanwhile.
    Known {
        /// The addresses.
        addresses: Vec<SocketAddr>,
        /// Ask again.
        ask: bool,
    },
    /// None yet: ask, and wait with [`Host::poll_addresses`].
    Ask,
    /// None yet, and asked for already.
    Wait,
    /// The name cannot be resolved.
    Failed(Box<str>),
}

impl Host {
    fn new(origin: Origin, now: Moment) -> Self {
        let mut addresses = Addresses::default();
        let literal = origin.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            addresses.known = vec![SocketAddr::new(ip, origin.port)];
            addresses.at = Some(now);
        }
        Self {
            authority: origin.authority().into(),
            origin,
            used: Cell::new(now),
            idle: RefCell::default(),
            links: RefCell::default(),
            speaks_h2: Cell::new(None),
            dialing: Cell::new(false),
            wait_for_dial: RefCell::default(),
            breaker: Rc::default(),
            addresses: RefCell::new(addresses),
            good: Cell::new(None),
        }
    }

    /// Takes an idle connection that is still usable, and says how many were not.
    pub fn take_idle(&self) -> (Option<Box<Connection>>, u64) {
        let mut stale = 0;
        let mut idle = self.idle.borrow_mut();
        while let Some(mut candidate) = idle.pop() {
            if candidate.connection.stream.reader.is_quiet() {
                return (Some(candidate.connection), stale);
            }
            stale += 1;
        }
        (None, stale)
    }

    /// Keeps a connection for the next attempt. The last one kept is the first one taken, so
    /// that those beyond what is needed grow old and go.
    ///
    /// The read of the next answer, into `space`, is in flight from here on: it tells when the
    /// provider closes, and nobody has to look at the socket before the connection is used again.
    pub fn keep(&self, mut connection: Box<Connection>, space: Vec<u8>, now: Moment) {
        let mut idle = self.idle.borrow_mut();
        let may_be_used = connection.stream.writer.is_clear() && idle.len() < IDLE_MAX;
        let reader = &mut connection.stream.reader;
        if may_be_used && reader.arm(space).is_none() && reader.is_quiet() {
            idle.push(Idle {
                connection,
                since: now,
            });
        }
    }

    /// Takes a place on a shared connection that has room. The first one that has is taken, so
    /// that those beyond what is needed grow idle and go.
    pub fn lease(&self) -> Option<Lease> {
        let links = self.links.borrow();
        links.iter().find(|link| link.has_room()).map(Link::lease)
    }

    /// Lets others share a connection.
    pub fn share(&self, link: Rc<Link>) {
        self.links.borrow_mut().push(link);
    }

    /// Says what the origin agreed on when it was last offered HTTP/2; `None`: it never was.
    pub fn speaks_h2(&self) -> Option<bool> {
        self.speaks_h2.get()
    }

    /// Notes what the origin agreed on.
    pub fn note_h2(&self, agreed: bool) {
        self.speaks_h2.set(Some(agreed));
    }

    /// Claims the opening of a connection to share; `None` if it is being opened already.
    pub fn claim_dial(self: &Rc<Self>) -> Option<Dialing> {
        (!self.dialing.replace(true)).then(|| Dialing(Rc::clone(self)))
    }

    /// Ready when no connection to share is being opened.
    pub fn poll_dialed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.dialing.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.wait_for_dial.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn sweep(&self, now: Moment) {
        self.links.borrow_mut().retain(|link| {
            let worn = link.is_worn(now, IDLE_TIME);
            if worn {
                link.retire();
            }
            !worn
        });
        let limit = u64::try_from(IDLE_TIME.as_micros()).unwrap_or(u64::MAX);
        self.idle.borrow_mut().retain_mut(|idle| {
            now.micros_since(idle.since) < limit && idle.connection.stream.reader.is_quiet()
        });
    }

    /// What is known of the addresses. Notes that they are being asked for where it says so.
    pub fn look_up(&self, now: Moment) -> Lookup {
        let mut addresses = self.addresses.borrow_mut();
        if self.origin_is_literal(&addresses) {
            return Lookup::Known {
                addresses: addresses.known.clone(),
                ask: false,
            };
        }
        let age = addresses
            .at
            .map(|at| Duration::from_micros(now.micros_since(at)));
        let fresh = match &addresses.failure {
            Some(_) => FAILURE_FRESH,
            None => ADDRESSES_FRESH,
        };
        let ask = age.is_none_or(|age| age >= fresh) && !addresses.asked;
        addresses.asked |= ask;
        let usable = !addresses.known.is_empty() && age.is_some_and(|age| age < ADDRESSES_STALE);
        if usable {
            return Lookup::Known {
                addresses: addresses.known.clone(),
                ask,
            };
        }
        match (&addresses.failure, age) {
            (Some(failure), Some(age)) if age < FAILURE_FRESH => Lookup::Failed(failure.clone()),
            _ if ask => Lookup::Ask,
            _ => Lookup::Wait,
        }
    }

    fn origin_is_literal(&self, addresses: &Addresses) -> bool {
        let name = self
            .origin
            .host
            .trim_start_matches('[')
            .trim_end_matches(']');
        addresses.known.len() == 1 && name.parse::<IpAddr>().is_ok()
    }

    /// Ready when a look-up was answered.
    pub fn poll_addresses(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut addresses = self.addresses.borrow_mut();
        if !addresses.asked {
            return Poll::Ready(());
        }
        if !addresses
            .waiting
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            addresses.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Says that the question could not even be asked.
    pub fn look_up_failed(&self, why: &str, now: Moment) {
        self.resolved(&Err(why.into()), now);
    }

    fn resolved(&self, answer: &Result<Vec<SocketAddr>, Box<str>>, now: Moment) {
        let mut addresses = self.addresses.borrow_mut();
        addresses.asked = false;
        match answer {
            Ok(found) => {
                addresses.known.clone_from(found);
                for address in &mut addresses.known {
                    address.set_port(self.origin.port);
                }
                addresses.failure = None;
            }
            // Old addresses stay in use: a name server that is down for a while harms nobody.
            Err(why) => addresses.failure = Some(why.clone()),
        }
        addresses.at = Some(now);
        for waker in addresses.waiting.drain(..) {
            waker.wake();
        }
    }
}

/// The opening of a connection that others wait to share, until it is dropped.
pub struct Dialing(Rc<Host>);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        for waker in self.0.wait_for_dial.take() {
            waker.wake();
        }
    }
}
