//! `tidegate prices reprice`: what past exchanges cost by today's prices, and, if wished, records
//! that say so.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde_json::Value;

use super::PricesError;
use crate::{
    cli::{
        listing::{NamedValues, print},
        logs::{Face, Output, row::decimal},
    },
    control::{
        data_dir::DataDir,
        logs::{
            filter::parse_time,
            folder::LogDir,
            seal::rewrite::{Rewritten, rewrite},
            snapshot::LogReader,
        },
        rollup::store,
    },
    domain::{
        money::dollars,
        record::{Record, TEXTS, Text, Texts, flag},
    },
    provider::price::PriceTable,
};

#[derive(Debug, Args)]
pub(super) struct RepriceArgs {
    /// Exchanges from this time on: `30d` ago, `2026-11-01` or `2026-11-01T08:00:00Z`.
    #[arg(long)]
    since: Option<String>,
    /// Exchanges before this time.
    #[arg(long)]
    until: Option<String>,
    /// Only exchanges that have no cost yet.
    #[arg(long)]
    unpriced: bool,
    /// Change the records. The server must not run; charts follow.
    #[arg(long)]
    apply: bool,
}

/// Which exchanges.
struct Chosen {
    from: u64,
    to: u64,
    unpriced: bool,
}

/// The sums of one model.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    records: u64,
    changed: u64,
    newly_priced: u64,
    unpriced: u64,
    /// Pico-dollars.
    before: u128,
    after: u128,
}

const NAMES: [&str; 8] = [
    "provider",
    "model",
    "records",
    "changed",
    "newly_priced",
    "unpriced",
    "cost_before",
    "cost_after",
];

pub(super) fn run(
    args: &RepriceArgs,
    prices: &PriceTable,
    data_dir: &Path,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), PricesError> {
    let chosen = args.chosen()?;
    let log = LogDir::of(data_dir);
    let mut sums = BTreeMap::new();
    if args.apply {
        // Held to the end: no server starts meanwhile.
        let _lock = DataDir::lock(data_dir)?;
        let done = rewrite(&log, |record| {
            let new = price(prices, record, &chosen);
            count(&mut sums, record, new.as_ref());
            new.is_some_and(|new| new.put_into(record))
        })?;
        tell(
            &done,
            store::sum_again(&log, &done.files, now_micros())?,
            face,
        )?;
    } else {
        let snapshot = LogReader::new(log).snapshot()?;
        let mut damages: Vec<_> = snapshot.damages().cloned().collect();
        for block in snapshot.blocks() {
            let micros = block.micros();
            if *micros.start() >= chosen.to || *micros.end() < chosen.from {
                continue;
            }
            let read = block.open().and_then(|open| {
                let broken = |error| block.damage(error);
                let rows = open.block().map_err(broken)?;
                let rows = rows.reader().map_err(broken)?;
                for record in (0..).map_while(|row| rows.record(row)) {
                    let new = price(prices, &record, &chosen);
                    count(&mut sums, &record, new.as_ref());
                }
                Ok(())
            });
            damages.extend(read.err());
        }
        for damage in damages {
            writeln!(face.notes, "not read: {damage}")?;
        }
    }
    let rows: Vec<_> = sums.iter().map(|(model, sums)| row(model, sums)).collect();
    print(&NAMES, &rows, output, face.out)?;
    if !args.apply && output == Output::Table {
        writeln!(
            face.notes,
            "nothing was changed; `--apply` writes these costs"
        )?;
    }
    Ok(())
}

fn tell(done: &Rewritten, kept: Vec<String>, face: &mut Face<'_>) -> io::Result<()> {
    let (records, files) = (done.changed, done.files.len());
    writeln!(face.notes, "{records} records changed in {files} files")?;
    for damage in &done.damages {
        writeln!(face.notes, "a file stays as it was: {damage}")?;
    }
    for date in kept {
        writeln!(
            face.notes,
            "charts of {date} keep the old costs: some of its records are gone"
        )?;
    }
    Ok(())
}

impl RepriceArgs {
    fn chosen(&self) -> Result<Chosen, PricesError> {
        let time = |text: &Option<String>, otherwise| match text {
            None => Ok(otherwise),
            Some(text) => {
                parse_time(text, now_micros()).ok_or_else(|| PricesError::Time(text.clone()))
            }
        };
        Ok(Chosen {
            from: time(&self.since, 0)?,
            to: time(&self.until, u64::MAX)?,
            unpriced: self.unpriced,
        })
    }
}

/// What an exchange costs now.
struct New<'a> {
    cost: Option<u64>,
    /// The entry that says so; empty if none does.
    key: &'a str,
    table: u64,
}

/// The cost by today's prices, for what is to be priced at all: not what the caller or the provider
/// priced, and not what reported nothing.
fn price<'a>(prices: &'a PriceTable, record: &Record, chosen: &Chosen) -> Option<New<'a>> {
    let in_time = (chosen.from..chosen.to).contains(&record.at_micros);
    let is_stated = record.has(flag::CUSTOM_COST)
        || record.has(flag::CACHED)
        || (record.cost.is_some() && record.price_table == 0);
    let usage = record.usage();
    let is_wanted = in_time && !is_stated && !(chosen.unpriced && record.cost.is_some());
    if !is_wanted || usage.is_unknown() {
        return None;
    }
    let found = prices.lookup(
        &record.text(Text::Provider),
        &record.text(Text::Model),
        &record.text(Text::ModelName),
        &usage,
    );
    Some(New {
        cost: found
            .as_ref()
            .and_then(|found| found.prices.cost(&usage))
            .map(|cost| cost.0),
        key: found.as_ref().map_or("", |found| found.key),
        table: found.as_ref().map_or(0, |_| prices.hash()),
    })
}

impl New<'_> {
    /// Takes it over; says whether the record's cost or its price is another now.
    fn put_into(&self, record: &mut Record) -> bool {
        if record.cost == self.cost && record.texts.get(Text::PriceKey) == self.key.as_bytes() {
            return false;
        }
        record.cost = self.cost;
        record.price_table = self.table;
        let old = std::mem::take(&mut record.texts);
        let mut texts: [&[u8]; TEXTS] = Text::ALL.map(|text| old.get(text));
        texts[Text::PriceKey as usize] = self.key.as_bytes();
        record.texts = Texts::pack(&texts);
        true
    }
}

type Model = (String, String);

fn count(sums: &mut BTreeMap<Model, Sums>, record: &Record, new: Option<&New<'_>>) {
    let Some(new) = new else { return };
    let model = (
        record.text(Text::Provider).into_owned(),
        record.text(Text::Model).into_owned(),
    );
    let sums = sums.entry(model).or_default();
    sums.records += 1;
    sums.changed += u64::from(record.cost != new.cost);
    sums.newly_priced += u64::from(record.cost.is_none() && new.cost.is_some());
    sums.unpriced += u64::from(new.cost.is_none());
    sums.before += u128::from(record.cost.unwrap_or(0));
    sums.after += u128::from(new.cost.unwrap_or(0));
}

fn row((provider, model): &Model, sums: &Sums) -> NamedValues {
    let values: [Value; NAMES.len()] = [
        provider.as_str().into(),
        model.as_str().into(),
        sums.records.into(),
        sums.changed.into(),
        sums.newly_priced.into(),
        sums.unpriced.into(),
        decimal(&dollars(sums.before)),
        decimal(&dollars(sums.after)),
    ];
    NAMES.into_iter().zip(values).collect()
}

fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::logs::{self, LogOptions},
        control::rollup::view,
        domain::{
            id::RequestIds,
            money::{Prices, Rate},
        },
    };

    fn args(apply: bool, unpriced: bool) -> RepriceArgs {
        RepriceArgs {
            since: None,
            until: None,
            unpriced,
            apply,
        }
    }

    fn prices(millionths: &str) -> PriceTable {
        let rate = Rate::per_million(millionths);
        let prices = Prices {
            input: rate,
            output: rate,
            ..Prices::default()
        };
        PriceTable::embedded().with_overrides([("openai/mine", prices)])
    }

    fn record(n: u64, cost: Option<u64>, table: u64, flags: u32) -> Record {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Provider as usize] = b"openai";
        texts[Text::Model as usize] = b"mine";
        texts[Text::ModelName as usize] = b"openai/mine";
        texts[Text::Path as usize] = b"/kept";
        let id = RequestIds::new([7; 6]).next(1_795_262_400_000 + n);
        Record {
            id: id.0,
            at_micros: (1_795_262_400_000 + n) * 1_000,
            status: 200,
            tokens_input: Some(10),
            tokens_output: Some(n),
            cost,
            price_table: table,
            flags,
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    }

    /// A store with a priced record, an unpriced one, one with the caller's cost, one with the
    /// provider's, and one that reported nothing.
    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
        let mut silent = record(5, None, 0, 0);
        (silent.tokens_input, silent.tokens_output) = (None, None);
        for record in [
            record(1, Some(100), 9, 0),
            record(2, None, 0, 0),
            record(3, Some(3), 0, flag::CUSTOM_COST),
            record(4, Some(4), 0, 0),
            silent,
        ] {
            assert!(senders[0].record(Box::new(record)));
        }
        drop(senders);
        logs.stop();
        dir
    }

    fn reprice(dir: &Path, args: &RepriceArgs, prices: &PriceTable) -> Vec<Value> {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut face = Face {
            out: &mut out,
            notes: &mut notes,
            terminal: None,
        };
        run(args, prices, dir, Output::Ndjson, &mut face).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn costs(dir: &Path) -> Vec<Option<u64>> {
        let snapshot = LogReader::new(LogDir::of(dir)).snapshot().unwrap();
        let mut costs = Vec::new();
        for block in snapshot.blocks() {
            let open = block.open().unwrap();
            let rows = open.block().unwrap();
            let rows = rows.reader().unwrap();
            for record in (0..).map_while(|row| rows.record(row)) {
                assert_eq!(record.text(Text::Path), "/kept");
                costs.push(record.cost);
            }
        }
        costs
    }

    #[test]
    fn without_apply_it_tells_and_changes_nothing() {
        let dir = store();
        let before = costs(dir.path());
        let rows = reprice(dir.path(), &args(false, false), &prices("1"));
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["records"], 2);
        assert_eq!(rows[0]["changed"], 2);
        assert_eq!(rows[0]["newly_priced"], 1);
        assert_eq!(rows[0]["cost_before"].to_string(), "0.0000000001");
        // 11 and 12 tokens at a millionth.
        assert_eq!(rows[0]["cost_after"].to_string(), "0.000023");
        assert_eq!(costs(dir.path()), before);
    }

    #[test]
    fn records_and_their_sums_take_the_new_costs() {
        let dir = store();
        reprice(dir.path(), &args(true, false), &prices("1"));
        let (one, two) = (Some(11_000_000), Some(12_000_000));
        assert_eq!(costs(dir.path()), [one, two, Some(3), Some(4), None]);
        // Those that are unpriced by another table stay as they are where only such are wanted.
        reprice(dir.path(), &args(true, true), &prices("2"));
        assert_eq!(costs(dir.path()), [one, two, Some(3), Some(4), None]);
        // A second time: the rollups, which are there by now, follow.
        reprice(dir.path(), &args(true, false), &prices("2"));
        let picos = 22_000_000 + 24_000_000;
        assert_eq!(costs(dir.path())[..2], [Some(22_000_000), Some(24_000_000)]);
        let mut reader = LogReader::new(LogDir::of(dir.path()));
        let everything = view::Question {
            micros: 0..=u64::MAX,
            stretch: None,
            by: Vec::new(),
            only: Vec::new(),
            groups_max: 10,
        };
        let answer = view::ask(&mut reader, &everything).unwrap();
        let cost: u128 = answer.groups.iter().map(|group| group.totals.cost).sum();
        assert_eq!(cost, picos + 3 + 4);
        let rows = reprice(dir.path(), &args(true, false), &prices("2"));
        assert_eq!(rows[0]["changed"], 0);
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let dir = store();
        let _held = DataDir::lock(dir.path()).unwrap();
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut face = Face {
            out: &mut out,
            notes: &mut notes,
            terminal: None,
        };
        let (args, table) = (args(true, false), prices("1"));
        let error = run(&args, &table, dir.path(), Output::Ndjson, &mut face).unwrap_err();
        assert!(error.to_string().contains("already uses"), "{error}");
    }
}
