//! The groups of one question.
//!
//! Where rollups know all that is asked for, they answer: by gateway, provider and model, or by
//! gateway and one member of the metadata. What asks for more of the metadata, or for it together
//! with provider or model, is summed up from the records. Either gives groups by all that the
//! question selects or compares; those that pass are then put together by what it selects.
//!
//! Exchanges without logging have no metadata, wherever the answer comes from.
//!
//! A question whose groups come in order of time is answered day by day, and ends when it has as
//! many groups as were asked for: a month of minutes is never in memory at once.

use std::{io, ops::RangeInclusive, time::Instant};

use super::{
    filter::{Condition, Name},
    order::OrderKey,
};
use crate::{
    control::{
        logs::{
            block::{Block, BlockError},
            filter::{Filter, Pattern, Term, Test, field::metadata_value},
            query::{
                group::{Group, GroupKey, Groups, Part, Stretch, Wanted},
                mask::Mask,
                sums::{GROUPS_MAX, GROUPS_WITH_TIMES_MAX},
            },
            snapshot::{LogReader, LogSnapshot},
        },
        rollup::{
            self,
            members::NAME_BYTES_MAX,
            totals::{TIMES, Time, Tokens, Totals},
            view::{self, members},
        },
    },
    domain::record::Text,
};

/// Most groups that are told apart at once where rollups answer, each with its histograms: some
/// 2 KB where requests are few, 10 KB where they are many.
const CELLS_MAX: usize = 50_000;

/// Most days that are gone through one by one: more than a century.
const DAYS_MAX: usize = 40_000;

/// By what groups are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The beginning of a stretch of time.
    Time(Stretch),
    /// A text.
    Name(Name),
    /// A member of the metadata.
    Value(String),
}

/// A sum of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumField {
    /// Pico-dollars.
    Cost,
    /// Requests that the cache answered.
    CachedRequests,
    /// Records of errors.
    ErroredRequests,
    /// Records for which a provider was asked.
    Attempts,
    /// Input tokens of what the cache answered.
    CachedTokensIn,
    /// Output tokens of what the cache answered.
    CachedTokensOut,
    /// All other input tokens.
    UncachedTokensIn,
    /// All other output tokens.
    UncachedTokensOut,
}

impl SumField {
    /// The sum of what is known; `None` if nothing of it is.
    pub fn of(self, totals: &Totals) -> Option<u128> {
        let tokens = |kind: Tokens| totals.tokens[kind as usize];
        let uncached = |all: Tokens, cached: Tokens| {
            let sum = tokens(all).saturating_sub(tokens(cached));
            (sum > 0 || totals.unmetered < totals.rows).then_some(sum)
        };
        match self {
            Self::Cost => (totals.unpriced < totals.rows).then_some(totals.cost),
            Self::CachedRequests => Some(totals.cached().into()),
            Self::ErroredRequests => Some(totals.errors().into()),
            Self::Attempts => Some(totals.attempts().into()),
            Self::CachedTokensIn => Some(tokens(Tokens::CachedInput)),
            Self::CachedTokensOut => Some(tokens(Tokens::CachedOutput)),
            Self::UncachedTokensIn => uncached(Tokens::Input, Tokens::CachedInput),
            Self::UncachedTokensOut => uncached(Tokens::Output, Tokens::CachedOutput),
        }
    }
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// By what groups are told apart, each once.
    pub dimensions: Vec<Dimension>,
    /// In which order they come; by their names in the end.
    pub order: Vec<(OrderKey, bool)>,
    /// Most groups of the answer.
    pub limit: usize,
    /// Whether times are asked for.
    pub times: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// Groups beyond the bound would be missing from the answer.
    #[error(
        "more groups than can be told apart at once: ask for a shorter time, fewer dimensions, or order by time"
    )]
    Crowded,
    /// The time was over.
    #[error("looking through the records took too long: ask for a shorter time")]
    Slow,
    /// The folder or a file of it cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
}

/// What was met on the way to an answer, for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// Stretches of the log that could not be read.
    pub damages: usize,
    /// What is not known of values of metadata.
    pub unknown: members::Unknown,
    /// Records that rollups counted without their metadata and that are gone by now.
    pub gone: u64,
}

/// Answers a question; adds to `met` what it met.
pub fn answer(
    reader: &mut LogReader,
    question: &Question,
    end: Instant,
    met: &mut Met,
) -> Result<Vec<Group>, GroupsError> {
    let span = Condition::All(question.conditions.clone()).span();
    let (Ok(from), Ok(to)) = (
        u64::try_from(*span.start().max(&0)),
        u64::try_from(*span.end()),
    ) else {
        return Ok(Vec::new());
    };
    if from > to || question.limit == 0 {
        return Ok(Vec::new());
    }
    let mut asking = Asking {
        plan: Plan::of(question),
        question,
        reader,
        end,
        met,
    };
    let mut groups = match asking.time_order() {
        Some((stretch, descending)) => asking.by_days(&(from..=to), stretch, descending)?,
        None => asking.within(&(from..=to))?.ok_or(GroupsError::Crowded)?,
    };
    groups.sort_by(|a, b| {
        let mut keys = question.order.iter().map(|(key, descending)| {
            let ordering = key.compare(&question.dimensions, a, b);
            if *descending {
                ordering.reverse()
            } else {
                ordering
            }
        });
        keys.find(|ordering| ordering.is_ne())
            .unwrap_or_else(|| a.parts.cmp(&b.parts))
    });
    groups.truncate(question.limit);
    Ok(groups)
}

/// How a question is answered.
#[derive(Debug)]
struct Plan<'q> {
    /// Metadata is asked for.
    asks_metadata: bool,
    /// Texts that are looked at before anything is summed up.
    texts: Vec<(Name, &'q [Pattern], bool)>,
    /// Conditions that are looked at afterwards.
    rest: Vec<&'q Condition>,
    /// What groups are told apart by until then; their parts come in this order.
    stretch: Option<Stretch>,
    names: Vec<Name>,
    metadata: Option<Metadata>,
}

/// What of the metadata groups are told apart by.
#[derive(Debug, PartialEq, Eq)]
enum Metadata {
    Value(String),
    Raw,
}

/// The names that rollups know, in the order of parts.
const NAMES: [Name; 3] = [Name::Gateway, Name::Provider, Name::Model];

impl<'q> Plan<'q> {
    fn of(question: &'q Question) -> Self {
        let mut asks_metadata = question.dimensions.iter().any(|dimension| {
            matches!(
                dimension,
                Dimension::Value(_) | Dimension::Name(Name::MetadataRaw)
            )
        });
        for condition in &question.conditions {
            condition.each(&mut |condition| {
                asks_metadata |= matches!(
                    condition,
                    Condition::Text(Name::MetadataRaw, _)
                        | Condition::NotText(Name::MetadataRaw, _)
                );
            });
        }
        let mut plan = Self {
            asks_metadata,
            texts: Vec::new(),
            rest: Vec::new(),
            stretch: None,
            names: Vec::new(),
            metadata: None,
        };
        for condition in &question.conditions {
            match condition {
                // The span of the question is all that they say.
                Condition::Time(..) => {}
                Condition::Text(name, patterns) => plan.texts.push((*name, patterns, true)),
                Condition::NotText(name, patterns) if plan.asks_metadata => {
                    plan.texts.push((*name, patterns, false));
                }
                Condition::NotText(..) | Condition::All(_) | Condition::Any(_) => {
                    plan.rest.push(condition);
                }
            }
        }
        plan.need(question);
        plan
    }

    /// Notes what groups must be told apart by.
    fn need(&mut self, question: &Question) {
        let mut names: Vec<Name> = Vec::new();
        let mut values: Vec<&str> = Vec::new();
        let mut stretches: Vec<Stretch> = Vec::new();
        for dimension in &question.dimensions {
            match dimension {
                Dimension::Time(stretch) => stretches.push(*stretch),
                Dimension::Name(name) => names.push(*name),
                Dimension::Value(name) if !values.contains(&name.as_str()) => values.push(name),
                Dimension::Value(_) => {}
            }
        }
        for condition in &self.rest {
            condition.each(&mut |condition| match condition {
                Condition::Time(stretch, _) => stretches.push(*stretch),
                Condition::Text(name, _) | Condition::NotText(name, _) => names.push(*name),
                Condition::All(_) | Condition::Any(_) => {}
            });
        }
        self.stretch = stretches.into_iter().min_by_key(|stretch| stretch.micros());
        self.names = NAMES.into_iter().filter(|n| names.contains(n)).collect();
        self.metadata = match values.as_slice() {
            [] if !names.contains(&Name::MetadataRaw) => None,
            [value] if !names.contains(&Name::MetadataRaw) => {
                Some(Metadata::Value((*value).to_owned()))
            }
            _ => Some(Metadata::Raw),
        };
    }

    /// The member of the metadata, if rollups know all that is asked for.
    fn rolled_up_member(&self) -> Option<&str> {
        let Some(Metadata::Value(member)) = &self.metadata else {
            return None;
        };
        let is_gateway = |name: &Name| *name == Name::Gateway;
        let is_known = self.names.iter().all(is_gateway)
            && self.texts.iter().all(|(name, ..)| is_gateway(name))
            && member.len() <= NAME_BYTES_MAX;
        is_known.then_some(member)
    }

    fn time(&self, parts: &[Part]) -> u64 {
        match (self.stretch, parts.first()) {
            (Some(_), Some(Part::Number(start))) => *start,
            _ => 0,
        }
    }

    fn text<'p>(&self, parts: &'p [Part], name: Name) -> &'p [u8] {
        let before = usize::from(self.stretch.is_some());
        let at = match self.names.iter().position(|known| *known == name) {
            Some(at) => before + at,
            None if name == Name::MetadataRaw => before + self.names.len(),
            None => return &[],
        };
        match parts.get(at) {
            Some(Part::Text(text)) => text,
            Some(Part::Number(_)) | None => &[],
        }
    }

    /// What a dimension is in a group with these parts.
    fn part(&self, parts: &[Part], dimension: &Dimension) -> Part {
        match dimension {
            Dimension::Time(stretch) => {
                let start = self.time(parts);
                Part::Number(start - start % stretch.micros())
            }
            Dimension::Name(name) => Part::Text(self.text(parts, *name).to_vec()),
            Dimension::Value(name) => {
                let found = self.text(parts, Name::MetadataRaw);
                Part::Text(match self.metadata {
                    Some(Metadata::Raw) => {
                        let value = metadata_value(found, name);
                        value.unwrap_or_default().into_bytes()
                    }
                    Some(Metadata::Value(_)) | None => found.to_vec(),
                })
            }
        }
    }

    fn passes(&self, parts: &[Part]) -> bool {
        let text = |name| self.text(parts, name).to_vec();
        let mut rest = self.rest.iter();
        rest.all(|condition| condition.holds(self.time(parts), &text))
    }
}

struct Asking<'a> {
    plan: Plan<'a>,
    question: &'a Question,
    reader: &'a mut LogReader,
    end: Instant,
    met: &'a mut Met,
}

impl Asking<'_> {
    /// The stretch of time by which groups come in order before all else, and whether the last
    /// comes first.
    fn time_order(&self) -> Option<(Stretch, bool)> {
        let dimensions = self.question.dimensions.iter();
        let finest = dimensions
            .filter_map(|dimension| match dimension {
                Dimension::Time(stretch) => Some(*stretch),
                Dimension::Name(_) | Dimension::Value(_) => None,
            })
            .min_by_key(|stretch| stretch.micros())?;
        match self.question.order.first() {
            Some((OrderKey::Time(stretch), descending)) => Some((*stretch, *descending)),
            Some(_) => None,
            // Groups come by their names, of which the first is the first dimension.
            None => {
                let first = self.question.dimensions.first();
                matches!(first, Some(Dimension::Time(_))).then_some((finest, false))
            }
        }
    }

    /// The groups of as many days as it takes.
    fn by_days(
        &mut self,
        micros: &RangeInclusive<u64>,
        stretch: Stretch,
        descending: bool,
    ) -> Result<Vec<Group>, GroupsError> {
        let days = view::ask(
            self.reader,
            &view::Question {
                micros: micros.clone(),
                stretch: Some(Stretch::Day),
                by: Vec::new(),
                only: Vec::new(),
                groups_max: DAYS_MAX,
            },
        )?;
        if days.other.is_some() {
            return Err(GroupsError::Crowded);
        }
        let mut starts: Vec<u64> = days.groups.iter().map(rollup::table::start_of).collect();
        starts.sort_unstable();
        if descending {
            starts.reverse();
        }
        let mut groups = Vec::new();
        for start in starts {
            match self.within(&part_of(micros, start, Stretch::Day))? {
                Some(mut day) => groups.append(&mut day),
                // A day of minutes may be too much where its hours are not.
                None if stretch.micros() <= Stretch::Hour.micros() => {
                    let mut hours: Vec<u64> = (0..24)
                        .map(|hour| start + hour * Stretch::Hour.micros())
                        .collect();
                    if descending {
                        hours.reverse();
                    }
                    for hour in hours {
                        let micros = part_of(micros, hour, Stretch::Hour);
                        let hour = self.within(&micros)?;
                        groups.append(&mut hour.ok_or(GroupsError::Crowded)?);
                        if groups.len() >= self.question.limit {
                            return Ok(groups);
                        }
                    }
                }
                None => return Err(GroupsError::Crowded),
            }
            if groups.len() >= self.question.limit {
                break;
            }
        }
        Ok(groups)
    }

    /// All groups of a time; `None` if they are too many.
    fn within(&mut self, micros: &RangeInclusive<u64>) -> Result<Option<Vec<Group>>, GroupsError> {
        if micros.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if Instant::now() >= self.end {
            return Err(GroupsError::Slow);
        }
        let groups = if !self.plan.asks_metadata {
            self.of_rollups(micros)?
        } else if let Some(member) = self.plan.rolled_up_member() {
            self.of_member(member.to_owned(), micros)?
        } else {
            self.of_records(micros)?
        };
        Ok(groups.map(|groups| self.put_together(groups)))
    }

    fn of_rollups(
        &mut self,
        micros: &RangeInclusive<u64>,
    ) -> Result<Option<Vec<Group>>, GroupsError> {
        let plan = &self.plan;
        let texts = plan.texts.iter();
        let answer = view::ask(
            self.reader,
            &view::Question {
                micros: micros.clone(),
                stretch: plan.stretch,
                by: plan.names.iter().map(|name| rolled_up(*name)).collect(),
                only: texts
                    .map(|(name, patterns, _)| (rolled_up(*name), patterns.to_vec()))
                    .collect(),
                groups_max: CELLS_MAX,
            },
        )?;
        self.met.damages += answer.damages.len();
        Ok(answer.other.is_none().then_some(answer.groups))
    }

    /// The groups by one member of the metadata: from rollups, or where these do not tell them apart
    /// from the records that are still there.
    fn of_member(
        &mut self,
        member: String,
        micros: &RangeInclusive<u64>,
    ) -> Result<Option<Vec<Group>>, GroupsError> {
        let plan = &self.plan;
        let answer = members::ask(
            self.reader,
            &members::Question {
                micros: micros.clone(),
                stretch: plan.stretch,
                by_gateway: !plan.names.is_empty(),
                member,
                gateways: plan
                    .texts
                    .iter()
                    .map(|(_, patterns, wanted)| members::Fits {
                        patterns: patterns.to_vec(),
                        negated: !wanted,
                    })
                    .collect(),
                values: Vec::new(),
                groups_max: CELLS_MAX,
            },
        )?;
        if answer.is_crowded || answer.unknown.untold > 0 {
            let found = self.of_records(micros)?;
            let rows = found.iter().flatten().map(|group| group.totals.rows).sum();
            if found.is_some() {
                self.met.gone += answer.rows.saturating_sub(rows);
            }
            return Ok(found);
        }
        self.met.damages += answer.damages.len();
        self.met.unknown.merge(answer.unknown);
        Ok(Some(answer.groups))
    }

    fn of_records(
        &mut self,
        micros: &RangeInclusive<u64>,
    ) -> Result<Option<Vec<Group>>, GroupsError> {
        let plan = &self.plan;
        let mut keys: Vec<GroupKey> = plan.stretch.map(GroupKey::Time).into_iter().collect();
        keys.extend(plan.names.iter().map(|name| GroupKey::Text(text_of(*name))));
        keys.extend(plan.metadata.as_ref().map(|metadata| match metadata {
            Metadata::Value(name) => GroupKey::Metadata(name.clone()),
            Metadata::Raw => GroupKey::Text(Text::Metadata),
        }));
        let mut wanted = Wanted {
            times: [false; TIMES],
            ..Wanted::ALL
        };
        let mut groups_max = GROUPS_MAX;
        if self.question.times {
            wanted.times[Time::Duration as usize] = true;
            wanted.times[Time::FirstToken as usize] = true;
            groups_max = GROUPS_WITH_TIMES_MAX;
        }
        // Exchanges without logging, and deleted records, have no metadata.
        let hidden_keys = keys.iter().filter(|key| !is_metadata(key)).cloned();
        let mut hidden = Groups::new(hidden_keys.collect(), wanted, groups_max);
        let mut groups = Groups::new(keys, wanted, groups_max);
        let filter = Filter::new(vec![Term::of(Test::Time(vec![(
            *micros.start(),
            *micros.end(),
        )]))]);
        let snapshot = self.reader.snapshot()?;
        let mut found = Rows::default();
        self.met.damages += snapshot.damages().count();
        for at in snapshot.blocks() {
            let is_outside =
                at.micros().end() < micros.start() || at.micros().start() > micros.end();
            if is_outside {
                continue;
            }
            if Instant::now() >= self.end {
                return Err(GroupsError::Slow);
            }
            let Ok(open) = at.open() else {
                self.met.damages += 1;
                continue;
            };
            self.met.damages += open.damages().len();
            let added = open.block().and_then(|block| {
                found.find(&snapshot, &block, &filter, &plan.texts)?;
                if !found.shown.is_empty() {
                    groups.add(&block, &found.shown)?;
                }
                if !found.hidden.is_empty() {
                    hidden.add(&block, &found.hidden)?;
                }
                Ok(())
            });
            self.met.damages += usize::from(added.is_err());
        }
        let (hidden, left) = hidden.finish();
        for mut group in hidden {
            let metadata = plan.metadata.as_ref().map(|_| Part::Text(Vec::new()));
            group.parts.extend(metadata);
            groups.add_group(&group);
        }
        let (groups, other) = groups.finish();
        Ok((other.is_none() && left.is_none()).then_some(groups))
    }

    /// The groups that pass, by the dimensions of the question.
    fn put_together(&self, mut groups: Vec<Group>) -> Vec<Group> {
        let (plan, dimensions) = (&self.plan, &self.question.dimensions);
        let of = |parts: &[Part]| -> Vec<Part> {
            let parts = dimensions.iter().map(|one| plan.part(parts, one));
            parts.collect()
        };
        // Nothing but dimensions is in a name, and each is there: every group stays one.
        if plan.rest.is_empty()
            && groups
                .iter()
                .all(|group| group.parts.len() == dimensions.len())
        {
            for group in &mut groups {
                group.parts = of(&group.parts);
            }
            return groups;
        }
        let mut together = Groups::new(Vec::new(), Wanted::ALL, usize::MAX);
        for group in &groups {
            if plan.passes(&group.parts) {
                together.add_to(&of(&group.parts), group);
            }
        }
        together.finish().0
    }
}

/// The rows of a block that count.
#[derive(Debug, Default)]
struct Rows {
    /// Those whose metadata may be told.
    shown: Mask,
    /// Those that count as ones without.
    hidden: Mask,
}

impl Rows {
    fn find(
        &mut self,
        snapshot: &LogSnapshot,
        block: &Block<'_>,
        filter: &Filter,
        texts: &[(Name, &[Pattern], bool)],
    ) -> Result<(), BlockError> {
        let Self { shown, hidden } = self;
        shown.all(block.rows());
        shown.filter(filter, block)?;
        hidden.clone_from(shown);
        if let Some(visible) = snapshot.visible(block)? {
            shown.and_bits(&visible);
        }
        hidden.retain(|row| shown.rows().get(row) == Some(&0));
        for (name, patterns, wanted) in texts {
            let fits =
                |text: &[u8]| patterns.iter().any(|pattern| pattern.matches(text)) == *wanted;
            let cells = block.texts(text_of(*name))?;
            shown.retain(|row| fits(cells.get(row)));
            let is_hidden = *name == Name::MetadataRaw;
            hidden.retain(|row| fits(if is_hidden { &[] } else { cells.get(row) }));
        }
        Ok(())
    }
}

fn is_metadata(key: &GroupKey) -> bool {
    matches!(key, GroupKey::Metadata(_) | GroupKey::Text(Text::Metadata))
}

/// What of `micros` lies in the stretch that begins at `start`.
fn part_of(micros: &RangeInclusive<u64>, start: u64, stretch: Stretch) -> RangeInclusive<u64> {
    let last = start.saturating_add(stretch.micros() - 1);
    start.max(*micros.start())..=last.min(*micros.end())
}

fn rolled_up(name: Name) -> view::Dimension {
    match name {
        Name::Provider => view::Dimension::Provider,
        Name::Model => view::Dimension::Model,
        // Metadata is never asked of rollups.
        Name::Gateway | Name::MetadataRaw => view::Dimension::Gateway,
    }
}

fn text_of(name: Name) -> Text {
    match name {
        Name::Gateway => Text::Gateway,
        Name::Provider => Text::Provider,
        Name::Model => Text::Model,
        Name::MetadataRaw => Text::Metadata,
    }
}
