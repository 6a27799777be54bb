//! As much HTTP/1.1 as a load test needs, for both sides: one connection with its read buffer,
//! heads, and the two body framings.

use std::io;
use std::mem;
use std::net::SocketAddr;

use memchr::memchr;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use quanta::Instant;

/// Why one exchange failed. Each kind is counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("connect refused")]
    Connect,
    #[error("connection broken")]
    Broken,
    #[error("closed before the end")]
    Closed,
    #[error("head malformed")]
    Head,
    #[error("status not 200")]
    Status(u16),
    #[error("framing malformed")]
    Framing,
    #[error("length wrong")]
    Length,
    #[error("content wrong")]
    Content,
    #[error("events missing or out of order")]
    Order,
    /// Not a fault of the peer: this side left on purpose.
    #[error("left on purpose")]
    Left,
}

impl Fault {
    /// The name it is counted under.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Closed => "closed",
            Self::Head => "head",
            Self::Status(_) => "status",
            Self::Framing => "framing",
            Self::Length => "length",
            Self::Content => "content",
            Self::Order => "order",
            Self::Left => "left",
        }
    }
}

/// One connection and what was read from it but not used yet.
pub(crate) struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

impl Link {
    /// Connects to `address`.
    pub(crate) async fn connect(address: SocketAddr, buffer_bytes: usize) -> Result<Self, Fault> {
        let stream = TcpStream::connect_addr(address)
            .await
            .map_err(|_| Fault::Connect)?;
        Ok(Self::new(stream, buffer_bytes))
    }

    /// Wraps an open connection.
    pub(crate) fn new(stream: TcpStream, buffer_bytes: usize) -> Self {
        // Without it small writes wait for acknowledgements; a refusal only costs time.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: Vec::with_capacity(buffer_bytes),
            used: 0,
        }
    }

    /// What is read and not used.
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Marks `count` bytes of `unread` as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }

    /// Reads once more; the number of new bytes, 0 at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<usize, Fault> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        } else if self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.used);
            self.used = 0;
            if self.buffer.len() == self.buffer.capacity() {
                self.grow()?;
            }
        }
        let begin = self.buffer.len();
        let end = self.buffer.capacity();
        let (read, slice) = self
            .stream
            .read(mem::take(&mut self.buffer).slice_mut(begin..end))
            .await;
        self.buffer = slice.into_inner();
        read.map_err(|_| Fault::Broken)
    }

    fn grow(&mut self) -> Result<(), Fault> {
        if self.buffer.capacity() >= UNREAD_BYTES_MAX {
            return Err(Fault::Head);
        }
        self.buffer.reserve(self.buffer.capacity().max(1024));
        Ok(())
    }

    /// Writes all of `bytes` and gives the buffer back.
    pub(crate) async fn send<T: IoBuf + 'static>(&mut self, bytes: T) -> (io::Result<usize>, T) {
        self.stream.write_all(bytes).await
    }

    /// Reads up to the end of a response head; the time stamp is that of its first bytes.
    pub(crate) async fn response_head(&mut self) -> Result<(ResponseHead, Instant), Fault> {
        let mut first = None;
        loop {
            if !self.unread().is_empty() {
                let first = *first.get_or_insert_with(Instant::now);
                if let Some((head, bytes)) = ResponseHead::parse(self.unread())? {
                    self.consume(bytes);
                    return Ok((head, first));
                }
            }
            if self.fill().await? == 0 {
                return Err(Fault::Closed);
            }
        }
    }

    /// Reads a body to its end and shows each piece to `look`; its length in bytes.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        mut look: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        match framing {
            Framing::Length(total) => {
                let mut left = total;
                while left > 0 {
                    if self.unread().is_empty() && self.fill().await? == 0 {
                        return Err(Fault::Closed);
                    }
                    let piece = self.unread();
                    let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    look(&piece[..take])?;
                    self.consume(take);
                    left -= take as u64;
                }
                Ok(total)
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                loop {
                    let taken = chunks.feed(self.unread(), &mut look)?;
                    self.consume(taken);
                    if chunks.finished() {
                        return Ok(chunks.total);
                    }
                    if self.fill().await? == 0 {
                        return Err(Fault::Closed);
                    }
                }
            }
            Framing::UntilClose => {
                let mut total = 0;
                loop {
                    let piece = self.unread();
                    look(piece)?;
                    total += piece.len() as u64;
                    self.consume(piece.len());
                    if self.fill().await? == 0 {
                        return Ok(total);
                    }
                }
            }
        }
    }
}

/// How a body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What a generator wants to know of a response head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The connection may carry another exchange.
    pub(crate) keep: bool,
}

impl ResponseHead {
    /// Parses a whole head, with the bytes it takes; `None` when more is needed.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(bytes).map_err(|_| Fault::Head)?;
        let httparse::Status::Complete(length) = parsed else {
            let full = bytes.len() >= UNREAD_BYTES_MAX;
            return if full { Err(Fault::Head) } else { Ok(None) };
        };
        let facts = Fields::read(head.headers)?;
        let framing = facts.framing().unwrap_or(Framing::UntilClose);
        let keep = !facts.close && framing != Framing::UntilClose;
        let status = head.code.ok_or(Fault::Head)?;
        Ok(Some((
            Self {
                status,
                framing,
                keep,
            },
            length,
        )))
    }
}

/// The fields that decide about framing and reuse.
#[derive(Default)]
pub(crate) struct Fields {
    length: Option<u64>,
    chunked: bool,
    pub(crate) close: bool,
    pub(crate) expects_continue: bool,
}

impl Fields {
    /// Picks them out of parsed fields.
    pub(crate) fn read(fields: &[httparse::Header<'_>]) -> Result<Self, Fault> {
        let mut facts = Self::default();
        for field in fields {
            if field.name.eq_ignore_ascii_case("content-length") {
                let text = str::from_utf8(field.value).map_err(|_| Fault::Framing)?;
                facts.length = Some(text.trim().parse().map_err(|_| Fault::Framing)?);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                facts.chunked = field.value.eq_ignore_ascii_case(b"chunked");
            } else if field.name.eq_ignore_ascii_case("connection") {
                facts.close = field.value.eq_ignore_ascii_case(b"close");
            } else if field.name.eq_ignore_ascii_case("expect") {
                facts.expects_continue = true;
            }
        }
        Ok(facts)
    }

    /// The framing that the fields state, if they state one.
    pub(crate) fn framing(&self) -> Option<Framing> {
        if self.chunked {
            return Some(Framing::Chunked);
        }
        self.length.map(Framing::Length)
    }
}

/// Reads chunked framing piece by piece.
#[derive(Default)]
pub(crate) struct Chunks {
    state: ChunkState,
    /// Bytes of payload so far.
    pub(crate) total: u64,
}

#[derive(Default, Clone, Copy)]
enum ChunkState {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Finished,
}

impl Chunks {
    /// The last chunk and its trailers have been read.
    pub(crate) fn finished(&self) -> bool {
        matches!(self.state, ChunkState::Finished)
    }

    /// Reads as far as `input` goes, shows payload to `look`, and says how many bytes it used.
    /// What it leaves is a line without its end.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        look: &mut impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut rest = input;
        loop {
            match self.state {
                ChunkState::Size => {
                    let Some(line) = take_line(&mut rest)? else {
                        break;
                    };
                    let size = chunk_size(line)?;
                    self.state = match size {
                        0 => ChunkState::Trailer,
                        size => ChunkState::Data(size),
                    };
                }
                ChunkState::Data(left) => {
                    let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let (piece, after) = rest.split_at(take);
                    if take > 0 {
                        look(piece)?;
                    }
                    rest = after;
                    self.total += take as u64;
                    let left = left - take as u64;
                    if left > 0 {
                        self.state = ChunkState::Data(left);
                        break;
                    }
                    self.state = ChunkState::DataEnd;
                }
                ChunkState::DataEnd => {
                    let Some(line) = take_line(&mut rest)? else {
                        break;
                    };
                    if !line.is_empty() {
                        return Err(Fault::Framing);
                    }
                    self.state = ChunkState::Size;
                }
                ChunkState::Trailer => {
                    let Some(line) = take_line(&mut rest)? else {
                        break;
                    };
                    if line.is_empty() {
                        self.state = ChunkState::Finished;
                    }
                }
                ChunkState::Finished => break,
            }
        }
        Ok(input.len() - rest.len())
    }
}

/// Takes a line off `rest`, without its CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
    let Some(end) = memchr(b'\n', rest) else {
        if rest.len() > LINE_BYTES_MAX {
            return Err(Fault::Framing);
        }
        return Ok(None);
    };
    let (line, after) = rest.split_at(end);
    *rest = &after[1..];
    line.strip_suffix(b"\r").map(Some).ok_or(Fault::Framing)
}

fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = str::from_utf8(digits).map_err(|_| Fault::Framing)?;
    u64::from_str_radix(text.trim_ascii(), 16).map_err(|_| Fault::Framing)
}

/// Most header fields of a head.
pub(crate) const FIELDS_MAX: usize = 64;

/// Largest head that either side of a load test sends, with room to spare.
pub(crate) const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// Longest chunk-size or trailer line.
const LINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\ntrailer: x\r\n\r\n";

    /// Feeds `wire` in pieces of `step` bytes; the payload, once all chunks were read.
    #[track_caller]
    fn check(wire: &[u8], step: usize, expected: Result<&[u8], Fault>) {
        let mut chunks = Chunks::default();
        let mut payload = Vec::new();
        let mut unread = Vec::new();
        let mut fault = None;
        for piece in wire.chunks(step) {
            unread.extend_from_slice(piece);
            let fed = chunks.feed(&unread, &mut |bytes| {
                payload.extend_from_slice(bytes);
                Ok(())
            });
            match fed {
                Ok(used) => drop(unread.drain(..used)),
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        match expected {
            Ok(expected) => {
                assert_eq!((fault, chunks.finished()), (None, true));
                assert_eq!((payload.as_slice(), unread.len()), (expected, 0));
            }
            Err(expected) => assert_eq!(fault, Some(expected)),
        }
    }

    #[test]
    fn chunks_cut_anywhere_give_the_same_payload() {
        for step in 1..=BODY.len() {
            check(BODY, step, Ok(b"hello world"));
        }
    }

    #[test]
    fn data_longer_than_its_chunk_is_a_fault() {
        check(b"3\r\nhello\r\n", 64, Err(Fault::Framing));
        check(b"\r\n", 64, Err(Fault::Framing));
    }

    #[test]
    fn a_head_without_framing_ends_with_the_connection() {
        let (head, bytes) = ResponseHead::parse(b"HTTP/1.1 200 OK\r\n\r\nrest")
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.framing, head.keep, bytes),
            (Framing::UntilClose, false, 19)
        );
    }
}
