//! The blocks of a snapshot in which rows pass a filter, and which rows these are.

use std::{ops::ControlFlow, time::Instant};

use super::{
    ScanReport,
    mask::{Mask, Verdict},
};
use crate::control::logs::{
    block::{Block, BlockError},
    filter::Filter,
    snapshot::{BlockRef, LogSnapshot},
};

/// How long a question may take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    /// When it ends, whether all was looked at or not.
    pub end: Option<Instant>,
}

impl Limit {
    /// Says whether the time is over.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// A question that is being answered: a snapshot, a filter, and what was met.
#[derive(Debug)]
pub struct Select<'s> {
    /// What is asked.
    pub snapshot: &'s LogSnapshot,
    /// What passes.
    pub filter: &'s Filter,
    /// How long it may take.
    pub limit: Limit,
    /// What was met.
    pub report: ScanReport,
}

impl<'s> Select<'s> {
    /// A question that nothing was looked at for yet.
    pub fn new(snapshot: &'s LogSnapshot, filter: &'s Filter, limit: Limit) -> Self {
        let mut report = ScanReport::default();
        report.damages.extend(snapshot.damages().cloned());
        Self {
            snapshot,
            filter,
            limit,
            report,
        }
    }

    /// Calls `visit` with each of `blocks` in which a row passes, and these rows. A block that
    /// cannot be read, or that `visit` cannot read, is reported and left out.
    pub fn each(
        &mut self,
        blocks: impl Iterator<Item = BlockRef<'s>>,
        mut visit: impl FnMut(&BlockRef<'s>, &Block<'_>, &Mask) -> Result<ControlFlow<()>, BlockError>,
    ) {
        let micros = self.filter.micros();
        let mut mask = Mask::default();
        for at in blocks {
            let times = at.micros();
            if times.end() < micros.start() || times.start() > micros.end() {
                continue;
            }
            if self.limit.is_over() {
                self.report.partial = true;
                return;
            }
            let open = match at.open() {
                Ok(open) => open,
                Err(damage) => {
                    self.report.damages.push(damage);
                    continue;
                }
            };
            self.report.damages.extend(open.damages().iter().cloned());
            self.report.frames += 1;
            self.report.records += at.rows();
            let visited = open.block().and_then(|block| {
                if !self.passing(&block, &mut mask)? {
                    return Ok(ControlFlow::Continue(()));
                }
                visit(&at, &block, &mask)
            });
            match visited {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => self.report.damages.push(at.damage(error)),
            }
        }
    }

    /// Finds the rows that may be served and pass; says whether there is one.
    pub fn passing(&self, block: &Block<'_>, mask: &mut Mask) -> Result<bool, BlockError> {
        let mut verdicts = self.filter.terms().iter();
        if verdicts.any(|term| Verdict::of_term(term, block.zone()) == Verdict::None) {
            return Ok(false);
        }
        mask.all(block.rows());
        if let Some(bits) = self.snapshot.visible(block)? {
            mask.and_bits(&bits);
        }
        mask.filter(self.filter, block)?;
        Ok(!mask.is_empty())
    }
}
