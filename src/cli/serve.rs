//! `tidegate serve`, also what happens without a verb: the server, from its file to its last
//! record.
//!
//! Reading order: here the life of the process; [`intro`] (what is printed when it serves),
//! [`notify`] and [`watchdog`] (what the service manager is told), [`signals`] (what the operator
//! tells it).

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use super::settings::{OverrideArgs, Place, SettingsError};
use super::{CliError, Face};
use crate::config::{Loaded, problem::Problem};
use crate::server::{self, Options, Reload, Server};

pub mod intro;
pub mod notify;
pub mod signals;
pub mod watchdog;

use intro::Intro;
use notify::State;
use signals::Watch;

/// Arguments of `tidegate serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// The configuration [otherwise that of `TIDEGATE_CONFIG`, or tidegate.toml if it is there, or
    /// none].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  tidegate serve                              On http://127.0.0.1:8787, nothing to configure
  tidegate serve -c /etc/tidegate.toml        What the file says
  tidegate serve --listen 0.0.0.0:8080        For other machines: callers need a gateway token

SIGTERM and SIGINT (Ctrl-C) end what is in flight first, a second one does not; SIGHUP reads the
file again.";

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs, face: &mut Face<'_>) -> Result<ExitCode, CliError> {
    let place = Place::new(args.config.as_deref(), &args.overrides);
    let Loaded { config, warnings } = place.load()?;
    let form = Form::chosen();
    start_diagnostics(config.log_filter.as_deref(), form)?;
    for warning in &warnings {
        tracing::warn!("{}", one_line(warning));
    }
    raise_open_files();
    // From here on a signal waits for its thread, which starts when there is a server to tell.
    let signals = signals::catch()?;
    let intro = Intro::of(&config);
    let limits = config.limits;
    let server = server::start(Options {
        config,
        reload: reload(&place),
    })?;
    introduce(&intro, &server, form, face);
    let watch = Watch::start(signals, server.control(), limits, place.file.is_some())?;
    if let Err(error) = notify::notify(State::Ready) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
    if let Err(error) = watchdog::start(server.control()) {
        tracing::warn!("cannot start the watchdog's thread: {error}");
    }
    server.join()?;
    Ok(if watch.was_forced() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// How SIGHUP reads the configuration; nothing to read where there is no file.
fn reload(place: &Place) -> Option<Reload> {
    let place = place.clone();
    place.file.as_ref()?;
    Some(Box::new(move || {
        place.load().map_err(SettingsError::into_problems)
    }))
}

fn introduce(intro: &Intro, server: &Server, form: Form, face: &mut Face<'_>) {
    for note in server.recovery_notes() {
        tracing::warn!("{note}");
    }
    match form {
        Form::Text => {
            // A server serves whether or not somebody reads its greeting.
            let _ = write!(face.notes, "{}", intro.text(server));
        }
        Form::Json => intro.trace(server),
    }
    if let Some(path) = server.master_key_made() {
        tracing::info!(
            "a master key for stored provider keys was made: {}; keep a copy, apart from those of the data folder",
            path.display()
        );
    }
}

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// What `TIDEGATE_LOG_FORMAT` asks for.
    pub fn chosen() -> Self {
        match std::env::var("TIDEGATE_LOG_FORMAT").as_deref() {
            Ok("json") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// What is told where `TIDEGATE_LOG` says nothing.
const FILTER: &str = "info";

/// Starts to write diagnostics to stderr; `filter` is the text of `TIDEGATE_LOG`.
pub fn start_diagnostics(filter: Option<&str>, form: Form) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(filter.unwrap_or(FILTER))
        .map_err(|error| CliError::LogFilter(error.to_string()))?;
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours)
        // It would tell of a broken stderr on stderr, and panic there: the thread that had something
        // to say, the one that waits for signals too, would be gone.
        .log_internal_errors(false);
    // A second start in one process keeps what is there.
    let _ = match form {
        Form::Text => builder.with_target(false).try_init(),
        Form::Json => builder.json().try_init(),
    };
    Ok(())
}

/// A problem without its excerpt, for logs.
fn one_line(problem: &Problem) -> String {
    let text = problem.to_string();
    let first = text.lines().next().unwrap_or_default();
    match problem.help.as_str() {
        "" => first.to_owned(),
        help => format!("{first}: {help}"),
    }
}

/// Open files below which a warning is due: two sockets for each exchange soon are more.
const OPEN_FILES_LOW: u64 = 4096;

/// Raises the soft limit of open files to the hard one: each connection is one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    if let Some(files) = getrlimit(Resource::Nofile).current
        && files < OPEN_FILES_LOW
    {
        tracing::warn!(
            "only {files} open files are allowed; `tidegate doctor` says how to raise it"
        );
    }
}
