//! An answer on its way into frames: the bytes of an HTTP response, read as they come.
//!
//! A stream of events is passed on event by event; `[DONE]`, which is no JSON and says what
//! `universal.done` says, stays behind. Any other answer is gathered and goes whole into `response`:
//! as it stands if it is JSON, else as a string, in base64 where it is no text. An answer with a
//! status of 400 or more is a `universal.error`, whoever gave it.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll},
};

use serde_json::{Value, json};

use super::{
    frame::{self, Metadata},
    hub::Place,
};
use crate::{
    http::{
        body::{ChunkDecoder, LengthCounter},
        event_stream::EventStream,
        head::{HeadScan, Method, ResponseFraming, ResponseHead, parse_response},
        header::{FieldName, whole_number},
    },
    provider::{dialect::Shape, meter::Encoding},
    shard::{reply::Refusal, stream::Sink},
};

/// Bytes of an answer that each request may gather; one of a socket at a time may gather more.
const SHARE_BYTES: usize = 1024 * 1024;

/// Greatest answer that goes into one frame: as much as may be cached.
const ANSWER_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Greatest event of a stream: an image in parts has a few megabytes in one.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Greatest head. Its fields are the provider's, whose head has its own, lower bound.
const HEAD_BYTES_MAX: usize = 1024 * 1024;

/// Where the answer to one request goes.
pub(super) struct Answer {
    place: Place,
    reading: RefCell<Reading>,
}

impl Answer {
    /// The answer to the request in `place`.
    pub(super) fn new(place: Place, event_id: Option<String>) -> Self {
        Self {
            place,
            reading: RefCell::new(Reading::new(event_id)),
        }
    }

    /// Says that nothing more comes: an answer that is not whole ends in an error.
    pub(super) fn end(&self) {
        let mut out = Vec::new();
        self.reading.borrow_mut().end(&mut out);
        self.place.push(&out);
    }
}

impl Sink for Answer {
    fn poll_take(&self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.place.is_gone(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let gathered = self.reading.borrow().gathered();
        let fits = gathered + bytes.len() <= SHARE_BYTES || self.place.may_be_large(cx);
        if !fits || !self.place.has_room(cx) {
            return Poll::Pending;
        }
        let mut out = Vec::new();
        let gathered = {
            let mut reading = self.reading.borrow_mut();
            reading.take(bytes, &mut out);
            reading.gathered()
        };
        if gathered <= SHARE_BYTES {
            // A large piece of a stream has become frames.
            self.place.be_small();
        }
        if !out.is_empty() {
            self.place.push(&out);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.place.is_gone(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn cut(&self) {
        self.reading.borrow_mut().is_cut = true;
    }
}

/// How far an answer has been read.
struct Reading {
    metadata: Metadata,
    /// Its end was not its own.
    is_cut: bool,
    stage: Stage,
}

enum Stage {
    /// In its head, or an interim one before it.
    Head(Vec<u8>),
    Body {
        framing: Framing,
        kind: Kind,
    },
    /// Everything was said.
    Done,
}

enum Framing {
    Length(LengthCounter),
    Chunked(Box<ChunkDecoder>),
    Close,
}

enum Kind {
    Events {
        stream: Box<EventStream>,
        id: Value,
    },
    /// Gathered; `plain` if it can be read as it is.
    Whole {
        body: Vec<u8>,
        plain: bool,
    },
    /// An error was said; the rest is read to its end, because it is paid for and its record wants
    /// its usage.
    Unwanted,
}

impl Reading {
    fn new(event_id: Option<String>) -> Self {
        Self {
            metadata: Metadata {
                event_id,
                ..Metadata::default()
            },
            is_cut: false,
            stage: Stage::Head(Vec::new()),
        }
    }

    /// Bytes that are held.
    fn gathered(&self) -> usize {
        match &self.stage {
            Stage::Head(bytes) => bytes.len(),
            Stage::Body {
                kind: Kind::Whole { body, .. },
                ..
            } => body.len(),
            Stage::Body { .. } | Stage::Done => 0,
        }
    }

    /// Takes a piece, and appends the frames that come of it.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Stage::Head(head) = &mut self.stage {
            head.extend_from_slice(bytes);
            let head = std::mem::take(head);
            self.take_head(head, out);
        } else {
            self.take_body(bytes, out);
        }
    }

    fn take_head(&mut self, mut bytes: Vec<u8>, out: &mut Vec<u8>) {
        loop {
            let end = match HeadScan::response().find_end(&bytes, HEAD_BYTES_MAX) {
                Ok(Some(end)) => end,
                Ok(None) => {
                    self.stage = Stage::Head(bytes);
                    return;
                }
                Err(_) => return self.fail(&broken(), out),
            };
            let rest = bytes.split_off(end);
            let Ok(head) = parse_response(&bytes, Method::Post) else {
                return self.fail(&broken(), out);
            };
            if head.is_interim() {
                bytes = rest;
                continue;
            }
            self.begin(&head, out);
            return self.take_body(&rest, out);
        }
    }

    /// Notes what the head says, and how the body is read.
    fn begin(&mut self, head: &ResponseHead<'_>, out: &mut Vec<u8>) {
        let text = |name: FieldName| {
            let value = head.field(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let named = |name: &str| {
            let mut fields = head.fields.iter();
            let field = fields.find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))?;
            Some(String::from_utf8_lossy(field.value).into_owned())
        };
        self.metadata = Metadata {
            cache_status: text(FieldName::CfAigCacheStatus),
            // The caller's own first: a refusal of a stranger's has none of his.
            event_id: (self.metadata.event_id.take()).or_else(|| named("cf-aig-event-id")),
            log_id: text(FieldName::CfAigLogId),
            step: text(FieldName::CfAigStep),
            content_type: text(FieldName::ContentType),
            status: Some(head.status),
            run_id: named("cf-aig-run-id"),
            retry_after: head.field(FieldName::RetryAfter).and_then(whole_number),
            encoding: None,
        };
        let content_type = head.field(FieldName::ContentType).unwrap_or_default();
        let encoding = head.field(FieldName::ContentEncoding).unwrap_or_default();
        let plain = matches!(Encoding::of_header(encoding), Encoding::Identity);
        let is_stream = Shape::of_content_type(content_type) == Shape::EventStream;
        let kind = if is_stream && plain && head.status < 400 {
            frame::created(out, &self.metadata, None);
            Kind::Events {
                stream: Box::new(EventStream::with_limit(EVENT_BYTES_MAX)),
                id: json!(self.metadata.event_id),
            }
        } else {
            Kind::Whole {
                body: Vec::new(),
                plain,
            }
        };
        let framing = match head.framing {
            ResponseFraming::None => Framing::Length(LengthCounter::new(0)),
            ResponseFraming::Length(bytes) => Framing::Length(LengthCounter::new(bytes)),
            ResponseFraming::Chunked => Framing::Chunked(Box::default()),
            ResponseFraming::Close => Framing::Close,
        };
        self.stage = Stage::Body { framing, kind };
    }

    fn take_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Stage::Body { framing, kind } = &mut self.stage else {
            return;
        };
        let mut take = |payload: &[u8]| kind.take(payload, out);
        let is_done = match framing {
            Framing::Length(counter) => {
                let fed = counter.feed(bytes);
                take(bytes.get(..fed.consumed).unwrap_or_default());
                fed.done
            }
            Framing::Chunked(decoder) => match decoder.feed(bytes, take) {
                Ok(fed) => fed.done,
                Err(_) => return self.fail(&broken(), out),
            },
            Framing::Close => {
                take(bytes);
                false
            }
        };
        if let Some(refusal) = kind.too_large() {
            frame::refused(out, &self.metadata, &refusal);
            *kind = Kind::Unwanted;
        }
        if is_done {
            self.finish(out);
        }
    }

    /// Ends an answer that is whole.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let Stage::Body { kind, .. } = std::mem::replace(&mut self.stage, Stage::Done) else {
            return;
        };
        match kind {
            Kind::Events { mut stream, id } => {
                stream.finish(|event| pass(out, &id, event.name, event.data));
                frame::done(out, &self.metadata);
            }
            Kind::Whole { body, plain } => self.finish_whole(&body, plain, out),
            Kind::Unwanted => {}
        }
    }

    fn finish_whole(&mut self, body: &[u8], plain: bool, out: &mut Vec<u8>) {
        let said;
        let json = frame::as_json(body).filter(|_| plain && self.may_be_json());
        let response = if let Some(json) = json {
            json
        } else {
            (said, self.metadata.encoding) = if plain {
                frame::as_string(body)
            } else {
                (frame::in_base64(body), Some("base64"))
            };
            &said
        };
        let status = self.metadata.status.unwrap_or_default();
        if status < 400 {
            frame::created(out, &self.metadata, Some(response));
            frame::done(out, &self.metadata);
            return;
        }
        if let Some((error, description)) = own_error(body) {
            frame::error(out, &self.metadata, &error, &description, None);
            return;
        }
        let message = format!("The provider answered with status {status}");
        let error = json!([{"code": CODE_PROVIDER, "message": message}]);
        let description = "the provider refused the request or failed; what it said is in response";
        frame::error(out, &self.metadata, &error, description, Some(response));
    }

    /// Says whether the answer claims to be JSON, or claims nothing.
    fn may_be_json(&self) -> bool {
        let content_type = self.metadata.content_type.as_deref();
        content_type.is_none_or(|text| Shape::of_content_type(text.as_bytes()) == Shape::Json)
    }

    /// Says that nothing more comes.
    fn end(&mut self, out: &mut Vec<u8>) {
        match &self.stage {
            Stage::Done => {}
            Stage::Body {
                framing: Framing::Close,
                ..
            } if !self.is_cut => self.finish(out),
            Stage::Body {
                kind: Kind::Unwanted,
                ..
            } => self.stage = Stage::Done,
            Stage::Body { .. } => {
                let why =
                    "the answer broke off before its end; the record with this logId says why";
                self.fail(&Refusal::upstream_failed(&why), out);
            }
            Stage::Head(_) => {
                let why = "the request ended without an answer";
                self.fail(&Refusal::internal(why), out);
            }
        }
    }

    /// Says what went wrong, and nothing behind it.
    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        if matches!(self.stage, Stage::Head(_)) {
            self.metadata.status = Some(refusal.status);
        }
        frame::refused(out, &self.metadata, refusal);
        self.stage = Stage::Done;
    }
}

/// The contract's code of a provider that failed.
const CODE_PROVIDER: u32 = 2005;

fn broken() -> Refusal {
    Refusal::internal("the answer could not be read")
}

impl Kind {
    fn take(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Events { stream, id } => {
                stream.feed(payload, |event| pass(out, id, event.name, event.data));
            }
            // Beyond the bound nothing is held; that it was met is seen right after.
            Self::Whole { body, .. } if body.len() <= ANSWER_BYTES_MAX => {
                body.extend_from_slice(payload);
            }
            Self::Whole { .. } | Self::Unwanted => {}
        }
    }

    /// What there is to say if it has become too large for frames.
    fn too_large(&self) -> Option<Refusal> {
        let why = match self {
            Self::Events { stream, .. } if stream.skipped() > 0 => format!(
                "an event of the stream is larger than {EVENT_BYTES_MAX} bytes, which is the most that goes over a socket; ask over HTTP"
            ),
            Self::Whole { body, .. } if body.len() > ANSWER_BYTES_MAX => format!(
                "the answer is larger than {ANSWER_BYTES_MAX} bytes, which is the most that goes over a socket; ask over HTTP"
            ),
            Self::Events { .. } | Self::Whole { .. } | Self::Unwanted => return None,
        };
        Some(Refusal::upstream_failed(&why))
    }
}

/// Appends the frame of one event.
fn pass(out: &mut Vec<u8>, id: &Value, name: &[u8], data: &[u8]) {
    if data == b"[DONE]" {
        return;
    }
    if let Some(json) = frame::as_json(data) {
        return frame::event(out, id, name, json);
    }
    let text = String::from_utf8_lossy(data);
    let (string, _) = frame::as_string(text.as_bytes());
    frame::event(out, id, name, &string);
}

/// The list of errors and the description in a refusal of this server's own.
fn own_error(body: &[u8]) -> Option<(Value, String)> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let is_ours = body.get("name")? == "AiGatewayError" && body.get("error")?.is_array();
    let description = body.get("description")?.as_str()?.to_owned();
    is_ours.then(|| (body["error"].take(), description))
}

#[cfg(test)]
mod tests;
