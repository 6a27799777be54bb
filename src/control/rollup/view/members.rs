//! Questions about one member of the metadata: totals by its value.
//!
//! What has no such member is the rest: all totals, less those of every value. So nothing is kept
//! for it, and the groups of an answer always add up to the totals of the same time and gateways.

use std::{collections::HashMap, io, ops::RangeInclusive};

use super::{REST_CELLS_MAX, Window};
use crate::{
    control::{
        logs::{
            filter::Pattern,
            query::group::{Group, GroupKey, Groups, Part, Stretch, Wanted},
            segment::Damage,
            snapshot::LogReader,
        },
        rollup::{
            file::{self, RollupFile},
            ranges::Ranges,
            store::{OTHER, each_uncovered, floor},
            table::{
                Level,
                members::{MemberCell, MemberName, gateway_of},
                start_of,
            },
        },
    },
    domain::record::Text,
};

/// What must hold of a text.
#[derive(Debug, Clone)]
pub struct Fits {
    /// It fits one of these.
    pub patterns: Vec<Pattern>,
    /// It fits none of them instead.
    pub negated: bool,
}

impl Fits {
    fn all(all: &[Self], text: &[u8]) -> bool {
        let fits = |pattern: &Pattern| pattern.matches(text);
        let mut all = all.iter();
        all.all(|one| one.patterns.iter().any(fits) != one.negated)
    }
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// When exchanges began: microseconds since the Unix epoch, both included. Whole minutes
    /// count, those of both ends included.
    pub micros: RangeInclusive<u64>,
    /// Totals by stretch of time; else over all of it.
    pub stretch: Option<Stretch>,
    /// Totals by gateway as well.
    pub by_gateway: bool,
    /// The name of the member, at most [`NAME_BYTES_MAX`](crate::control::rollup::members::NAME_BYTES_MAX)
    /// bytes: of a longer one nothing is kept.
    pub member: String,
    /// Only gateways of which each of these holds.
    pub gateways: Vec<Fits>,
    /// Only values of which each of these holds; that of what has none is empty.
    pub values: Vec<Fits>,
    /// Most groups told apart.
    pub groups_max: usize,
}

/// What of an answer is not known in full, in records that fit the time and the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    /// Records whose value is one of those that are not kept apart: they are in the group
    /// `(other)`.
    pub values: u64,
    /// Records with a member that is not kept, which may be the one that was asked for: they are
    /// in the group without a value.
    pub members: u64,
    /// Records that were summed up before members were: they are in the group without a value.
    pub untold: u64,
}

impl Unknown {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: Self) {
        self.values += other.values;
        self.members += other.members;
        self.untold += other.untold;
    }
}

/// An answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Groups; the parts of a name are the stretch's start and the gateway, where asked for, then
    /// the value.
    pub groups: Vec<Group>,
    /// There are more groups than were to be told apart: what is here is no answer.
    pub is_crowded: bool,
    /// Records that were counted in all.
    pub rows: u64,
    /// What is not known in full.
    pub unknown: Unknown,
    /// What could not be read.
    pub damages: Vec<Damage>,
}

/// Answers `question` from the rollups of the log folder of `reader`, and from what is not summed
/// up yet.
pub fn ask(reader: &mut LogReader, question: &Question) -> io::Result<Answer> {
    let groups = || Groups::new(Vec::new(), Wanted::ALL, question.groups_max);
    let mut asking = Asking {
        question,
        window: Window::of(&question.micros, question.stretch),
        totals: groups(),
        values: groups(),
        unknown: Unknown::default(),
        damages: Vec::new(),
    };
    // Files first, then the snapshot: what is summed up in between is in the snapshot only.
    let covered = asking.files(reader)?;
    let has_room = asking.rest(reader, &covered)?;
    let mut answer = asking.finish();
    answer.is_crowded |= !has_room;
    Ok(answer)
}

struct Asking<'q> {
    question: &'q Question,
    window: Window,
    /// By stretch and gateway.
    totals: Groups,
    /// The same by value, where there is one.
    values: Groups,
    unknown: Unknown,
    damages: Vec<Damage>,
}

impl Asking<'_> {
    /// Adds the cells of all files; gives the journals that are in them.
    fn files(&mut self, reader: &LogReader) -> io::Result<Ranges> {
        let mut covered = Ranges::default();
        for (_, path) in file::list(reader.log())? {
            let mut file = match RollupFile::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for at in file.tables.clone() {
                if !at.tells_journals() && !self.window.meets(&at) {
                    continue;
                }
                let mut members = Members {
                    question: self.question,
                    window: &self.window,
                    values: &mut self.values,
                    unknown: &mut self.unknown,
                };
                let totals = &mut self.totals;
                let (question, window) = (self.question, &self.window);
                let journals = file.each(
                    &at,
                    |cell| {
                        let [gateway, ..] = cell.names;
                        if window.counts(at.level, cell.start) && question.fits(gateway) {
                            let parts = question.parts(cell.start, gateway);
                            cell.add_to(totals.group(&parts));
                        }
                    },
                    |cell| members.add(at.level, &cell),
                )?;
                let journals = journals.unwrap_or_default();
                for range in &journals {
                    covered.add(range);
                }
            }
            self.damages.append(&mut file.damages);
        }
        Ok(covered)
    }

    /// Adds what is not summed up yet; says whether there was room for all of it.
    fn rest(&mut self, reader: &mut LogReader, covered: &Ranges) -> io::Result<bool> {
        let snapshot = reader.snapshot()?;
        let keys = vec![
            GroupKey::Time(Stretch::Minute),
            GroupKey::Text(Text::Gateway),
            GroupKey::Metadata(self.question.member.clone()),
        ];
        let mut rest = Groups::new(keys, Wanted::ALL, REST_CELLS_MAX);
        let (micros, damages) = (&self.window.minutes, &mut self.damages);
        each_uncovered(&snapshot, covered, micros, damages, |block, mask| {
            if !mask.is_empty() {
                rest.add(block, mask)?;
            }
            Ok(())
        });
        let (cells, other) = rest.finish();
        for cell in &cells {
            let (start, gateway) = (start_of(cell), gateway_of(cell));
            let counts = self.window.counts(Level::Fresh, start);
            if !counts || !self.question.fits(gateway) {
                continue;
            }
            let mut parts = self.question.parts(start, gateway);
            self.totals.add_to(&parts, cell);
            if let Some(Part::Text(value)) = cell.parts.get(2)
                && !value.is_empty()
            {
                parts.push(Part::Text(value.clone()));
                self.values.add_to(&parts, cell);
            }
        }
        Ok(other.is_none())
    }

    /// The groups of all values, and of what has none.
    fn finish(self) -> Answer {
        let (values, beyond) = self.values.finish();
        let (totals, totals_beyond) = self.totals.finish();
        let mut answer = Answer {
            is_crowded: beyond.is_some() || totals_beyond.is_some(),
            rows: totals
                .iter()
                .chain(&totals_beyond)
                .map(|group| group.totals.rows)
                .sum(),
            unknown: self.unknown,
            damages: self.damages,
            ..Answer::default()
        };
        let mut index: HashMap<Vec<Part>, usize> = HashMap::new();
        for (at, group) in totals.iter().enumerate() {
            index.insert(group.parts.clone(), at);
        }
        let mut without = totals;
        for group in &values {
            let of = group.parts.split_last().map_or(&[][..], |(_, of)| of);
            if let Some(rest) = index.get(of).and_then(|at| without.get_mut(*at)) {
                rest.subtract(group);
            }
        }
        without.retain(|group| group.totals.rows > 0);
        for group in &mut without {
            group.parts.push(Part::Text(Vec::new()));
        }
        answer.groups = without;
        answer.groups.extend(values);
        answer.groups.retain(|group| match group.parts.last() {
            Some(Part::Text(value)) => Fits::all(&self.question.values, value),
            Some(Part::Number(_)) | None => false,
        });
        answer
    }
}

/// What cells by member are added to.
struct Members<'a> {
    question: &'a Question,
    window: &'a Window,
    values: &'a mut Groups,
    unknown: &'a mut Unknown,
}

impl Members<'_> {
    fn add(&mut self, level: Level, cell: &MemberCell<'_>) {
        if !self.window.counts(level, cell.start) || !self.question.fits(cell.gateway) {
            return;
        }
        let value = match (cell.key, cell.value) {
            (MemberName::Untold, _) => {
                self.unknown.untold += cell.rows();
                return;
            }
            (MemberName::Folded, _) => {
                self.unknown.members += cell.rows();
                return;
            }
            (MemberName::Text(key), _) if key != self.question.member.as_bytes() => return,
            (MemberName::Text(_), MemberName::Text(value)) => value,
            (MemberName::Text(_), MemberName::Folded | MemberName::Untold) => {
                self.unknown.values += cell.rows();
                OTHER
            }
        };
        let mut parts = self.question.parts(cell.start, cell.gateway);
        parts.push(Part::Text(value.to_vec()));
        cell.add_to(self.values.group(&parts));
    }
}

impl Question {
    fn fits(&self, gateway: &[u8]) -> bool {
        Fits::all(&self.gateways, gateway)
    }

    /// The parts of a group's name before the value.
    fn parts(&self, start: u64, gateway: &[u8]) -> Vec<Part> {
        let time = self
            .stretch
            .map(|stretch| Part::Number(floor(start, stretch)));
        let gateway = self.by_gateway.then(|| Part::Text(gateway.to_vec()));
        time.into_iter().chain(gateway).collect()
    }
}
