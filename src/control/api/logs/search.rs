//! The way through the log: finds the records that a request means.
//!
//! One pass finds and counts, keeping no more than the keys of what a page can hold; a second one
//! fetches the records of the page.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    ops::ControlFlow,
};

use rusqlite::Connection;
use serde_json::Value;

use super::{
    forget, mark_of,
    row::number,
    wanted::{SortKey, Wanted},
};
use crate::{
    control::{
        api::{envelope::Paging, failure::Failure},
        logs::{
            query::{self, Order},
            segment::LogDir,
        },
        store::marks::Mark,
    },
    domain::{
        id::RequestId,
        money::PicoDollars,
        record::{ArchivedRecord, Record, Text},
    },
};

/// Where to look.
pub struct Search<'a> {
    /// `control.db`: feedback, and what was deleted.
    pub connection: &'a Connection,
    /// The log.
    pub log: &'a LogDir,
    /// Whose records.
    pub gateway: &'a str,
}

/// One page of records.
#[derive(Debug, Default)]
pub struct Page {
    /// The page's records in order.
    pub records: Vec<Record>,
    /// How many there are in all.
    pub total: u64,
    /// The least and the greatest values of all.
    pub extremes: Extremes,
}

/// Records before a page; a list that is read further is narrowed by a filter instead.
const OFFSET_MAX: u64 = 1_000_000;

/// One record that was found, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    key: SortKey,
    at_micros: u64,
    id: RequestId,
}

impl Hit {
    fn order(&self, other: &Self, wanted: &Wanted) -> Ordering {
        let order = self.key.cmp(&other.key);
        let order = order.then(self.at_micros.cmp(&other.at_micros));
        wanted.directed(order.then(self.id.cmp(&other.id)))
    }
}

/// A hit in the order of its request: the greatest is the one to drop first.
struct Ranked<'w> {
    hit: Hit,
    wanted: &'w Wanted,
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked<'_> {}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hit.order(&other.hit, self.wanted)
    }
}

impl Search<'_> {
    /// Calls `visit` with every record that is meant, in the order of the log.
    pub fn each(
        &self,
        wanted: &Wanted,
        visit: &mut dyn FnMut(&Record, &Mark) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let until = forget::until(self.connection, self.gateway)?;
        let needs_mark = wanted.needs_mark();
        let mut failed = None;
        let mut look = |archived: &ArchivedRecord| {
            let mine = archived.texts.get(Text::Gateway) == self.gateway.as_bytes();
            if !mine || archived.at_micros.to_native() <= until {
                return ControlFlow::Continue(());
            }
            let Some(record) = query::owned(archived) else {
                return ControlFlow::Continue(());
            };
            match self.pass(&record, wanted, needs_mark) {
                Ok(Some(mark)) => visit(&record, &mark),
                Ok(None) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let all = until.saturating_add(1)..=u64::MAX;
        query::scan(self.log, Order::NewestFirst, &all, None, &mut look)?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// The mark of a record that is meant.
    fn pass(
        &self,
        record: &Record,
        wanted: &Wanted,
        needs_mark: bool,
    ) -> rusqlite::Result<Option<Mark>> {
        let mark = if needs_mark {
            mark_of(self.connection, record.id())?
        } else {
            Mark::default()
        };
        // Asked last: it is a look into the database.
        let passes =
            wanted.passes(record, &mark) && !forget::is_forgotten(self.connection, record.id())?;
        Ok(passes.then_some(mark))
    }

    /// A page of the records that are meant.
    pub fn page(&self, wanted: &Wanted, paging: Paging) -> Result<Page, Failure> {
        let offset = paging.offset();
        let mut page = Page::default();
        let most = match offset {
            // Nobody has that many in sight: count, and show nothing.
            OFFSET_MAX.. => 0,
            _ => usize::try_from(offset + paging.per_page).unwrap_or(usize::MAX),
        };
        let mut best = BinaryHeap::new();
        self.each(wanted, &mut |record, mark| {
            page.total += 1;
            page.extremes.note(record);
            keep(&mut best, most, record, mark, wanted);
            ControlFlow::Continue(())
        })?;
        let sorted = best.into_sorted_vec();
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        let hits = sorted.into_iter().skip(skipped).map(|ranked| ranked.hit);
        page.records = self.fetch(&hits.collect::<Vec<_>>())?;
        Ok(page)
    }

    /// The ids of the records that are meant, at most as many as asked for.
    pub fn ids(&self, wanted: &Wanted) -> Result<Vec<RequestId>, Failure> {
        let most = wanted.limit.unwrap_or(usize::MAX);
        let mut best = BinaryHeap::new();
        self.each(wanted, &mut |record, mark| {
            keep(&mut best, most, record, mark, wanted);
            ControlFlow::Continue(())
        })?;
        Ok(best.into_iter().map(|ranked| ranked.hit.id).collect())
    }

    fn fetch(&self, hits: &[Hit]) -> Result<Vec<Record>, Failure> {
        let from = hits.iter().map(|hit| hit.at_micros).min();
        let to = hits.iter().map(|hit| hit.at_micros).max();
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(Vec::new());
        };
        let mut places: HashMap<[u8; 16], usize> = hits
            .iter()
            .enumerate()
            .map(|(place, hit)| (hit.id.0, place))
            .collect();
        let mut found: Vec<Option<Record>> = hits.iter().map(|_| None).collect();
        let mut look = |archived: &ArchivedRecord| {
            if let Some(place) = places.remove(&archived.id)
                && let Some(slot) = found.get_mut(place)
            {
                *slot = query::owned(archived);
            }
            if places.is_empty() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        query::scan(self.log, Order::NewestFirst, &(from..=to), None, &mut look)?;
        Ok(found.into_iter().flatten().collect())
    }
}

fn keep<'w>(
    best: &mut BinaryHeap<Ranked<'w>>,
    most: usize,
    record: &Record,
    mark: &Mark,
    wanted: &'w Wanted,
) {
    let hit = Hit {
        key: wanted.sort_key(record, mark),
        at_micros: record.at_micros,
        id: record.id(),
    };
    if best.len() < most {
        best.push(Ranked { hit, wanted });
    } else if let Some(mut worst) = best.peek_mut()
        && hit.order(&worst.hit, wanted) == Ordering::Less
    {
        worst.hit = hit;
    }
}

/// The least and the greatest values of some records. What is unknown has none.
#[derive(Debug, Default)]
pub struct Extremes {
    cost: Option<(u64, u64)>,
    duration: Option<(u64, u64)>,
    tokens_in: Option<(u64, u64)>,
    tokens_out: Option<(u64, u64)>,
    total_tokens: Option<(u64, u64)>,
}

impl Extremes {
    fn note(&mut self, record: &Record) {
        let all = [
            (&mut self.cost, record.cost),
            (&mut self.duration, Some(record.duration_micros / 1000)),
            (&mut self.tokens_in, record.tokens_input),
            (&mut self.tokens_out, record.tokens_output),
            (&mut self.total_tokens, super::condition::tokens(record)),
        ];
        for (extremes, value) in all {
            let Some(value) = value else {
                continue;
            };
            let (min, max) = extremes.unwrap_or((value, value));
            *extremes = Some((min.min(value), max.max(value)));
        }
    }

    /// Writes them into `result_info`.
    pub fn write(&self, info: &mut Value) {
        let dollars = |cost: u64| number(&PicoDollars(cost).to_string());
        let counts = [
            ("duration", self.duration),
            ("tokens_in", self.tokens_in),
            ("tokens_out", self.tokens_out),
            ("total_tokens", self.total_tokens),
        ];
        info["min_cost"] = self.cost.map_or(Value::Null, |(min, _)| dollars(min));
        info["max_cost"] = self.cost.map_or(Value::Null, |(_, max)| dollars(max));
        for (name, extremes) in counts {
            info[format!("min_{name}")] = extremes.map(|(min, _)| min).into();
            info[format!("max_{name}")] = extremes.map(|(_, max)| max).into();
        }
    }
}
