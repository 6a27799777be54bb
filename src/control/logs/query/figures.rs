//! Sums over the rows that pass any of several filters, each row once.

use std::ops::ControlFlow;

use super::{
    ScanReport,
    group::{Groups, Wanted, sum_masked},
    mask::Mask,
    select::{Limit, Select},
};
use crate::control::{
    logs::{
        block::{Block, BlockError, Number},
        filter::Filter,
        snapshot::LogSnapshot,
    },
    rollup::totals::TIMES,
};

/// What evaluations are computed from. All of it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// How many rows there are.
    pub rows: u64,
    /// Sum of their durations, in microseconds.
    pub duration_micros: u128,
    /// Sum of the costs that are known, in pico-dollars.
    pub cost: u128,
    /// Rows whose cost is known.
    pub priced: u64,
    /// Rows with thumbs up or down.
    pub judged: u64,
    /// Rows with thumbs up.
    pub up: u64,
}

/// Sums up the rows that pass `filter` and any of `filters`. What was said of records is taken from
/// `filter`, each of `filters` has to be told by itself.
pub fn figures(
    snapshot: &LogSnapshot,
    filter: &Filter,
    filters: &[Filter],
    limit: Limit,
) -> (Figures, ScanReport) {
    let wanted = Wanted {
        classes: false,
        tokens: false,
        cost: true,
        times: [false; TIMES],
    };
    let mut groups = Groups::new(Vec::new(), wanted, 1);
    let mut figures = Figures::default();
    let (mut any, mut one) = (Mask::default(), Mask::default());
    let mut select = Select::new(snapshot, filter, limit);
    select.each(snapshot.blocks(), |_, block, mask| {
        any.clone_from(mask);
        any.clear_rows(0..block.rows());
        for filter in filters {
            one.clone_from(mask);
            one.filter(filter, block)?;
            any.or(&one);
        }
        let durations = block.numbers(Number::Duration)?;
        let (judged, up) = judged(block, &any, filter)?;
        // Either all sums of a block are added or none.
        groups.add(block, &any)?;
        figures.duration_micros += sum_masked(&any, durations, block.zone().duration.max);
        figures.judged += judged;
        figures.up += up;
        Ok(ControlFlow::Continue(()))
    });
    let (groups, _) = groups.finish();
    for group in groups {
        figures.rows += group.totals.rows;
        figures.cost += group.totals.cost;
        figures.priced += group.totals.rows - group.totals.unpriced;
    }
    (figures, select.report)
}

/// How many rows have thumbs, and how many of them up.
fn judged(block: &Block<'_>, mask: &Mask, filter: &Filter) -> Result<(u64, u64), BlockError> {
    let (zone, said) = (block.zone(), filter.said());
    if !said.has_feedback_within(zone.id_min, zone.id_max) {
        return Ok((0, 0));
    }
    let (mut judged, mut up) = (0, 0);
    for (id, _) in block
        .ids()?
        .iter()
        .zip(mask.rows())
        .filter(|(_, passes)| **passes == 1)
    {
        let thumb = said.feedback(id).unwrap_or(0);
        judged += u64::from(thumb != 0);
        up += u64::from(thumb > 0);
    }
    Ok((judged, up))
}
