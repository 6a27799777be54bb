//! An answer before it meets the wire: a status, fields, and a body or the events of a stream.

use serde_json::Value;

use super::ask::{Ask, PADDING_MARK, Story};
use super::digest::{base64, crc32};

/// What is sent back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// `start`, then `padding` bytes of filling, then `end`.
    Whole {
        start: Vec<u8>,
        padding: u64,
        end: Vec<u8>,
    },
    Events(Box<Events>),
}

/// A stream: events at its start, one delta for each token, events at its end.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) form: Form,
    pub(super) opening: Vec<Event>,
    pub(super) deltas: Deltas,
    pub(super) closing: Vec<Event>,
    pub(super) stamp: bool,
}

/// One event; its data is a JSON object or a plain word such as `[DONE]`.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The SSE event name or the Amazon event type; empty if it has none.
    pub(super) name: &'static str,
    pub(super) data: Vec<u8>,
}

/// The events that carry the text.
#[derive(Debug)]
pub(super) struct Deltas {
    name: &'static str,
    template: Vec<Part>,
    pieces: Pieces,
    /// Sequence number of the first one.
    first: u64,
}

#[derive(Debug)]
enum Pieces {
    Story(Story),
    Given(Vec<String>),
}

#[derive(Debug)]
enum Part {
    Literal(Vec<u8>),
    Text,
    Sequence,
}

/// How a stream's events are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Sse,
    /// Lines end in CRLF, as Google sends them.
    SseCrlf,
    /// One JSON array.
    JsonArray,
    JsonLines,
    /// Amazon's binary frames; the event's name is its type.
    Amazon,
    /// The same, each frame a `chunk` with the event in base64.
    AmazonChunks,
}

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::whole(status, "application/json", value.to_string().into_bytes())
    }

    pub(super) fn whole(status: u16, content_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            fields: Vec::new(),
            body: Body::Whole {
                start: bytes,
                padding: 0,
                end: Vec::new(),
            },
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::whole(status, "", Vec::new())
    }

    pub(super) fn events(
        ask: &Ask<'_>,
        form: Form,
        opening: Vec<Event>,
        deltas: Deltas,
        closing: Vec<Event>,
    ) -> Self {
        let events = Events {
            form,
            opening,
            deltas,
            closing,
            stamp: ask.command.stamp,
        };
        Self {
            status: 200,
            content_type: form.content_type(),
            fields: Vec::new(),
            body: Body::Events(Box::new(events)),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Brings a whole body to `size`, by filling where the mark stands, else at its end.
    pub(super) fn pad(&mut self, size: Option<u64>) {
        let Body::Whole {
            start,
            padding,
            end,
        } = &mut self.body
        else {
            return;
        };
        if let Some(at) = memchr::memmem::find(start, PADDING_MARK.as_bytes()) {
            *end = start.split_off(at).split_off(PADDING_MARK.len());
        }
        let len = (start.len() + end.len()) as u64;
        *padding = size.unwrap_or(0).saturating_sub(len);
    }
}

impl Event {
    pub(super) fn new(name: &'static str, data: &Value) -> Self {
        Self::text(name, data.to_string())
    }

    pub(super) fn text(name: &'static str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name,
            data: data.into(),
        }
    }

    pub(super) fn done() -> Self {
        Self::text("", "[DONE]")
    }
}

impl Deltas {
    /// Deltas that tell the story; `value` holds [`TEXT`] where its pieces go.
    pub(super) fn story(ask: &Ask<'_>, name: &'static str, value: &Value) -> Self {
        Self::new(name, value, Pieces::Story(ask.story.clone()))
    }

    /// Deltas of a tool call's arguments.
    pub(super) fn tool(ask: &Ask<'_>, name: &'static str, value: &Value) -> Self {
        let escaped = ask.tool_pieces().map(|piece| piece.replace('"', "\\\""));
        Self::new(name, value, Pieces::Given(escaped.into()))
    }

    pub(super) fn none() -> Self {
        Self::new("", &Value::Null, Pieces::Given(Vec::new()))
    }

    /// Numbers the deltas from `first` where [`SEQUENCE`] stands.
    pub(super) fn numbered_from(mut self, first: usize) -> Self {
        self.first = first as u64;
        self
    }

    fn new(name: &'static str, value: &Value, pieces: Pieces) -> Self {
        Self {
            name,
            template: template(&value.to_string()),
            pieces,
            first: 0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        match &self.pieces {
            Pieces::Story(story) => story.pieces,
            Pieces::Given(pieces) => pieces.len() as u64,
        }
    }

    /// Whether filling may be added to the pieces.
    pub(super) fn can_grow(&self) -> bool {
        matches!(&self.pieces, Pieces::Story(story) if story.pieces > 0)
    }

    fn write(&self, index: u64, padding: usize, out: &mut Vec<u8>) {
        for part in &self.template {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Text => {
                    out.extend_from_slice(self.piece(index).as_bytes());
                    out.resize(out.len() + padding, FILLING);
                }
                Part::Sequence => {
                    let number = self.first + index;
                    out.extend_from_slice(number.to_string().as_bytes());
                }
            }
        }
    }

    fn piece(&self, index: u64) -> &str {
        match &self.pieces {
            Pieces::Story(story) => story.piece(index),
            Pieces::Given(pieces) => usize::try_from(index)
                .ok()
                .and_then(|at| pieces.get(at))
                .map_or("", String::as_str),
        }
    }
}

impl Events {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.opening.len() as u64 + self.deltas.count() + self.closing.len() as u64
    }

    /// Appends event `index` as it goes to the wire. `padding` bytes are added to a delta's text,
    /// `now` micros since the epoch to the data where stamps are wanted.
    pub(super) fn write(&self, index: u64, padding: usize, now: u64, out: &mut Vec<u8>) {
        let opening = self.opening.len() as u64;
        let deltas = self.deltas.count();
        let given = |events: &[Event], at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| events.get(at))
                .map_or((Vec::new(), ""), |event| (event.data.clone(), event.name))
        };
        let (mut data, name) = if index < opening {
            given(&self.opening, index)
        } else if index < opening + deltas {
            let mut data = Vec::with_capacity(256 + padding);
            self.deltas.write(index - opening, padding, &mut data);
            (data, self.deltas.name)
        } else {
            given(&self.closing, index - opening - deltas)
        };
        if self.stamp && data.first() == Some(&b'{') {
            let stamp = format!("\"stamp\":{now:016},");
            data.splice(1..1, stamp.into_bytes());
        }
        self.form
            .frame(name, &data, index == 0, index + 1 == self.count(), out);
    }

    /// Whether event `index` is one of the deltas.
    pub(super) fn is_delta(&self, index: u64) -> bool {
        let opening = self.opening.len() as u64;
        (opening..opening + self.deltas.count()).contains(&index)
    }

    /// The stream's length without padding.
    pub(super) fn len(&self) -> u64 {
        let mut scratch = Vec::new();
        (0..self.count())
            .map(|index| {
                scratch.clear();
                self.write(index, 0, STAMP_SAMPLE, &mut scratch);
                scratch.len() as u64
            })
            .sum()
    }
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::SseCrlf => "text/event-stream",
            Self::JsonArray => "application/json; charset=UTF-8",
            Self::JsonLines => "application/stream+json",
            Self::Amazon | Self::AmazonChunks => "application/vnd.amazon.eventstream",
        }
    }

    fn frame(self, name: &str, data: &[u8], first: bool, last: bool, out: &mut Vec<u8>) {
        match self {
            Self::Sse => {
                if !name.is_empty() {
                    out.extend_from_slice(b"event: ");
                    out.extend_from_slice(name.as_bytes());
                    out.push(b'\n');
                }
                // A comment goes to the wire as it is.
                if !data.starts_with(b":") {
                    out.extend_from_slice(b"data: ");
                }
                out.extend_from_slice(data);
                out.extend_from_slice(b"\n\n");
            }
            Self::SseCrlf => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n\r\n");
            }
            Self::JsonArray => {
                out.extend_from_slice(if first { b"[" } else { b",\r\n" });
                out.extend_from_slice(data);
                if last {
                    out.extend_from_slice(b"\n]");
                }
            }
            Self::JsonLines => {
                out.extend_from_slice(data);
                out.push(b'\n');
            }
            Self::Amazon => amazon_frame(name, data, out),
            Self::AmazonChunks => {
                let wrapped = format!("{{\"bytes\":\"{}\",\"p\":\"abcdef\"}}", base64(data));
                amazon_frame("chunk", wrapped.as_bytes(), out);
            }
        }
    }
}

/// One message of `application/vnd.amazon.eventstream`: lengths, their CRC-32, headers, payload,
/// CRC-32 of all before.
pub(super) fn amazon_frame(event_type: &str, payload: &[u8], out: &mut Vec<u8>) {
    let mut headers = Vec::new();
    for (name, value) in [
        (":event-type", event_type),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ] {
        headers.push(u8::try_from(name.len()).unwrap_or(0));
        headers.extend_from_slice(name.as_bytes());
        headers.push(AMAZON_STRING);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let start = out.len();
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length(AMAZON_OVERHEAD + headers.len() + payload.len()));
    out.extend_from_slice(&length(headers.len()));
    let prelude_crc = crc32(&out[start..]);
    out.extend_from_slice(&prelude_crc.to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload);
    let message_crc = crc32(&out[start..]);
    out.extend_from_slice(&message_crc.to_be_bytes());
}

fn template(json: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, around_text) in json.split(TEXT).enumerate() {
        if i > 0 {
            parts.push(Part::Text);
        }
        for (j, literal) in around_text.split(SEQUENCE_QUOTED).enumerate() {
            if j > 0 {
                parts.push(Part::Sequence);
            }
            parts.push(Part::Literal(literal.as_bytes().to_vec()));
        }
    }
    parts
}

/// Stands for a delta's text in its template.
pub(super) const TEXT: &str = "@TEXT@";

/// Stands for a delta's number in its template: a string there, a number on the wire.
pub(super) const SEQUENCE: &str = "@SEQUENCE@";
const SEQUENCE_QUOTED: &str = "\"@SEQUENCE@\"";

/// What padding is made of.
pub(super) const FILLING: u8 = b'x';

/// Any moment with as many digits as now has.
const STAMP_SAMPLE: u64 = 1_735_689_600_000_000;

/// Bytes of a frame that are neither headers nor payload.
const AMAZON_OVERHEAD: usize = 16;

/// The header value type of a string.
const AMAZON_STRING: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amazon_frame_has_the_published_layout() {
        let mut out = Vec::new();
        amazon_frame("chunk", b"{}", &mut out);
        let total = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
        let headers = u32::from_be_bytes(out[4..8].try_into().unwrap()) as usize;
        assert_eq!(total, out.len());
        assert_eq!(&out[12 + headers..total - 4], b"{}");
        assert_eq!(out[8..12], crc32(&out[..8]).to_be_bytes());
        assert_eq!(out[total - 4..], crc32(&out[..total - 4]).to_be_bytes());
        assert_eq!(&out[12..24], b"\x0b:event-type");
    }

    #[test]
    fn templates_take_text_and_number() {
        let value = serde_json::json!({ "n": SEQUENCE, "t": TEXT });
        let mut deltas = Deltas::new("", &value, Pieces::Given(vec!["a".to_owned()]));
        deltas = deltas.numbered_from(7);
        let mut out = Vec::new();
        deltas.write(0, 2, &mut out);
        assert_eq!(out, br#"{"n":7,"t":"axx"}"#);
    }
}
