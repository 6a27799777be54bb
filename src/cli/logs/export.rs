//! `logs export`: all records that match, oldest first.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    ops::ControlFlow,
    path::Path,
};

use super::{
    ExportArgs, ExportFormat, Face, LogsError, Output, parquet::ParquetWriter, print::Printer,
    table::Table, tell,
};
use crate::{
    control::logs::{
        filter::Filter,
        query::{
            ScanReport, search,
            select::{Limit, Select},
        },
        segment::LogDir,
        snapshot::LogReader,
    },
    domain::record::Record,
};

pub(super) fn export(
    args: &ExportArgs,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let mut report = ScanReport::default();
    let filter = search::in_bodies(log, args.filter.compile()?, Limit::default(), &mut report)?;
    tell(face, &report)?;
    let output = match args.format {
        Some(ExportFormat::Ndjson) => Output::Ndjson,
        Some(ExportFormat::Csv) => Output::Csv,
        Some(ExportFormat::Parquet) | None => output,
    };
    let is_parquet = args.format == Some(ExportFormat::Parquet);
    let report = match &args.to {
        None if is_parquet => return Err(LogsError::NoFile),
        None => print(log, &filter, output, face.out)?,
        Some(path) => {
            let failed = |error: String| LogsError::Export(path.clone(), error);
            let draft = path.with_added_extension("part");
            let done = if is_parquet {
                write_parquet(log, &filter, &draft)
            } else {
                write_text(log, &filter, output, &draft)
            };
            let done = done.and_then(|report| {
                fs::rename(&draft, path)?;
                Ok(report)
            });
            done.map_err(|error| {
                let _ = fs::remove_file(&draft);
                failed(error.to_string())
            })?
        }
    };
    tell(face, &report)
}

fn print(
    log: &LogDir,
    filter: &Filter,
    output: Output,
    out: &mut dyn Write,
) -> io::Result<ScanReport> {
    let mut printer = Printer::new(output, Table::open_ended(None));
    let report = each(log, filter, &mut |record| printer.print(&[record], out))?;
    printer.end(out)?;
    Ok(report)
}

fn write_text(
    log: &LogDir,
    filter: &Filter,
    output: Output,
    path: &Path,
) -> io::Result<ScanReport> {
    let mut out = BufWriter::new(File::create(path)?);
    let report = print(log, filter, output, &mut out)?;
    out.into_inner()?.sync_all()?;
    Ok(report)
}

fn write_parquet(log: &LogDir, filter: &Filter, path: &Path) -> io::Result<ScanReport> {
    let out = BufWriter::new(File::create(path)?);
    let mut writer = ParquetWriter::new(out)?;
    let report = each(log, filter, &mut |record| Ok(writer.push(&record)?))?;
    writer.finish()?.into_inner()?.sync_all()?;
    Ok(report)
}

/// Calls `visit` with every record that matches, in the order of the log, one by one, so that no
/// number of records takes memory.
fn each(
    log: &LogDir,
    filter: &Filter,
    visit: &mut dyn FnMut(Record) -> io::Result<()>,
) -> io::Result<ScanReport> {
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    let mut select = Select::new(&snapshot, filter, Limit::default());
    let mut failed = None;
    let mut rows = Vec::new();
    select.each(snapshot.blocks(), |_, block, mask| {
        let reader = block.reader()?;
        mask.select(&mut rows);
        for row in &rows {
            let visited = reader.record(*row as usize).map_or(Ok(()), &mut *visit);
            if let Err(error) = visited {
                failed = Some(error);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    failed.map_or(Ok(select.report), Err)
}
