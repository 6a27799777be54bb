//! Reads records, while a server writes or without one.
//!
//! Questions go to a snapshot of all blocks: [`mask`] (which rows pass), [`select`] (block by block),
//! [`page`], [`group`] and [`sums`]; [`search`] looks into bodies first. Here is what goes row by row,
//! in the order of the log, which is the order in which exchanges ended: a scan, and following the
//! log as it is written.

use std::{
    collections::BTreeMap,
    io,
    ops::{ControlFlow, RangeInclusive},
};

use rkyv::rancor::Failure;

pub mod mask;
pub mod select;
pub mod page;
pub mod group;
pub mod sums;
pub mod figures;
pub mod search;

use super::{
    filter::Filter,
    frame::{self, FrameBuffer, Kind},
    segment::{Damage, Found, FrameAt, LogDir, Numbered, Segment},
    snapshot::{BlockRef, LogReader},
};
use crate::domain::{
    id::RequestId,
    record::{ArchivedRecord, Record},
};

/// In which order records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those that ended last come first.
    NewestFirst,
    /// Those that ended first come first.
    OldestFirst,
}

/// What a scan met besides the records that it served.
#[derive(Debug, Default)]
pub struct ScanReport {
    /// Stretches that could not be read.
    pub damages: Vec<Damage>,
    /// Records looked at.
    pub records: u64,
    /// Frames looked into; those outside the time asked for are not.
    pub frames: u64,
    /// The time was over before all was looked at.
    pub partial: bool,
}

/// Where each journal ended at some moment.
pub type Ends = BTreeMap<u64, u64>;

/// Calls `visit` with every record of the frames that may hold times within `micros` and that may
/// be served, until it breaks. With `ends`, what was written later is left out, and what is sealed
/// meanwhile may come twice. Row by row: [`page`] and [`sums`] answer questions faster.
pub fn scan(
    log: &LogDir,
    order: Order,
    micros: &RangeInclusive<u64>,
    ends: Option<&Ends>,
    visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
) -> io::Result<ScanReport> {
    let mut report = ScanReport::default();
    if ends.is_none() {
        let _ = blocks(log, order, micros, |_| true, &mut report, visit)?;
        return Ok(report);
    }
    let files = log.record_files()?;
    let mut journals = files.journals;
    if order == Order::NewestFirst {
        journals.reverse();
    } else if blocks(log, order, micros, is_sealed, &mut report, visit)?.is_break() {
        return Ok(report);
    }
    for (number, path) in journals {
        let end = match ends.map(|ends| ends.get(&number)) {
            None => u64::MAX,
            Some(Some(end)) => *end,
            Some(None) => continue,
        };
        let mut segment = match Segment::open(&path) {
            Ok(segment) => segment,
            // Deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let flow = match order {
            Order::OldestFirst => forward(&mut segment, end, micros, &mut report, visit)?,
            Order::NewestFirst => backward(&mut segment, end, micros, &mut report, visit)?,
        };
        if flow.is_break() {
            return Ok(report);
        }
    }
    if order == Order::NewestFirst {
        let _ = blocks(log, order, micros, is_sealed, &mut report, visit)?;
    }
    Ok(report)
}

fn is_sealed(block: &BlockRef<'_>) -> bool {
    block.position().sealed
}

/// The records of those blocks that `pick` picks, one by one.
fn blocks(
    log: &LogDir,
    order: Order,
    micros: &RangeInclusive<u64>,
    pick: impl Fn(&BlockRef<'_>) -> bool,
    report: &mut ScanReport,
    visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    report.damages.extend(snapshot.damages().cloned());
    let mut blocks: Vec<_> = snapshot.blocks().filter(pick).collect();
    if order == Order::NewestFirst {
        blocks.reverse();
    }
    for at in blocks {
        if at.micros().end() < micros.start() || at.micros().start() > micros.end() {
            continue;
        }
        report.frames += 1;
        let open = match at.open() {
            Ok(open) => open,
            Err(damage) => {
                report.damages.push(damage);
                continue;
            }
        };
        let read = open
            .block()
            .and_then(|block| Ok((block.reader()?, snapshot.visible(&block)?)));
        let (rows, visible) = match read {
            Ok(read) => read,
            Err(error) => {
                report.damages.push(at.damage(error));
                continue;
            }
        };
        let count = usize::try_from(at.rows()).unwrap_or(0);
        report.records += at.rows();
        for n in 0..count {
            let row = match order {
                Order::OldestFirst => n,
                Order::NewestFirst => count - 1 - n,
            };
            let is_visible = |mask: &Vec<u64>| mask[row / 64] >> (row % 64) & 1 == 1;
            if !visible.as_ref().is_none_or(is_visible) {
                continue;
            }
            let Some(bytes) = rows
                .record(row)
                .and_then(|record| rkyv::to_bytes::<Failure>(&record).ok())
            else {
                continue;
            };
            if let Ok(record) = rkyv::access::<ArchivedRecord, Failure>(&bytes)
                && visit(record).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn forward(
    segment: &mut Segment,
    end: u64,
    micros: &RangeInclusive<u64>,
    report: &mut ScanReport,
    visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut offset = 0;
    while offset < end {
        match segment.next(&mut offset)? {
            Found::Frame(frame) => {
                let flow = rows_of(segment, &frame, Order::OldestFirst, micros, report, visit)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            Found::Damage(damage) => report.damages.push(damage),
            Found::End => break,
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn backward(
    segment: &mut Segment,
    end: u64,
    micros: &RangeInclusive<u64>,
    report: &mut ScanReport,
    visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut frames = Vec::new();
    let mut offset = 0;
    while offset < end {
        match segment.next(&mut offset)? {
            Found::Frame(frame) => frames.push(frame),
            Found::Damage(damage) => report.damages.push(damage),
            Found::End => break,
        }
    }
    for frame in frames.iter().rev() {
        let flow = rows_of(segment, frame, Order::NewestFirst, micros, report, visit)?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn rows_of(
    segment: &mut Segment,
    frame: &FrameAt,
    order: Order,
    micros: &RangeInclusive<u64>,
    report: &mut ScanReport,
    visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let header = &frame.header;
    let outside = header.max_micros < *micros.start() || header.min_micros > *micros.end();
    if header.kind != Kind::Rows as u8 || outside {
        return Ok(ControlFlow::Continue(()));
    }
    report.frames += 1;
    let payload = match segment.payload(frame)? {
        Ok(payload) => payload,
        Err(damage) => {
            report.damages.push(damage);
            return Ok(ControlFlow::Continue(()));
        }
    };
    let mut scratch = FrameBuffer::new();
    let rows = frame::rows(header, payload).and_then(|rows| rows.archived(&mut scratch));
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            report.damages.push(segment.damage(frame, error));
            return Ok(ControlFlow::Continue(()));
        }
    };
    report.records += rows.len() as u64;
    let mut logged = rows.iter().filter(|row| row.is_logged());
    Ok(match order {
        Order::OldestFirst => logged.try_for_each(visit),
        Order::NewestFirst => logged.rev().try_for_each(visit),
    })
}

/// A record taken out of its archive.
pub fn owned(record: &ArchivedRecord) -> Option<Record> {
    rkyv::deserialize::<Record, Failure>(record).ok()
}

/// The last `limit` records that match, the oldest of them first, by the time of their beginning.
pub fn newest(
    log: &LogDir,
    filter: &Filter,
    limit: usize,
    ends: Option<&Ends>,
) -> io::Result<(Vec<Record>, ScanReport)> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok((found, ScanReport::default()));
    }
    let mut visit = |record: &ArchivedRecord| {
        if filter.matches(record) {
            found.extend(owned(record));
            if found.len() >= limit {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let report = scan(log, Order::NewestFirst, &filter.micros(), ends, &mut visit)?;
    found.sort_by_key(|record| (record.at_micros, record.id));
    Ok((found, report))
}

/// The record with `id`, if it may be served.
pub fn by_id(log: &LogDir, id: RequestId) -> io::Result<(Option<Record>, ScanReport)> {
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    Ok(page::find(&snapshot, id))
}

/// Follows the log as it is written.
#[derive(Debug)]
pub struct Follower {
    log: LogDir,
    /// The journals that may still grow, and how far each was read.
    open: BTreeMap<u64, Followed>,
    /// Journals up to this one were seen.
    seen: u64,
}

#[derive(Debug)]
struct Followed {
    segment: Segment,
    offset: u64,
    /// Polls in a row at which the frame there could not be read although it is whole.
    doubtful: u32,
}

/// Polls after which a frame that cannot be read counts as damaged: until then its bytes may be
/// on their way into the file.
const DOUBTFUL_POLLS_MAX: u32 = 10;

impl Follower {
    /// Begins at the present end of the log; also gives that end, for a page of what lies before.
    pub fn from_end(log: &LogDir) -> io::Result<(Self, Ends)> {
        let mut follower = Self {
            log: log.clone(),
            open: BTreeMap::new(),
            seen: 0,
        };
        let mut ends = Ends::new();
        for (number, path) in log.journals()? {
            follower.seen = number;
            let mut segment = match Segment::open(&path) {
                Ok(segment) => segment,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !segment.is_live() {
                ends.insert(number, u64::MAX);
                continue;
            }
            let mut offset = 0;
            while !matches!(segment.next(&mut offset)?, Found::End) {}
            ends.insert(number, offset);
            follower.open.insert(number, Followed::new(segment, offset));
        }
        Ok((follower, ends))
    }

    /// Calls `visit` with every record that has come since and may be served; says what could not
    /// be read.
    pub fn poll(
        &mut self,
        visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
    ) -> io::Result<ScanReport> {
        // Listed before the reading: a journal that is not the last any more is read to its end.
        let journals = self.log.journals()?;
        self.open_new(&journals)?;
        let mut report = ScanReport::default();
        let mut finished = Vec::new();
        for (number, followed) in &mut self.open {
            // Asked before the reading, for the same reason.
            let is_done = !Segment::open(followed.segment.path()).is_ok_and(|now| now.is_live());
            followed.read(&mut report, &mut |record| {
                if record.is_logged() {
                    visit(record)
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            if is_done && followed.doubtful == 0 {
                finished.push(*number);
            }
        }
        for number in finished {
            self.open.remove(&number);
        }
        Ok(report)
    }

    fn open_new(&mut self, journals: &[Numbered]) -> io::Result<()> {
        for (number, path) in journals {
            if *number <= self.seen {
                continue;
            }
            match Segment::open(path) {
                Ok(segment) => {
                    self.seen = *number;
                    self.open.insert(*number, Followed::new(segment, 0));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Followed {
    fn new(segment: Segment, offset: u64) -> Self {
        Self {
            segment,
            offset,
            doubtful: 0,
        }
    }

    fn read(
        &mut self,
        report: &mut ScanReport,
        visit: &mut dyn FnMut(&ArchivedRecord) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.segment.forget();
        loop {
            let mut offset = self.offset;
            match self.segment.next(&mut offset)? {
                Found::Frame(frame) => {
                    let is_whole = self.segment.payload(&frame)?.is_ok();
                    if !is_whole && self.doubtful < DOUBTFUL_POLLS_MAX && self.segment.is_live() {
                        self.doubtful += 1;
                        return Ok(());
                    }
                    let all = 0..=u64::MAX;
                    let order = Order::OldestFirst;
                    let flow = rows_of(&mut self.segment, &frame, order, &all, report, visit)?;
                    self.offset = offset;
                    self.doubtful = 0;
                    if flow.is_break() {
                        return Ok(());
                    }
                }
                Found::Damage(damage) => {
                    report.damages.push(damage);
                    self.offset = offset;
                }
                Found::End => return Ok(()),
            }
        }
    }
}
