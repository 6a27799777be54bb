//! tidegate: an AI gateway in one Linux binary, as a library for its binary, tests and benches.
//!
//! The modules lie in four zones (see `ARCHITECTURE.md`). In reading order:
//! values in, values out: [`domain`], [`provider`]; then the zones on top of them.

pub mod domain;
pub mod provider;

pub mod cli;
