//! `tidegate keys`: makes, lists, ends and replaces gateway tokens, with a server running or
//! without one.
//!
//! They are kept in the data folder; a running server sees a change within a second.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    listing::{NamedValues, print, print_one},
    logs::{Face, Output, table::printable},
};
use crate::{
    config::{Permissions, secret::Secret, unit},
    control::{
        keys::{self, KeyError, KeyStore, NewKey, StoredKey, UnixSeconds},
        logs::filter::parse_time,
    },
};

/// Arguments of `tidegate keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
    /// How to print: a table on a terminal, else one JSON object a line.
    #[arg(long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Make a token and print it: the only time that it is shown.
    Create(CreateArgs),
    /// List all tokens, also those that are no longer good.
    List,
    /// End a token for good.
    Revoke(NameArgs),
    /// Replace a token by a new one with the same name and permissions.
    Rotate(NameArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What the token is called in records; unique for good.
    name: String,
    /// What it may do: `run` (call providers), `read` and `edit` (the management API), separated
    /// by commas.
    #[arg(long, value_delimiter = ',', default_value = "run", value_parser = permission)]
    permissions: Vec<Permissions>,
    /// When it ends by itself: `90d` from now, `2027-01-31` or `2027-01-31T08:00:00Z`.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Which token.
    name: String,
}

/// Why a verb of `keys` failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is no data folder.
    #[error("there is no data folder {}; name it with `--data-dir`, or make a token first", .0.display())]
    NoDataDir(PathBuf),
    /// The time cannot be read.
    #[error("`{0}` is no time; write `90d`, `2027-01-31` or `2027-01-31T08:00:00Z`")]
    Time(String),
    /// The store refused, or cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Writing failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

/// Runs a verb over the tokens in `data_dir`.
pub fn run(args: &KeysArgs, data_dir: &Path, face: &mut Face<'_>) -> Result<(), KeysError> {
    run_at(args, data_dir, face, keys::now())
}

fn run_at(
    args: &KeysArgs,
    data_dir: &Path,
    face: &mut Face<'_>,
    now: UnixSeconds,
) -> Result<(), KeysError> {
    let output = args.output.unwrap_or(match face.terminal {
        Some(_) => Output::Table,
        None => Output::Ndjson,
    });
    let makes = matches!(args.verb, KeysVerb::Create(_));
    if !makes && !data_dir.is_dir() {
        // A mistyped folder is not to be made.
        return Err(KeysError::NoDataDir(data_dir.into()));
    }
    match &args.verb {
        KeysVerb::Create(args) => {
            // Before the store is opened, which makes the folder.
            let expires_at = args.expires.as_deref().map(|text| moment(text, now));
            let new = NewKey {
                name: &args.name,
                permissions: args
                    .permissions
                    .iter()
                    .copied()
                    .fold(Permissions::NONE, Permissions::with),
                expires_at: expires_at.transpose()?,
            };
            let (key, token) = KeyStore::open(data_dir)?.create(&new, now)?;
            show_token(&key, &token, now, output, face)?;
        }
        KeysVerb::List => {
            let all = KeyStore::open(data_dir)?.list()?;
            if all.is_empty() && output == Output::Table {
                writeln!(
                    face.notes,
                    "there are no tokens; `tidegate keys create NAME` makes one"
                )?;
                return Ok(());
            }
            let rows: Vec<_> = all.iter().map(|key| row(key, now)).collect();
            print(&NAMES, &rows, output, face.out)?;
        }
        KeysVerb::Revoke(args) => {
            let key = KeyStore::open(data_dir)?.revoke(&args.name, now)?;
            print(&NAMES, &[row(&key, now)], output, face.out)?;
        }
        KeysVerb::Rotate(args) => {
            let (key, token) = KeyStore::open(data_dir)?.rotate(&args.name, now)?;
            show_token(&key, &token, now, output, face)?;
        }
    }
    Ok(())
}

/// For people the token alone goes to the output, so that it can be piped on from a terminal too.
fn show_token(
    key: &StoredKey,
    token: &Secret,
    now: UnixSeconds,
    output: Output,
    face: &mut Face<'_>,
) -> io::Result<()> {
    if output == Output::Table {
        let name = printable(&key.name);
        writeln!(
            face.notes,
            "The token '{name}'; keep it now, it is not shown again:"
        )?;
        face.notes.flush()?;
        return writeln!(face.out, "{}", token.expose());
    }
    let mut row = row(key, now);
    row.push(("token", token.expose().into()));
    print_one(&row, output, face.out)
}

/// Names and order of the values of a token.
const NAMES: [&str; 7] = [
    "name",
    "state",
    "permissions",
    "last4",
    "created_at",
    "expires_at",
    "revoked_at",
];

fn row(key: &StoredKey, now: UnixSeconds) -> NamedValues {
    let time = |seconds: Option<UnixSeconds>| {
        let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        time.map_or(Value::Null, |time| time.to_string().into())
    };
    let permissions = Permissions::WORDS
        .into_iter()
        .filter(|(_, one)| key.permissions.contains(*one));
    let values: [Value; NAMES.len()] = [
        key.name.clone().into(),
        key.state(now).word().into(),
        permissions.map(|(word, _)| word).collect(),
        key.last4.clone().into(),
        time(Some(key.created_at)),
        time(key.expires_at),
        time(key.revoked_at),
    ];
    NAMES.into_iter().zip(values).collect()
}

fn permission(text: &str) -> Result<Permissions, String> {
    let found = Permissions::WORDS
        .into_iter()
        .find(|(word, _)| *word == text);
    found
        .map(|(_, one)| one)
        .ok_or_else(|| "there are run, read and edit".to_owned())
}

/// Reads when a token ends: so long from now, or a day or moment.
fn moment(text: &str, now: UnixSeconds) -> Result<UnixSeconds, KeysError> {
    if let Ok(span) = unit::duration(text) {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        return Ok(now.saturating_add(seconds));
    }
    let micros = parse_time(text, 0).ok_or_else(|| KeysError::Time(text.to_owned()))?;
    Ok(i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        keys: KeysArgs,
    }

    /// What goes to output and notes, or the error.
    fn run_line(data_dir: &Path, line: &str, terminal: bool) -> Result<(String, String), String> {
        let words = ["keys"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut face = Face {
            out: &mut out,
            notes: &mut notes,
            terminal: terminal.then_some(100),
        };
        let done = run_at(&line.keys, data_dir, &mut face, NOW);
        done.map_err(|error| error.to_string())?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok((text(out), text(notes)))
    }

    #[test]
    fn a_token_is_made_shown_once_listed_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let run = |line| run_line(&data_dir, line, true).unwrap();
        let (token, notes) = run("create app --permissions run,edit --expires 90d");
        assert!(
            token.starts_with("tg_") && token.len() == 3 + 43 + 1,
            "{token}"
        );
        assert_eq!(
            notes,
            "The token 'app'; keep it now, it is not shown again:\n"
        );
        let last4 = &token.trim_end()[token.len() - 5..];
        let (list, _) = run("list");
        let expected = format!(
            "NAME  STATE   PERMISSIONS  LAST4  CREATED_AT            EXPIRES_AT            REVOKED_AT\n\
             app   active  run edit     {last4}   2027-01-15T08:00:00Z  2027-04-15T08:00:00Z  -\n"
        );
        assert_eq!(list, expected);
        let (rotated, _) = run("rotate app");
        assert_ne!(rotated, token);
        let (revoked, _) = run("revoke app");
        assert!(revoked.contains("revoked"), "{revoked}");
        let error = run_line(&data_dir, "rotate app", true).unwrap_err();
        assert!(error.starts_with("the token 'app' was revoked"), "{error}");
    }

    #[test]
    fn programs_get_named_values() {
        let dir = tempfile::tempdir().unwrap();
        let run = |line| run_line(dir.path(), line, false).unwrap().0;
        assert_eq!(run("list"), "");
        assert_eq!(run("list --output json"), "[]\n");
        let names = "name,state,permissions,last4,created_at,expires_at,revoked_at\r\n";
        assert_eq!(run("list --output csv"), names);
        let made: Value = serde_json::from_str(&run("create a,b")).unwrap();
        let token = made["token"].as_str().unwrap();
        assert_eq!(made["last4"], token[token.len() - 4..]);
        assert_eq!(made["permissions"], serde_json::json!(["run"]));
        let csv = run("list --output csv");
        assert!(
            csv.starts_with(names) && csv.contains("\r\n\"a,b\",active,run,"),
            "{csv}"
        );
        assert!(!csv.contains(token));
        let listed: Value = serde_json::from_str(&run("list")).unwrap();
        assert_eq!(
            (&listed["expires_at"], &listed["token"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn what_is_wrong_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        let error = |line| run_line(&none, line, true).unwrap_err();
        assert!(error("list").starts_with("there is no data folder "));
        assert!(error("create a --permissions all").contains("there are run, read and edit"));
        assert!(error("create a --expires soon").starts_with("`soon` is no time"));
        assert!(!none.exists());
        assert!(error("create a --expires 2020-01-01").contains("expired already"));
    }

    #[test]
    fn ends_are_spans_from_now_days_and_moments() {
        for (text, expected) in [
            ("1h", NOW + 3600),
            ("2027-02-01", 1_801_440_000),
            ("2027-02-01T00:00:10Z", 1_801_440_010),
        ] {
            assert_eq!(moment(text, NOW).unwrap(), expected, "{text}");
        }
    }
}
