//! Gateways: what the operator can set for each, with the management contract's names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::money::PicoDollars;

use super::secret::Secret;
use super::upstream::UpstreamUrl;

/// The settings of one gateway. What they mean is in the management contract, section 2; the
/// last six are tidegate's own.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the contract, each with its name"
)]
pub struct Gateway {
    /// Whether callers must present a gateway token.
    pub authentication: bool,
    /// Whether exchanges are recorded.
    pub collect_logs: bool,
    /// Whether saving the gateway drops its cached answers.
    pub cache_invalidate_on_update: bool,
    /// How long answers are cached; zero is off.
    pub cache_ttl: Duration,
    /// Requests in each interval; zero is off.
    pub rate_limiting_limit: u64,
    /// The interval; zero is off.
    pub rate_limiting_interval: Duration,
    /// How the interval moves.
    pub rate_limiting_technique: Technique,
    /// Whether only credentials of the caller or the operator may be used.
    pub byok_only: bool,
    /// Data loss prevention, in the form it was written.
    pub dlp: Option<Dlp>,
    /// Actions for categories of content.
    pub guardrails: Option<Guardrails>,
    /// How many records are kept.
    pub log_management: Option<u64>,
    /// What happens when that many are there.
    pub log_management_strategy: LogStrategy,
    /// Whether records are classified.
    pub log_classification: bool,
    /// Whether records are pushed to a destination.
    pub logpush: bool,
    /// The key with which pushed records are encrypted, as PEM.
    pub logpush_public_key: Option<String>,
    /// Exporters of traces.
    pub otel: Vec<Otel>,
    /// Attempts in all, 1 to 5; `None` makes one.
    pub retry_max_attempts: Option<u8>,
    /// The wait before the second attempt.
    pub retry_delay: Option<Duration>,
    /// How the wait grows.
    pub retry_backoff: Option<Backoff>,
    /// Limits on cost.
    pub spend_limits: SpendLimits,
    /// The secrets store of stored credentials.
    pub store_id: Option<String>,
    /// Usage events for billing.
    pub stripe: Option<Stripe>,
    /// How Workers AI is billed.
    pub workers_ai_billing_mode: BillingMode,
    /// Whether only providers that keep nothing may be used.
    pub zdr: bool,
    /// Limits on requests.
    pub request_limits: Vec<TrafficLimit>,
    /// Limits on model tokens.
    pub token_limits: Vec<TrafficLimit>,
    /// How long a stream can be resumed; zero is off.
    pub resume_for: Duration,
    /// Who shares cached answers.
    pub cache_scope: CacheScope,
    /// Whether streams are cached.
    pub cache_streams: bool,
    /// What becomes of the upstream side when the caller hangs up.
    pub on_disconnect: OnDisconnect,
}

impl Default for Gateway {
    /// The settings with which the contract creates a gateway (data plane, section 1.1).
    fn default() -> Self {
        Self {
            authentication: true,
            collect_logs: true,
            cache_invalidate_on_update: false,
            cache_ttl: Duration::ZERO,
            rate_limiting_limit: 0,
            rate_limiting_interval: Duration::ZERO,
            rate_limiting_technique: Technique::Fixed,
            byok_only: false,
            dlp: None,
            guardrails: None,
            log_management: None,
            log_management_strategy: LogStrategy::DeleteOldest,
            log_classification: false,
            logpush: false,
            logpush_public_key: None,
            otel: Vec::new(),
            retry_max_attempts: None,
            retry_delay: None,
            retry_backoff: None,
            spend_limits: SpendLimits::default(),
            store_id: None,
            stripe: None,
            workers_ai_billing_mode: BillingMode::Postpaid,
            zdr: false,
            request_limits: Vec::new(),
            token_limits: Vec::new(),
            resume_for: Duration::ZERO,
            cache_scope: CacheScope::Credential,
            cache_streams: false,
            on_disconnect: OnDisconnect::Cancel,
        }
    }
}

/// How a window moves: aligned to the clock, or along with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// `fixed`
    Fixed,
    /// `sliding`
    Sliding,
}

/// What happens when the records of a gateway reach their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStrategy {
    /// `STOP_INSERTING`
    StopInserting,
    /// `DELETE_OLDEST`
    DeleteOldest,
}

/// How the wait between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// `constant`
    Constant,
    /// `linear`
    Linear,
    /// `exponential`
    Exponential,
}

/// How Workers AI is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillingMode {
    /// `postpaid`
    Postpaid,
    /// `unified`
    Unified,
}

/// Who shares cached answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// `credential`: callers with the same provider credential.
    Credential,
    /// `gateway`: all callers of the gateway.
    Gateway,
}

/// What becomes of the upstream side when the caller hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// `cancel`
    Cancel,
    /// `drain`: read to the end, for usage and record.
    Drain,
    /// `cache`: read to the end, into the cache.
    Cache,
}

/// What a check does when it finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `FLAG`
    Flag,
    /// `BLOCK`
    Block,
}

/// Data loss prevention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dlp {
    /// Whether it is on.
    pub enabled: bool,
    /// The rules, in either form.
    pub rules: DlpRules,
}

/// The two forms of [`Dlp`]; the one that was written is the one that is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DlpRules {
    /// One action for all profiles.
    Single {
        /// What happens on a finding.
        action: Action,
        /// What is looked for.
        profiles: Vec<String>,
    },
    /// Policies of their own.
    Policies(Vec<DlpPolicy>),
}

/// One policy of [`Dlp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DlpPolicy {
    /// Its name, unique within the gateway.
    pub id: String,
    /// Whether it is on.
    pub enabled: bool,
    /// What happens on a finding.
    pub action: Action,
    /// Whether requests are checked.
    pub request: bool,
    /// Whether responses are checked.
    pub response: bool,
    /// What is looked for.
    pub profiles: Vec<String>,
}

/// Actions for categories (`P1`, `S1` to `S13`); an absent category is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guardrails {
    /// What is done about prompts.
    pub prompt: BTreeMap<String, Action>,
    /// What is done about responses.
    pub response: BTreeMap<String, Action>,
}

/// One exporter of traces.
#[derive(Debug, Clone)]
pub struct Otel {
    /// Where to.
    pub url: UpstreamUrl,
    /// Extra headers; they may hold credentials.
    pub headers: BTreeMap<String, Secret>,
    /// The `authorization` header.
    pub authorization: Option<Secret>,
    /// How messages are encoded.
    pub content_type: OtelEncoding,
}

/// How an exporter encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtelEncoding {
    /// `json`
    Json,
    /// `protobuf`
    Protobuf,
}

/// Usage events for billing.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// The credential.
    pub authorization: Secret,
    /// The templates of the events.
    pub usage_events: Vec<String>,
}

/// Limits on cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpendLimits {
    /// Whether they are on.
    pub enabled: bool,
    /// At most 20.
    pub rules: Vec<SpendRule>,
}

/// One limit on cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendRule {
    /// Its name, unique within the gateway. Where the file gives none it is the rule's place
    /// (`file-1`), so that what was spent survives a restart.
    pub id: String,
    /// Whether it is on.
    pub enabled: bool,
    /// The most that may be spent.
    pub limit: PicoDollars,
    /// In which time.
    pub window: Duration,
    /// How the window moves.
    pub technique: Technique,
    /// Metadata keys that split or choose requests.
    pub metadata: BTreeMap<String, Dimension>,
    /// Whether the model splits or chooses them.
    pub model: Option<Dimension>,
    /// Whether the provider does.
    pub provider: Option<Dimension>,
    /// Ours: reserve before the request, so that the limit is never passed.
    pub hard: bool,
    /// Ours: let requests through a hard rule whose cost nobody can tell. They count nothing
    /// unless the provider says what they cost.
    pub allow_unpriced: bool,
}

/// How a spend rule splits or chooses requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// One sum for each value.
    Partition,
    /// Only requests with one of these values count.
    Filter(Vec<String>),
}

/// A limit on requests or model tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficLimit {
    /// How many.
    pub limit: u64,
    /// In which time.
    pub window: Duration,
    /// How the window moves.
    pub technique: Technique,
    /// What is counted apart.
    pub by: LimitBy,
}

/// What a [`TrafficLimit`] counts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBy {
    /// `gateway`: one count.
    Gateway,
    /// `key`: one count for each gateway token.
    Key,
    /// `metadata.NAME`: one count for each value of that metadata key.
    Metadata(String),
}
