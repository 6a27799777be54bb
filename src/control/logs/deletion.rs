//! What was deleted: noted in a file of its own at once, and taken out of the others later.
//!
//! A deletion is an id, or all records of a gateway up to an id: ids rise with time, so that the
//! oldest of a gateway are one entry, however many. From the moment the entry is written no reader
//! serves the records. An id is forgotten when no file holds its record (see [`super::seal::purge`])
//! and its exchange has certainly ended; how far a gateway's oldest were deleted is remembered, since
//! an exchange that began before can end, and be recorded, at any time later.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rkyv::{Archive, Deserialize, Serialize, rancor::Failure};

use super::{
    block::{Block, BlockError, TextCells},
    folder::LogDir,
    frame::{FrameBuffer, HEADER_BYTES, Header, Kind, padded},
    segment::{Appender, Damage, Found, Segment, write_at},
    writer::unix_micros,
};
use crate::domain::{id::RequestId, record::Text};

/// Most ids in a frame: a megabyte.
const FRAME_IDS_MAX: usize = 1 << 16;

/// An exchange does not take longer: an id that is older than this, and whose record is in no file,
/// will never be in one.
const EXCHANGE_MICROS_MAX: u64 = 86_400_000_000;

/// How often deletion files are listed again because one of them went away before it was read.
const LISTINGS_MAX: usize = 8;

/// The entries of one frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Deletions {
    ids: Vec<[u8; 16]>,
    oldest: Vec<Oldest>,
}

/// All records of a gateway up to an id.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Oldest {
    gateway: Vec<u8>,
    last: [u8; 16],
}

/// Reads the payload of a deletion frame.
pub(super) fn read(payload: &[u8]) -> Option<Deletions> {
    rkyv::from_bytes::<Deletions, Failure>(payload).ok()
}

/// Deleted records that files may still hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Sorted, each once.
    ids: Vec<[u8; 16]>,
    oldest: BTreeMap<Vec<u8>, [u8; 16]>,
}

impl Deleted {
    /// Says whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.oldest.is_empty()
    }

    /// Says whether the record with `id` of `gateway` is deleted.
    pub fn has(&self, id: &[u8; 16], gateway: &[u8]) -> bool {
        self.ids.binary_search(id).is_ok()
            || self.oldest.get(gateway).is_some_and(|last| id <= last)
    }

    /// Which rows of `block` are not deleted, a bit for each; `None` if all of them are there.
    pub fn mask(&self, block: &Block<'_>) -> Result<Option<Vec<u64>>, BlockError> {
        let zone = block.zone();
        let from = self.ids.partition_point(|id| *id < zone.id_min);
        let to = self.ids.partition_point(|id| *id <= zone.id_max);
        let ids = self.ids.get(from..to).unwrap_or_default();
        let meets = |last: &[u8; 16]| *last >= zone.id_min;
        if ids.is_empty() && !self.oldest.values().any(meets) {
            return Ok(None);
        }
        let mut words = all_rows(block.rows());
        let mut hides = false;
        let lasts = self.lasts(block)?;
        for (row, id) in block.ids()?.iter().enumerate() {
            let is_old = match &lasts {
                Lasts::None => false,
                Lasts::One(last) => id <= last,
                Lasts::ByCode(cells, lasts) => {
                    let last = cells.code(row).and_then(|code| lasts.get(code));
                    last.is_some_and(|last| last.is_some_and(|last| *id <= last))
                }
            };
            if is_old || ids.binary_search(id).is_ok() {
                hides = true;
                if let Some(word) = words.get_mut(row / 64) {
                    *word &= !(1 << (row % 64));
                }
            }
        }
        Ok(hides.then_some(words))
    }

    /// The last deleted id of each gateway in `block`.
    fn lasts<'a>(&self, block: &Block<'a>) -> Result<Lasts<'a>, BlockError> {
        if self.oldest.is_empty() {
            return Ok(Lasts::None);
        }
        let last = |gateway: &[u8]| self.oldest.get(gateway).copied();
        let cells = block.texts(Text::Gateway)?;
        Ok(match &cells {
            TextCells::Empty => last(b"").map_or(Lasts::None, Lasts::One),
            TextCells::Coded { strings, .. } | TextCells::Each(strings) => {
                let lasts: Vec<_> = strings.iter().map(last).collect();
                if lasts.iter().any(Option::is_some) {
                    Lasts::ByCode(cells, lasts)
                } else {
                    Lasts::None
                }
            }
        })
    }

    fn add(&mut self, deletions: Deletions) {
        self.ids.extend(deletions.ids);
        for oldest in deletions.oldest {
            let last = self.oldest.entry(oldest.gateway).or_default();
            *last = oldest.last.max(*last);
        }
    }
}

enum Lasts<'a> {
    None,
    One([u8; 16]),
    ByCode(TextCells<'a>, Vec<Option<[u8; 16]>>),
}

/// A bit for each of `rows` rows.
pub(super) fn all_rows(rows: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; rows.div_ceil(64)];
    if let Some(last) = words.last_mut()
        && !rows.is_multiple_of(64)
    {
        *last = (1 << (rows % 64)) - 1;
    }
    words
}

/// The deletion files as a reader last saw them.
#[derive(Debug, Default)]
pub(super) struct DeletedFiles {
    seen: Vec<(PathBuf, u64, u64)>,
    deleted: Arc<Deleted>,
}

impl DeletedFiles {
    /// What is deleted now. Reads the files only if one has changed.
    pub(super) fn read(&mut self, log: &LogDir) -> io::Result<Arc<Deleted>> {
        for _ in 0..LISTINGS_MAX {
            let mut now = Vec::new();
            let listed = log.deletion_files()?;
            let count = listed.len();
            for (_, path) in listed {
                match fs::metadata(&path) {
                    Ok(metadata) => now.push((path, metadata.ino(), metadata.len())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if now == self.seen {
                return Ok(Arc::clone(&self.deleted));
            }
            let paths = now.iter().map(|(path, ..)| path.clone());
            let read = read_files(paths)?;
            if now.len() < count || read.files < count {
                // What was in the one that is gone is in another that was not there yet.
                continue;
            }
            for damage in read.damages {
                tracing::warn!("{damage}");
            }
            self.deleted = Arc::new(read.deleted);
            self.seen = now;
            return Ok(Arc::clone(&self.deleted));
        }
        Err(io::Error::other(
            "the deletion files of the log change faster than they can be read",
        ))
    }
}

/// What deletion files hold.
#[derive(Debug, Default)]
pub(super) struct DeletionsRead {
    pub(super) deleted: Deleted,
    pub(super) damages: Vec<Damage>,
    /// How many files were there.
    pub(super) files: usize,
}

/// Reads deletion files; those that are gone are passed over.
pub(super) fn read_files(paths: impl Iterator<Item = PathBuf>) -> io::Result<DeletionsRead> {
    let (mut deleted, mut damages, mut files) = (Deleted::default(), Vec::new(), 0);
    for path in paths {
        let mut segment = match Segment::open(&path) {
            Ok(segment) => segment,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        files += 1;
        let mut offset = 0;
        loop {
            match segment.next(&mut offset)? {
                Found::Frame(frame) if frame.header.kind == Kind::Deletions as u8 => {
                    match segment.payload(&frame)?.map(read) {
                        Ok(Some(deletions)) => deleted.add(deletions),
                        Ok(None) => damages.push(segment.damage(&frame, BlockError::Columns)),
                        Err(damage) => damages.push(damage),
                    }
                }
                Found::Frame(_) => {}
                Found::Damage(damage) => damages.push(damage),
                Found::End => break,
            }
        }
    }
    deleted.ids.sort_unstable();
    deleted.ids.dedup();
    Ok(DeletionsRead {
        deleted,
        damages,
        files,
    })
}

/// Deletes records of a store that a server writes.
#[derive(Debug)]
pub struct LogDeleter {
    log: LogDir,
    file: Mutex<Option<Appender>>,
}

impl LogDeleter {
    /// A deleter for the log folder `log`.
    pub fn new(log: LogDir) -> Self {
        Self {
            log,
            file: Mutex::new(None),
        }
    }

    /// Deletes the records with these ids. When it returns, no new snapshot serves them, and they
    /// stay deleted after a crash. Ids that no record has do no harm.
    pub fn delete(&self, ids: &[[u8; 16]]) -> io::Result<()> {
        for ids in ids.chunks(FRAME_IDS_MAX) {
            self.append(&Deletions {
                ids: ids.to_vec(),
                oldest: Vec::new(),
            })?;
        }
        self.sync()
    }

    /// Deletes all records of `gateway` up to the one with the id `last`.
    pub fn delete_oldest(&self, gateway: &[u8], last: [u8; 16]) -> io::Result<()> {
        self.append(&Deletions {
            ids: Vec::new(),
            oldest: vec![Oldest {
                gateway: gateway.to_vec(),
                last,
            }],
        })?;
        self.sync()
    }

    /// The deletion files with their lengths.
    pub(super) fn noted(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let files = self.log.deletion_files()?.into_iter();
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(files
            .map(|(_, path)| (path.clone(), length(&path)))
            .collect())
    }

    /// Has later deletions go to another file, and gives those so far with their lengths, which
    /// stay as they are.
    pub(super) fn finish(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *file = None;
        self.noted()
    }

    /// Forgets what stands in the files `finished`, of which no file holds records any more, but for
    /// what exchanges may still be recorded of.
    pub(super) fn forget(
        &self,
        finished: &[(PathBuf, u64)],
        deleted: &Deleted,
        now_micros: u64,
    ) -> io::Result<()> {
        let from = now_micros.saturating_sub(EXCHANGE_MICROS_MAX);
        let from = RequestId::below(from / 1_000).0;
        let young = deleted.ids.partition_point(|id| *id < from);
        let young = deleted.ids.get(young..).unwrap_or_default();
        let oldest: Vec<Oldest> = deleted
            .oldest
            .iter()
            .map(|(gateway, last)| Oldest {
                gateway: gateway.clone(),
                last: *last,
            })
            .collect();
        let bytes = 1_024 + 16 * young.len() + 256 * oldest.len();
        if let [(_, length)] = finished
            && young.len() == deleted.ids.len()
            && *length <= bytes as u64
        {
            // It would be written anew much as it is.
            return Ok(());
        }
        for ids in young.chunks(FRAME_IDS_MAX) {
            self.append(&Deletions {
                ids: ids.to_vec(),
                oldest: Vec::new(),
            })?;
        }
        for oldest in oldest.chunks(FRAME_IDS_MAX) {
            self.append(&Deletions {
                ids: Vec::new(),
                oldest: oldest.to_vec(),
            })?;
        }
        self.sync()?;
        for (path, _) in finished {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn append(&self, deletions: &Deletions) -> io::Result<()> {
        let mut buffer = FrameBuffer::new();
        buffer.resize(HEADER_BYTES, 0);
        let mut buffer = rkyv::api::high::to_bytes_in::<_, Failure>(deletions, buffer)
            .map_err(|Failure| io::Error::other("deletions too large for a frame"))?;
        let length = buffer.len() - HEADER_BYTES;
        buffer.resize(padded(length), 0);
        let now = unix_micros();
        let header = Header {
            kind: Kind::Deletions as u8,
            flags: 0,
            rows: u32::try_from(deletions.ids.len()).map_err(io::Error::other)?,
            length: u32::try_from(length).map_err(io::Error::other)?,
            min_micros: now,
            max_micros: now,
            sequence: 0,
            segment: 0,
            payload_hash: 0,
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let appender = match &mut *file {
            Some(appender) => appender,
            none => none.insert(self.create(now)?),
        };
        appender.append(&mut buffer, header)?;
        Ok(())
    }

    fn create(&self, now_micros: u64) -> io::Result<Appender> {
        let files = self.log.deletion_files()?;
        let mut number = files.last().map_or(1, |(last, _)| last.saturating_add(1));
        loop {
            let path = self.log.deletion_file(number);
            match Appender::create(&path, Kind::Deletions, now_micros, write_at()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => return made,
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(appender) = &*file {
            appender.file().sync_data()?;
            fs::File::open(self.log.path())?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
