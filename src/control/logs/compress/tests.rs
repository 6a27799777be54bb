use super::*;
use crate::{
    control::logs::{
        bodies::{Bodies, BodyEnd},
        segment::write_at,
    },
    domain::id::RequestId,
    handoff::body_parts::{BodyChunk, BodyCursor, BodyParts},
};

fn id(n: u8) -> RequestId {
    let mut id = [n; 16];
    id[..6].fill(0);
    RequestId(id)
}

/// A body file with one compressible and one random answer.
fn write(path: &Path) -> Vec<u8> {
    let mut appender = Appender::create(path, Kind::Bodies, 7, write_at()).unwrap();
    let mut noise = Vec::new();
    for n in 0..2_000u64 {
        noise.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()).to_le_bytes());
    }
    for (n, body) in [(1, vec![b'a'; 50_000]), (2, noise.clone())] {
        let mut parts = BodyParts::default();
        parts.set_chunk(Box::new(BodyChunk::new()));
        let mut cursor = BodyCursor::new(id(n), Direction::Response);
        parts.append(&mut cursor, &body);
        parts.finish(&mut cursor);
        let mut chunk = parts.take_filled().unwrap();
        let length = chunk.bytes.len() - HEADER_BYTES;
        chunk.bytes.resize(padded(length), 0);
        let header = Header {
            kind: Kind::Bodies as u8,
            flags: 0,
            rows: chunk.parts,
            length: u32::try_from(length).unwrap(),
            min_micros: chunk.min_micros,
            max_micros: chunk.max_micros,
            sequence: 0,
            segment: 0,
            payload_hash: 0,
        };
        appender.append(&mut chunk.bytes, header).unwrap();
    }
    noise
}

fn compress_all(log: &LogDir) -> Compressed {
    let mut skip = BTreeSet::new();
    pass(log, Duration::ZERO, &mut skip, &AtomicBool::new(false)).unwrap()
}

#[test]
fn bodies_are_the_same_after_compression() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.body_file(1, 0);
    let noise = write(&path);
    let done = compress_all(&log);
    assert_eq!((done.files, done.exchanges), (1, 2));
    assert!(done.bytes_out < done.bytes_in / 2, "{done:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), done.bytes_out);
    for (n, body) in [(1, vec![b'a'; 50_000]), (2, noise)] {
        let bodies = Bodies::find(&log, id(n), 0, 0).unwrap();
        let response = bodies.response.unwrap();
        assert!(response.bytes == body);
        assert_eq!(response.end, BodyEnd::Whole);
        assert!(bodies.request.is_none());
    }
    assert_eq!(compress_all(&log).files, 0, "once is enough");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn bodies_of_deleted_records_are_removed_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.body_file(1, 0);
    let noise = write(&path);
    let remove = |n| {
        let mut done = Compressed::default();
        let rewritten = remove_bodies(&path, &[id(n).0], &mut done).unwrap();
        assert!(rewritten != Rewritten::Done || done.bytes_out < done.bytes_in);
        rewritten
    };
    assert_eq!(remove(3), Rewritten::Never, "has no body here");
    assert_eq!(remove(1), Rewritten::Done);
    assert_eq!(remove(1), Rewritten::Never);
    let find = |n| Bodies::find(&log, id(n), 0, 0).unwrap();
    assert!(find(1).response.is_none());
    let left = find(2).response.unwrap();
    assert!(left.bytes == noise && left.end == BodyEnd::Whole);
    assert_eq!(remove(2), Rewritten::Done);
    assert!(find(2).response.is_none());
}

#[test]
fn a_draft_of_a_crash_is_cleared_away_and_the_file_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.body_file(1, 0);
    write(&path);
    fs::write(path.with_file_name(".1.body.99.new"), b"half a file").unwrap();
    assert_eq!(compress_all(&log).files, 1);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_damaged_file_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.body_file(1, 0);
    write(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(compress_all(&log).files, 0);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let bodies = Bodies::find(&log, id(2), 0, 0).unwrap();
    assert!(bodies.response.is_some() && bodies.damages.len() == 1);
}

#[test]
fn a_file_that_is_written_or_young_waits() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.body_file(1, 0);
    let live = Appender::create(&path, Kind::Bodies, 0, write_at()).unwrap();
    assert_eq!(compress_all(&log).files, 0);
    drop(live);
    let mut skip = BTreeSet::new();
    let hour = Duration::from_hours(1);
    let done = pass(&log, hour, &mut skip, &AtomicBool::new(false)).unwrap();
    assert_eq!((done.files, skip.len()), (0, 0));
    assert!(done.cpu.is_some());
}
