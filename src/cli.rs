//! The verbs of the command line, one file each.
//!
//! Each verb has its arguments as a `clap` struct and a `run` that writes to what it is given, so
//! that tests read what people would. Reading order: here the front page, then [`settings`] (the
//! file and the flags that all verbs share), [`serve`], and the others.
//!
//! Exit codes, of every verb: 0, done; 1, it could not be done (an address is taken, a file cannot
//! be read); 2, the command line or the configuration is wrong.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a verb runs on a thread of its own and may block"
)]

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub mod settings;
pub mod serve;
pub mod demo;
pub mod check;
pub mod logs;
mod listing;
pub mod keys;
pub mod cache;
pub mod prices;
pub mod doctor;
pub mod version;
pub mod completions;

use self::cache::{CacheArgs, CacheError};
use self::keys::{KeysArgs, KeysError};
use self::logs::{LogsArgs, LogsError};
use self::prices::{PricesArgs, PricesError};
use self::settings::{Place, PlaceArgs, SettingsError};
use crate::server::StartError;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = columns();
    let mut out = io::stdout().lock();
    let mut notes = io::stderr();
    let done = cli.run(&mut Face {
        out: &mut out,
        notes: &mut notes,
        terminal,
    });
    let done = done.and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match done {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is gone there is nobody left to tell.
            let _ = match &error {
                CliError::Settings(SettingsError::Problems(_))
                | CliError::Cache(CacheError::Settings(SettingsError::Problems(_)))
                | CliError::Prices(PricesError::Settings(SettingsError::Problems(_))) => {
                    writeln!(notes, "{error}")
                }
                _ => writeln!(notes, "tidegate: {error}"),
            };
            error.code()
        }
    }
}

/// An AI gateway in one binary: a proxy between applications and the providers of language models.
///
/// Applications change their base URL and nothing else. Requests go to the provider as they are,
/// answers and streams come back untouched, and each exchange is recorded with its tokens, cost
/// and times. Without a verb, tidegate serves.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    bin_name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{ENVIRONMENT}"),
)]
pub struct Cli {
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXAMPLES: &str = "\
Examples:
  tidegate demo                          See everything at work, without a provider's key
  tidegate                               Serve on http://127.0.0.1:8787
  tidegate --config tidegate.toml        Serve what the file says
  tidegate check tidegate.toml           Look for mistakes before serving it
  tidegate logs tail                     Watch requests as they come

A client's base URL is http://127.0.0.1:8787/v1/ACCOUNT/GATEWAY/PROVIDER, for instance
http://127.0.0.1:8787/v1/me/default/openai; any account name will do.

`tidegate VERB --help` says more about a verb; `tidegate --help` lists the environment too.";

const ENVIRONMENT: &str = "\
Environment (a flag wins over a variable, a variable over the file):
  TIDEGATE_CONFIG          The configuration file
  TIDEGATE_LISTEN          Addresses to listen on, separated by commas
  TIDEGATE_ADMIN           Address of management and metrics, apart from the rest
  TIDEGATE_DATA_DIR        Folder of records and state
  TIDEGATE_SHARDS          How many cores to use
  TIDEGATE_DRIVER          auto, uring or epoll
  TIDEGATE_API_TOKEN       The management token (or TIDEGATE_API_TOKEN_FILE: a file that holds it)
  TIDEGATE_MASTER_KEY      Opens stored provider keys (or TIDEGATE_MASTER_KEY_FILE: a file with it)
  TIDEGATE_LOG             What to tell on stderr: error, warn, info, debug, or module=level
  TIDEGATE_LOG_FORMAT      text or json
  OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY and so on
                           Keys of providers, under the names that their SDKs use; put into
                           requests that bring none, where the caller showed a gateway token or
                           the listener is this machine's own";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve (what happens without a verb, too).
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArgs),
    /// Serve with a built-in mock provider and a little traffic, to look around without a key.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Look for mistakes in a configuration, and whether it could be served here.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Look at the records of past and present requests.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(Box<LogsCommand>),
    /// Make, list and end tokens for applications.
    #[command(after_help = KEYS_EXAMPLES)]
    Keys(KeysCommand),
    /// Ask what the response cache did with a request, or make it forget.
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheCommand),
    /// Look at the prices that costs are computed from.
    #[command(after_help = PRICES_EXAMPLES)]
    Prices(PricesCommand),
    /// Report on this machine: limits, kernel settings, `io_uring`, each with its fix.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
    /// Print version, target and what was built in.
    #[command(after_help = version::EXAMPLES)]
    Version(version::VersionArgs),
}

/// `tidegate logs`, and where the records are.
#[derive(Debug, Args)]
struct LogsCommand {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    logs: LogsArgs,
}

const LOGS_EXAMPLES: &str = "\
Examples:
  tidegate logs tail                            The last records, then those that come
  tidegate logs tail 'status:5xx'               Only failures of providers
  tidegate logs query --since 1h --group-by model
  tidegate logs show 01932f5e-7a30-7000-8000-0123456789ab
  tidegate logs export --since 1d --output csv > day.csv";

/// `tidegate keys`, and where they are kept.
#[derive(Debug, Args)]
struct KeysCommand {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    keys: KeysArgs,
}

const KEYS_EXAMPLES: &str = "\
Examples:
  tidegate keys create app                      A token for an application, shown once
  tidegate keys create ci --permissions run,read --expires 90d
  tidegate keys list
  tidegate keys revoke app                      Refused within a second, for good";

/// `tidegate cache`, and where records and token are.
#[derive(Debug, Args)]
struct CacheCommand {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

const CACHE_EXAMPLES: &str = "\
Examples:
  tidegate cache explain 01932f5e-7a30-7000-8000-0123456789ab
                                                Hit or miss, and which part of the key differed
  tidegate cache purge --gateway default        Forget one gateway's answers
  tidegate cache purge --provider openai        Forget what one provider answered
  tidegate cache purge --all                    Forget everything";

/// `tidegate prices`, and which file has the operator's own.
#[derive(Debug, Args)]
struct PricesCommand {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    prices: PricesArgs,
}

const PRICES_EXAMPLES: &str = "\
Examples:
  tidegate prices show gpt-5                    What its tokens cost, in every class of service
  tidegate prices show --provider anthropic --output csv
  tidegate prices diff                          What [prices] of the file changes
  tidegate prices diff newer.tsv                What another table would change
  tidegate prices reprice --since 30d           What the last month costs by today's prices
  tidegate prices reprice --unpriced --apply    Costs for what had none; without a running server";

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ReportForm {
    /// Text for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

pub use self::logs::Face;

impl Cli {
    fn run(self, face: &mut Face<'_>) -> Result<ExitCode, CliError> {
        match self.verb.unwrap_or(Verb::Serve(self.serve)) {
            Verb::Serve(args) => serve::run(&args, face),
            Verb::Demo(args) => demo::run(&args, face),
            Verb::Check(args) => Ok(check::run(&args, face)?),
            Verb::Logs(command) => {
                let data_dir = Place::of(&command.place).data_dir()?;
                logs::run(&command.logs, &data_dir, face)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Keys(command) => {
                let data_dir = Place::of(&command.place).data_dir()?;
                keys::run(&command.keys, &data_dir, face)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Cache(command) => {
                cache::run(&command.cache, &Place::of(&command.place), face)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Prices(command) => {
                prices::run(&command.prices, &Place::of(&command.place), face)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Doctor(args) => Ok(doctor::run(&args, face)?),
            Verb::Completions(args) => {
                completions::run(&args, &mut Self::command(), face.out)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Version(args) => {
                version::run(&args, face.out)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Why a verb failed: a sentence on what happened and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration cannot be read or is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The server did not start, or a part of it died.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Looking into the log failed.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The tokens cannot be read or changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Looking into the cache, or asking the server to purge it, failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The prices cannot be shown.
    #[error(transparent)]
    Prices(#[from] PricesError),
    /// The demo failed.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// The words of `TIDEGATE_LOG` make no filter.
    #[error("TIDEGATE_LOG: {0}; write error, warn, info, debug or trace")]
    LogFilter(String),
    /// Writing failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

impl CliError {
    /// 2 where the operator's words are wrong, else 1.
    fn code(&self) -> ExitCode {
        match self {
            Self::Settings(SettingsError::Problems(_))
            | Self::Cache(CacheError::Settings(SettingsError::Problems(_)))
            | Self::Prices(PricesError::Settings(SettingsError::Problems(_)))
            | Self::LogFilter(_) => ExitCode::from(2),
            Self::Settings(SettingsError::Unreadable { .. })
            | Self::Start(_)
            | Self::Logs(_)
            | Self::Keys(_)
            | Self::Cache(_)
            | Self::Prices(_)
            | Self::Demo(_)
            | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// Columns of the terminal that stdout is; `None` if it is none.
fn columns() -> Option<usize> {
    /// Where a terminal does not say, the oldest one's width.
    const USUAL: usize = 80;
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    let columns = size.map(|size| usize::from(size.ws_col));
    Some(columns.filter(|columns| *columns > 0).unwrap_or(USUAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_verb_it_serves() {
        let cli = Cli::try_parse_from(["tidegate", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(cli.verb.is_none());
        let cli = Cli::try_parse_from(["tidegate", "serve", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(matches!(cli.verb, Some(Verb::Serve(_))));
    }

    #[test]
    fn flags_of_serve_do_not_mix_with_another_verb() {
        assert!(Cli::try_parse_from(["tidegate", "--shards", "1", "version"]).is_err());
    }

    #[test]
    fn the_place_of_the_log_may_follow_the_verb() {
        let line = [
            "tidegate",
            "logs",
            "tail",
            "--data-dir",
            "/x",
            "--output",
            "csv",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        let Some(Verb::Logs(command)) = cli.verb else {
            panic!("not logs");
        };
        let data_dir = Place::of(&command.place).data_dir().unwrap();
        assert_eq!(data_dir, std::path::Path::new("/x"));
    }
}
