//! Within one block: codes for the values of a key, and one number for each group of codes.

use std::collections::HashMap;

use super::{KEYS_MAX, Part, Rows, Stretch, string_part};
use crate::control::logs::block::{Slots, Strings, Values};

/// The values of a key in one block.
#[derive(Debug)]
pub(super) struct Local<'a> {
    /// One for each row of the block, selected or not; none if all rows have code 0.
    pub(super) codes: Vec<u16>,
    pub(super) names: Names<'a>,
}

/// What codes stand for.
#[derive(Debug)]
pub(super) enum Names<'a> {
    /// The block's own dictionary.
    Strings(Strings<'a>),
    /// A dictionary that was made.
    Parts(Vec<Part>),
}

impl Names<'_> {
    pub(super) fn part(&self, code: u16) -> Part {
        match self {
            Self::Strings(strings) => string_part(strings, code),
            Self::Parts(parts) => {
                let part = parts.get(usize::from(code)).cloned();
                part.unwrap_or(Part::Text(Vec::new()))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Strings(strings) => strings.len(),
            Self::Parts(parts) => parts.len(),
        }
    }
}

impl<'a> Local<'a> {
    /// All rows have the one name there is.
    pub(super) fn one(names: Names<'a>) -> Self {
        Self {
            codes: Vec::new(),
            names,
        }
    }

    /// Numbers of which a block has few different ones.
    pub(super) fn of_numbers(values: impl Iterator<Item = u64>) -> Self {
        let mut codes = Vec::new();
        let mut index: HashMap<u64, u16> = HashMap::new();
        let mut parts = Vec::new();
        let mut last = None;
        for value in values {
            let code = match last {
                // Most rows are like the one before.
                Some((before, code)) if before == value => code,
                Some(_) | None => *index.entry(value).or_insert_with(|| {
                    parts.push(Part::Number(value));
                    code_of(parts.len() - 1)
                }),
            };
            last = Some((value, code));
            codes.push(code);
        }
        Self {
            codes,
            names: Names::Parts(parts),
        }
    }

    /// The starts of the stretches in which times lie.
    pub(super) fn of_times(values: Values<'_>, stretch: Stretch) -> Self {
        const MINUTE: u64 = Stretch::Minute.micros();
        const HOUR: u64 = Stretch::Hour.micros();
        const DAY: u64 = Stretch::Day.micros();
        // Each length is a constant, so that the division becomes a multiplication.
        match stretch {
            Stretch::Minute => Self::of_numbers(values.iter().map(|at| at / MINUTE * MINUTE)),
            Stretch::Hour => Self::of_numbers(values.iter().map(|at| at / HOUR * HOUR)),
            Stretch::Day => Self::of_numbers(values.iter().map(|at| at / DAY * DAY)),
        }
    }

    /// Texts of which each row has its own; only those of selected rows are looked at.
    pub(super) fn of_texts<'t>(
        all: usize,
        rows: &Rows<'_>,
        text: impl Fn(usize) -> &'t [u8],
    ) -> Self {
        let mut codes = vec![0; all];
        let mut index: HashMap<&[u8], u16> = HashMap::new();
        let mut parts = Vec::new();
        let mut add = |row: usize| {
            let text = text(row);
            let code = *index.entry(text).or_insert_with(|| {
                parts.push(Part::Text(text.to_vec()));
                code_of(parts.len() - 1)
            });
            if let Some(slot) = codes.get_mut(row) {
                *slot = code;
            }
        };
        match rows {
            Rows::All(count) => (0..*count).for_each(&mut add),
            Rows::Some(rows) => rows.iter().for_each(|row| add(*row as usize)),
        }
        Self {
            codes,
            names: Names::Parts(parts),
        }
    }

    /// The same with other names, of which several may be alike.
    pub(super) fn mapped(self, name: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let Names::Parts(parts) = self.names else {
            return self;
        };
        let mut index: HashMap<Vec<u8>, u16> = HashMap::new();
        let mut named = Vec::new();
        let map: Vec<u16> = parts
            .iter()
            .map(|part| {
                let text = match part {
                    Part::Text(text) => name(text),
                    Part::Number(_) => Vec::new(),
                };
                *index.entry(text).or_insert_with_key(|text| {
                    named.push(Part::Text(text.clone()));
                    code_of(named.len() - 1)
                })
            })
            .collect();
        let codes = self.codes.iter();
        Self {
            codes: codes
                .map(|code| map.get(usize::from(*code)).copied().unwrap_or(0))
                .collect(),
            names: Names::Parts(named),
        }
    }

    fn is_one(&self) -> bool {
        self.codes.is_empty()
    }
}

/// The codes of a column whose dictionary has so many strings; what is none of them becomes code 0.
pub(super) fn codes_of(slots: Slots<'_>, strings: usize) -> Vec<u16> {
    let last = code_of(strings.saturating_sub(1));
    let clamp = |code: u16| if code <= last { code } else { 0 };
    match slots {
        Slots::One(codes) => codes.iter().map(|code| clamp((*code).into())).collect(),
        Slots::Two(codes) => {
            let codes = codes.iter();
            codes.map(|code| clamp(u16::from_le_bytes(*code))).collect()
        }
        // Nobody writes such codes.
        Slots::Four(_) | Slots::Eight(_) => vec![0; slots.len()],
    }
}

/// The code of the value, or the group, in place `index`: below the rows of a block.
fn code_of(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Most combinations of codes that have a slot each; beyond that they are looked up by hash.
const SLOTS_MAX: u64 = 1 << 16;

/// Gives each selected row the number of its group, in `group_of`. Returns the codes of each
/// group; a group may have no row.
pub(super) fn number_rows(
    keys: &mut [Local<'_>],
    rows: &Rows<'_>,
    group_of: &mut Vec<u16>,
) -> Vec<[u16; KEYS_MAX]> {
    group_of.clear();
    let many: Vec<usize> = (0..keys.len().min(KEYS_MAX))
        .filter(|index| !keys[*index].is_one())
        .collect();
    match many.as_slice() {
        [] => {
            group_of.resize(rows.len(), 0);
            vec![[0; KEYS_MAX]]
        }
        // The codes of a single key are the groups.
        [only] => {
            let codes = &mut keys[*only].codes;
            match rows {
                // Nobody else asks for them.
                Rows::All(_) => std::mem::swap(group_of, codes),
                Rows::Some(rows) => group_of.extend(
                    rows.iter()
                        .map(|row| codes.get(*row as usize).copied().unwrap_or(0)),
                ),
            }
            let groups = (0..=u16::MAX).take(keys[*only].names.len().max(1));
            groups
                .map(|code| {
                    let mut codes = [0; KEYS_MAX];
                    codes[*only] = code;
                    codes
                })
                .collect()
        }
        many => number_combined(keys, many, rows, group_of),
    }
}

fn number_combined(
    keys: &[Local<'_>],
    many: &[usize],
    rows: &Rows<'_>,
    group_of: &mut Vec<u16>,
) -> Vec<[u16; KEYS_MAX]> {
    // At most five factors of at most 8,193 each: 2⁶⁵, which 128 bits hold.
    let size = |index: &usize| keys[*index].names.len().max(1) as u128;
    let combinations: u128 = many.iter().map(size).product();
    let mut groups = Vec::new();
    let codes_of = |row: usize| {
        let mut codes = [0; KEYS_MAX];
        let mut number = 0u128;
        for index in many {
            let code = keys[*index].codes.get(row).copied().unwrap_or(0);
            codes[*index] = code;
            number = number * size(index) + u128::from(code);
        }
        (codes, number)
    };
    if combinations <= u128::from(SLOTS_MAX) {
        let mut slots = vec![u16::MAX; usize::try_from(combinations).unwrap_or(0)];
        rows.each_row(|row| {
            let mut slot = 0;
            for index in many {
                let key = &keys[*index];
                slot = slot * key.names.len().max(1)
                    + key.codes.get(row).copied().unwrap_or(0) as usize;
            }
            let group = match slots.get(slot) {
                Some(group) if *group != u16::MAX => *group,
                Some(_) | None => {
                    groups.push(codes_of(row).0);
                    let group = code_of(groups.len() - 1);
                    if let Some(slot) = slots.get_mut(slot) {
                        *slot = group;
                    }
                    group
                }
            };
            group_of.push(group);
        });
        return groups;
    }
    let mut index: HashMap<u128, u16> = HashMap::new();
    rows.each_row(|row| {
        let (codes, number) = codes_of(row);
        group_of.push(*index.entry(number).or_insert_with(|| {
            groups.push(codes);
            code_of(groups.len() - 1)
        }));
    });
    groups
}

impl Rows<'_> {
    fn each_row(&self, visit: impl FnMut(usize)) {
        match self {
            Self::All(count) => (0..*count).for_each(visit),
            Self::Some(rows) => rows.iter().map(|row| *row as usize).for_each(visit),
        }
    }
}
