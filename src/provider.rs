//! Providers: where they live, how they are called, what their answers report.
//!
//! Values in, values out. Reading order: [`dialect`] (the shapes), [`table`] (all providers, one
//! line each), [`address`] (where a request goes), [`credential`] (what it proves itself with),
//! [`model`] (what it asks for), [`scanner`] (members of a passing document), [`meter`] (usage out of
//! a passing answer), [`price`] (what that costs). A provider with rules of its own has a file of
//! its own, named in its line of the table.
#![warn(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod dialect;
pub mod table;
pub mod address;
pub mod credential;
pub mod model;
pub mod scanner;
pub mod meter;
pub mod price;
mod url_text;
mod azure;
mod baseten;
mod bedrock;
mod fal;
mod gemini;
mod vertex;
mod workers_ai;

pub use address::{Base, Origin, Overrides, Place};
pub use dialect::{Dialect, Shape};
pub use table::{Provider, ProviderId, by_prefix, by_slug, provider};
