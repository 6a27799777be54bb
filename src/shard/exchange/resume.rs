//! A stream goes on where its caller lost it.
//!
//! A stream of a gateway with `resume_for` carries `cf-aig-run-id`. The same caller (gateway, key, credentials)
//! who sends that field to the same provider, by GET or POST with whatever body, gets the same
//! answer again, from its beginning or from behind what he has:
//!
//! * `tg-offset: N`: N bytes of the body, without framing and as they were sent.
//! * `Last-Event-ID: X`: the event with that `id`. In a stream whose events have no ids X is a
//!   number: how many events the caller has.

use super::{
    Ended, Errand, Stopped,
    cached::{self, credential},
    step::Step,
};
use crate::{
    http::header::FieldName,
    shard::{
        cache::run::{self, RunId, Whose},
        connection::{Downstream, Interrupt},
        record::Draft,
        reply::Refusal,
        track::Reader,
    },
};

/// Where a caller wants to go on.
enum From<'a> {
    Byte(u64),
    Event(&'a [u8]),
}

/// Goes on with the run that `id` names.
pub(super) async fn resume(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    id: &[u8],
    draft: &mut Draft<'_>,
    body_read: bool,
) -> Result<Ended, Stopped> {
    let shard = errand.shard;
    let from = wanted(step)?;
    let id = RunId::parse(id).ok_or_else(Refusal::no_run)?;
    errand.peer.deadline.set(None);
    let looking = async {
        let head = run::find(shard, id).await?;
        let reader = run::read(shard, id).ok()?;
        Some((head, reader))
    };
    let whose = whose(errand, step, draft);
    let peer = &mut *errand.peer;
    let looked =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, looking);
    let found = looked.await.map_err(|_| Stopped::Gone)?;
    let found = found.filter(|(head, _)| head.whose == whose);
    let (head, mut reader) = found.ok_or_else(Refusal::no_run)?;
    let seeking = seek(&mut reader, from);
    let sought =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, seeking);
    let first = match sought.await {
        Ok(found) => found.ok_or_else(Refusal::no_such_offset)?,
        Err(Interrupt::Gone | Interrupt::Late) => return Err(Stopped::Gone),
    };
    let run = Some(id);
    Ok(cached::follow(
        errand, step, &head.live, reader, &first, run, draft, body_read,
    )
    .await)
}

/// Whose a run is that is opened, or asked for, now.
pub(super) fn whose(errand: &Errand<'_, '_>, step: &Step<'_, '_>, draft: &Draft<'_>) -> Whose {
    Whose {
        gateway: draft.gateway.into(),
        provider: step.provider.slug.clone(),
        key: draft.key.into(),
        credential: credential(errand, step, draft),
    }
}

fn wanted<'h>(step: &'h Step<'_, '_>) -> Result<From<'h>, Refusal> {
    let mut fields = step.head.fields.iter();
    if let Some(field) = fields.find(|field| field.name.eq_ignore_ascii_case(b"tg-offset")) {
        let number = std::str::from_utf8(field.value).ok();
        let number = number.and_then(|text| text.parse().ok());
        return number.map(From::Byte).ok_or_else(Refusal::no_such_offset);
    }
    Ok(match step.head.field(FieldName::LastEventId) {
        Some(id) if !id.is_empty() => From::Event(id),
        _ => From::Byte(0),
    })
}

/// Reads up to where the caller wants to go on, and gives what was read beyond it. `None`: the answer
/// has no such place.
async fn seek(reader: &mut Reader, from: From<'_>) -> Option<Vec<u8>> {
    let mut seek = match from {
        From::Byte(0) => return Some(Vec::new()),
        From::Byte(bytes) => {
            let mut left = bytes;
            loop {
                let piece = reader.next().await.ok()??;
                let length = piece.bytes().len() as u64;
                if let Some(rest) = usize::try_from(left)
                    .ok()
                    .and_then(|left| piece.bytes().get(left..))
                {
                    return Some(rest.to_vec());
                }
                left -= length;
            }
        }
        From::Event(id) => EventSeek::new(id),
    };
    if seek.is_found() {
        return Some(Vec::new());
    }
    loop {
        let piece = reader.next().await.ok()??;
        if let Some(end) = seek.feed(piece.bytes()) {
            return piece.bytes().get(end..).map(<[u8]>::to_vec);
        }
    }
}

/// Longest line in which an id is looked for; longer ones hold text of a model.
const LINE_BYTES_MAX: usize = 1024;

/// Finds the end of one event in a stream.
struct EventSeek<'a> {
    id: &'a [u8],
    /// How many events the caller has, if the id is a number.
    count: Option<u64>,
    line: Vec<u8>,
    /// Bytes of the line, those that are not kept included.
    line_bytes: usize,
    /// The event has a line with some field.
    begun: bool,
    matched: bool,
    has_ids: bool,
    events: u64,
}

impl<'a> EventSeek<'a> {
    fn new(id: &'a [u8]) -> Self {
        let count = std::str::from_utf8(id).ok();
        Self {
            id,
            count: count.and_then(|text| text.parse().ok()),
            line: Vec::new(),
            line_bytes: 0,
            begun: false,
            matched: false,
            has_ids: false,
            events: 0,
        }
    }

    fn is_found(&self) -> bool {
        self.count == Some(0)
    }

    /// Takes a piece; gives where in it the event ended, if it did.
    fn feed(&mut self, piece: &[u8]) -> Option<usize> {
        for (at, byte) in piece.iter().enumerate() {
            if *byte != b'\n' {
                self.line_bytes += 1;
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(*byte);
                }
                continue;
            }
            if self.end_line() {
                return Some(at + 1);
            }
        }
        None
    }

    /// Says whether the event that was looked for has ended.
    fn end_line(&mut self) -> bool {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let empty = line.is_empty();
        if let Some(value) = line.strip_prefix(b"id:") {
            self.has_ids = true;
            let value = value.strip_prefix(b" ").unwrap_or(value);
            self.matched |= value == self.id && self.line_bytes <= LINE_BYTES_MAX;
        }
        self.line.clear();
        self.line_bytes = 0;
        if !empty {
            self.begun = true;
            return false;
        }
        if !std::mem::take(&mut self.begun) {
            return false;
        }
        self.events += 1;
        self.matched || !self.has_ids && self.count == Some(self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: &str, stream: &str, expected: Option<&str>) {
        // Whole, and byte by byte.
        let whole = EventSeek::new(id.as_bytes()).feed(stream.as_bytes());
        assert_eq!(whole.map(|end| &stream[end..]), expected);
        let mut seek = EventSeek::new(id.as_bytes());
        let mut bytes = stream.bytes();
        let found = bytes.any(|byte| seek.feed(&[byte]).is_some());
        let rest = stream.len() - bytes.len();
        assert_eq!(found.then(|| &stream[rest..]), expected);
    }

    #[test]
    fn an_event_is_found_by_its_id_or_its_number() {
        let with_ids = "id: a\ndata: 1\n\nid: 2\ndata: 2\n\nid: c\r\ndata: 3\r\n\r\nrest";
        check(
            "a",
            with_ids,
            Some("id: 2\ndata: 2\n\nid: c\r\ndata: 3\r\n\r\nrest"),
        );
        check("2", with_ids, Some("id: c\r\ndata: 3\r\n\r\nrest"));
        check("c", with_ids, Some("rest"));
        check("1", with_ids, None);
        let without = "data: 1\n\n\ndata: 2\n\ndata: 3";
        check("1", without, Some("\ndata: 2\n\ndata: 3"));
        check("2", without, Some("data: 3"));
        check("3", without, None);
        check("x", without, None);
    }
}
