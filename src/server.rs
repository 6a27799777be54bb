//! Builds every part, starts the threads, orders the shutdown.
//!
//! Order of the end: stop accepting → drain shards → flush logs → exit. A thread has a name and
//! an owner here. The shards' threads are in `crew`, their sockets in `bound`.

mod bound;
mod crew;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::ServerConfig;

use self::{
    bound::{addresses, addresses_of, bind},
    crew::{Common, agree, hand_out, shard_count, start_shards},
};
use crate::{
    config::{Config, secret::Secret},
    control::{
        api::{self, Api, ApiParts, ApiState, office::Records},
        data_dir::{DataDir, DataDirError},
        keys::{
            self, KeyError, KeyStore,
            api_token::{self, ApiTokenError, Source},
        },
        ledger::{Journal, LedgerThread, Recovered},
        logs::{self, LogOptions, LogStartError, Logs, folder::LogDir, segment::write_at},
        reload::{
            self, Compiled, ReloadCommand, ReloadError, ReloadParts, standing::Standing,
            stored::Memory,
        },
        resolve::Resolvers,
        rollup::RollupThread,
        store::{
            Store, StoreError,
            master_key::{self, MasterKeyError},
            vault::{Vault, VaultError},
        },
        tls::{self, TlsError},
    },
    domain::cache,
    handoff::{
        ledger::LedgerHealth,
        log_queue::{LogCounters, LogSender},
        mailbox::{Order, Post, letterbox},
    },
    shard::{
        cache::{CacheParts, key::KeySecret},
        runtime::Driver,
    },
};
use crossbeam_channel::{Receiver, bounded, unbounded};

/// What a server is started with.
pub struct Options {
    /// The checked configuration.
    pub config: Config,
    /// Reads the configuration anew for SIGHUP; `None`: there is no file.
    pub reload: Option<Reload>,
}

pub use crate::control::reload::ReadConfig as Reload;

/// Why a server did not start, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log store cannot be used.
    #[error(transparent)]
    Logs(#[from] LogStartError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_reason(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The configuration is good by itself but cannot be carried out.
    #[error(transparent)]
    Compile(#[from] ReloadError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// What the management API made cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The master key is not the one that sealed the stored credentials.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no management token.
    #[error(transparent)]
    ApiToken(#[from] ApiTokenError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No driver runs, or not the one that was asked for.
    #[error("shard {shard} cannot start: {source}; `tidegate doctor` says more")]
    Driver {
        /// Which shard.
        shard: usize,
        /// Why.
        source: io::Error,
    },
    /// The system refused something that every process needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A shard ended by itself.
    #[error("shard {shard} ended: {why}")]
    Shard {
        /// Which shard.
        shard: usize,
        /// Why.
        why: String,
    },
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken by another process".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        io::ErrorKind::AddrNotAvailable => "no network interface has this address".to_owned(),
        _ => error.to_string(),
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    driver: Driver,
    driver_note: Option<String>,
    shards: Vec<JoinHandle<Result<(), String>>>,
    orders: Vec<Post<Order>>,
    draining: Arc<AtomicBool>,
    api_token: ApiToken,
    master_key_made: Option<PathBuf>,
    logs: Logs,
    ledger: LedgerThread,
    /// What the start found in the ledger's journal that needs a word.
    ledger_notes: Vec<String>,
    rollup: RollupThread,
    resolvers: Resolvers,
    api: Api,
    reload: reload::Reload,
    /// Held until the last thread has ended.
    data_dir: DataDir,
}

/// Tells a server what to do, from any thread.
#[derive(Clone)]
pub struct Control {
    orders: Vec<Post<Order>>,
    draining: Arc<AtomicBool>,
    reload: Post<ReloadCommand>,
}

/// What the shards answer to [`Control::call_shards`].
pub struct Echoes(Vec<Receiver<()>>);

impl Echoes {
    /// Says whether every shard has answered. Waits for none: who waits in a channel makes its
    /// sender take a lock.
    pub fn are_all_here(&self) -> bool {
        self.0.iter().all(|echo| echo.try_recv().is_ok())
    }
}

/// The token that may do everything.
#[derive(Debug, Clone)]
pub struct ApiToken {
    /// The token.
    pub secret: Secret,
    /// This start made it.
    pub made_now: bool,
    /// Where it is kept; `None`: it was given.
    pub path: Option<PathBuf>,
}

impl Control {
    /// Says in health checks that no new request should come, and goes on serving.
    pub fn unready(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Accepts nothing further and ends when nothing is in flight.
    pub fn drain(&self) {
        self.unready();
        for post in &self.orders {
            // A full mailbox belongs to a shard that is stuck; `stop` follows.
            let _ = post.send(Order::Drain);
        }
    }

    /// Reads the configuration, the tokens and the certificates anew.
    pub fn reload(&self) {
        // A full queue holds the same command already.
        let _ = self.reload.send(ReloadCommand::Reload);
    }

    /// Asks every shard to say that it turns.
    pub fn call_shards(&self) -> Echoes {
        let call = |post: &Post<Order>| {
            let (sender, echo) = bounded(1);
            // Where the mailbox is full or gone, nobody answers.
            let _ = post.send(Order::Echo(sender));
            echo
        };
        Echoes(self.orders.iter().map(call).collect())
    }

    /// Says whether the server ends, so that shards end too.
    pub fn is_ending(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends now.
    pub fn stop(&self) {
        self.unready();
        for post in &self.orders {
            let _ = post.send(Order::Stop);
        }
    }
}

/// Starts a server; it serves when this returns.
#[expect(
    clippy::too_many_lines,
    reason = "every part is built here once, in the order in which they need each other"
)]
pub fn start(options: Options) -> Result<Server, StartError> {
    let Options {
        config,
        reload: read,
    } = options;
    tls::install_provider();
    let shards = shard_count(&config)?;
    let certificate = certificate(&config)?;
    let clients = tls::client_config()?;
    let listeners = bind(&config, shards)?;
    let data_dir = DataDir::lock(&config.data_dir)?;
    let State {
        api_token,
        keys,
        stores,
        vault,
        master_key_made,
        table_secret,
        cache_secret,
        memory,
        compiled,
    } = State::open(&config, &data_dir)?;
    let (senders, logs) = logs::start(&data_dir, &log_options(&config, shards, &compiled))?;
    let snapshot = Arc::new(compiled.snapshot);
    let log_counters = counters_of(&senders);
    let (worn, worn_out) = unbounded();
    let (resolve, names) = letterbox().map_err(system("make an eventfd"))?;
    let (journal, batches) = letterbox().map_err(system("make an eventfd"))?;
    let ledger_health: Arc<LedgerHealth> = Arc::default();
    let (ledger, recovered) = open_ledger(&data_dir, &ledger_health)?;
    let (api, calls) = letterbox().map_err(system("make an eventfd"))?;

    let common = Common {
        config: &config,
        snapshot,
        worn,
        health: Arc::clone(logs.health()),
        resolve,
        api,
        journal,
        recovered: &recovered,
        shards,
        clients,
        cache: CacheParts {
            share: cache::share(config.cache_memory, shards),
            secret: cache_secret,
        },
    };
    let crew = start_shards(&common, senders)?;
    let thread = || system("start a thread");
    let ledger = LedgerThread::start(ledger, batches, crew.orders.clone()).map_err(thread())?;
    let resolvers = Resolvers::start(names, crew.orders.clone()).map_err(thread())?;
    let (driver, driver_note) = agree(shards, &crew.reports, &crew.go)?;
    let addresses = addresses(&listeners.main);
    let admin = addresses_of(&listeners.admin).into_iter().next();
    hand_out(
        &crew.go,
        listeners,
        certificate.as_ref(),
        config.is_loopback(),
    );
    let draining: Arc<AtomicBool> = Arc::default();
    let standing = Arc::new(Standing::new(&config));
    let parts = ReloadParts {
        read,
        config,
        api_token: api_token.secret.clone(),
        keys,
        seen: compiled.seen,
        memory,
        vault: vault.clone(),
        table_secret,
        shards: crew.orders.clone(),
        worn: worn_out,
        standing: Arc::clone(&standing),
        row_limits: Arc::clone(logs.row_limits()),
        retained: Arc::clone(logs.retained()),
    };
    let reload = reload::start(parts).map_err(thread())?;
    let parts = ApiParts {
        shards: crew.orders.clone(),
        log_health: Arc::clone(logs.health()),
        log_counters,
        driver: driver.word().to_owned(),
        driver_reason: driver_note.clone(),
        draining: Arc::clone(&draining),
        standing,
    };
    let state = ApiState {
        stores,
        records: Records {
            log: LogDir::of(data_dir.path()),
            deleter: Arc::clone(logs.deleter()),
        },
        vault,
        reload: reload.commands(),
    };
    let api = api::start(calls, parts, state).map_err(thread())?;
    let rollup = RollupThread::start(LogDir::of(data_dir.path())).map_err(thread())?;
    Ok(Server {
        addresses,
        admin,
        driver,
        driver_note,
        shards: crew.threads,
        orders: crew.orders,
        draining,
        api_token,
        master_key_made,
        logs,
        ledger,
        ledger_notes: recovered.notes,
        rollup,
        resolvers,
        api,
        reload,
        data_dir,
    })
}

/// Reads what limits on cost have counted so far.
fn open_ledger(
    data_dir: &DataDir,
    health: &Arc<LedgerHealth>,
) -> Result<(Journal, Recovered), StartError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    let opened = Journal::open(data_dir.path(), micros, write_at(), Arc::clone(health));
    opened.map_err(|source| StartError::System {
        what: "read the ledger's journal",
        source,
    })
}

fn counters_of(senders: &[LogSender]) -> Vec<Arc<LogCounters>> {
    let counters = |log: &LogSender| Arc::clone(log.counters());
    senders.iter().map(counters).collect()
}

fn certificate(config: &Config) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let Some(files) = &config.tls else {
        return Ok(None);
    };
    let config = tls::server_config(&files.cert, &files.key)?;
    Ok(Some(Arc::new(config)))
}

/// How the configuration wants the log.
fn log_options(config: &Config, shards: usize, compiled: &Compiled) -> LogOptions {
    LogOptions {
        row_limits: compiled.row_limits.clone(),
        sync: config.log_sync,
        compress_after: Some(config.log_compress_after),
        retention: compiled.retention,
        ..LogOptions::new(shards)
    }
}

/// What a server keeps besides its records, and the first snapshot made of it.
struct State {
    api_token: ApiToken,
    keys: KeyStore,
    /// For each of the API's threads one.
    stores: [Store; 2],
    vault: Vault,
    master_key_made: Option<PathBuf>,
    table_secret: [u8; 32],
    cache_secret: KeySecret,
    /// What was read of the store for what is compiled.
    memory: Memory,
    compiled: Compiled,
}

impl State {
    fn open(config: &Config, data_dir: &DataDir) -> Result<Self, StartError> {
        let api_token = management_token(config, data_dir)?;
        let keys = KeyStore::open(data_dir.path())?;
        let mut store = Store::open(data_dir.path())?;
        let (master, master_key_made) = master_key::master_key(config, data_dir.path())?;
        let vault = Vault::new(&master);
        let cache_secret = KeySecret::derive(master.expose().as_bytes());
        store.change(|connection| vault.check(connection))?;
        let table_secret = random()?;
        let secret = &api_token.secret;
        let mut memory = Memory::default();
        let now = keys::now();
        let compiled = reload::compile(
            config,
            secret,
            &keys,
            &vault,
            table_secret,
            now,
            &mut memory,
        )?;
        Ok(Self {
            api_token,
            keys,
            stores: [store, Store::open(data_dir.path())?],
            vault,
            master_key_made,
            table_secret,
            cache_secret,
            memory,
            compiled,
        })
    }
}

fn management_token(config: &Config, data_dir: &DataDir) -> Result<ApiToken, StartError> {
    let (secret, source) = api_token::api_token(config, data_dir.path())?;
    Ok(ApiToken {
        secret,
        made_now: source == Source::MadeNow,
        path: (source != Source::Given).then(|| data_dir.path().join(api_token::FILE)),
    })
}

impl Server {
    /// The addresses of the main listener, as bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the management listener, if there is one apart.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The driver that all shards run on.
    pub fn driver(&self) -> &str {
        self.driver.word()
    }

    /// Why a better driver was refused.
    pub fn driver_note(&self) -> Option<&str> {
        self.driver_note.as_deref()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells it what to do, from any thread.
    pub fn control(&self) -> Control {
        Control {
            orders: self.orders.clone(),
            draining: Arc::clone(&self.draining),
            reload: self.reload.commands(),
        }
    }

    /// The token that may do everything.
    pub fn api_token(&self) -> ApiToken {
        self.api_token.clone()
    }

    /// The file of a master key that this start made.
    pub fn master_key_made(&self) -> Option<&Path> {
        self.master_key_made.as_deref()
    }

    /// What the start found in the log store that needs a word.
    pub fn recovery_notes(&self) -> Vec<String> {
        let found = self.logs.recovery();
        found
            .cut
            .iter()
            .chain(&found.damages)
            .map(ToString::to_string)
            .chain(self.ledger_notes.iter().cloned())
            .collect()
    }

    /// Waits until the last shard has ended, then writes and syncs what the log still has.
    pub fn join(self) -> Result<(), StartError> {
        let mut ended = Ok(());
        for (shard, thread) in self.shards.into_iter().enumerate() {
            let why = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(_) => "it panicked".to_owned(),
            };
            ended = Err(StartError::Shard { shard, why });
        }
        self.reload.stop();
        self.api.stop();
        drop(self.resolvers);
        self.ledger.stop();
        self.logs.stop();
        self.rollup.stop();
        drop(self.data_dir);
        ended
    }
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| io::Error::other(error.to_string()))
        .map_err(system("read random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_that_does_not_answer_is_missed() {
        let ((turns, first), (hangs, second)) = (bounded(1), bounded(1));
        let echoes = Echoes(vec![first, second]);
        turns.send(()).unwrap();
        assert!(!echoes.are_all_here());
        turns.send(()).unwrap();
        hangs.send(()).unwrap();
        assert!(echoes.are_all_here());
    }
}
