//! What is done to the log store before a server writes to it.
//!
//! Only the newest journal and the newest body file can have a torn end: theirs is looked for and
//! cut. Older files are not opened, so that a start costs the same for any amount of log; whoever
//! reads them passes over damaged frames and says so.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    frame::Kind,
    segment::{Damage, Found, FrameAt, LogDir, Segment},
};
use crate::control::data_dir::make_dir;

/// What was found and done.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Torn ends that were cut.
    pub cut: Vec<Damage>,
    /// Damage within the files looked at; it stays, and readers pass over it.
    pub damages: Vec<Damage>,
    /// Bytes of all log files.
    pub disk_bytes: u64,
    /// Number for the next journal.
    pub next_journal: u64,
    /// Number for the next body file.
    pub next_body_file: u64,
}

/// Makes the log folder, cuts torn ends, clears away drafts, and finds the next numbers.
pub fn recover(log: &LogDir) -> io::Result<Recovery> {
    make_dir(log.path())?;
    let mut recovery = Recovery::default();
    let files = log.record_files()?;
    let journals = &files.journals;
    let body_files = log.body_files()?;
    remove_drafts(log.path())?;
    for newest in [journals.last(), body_files.last()].into_iter().flatten() {
        if let Some(day) = newest.1.parent().filter(|day| *day != log.path()) {
            remove_drafts(day)?;
        }
        cut_torn_end(&newest.1, &mut recovery)?;
    }
    recovery.next_journal = files.next_journal();
    recovery.next_body_file = match body_files.last() {
        Some((last, _)) => last.saturating_add(1),
        None => 1,
    };
    let numbered = journals.iter().chain(&body_files).map(|(_, path)| path);
    let sealed = files.sealed.iter().map(|sealed| &sealed.path);
    for path in numbered.chain(sealed).chain(&files.superseded) {
        // A file that was just removed, for holding nothing, has no bytes.
        recovery.disk_bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
    }
    Ok(recovery)
}

/// Cuts the end of `path` behind its last good frame, if nobody writes or maps it. A file with
/// nothing in it but its header is removed.
fn cut_torn_end(path: &Path, recovery: &mut Recovery) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        // A server that hands over still writes it, or a reader maps it. Readers cope with a torn
        // end, so leaving it does no harm.
        return Ok(());
    }
    let length = file.metadata()?.len();
    let (mut frames, mut damages) = walk(path, file.try_clone()?)?;
    let mut segment = Segment::of_file(path, file.try_clone()?);
    let mut end = None;
    while let Some(last) = frames.last() {
        if segment.payload(last)?.is_ok() {
            end = Some(last.offset + last.header.frame_bytes());
            break;
        }
        frames.pop();
    }
    let Some(end) = end else {
        // Nothing tells that this is a log file: not ours to cut.
        recovery.damages.append(&mut damages);
        return Ok(());
    };
    damages.retain(|damage| damage.offset < end);
    recovery.damages.append(&mut damages);
    if end < length {
        file.set_len(end)?;
        file.sync_all()?;
        recovery.cut.push(Damage {
            path: path.into(),
            offset: end,
            bytes: length - end,
            what: super::segment::DamageKind::Torn,
        });
    }
    let is_empty = frames
        .iter()
        .all(|frame| frame.header.kind == Kind::FileHeader as u8);
    if is_empty && recovery.damages.is_empty() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn walk(path: &Path, file: File) -> io::Result<(Vec<FrameAt>, Vec<Damage>)> {
    let mut segment = Segment::of_file(path, file);
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    let mut offset = 0;
    loop {
        match segment.next(&mut offset)? {
            Found::Frame(frame) => frames.push(frame),
            Found::Damage(damage) => damages.push(damage),
            Found::End => return Ok((frames, damages)),
        }
    }
}

/// Removes files that a server began and never named.
pub(super) fn remove_drafts(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') || !name.ends_with(".new") {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        control::logs::{
            frame::{self, FrameBuffer},
            segment::{Appender, DamageKind, write_at},
        },
        domain::record::{Record, TEXTS, Texts},
    };

    /// A small generator, so that every failure comes back by its seed.
    struct Random(u64);

    impl Random {
        fn index(&mut self, bound: usize) -> usize {
            usize::try_from(self.below(bound as u64)).unwrap()
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    fn record(n: u64) -> Box<Record> {
        let model = format!("model-{n}");
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[2] = model.as_bytes();
        let mut id = [0u8; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        Box::new(Record {
            id,
            at_micros: 1_000_000 + n,
            cost: Some(n * 3),
            texts: Texts::pack(&texts),
            ..Record::default()
        })
    }

    /// Frames of 1 to 7 records; gives the file and where each frame begins, with its records.
    fn write(path: &Path, frames: u64) -> Vec<(u64, std::ops::Range<u64>)> {
        let mut appender = Appender::create(path, Kind::Rows, 0, write_at()).unwrap();
        let mut places = Vec::new();
        let mut next = 0;
        for n in 0..frames {
            let records: Vec<_> = (next..next + 1 + n % 7).map(record).collect();
            let offset = appender.offset();
            let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
            appender.append(&mut buffer, header).unwrap();
            places.push((offset, next..next + records.len() as u64));
            next += records.len() as u64;
        }
        places
    }

    /// Every record that a walk serves, and how often.
    fn served(image: &[u8]) -> BTreeMap<[u8; 16], (Record, u32)> {
        let mut segment = Segment::of_bytes(image);
        let mut served = BTreeMap::new();
        let mut offset = 0;
        loop {
            let frame = match segment.next(&mut offset).unwrap() {
                Found::Frame(frame) if frame.header.kind == Kind::Rows as u8 => frame,
                Found::Frame(_) | Found::Damage(_) => continue,
                Found::End => return served,
            };
            let Ok(payload) = segment.payload(&frame).unwrap() else {
                continue;
            };
            for record in frame::rows(&frame.header, payload).unwrap().records() {
                served.entry(record.id).or_insert((record, 0)).1 += 1;
            }
        }
    }

    #[test]
    fn random_damage_alters_and_doubles_nothing_and_spares_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogDir::of(dir.path()).journal(1);
        let places = write(&path, 40);
        let image = fs::read(&path).unwrap();
        for seed in 0..1_000 {
            let mut random = Random(seed);
            let mut damaged = image.clone();
            let mut hit = Vec::new();
            for _ in 0..=random.below(4) {
                let at = random.index(damaged.len());
                match random.below(5) {
                    0 => {
                        damaged.truncate(at.max(64));
                        hit.push(damaged.len()..image.len());
                    }
                    1 => {
                        // A frame that the disk wrote to another place too.
                        let from = usize::try_from(places[random.index(40)].0).unwrap();
                        let to = usize::try_from(places[random.index(40)].0).unwrap();
                        if to + 192 <= damaged.len() && from != to {
                            damaged[to..to + 192].copy_from_slice(&image[from..from + 192]);
                            hit.push(to..to + 192);
                        }
                    }
                    2 => {
                        let end = (at + random.index(5_000)).min(damaged.len());
                        damaged[at..end].fill(0);
                        hit.push(at..end);
                    }
                    _ => {
                        damaged[at] ^= 1 << random.below(8);
                        hit.push(at..at + 1);
                    }
                }
                if damaged.len() <= 64 {
                    break;
                }
            }
            let served = served(&damaged);
            assert_eq!(frame::read_any(&damaged).0, served.len() as u64);
            for (read, times) in served.values() {
                assert_eq!(*times, 1, "seed {seed}");
                let n = read.at_micros - 1_000_000;
                assert_eq!(read, &*record(n), "seed {seed}");
            }
            for (index, (offset, records)) in places.iter().enumerate() {
                let end = places
                    .get(index + 1)
                    .map_or(image.len() as u64, |(next, _)| *next);
                let is_hit = |hit: &std::ops::Range<usize>| {
                    (hit.start as u64) < end && hit.end as u64 > *offset
                };
                if hit.iter().any(is_hit) {
                    continue;
                }
                for n in records.clone() {
                    let id = record(n).id;
                    assert!(served.contains_key(&id), "seed {seed}: lost record {n}");
                }
            }
        }
    }

    #[test]
    fn a_torn_end_is_cut_at_every_length() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let path = log.journal(7);
        let places = write(&path, 5);
        let image = fs::read(&path).unwrap();
        let last = places.last().unwrap().0;
        for length in (last + 1..image.len() as u64).step_by(37) {
            fs::write(&path, &image[..usize::try_from(length).unwrap()]).unwrap();
            let recovery = recover(&log).unwrap();
            assert_eq!(recovery.cut.len(), 1);
            assert_eq!(recovery.cut[0].offset, last);
            assert_eq!(recovery.cut[0].bytes, length - last);
            assert_eq!(recovery.next_journal, 8);
            assert_eq!(fs::metadata(&path).unwrap().len(), last);
            assert!(recover(&log).unwrap().cut.is_empty(), "cut once");
        }
    }

    #[test]
    fn damage_before_good_frames_is_reported_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let path = log.journal(1);
        let places = write(&path, 5);
        let mut image = fs::read(&path).unwrap();
        let at = usize::try_from(places[2].0).unwrap();
        image[at] ^= 1;
        fs::write(&path, &image).unwrap();
        let recovery = recover(&log).unwrap();
        assert!(recovery.cut.is_empty());
        let damage = &recovery.damages[0];
        assert_eq!(damage.offset, places[2].0);
        assert_eq!(damage.bytes, places[3].0 - places[2].0);
        assert!(matches!(damage.what, DamageKind::Header(_)));
        assert_eq!(
            damage.to_string(),
            format!(
                "{}: damaged at byte {}, {} bytes passed over: no frame begins here",
                path.display(),
                damage.offset,
                damage.bytes
            )
        );
        assert_eq!(fs::read(&path).unwrap(), image);
    }

    #[test]
    fn a_last_frame_with_a_damaged_payload_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let path = log.journal(1);
        let places = write(&path, 3);
        let mut image = fs::read(&path).unwrap();
        let last = places[2].0;
        image[usize::try_from(last).unwrap() + 80] ^= 1;
        fs::write(&path, &image).unwrap();
        let recovery = recover(&log).unwrap();
        assert_eq!(recovery.cut[0].offset, last);
    }

    #[test]
    fn what_is_no_log_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        make_dir(log.path()).unwrap();
        fs::write(log.journal(3), b"a letter to my aunt").unwrap();
        let recovery = recover(&log).unwrap();
        assert_eq!(recovery.damages.len() + recovery.cut.len(), 0);
        assert_eq!(fs::read(log.journal(3)).unwrap(), b"a letter to my aunt");
    }

    #[test]
    fn empty_journals_and_drafts_are_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        write(&log.journal(4), 0);
        fs::write(log.path().join(".journal-5.seg.77.new"), b"half").unwrap();
        let recovery = recover(&log).unwrap();
        assert_eq!(recovery.next_journal, 5);
        assert_eq!(fs::read_dir(log.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_still_written_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
        let recovery = recover(&log).unwrap();
        assert_eq!(recovery.next_journal, 2);
        assert!(appender.path().exists());
    }
}
