//! The metrics of a server as text: what shards counted, the log store, the process.
//!
//! [`names`] holds every name; [`process`] reads what the system knows of this process. The form
//! is Prometheus' classic text format, which every collector reads. prometheus-client writes it,
//! but for two kinds of numbers that it would round: cost may pass 64 bits, and times are summed
//! as whole microseconds. Those are written exactly, by [`exact`].

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode_registry},
    metrics::MetricType,
    registry::Registry,
};

use crate::handoff::{
    counters::{
        Counters, ExchangeCounts, ExchangeLabels, Histogram, LATENCY_BOUNDS_MICROS, Latencies,
        Load, Plain, SPEED_BOUNDS_MICROS, TOKEN_KINDS,
    },
    log_health::LogHealth,
    log_queue::LogCounters,
};

pub mod names;
pub mod exact;
pub mod process;

use self::{
    names::{Family, Kind},
    process::Process,
};

/// `content-type` of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What an exposition is made of.
pub struct Sources<'a> {
    /// The sums over all shards.
    pub counters: &'a Counters,
    /// How busy each shard is.
    pub loads: &'a [Load],
    /// How many of them did not answer in time.
    pub shards_silent: usize,
    /// How the log store is.
    pub log_health: &'a LogHealth,
    /// What waits for the log writer, by shard.
    pub log_counters: &'a [Arc<LogCounters>],
    /// Attempts to take over a changed configuration: those that succeeded, those that failed.
    pub reloads: [u64; 2],
    /// Every part that may be degraded, and whether it is.
    pub degraded: &'a [(&'static str, bool)],
    /// The word for the driver.
    pub driver: &'a str,
    /// Why a better driver was refused; empty if none was.
    pub driver_reason: &'a str,
    /// What the system knows of this process.
    pub process: &'a Process,
}

/// The exposition.
pub fn exposition(sources: &Sources<'_>) -> Result<String, fmt::Error> {
    let mut page = Page::default();
    page.exchanges(sources.counters);
    page.plain(sources.counters);
    page.log(sources.log_health, sources.log_counters);
    page.server(sources);
    page.process(sources.process);
    page.write()
}

/// The commit of this build, where the build knew it.
const COMMIT: &str = match option_env!("TIDEGATE_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// Families with their series, in the order of the exposition.
#[derive(Default)]
struct Page(Vec<Block>);

/// One family with its series.
enum Block {
    Whole(Whole),
    Exact(&'static Family, Vec<(Labels, String)>),
    Histograms(&'static Family, &'static Bounds, Vec<(Labels, Histogram)>),
}

/// Upper bounds of a family's buckets, in millionths.
pub(super) type Bounds = [u64; LATENCY_BOUNDS_MICROS.len()];

/// Values of the family's labels, in their order.
type Labels = Vec<String>;

/// A family whose values prometheus-client writes as they are.
#[derive(Debug, Clone)]
struct Whole {
    family: &'static Family,
    series: Vec<(Labels, u64)>,
}

impl Page {
    fn add(&mut self, family: &'static Family, series: Vec<(Labels, u64)>) {
        self.0.push(Block::Whole(Whole { family, series }));
    }

    fn one(&mut self, family: &'static Family, value: u64) {
        self.add(family, vec![(Vec::new(), value)]);
    }

    fn by(&mut self, family: &'static Family, values: &[(&str, u64)]) {
        let series = values
            .iter()
            .map(|(label, value)| (labels([label]), *value));
        self.add(family, series.collect());
    }

    /// Adds a number of each shard, given in millionths.
    fn by_shard(&mut self, family: &'static Family, loads: &[Load], read: fn(&Load) -> u64) {
        let series = loads.iter().enumerate().map(|(number, load)| {
            let value = exact::seconds(u128::from(read(load)));
            (vec![number.to_string()], value)
        });
        self.0.push(Block::Exact(family, series.collect()));
    }

    fn exchanges(&mut self, counters: &Counters) {
        let all = counters.exchanges();
        let requests = all.iter().map(|(by, counts)| {
            (
                labels([by.gateway, by.provider, by.model, by.outcome.word()]),
                counts.requests,
            )
        });
        self.add(&names::REQUESTS, requests.collect());
        let by_model = sum_by_model(&all);
        let tokens = by_model.iter().flat_map(|(by, counts)| {
            let kinds = TOKEN_KINDS.into_iter().zip(counts.tokens);
            let [gateway, provider, model] = *by;
            kinds.map(move |(kind, tokens)| (labels([gateway, provider, model, kind]), tokens))
        });
        self.add(&names::TOKENS, tokens.collect());
        let costs = by_model
            .iter()
            .map(|(by, counts)| (labels(*by), counts.cost.to_string()));
        self.0.push(Block::Exact(&names::COST, costs.collect()));
        let unpriced = by_model
            .iter()
            .map(|(by, counts)| (labels(*by), counts.unpriced));
        self.add(&names::UNPRICED, unpriced.collect());

        let latencies = counters.latencies();
        let times = &LATENCY_BOUNDS_MICROS;
        let distributions: [(_, _, Pick); 4] = [
            (&names::DURATION, times, |latencies| &latencies.duration),
            (&names::FIRST_TOKEN, times, |latencies| {
                &latencies.first_token
            }),
            (&names::OVERHEAD, times, |latencies| &latencies.overhead),
            (&names::SPEED, &SPEED_BOUNDS_MICROS, |latencies| {
                &latencies.speed
            }),
        ];
        for (family, bounds, pick) in distributions {
            let series = latencies.iter().map(|(gateway, provider, latencies)| {
                (labels([gateway, provider]), pick(latencies).clone())
            });
            let block = Block::Histograms(family, bounds, series.collect());
            self.0.push(block);
        }
    }

    fn plain(&mut self, counters: &Counters) {
        let numbers = [
            (&names::IN_FLIGHT, Plain::ExchangesInFlight),
            (&names::OPEN_STREAMS, Plain::StreamsOpen),
            (&names::CONNECTIONS, Plain::ConnectionsAccepted),
            (&names::OPEN_CONNECTIONS, Plain::ConnectionsOpen),
            (&names::ACCEPT_FAILURES, Plain::AcceptFailures),
            (&names::MALFORMED, Plain::Malformed),
            (&names::UNAUTHORIZED, Plain::Unauthorized),
            (&names::PANICS, Plain::Panics),
            (&names::UPSTREAM_CONNECTS, Plain::UpstreamConnects),
            (&names::UPSTREAM_REUSES, Plain::UpstreamReuses),
            (
                &names::UPSTREAM_CONNECT_FAILURES,
                Plain::UpstreamConnectFailures,
            ),
            (&names::UPSTREAM_STALE, Plain::UpstreamStale),
            (&names::UPSTREAM_BREAKERS, Plain::UpstreamBreakers),
            (&names::LIMITED, Plain::Limited),
            (&names::PERMITS, Plain::PermitsOut),
            (&names::CACHE_ENTRIES, Plain::CacheEntries),
            (&names::CACHE_BYTES, Plain::CacheBytes),
        ];
        for (family, plain) in numbers {
            self.one(family, counters.plain(plain));
        }
        let by = |(word, plain): &(&'static str, Plain)| (*word, counters.plain(*plain));
        let lookups = [("hit", Plain::CacheHits), ("miss", Plain::CacheMisses)];
        self.by(&names::CACHE_LOOKUPS, &lookups.each_ref().map(by));
        let changes = [
            ("taken_in", Plain::CacheInserts),
            ("turned_away", Plain::CacheRefused),
            ("evicted", Plain::CacheEvictions),
            ("expired", Plain::CacheExpired),
            ("purged", Plain::CachePurged),
        ];
        self.by(&names::CACHE_CHANGES, &changes.each_ref().map(by));
        let idle = counters.plain(Plain::UpstreamIdle);
        let active = counters.plain(Plain::UpstreamOpen).saturating_sub(idle);
        let states = [("active", active), ("idle", idle)];
        self.by(&names::UPSTREAM_CONNECTIONS, &states);
        let attempts = counters.attempts();
        let attempts = attempts
            .iter()
            .map(|(provider, ended, count)| (labels([provider, ended.word()]), *count));
        self.add(&names::UPSTREAM_ATTEMPTS, attempts.collect());
    }

    fn log(&mut self, health: &LogHealth, counters: &[Arc<LogCounters>]) {
        let sum = |read: fn(&LogCounters) -> u64| counters.iter().map(|shard| read(shard)).sum();
        self.one(&names::LOG_RECORDS_SENT, sum(LogCounters::records_sent));
        let records = [
            ("written", health.records_written()),
            ("dropped", sum(LogCounters::records_dropped)),
            ("lost", health.records_lost()),
        ];
        self.by(&names::LOG_RECORDS, &records);
        let chunks = [
            ("written", health.chunks_written()),
            ("lost", health.chunks_lost()),
        ];
        self.by(&names::LOG_BODY_CHUNKS, &chunks);
        self.one(&names::LOG_BODIES_DROPPED, sum(LogCounters::bodies_dropped));
        self.one(&names::LOG_FAILURES, health.failures());
        self.one(&names::LOG_QUEUE, sum(LogCounters::queued_bytes));
        self.one(&names::LOG_DISK, health.disk_bytes());
    }

    fn server(&mut self, sources: &Sources<'_>) {
        let degraded = sources
            .degraded
            .iter()
            .map(|(part, is)| (*part, u64::from(*is)));
        self.by(&names::DEGRADED, &degraded.collect::<Vec<_>>());
        self.one(&names::SHARDS, sources.loads.len() as u64);
        self.one(&names::SHARDS_SILENT, sources.shards_silent as u64);
        let busy = |load: &Load| load.busy_ppm;
        let lag = |load: &Load| load.lag_micros;
        self.by_shard(&names::SHARD_BUSY, sources.loads, busy);
        self.by_shard(&names::SHARD_LAG, sources.loads, lag);
        let [succeeded, failed] = sources.reloads;
        self.by(
            &names::RELOADS,
            &[("success", succeeded), ("failure", failed)],
        );
        let driver = labels([sources.driver, sources.driver_reason]);
        self.add(&names::DRIVER, vec![(driver, 1)]);
        let build = labels([env!("CARGO_PKG_VERSION"), COMMIT]);
        self.add(&names::BUILD, vec![(build, 1)]);
    }

    fn process(&mut self, process: &Process) {
        if let Some(micros) = process.cpu_micros {
            let value = exact::seconds(u128::from(micros));
            self.0
                .push(Block::Exact(&names::PROCESS_CPU, vec![(Vec::new(), value)]));
        }
        let numbers = [
            (&names::PROCESS_RESIDENT, process.resident_bytes),
            (&names::PROCESS_VIRTUAL, process.virtual_bytes),
            (&names::PROCESS_FDS, process.open_fds),
            (&names::PROCESS_MAX_FDS, process.max_fds),
            (&names::PROCESS_START, process.start_seconds),
        ];
        for (family, value) in numbers {
            if let Some(value) = value {
                self.one(family, value);
            }
        }
    }

    fn write(self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        for block in self.0 {
            match block {
                Block::Whole(whole) => {
                    let mut registry = Registry::default();
                    registry.register_collector(Box::new(whole));
                    encode_registry(&mut out, &registry)?;
                }
                Block::Exact(family, series) => exact::values(&mut out, family, &series)?,
                Block::Histograms(family, bounds, series) => {
                    exact::histograms(&mut out, family, bounds, &series)?;
                }
            }
        }
        Ok(out)
    }
}

impl Collector for Whole {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let family = self.family;
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
        for (values, value) in &self.series {
            // A counter written as a gauge: the classic format has the suffix in the name.
            if values.is_empty() {
                metric.encode_gauge(value)?;
                continue;
            }
            let pairs: Vec<_> = family.labels.iter().copied().zip(values).collect();
            metric.encode_family(&pairs)?.encode_gauge(value)?;
        }
        Ok(())
    }
}

/// One distribution of several.
type Pick = fn(&Latencies) -> &Histogram;

fn labels<const N: usize>(values: [&str; N]) -> Labels {
    values.map(str::to_owned).into()
}

/// Sums over outcomes. `all` is in the order of its labels, the outcome last.
fn sum_by_model<'a>(
    all: &[(ExchangeLabels<'a>, ExchangeCounts)],
) -> Vec<([&'a str; 3], ExchangeCounts)> {
    let mut sums: Vec<([&str; 3], ExchangeCounts)> = Vec::new();
    for (labels, counts) in all {
        let by = [labels.gateway, labels.provider, labels.model];
        match sums.last_mut() {
            Some((last, sum)) if *last == by => {
                for (sum, tokens) in sum.tokens.iter_mut().zip(counts.tokens) {
                    *sum = sum.saturating_add(tokens);
                }
                sum.cost = sum.cost.saturating_add(counts.cost);
                sum.unpriced += counts.unpriced;
            }
            _ => sums.push((by, *counts)),
        }
    }
    sums
}

#[cfg(test)]
mod tests;
