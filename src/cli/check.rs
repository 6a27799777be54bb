//! `tidegate check`: would this configuration be served, here, as it is?
//!
//! Reading order: here the verb and its exit codes; [`summary`] (the settings in effect).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{Access, access};
use serde::Serialize;

use super::doctor::{self, Finding, State};
use super::settings::{OverrideArgs, Place, SettingsError};
use super::{Face, ReportForm};
use crate::config::{Config, Loaded, problem::Problem};
use crate::control::data_dir::{DataDir, DataDirError};

pub mod summary;

use summary::Summary;

/// Arguments of `tidegate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration [otherwise that of `TIDEGATE_CONFIG`, or tidegate.toml if it is there].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  tidegate check tidegate.toml
  tidegate check tidegate.toml --listen 0.0.0.0:8080
  tidegate check --output json | jq .problems

It exits with 0 if the server would start (warnings aside), 1 if the file cannot be read or this
machine stands in the way (a taken port, a folder that cannot be written), 2 if the configuration
is wrong.";

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    file: Option<String>,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Summary>,
    here: Vec<Finding>,
    kernel: Vec<Finding>,
}

/// Checks, and prints what was found: problems to the notes, the rest to the output.
pub fn run(args: &CheckArgs, face: &mut Face<'_>) -> io::Result<ExitCode> {
    let place = Place::new(args.file.as_deref(), &args.overrides);
    let report = Report::of(&place);
    match args.output {
        ReportForm::Json => writeln!(face.out, "{}", serde_json::to_string_pretty(&report)?)?,
        ReportForm::Table => report.print(face)?,
    }
    Ok(report.code())
}

impl Report {
    fn of(place: &Place) -> Self {
        let mut report = Self {
            file: place.file_name(),
            valid: false,
            unreadable: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            settings: None,
            here: Vec::new(),
            kernel: doctor::kernel_report(),
        };
        match place.load() {
            Ok(Loaded { config, warnings }) => {
                report.valid = true;
                report.here = here(&config);
                report.settings = Some(Summary::of(&config));
                report.warnings = warnings;
            }
            Err(SettingsError::Problems(problems)) => report.problems = problems.0,
            Err(error @ SettingsError::Unreadable { .. }) => {
                report.unreadable = Some(error.to_string());
            }
        }
        report
    }

    fn code(&self) -> ExitCode {
        let mut looked_at = self.here.iter().chain(&self.kernel);
        if !self.problems.is_empty() {
            return ExitCode::from(2);
        }
        if self.unreadable.is_some() || looked_at.any(|finding| finding.state == State::Fatal) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn print(&self, face: &mut Face<'_>) -> io::Result<()> {
        let name = self
            .file
            .as_deref()
            .unwrap_or("the configuration without a file");
        if let Some(unreadable) = &self.unreadable {
            return writeln!(face.notes, "tidegate: {unreadable}");
        }
        if !self.problems.is_empty() {
            for problem in &self.problems {
                writeln!(face.notes, "{problem}\n")?;
            }
            let number = counted(self.problems.len(), "problem");
            return writeln!(face.notes, "{name} has {number}");
        }
        for warning in &self.warnings {
            writeln!(face.notes, "warning: {warning}\n")?;
        }
        match self.warnings.len() {
            0 => writeln!(face.out, "{name} is valid\n")?,
            number => writeln!(
                face.out,
                "{name} is valid, with {}\n",
                counted(number, "warning")
            )?,
        }
        if let Some(settings) = &self.settings {
            settings.print(face.out)?;
        }
        writeln!(face.out, "\nHere:")?;
        doctor::print(&self.here, face.out)?;
        writeln!(face.out, "\nKernel (`tidegate doctor` looks at more):")?;
        doctor::print(&self.kernel, face.out)
    }
}

fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Tries what a start would need: the folder, the addresses, the files of `[tls]`.
fn here(config: &Config) -> Vec<Finding> {
    let (folder, running) = data_dir(&config.data_dir);
    let mut findings = vec![folder];
    let addresses = config.listen.iter().chain(&config.admin);
    findings.extend(addresses.map(|address| listener(*address, running)));
    if let Some(tls) = &config.tls {
        findings.extend([&tls.cert, &tls.key].map(|path| readable(path)));
    }
    findings
}

fn finding(state: State, name: &'static str, found: String) -> Finding {
    Finding {
        name,
        state,
        found,
        fix: None,
    }
}

/// Says whether the data folder can be used, and whether a server uses it now.
fn data_dir(path: &Path) -> (Finding, bool) {
    const NAME: &str = "data folder";
    let shown = path.display();
    if path.exists() {
        return match DataDir::lock(path) {
            Ok(_) => (
                finding(State::Ok, NAME, format!("{shown} can be used")),
                false,
            ),
            Err(error @ DataDirError::InUse { .. }) => {
                let fix = "this is as it should be if that server is to be reloaded or replaced";
                let mut finding = finding(State::Advice, NAME, error.to_string());
                finding.fix = Some(fix.to_owned());
                (finding, true)
            }
            Err(error) => (finding(State::Fatal, NAME, error.to_string()), false),
        };
    }
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let parent = whole.ancestors().find(|ancestor| ancestor.exists());
    let parent = parent.unwrap_or_else(|| Path::new("/"));
    let found = match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if parent.is_dir() => {
            return (
                finding(State::Ok, NAME, format!("{shown} will be made")),
                false,
            );
        }
        Ok(()) => format!("{shown} cannot be made: {} is no folder", parent.display()),
        Err(error) => format!("{shown} cannot be made in {}: {error}", parent.display()),
    };
    (finding(State::Fatal, NAME, found), false)
}

/// Binds an address and lets it go. A taken one is no problem while the server runs whose folder
/// this is.
fn listener(address: SocketAddr, running: bool) -> Finding {
    const NAME: &str = "listener";
    match TcpListener::bind(address) {
        Ok(_) => finding(State::Ok, NAME, format!("{address} can be listened on")),
        Err(error) if running && error.kind() == io::ErrorKind::AddrInUse => finding(
            State::Ok,
            NAME,
            format!("{address} is taken, by the running server it seems"),
        ),
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "end the program that has it (ss -ltnp), or choose another"
                }
                io::ErrorKind::AddrNotAvailable => "choose an address of this machine (ip addr)",
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 take the capability CAP_NET_BIND_SERVICE"
                }
                _ => "choose another address",
            };
            let mut finding = finding(
                State::Fatal,
                NAME,
                format!("{address} cannot be listened on: {error}"),
            );
            finding.fix = Some(fix.to_owned());
            finding
        }
    }
}

fn readable(path: &Path) -> Finding {
    const NAME: &str = "TLS file";
    match std::fs::File::open(path) {
        Ok(_) => finding(State::Ok, NAME, format!("{} can be read", path.display())),
        Err(error) => finding(
            State::Fatal,
            NAME,
            format!("{} cannot be read: {error}", path.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_looked_for_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let (finding, running) = data_dir(&path);
        assert_eq!((finding.state, running), (State::Ok, false));
        assert!(
            finding.found.ends_with("/a/b will be made"),
            "{}",
            finding.found
        );
        assert!(!root.path().join("a").exists());
        std::fs::write(root.path().join("a"), "").unwrap();
        assert_eq!(data_dir(&path).0.state, State::Fatal);
    }

    #[test]
    fn a_folder_and_a_port_of_a_running_server_are_its_own() {
        let root = tempfile::tempdir().unwrap();
        let _server = DataDir::lock(root.path()).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (finding, running) = data_dir(root.path());
        assert_eq!((finding.state, running), (State::Advice, true));
        assert_eq!(listener(address, running).state, State::Ok);
        assert_eq!(listener(address, false).state, State::Fatal);
    }
}
