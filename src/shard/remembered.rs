//! What a connection remembers of its last request, for one that repeats its head.
//!
//! All but the proof, which is compared anew, follows from the head, the snapshot and the connection
//! alone, and is good for the next request only if its head is the same, but for the length of its
//! body, and the snapshot too.

use std::{cell::OnceCell, rc::Rc};

use zeroize::Zeroize as _;

use super::{authenticate::Caller, cache::key::HashedRow, route::Route};
use crate::snapshot::{Proof, Snapshot, limits::Claim};

/// What a connection's last request came to.
#[derive(Default)]
pub struct Remembered {
    /// What it proved.
    pub(super) proof: Proof,
    same_head: bool,
    caller: Option<Of<KnownCaller>>,
    /// What stands in the key of its cache entry besides the body.
    key_row: Option<Box<Of<HashedRow>>>,
    route: Option<Of<Rc<KnownRoute>>>,
}

/// Something that is good for one snapshot.
struct Of<T> {
    generation: u64,
    what: T,
}

impl<T> Of<T> {
    fn new(snapshot: &Snapshot, what: T) -> Self {
        Self {
            generation: snapshot.generation,
            what,
        }
    }

    fn get(&self, snapshot: &Snapshot) -> Option<&T> {
        (self.generation == snapshot.generation).then_some(&self.what)
    }
}

struct KnownCaller {
    /// The key is that of the proof; else there is none.
    has_key: bool,
    tokens: u128,
    has_credential: bool,
}

/// Where the requests with one head go.
pub struct KnownRoute {
    /// The route.
    pub route: Route<'static>,
    /// The head as it goes there, as far as the framing.
    pub front: OnceCell<Box<[u8]>>,
    /// What they claim of the gateway's limits, and of the key's budget, where that follows from
    /// their head.
    pub claims: [OnceCell<Box<[Claim]>>; 2],
}

impl Drop for KnownRoute {
    fn drop(&mut self) {
        // All of these may hold a credential (a path in its query), and stay as long as the
        // connection.
        self.route.path.zeroize();
        if let Some(mut front) = self.front.take() {
            front.zeroize();
        }
        for (_, value) in &mut self.route.added {
            value.zeroize();
        }
    }
}

/// A route, and whether others use it as well.
pub enum Planned<'a> {
    /// It is kept for all requests with this head.
    Known(Rc<KnownRoute>),
    /// It is this request's own.
    New(Box<Route<'a>>),
}

impl Planned<'_> {
    /// The route.
    pub fn route(&self) -> &Route<'_> {
        match self {
            Self::Known(known) => &known.route,
            Self::New(route) => route,
        }
    }

    /// What is kept beside the route.
    pub fn known(&self) -> Option<&KnownRoute> {
        match self {
            Self::Known(known) => Some(known),
            Self::New(_) => None,
        }
    }
}

impl Remembered {
    /// Begins a request. `same_head`: its head is the one before's, but for the length of its body.
    pub fn begin(&mut self, same_head: bool) {
        self.same_head = same_head;
        if !same_head {
            self.caller = None;
            self.key_row = None;
            self.route = None;
        }
    }

    /// Who asks, if that was kept.
    pub fn caller<'s>(&self, snapshot: &'s Snapshot) -> Option<Caller<'s>> {
        let caller = self.caller.as_ref().filter(|_| self.same_head)?;
        let caller = caller.get(snapshot)?;
        let key = if caller.has_key {
            Some(snapshot.keys.proved(&self.proof)?)
        } else {
            None
        };
        Some(Caller {
            key,
            tokens: caller.tokens,
            has_credential: caller.has_credential,
        })
    }

    /// Keeps who asks.
    pub fn keep_caller(&mut self, snapshot: &Snapshot, caller: &Caller<'_>) {
        let proved = snapshot.keys.proved(&self.proof);
        let by_proof = match (caller.key, proved) {
            (Some(key), Some(proved)) => std::ptr::eq(key, proved),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let known = KnownCaller {
            has_key: caller.key.is_some(),
            tokens: caller.tokens,
            has_credential: caller.has_credential,
        };
        self.caller = by_proof.then(|| Of::new(snapshot, known));
    }

    /// What stands in the key of the request's cache entry besides the body, if it was kept.
    pub fn key_row(&self, snapshot: &Snapshot) -> Option<&HashedRow> {
        let row = self.key_row.as_ref().filter(|_| self.same_head)?;
        row.get(snapshot)
    }

    /// Keeps that, where nothing but the head, the snapshot and the connection decides it.
    pub fn keep_key_row(&mut self, snapshot: &Snapshot, row: HashedRow) {
        self.key_row = Some(Box::new(Of::new(snapshot, row)));
    }

    /// Where the request goes, if that was kept.
    pub fn route(&self, snapshot: &Snapshot) -> Option<Rc<KnownRoute>> {
        let route = self.route.as_ref().filter(|_| self.same_head)?;
        route.get(snapshot).map(Rc::clone)
    }

    /// Keeps where the request goes, if its head is one that comes again and each such request goes
    /// there the same way.
    pub fn keep_route<'a>(&mut self, snapshot: &Snapshot, route: Route<'a>) -> Planned<'a> {
        if !self.same_head {
            return Planned::New(Box::new(route));
        }
        match route.into_known() {
            Ok(route) => {
                let known = Rc::new(KnownRoute {
                    route,
                    front: OnceCell::new(),
                    claims: Default::default(),
                });
                self.route = Some(Of::new(snapshot, Rc::clone(&known)));
                Planned::Known(known)
            }
            Err(route) => Planned::New(route),
        }
    }
}
