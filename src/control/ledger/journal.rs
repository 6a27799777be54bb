//! The file of the journal: read at the start, appended to, written anew when it has grown.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    balance::Balance,
    step::{self, Step},
};
use crate::{
    control::logs::{
        frame::{self, FrameBuffer, HEADER_BYTES, Header, Kind},
        segment::{Appender, Damage, Found, Segment, WriteAt},
    },
    handoff::ledger::{Batch, Charge, LedgerHealth},
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

/// The journal of a data folder.
pub struct Journal {
    folder: PathBuf,
    write_at: WriteAt,
    health: Arc<LedgerHealth>,
    appender: Appender,
    balance: Balance,
    /// Length of the file when it was new.
    fresh_bytes: u64,
    /// The file lacks something that the balance has: it must be written anew.
    behind: bool,
    /// Memory for the next frame.
    buffer: FrameBuffer,
}

/// What a journal held at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// What counts, reservations that nobody settled included.
    pub charges: Vec<Charge>,
    /// How many reservations nobody had settled.
    pub unsettled: usize,
    /// Stretches of the file that could not be read, in plain words.
    pub notes: Vec<String>,
}

impl Recovered {
    /// The charges of the counters that a shard owns.
    pub fn of_shard(&self, shard: usize, shards: usize) -> impl Iterator<Item = Charge> {
        let mine = move |charge: &&Charge| charge.key.shard(shards) == shard;
        self.charges.iter().filter(mine).copied()
    }
}

impl Journal {
    /// Reads the journal of a data folder, if there is one, and begins a new one with what it
    /// comes to. A file that is there and cannot be read at all is an error: to start
    /// without it would forget what was spent.
    pub fn open(
        folder: &Path,
        now_micros: u64,
        write_at: WriteAt,
        health: Arc<LedgerHealth>,
    ) -> io::Result<(Self, Recovered)> {
        let (mut balance, notes) = match read(&folder.join(FILE)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        let (_, unsettled) = balance.counts();
        balance.spend_open();
        balance.sweep(now_micros);
        let recovered = Recovered {
            charges: balance.spent(),
            unsettled,
            notes,
        };
        let appender = write_anew(folder, &balance, now_micros, &write_at)?;
        let journal = Self {
            folder: folder.into(),
            write_at,
            health,
            fresh_bytes: appender.offset(),
            appender,
            balance,
            behind: false,
            buffer: FrameBuffer::new(),
        };
        journal.tell();
        Ok((journal, recovered))
    }

    /// Writes batches down as one frame. `false` for a batch: its reservations are not in the
    /// journal. Everything else is kept in any case, if only in memory for now.
    pub fn write(&mut self, batches: Vec<Batch>, now_micros: u64) -> Vec<bool> {
        let mut room: Vec<bool> = Vec::new();
        let mut charges = 0;
        for batch in &batches {
            let reservations = batch.reservations.iter();
            let more: usize = reservations.map(|one| one.charges.len()).sum();
            let fits = self.balance.has_room(charges + more);
            charges += if fits { more } else { 0 };
            room.push(fits);
        }
        let written = self.try_write(&batches, &room, now_micros);
        let (mut reserved, mut refused, mut crowded) = (0, 0, 0);
        for (batch, fits) in batches.iter().zip(&mut room) {
            let count = batch.reservations.len() as u64;
            match (*fits, &written) {
                (false, _) => crowded += count,
                (true, Ok(_)) => reserved += count,
                (true, Err(_)) => refused += count,
            }
            *fits &= written.is_ok();
            let keeps = !batch.settlements.is_empty() || !batch.spent.is_empty();
            self.behind |= written.is_err() && keeps;
        }
        match written {
            Ok(true) => self.health.wrote(reserved),
            Ok(false) => {}
            Err(_) => self.health.failed(refused),
        }
        self.health.overflowed(crowded, 0);
        for (batch, fits) in batches.into_iter().zip(&room) {
            self.keep(batch, *fits);
        }
        self.tell();
        room
    }

    /// Writes the batches; those without room without their reservations. `false`: there was
    /// nothing to write.
    fn try_write(&mut self, batches: &[Batch], room: &[bool], now_micros: u64) -> io::Result<bool> {
        self.catch_up(now_micros)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        let mut steps = 0;
        for (batch, fits) in batches.iter().zip(room) {
            if *fits {
                steps += step::write_batch(batch, &mut buffer);
            } else {
                let rest = Batch {
                    reservations: Vec::new(),
                    ..batch.clone()
                };
                steps += step::write_batch(&rest, &mut buffer);
            }
        }
        let result = if steps == 0 {
            Ok(())
        } else {
            append(&mut self.appender, &mut buffer, steps, now_micros)
        };
        if buffer.capacity() <= FRAME_BYTES {
            self.buffer = buffer;
        }
        result.map(|()| steps > 0)
    }

    /// Takes what was written, or what must not be lost, into the balance.
    fn keep(&mut self, batch: Batch, has_reservations: bool) {
        if has_reservations {
            for reservation in batch.reservations {
                self.balance.take(Step::Reserved(reservation));
            }
        }
        let mut lost = 0;
        for settlement in batch.settlements {
            lost += u64::from(!self.balance.take(Step::Settled(settlement)));
        }
        for charge in batch.spent {
            lost += u64::from(!self.balance.take(Step::Spent(charge)));
        }
        if lost > 0 {
            self.health.overflowed(0, lost);
        }
    }

    /// Writes the file anew if it lacks something.
    pub fn catch_up(&mut self, now_micros: u64) -> io::Result<()> {
        if self.behind {
            self.write_anew(now_micros)?;
            self.behind = false;
        }
        Ok(())
    }

    /// Says whether the file lacks something, so that [`Journal::catch_up`] is to be tried.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Forgets what no longer counts, and writes the file anew if it has grown.
    pub fn tend(&mut self, now_micros: u64) -> io::Result<()> {
        let length = self.appender.offset();
        if length >= REWRITE_BYTES && length >= self.fresh_bytes.saturating_mul(2) {
            self.write_anew(now_micros)?;
            self.behind = false;
        }
        Ok(())
    }

    /// Forgets what no longer counts.
    pub fn sweep(&mut self, now_micros: u64) {
        self.balance.sweep(now_micros);
        self.tell();
    }

    fn write_anew(&mut self, now_micros: u64) -> io::Result<()> {
        self.balance.sweep(now_micros);
        let written = write_anew(&self.folder, &self.balance, now_micros, &self.write_at);
        let appender = written.inspect_err(|_| self.health.failed(0))?;
        self.fresh_bytes = appender.offset();
        self.appender = appender;
        self.health.wrote(0);
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let (charges, open) = self.balance.counts();
        let bytes = self.appender.offset();
        self.health.holds(bytes, charges as u64, open as u64);
    }
}

/// Reads a journal to its last whole frame, over what is damaged.
fn read(path: &Path) -> io::Result<(Balance, Vec<String>)> {
    let mut segment = Segment::open(path)?;
    let (mut balance, mut notes) = (Balance::default(), Vec::new());
    let mut note = |damage: &Damage| notes.push(damage.to_string());
    let mut offset = 0;
    loop {
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) => frame,
            Found::Damage(damage) => {
                note(&damage);
                continue;
            }
            Found::End => break,
        };
        if frame.header.kind != Kind::Ledger as u8 {
            continue;
        }
        let payload = match segment.payload(&frame)? {
            Ok(payload) => payload,
            Err(damage) => {
                note(&damage);
                continue;
            }
        };
        let whole = step::read(payload, |step| {
            balance.take(step);
        });
        if !whole {
            note(&segment.damage(&frame, frame::PayloadError::Rows));
        }
    }
    Ok((balance, notes))
}

/// Writes a file of what a balance comes to, in place of the one that has the name.
fn write_anew(
    folder: &Path,
    balance: &Balance,
    now_micros: u64,
    write_at: &WriteAt,
) -> io::Result<Appender> {
    let (path, draft) = (folder.join(FILE), folder.join(DRAFT));
    let write_at = Arc::clone(write_at);
    let made = Appender::draft(&draft, &path, Kind::Ledger, false, now_micros, write_at).and_then(
        |mut appender| {
            write_balance(&mut appender, balance, now_micros)?;
            // On the disk before it takes the name: the other one was.
            appender.file().sync_data()?;
            fs::rename(&draft, &path)?;
            Ok(appender)
        },
    );
    let appender = made.inspect_err(|_| {
        // It may be what fills the disk.
        let _ = fs::remove_file(&draft);
    })?;
    // The new file has the name from here on, whether or not the disk knows already.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
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
