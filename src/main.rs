//! The binary: its allocator and the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tidegate::Allocator = tidegate::Allocator;

fn main() -> ExitCode {
    tidegate::cli::main()
}
