//! Questions about rollups: totals over any time, at once.
//!
//! Days and hours that lie wholly within the time asked for come from their own cells, the rest
//! from minutes; what is not summed up yet is read from blocks and journals. So the answer is
//! complete to the last record that was written.
//!
//! Reading order: here totals by gateway, provider, model and key; [`members`].

use std::{io, ops::RangeInclusive};

use super::{
    file::{self, RollupFile, TableAt},
    ranges::Ranges,
    store::{CELL_KEYS, each_uncovered, floor},
    table::{Level, PARTS, start_of},
};
use crate::control::logs::{
    filter::Pattern,
    folder::LogDir,
    query::group::{Group, Groups, Part, Stretch, Wanted},
    segment::Damage,
    snapshot::LogReader,
};

pub mod members;

/// By what totals can be told apart; the number is the place among a cell's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Dimension {
    /// Gateway id.
    Gateway = 0,
    /// Provider slug.
    Provider = 1,
    /// Model as it was named.
    Model = 2,
    /// Name of the key.
    Key = 3,
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// When exchanges began: microseconds since the Unix epoch, both included. Whole minutes
    /// count, those of both ends included.
    pub micros: RangeInclusive<u64>,
    /// Totals by stretch of time; else over all of it.
    pub stretch: Option<Stretch>,
    /// Totals by these.
    pub by: Vec<Dimension>,
    /// Only what fits one of the patterns.
    pub only: Vec<(Dimension, Vec<Pattern>)>,
    /// Most groups told apart.
    pub groups_max: usize,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Groups; the parts of a name are the stretch's start, if asked for, then the dimensions in
    /// the order of the question.
    pub groups: Vec<Group>,
    /// What found no room among them.
    pub other: Option<Group>,
    /// What could not be read.
    pub damages: Vec<Damage>,
}

/// Answers `question` from the rollups of the log folder of `reader`, and from what is not summed
/// up yet.
pub fn ask(reader: &mut LogReader, question: &Question) -> io::Result<Answer> {
    let mut asking = Asking {
        question,
        window: Window::of(&question.micros, question.stretch),
        groups: Groups::new(Vec::new(), Wanted::ALL, question.groups_max),
        damages: Vec::new(),
    };
    // Files first, then the snapshot: what is summed up in between is in the snapshot only.
    let log: LogDir = reader.log().clone();
    let covered = asking.files(&log)?;
    let snapshot = reader.snapshot()?;
    let mut damages = Vec::new();
    let mut rest = Groups::new(CELL_KEYS.to_vec(), Wanted::ALL, REST_CELLS_MAX);
    let micros = &asking.window.minutes;
    each_uncovered(&snapshot, &covered, micros, &mut damages, |block, mask| {
        if !mask.is_empty() {
            rest.add(block, mask)?;
        }
        Ok(())
    });
    asking.damages.append(&mut damages);
    let (cells, other) = rest.finish();
    for cell in &cells {
        let names = std::array::from_fn(|index| match cell.parts.get(index + 1) {
            Some(Part::Text(name)) => name.as_slice(),
            Some(Part::Number(_)) | None => &[],
        });
        asking.add(Level::Fresh, start_of(cell), &names, |group| {
            group.merge(cell);
        });
    }
    let (groups, mut left) = asking.groups.finish();
    if let Some(other) = other {
        left.get_or_insert_default().merge(&other);
    }
    Ok(Answer {
        groups,
        other: left,
        damages: asking.damages,
    })
}

/// Most cells made of what is not summed up yet.
const REST_CELLS_MAX: usize = 200_000;

struct Asking<'q> {
    question: &'q Question,
    window: Window,
    groups: Groups,
    damages: Vec<Damage>,
}

/// Which cells count, by level.
#[derive(Debug, Clone)]
struct Window {
    /// All minutes that count.
    minutes: RangeInclusive<u64>,
    /// Those of them in whole hours that come from hours; empty if none do.
    hours: RangeInclusive<u64>,
    /// Those of them in whole days that come from days.
    days: RangeInclusive<u64>,
}

impl Window {
    fn of(micros: &RangeInclusive<u64>, stretch: Option<Stretch>) -> Self {
        let none = RangeInclusive::new(1, 0);
        let from = floor(*micros.start(), Stretch::Minute);
        let to = floor(*micros.end(), Stretch::Minute).saturating_add(Stretch::Minute.micros() - 1);
        let whole = |stretch: Stretch| {
            let length = stretch.micros();
            let first = from.div_ceil(length).checked_mul(length);
            // The stretch that `to` ends is whole as well.
            let end = floor(to.saturating_add(1), stretch);
            match (first, end.checked_sub(1)) {
                (Some(first), Some(last)) if first <= last => first..=last,
                _ => none.clone(),
            }
        };
        let (hours, days) = match stretch {
            Some(Stretch::Minute) => (none.clone(), none.clone()),
            Some(Stretch::Hour) => (whole(Stretch::Hour), none.clone()),
            Some(Stretch::Day) | None => (whole(Stretch::Hour), whole(Stretch::Day)),
        };
        Self {
            minutes: from..=to,
            hours,
            days,
        }
    }

    /// Says whether a cell of `level` that starts at `start` counts.
    fn counts(&self, level: Level, start: u64) -> bool {
        match level {
            Level::Fresh => self.minutes.contains(&start),
            Level::Minutes => {
                self.minutes.contains(&start)
                    && !self.hours.contains(&start)
                    && !self.days.contains(&start)
            }
            Level::Hours => self.hours.contains(&start) && !self.days.contains(&start),
            Level::Days => self.days.contains(&start),
        }
    }

    /// Says whether a table may have cells that count.
    fn meets(&self, at: &TableAt) -> bool {
        let (wanted, coarser) = match at.level {
            Level::Fresh => (&self.minutes, None),
            Level::Minutes => (&self.minutes, Some(&self.hours)),
            Level::Hours => (&self.hours, Some(&self.days)),
            Level::Days => (&self.days, None),
        };
        let is_told_coarser = coarser.is_some_and(|coarser| {
            coarser.contains(&at.min_micros) && coarser.contains(&at.max_micros)
        });
        !wanted.is_empty() && at.meets(*wanted.start(), *wanted.end()) && !is_told_coarser
    }
}

impl TableAt {
    /// Says whether it is one of those that together have the journals of the file.
    fn tells_journals(&self) -> bool {
        self.level == Level::Fresh || self.level == Level::Minutes && self.cells == 0
    }
}

impl Asking<'_> {
    /// Adds the cells of all files; gives the journals that are in them.
    fn files(&mut self, log: &LogDir) -> io::Result<Ranges> {
        let mut covered = Ranges::default();
        for (_, path) in file::list(log)? {
            let mut file = match RollupFile::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for at in file.tables.clone() {
                if !at.tells_journals() && !self.window.meets(&at) {
                    continue;
                }
                let journals = file.each_cell(&at, |cell| {
                    let names = cell.names;
                    self.add(at.level, cell.start, &names, |group| cell.add_to(group));
                })?;
                let journals = journals.unwrap_or_default();
                for range in &journals {
                    covered.add(range);
                }
            }
            self.damages.append(&mut file.damages);
        }
        Ok(covered)
    }

    /// Adds a cell, if it counts, to its group.
    fn add(
        &mut self,
        level: Level,
        start: u64,
        names: &[&[u8]; PARTS - 1],
        add: impl FnOnce(&mut Group),
    ) {
        if !self.window.counts(level, start) || !self.fits(names) {
            return;
        }
        let time = self
            .question
            .stretch
            .map(|stretch| Part::Number(floor(start, stretch)));
        let by = self.question.by.iter();
        let names = by.map(|dimension| Part::Text(names[*dimension as usize].to_vec()));
        let parts: Vec<_> = time.into_iter().chain(names).collect();
        add(self.groups.group(&parts));
    }

    fn fits(&self, names: &[&[u8]; PARTS - 1]) -> bool {
        self.question.only.iter().all(|(dimension, patterns)| {
            let name = names[*dimension as usize];
            patterns.iter().any(|pattern| pattern.matches(name))
        })
    }
}
