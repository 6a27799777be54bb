//! Free text in bodies: which records' bodies have it.
//!
//! Body files are read through once, newest first, for all texts that are looked for. A text that
//! lies across two parts of a body is found too. Bodies that were sent compressed with gzip are
//! unpacked as they are read, up to a bound; other compressions are not opened.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    rc::Rc,
};

use super::{ScanReport, select::Limit};
use crate::{
    control::logs::{
        filter::{Filter, text},
        folder::LogDir,
        frame::{Kind, decompress},
        segment::{Found, Segment},
    },
    handoff::body_parts::{Direction, PART_LAST, Part, parts},
};

mod unpack;

use unpack::Unpacking;

/// Most records that a text is found in; beyond, the answer is a part.
const FOUND_MAX: usize = 1_000_000;

/// Most bodies whose end is remembered, for a text that goes on in their next part.
const OPEN_MAX: usize = 4_096;

/// How far the clock of an id, of a record and of a file's start may differ.
const CLOCK_SLACK_MICROS: u64 = 60_000_000;

/// Most compressed bodies that are being unpacked at once: 50 KB each. Those of which nothing came for
/// longest are given up, which makes the answer a part.
const PACKED_MAX: usize = 256;

/// Looks for the free texts of `filter` in the bodies of the times that it asks for, and gives the
/// filter with what was found. Without a free text nothing is read.
pub fn in_bodies(
    log: &LogDir,
    filter: Filter,
    limit: Limit,
    report: &mut ScanReport,
) -> io::Result<Filter> {
    let needles: Vec<Vec<u8>> = filter
        .free_texts()
        .map(|free| free.text.clone().into_bytes())
        .collect();
    if needles.is_empty() {
        return Ok(filter);
    }
    let micros = filter.micros();
    let mut search = Search {
        from: micros.start().saturating_sub(CLOCK_SLACK_MICROS),
        to: micros.end().saturating_add(CLOCK_SLACK_MICROS),
        ..Search::new(needles, limit)
    };
    for (_, path) in log.body_files()?.into_iter().rev() {
        let mut segment = match Segment::open(&path) {
            Ok(segment) => segment,
            // Deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !search.file(&mut segment, limit, report)? {
            report.partial = true;
            break;
        }
    }
    report.partial |= search.gave_up;
    Ok(filter.with_bodies(search.found))
}

struct Search {
    needles: Rc<[Vec<u8>]>,
    limit: Limit,
    found: Vec<HashSet<[u8; 16]>>,
    from: u64,
    to: u64,
    /// The last bytes of bodies that go on.
    open: HashMap<BodyKey, Vec<u8>>,
    /// Their keys, in the order in which they came.
    order: VecDeque<BodyKey>,
    /// Compressed bodies that go on, in the order in which something of them came.
    packed: VecDeque<(BodyKey, Unpacking)>,
    /// A compressed body was not read to its end.
    gave_up: bool,
}

type BodyKey = ([u8; 16], Direction);

impl Search {
    fn new(needles: Vec<Vec<u8>>, limit: Limit) -> Self {
        Self {
            found: vec![HashSet::new(); needles.len()],
            needles: needles.into(),
            limit,
            from: 0,
            to: u64::MAX,
            open: HashMap::new(),
            order: VecDeque::new(),
            packed: VecDeque::new(),
            gave_up: false,
        }
    }

    /// Reads a file through; says whether there was time and room for all of it.
    fn file(
        &mut self,
        segment: &mut Segment,
        limit: Limit,
        report: &mut ScanReport,
    ) -> io::Result<bool> {
        self.open.clear();
        self.order.clear();
        self.packed.clear();
        let mut scratch = Vec::new();
        let mut offset = 0;
        loop {
            let frame = match segment.next(&mut offset)? {
                Found::Frame(frame) => frame,
                Found::Damage(damage) => {
                    report.damages.push(damage);
                    continue;
                }
                Found::End => return Ok(true),
            };
            let header = &frame.header;
            let is_outside = header.max_micros < self.from || header.min_micros > self.to;
            if header.kind != Kind::Bodies as u8 || is_outside {
                continue;
            }
            if limit.is_over() || self.found.iter().any(|found| found.len() > FOUND_MAX) {
                return Ok(false);
            }
            let payload = match segment.payload(&frame)? {
                Ok(payload) => payload,
                Err(damage) => {
                    report.damages.push(damage);
                    continue;
                }
            };
            match decompress(header, payload, &mut scratch) {
                Ok(chunk) => parts(chunk).for_each(|part| self.part(&part)),
                Err(error) => report.damages.push(segment.damage(&frame, error)),
            }
        }
    }

    fn part(&mut self, part: &Part<'_>) {
        let Some(direction) = part.direction else {
            return;
        };
        let key = (part.id.0, direction);
        if self.packed_part(key, part) {
            return;
        }
        let before = self.open.remove(&key).unwrap_or_default();
        let longest = self.needles.iter().map(Vec::len).max().unwrap_or(0);
        let mut seam = before;
        let head = part.bytes.len().min(longest);
        seam.extend_from_slice(part.bytes.get(..head).unwrap_or_default());
        for (needle, found) in self.needles.iter().zip(&mut self.found) {
            if text::contains(part.bytes, needle) || text::contains(&seam, needle) {
                found.insert(part.id.0);
            }
        }
        if part.flags & PART_LAST == 0 {
            // A part shorter than a text carries on what came before it.
            let mut tail = if part.bytes.len() <= longest {
                seam
            } else {
                part.bytes.to_vec()
            };
            tail.drain(..tail.len().saturating_sub(longest.saturating_sub(1)));
            self.keep(key, tail);
        }
    }

    /// Unpacks a part of a compressed body; `false` if it is of another.
    fn packed_part(&mut self, key: BodyKey, part: &Part<'_>) -> bool {
        let known = self.packed.iter().rposition(|(known, _)| *known == key);
        let mut unpacking = match known.and_then(|at| self.packed.remove(at)) {
            Some((_, unpacking)) => unpacking,
            None if part.sequence == 0 && unpack::is_packed(part.bytes) => {
                Unpacking::new(&self.needles, self.limit)
            }
            None => return false,
        };
        let went_on = unpacking.go_on(part.bytes);
        for (found, has) in self.found.iter_mut().zip(unpacking.found()) {
            if *has {
                found.insert(part.id.0);
            }
        }
        self.gave_up |= !went_on;
        if went_on && part.flags & PART_LAST == 0 {
            self.packed.push_back((key, unpacking));
        }
        if self.packed.len() > PACKED_MAX {
            self.packed.pop_front();
            self.gave_up = true;
        }
        true
    }

    fn keep(&mut self, key: BodyKey, tail: Vec<u8>) {
        if self.open.insert(key, tail).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > OPEN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::domain::id::RequestId;

    fn part(id: u8, flags: u8, bytes: &[u8]) -> Part<'_> {
        Part {
            id: RequestId([id; 16]),
            direction: Some(Direction::Request),
            sequence: 0,
            flags,
            bytes,
        }
    }

    #[track_caller]
    fn check(pieces: &[(u8, &[u8])], expected: &[u8]) {
        let mut search = Search::new(vec![b"blue sky".to_vec()], Limit::default());
        for (id, bytes) in pieces {
            search.part(&part(*id, 0, bytes));
        }
        let mut found: Vec<u8> = search.found[0].iter().map(|id| id[0]).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_is_found_within_a_part_and_across_parts_of_one_body() {
        check(&[(1, b"a Blue SKY above"), (2, b"blue")], &[1]);
        check(&[(1, b"a blu"), (2, b"e sky"), (1, b"e sky")], &[1]);
        check(
            &[(1, b"b"), (1, b"l"), (1, b"ue s"), (1, b""), (1, b"ky")],
            &[1],
        );
        check(
            &[(1, b"long long long blue"), (1, b" sky and more of it")],
            &[1],
        );
        check(&[(1, b"blue"), (2, b" sky")], &[]);
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn packed_part(id: u8, sequence: u32, bytes: &[u8]) -> Part<'_> {
        Part {
            sequence,
            ..part(id, 0, bytes)
        }
    }

    #[test]
    fn a_compressed_body_is_unpacked_however_it_was_cut() {
        let text = [&vec![b'x'; 100_000][..], b"a Blue SKY above", &[b'y'; 900]].concat();
        let body = gzip(&text);
        for size in [3, 7, 100, body.len()] {
            let mut search = Search::new(vec![b"blue sky".to_vec()], Limit::default());
            // Another's parts come in between.
            for (n, piece) in (0..).zip(body.chunks(size)) {
                search.part(&packed_part(1, n, piece));
                search.part(&packed_part(2, n, b"plain blue"));
            }
            assert!(search.found[0].iter().eq([&[1; 16]]), "in pieces of {size}");
            assert!(!search.gave_up);
        }
    }

    #[test]
    fn a_body_that_is_no_good_or_too_long_is_given_up() {
        let mut broken = gzip(b"nothing here, and nothing there");
        let middle = broken.len() / 2;
        broken[middle] ^= 0xff;
        let mut search = Search::new(vec![b"blue sky".to_vec()], Limit::default());
        search.part(&packed_part(1, 0, &broken));
        search.part(&packed_part(1, 1, b"blue sky"));
        assert!(search.gave_up);
        // A thousand times as long as it looks, and the text behind the bound.
        let bomb = gzip(&[&vec![0; 80 << 20][..], b"blue sky"].concat());
        let mut search = Search::new(vec![b"blue sky".to_vec()], Limit::default());
        search.part(&packed_part(1, 0, &bomb));
        assert!(search.gave_up && search.found[0].is_empty());
        assert!(search.packed.is_empty());
    }

    #[test]
    fn compressed_bodies_that_go_on_are_few() {
        let body = gzip(b"blue sky");
        let mut search = Search::new(vec![b"blue sky".to_vec()], Limit::default());
        for n in 0..1_000u32 {
            let id = u128::from(n).to_be_bytes();
            search.part(&Part {
                id: RequestId(id),
                ..packed_part(0, 0, &body[..12])
            });
        }
        assert!(search.packed.len() <= PACKED_MAX && search.gave_up);
    }

    #[test]
    fn bodies_that_go_on_are_remembered_up_to_a_bound() {
        let mut search = Search::new(vec![b"ab".to_vec()], Limit::default());
        for n in 0..=u16::MAX {
            let id = u128::from(n).to_be_bytes();
            search.part(&Part {
                id: RequestId(id),
                ..part(0, 0, b"a")
            });
        }
        assert!(search.open.len() <= OPEN_MAX && search.order.len() <= OPEN_MAX);
    }
}
