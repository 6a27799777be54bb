//! The file under a journal, and the new one that is to take its place.
//!
//! A file that is written anew must be on the disk before it takes the name: the old one is. That may
//! take longer than a reservation can wait, so it happens aside: until then every frame goes
//! into the old one, which counts, and into the new one as soon as nobody waits for an answer.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use crate::control::{
    ledger::{balance::Balance, step::Step},
    logs::{
        frame::{self, FrameBuffer, HEADER_BYTES, Header, Kind},
        segment::{Appender, WriteAt},
    },
};

/// Name of the file in the data folder.
const FILE: &str = "ledger.journal";

/// Name of the file that is to take its place.
const DRAFT: &str = ".ledger.journal.new";

/// A file of this length is written anew if it is twice as long as it was when new.
const REWRITE_BYTES: u64 = 4 << 20;

/// Most payload of a frame of a file that is written anew; of others, the batches that wait
/// bound it.
const FRAME_BYTES: usize = 4 << 20;

/// Time between two tries to write a file anew.
const RETRY_MICROS: u64 = 500_000;

/// The path of the journal of a data folder.
pub(super) fn path_of(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The file, and the one that is to follow.
pub(super) struct JournalFile {
    folder: PathBuf,
    write_at: WriteAt,
    current: Appender,
    next: Option<Next>,
    /// Length of the file when it was new.
    fresh_bytes: u64,
    /// It lacks something that the balance has, and no next one is on its way.
    behind: bool,
    tried_at: u64,
}

/// A file that is to take the name.
struct Next {
    appender: Appender,
    /// Frames that the old file has and this one lacks, with their steps.
    owed: Vec<(FrameBuffer, u32)>,
    /// Brings what it began with to the disk.
    sync: JoinHandle<io::Result<()>>,
    fresh_bytes: u64,
}

impl JournalFile {
    /// Writes a file of a balance, in place of the one that has the name.
    pub(super) fn create(
        folder: &Path,
        balance: &Balance,
        now_micros: u64,
        write_at: WriteAt,
    ) -> io::Result<Self> {
        let made = draft(folder, balance, now_micros, &write_at).and_then(|current| {
            current.file().sync_data()?;
            take_name(folder)?;
            Ok(current)
        });
        let current = made.inspect_err(|_| remove_draft(folder))?;
        Ok(Self {
            folder: folder.into(),
            write_at,
            fresh_bytes: current.offset(),
            current,
            next: None,
            behind: false,
            tried_at: 0,
        })
    }

    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.current.offset()
    }

    /// Says whether there is something to do: [`JournalFile::tend`].
    pub(super) fn is_unfinished(&self) -> bool {
        self.behind || self.next.is_some()
    }

    /// Notes that something in the balance could not be written.
    pub(super) fn fell_behind(&mut self) {
        self.drop_next();
        self.behind = true;
    }

    /// Appends a frame of so many steps, all but whose header is in the buffer.
    pub(super) fn append(
        &mut self,
        buffer: &mut FrameBuffer,
        steps: u32,
        now_micros: u64,
    ) -> io::Result<()> {
        let length = buffer.len();
        append(&mut self.current, buffer, steps, now_micros)?;
        if let Some(next) = &mut self.next {
            buffer.resize(length, 0);
            next.owed.push((buffer.clone(), steps));
        }
        Ok(())
    }

    /// Appends to the new file what it lacks.
    fn pay(&mut self, now_micros: u64) -> io::Result<()> {
        let Some(next) = &mut self.next else {
            return Ok(());
        };
        let mut owed = next.owed.drain(..);
        let paid = owed.try_for_each(|(mut buffer, steps)| {
            append(&mut next.appender, &mut buffer, steps, now_micros)
        });
        drop(owed);
        if paid.is_err() {
            self.fell_behind();
        }
        paid
    }

    /// Begins a new file if this one has grown or lacks something, and lets a new one take the name
    /// when it is ready.
    pub(super) fn tend(&mut self, balance: &Balance, now_micros: u64) -> io::Result<()> {
        self.pay(now_micros)?;
        if self
            .next
            .as_ref()
            .is_some_and(|next| next.sync.is_finished())
        {
            return self.finish(now_micros);
        }
        let length = self.bytes();
        let has_grown = length >= REWRITE_BYTES && length >= self.fresh_bytes.saturating_mul(2);
        // (A clock that was set back lets the next try begin at once.)
        let is_due = now_micros.abs_diff(self.tried_at) >= RETRY_MICROS;
        if self.next.is_some() || !is_due || !self.behind && !has_grown {
            return Ok(());
        }
        self.tried_at = now_micros;
        let made = draft(&self.folder, balance, now_micros, &self.write_at);
        let next = made.and_then(|appender| {
            let file = Arc::clone(appender.file());
            let builder = std::thread::Builder::new().name("ledger-sync".to_owned());
            Ok(Next {
                fresh_bytes: appender.offset(),
                owed: Vec::new(),
                sync: builder.spawn(move || file.sync_data())?,
                appender,
            })
        });
        self.next = Some(next.inspect_err(|_| remove_draft(&self.folder))?);
        self.behind = false;
        Ok(())
    }

    /// Waits until a new file that was begun is on the disk, and gives it the name.
    pub(super) fn finish(&mut self, now_micros: u64) -> io::Result<()> {
        self.pay(now_micros)?;
        let Some(next) = self.next.take() else {
            return Ok(());
        };
        let synced = next
            .sync
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the sync panicked")));
        if let Err(error) = synced.and_then(|()| take_name(&self.folder)) {
            self.fell_behind();
            return Err(error);
        }
        self.current = next.appender;
        self.fresh_bytes = next.fresh_bytes;
        Ok(())
    }

    /// Lets the next try begin at once.
    pub(super) fn try_now(&mut self) {
        self.tried_at = 0;
    }

    fn drop_next(&mut self) {
        if self.next.take().is_some() {
            remove_draft(&self.folder);
        }
    }
}

fn remove_draft(folder: &Path) {
    // It may be what fills the disk.
    let _ = fs::remove_file(folder.join(DRAFT));
}

fn take_name(folder: &Path) -> io::Result<()> {
    fs::rename(folder.join(DRAFT), path_of(folder))?;
    // The new file has the name from here on, whether or not the disk knows already.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Writes a file of what a balance comes to, under the name of the draft.
fn draft(
    folder: &Path,
    balance: &Balance,
    now_micros: u64,
    write_at: &WriteAt,
) -> io::Result<Appender> {
    let (path, draft) = (path_of(folder), folder.join(DRAFT));
    let write_at = Arc::clone(write_at);
    let mut appender = Appender::draft(&draft, &path, Kind::Ledger, false, now_micros, write_at)?;
    write_balance(&mut appender, balance, now_micros)?;
    Ok(appender)
}

fn write_balance(appender: &mut Appender, balance: &Balance, now_micros: u64) -> io::Result<()> {
    let spent = balance.spent().into_iter().map(Step::Spent);
    let open = balance.open().into_iter().map(Step::Reserved);
    let mut buffer = FrameBuffer::new();
    let mut steps = 0;
    for step in spent.chain(open) {
        if buffer.is_empty() {
            buffer.resize(HEADER_BYTES, 0);
        }
        step.write(&mut buffer);
        steps += 1;
        if buffer.len() >= FRAME_BYTES {
            append(appender, &mut buffer, steps, now_micros)?;
            buffer.clear();
            steps = 0;
        }
    }
    if steps > 0 {
        append(appender, &mut buffer, steps, now_micros)?;
    }
    Ok(())
}

fn append(
    appender: &mut Appender,
    buffer: &mut FrameBuffer,
    steps: u32,
    now_micros: u64,
) -> io::Result<()> {
    let length = buffer.len() - HEADER_BYTES;
    let header = Header {
        kind: Kind::Ledger as u8,
        flags: 0,
        rows: steps,
        length: u32::try_from(length).map_err(io::Error::other)?,
        min_micros: now_micros,
        max_micros: now_micros,
        sequence: 0,
        segment: 0,
        payload_hash: 0,
    };
    if header.length > frame::PAYLOAD_BYTES_MAX {
        return Err(io::Error::other("too much for one frame"));
    }
    buffer.resize(frame::padded(length), 0);
    appender.append(buffer, header).map(|_| ())
}
