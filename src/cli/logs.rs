//! `tidegate logs`: looks into the log store, with a server running or without one.
//!
//! Reading order: here the arguments; `read` (tail and query), `export`; [`row`] (a record as named
//! values), [`table`] (rows for people), [`sum`] (`--group-by`) and `rolled` (`--rollups`), [`show`]
//! (one record with its bodies), [`parquet`].

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    control::logs::{
        compress,
        filter::{Filter, FilterError},
        query::{ScanReport, page::PageError},
        segment::LogDir,
    },
    domain::id::RequestId,
};

mod read;
mod export;
mod print;
pub mod row;
pub mod table;
pub mod sum;
mod rolled;
pub mod show;
pub mod parquet;

/// Arguments of `tidegate logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(subcommand)]
    verb: LogsVerb,
    /// How to print: a table on a terminal, else one JSON object a line.
    #[arg(long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Subcommand)]
enum LogsVerb {
    /// Print the last records, then those that come.
    Tail(TailArgs),
    /// Print one record with its bodies.
    Show(ShowArgs),
    /// Find records, newest page first, or sum them up.
    Query(QueryArgs),
    /// Print all records that match, oldest first, or write them to a file.
    Export(ExportArgs),
    /// Compress stored bodies now, and print what it cost.
    #[command(hide = true)]
    Compress(CompressArgs),
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) with a line of names.
    Csv,
}

/// Which records.
#[derive(Debug, Default, Args)]
pub struct FilterArgs {
    /// Terms such as `status:5xx model:gpt-* cost:>0.01 after:2h "free text"`; within quotes of
    /// the shell also `'status:5xx -gateway:test'`.
    filter: Vec<String>,
    /// The same, as an option; all terms must hold.
    #[arg(long = "filter", value_name = "TERMS")]
    more: Vec<String>,
    /// A term that must not hold, such as `gateway:test`; may be given several times.
    #[arg(long, value_name = "TERM")]
    not: Vec<String>,
    /// Records from this time on: `2h` ago, `2026-11-21` or `2026-11-21T08:00:00Z`.
    #[arg(long)]
    since: Option<String>,
    /// Records before this time.
    #[arg(long)]
    until: Option<String>,
    /// Records of this gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Records of this provider.
    #[arg(long)]
    provider: Option<String>,
    /// Records of this model; `*` stands for any characters.
    #[arg(long)]
    model: Option<String>,
    /// Records of the key with this name.
    #[arg(long)]
    key: Option<String>,
    /// Records with this status: `200`, `5xx`, `>=400`.
    #[arg(long)]
    status: Option<String>,
    /// Records that ended so: `ok`, `client_error`, `cancelled` …
    #[arg(long)]
    outcome: Option<String>,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many records to begin with.
    #[arg(long, default_value_t = PAGE, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(..=PAGE_MAX))]
    lines: u32,
    /// End after them.
    #[arg(long)]
    no_follow: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The record's id, as in `cf-aig-log-id`.
    id: String,
    /// Print one body only, byte for byte as it is stored.
    #[arg(long, value_enum)]
    body: Option<show::Which>,
}

#[derive(Debug, Args)]
struct QueryArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Most records, or groups, to print; `export` prints all. Further groups are summed up as
    /// `(other)`.
    #[arg(long, default_value_t = PAGE, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=PAGE_MAX))]
    limit: u32,
    /// Sum up by `gateway`, `provider`, `model`, `name`, `key`, `outcome`, `status`, `minute`,
    /// `hour`, `day` or `meta.NAME`, or by several of them with commas between.
    #[arg(long, value_name = "KEYS")]
    group_by: Option<sum::GroupKeys>,
    /// Sum up from the counts by the minute: they stay when records go, and count exchanges
    /// without a log too, as ones without metadata. They know gateway, provider, model, key and
    /// one stretch of time, or gateway, one stretch of time and one `meta.NAME`, and take whole
    /// minutes.
    #[arg(long, requires = "group_by")]
    rollups: bool,
    /// Put records in order by `created_at`, `provider`, `model`, `model_type`, `success`,
    /// `cached`, `cost`, `tokens_in`, `tokens_out` or `duration`, the greatest first, or with
    /// `:asc` the least; groups by `cost`, `requests` or `name`.
    #[arg(long, value_name = "KEY")]
    order_by: Option<String>,
    /// The page after the record with this id, which the page before told.
    #[arg(long, value_name = "ID", conflicts_with = "group_by")]
    cursor: Option<String>,
    /// Longest time to look; what was found by then is printed and said to be a part.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    time_limit: String,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The form of the records; without it that of `--output`.
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
    /// Write to this file, which appears when it is complete.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) with a line of names.
    Csv,
    /// Parquet, compressed with zstd; to a file only.
    Parquet,
}

#[derive(Debug, Args)]
struct CompressArgs {
    /// Compress every finished file, however young.
    #[arg(long)]
    now: bool,
}

/// Records of a page.
const PAGE: u32 = 20;

/// Most records of a page, which is held in memory: some 100 MB. What is more is exported.
const PAGE_MAX: i64 = 100_000;

/// Time between two looks for new records.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

/// Age from which `compress` without `--now` rewrites files.
const COMPRESS_AGE: Duration = Duration::from_hours(1);

/// Why a verb of `logs` failed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter cannot be read.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// There is no data folder.
    #[error("there is no data folder {}; name it with `--data-dir`, or start the server first", .0.display())]
    NoDataDir(PathBuf),
    /// The text is no id.
    #[error("`{0}` is no record id; ids look like 01932f5e-7a30-7000-8000-0123456789ab")]
    NoId(String),
    /// No record has the id.
    #[error("there is no record {0} in {path}", path = .1.display())]
    NotFound(RequestId, PathBuf),
    /// The body asked for is not stored.
    #[error("the {1} body of {0} is not stored")]
    NoBody(RequestId, &'static str),
    /// An order that there is not.
    #[error("`{0}` is no order; write {1}")]
    NoOrder(String, &'static str),
    /// A question that rollups cannot answer.
    #[error("rollups do not know {0}; leave `--rollups` out to look through the records")]
    NotRolledUp(&'static str),
    /// Groups beyond the bound would be missing.
    #[error("there are more groups than can be told apart at once; ask for a shorter time")]
    Crowded,
    /// A cursor for another order than that of time.
    #[error("`--cursor` goes with the order of created_at only")]
    CursorOrder,
    /// The text is no time.
    #[error("`{0}` is no time; write `30s` or `5m`")]
    NoTime(String),
    /// Parquet on a terminal or in a pipe.
    #[error("a Parquet file is written with `--to FILE`")]
    NoFile,
    /// The page cannot be had.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The file cannot be written.
    #[error("cannot write {path}: {problem}", path = .0.display(), problem = .1)]
    Export(PathBuf, String),
    /// Reading or writing failed.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
}

/// Where a verb writes to.
pub struct Face<'a> {
    /// Records and bodies.
    pub out: &'a mut dyn Write,
    /// Remarks: damage met, nothing found.
    pub notes: &'a mut dyn Write,
    /// Columns of the terminal that `out` is; `None` if it is none.
    pub terminal: Option<usize>,
}

/// Runs a verb over the log store in `data_dir`. A reader that goes away ends it quietly.
pub fn run(args: &LogsArgs, data_dir: &Path, face: &mut Face<'_>) -> Result<(), LogsError> {
    let forever = &mut || {
        thread::sleep(FOLLOW_POLL);
        true
    };
    match run_until(args, data_dir, face, forever) {
        Err(LogsError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Runs a verb; following ends when `again` says so.
fn run_until(
    args: &LogsArgs,
    data_dir: &Path,
    face: &mut Face<'_>,
    again: &mut dyn FnMut() -> bool,
) -> Result<(), LogsError> {
    if !data_dir.is_dir() {
        return Err(LogsError::NoDataDir(data_dir.into()));
    }
    let log = LogDir::of(data_dir);
    let output = args.output.unwrap_or(match face.terminal {
        Some(_) => Output::Table,
        None => Output::Ndjson,
    });
    match &args.verb {
        LogsVerb::Tail(args) => read::tail(args, &log, output, face, again),
        LogsVerb::Show(args) => {
            let id = RequestId::parse(&args.id).ok_or_else(|| LogsError::NoId(args.id.clone()))?;
            show::show(id, args.body, &log, output, face)
        }
        LogsVerb::Query(args) => match &args.group_by {
            Some(keys) => read::group(args, keys, &log, output, face),
            None => read::page(args, &log, output, face),
        },
        LogsVerb::Export(args) => export::export(args, &log, output, face),
        LogsVerb::Compress(args) => compress_now(args, &log, output, face),
    }
}

impl FilterArgs {
    fn compile(&self) -> Result<Filter, LogsError> {
        let now = now_micros();
        let mut filter = Filter::parse(&self.filter.join(" "), now)?;
        for terms in &self.more {
            filter = filter.and(Filter::parse(terms, now)?);
        }
        for term in &self.not {
            filter = filter.and(Filter::parse(&format!("-{term}"), now)?);
        }
        let options = [
            ("since", &self.since),
            ("until", &self.until),
            ("gateway", &self.gateway),
            ("provider", &self.provider),
            ("model", &self.model),
            ("key", &self.key),
            ("status", &self.status),
            ("outcome", &self.outcome),
        ];
        for (key, value) in options {
            let Some(value) = value else { continue };
            let term = if value.contains(char::is_whitespace) {
                format!("{key}:\"{value}\"")
            } else {
                format!("{key}:{value}")
            };
            filter = filter.and(Filter::parse(&term, now)?);
        }
        Ok(filter)
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean over fewer exchanges than 2⁵³"
)]
fn compress_now(
    args: &CompressArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let age = if args.now {
        Duration::ZERO
    } else {
        COMPRESS_AGE
    };
    let done = compress::pass(log, age, &mut BTreeSet::new(), &AtomicBool::new(false))?;
    let per_exchange = done
        .cpu
        .filter(|_| done.exchanges > 0)
        .map(|cpu| format!("{:.3}", cpu.as_secs_f64() * 1e6 / done.exchanges as f64));
    match output {
        Output::Json | Output::Ndjson => {
            let seconds = done.cpu.map(|cpu| format!("{:.6}", cpu.as_secs_f64()));
            let number = |text: Option<String>| {
                text.map_or(serde_json::Value::Null, |text| row::decimal(&text))
            };
            let object = serde_json::json!({
                "files": done.files,
                "bytes_in": done.bytes_in,
                "bytes_out": done.bytes_out,
                "exchanges": done.exchanges,
                "cpu_seconds": number(seconds),
                "cpu_micros_per_exchange": number(per_exchange),
            });
            writeln!(face.out, "{object}")?;
        }
        Output::Table | Output::Csv => {
            let unknown = || "unknown".to_owned();
            writeln!(
                face.out,
                "{} files, {} bytes before, {} after, {} exchanges, {} µs of CPU an exchange",
                done.files,
                done.bytes_in,
                done.bytes_out,
                done.exchanges,
                per_exchange.unwrap_or_else(unknown)
            )?;
        }
    }
    Ok(())
}

/// Tells of damage that was met, and of an answer that is a part.
fn tell(face: &mut Face<'_>, report: &ScanReport) -> Result<(), LogsError> {
    for damage in &report.damages {
        writeln!(face.notes, "warning: {damage}")?;
    }
    if report.partial {
        writeln!(
            face.notes,
            "warning: the time was over before all was looked at; this is a part of the answer"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
