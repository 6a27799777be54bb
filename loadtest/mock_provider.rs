//! A stand-in for every provider, as a program of its own: load tests and SDK tests talk to it.
//!
//! `cargo run --example mock-provider -- --listen 127.0.0.1:8089`

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::thread;

use clap::Parser;
use tidegate::cli::demo::mock_provider::{MockProvider, Options};

/// Answers like every LLM provider, on loopback only, and misbehaves on command.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Most connections open at once; further ones are closed.
    #[arg(long, default_value_t = Options::default().connections_max)]
    connections_max: usize,
    /// Commands that apply to every request, such as `delay=50,event_delay=5`.
    #[arg(long, default_value = "")]
    mock: String,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let provider = MockProvider::start(Options {
        listen: arguments.listen,
        connections_max: arguments.connections_max,
        commands: arguments.mock,
    })?;
    let mut out = io::stdout();
    writeln!(out, "listening on http://{}", provider.addr())?;
    out.flush()?;
    loop {
        thread::park();
    }
}
