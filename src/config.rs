//! What the operator wrote, made safe: file, environment and flags become one [`Config`].
//!
//! Text in, values out: nothing here opens a file, reads the environment or asks the clock; the
//! caller passes [`Sources`]. A value that exists is valid, and every problem is reported at
//! once, with its place and what to do.
//!
//! Order: default < file < environment < flag. Reading order: `file` (the keys), `form` (text to
//! keys), `check` (keys to values), `environment`; then the values ([`gateway`], [`upstream`],
//! [`limit`], [`secret`], [`unit`]) and the messages ([`problem`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::money::{PicoDollars, Prices};

mod file;
mod form;
mod check;
mod environment;
pub mod gateway;
pub mod upstream;
pub mod limit;
pub mod secret;
pub mod unit;
pub mod problem;
mod address;
mod report;
mod redact;
mod word;

use self::gateway::Gateway;
use self::limit::Limits;
use self::problem::{Problem, Problems, Source};
use self::report::Report;
use self::secret::{Reference, Secret};
use self::upstream::{CustomProvider, ProviderSettings};

/// Everything the server is told at start, valid as a whole.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the file, each with its name"
)]
pub struct Config {
    /// Name of the file for messages; `None`: there is none.
    pub file: Option<String>,
    /// Addresses of the main listener; at least one.
    pub listen: Vec<SocketAddr>,
    /// Where state and records live. Relative to the working directory only in
    /// [`Config::default`] and where variable or flag said so.
    pub data_dir: PathBuf,
    /// Where management, dashboard and metrics are served instead of at `listen`.
    pub admin: Option<SocketAddr>,
    /// How many shards; `None` is one for each core this process may use.
    pub shards: Option<u16>,
    /// Which I/O driver.
    pub driver: Driver,
    /// Filter of the diagnostics, `TIDEGATE_LOG`, as written.
    pub log_filter: Option<String>,
    /// The one account id that is known; `None`: any.
    pub account_id: Option<String>,
    /// Whether any gateway id in a path is made on first use.
    pub auto_create_gateways: bool,
    /// Whether custom providers made through the API may be plain http.
    pub allow_http_upstreams: bool,
    /// `--allow-open`: unauthenticated gateways may be reached from other machines.
    pub allow_open: bool,
    /// Time between grouped syncs of the log.
    pub log_sync: Duration,
    /// Age at which sealed bodies are compressed.
    pub log_compress_after: Duration,
    /// How long records and bodies are kept; zero is for ever.
    pub log_retention: Duration,
    /// How many bytes the log may have on disk; zero is no bound.
    pub log_bytes_max: u64,
    /// How many bytes the response cache may fill, all shards together; zero is off.
    pub cache_memory: u64,
    /// Further names accepted in `Host`, in lower case.
    pub hosts: Vec<String>,
    /// Whether requests are refused when they cannot be recorded.
    pub log_required: bool,
    /// What any peer may ask of the server.
    pub limits: Limits,
    /// Certificate and key, where https is served.
    pub tls: Option<Tls>,
    /// `TIDEGATE_API_TOKEN` or what its file holds: every permission.
    pub api_token: Option<Secret>,
    /// The key that seals stored credentials: `TIDEGATE_MASTER_KEY`, what the file of
    /// `TIDEGATE_MASTER_KEY_FILE` holds, or systemd's credential `tidegate-master-key`.
    pub master_key: Option<Secret>,
    /// `TIDEGATE_REDIS_URL`; secret, since it may hold a password.
    pub redis_url: Option<Secret>,
    /// Gateway tokens of the file.
    pub tokens: Vec<Token>,
    /// Gateways of the file by id. One that is made on first use is [`Config::implied_gateway`].
    pub gateways: BTreeMap<String, Gateway>,
    /// Settings of providers by slug (`custom-…` for credentials of custom ones).
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Custom providers by slug, without the prefix `custom-`.
    pub custom_providers: BTreeMap<String, CustomProvider>,
    /// Provider credentials made through the management API; a file has none.
    pub stored_credentials: Vec<StoredCredential>,
    /// Prices by `provider/model`; they override the embedded table.
    pub prices: Vec<(String, Prices)>,
}

/// A provider credential of one gateway, made through the management API.
#[derive(Debug, Clone)]
pub struct StoredCredential {
    /// The gateway that may use it.
    pub gateway: String,
    /// The provider's slug.
    pub provider: String,
    /// What callers name it by (`cf-aig-byok-alias`).
    pub alias: String,
    /// Whether it is used where a caller names none and there is no alias `default`.
    pub default: bool,
    /// What is presented to the provider.
    pub secret: Secret,
}

/// The port of the main listener, where nothing else is said.
pub const PORT: u16 = 8787;

/// The gateway that every account has.
pub const DEFAULT_GATEWAY: &str = "default";

impl Default for Config {
    /// What holds without a file, a variable or a flag. ([`load`] puts `data_dir` into the
    /// user's state folder instead, which takes the environment.)
    fn default() -> Self {
        Self {
            file: None,
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)],
            data_dir: PathBuf::from("data"),
            admin: None,
            shards: None,
            driver: Driver::Auto,
            log_filter: None,
            account_id: None,
            auto_create_gateways: false,
            allow_http_upstreams: false,
            allow_open: false,
            log_sync: Duration::from_millis(limit::LOG_SYNC_MS.default),
            log_compress_after: limit::LOG_COMPRESS_AFTER.default,
            log_retention: limit::LOG_RETENTION.default,
            log_bytes_max: limit::LOG_BYTES_MAX.default,
            cache_memory: limit::CACHE_MEMORY.default,
            hosts: Vec::new(),
            log_required: false,
            limits: Limits::default(),
            tls: None,
            api_token: None,
            master_key: None,
            redis_url: None,
            tokens: Vec::new(),
            gateways: BTreeMap::new(),
            providers: BTreeMap::new(),
            custom_providers: BTreeMap::new(),
            stored_credentials: Vec::new(),
            prices: Vec::new(),
        }
    }
}

impl Config {
    /// Whether the main listener can be reached from this machine only.
    pub fn is_loopback(&self) -> bool {
        self.listen
            .iter()
            .all(|address| address.ip().to_canonical().is_loopback())
    }

    /// The settings of a gateway that is made on first use: `default`, and any with
    /// `auto_create_gateways`. On loopback it asks for no token.
    pub fn implied_gateway(&self) -> Gateway {
        Gateway {
            authentication: !self.is_loopback(),
            ..Gateway::default()
        }
    }

    /// Provider slugs whose credential was picked up from a variable that SDKs use, and the
    /// variable's name.
    pub fn picked_up(&self) -> impl Iterator<Item = (&str, &str)> {
        self.providers.iter().flat_map(|(slug, settings)| {
            settings
                .credentials
                .iter()
                .filter(|credential| credential.picked_up)
                .filter_map(move |credential| match &credential.source {
                    Reference::Env(name) => Some((slug.as_str(), name.as_str())),
                    Reference::File(_) => None,
                })
        })
    }
}

/// Which I/O driver the shards use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// `auto`: `io_uring`, and epoll where that is refused.
    #[default]
    Auto,
    /// `uring`: a refusal is fatal.
    Uring,
    /// `epoll`
    Epoll,
}

impl Driver {
    /// Every driver by its word.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("uring", Self::Uring),
        ("epoll", Self::Epoll),
    ];
}

/// `[tls]`: files in PEM, read by whoever serves them and again on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A gateway token of the file.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is called in records; unique.
    pub name: String,
    /// What callers present; unique.
    pub secret: Secret,
    /// Where it came from.
    pub source: Reference,
    /// What it may do.
    pub permissions: Permissions,
    /// What it may spend.
    pub budget: Option<Budget>,
}

/// A set of permissions.
///
/// ```
/// use tidegate::config::Permissions;
///
/// let both = Permissions::RUN.with(Permissions::READ);
/// assert!(both.contains(Permissions::READ) && !both.contains(Permissions::EDIT));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `run`: use the data plane.
    pub const RUN: Self = Self(1);
    /// `read`: read the control plane.
    pub const READ: Self = Self(2);
    /// `edit`: change the control plane.
    pub const EDIT: Self = Self(4);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// Every permission by its word.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("run", Self::RUN),
        ("read", Self::READ),
        ("edit", Self::EDIT),
    ];

    /// This set and another.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set as bits: 1 run, 2 read, 4 edit.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// What a token may spend in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The most that may be spent.
    pub limit: PicoDollars,
    /// In which period of the calendar.
    pub period: Period,
    /// Whose midnight counts: `UTC`, or an IANA name. Only its form was checked: whether the
    /// machine knows the zone is up to its tables.
    pub time_zone: String,
    /// Whether it is reserved before the request, so that it is never passed.
    pub hard: bool,
    /// Whether requests whose cost nobody can tell pass a hard budget.
    pub allow_unpriced: bool,
}

/// A period of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// `hourly`
    Hourly,
    /// `daily`
    Daily,
    /// `weekly`, from Monday.
    Weekly,
    /// `monthly`
    Monthly,
}

/// What the command line said; it has the last word.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--listen`, once or several times.
    pub listen: Vec<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--shards`
    pub shards: Option<u64>,
    /// `--driver`
    pub driver: Option<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// `--allow-open`
    pub allow_open: bool,
}

/// Where values come from besides the text. The caller does the reading.
pub struct Sources<'a> {
    /// The environment; `None` where a variable is not set.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a small text file, bounding what it reads.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether a slug is a built-in provider.
    pub known_provider: &'a dyn Fn(&str) -> bool,
    /// Under which variables the SDKs of a provider keep its key: slug, names in order. The
    /// first that is set becomes the provider's credential where the file names none.
    pub picked_up_keys: &'a [(&'a str, &'a [&'a str])],
    /// The command line.
    pub flags: &'a Flags,
}

/// A configuration, and what is worth knowing about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys that have no effect yet, weak tokens and the like, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Makes a configuration of the file's `text` (empty where there is no file) and `sources`.
///
/// `origin` is the file's name for messages, `base_dir` the folder where its relative paths
/// start. Never panics, whatever the text; on failure there is at least one problem.
pub fn load(
    text: &str,
    origin: &str,
    base_dir: &Path,
    sources: &Sources<'_>,
) -> Result<Loaded, Problems> {
    if text.len() > limit::FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes; at most {} are read",
            text.len(),
            unit::size_text(limit::FILE_BYTES_MAX as u64)
        );
        let help = "is this the right file?".to_owned();
        return Err(Problems(vec![Problem::elsewhere(origin, message, help)]));
    }
    let read = form::read(text);
    let mut report = Report::new(Source {
        name: origin,
        text,
        tree: &read.tree,
        broken: read.broken,
    });
    for problem in read.problems {
        report.form_problem(problem.span, problem.message, problem.help);
    }
    let mut config = Config::default();
    let gates = check::file(&read.file, &mut config, &mut report, base_dir, sources);
    environment::apply(
        &mut config,
        &mut report,
        sources,
        read.file.data_dir.is_some(),
    );
    check::access(&gates, &mut config, &mut report);
    report.finish(config)
}

#[cfg(test)]
mod tests;
