//! tidegate: an AI gateway in one Linux binary, as a library for its binary, tests and benches.
//!
//! The modules lie in four zones (see `ARCHITECTURE.md`). In reading order:
//! values in, values out: [`domain`], [`http`], [`provider`], [`config`], [`snapshot`]; the data
//! plane: [`shard`]; the border: [`handoff`]; the side threads: [`control`]; what ties them
//! together: [`server`]; the verbs: [`cli`]; at the bottom of everything: [`sys`].

pub mod server;
pub mod cli;

pub mod domain;
pub mod http;
pub mod provider;
pub mod config;
pub mod snapshot;

pub mod shard;

pub mod handoff;

pub mod control;

pub mod sys;

pub use sys::allocator::Allocator;
