//! Keeps the rollup files: sums up what was sealed, once, and writes files anew when they have
//! grown.
//!
//! The unit is the journal. Each table says which journals' records it holds, so a journal is
//! summed up once, however often sealed files are merged and whatever a crash leaves behind: a
//! table is there whole, with its journals, or not at all. Records without logging count too.

use std::{
    collections::{BTreeMap, HashSet},
    io, mem,
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    file::{self, RollupFile},
    members,
    ranges::Ranges,
    table::{Level, Table, start_of},
};
use crate::{
    control::logs::{
        block::{Block, BlockError},
        folder::LogDir,
        query::{
            group::{Group, GroupKey, Groups, Part, Stretch, Wanted},
            mask::Mask,
        },
        segment::Damage,
        snapshot::{BlockRef, LogReader, LogSnapshot},
    },
    domain::record::Text,
};

/// What a cell is named by, in the order of its parts.
pub const CELL_KEYS: [GroupKey; 5] = [
    GroupKey::Time(Stretch::Minute),
    GroupKey::Text(Text::Gateway),
    GroupKey::Text(Text::Provider),
    GroupKey::Text(Text::Model),
    GroupKey::Text(Text::Key),
];

/// Rows after which a table is written, at the next end of a journal: bounds the memory of a pass
/// over an old store.
const TABLE_ROWS: u64 = 131_072;

/// Most cells of a table while it is summed up, for the same reason.
const CELLS_MAX: usize = 200_000;

/// Most combinations of gateway, provider, model and key that one file keeps apart when it is
/// written anew. The names are the callers' own; what comes beyond is `(other)`.
const NAMES_MAX: usize = 2_000;

/// Fresh tables of fewer bytes are not merged while their day lasts.
const MERGE_BYTES: u64 = 256 << 10;

/// The name of what is not kept apart.
pub(super) const OTHER: &[u8] = b"(other)";

/// The rollups of a log folder, kept by the one process that may write to it.
#[derive(Debug)]
pub struct Rollups {
    log: LogDir,
    reader: LogReader,
    covered: Ranges,
    /// Bytes of fresh tables, how many there are, and bytes of the others; by date.
    files: BTreeMap<String, FileSize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FileSize {
    fresh: u64,
    fresh_tables: u64,
    merged: u64,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// Records summed up.
    pub rows: u64,
    /// Blocks that could not be read; they count as summed up.
    pub damages: Vec<Damage>,
}

impl Rollups {
    /// Opens the rollups of `log`. Damaged files are written anew without what is damaged, which
    /// is told; what can be had from sealed files is summed up again at the next pass.
    pub fn open(log: LogDir, now_micros: u64) -> io::Result<(Self, Vec<Damage>)> {
        let mut rollups = Self {
            reader: LogReader::new(log.clone()),
            log,
            covered: Ranges::default(),
            files: BTreeMap::new(),
        };
        let mut damages = Vec::new();
        for (date, _) in file::list(&rollups.log)? {
            rollups.load(&date, now_micros, &mut damages)?;
        }
        Ok((rollups, damages))
    }

    /// The journals that are summed up.
    pub fn covered(&self) -> &Ranges {
        &self.covered
    }

    fn load(&mut self, date: &str, now_micros: u64, damages: &mut Vec<Damage>) -> io::Result<()> {
        let path = file::path_of(&self.log, date);
        let mut file = RollupFile::open(&path)?;
        let (mut journals, mut lost) = (Ranges::default(), false);
        for at in file.tables.clone() {
            match file.table(&at)? {
                Some(table) => table.journals.iter().for_each(|range| journals.add(range)),
                None => lost |= at.level == Level::Minutes,
            }
        }
        lost |= file.damages.iter().any(is_torn_inside);
        if file.damages.is_empty() {
            journals.iter().for_each(|range| self.covered.add(range));
            self.note(date, &file);
            return Ok(());
        }
        damages.append(&mut file.damages.clone());
        // What sealed files still have is summed up again in full: better than what is left.
        let sealed = self.sealed()?;
        if lost && journals.iter().all(|range| sealed.covers(range)) {
            file::write_anew(&path, &[], now_micros)?;
            self.note(date, &RollupFile::open(&path)?);
            return Ok(());
        }
        self.merge(date, now_micros)?;
        journals.iter().for_each(|range| self.covered.add(range));
        Ok(())
    }

    /// The journals whose records are in sealed files.
    fn sealed(&self) -> io::Result<Ranges> {
        let mut sealed = Ranges::default();
        for name in self.log.record_files()?.sealed {
            sealed.add(&(name.first..=name.last));
        }
        Ok(sealed)
    }

    fn note(&mut self, date: &str, file: &RollupFile) {
        let (fresh, merged) = file.bytes();
        let tables = file.tables.iter();
        let size = FileSize {
            fresh,
            fresh_tables: tables.filter(|at| at.level == Level::Fresh).count() as u64,
            merged,
        };
        self.files.insert(date.to_owned(), size);
    }

    /// Sums up what was sealed since, and writes files anew that have grown. Ends early, between
    /// two tables, when `stop` is set.
    pub fn pass(&mut self, now_micros: u64, stop: &AtomicBool) -> io::Result<Pass> {
        let snapshot = self.reader.snapshot()?;
        let mut pass = Pass::default();
        let mut blocks = snapshot
            .blocks()
            .filter(|block| block.position().sealed)
            .peekable();
        while let Some(first) = blocks.peek().copied() {
            let name = (first.position().first, first.position().last);
            let mut file = Vec::new();
            while let Some(block) =
                blocks.next_if(|block| (block.position().first, block.position().last) == name)
            {
                file.push(block);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(pass);
            }
            if !self.covered.covers(&(name.0..=name.1)) {
                self.sum_file(name.0..=name.1, &file, now_micros, &mut pass, stop)?;
            }
        }
        self.merge_grown(now_micros, stop)?;
        Ok(pass)
    }

    /// Sums up the blocks of one sealed file.
    fn sum_file(
        &mut self,
        journals: RangeInclusive<u64>,
        blocks: &[BlockRef<'_>],
        now_micros: u64,
        pass: &mut Pass,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let mut summing = Summing::new(*journals.start());
        for at in blocks {
            let opened = at.open();
            let sources = opened.as_ref().map_err(Clone::clone).and_then(|open| {
                let block = open.block().map_err(|error| at.damage(error))?;
                let sources = block.sources().map_err(|error| at.damage(error))?;
                Ok(sources.collect::<Vec<_>>())
            });
            let sources = match sources {
                Ok(sources) => sources,
                Err(damage) => {
                    pass.damages.push(damage);
                    continue;
                }
            };
            // A table can end where a journal does.
            if let Some((journal, _)) = sources.first()
                && summing.is_large()
                && *journal > summing.last
            {
                self.write(&mut summing, journal - 1, now_micros)?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            let Ok(open) = opened else { continue };
            let added = open
                .block()
                .and_then(|block| summing.add(&block, &sources, &self.covered));
            match added {
                Ok(rows) => pass.rows += rows,
                Err(error) => pass.damages.push(at.damage(error)),
            }
        }
        self.write(&mut summing, *journals.end(), now_micros)
    }

    /// Writes what was summed up, as a table of the journals up to `last`.
    fn write(&mut self, summing: &mut Summing, last: u64, now_micros: u64) -> io::Result<()> {
        let range = summing.first..=last;
        let summed = mem::replace(summing, Summing::new(last.saturating_add(1)));
        let (cells, other) = summed.groups.finish();
        let mut table = Table {
            level: Level::Fresh,
            journals: vec![range.clone()],
            cells,
            members: summed.members.finish(OTHER),
        };
        if let Some(mut other) = other {
            let start = table.cells.first().map_or(0, start_of);
            other.parts = other_parts(start, &[]);
            table.cells.push(other);
        }
        let newest = table.cells.iter().map(start_of).max();
        let date = date(newest.unwrap_or(now_micros));
        let path = file::path_of(&self.log, &date);
        file::append(&path, &table, now_micros)?;
        self.covered.add(&range);
        self.note(&date, &RollupFile::open(&path)?);
        Ok(())
    }

    fn merge_grown(&mut self, now_micros: u64, stop: &AtomicBool) -> io::Result<()> {
        let today = date(now_micros);
        let is_grown = |date: &str, size: &FileSize| {
            let is_over = date < today.as_str() && size.fresh_tables > 0;
            size.fresh > MERGE_BYTES.max(size.merged / 2) || is_over
        };
        let grown: Vec<String> = self
            .files
            .iter()
            .filter(|(date, size)| is_grown(date, size))
            .map(|(date, _)| date.clone())
            .collect();
        for date in grown {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.merge(&date, now_micros)?;
        }
        Ok(())
    }

    /// Writes the file of a date anew: its minutes merged, with their hours and days.
    pub fn merge(&mut self, date: &str, now_micros: u64) -> io::Result<()> {
        let path = file::path_of(&self.log, date);
        let mut file = RollupFile::open(&path)?;
        let tables = merged(&mut file)?;
        file::write_anew(&path, &tables, now_micros)?;
        self.note(date, &RollupFile::open(&path)?);
        Ok(())
    }
}

/// Sums up anew what these sealed files hold, each given by its first and last journal, since their
/// records have changed. Gives the dates that stay as they are because sealed files no longer have
/// all that was summed up there. The caller holds the lock of the data folder.
pub fn sum_again(log: &LogDir, files: &[(u64, u64)], now_micros: u64) -> io::Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut sealed = Ranges::default();
    for name in log.record_files()?.sealed {
        sealed.add(&(name.first..=name.last));
    }
    for (date, path) in file::list(log)? {
        let mut file = RollupFile::open(&path)?;
        let mut journals = Ranges::default();
        for at in file.tables.clone() {
            if let Some(table) = file.table(&at)? {
                table.journals.iter().for_each(|range| journals.add(range));
            }
        }
        let changed = journals.iter().any(|range| {
            let meets = |(first, last): &(u64, u64)| range.start() <= last && first <= range.end();
            files.iter().any(meets)
        });
        if !changed {
            continue;
        }
        if journals.iter().all(|range| sealed.covers(range)) {
            file::write_anew(&path, &[], now_micros)?;
        } else {
            kept.push(date);
        }
    }
    let (mut rollups, _) = Rollups::open(log.clone(), now_micros)?;
    rollups.pass(now_micros, &AtomicBool::new(false))?;
    Ok(kept)
}

/// Says whether damage may have taken a table with it; a torn end takes none that was whole once.
fn is_torn_inside(damage: &Damage) -> bool {
    !matches!(
        damage.what,
        crate::control::logs::segment::DamageKind::Payload
            | crate::control::logs::segment::DamageKind::Content(_)
    )
}

/// Records that are being summed up.
struct Summing {
    groups: Groups,
    members: members::Summing,
    mask: Mask,
    rows: u64,
    /// The first journal of the table.
    first: u64,
    /// The last journal that was met.
    last: u64,
}

impl Summing {
    fn new(first: u64) -> Self {
        Self {
            groups: Groups::new(CELL_KEYS.to_vec(), Wanted::ALL, CELLS_MAX),
            members: members::Summing::default(),
            mask: Mask::default(),
            rows: 0,
            first,
            last: 0,
        }
    }

    /// Says whether it is time for a table.
    fn is_large(&self) -> bool {
        self.rows >= TABLE_ROWS || self.members.is_large()
    }

    /// Adds the rows of journals that are not summed up yet.
    fn add(
        &mut self,
        block: &Block<'_>,
        sources: &[(u64, usize)],
        covered: &Ranges,
    ) -> Result<u64, BlockError> {
        uncovered(&mut self.mask, block, sources, covered);
        let rows = self.mask.count() as u64;
        self.last = sources.last().map_or(self.last, |(journal, _)| *journal);
        if rows > 0 {
            self.groups.add(block, &self.mask)?;
            self.rows += rows;
            // Should the metadata not be readable, its records count as ones without.
            self.members.add(block, &self.mask)?;
        }
        Ok(rows)
    }
}

/// Sets `mask` to the rows whose journals are not covered.
fn uncovered(mask: &mut Mask, block: &Block<'_>, sources: &[(u64, usize)], covered: &Ranges) {
    mask.all(block.rows());
    let mut at = 0;
    for (journal, rows) in sources {
        let end = (at + rows).min(block.rows());
        if covered.contains(*journal) {
            mask.clear_rows(at..end);
        }
        at = end;
    }
}

/// Calls `add` with each block of `snapshot` that has rows whose journals are not covered, and
/// whose times meet `micros`; the mask holds these rows.
pub(super) fn each_uncovered(
    snapshot: &LogSnapshot,
    covered: &Ranges,
    micros: &RangeInclusive<u64>,
    damages: &mut Vec<Damage>,
    mut add: impl FnMut(&Block<'_>, &mut Mask) -> Result<(), BlockError>,
) {
    let mut mask = Mask::default();
    for at in snapshot.blocks() {
        let position = at.position();
        let is_outside = at.micros().end() < micros.start() || at.micros().start() > micros.end();
        if is_outside || covered.covers(&(position.first..=position.last)) {
            continue;
        }
        let open = match at.open() {
            Ok(open) => open,
            Err(damage) => {
                damages.push(damage);
                continue;
            }
        };
        damages.extend(open.damages().iter().cloned());
        let added = open.block().and_then(|block| {
            let sources: Vec<_> = block.sources()?.collect();
            uncovered(&mut mask, &block, &sources, covered);
            add(&block, &mut mask)
        });
        if let Err(error) = added {
            damages.push(at.damage(error));
        }
    }
}

/// The tables of a file, merged: minutes by the hour, then hours, then days.
///
/// Fresh tables are held in memory, by the hour; of the others, which lie by the hour already, one
/// at a time.
fn merged(file: &mut RollupFile) -> io::Result<Vec<Table>> {
    let mut journals = Ranges::default();
    let mut fresh: BTreeMap<u64, Cells> = BTreeMap::new();
    let mut names = Names::default();
    for at in file.tables.clone() {
        let Some(table) = file.table(&at)? else {
            continue;
        };
        if at.level == Level::Days {
            // All values that were kept apart before, which stay so.
            for mut cell in table.members {
                names.of_members.name(&mut cell);
            }
            continue;
        }
        table.journals.iter().for_each(|range| journals.add(range));
        let (cells, members) = (table.cells.into_iter(), table.members.into_iter());
        let hour_of = |cell: &Group| floor(start_of(cell), Stretch::Hour);
        let is_fresh = at.level == Level::Fresh;
        for cell in cells {
            let hour = fresh.entry(hour_of(&cell)).or_default();
            hour.all.extend(is_fresh.then_some(cell));
        }
        for cell in members.filter(|_| is_fresh) {
            fresh.entry(hour_of(&cell)).or_default().members.push(cell);
        }
    }
    let journals: Vec<_> = journals.iter().cloned().collect();
    let table = |level, cells: Cells| Table {
        level,
        journals: journals.clone(),
        cells: cells.all,
        members: cells.members,
    };
    // A table without cells, so that a reader finds the journals without reading all.
    let mut tables = vec![table(Level::Minutes, Cells::default())];
    let mut hour_tables = Vec::new();
    let (mut days, mut member_days) = (groups(), groups());
    for (hour, fresh) in fresh {
        let older = older_minutes(file, hour)?;
        let (mut minutes, mut members) = (groups(), groups());
        for cell in older.all.into_iter().chain(fresh.all) {
            minutes.add_group(&named(cell, &mut names.of_cells));
        }
        for mut cell in older.members.into_iter().chain(fresh.members) {
            names.of_members.name(&mut cell);
            members.add_group(&cell);
        }
        let minutes = Cells {
            all: minutes.finish().0,
            members: members.finish().0,
        };
        let hours = Cells {
            all: restarted_all(&minutes.all, Stretch::Hour),
            members: restarted_all(&minutes.members, Stretch::Hour),
        };
        for (cells, days) in [(&hours.all, &mut days), (&hours.members, &mut member_days)] {
            for cell in cells {
                days.add_to(&restarted(cell, Stretch::Day), cell);
            }
        }
        tables.push(table(Level::Minutes, minutes));
        hour_tables.push(table(Level::Hours, hours));
    }
    tables.append(&mut hour_tables);
    let days = Cells {
        all: days.finish().0,
        members: member_days.finish().0,
    };
    if !days.all.is_empty() {
        tables.push(table(Level::Days, days));
    }
    Ok(tables)
}

/// Cells of both families.
#[derive(Debug, Default)]
struct Cells {
    all: Vec<Group>,
    members: Vec<Group>,
}

/// The names that a file keeps apart.
#[derive(Debug, Default)]
struct Names {
    of_cells: HashSet<Vec<Part>>,
    of_members: members::Names,
}

/// The minutes of an hour that were merged before; where they are lost, the hour as one.
fn older_minutes(file: &mut RollupFile, hour: u64) -> io::Result<Cells> {
    let end = hour.saturating_add(Stretch::Hour.micros() - 1);
    for level in [Level::Minutes, Level::Hours] {
        let mut cells = Cells::default();
        for at in file.tables.clone() {
            if at.level == level
                && at.meets(hour, end)
                && let Some(table) = file.table(&at)?
            {
                let within = |cell: &Group| (hour..=end).contains(&start_of(cell));
                cells.all.extend(table.cells.into_iter().filter(within));
                let members = table.members.into_iter().filter(within);
                cells.members.extend(members);
            }
        }
        if !cells.all.is_empty() {
            return Ok(cells);
        }
    }
    Ok(Cells::default())
}

/// The cells as those of longer stretches.
fn restarted_all(cells: &[Group], stretch: Stretch) -> Vec<Group> {
    let mut longer = groups();
    for cell in cells {
        longer.add_to(&restarted(cell, stretch), cell);
    }
    longer.finish().0
}

/// Groups without a bound of their own: what goes in is bounded.
fn groups() -> Groups {
    Groups::new(Vec::new(), Wanted::ALL, usize::MAX)
}

/// The cell, its names given up if there are too many different ones already.
fn named(mut cell: Group, names: &mut HashSet<Vec<Part>>) -> Group {
    let own = cell.parts.get(1..).unwrap_or_default();
    if names.contains(own) {
        return cell;
    }
    if names.len() < NAMES_MAX {
        names.insert(own.to_vec());
    } else {
        let gateway = match own.first() {
            Some(Part::Text(gateway)) => gateway.clone(),
            Some(Part::Number(_)) | None => Vec::new(),
        };
        cell.parts = other_parts(start_of(&cell), &gateway);
    }
    cell
}

fn other_parts(start: u64, gateway: &[u8]) -> Vec<Part> {
    let other = || Part::Text(OTHER.to_vec());
    let gateway = if gateway.is_empty() { OTHER } else { gateway };
    vec![
        Part::Number(start),
        Part::Text(gateway.to_vec()),
        other(),
        other(),
        other(),
    ]
}

/// The cell's name as part of a longer stretch.
fn restarted(cell: &Group, stretch: Stretch) -> Vec<Part> {
    let mut parts = cell.parts.clone();
    if let Some(part) = parts.first_mut() {
        *part = Part::Number(floor(start_of(cell), stretch));
    }
    parts
}

/// The beginning of the stretch that a time lies in.
pub(super) fn floor(micros: u64, stretch: Stretch) -> u64 {
    micros - micros % stretch.micros()
}

/// The day of a time, UTC: `2026-11-21`.
fn date(unix_micros: u64) -> String {
    i64::try_from(unix_micros)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
        .strftime("%Y-%m-%d")
        .to_string()
}
