//! Questions to a log store of many records: makes one through the real writers, asks, and tells how
//! long the answers took. `loadtest/scan` drives it beside `DuckDB`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a command-line tool speaks on its standard streams, and prints rates to four digits"
)]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
    time::Instant,
};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tidegate::{
    control::{
        logs::{
            filter::Filter,
            folder::LogDir,
            frame::{self, FrameBuffer, Kind},
            query::{
                group::{Group, GroupKey, Wanted},
                page::{PageOf, page},
                select::Limit,
                sums::{GroupOf, GroupOrder, group},
            },
            seal::seal_journal,
            segment::{Appender, write_at},
            snapshot::{LogReader, LogSnapshot},
        },
        rollup::{
            store::Rollups,
            totals::Time,
            view::{Dimension, Question, ask},
        },
    },
    domain::{
        id::RequestIds,
        money::PicoDollars,
        outcome::Outcome,
        record::{Record, TEXTS, Text, Texts},
    },
};

#[global_allocator]
static ALLOCATOR: tidegate::Allocator = tidegate::Allocator;

/// A log store of many records, and questions to it.
#[derive(Parser)]
#[command(name = "scan", max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a store: records of thirty days, written to journals, sealed, summed up.
    Make {
        /// The data folder; its log must be empty.
        folder: PathBuf,
        /// Records.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// Do not sum the records up: rollups of so varied records take longer than the rest.
        #[arg(long)]
        no_rollups: bool,
    },
    /// Ask each question a few times on one thread; prints JSON.
    Ask {
        /// The data folder.
        folder: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 5)]
        times: usize,
        /// Do not ask rollups, which were not made.
        #[arg(long)]
        no_rollups: bool,
    },
}

type Failure = Box<dyn Error>;

/// Records of a journal that is made.
const JOURNAL_ROWS: u64 = 65_536;

/// 2026-10-22T00:00:00Z, in microseconds; thirty days follow.
const START: u64 = 1_792_627_200_000_000;
const DAY: u64 = 86_400_000_000;
const DAYS: u64 = 30;

/// Where the filtered day lies.
const FILTERED: &str = "status:5xx model:gpt-4o-mini after:2026-11-15 before:2026-11-16";
const SUMMED: &str = "model:gpt-4o-mini";

fn main() -> ExitCode {
    let done = match Command::parse().verb {
        Verb::Make {
            folder,
            rows,
            no_rollups,
        } => make(&folder, rows, no_rollups),
        Verb::Ask {
            folder,
            times,
            no_rollups,
        } => questions(&folder, times, no_rollups),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scan: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &Path, rows: u64, no_rollups: bool) -> Result<(), Failure> {
    let log = LogDir::of(folder);
    fs::create_dir_all(log.path())?;
    if log.record_files()?.next_journal() != 1 {
        return Err("there are records in this folder already".into());
    }
    let started = Instant::now();
    let never = AtomicBool::new(false);
    let mut maker = Maker::new(rows);
    let mut number = 0;
    while maker.made < rows {
        number += 1;
        let path = log.journal(number);
        let mut appender = Appender::create(&path, Kind::Rows, START, write_at())?;
        let mut buffer = FrameBuffer::new();
        let end = rows.min(maker.made + JOURNAL_ROWS);
        while maker.made < end {
            let batch = (end - maker.made).min(4_096);
            let records: Vec<_> = (0..batch).map(|_| Box::new(maker.next())).collect();
            let (mut frame, header) =
                frame::encode_rows(&records, buffer).ok_or("a frame cannot be made")?;
            appender.append(&mut frame, header)?;
            buffer = frame;
        }
        drop(appender);
        seal_journal(&log, number, &path, &mut Vec::new(), &never)?;
        fs::remove_file(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    let written = started.elapsed();
    if no_rollups {
        let told = json!({"rows": rows, "made_and_sealed_s": written.as_secs_f64()});
        println!("{told}");
        return Ok(());
    }
    let (started, cpu) = (Instant::now(), cpu_millis_now());
    let end = START + (DAYS + 1) * DAY;
    let (mut rollups, _) = Rollups::open(log, end)?;
    let pass = rollups.pass(end, &never)?;
    let summed = started.elapsed();
    let summed_cpu = cpu_millis_now() - cpu;
    println!(
        "{}",
        json!({
            "rows": rows,
            "made_and_sealed_s": written.as_secs_f64(),
            "summed_up_s": summed.as_secs_f64(),
            "rollup_cpu_us_a_row": summed_cpu * 1e3 / pass.rows.max(1) as f64,
        })
    );
    Ok(())
}

/// Makes records, the same ones every time.
struct Maker {
    made: u64,
    step: u64,
    seed: u64,
    ids: RequestIds,
}

const MODELS: [(&str, &str, &str); 12] = [
    ("openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
    ("openai", "gpt-4o", "openai/gpt-4o"),
    ("openai", "gpt-4.1", "openai/gpt-4.1"),
    ("openai", "o4-mini", "openai/o4-mini"),
    (
        "anthropic",
        "claude-sonnet-4-5",
        "anthropic/claude-sonnet-4-5",
    ),
    (
        "anthropic",
        "claude-haiku-4-5",
        "anthropic/claude-haiku-4-5",
    ),
    ("anthropic", "claude-opus-4-1", "anthropic/claude-opus-4-1"),
    (
        "google-ai-studio",
        "gemini-2.5-flash",
        "google-ai-studio/gemini-2.5-flash",
    ),
    (
        "google-ai-studio",
        "gemini-2.5-pro",
        "google-ai-studio/gemini-2.5-pro",
    ),
    ("mistral", "mistral-large-latest", "mistral/mistral-large"),
    (
        "groq",
        "llama-3.3-70b-versatile",
        "groq/llama-3.3-70b-versatile",
    ),
    ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
];

impl Maker {
    fn new(rows: u64) -> Self {
        Self {
            made: 0,
            step: DAYS * DAY / rows.max(1),
            seed: 42,
            ids: RequestIds::new([7; 6]),
        }
    }

    /// The next of a row of numbers that look random (splitmix64).
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.seed;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % below
    }

    fn next(&mut self) -> Record {
        let at = START + self.made * self.step + self.random(self.step.max(1));
        self.made += 1;
        let draw = self.random(100);
        let index = if draw < 40 { 0 } else { 1 + draw % 11 };
        let (provider, model, name) = MODELS
            .get(usize::try_from(index).unwrap_or(0))
            .copied()
            .unwrap_or_default();
        let (status, outcome) = match self.random(100) {
            0 => (429, Outcome::ClientError),
            1 => (503, Outcome::UpstreamError),
            _ => (200, Outcome::Ok),
        };
        let ok = outcome == Outcome::Ok;
        let (input, output) = (50 + self.random(4_000), 1 + self.random(800));
        // Three draws multiplied: many short times and a long tail.
        let spread = |maker: &mut Self| 1 + maker.random(60);
        let duration = spread(self) * spread(self) * spread(self) * 100;
        let first = duration / 3;
        let metadata = format!(
            r#"{{"user":{},"team":"t{}"}}"#,
            self.random(5_000),
            self.random(20)
        );
        let key = format!("key-{}", self.random(40));
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        for (text, value) in [
            (
                Text::Gateway,
                ["default", "prod", "batch"][(self.made % 3) as usize],
            ),
            (Text::Provider, provider),
            (Text::Model, model),
            (Text::ModelName, name),
            (Text::Method, "POST"),
            (Text::Path, "/v1/chat/completions"),
            (Text::UserAgent, "OpenAI/Python 2.3.0"),
            (Text::Metadata, &metadata),
            (Text::Key, &key),
            (Text::RequestContentType, "application/json"),
            (Text::ResponseContentType, "application/json"),
            (Text::PriceKey, name),
        ] {
            texts[text as usize] = value.as_bytes();
        }
        Record {
            id: self.ids.next(at / 1000).0,
            at_micros: at,
            duration_micros: duration,
            first_byte_micros: Some(first),
            first_token_micros: ok.then_some(first + 50),
            overhead_micros: 20 + self.random(60),
            status,
            outcome: outcome as u8,
            request_bytes: input * 4,
            response_bytes: output * 4,
            tokens_input: ok.then_some(input),
            tokens_output: ok.then_some(output),
            cost: ok.then_some(input * 150_000 + output * 600_000),
            price_table: 1,
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    }
}

/// Runs `question` so often; the time of the first run, the median of the others, and the answer.
fn timed(
    times: usize,
    mut question: impl FnMut() -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let (mut millis, mut cpu_millis) = (Vec::new(), Vec::new());
    let mut answer = Value::Null;
    for _ in 0..times.max(2) {
        let (started, cpu) = (Instant::now(), cpu_millis_now());
        answer = question()?;
        millis.push(started.elapsed().as_secs_f64() * 1e3);
        cpu_millis.push(cpu_millis_now() - cpu);
    }
    let first = millis.remove(0);
    cpu_millis.remove(0);
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Ok(json!({
        "first_ms": first,
        "ms": median(millis),
        "cpu_ms": median(cpu_millis),
        "answer": answer,
    }))
}

/// The time that this thread has spent on a core.
fn cpu_millis_now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn questions(folder: &Path, times: usize, no_rollups: bool) -> Result<(), Failure> {
    let log = LogDir::of(folder);
    let started = Instant::now();
    let mut reader = LogReader::new(log);
    let snapshot = reader.snapshot()?;
    let open = started.elapsed().as_secs_f64() * 1e3;
    let rows: u64 = snapshot.blocks().map(|block| block.rows()).sum();
    let everything = Filter::default();
    let filtered = Filter::parse(FILTERED, 0)?;
    let summed = Filter::parse(SUMMED, 0)?;

    let newest = timed(times, || {
        let wanted = PageOf {
            count: true,
            ..PageOf::newest(50)
        };
        page_answer(&snapshot, &everything, &wanted)
    })?;
    let day = timed(times, || {
        let wanted = PageOf {
            count: true,
            ..PageOf::newest(50)
        };
        page_answer(&snapshot, &filtered, &wanted)
    })?;
    let by_model = timed(times, || {
        let of = GroupOf {
            keys: vec![GroupKey::Text(Text::Model)],
            wanted: Wanted {
                classes: false,
                tokens: false,
                cost: true,
                times: [true, false, false],
            },
            order: GroupOrder::Cost,
            top: None,
        };
        let grouped = group(&snapshot, &everything, &of, Limit::default());
        Ok(grouped.groups.iter().map(group_answer).collect())
    })?;
    let sum = timed(times, || {
        let of = GroupOf {
            keys: Vec::new(),
            wanted: Wanted {
                classes: false,
                tokens: false,
                cost: true,
                times: [false; 3],
            },
            order: GroupOrder::Cost,
            top: None,
        };
        let grouped = group(&snapshot, &summed, &of, Limit::default());
        let cost: u128 = grouped.groups.iter().map(|group| group.totals.cost).sum();
        Ok(json!(cost.to_string()))
    })?;
    let rolled_up = if no_rollups {
        Value::Null
    } else {
        timed(times, || rollup_answer(&mut reader))?
    };
    let rate = rows as f64 / sum["cpu_ms"].as_f64().unwrap_or(f64::NAN) * 1e3;
    println!(
        "{:#}",
        json!({
            "rows": rows,
            "open_ms": open,
            "newest": newest,
            "day": day,
            "by_model": by_model,
            "by_model_from_rollups": rolled_up,
            "sum": sum,
            "sum_rows_a_cpu_second": rate,
        })
    );
    Ok(())
}

fn rollup_answer(reader: &mut LogReader) -> Result<Value, Failure> {
    let question = Question {
        micros: START..=START + DAYS * DAY,
        stretch: None,
        by: vec![Dimension::Model],
        only: Vec::new(),
        groups_max: 1000,
    };
    let mut groups = ask(reader, &question)?.groups;
    groups.sort_by_key(|group| std::cmp::Reverse(group.totals.cost));
    Ok(groups.iter().map(group_answer).collect())
}

fn page_answer(snapshot: &LogSnapshot, filter: &Filter, wanted: &PageOf) -> Result<Value, Failure> {
    let page = page(snapshot, filter, wanted, Limit::default())?;
    Ok(json!({
        "total": page.total,
        "rows": page.records.len(),
        "first": page.records.first().map(|record| record.id().to_string()),
    }))
}

/// Model, records, dollars, 95th percentile in microseconds.
fn group_answer(group: &Group) -> Value {
    let name = match group.parts.last() {
        Some(tidegate::control::logs::query::group::Part::Text(name)) => {
            String::from_utf8_lossy(name).into_owned()
        }
        _ => String::new(),
    };
    let cost = u64::try_from(group.totals.cost).map_or_else(
        |_| group.totals.cost.to_string(),
        |cost| PicoDollars(cost).to_string(),
    );
    let p95 = group.times[Time::Duration as usize].quantile(950);
    json!([name, group.totals.rows, cost, p95])
}
