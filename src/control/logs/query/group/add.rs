//! The loops that add a column up, by group or as a whole.

use super::Rows;
use crate::control::{
    logs::{
        block::{Cell, Numbers, Slots, U64, Values, with_cells},
        query::mask::Mask,
    },
    rollup::sketch::{Sketch, bucket_of, bucket_of_narrow},
};

impl Rows<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(rows) => rows.len(),
        }
    }

    /// Calls `visit` with each row and its group.
    #[inline]
    pub(super) fn each(&self, group_of: &[u16], mut visit: impl FnMut(usize, usize)) {
        match self {
            Self::All(count) => {
                for (row, group) in (0..*count).zip(group_of) {
                    visit(row, usize::from(*group));
                }
            }
            Self::Some(rows) => {
                for (row, group) in rows.iter().zip(group_of) {
                    visit(*row as usize, usize::from(*group));
                }
            }
        }
    }

    /// Calls `visit` with each row's group and its value.
    #[inline]
    pub(super) fn each_value<C: Cell>(
        &self,
        group_of: &[u16],
        values: &[C],
        mut visit: impl FnMut(usize, u64),
    ) {
        match self {
            Self::All(_) => {
                for (group, value) in group_of.iter().zip(values) {
                    visit(usize::from(*group), value.wide());
                }
            }
            Self::Some(rows) => {
                for (row, group) in rows.iter().zip(group_of) {
                    if let Some(value) = values.get(*row as usize) {
                        visit(usize::from(*group), value.wide());
                    }
                }
            }
        }
    }
}

/// Counts the rows of each group.
pub(super) fn count(counts: &mut Vec<u64>, groups: usize, group_of: &[u16]) {
    counts.clear();
    counts.resize(groups, 0);
    if let [one] = &mut counts[..] {
        *one = group_of.len() as u64;
        return;
    }
    let mut lanes = vec![[0u64; LANES]; groups];
    let (fours, rest) = group_of.as_chunks::<LANES>();
    for four in fours {
        for (lane, group) in four.iter().enumerate() {
            lanes[usize::from(*group)][lane] += 1;
        }
    }
    for group in rest {
        lanes[usize::from(*group)][0] += 1;
    }
    for (count, lanes) in counts.iter_mut().zip(lanes) {
        *count = lanes.iter().sum();
    }
}

/// Sums of each group that are kept apart: neighbours are often of one group, and so no addition
/// waits for the one before.
const LANES: usize = 4;

/// Sums a column up by group, none of whose values is greater than `max`; what is unknown adds
/// nothing.
pub(super) fn sum(
    sums: &mut Vec<u128>,
    groups: usize,
    rows: &Rows<'_>,
    group_of: &[u16],
    numbers: Numbers<'_>,
    max: u64,
) {
    sums.clear();
    let values = match numbers {
        Numbers::Unknown => {
            sums.resize(groups, 0);
            return;
        }
        // Unknown values are stored as 0.
        Numbers::Each(values) | Numbers::Some { values, .. } => values,
    };
    let is_narrow = max.checked_mul(values.len() as u64).is_some();
    with_cells!(values.slots, cells => sum_cells(sums, groups, rows, group_of, cells, is_narrow));
    if values.base > 0 {
        rows.each(group_of, |_, group| sums[group] += u128::from(values.base));
    }
}

/// The same for stored numbers. `is_narrow`: no sum overflows 64 bits.
fn sum_cells<C: Cell>(
    sums: &mut Vec<u128>,
    groups: usize,
    rows: &Rows<'_>,
    group_of: &[u16],
    cells: &[C],
    is_narrow: bool,
) {
    if !is_narrow {
        sums.resize(groups, 0);
        rows.each_value(group_of, cells, |group, value| {
            sums[group] += u128::from(value);
        });
        return;
    }
    if let Rows::All(_) = rows {
        sums.extend(sum_all(groups, group_of, cells).map(u128::from));
        return;
    }
    let mut narrow = vec![0u64; groups];
    rows.each_value(group_of, cells, |group, value| {
        narrow[group] = narrow[group].wrapping_add(value);
    });
    sums.extend(narrow.into_iter().map(u128::from));
}

/// Sums by group of all rows' values, which do not overflow.
fn sum_all<C: Cell>(
    groups: usize,
    group_of: &[u16],
    values: &[C],
) -> impl Iterator<Item = u64> + use<C> {
    let mut lanes = vec![[0u64; LANES]; groups];
    let (fours, rest) = group_of.as_chunks::<LANES>();
    let (value_fours, value_rest) = values.as_chunks::<LANES>();
    for (four, values) in fours.iter().zip(value_fours) {
        for (lane, (group, value)) in four.iter().zip(values).enumerate() {
            let sum = &mut lanes[usize::from(*group)][lane];
            *sum = sum.wrapping_add(value.wide());
        }
    }
    for (group, value) in rest.iter().zip(value_rest) {
        let sum = &mut lanes[usize::from(*group)][0];
        *sum = sum.wrapping_add(value.wide());
    }
    lanes.into_iter().map(|lanes| {
        lanes
            .iter()
            .fold(0, |sum: u64, lane| sum.wrapping_add(*lane))
    })
}

/// Counts a time of each row in the histogram of its group; `has_rows` says of each group whether it
/// has any.
pub(super) fn record_values(
    sketches: &mut [Sketch],
    has_rows: impl Fn(usize) -> bool,
    rows: &Rows<'_>,
    group_of: &[u16],
    values: Values<'_>,
) {
    let base = values.base;
    let mut groups = sketches.iter().enumerate();
    if base > 0 || groups.any(|(group, sketch)| has_rows(group) && !sketch.is_table()) {
        with_cells!(values.slots, cells => rows.each_value(group_of, cells, |group, value| {
            sketches[group].record(base.wrapping_add(value));
        }));
        return;
    }
    let mut tables: Vec<_> = sketches.iter_mut().map(Sketch::table).collect();
    let mut count = |group: usize, bucket: u16| {
        if let Some(Some(table)) = tables.get_mut(group) {
            table[usize::from(bucket)] += 1;
        }
    };
    if let Slots::Four(cells) = values.slots {
        rows.each_value(group_of, cells, |group, value| {
            #[expect(clippy::cast_possible_truncation, reason = "of four bytes")]
            count(group, bucket_of_narrow(value as u32));
        });
        return;
    }
    with_cells!(values.slots, cells => rows.each_value(group_of, cells, |group, value| {
        count(group, bucket_of(value));
    }));
}

/// Counts by group the rows in which one of `columns` is unknown.
pub(super) fn count_unknown(
    counts: &mut Vec<u64>,
    groups: usize,
    rows: &Rows<'_>,
    group_of: &[u16],
    columns: &[Numbers<'_>],
) {
    counts.clear();
    counts.resize(groups, 0);
    let mut partly = Vec::new();
    for column in columns {
        match column {
            Numbers::Each(_) => {}
            Numbers::Unknown => {
                count(counts, groups, group_of);
                return;
            }
            Numbers::Some { known, .. } => partly.push(*known),
        }
    }
    if partly.is_empty() {
        return;
    }
    if let Rows::All(_) = rows {
        // Most rows know all, so those that do not are looked for, 64 at once.
        for (index, groups) in group_of.chunks(64).enumerate() {
            let mut unknown = unknown_of(&partly, index, groups.len());
            while unknown != 0 {
                let row = unknown.trailing_zeros() as usize;
                unknown &= unknown - 1;
                if let Some(group) = groups.get(row) {
                    counts[usize::from(*group)] += 1;
                }
            }
        }
        return;
    }
    rows.each(group_of, |row, group| {
        let known = partly.iter().all(|known| {
            let word = known.get(row / 64).map_or(0, |word| word.to_native());
            word >> (row % 64) & 1 == 1
        });
        counts[group] += u64::from(!known);
    });
}

/// The sum of the values of the rows in `mask`, none of which is greater than `max`.
pub(in crate::control::logs::query) fn sum_masked(
    mask: &Mask,
    numbers: Numbers<'_>,
    max: u64,
) -> u128 {
    let values = match numbers {
        Numbers::Unknown => return 0,
        // Unknown values are stored as 0.
        Numbers::Each(values) | Numbers::Some { values, .. } => values,
    };
    let rows = mask.rows();
    let sum = match values.slots {
        Slots::One(cells) => sum_small(rows, cells, |cell| u32::from(*cell)),
        Slots::Two(cells) => sum_small(rows, cells, |cell| u16::from_le_bytes(*cell).into()),
        Slots::Four(cells) => {
            let low = |cell: &[u8; 4]| u32::from_le_bytes(*cell) & 0xffff;
            let high = |cell: &[u8; 4]| u32::from_le_bytes(*cell) >> 16;
            sum_small(rows, cells, low) + (sum_small(rows, cells, high) << 16)
        }
        Slots::Eight(cells) => {
            let is_narrow = max.checked_mul(values.len() as u64).is_some();
            sum_wide(rows, cells, is_narrow)
        }
    };
    if values.base > 0 {
        return sum + u128::from(values.base) * mask.count() as u128;
    }
    sum
}

/// Rows whose numbers of 16 bits add up to less than 32 bits: sums of so many vectorise best.
const SMALL_ROWS: usize = 1 << 14;

/// The same for what `of` makes of stored numbers, which takes 16 bits.
#[inline]
fn sum_small<C>(rows: &[u8], cells: &[C], of: impl Fn(&C) -> u32) -> u128 {
    let pieces = rows.chunks(SMALL_ROWS).zip(cells.chunks(SMALL_ROWS));
    let sums = pieces.map(|(rows, cells)| {
        let sum = rows.iter().zip(cells).fold(0u32, |sum, (row, cell)| {
            sum.wrapping_add(of(cell) & 0u32.wrapping_sub(u32::from(*row)))
        });
        u128::from(sum)
    });
    sums.sum()
}

/// The same for numbers of 64 bits. `is_narrow`: the sum does not overflow them.
fn sum_wide(rows: &[u8], cells: &[[u8; 8]], is_narrow: bool) -> u128 {
    let rows = rows.iter().zip(cells);
    if !is_narrow {
        return rows
            .map(|(row, cell)| u128::from(cell.wide()) * u128::from(*row))
            .sum();
    }
    u128::from(rows.fold(0u64, |sum, (row, cell)| {
        sum.wrapping_add(cell.wide() & 0u64.wrapping_sub(u64::from(*row)))
    }))
}

/// How many rows in `mask` lack one of `columns`.
pub(super) fn unknown_masked(mask: &Mask, columns: &[Numbers<'_>]) -> u64 {
    let mut partly = Vec::new();
    for column in columns {
        match column {
            Numbers::Each(_) => {}
            Numbers::Unknown => return mask.count() as u64,
            Numbers::Some { known, .. } => partly.push(*known),
        }
    }
    if partly.is_empty() {
        return 0;
    }
    let words = mask.rows().chunks(64).enumerate().map(|(index, rows)| {
        let mut unknown = unknown_of(&partly, index, rows.len());
        let mut count = 0;
        while unknown != 0 {
            let row = unknown.trailing_zeros() as usize;
            unknown &= unknown - 1;
            count += rows.get(row).map_or(0, |row| u64::from(*row));
        }
        count
    });
    words.sum()
}

/// The rows of word `index`, of which there are `rows`, that lack one of the columns with these
/// bitmaps.
fn unknown_of(partly: &[&[U64]], index: usize, rows: usize) -> u64 {
    let known = partly.iter().fold(u64::MAX, |all, known| {
        all & known.get(index).map_or(0, |word| word.to_native())
    });
    let there = u64::MAX >> (64 - rows.clamp(1, 64));
    !known & there
}
