//! How many records a gateway may have (contract `observability.md` 1.2, `log_management`).
//!
//! The writer asks for each record; who has no limit costs it one look at a flag. A gateway that is
//! full either takes no more records, which then only count in rollups, or loses its oldest in
//! chunks of a thousandth of its limit. The count is that of the records which are served; it is
//! made anew from the log when limits change and every hour, and kept by the writer in between.

use std::{
    collections::{BTreeMap, BinaryHeap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    block::BlockError,
    deletion::LogDeleter,
    folder::LogDir,
    seal::{SealQueue, retention::marked},
    snapshot::{LogReader, LogSnapshot, OpenBlock},
};
use crate::{
    config::{
        Config,
        gateway::{self, LogStrategy},
    },
    control::store::marks,
    domain::{
        id::RequestId,
        record::{Record, Text},
    },
};

/// Time between two counts of the log.
const COUNT_INTERVAL: Duration = Duration::from_hours(1);

/// Shortest time between two deletions: each looks for the oldest records in the log.
const DELETE_INTERVAL: Duration = Duration::from_secs(1);

/// How far the clock of an id and of its record may differ: a clock that was set back.
const CLOCK_SLACK_MICROS: u64 = 2_000_000;

/// Most records that one deletion takes: 16 MB of ids are held for it.
const DELETED_MAX: u64 = 1 << 20;

/// A gateway's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimit {
    /// Most records.
    pub rows: u64,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

/// What happens when a gateway has as many records as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// New ones are not kept (`STOP_INSERTING`).
    StopInserting,
    /// The oldest are removed (`DELETE_OLDEST`).
    DeleteOldest,
}

/// The limits that the configuration gives.
pub fn row_limits(config: &Config) -> BTreeMap<String, RowLimit> {
    let limit = |(name, gateway): (&String, &gateway::Gateway)| {
        let when_full = match gateway.log_management_strategy {
            LogStrategy::StopInserting => WhenFull::StopInserting,
            LogStrategy::DeleteOldest => WhenFull::DeleteOldest,
        };
        let rows = gateway.log_management?;
        Some((name.clone(), RowLimit { rows, when_full }))
    };
    config.gateways.iter().filter_map(limit).collect()
}

/// The limits, and how many records there are.
#[derive(Debug, Default)]
pub struct RowLimits {
    any: AtomicBool,
    state: Mutex<State>,
    seal: Arc<SealQueue>,
}

#[derive(Debug, Default)]
struct State {
    gateways: BTreeMap<Vec<u8>, Gateway>,
    /// When the log was counted last; `None`: it is to be counted now.
    counted: Option<Instant>,
    /// A gateway has too many records, and the thread that deletes some has been woken.
    asked: bool,
    /// When some were deleted last.
    deleted: Option<Instant>,
}

#[derive(Debug)]
struct Gateway {
    limit: RowLimit,
    rows: u64,
}

impl RowLimits {
    /// The limits of the gateways that have one. Rings `seal` when something is to be deleted.
    pub(super) fn new(limits: &BTreeMap<String, RowLimit>, seal: Arc<SealQueue>) -> Self {
        let new = Self {
            any: AtomicBool::new(false),
            state: Mutex::default(),
            seal,
        };
        new.set(limits);
        new
    }

    /// Replaces all limits. They hold when the log has been counted, a moment later; until then
    /// every record is kept.
    pub fn set(&self, limits: &BTreeMap<String, RowLimit>) {
        let mut state = self.lock();
        let now = state.gateways.iter();
        let is_same = now.len() == limits.len()
            && now.zip(limits).all(|((name, gateway), (new, limit))| {
                name == new.as_bytes() && gateway.limit == *limit
            });
        if is_same {
            return;
        }
        let gateway = |(name, limit): (&String, &RowLimit)| {
            let gateway = Gateway {
                limit: *limit,
                rows: 0,
            };
            (name.as_bytes().to_vec(), gateway)
        };
        state.gateways = limits.iter().map(gateway).collect();
        state.counted = None;
        state.asked = !limits.is_empty();
        self.any.store(!limits.is_empty(), Ordering::Relaxed);
        drop(state);
        if !limits.is_empty() {
            self.seal.ring();
        }
    }

    /// Counts a record that is about to be written; one for which there is no room is made to
    /// count in rollups only.
    pub(super) fn admit(&self, record: &mut Record) {
        if !self.any.load(Ordering::Relaxed) || !record.is_logged() {
            return;
        }
        let mut state = self.lock();
        let is_counted = state.counted.is_some();
        let Some(gateway) = state.gateways.get_mut(record.texts.get(Text::Gateway)) else {
            return;
        };
        let is_full = is_counted && gateway.rows >= gateway.limit.rows;
        match gateway.limit.when_full {
            WhenFull::StopInserting if is_full => record.unlog(),
            WhenFull::StopInserting => gateway.rows += 1,
            WhenFull::DeleteOldest => {
                gateway.rows += 1;
                if is_full && !state.asked {
                    state.asked = true;
                    self.seal.ring();
                }
            }
        }
    }

    /// In which time [`RowLimits::step`] has to look again, if it has to.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.any.load(Ordering::Relaxed) && self.lock().asked).then_some(DELETE_INTERVAL)
    }

    /// Counts the log if it is time, and deletes the oldest records of gateways that have too many.
    pub(super) fn step(&self, log: &LogDir, deleter: &LogDeleter) -> io::Result<()> {
        if !self.any.load(Ordering::Relaxed) {
            return Ok(());
        }
        let is_due = |at: Instant| at.elapsed() >= COUNT_INTERVAL;
        if self.lock().counted.is_none_or(is_due) {
            self.count(log)?;
        }
        let mut state = self.lock();
        let is_early = |deleted: Instant| deleted.elapsed() < DELETE_INTERVAL;
        if state.deleted.is_some_and(is_early) {
            return Ok(());
        }
        state.asked = false;
        let too_many: Vec<(Vec<u8>, u64)> = state
            .gateways
            .iter()
            .filter(|(_, gateway)| gateway.limit.when_full == WhenFull::DeleteOldest)
            .filter_map(|(name, gateway)| {
                let surplus = gateway.rows.checked_sub(gateway.limit.rows)?;
                let chunk = (gateway.limit.rows / 1_000).max(1);
                (surplus > 0).then(|| (name.clone(), surplus.next_multiple_of(chunk)))
            })
            .collect();
        drop(state);
        for (name, rows) in too_many {
            let snapshot = LogReader::new(log.clone()).snapshot()?;
            let Some((last, found)) = oldest(&snapshot, &name, rows.min(DELETED_MAX)) else {
                continue;
            };
            deleter.delete_oldest(&name, last)?;
            let mut state = self.lock();
            state.deleted = Some(Instant::now());
            if let Some(gateway) = state.gateways.get_mut(&name) {
                gateway.rows = gateway.rows.saturating_sub(found);
            }
            drop(state);
            if let Ok(gateway) = std::str::from_utf8(&name) {
                marked(log, |connection| {
                    marks::delete_oldest(connection, gateway, RequestId(last))
                })?;
            }
        }
        Ok(())
    }

    /// Counts the records of the gateways that have a limit.
    fn count(&self, log: &LogDir) -> io::Result<()> {
        let rows = |state: &State| -> Vec<u64> {
            let gateways = state.gateways.values();
            gateways.map(|gateway| gateway.rows).collect()
        };
        let before = rows(&self.lock());
        let snapshot = LogReader::new(log.clone()).snapshot()?;
        let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for open in snapshot.blocks().filter_map(|at| at.open().ok()) {
            let mut in_block: BTreeMap<&[u8], u64> = BTreeMap::new();
            // Whoever reads the block for its own sake says what is wrong with it.
            let _ = for_each_visible(&snapshot, &open, |gateway, _| {
                *in_block.entry(gateway).or_insert(0) += 1;
            });
            for (gateway, count) in in_block {
                *counts.entry(gateway.to_vec()).or_insert(0) += count;
            }
        }
        let mut state = self.lock();
        if rows(&state).len() == before.len() {
            for ((name, gateway), before) in state.gateways.iter_mut().zip(before) {
                // What was written while the log was counted may be counted twice, never missed.
                let written = gateway.rows.saturating_sub(before);
                gateway.rows = counts.get(name).copied().unwrap_or(0) + written;
            }
            state.counted = Some(Instant::now());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The greatest of the `rows` least ids of a gateway's records, and how many there are up to it.
fn oldest(snapshot: &LogSnapshot, gateway: &[u8], rows: u64) -> Option<([u8; 16], u64)> {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut least: BinaryHeap<[u8; 16]> = BinaryHeap::new();
    for at in snapshot.blocks() {
        let is_later = |greatest: &[u8; 16]| {
            let micros = RequestId(*greatest).unix_millis().saturating_mul(1000);
            *at.micros().start() > micros.saturating_add(CLOCK_SLACK_MICROS)
        };
        if least.len() >= rows && least.peek().is_some_and(is_later) {
            continue;
        }
        let Ok(open) = at.open() else {
            continue;
        };
        let _ = for_each_visible(snapshot, &open, |name, id| {
            if name != gateway {
                return;
            }
            if least.len() < rows {
                least.push(*id);
            } else if let Some(mut greatest) = least.peek_mut()
                && id < &*greatest
            {
                *greatest = *id;
            }
        });
    }
    let count = least.len() as u64;
    least.peek().map(|last| (*last, count))
}

/// Calls `visit` with gateway and id of every record in a block that is served.
fn for_each_visible<'a>(
    snapshot: &LogSnapshot,
    open: &'a OpenBlock<'_>,
    mut visit: impl FnMut(&'a [u8], &[u8; 16]),
) -> Result<(), BlockError> {
    let block = open.block()?;
    let mask = snapshot.visible(&block)?;
    let gateways = block.texts(Text::Gateway)?;
    let is_visible = |row: usize| {
        let word = mask.as_ref().map(|mask| mask.get(row / 64).copied());
        word.is_none_or(|word| word.unwrap_or(0) >> (row % 64) & 1 == 1)
    };
    for (row, id) in block.ids()?.iter().enumerate() {
        if is_visible(row) {
            visit(gateways.get(row), id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
