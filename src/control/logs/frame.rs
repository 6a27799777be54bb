//! The unit of every log file: a frame, 64 bytes of header and a payload, both checksummed.
//!
//! All numbers are little endian. Frames start at multiples of 64 bytes and are padded to them
//! with zeros, so that a payload can be read in place.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `TGlf` |
//! | 4 | 1 | version: 2 if the rows of a row frame are packed, else 1 |
//! | 5 | 1 | kind: 1 file header, 2 rows, 3 bodies, 4 columns, 5 deletions, 6 rollups, 7 ledger |
//! | 6 | 2 | flags: 1 payload is lz4, its first 4 bytes the length before; 2 rows are packed |
//! | 8 | 4 | rows: records of a row frame, parts of a body frame |
//! | 12 | 4 | length of the payload, without padding |
//! | 16 | 8 | least time in it, microseconds since the Unix epoch |
//! | 24 | 8 | greatest time in it |
//! | 32 | 8 | sequence within the file, from 0 |
//! | 40 | 8 | identity of the file: random, in every frame of it |
//! | 48 | 8 | xxh3-64 of the payload |
//! | 56 | 8 | xxh3-64 of the 56 bytes before, seeded with the frame's offset in the file |
//!
//! Identity and seed make a frame valid at one place of one file only: a write that the disk put
//! elsewhere shows, and bytes that a caller made look like a frame never are one.
//!
//! A file starts with a file header frame (see [`FileHeader`]). The payload of a row frame is
//! packed rows (see [`packed`]), before version 2 the archive of a `Vec<Record>`; that of a body frame is a chunk of parts; that of a column frame is
//! a block (see [`super::block`]); that of a deletion frame see [`super::deletion`].

use std::{borrow::Borrow, fmt};

use rkyv::{
    Archive, Place, Serialize,
    rancor::{Failure, Fallible},
    ser::{Allocator, Writer},
    util::AlignedVec,
    vec::{ArchivedVec, VecResolver},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    domain::record::{ArchivedRecord, Record},
    handoff::body_parts::{self, CHUNK_HEAD_BYTES},
};

pub mod packed;

use packed::{PackedRows, Packer};

/// Length of a frame's header, and the multiple at which frames start.
pub const HEADER_BYTES: usize = 64;

const _: () = assert!(CHUNK_HEAD_BYTES == HEADER_BYTES);

/// Longest payload. A writer's batch ends at 8 MiB and one record; the rest is room for blocks of
/// columns. A damaged length can never make a reader take more memory than this.
pub const PAYLOAD_BYTES_MAX: u32 = 64 << 20;

/// Flag: the payload is lz4.
pub const FLAG_LZ4: u16 = 1;

/// Flag: the rows of a row frame are packed.
pub const FLAG_PACKED: u16 = 2;

const MAGIC: [u8; 4] = *b"TGlf";

/// The version of a frame that every tidegate reads.
const VERSION: u8 = 1;

/// The version of a frame with packed rows: a tidegate that cannot read them says so, and keeps them.
const VERSION_PACKED: u8 = 2;
const HEADER_HASH_AT: usize = 56;

/// A buffer whose payload lies as a file's does, at a multiple of 64.
pub type FrameBuffer = AlignedVec<HEADER_BYTES>;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What file this is; its first frame.
    FileHeader = 1,
    /// Records, row by row.
    Rows = 2,
    /// Parts of bodies.
    Bodies = 3,
    /// Records, column by column.
    Columns = 4,
    /// What was deleted.
    Deletions = 5,
    /// Counts and sums of records (see [`crate::control::rollup`]).
    Rollup = 6,
    /// Reservations and charges (see [`crate::control::ledger`]).
    Ledger = 7,
}

impl Kind {
    /// The kind of that number; `None` for one that this version does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::FileHeader),
            2 => Some(Self::Rows),
            3 => Some(Self::Bodies),
            4 => Some(Self::Columns),
            5 => Some(Self::Deletions),
            6 => Some(Self::Rollup),
            7 => Some(Self::Ledger),
            _ => None,
        }
    }
}

/// A frame's header, read or to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// See [`Kind`]; a number, since a reader skips kinds that it does not know.
    pub kind: u8,
    /// [`FLAG_LZ4`], [`FLAG_PACKED`].
    pub flags: u16,
    /// Records or parts in it.
    pub rows: u32,
    /// Length of the payload as stored.
    pub length: u32,
    /// Least time in it, microseconds since the Unix epoch.
    pub min_micros: u64,
    /// Greatest time in it.
    pub max_micros: u64,
    /// Place within the file, from 0.
    pub sequence: u64,
    /// Identity of the file.
    pub segment: u64,
    /// Hash of the payload.
    pub payload_hash: u64,
}

/// Why 64 bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin like one.
    #[error("no frame begins here")]
    Magic,
    /// Its checksum is wrong, or it belongs elsewhere in the file.
    #[error("the header's checksum does not match")]
    Checksum,
    /// A later version of tidegate wrote it.
    #[error("frame version {0} is newer than this program")]
    Version(u8),
    /// Its payload would be longer than any frame's.
    #[error("the payload's length is out of range")]
    Length,
}

impl Header {
    /// Reads the header that lies at `offset` of its file.
    pub fn read(bytes: &[u8; HEADER_BYTES], offset: u64) -> Result<Self, HeaderError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(HeaderError::Magic);
        }
        let (hashed, _) = bytes.split_at(HEADER_HASH_AT);
        if u64_at(bytes, HEADER_HASH_AT) != xxh3_64_with_seed(hashed, offset) {
            return Err(HeaderError::Checksum);
        }
        if !(VERSION..=VERSION_PACKED).contains(&bytes[4]) {
            return Err(HeaderError::Version(bytes[4]));
        }
        let header = Self {
            kind: bytes[5],
            flags: u16::from_le_bytes([bytes[6], bytes[7]]),
            rows: u32_at(bytes, 8),
            length: u32_at(bytes, 12),
            min_micros: u64_at(bytes, 16),
            max_micros: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            segment: u64_at(bytes, 40),
            payload_hash: u64_at(bytes, 48),
        };
        if header.length > PAYLOAD_BYTES_MAX {
            return Err(HeaderError::Length);
        }
        Ok(header)
    }

    /// The header as bytes that are valid at `offset` only.
    pub fn write(&self, offset: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = match self.flags & FLAG_PACKED {
            0 => VERSION,
            _ => VERSION_PACKED,
        };
        bytes[5] = self.kind;
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rows.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        for (at, number) in [
            (16, self.min_micros),
            (24, self.max_micros),
            (32, self.sequence),
            (40, self.segment),
            (48, self.payload_hash),
        ] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let hash = xxh3_64_with_seed(&bytes[..HEADER_HASH_AT], offset);
        bytes[HEADER_HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Length of the whole frame: header, payload, padding.
    pub fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.length)).next_multiple_of(HEADER_BYTES as u64)
    }

    /// Says whether `payload` is what was written.
    pub fn matches(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.length) && xxh3_64(payload) == self.payload_hash
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut field = [0u8; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut field = [0u8; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

/// Length of a frame around a payload of `payload_bytes`.
pub fn padded(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(HEADER_BYTES)
}

/// Writes the header into the room at the start of `frame`, which is as long as
/// [`padded`] says. Length and hash of the payload are filled in.
///
/// `header.length` says where the payload ends and the padding begins.
pub fn seal(frame: &mut [u8], mut header: Header, offset: u64) {
    header.payload_hash = xxh3_64(&frame[HEADER_BYTES..HEADER_BYTES + header.length as usize]);
    seal_verified(frame, &header, offset);
}

/// The same for a payload whose hash is in `header`, and was found right.
pub(super) fn seal_verified(frame: &mut [u8], header: &Header, offset: u64) {
    let (room, _) = frame.split_at_mut(HEADER_BYTES);
    room.copy_from_slice(&header.write(offset));
}

/// What a file says of itself in its first frame.
///
/// Payload: 4 bytes format (1), 1 byte contents (2 rows, 3 bodies), 1 byte compression (1: a
/// rewritten file), 2 zero, 8 bytes time of creation in microseconds, then the version of
/// tidegate that wrote it as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Kind of the frames that follow.
    pub contents: Kind,
    /// Says whether the compressor wrote this file.
    pub compressed: bool,
    /// When the file was started: microseconds since the Unix epoch.
    pub created_micros: u64,
    /// Version of tidegate that wrote it.
    pub version: String,
}

const FILE_FORMAT: u32 = 1;
const FILE_HEADER_BYTES: usize = 16;

impl FileHeader {
    /// Appends the payload to `out`.
    pub fn write(&self, out: &mut FrameBuffer) {
        out.extend_from_slice(&FILE_FORMAT.to_le_bytes());
        out.extend_from_slice(&[self.contents as u8, u8::from(self.compressed), 0, 0]);
        out.extend_from_slice(&self.created_micros.to_le_bytes());
        out.extend_from_slice(self.version.as_bytes());
    }

    /// Reads the payload.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, version) = payload.split_first_chunk::<FILE_HEADER_BYTES>()?;
        let (format, rest) = fixed.split_first_chunk::<4>()?;
        let (marks, created) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*format) != FILE_FORMAT {
            return None;
        }
        Some(Self {
            contents: Kind::from_number(marks[0])?,
            compressed: marks[1] == 1,
            created_micros: u64::from_le_bytes(created.try_into().ok()?),
            version: String::from_utf8_lossy(version).into_owned(),
        })
    }
}

/// Why a payload whose checksum is right cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is no archive of records.
    #[error("the records cannot be read")]
    Rows,
    /// It does not hold as many as its header says.
    #[error("the number of records does not match")]
    Count,
    /// It cannot be decompressed.
    #[error("the compressed payload cannot be read")]
    Compression,
}

/// Records, archived as the `Vec<Record>` that they stand for.
struct Archiving<'a, R>(&'a [R]);

impl<R> Archive for Archiving<'_, R> {
    type Archived = ArchivedVec<ArchivedRecord>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.0.len(), resolver, out);
    }
}

impl<R, S> Serialize<S> for Archiving<'_, R>
where
    R: Borrow<Record>,
    S: Fallible + Allocator + Writer + ?Sized,
    Record: Serialize<S>,
{
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        let records = self.0.iter().map(R::borrow);
        ArchivedVec::serialize_from_iter::<Record, _, _>(records, serializer)
    }
}

/// Makes a row frame of `records` in `buffer` (whose allocation is used again), all but its seal:
/// returns it with the header that [`seal`] needs. `None` if the records are too many or too large
/// together.
pub fn encode_rows(records: &[Box<Record>], buffer: FrameBuffer) -> Option<(FrameBuffer, Header)> {
    encode_rows_with(&mut Packer::default(), records, buffer)
}

/// The same with a packer that was used before, and keeps its memory.
pub fn encode_rows_with(
    packer: &mut Packer,
    records: &[Box<Record>],
    mut buffer: FrameBuffer,
) -> Option<(FrameBuffer, Header)> {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    packer.pack(records, &mut buffer)?;
    finish_rows(records, buffer, FLAG_PACKED)
}

/// The same as a version before packed rows made it.
pub fn archive_rows(
    records: &[Box<Record>],
    mut buffer: FrameBuffer,
) -> Option<(FrameBuffer, Header)> {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    let buffer = rkyv::api::high::to_bytes_in::<_, Failure>(&Archiving(records), buffer).ok()?;
    finish_rows(records, buffer, 0)
}

fn finish_rows(
    records: &[Box<Record>],
    mut buffer: FrameBuffer,
    flags: u16,
) -> Option<(FrameBuffer, Header)> {
    let length = u32::try_from(buffer.len() - HEADER_BYTES).ok()?;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    buffer.resize(padded(length as usize), 0);
    let times = || records.iter().map(|record| record.at_micros);
    let header = Header {
        kind: Kind::Rows as u8,
        flags,
        rows: u32::try_from(records.len()).ok()?,
        length,
        min_micros: times().min().unwrap_or(0),
        max_micros: times().max().unwrap_or(0),
        sequence: 0,
        segment: 0,
        payload_hash: 0,
    };
    Some((buffer, header))
}

/// The records of a row frame, in place.
pub enum Rows<'a> {
    /// As an archive.
    Archived(&'a [ArchivedRecord]),
    /// Packed.
    Packed(Box<PackedRows<'a>>),
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Archived(_) => "Archived",
            Self::Packed(_) => "Packed",
        };
        f.debug_tuple(name).field(&self.len()).finish()
    }
}

impl<'a> Rows<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Archived(rows) => rows.len(),
            Self::Packed(rows) => rows.len(),
        }
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records as an archive; packed ones are put into one in `scratch`.
    pub fn archived<'s>(
        &self,
        scratch: &'s mut FrameBuffer,
    ) -> Result<&'s [ArchivedRecord], PayloadError>
    where
        'a: 's,
    {
        let rows = match self {
            Self::Archived(rows) => return Ok(rows),
            Self::Packed(rows) => rows,
        };
        let records: Vec<Record> = rows.records().collect();
        scratch.clear();
        let buffer = std::mem::take(scratch);
        *scratch = rkyv::api::high::to_bytes_in::<_, Failure>(&Archiving(&records), buffer)
            .map_err(|Failure| PayloadError::Rows)?;
        archive(scratch)
    }

    /// The records, taken out one by one.
    pub fn records(&self) -> Vec<Record> {
        match self {
            Self::Archived(rows) => {
                let record = |row| rkyv::deserialize::<Record, Failure>(row).ok();
                rows.iter().filter_map(record).collect()
            }
            Self::Packed(rows) => rows.records().collect(),
        }
    }
}

/// The records of a row frame, in place. Every offset and length in it is checked first.
pub fn rows<'a>(header: &Header, payload: &'a [u8]) -> Result<Rows<'a>, PayloadError> {
    if header.flags & FLAG_PACKED != 0 {
        return PackedRows::read(payload, header.rows).map(|rows| Rows::Packed(Box::new(rows)));
    }
    let rows = archive(payload)?;
    if rows.len() as u64 != u64::from(header.rows) {
        return Err(PayloadError::Count);
    }
    Ok(Rows::Archived(rows))
}

fn archive(bytes: &[u8]) -> Result<&[ArchivedRecord], PayloadError> {
    rkyv::access::<ArchivedVec<ArchivedRecord>, Failure>(bytes)
        .map(ArchivedVec::as_slice)
        .map_err(|Failure| PayloadError::Rows)
}

/// The payload before compression: `payload` itself, or what it decompresses to in `scratch`.
pub fn decompress<'a>(
    header: &Header,
    payload: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PayloadError> {
    if header.flags & FLAG_LZ4 == 0 {
        return Ok(payload);
    }
    let (length, compressed) = payload
        .split_first_chunk::<4>()
        .ok_or(PayloadError::Compression)?;
    let length = u32::from_le_bytes(*length);
    if length > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::Compression);
    }
    scratch.clear();
    scratch.resize(length as usize, 0);
    match lz4_flex::block::decompress_into(compressed, scratch) {
        Ok(written) if written == length as usize => Ok(scratch),
        Ok(_) | Err(_) => Err(PayloadError::Compression),
    }
}

/// Reads `image` as a whole log file, to the last field of the last frame, and says how many
/// records and parts it holds. Never panics, whatever the bytes: the law that fuzzing checks.
pub fn read_any(image: &[u8]) -> (u64, u64) {
    use super::{
        block::{Block, Verified},
        deletion,
        segment::{Found, Segment},
    };

    let mut segment = Segment::of_bytes(image);
    let (mut records, mut parts) = (0, 0);
    let mut scratch = Vec::new();
    let mut offset = 0;
    loop {
        let frame = match segment.next(&mut offset) {
            Ok(Found::Frame(frame)) => frame,
            Ok(Found::Damage(_)) => continue,
            Ok(Found::End) | Err(_) => return (records, parts),
        };
        let Ok(Ok(payload)) = segment.payload(&frame) else {
            continue;
        };
        match Kind::from_number(frame.header.kind) {
            Some(Kind::FileHeader) => {
                let _ = FileHeader::read(payload);
            }
            Some(Kind::Rows) => {
                let rows = rows(&frame.header, payload);
                records += rows.map_or(0, |rows| rows.records().len() as u64);
            }
            Some(Kind::Bodies) => {
                let chunk = decompress(&frame.header, payload, &mut scratch);
                parts += body_parts::parts(chunk.unwrap_or_default()).count() as u64;
            }
            Some(Kind::Columns) => {
                let verified = Verified::default();
                let block = Block::open(&frame.header, payload, &verified);
                if let Ok(rows) = block.and_then(|block| block.reader()) {
                    let count = frame.header.rows as usize;
                    records += (0..count).filter_map(|row| rows.record(row)).count() as u64;
                }
            }
            Some(Kind::Deletions) => {
                let _ = deletion::read(payload);
            }
            Some(Kind::Rollup) => {
                let _ = crate::control::rollup::table::Table::read(payload);
            }
            Some(Kind::Ledger) => {
                let _ = crate::control::ledger::step::read(payload, |_| {});
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::record::{TEXTS, Texts};

    fn header() -> Header {
        Header {
            kind: Kind::Rows as u8,
            flags: 0,
            rows: 3,
            length: 100,
            min_micros: 1,
            max_micros: 2,
            sequence: 4,
            segment: 0x1234_5678_9abc_def0,
            payload_hash: 9,
        }
    }

    #[test]
    fn a_header_comes_back_at_its_own_place_only() {
        let bytes = header().write(640);
        assert_eq!(Header::read(&bytes, 640), Ok(header()));
        assert_eq!(Header::read(&bytes, 704), Err(HeaderError::Checksum));
        assert_eq!(header().frame_bytes(), 192);
    }

    #[test]
    fn the_header_is_laid_out_as_documented() {
        let bytes = header().write(0);
        let mut expected = Vec::from(*b"TGlf\x01\x02\0\0\x03\0\0\0\x64\0\0\0");
        for number in [1, 2, 4, 0x1234_5678_9abc_def0, 9u64] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(bytes[..56], expected);
    }

    #[test]
    fn every_flipped_bit_of_a_header_shows() {
        let bytes = header().write(64);
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&damaged, 64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn versions_and_lengths_out_of_range_are_refused() {
        let reseal = |mut bytes: [u8; 64]| {
            let hash = xxh3_64_with_seed(&bytes[..56], 0);
            bytes[56..].copy_from_slice(&hash.to_le_bytes());
            Header::read(&bytes, 0)
        };
        let mut bytes = header().write(0);
        bytes[4] = 3;
        assert_eq!(reseal(bytes), Err(HeaderError::Version(3)));
        let mut bytes = header().write(0);
        bytes[12..16].copy_from_slice(&(PAYLOAD_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(reseal(bytes), Err(HeaderError::Length));
    }

    #[test]
    fn rows_come_back_from_their_frame_in_either_version() {
        let records: Vec<Box<Record>> = (0..3u64)
            .map(|n| {
                Box::new(Record {
                    at_micros: 10 - n,
                    cost: Some(n),
                    texts: Texts::pack(&[b"x"; TEXTS]),
                    ..Record::default()
                })
            })
            .collect();
        let packed = encode_rows(&records, FrameBuffer::new()).unwrap();
        let archived = archive_rows(&records, FrameBuffer::new()).unwrap();
        for ((mut frame, header), version) in [(archived, 1), (packed, 2)] {
            seal(&mut frame, header, 0);
            assert_eq!((frame.len() % 64, frame[4]), (0, version));
            let header = Header::read(frame[..64].try_into().unwrap(), 0).unwrap();
            assert_eq!((header.min_micros, header.max_micros), (8, 10));
            let payload = &frame[64..64 + header.length as usize];
            assert!(header.matches(payload));
            let rows_of = |header: &Header, payload: &[u8]| {
                rows(header, payload).map(|rows| (rows.len(), rows.records()))
            };
            let (count, back) = rows_of(&header, payload).unwrap();
            assert_eq!(count, 3);
            assert!(back.iter().eq(records.iter().map(|record| &**record)));
            let mut scratch = FrameBuffer::new();
            let archived = rows(&header, payload).unwrap();
            let archived = archived.archived(&mut scratch).unwrap();
            assert_eq!(archived[2].at_micros.to_native(), 8);
            let wrong = Header { rows: 40, ..header };
            assert!(rows_of(&wrong, payload).is_err());
            let cut = &payload[..payload.len() - 4];
            assert_eq!(rows_of(&header, cut).err(), Some(PayloadError::Rows));
        }
    }

    #[test]
    fn a_file_header_comes_back() {
        let header = FileHeader {
            contents: Kind::Bodies,
            compressed: true,
            created_micros: 7,
            version: "0.1.0".into(),
        };
        let mut payload = FrameBuffer::new();
        header.write(&mut payload);
        assert_eq!(FileHeader::read(&payload), Some(header));
        assert_eq!(FileHeader::read(&payload[..15]), None);
    }

    #[test]
    fn a_false_length_before_compression_is_refused() {
        let header = Header {
            flags: FLAG_LZ4,
            ..header()
        };
        let mut payload = u32::MAX.to_le_bytes().to_vec();
        payload.extend_from_slice(&lz4_flex::block::compress(b"aaaaaaaaaaaaaaaaaaaaaaaa"));
        let mut scratch = Vec::new();
        assert!(decompress(&header, &payload, &mut scratch).is_err());
        payload[..4].copy_from_slice(&23u32.to_le_bytes());
        assert!(decompress(&header, &payload, &mut scratch).is_err());
        payload[..4].copy_from_slice(&24u32.to_le_bytes());
        assert_eq!(
            decompress(&header, &payload, &mut scratch).unwrap().len(),
            24
        );
        assert!(decompress(&header, b"abc", &mut scratch).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..512),
            place in 0u64..4,
            kind in 1u8..6,
        ) {
            read_any(&bytes);
            // The same as the payload of a frame whose checksums are right.
            let mut image = vec![0u8; padded(bytes.len())];
            image[64..64 + bytes.len()].copy_from_slice(&bytes);
            let header = Header {
                kind,
                flags: u16::try_from(place).unwrap(),
                length: u32::try_from(bytes.len()).unwrap(),
                ..header()
            };
            seal(&mut image, header, 0);
            read_any(&image);
        }
    }
}
