//! `--rollups`: groups from the sums by the minute, which outlive the records.

use std::ops::RangeInclusive;

use super::{Face, LogsError};
use crate::{
    control::{
        logs::{
            filter::{Filter, Pattern, Term, Test, TextField},
            query::{
                ScanReport,
                group::{GroupKey, Part, Stretch},
                sums::{GROUPS_WITH_TIMES_MAX, GroupOf, Grouped},
            },
            snapshot::LogReader,
        },
        rollup::{
            members::NAME_BYTES_MAX,
            view::{self, Dimension, members},
        },
    },
    domain::record::Text,
};

/// What is asked, as far as rollups know it.
#[derive(Debug, Default)]
struct Asked {
    stretch: Option<Stretch>,
    by: Vec<Dimension>,
    member: Option<String>,
    only: Vec<(Dimension, Vec<Pattern>)>,
    /// What is said of the member's value.
    values: Vec<members::Fits>,
}

/// Sums up what passes `filter`. The times of the filter count by whole minutes.
pub(super) fn group(
    reader: &mut LogReader,
    filter: &Filter,
    of: &GroupOf,
    face: &mut Face<'_>,
) -> Result<Grouped, LogsError> {
    let asked = Asked::of(&of.keys, filter)?;
    let micros = filter.micros();
    if micros.is_empty() {
        return Ok(Grouped::default());
    }
    let mut grouped = match &asked.member {
        Some(member) => asked.by_member(reader, member, micros, face)?,
        None => asked.by_names(reader, micros)?,
    };
    // Rollups name a group by time, then texts, then the value.
    let places: Vec<_> = of.keys.iter().map(|key| asked.place(key)).collect();
    for group in &mut grouped.groups {
        let part = |place: &Option<usize>| group.parts.get((*place)?).cloned();
        let parts = places.iter().map(part);
        group.parts = parts
            .map(|part| part.unwrap_or(Part::Text(Vec::new())))
            .collect();
    }
    Ok(grouped.ordered(of))
}

impl Asked {
    fn of(keys: &[GroupKey], filter: &Filter) -> Result<Self, LogsError> {
        let mut asked = Self::default();
        for key in keys {
            match key {
                GroupKey::Time(stretch) if asked.stretch.is_none() => {
                    asked.stretch = Some(*stretch);
                }
                GroupKey::Text(text) if let Some(dimension) = dimension(*text) => {
                    asked.by.push(dimension);
                }
                GroupKey::Metadata(name)
                    if asked.member.is_none() && name.len() <= NAME_BYTES_MAX =>
                {
                    asked.member = Some(name.clone());
                }
                GroupKey::Time(_)
                | GroupKey::Text(_)
                | GroupKey::Metadata(_)
                | GroupKey::Status
                | GroupKey::Outcome => return Err(LogsError::NotRolledUp("this grouping")),
            }
        }
        for term in filter.terms() {
            asked.narrow(term)?;
        }
        let names = asked.by.iter().chain(asked.only.iter().map(|(by, _)| by));
        let is_gateway = |name: &Dimension| *name == Dimension::Gateway;
        if asked.member.is_some() && !names.clone().all(is_gateway) {
            return Err(LogsError::NotRolledUp(
                "metadata together with provider, model or key",
            ));
        }
        Ok(asked)
    }

    /// Takes a term of the filter in.
    fn narrow(&mut self, term: &Term) -> Result<(), LogsError> {
        let of_text = |field: &TextField| match field {
            TextField::Gateway => Some(Dimension::Gateway),
            TextField::Provider => Some(Dimension::Provider),
            TextField::Model => Some(Dimension::Model),
            TextField::Key => Some(Dimension::Key),
            _ => None,
        };
        match &term.test {
            // Of several stretches there may be something between.
            Test::Time(stretches) if !term.negated && stretches.len() == 1 => {}
            Test::Gateway(id) if !term.negated => {
                self.only
                    .push((Dimension::Gateway, vec![Pattern::exact(id)]));
            }
            Test::Text(field, patterns)
                if !term.negated
                    && let Some(dimension) = of_text(field) =>
            {
                self.only.push((dimension, patterns.clone()));
            }
            Test::Metadata(name, patterns) if self.member.as_ref() == Some(name) => {
                if !term.negated {
                    // What has no such member fits no pattern.
                    self.values.push(members::Fits {
                        patterns: vec![Pattern::exact("")],
                        negated: true,
                    });
                }
                self.values.push(members::Fits {
                    patterns: patterns.clone(),
                    negated: term.negated,
                });
            }
            _ => return Err(LogsError::NotRolledUp("a term of the filter")),
        }
        Ok(())
    }

    /// Where a key stands in the names of groups.
    fn place(&self, key: &GroupKey) -> Option<usize> {
        let before = usize::from(self.stretch.is_some());
        match key {
            GroupKey::Time(_) => Some(0),
            GroupKey::Text(text) => {
                let wanted = dimension(*text)?;
                let mut by = self.by.iter();
                Some(before + by.position(|dimension| *dimension == wanted)?)
            }
            GroupKey::Metadata(_) => Some(before + usize::from(!self.by.is_empty())),
            GroupKey::Status | GroupKey::Outcome => None,
        }
    }

    fn by_names(
        &self,
        reader: &mut LogReader,
        micros: RangeInclusive<u64>,
    ) -> Result<Grouped, LogsError> {
        let answer = view::ask(
            reader,
            &view::Question {
                micros,
                stretch: self.stretch,
                by: self.by.clone(),
                only: self.only.clone(),
                groups_max: GROUPS_WITH_TIMES_MAX,
            },
        )?;
        Ok(Grouped {
            groups: answer.groups,
            is_crowded: answer.other.is_some(),
            other: answer.other,
            report: ScanReport {
                damages: answer.damages,
                ..ScanReport::default()
            },
        })
    }

    fn by_member(
        &self,
        reader: &mut LogReader,
        member: &str,
        micros: RangeInclusive<u64>,
        face: &mut Face<'_>,
    ) -> Result<Grouped, LogsError> {
        let gateways = self.only.iter().map(|(_, patterns)| members::Fits {
            patterns: patterns.clone(),
            negated: false,
        });
        let answer = members::ask(
            reader,
            &members::Question {
                micros,
                stretch: self.stretch,
                by_gateway: !self.by.is_empty(),
                member: member.to_owned(),
                gateways: gateways.collect(),
                values: self.values.clone(),
                groups_max: GROUPS_WITH_TIMES_MAX,
            },
        )?;
        if answer.is_crowded {
            return Err(LogsError::Crowded);
        }
        let unknown = answer.unknown;
        for (count, what) in [
            (
                unknown.values,
                "have one of too many values: they are in (other)",
            ),
            (
                unknown.members,
                "have metadata of too many names: what was asked for may be among it",
            ),
            (
                unknown.untold,
                "were summed up by an earlier version, without their metadata",
            ),
        ] {
            if count > 0 {
                writeln!(face.notes, "note: {count} records {what}")?;
            }
        }
        Ok(Grouped {
            groups: answer.groups,
            report: ScanReport {
                damages: answer.damages,
                ..ScanReport::default()
            },
            ..Grouped::default()
        })
    }
}

fn dimension(text: Text) -> Option<Dimension> {
    match text {
        Text::Gateway => Some(Dimension::Gateway),
        Text::Provider => Some(Dimension::Provider),
        Text::Model => Some(Dimension::Model),
        Text::Key => Some(Dimension::Key),
        _ => None,
    }
}
