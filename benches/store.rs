//! The log store as a whole: what it takes in, how fast columns are scanned, how long it takes to
//! be ready behind a large log.
//!
//! `cargo bench --bench store [-- GIGABYTES]`; prints one line for each figure.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench, which may fail, sleep, touch files and print rounded figures"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use tidegate::{
    control::{
        data_dir::DataDir,
        logs::{
            self, LogOptions,
            filter::Filter,
            frame::{self, FrameBuffer, Kind},
            query::{
                group::{GroupKey, Part, Wanted},
                select::Limit,
                sums::{GroupOf, GroupOrder, group},
            },
            seal::seal_journal,
            segment::{Appender, LogDir, write_at},
            snapshot::{LogReader, LogSnapshot},
        },
    },
    domain::record::{Record, TEXTS, Text, Texts},
    handoff::log_queue::LogSender,
};

/// Records a second that two shards send.
const RATE: u64 = 200_000;

/// For how long.
const SECONDS: u64 = 5;

const MODELS: [&str; 5] = [
    "openai/gpt-4o-mini",
    "openai/gpt-4o",
    "anthropic/claude-sonnet-4.5",
    "google/gemini-2.5-flash",
    "mistral/mistral-large",
];

fn record(n: u64) -> Box<Record> {
    let model = MODELS[usize::try_from(n % 31 % 5).unwrap()];
    let metadata = format!(r#"{{"user":{},"team":"search"}}"#, n % 10_000);
    let request = format!("req_{n:032x}");
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    for (text, value) in [
        (Text::Gateway, "default"),
        (Text::Provider, "openai"),
        (Text::Model, model),
        (Text::ModelName, model),
        (Text::Method, "POST"),
        (Text::Path, "/v1/chat/completions"),
        (Text::UserAgent, "OpenAI/Python 2.1.0"),
        (Text::Metadata, &metadata),
        (Text::Key, "app"),
        (Text::RequestContentType, "application/json"),
        (Text::ResponseContentType, "application/json"),
        (Text::PriceKey, model),
        (Text::UpstreamRequestId, &request),
    ] {
        texts[text as usize] = value.as_bytes();
    }
    let mut id = [7; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Box::new(Record {
        id,
        at_micros: 1_795_000_000_000_000 + n * 5,
        duration_micros: 812_345 + n % 1_000_000,
        first_byte_micros: Some(110_000),
        first_token_micros: Some(123_456),
        overhead_micros: 41,
        status: if n.is_multiple_of(50) { 502 } else { 200 },
        request_bytes: 1_024,
        response_bytes: 2_048,
        tokens_input: Some(1_234),
        tokens_output: Some(n % 500),
        cost: Some(377_700_000 + n % 1_000),
        price_table: 9,
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

/// CPU time so far of this process' threads that begin with `logs`.
fn log_threads() -> BTreeMap<String, Duration> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").unwrap() {
        let task = entry.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let time = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let nanos = time.split_ascii_whitespace().next();
        let nanos = nanos.and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        if name.starts_with("logs") {
            found.insert(name.trim().to_owned(), Duration::from_nanos(nanos));
        }
    }
    found
}

/// CPU time of the calling thread so far: on a busy machine a better clock than the wall's.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

fn send(sender: &LogSender, from: u64) {
    let start = Instant::now();
    let rate = RATE / 2;
    let mut sent = 0;
    while sent < rate * SECONDS {
        let due = u64::try_from(start.elapsed().as_micros()).unwrap() * rate / 1_000_000;
        while sent < due.min(rate * SECONDS) {
            sender.record(record(from + sent));
            sent += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
}

fn ingest() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (senders, logs) = logs::start(&data_dir, &LogOptions::new(2)).unwrap();
    let counters: Vec<_> = senders
        .iter()
        .map(|sender| Arc::clone(sender.counters()))
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for (number, sender) in senders.into_iter().enumerate() {
            scope.spawn(move || send(&sender, number as u64 * 1_000_000_000));
        }
    });
    let sent: u64 = counters
        .iter()
        .map(|counters| counters.records_sent())
        .sum();
    while logs.health().records_written() < sent {
        thread::sleep(Duration::from_millis(1));
    }
    let elapsed = start.elapsed().as_secs_f64();
    let dropped: u64 = counters
        .iter()
        .map(|counters| counters.records_dropped())
        .sum();
    println!(
        "ingest: {:.0} records/s, {dropped} of {sent} dropped",
        sent as f64 / elapsed
    );
    // The last journal is sealed a few seconds later.
    thread::sleep(Duration::from_secs(6));
    for (name, time) in log_threads() {
        let micros = time.as_secs_f64() * 1e6 / sent as f64;
        println!("ingest: {micros:.2} µs CPU a record in {name}");
    }
    let reader = LogReader::new(LogDir::of(dir.path())).snapshot().unwrap();
    let blocks = reader.blocks().filter(|block| block.position().sealed);
    let sealed: u64 = blocks.map(|block| block.rows()).sum();
    println!(
        "ingest: {sealed} records sealed so far, {} bytes on disk",
        logs.health().disk_bytes()
    );
    logs.stop();
}

/// Sums the cost of answered exchanges by model, as a question does; gives the rows that were looked
/// at.
fn sum_by_model(snapshot: &LogSnapshot, sums: &mut BTreeMap<Vec<u8>, u128>) -> u64 {
    let filter = Filter::parse("status:200", 0).unwrap();
    let of = GroupOf {
        keys: vec![GroupKey::Text(Text::ModelName)],
        wanted: Wanted {
            classes: false,
            tokens: false,
            cost: true,
            times: [false; 3],
        },
        order: GroupOrder::Name,
        top: None,
    };
    let grouped = group(snapshot, &filter, &of, Limit::default());
    for group in grouped.groups {
        let Some(Part::Text(model)) = group.parts.into_iter().next() else {
            continue;
        };
        sums.insert(model, group.totals.cost);
    }
    grouped.report.records
}

/// Makes sealed files of `bytes` in all; gives the records in them and the CPU time of sealing.
fn generate(log: &LogDir, bytes: u64) -> (u64, Duration) {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let (mut count, mut written, mut spent) = (0u64, 0, Duration::ZERO);
    for number in 1.. {
        let path = log.journal(number);
        let day = 1_795_000_000_000_000;
        let mut appender = Appender::create(&path, Kind::Rows, day, write_at()).unwrap();
        let mut buffer = FrameBuffer::new();
        for _ in 0..64 {
            let records: Vec<_> = (count..count + 1_024).map(record).collect();
            let (mut frame, header) = frame::encode_rows(&records, buffer).unwrap();
            appender.append(&mut frame, header).unwrap();
            buffer = frame;
            count += 1_024;
        }
        drop(appender);
        let start = cpu();
        seal_journal(log, number, &path, &mut Vec::new(), &NEVER).unwrap();
        spent += cpu().saturating_sub(start);
        fs::remove_file(&path).unwrap();
        written += fs::metadata(log.sealed_file(number, number, day))
            .unwrap()
            .len();
        if written >= bytes {
            break;
        }
    }
    (count, spent)
}

fn timed<T>(name: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    let elapsed = start.elapsed();
    println!("{name}: {elapsed:.1?}");
    (value, elapsed)
}

fn large(dir: &Path, bytes: u64) {
    let log = LogDir::of(dir);
    let (count, sealing) = generate(&log, bytes);
    let files = log.record_files().unwrap().sealed.len();
    println!("store: {count} records in {files} files, {bytes} bytes");
    println!(
        "seal: {:.2} µs of CPU a record",
        sealing.as_secs_f64() * 1e6 / count as f64
    );
    let data_dir = DataDir::lock(dir).unwrap();
    let ((senders, logs), _) = timed("start of the log", || {
        logs::start(&data_dir, &LogOptions::new(2)).unwrap()
    });
    drop(senders);
    logs.stop();
    let mut reader = LogReader::new(log);
    let (snapshot, _) = timed("first snapshot", || reader.snapshot().unwrap());
    timed("next snapshot", || reader.snapshot().unwrap());
    let before = cpu();
    let opened = snapshot.blocks().filter(|at| at.open().is_ok()).count();
    println!(
        "open {opened} blocks: {:.1?} of CPU",
        cpu().saturating_sub(before)
    );
    let mut best = Duration::MAX;
    for round in 0..8 {
        let mut sums = BTreeMap::new();
        let start = cpu();
        let rows = sum_by_model(&snapshot, &mut sums);
        let elapsed = cpu().saturating_sub(start);
        assert_eq!((rows, sums.len()), (count, MODELS.len()));
        let rate = rows as f64 / elapsed.as_secs_f64() / 1e6;
        if round == 0 {
            println!("scan, verifying what it touches: {elapsed:.1?} of CPU, {rate:.0} M rows/s");
        }
        best = best.min(elapsed);
    }
    let rate = count as f64 / best.as_secs_f64() / 1e6;
    println!("scan, verified before: {best:.1?} of CPU, {rate:.0} M rows/s");
}

fn main() {
    let gigabytes = std::env::args().find_map(|arg| arg.parse::<u64>().ok());
    ingest();
    let dir = tempfile::tempdir_in(".").unwrap();
    large(dir.path(), gigabytes.unwrap_or(1) << 30);
}
