//! Defaults and hard maxima of everything the operator can bound, each with its reason.
//!
//! A maximum is there so that a slip of the pen (`"10GiB"` for a head) is an error at start and
//! not an outage later. A minimum is there where less could not work.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What a value is when the file does not say, and what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<T> {
    /// The value without a word in the file.
    pub default: T,
    /// The least value that is taken.
    pub min: T,
    /// The greatest value that is taken.
    pub max: T,
}

impl<T: PartialOrd> Bound<T> {
    /// Says whether `value` may be taken.
    pub fn holds(&self, value: &T) -> bool {
        *value >= self.min && *value <= self.max
    }
}

/// `[limits]`: what any peer may ask of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Greatest head of either side, in bytes.
    pub head_bytes: u64,
    /// Greatest request body, in bytes.
    pub body_bytes: u64,
    /// How much of a request body is held for cache key, repeat and record, in bytes.
    pub gather_bytes: u64,
    /// From a head's first byte to its end.
    pub head_timeout: Duration,
    /// Between two reads of a request body.
    pub body_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How long the server is unready but still accepting after SIGTERM.
    pub drain_delay: Duration,
    /// How long exchanges in flight may take after that.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: HEAD_BYTES.default,
            body_bytes: BODY_BYTES.default,
            gather_bytes: GATHER_BYTES.default,
            head_timeout: HEAD_TIMEOUT.default,
            body_timeout: BODY_TIMEOUT.default,
            idle_timeout: IDLE_TIMEOUT.default,
            drain_delay: DRAIN_DELAY.default,
            drain_timeout: DRAIN_TIMEOUT.default,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Greatest head. The default is the contract's suggestion (section 17); SDKs send 1 to 2 KB.
/// Each open connection may hold this much, hence the low maximum.
pub const HEAD_BYTES: Bound<u64> = Bound {
    default: 32 * KIB,
    min: KIB,
    max: MIB,
};

/// Greatest request body. The default is the contract's suggestion (section 17); the maximum
/// leaves room for uploads of audio and files, which stream through.
pub const BODY_BYTES: Bound<u64> = Bound {
    default: 100 * MIB,
    min: KIB,
    max: 16 * GIB,
};

/// How much of a request body is held. Conversations with images stay under 8 MB; the maximum
/// is memory for one request. Zero holds nothing: no cache, no repeat, no stored body.
pub const GATHER_BYTES: Bound<u64> = Bound {
    default: 8 * MIB,
    min: 0,
    max: 256 * MIB,
};

/// A head comes in one or two packets; ten seconds let the slowest phone finish, and no more
/// is needed to starve whoever sends a byte a second.
pub const HEAD_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_secs(10),
    min: Duration::from_millis(100),
    max: Duration::from_mins(5),
};

/// Time between two reads of a body: a pause, not the whole upload.
pub const BODY_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_secs(30),
    min: Duration::from_millis(100),
    max: Duration::from_mins(10),
};

/// Longer than the minute that load balancers and SDK pools keep connections, so that the
/// other side closes first and no request meets a closing connection.
pub const IDLE_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_secs(75),
    min: SECOND,
    max: Duration::from_hours(1),
};

/// Nothing needs to notice by default; behind a load balancer some seconds do.
pub const DRAIN_DELAY: Bound<Duration> = Bound {
    default: Duration::ZERO,
    min: Duration::ZERO,
    max: Duration::from_mins(5),
};

/// Long answers of reasoning models take minutes; an hour is longer than any supervisor waits.
pub const DRAIN_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_mins(5),
    min: Duration::ZERO,
    max: Duration::from_hours(1),
};

/// Providers answer a SYN within a few hundred milliseconds; the maximum is where the system
/// gives up by itself. Zero is no limit, here and in the three below.
pub const CONNECT_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_secs(3),
    min: Duration::ZERO,
    max: Duration::from_mins(2),
};

/// Reasoning models think for minutes before their first byte.
pub const FIRST_BYTE_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_mins(10),
    min: Duration::ZERO,
    max: Duration::from_hours(24),
};

/// Pause within an answer: providers send pings well within five minutes.
pub const UPSTREAM_IDLE_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::from_mins(5),
    min: Duration::ZERO,
    max: Duration::from_hours(24),
};

/// No limit on a whole attempt: a stream may go on for as long as it moves.
pub const TOTAL_TIMEOUT: Bound<Duration> = Bound {
    default: Duration::ZERO,
    min: Duration::ZERO,
    max: Duration::from_hours(24),
};

/// Milliseconds between grouped `fdatasync` calls: what a power cut may cost. Under 1 there is
/// no group; over a minute nobody wants.
pub const LOG_SYNC_MS: Bound<u64> = Bound {
    default: 200,
    min: 1,
    max: 60_000,
};

/// Age at which sealed bodies are compressed: after an hour they are rarely read.
pub const LOG_COMPRESS_AFTER: Bound<Duration> = Bound {
    default: Duration::from_hours(1),
    min: Duration::ZERO,
    max: Duration::from_hours(24 * 365),
};

/// How long records and bodies are kept: by default for ever, since nobody likes to lose what he did
/// not say may go. A hundred years are for ever, too.
pub const LOG_RETENTION: Bound<Duration> = Bound {
    default: Duration::ZERO,
    min: Duration::ZERO,
    max: Duration::from_hours(24 * 36_500),
};

/// How many bytes the log may have on disk: by default as many as there are. A pebibyte is more
/// than a machine has.
pub const LOG_BYTES_MAX: Bound<u64> = Bound {
    default: 0,
    min: 0,
    max: 1 << 50,
};

/// Memory of the response cache, all shards together: some ten thousand answers of a usual size.
/// Zero switches it off. A tebibyte is more than a machine has to spare.
pub const CACHE_MEMORY: Bound<u64> = Bound {
    default: 256 * MIB,
    min: 0,
    max: 1 << 40,
};

/// How long a stream can be resumed; the contract keeps a run for 330 s. It is memory, so the
/// maximum is an hour; zero switches it off.
pub const RESUME_FOR: Bound<Duration> = Bound {
    default: Duration::ZERO,
    min: Duration::ZERO,
    max: Duration::from_hours(1),
};

/// Shards: the rings between them grow with the square, and 256 is more cores than one
/// listener needs.
pub const SHARDS: RangeInclusive<u64> = 1..=256;

/// Weight of one credential among several.
pub const WEIGHT: RangeInclusive<u64> = 1..=1000;

/// Seconds in fields of gateways (`cache_ttl`, intervals, windows): ten years, so that sums of
/// times never overflow.
pub const SECONDS: RangeInclusive<u64> = 0..=315_360_000;

/// Counts in fields of gateways (requests, model tokens): a million millions.
pub const COUNT: RangeInclusive<u64> = 0..=1_000_000_000_000;

/// `retry_max_attempts` (management contract section 2).
pub const RETRY_ATTEMPTS: RangeInclusive<u64> = 1..=5;

/// `retry_delay` in milliseconds (management contract section 2).
pub const RETRY_DELAY_MS: RangeInclusive<u64> = 0..=60_000;

/// `log_management`: stored records of a gateway (management contract section 2).
pub const LOG_MANAGEMENT: RangeInclusive<u64> = 10_000..=10_000_000;

/// `logpush_public_key` in characters (management contract section 2).
pub const PUBLIC_KEY_CHARS: RangeInclusive<usize> = 16..=1024;

/// Rules of `spend_limits` (management contract section 2); ours follow it.
pub const RULES_MAX: usize = 20;

/// Addresses to listen on: each takes a socket in every shard.
pub const LISTEN_MAX: usize = 16;

/// Further names in `hosts`: compared one by one.
pub const HOSTS_MAX: usize = 64;

/// Tokens in the file. Those made at run time live in the database, which has no such bound.
pub const TOKENS_MAX: usize = 10_000;

/// Gateways in the file; a snapshot compiles them all on every reload.
pub const GATEWAYS_MAX: usize = 10_000;

/// Credentials of one provider.
pub const CREDENTIALS_MAX: usize = 64;

/// Extra headers of a custom provider or an exporter: they are written into each request.
pub const HEADERS_MAX: usize = 32;

/// Values of a filter, profiles of a policy and similar lists within a gateway.
pub const LIST_MAX: usize = 256;

/// The file itself: the largest sensible one, with thousands of prices, is under 1 MB.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Problems reported at once. A file with more has one cause, and a screen has no more lines.
pub const PROBLEMS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_bound() {
        for bound in [
            HEAD_BYTES,
            BODY_BYTES,
            GATHER_BYTES,
            LOG_SYNC_MS,
            LOG_BYTES_MAX,
            CACHE_MEMORY,
        ] {
            assert!(bound.holds(&bound.default), "{bound:?}");
        }
        for bound in [
            HEAD_TIMEOUT,
            BODY_TIMEOUT,
            IDLE_TIMEOUT,
            DRAIN_DELAY,
            DRAIN_TIMEOUT,
            CONNECT_TIMEOUT,
            FIRST_BYTE_TIMEOUT,
            UPSTREAM_IDLE_TIMEOUT,
            TOTAL_TIMEOUT,
            LOG_COMPRESS_AFTER,
            LOG_RETENTION,
            RESUME_FOR,
        ] {
            assert!(bound.holds(&bound.default), "{bound:?}");
        }
    }
}
