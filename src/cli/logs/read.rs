//! `logs tail` and `logs query`.

use std::{
    collections::HashSet,
    io::{self, Write},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    Face, LogsError, Output, QueryArgs, TailArgs, print::Printer, rolled, sum, sum::GroupKeys,
    table::Table, tell,
};
use crate::{
    control::logs::{
        filter::{
            Filter,
            contract::list::{OrderBy, OrderDirection},
            number::Bound,
        },
        query::{
            Follower, ScanReport,
            group::Wanted,
            owned,
            page::{self, PageOf, Place},
            search,
            select::Limit,
            sums::{self, GroupOf, GroupOrder},
        },
        segment::LogDir,
        snapshot::LogReader,
    },
    domain::{
        id::RequestId,
        record::{ArchivedRecord, Record},
    },
};

pub(super) fn tail(
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
    // Following begins before the page is read: what comes in between is in both, and left out
    // of what is followed.
    let mut follower = Follower::from_end(log)?.0;
    let lines = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    let newest = page::page(&snapshot, &filter, &PageOf::newest(lines), Limit::default())?;
    let mut records = newest.records;
    records.reverse();
    tell(face, &newest.report)?;
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
    let mut printed: HashSet<[u8; 16]> = records.iter().map(|record| record.id).collect();
    while again() {
        let report = follow(&mut follower, &filter, &mut printed, &mut printer, face.out)?;
        tell(face, &report)?;
        face.out.flush()?;
    }
    Ok(())
}

/// Prints what has come since, but for what is in `printed`.
fn follow(
    follower: &mut Follower,
    filter: &Filter,
    printed: &mut HashSet<[u8; 16]>,
    printer: &mut Printer,
    out: &mut dyn Write,
) -> io::Result<ScanReport> {
    let mut failed = None;
    let mut visit = |record: &ArchivedRecord| {
        if printed.remove(&record.id) || !filter.matches(record) {
            return ControlFlow::Continue(());
        }
        let done = owned(record).map_or(Ok(()), |record| printer.print(&[record], out));
        match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let report = follower.poll(&mut visit)?;
    failed.map_or(Ok(report), Err)
}

pub(super) fn page(
    args: &QueryArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let limit = time_limit(&args.time_limit)?;
    let (order_by, direction) = row_order(args.order_by.as_deref())?;
    let mut wanted = PageOf {
        order_by,
        direction,
        ..PageOf::newest(usize::try_from(args.limit).unwrap_or(usize::MAX))
    };
    let mut bodies = ScanReport::default();
    let filter = search::in_bodies(log, args.filter.compile()?, limit, &mut bodies)?;
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    if let Some(cursor) = &args.cursor {
        if order_by != OrderBy::CreatedAt {
            return Err(LogsError::CursorOrder);
        }
        wanted.after = Some(place(&snapshot, cursor)?);
    }
    let mut page = page::page(&snapshot, &filter, &wanted, limit)?;
    page.report.damages.append(&mut bodies.damages);
    page.report.partial |= bodies.partial;
    tell(face, &page.report)?;
    if page.records.is_empty() && output == Output::Table {
        writeln!(
            face.notes,
            "no record matches ({} looked at)",
            page.report.records
        )?;
        return Ok(());
    }
    let mut printer = Printer::new(output, Table::new(face.terminal));
    printer.print(&page.records, face.out)?;
    printer.end(face.out)?;
    let is_full = page.records.len() == wanted.rows;
    if let Some(last) = page.records.last()
        && is_full
        && order_by == OrderBy::CreatedAt
        && output == Output::Table
    {
        writeln!(face.notes, "the next page: --cursor {}", last.id())?;
    }
    Ok(())
}

/// Where the record of a cursor stands; one that is gone stood at the time in its id.
fn place(
    snapshot: &crate::control::logs::snapshot::LogSnapshot,
    cursor: &str,
) -> Result<Place, LogsError> {
    let id = RequestId::parse(cursor).ok_or_else(|| LogsError::NoId(cursor.into()))?;
    let found: Option<Record> = page::find(snapshot, id).0;
    let at = found.map_or_else(
        || id.unix_millis().saturating_mul(1000),
        |record| record.at_micros,
    );
    Ok((at, id.0))
}

pub(super) fn group(
    args: &QueryArgs,
    keys: &GroupKeys,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let limit = time_limit(&args.time_limit)?;
    let order = match args.order_by.as_deref() {
        None | Some("cost") => GroupOrder::Cost,
        Some("requests" | "records") => GroupOrder::Rows,
        Some("name") => GroupOrder::Name,
        Some(other) => {
            return Err(LogsError::NoOrder(other.into(), "cost, requests or name"));
        }
    };
    let of = GroupOf {
        keys: keys.keys(),
        wanted: Wanted::ALL,
        order,
        top: usize::try_from(args.limit).ok(),
    };
    let filter = args.filter.compile()?;
    let mut reader = LogReader::new(log.clone());
    let grouped = if args.rollups {
        rolled::group(&mut reader, &filter, &of, face)?
    } else {
        let mut bodies = ScanReport::default();
        let filter = search::in_bodies(log, filter, limit, &mut bodies)?;
        let mut grouped = sums::group(&reader.snapshot()?, &filter, &of, limit);
        grouped.report.damages.append(&mut bodies.damages);
        grouped.report.partial |= bodies.partial;
        grouped
    };
    tell(face, &grouped.report)?;
    if grouped.is_crowded {
        writeln!(
            face.notes,
            "warning: there are too many groups to tell all apart; some that belong here may be \
             among (other)"
        )?;
    }
    sum::print(keys, &grouped, output, face.out)?;
    Ok(())
}

fn time_limit(text: &str) -> Result<Limit, LogsError> {
    match Bound::duration(text) {
        Some(Bound::Exact(micros) | Bound::Between(micros)) => Ok(Limit {
            end: Instant::now().checked_add(Duration::from_micros(micros)),
        }),
        _ => Err(LogsError::NoTime(text.into())),
    }
}

/// Reads the order of rows: a word, and perhaps `:asc` or `:desc`.
fn row_order(text: Option<&str>) -> Result<(OrderBy, OrderDirection), LogsError> {
    let Some(text) = text else {
        return Ok((OrderBy::CreatedAt, OrderDirection::Descending));
    };
    let no_order = || {
        LogsError::NoOrder(
            text.into(),
            "created_at, provider, model, model_type, success, cached, cost, tokens_in, \
             tokens_out or duration, with `:asc` for the least first",
        )
    };
    let (word, direction) = match text.rsplit_once(':') {
        None => (text, OrderDirection::Descending),
        Some((word, "desc")) => (word, OrderDirection::Descending),
        Some((word, "asc")) => (word, OrderDirection::Ascending),
        Some(_) => return Err(no_order()),
    };
    let found = OrderBy::WORDS.iter().find(|(name, _)| *name == word);
    match found {
        // Feedback is not in the log.
        None | Some((_, OrderBy::Feedback)) => Err(no_order()),
        Some((_, order)) => Ok((*order, direction)),
    }
}
