//! The `reload` thread: makes snapshots, and publishes a new one when something has changed.
//!
//! What can change: the file (on command, SIGHUP), what `control.db` holds (the management API or
//! another process writes it, or a token's time is over), the files of the certificate. A change is taken over as a
//! whole or not at all; on any error what was in force stays. The thread also frees snapshots
//! that no shard uses any more. Reading order: [`compile`], [`stored`] (what the management API
//! made), [`Keeper`] (what to do), [`start`] (the thread around it), [`standing`] (what others see
//! of it).

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use rustls::ServerConfig;

use super::{
    keys::{self, API_KEY_NAME, KeyError, KeyStore, KeysSeen, UnixSeconds},
    logs::{
        limit::{RowLimit, RowLimits, row_limits},
        seal::retention::{Retained, Retention},
    },
    store::{
        StoreError,
        vault::{Vault, VaultError},
    },
    tls::{self, TlsError},
};
use crate::{
    config::{Config, Loaded, Permissions, Tls, problem::Problems, secret::Secret},
    handoff::mailbox::{Letterbox, Order, Post, letterbox},
    snapshot::{CompileError, Key, KeyTable, Snapshot},
    sys::bell::Bell,
};

pub mod stored;
pub mod standing;

use self::{
    standing::{Change, Standing},
    stored::Memory,
};

/// Reads the configuration anew.
pub type ReadConfig = Box<dyn Fn() -> Result<Loaded, Problems> + Send>;

/// What the thread is told.
#[derive(Debug, Clone)]
pub enum ReloadCommand {
    /// Read everything anew.
    Reload,
    /// Look at `control.db`, which has changed, and say there when shards were told.
    Stored(Sender<()>),
}

/// What the thread works with.
pub struct ReloadParts {
    /// Reads the configuration anew; `None`: there is nothing to read, tokens and certificates
    /// are still watched.
    pub read: Option<ReadConfig>,
    /// The configuration that the server started with.
    pub config: Config,
    /// The management token that the server started with.
    pub api_token: Secret,
    /// Tokens made at run time.
    pub keys: KeyStore,
    /// What was seen of them when the first snapshot was compiled.
    pub seen: KeysSeen,
    /// Opens what is sealed in the store.
    pub vault: Vault,
    /// What was read of the store for the first snapshot.
    pub memory: Memory,
    /// The secret of the key tables.
    pub table_secret: [u8; 32],
    /// The mailbox of each shard.
    pub shards: Vec<Post<Order>>,
    /// Snapshots that no shard uses any more.
    pub worn: Receiver<Arc<Snapshot>>,
    /// Told of every attempt.
    pub standing: Arc<Standing>,
    /// How many records each gateway may have.
    pub row_limits: Arc<RowLimits>,
    /// How long records and bodies stay.
    pub retained: Arc<Retained>,
}

/// A snapshot, and until when its tokens are as they are.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What was seen of the stored tokens.
    pub seen: KeysSeen,
    /// How many records the log keeps for each gateway.
    pub row_limits: BTreeMap<String, RowLimit>,
    /// How long records and bodies stay.
    pub retention: Retention,
}

/// Why a change cannot be taken over: one sentence each but for the file's problems.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file has problems.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The configuration is good by itself but cannot be carried out.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// What the management API made cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored secret cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A gateway that the management API made would be open to other machines.
    #[error(
        "the gateway '{id}', made through the management API, asks for no token, and `listen` can be reached from other machines; start with --allow-open, or listen on 127.0.0.1 and change the gateway"
    )]
    OpenGateway {
        /// The gateway.
        id: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Who may reach the server decides who needs a token.
    #[error(
        "`listen` has moved between loopback and other addresses, which decides who needs a token; restart the server instead"
    )]
    Exposure,
}

/// Makes a snapshot: the configuration with what the management API made and the tokens from
/// everywhere, as they are at `now`. What `memory` has of earlier snapshots is not read again.
pub fn compile(
    config: &Config,
    api_token: &Secret,
    keys: &KeyStore,
    vault: &Vault,
    table_secret: [u8; 32],
    now: UnixSeconds,
    memory: &mut Memory,
) -> Result<Compiled, ReloadError> {
    let mut table = KeyTable::new(table_secret);
    // What is seen of the tokens is older than all else, so that nothing is missed.
    let live = keys.load(now)?;
    let whole = stored::overlay(config, keys.store(), vault, memory)?;
    for (hash, key) in live.keys {
        table.insert_stored(hash, key);
    }
    for token in &config.tokens {
        let key = key(&token.name, token.permissions);
        table.insert(token.secret.expose().as_bytes(), key);
    }
    // The last to come wins: the operator cannot lock himself out by a token of the file.
    let api = key(API_KEY_NAME, Permissions::ALL);
    table.insert(api_token.expose().as_bytes(), api);
    let snapshot = Snapshot::compile_with(&whole, table, |id| memory.compiled(id))?;
    memory.keep(config, &whole, &snapshot);
    Ok(Compiled {
        snapshot,
        seen: live.seen,
        row_limits: row_limits(&whole),
        retention: Retention::of(&whole),
    })
}

fn key(name: &str, permissions: Permissions) -> Key {
    Key {
        name: name.into(),
        run: permissions.contains(Permissions::RUN),
        read: permissions.contains(Permissions::READ),
        edit: permissions.contains(Permissions::EDIT),
    }
}

/// The running thread; it ends when this is dropped.
pub struct Reload {
    commands: Post<ReloadCommand>,
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// How often tokens and certificates are looked at.
const POLL: Duration = Duration::from_millis(500);

/// Starts the thread.
pub fn start(parts: ReloadParts) -> io::Result<Reload> {
    let (commands, letters) = letterbox()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, bell) = (Arc::clone(&stop), Arc::clone(&letters.bell));
    let builder = std::thread::Builder::new().name("reload".to_owned());
    let thread = builder.spawn(move || run(Keeper::new(parts), &letters, &stopped))?;
    Ok(Reload {
        commands,
        stop,
        bell,
        thread: Some(thread),
    })
}

impl Reload {
    /// Where commands go, from any thread.
    pub fn commands(&self) -> Post<ReloadCommand> {
        self.commands.clone()
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its hook.
            let _ = thread.join();
        }
    }
}

fn run(mut keeper: Keeper, commands: &Letterbox<ReloadCommand>, stop: &AtomicBool) {
    let mut polled = Instant::now();
    while !stop.load(Ordering::Acquire) {
        match commands.wait(POLL) {
            Some(ReloadCommand::Reload) => guarded(&mut keeper, Keeper::reload),
            Some(ReloadCommand::Stored(told)) => {
                guarded(&mut keeper, Keeper::look_at_store);
                // Who waited may have given up.
                let _ = told.try_send(());
            }
            None => {}
        }
        if polled.elapsed() >= POLL {
            guarded(&mut keeper, Keeper::poll);
            polled = Instant::now();
        }
    }
}

/// Runs a step. Should it panic, the thread lives on: revoked tokens must go on being noticed.
fn guarded(keeper: &mut Keeper, step: fn(&mut Keeper, UnixSeconds)) {
    let done = catch_unwind(AssertUnwindSafe(|| step(keeper, keys::now())));
    if done.is_err() {
        tracing::error!("a reload panicked; please report this");
        keeper.standing.failed(Change::Everything);
    }
}

/// What is in force, and how to change it.
struct Keeper {
    read: Option<ReadConfig>,
    config: Config,
    api_token: Secret,
    keys: KeyStore,
    vault: Vault,
    memory: Memory,
    table_secret: [u8; 32],
    shards: Vec<Post<Order>>,
    worn: Receiver<Arc<Snapshot>>,
    standing: Arc<Standing>,
    row_limits: Arc<RowLimits>,
    retained: Arc<Retained>,
    /// Of the tokens in force.
    seen: KeysSeen,
    /// Of the certificate's files, when they were last tried.
    stamp: Option<[Stamp; 2]>,
    /// Tokens could not be read, which was said.
    keys_failing: bool,
    /// What each shard has still to be told: its mailbox was full.
    unsent: Vec<Unsent>,
}

#[derive(Default)]
struct Unsent {
    snapshot: Option<Arc<Snapshot>>,
    certificate: Option<Arc<ServerConfig>>,
}

/// What changes when a file is replaced or written.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Keeper {
    fn new(parts: ReloadParts) -> Self {
        let stamp = parts.config.tls.as_ref().map(stamps);
        Self {
            read: parts.read,
            config: parts.config,
            api_token: parts.api_token,
            keys: parts.keys,
            vault: parts.vault,
            memory: parts.memory,
            table_secret: parts.table_secret,
            unsent: parts.shards.iter().map(|_| Unsent::default()).collect(),
            shards: parts.shards,
            worn: parts.worn,
            standing: parts.standing,
            row_limits: parts.row_limits,
            retained: parts.retained,
            seen: parts.seen,
            stamp,
            keys_failing: false,
        }
    }

    /// Takes over the file, tokens and certificate as they are now.
    fn reload(&mut self, now: UnixSeconds) {
        match self.try_reload(now) {
            Ok(()) => tracing::info!("the configuration was reloaded"),
            Err(error) => self.failed(Change::Everything, &error),
        }
    }

    fn try_reload(&mut self, now: UnixSeconds) -> Result<(), ReloadError> {
        let config = match &self.read {
            Some(read) => self.adapted(read()?)?,
            None => self.config.clone(),
        };
        // What is seen from here on is older than this, so that nothing is missed.
        let stamp = config.tls.as_ref().map(stamps);
        self.keys.follow()?;
        if let Some(given) = &config.api_token {
            self.api_token = given.clone();
        }
        let compiled = self.compile(Some(&config), now)?;
        let certificate = config.tls.as_ref().map(certificate).transpose()?;
        self.stamp = stamp;
        self.config = config;
        if let Some(certificate) = certificate {
            self.publish_certificate(&certificate);
        }
        self.publish(compiled);
        self.keys_failing = false;
        self.standing.succeeded(Change::Everything, &self.config);
        Ok(())
    }

    /// Compiles a new configuration, or the one in force.
    fn compile(
        &mut self,
        config: Option<&Config>,
        now: UnixSeconds,
    ) -> Result<Compiled, ReloadError> {
        compile(
            config.unwrap_or(&self.config),
            &self.api_token,
            &self.keys,
            &self.vault,
            self.table_secret,
            now,
            &mut self.memory,
        )
    }

    /// What of a new configuration can take effect now; says what cannot.
    fn adapted(&self, loaded: Loaded) -> Result<Config, ReloadError> {
        let Loaded {
            mut config,
            warnings,
        } = loaded;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if config.is_loopback() != self.config.is_loopback() {
            return Err(ReloadError::Exposure);
        }
        let fixed = fixed_settings(&self.config, &config);
        if !fixed.is_empty() {
            let names = fixed.join(", ");
            tracing::warn!("these settings change with the next restart only: {names}");
        }
        let running = &self.config;
        config.listen.clone_from(&running.listen);
        config.admin = running.admin;
        config.data_dir.clone_from(&running.data_dir);
        config.shards = running.shards;
        config.driver = running.driver;
        config.log_sync = running.log_sync;
        config.log_compress_after = running.log_compress_after;
        config.cache_memory = running.cache_memory;
        if config.tls.is_some() != running.tls.is_some() {
            config.tls.clone_from(&running.tls);
        }
        Ok(config)
    }

    /// Looks whether tokens or certificate have changed, and frees what is worn.
    fn poll(&mut self, now: UnixSeconds) {
        for _ in 0..self.worn.len() {
            drop(self.worn.try_recv());
        }
        self.look_at_store(now);
        self.look_at_certificate();
        self.send_unsent();
    }

    /// Looks whether the store has changed.
    fn look_at_store(&mut self, now: UnixSeconds) {
        match self.try_store(now) {
            Ok(false) => {}
            Ok(true) => tracing::info!("tokens, gateways and providers were reloaded"),
            // Tried again at the next look, but said once.
            Err(_) if self.keys_failing => return,
            Err(error) => {
                self.keys_failing = true;
                self.failed(Change::Keys, &error);
                return;
            }
        }
        self.keys_failing = false;
    }

    /// Takes over what has changed in the store; says whether anything had.
    fn try_store(&mut self, now: UnixSeconds) -> Result<bool, ReloadError> {
        let followed = self.keys.follow()?;
        let changed = followed || self.keys.revision()? != self.seen.revision;
        let expired = self.seen.next_expiry.is_some_and(|end| end <= now);
        if !changed && !expired && !self.keys_failing {
            return Ok(false);
        }
        let compiled = self.compile(None, now)?;
        self.publish(compiled);
        self.standing.succeeded(Change::Keys, &self.config);
        Ok(true)
    }

    fn look_at_certificate(&mut self) {
        let Some(files) = &self.config.tls else {
            return;
        };
        let stamp = Some(stamps(files));
        if stamp == self.stamp {
            return;
        }
        // Two files are rarely replaced at once: the second one's change brings another try.
        self.stamp = stamp;
        match certificate(files) {
            Ok(config) => {
                self.publish_certificate(&config);
                self.standing.succeeded(Change::Certificate, &self.config);
                tracing::info!("the certificate was reloaded");
            }
            Err(error) => self.failed(Change::Certificate, &error.into()),
        }
    }

    fn failed(&self, change: Change, error: &ReloadError) {
        self.standing.failed(change);
        let what = match change {
            Change::Everything => "the configuration",
            Change::Keys => "control.db",
            Change::Certificate => "the certificate",
        };
        tracing::error!("{what} could not be reloaded, what was in force stays: {error}");
    }

    fn publish(&mut self, compiled: Compiled) {
        self.seen = compiled.seen;
        self.row_limits.set(&compiled.row_limits);
        self.retained.set(compiled.retention);
        let snapshot = Arc::new(compiled.snapshot);
        for unsent in &mut self.unsent {
            unsent.snapshot = Some(Arc::clone(&snapshot));
        }
        self.send_unsent();
    }

    fn publish_certificate(&mut self, certificate: &Arc<ServerConfig>) {
        for unsent in &mut self.unsent {
            unsent.certificate = Some(Arc::clone(certificate));
        }
        self.send_unsent();
    }

    /// Tells shards what they do not know yet. One whose mailbox is full is told later: it must
    /// not go on with a token that was revoked.
    fn send_unsent(&mut self) {
        for (post, unsent) in self.shards.iter().zip(&mut self.unsent) {
            if let Some(certificate) = unsent.certificate.take()
                && let Err(Order::Certificate(back)) = post.send(Order::Certificate(certificate))
            {
                unsent.certificate = Some(back);
            }
            if let Some(snapshot) = unsent.snapshot.take()
                && let Err(Order::Snapshot(back)) = post.send(Order::Snapshot(snapshot))
            {
                unsent.snapshot = Some(back);
            }
        }
    }
}

fn certificate(files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    tls::server_config(&files.cert, &files.key).map(Arc::new)
}

fn stamps(files: &Tls) -> [Stamp; 2] {
    [&files.cert, &files.key].map(|path| stamp(path))
}

fn stamp(path: &Path) -> Stamp {
    // Follows links: secrets are often mounted as a link that is turned to a new folder.
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
}

/// Names of the settings that differ and take effect at a start only.
fn fixed_settings(running: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen", running.listen != new.listen),
        ("admin", running.admin != new.admin),
        ("data_dir", running.data_dir != new.data_dir),
        ("shards", running.shards != new.shards),
        ("driver", running.driver != new.driver),
        ("log_sync_ms", running.log_sync != new.log_sync),
        (
            "log_compress_after",
            running.log_compress_after != new.log_compress_after,
        ),
        ("cache_memory", running.cache_memory != new.cache_memory),
        (
            "tls (on or off)",
            running.tls.is_some() != new.tls.is_some(),
        ),
    ];
    differs
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
}

#[cfg(test)]
mod tests;
