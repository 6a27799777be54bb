//! Bodies on their way into the log: cut into parts, packed into chunks, copied once.
//!
//! A chunk is one buffer, shared by all exchanges of a shard. It begins with
//! [`CHUNK_HEAD_BYTES`] that the writer fills in, so that it goes to disk as it is, in one write.
//! Then parts follow, each a head of [`PART_HEAD_BYTES`] and its bytes, little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 16 | id of the exchange's record |
//! | 4 | sequence of the part within its body, from 0 |
//! | 4 | length of the bytes that follow the head |
//! | 1 | direction: 0 request, 1 response |
//! | 1 | flags: 1 last part of a whole body, 2 the rest of the body was dropped |
//! | 2 | zero |
//!
//! Bytes of one body that follow each other in a chunk share a part, so a stream of small events
//! costs its bytes and little more.

use crate::domain::id::RequestId;

/// Size of a chunk. Large enough that the frame around it costs nothing, small enough that a
/// quiet shard's 5 ms tick writes little air.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// Room at the start of a chunk for the frame header; as long as the frame format's header.
pub const CHUNK_HEAD_BYTES: usize = 64;

/// Length of a part's head.
pub const PART_HEAD_BYTES: usize = 28;

/// Fewest bytes of a body that are worth a new part at the end of a chunk.
const PART_BYTES_MIN: usize = 64;

/// Flag of a part: the body is whole with it.
pub const PART_LAST: u8 = 1;

/// Flag of a part: the body goes on, but what follows was not stored.
pub const PART_DROPPED: u8 = 2;

/// Which body of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// The caller's.
    Request = 0,
    /// The provider's, as relayed.
    Response = 1,
}

impl Direction {
    /// The direction of that number, as it stands in a part.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            _ => None,
        }
    }
}

/// Where one body stands: kept by its exchange, one for each direction.
#[derive(Debug, Clone)]
pub struct BodyCursor {
    id: RequestId,
    direction: Direction,
    next: u32,
    state: BodyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Open,
    Whole,
    Dropped,
}

impl BodyCursor {
    /// Starts the body of `direction` of the exchange whose record has `id`.
    pub fn new(id: RequestId, direction: Direction) -> Self {
        Self {
            id,
            direction,
            next: 0,
            state: BodyState::Open,
        }
    }

    /// Says whether some of the body was dropped, so that the record can be flagged.
    pub fn is_dropped(&self) -> bool {
        self.state == BodyState::Dropped
    }

    /// Gives the rest of the body up: what comes later is not stored.
    pub fn drop_rest(&mut self) {
        if self.state == BodyState::Open {
            self.state = BodyState::Dropped;
        }
    }
}

/// One buffer of parts with the times of the exchanges in it.
#[derive(Debug)]
pub struct BodyChunk {
    /// Room for the frame header, then the parts.
    pub bytes: Vec<u8>,
    /// Least time of an exchange in it: its id's milliseconds since the Unix epoch, as microseconds.
    pub min_micros: u64,
    /// Greatest such time.
    pub max_micros: u64,
    /// How many parts it has.
    pub parts: u32,
}

impl BodyChunk {
    /// Makes an empty chunk: the one allocation, before it is used again and again.
    pub fn new() -> Self {
        let mut chunk = Self {
            bytes: Vec::with_capacity(CHUNK_BYTES),
            min_micros: u64::MAX,
            max_micros: 0,
            parts: 0,
        };
        chunk.clear();
        chunk
    }

    /// Empties it for its next use; the allocation stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(CHUNK_HEAD_BYTES, 0);
        self.min_micros = u64::MAX;
        self.max_micros = 0;
        self.parts = 0;
    }

    /// Says whether it has no parts.
    pub fn is_empty(&self) -> bool {
        self.parts == 0
    }
}

impl Default for BodyChunk {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends parts to a chunk. Pure memory: who owns it hands full chunks over.
#[derive(Debug, Default)]
pub struct BodyParts {
    chunk: Option<Box<BodyChunk>>,
    /// The last part of the chunk, if it can grow: where its head lies, and whose it is.
    open: Option<(usize, RequestId, Direction)>,
}

impl BodyParts {
    /// Says whether a chunk is there to append to.
    pub fn has_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// Takes `chunk`, which is empty, as the one to append to.
    pub fn set_chunk(&mut self, chunk: Box<BodyChunk>) {
        self.chunk = Some(chunk);
        self.open = None;
    }

    /// Gives the chunk out, if it has any parts.
    pub fn take_filled(&mut self) -> Option<Box<BodyChunk>> {
        self.open = None;
        self.chunk.take_if(|chunk| !chunk.is_empty())
    }

    /// Gives the chunk out, filled or not.
    pub fn take(&mut self) -> Option<Box<BodyChunk>> {
        self.open = None;
        self.chunk.take()
    }

    /// Appends as many of `bytes` as the chunk has room for, and says how many that were. Fewer
    /// than all means that the chunk is full: hand it over and go on with another.
    pub fn append(&mut self, cursor: &mut BodyCursor, bytes: &[u8]) -> usize {
        if cursor.state != BodyState::Open {
            return bytes.len();
        }
        let Some(chunk) = self.chunk.as_deref_mut() else {
            return 0;
        };
        let grows = self
            .open
            .filter(|(_, id, direction)| *id == cursor.id && *direction == cursor.direction);
        let room = CHUNK_BYTES - chunk.bytes.len();
        if let Some((head, _, _)) = grows {
            let taken = bytes.len().min(room);
            chunk.bytes.extend_from_slice(&bytes[..taken]);
            let length = chunk.bytes.len() - head - PART_HEAD_BYTES;
            set_length(&mut chunk.bytes, head, length);
            return taken;
        }
        let room = room.saturating_sub(PART_HEAD_BYTES);
        if room < bytes.len().min(PART_BYTES_MIN) || bytes.is_empty() {
            return 0;
        }
        let taken = bytes.len().min(room);
        self.open = Some((chunk.bytes.len(), cursor.id, cursor.direction));
        push_part(chunk, cursor, &bytes[..taken], 0);
        taken
    }

    /// Ends the body: marks it whole, or dropped if some of it was. `false` means that there was
    /// no room to say so: hand the chunk over and ask again with another.
    pub fn finish(&mut self, cursor: &mut BodyCursor) -> bool {
        let flags = match cursor.state {
            BodyState::Open => PART_LAST,
            BodyState::Dropped => PART_DROPPED,
            BodyState::Whole => return true,
        };
        let Some(chunk) = self.chunk.as_deref_mut() else {
            return false;
        };
        let grows = self
            .open
            .filter(|(_, id, direction)| *id == cursor.id && *direction == cursor.direction);
        if let Some((head, _, _)) = grows {
            chunk.bytes[head + PART_FLAGS_AT] |= flags;
        } else {
            if CHUNK_BYTES - chunk.bytes.len() < PART_HEAD_BYTES {
                return false;
            }
            push_part(chunk, cursor, &[], flags);
        }
        self.open = None;
        if cursor.state == BodyState::Open {
            cursor.state = BodyState::Whole;
        }
        true
    }
}

/// Offset of the length within a part's head.
const PART_LENGTH_AT: usize = 20;

/// Offset of the flags within a part's head.
const PART_FLAGS_AT: usize = 25;

fn push_part(chunk: &mut BodyChunk, cursor: &mut BodyCursor, bytes: &[u8], flags: u8) {
    let head = chunk.bytes.len();
    chunk.bytes.extend_from_slice(&cursor.id.0);
    chunk.bytes.extend_from_slice(&cursor.next.to_le_bytes());
    chunk.bytes.extend_from_slice(&[0; 4]);
    chunk
        .bytes
        .extend_from_slice(&[cursor.direction as u8, flags, 0, 0]);
    chunk.bytes.extend_from_slice(bytes);
    set_length(&mut chunk.bytes, head, bytes.len());
    let micros = cursor.id.unix_millis().saturating_mul(1000);
    chunk.min_micros = chunk.min_micros.min(micros);
    chunk.max_micros = chunk.max_micros.max(micros);
    chunk.parts += 1;
    cursor.next = cursor.next.wrapping_add(1);
}

fn set_length(bytes: &mut [u8], head: usize, length: usize) {
    // A chunk is far smaller than 4 GiB.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    bytes[head + PART_LENGTH_AT..head + PART_LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
}

/// One part, read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Whose body.
    pub id: RequestId,
    /// Which of the two; `None` for a number that this version does not know.
    pub direction: Option<Direction>,
    /// Place within the body, from 0.
    pub sequence: u32,
    /// [`PART_LAST`], [`PART_DROPPED`].
    pub flags: u8,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Reads the parts of a chunk (its head left off) in order; ends at the first that does not fit.
pub fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<PART_HEAD_BYTES>()?;
        let (id, numbers) = head.split_first_chunk::<16>()?;
        let number = |at: usize| {
            let field = numbers.get(at..at + 4)?;
            Some(u32::from_le_bytes(field.try_into().ok()?))
        };
        let length = usize::try_from(number(4)?).ok()?;
        let part = Part {
            id: RequestId(*id),
            direction: Direction::from_number(*numbers.get(8)?),
            sequence: number(0)?,
            flags: *numbers.get(9)?,
            bytes: rest.get(..length)?,
        };
        bytes = rest.get(length..)?;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> RequestId {
        let mut id = [n; 16];
        id[..6].copy_from_slice(&(1_795_000_000_000u64 + u64::from(n)).to_be_bytes()[2..]);
        RequestId(id)
    }

    fn read(chunk: &BodyChunk) -> Vec<Part<'_>> {
        parts(&chunk.bytes[CHUNK_HEAD_BYTES..]).collect()
    }

    #[test]
    fn bytes_that_follow_each_other_share_a_part() {
        let mut parts = BodyParts::default();
        parts.set_chunk(Box::default());
        let mut cursor = BodyCursor::new(id(1), Direction::Response);
        assert_eq!(parts.append(&mut cursor, b"data: 1\n\n"), 9);
        assert_eq!(parts.append(&mut cursor, b"data: 2\n\n"), 9);
        assert!(parts.finish(&mut cursor));
        let chunk = parts.take_filled().unwrap();
        assert_eq!(
            read(&chunk),
            [Part {
                id: id(1),
                direction: Some(Direction::Response),
                sequence: 0,
                flags: PART_LAST,
                bytes: b"data: 1\n\ndata: 2\n\n",
            }]
        );
        assert_eq!(chunk.min_micros, 1_795_000_000_001_000);
        assert_eq!(chunk.max_micros, chunk.min_micros);
    }

    #[test]
    fn exchanges_that_alternate_get_parts_in_sequence() {
        let mut parts = BodyParts::default();
        parts.set_chunk(Box::default());
        let mut a = BodyCursor::new(id(1), Direction::Request);
        let mut b = BodyCursor::new(id(2), Direction::Request);
        for _ in 0..2 {
            parts.append(&mut a, b"a");
            parts.append(&mut b, b"b");
        }
        parts.finish(&mut a);
        let chunk = parts.take_filled().unwrap();
        let seen: Vec<_> = read(&chunk)
            .iter()
            .map(|p| (p.id, p.sequence, p.flags, p.bytes.len()))
            .collect();
        assert_eq!(
            seen,
            [
                (id(1), 0, 0, 1),
                (id(2), 0, 0, 1),
                (id(1), 1, 0, 1),
                (id(2), 1, 0, 1),
                (id(1), 2, PART_LAST, 0),
            ]
        );
    }

    #[test]
    fn a_large_body_fills_chunk_after_chunk() {
        let body: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut parts = BodyParts::default();
        let mut cursor = BodyCursor::new(id(3), Direction::Request);
        let mut chunks = Vec::new();
        let mut rest = &body[..];
        while !rest.is_empty() {
            parts.set_chunk(Box::default());
            let taken = parts.append(&mut cursor, rest);
            assert!(taken > 0);
            rest = &rest[taken..];
            if rest.is_empty() {
                assert!(parts.finish(&mut cursor));
            }
            chunks.push(parts.take_filled().unwrap());
        }
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0].bytes.len(), CHUNK_BYTES);
        assert_eq!(chunks[0].bytes.capacity(), CHUNK_BYTES, "never grown");
        let back: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| read(chunk).into_iter().flat_map(|p| p.bytes.to_vec()))
            .collect();
        assert!(back == body);
    }

    #[test]
    fn a_dropped_body_says_so_and_takes_nothing_more() {
        let mut parts = BodyParts::default();
        let mut cursor = BodyCursor::new(id(4), Direction::Response);
        assert_eq!(parts.append(&mut cursor, b"x"), 0, "no chunk");
        parts.set_chunk(Box::default());
        parts.append(&mut cursor, b"x");
        cursor.drop_rest();
        assert_eq!(parts.append(&mut cursor, b"yyy"), 3);
        assert!(parts.finish(&mut cursor) && cursor.is_dropped());
        let chunk = parts.take_filled().unwrap();
        assert_eq!(read(&chunk)[0].flags, PART_DROPPED);
        assert_eq!(read(&chunk)[0].bytes, b"x");
    }

    #[test]
    fn an_empty_body_is_whole() {
        let mut parts = BodyParts::default();
        parts.set_chunk(Box::default());
        assert!(parts.finish(&mut BodyCursor::new(id(5), Direction::Request)));
        let chunk = parts.take_filled().unwrap();
        assert_eq!((read(&chunk)[0].flags, chunk.parts), (PART_LAST, 1));
        assert!(parts.take_filled().is_none());
    }

    #[test]
    fn bytes_that_are_no_parts_end_the_reading() {
        assert_eq!(parts(&[0; PART_HEAD_BYTES - 1]).count(), 0);
        let mut bytes = vec![0u8; PART_HEAD_BYTES];
        bytes[PART_LENGTH_AT] = 1;
        assert_eq!(parts(&bytes).count(), 0, "its byte is missing");
        bytes.push(7);
        assert_eq!(parts(&bytes).count(), 1);
        bytes[PART_LENGTH_AT..PART_LENGTH_AT + 4].fill(0xff);
        assert_eq!(parts(&bytes).count(), 0);
    }
}
