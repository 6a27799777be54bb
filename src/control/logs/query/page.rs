//! Pages of rows, in any order, with what the management API tells beside them.
//!
//! The order by time is that of beginning, then of ids, and needs memory for the page only: the
//! rows of each block are counted, and the times between which the page lies are found by halving.
//! Other orders keep the rows up to the page's end in memory, which bounds how deep a page can lie.

use std::{cmp::Reverse, collections::BinaryHeap, io, ops::ControlFlow};

use super::{
    ScanReport,
    mask::Mask,
    select::{Limit, Select},
};
use crate::{
    control::logs::{
        block::{Block, BlockError, Number, Numbers, Range, TextCells, U32},
        filter::{
            Filter, Said,
            contract::list::{ListQuery, OrderBy, OrderDirection},
            field::model_type,
        },
        snapshot::{BlockRef, LogSnapshot},
    },
    domain::{
        id::RequestId,
        outcome::Outcome,
        record::{Record, Text, flag},
    },
};

/// Where a row stands among others of the same filter: time of beginning, then id.
pub type Place = (u64, [u8; 16]);

/// Most rows that are kept to find a page: bounds how deep a page can lie that is not in the order
/// of time, and how many rows of the same microsecond a page in the order of time can pass over.
const KEPT_MAX: u64 = 200_000;

/// Which rows of those that pass.
#[derive(Debug, Clone)]
pub struct PageOf {
    /// By what they are put in order.
    pub order_by: OrderBy,
    /// Which end comes first.
    pub direction: OrderDirection,
    /// Rows to pass over.
    pub offset: u64,
    /// Most rows to give.
    pub rows: usize,
    /// Only rows that come after this one; in the order of time only.
    pub after: Option<Place>,
    /// Whether all rows that pass are counted.
    pub count: bool,
    /// Whether their least and greatest values are found.
    pub ranges: bool,
}

impl PageOf {
    /// The newest `rows` rows.
    pub fn newest(rows: usize) -> Self {
        Self {
            order_by: OrderBy::CreatedAt,
            direction: OrderDirection::Descending,
            offset: 0,
            rows,
            after: None,
            count: false,
            ranges: false,
        }
    }
}

impl From<&ListQuery> for PageOf {
    /// The page that a query of the management API asks for.
    fn from(query: &ListQuery) -> Self {
        let rows = u64::from(query.per_page);
        Self {
            order_by: query.order_by,
            direction: query.direction,
            offset: query.page.saturating_sub(1).saturating_mul(rows),
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            after: None,
            count: true,
            ranges: query.meta_info,
        }
    }
}

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows in order.
    pub records: Vec<Record>,
    /// How many rows pass in all, if that was asked.
    pub total: Option<u64>,
    /// Their least and greatest values, if these were asked.
    pub ranges: Option<Ranges>,
    /// What was met.
    pub report: ScanReport,
}

/// The least and greatest known values of the rows that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// Pico-dollars.
    pub cost: Range,
    /// Microseconds.
    pub duration: Range,
    /// Input tokens.
    pub tokens_in: Range,
    /// Output tokens.
    pub tokens_out: Range,
    /// Input and output tokens together.
    pub tokens: Range,
}

/// Why a page cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It lies too deep.
    #[error(
        "a page this far down can only be had in the order of created_at; narrow the filter, or \
         export the rows"
    )]
    Deep,
    /// So many rows cannot be put in order, and more than that pass.
    #[error(
        "more rows match than this, and so many cannot be put in order; take at most 200000, or \
         narrow the filter"
    )]
    Many,
    /// The log cannot be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
}

/// Gives a page of the rows that pass `filter`.
pub fn page(
    snapshot: &LogSnapshot,
    filter: &Filter,
    wanted: &PageOf,
    limit: Limit,
) -> Result<Page, PageError> {
    let mut select = Select::new(snapshot, filter, limit);
    let mut page = Page::default();
    let is_by_time = wanted.order_by == OrderBy::CreatedAt;
    let is_deep = is_by_time && wanted.offset > DEEP_ROWS;
    let mut counts = Vec::new();
    if wanted.count || wanted.ranges || is_deep {
        let mut ranges = Ranges::NONE;
        select.each(snapshot.blocks(), |at, block, mask| {
            counts.push((*at, mask.count() as u64));
            if wanted.ranges {
                ranges.add(block, mask)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        let total = counts.iter().map(|(_, count)| count).sum();
        page.total = Some(total);
        page.ranges = wanted.ranges.then_some(ranges);
        if wanted.offset >= total || wanted.rows == 0 {
            page.report = select.report;
            return Ok(page);
        }
    }
    let mut window = Window {
        from: wanted.offset,
        bounds: (0, u64::MAX),
    };
    if is_deep {
        window = deep_window(&mut select, &counts, wanted);
    }
    let kept = window.from.saturating_add(wanted.rows as u64);
    if kept > KEPT_MAX {
        return Err(PageError::Deep);
    }
    let mut best = Best::new(wanted, usize::try_from(kept).unwrap_or(usize::MAX), window);
    let blocks: Vec<BlockRef<'_>> = match wanted.direction {
        OrderDirection::Descending => snapshot.blocks().rev().collect(),
        OrderDirection::Ascending => snapshot.blocks().collect(),
    };
    best.find(&mut select, &blocks);
    let skip = usize::try_from(best.window.from).unwrap_or(usize::MAX);
    let found = best.into_order();
    page.records = records(&mut select, &blocks, found.get(skip..).unwrap_or_default());
    page.report = select.report;
    Ok(page)
}

/// The ids of the rows that pass `filter`, for an order to delete them. With `most`, so many at
/// most: the first in the order of `wanted`, whose other bounds do not count.
pub fn ids(
    snapshot: &LogSnapshot,
    filter: &Filter,
    wanted: &PageOf,
    most: Option<u64>,
) -> Result<(Vec<RequestId>, ScanReport), PageError> {
    let mut select = Select::new(snapshot, filter, Limit::default());
    let mut found = Vec::new();
    if let Some(most) = most.filter(|most| *most <= KEPT_MAX) {
        let window = Window {
            from: 0,
            bounds: (0, u64::MAX),
        };
        let mut best = Best::new(wanted, usize::try_from(most).unwrap_or(usize::MAX), window);
        let blocks: Vec<_> = snapshot.blocks().collect();
        best.find(&mut select, &blocks);
        found.extend(best.into_order().iter().map(|row| RequestId(row.place.1)));
        return Ok((found, select.report));
    }
    let mut rows = Vec::new();
    select.each(snapshot.blocks(), |_, block, mask| {
        let ids = block.ids()?;
        mask.select(&mut rows);
        let passing = rows.iter().filter_map(|row| ids.get(*row as usize));
        found.extend(passing.map(|id| RequestId(*id)));
        Ok(ControlFlow::Continue(()))
    });
    if most.is_some_and(|most| found.len() as u64 > most) {
        return Err(PageError::Many);
    }
    Ok((found, select.report))
}

/// The greatest id of the rows that pass `filter`.
pub fn greatest_id(snapshot: &LogSnapshot, filter: &Filter) -> (Option<RequestId>, ScanReport) {
    let mut select = Select::new(snapshot, filter, Limit::default());
    let mut greatest: Option<[u8; 16]> = None;
    let mut rows = Vec::new();
    // Newest first: most blocks have no greater one then, and need no look at their rows.
    select.each(snapshot.blocks().rev(), |_, block, mask| {
        if greatest.is_none_or(|greatest| block.zone().id_max > greatest) {
            let ids = block.ids()?;
            mask.select(&mut rows);
            let passing = rows.iter().filter_map(|row| ids.get(*row as usize));
            greatest = greatest.max(passing.max().copied());
        }
        Ok(ControlFlow::Continue(()))
    });
    (greatest.map(RequestId), select.report)
}

/// Rows to pass over from which on the page's times are found first.
const DEEP_ROWS: u64 = 1_000;

/// The rows in question: those with times within bounds, and of these those from one on.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: u64,
    bounds: (u64, u64),
}

/// Finds the time of the row that the page begins with.
fn deep_window(select: &mut Select<'_>, counts: &[(BlockRef<'_>, u64)], wanted: &PageOf) -> Window {
    let is_descending = wanted.direction == OrderDirection::Descending;
    // The rows that come before those at `time`.
    let before = |time: u64| -> u64 {
        let is_before = |at: u64| if is_descending { at > time } else { at < time };
        let mut mask = Mask::default();
        let mut sum = 0;
        for (at, count) in counts {
            let times = at.micros();
            if is_before(*times.start()) && is_before(*times.end()) {
                sum += count;
            } else if is_before(*times.start()) || is_before(*times.end()) {
                sum += count_before(select, at, &mut mask, is_before).unwrap_or(0);
            }
        }
        sum
    };
    // The time nearest to the page's first row, before which come no more than are passed over.
    let (mut low, mut high) = (0u64, u64::MAX);
    while low < high {
        if is_descending {
            let middle = low + (high - low) / 2;
            if before(middle) <= wanted.offset {
                high = middle;
            } else {
                low = middle + 1;
            }
        } else {
            let middle = low + (high - low).div_ceil(2);
            if before(middle) <= wanted.offset {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
    }
    Window {
        from: wanted.offset - before(low).min(wanted.offset),
        bounds: if is_descending {
            (0, low)
        } else {
            (low, u64::MAX)
        },
    }
}

fn count_before(
    select: &Select<'_>,
    at: &BlockRef<'_>,
    mask: &mut Mask,
    is_before: impl Fn(u64) -> bool,
) -> Option<u64> {
    let open = at.open().ok()?;
    let block = open.block().ok()?;
    if !select.passing(&block, mask).ok()? {
        return Some(0);
    }
    let times = block.numbers(Number::At).ok()?;
    mask.retain(|row| is_before(times.get(row).unwrap_or(0)));
    Some(mask.count() as u64)
}

/// What a row is put in order by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    None,
    Number(Option<u64>),
    Text(Vec<u8>),
}

/// A row of a block, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    rank: Rank,
    place: Place,
    block: usize,
    index: usize,
}

/// The first rows in some order.
struct Best<'w> {
    wanted: &'w PageOf,
    kept: usize,
    window: Window,
    /// For the descending order: the last of them on top.
    greatest: BinaryHeap<Reverse<Row>>,
    /// For the ascending one.
    least: BinaryHeap<Row>,
}

impl<'w> Best<'w> {
    fn new(wanted: &'w PageOf, kept: usize, window: Window) -> Self {
        Self {
            wanted,
            kept,
            window,
            greatest: BinaryHeap::new(),
            least: BinaryHeap::new(),
        }
    }

    fn find<'s>(&mut self, select: &mut Select<'s>, blocks: &[BlockRef<'s>]) {
        for (index, at) in blocks.iter().enumerate() {
            // What lies behind the last row that is kept needs no look.
            let times = at.micros();
            if self.is_behind(*times.start(), *times.end()) {
                continue;
            }
            let filter = select.filter;
            select.each(std::iter::once(*at), |_, block, mask| {
                self.add(index, block, mask, filter.said())?;
                Ok(ControlFlow::Continue(()))
            });
            if select.report.partial {
                return;
            }
        }
    }

    fn is_behind(&self, start: u64, end: u64) -> bool {
        if end < self.window.bounds.0 || start > self.window.bounds.1 {
            return true;
        }
        if self.wanted.order_by != OrderBy::CreatedAt {
            return false;
        }
        match self.wanted.direction {
            OrderDirection::Descending => {
                let last = self.greatest.peek().map(|Reverse(row)| row.place.0);
                self.wanted.after.is_some_and(|(at, _)| start > at)
                    || self.is_full() && last.is_some_and(|last| end < last)
            }
            OrderDirection::Ascending => {
                let last = self.least.peek().map(|row| row.place.0);
                self.wanted.after.is_some_and(|(at, _)| end < at)
                    || self.is_full() && last.is_some_and(|last| start > last)
            }
        }
    }

    fn is_full(&self) -> bool {
        self.greatest.len() + self.least.len() >= self.kept
    }

    fn add(
        &mut self,
        index: usize,
        block: &Block<'_>,
        mask: &Mask,
        said: &Said,
    ) -> Result<(), BlockError> {
        let (times, ids) = (block.numbers(Number::At)?, block.ids()?);
        let ranks = Ranks::of(block, self.wanted.order_by, said)?;
        let bounds = self.window.bounds.0..=self.window.bounds.1;
        let mut selected = Vec::new();
        mask.select(&mut selected);
        for row in selected {
            let row = row as usize;
            let at = times.get(row).unwrap_or(0);
            let Some(id) = ids.get(row).filter(|_| bounds.contains(&at)) else {
                continue;
            };
            let place = (at, *id);
            let is_passed = self
                .wanted
                .after
                .is_some_and(|after| match self.wanted.direction {
                    OrderDirection::Descending => place >= after,
                    OrderDirection::Ascending => place <= after,
                });
            if is_passed {
                continue;
            }
            self.push(Row {
                rank: ranks.get(row),
                place,
                block: index,
                index: row,
            });
        }
        Ok(())
    }

    fn push(&mut self, row: Row) {
        match self.wanted.direction {
            OrderDirection::Descending => {
                self.greatest.push(Reverse(row));
                if self.greatest.len() > self.kept {
                    self.greatest.pop();
                }
            }
            OrderDirection::Ascending => {
                self.least.push(row);
                if self.least.len() > self.kept {
                    self.least.pop();
                }
            }
        }
    }

    fn into_order(self) -> Vec<Row> {
        match self.wanted.direction {
            OrderDirection::Descending => {
                let rows = self.greatest.into_sorted_vec().into_iter();
                rows.map(|Reverse(row)| row).collect()
            }
            OrderDirection::Ascending => self.least.into_sorted_vec(),
        }
    }
}

/// What the rows of a block are put in order by.
enum Ranks<'a> {
    None,
    Numbers(Numbers<'a>),
    Texts(TextCells<'a>),
    /// The name in its normalised form; where there is none, the one that was asked for.
    Models(TextCells<'a>, TextCells<'a>),
    ModelTypes(TextCells<'a>),
    Success(&'a [u8]),
    Cached(&'a [U32]),
    Feedback(&'a [[u8; 16]], &'a Said),
}

impl<'a> Ranks<'a> {
    fn of(block: &Block<'a>, order_by: OrderBy, said: &'a Said) -> Result<Self, BlockError> {
        Ok(match order_by {
            OrderBy::CreatedAt => Self::None,
            OrderBy::Feedback => Self::Feedback(block.ids()?, said),
            OrderBy::Provider => Self::Texts(block.texts(Text::Provider)?),
            OrderBy::Model => {
                Self::Models(block.texts(Text::ModelName)?, block.texts(Text::Model)?)
            }
            OrderBy::ModelType => Self::ModelTypes(block.texts(Text::Path)?),
            OrderBy::Success => Self::Success(block.outcomes()?),
            OrderBy::Cached => Self::Cached(block.flags()?),
            OrderBy::Cost => Self::Numbers(block.numbers(Number::Cost)?),
            OrderBy::TokensIn => Self::Numbers(block.numbers(Number::TokensInput)?),
            OrderBy::TokensOut => Self::Numbers(block.numbers(Number::TokensOutput)?),
            OrderBy::Duration => Self::Numbers(block.numbers(Number::Duration)?),
        })
    }

    fn get(&self, row: usize) -> Rank {
        match self {
            Self::None => Rank::None,
            Self::Numbers(numbers) => Rank::Number(numbers.get(row)),
            Self::Texts(texts) => Rank::Text(texts.get(row).to_vec()),
            Self::Models(names, asked) => Rank::Text(match names.get(row) {
                b"" => asked.get(row).to_vec(),
                name => name.to_vec(),
            }),
            Self::ModelTypes(paths) => Rank::Text(model_type(paths.get(row)).into()),
            Self::Success(outcomes) => {
                let success = outcomes.get(row) == Some(&(Outcome::Ok as u8));
                Rank::Number(Some(success.into()))
            }
            Self::Cached(flags) => {
                let flags = flags.get(row).map_or(0, |flags| flags.to_native());
                Rank::Number(Some((flags & flag::CACHED != 0).into()))
            }
            // Without a word about it a row comes before those with one, thumbs down before up.
            Self::Feedback(ids, said) => {
                let feedback = ids.get(row).and_then(|id| said.feedback(id));
                Rank::Number(feedback.map(|thumb| thumb.saturating_add(1).max(0).unsigned_abs()))
            }
        }
    }
}

/// Takes rows out of their blocks, in the order given.
fn records(select: &mut Select<'_>, blocks: &[BlockRef<'_>], rows: &[Row]) -> Vec<Record> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|index| rows.get(*index).map(|row| row.block));
    let mut found: Vec<Option<Record>> = vec![None; rows.len()];
    for group in order.chunk_by(|a, b| rows[*a].block == rows[*b].block) {
        let Some(at) = group
            .first()
            .and_then(|index| blocks.get(rows[*index].block))
        else {
            continue;
        };
        let taken = at.open().and_then(|open| {
            let reader = open.block().and_then(|block| block.reader());
            let reader = reader.map_err(|error| at.damage(error))?;
            for index in group {
                found[*index] = reader.record(rows[*index].index);
            }
            Ok(())
        });
        if let Err(damage) = taken {
            select.report.damages.push(damage);
        }
    }
    found.into_iter().flatten().collect()
}

impl Ranges {
    /// No row.
    pub const NONE: Self = Self {
        cost: Range::NONE,
        duration: Range::NONE,
        tokens_in: Range::NONE,
        tokens_out: Range::NONE,
        tokens: Range::NONE,
    };

    /// Takes rows in.
    fn add(&mut self, block: &Block<'_>, mask: &Mask) -> Result<(), BlockError> {
        let zone = block.zone();
        if mask.is_full() {
            for (mine, theirs) in [
                (&mut self.cost, zone.cost),
                (&mut self.duration, zone.duration),
                (&mut self.tokens_in, zone.tokens_input),
                (&mut self.tokens_out, zone.tokens_output),
                (&mut self.tokens, zone.tokens_total),
            ] {
                if !theirs.is_empty() {
                    mine.add(theirs.min);
                    mine.add(theirs.max);
                }
            }
            return Ok(());
        }
        let input = block.numbers(Number::TokensInput)?;
        let output = block.numbers(Number::TokensOutput)?;
        let (cost, duration) = (
            block.numbers(Number::Cost)?,
            block.numbers(Number::Duration)?,
        );
        let mut rows = Vec::new();
        mask.select(&mut rows);
        for row in rows {
            let row = row as usize;
            let (input, output) = (input.get(row), output.get(row));
            let tokens = (input.is_some() || output.is_some())
                .then(|| input.unwrap_or(0).saturating_add(output.unwrap_or(0)));
            for (range, value) in [
                (&mut self.cost, cost.get(row)),
                (&mut self.duration, duration.get(row)),
                (&mut self.tokens_in, input),
                (&mut self.tokens_out, output),
                (&mut self.tokens, tokens),
            ] {
                if let Some(value) = value {
                    range.add(value);
                }
            }
        }
        Ok(())
    }
}

/// The record with `id`, if it may be served.
pub fn find(snapshot: &LogSnapshot, id: RequestId) -> (Option<Record>, ScanReport) {
    let everything = Filter::default();
    let mut select = Select::new(snapshot, &everything, Limit::default());
    let mut found = None;
    // Newest first: that is what is looked at.
    for at in snapshot.blocks().rev() {
        let opened = at.open().and_then(|open| {
            let look = open.block().and_then(|block| {
                let zone = block.zone();
                if !(zone.id_min..=zone.id_max).contains(&id.0) {
                    return Ok(None);
                }
                let Some(row) = block.ids()?.iter().position(|other| *other == id.0) else {
                    return Ok(None);
                };
                let visible = snapshot.visible(&block)?;
                let is_visible = visible.is_none_or(|bits| {
                    bits.get(row / 64)
                        .is_some_and(|word| word >> (row % 64) & 1 == 1)
                });
                Ok(if is_visible {
                    block.reader()?.record(row)
                } else {
                    None
                })
            });
            look.map_err(|error| at.damage(error))
        });
        match opened {
            Ok(None) => {}
            Ok(record) => {
                found = record;
                break;
            }
            Err(damage) => select.report.damages.push(damage),
        }
    }
    (found, select.report)
}

#[cfg(test)]
mod tests;
