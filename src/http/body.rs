//! What delimits a body on the wire: a length, or chunks (RFC 9112 sections 6 and 7).
//!
//! Both readers tell of each piece of input how much of it belongs to the body, and neither
//! copies or keeps any of it.

use super::header::is_token_byte;

/// What a piece of input held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of the input that belong to the body and its framing. All of it while the body goes
    /// on; what is left over once it is done belongs to the next message.
    pub consumed: usize,
    /// How many of the input's first bytes may be passed on as they are. For chunks: up to and
    /// including the last-chunk line, never a byte of a trailer; whoever passes them on writes
    /// the final empty line once the body is done.
    pub forward: usize,
    /// Whether the body has ended.
    pub done: bool,
}

/// Why a chunked body was refused. Nothing after it on the connection can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyError {
    /// A chunk's size is not hex digits alone, or has too many of them.
    #[error("a chunk size is malformed")]
    ChunkSize,
    /// The chunks add up to more than a body may have.
    #[error("a chunk is too large")]
    ChunkTooLarge,
    /// A chunk extension has a control byte or one outside ASCII.
    #[error("a chunk extension contains a byte that it may not")]
    Extension,
    /// A chunk extension is longer than [`EXTENSION_BYTES_MAX`].
    #[error("a chunk extension is longer than {EXTENSION_BYTES_MAX} bytes")]
    ExtensionTooLong,
    /// A carriage return without a line feed, or the other way round.
    #[error("a chunk line does not end in carriage return and line feed")]
    LineEnd,
    /// A chunk's data is longer than its size said.
    #[error("a chunk's data does not end where its size says")]
    ChunkEnd,
    /// A trailer line is not a header field.
    #[error("a trailer field is malformed")]
    Trailer,
    /// The trailers are longer than [`TRAILER_BYTES_MAX`].
    #[error("the trailers are larger than {TRAILER_BYTES_MAX} bytes")]
    TrailersTooLarge,
}

impl BodyError {
    /// The status that answers a request with this body, if its answer has not begun.
    pub fn status(self) -> u16 {
        match self {
            Self::ChunkTooLarge => 413,
            Self::TrailersTooLarge => 431,
            Self::ChunkSize
            | Self::Extension
            | Self::ExtensionTooLong
            | Self::LineEnd
            | Self::ChunkEnd
            | Self::Trailer => 400,
        }
    }
}

/// Reads a chunked body as it arrives: every piece of input once, in order.
///
/// Strict, because chunk lines may be passed on as they came: sizes are hex digits alone, lines
/// end in CRLF, data is followed by CRLF, an extension follows its size at once and is short and
/// printable. Trailers are checked like header fields, bounded, and dropped.
///
/// ```
/// use tidegate::http::body::ChunkDecoder;
///
/// let mut decoder = ChunkDecoder::new();
/// let mut payload = Vec::new();
/// let fed = decoder
///     .feed(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET", |piece| payload.extend_from_slice(piece))
///     .unwrap();
/// assert_eq!(payload, b"hello");
/// assert_eq!((fed.consumed, fed.forward, fed.done), (25, 13, true));
/// ```
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
    /// Bytes of the current chunk: its size while that is read, then what is still to come.
    remaining: u64,
    /// Bytes of payload that all chunk lines so far have announced.
    announced: u64,
    /// Bytes of the trailers so far.
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a chunk's size, after so many digits.
    Size { digits: u8 },
    /// In a chunk's extension, after so many bytes.
    Extension { bytes: u16 },
    /// Between CR and LF of a chunk line.
    SizeLineFeed,
    /// In a chunk's data.
    Data,
    /// Before the CR that ends a chunk's data.
    DataReturn,
    /// Between CR and LF after a chunk's data.
    DataLineFeed,
    /// At the start of a trailer line.
    TrailerStart,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Between CR and LF of a trailer.
    TrailerLineFeed,
    /// Between CR and LF of the final empty line.
    FinalLineFeed,
    /// After the body.
    Done,
}

/// Longest chunk extension. Nobody's framing needs one; a signed upload's has some 90 bytes.
pub const EXTENSION_BYTES_MAX: u16 = 256;

/// Most bytes of all trailers together, line ends included.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Greatest payload of a body: what a signed 64-bit number holds.
const PAYLOAD_BYTES_MAX: u64 = i64::MAX.cast_unsigned();

/// Digits of a size; more are too large a number, or zeros that only some readers take.
const SIZE_DIGITS_MAX: u8 = 16;

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkDecoder {
    /// A decoder that stands before the first chunk.
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            remaining: 0,
            announced: 0,
            trailer_bytes: 0,
        }
    }

    /// Takes the next piece of input. `payload` is handed the body's own bytes in order, as
    /// slices of `input`. After an error the decoder must not be fed again.
    pub fn feed(&mut self, input: &[u8], mut payload: impl FnMut(&[u8])) -> Result<Fed, BodyError> {
        let mut rest = input;
        let mut trailers_at = self.is_past_last_chunk().then_some(0);
        while self.state != State::Done {
            if self.state == State::Data {
                rest = self.pass_data(rest, &mut payload);
            }
            let Some((&byte, tail)) = rest.split_first() else {
                break;
            };
            rest = tail;
            self.state = self.step(byte)?;
            if trailers_at.is_none() && self.is_past_last_chunk() {
                trailers_at = Some(input.len() - rest.len());
            }
        }
        let consumed = input.len() - rest.len();
        Ok(Fed {
            consumed,
            forward: trailers_at.unwrap_or(consumed),
            done: self.state == State::Done,
        })
    }

    /// Bytes of payload handed over so far.
    pub fn payload_bytes(&self) -> u64 {
        match self.state {
            State::Data => self.announced - self.remaining,
            State::Size { .. }
            | State::Extension { .. }
            | State::SizeLineFeed
            | State::DataReturn
            | State::DataLineFeed
            | State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::FinalLineFeed
            | State::Done => self.announced,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Hands over as much of the current chunk as is there; returns what follows it.
    fn pass_data<'a>(&mut self, input: &'a [u8], payload: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let here = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let (data, rest) = input.split_at_checked(here).unwrap_or((input, &[]));
        if !data.is_empty() {
            payload(data);
        }
        self.remaining -= data.len() as u64;
        if self.remaining == 0 {
            self.state = State::DataReturn;
        }
        rest
    }

    /// The state after one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { digits } => self.step_size(byte, digits),
            State::Extension { bytes } => step_extension(byte, bytes),
            State::SizeLineFeed => {
                expect(byte, b'\n', BodyError::LineEnd)?;
                self.begin_chunk()
            }
            // Data is passed on in slices, before a byte gets here.
            State::Data | State::DataReturn => {
                expect(byte, b'\r', BodyError::ChunkEnd)?;
                Ok(State::DataLineFeed)
            }
            State::DataLineFeed => {
                expect(byte, b'\n', BodyError::ChunkEnd)?;
                self.remaining = 0;
                Ok(State::Size { digits: 0 })
            }
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::FinalLineFeed => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return Err(BodyError::TrailersTooLarge);
                }
                step_trailer(self.state, byte)
            }
            State::Done => Ok(State::Done),
        }
    }

    fn step_size(&mut self, byte: u8, digits: u8) -> Result<State, BodyError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(BodyError::ChunkSize);
            }
            // Sixteen digits fill the number exactly; no more are read.
            self.remaining = self.remaining << 4 | u64::from(digit);
            return Ok(State::Size { digits: digits + 1 });
        }
        match byte {
            b'\r' if digits > 0 => Ok(State::SizeLineFeed),
            b';' if digits > 0 => Ok(State::Extension { bytes: 1 }),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn begin_chunk(&mut self) -> Result<State, BodyError> {
        if self.remaining == 0 {
            return Ok(State::TrailerStart);
        }
        self.announced = self
            .announced
            .checked_add(self.remaining)
            .filter(|total| *total <= PAYLOAD_BYTES_MAX)
            .ok_or(BodyError::ChunkTooLarge)?;
        Ok(State::Data)
    }

    fn is_past_last_chunk(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLineFeed
                | State::FinalLineFeed
                | State::Done
        )
    }
}

fn expect(byte: u8, wanted: u8, otherwise: BodyError) -> Result<(), BodyError> {
    if byte == wanted {
        Ok(())
    } else {
        Err(otherwise)
    }
}

fn step_extension(byte: u8, bytes: u16) -> Result<State, BodyError> {
    match byte {
        b'\r' => Ok(State::SizeLineFeed),
        b'\t' | b' '..=b'~' if bytes < EXTENSION_BYTES_MAX => {
            Ok(State::Extension { bytes: bytes + 1 })
        }
        b'\t' | b' '..=b'~' => Err(BodyError::ExtensionTooLong),
        _ => Err(BodyError::Extension),
    }
}

fn step_trailer(state: State, byte: u8) -> Result<State, BodyError> {
    match state {
        State::TrailerStart if byte == b'\r' => Ok(State::FinalLineFeed),
        State::TrailerStart | State::TrailerName if is_token_byte(byte) => Ok(State::TrailerName),
        State::TrailerName if byte == b':' => Ok(State::TrailerValue),
        State::TrailerValue if byte == b'\r' => Ok(State::TrailerLineFeed),
        State::TrailerValue if byte == b'\t' || !byte.is_ascii_control() => Ok(State::TrailerValue),
        State::TrailerLineFeed if byte == b'\n' => Ok(State::TrailerStart),
        State::FinalLineFeed if byte == b'\n' => Ok(State::Done),
        State::TrailerLineFeed | State::FinalLineFeed => Err(BodyError::LineEnd),
        State::Size { .. }
        | State::Extension { .. }
        | State::SizeLineFeed
        | State::Data
        | State::DataReturn
        | State::DataLineFeed
        | State::TrailerStart
        | State::TrailerName
        | State::TrailerValue
        | State::Done => Err(BodyError::Trailer),
    }
}

/// Counts a body of known length. Bytes after it are left unconsumed: the next message's, or a
/// peer's mistake.
///
/// ```
/// use tidegate::http::body::LengthCounter;
///
/// let mut counter = LengthCounter::new(5);
/// let fed = counter.feed(b"helloGET");
/// assert_eq!((fed.consumed, fed.forward, fed.done), (5, 5, true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthCounter {
    remaining: u64,
}

impl LengthCounter {
    /// A counter for a body of `length` bytes.
    pub fn new(length: u64) -> Self {
        Self { remaining: length }
    }

    /// Takes the next piece of input.
    pub fn feed(&mut self, input: &[u8]) -> Fed {
        let here = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let consumed = here.min(input.len());
        self.remaining -= consumed as u64;
        Fed {
            consumed,
            forward: consumed,
            done: self.is_done(),
        }
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.remaining == 0
    }
}

/// The line before a chunk's data: its size in hex and a line end, in a fixed array. The data is
/// followed by [`CHUNK_END`], the last chunk's by nothing but [`LAST_CHUNK`].
///
/// ```
/// use tidegate::http::body::ChunkHeader;
///
/// assert_eq!(ChunkHeader::new(8000).as_bytes(), b"1f40\r\n");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ChunkHeader {
    /// Filled from its end.
    bytes: [u8; CHUNK_HEADER_BYTES_MAX],
    start: usize,
}

/// What follows a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Longest [`ChunkHeader`]: sixteen digits and a line end.
pub const CHUNK_HEADER_BYTES_MAX: usize = 18;

impl ChunkHeader {
    /// The header of a chunk of `size` bytes. A chunk of none would end the body, so its header
    /// is empty: nothing is written for nothing.
    pub fn new(size: usize) -> Self {
        let mut bytes = *b"................\r\n";
        let mut start = CHUNK_HEADER_BYTES_MAX - CHUNK_END.len();
        let mut left = size;
        while left > 0 {
            start -= 1;
            if let (Some(slot), Some(&digit)) =
                (bytes.get_mut(start), b"0123456789abcdef".get(left % 16))
            {
                *slot = digit;
            }
            left /= 16;
        }
        if size == 0 {
            start = CHUNK_HEADER_BYTES_MAX;
        }
        Self { bytes, start }
    }

    /// The header as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
