//! Compresses bodies once they are old: a side thread rewrites each finished file with lz4. Also
//! rewrites files without the bodies of deleted records.
//!
//! The new file is written beside the old one under a draft's name, synced, and takes the old
//! one's name in one rename; a crash leaves the old file or the new one, and perhaps a draft that
//! the next pass clears away. Readers read either. A file with damage stays as it is: nothing that
//! cannot be verified is copied, and nothing is thrown away.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    frame::{FLAG_LZ4, FrameBuffer, HEADER_BYTES, Header, Kind, decompress, padded},
    give_way,
    recovery::remove_drafts,
    segment::{self, Appender, Found, LogDir, Segment},
};
use crate::{
    domain::id::RequestId,
    handoff::{
        body_parts::{Direction, PART_DROPPED, PART_HEAD_BYTES, PART_LAST, parts},
        log_health::LogHealth,
    },
};

/// Time between two passes.
const PASS_INTERVAL: Duration = Duration::from_mins(1);

/// A tenth of a usual thread's share of a core that is wanted by all: nobody waits for it.
const NICE: i32 = 10;

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Files rewritten.
    pub files: u64,
    /// Their bytes before.
    pub bytes_in: u64,
    /// Their bytes after.
    pub bytes_out: u64,
    /// Exchanges in them: ends of answers.
    pub exchanges: u64,
    /// CPU time of the thread, if the system tells it.
    pub cpu: Option<Duration>,
}

/// Rewrites all finished body files that were last written at least `age` ago. Files in `skip`
/// are passed over, and those found damaged are added to it.
pub fn pass(
    log: &LogDir,
    age: Duration,
    skip: &mut BTreeSet<PathBuf>,
    stop: &AtomicBool,
) -> io::Result<Compressed> {
    let cpu_before = thread_cpu();
    let mut done = Compressed::default();
    let files = log.body_files()?;
    let days: BTreeSet<&Path> = files.iter().filter_map(|(_, path)| path.parent()).collect();
    for day in days {
        remove_drafts(day)?;
    }
    for (_, path) in &files {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if skip.contains(path) || !is_older(path, age) {
            continue;
        }
        match rewrite(path, &mut done) {
            Ok(Rewritten::Done) => done.files += 1,
            Ok(Rewritten::NotYet) => {}
            Ok(Rewritten::Never) => {
                skip.insert(path.clone());
            }
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let spent = |(before, after): (Duration, Duration)| after.saturating_sub(before);
    done.cpu = cpu_before.zip(thread_cpu()).map(spent);
    Ok(done)
}

fn is_older(path: &Path, age: Duration) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| {
        SystemTime::now()
            .duration_since(written)
            .is_ok_and(|since| since >= age)
    })
}

/// What came of rewriting a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// It is rewritten.
    Done,
    /// It is still written.
    NotYet,
    /// There is nothing to do, or it is damaged.
    Never,
}

/// Held by who rewrites body files, which two threads must not do at once.
pub(super) type Rewriting = Arc<Mutex<()>>;

/// Held while one body file is rewritten, from before its content is read until the new file has
/// its name: the lock of its folder. Another process that rewrote it meanwhile would bring back
/// what this one took out.
struct Alone(#[expect(dead_code, reason = "held")] File);

impl Alone {
    /// Waits until nobody else rewrites a file of the folder of `path`.
    fn wait(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path)?;
        loop {
            match flock(&folder, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(folder)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// `None` if somebody else rewrites a file of the folder now.
    fn now(path: &Path) -> io::Result<Option<Self>> {
        let folder = folder_of(path)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(folder))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn folder_of(path: &Path) -> io::Result<File> {
    File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Ids of records, sorted.
pub(super) type Ids = [[u8; 16]];

/// Rewrites a file without the bodies of the records in `ids`; leaves it alone if it has none.
pub(super) fn remove_bodies(
    path: &Path,
    ids: &Ids,
    done: &mut Compressed,
) -> io::Result<Rewritten> {
    if !holds_any(&mut Segment::open(path)?, ids)? {
        return Ok(Rewritten::Never);
    }
    // Whoever seals journals does not wait for another process.
    let Some(_alone) = Alone::now(path)? else {
        return Ok(Rewritten::NotYet);
    };
    let mut segment = Segment::open(path)?;
    if segment.is_live() {
        return Ok(Rewritten::NotYet);
    }
    let created = segment
        .file_header()?
        .map_or(0, |header| header.created_micros);
    rewrite_without(path, &mut segment, created, ids, done)
}

/// Says whether a body of one of `ids` is in the file. Damaged frames are passed over.
fn holds_any(segment: &mut Segment, ids: &Ids) -> io::Result<bool> {
    let micros = |id: &[u8; 16]| RequestId(*id).unix_millis().saturating_mul(1000);
    let (Some(first), Some(last)) = (ids.first().map(micros), ids.last().map(micros)) else {
        return Ok(false);
    };
    let (mut offset, mut scratch) = (0, Vec::new());
    loop {
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) => frame,
            Found::Damage(_) => continue,
            Found::End => return Ok(false),
        };
        let header = frame.header;
        let may_hold = header.min_micros <= last && first <= header.max_micros;
        if header.kind != Kind::Bodies as u8 || !may_hold {
            continue;
        }
        if let Ok(payload) = segment.payload(&frame)?
            && let Ok(chunk) = decompress(&header, payload, &mut scratch)
            && parts(chunk).any(|part| ids.binary_search(&part.id.0).is_ok())
        {
            return Ok(true);
        }
    }
}

fn rewrite(path: &Path, done: &mut Compressed) -> io::Result<Rewritten> {
    let _alone = Alone::wait(path)?;
    // While this segment is open, its shared lock keeps others from cutting the file.
    let mut segment = Segment::open(path)?;
    if segment.is_live() {
        return Ok(Rewritten::NotYet);
    }
    let Some(header) = segment.file_header()? else {
        return Ok(Rewritten::Never);
    };
    if header.compressed {
        return Ok(Rewritten::Never);
    }
    rewrite_without(path, &mut segment, header.created_micros, &[], done)
}

fn rewrite_without(
    path: &Path,
    segment: &mut Segment,
    created_micros: u64,
    ids: &Ids,
    done: &mut Compressed,
) -> io::Result<Rewritten> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Rewritten::Never);
    };
    let draft = folder.join(format!(
        ".{}.{}.new",
        name.to_string_lossy(),
        std::process::id()
    ));
    let mut appender = Appender::draft(
        &draft,
        path,
        Kind::Bodies,
        true,
        created_micros,
        segment::write_at(),
    )?;
    let before = segment.length()?;
    let copied = copy(segment, &mut appender, ids);
    match copied {
        Ok(Some(_)) if !path.exists() => {
            // Its time was over, and it is not to come back.
            fs::remove_file(&draft)?;
            Ok(Rewritten::Never)
        }
        Ok(Some(exchanges)) => {
            appender.file().sync_all()?;
            fs::rename(&draft, path)?;
            File::open(folder)?.sync_all()?;
            done.bytes_in += before;
            done.bytes_out += appender.offset();
            done.exchanges += exchanges;
            Ok(Rewritten::Done)
        }
        Ok(None) => {
            fs::remove_file(&draft)?;
            Ok(Rewritten::Never)
        }
        Err(error) => {
            // A full disk, most likely: the draft must not make it fuller.
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

/// Copies every frame of bodies, compressed where that makes it smaller, and without those of
/// `ids`. Gives the number of exchanges, or `None` if a frame is damaged.
fn copy(segment: &mut Segment, appender: &mut Appender, ids: &Ids) -> io::Result<Option<u64>> {
    let mut exchanges = 0;
    let mut offset = 0;
    let mut buffer = FrameBuffer::new();
    let mut scratch = Vec::new();
    loop {
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) => frame,
            Found::Damage(damage) => {
                tracing::warn!("not compressed: {damage}");
                return Ok(None);
            }
            Found::End => return Ok(Some(exchanges)),
        };
        if frame.header.kind != Kind::Bodies as u8 {
            continue;
        }
        let payload = match segment.payload(&frame)? {
            Ok(payload) => payload,
            Err(damage) => {
                tracing::warn!("not compressed: {damage}");
                return Ok(None);
            }
        };
        let Ok(chunk) = decompress(&frame.header, payload, &mut scratch) else {
            tracing::warn!("not compressed: a frame of {}", segment.path().display());
            return Ok(None);
        };
        let mut header = Header {
            flags: frame.header.flags & !FLAG_LZ4,
            length: u32::try_from(chunk.len()).map_err(io::Error::other)?,
            ..frame.header
        };
        let kept;
        let mut chunk = chunk;
        if parts(chunk).any(|part| ids.binary_search(&part.id.0).is_ok()) {
            let (bytes, rows) = without(chunk, ids);
            if rows == 0 {
                continue;
            }
            header.rows = rows;
            header.length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            kept = bytes;
            chunk = &kept;
        }
        exchanges += parts(chunk)
            .filter(|part| {
                part.direction == Some(Direction::Response)
                    && part.flags & (PART_LAST | PART_DROPPED) != 0
            })
            .count() as u64;
        let header = compress(&header, chunk, &mut buffer)?;
        appender.append(&mut buffer, header)?;
    }
}

/// The parts of a chunk but those of `ids`, and their number.
fn without(chunk: &[u8], ids: &Ids) -> (Vec<u8>, u32) {
    let (mut bytes, mut rows) = (Vec::with_capacity(chunk.len()), 0);
    let mut rest = chunk;
    for part in parts(chunk) {
        let (raw, after) = rest.split_at(PART_HEAD_BYTES + part.bytes.len());
        rest = after;
        if ids.binary_search(&part.id.0).is_err() {
            bytes.extend_from_slice(raw);
            rows += 1;
        }
    }
    (bytes, rows)
}

/// Makes the new frame, all but its seal, in `buffer`.
fn compress(header: &Header, payload: &[u8], buffer: &mut FrameBuffer) -> io::Result<Header> {
    const SIZE_BYTES: usize = 4;
    let room = HEADER_BYTES + SIZE_BYTES;
    buffer.clear();
    buffer.resize(
        room + lz4_flex::block::get_maximum_output_size(payload.len()),
        0,
    );
    let mut length = payload.len();
    let mut flags = header.flags;
    let compressed = lz4_flex::block::compress_into(payload, &mut buffer[room..])
        .map_err(io::Error::other)?
        + SIZE_BYTES;
    if compressed < payload.len() {
        buffer[HEADER_BYTES..room].copy_from_slice(&header.length.to_le_bytes());
        flags |= FLAG_LZ4;
        length = compressed;
    } else {
        buffer[HEADER_BYTES..HEADER_BYTES + length].copy_from_slice(payload);
    }
    let end = HEADER_BYTES + length;
    buffer.resize(end, 0);
    buffer.resize(padded(length), 0);
    Ok(Header {
        flags,
        length: u32::try_from(length).map_err(io::Error::other)?,
        ..*header
    })
}

/// CPU time that the calling thread has used so far.
fn thread_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// The thread that makes a pass every minute.
#[derive(Debug)]
pub(super) struct Compressor {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Stop {
    now: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Compressor {
    pub(super) fn start(
        log: LogDir,
        age: Duration,
        health: Arc<LogHealth>,
        rewriting: Rewriting,
    ) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("logs-compress".into())
            .spawn(move || {
                give_way(NICE);
                let mut skip = BTreeSet::new();
                while stopped.wait(PASS_INTERVAL) {
                    let _one = rewriting.lock().unwrap_or_else(PoisonError::into_inner);
                    match pass(&log, age, &mut skip, &stopped.now) {
                        Ok(done) => {
                            health.add_disk_bytes(done.bytes_out);
                            health.remove_disk_bytes(done.bytes_in);
                        }
                        Err(error) => tracing::warn!("cannot compress bodies: {error}"),
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        self.stop.now.store(true, Ordering::Relaxed);
        drop(self.stop.lock.lock());
        self.stop.wake.notify_all();
        let _ = self.thread.join();
    }
}

impl Stop {
    /// Waits for `interval`; `false` when it is time to end.
    fn wait(&self, interval: Duration) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .wake
            .wait_timeout_while(guard, interval, |()| !self.now.load(Ordering::Relaxed));
        !self.now.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
