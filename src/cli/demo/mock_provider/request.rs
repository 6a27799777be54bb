//! Reads HTTP/1 requests from a peer: head, then body.

use super::command::Drip;
use super::digest::Sha256;
use super::peer::{Gone, Peer};

/// Bytes from a peer, request after request.
pub(super) struct Reader<'p> {
    peer: &'p Peer,
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
}

/// Why there is no request, or no whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The peer left in the middle.
    Gone,
    /// These bytes are not HTTP/1 as a provider accepts it.
    Bad(&'static str),
}

impl From<Gone> for ReadError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// A request's head: the bytes as they came, and what the mock provider looks at.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    /// From the method to the empty line, as received.
    pub(super) raw: Vec<u8>,
    pub(super) method: String,
    pub(super) target: String,
    /// HTTP/1.1; otherwise 1.0.
    pub(super) version_11: bool,
    pub(super) keep_alive: bool,
    pub(super) framing: BodyFraming,
    pub(super) expects_continue: bool,
    pub(super) content_type: String,
    /// All `x-mock` fields, joined by commas.
    pub(super) commands: String,
    pub(super) websocket: Option<Handshake>,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum BodyFraming {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// What a WebSocket handshake offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) key: String,
    pub(super) protocols: Vec<String>,
}

/// A request's body, as far as it is kept.
#[derive(Default)]
pub(super) struct Body {
    /// The bytes, up to [`KEPT_MAX`].
    pub(super) kept: Vec<u8>,
    pub(super) len: u64,
    /// Of bodies larger than [`SMALL_MAX`]; smaller ones are hashed when somebody asks.
    pub(super) sha256: Option<String>,
    /// How many bytes of framing stood around it.
    pub(super) chunks: u64,
}

impl<'p> Reader<'p> {
    pub(super) fn new(peer: &'p Peer) -> Self {
        Self {
            peer,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
        }
    }

    /// Reads the next head; `None` when the peer is done.
    pub(super) fn head(&mut self) -> Result<Option<Head>, ReadError> {
        loop {
            // RFC 9112 section 2.2: empty lines before a request line are skipped.
            while self.unread().starts_with(b"\r\n") {
                self.start += 2;
            }
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut request = httparse::Request::new(&mut fields);
            match request.parse(self.unread()) {
                Ok(httparse::Status::Complete(len)) => {
                    let mut head = read_fields(&request)?;
                    head.raw = self.unread()[..len].to_vec();
                    self.start += len;
                    return Ok(Some(head));
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => return Err(ReadError::Bad("the head is not HTTP/1")),
            }
            if self.unread().len() >= HEAD_MAX {
                return Err(ReadError::Bad("the head is too large"));
            }
            if !self.fill()? {
                let clean = self.unread().is_empty();
                return if clean {
                    Ok(None)
                } else {
                    Err(ReadError::Gone)
                };
            }
        }
    }

    /// Reads the body that `head` announces.
    pub(super) fn body(&mut self, head: &Head, pace: Option<Drip>) -> Result<Body, ReadError> {
        let mut collector = Collector::default();
        match head.framing {
            BodyFraming::None => {}
            BodyFraming::Length(len) => self.take(len, pace, |bytes| collector.push(bytes))?,
            BodyFraming::Chunked => self.chunked(pace, &mut collector)?,
        }
        Ok(collector.finish())
    }

    fn chunked(&mut self, pace: Option<Drip>, collector: &mut Collector) -> Result<(), ReadError> {
        loop {
            let line = self.line()?;
            let digits = line.split(|b| *b == b';').next().unwrap_or_default();
            let size = chunk_size(digits).ok_or(ReadError::Bad("the chunk size is no number"))?;
            if size == 0 {
                break;
            }
            collector.body.chunks += 1;
            self.take(size, pace, |bytes| collector.push(bytes))?;
            if !self.line()?.is_empty() {
                return Err(ReadError::Bad("the chunk does not end in CRLF"));
            }
        }
        for _ in 0..FIELDS_MAX {
            if self.line()?.is_empty() {
                return Ok(());
            }
        }
        Err(ReadError::Bad("too many trailer fields"))
    }

    /// Hands the next `len` bytes over, piece by piece.
    pub(super) fn take(
        &mut self,
        mut len: u64,
        pace: Option<Drip>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        while len > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(ReadError::Gone);
            }
            let most = pace.map_or(usize::MAX, |pace| pace.bytes);
            let piece = self
                .unread()
                .len()
                .min(most)
                .min(usize::try_from(len).unwrap_or(usize::MAX));
            each(&self.unread()[..piece]);
            self.start += piece;
            len -= piece as u64;
            if let Some(pace) = pace.filter(|_| len > 0) {
                self.peer.wait(pace.pause)?;
            }
        }
        Ok(())
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        self.take(len as u64, None, |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    /// The next line without its CRLF.
    fn line(&mut self) -> Result<Vec<u8>, ReadError> {
        loop {
            if let Some(at) = memchr::memmem::find(self.unread(), b"\r\n") {
                let line = self.unread()[..at].to_vec();
                self.start += at + 2;
                return Ok(line);
            }
            if self.unread().len() >= LINE_MAX {
                return Err(ReadError::Bad("a line of the body's framing is too long"));
            }
            if !self.fill()? {
                return Err(ReadError::Gone);
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads once more; false when the peer is done.
    fn fill(&mut self) -> Result<bool, Gone> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                // Bounded: callers stop at HEAD_MAX or LINE_MAX unread bytes.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let len = self.peer.read(&mut self.buffer[self.end..])?;
        self.end += len;
        Ok(len > 0)
    }
}

fn read_fields(request: &httparse::Request<'_, '_>) -> Result<Head, ReadError> {
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        version_11: request.version == Some(1),
        ..Head::default()
    };
    head.keep_alive = head.version_11;
    let mut hosts = 0;
    let mut lengths = 0;
    let mut upgrades = false;
    let mut key = None;
    let mut protocols = Vec::new();
    for field in &*request.headers {
        let name = field.name;
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let text = || String::from_utf8_lossy(field.value).trim().to_owned();
        if is("host") {
            hosts += 1;
        } else if is("content-length") {
            lengths += 1;
            let len = decimal(field.value).ok_or(ReadError::Bad("content-length is no number"))?;
            head.framing = BodyFraming::Length(len);
        } else if is("connection") {
            let value = text().to_ascii_lowercase();
            if value.contains("close") {
                head.keep_alive = false;
            } else if value.contains("keep-alive") {
                head.keep_alive = true;
            }
        } else if is("content-type") {
            head.content_type = text();
        } else if is("x-mock") {
            head.commands.push(',');
            head.commands.push_str(&text());
        } else if is("expect") {
            head.expects_continue = text().eq_ignore_ascii_case("100-continue");
        } else if is("upgrade") {
            upgrades |= text().eq_ignore_ascii_case("websocket");
        } else if is("sec-websocket-key") {
            key = Some(text());
        } else if is("sec-websocket-protocol") {
            protocols.extend(text().split(',').map(|word| word.trim().to_owned()));
        }
    }
    head.websocket = key
        .filter(|_| upgrades)
        .map(|key| Handshake { key, protocols });
    if head.version_11 && hosts != 1 {
        return Err(ReadError::Bad("a request has one host field"));
    }
    let encodings: Vec<&[u8]> = request
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("transfer-encoding"))
        .map(|field| field.value)
        .collect();
    match encodings.as_slice() {
        [] if lengths > 1 => Err(ReadError::Bad("more than one content-length")),
        [] => Ok(head),
        _ if lengths > 0 => Err(ReadError::Bad("content-length beside transfer-encoding")),
        [one] if one.eq_ignore_ascii_case(b"chunked") && head.version_11 => {
            head.framing = BodyFraming::Chunked;
            Ok(head)
        }
        _ => Err(ReadError::Bad("a transfer-encoding other than chunked")),
    }
}

/// A content-length: digits only.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// A chunk size: hex digits only.
fn chunk_size(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_end();
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    u64::from_str_radix(text, 16).ok()
}

/// Gathers a body: keeps its start, counts and hashes all of it.
#[derive(Default)]
struct Collector {
    body: Body,
    sha256: Option<Sha256>,
}

impl Collector {
    fn push(&mut self, bytes: &[u8]) {
        self.body.len += bytes.len() as u64;
        if self.sha256.is_none() && self.body.len > SMALL_MAX as u64 {
            // All earlier bytes are kept: they are fewer than KEPT_MAX.
            let mut sha256 = Sha256::new();
            sha256.update(&self.body.kept);
            self.sha256 = Some(sha256);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        let room = KEPT_MAX - self.body.kept.len().min(KEPT_MAX);
        self.body
            .kept
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(mut self) -> Body {
        self.body.sha256 = self.sha256.map(Sha256::finish);
        self.body
    }
}

impl Body {
    /// Whether every byte was kept.
    pub(super) fn is_whole(&self) -> bool {
        self.kept.len() as u64 == self.len
    }

    /// SHA-256 of all bytes, in hex.
    pub(super) fn sha256(&self) -> String {
        self.sha256
            .clone()
            .unwrap_or_else(|| Sha256::of(&self.kept))
    }
}

/// A connection's first buffer: an ordinary request in one read.
const BUFFER_BYTES: usize = 16 * 1024;

/// Largest head; more than the gateway lets through, so that its limit is the one that shows.
const HEAD_MAX: usize = 1024 * 1024;

/// Most header fields of a request.
const FIELDS_MAX: usize = 256;

/// Longest line in a chunked body.
const LINE_MAX: usize = 8 * 1024;

/// Bytes of a body that are kept for reading it as JSON or multipart.
const KEPT_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a body that the request log keeps; bodies up to here are hashed on demand.
pub(super) const SMALL_MAX: usize = 4 * 1024;
