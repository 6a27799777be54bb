//! Every metric: its name, what it says, its unit and its labels, each once.
//!
//! Names follow the usual rules of the text format: base units, `_total` behind counters. What is
//! written here is part of the contract with dashboards and alerts: a name may be added, never
//! changed.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rises only, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket, with sum and count.
    Histogram,
}

/// One metric with all its series.
#[derive(Debug)]
pub struct Family {
    /// Name, as it stands in the exposition.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The unit, which the name ends with; empty for plain counts.
    pub unit: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    let kind = Kind::Counter;
    Family {
        name,
        help,
        kind,
        unit,
        labels,
    }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    let kind = Kind::Gauge;
    Family {
        name,
        help,
        kind,
        unit,
        labels,
    }
}

const fn histogram(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    let kind = Kind::Histogram;
    Family {
        name,
        help,
        kind,
        unit,
        labels: &["gateway", "provider"],
    }
}

/// The labels of what is summed by model. Values of `model` are bounded in number.
const BY_MODEL: &[&str] = &["gateway", "provider", "model"];

/// Finished exchanges.
pub const REQUESTS: Family = counter(
    "tidegate_requests_total",
    "",
    &["gateway", "provider", "model", "outcome"],
    "Finished exchanges by how they ended.",
);
/// Model tokens.
pub const TOKENS: Family = counter(
    "tidegate_tokens_total",
    "",
    &["gateway", "provider", "model", "kind"],
    "Model tokens as providers reported them.",
);
/// Cost.
pub const COST: Family = counter(
    "tidegate_cost_picodollars_total",
    "picodollars",
    BY_MODEL,
    "Cost of exchanges with a known price, in units of 1e-12 US dollars.",
);
/// Exchanges without a price.
pub const UNPRICED: Family = counter(
    "tidegate_unpriced_requests_total",
    "",
    BY_MODEL,
    "Exchanges that reported tokens but have no known price.",
);
/// Length of exchanges.
pub const DURATION: Family = histogram(
    "tidegate_request_duration_seconds",
    "seconds",
    "Whole exchanges, from the first byte of the request to the last of the answer.",
);
/// TTFT.
pub const FIRST_TOKEN: Family = histogram(
    "tidegate_time_to_first_token_seconds",
    "seconds",
    "From the request sent to the provider to the first token of its answer.",
);
/// What the server adds.
pub const OVERHEAD: Family = histogram(
    "tidegate_overhead_seconds",
    "seconds",
    "Time that tidegate itself added to exchanges.",
);
/// Output speed.
pub const SPEED: Family = histogram(
    "tidegate_output_tokens_per_second",
    "",
    "Output tokens of a stream by the time from its first token to its end; without reasoning.",
);
/// Exchanges in flight.
pub const IN_FLIGHT: Family = gauge(
    "tidegate_inflight_requests",
    "",
    &[],
    "Exchanges in flight now.",
);
/// Streams.
pub const OPEN_STREAMS: Family = gauge(
    "tidegate_open_streams",
    "",
    &[],
    "Streamed answers being relayed now.",
);
/// Accepted connections.
pub const CONNECTIONS: Family = counter(
    "tidegate_connections_total",
    "",
    &[],
    "Connections accepted from callers.",
);
/// Open connections.
pub const OPEN_CONNECTIONS: Family = gauge(
    "tidegate_open_connections",
    "",
    &[],
    "Connections of callers open now.",
);
/// Failed accepts.
pub const ACCEPT_FAILURES: Family = counter(
    "tidegate_accept_failures_total",
    "",
    &[],
    "Accepts that failed, mostly for want of file descriptors.",
);
/// Malformed requests.
pub const MALFORMED: Family = counter(
    "tidegate_malformed_requests_total",
    "",
    &[],
    "Requests refused because HTTP forbids what they are.",
);
/// Requests without a valid token.
pub const UNAUTHORIZED: Family = counter(
    "tidegate_unauthorized_requests_total",
    "",
    &[],
    "Requests refused for want of a valid token.",
);
/// Panics.
pub const PANICS: Family = counter(
    "tidegate_panics_total",
    "",
    &[],
    "Connection tasks that panicked; each is a defect worth reporting.",
);
/// Requests over a limit.
pub const LIMITED: Family = counter(
    "tidegate_limited_requests_total",
    "",
    &[],
    "Requests that a limit on requests, tokens or cost refused.",
);
/// Permits.
pub const PERMITS: Family = gauge(
    "tidegate_limit_permits",
    "",
    &[],
    "Requests in flight that hold something of a limit.",
);
/// Cached answers.
pub const CACHE_ENTRIES: Family = gauge(
    "tidegate_cache_entries",
    "",
    &[],
    "Answers that the cache holds.",
);
/// Their memory.
pub const CACHE_BYTES: Family = gauge(
    "tidegate_cache_bytes",
    "bytes",
    &[],
    "Memory of the answers that the cache holds.",
);
/// Look-ups.
pub const CACHE_LOOKUPS: Family = counter(
    "tidegate_cache_lookups_total",
    "",
    &["result"],
    "Look-ups in the cache by what came of them; one that waits for another request is a miss.",
);
/// Answers that came and went.
pub const CACHE_CHANGES: Family = counter(
    "tidegate_cache_changes_total",
    "",
    &["change"],
    "Answers that the cache took in, turned away or let go.",
);
/// Connections to providers.
pub const UPSTREAM_CONNECTS: Family = counter(
    "tidegate_upstream_connects_total",
    "",
    &[],
    "Connections opened to providers.",
);
/// Connections taken from the pool.
pub const UPSTREAM_REUSES: Family = counter(
    "tidegate_upstream_reuses_total",
    "",
    &[],
    "Exchanges that took an open connection from the pool.",
);
/// Failed connects.
pub const UPSTREAM_CONNECT_FAILURES: Family = counter(
    "tidegate_upstream_connect_failures_total",
    "",
    &[],
    "Attempts to connect to a provider that failed.",
);
/// Dead connections in the pool.
pub const UPSTREAM_STALE: Family = counter(
    "tidegate_upstream_stale_total",
    "",
    &[],
    "Pooled connections found dead before they were used.",
);
/// Breakers that are open.
pub const UPSTREAM_BREAKERS: Family = gauge(
    "tidegate_upstream_breakers_open",
    "",
    &[],
    "Addresses of providers, by shard, that could not be reached and are left alone for a while.",
);
/// Connections to providers that are open.
pub const UPSTREAM_CONNECTIONS: Family = gauge(
    "tidegate_upstream_connections",
    "",
    &["state"],
    "Connections to providers open now: active with an exchange, idle without.",
);
/// Tries at providers.
pub const UPSTREAM_ATTEMPTS: Family = counter(
    "tidegate_upstream_attempts_total",
    "",
    &["provider", "result"],
    "Tries of exchanges at providers by how they ended; answered means any status, skipped that none was made because the provider could not be reached before.",
);
/// How busy shards are.
pub const SHARD_BUSY: Family = gauge(
    "tidegate_shard_busy_ratio",
    "",
    &["shard"],
    "CPU time of a shard's thread as a part of the last second or less.",
);
/// How late shards are.
pub const SHARD_LAG: Family = gauge(
    "tidegate_shard_loop_lag_seconds",
    "seconds",
    &["shard"],
    "How late the shard's tick came at worst, in the last minute or two.",
);
/// Records handed over.
pub const LOG_RECORDS_SENT: Family = counter(
    "tidegate_log_records_sent_total",
    "",
    &[],
    "Records handed to the log writer.",
);
/// What became of records.
pub const LOG_RECORDS: Family = counter(
    "tidegate_log_records_total",
    "",
    &["result"],
    "Records by what became of them: written, dropped because the writer was behind, lost because writing failed.",
);
/// What became of pieces of bodies.
pub const LOG_BODY_CHUNKS: Family = counter(
    "tidegate_log_body_chunks_total",
    "",
    &["result"],
    "Pieces of stored bodies by what became of them: written, lost because writing failed.",
);
/// Bodies that were dropped.
pub const LOG_BODIES_DROPPED: Family = counter(
    "tidegate_log_bodies_dropped_total",
    "",
    &[],
    "Bodies not stored whole because the log writer was behind.",
);
/// Failed writes.
pub const LOG_FAILURES: Family = counter(
    "tidegate_log_failures_total",
    "",
    &[],
    "Failed writes, opens and syncs of the log store.",
);
/// Bytes on their way.
pub const LOG_QUEUE: Family = gauge(
    "tidegate_log_queue_bytes",
    "bytes",
    &[],
    "Bytes of records that wait for the log writer.",
);
/// Bytes on disk.
pub const LOG_DISK: Family = gauge(
    "tidegate_log_disk_bytes",
    "bytes",
    &[],
    "Bytes of the log store on disk.",
);
/// What does not work.
pub const DEGRADED: Family = gauge(
    "tidegate_degraded",
    "",
    &["component"],
    "1 while the part does not work as it should; /readyz says why.",
);
/// Shards.
pub const SHARDS: Family = gauge("tidegate_shards", "", &[], "Shards of this server.");
/// Shards that did not answer.
pub const SHARDS_SILENT: Family = gauge(
    "tidegate_shards_silent",
    "",
    &[],
    "Shards that did not hand over their counts within a second; their last known counts are in the sums.",
);
/// Reloads.
pub const RELOADS: Family = counter(
    "tidegate_config_reloads_total",
    "",
    &["result"],
    "Attempts to take over a changed configuration, certificate or set of keys.",
);
/// The driver.
pub const DRIVER: Family = gauge(
    "tidegate_io_driver_info",
    "",
    &["driver", "reason"],
    "The I/O driver of the shards, and why a better one was refused.",
);
/// The build.
pub const BUILD: Family = gauge(
    "tidegate_build_info",
    "",
    &["version", "commit"],
    "The version of this server; commit is empty where the build did not know it.",
);
/// CPU time.
pub const PROCESS_CPU: Family = counter(
    "process_cpu_seconds_total",
    "seconds",
    &[],
    "CPU time of the process, user and system.",
);
/// Resident memory.
pub const PROCESS_RESIDENT: Family = gauge(
    "process_resident_memory_bytes",
    "bytes",
    &[],
    "Memory of the process that is in RAM.",
);
/// Virtual memory.
pub const PROCESS_VIRTUAL: Family = gauge(
    "process_virtual_memory_bytes",
    "bytes",
    &[],
    "Address space of the process.",
);
/// Open descriptors.
pub const PROCESS_FDS: Family = gauge(
    "process_open_fds",
    "",
    &[],
    "File descriptors that are open.",
);
/// Most descriptors.
pub const PROCESS_MAX_FDS: Family = gauge(
    "process_max_fds",
    "",
    &[],
    "File descriptors that may be open.",
);
/// Start.
pub const PROCESS_START: Family = gauge(
    "process_start_time_seconds",
    "seconds",
    &[],
    "When the process started, in seconds since the Unix epoch.",
);

/// Every metric, in the order of the exposition.
pub const ALL: [&Family; 50] = [
    &REQUESTS,
    &TOKENS,
    &COST,
    &UNPRICED,
    &DURATION,
    &FIRST_TOKEN,
    &OVERHEAD,
    &SPEED,
    &IN_FLIGHT,
    &OPEN_STREAMS,
    &CONNECTIONS,
    &OPEN_CONNECTIONS,
    &ACCEPT_FAILURES,
    &MALFORMED,
    &UNAUTHORIZED,
    &PANICS,
    &UPSTREAM_CONNECTS,
    &UPSTREAM_REUSES,
    &UPSTREAM_CONNECT_FAILURES,
    &UPSTREAM_STALE,
    &UPSTREAM_BREAKERS,
    &LIMITED,
    &PERMITS,
    &CACHE_ENTRIES,
    &CACHE_BYTES,
    &CACHE_LOOKUPS,
    &CACHE_CHANGES,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_ATTEMPTS,
    &LOG_RECORDS_SENT,
    &LOG_RECORDS,
    &LOG_BODY_CHUNKS,
    &LOG_BODIES_DROPPED,
    &LOG_FAILURES,
    &LOG_QUEUE,
    &LOG_DISK,
    &DEGRADED,
    &SHARDS,
    &SHARDS_SILENT,
    &SHARD_BUSY,
    &SHARD_LAG,
    &RELOADS,
    &DRIVER,
    &BUILD,
    &PROCESS_CPU,
    &PROCESS_RESIDENT,
    &PROCESS_VIRTUAL,
    &PROCESS_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_START,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_the_format() {
        let mut names = BTreeSet::new();
        for family in ALL {
            let name = family.name;
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{name}"
            );
            let stem = name.trim_end_matches("_total");
            assert!(stem.ends_with(family.unit), "{name}");
            assert!(
                name.starts_with("tidegate_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                family.help.ends_with('.') && !family.help.contains(['\\', '\n']),
                "{name}"
            );
        }
    }
}
