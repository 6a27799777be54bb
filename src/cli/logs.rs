//! `tidegate logs`: looks into the log store, with a server running or without one.
//!
//! Reading order: here the arguments and the verbs; [`row`] (a record as named values), [`table`]
//! (rows for people), [`sum`] (`--group-by`), [`show`] (one record with its bodies).

use std::{
    collections::BTreeSet,
    io::{self, Write},
    ops::ControlFlow,
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
        query::{self, Follower, Order, ScanReport},
        segment::LogDir,
    },
    domain::{
        id::RequestId,
        record::{ArchivedRecord, Record},
    },
};

pub mod row;
pub mod table;
pub mod sum;
pub mod show;

use row::Row;
use table::Table;

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
    /// Print all records that match, oldest first.
    Export(FilterArgs),
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
    /// Most records to print; `export` prints all.
    #[arg(long, default_value_t = PAGE, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=PAGE_MAX))]
    limit: u32,
    /// Sum up by `model`, `provider`, `gateway`, `key`, `outcome`, `status`, `day` or `meta.NAME`.
    #[arg(long, value_name = "KEY")]
    group_by: Option<sum::GroupKey>,
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
        LogsVerb::Tail(args) => tail(args, &log, output, face, again),
        LogsVerb::Show(args) => {
            let id = RequestId::parse(&args.id).ok_or_else(|| LogsError::NoId(args.id.clone()))?;
            show::show(id, args.body, &log, output, face)
        }
        LogsVerb::Query(args) => match &args.group_by {
            Some(key) => group(args, key, &log, output, face),
            None => page(args, &log, output, face),
        },
        LogsVerb::Export(filter) => export(filter, &log, output, face),
        LogsVerb::Compress(args) => compress_now(args, &log, output, face),
    }
}

impl FilterArgs {
    fn compile(&self) -> Result<Filter, LogsError> {
        let now = now_micros();
        let mut filter = Filter::parse(&self.filter.join(" "), now)?;
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

fn tail(
    args: &TailArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
    again: &mut dyn FnMut() -> bool,
) -> Result<(), LogsError> {
    let filter = args.filter.compile()?;
    // A stream of records is no one document.
    let output = match output {
        Output::Json if !args.no_follow => Output::Ndjson,
        other => other,
    };
    let (mut follower, ends) = Follower::from_end(log)?;
    let lines = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let (records, report) = query::newest(log, &filter, lines, Some(&ends))?;
    tell(face, &report)?;
    let table = if args.no_follow {
        Table::new(face.terminal)
    } else {
        Table::open_ended(face.terminal)
    };
    let mut printer = Printer::new(output, table);
    printer.print(&records, face.out)?;
    if args.no_follow {
        return Ok(printer.end(face.out)?);
    }
    face.out.flush()?;
    while again() {
        let report = printer.print_matching(&filter, face.out, |visit| follower.poll(visit))?;
        tell(face, &report)?;
        face.out.flush()?;
    }
    Ok(())
}

fn page(
    args: &QueryArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let filter = args.filter.compile()?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut records, report) = query::newest(log, &filter, limit, None)?;
    records.reverse();
    tell(face, &report)?;
    if records.is_empty() && output == Output::Table {
        writeln!(
            face.notes,
            "no record matches ({} looked at)",
            report.records
        )?;
        return Ok(());
    }
    let mut printer = Printer::new(output, Table::new(face.terminal));
    printer.print(&records, face.out)?;
    printer.end(face.out)?;
    Ok(())
}

fn group(
    args: &QueryArgs,
    key: &sum::GroupKey,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let filter = args.filter.compile()?;
    let mut sums = sum::Sums::default();
    let mut visit = |record: &ArchivedRecord| {
        if filter.matches(record) {
            sums.add(key, record);
        }
        ControlFlow::Continue(())
    };
    let micros = filter.micros();
    let report = query::scan(log, Order::OldestFirst, &micros, None, &mut visit)?;
    tell(face, &report)?;
    sums.print(key, output, face.out)?;
    Ok(())
}

fn export(
    filter: &FilterArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let filter = filter.compile()?;
    let mut printer = Printer::new(output, Table::open_ended(None));
    let micros = filter.micros();
    let report = printer.print_matching(&filter, face.out, |visit| {
        query::scan(log, Order::OldestFirst, &micros, None, visit)
    })?;
    printer.end(face.out)?;
    tell(face, &report)
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

/// Tells of damage that was met.
fn tell(face: &mut Face<'_>, report: &ScanReport) -> Result<(), LogsError> {
    for damage in &report.damages {
        writeln!(face.notes, "warning: {damage}")?;
    }
    Ok(())
}

/// Prints records in one of the forms, page after page.
struct Printer {
    output: Output,
    table: Table,
    printed: u64,
}

impl Printer {
    fn new(output: Output, table: Table) -> Self {
        Self {
            output,
            table,
            printed: 0,
        }
    }

    /// Prints what `read` visits and the filter passes, one by one, so that no number of records
    /// takes memory.
    fn print_matching(
        &mut self,
        filter: &Filter,
        out: &mut dyn Write,
        read: impl FnOnce(&mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>) -> io::Result<ScanReport>,
    ) -> io::Result<ScanReport> {
        let mut failed = None;
        let mut visit = |record: &ArchivedRecord| {
            if !filter.matches(record) {
                return ControlFlow::Continue(());
            }
            let printed = query::owned(record).map_or(Ok(()), |record| self.print(&[record], out));
            match printed {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let report = read(&mut visit)?;
        failed.map_or(Ok(report), Err)
    }

    fn print(&mut self, records: &[Record], out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Table {
            return self.table.print(records, out);
        }
        for record in records {
            let row = Row::of(record);
            match self.output {
                Output::Table => {}
                Output::Ndjson => writeln!(out, "{}", row.json())?,
                Output::Json => {
                    let before = if self.printed == 0 { "[" } else { "," };
                    write!(out, "{before}\n{}", row.json())?;
                }
                Output::Csv => {
                    if self.printed == 0 {
                        row.write_csv_names(out)?;
                    }
                    row.write_csv(out)?;
                }
            }
            self.printed += 1;
        }
        Ok(())
    }

    fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.output {
            Output::Json if self.printed == 0 => writeln!(out, "[]"),
            Output::Json => writeln!(out, "\n]"),
            Output::Csv if self.printed == 0 => Row::of(&Record::default()).write_csv_names(out),
            Output::Table | Output::Ndjson | Output::Csv => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
