//! The head that a connection's last request had, since most clients send the same one again.
//!
//! An SDK repeats its request line and fields to the byte, but for the length of the body. Where a
//! head differs from the one before it in the digits of `Content-Length` alone, the places of all
//! parts are known, and comparing takes a tenth of the time of parsing.

use zeroize::Zeroize as _;

use super::{Field, FieldName, Method, RequestFraming, RequestHead, Version, framing::decimal};

/// What one connection remembers. Each has its own: a head holds credentials, and nobody may learn
/// by trying how far his is another's.
#[derive(Debug, Default)]
pub struct HeadMemo {
    /// The head; empty if none is kept.
    bytes: Vec<u8>,
    places: Option<Box<Places>>,
    /// Heads in a row that were not the one before.
    missed: u8,
}

/// Where the parts of a head are.
#[derive(Debug)]
struct Places {
    /// The digits of `Content-Length`; empty where there are none.
    digits: Span,
    method: Method<'static>,
    target: Span,
    path: Span,
    host: Span,
    version: Version,
    fields: Box<[(Span, Span, FieldName)]>,
    framing: RequestFraming,
    keep_alive: bool,
    expects_continue: bool,
}

/// A part of a head: its start and its end.
#[derive(Debug, Clone, Copy)]
struct Span(u16, u16);

/// Longest head that is remembered, in bytes.
const HEAD_BYTES_MAX: usize = 2048;

/// Heads in a row that may differ before nothing is kept any more: such a client (which sends, say,
/// a trace's id) gains nothing.
const MISSED_MAX: u8 = 8;

impl HeadMemo {
    /// Says how long the head is that stands at the start of `input`, if it is the one before.
    pub fn find(&self, input: &[u8]) -> Option<usize> {
        let places = self.places.as_deref()?;
        let head = input.get(..self.bytes.len())?;
        let (start, end) = (places.digits.0.into(), places.digits.1.into());
        let same = head.get(..start) == self.bytes.get(..start)
            && head.get(end..) == self.bytes.get(end..)
            && head.get(start..end)?.iter().all(u8::is_ascii_digit);
        same.then_some(head.len())
    }

    /// Takes a head apart that [`HeadMemo::find`] has found; `None`: it has to be parsed.
    pub fn read<'a>(&mut self, head: &'a [u8]) -> Option<RequestHead<'a>> {
        let places = self.places.as_deref()?;
        if head.len() != self.bytes.len() {
            return None;
        }
        let fields = places.fields.iter().map(|(name, value, id)| {
            Some(Field {
                name: name.of(head)?,
                value: value.of(head)?,
                id: *id,
            })
        });
        let framing = match places.framing {
            // Without a body other rules apply (`Expect`).
            RequestFraming::Length(_) => match decimal(places.digits.of(head)?)? {
                0 => return None,
                length => RequestFraming::Length(length),
            },
            framing @ (RequestFraming::None | RequestFraming::Chunked) => framing,
        };
        let mut all = Vec::with_capacity(places.fields.len());
        for field in fields {
            all.push(field?);
        }
        self.missed = 0;
        Some(RequestHead {
            method: places.method,
            target: places.target.of(head)?,
            path: places.path.of(head)?,
            host: places.host.of(head)?,
            version: places.version,
            fields: all,
            framing,
            keep_alive: places.keep_alive,
            expects_continue: places.expects_continue,
            upgrade: None,
        })
    }

    /// Takes note of a head that was parsed, and keeps it unless it is the first that differs: many
    /// connections have but one request.
    pub fn keep(&mut self, head: &[u8], request: &RequestHead<'_>) {
        // Whatever becomes of this one: what is known again is the head before, and no older one. A
        // connection's callers may be several, and what is remembered beside a head is the last one's.
        self.forget();
        self.missed = self.missed.saturating_add(1);
        if self.missed == 1 || self.missed > MISSED_MAX || head.len() > HEAD_BYTES_MAX {
            return;
        }
        self.places = Places::of(head, request).map(Box::new);
        if self.places.is_some() {
            self.bytes.extend_from_slice(head);
        }
    }

    fn forget(&mut self) {
        self.places = None;
        self.bytes.zeroize();
        self.bytes.clear();
    }
}

impl Drop for HeadMemo {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Places {
    fn of(head: &[u8], request: &RequestHead<'_>) -> Option<Self> {
        let method = match request.method {
            Method::Get => Method::Get,
            Method::Head => Method::Head,
            Method::Post => Method::Post,
            Method::Put => Method::Put,
            Method::Delete => Method::Delete,
            Method::Patch => Method::Patch,
            Method::Options => Method::Options,
            Method::Other(_) => return None,
        };
        if request.upgrade.is_some() {
            return None;
        }
        let fields = request.fields.iter().map(|field| {
            let name = Span::within(head, field.name)?;
            Some((name, Span::within(head, field.value)?, field.id))
        });
        let digits = match request.framing {
            RequestFraming::Length(0) => return None,
            RequestFraming::Length(_) => {
                Span::within(head, request.field(FieldName::ContentLength)?)?
            }
            RequestFraming::None | RequestFraming::Chunked => Span(0, 0),
        };
        Some(Self {
            digits,
            method,
            target: Span::within(head, request.target)?,
            path: Span::within(head, request.path)?,
            host: Span::within(head, request.host)?,
            version: request.version,
            fields: fields.collect::<Option<_>>()?,
            framing: request.framing,
            keep_alive: request.keep_alive,
            expects_continue: request.expects_continue,
        })
    }
}

impl Span {
    /// Where `part` is in `head`; `None`: it is no slice of it.
    fn within(head: &[u8], part: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(head.as_ptr().addr())?;
        let end = start + part.len();
        if end > head.len() {
            return None;
        }
        Some(Self(start.try_into().ok()?, end.try_into().ok()?))
    }

    fn of(self, head: &[u8]) -> Option<&[u8]> {
        head.get(self.0.into()..self.1.into())
    }
}

#[cfg(test)]
mod tests;
