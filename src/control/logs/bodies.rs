//! Finds the bodies of one exchange and puts their parts together.

use std::io;

use super::{
    frame::{Kind, decompress},
    segment::{Damage, Found, LogDir, Numbered, Segment},
};
use crate::{
    domain::id::RequestId,
    handoff::body_parts::{Direction, PART_DROPPED, PART_LAST, parts},
};

/// Longest body put together; what is beyond is left out and said.
const BODY_BYTES_MAX: usize = 256 << 20;

/// How far the clock of an id, of a record and of a file's start may differ: a clock set back
/// between them, or a chunk that waited.
const CLOCK_SLACK_MICROS: u64 = 60_000_000;

/// Files before, and after, that are looked into when the files of the exchange's time have
/// nothing: enough for a clock that was set by hours, not the whole store.
const FAR_FILES_MAX: usize = 32;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it is there.
    Whole,
    /// The rest was not stored: too large, or the log was behind.
    Dropped,
    /// Parts are missing: damaged, lost in a crash, or not written yet.
    Missing,
}

/// One body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its bytes, up to the first gap.
    pub bytes: Vec<u8>,
    /// Whether that is all.
    pub end: BodyEnd,
}

/// The stored bodies of one exchange.
#[derive(Debug, Default)]
pub struct Bodies {
    /// The caller's, if any of it was stored.
    pub request: Option<Body>,
    /// The provider's, if any of it was stored.
    pub response: Option<Body>,
    /// Damage met on the way.
    pub damages: Vec<Damage>,
}

#[derive(Debug)]
struct Piece {
    direction: Direction,
    sequence: u32,
    flags: u8,
    bytes: Vec<u8>,
}

impl Bodies {
    /// Finds the bodies of the record with `id`, which began at `at_micros` (Unix epoch) and took
    /// `duration_micros`. Looks into the files of that time first, and into all others only if
    /// nothing is there.
    pub fn find(
        log: &LogDir,
        id: RequestId,
        at_micros: u64,
        duration_micros: u64,
    ) -> io::Result<Self> {
        let files = log.body_files()?;
        let from = at_micros.saturating_sub(CLOCK_SLACK_MICROS);
        let to = at_micros
            .saturating_add(duration_micros)
            .saturating_add(CLOCK_SLACK_MICROS);
        let (near, far) = split_by_time(files, from, to)?;
        let mut bodies = Self::default();
        let mut pieces = Vec::new();
        for group in [near, far] {
            for (_, path) in group {
                match Segment::open(&path) {
                    Ok(mut segment) => {
                        collect(&mut segment, id, &mut pieces, &mut bodies.damages)?;
                    }
                    // Deleted since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if !pieces.is_empty() {
                break;
            }
        }
        pieces.sort_by_key(|piece| (piece.direction, piece.sequence));
        bodies.request = join(&pieces, Direction::Request);
        bodies.response = join(&pieces, Direction::Response);
        Ok(bodies)
    }
}

/// Splits files into those that were written between `from` and `to`, and the nearest others. A
/// file is written from its start to the start of the next.
fn split_by_time(
    files: Vec<Numbered>,
    from: u64,
    to: u64,
) -> io::Result<(Vec<Numbered>, Vec<Numbered>)> {
    let (mut near, mut later, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    let mut next_start = u64::MAX;
    for file in files.into_iter().rev() {
        if next_start < from {
            // Ended before: no need to open it, nor those before it.
            if earlier.len() == FAR_FILES_MAX {
                break;
            }
            earlier.push(file);
            continue;
        }
        let header = match Segment::open(&file.1) {
            Ok(mut segment) => segment.file_header()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match header.map(|header| header.created_micros) {
            Some(start) => {
                next_start = start;
                if start <= to {
                    near.push(file);
                } else {
                    later.push(file);
                }
            }
            // A file that does not tell its start is looked at in any case.
            None => near.push(file),
        }
    }
    let far = later.into_iter().rev().take(FAR_FILES_MAX).chain(earlier);
    Ok((near, far.collect()))
}

fn collect(
    segment: &mut Segment,
    id: RequestId,
    pieces: &mut Vec<Piece>,
    damages: &mut Vec<Damage>,
) -> io::Result<()> {
    let micros = id.unix_millis().saturating_mul(1000);
    let mut scratch = Vec::new();
    let mut offset = 0;
    let mut bytes = 0;
    loop {
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) => frame,
            Found::Damage(damage) => {
                damages.push(damage);
                continue;
            }
            Found::End => return Ok(()),
        };
        let header = &frame.header;
        let may_hold = (header.min_micros..=header.max_micros).contains(&micros);
        if header.kind != Kind::Bodies as u8 || !may_hold {
            continue;
        }
        let payload = match segment.payload(&frame)? {
            Ok(payload) => payload,
            Err(damage) => {
                damages.push(damage);
                continue;
            }
        };
        let chunk = match decompress(header, payload, &mut scratch) {
            Ok(chunk) => chunk,
            Err(error) => {
                damages.push(segment.damage(&frame, error));
                continue;
            }
        };
        for part in parts(chunk).filter(|part| part.id == id) {
            let Some(direction) = part.direction else {
                continue;
            };
            if bytes + part.bytes.len() > 2 * BODY_BYTES_MAX {
                return Ok(());
            }
            bytes += part.bytes.len();
            pieces.push(Piece {
                direction,
                sequence: part.sequence,
                flags: part.flags,
                bytes: part.bytes.to_vec(),
            });
        }
    }
}

fn join(pieces: &[Piece], direction: Direction) -> Option<Body> {
    let mut body: Option<Body> = None;
    let mut next = 0u32;
    for piece in pieces.iter().filter(|piece| piece.direction == direction) {
        let body = body.get_or_insert(Body {
            bytes: Vec::new(),
            end: BodyEnd::Missing,
        });
        if piece.sequence < next {
            continue; // a second copy of the same
        }
        if piece.sequence > next || body.bytes.len() + piece.bytes.len() > BODY_BYTES_MAX {
            break;
        }
        body.bytes.extend_from_slice(&piece.bytes);
        next += 1;
        if piece.flags & PART_DROPPED != 0 {
            body.end = BodyEnd::Dropped;
        } else if piece.flags & PART_LAST != 0 {
            body.end = BodyEnd::Whole;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(sequence: u32, flags: u8, bytes: &[u8]) -> Piece {
        Piece {
            direction: Direction::Request,
            sequence,
            flags,
            bytes: bytes.to_vec(),
        }
    }

    #[track_caller]
    fn check(pieces: &[Piece], bytes: &[u8], end: BodyEnd) {
        let expected = Body {
            bytes: bytes.to_vec(),
            end,
        };
        assert_eq!(join(pieces, Direction::Request), Some(expected));
    }

    #[test]
    fn parts_join_up_to_the_first_gap() {
        check(
            &[piece(0, 0, b"a"), piece(1, PART_LAST, b"b")],
            b"ab",
            BodyEnd::Whole,
        );
        check(&[piece(0, 0, b"a")], b"a", BodyEnd::Missing);
        check(
            &[piece(0, 0, b"a"), piece(2, PART_LAST, b"c")],
            b"a",
            BodyEnd::Missing,
        );
        check(&[piece(1, PART_LAST, b"b")], b"", BodyEnd::Missing);
        check(
            &[piece(0, 0, b"a"), piece(1, PART_DROPPED, b"")],
            b"a",
            BodyEnd::Dropped,
        );
        check(
            &[
                piece(0, 0, b"a"),
                piece(0, 0, b"a"),
                piece(1, PART_LAST, b"b"),
            ],
            b"ab",
            BodyEnd::Whole,
        );
        assert_eq!(join(&[], Direction::Request), None);
    }
}
