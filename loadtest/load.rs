//! The load tests' one program: a cheap upstream, a generator that checks every answer, and the
//! clients for memory and back-pressure. Speaks to loopback addresses only, and ends by itself.
//!
//! `loadtest/compare` drives it; `loadtest/README.md` says what the figures mean.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a command-line tool speaks on its standard streams, and prints rates to four digits"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Read in this order: what goes over the wire, then each verb.
mod load {
    pub(crate) mod place;
    pub(crate) mod clock;
    pub(crate) mod wire;
    pub(crate) mod document;
    pub(crate) mod target;
    pub(crate) mod tally;
    pub(crate) mod upstream;
    pub(crate) mod relay;
    pub(crate) mod run;
    pub(crate) mod hold;
    pub(crate) mod transfer;
}

use load::{hold, place, relay, run, transfer, upstream};

// The generator and the upstream share a core: what they do not spend, the measured proxy can get.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator and upstream for measuring a proxy on this machine.
#[derive(Parser)]
#[command(name = "load", max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
    /// Core to pin this process to.
    #[arg(long, global = true)]
    core: Option<usize>,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer like a provider of language models, as cheaply as possible.
    Upstream(upstream::Options),
    /// Pass bytes on without looking at them: the floor of a proxy's cost.
    Relay(relay::Options),
    /// Send requests in a closed or an open loop and check every answer.
    Run(run::Options),
    /// Hold idle keep-alive connections, then see which still work.
    Idle(hold::IdleOptions),
    /// Hold readers that stopped in the middle of a large answer.
    Stall(hold::StallOptions),
    /// Move one large body each way and compare its hash.
    Transfer(transfer::Options),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let done = place::prepare(command.core).and_then(|()| {
        place::on_runtime(async move {
            match command.verb {
                Verb::Upstream(options) => upstream::serve(options).await,
                Verb::Relay(options) => relay::serve(options).await,
                Verb::Run(options) => run::run(options).await,
                Verb::Idle(options) => hold::idle(options).await,
                Verb::Stall(options) => hold::stall(options).await,
                Verb::Transfer(options) => transfer::transfer(options).await,
            }
        })
    });
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
