//! Where the process runs: its core, its descriptors, its driver, and which addresses it may use.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What a verb ends with: its report as one line of JSON, or why it could not do its work.
pub(crate) type Report = Result<String, LoadError>;

/// Why a verb could not do its work. Faults of single exchanges are counted instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error("{0} is not a loopback address: load tests stay on this machine")]
    NotLoopback(SocketAddr),
    #[error("`{0}` is not http://ADDRESS:PORT/path")]
    Target(String),
    #[error("`{0}` is not `name:value`")]
    Header(String),
    #[error("--core {core} is out of range")]
    Core { core: usize },
    #[error("give {0}")]
    Missing(&'static str),
    #[error("the peer failed: {0}")]
    Peer(#[from] super::wire::Fault),
}

impl LoadError {
    /// Names the step at which the system refused.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Pins the process and raises its descriptor limit as far as it may.
pub(crate) fn prepare(core: Option<usize>) -> Result<(), LoadError> {
    if let Some(core) = core {
        if core >= CpuSet::MAX_CPU {
            return Err(LoadError::Core { core });
        }
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores)
            .map_err(io::Error::from)
            .map_err(LoadError::system("pin to the core"))?;
    }
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(io::Error::from)
        .map_err(LoadError::system("raise the descriptor limit"))
}

/// Runs `work` on this thread: `io_uring` where the kernel gives it, epoll otherwise or when
/// `LOAD_DRIVER=epoll` asks for it.
pub(crate) fn on_runtime(work: impl Future<Output = Report>) -> Report {
    let epoll_wanted = env::var("LOAD_DRIVER").is_ok_and(|driver| driver == "epoll");
    let mut runtime: Runtime = match uring().filter(|_| !epoll_wanted) {
        Some(runtime) => runtime,
        None => RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()
            .map_err(LoadError::system("start the epoll driver"))?
            .into(),
    };
    runtime.block_on(work)
}

type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// A ring with the cheapest flags that this kernel takes.
fn uring() -> Option<Runtime> {
    let mut deferred = io_uring::IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun();
    [deferred, io_uring::IoUring::builder()]
        .into_iter()
        .find_map(|flags| {
            RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .uring_builder(flags)
                .enable_timer()
                .build()
                .ok()
        })
        .map(Into::into)
}

/// Refuses addresses that leave the machine.
pub(crate) fn loopback_only(address: SocketAddr) -> Result<SocketAddr, LoadError> {
    if !address.ip().is_loopback() {
        return Err(LoadError::NotLoopback(address));
    }
    Ok(address)
}

/// The source address of the `n`th of many connections to a port: a new one of 127/8 before the
/// ephemeral ports of the last run out. Each target has addresses of its own, for the ports of
/// connections to the last one stay taken for a minute after their end.
pub(crate) fn source_of(n: usize, port: u16) -> SocketAddr {
    let block = u8::try_from(n / CONNECTIONS_PER_SOURCE + 2).unwrap_or(u8::MAX);
    let [high, low] = port.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, high, low, block), 0))
}

/// Reads `500ms`, `3s` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or("a duration needs a unit: ms, s or m")?;
    let (digits, unit) = text.split_at(unit_at);
    let count: u64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    let millis = match unit {
        "ms" => count,
        "s" => count.saturating_mul(1_000),
        "m" => count.saturating_mul(60_000),
        _ => return Err("the unit is ms, s or m".to_owned()),
    };
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX {
        return Err("more than six hours".to_owned());
    }
    Ok(duration)
}

/// Room for all completions of some thousand connections that answer at once.
const RING_ENTRIES: u32 = 4096;

/// Linux hands out about 28,000 ephemeral ports for each source address; a third leaves room for
/// ports of connections that were just closed.
const CONNECTIONS_PER_SOURCE: usize = 8_000;

/// Longest run of any verb: a forgotten one must end.
const DURATION_MAX: Duration = Duration::from_hours(6);
