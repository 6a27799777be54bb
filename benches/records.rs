//! The record path in functions: a record into its frame, over the queue, onto the disk, back.
//!
//! `cargo bench --bench records`; times are for one record unless the name says otherwise.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench, which may fail and may touch files"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::{
    control::{
        data_dir::DataDir,
        logs::{
            self, LogOptions,
            filter::Filter,
            frame::{self, FrameBuffer, Kind},
            query::{self, Order},
            recovery,
            segment::{Appender, LogDir, write_at},
        },
    },
    domain::{
        id::{RequestId, RequestIds},
        record::{Record, TEXTS, Texts},
    },
    handoff::{
        body_parts::{BodyCursor, Direction},
        log_queue::{LogMessage, log_queue},
    },
};

/// Records of a frame in these benches: what a busy shard makes in 2 ms.
const ROWS: u64 = 64;

fn texts() -> Texts {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    for (index, text) in [
        "default",
        "openai",
        "gpt-4o-mini",
        "openai/gpt-4o-mini",
        "POST",
        "/v1/chat/completions",
        "OpenAI/Python 2.1.0",
        r#"{"user":42,"team":"search"}"#,
        "",
        "app",
        "application/json",
        "application/json",
        "",
        "",
        "openai/gpt-4o-mini",
        "req_0123456789abcdef0123456789abcdef",
    ]
    .iter()
    .enumerate()
    {
        texts[index] = text.as_bytes();
    }
    Texts::pack(&texts)
}

fn record(n: u64) -> Box<Record> {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Box::new(Record {
        id,
        at_micros: 1_795_000_000_000_000 + n,
        duration_micros: 812_345,
        first_token_micros: Some(123_456),
        status: 200,
        tokens_input: Some(1_234),
        tokens_output: Some(321),
        cost: Some(377_700_000),
        texts: texts(),
        ..Record::default()
    })
}

fn encode(c: &mut Criterion) {
    let records: Vec<_> = (0..ROWS).map(record).collect();
    let mut group = c.benchmark_group("records");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make", |b| b.iter(|| record(black_box(1))));
    group.throughput(Throughput::Elements(ROWS));
    let mut buffer = FrameBuffer::new();
    group.bench_function("encode frame of 64", |b| {
        b.iter(|| {
            let (mut frame, header) =
                frame::encode_rows(&records, std::mem::take(&mut buffer)).unwrap();
            frame::seal(&mut frame, header, 640);
            buffer = black_box(frame);
        });
    });
    let dir = tempfile::tempdir().unwrap();
    let path = LogDir::of(dir.path()).journal(1);
    let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
    group.bench_function("encode and write frame of 64", |b| {
        b.iter(|| {
            let (mut frame, header) =
                frame::encode_rows(&records, std::mem::take(&mut buffer)).unwrap();
            appender.append(&mut frame, header).unwrap();
            if appender.offset() > 64 << 20 {
                std::fs::remove_file(&path).unwrap();
                appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
            }
            buffer = frame;
        });
    });
    group.finish();
}

fn hand_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    let (mut senders, receiver) = log_queue(1).unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("send and take", |b| {
        b.iter_batched(
            || record(1),
            |record| {
                assert!(senders[0].record(record));
                match receiver.take(0) {
                    Some(LogMessage::Record(record)) => record,
                    Some(LogMessage::Bodies(_)) | None => unreachable!(),
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut ids = RequestIds::new([1; 6]);
    let body = [b'x'; 1024];
    group.bench_function("bodies of an exchange, 1 KiB each way", |b| {
        b.iter(|| {
            let id: RequestId = ids.next(1);
            for direction in [Direction::Request, Direction::Response] {
                let mut cursor = BodyCursor::new(id, direction);
                senders[0].body(&mut cursor, black_box(&body));
                senders[0].end_body(&mut cursor);
            }
            while let Some(LogMessage::Bodies(chunk)) = receiver.take(0) {
                receiver.give_back(0, chunk);
            }
        });
    });
    group.finish();
}

/// A store of a full journal: 64 MiB of frames of 64.
fn store() -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = LogDir::of(dir.path()).journal(1);
    let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
    let mut count = 0;
    while appender.offset() < 64 << 20 {
        let records: Vec<_> = (count..count + ROWS).map(record).collect();
        let (mut frame, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
        appender.append(&mut frame, header).unwrap();
        count += ROWS;
    }
    (dir, count)
}

fn read(c: &mut Criterion) {
    let (dir, count) = store();
    let log = LogDir::of(dir.path());
    let mut group = c.benchmark_group("store");
    group.sample_size(20);
    group.bench_function("recover behind a 64 MiB journal (whole)", |b| {
        b.iter(|| recovery::recover(&log).unwrap());
    });
    group.throughput(Throughput::Elements(count));
    let filter = Filter::parse("status:5xx model:gpt-*", 0).unwrap();
    group.bench_function("scan a 64 MiB journal with a filter", |b| {
        b.iter(|| {
            let mut found = 0;
            let mut visit = |record: &_| {
                found += u32::from(filter.matches(record));
                std::ops::ControlFlow::Continue(())
            };
            query::scan(&log, Order::OldestFirst, &(0..=u64::MAX), None, &mut visit).unwrap();
            found
        });
    });
    group.bench_function("newest 20 (whole)", |b| {
        b.iter(|| query::newest(&log, &Filter::default(), 20, None).unwrap());
    });
    group.finish();

    // Through the threads: as fast as the queue takes them.
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
    let mut group = c.benchmark_group("writer");
    group.throughput(Throughput::Elements(1));
    group.bench_function("records through the thread", |b| {
        b.iter_custom(|count| {
            let written = logs.health().records_written();
            let start = std::time::Instant::now();
            for n in 0..count {
                while !senders[0].record(record(n)) {
                    std::thread::yield_now();
                }
            }
            while logs.health().records_written() < written + count {
                std::thread::yield_now();
            }
            start.elapsed()
        });
    });
    group.bench_function("one record until it is safe from a kill", |b| {
        b.iter_custom(|count| {
            let start = std::time::Instant::now();
            for n in 0..count {
                let written = logs.health().records_written();
                assert!(senders[0].record(record(n)));
                while logs.health().records_written() == written {
                    std::thread::yield_now();
                }
            }
            start.elapsed()
        });
    });
    group.finish();
    drop(senders);
    logs.stop();
}

criterion_group!(benches, encode, hand_over, read);
criterion_main!(benches);
