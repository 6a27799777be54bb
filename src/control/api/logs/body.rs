//! Stored bodies of a record.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::super::{envelope, failure::Failure};
use crate::{
    control::logs::{
        bodies::{Bodies as Stored, Body, BodyEnd},
        segment::LogDir,
    },
    domain::record::Record,
    handoff::mailbox::ApiAnswer,
};

/// Which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The caller's.
    Request,
    /// The provider's.
    Response,
}

/// One body, unpacked.
#[derive(Debug)]
pub struct Part {
    /// Its bytes, up to the first gap.
    pub bytes: Vec<u8>,
    /// Whether that is all.
    pub whole: bool,
}

/// The bodies of one record.
#[derive(Debug, Default)]
pub struct Bodies {
    request: Option<Part>,
    response: Option<Part>,
}

/// Greatest body that is answered, unpacked; the command line shows larger ones.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

impl Bodies {
    /// One of them, if it was stored.
    pub fn part(&self, which: Which) -> Option<&Part> {
        match which {
            Which::Request => self.request.as_ref(),
            Which::Response => self.response.as_ref(),
        }
    }
}

/// Finds the bodies of a record.
pub fn find(log: &LogDir, record: &Record) -> Result<Bodies, Failure> {
    let stored = Stored::find(log, record.id(), record.at_micros, record.duration_micros)?;
    Ok(Bodies {
        request: stored.request.map(unpack),
        response: stored.response.map(unpack),
    })
}

/// Unpacks gzip by its magic: providers answer compressed where callers allow it.
fn unpack(body: Body) -> Part {
    let whole = body.end == BodyEnd::Whole;
    if !body.bytes.starts_with(&[0x1f, 0x8b]) {
        return Part {
            bytes: body.bytes,
            whole,
        };
    }
    let mut bytes = Vec::new();
    let read = MultiGzDecoder::new(&*body.bytes)
        .take(ANSWER_BYTES_MAX + 1)
        .read_to_end(&mut bytes);
    if bytes.is_empty() {
        // Not gzip after all.
        return Part {
            bytes: body.bytes,
            whole,
        };
    }
    Part {
        bytes,
        whole: whole && read.is_ok(),
    }
}

/// A body as it was stored: clients do not unwrap it.
pub fn answer(bodies: &Bodies, which: Which) -> Result<ApiAnswer, Failure> {
    let Some(part) = bodies.part(which) else {
        return Err(Failure::not_found("body: it was not stored"));
    };
    if part.bytes.len() as u64 > ANSWER_BYTES_MAX {
        let message = "the body is larger than 32 MiB; `tidegate logs show` writes it to a file";
        return Err(Failure::new(413, envelope::CODE_REQUEST, message));
    }
    let first = part.bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let content_type = match (first, std::str::from_utf8(&part.bytes)) {
        (Some(b'{' | b'[' | b'"'), Ok(_)) => envelope::JSON,
        (_, Ok(_)) => "text/plain; charset=utf-8",
        (_, Err(_)) => "application/octet-stream",
    };
    Ok(ApiAnswer {
        status: 200,
        content_type,
        // What callers and providers sent must not run in a browser.
        fields: vec![("x-content-type-options", "nosniff".to_owned())],
        body: part.bytes.clone(),
    })
}
