//! Groups of the rows that pass a filter: the first of them in some order, the rest as one.

use std::{cmp::Reverse, ops::ControlFlow};

use super::{
    ScanReport,
    group::{Group, GroupKey, Groups, Wanted},
    select::{Limit, Select},
};
use crate::control::logs::{filter::Filter, snapshot::LogSnapshot};

/// Most groups that are told apart where histograms are kept, some 10 KB each.
pub const GROUPS_WITH_TIMES_MAX: usize = 10_000;

/// Most groups that are told apart otherwise.
pub const GROUPS_MAX: usize = 100_000;

/// By what groups are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupOrder {
    /// Dearest first, of equals the one with most rows.
    #[default]
    Cost,
    /// Those with most rows first.
    Rows,
    /// By name, so that times come in order.
    Name,
}

/// A question.
#[derive(Debug, Clone)]
pub struct GroupOf {
    /// By what rows are grouped; at most [`super::group::KEYS_MAX`].
    pub keys: Vec<GroupKey>,
    /// What is computed.
    pub wanted: Wanted,
    /// By what the groups are put in order.
    pub order: GroupOrder,
    /// Groups to tell apart; those beyond are summed up as one.
    pub top: Option<usize>,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Grouped {
    /// The groups in order.
    pub groups: Vec<Group>,
    /// All others: those beyond the top, and those that found no room in memory.
    pub other: Option<Group>,
    /// Not all groups could be told apart, so one of the others may belong among the first.
    pub is_crowded: bool,
    /// What was met.
    pub report: ScanReport,
}

/// Sums up the rows that pass `filter`.
pub fn group(snapshot: &LogSnapshot, filter: &Filter, of: &GroupOf, limit: Limit) -> Grouped {
    let groups_max = if of.wanted.times.contains(&true) {
        GROUPS_WITH_TIMES_MAX
    } else {
        GROUPS_MAX
    };
    let mut groups = Groups::new(of.keys.clone(), of.wanted, groups_max);
    let mut select = Select::new(snapshot, filter, limit);
    select.each(snapshot.blocks(), |_, block, mask| {
        groups.add(block, mask)?;
        Ok(ControlFlow::Continue(()))
    });
    let (groups, other) = groups.finish();
    let grouped = Grouped {
        groups,
        is_crowded: other.is_some(),
        other,
        report: select.report,
    };
    grouped.ordered(of)
}

impl Grouped {
    /// The groups in their order, the first of them told apart.
    #[must_use]
    pub fn ordered(mut self, of: &GroupOf) -> Self {
        let groups = &mut self.groups;
        match of.order {
            GroupOrder::Cost => groups.sort_by(|a, b| {
                let key = |group: &Group| (Reverse(group.totals.cost), Reverse(group.totals.rows));
                key(a).cmp(&key(b)).then_with(|| a.parts.cmp(&b.parts))
            }),
            GroupOrder::Rows => groups.sort_by(|a, b| {
                let rows = b.totals.rows.cmp(&a.totals.rows);
                rows.then_with(|| a.parts.cmp(&b.parts))
            }),
            GroupOrder::Name => groups.sort_by(|a, b| a.parts.cmp(&b.parts)),
        }
        if let Some(top) = of.top
            && groups.len() > top
        {
            let other = self.other.get_or_insert_default();
            groups.drain(top..).for_each(|group| other.merge(&group));
        }
        self
    }
}
