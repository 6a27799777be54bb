//! The configuration, compiled for reading: immutable, replaced as a whole.
//!
//! A shard reads it on every exchange, so look-ups are by hash and borrow. Reading order: this
//! page, [`key_table`] (who a token belongs to), [`providers`] (where a slug leads), [`limits`] (what
//! a request counts against).

pub mod key_table;
pub mod providers;
pub mod limits;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::{self, Config, DEFAULT_GATEWAY, gateway::CacheScope},
    domain::{id::is_gateway_id, short_hash::ShortMap},
    provider::price::PriceTable,
};

pub use crate::config::gateway::{Backoff, OnDisconnect};

pub use self::{
    key_table::{Key, KeyTable, Proof},
    limits::Rules,
    providers::{DEFAULT_ALIAS, Provider, Providers, Secret},
};

/// Everything a shard knows of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Differs for every snapshot of the process, and is not 0.
    pub generation: u64,
    /// The one account that is known; `None`: any.
    pub account_id: Option<Box<str>>,
    /// Bounds on what peers may do.
    pub limits: Limits,
    /// Names accepted in `Host` besides loopback ones, in lower case.
    pub hosts: Vec<Box<str>>,
    /// Requests are refused while they cannot be recorded.
    pub log_required: bool,
    /// Management is served at the main listener.
    pub management_here: bool,
    /// Who tokens belong to.
    pub keys: KeyTable,
    /// Where slugs lead.
    pub providers: Providers,
    /// What tokens cost.
    pub prices: PriceTable,
    /// Budgets of keys, by the keys' names.
    pub budgets: HashMap<Box<str>, Rules>,
    gateways: ShortMap<Box<str>, Arc<Gateway>>,
    implied: Gateway,
    implies_any: bool,
}

/// Bounds on what peers may do; see `[limits]` of the file.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Greatest head in bytes.
    pub head_bytes: usize,
    /// Greatest request body in bytes.
    pub body_bytes: u64,
    /// How much of a request body is held, in bytes.
    pub gather_bytes: u64,
    /// From a head's first byte to its end.
    pub head_timeout: Duration,
    /// Between two reads of a request body.
    pub body_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
}

/// What a shard needs to know of a gateway.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the contract, each with its name"
)]
pub struct Gateway {
    /// It was not made yet: its first use makes it.
    pub implied: bool,
    /// Callers must prove a token.
    pub authentication: bool,
    /// Records are made, unless the request says otherwise.
    pub collect_logs: bool,
    /// Only credentials of the caller or stored ones, never shared ones.
    pub byok_only: bool,
    /// How often its requests are tried.
    pub retry: Retry,
    /// What of its answers is cached.
    pub cache: CacheRules,
    /// What becomes of an answer whose caller hangs up.
    pub on_disconnect: OnDisconnect,
    /// For how long a stream can be resumed after its end; zero is off.
    pub resume_for: Duration,
    /// Credentials that were stored for this gateway.
    pub credentials: Vec<StoredCredential>,
    /// Limits on its traffic and cost.
    pub rules: Rules,
}

/// How often requests are tried, where they do not say so themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; `None` makes one.
    pub attempts: Option<u8>,
    /// The wait before the second attempt.
    pub delay: Option<Duration>,
    /// How the wait grows.
    pub backoff: Option<Backoff>,
}

/// What of a gateway's answers is cached, where requests do not say so themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheRules {
    /// For how long; zero is off.
    pub ttl: Duration,
    /// Callers with different credentials share answers.
    pub shared: bool,
    /// Streams are cached too.
    pub streams: bool,
    /// Part of every key, so that answers from before a change of the gateway's settings are found
    /// no more; 0 where a change drops nothing.
    pub revision: u64,
}

/// A provider credential that was stored for one gateway.
#[derive(Debug, Clone)]
pub struct StoredCredential {
    /// Slug of the provider.
    pub provider: Box<str>,
    /// What callers name it by.
    pub alias: Box<str>,
    /// Used where a caller names none and there is no alias `default`.
    pub default: bool,
    /// What is presented to the provider.
    pub secret: Secret,
}

impl Gateway {
    /// The stored credential for a provider: that of `alias`, or the one that is used where a
    /// caller names none.
    pub fn credential(&self, provider: &str, alias: Option<&str>) -> Option<&Secret> {
        let mine = |stored: &&StoredCredential| &*stored.provider == provider;
        let named = |alias: &str| {
            let mut mine = self.credentials.iter().filter(mine);
            mine.find(|stored| &*stored.alias == alias)
        };
        let found = match alias {
            Some(alias) => named(alias),
            None => named(DEFAULT_ALIAS).or_else(|| {
                let mut mine = self.credentials.iter().filter(mine);
                mine.find(|stored| stored.default)
            }),
        };
        found.map(|stored| &stored.secret)
    }
}

/// Counts snapshots.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Snapshot {
    /// Compiles a checked configuration. `keys` holds the tokens from everywhere.
    pub fn compile(config: &Config, keys: KeyTable) -> Result<Self, CompileError> {
        Self::compile_with(config, keys, |_| None)
    }

    /// The same with gateways that were compiled before: `known` gives those by id of which neither
    /// settings nor credentials have changed since, and which are not compiled again.
    pub fn compile_with(
        config: &Config,
        keys: KeyTable,
        known: impl Fn(&str) -> Option<Arc<Gateway>>,
    ) -> Result<Self, CompileError> {
        let limits = &config.limits;
        let mut credentials: HashMap<&str, Vec<_>> = HashMap::new();
        for stored in &config.stored_credentials {
            credentials.entry(&stored.gateway).or_default().push(stored);
        }
        let compile = |id: &str, gateway: &config::gateway::Gateway| {
            let mine = credentials.get(id).map_or(&[][..], Vec::as_slice);
            Gateway::compile(gateway, mine)
        };
        Ok(Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            account_id: config.account_id.as_deref().map(Into::into),
            limits: Limits {
                head_bytes: usize::try_from(limits.head_bytes).unwrap_or(usize::MAX),
                body_bytes: limits.body_bytes,
                gather_bytes: limits.gather_bytes,
                head_timeout: limits.head_timeout,
                body_timeout: limits.body_timeout,
                idle_timeout: limits.idle_timeout,
            },
            hosts: config
                .hosts
                .iter()
                .map(|host| host.as_str().into())
                .collect(),
            log_required: config.log_required,
            management_here: config.admin.is_none(),
            keys,
            providers: Providers::compile(config)?,
            prices: PriceTable::embedded().with_overrides(
                config
                    .prices
                    .iter()
                    .map(|(key, prices)| (key.as_str(), *prices)),
            ),
            budgets: Rules::of_budgets(&config.tokens)?,
            gateways: config
                .gateways
                .iter()
                .map(|(id, gateway)| {
                    let known = known(id);
                    let shared = known.unwrap_or_else(|| Arc::new(compile(id, gateway)));
                    (id.as_str().into(), shared)
                })
                .collect(),
            implied: Gateway {
                implied: true,
                ..compile("", &config.implied_gateway())
            },
            implies_any: config.auto_create_gateways,
        })
    }

    /// The gateway of that id: one of the file, or one that is made by its first use.
    pub fn gateway(&self, id: &str) -> Option<&Gateway> {
        if let Some(gateway) = self.gateways.get(id) {
            return Some(gateway);
        }
        let implied = id == DEFAULT_GATEWAY || self.implies_any && is_gateway_id(id);
        implied.then_some(&self.implied)
    }

    /// The gateway of that id as the next snapshot can have it too; `None` for an implied one.
    pub fn shared_gateway(&self, id: &str) -> Option<&Arc<Gateway>> {
        self.gateways.get(id)
    }

    /// Says whether `account` is this server's.
    pub fn knows_account(&self, account: &str) -> bool {
        self.account_id
            .as_deref()
            .is_none_or(|known| known == account)
    }
}

impl Gateway {
    fn compile(
        gateway: &config::gateway::Gateway,
        credentials: &[&config::StoredCredential],
    ) -> Self {
        Self {
            implied: false,
            authentication: gateway.authentication,
            collect_logs: gateway.collect_logs,
            byok_only: gateway.byok_only,
            retry: Retry {
                attempts: gateway.retry_max_attempts,
                delay: gateway.retry_delay,
                backoff: gateway.retry_backoff,
            },
            on_disconnect: gateway.on_disconnect,
            resume_for: gateway.resume_for,
            cache: CacheRules {
                ttl: gateway.cache_ttl,
                shared: gateway.cache_scope == CacheScope::Gateway,
                streams: gateway.cache_streams,
                revision: if gateway.cache_invalidate_on_update {
                    // Secrets do not print themselves: a change of one alone drops nothing.
                    xxh3_64(format!("{gateway:?}").as_bytes())
                } else {
                    0
                },
            },
            credentials: credentials
                .iter()
                .map(|stored| StoredCredential {
                    provider: stored.provider.as_str().into(),
                    alias: stored.alias.as_str().into(),
                    default: stored.default,
                    secret: stored.secret.clone(),
                })
                .collect(),
            rules: Rules::of_gateway(gateway),
        }
    }
}

/// Why a checked configuration cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An address that only the provider's own rules can judge.
    #[error("providers.{slug}: {why}")]
    Address {
        /// The provider.
        slug: Box<str>,
        /// What is wrong with it.
        why: Box<str>,
    },
    /// A time zone that the machine's tables do not have.
    #[error("tokens.{token}.budget.time_zone: this machine knows no time zone {zone}")]
    TimeZone {
        /// The token.
        token: Box<str>,
        /// The zone.
        zone: Box<str>,
    },
}
