//! Counts, sums and histograms by the minute, so that a chart of a month needs no look at its
//! records.
pub mod sketch;
pub mod totals;
