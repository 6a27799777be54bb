//! One log file: how it is named, opened, walked frame by frame, and appended to.
//!
//! Who writes a file holds an exclusive `flock` on it as long as it is live. A reader that gets a
//! shared one knows that the file is finished and maps it; otherwise it reads what is there with
//! `pread`. Nobody truncates a file without the exclusive lock, so nothing mapped is ever cut.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use super::block::BlockError;
use super::frame::{
    self, FileHeader, FrameBuffer, HEADER_BYTES, Header, HeaderError, Kind, PayloadError, Rows,
};
use crate::{control::data_dir::make_dir, sys::mmap::Map};

pub use super::folder::{LogDir, Numbered};

/// A stretch of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes are passed over.
    pub bytes: u64,
    /// What is wrong.
    pub what: DamageKind,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: damaged at byte {}, {} bytes passed over: {}",
            self.path.display(),
            self.offset,
            self.bytes,
            self.what
        )
    }
}

/// What is wrong with a stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// No header where one belongs.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The frame was written for another file.
    #[error("the frame belongs to another file")]
    Foreign,
    /// The file ends before its frame does.
    #[error("the file ends within a frame")]
    Torn,
    /// The payload's checksum is wrong.
    #[error("the payload's checksum does not match")]
    Payload,
    /// The payload cannot be read although its checksum is right.
    #[error(transparent)]
    Content(#[from] PayloadError),
    /// A block of columns cannot be read.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// A frame's header and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameAt {
    /// Offset of the header in the file.
    pub offset: u64,
    /// The header.
    pub header: Header,
}

/// One step of a walk.
#[derive(Debug)]
pub enum Found {
    /// A frame; its payload is not checked yet.
    Frame(FrameAt),
    /// Something that is no frame was passed over.
    Damage(Damage),
    /// Nothing more; in a live file: nothing more yet.
    End,
}

/// A log file that is read.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    source: Source,
    /// Identity of the file, once a frame told it.
    identity: Option<u64>,
}

#[derive(Debug)]
enum Source {
    Bytes(FrameBuffer),
    Finished {
        map: Map,
        _lock: Option<File>,
    },
    Live {
        file: File,
        window: Window,
    },
    /// A finished file that is gone through once, from its beginning to its end.
    Passing {
        file: File,
        length: u64,
        window: Window,
    },
}

/// What was last read of a file that is not mapped.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: FrameBuffer,
}

/// Bytes read at once while walking the headers of a live file.
const WINDOW_BYTES: usize = 256 << 10;

impl Segment {
    /// Opens a file for reading; finds out by its lock whether it is live.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let source = match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
                Source::Finished {
                    map: Map::of_finished(&file, length)?,
                    _lock: Some(file),
                }
            }
            // Locked by its writer; or on a file system without locks, where reading is safe too.
            Err(_) => Source::Live {
                file,
                window: Window::default(),
            },
        };
        Ok(Self {
            path: path.into(),
            source,
            identity: None,
        })
    }

    /// Opens a file that is to be gone through once; finds out by its lock whether it is live. One
    /// that is not is read piece by piece: a map of it would cost a fault for each few pages, and
    /// as much again to be taken down.
    pub(super) fn open_passing(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let window = Window::default();
        let source = match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Source::Passing {
                length: file.metadata()?.len(),
                file,
                window,
            },
            Err(_) => Source::Live { file, window },
        };
        Ok(Self {
            path: path.into(),
            source,
            identity: None,
        })
    }

    /// Opens a sealed file that is to be gone through once. Like [`Self::open_sealed`] without a
    /// lock.
    pub(super) fn open_sealed_passing(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            path: path.into(),
            source: Source::Passing {
                length: file.metadata()?.len(),
                file,
                window: Window::default(),
            },
            identity: None,
        })
    }

    /// Maps a sealed file. It needs no lock: from the moment it has its name nobody writes to it
    /// or truncates it; it is replaced or removed as a whole, which a map does not notice.
    pub(super) fn open_sealed(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self {
            path: path.into(),
            source: Source::Finished {
                map: Map::of_finished(&file, length)?,
                _lock: None,
            },
            identity: None,
        })
    }

    /// Reads a file that the caller holds the lock of, without a map.
    pub(super) fn of_file(path: &Path, file: File) -> Self {
        Self {
            path: path.into(),
            source: Source::Live {
                file,
                window: Window::default(),
            },
            identity: None,
        }
    }

    /// Reads bytes as a finished file.
    pub fn of_bytes(image: &[u8]) -> Self {
        let mut bytes = FrameBuffer::with_capacity(image.len());
        bytes.extend_from_slice(image);
        Self {
            path: PathBuf::from("memory"),
            source: Source::Bytes(bytes),
            identity: None,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says whether somebody may still write to it.
    pub fn is_live(&self) -> bool {
        matches!(self.source, Source::Live { .. })
    }

    /// Length of the file now.
    pub fn length(&self) -> io::Result<u64> {
        match &self.source {
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
            Source::Finished { map, .. } => Ok(map.len() as u64),
            Source::Live { file, .. } => Ok(file.metadata()?.len()),
            Source::Passing { length, .. } => Ok(*length),
        }
    }

    /// Finds the frame at `offset` and moves `offset` behind it. What is no frame is passed over
    /// up to the next valid header. At the end `offset` stays, so that the walk of a live file
    /// can go on later.
    pub fn next(&mut self, offset: &mut u64) -> io::Result<Found> {
        let start = *offset;
        let length = self.length()?;
        if start >= length {
            self.forget();
            return Ok(Found::End);
        }
        let what = match self.header(start, length)? {
            Ok(header) => {
                *offset = start + header.frame_bytes();
                return Ok(Found::Frame(FrameAt {
                    offset: start,
                    header,
                }));
            }
            Err(what) => what,
        };
        let next = self.search(start, length)?;
        if next.is_none() && self.is_live() {
            self.forget();
            return Ok(Found::End);
        }
        *offset = next.unwrap_or(length);
        Ok(Found::Damage(Damage {
            path: self.path.clone(),
            offset: start,
            bytes: *offset - start,
            what,
        }))
    }

    /// The next offset after `from` at which a valid header lies.
    fn search(&mut self, from: u64, length: u64) -> io::Result<Option<u64>> {
        let step = HEADER_BYTES as u64;
        let mut at = from.next_multiple_of(step);
        if at == from {
            at += step;
        }
        while at + step <= length {
            if self.header(at, length)?.is_ok() {
                return Ok(Some(at));
            }
            at += step;
        }
        Ok(None)
    }

    /// The header at `offset`, if it and the whole frame lie in the file.
    fn header(&mut self, offset: u64, length: u64) -> io::Result<Result<Header, DamageKind>> {
        let identity = self.identity;
        let Some(bytes) = self.read(offset, HEADER_BYTES, WINDOW_BYTES)? else {
            return Ok(Err(DamageKind::Torn));
        };
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(Err(DamageKind::Torn));
        };
        let header = match Header::read(bytes, offset) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.into())),
        };
        if identity.is_some_and(|identity| identity != header.segment) {
            return Ok(Err(DamageKind::Foreign));
        }
        if offset + header.frame_bytes() > length {
            return Ok(Err(DamageKind::Torn));
        }
        self.identity = Some(header.segment);
        Ok(Ok(header))
    }

    /// The payload of a frame, its checksum verified, not decompressed.
    pub fn payload(&mut self, frame: &FrameAt) -> io::Result<Result<&[u8], Damage>> {
        let damage = |path: &Path, what| Damage {
            path: path.into(),
            offset: frame.offset,
            bytes: frame.header.frame_bytes(),
            what,
        };
        let path = self.path.clone();
        let start = frame.offset + HEADER_BYTES as u64;
        let length = frame.header.length as usize;
        let Some(bytes) = self.read(start, length, length)? else {
            return Ok(Err(damage(&path, DamageKind::Torn)));
        };
        if !frame.header.matches(bytes) {
            return Ok(Err(damage(&path, DamageKind::Payload)));
        }
        Ok(Ok(bytes))
    }

    /// The records of a row frame, verified.
    pub fn rows(&mut self, frame: &FrameAt) -> io::Result<Result<Rows<'_>, Damage>> {
        let damage = self.damage(frame, DamageKind::Torn);
        let payload = match self.payload(frame)? {
            Ok(payload) => payload,
            Err(damage) => return Ok(Err(damage)),
        };
        Ok(frame::rows(&frame.header, payload).map_err(|error| Damage {
            what: error.into(),
            ..damage
        }))
    }

    /// The payload of a frame in place, not verified; `None` if the file is not in memory.
    pub(super) fn payload_in_place(&self, frame: &FrameAt) -> Option<&[u8]> {
        let start = frame.offset + HEADER_BYTES as u64;
        match &self.source {
            Source::Bytes(bytes) => within(bytes, start, frame.header.length as usize),
            Source::Finished { map, .. } => within(map, start, frame.header.length as usize),
            Source::Live { .. } | Source::Passing { .. } => None,
        }
    }

    /// A damage report for a frame of this file.
    pub fn damage(&self, frame: &FrameAt, what: impl Into<DamageKind>) -> Damage {
        Damage {
            path: self.path.clone(),
            offset: frame.offset,
            bytes: frame.header.frame_bytes(),
            what: what.into(),
        }
    }

    /// What the file says of itself, if its first frame is whole.
    pub fn file_header(&mut self) -> io::Result<Option<FileHeader>> {
        let mut offset = 0;
        let Found::Frame(frame) = self.next(&mut offset)? else {
            return Ok(None);
        };
        if Kind::from_number(frame.header.kind) != Some(Kind::FileHeader) {
            return Ok(None);
        }
        Ok(self.payload(&frame)?.ok().and_then(FileHeader::read))
    }

    /// Reads a live file anew from here on: a frame may just be on its way into it.
    pub fn forget(&mut self) {
        if let Source::Live { window, .. } = &mut self.source {
            window.bytes.clear();
        }
    }

    /// `length` bytes at `offset`, a multiple of 64; `None` if the file ends before. A live file
    /// is read in pieces of at least `ahead`.
    fn read(&mut self, offset: u64, length: usize, ahead: usize) -> io::Result<Option<&[u8]>> {
        match &mut self.source {
            Source::Bytes(bytes) => Ok(within(bytes, offset, length)),
            Source::Finished { map, .. } => Ok(within(map, offset, length)),
            Source::Live { file, window } => {
                if window.get(offset, length).is_none() {
                    // What was read of it before may have been half a frame.
                    window.bytes.clear();
                    window.fill(file, offset, length.max(ahead))?;
                }
                Ok(window.get(offset, length))
            }
            Source::Passing { file, window, .. } => {
                if window.get(offset, length).is_none() {
                    window.fill(file, offset, length.max(WINDOW_BYTES))?;
                }
                Ok(window.get(offset, length))
            }
        }
    }
}

fn within(bytes: &[u8], offset: u64, length: usize) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(length)?)
}

impl Window {
    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        within(&self.bytes, offset.checked_sub(self.start)?, length)
    }

    /// Reads up to `length` bytes from `offset` on, but for those at the beginning that are there
    /// already.
    fn fill(&mut self, file: &File, offset: u64, length: usize) -> io::Result<()> {
        let kept = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip < self.bytes.len());
        let mut filled = 0;
        if let Some(skip) = kept {
            filled = (self.bytes.len() - skip).min(length);
            self.bytes.copy_within(skip..skip + filled, 0);
        }
        self.start = offset;
        self.bytes.resize(length, 0);
        while filled < length {
            match file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.resize(filled, 0);
        Ok(())
    }
}

/// How bytes get to a file; tests put faults here.
pub type WriteAt = Arc<dyn Fn(&File, &[u8], u64) -> io::Result<usize> + Send + Sync>;

/// The real way.
pub fn write_at() -> WriteAt {
    Arc::new(FileExt::write_at)
}

/// A log file that is written.
pub struct Appender {
    path: PathBuf,
    file: Arc<File>,
    write_at: WriteAt,
    segment: u64,
    sequence: u64,
    offset: u64,
    created_micros: u64,
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("path", &self.path)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Appender {
    /// Starts a new file: it appears under its name locked and with its header, or not at all.
    /// An existing file of that name is an error of kind `AlreadyExists`.
    pub fn create(
        path: &Path,
        contents: Kind,
        created_micros: u64,
        write_at: WriteAt,
    ) -> io::Result<Self> {
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (folder, name.to_string_lossy()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        make_dir(folder)?;
        let draft = folder.join(format!(".{name}.{}.new", std::process::id()));
        let made = Self::draft(&draft, path, contents, false, created_micros, write_at)
            .and_then(|appender| publish_new(&draft, path).map(|()| appender));
        let _ = fs::remove_file(&draft);
        made
    }

    /// Starts a file at `draft` that is to become `path`.
    pub(in crate::control) fn draft(
        draft: &Path,
        path: &Path,
        contents: Kind,
        compressed: bool,
        created_micros: u64,
        write_at: WriteAt,
    ) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(draft)?;
        // Locked before it is emptied: it may be another's who is still at it.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        let mut identity = [0u8; 8];
        getrandom::fill(&mut identity).map_err(io::Error::other)?;
        let mut appender = Self {
            path: path.into(),
            file: Arc::new(file),
            write_at,
            segment: u64::from_le_bytes(identity),
            sequence: 0,
            offset: 0,
            created_micros,
        };
        let mut buffer = FrameBuffer::new();
        buffer.resize(HEADER_BYTES, 0);
        let header = FileHeader {
            contents,
            compressed,
            created_micros,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        header.write(&mut buffer);
        let length = buffer.len() - HEADER_BYTES;
        buffer.resize(frame::padded(length), 0);
        appender.append(
            &mut buffer,
            Header {
                kind: Kind::FileHeader as u8,
                flags: 0,
                rows: 0,
                length: u32::try_from(length).map_err(io::Error::other)?,
                min_micros: created_micros,
                max_micros: created_micros,
                sequence: 0,
                segment: 0,
                payload_hash: 0,
            },
        )?;
        Ok(appender)
    }

    /// Appends one frame (see [`frame::seal`]) by one write. If that fails, the file stays as it
    /// was: what was written of the frame is cut off, or overwritten by the next.
    pub fn append(&mut self, frame: &mut [u8], header: Header) -> io::Result<u64> {
        frame::seal(frame, self.own(header), self.offset);
        self.append_sealed(frame)
    }

    /// The same for a frame of another file whose payload was found to match its header.
    pub(super) fn append_verified(&mut self, frame: &mut [u8], header: Header) -> io::Result<u64> {
        frame::seal_verified(frame, &self.own(header), self.offset);
        self.append_sealed(frame)
    }

    /// The header as one of this file's.
    fn own(&self, header: Header) -> Header {
        Header {
            sequence: self.sequence,
            segment: self.segment,
            ..header
        }
    }

    fn append_sealed(&mut self, frame: &[u8]) -> io::Result<u64> {
        if let Err(error) = self.write_all(frame) {
            let _ = self.file.set_len(self.offset);
            return Err(error);
        }
        self.offset += frame.len() as u64;
        self.sequence += 1;
        Ok(frame.len() as u64)
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut offset = self.offset;
        while !bytes.is_empty() {
            match (self.write_at)(&self.file, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The file, for whoever syncs it.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// When it was started: microseconds since the Unix epoch.
    pub fn created_micros(&self) -> u64 {
        self.created_micros
    }
}

/// Gives `draft` its name; never replaces a file.
fn publish_new(draft: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links: the data folder's lock keeps others away.
        Err(_) if !path.exists() => fs::rename(draft, path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Record;

    fn append(appender: &mut Appender, n: u64) -> io::Result<u64> {
        let record = Box::new(Record {
            at_micros: n,
            ..Record::default()
        });
        let (mut buffer, header) = frame::encode_rows(&[record], FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header)
    }

    fn times(segment: &mut Segment) -> Vec<u64> {
        let mut offset = 0;
        let mut found = Vec::new();
        loop {
            match segment.next(&mut offset).unwrap() {
                Found::Frame(frame) if frame.header.kind == Kind::Rows as u8 => {
                    let payload = segment.payload(&frame).unwrap().unwrap();
                    let rows = frame::rows(&frame.header, payload).unwrap().records();
                    found.extend(rows.iter().map(|row| row.at_micros));
                }
                Found::Frame(_) => {}
                Found::Damage(damage) => panic!("{damage}"),
                Found::End => return found,
            }
        }
    }

    #[test]
    fn a_live_file_is_read_by_its_side_and_mapped_once_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogDir::of(dir.path()).journal(1);
        let mut appender = Appender::create(&path, Kind::Rows, 5, write_at()).unwrap();
        let mut live = Segment::open(&path).unwrap();
        assert!(live.is_live());
        append(&mut appender, 1).unwrap();
        append(&mut appender, 2).unwrap();
        assert_eq!(times(&mut live), [1, 2]);
        append(&mut appender, 3).unwrap();
        assert_eq!(times(&mut live), [1, 2, 3], "goes on where it ended");
        drop(appender);
        let mut finished = Segment::open(&path).unwrap();
        assert!(!finished.is_live());
        assert_eq!(times(&mut finished), [1, 2, 3]);
        let header = finished.file_header().unwrap().unwrap();
        assert_eq!((header.contents, header.created_micros), (Kind::Rows, 5));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogDir::of(dir.path()).journal(1);
        drop(Appender::create(&path, Kind::Rows, 0, write_at()).unwrap());
        let error = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_failed_write_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogDir::of(dir.path()).journal(1);
        let budget = Arc::new(std::sync::atomic::AtomicUsize::new(usize::MAX));
        let left = Arc::clone(&budget);
        let faulty: WriteAt = Arc::new(move |file, bytes, offset| {
            use std::sync::atomic::Ordering::Relaxed;
            match left.load(Relaxed) {
                0 => Err(io::Error::from_raw_os_error(28)),
                room => {
                    let written = file.write_at(&bytes[..bytes.len().min(room)], offset)?;
                    left.fetch_sub(written, Relaxed);
                    Ok(written)
                }
            }
        });
        let mut appender = Appender::create(&path, Kind::Rows, 0, faulty).unwrap();
        append(&mut appender, 1).unwrap();
        budget.store(100, std::sync::atomic::Ordering::Relaxed);
        let error = append(&mut appender, 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(28));
        assert_eq!(fs::metadata(&path).unwrap().len(), appender.offset());
        budget.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
        append(&mut appender, 3).unwrap();
        assert_eq!(times(&mut Segment::open(&path).unwrap()), [1, 3]);
    }
}
