//! The verbs of the command line, one file each.
//!
//! Each verb has its arguments as a `clap` struct and a `run` that writes to what it is given, so
//! that tests read what people would.
#![expect(
    clippy::disallowed_methods,
    reason = "a verb runs on a thread of its own and may block"
)]

pub mod demo;
pub mod logs;
