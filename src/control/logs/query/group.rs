//! Records counted and summed by group, block by block and column by column, in exact integers.
//!
//! Within a block every row gets the number of its group, and each column is then added up in one
//! loop over it. Groups of all blocks meet once a block, not once a row.

use std::collections::HashMap;

use super::mask::Mask;
use crate::{
    control::{
        logs::{
            block::{Block, BlockError, Number, Numbers, Strings, TextCells},
            filter::field::metadata_value,
        },
        rollup::{
            sketch::Sketch,
            totals::{CLASSES, Class, TIMES, Time, Tokens, Totals},
        },
    },
    domain::record::Text,
};

mod columns;
mod local;
mod add;

pub(super) use add::sum_masked;
use add::{count, count_unknown, record_values, sum, unknown_masked};
use columns::Columns;
use local::{Local, Names};

/// Most keys of one question.
pub const KEYS_MAX: usize = 5;

/// What records are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// A text of the record.
    Text(Text),
    /// The status; 0 for none.
    Status,
    /// How it ended, by [`Outcome`].
    Outcome,
    /// When it began: the beginning of the stretch, in microseconds since the Unix epoch.
    Time(Stretch),
    /// A member of the metadata, as text; empty where there is none.
    Metadata(String),
}

/// A stretch of time that starts at a multiple of its length, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Stretch {
    /// Its length.
    pub const fn micros(self) -> u64 {
        match self {
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }
}

/// One part of a group's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A text or a member of the metadata.
    Text(Vec<u8>),
    /// A status, an outcome's number, or a time.
    Number(u64),
}

/// What is to be computed beside the number of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Requests and classes.
    pub classes: bool,
    /// Tokens by kind; those of cache hits need the classes as well.
    pub tokens: bool,
    /// Costs.
    pub cost: bool,
    /// Histograms by [`Time`].
    pub times: [bool; TIMES],
}

impl Wanted {
    /// All there is.
    pub const ALL: Self = Self {
        classes: true,
        tokens: true,
        cost: true,
        times: [true; TIMES],
    };
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its name, a part for each key. Empty for the group of all that found no room.
    pub parts: Vec<Part>,
    /// Counts and sums.
    pub totals: Totals,
    /// Histograms, in microseconds, by [`Time`].
    pub times: [Sketch; TIMES],
}

impl Group {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            mine.merge(theirs);
        }
    }

    /// Takes all of `other`, which is a part of it, out again.
    pub fn subtract(&mut self, other: &Self) {
        self.totals.subtract(&other.totals);
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            mine.subtract(theirs);
        }
    }
}

/// Groups that are being summed up.
#[derive(Debug)]
pub struct Groups {
    keys: Vec<GroupKey>,
    wanted: Wanted,
    most: usize,
    index: HashMap<Vec<Part>, usize>,
    list: Vec<Group>,
    /// What found no room.
    other: Option<Group>,
    room: Room,
}

/// Memory that is used for one block after another.
#[derive(Debug, Default)]
struct Room {
    selected: Vec<u32>,
    /// The local group of each selected row.
    group_of: Vec<u16>,
    sums: Sums,
}

/// Of one column, by local group.
#[derive(Debug, Default)]
struct Sums {
    sums: Vec<u128>,
    counts: Vec<u64>,
}

/// The rows that count.
#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    All(usize),
    Some(&'a [u32]),
}

impl Groups {
    /// No groups yet. Of at most `groups_max` groups each has its own sums; the rest is one.
    pub fn new(keys: Vec<GroupKey>, wanted: Wanted, groups_max: usize) -> Self {
        Self {
            keys,
            wanted,
            most: groups_max,
            index: HashMap::new(),
            list: Vec::new(),
            other: None,
            room: Room::default(),
        }
    }

    /// Adds the rows of `block` that `mask` has. Either all of them are added or, if a column
    /// that is needed cannot be read, none.
    pub fn add(&mut self, block: &Block<'_>, mask: &Mask) -> Result<(), BlockError> {
        let mut room = std::mem::take(&mut self.room);
        let added = self.add_in(block, mask, &mut room);
        self.room = room;
        added
    }

    fn add_in(
        &mut self,
        block: &Block<'_>,
        mask: &Mask,
        room: &mut Room,
    ) -> Result<(), BlockError> {
        let columns = Columns::of(block, self.wanted)?;
        if self.keys.is_empty() && columns.are_sums() {
            self.add_sums(block, mask, &columns);
            return Ok(());
        }
        let rows = if mask.is_full() {
            Rows::All(block.rows())
        } else {
            mask.select(&mut room.selected);
            Rows::Some(&room.selected)
        };
        let keys = self.keys.iter().map(|key| key.local(block, &rows));
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
        let groups = local::number_rows(&mut keys, &rows, &mut room.group_of);
        let sums = &mut room.sums;
        count(&mut sums.counts, groups.len(), &room.group_of);
        // Where each local group lies among those of all blocks; `usize::MAX`: among the others.
        let places: Vec<Option<usize>> = groups
            .iter()
            .zip(&sums.counts)
            .map(|(codes, count)| (*count > 0).then(|| self.place(&keys, codes)))
            .collect();
        self.sum_up(block, &columns, &rows, &room.group_of, &places, sums);
        Ok(())
    }

    /// Adds `rows` of `block`, each to the group whose name has the place in `names` that
    /// `group_of` gives. A row may be there several times, once in a group at most. As with
    /// [`Self::add`] all or none are added.
    pub fn add_rows(
        &mut self,
        block: &Block<'_>,
        rows: &[u32],
        group_of: &[u16],
        names: &[Vec<Part>],
    ) -> Result<(), BlockError> {
        let columns = Columns::of(block, self.wanted)?;
        let mut room = std::mem::take(&mut self.room);
        count(&mut room.sums.counts, names.len(), group_of);
        let places: Vec<_> = names.iter().map(|name| Some(self.find(name))).collect();
        let (rows, sums) = (Rows::Some(rows), &mut room.sums);
        self.sum_up(block, &columns, &rows, group_of, &places, sums);
        self.room = room;
        Ok(())
    }

    /// Adds up columns by local group. `sums` has the number of rows of each.
    fn sum_up(
        &mut self,
        block: &Block<'_>,
        columns: &Columns<'_>,
        rows: &Rows<'_>,
        group_of: &[u16],
        places: &[Option<usize>],
        sums: &mut Sums,
    ) {
        let Sums { sums, counts } = sums;
        let groups = places.len();
        self.for_each(places, counts, |group, count| {
            group.totals.rows += count;
        });

        if let Some(classes) = &columns.classes {
            let mut by_class = vec![[0u64; CLASSES]; groups];
            let mut requests = vec![0u64; groups];
            rows.each(group_of, |row, group| {
                by_class[group][classes.of_row(row) as usize] += 1;
                requests[group] += u64::from(classes.is_first(row));
            });
            self.for_each(places, &requests, |group, requests| {
                group.totals.requests += requests;
            });
            self.for_each(places, &by_class, |group, by_class| {
                for (sum, count) in group.totals.classes.iter_mut().zip(by_class) {
                    *sum += count;
                }
            });
            // Most blocks have no hit, and are not gone through again.
            let hits = by_class.iter().any(|of| of[Class::Cached as usize] > 0);
            if let (true, Some((input, output))) = (hits, columns.unmetered) {
                for (kind, numbers) in
                    [(Tokens::CachedInput, input), (Tokens::CachedOutput, output)]
                {
                    let mut sums = vec![0u128; groups];
                    rows.each(group_of, |row, group| {
                        if classes.of_row(row) == Class::Cached {
                            sums[group] += u128::from(numbers.get(row).unwrap_or(0));
                        }
                    });
                    self.for_each(places, &sums, |group, sum| {
                        group.totals.tokens[kind as usize] += sum;
                    });
                }
            }
        }
        for (kind, numbers) in &columns.tokens {
            sum(sums, groups, rows, group_of, *numbers, u64::MAX);
            self.for_each(places, sums, |group, sum| {
                group.totals.tokens[*kind as usize] += sum;
            });
        }
        if let Some((input, output)) = columns.unmetered {
            count_unknown(counts, groups, rows, group_of, &[input, output]);
            self.for_each(places, counts, |group, count| {
                group.totals.unmetered += count;
            });
        }
        if let Some(costs) = columns.cost {
            let max = block.zone().cost.max;
            sum(sums, groups, rows, group_of, costs, max);
            self.for_each(places, sums, |group, sum| {
                group.totals.cost += sum;
            });
            count_unknown(counts, groups, rows, group_of, &[costs]);
            self.for_each(places, counts, |group, count| {
                group.totals.unpriced += count;
            });
        }
        for (time, numbers) in &columns.times {
            self.record_times(*time, *numbers, rows, group_of, places);
        }
    }

    /// Adds plain sums of all rows, without telling rows apart: whatever a mask leaves out is
    /// multiplied by nothing.
    fn add_sums(&mut self, block: &Block<'_>, mask: &Mask, columns: &Columns<'_>) {
        let rows = mask.count() as u64;
        if rows == 0 {
            return;
        }
        let place = self.find(&[]);
        let totals = &mut self.at(place).totals;
        totals.rows += rows;
        for (kind, numbers) in &columns.tokens {
            totals.tokens[*kind as usize] += sum_masked(mask, *numbers, u64::MAX);
        }
        if let Some((input, output)) = columns.unmetered {
            totals.unmetered += unknown_masked(mask, &[input, output]);
        }
        if let Some(costs) = columns.cost {
            totals.cost += sum_masked(mask, costs, block.zone().cost.max);
            totals.unpriced += unknown_masked(mask, &[costs]);
        }
    }

    /// Adds a group that was summed up elsewhere, whose name has the parts of these keys.
    pub fn add_group(&mut self, group: &Group) {
        self.add_to(&group.parts, group);
    }

    /// Adds to the group with the name `parts` what `group` holds.
    pub fn add_to(&mut self, parts: &[Part], group: &Group) {
        self.group(parts).merge(group);
    }

    /// The group with the name `parts`, or that of what finds no room.
    pub fn group(&mut self, parts: &[Part]) -> &mut Group {
        let place = self.find(parts);
        self.at(place)
    }

    /// How many groups there are, the others not counted.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Says whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.other.is_none()
    }

    /// The groups, and what found no room among them.
    pub fn finish(self) -> (Vec<Group>, Option<Group>) {
        (self.list, self.other)
    }

    fn place(&mut self, keys: &[Local<'_>], codes: &[u16; KEYS_MAX]) -> usize {
        let parts: Vec<Part> = keys
            .iter()
            .zip(codes)
            .map(|(key, code)| key.names.part(*code))
            .collect();
        self.find(&parts)
    }

    fn find(&mut self, parts: &[Part]) -> usize {
        if let Some(place) = self.index.get(parts) {
            return *place;
        }
        if self.list.len() >= self.most {
            return usize::MAX;
        }
        let place = self.list.len();
        self.list.push(Group {
            parts: parts.to_vec(),
            ..Group::default()
        });
        self.index.insert(parts.to_vec(), place);
        place
    }

    fn at(&mut self, place: usize) -> &mut Group {
        match self.list.get_mut(place) {
            Some(group) => group,
            None => self.other.get_or_insert_default(),
        }
    }

    fn for_each<T: Copy>(
        &mut self,
        places: &[Option<usize>],
        values: &[T],
        add: impl Fn(&mut Group, T),
    ) {
        for (place, value) in places.iter().zip(values) {
            if let Some(place) = place {
                add(self.at(*place), *value);
            }
        }
    }

    fn record_times(
        &mut self,
        time: Time,
        numbers: Numbers<'_>,
        rows: &Rows<'_>,
        group_of: &[u16],
        places: &[Option<usize>],
    ) {
        // The histograms are taken out, so that the loop below meets them by local number.
        let mut sketches: Vec<Sketch> = Vec::with_capacity(places.len());
        for place in places {
            sketches.push(match place {
                Some(place) => std::mem::take(&mut self.at(*place).times[time as usize]),
                None => Sketch::default(),
            });
        }
        match numbers {
            Numbers::Unknown => {}
            Numbers::Each(values) => {
                let has_rows = |group: usize| places.get(group).is_some_and(Option::is_some);
                record_values(&mut sketches, has_rows, rows, group_of, values);
            }
            Numbers::Some { .. } => rows.each(group_of, |row, group| {
                if let Some(value) = numbers.get(row) {
                    sketches[group].record(value);
                }
            }),
        }
        for (place, sketch) in places.iter().zip(sketches) {
            if let Some(place) = place {
                // Two local groups can both be among the others.
                let home = &mut self.at(*place).times[time as usize];
                if home.is_empty() {
                    *home = sketch;
                } else {
                    home.merge(&sketch);
                }
            }
        }
    }
}

impl GroupKey {
    /// The key's code for each row of a block, and what the codes stand for.
    fn local<'a>(&self, block: &Block<'a>, rows: &Rows<'_>) -> Result<Local<'a>, BlockError> {
        Ok(match self {
            Self::Text(text) => match block.texts(*text)? {
                TextCells::Empty => Local::one(Names::Parts(vec![Part::Text(Vec::new())])),
                TextCells::Coded { codes, strings } => Local {
                    codes: local::codes_of(codes, strings.len()),
                    names: Names::Strings(strings),
                },
                TextCells::Each(strings) => {
                    Local::of_texts(block.rows(), rows, |row| strings.get(row))
                }
            },
            Self::Status => {
                let statuses = block.statuses()?;
                Local::of_numbers(statuses.iter().map(|status| u64::from(status.to_native())))
            }
            Self::Outcome => {
                Local::of_numbers(block.outcomes()?.iter().map(|outcome| u64::from(*outcome)))
            }
            Self::Time(stretch) => {
                let at = block.zone().at;
                let length = stretch.micros();
                if at.min / length == at.max / length {
                    let start = at.min / length * length;
                    return Ok(Local::one(Names::Parts(vec![Part::Number(start)])));
                }
                match block.numbers(Number::At)? {
                    Numbers::Each(values) | Numbers::Some { values, .. } => {
                        Local::of_times(values, *stretch)
                    }
                    Numbers::Unknown => Local::one(Names::Parts(vec![Part::Number(0)])),
                }
            }
            Self::Metadata(name) => match block.texts(Text::Metadata)? {
                TextCells::Empty => Local::one(Names::Parts(vec![Part::Text(Vec::new())])),
                cells => Local::of_texts(block.rows(), rows, |row| cells.get(row))
                    .mapped(|json| metadata_value(json, name).unwrap_or_default().into_bytes()),
            },
        })
    }
}

/// A name in a dictionary; empty beyond it.
fn string_part(strings: &Strings<'_>, code: u16) -> Part {
    Part::Text(strings.get(usize::from(code)).to_vec())
}

#[cfg(test)]
mod tests;
