//! Providers: where they live, how they are called, what their answers report.
//!
//! Values in, values out. Reading order: [`dialect`] (the shapes), then the table of providers,
//! the addresses, the scanner and the meter.
#![warn(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod dialect;
pub mod scanner;
pub mod meter;
pub mod price;
