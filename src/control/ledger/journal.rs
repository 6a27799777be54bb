//! The journal: read at the start, appended to, and what its steps come to.

mod file;

use std::{io, path::Path, sync::Arc};

use file::JournalFile;

use super::{
    balance::Balance,
    step::{self, Step},
};
use crate::{
    control::logs::{
        frame::{self, FrameBuffer, HEADER_BYTES, Kind},
        segment::{Damage, Found, Segment, WriteAt},
    },
    handoff::ledger::{Batch, Charge, LedgerHealth},
};

/// Memory that is kept for the next frame.
const BUFFER_BYTES: usize = 1 << 20;

/// The journal of a data folder.
pub struct Journal {
    health: Arc<LedgerHealth>,
    file: JournalFile,
    balance: Balance,
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
        let (mut balance, notes) = match read(&file::path_of(folder)) {
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
        let journal = Self {
            health,
            file: JournalFile::create(folder, &balance, now_micros, write_at)?,
            balance,
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
            if written.is_err() && !(batch.settlements.is_empty() && batch.spent.is_empty()) {
                self.file.fell_behind();
            }
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
            self.file.append(&mut buffer, steps, now_micros)
        };
        if buffer.capacity() <= BUFFER_BYTES {
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

    /// Says whether there is something to do soon: [`Journal::tend`].
    pub fn is_unfinished(&self) -> bool {
        self.file.is_unfinished()
    }

    /// Writes the file anew, in steps, if it has grown or lacks something. To be called when
    /// nobody waits.
    pub fn tend(&mut self, now_micros: u64) {
        let tended = self.file.tend(&self.balance, now_micros);
        self.note(&tended);
    }

    /// Does all that is left to do, at the end.
    pub fn finish(&mut self, now_micros: u64) {
        self.file.try_now();
        self.tend(now_micros);
        let finished = self.file.finish(now_micros);
        self.note(&finished);
    }

    /// Forgets what no longer counts.
    pub fn sweep(&mut self, now_micros: u64) {
        self.balance.sweep(now_micros);
        self.tell();
    }

    fn note(&self, done: &io::Result<()>) {
        if done.is_err() {
            self.health.failed(0);
        }
        self.tell();
    }

    fn tell(&self) {
        let (charges, open) = self.balance.counts();
        let bytes = self.file.bytes();
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
