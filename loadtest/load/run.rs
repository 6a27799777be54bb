//! Sends requests in a closed or an open loop, checks every byte of every answer, and reports
//! rates, latencies and the delay of events.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use memchr::memmem;
use quanta::Instant;

use super::clock::{Alarm, stamp_micros};
use super::document::{DONE_EVENT, Document, EVENTS_MAX, Event, USAGE_EVENT};
use super::place::{LoadError, Report, duration};
use super::tally::Tally;
use super::target::{Target, TargetOptions};
use super::wire::{Fault, Link};

/// Options of `load run`.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Options {
    #[command(flatten)]
    target: TargetOptions,
    /// Connections, each with one exchange at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How long to start new requests.
    #[arg(long, default_value = "3s", value_parser = duration)]
    duration: Duration,
    /// Stop after so many requests, if that comes first.
    #[arg(long)]
    requests: Option<u64>,
    /// `closed`: the next request when the last was answered. `open`: at `--rate`, whatever the
    /// answers do; latency counts from the moment a request was due.
    #[arg(long, value_enum, default_value_t = Mode::Closed)]
    mode: Mode,
    /// Requests a second of the open loop.
    #[arg(long)]
    rate: Option<u64>,
    /// Bytes of a request body.
    #[arg(long, default_value_t = 1024)]
    body_size: u64,
    /// Bytes of a JSON answer.
    #[arg(long, default_value_t = 1024)]
    answer_size: u64,
    /// Microseconds that the upstream waits before a JSON answer.
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// Send another body each time: a number in its text.
    #[arg(long)]
    distinct: bool,
    /// Ask for event streams.
    #[arg(long)]
    stream: bool,
    /// Events of a stream.
    #[arg(long, default_value_t = 100)]
    events: u64,
    /// Microseconds between two events.
    #[arg(long, default_value_t = 2_000)]
    gap_us: u64,
    /// Leave every Nth exchange in the middle: a JSON exchange once its request is sent, a stream
    /// at half its events.
    #[arg(long, default_value_t = 0)]
    leave_every: u64,
    /// Check status and framing only, for upstreams with answers of their own.
    #[arg(long)]
    any_answer: bool,
    /// Indent the report.
    #[arg(long)]
    pretty: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Closed,
    Open,
}

/// Runs the load and reports.
pub(crate) async fn run(options: Options) -> Report {
    let job = Rc::new(Job::new(&options)?);
    let workers: Vec<_> = (0..options.connections.clamp(1, CONNECTIONS_MAX))
        .map(|_| monoio::spawn(worker(Rc::clone(&job))))
        .collect();
    let all = async {
        for worker in workers {
            worker.await;
        }
    };
    let in_time = monoio::time::timeout(options.duration + GRACE, all)
        .await
        .is_ok();

    let mut tally = job.tally.borrow_mut();
    if !in_time {
        tally.failed_as("unfinished", job.in_flight.get());
    }
    tally.failed_as("never sent", job.never_sent());
    let report = tally.report(job.start.elapsed());
    let text = if options.pretty {
        format!("{report:#}")
    } else {
        report.to_string()
    };
    Ok(text)
}

/// What all connections of a run share.
struct Job {
    target: Target,
    request: Vec<u8>,
    /// Where a number goes that makes each request another one.
    number_at: Option<usize>,
    expected: Expected,
    pace: Pace,
    start: Instant,
    end: Instant,
    leave_every: u64,
    issued: Cell<u64>,
    issued_max: u64,
    in_flight: Cell<u64>,
    tally: RefCell<Tally>,
}

enum Expected {
    Anything,
    Json(Vec<u8>),
    Events(u64),
}

enum Pace {
    Closed,
    Open { rate: u64 },
}

impl Job {
    fn new(options: &Options) -> Result<Self, LoadError> {
        let target = options.target.check()?;
        let body = Document::request(options.body_size.min(BODY_BYTES_MAX), options.stream);
        let answer = Document::answer(options.answer_size.min(BODY_BYTES_MAX));
        let events = options.events.min(EVENTS_MAX);
        let query = if options.stream {
            format!("events={events}&gap_us={}", options.gap_us)
        } else {
            let delay = match options.delay_us {
                0 => String::new(),
                delay => format!("&delay_us={delay}"),
            };
            format!("size={}{delay}", answer.len())
        };
        let mut request = target.head(&query, body.len());
        let filler = body.filler();
        let room = options.distinct && filler.end - filler.start >= NUMBER_BYTES;
        let filler_start = usize::try_from(filler.start).ok().filter(|_| room);
        let number_at = filler_start.map(|start| request.len() + start);
        request.extend(body.pieces().flatten());
        let expected = match (options.any_answer, options.stream) {
            (true, _) => Expected::Anything,
            (false, true) => Expected::Events(events),
            (false, false) => Expected::Json(answer.to_vec()),
        };
        let (pace, issued_max) = match options.mode {
            Mode::Closed => (Pace::Closed, u64::MAX),
            Mode::Open => {
                let rate = options.rate.filter(|rate| *rate > 0);
                let rate = rate.ok_or(LoadError::Missing("--rate with --mode open"))?;
                (Pace::Open { rate }, due_within(rate, options.duration))
            }
        };
        let start = Instant::now();
        Ok(Self {
            target,
            request,
            number_at,
            expected,
            pace,
            start,
            end: start + options.duration,
            leave_every: options.leave_every,
            issued: Cell::new(0),
            issued_max: issued_max.min(options.requests.unwrap_or(u64::MAX)),
            in_flight: Cell::new(0),
            tally: RefCell::new(Tally::new()),
        })
    }

    /// Waits until the next request is due, and says since when; `None` when the run is over.
    async fn next(&self, alarm: &Alarm) -> Option<Due> {
        let number = self.issued.get();
        if number >= self.issued_max {
            return None;
        }
        let now = Instant::now();
        let since = match self.pace {
            Pace::Closed => (now < self.end).then_some(now)?,
            Pace::Open { rate } => {
                // Late requests are still sent, so that the wait shows, but not for ever.
                if now > self.end + CATCH_UP {
                    return None;
                }
                self.start + Duration::from_nanos(nanos_until(number, rate))
            }
        };
        self.issued.set(number + 1);
        if since > now {
            alarm.sleep(since - now).await.ok()?;
        }
        Some(Due {
            number,
            since,
            leaves: self.leave_every > 0 && number % self.leave_every == self.leave_every - 1,
        })
    }

    /// Requests of an open loop that were due but for which no connection came free.
    fn never_sent(&self) -> u64 {
        match self.pace {
            Pace::Closed => 0,
            Pace::Open { .. } => self.issued_max - self.issued.get(),
        }
    }
}

#[derive(Clone, Copy)]
struct Due {
    number: u64,
    since: Instant,
    leaves: bool,
}

fn due_within(rate: u64, duration: Duration) -> u64 {
    let requests = u128::from(rate) * duration.as_millis() / 1_000;
    u64::try_from(requests).unwrap_or(u64::MAX)
}

fn nanos_until(number: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

/// One connection: exchange after exchange until the run is over or the target stays dead.
async fn worker(job: Rc<Job>) {
    let Ok(alarm) = Alarm::new() else {
        job.tally.borrow_mut().failed_as("no timer", 1);
        return;
    };
    let mut state = Worker {
        link: None,
        request: job.request.clone(),
        events: Events::default(),
    };
    let mut faults_in_a_row = 0;
    while let Some(due) = job.next(&alarm).await {
        job.in_flight.update(|count| count + 1);
        let done = state.exchange(&job, due).await;
        job.in_flight.update(|count| count - 1);
        let Err(fault) = done else {
            faults_in_a_row = 0;
            continue;
        };
        state.link = None;
        job.tally.borrow_mut().failed(fault);
        if fault == Fault::Left {
            continue;
        }
        faults_in_a_row += 1;
        if faults_in_a_row >= FAULTS_IN_A_ROW_MAX {
            return;
        }
        monoio::time::sleep(FAULT_PAUSE).await;
    }
}

struct Worker {
    link: Option<Link>,
    request: Vec<u8>,
    events: Events,
}

impl Worker {
    async fn exchange(&mut self, job: &Job, due: Due) -> Result<(), Fault> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::connect(job.target.address, READ_BYTES).await?,
        };
        let mut request = std::mem::take(&mut self.request);
        if let Some(at) = job.number_at {
            // Behind the head and within the filler.
            let mut rest = &mut request[at..];
            let _ = write!(rest, "{:016x}", due.number);
        }
        let (sent, request) = link.send(request).await;
        self.request = request;
        sent.map_err(|_| Fault::Broken)?;
        if due.leaves && !matches!(job.expected, Expected::Events(_)) {
            return Err(Fault::Left);
        }

        let (head, first) = link.response_head().await?;
        if head.status != 200 {
            return Err(Fault::Status(head.status));
        }
        let bytes = match &job.expected {
            Expected::Anything => link.body(head.framing, |_| Ok(())).await?,
            Expected::Json(expected) => {
                let mut offset = 0;
                let compare = |piece: &[u8]| {
                    let same = expected.get(offset..offset + piece.len()) == Some(piece);
                    offset += piece.len();
                    same.then_some(()).ok_or(Fault::Content)
                };
                let bytes = link.body(head.framing, compare).await?;
                if bytes != expected.len() as u64 {
                    return Err(Fault::Length);
                }
                bytes
            }
            Expected::Events(count) => {
                let leave_at = if due.leaves { count / 2 } else { u64::MAX };
                self.events.begin();
                let events = &mut self.events;
                let look = |piece: &[u8]| {
                    events.take(piece, &mut job.tally.borrow_mut())?;
                    (events.seen <= leave_at).then_some(()).ok_or(Fault::Left)
                };
                let bytes = link.body(head.framing, look).await?;
                self.events.finish(*count)?;
                bytes
            }
        };
        let done = Instant::now();
        job.tally
            .borrow_mut()
            .answered(bytes, done - due.since, first - due.since);
        if head.keep {
            self.link = Some(link);
        }
        Ok(())
    }
}

/// Reads the events of one stream and compares each with what was sent.
#[derive(Default)]
struct Events {
    carry: Vec<u8>,
    seen: u64,
    usage: bool,
    done: bool,
}

impl Events {
    fn begin(&mut self) {
        self.carry.clear();
        self.seen = 0;
        self.usage = false;
        self.done = false;
    }

    fn take(&mut self, piece: &[u8], tally: &mut Tally) -> Result<(), Fault> {
        let now_micros = stamp_micros();
        if self.carry.is_empty() {
            let used = self.take_whole(piece, now_micros, tally)?;
            self.carry.extend_from_slice(&piece[used..]);
            return Ok(());
        }
        self.carry.extend_from_slice(piece);
        let carry = std::mem::take(&mut self.carry);
        let used = self.take_whole(&carry, now_micros, tally)?;
        self.carry = carry;
        self.carry.drain(..used);
        if self.carry.len() > CARRY_BYTES_MAX {
            return Err(Fault::Content);
        }
        Ok(())
    }

    /// Reads the events that are whole; the bytes they take.
    fn take_whole(
        &mut self,
        bytes: &[u8],
        now_micros: u64,
        tally: &mut Tally,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(end) = memmem::find(&bytes[used..], b"\n\n") {
            let event = &bytes[used..used + end + 2];
            used += event.len();
            if let Some((number, sent_micros)) = Event::read(event) {
                if number != self.seen || self.usage {
                    return Err(Fault::Order);
                }
                self.seen += 1;
                tally.event(Duration::from_micros(
                    now_micros.saturating_sub(sent_micros),
                ));
            } else if event == USAGE_EVENT && !self.usage {
                self.usage = true;
            } else if event == DONE_EVENT && self.usage && !self.done {
                self.done = true;
            } else {
                return Err(Fault::Content);
            }
        }
        Ok(used)
    }

    fn finish(&self, expected: u64) -> Result<(), Fault> {
        let complete = self.seen == expected && self.done && self.carry.is_empty();
        complete.then_some(()).ok_or(Fault::Order)
    }
}

const CONNECTIONS_MAX: usize = 20_000;
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Digits that make a body another one.
const NUMBER_BYTES: u64 = 16;

/// One read takes a small answer or a burst of events.
const READ_BYTES: usize = 16 * 1024;

/// An event that does not end within this is not one of ours.
const CARRY_BYTES_MAX: usize = 64 * 1024;

/// How long answers may take after the last request was started.
const GRACE: Duration = Duration::from_secs(30);

/// How long an open loop goes on sending what was due before its end.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A target that fails so often without one answer between stays dead.
const FAULTS_IN_A_ROW_MAX: u32 = 50;
const FAULT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream of `numbers` and the closing events in pieces of `step` bytes.
    #[track_caller]
    fn check(numbers: &[u64], step: usize, expected: Result<(), Fault>) {
        let mut wire = Vec::new();
        for number in numbers {
            let mut event = Event::template();
            Event::fill(&mut event, *number, stamp_micros());
            wire.extend(event);
        }
        wire.extend_from_slice(USAGE_EVENT);
        wire.extend_from_slice(DONE_EVENT);
        let mut tally = Tally::new();
        let mut events = Events::default();
        let read = wire
            .chunks(step)
            .try_for_each(|piece| events.take(piece, &mut tally))
            .and_then(|()| events.finish(3));
        assert_eq!(read, expected);
    }

    #[test]
    fn a_whole_stream_is_right_however_it_is_cut() {
        for step in 1..300 {
            check(&[0, 1, 2], step, Ok(()));
        }
    }

    #[test]
    fn missing_doubled_and_exchanged_events_are_faults() {
        for numbers in [&[0, 1][..], &[0, 1, 1, 2], &[0, 2, 1], &[0, 1, 2, 3]] {
            check(numbers, 64, Err(Fault::Order));
        }
    }
}
