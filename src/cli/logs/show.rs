//! `logs show`: one record with its bodies.

use std::{
    borrow::Cow,
    io::{self, Read, Write},
};

use clap::ValueEnum;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::{
    Face, LogsError, Output,
    row::{Row, plain},
    table::{printable, printable_lines},
    tell,
};
use crate::{
    control::logs::{
        bodies::{Bodies, Body, BodyEnd},
        query,
        segment::LogDir,
    },
    domain::{
        id::RequestId,
        record::{Record, flag},
    },
};

/// Most bytes that a compressed body is unpacked to.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// Which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The caller's.
    Request,
    /// The provider's.
    Response,
}

/// Prints the record with `id` and its bodies, or one body alone.
pub(super) fn show(
    id: RequestId,
    which: Option<Which>,
    log: &LogDir,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), LogsError> {
    let (record, report) = query::by_id(log, id)?;
    let Some(record) = record else {
        tell(face, &report)?;
        return Err(LogsError::NotFound(id, log.path().into()));
    };
    let bodies = Bodies::find(log, id, record.at_micros, record.duration_micros)?;
    for damage in &bodies.damages {
        writeln!(face.notes, "warning: {damage}")?;
    }
    if let Some(which) = which {
        let (body, name) = match which {
            Which::Request => (bodies.request, "request"),
            Which::Response => (bodies.response, "response"),
        };
        let body = body.ok_or(LogsError::NoBody(id, name))?;
        face.out.write_all(&body.bytes)?;
        return Ok(());
    }
    match output {
        Output::Table => print(&record, &bodies, face.out)?,
        Output::Json => writeln!(face.out, "{:#}", document(&record, &bodies))?,
        Output::Ndjson => writeln!(face.out, "{}", document(&record, &bodies))?,
        Output::Csv => {
            let row = Row::of(&record);
            row.write_csv_names(face.out)?;
            row.write_csv(face.out)?;
        }
    }
    Ok(())
}

fn print(record: &Record, bodies: &Bodies, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in Row::of(record).values() {
        if !value.is_null() {
            writeln!(out, "{name:<22} {}", printable(&plain(value)))?;
        }
    }
    for (name, body) in [("request", &bodies.request), ("response", &bodies.response)] {
        writeln!(out)?;
        let Some(body) = body else {
            let why = if record.has(flag::PAYLOAD) {
                "nothing of it is stored"
            } else {
                "bodies were not to be stored"
            };
            writeln!(out, "── {name}: {why}")?;
            continue;
        };
        let end = match body.end {
            BodyEnd::Whole => "",
            BodyEnd::Dropped => ", the rest was not stored",
            BodyEnd::Missing => ", the rest is missing",
        };
        let content = Content::of(&body.bytes);
        let packed = if matches!(&content.bytes, Cow::Owned(_)) {
            ", unpacked from gzip"
        } else {
            ""
        };
        writeln!(out, "── {name}: {} bytes{end}{packed}", body.bytes.len())?;
        let text = content.pretty();
        write!(out, "{text}")?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(out)?;
        }
    }
    Ok(())
}

fn document(record: &Record, bodies: &Bodies) -> Value {
    let mut document = Row::of(record).json();
    if let Value::Object(members) = &mut document {
        for (name, body) in [
            ("request_body", &bodies.request),
            ("response_body", &bodies.response),
        ] {
            members.insert(name.into(), body.as_ref().map_or(Value::Null, describe));
        }
    }
    document
}

fn describe(body: &Body) -> Value {
    let content = Content::of(&body.bytes);
    let text = std::str::from_utf8(&content.bytes).ok();
    json!({
        "bytes": body.bytes.len(),
        "end": match body.end {
            BodyEnd::Whole => "whole",
            BodyEnd::Dropped => "dropped",
            BodyEnd::Missing => "missing",
        },
        "text": text,
    })
}

/// A body unpacked, if it was packed.
struct Content<'a> {
    bytes: Cow<'a, [u8]>,
}

impl<'a> Content<'a> {
    /// Unpacks gzip by its magic rather than by a header: the caller chose the header.
    fn of(bytes: &'a [u8]) -> Self {
        const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
        if bytes.starts_with(&GZIP) {
            let mut unpacked = Vec::new();
            // A body cut short still shows its beginning.
            let _ = MultiGzDecoder::new(bytes)
                .take(UNPACKED_BYTES_MAX)
                .read_to_end(&mut unpacked);
            if !unpacked.is_empty() {
                return Self {
                    bytes: Cow::Owned(unpacked),
                };
            }
        }
        Self {
            bytes: Cow::Borrowed(bytes),
        }
    }

    /// JSON indented, other text as it is but for control characters, the rest summarised.
    fn pretty(&self) -> String {
        if let Ok(value) = serde_json::from_slice::<Value>(&self.bytes) {
            return printable_lines(&format!("{value:#}"));
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => printable_lines(&text.replace("\r\n", "\n")),
            // Cut within a character, most likely.
            Err(error) if error.valid_up_to() > 0 && error.error_len().is_none() => {
                let valid = self.bytes.get(..error.valid_up_to()).unwrap_or_default();
                printable_lines(&String::from_utf8_lossy(valid))
            }
            Err(_) => format!("(binary, {} bytes)", self.bytes.len()),
        }
    }
}
