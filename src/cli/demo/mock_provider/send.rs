//! Puts an answer on the wire: framing, pace, and the ways in which it may break off.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::{Answer, Body, Events, FILLING};
use super::command::{Command, Cut, CutAt, Framing};
use super::malformed;
use super::peer::{Gone, Peer};

/// What of the request decides how its answer is framed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) head_only: bool,
    pub(super) version_11: bool,
    pub(super) keep_alive: bool,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Bytes of the body handed to the socket, before framing.
    pub(super) body_bytes: u64,
    /// Events handed to the socket.
    pub(super) events: u64,
    pub(super) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it; the connection may live on.
    Complete { keep_alive: bool },
    /// Broken off by command.
    Cut { reset: bool },
    /// The peer hung up first.
    Aborted,
}

/// Sends `answer` as `command` wants it sent.
pub(super) fn send(peer: &Peer, asked: Asked, mut answer: Answer, command: &Command) -> Sent {
    answer.pad(command.size);
    let mut sink = Sink {
        peer,
        command,
        chunked: false,
        pending: Vec::with_capacity(PENDING_BYTES),
        body_bytes: 0,
        events: 0,
    };
    let end = match sink.answer(asked, answer) {
        Ok(keep_alive) => End::Complete { keep_alive },
        Err(Stop::Cut { reset }) => End::Cut { reset },
        Err(Stop::Gone) => End::Aborted,
    };
    Sent {
        body_bytes: sink.body_bytes,
        events: sink.events,
        end,
    }
}

struct Sink<'a> {
    peer: &'a Peer,
    command: &'a Command,
    chunked: bool,
    /// Bytes for the next write: a small answer leaves in one.
    pending: Vec<u8>,
    body_bytes: u64,
    events: u64,
}

/// Why an answer ended before its end.
enum Stop {
    Cut { reset: bool },
    Gone,
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Sink<'_> {
    /// Whether the connection may carry another request.
    fn answer(&mut self, asked: Asked, answer: Answer) -> Result<bool, Stop> {
        let command = self.command;
        self.peer.wait(command.delay)?;
        if command.hang {
            return Err(self.peer.hang().into());
        }
        if let Some(word) = command.malformed {
            self.pending = malformed::bytes(word, &prefix(&answer.body));
            self.flush()?;
            return Ok(false);
        }
        let cut = command.cut;
        if let Some(Cut {
            at: CutAt::Before,
            reset,
        }) = cut
        {
            return Err(Stop::Cut { reset });
        }
        if command.interim {
            self.pending.extend_from_slice(INTERIM);
        }

        let answer = if command.gzip {
            compress(answer)
        } else {
            answer
        };
        let bodiless = matches!(answer.status, 204 | 304);
        let framing = if bodiless {
            Framing::Length
        } else {
            self.framing(asked, &answer.body)
        };
        let keep_alive =
            asked.keep_alive && framing != Framing::Close && !command.close && !command.http10;
        self.head(asked, &answer, framing, keep_alive, bodiless);
        if let Some(Cut {
            at: CutAt::Head,
            reset,
        }) = cut
        {
            self.pending.truncate(self.pending.len() / 2);
            self.flush()?;
            return Err(Stop::Cut { reset });
        }
        if !bodiless && !asked.head_only {
            self.chunked = framing == Framing::Chunked;
            self.body(&answer.body)?;
            if self.chunked {
                self.pending.extend_from_slice(b"0\r\n");
                if command.trailers {
                    self.pending.extend_from_slice(TRAILERS);
                }
                self.pending.extend_from_slice(b"\r\n");
            }
        }
        if command.surplus {
            self.pending.extend_from_slice(SURPLUS);
        }
        self.flush()?;
        Ok(keep_alive)
    }

    fn framing(&self, asked: Asked, body: &Body) -> Framing {
        let streamed = match body {
            // A compressed stream has no length before it ends.
            Body::Events(_) if self.command.gzip => true,
            Body::Events(_) => self.command.framing != Some(Framing::Length),
            Body::Whole { .. } => self.command.trailers,
        };
        let old = !asked.version_11 || self.command.http10;
        match self.command.framing {
            Some(Framing::Close) => Framing::Close,
            Some(Framing::Chunked) if !old => Framing::Chunked,
            _ if streamed && old => Framing::Close,
            _ if streamed => Framing::Chunked,
            _ => Framing::Length,
        }
    }

    fn head(
        &mut self,
        asked: Asked,
        answer: &Answer,
        framing: Framing,
        keep_alive: bool,
        bodiless: bool,
    ) {
        let version: &[u8] = if self.command.http10 {
            b"HTTP/1.0 "
        } else {
            b"HTTP/1.1 "
        };
        let out = &mut self.pending;
        out.extend_from_slice(version);
        out.extend_from_slice(answer.status.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(answer.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut field = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        };
        if !bodiless {
            field("content-type", answer.content_type);
            match framing {
                Framing::Length => field(
                    "content-length",
                    &self.command.body_len(&answer.body).to_string(),
                ),
                Framing::Chunked => field("transfer-encoding", "chunked"),
                Framing::Close => {}
            }
        }
        if self.command.trailers && framing == Framing::Chunked {
            field("trailer", "x-mock-trailer, x-mock-end");
        }
        if !keep_alive {
            field("connection", "close");
        } else if !asked.version_11 {
            field("connection", "keep-alive");
        }
        for (name, value) in &answer.fields {
            field(name, value);
        }
        if self.command.setcookie {
            field("set-cookie", "tide=high; Path=/; HttpOnly");
            field("set-cookie", "moon=full; Path=/");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn body(&mut self, body: &Body) -> Result<(), Stop> {
        match body {
            Body::Whole {
                start,
                padding,
                end,
            } => {
                self.bytes(start)?;
                let filling = [FILLING; FILLING_BLOCK];
                let mut rest = *padding;
                while rest > 0 {
                    let len = usize::try_from(rest)
                        .unwrap_or(usize::MAX)
                        .min(filling.len());
                    self.bytes(&filling[..len])?;
                    rest -= len as u64;
                }
                self.bytes(end)
            }
            Body::Events(events) => self.events(events),
        }
    }

    fn events(&mut self, events: &Events) -> Result<(), Stop> {
        let mut padding = Padding::of(events, self.command.size);
        let mut gzip = self
            .command
            .gzip
            .then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let mut event = Vec::new();
        for index in 0..events.count() {
            if index > 0 && !self.command.event_delay.is_zero() {
                self.peer.wait(self.command.event_delay)?;
            }
            event.clear();
            let filling = if events.is_delta(index) {
                padding.next()
            } else {
                0
            };
            let now = if events.stamp { micros_now() } else { 0 };
            events.write(index, filling, now, &mut event);
            if let Some(gzip) = &mut gzip {
                deflate(gzip, &event);
                std::mem::swap(&mut event, gzip.get_mut());
                gzip.get_mut().clear();
            }
            self.bytes(&event)?;
            self.flush()?;
            self.events += 1;
        }
        match gzip.map(GzEncoder::finish) {
            Some(Ok(tail)) => self.bytes(&tail),
            _ => Ok(()),
        }
    }

    /// Adds bytes of the body, as far as the commands let them through.
    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            if let Some(drip) = self.command.drip.filter(|_| self.body_bytes > 0) {
                self.flush()?;
                self.peer.wait(drip.pause)?;
            }
            let most = self.command.drip.map_or(CHUNK_BYTES, |drip| drip.bytes);
            let piece = &bytes[..bytes.len().min(most)];
            let room = usize::try_from(self.stop_at().saturating_sub(self.body_bytes))
                .unwrap_or(usize::MAX);
            let let_through = &piece[..piece.len().min(room)];
            if self.chunked {
                let _ = write!(self.pending, "{:x}\r\n", piece.len());
            }
            self.pending.extend_from_slice(let_through);
            self.body_bytes += let_through.len() as u64;
            if room <= piece.len() {
                return Err(self.stop());
            }
            if self.chunked {
                self.pending.extend_from_slice(b"\r\n");
            }
            bytes = &bytes[piece.len()..];
            if self.pending.len() >= PENDING_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// After how many bytes of the body a command ends it.
    fn stop_at(&self) -> u64 {
        let cut = match self.command.cut {
            Some(Cut {
                at: CutAt::Body(bytes),
                ..
            }) => bytes,
            _ => u64::MAX,
        };
        cut.min(self.command.hang_after.unwrap_or(u64::MAX))
    }

    fn stop(&mut self) -> Stop {
        if self.flush().is_err() {
            return Stop::Gone;
        }
        match self.command.cut {
            Some(Cut {
                at: CutAt::Body(bytes),
                reset,
            }) if bytes == self.body_bytes => Stop::Cut { reset },
            _ => self.peer.hang().into(),
        }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if !self.pending.is_empty() {
            self.peer.write(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

impl Command {
    /// The length of a body as these commands shape it.
    fn body_len(&self, body: &Body) -> u64 {
        match body {
            Body::Whole {
                start,
                padding,
                end,
            } => start.len() as u64 + padding + end.len() as u64,
            Body::Events(events) => {
                events.len() + Padding::of(events, self.size).total(events.deltas.count())
            }
        }
    }
}

/// How the filling of a stream is spread over its deltas.
struct Padding {
    each: usize,
    /// So many deltas get one byte more, so that the sum fits.
    one_more: u64,
}

impl Padding {
    fn of(events: &Events, size: Option<u64>) -> Self {
        let missing = match size {
            Some(size) if events.deltas.can_grow() => size.saturating_sub(events.len()),
            _ => 0,
        };
        let count = events.deltas.count().max(1);
        let each = usize::try_from(missing / count).unwrap_or(usize::MAX);
        Self {
            each: each.min(EVENT_PADDING_MAX),
            one_more: missing % count,
        }
    }

    fn next(&mut self) -> usize {
        let more = usize::from(self.one_more > 0);
        self.one_more = self.one_more.saturating_sub(1);
        self.each + more
    }

    fn total(&self, deltas: u64) -> u64 {
        deltas * self.each as u64 + self.one_more
    }
}

fn compress(mut answer: Answer) -> Answer {
    if let Body::Whole {
        start,
        padding,
        end,
    } = &mut answer.body
    {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let filling = [FILLING; FILLING_BLOCK];
        // Writing to a Vec cannot fail.
        let _ = gzip.write_all(start);
        let mut rest = *padding;
        while rest > 0 {
            let len = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(filling.len());
            let _ = gzip.write_all(&filling[..len]);
            rest -= len as u64;
        }
        let _ = gzip.write_all(end);
        *start = gzip.finish().unwrap_or_default();
        *padding = 0;
        end.clear();
    }
    answer
        .with("content-encoding", "gzip")
        .with("vary", "accept-encoding")
}

fn deflate(gzip: &mut GzEncoder<Vec<u8>>, bytes: &[u8]) {
    // Writing to a Vec cannot fail; the flush ends the event at a byte's border.
    let _ = gzip.write_all(bytes);
    let _ = gzip.flush();
}

/// What a malformed answer carries as its body.
fn prefix(body: &Body) -> Vec<u8> {
    match body {
        Body::Whole { start, end, .. } => [start.as_slice(), end.as_slice()].concat(),
        Body::Events(events) => {
            let mut out = Vec::new();
            for index in 0..events.count().min(4) {
                events.write(index, 0, 0, &mut out);
            }
            out
        }
    }
}

pub(super) fn micros_now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Mock",
    }
}

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nlink: </tide.css>; rel=preload\r\n\r\n";
const TRAILERS: &[u8] = b"x-mock-trailer: tide\r\nx-mock-end: yes\r\n";
const SURPLUS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsurplus!";

/// Bytes gathered before they are written.
const PENDING_BYTES: usize = 16 * 1024;

/// Largest chunk; a larger piece of a body becomes several.
const CHUNK_BYTES: usize = 64 * 1024;

const FILLING_BLOCK: usize = 16 * 1024;

/// Most filling of one event, so that a vast `size` with few events stays harmless.
const EVENT_PADDING_MAX: usize = 16 * 1024 * 1024;
