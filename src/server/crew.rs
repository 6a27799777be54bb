//! The shards' threads: each builds a runtime and reports, all agree on a driver, then each gets its
//! listeners.

use std::{io, rc::Rc, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustls::ServerConfig;

use super::{StartError, bound::Bound, random, system};
use crate::{
    config::{self, Config},
    control::{ledger::Recovered, tls::ClientConfigs},
    handoff::{
        ledger::Batch,
        log_health::LogHealth,
        log_queue::LogSender,
        mailbox::{Letterbox, Order, Post, Question, letterbox},
        mesh::mesh,
    },
    shard::{
        Parts, Shard,
        accept::{self, Listener},
        cache::CacheParts,
        connection::Door,
        runtime::{self, Choice, Driver},
    },
    snapshot::Snapshot,
    sys::affinity,
};

/// What all shards are given alike.
pub(super) struct Common<'a> {
    pub(super) config: &'a Config,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) worn: Sender<Arc<Snapshot>>,
    pub(super) health: Arc<LogHealth>,
    pub(super) resolve: Post<Question>,
    pub(super) api: Post<Question>,
    pub(super) clients: ClientConfigs,
    pub(super) journal: Post<Batch>,
    pub(super) recovered: &'a Recovered,
    pub(super) shards: usize,
    pub(super) cache: CacheParts,
}

/// The shards' threads, which report and wait for their listeners.
pub(super) struct Crew {
    pub(super) threads: Vec<JoinHandle<Result<(), String>>>,
    pub(super) orders: Vec<Post<Order>>,
    pub(super) reports: Receiver<(usize, Built)>,
    pub(super) go: Vec<Sender<Go>>,
}

pub(super) fn start_shards(common: &Common<'_>, logs: Vec<LogSender>) -> Result<Crew, StartError> {
    let cores = affinity::cores().map_err(system("read the cores of this process"))?;
    let (report, reports) = bounded(logs.len() * 2);
    let mut crew = Crew {
        threads: Vec::new(),
        orders: Vec::new(),
        reports,
        go: Vec::new(),
    };
    let letterboxes: io::Result<Vec<_>> = logs.iter().map(|_| letterbox()).collect();
    let letterboxes = letterboxes.map_err(system("make an eventfd"))?;
    let bells = letterboxes
        .iter()
        .map(|(_, letters)| Arc::clone(&letters.bell));
    let ends = mesh(&bells.collect::<Vec<_>>());
    let parts = logs.into_iter().zip(letterboxes).zip(ends);
    for (number, ((log, (post, letters)), mesh)) in parts.enumerate() {
        let (go, wait) = bounded(1);
        crew.orders.push(post);
        crew.go.push(go);
        let start = ShardStart {
            core: cores.get(number % cores.len().max(1)).copied(),
            choice: choice(common.config.driver),
            parts: Parts {
                number,
                snapshot: Arc::clone(&common.snapshot),
                worn: common.worn.clone(),
                seed: random()?,
                mesh,
                cache: common.cache.clone(),
                charges: common.recovered.of_shard(number, common.shards).collect(),
                journal: common.journal.clone(),
                log,
                health: Arc::clone(&common.health),
                resolve: common.resolve.clone(),
                api: common.api.clone(),
                tls: Arc::clone(&common.clients.http1),
                tls_h2: Arc::clone(&common.clients.http2),
            },
            letters,
            report: report.clone(),
            go: wait,
        };
        let builder = std::thread::Builder::new().name(format!("shard-{number}"));
        let thread = builder.spawn(move || start.run());
        crew.threads.push(thread.map_err(system("start a thread"))?);
    }
    Ok(crew)
}

/// Gives each shard its listeners: from now on it serves.
pub(super) fn hand_out(
    go: &[Sender<Go>],
    bound: Bound,
    certificate: Option<&Arc<ServerConfig>>,
    loopback: bool,
) {
    let Bound {
        mut main,
        mut admin,
    } = bound;
    for go in go {
        let door = |admin| Door { loopback, admin };
        let mut mine: Vec<_> = main
            .iter_mut()
            .filter_map(Vec::pop)
            .map(|socket| Listener {
                socket,
                door: door(false),
                tls: certificate.map(Arc::clone),
            })
            .collect();
        mine.extend(admin.pop().map(|socket| Listener {
            socket,
            door: door(true),
            tls: None,
        }));
        // A shard that has gone says so by its thread's end.
        let _ = go.send(Go::Serve(mine));
    }
}

/// What a shard's thread starts with.
struct ShardStart {
    core: Option<usize>,
    choice: Choice,
    parts: Parts,
    letters: Letterbox<Order>,
    report: Sender<(usize, Built)>,
    go: Receiver<Go>,
}

/// What came of building a runtime.
pub(super) type Built = Result<(Driver, Option<String>), io::Error>;

/// What a shard does once all have reported.
pub(super) enum Go {
    /// Build again, on epoll: another shard needs it.
    Epoll,
    /// Serve these listeners.
    Serve(Vec<Listener>),
}

impl ShardStart {
    fn run(self) -> Result<(), String> {
        if let Some(core) = self.core {
            // Not pinned is slower, not wrong.
            let _ = affinity::pin(core);
        }
        let number = self.parts.number;
        let mut choice = self.choice;
        loop {
            let mut runtime = match runtime::build(choice) {
                Ok((runtime, driver, refused)) => {
                    let note = refused.map(|error| error.to_string());
                    let _ = self.report.send((number, Ok((driver, note))));
                    runtime
                }
                Err(error) => {
                    let why = error.to_string();
                    let _ = self.report.send((number, Err(error)));
                    return Err(why);
                }
            };
            match self.go.recv() {
                Ok(Go::Epoll) => choice = Choice::Epoll,
                Ok(Go::Serve(listeners)) => {
                    let shard = Rc::new(Shard::new(self.parts));
                    let served = runtime.block_on(accept::run(shard, listeners, self.letters));
                    // Operations may still be in flight, and the kernel would write into buffers
                    // that are gone: the runtime ends with the process.
                    std::mem::forget(runtime);
                    return served.map_err(|error| error.to_string());
                }
                Err(_) => return Ok(()),
            }
        }
    }
}

/// All shards run on the same driver: if one needs epoll, so do all.
pub(super) fn agree(
    shards: usize,
    reports: &Receiver<(usize, Built)>,
    go: &[Sender<Go>],
) -> Result<(Driver, Option<String>), StartError> {
    let first = collect(shards, reports)?;
    if !first.iter().any(|(driver, _)| *driver == Driver::Epoll)
        || first.iter().all(|(driver, _)| *driver == Driver::Epoll)
    {
        let slowest = first.into_iter().max_by_key(|(driver, _)| *driver as u8);
        return Ok(slowest.unwrap_or((Driver::Epoll, None)));
    }
    let note = first
        .into_iter()
        .find_map(|(driver, note)| note.filter(|_| driver == Driver::Epoll));
    for go in go {
        let _ = go.send(Go::Epoll);
    }
    collect(shards, reports)?;
    Ok((Driver::Epoll, note))
}

fn collect(
    shards: usize,
    reports: &Receiver<(usize, Built)>,
) -> Result<Vec<(Driver, Option<String>)>, StartError> {
    (0..shards)
        .map(|_| match reports.recv() {
            Ok((_, Ok(built))) => Ok(built),
            Ok((shard, Err(source))) => Err(StartError::Driver { shard, source }),
            Err(_) => Err(StartError::Shard {
                shard: 0,
                why: "it ended before it reported".to_owned(),
            }),
        })
        .collect()
}

fn choice(driver: config::Driver) -> Choice {
    match driver {
        config::Driver::Auto => Choice::Auto,
        config::Driver::Uring => Choice::Uring,
        config::Driver::Epoll => Choice::Epoll,
    }
}

pub(super) fn shard_count(config: &Config) -> Result<usize, StartError> {
    if let Some(shards) = config.shards {
        return Ok(usize::from(shards).max(1));
    }
    let cores = affinity::cores().map_err(system("read the cores of this process"))?;
    Ok(cores.len().max(1))
}
