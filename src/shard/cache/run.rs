//! Streams that can be read again for a while: runs.
//!
//! The shard that fetches a stream keeps its track for as long as the gateway says after its end, under a
//! number; the run's id names the shard, the number, and a token that nobody can guess. Another
//! shard reads it as it reads any answer of that shard ([`super::live`]). When tracks hold more than
//! half of what they may, the runs that ended first go before their time.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    flight::FlightId,
    key::CredentialDigest,
    live::{self, LiveHead, OfLeader},
};
use crate::shard::{
    Shard,
    clock::Moment,
    mesh,
    track::{JoinError, Reader, Track},
};

/// Runs have no owner but the shard that fetches them.
const NO_OWNER: usize = usize::MAX;

/// Runs of one shard.
const RUNS_MAX: usize = 4096;

/// Names a run to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunId {
    shard: usize,
    number: u64,
    token: u128,
}

/// Shard and number in hexadecimal digits, then the token's thirty-two, with hyphens between.
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:032x}", self.shard, self.number, self.token)
    }
}

impl RunId {
    /// Reads one; `None`: it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let mut hex = |digits_max: usize| {
            let part = parts.next()?;
            let fits = !part.is_empty() && part.len() <= digits_max;
            (fits && part.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(part)
        };
        let (shard, number, token) = (hex(4)?, hex(16)?, hex(32)?);
        Some(Self {
            shard: usize::from_str_radix(shard, 16).ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
            token: u128::from_str_radix(token, 16).ok()?,
        })
        .filter(|_| parts.next().is_none())
    }

    fn source(self) -> OfLeader {
        (self.shard, NO_OWNER, FlightId::of_run(self.number))
    }
}

/// Whose a run is: who resumes it must be the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Whose {
    /// The gateway.
    pub gateway: Box<str>,
    /// Slug of the provider.
    pub provider: Box<str>,
    /// Name of the caller's key; empty if none was proved.
    pub key: Box<str>,
    /// The credentials as they go to the provider.
    pub credential: CredentialDigest,
}

/// What is known of a run besides its body: immutable.
#[derive(Debug)]
pub struct RunHead {
    /// Whose it is.
    pub whose: Whose,
    /// The answer's head.
    pub live: LiveHead,
}

struct Run {
    head: Arc<RunHead>,
    token: u128,
    track: Track,
}

/// The runs of one shard.
#[derive(Default)]
pub struct Runs {
    known: RefCell<BTreeMap<u64, Run>>,
    /// Those that have ended, and until when they are kept.
    ended: RefCell<VecDeque<(Moment, u64)>>,
    last: Cell<u64>,
}

/// A run that is being fetched. Dropped, its time begins.
pub struct Open {
    shard: Rc<Shard>,
    id: RunId,
    keep: Duration,
}

impl Open {
    /// What its caller is told.
    pub fn id(&self) -> RunId {
        self.id
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let runs = &self.shard.cache.runs;
        if let Ok(mut ended) = runs.ended.try_borrow_mut() {
            let until = self.shard.clock.now().after(self.keep);
            // Gateways keep them for different times; a short one may wait behind a long one.
            ended.push_back((until, self.id.number));
        }
    }
}

/// Opens a run for an answer that is fetched into `track`; it is kept for `keep` after its end. `None`: there
/// are too many.
pub fn open(shard: &Rc<Shard>, head: RunHead, track: &Track, keep: Duration) -> Option<Open> {
    let runs = &shard.cache.runs;
    make_room(shard);
    let mut known = runs.known.borrow_mut();
    if known.len() >= RUNS_MAX {
        return None;
    }
    let number = runs.last.get() + 1;
    runs.last.set(number);
    let token = shard.cache.secret.run_token(shard.number, number);
    let run = Run {
        head: Arc::new(head),
        token,
        track: track.clone(),
    };
    known.insert(number, run);
    drop(known);
    let id = RunId {
        shard: shard.number,
        number,
        token,
    };
    let (_, owner, flight) = id.source();
    shard.cache.lives.begin((owner, flight), track);
    Some(Open {
        shard: Rc::clone(shard),
        id,
        keep,
    })
}

fn make_room(shard: &Shard) {
    let tracks = &shard.cache.lives.tracks;
    while tracks.bytes() > tracks.bytes_max() / 2 {
        let Some((_, number)) = shard.cache.runs.ended.borrow_mut().pop_front() else {
            return;
        };
        forget(shard, number);
    }
}

fn forget(shard: &Shard, number: u64) {
    shard.cache.runs.known.borrow_mut().remove(&number);
    let end = (NO_OWNER, FlightId::of_run(number));
    shard.cache.lives.end(end);
}

/// Forgets runs whose time is over: once a tick.
pub fn tick(shard: &Shard, now: Moment) {
    loop {
        let mut ended = shard.cache.runs.ended.borrow_mut();
        match ended.front() {
            Some((until, _)) if *until <= now => {}
            _ => return,
        }
        let over = ended.pop_front();
        drop(ended);
        if let Some((_, number)) = over {
            forget(shard, number);
        }
    }
}

/// What is known of a run here, where it was fetched.
pub fn answer(shard: &Shard, number: u64, token: u128) -> Option<Arc<RunHead>> {
    let runs = shard.cache.runs.known.borrow();
    let run = runs.get(&number).filter(|run| run.token == token)?;
    // One that lost its beginning cannot be read again.
    let whole = run.track.is_joinable();
    whole.then(|| Arc::clone(&run.head))
}

/// Looks for a run, on whichever shard; `None`: there is none, or no longer.
pub async fn find(shard: &Rc<Shard>, id: RunId) -> Option<Arc<RunHead>> {
    if id.shard >= shard.mesh.shards() {
        return None;
    }
    let question = super::Question::Run {
        number: id.number,
        token: id.token,
    };
    let mut asking = mesh::ask(shard, id.shard, mesh::Question::Cache(question));
    match asking.answer(super::ASK_LIMIT).await? {
        mesh::Answer::Cache(super::Answer::Run(head)) => head,
        mesh::Answer::Cache(_) | mesh::Answer::Failed => None,
    }
}

/// Reads a run from its beginning.
pub fn read(shard: &Rc<Shard>, id: RunId) -> Result<Reader, JoinError> {
    live::join(shard, id.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_nothing_else_is_one() {
        let id = RunId {
            shard: 3,
            number: 255,
            token: 7,
        };
        let text = id.to_string();
        assert_eq!(text, format!("3-ff-{:032x}", 7));
        assert_eq!(RunId::parse(text.as_bytes()), Some(id));
        for wrong in [
            "",
            "3-ff",
            "3--7",
            "+3-ff-7",
            "3-ff-7-1",
            "99999-1-1",
            "3-ff-g",
            "\u{fffd}",
        ] {
            assert_eq!(RunId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
