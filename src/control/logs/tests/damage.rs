//! A thousand damaged stores: what is whole is served, what is not is told, nothing is altered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::PathBuf,
    sync::atomic::AtomicBool,
};

use crate::{
    control::logs::{
        frame::{self, FrameBuffer, Kind},
        recovery,
        seal::{SealParts, Work, merge, seal_journal},
        segment::{Appender, Damage, Found, LogDir, Segment, write_at},
        snapshot::LogReader,
    },
    domain::record::{Record, TEXTS, Text, Texts},
};

/// A small generator, so that every failure comes back by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
    }
}

fn record(n: u64) -> Box<Record> {
    let model = format!("model-{}", n % 3);
    let path = format!("/v1/{n}?q={}", n * n);
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = b"default";
    texts[Text::Model as usize] = model.as_bytes();
    texts[Text::Path as usize] = path.as_bytes();
    Box::new(Record {
        id: u128::from(n).to_be_bytes(),
        at_micros: 1_000_000 + n,
        duration_micros: n * 7,
        tokens_input: n.is_multiple_of(2).then_some(n),
        cost: Some(n * 3),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

/// A file of the store: its bytes, and which bytes hold which records.
struct StoreFile {
    name: PathBuf,
    bytes: Vec<u8>,
    frames: Vec<(Range<usize>, Range<u64>)>,
}

impl StoreFile {
    fn records(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().flat_map(|(_, records)| records.clone())
    }
}

/// A store with sealed files of one and of several journals, and unsealed journals.
fn store() -> Vec<StoreFile> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut next = 0;
    for (number, frames) in [(1u64, 6u64), (2, 4), (3, 5), (5, 3), (6, 4), (8, 5)] {
        let path = log.journal(number);
        let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
        for n in 0..frames {
            let rows = 1 + (number + n) % 6;
            let records: Vec<_> = (next..next + rows).map(record).collect();
            next += rows;
            let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
            appender.append(&mut buffer, header).unwrap();
        }
        drop(appender);
        if number <= 5 {
            seal_journal(&log, number, &path, &mut Vec::new(), &NEVER).unwrap();
            fs::remove_file(&path).unwrap();
        }
        if number == 2 {
            let run = log.record_files().unwrap().sealed;
            merge::merge(&log, &run, &NEVER).unwrap();
            for file in run {
                fs::remove_file(file.path).unwrap();
            }
        }
    }
    let files = log.record_files().unwrap();
    let sealed = files.sealed.iter().map(|file| &file.path);
    let journals = files.journals.iter().map(|(_, path)| path);
    let mut next = 0;
    sealed
        .chain(journals)
        .map(|path| {
            let bytes = fs::read(path).unwrap();
            let mut segment = Segment::of_bytes(&bytes);
            let (mut frames, mut offset) = (Vec::new(), 0);
            while let Found::Frame(frame) = segment.next(&mut offset).unwrap() {
                let start = usize::try_from(frame.offset).unwrap();
                let rows = u64::from(frame.header.rows);
                frames.push((start..usize::try_from(offset).unwrap(), next..next + rows));
                next += rows;
            }
            StoreFile {
                name: path.strip_prefix(dir.path()).unwrap().into(),
                bytes,
                frames,
            }
        })
        .collect()
}

/// Damages the bytes of a file; gives the bytes that are touched.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> Range<usize> {
    let length = bytes.len();
    let at = random.below(length);
    match random.below(6) {
        0 => {
            bytes.truncate(at);
            at..length
        }
        1 => {
            let end = (at + random.below(2_000)).min(length);
            bytes[at..end].fill(0);
            at..end
        }
        2 => {
            let end = (at + random.below(200)).min(length);
            bytes[at..end].fill_with(|| u8::try_from(random.below(256)).unwrap());
            at..end
        }
        3 => {
            // A sector that the disk wrote to another place too.
            let from = random.below(length) / 512 * 512;
            let sector = bytes[from..(from + 512).min(length)].to_vec();
            let to = at / 512 * 512;
            let end = (to + sector.len()).min(length);
            bytes[to..end].copy_from_slice(&sector[..end - to]);
            to..end
        }
        4 => {
            bytes.extend_from_slice(&[7; 100]);
            length..length + 100
        }
        _ => {
            bytes[at] ^= 1 << random.below(8);
            at..at + 1
        }
    }
}

/// What a reader serves, and what it says.
#[track_caller]
fn read(log: &LogDir, seed: u64) -> (BTreeSet<u64>, Vec<Damage>) {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let mut damages: Vec<Damage> = snapshot.damages().cloned().collect();
    let mut served = BTreeSet::new();
    for at in snapshot.blocks() {
        let open = match at.open() {
            Ok(open) => open,
            Err(damage) => {
                damages.push(damage);
                continue;
            }
        };
        damages.extend(open.damages().iter().cloned());
        let block = open.block().unwrap();
        let rows = match block.reader() {
            Ok(rows) => rows,
            Err(error) => {
                damages.push(at.damage(error));
                continue;
            }
        };
        for row in 0..block.rows() {
            let found = rows.record(row).unwrap();
            let n = found.at_micros - 1_000_000;
            assert_eq!(found, *record(n), "seed {seed}: altered");
            assert!(served.insert(n), "seed {seed}: record {n} is there twice");
        }
    }
    (served, damages)
}

#[test]
fn a_thousand_damaged_stores_serve_what_is_whole_and_say_what_is_not() {
    let files = store();
    assert_eq!(files.len(), 5);
    let total = files.iter().flat_map(StoreFile::records).count();
    let (mut flawless, mut lost) = (0, 0);
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let mut hits: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
        let mut images: Vec<Vec<u8>> = files.iter().map(|file| file.bytes.clone()).collect();
        let mut missing = BTreeSet::new();
        for _ in 0..=random.below(3) {
            let index = random.below(files.len());
            if random.below(10) == 0 {
                missing.insert(index);
            } else if !images[index].is_empty() {
                let hit = damage(&mut images[index], &mut random);
                hits.entry(index).or_default().push(hit);
            }
        }
        for (index, file) in files.iter().enumerate() {
            let path = dir.path().join(&file.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !missing.contains(&index) {
                fs::write(path, &images[index]).unwrap();
            }
        }

        let (served, damages) = read(&log, seed);
        for (index, file) in files.iter().enumerate() {
            let path = dir.path().join(&file.name);
            let hits = hits.get(&index).map_or(&[][..], Vec::as_slice);
            let mut is_broken = false;
            for (bytes, records) in &file.frames {
                let is_hit = |hit: &Range<usize>| hit.start < bytes.end && bytes.start < hit.end;
                let is_whole = images[index].get(bytes.clone()) == Some(&file.bytes[bytes.clone()]);
                if missing.contains(&index) || !is_whole && hits.iter().any(is_hit) {
                    let gone = records.clone().filter(|n| !served.contains(n)).count();
                    is_broken |= gone > 0 && images[index].len() > bytes.start;
                    lost += gone;
                    continue;
                }
                for n in records.clone() {
                    assert!(
                        served.contains(&n),
                        "seed {seed}: record {n} is whole and not served"
                    );
                }
            }
            let told = damages.iter().filter(|damage| damage.path == path).count();
            if is_broken && !missing.contains(&index) {
                assert!(
                    told > 0,
                    "seed {seed}: nothing is said of {}",
                    path.display()
                );
            }
            if hits.is_empty() {
                assert_eq!(told, 0, "seed {seed}: {} is whole", path.display());
            }
        }
        flawless += u64::from(served.len() == total);

        // A start, and its first look at the store: nothing that was served is gone.
        recover(&log, seed);
        let (after, _) = read(&log, seed);
        assert_eq!(after, served, "seed {seed}, after a start");
    }
    assert!(
        flawless > 20 && lost > 1_000,
        "{flawless} flawless, {lost} lost"
    );
}

fn recover(log: &LogDir, seed: u64) {
    let highest = log.record_files().unwrap().next_journal();
    let recovery = recovery::recover(log).unwrap();
    assert_eq!(recovery.next_journal, highest, "seed {seed}");
    let mut work = Work::new(SealParts::of(log));
    work.step().unwrap();
    work.step().unwrap();
}

#[test]
fn a_message_names_file_and_offset() {
    let files = store();
    let dir = tempfile::tempdir().unwrap();
    let file = &files[0];
    let path = dir.path().join(&file.name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = file.bytes.clone();
    let (frame, _) = &file.frames[1];
    bytes[frame.start + 1_200] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, damages) = read(&LogDir::of(dir.path()), 0);
    assert_eq!(damages.len(), 1);
    let expected = format!(
        "{}: damaged at byte {}, {} bytes passed over: column ",
        path.display(),
        frame.start,
        frame.len()
    );
    assert!(
        damages[0].to_string().starts_with(&expected),
        "{}",
        damages[0]
    );
    assert_eq!(damages[0].path, path);
}
