//! `tidegate prices`: the prices that costs are computed from, listed and compared.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    listing::{NamedValues, print},
    logs::{Face, Output},
    settings::{Place, SettingsError},
};
use crate::{
    control::data_dir::DataDirError,
    domain::{
        money::{Prices, Rate},
        usage::ServiceClass,
    },
    provider::price::{Listed, PriceTable},
};

mod reprice;

/// Arguments of `tidegate prices`.
#[derive(Debug, Args)]
pub struct PricesArgs {
    #[command(subcommand)]
    verb: PricesVerb,
    /// How to print: a table on a terminal, else one JSON object a line.
    #[arg(long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Subcommand)]
enum PricesVerb {
    /// List prices: dollars for a million tokens; for one picture, second or search.
    Show(ShowArgs),
    /// Compare: what the file's [prices] change of the list, or what another table would.
    Diff(DiffArgs),
    /// Compute the costs of past exchanges anew, by the prices of today.
    Reprice(reprice::RepriceArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Only entries whose `provider/model` holds all of these words.
    words: Vec<String>,
    /// Only this provider's.
    #[arg(long, value_name = "SLUG")]
    provider: Option<String>,
    /// Only those of the file's [prices].
    #[arg(long)]
    own: bool,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// A table in the form of the embedded one (src/provider/prices.tsv); may be of another
    /// version.
    file: Option<PathBuf>,
}

/// Why a verb of `prices` failed.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The configuration, whose `[prices]` count, cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The table to compare with cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can be read and is no table.
    #[error("{} has no line of prices; lines look as in `src/provider/prices.tsv`", .0.display())]
    NoTable(PathBuf),
    /// The time cannot be read.
    #[error("`{0}` is no time; write `30d`, `2026-11-01` or `2026-11-01T08:00:00Z`")]
    Time(String),
    /// A server uses the data folder, or nobody can.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Reading or writing failed.
    #[error("cannot read or write: {0}")]
    Io(#[from] io::Error),
}

/// Largest table that is read; the embedded one has 0.2 MB.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Runs a verb over the prices that a server with this configuration has.
pub fn run(args: &PricesArgs, place: &Place, face: &mut Face<'_>) -> Result<(), PricesError> {
    let config = place.load()?.config;
    run_with(args, config.prices, &config.data_dir, face)
}

fn run_with(
    args: &PricesArgs,
    own: Vec<(String, Prices)>,
    data_dir: &Path,
    face: &mut Face<'_>,
) -> Result<(), PricesError> {
    let output = args.output.unwrap_or(match face.terminal {
        Some(_) => Output::Table,
        None => Output::Ndjson,
    });
    match &args.verb {
        PricesVerb::Show(args) => {
            let table = PriceTable::embedded().with_overrides(own);
            let rows: Vec<_> = table
                .all()
                .filter(|line| args.takes(line))
                .map(|line| row(&line))
                .collect();
            if rows.is_empty() && output == Output::Table {
                writeln!(
                    face.notes,
                    "no entry matches; unpriced models cost `unknown`"
                )?;
                return Ok(());
            }
            let names: Vec<_> = row(&NOTHING).iter().map(|(name, _)| *name).collect();
            print(&names, &rows, output, face.out)?;
        }
        PricesVerb::Diff(args) => {
            let (before, after) = match &args.file {
                Some(path) => (PriceTable::embedded(), read_table(path)?),
                None => (
                    PriceTable::embedded(),
                    PriceTable::embedded().with_overrides(own),
                ),
            };
            let rows = changes(&before, &after, args.file.is_some());
            if rows.is_empty() && output == Output::Table {
                writeln!(face.notes, "no difference")?;
                return Ok(());
            }
            print(&CHANGE_NAMES, &rows, output, face.out)?;
        }
        PricesVerb::Reprice(args) => {
            let table = PriceTable::embedded().with_overrides(own);
            reprice::run(args, &table, data_dir, output, face)?;
        }
    }
    Ok(())
}

impl ShowArgs {
    fn takes(&self, line: &Listed<'_>) -> bool {
        let provider = line.key.split('/').next().unwrap_or_default();
        (line.own || !self.own)
            && self.provider.as_deref().is_none_or(|slug| slug == provider)
            && self.words.iter().all(|word| line.key.contains(word))
    }
}

/// Shows the names of a row without one.
const NOTHING: Listed<'_> = Listed {
    key: "",
    own: false,
    class: ServiceClass::Standard,
    above: 0,
    prices: Prices {
        input: None,
        output: None,
        cache_read: None,
        cache_write: None,
        cache_write_hour: None,
        reasoning: None,
        input_audio: None,
        output_audio: None,
        input_image: None,
        image: None,
        audio_milli: None,
        search: None,
    },
};

/// The kinds of price in the order of [`Prices::all`], each with the units that it is told for.
const KINDS: [(&str, u64); 12] = [
    ("input", 1_000_000),
    ("output", 1_000_000),
    ("cache_read", 1_000_000),
    ("cache_write", 1_000_000),
    ("cache_write_hour", 1_000_000),
    ("reasoning", 1_000_000),
    ("input_audio", 1_000_000),
    ("output_audio", 1_000_000),
    ("input_image", 1_000_000),
    ("image", 1),
    ("audio_second", 1_000),
    ("search", 1),
];

fn row(line: &Listed<'_>) -> NamedValues {
    let mut row = vec![
        ("entry", line.key.into()),
        ("from", if line.own { "file" } else { "list" }.into()),
        ("class", line.class.word().into()),
        ("above", line.above.into()),
    ];
    let prices = KINDS.into_iter().zip(line.prices.all());
    row.extend(prices.map(|((name, units), rate)| (name, dollars(rate, units))));
    row
}

fn dollars(rate: Option<Rate>, units: u64) -> Value {
    rate.map_or(Value::Null, |rate| rate.dollars_for(units).into())
}

const CHANGE_NAMES: [&str; 7] = [
    "change", "entry", "class", "above", "price", "before", "after",
];

/// What one table has otherwise than the other, price by price. An operator's entry stands for the
/// list's of the same key. `removals`: what is missing counts.
fn changes(before: &PriceTable, after: &PriceTable, removals: bool) -> Vec<NamedValues> {
    let (before, after) = (by_place(before), by_place(after));
    let mut places: Vec<_> = before.keys().chain(after.keys()).collect();
    places.sort_unstable();
    places.dedup();
    let mut rows = Vec::new();
    for place in places {
        let (old, new) = (before.get(place), after.get(place));
        let change = match (old, new) {
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (Some(_), None) if removals => "removed",
            (Some(_), None) => continue,
        };
        let none = NOTHING.prices;
        let pairs = old
            .unwrap_or(&none)
            .all()
            .into_iter()
            .zip(new.unwrap_or(&none).all());
        for ((kind, units), (old, new)) in KINDS.into_iter().zip(pairs) {
            if old == new {
                continue;
            }
            let (key, class, above) = place;
            let values: [Value; CHANGE_NAMES.len()] = [
                change.into(),
                (*key).into(),
                (*class).into(),
                (*above).into(),
                kind.into(),
                dollars(old, units),
                dollars(new, units),
            ];
            rows.push(CHANGE_NAMES.into_iter().zip(values).collect());
        }
    }
    rows
}

/// Where prices stand: entry, class, and above how many input tokens.
type PlaceOfPrices<'a> = (&'a str, &'static str, u64);

fn by_place(table: &PriceTable) -> BTreeMap<PlaceOfPrices<'_>, Prices> {
    let mut places = BTreeMap::new();
    for line in table.all() {
        // The operator's come first, and win.
        let place = (line.key, line.class.word(), line.above);
        places.entry(place).or_insert(line.prices);
    }
    places
}

fn read_table(path: &Path) -> Result<PriceTable, PricesError> {
    let unreadable = |source| PricesError::Table {
        path: path.into(),
        source,
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > TABLE_BYTES_MAX {
        let text = format!("it has {size} bytes, more than {TABLE_BYTES_MAX}");
        return Err(unreadable(io::Error::other(text)));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    // Once, and for as long as the program runs.
    let table = PriceTable::of_text(text.leak());
    if table.is_empty() {
        return Err(PricesError::NoTable(path.into()));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        prices: PricesArgs,
    }

    fn run_line(line: &str, own: Vec<(String, Prices)>) -> Result<Vec<Value>, String> {
        let words = ["prices"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut face = Face {
            out: &mut out,
            notes: &mut notes,
            terminal: None,
        };
        run_with(&line.prices, own, Path::new("/nowhere"), &mut face)
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8(out).unwrap();
        Ok(text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect())
    }

    fn own(key: &str, input: &str) -> Vec<(String, Prices)> {
        let prices = Prices {
            input: Rate::per_million(input),
            ..Prices::default()
        };
        vec![(key.to_owned(), prices)]
    }

    #[test]
    fn a_model_is_shown_in_every_class() {
        let rows = run_line("show gpt-5-mini-2025 --provider openai", Vec::new()).unwrap();
        let classes: Vec<_> = rows
            .iter()
            .map(|row| row["class"].as_str().unwrap())
            .collect();
        assert_eq!(classes, ["standard", "batch", "flex", "priority"]);
        assert_eq!(rows[0]["input"], "0.25");
        assert_eq!(rows[1]["input"], "0.125");
        assert_eq!(rows[0]["image"], Value::Null);
        let rows = run_line("show whisper-1 --provider openai", Vec::new()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["audio_second"], "0.0001");
    }

    #[test]
    fn own_prices_are_marked_and_can_be_shown_alone() {
        let rows = run_line("show --own", own("openai/mine", "1.5")).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["from"], "file");
        assert_eq!(rows[0]["input"], "1.5");
    }

    #[test]
    fn the_file_is_compared_with_the_list() {
        assert_eq!(run_line("diff", Vec::new()).unwrap(), Vec::<Value>::new());
        let rows = run_line("diff", own("openai/mine", "1.5")).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["change"], "added");
        let rows = run_line("diff", own("openai/gpt-4o", "1.5")).unwrap();
        let changed: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row["price"].as_str().unwrap(),
                    &row["before"],
                    &row["after"],
                )
            })
            .collect();
        assert_eq!(changed[0], ("input", &"2.5".into(), &"1.5".into()));
        assert_eq!(changed[1], ("output", &"10".into(), &Value::Null));
        assert_eq!(rows[0]["change"], "changed");
    }

    #[test]
    fn another_table_is_compared_and_no_table_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.tsv");
        let embedded = include_str!("../provider/prices.tsv");
        fs::write(&path, embedded).unwrap();
        let line = format!("diff {}", path.display());
        assert_eq!(run_line(&line, Vec::new()).unwrap(), Vec::<Value>::new());
        let without = embedded
            .lines()
            .filter(|line| !line.starts_with("openai/whisper-1\t"));
        fs::write(&path, without.collect::<Vec<_>>().join("\n")).unwrap();
        let rows = run_line(&line, Vec::new()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["change"], "removed");
        assert_eq!(rows[0]["price"], "audio_second");
        fs::write(&path, "nothing\n").unwrap();
        let error = run_line(&line, Vec::new()).unwrap_err();
        assert!(error.contains("has no line of prices"), "{error}");
        let error = run_line("diff /nowhere/table", Vec::new()).unwrap_err();
        assert!(error.starts_with("cannot read /nowhere/table: "), "{error}");
    }
}
