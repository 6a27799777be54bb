//! `tidegate demo`: everything visible without a provider's key.
//!
//! The real server in this process, its records in a folder that goes away, its providers played
//! by the mock. Reading order: here the life of the demo, then [`settings`] (its configuration),
//! [`words`] (what is printed), [`traffic`] (what it sends), [`http_call`] (how), and
//! [`mock_provider`].

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::logs::table::Table;
use super::serve::{Form, raise_open_files, start_diagnostics};
use super::{CliError, Face};
use crate::control::logs::query::{self, Follower};
use crate::control::logs::segment::LogDir;
use crate::domain::record::{ArchivedRecord, Record};
use crate::server::{self, Options, Server};

pub mod settings;
pub mod words;
pub mod traffic;
pub mod http_call;
pub mod folder;
pub mod mock_provider;

use folder::Folder;
use mock_provider::MockProvider;
use traffic::Traffic;

/// Arguments of `tidegate demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Listen on ADDRESS:PORT of this machine [otherwise 127.0.0.1:8787, or any free port].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Send the traffic, show its records, and end.
    #[arg(long)]
    once: bool,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  tidegate demo             Until Ctrl-C: paste its snippets, watch their records
  tidegate demo --once      Traffic, its records, and the end

Nothing leaves this machine and nothing stays on it: a mock plays OpenAI, Anthropic and Google AI
Studio, and the records go away with the demo. Keys in your environment are not touched.";

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The mock does not start.
    #[error("the mock provider does not start: {0}")]
    Mock(io::Error),
    /// No folder for the records.
    #[error("cannot make a folder for the records in {}: {source}", .path.display())]
    Folder {
        /// Where it was tried.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Requests of its own were not answered as they should be.
    #[error("{} went wrong:\n  {}", counted(.0.len()), .0.join("\n  "))]
    Traffic(Vec<String>),
    /// Records are missing.
    #[error("of {sent} requests only {seen} were recorded within {} s", RECORDS_WAIT.as_secs())]
    Records {
        /// Requests sent.
        sent: usize,
        /// Records seen.
        seen: usize,
    },
}

fn counted(requests: usize) -> String {
    match requests {
        1 => "one request of the demo".to_owned(),
        number => format!("{number} requests of the demo"),
    }
}

/// Runs the demo.
pub fn run(args: &DemoArgs, face: &mut Face<'_>) -> Result<ExitCode, CliError> {
    // Caught before there is a folder, so that a signal never leaves it behind.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let wanted = std::env::var("TIDEGATE_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    start_diagnostics(Some(wanted.as_deref().unwrap_or(FILTER)), Form::chosen())?;
    raise_open_files();
    let mock = MockProvider::start(mock_provider::Options::default()).map_err(DemoError::Mock)?;
    let folder = Folder::make()?;
    let config = settings::config(args.listen.as_deref(), mock.addr(), folder.path())?;
    let server = server::start(Options {
        config,
        reload: None,
    })?;
    let done = show(args.once, &server, &folder, signals, face);
    end(server)?;
    drop(mock);
    drop(folder);
    done
}

/// Diagnostics of the demo: its own failing requests are part of the show.
const FILTER: &str = "error";

/// Shows what there is and what happens, until a signal.
fn show(
    once: bool,
    server: &Server,
    folder: &Folder,
    signals: Signals,
    face: &mut Face<'_>,
) -> Result<ExitCode, CliError> {
    let Some(address) = server.addresses().first().copied() else {
        return Err(io::Error::other("the server has no address").into());
    };
    let stop = Arc::new(AtomicBool::new(false));
    listen_to_signals(signals, Arc::clone(&stop))?;
    write!(
        face.out,
        "{}",
        words::welcome(address, server.api_token().secret.expose(), once)
    )?;
    face.out.flush()?;

    let log = LogDir::of(folder.path());
    let (follower, _) = Follower::from_end(&log)?;
    let mut screen = Screen {
        follower,
        table: Table::open_ended(face.terminal),
        held: Vec::new(),
        seen: 0,
    };
    let traffic = Traffic::start(address, once, Arc::clone(&stop))?;
    while !stop.load(Ordering::Acquire) && !traffic.is_done() {
        screen.update(face)?;
        thread::sleep(LOOK);
    }
    stop.store(true, Ordering::Release);
    let sent = traffic.join();
    if once {
        screen.wait_for(sent.count, face)?;
        writeln!(
            face.out,
            "\n{} requests, {} records",
            sent.count, screen.seen
        )?;
        if !sent.failures.is_empty() {
            return Err(DemoError::Traffic(sent.failures).into());
        }
    } else {
        writeln!(face.out, "\nThe demo is over; its records are gone.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Time between two looks for new records.
const LOOK: Duration = Duration::from_millis(100);

/// Time in which the last records have to appear: the log is behind by milliseconds.
const RECORDS_WAIT: Duration = Duration::from_secs(10);

/// Records of the first page: the table's columns become as wide as these need.
const FIRST_PAGE: usize = 3;

/// The table of records, growing.
struct Screen {
    follower: Follower,
    table: Table,
    /// Records that wait for the first page to be full.
    held: Vec<Record>,
    seen: usize,
}

impl Screen {
    /// Prints what came since the last look.
    fn update(&mut self, face: &mut Face<'_>) -> io::Result<()> {
        let before = self.held.len();
        let mut visit = |record: &ArchivedRecord| {
            self.held.extend(query::owned(record));
            ControlFlow::Continue(())
        };
        self.follower.poll(&mut visit)?;
        self.seen += self.held.len() - before;
        if self.seen >= FIRST_PAGE {
            self.print(face)
        } else {
            Ok(())
        }
    }

    fn print(&mut self, face: &mut Face<'_>) -> io::Result<()> {
        if !self.held.is_empty() {
            self.table.print(&self.held, face.out)?;
            self.held.clear();
            face.out.flush()?;
        }
        Ok(())
    }

    fn wait_for(&mut self, count: usize, face: &mut Face<'_>) -> Result<(), CliError> {
        let end = Instant::now() + RECORDS_WAIT;
        loop {
            self.update(face)?;
            if self.seen >= count {
                return Ok(());
            }
            if Instant::now() > end {
                self.print(face)?;
                let seen = self.seen;
                return Err(DemoError::Records { sent: count, seen }.into());
            }
            thread::sleep(LOOK);
        }
    }
}

/// Sets `stop` on the first signal.
fn listen_to_signals(mut signals: Signals, stop: Arc<AtomicBool>) -> io::Result<()> {
    let wait = move || {
        if signals.forever().next().is_some() {
            stop.store(true, Ordering::Release);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)?;
    Ok(())
}

/// Time that pasted clients get to finish.
const DRAIN: Duration = Duration::from_secs(2);

fn end(server: Server) -> Result<(), CliError> {
    let control = server.control();
    control.drain();
    let countdown = move || {
        thread::sleep(DRAIN);
        control.stop();
    };
    thread::Builder::new()
        .name("drain".to_owned())
        .spawn(countdown)?;
    Ok(server.join()?)
}

/// The address that the demo would like to have.
const ADDRESS: &str = "127.0.0.1:8787";

/// `ADDRESS`, or where that is taken any free port.
fn usual_address() -> String {
    let free = |address: &SocketAddr| std::net::TcpListener::bind(address).is_ok();
    match ADDRESS.parse() {
        Ok(address) if free(&address) => ADDRESS.to_owned(),
        _ => "127.0.0.1:0".to_owned(),
    }
}
