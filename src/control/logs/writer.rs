//! The `logs` thread: takes records and bodies from the shards and appends them to files.
//!
//! Each batch of records is one frame and one `pwrite`; when that returned, the records survive
//! `kill -9`. A failing disk costs no request: the batch is kept and tried again, the channels
//! behind it fill, and what does not fit there is dropped and counted by its shard.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    block::BLOCK_ROWS,
    frame::{self, FrameBuffer, HEADER_BYTES, Header, Kind, packed::Packer},
    limit::RowLimits,
    seal::SealQueue,
    segment::{Appender, LogDir, WriteAt},
    sync::{Cached, SyncQueue},
};
use crate::{
    domain::record::Record,
    handoff::{
        body_parts::BodyChunk,
        log_health::{LogHealth, LogWork},
        log_queue::{LogMessage, LogReceiver},
    },
};

/// A journal or body file beyond this length is followed by a new one. Small enough to look
/// through the newest at start, large enough that a busy day has hundreds of files, not millions.
const FILE_BYTES: u64 = 64 << 20;

/// A journal with a block's rows is followed by a new one, and sealed, when it is as old as this:
/// under heavy load a file every few seconds, not one for every block. A longer file is merged into
/// others once less.
const JOURNAL_AGE_MIN: Duration = Duration::from_secs(4);

/// A journal with so many rows is followed by a new one in any case.
const JOURNAL_ROWS_MAX: u64 = 16 * BLOCK_ROWS as u64;

/// A body file older than this is followed by a new one, so that its content gets compressed.
const BODY_FILE_AGE: Duration = Duration::from_hours(1);

/// Most records in a frame.
const BATCH_RECORDS_MAX: usize = 4_096;

/// A batch with more text than this is written before more is taken.
const BATCH_BYTES: usize = 8 << 20;

/// Chunks of bodies written before records are looked at again: 1 MiB, a millisecond.
const CHUNKS_BETWEEN_RECORDS: usize = 8;

/// Wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Most that a frame around a chunk grows beyond the chunk: its padding.
const _: () = assert!(crate::handoff::body_parts::CHUNK_BYTES.is_multiple_of(HEADER_BYTES));

/// What the thread needs to begin.
pub(super) struct WriterParts {
    pub(super) log: LogDir,
    pub(super) receiver: LogReceiver,
    pub(super) health: Arc<LogHealth>,
    pub(super) sync: Arc<SyncQueue>,
    pub(super) seal: Arc<SealQueue>,
    /// Age at which a journal with few rows is sealed too.
    pub(super) seal_after: Duration,
    pub(super) limits: Arc<RowLimits>,
    pub(super) write_at: WriteAt,
    pub(super) next_journal: u64,
    pub(super) next_body_file: u64,
}

/// Opens the first journal, so that a folder that cannot be written is an error here, and starts
/// the thread.
pub(super) fn start(parts: WriterParts) -> io::Result<JoinHandle<()>> {
    let mut writer = Writer::new(parts);
    writer.open_journal(unix_micros())?;
    thread::Builder::new().name("logs".into()).spawn(move || {
        while catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            writer.recover_from_panic();
        }
    })
}

struct Writer {
    parts: WriterParts,
    journal: Option<Appender>,
    /// When it was opened, and the rows in it.
    journal_opened: Instant,
    journal_rows: u64,
    body_file: Option<Appender>,
    #[expect(
        clippy::vec_box,
        reason = "the boxes come over the queue; unpacking copies 300 bytes"
    )]
    batch: Vec<Box<Record>>,
    packer: Packer,
    /// Memory for the next frame of records.
    buffer: FrameBuffer,
    /// Chunks that wait, with their shards; never more than the shards' pools hold.
    chunks: VecDeque<(usize, Box<BodyChunk>)>,
    /// The shard that is looked at first, another each time.
    first_shard: usize,
    retry_at: Option<Instant>,
}

/// What a look at the channels came to.
enum Turn {
    /// There was nothing.
    Idle,
    /// There was something, or something waits for its time.
    Worked,
    /// There was more than one turn takes: the next follows at once.
    More,
}

impl Writer {
    fn new(parts: WriterParts) -> Self {
        Self {
            parts,
            journal: None,
            journal_opened: Instant::now(),
            journal_rows: 0,
            body_file: None,
            batch: Vec::new(),
            packer: Packer::default(),
            buffer: FrameBuffer::new(),
            chunks: VecDeque::new(),
            first_shard: 0,
            retry_at: None,
        }
    }

    fn run(&mut self) {
        let stop = self.parts.receiver.stop_handle();
        loop {
            // Asked before the look at the channels: what was sent before the stop is seen.
            let stopping = stop.is_stopped();
            match self.turn(stopping) {
                Turn::More => {}
                Turn::Idle if stopping => break,
                Turn::Worked if stopping => {}
                Turn::Worked => self.parts.receiver.rest(true, None),
                Turn::Idle => {
                    let longest = self.journal_due();
                    self.parts.receiver.rest(false, longest);
                }
            }
        }
    }

    /// Gives up what was in hand when a fault of ours struck, and goes on with new files: records
    /// of later requests must not be lost with it.
    fn recover_from_panic(&mut self) {
        let error = io::Error::other("the log writer panicked");
        self.parts.health.failed(LogWork::WriteRecords, &error);
        self.parts.health.lost_records(self.batch.len() as u64);
        self.batch.clear();
        self.packer = Packer::default();
        for (shard, chunk) in self.chunks.drain(..) {
            self.parts.health.lost_chunk();
            self.parts.receiver.give_back(shard, chunk);
        }
        self.journal = None;
        self.body_file = None;
        self.retry_at = Some(Instant::now() + RETRY);
    }

    /// Looks at the channels once, and writes what it finds.
    fn turn(&mut self, stopping: bool) -> Turn {
        let due = self.retry_at.is_none_or(|at| Instant::now() >= at);
        if !due && !stopping {
            return Turn::Worked;
        }
        if self.parts.sync.take_file_gone() {
            self.journal = None;
            self.body_file = None;
        }
        if self.is_journal_done() {
            // The next record begins another.
            self.journal = None;
            self.parts.seal.ring();
        }
        // A batch that could not be written is written before more is taken.
        let took = self.batch.is_empty() && self.take();
        let is_behind = self.batch.len() >= BATCH_RECORDS_MAX;
        self.parts
            .health
            .set_queued(self.parts.receiver.queued() as u64);
        let health = Arc::clone(&self.parts.health);
        // Until the end of the turn, in which whatever touches the disk may hang.
        let _writing =
            (!self.batch.is_empty() || !self.chunks.is_empty()).then(|| health.begin_write());
        if !self.batch.is_empty() {
            match self.write_batch() {
                Ok(bytes) => {
                    let records = self.batch.len() as u64;
                    self.retry_at = None;
                    self.journal_rows += records;
                    self.batch.clear();
                    self.parts.health.succeeded(LogWork::WriteRecords);
                    self.parts.health.wrote_records(records, bytes);
                }
                Err(_) if stopping => {
                    self.parts.health.lost_records(self.batch.len() as u64);
                    self.batch.clear();
                }
                Err(_) => {
                    self.retry_at = Some(Instant::now() + RETRY);
                    return Turn::Worked;
                }
            }
        }
        let wrote = self.write_chunks();
        if is_behind || !self.chunks.is_empty() {
            Turn::More
        } else if took || wrote {
            Turn::Worked
        } else {
            Turn::Idle
        }
    }

    /// Fills the batch, and takes chunks on the way; `true` if there was anything.
    fn take(&mut self) -> bool {
        let shards = self.parts.receiver.shards();
        let mut bytes = 0;
        let mut took = false;
        self.first_shard = (self.first_shard + 1) % shards.max(1);
        for index in 0..shards {
            let shard = (self.first_shard + index) % shards;
            while self.batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES {
                match self.parts.receiver.take(shard) {
                    Some(LogMessage::Record(mut record)) => {
                        self.parts.limits.admit(&mut record);
                        bytes += record.texts.byte_len();
                        self.batch.push(record);
                    }
                    Some(LogMessage::Bodies(chunk)) => self.chunks.push_back((shard, chunk)),
                    None => break,
                }
                took = true;
            }
        }
        if shards > 1 {
            in_order(&mut self.batch);
        }
        took
    }

    fn write_batch(&mut self) -> io::Result<u64> {
        let Some((mut buffer, header)) = frame::encode_rows_with(
            &mut self.packer,
            &self.batch,
            std::mem::take(&mut self.buffer),
        ) else {
            // Cannot be: a batch is bounded far below the longest payload. Never tried again.
            self.parts.health.lost_records(self.batch.len() as u64);
            self.batch.clear();
            return Ok(0);
        };
        let written = self.append_rows(&mut buffer, header);
        if buffer.capacity() <= 2 * BATCH_BYTES {
            self.buffer = buffer;
        }
        written
    }

    fn append_rows(&mut self, buffer: &mut FrameBuffer, header: Header) -> io::Result<u64> {
        if self.journal.is_none() {
            let opened = self.open_journal(unix_micros());
            opened.inspect_err(|error| self.parts.health.failed(LogWork::OpenFile, error))?;
        }
        let Some(journal) = &mut self.journal else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = journal.append(buffer, header);
        match &written {
            Ok(_) => self.parts.sync.mark(journal.file(), Cached::Keep),
            Err(error) => {
                self.parts.health.failed(LogWork::WriteRecords, error);
                self.give_up_broken_journal();
            }
        }
        written
    }

    /// Leaves a journal whose broken end could not be cut off: the next try begins another.
    fn give_up_broken_journal(&mut self) {
        self.journal.take_if(|journal| {
            let length = journal.file().metadata().map(|metadata| metadata.len());
            length.is_ok_and(|length| length != journal.offset())
        });
    }

    fn open_journal(&mut self, now_micros: u64) -> io::Result<()> {
        let log = self.parts.log.clone();
        let appender = self.create(
            |number| log.journal(number),
            Kind::Rows,
            now_micros,
            self.parts.next_journal,
        )?;
        self.parts.next_journal = appender.1 + 1;
        self.journal = Some(appender.0);
        self.journal_opened = Instant::now();
        self.journal_rows = 0;
        Ok(())
    }

    /// Says whether the journal is to be sealed: it has a block's rows, or is old.
    fn is_journal_done(&self) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        let age = self.journal_opened.elapsed();
        is_full(journal)
            || self.journal_rows >= JOURNAL_ROWS_MAX
            || self.journal_rows >= BLOCK_ROWS as u64 && age >= JOURNAL_AGE_MIN
            || self.journal_rows > 0 && age >= self.parts.seal_after
    }

    /// Time until the journal is to be sealed, if it has rows.
    fn journal_due(&self) -> Option<Duration> {
        let has_rows = self.journal.is_some() && self.journal_rows > 0;
        has_rows.then(|| {
            let age = self.journal_opened.elapsed();
            self.parts.seal_after.saturating_sub(age)
        })
    }

    fn open_body_file(&mut self, now_micros: u64) -> io::Result<()> {
        let log = self.parts.log.clone();
        let appender = self.create(
            |number| log.body_file(number, now_micros),
            Kind::Bodies,
            now_micros,
            self.parts.next_body_file,
        )?;
        self.parts.next_body_file = appender.1 + 1;
        self.body_file = Some(appender.0);
        Ok(())
    }

    /// Starts the file of the first free number from `number` on.
    fn create(
        &self,
        path: impl Fn(u64) -> std::path::PathBuf,
        contents: Kind,
        now_micros: u64,
        mut number: u64,
    ) -> io::Result<(Appender, u64)> {
        loop {
            let write_at = Arc::clone(&self.parts.write_at);
            match Appender::create(&path(number), contents, now_micros, write_at) {
                Ok(appender) => {
                    self.parts.health.add_disk_bytes(appender.offset());
                    self.parts.sync.mark(appender.file(), Cached::Keep);
                    if let Some(folder) = appender.path().parent() {
                        // The new name must reach the disk too.
                        let folder = std::fs::File::open(folder)?;
                        self.parts.sync.mark(&Arc::new(folder), Cached::Keep);
                    }
                    return Ok((appender, number));
                }
                // Taken by a server that hands over to this one, or takes over from it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes some of the waiting chunks; `true` if there were any. What cannot be written is
    /// given up: bodies are the lesser half of a record.
    fn write_chunks(&mut self) -> bool {
        let mut wrote = false;
        for _ in 0..CHUNKS_BETWEEN_RECORDS {
            let Some((shard, mut chunk)) = self.chunks.pop_front() else {
                break;
            };
            wrote = true;
            match self.append_chunk(&mut chunk) {
                Ok(bytes) => {
                    self.parts.health.succeeded(LogWork::WriteBodies);
                    self.parts.health.wrote_chunk(bytes);
                }
                Err(error) => {
                    self.parts.health.failed(LogWork::WriteBodies, &error);
                    self.parts.health.lost_chunk();
                }
            }
            self.parts.receiver.give_back(shard, chunk);
        }
        wrote
    }

    /// Appends a chunk as it is: its room takes the header, its spare capacity the padding.
    fn append_chunk(&mut self, chunk: &mut BodyChunk) -> io::Result<u64> {
        let now_micros = unix_micros();
        let is_done = |file: &Appender| is_full(file) || is_old(file, now_micros);
        if self.body_file.as_ref().is_none_or(is_done) {
            self.body_file = None;
            self.open_body_file(now_micros)?;
        }
        let Some(file) = &mut self.body_file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let length = chunk.bytes.len() - HEADER_BYTES;
        chunk.bytes.resize(frame::padded(length), 0);
        let header = Header {
            kind: Kind::Bodies as u8,
            flags: 0,
            rows: chunk.parts,
            length: u32::try_from(length).map_err(io::Error::other)?,
            min_micros: chunk.min_micros,
            max_micros: chunk.max_micros,
            sequence: 0,
            segment: 0,
            payload_hash: 0,
        };
        let written = file.append(&mut chunk.bytes, header)?;
        self.parts.sync.mark(file.file(), Cached::Drop);
        Ok(written)
    }
}

/// Puts the records of several shards, each shard's in its order, into the order in which exchanges
/// ended: a merge of a few runs.
fn in_order(batch: &mut [Box<Record>]) {
    batch.sort_by_key(|record| record.at_micros.saturating_add(record.duration_micros));
}

fn is_full(file: &Appender) -> bool {
    file.offset() >= FILE_BYTES
}

/// Says whether a body file's hour or day (UTC) is over.
fn is_old(file: &Appender, now_micros: u64) -> bool {
    const DAY_MICROS: u64 = 86_400_000_000;
    let created = file.created_micros();
    let age = Duration::from_micros(now_micros.saturating_sub(created));
    age >= BODY_FILE_AGE || now_micros / DAY_MICROS != created / DAY_MICROS
}

/// The time of day that stands in files: microseconds since the Unix epoch.
pub(super) fn unix_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_several_shards_stand_in_the_order_in_which_they_ended() {
        let record = |at_micros, duration_micros| {
            Box::new(Record {
                at_micros,
                duration_micros,
                ..Record::default()
            })
        };
        let mut batch = vec![
            record(10, 5),
            record(3, 20),
            record(22, 2),
            record(9, 3),
            record(11, 4),
            record(12, 30),
        ];
        in_order(&mut batch);
        let begun: Vec<_> = batch.iter().map(|record| record.at_micros).collect();
        assert_eq!(begun, [9, 10, 11, 3, 22, 12], "of equals the first stays");
    }
}
