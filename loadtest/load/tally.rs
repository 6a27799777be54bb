//! What a run saw, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::wire::Fault;

/// Counts and distributions of one run. Times are nanoseconds.
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) body_bytes: u64,
    pub(crate) events: u64,
    pub(crate) left: u64,
    faults: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<u16, u64>,
    latency: Histogram<u64>,
    first_byte: Histogram<u64>,
    event_delay: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            body_bytes: 0,
            events: 0,
            left: 0,
            faults: BTreeMap::new(),
            statuses: BTreeMap::new(),
            latency: histogram(),
            first_byte: histogram(),
            event_delay: histogram(),
        }
    }

    /// Counts an answer that was right.
    pub(crate) fn answered(&mut self, body_bytes: u64, latency: Duration, first_byte: Duration) {
        self.requests += 1;
        self.body_bytes += body_bytes;
        self.latency.saturating_record(nanos(latency));
        self.first_byte.saturating_record(nanos(first_byte));
    }

    /// Counts an event that arrived `delay` after its stamp.
    pub(crate) fn event(&mut self, delay: Duration) {
        self.events += 1;
        self.event_delay.saturating_record(nanos(delay));
    }

    /// Counts an exchange that failed.
    pub(crate) fn failed(&mut self, fault: Fault) {
        if fault == Fault::Left {
            self.left += 1;
            return;
        }
        if let Fault::Status(status) = fault {
            *self.statuses.entry(status).or_default() += 1;
        }
        self.failed_as(fault.name(), 1);
    }

    /// Counts `count` failures that have no fault of their own.
    pub(crate) fn failed_as(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            *self.faults.entry(name).or_default() += count;
        }
    }

    /// The report, for a run that took `took`.
    pub(crate) fn report(&self, took: Duration) -> Value {
        let seconds = took.as_secs_f64().max(1e-9);
        json!({
            "requests": self.requests,
            "errors": self.faults.values().sum::<u64>(),
            "faults": self.faults,
            "statuses": self.statuses.iter().map(|(k, v)| (k.to_string(), *v)).collect::<BTreeMap<_, _>>(),
            "left": self.left,
            "seconds": rounded(seconds),
            "requests_per_second": rounded(self.requests as f64 / seconds),
            "body_bytes": self.body_bytes,
            "events": self.events,
            "events_per_second": rounded(self.events as f64 / seconds),
            "latency_us": percentiles(&self.latency),
            "first_byte_us": percentiles(&self.first_byte),
            "event_delay_us": percentiles(&self.event_delay),
        })
    }
}

fn percentiles(of: &Histogram<u64>) -> Value {
    if of.is_empty() {
        return Value::Null;
    }
    let at = |quantile| rounded(of.value_at_quantile(quantile) as f64 / 1e3);
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99_9": at(0.999), "max": at(1.0),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// From 100 ns to ten minutes, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("the bounds are in order")
}
