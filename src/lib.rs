//! tidegate: an AI gateway in one Linux binary, as a library for its binary, tests and benches.
//!
//! The modules lie in four zones (see `ARCHITECTURE.md`). In reading order:
//! values in, values out: [`domain`], [`http`], [`provider`], [`snapshot`]; the data plane: [`shard`];
//! the border: [`handoff`]; the side threads: [`control`]; at the bottom of everything: [`sys`];
//! the verbs: [`cli`].

pub mod domain;
pub mod http;
pub mod provider;
pub mod snapshot;

pub mod shard;

pub mod handoff;

pub mod control;

pub mod sys;

pub mod cli;
