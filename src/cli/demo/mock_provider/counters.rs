//! What was seen: counts, the newest requests, and the streams that peers broke off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::digest::Sha256;
use super::peer::Peers;
use super::request::{Body, Head, SMALL_MAX};
use super::send::{End, Sent, micros_now};

/// All of it, behind one lock that is held for a few stores at a time.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tallies: BTreeMap<(&'static str, &'static str), Tally>,
    /// Requests that were not HTTP as a provider accepts it.
    bad_requests: u64,
    /// Requests whose peer left before the end of the body.
    cut_requests: u64,
    in_flight: u64,
    aborted: u64,
    aborts: VecDeque<Value>,
    websocket_frames: u64,
    log: VecDeque<Entry>,
    /// The number of the next request.
    next: u64,
    /// How often each command with `first` came.
    firsts: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    completed: u64,
    cut: u64,
    aborted: u64,
    input_tokens: u64,
    output_tokens: u64,
    request_bytes: u64,
    response_bytes: u64,
}

/// A request as it came.
#[derive(Debug)]
struct Entry {
    connection: u64,
    at_micros: u64,
    provider: &'static str,
    endpoint: &'static str,
    head: Box<[u8]>,
    body_start: Box<[u8]>,
    body_bytes: u64,
    body_chunks: u64,
    body_sha256: Option<String>,
    status: u16,
    sent: Option<Sent>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Running {
    number: u64,
    provider: &'static str,
    endpoint: &'static str,
    since: Instant,
}

impl Counters {
    /// Notes a request that was read as far as it goes before its answer.
    pub(super) fn begin(
        &self,
        connection: u64,
        (provider, endpoint): (&'static str, &'static str),
        head: &Head,
        body: &Body,
    ) -> Running {
        let start = |bytes: &[u8], max: usize| Box::from(&bytes[..bytes.len().min(max)]);
        let entry = Entry {
            connection,
            at_micros: micros_now(),
            provider,
            endpoint,
            head: start(&head.raw, LOGGED_HEAD_MAX),
            body_start: start(&body.kept, SMALL_MAX),
            body_bytes: body.len,
            body_chunks: body.chunks,
            body_sha256: body.sha256.clone(),
            status: 0,
            sent: None,
        };
        let mut inner = self.lock();
        inner.in_flight += 1;
        let tally = inner.tallies.entry((provider, endpoint)).or_default();
        tally.requests += 1;
        tally.request_bytes += body.len;
        let number = inner.next;
        inner.next += 1;
        if inner.log.len() == LOG_ENTRIES {
            inner.log.pop_front();
        }
        inner.log.push_back(entry);
        Running {
            number,
            provider,
            endpoint,
            since: Instant::now(),
        }
    }

    /// Notes how the answer ended; tokens count if it was complete.
    pub(super) fn end(
        &self,
        running: &Running,
        status: u16,
        sent: Sent,
        tokens: (u64, u64),
        closing: bool,
    ) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.in_flight = inner.in_flight.saturating_sub(1);
        let tally = inner
            .tallies
            .entry((running.provider, running.endpoint))
            .or_default();
        tally.response_bytes += sent.body_bytes;
        match sent.end {
            End::Complete { .. } => {
                tally.completed += 1;
                tally.input_tokens = tally.input_tokens.saturating_add(tokens.0);
                tally.output_tokens = tally.output_tokens.saturating_add(tokens.1);
            }
            End::Cut { .. } => tally.cut += 1,
            // Stopping ourselves is nobody's abort.
            End::Aborted if closing => {}
            End::Aborted => {
                tally.aborted += 1;
                inner.aborted += 1;
                if inner.aborts.len() == ABORT_ENTRIES {
                    inner.aborts.pop_front();
                }
                inner.aborts.push_back(json!({
                    "request": running.number,
                    "provider": running.provider,
                    "endpoint": running.endpoint,
                    "at_micros": micros_now(),
                    "after_micros": micros(running.since.elapsed()),
                    "body_bytes_sent": sent.body_bytes,
                    "events_sent": sent.events,
                }));
            }
        }
        let first = inner.next - inner.log.len() as u64;
        let at = running
            .number
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| inner.log.get_mut(at)) {
            entry.status = status;
            entry.sent = Some(sent);
        }
    }

    pub(super) fn bad_request(&self) {
        self.lock().bad_requests += 1;
    }

    pub(super) fn cut_request(&self) {
        self.lock().cut_requests += 1;
    }

    pub(super) fn websocket_frame(&self) {
        self.lock().websocket_frames += 1;
    }

    /// Whether fewer than `max` requests with these commands came so far; counts this one.
    pub(super) fn is_among_first(&self, commands: &str, max: u64) -> bool {
        let mut inner = self.lock();
        if inner.firsts.len() >= FIRSTS_MAX && !inner.firsts.contains_key(commands) {
            return false;
        }
        let count = inner.firsts.entry(commands.to_owned()).or_default();
        *count += 1;
        *count <= max
    }

    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        // Numbers and what is under way go on; the answers still to come need both.
        *inner = Inner {
            next: inner.next,
            in_flight: inner.in_flight,
            ..Inner::default()
        };
    }

    /// `GET /__mock/counters`.
    pub(super) fn report(&self, peers: &Peers) -> Value {
        let (accepted, refused, open) = peers.counts();
        let inner = self.lock();
        let mut providers = Map::new();
        let mut total = Tally::default();
        for ((provider, endpoint), tally) in &inner.tallies {
            total.add(tally);
            let entry = providers.entry(*provider).or_insert_with(|| json!({}));
            entry[*endpoint] = tally.report();
        }
        json!({
            "providers": providers,
            "total": total.report(),
            "in_flight": inner.in_flight,
            "bad_requests": inner.bad_requests,
            "cut_requests": inner.cut_requests,
            "websocket_frames": inner.websocket_frames,
            "connections": { "accepted": accepted, "refused": refused, "open": open },
            "aborted_by_peer": { "count": inner.aborted, "newest": inner.aborts },
        })
    }

    /// `GET /__mock/requests?last=N`.
    pub(super) fn requests(&self, last: usize) -> Value {
        let inner = self.lock();
        let skipped = inner.log.len().saturating_sub(last);
        let first = inner.next - inner.log.len() as u64;
        let entries: Vec<Value> = (first..)
            .zip(&inner.log)
            .skip(skipped)
            .map(|(number, entry)| entry.report(number))
            .collect();
        json!({ "requests": entries })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.completed += other.completed;
        self.cut += other.cut;
        self.aborted += other.aborted;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
    }

    fn report(&self) -> Value {
        json!({
            "requests": self.requests,
            "completed": self.completed,
            "cut": self.cut,
            "aborted_by_peer": self.aborted,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
        })
    }
}

impl Entry {
    fn report(&self, number: u64) -> Value {
        let mut fields = [httparse::EMPTY_HEADER; LOGGED_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        // It was read before; only a head beyond LOGGED_HEAD_MAX is cut short here.
        let _ = request.parse(&self.head);
        let headers: Vec<Value> = request
            .headers
            .iter()
            .filter(|field| !field.name.is_empty())
            .map(|field| json!([field.name, latin1(field.value)]))
            .collect();
        let mut start = self.head.splitn(3, |b| *b == b' ');
        let (method, path) = (
            start.next().unwrap_or_default(),
            start.next().unwrap_or_default(),
        );
        let sha256 = self
            .body_sha256
            .clone()
            .unwrap_or_else(|| Sha256::of(&self.body_start));
        let outcome = match self.sent.map(|sent| sent.end) {
            None => "running",
            Some(End::Complete { .. }) => "completed",
            Some(End::Cut { .. }) => "cut",
            Some(End::Aborted) => "aborted_by_peer",
        };
        json!({
            "number": number,
            "connection": self.connection,
            "at_micros": self.at_micros,
            "provider": self.provider,
            "endpoint": self.endpoint,
            "method": latin1(method),
            "path": latin1(path),
            "headers": headers,
            "body_bytes": self.body_bytes,
            "body_chunks": self.body_chunks,
            "body_sha256": sha256,
            "body": String::from_utf8_lossy(&self.body_start),
            "outcome": outcome,
            "status": self.status,
            "response_bytes": self.sent.map(|sent| sent.body_bytes),
            "response_events": self.sent.map(|sent| sent.events),
        })
    }
}

/// Each byte as the character of its number, so that every byte can be told from the text.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Requests kept for inspection: a test's worth, and a few megabytes at most.
const LOG_ENTRIES: usize = 1024;

/// Bytes of a head that are kept.
const LOGGED_HEAD_MAX: usize = 16 * 1024;

/// Fields of a head that are shown.
const LOGGED_FIELDS_MAX: usize = 256;

/// Aborts kept for inspection.
const ABORT_ENTRIES: usize = 256;

/// Different commands with `first` that are told apart between two resets.
const FIRSTS_MAX: usize = 4096;
