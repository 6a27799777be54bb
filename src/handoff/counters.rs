//! What a shard counts. Plain numbers owned by the shard; a copy goes to who asks for it.
//!
//! Labels are bounded: beyond the first [`MODELS_MAX`] models, [`GATEWAYS_MAX`] gateways and
//! [`PROVIDERS_MAX`] providers, everything further counts as `other`.

use crate::domain::{
    outcome::Outcome,
    record::{Record, flag},
    short_hash::ShortMap,
};

/// Models that get a series of their own.
pub const MODELS_MAX: usize = 200;
/// Gateways that get a series of their own.
pub const GATEWAYS_MAX: usize = 100;
/// Providers that get a series of their own: all built-in ones and many custom ones.
pub const PROVIDERS_MAX: usize = 100;

/// The label of everything beyond the bound.
pub const OTHER: &str = "other";

/// Upper bounds of the latency buckets in microseconds; one more bucket holds what is above.
pub const LATENCY_BOUNDS_MICROS: [u64; 16] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    20_000_000,
    120_000_000,
];

/// Upper bounds of the buckets of output speed in millionths of a token a second; one more bucket
/// holds what is above. Reading speed is some 5 tokens a second.
pub const SPEED_BOUNDS_MICROS: [u64; 16] = [
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    15_000_000,
    20_000_000,
    30_000_000,
    40_000_000,
    60_000_000,
    80_000_000,
    100_000_000,
    150_000_000,
    200_000_000,
    300_000_000,
    500_000_000,
    1_000_000_000,
];

/// Counters of one shard, or of all shards after [`Counters::merge`].
#[derive(Debug, Clone, Default)]
pub struct Counters {
    gateways: Labels<GATEWAYS_MAX>,
    providers: Labels<PROVIDERS_MAX>,
    models: Labels<MODELS_MAX>,
    exchanges: ShortMap<ExchangeKey, ExchangeCounts>,
    latencies: ShortMap<(u16, u16), Box<Latencies>>,
    /// Attempts by the number of their provider, the one of everything beyond the bound first.
    attempts: Vec<[u64; Attempted::ALL.len()]>,
    plain: [u64; Plain::ALL.len()],
    /// How busy the shard is; of a sum nothing is known.
    pub load: Load,
}

/// How busy one shard is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// CPU time of its thread in millionths of the time that passed, lately.
    pub busy_ppm: u64,
    /// How late its tick came at worst, in the last minutes.
    pub lag_micros: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ExchangeKey {
    gateway: u16,
    provider: u16,
    model: u16,
    outcome: Outcome,
}

/// Sums over the exchanges of one gateway, provider, model and outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// Exchanges.
    pub requests: u64,
    /// Tokens by [`TOKEN_KINDS`].
    pub tokens: [u64; TOKEN_KINDS.len()],
    /// Cost in pico-dollars.
    pub cost: u128,
    /// Exchanges that reported tokens but have no price.
    pub unpriced: u64,
}

/// The kinds of tokens, as they are labelled.
pub const TOKEN_KINDS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];

/// Distributions over the exchanges of one gateway and provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Whole exchanges.
    pub duration: Histogram,
    /// Request sent upstream to first token.
    pub first_token: Histogram,
    /// Time that tidegate added.
    pub overhead: Histogram,
    /// Output tokens a second of streams, from the first token on.
    pub speed: Histogram,
}

/// Counts by [`LATENCY_BOUNDS_MICROS`], or by [`SPEED_BOUNDS_MICROS`]; not cumulative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One count a bucket, the last for what is above all bounds.
    pub buckets: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
    /// Sum of all values in millionths of the unit.
    pub sum_micros: u64,
}

impl Histogram {
    fn add(&mut self, micros: u64) {
        self.add_within(&LATENCY_BOUNDS_MICROS, micros);
    }

    fn add_within(&mut self, bounds: &[u64; LATENCY_BOUNDS_MICROS.len()], micros: u64) {
        let bucket = bounds.partition_point(|bound| *bound < micros);
        self.buckets[bucket] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }
}

/// Numbers without labels. Gauges are summed over shards like counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Plain {
    /// Connections accepted.
    ConnectionsAccepted,
    /// Connections open now (gauge).
    ConnectionsOpen,
    /// Exchanges in flight now (gauge).
    ExchangesInFlight,
    /// Streams being relayed now (gauge).
    StreamsOpen,
    /// Requests refused because HTTP forbids what they are.
    Malformed,
    /// Requests refused for want of a valid token.
    Unauthorized,
    /// Connections opened to providers.
    UpstreamConnects,
    /// Exchanges that took an open connection from the pool.
    UpstreamReuses,
    /// Attempts to connect that failed.
    UpstreamConnectFailures,
    /// Pooled connections found dead before they were used.
    UpstreamStale,
    /// Connections to providers open now (gauge).
    UpstreamOpen,
    /// Those of them that wait for an exchange (gauge, known when it is asked for).
    UpstreamIdle,
    /// Origins that are not connected to (gauge, known when it is asked for).
    UpstreamBreakers,
    /// Accepts that failed for want of descriptors.
    AcceptFailures,
    /// Connection tasks that panicked.
    Panics,
    /// Permits under limits that are out now (gauge, known when it is asked for).
    PermitsOut,
    /// Requests that limits refused.
    Limited,
    /// Answers in the cache (gauge, as are the bytes).
    CacheEntries,
    /// Their bytes.
    CacheBytes,
    /// Look-ups that found an answer. These and the following are known when they are asked for.
    CacheHits,
    /// Look-ups that found none.
    CacheMisses,
    /// Answers taken into the cache.
    CacheInserts,
    /// Answers that were not taken in.
    CacheRefused,
    /// Answers that made room for others.
    CacheEvictions,
    /// Answers whose time was over.
    CacheExpired,
    /// Answers that were purged.
    CachePurged,
}

impl Plain {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 26] = [
        Self::ConnectionsAccepted,
        Self::ConnectionsOpen,
        Self::ExchangesInFlight,
        Self::StreamsOpen,
        Self::Malformed,
        Self::Unauthorized,
        Self::UpstreamConnects,
        Self::UpstreamReuses,
        Self::UpstreamConnectFailures,
        Self::UpstreamStale,
        Self::UpstreamOpen,
        Self::UpstreamIdle,
        Self::UpstreamBreakers,
        Self::AcceptFailures,
        Self::Panics,
        Self::PermitsOut,
        Self::Limited,
        Self::CacheEntries,
        Self::CacheBytes,
        Self::CacheHits,
        Self::CacheMisses,
        Self::CacheInserts,
        Self::CacheRefused,
        Self::CacheEvictions,
        Self::CacheExpired,
        Self::CachePurged,
    ];
}

/// How one try of an exchange at a provider ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Attempted {
    /// The head of an answer came, whatever it said.
    Answered,
    /// No connection came about.
    ConnectFailed,
    /// It was turned away unread.
    Refused,
    /// The connection ended before an answer.
    Closed,
    /// The answer was no HTTP.
    Malformed,
    /// The answer did not begin in time.
    Timeout,
    /// The caller went away, or its body had to be refused.
    Abandoned,
    /// It was not made: the provider could not be reached a moment ago.
    Skipped,
}

impl Attempted {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::ConnectFailed,
        Self::Refused,
        Self::Closed,
        Self::Malformed,
        Self::Timeout,
        Self::Abandoned,
        Self::Skipped,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ConnectFailed => "connect_failed",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
            Self::Skipped => "skipped",
        }
    }
}

impl Counters {
    /// Adds one.
    pub fn bump(&mut self, plain: Plain) {
        self.plain[plain as usize] += 1;
    }

    /// Adds `more`.
    pub fn add(&mut self, plain: Plain, more: u64) {
        self.plain[plain as usize] += more;
    }

    /// Takes one away from a gauge.
    pub fn lower(&mut self, plain: Plain) {
        let value = &mut self.plain[plain as usize];
        *value = value.saturating_sub(1);
    }

    /// The value of one number.
    pub fn plain(&self, plain: Plain) -> u64 {
        self.plain[plain as usize]
    }

    /// Sets a gauge that is known when it is asked for.
    pub fn set(&mut self, plain: Plain, value: u64) {
        self.plain[plain as usize] = value;
    }

    /// Counts one try at a provider.
    pub fn attempt(&mut self, provider: &str, ended: Attempted) {
        self.add_attempts(provider, ended, 1);
    }

    fn add_attempts(&mut self, provider: &str, ended: Attempted, more: u64) {
        // The number of everything beyond the bound is the greatest there is: it becomes 0.
        let place = usize::from(self.providers.number(provider).wrapping_add(1));
        if self.attempts.len() <= place {
            self.attempts.resize(place + 1, Default::default());
        }
        if let Some(counts) = self.attempts.get_mut(place) {
            counts[ended as usize] += more;
        }
    }

    /// Tries at providers that were made, by provider and end, in the order of their labels.
    pub fn attempts(&self) -> Vec<(&str, Attempted, u64)> {
        let mut all = Vec::new();
        for (number, counts) in (0..).zip(&self.attempts) {
            let provider = self.providers.text(u16::wrapping_sub(number, 1));
            let counted = Attempted::ALL.into_iter().zip(*counts);
            let counted = counted.filter(|(_, count)| *count > 0);
            all.extend(counted.map(|(ended, count)| (provider, ended, count)));
        }
        all.sort_by_key(|(provider, _, _)| *provider);
        all
    }

    /// Counts one finished exchange. `model` is the normalised name, empty if unknown;
    /// `streamed_micros` the time from a stream's first token to its end.
    pub fn exchange(
        &mut self,
        gateway: &str,
        provider: &str,
        model: &str,
        record: &Record,
        streamed_micros: Option<u64>,
    ) {
        let gateway = self.gateways.number(gateway);
        let provider = self.providers.number(provider);
        let key = ExchangeKey {
            gateway,
            provider,
            model: self.models.number(model),
            outcome: record.outcome(),
        };
        let counts = self.exchanges.entry(key).or_default();
        // An exchange counts once, where it ended; what its attempts used counts each time.
        let ended_here = record.flags & flag::FOLLOWED == 0;
        counts.requests += u64::from(ended_here);
        // What the cache answered used nothing.
        let kinds = if record.flags & flag::CACHED == 0 {
            record.token_kinds()
        } else {
            [None; TOKEN_KINDS.len()]
        };
        let [_, output, _, _, reasoning] = kinds;
        for (sum, tokens) in counts.tokens.iter_mut().zip(kinds) {
            *sum = sum.saturating_add(tokens.unwrap_or(0));
        }
        match record.cost {
            Some(cost) => counts.cost = counts.cost.saturating_add(u128::from(cost)),
            None if kinds.iter().any(Option::is_some) => counts.unpriced += 1,
            None => {}
        }
        let latencies = self.latencies.entry((gateway, provider)).or_default();
        latencies.duration.add(record.duration_micros);
        latencies.overhead.add(record.overhead_micros);
        if let Some(micros) = record.first_token_micros {
            latencies.first_token.add(micros);
        }
        if let Some(micros @ 1..) = streamed_micros
            && let Some(tokens) = output
        {
            // What a model thought before it spoke came before the first token.
            let spoken = tokens.saturating_sub(reasoning.unwrap_or(0));
            let speed = spoken.saturating_mul(1_000_000_000_000) / micros;
            latencies.speed.add_within(&SPEED_BOUNDS_MICROS, speed);
        }
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.plain.iter_mut().zip(other.plain) {
            *mine += theirs;
        }
        for (labels, theirs) in other.exchanges() {
            let key = ExchangeKey {
                gateway: self.gateways.number(labels.gateway),
                provider: self.providers.number(labels.provider),
                model: self.models.number(labels.model),
                outcome: labels.outcome,
            };
            let mine = self.exchanges.entry(key).or_default();
            mine.requests += theirs.requests;
            mine.cost = mine.cost.saturating_add(theirs.cost);
            mine.unpriced += theirs.unpriced;
            for (sum, tokens) in mine.tokens.iter_mut().zip(theirs.tokens) {
                *sum = sum.saturating_add(tokens);
            }
        }
        for (provider, ended, count) in other.attempts() {
            self.add_attempts(provider, ended, count);
        }
        for (gateway, provider, theirs) in other.latencies() {
            let key = (
                self.gateways.number(gateway),
                self.providers.number(provider),
            );
            let mine = self.latencies.entry(key).or_default();
            mine.duration.merge(&theirs.duration);
            mine.first_token.merge(&theirs.first_token);
            mine.overhead.merge(&theirs.overhead);
            mine.speed.merge(&theirs.speed);
        }
    }

    /// Every series of exchanges, in the order of its labels.
    pub fn exchanges(&self) -> Vec<(ExchangeLabels<'_>, ExchangeCounts)> {
        let mut all: Vec<_> = self
            .exchanges
            .iter()
            .map(|(key, counts)| {
                let labels = ExchangeLabels {
                    gateway: self.gateways.text(key.gateway),
                    provider: self.providers.text(key.provider),
                    model: self.models.text(key.model),
                    outcome: key.outcome,
                };
                (labels, *counts)
            })
            .collect();
        all.sort_unstable_by_key(|(labels, _)| *labels);
        all
    }

    /// Every set of distributions with its gateway and provider, in their order.
    pub fn latencies(&self) -> Vec<(&str, &str, &Latencies)> {
        let mut all: Vec<_> = self
            .latencies
            .iter()
            .map(|((gateway, provider), latencies)| {
                (
                    self.gateways.text(*gateway),
                    self.providers.text(*provider),
                    &**latencies,
                )
            })
            .collect();
        all.sort_unstable_by_key(|(gateway, provider, _)| (*gateway, *provider));
        all
    }
}

/// The labels of a series of exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeLabels<'a> {
    /// Gateway id.
    pub gateway: &'a str,
    /// Provider slug.
    pub provider: &'a str,
    /// Normalised model name; empty if unknown.
    pub model: &'a str,
    /// How it ended.
    pub outcome: Outcome,
}

/// Texts numbered in the order of their first use, up to `MAX`.
#[derive(Debug, Clone, Default)]
struct Labels<const MAX: usize> {
    numbers: ShortMap<Box<str>, u16>,
    texts: Vec<Box<str>>,
    /// The number given last: most exchanges carry the labels of the one before.
    last: u16,
}

impl<const MAX: usize> Labels<MAX> {
    /// The number of everything beyond the bound.
    const BEYOND: u16 = u16::MAX;

    fn number(&mut self, text: &str) -> u16 {
        if let Some(last) = self.texts.get(usize::from(self.last))
            && **last == *text
        {
            return self.last;
        }
        if let Some(number) = self.numbers.get(text) {
            self.last = *number;
            return *number;
        }
        if text == OTHER || self.texts.len() >= MAX {
            return Self::BEYOND;
        }
        let number = u16::try_from(self.texts.len()).unwrap_or(Self::BEYOND);
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn text(&self, number: u16) -> &str {
        self.texts
            .get(usize::from(number))
            .map_or(OTHER, |text| text)
    }
}

#[cfg(test)]
mod tests;
