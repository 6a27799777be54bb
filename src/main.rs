//! The binary: its allocator and the command line.

use std::process::ExitCode;

/// Small pages, freed where they were taken: one heap a shard.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
