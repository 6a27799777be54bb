//! `--group-by`: records counted and summed, in exact integers.

use std::{
    fmt::Write as _,
    io::{self, Write},
    str::FromStr,
};

use serde_json::{Map, Value, json};

use super::{
    Output,
    row::{decimal, plain, time, write_csv_line},
    table::printable,
};
use crate::{
    control::{
        logs::query::{
            group::{Group, GroupKey, KEYS_MAX, Part, Stretch},
            sums::Grouped,
        },
        rollup::totals::{Time, Tokens},
    },
    domain::{money::PicoDollars, outcome::Outcome, record::Text},
};

/// What records are grouped by: names as given, and what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKeys(Vec<(String, GroupKey)>);

impl GroupKeys {
    /// The keys.
    pub fn keys(&self) -> Vec<GroupKey> {
        self.0.iter().map(|(_, key)| key.clone()).collect()
    }
}

impl FromStr for GroupKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let keys = text
            .split(',')
            .map(|name| key(name).map(|key| (name.to_owned(), key)))
            .collect::<Option<Vec<_>>>()
            .ok_or(
                "group by gateway, provider, model, name, key, outcome, status, minute, hour, \
                 day or meta.NAME",
            )?;
        if keys.len() > KEYS_MAX {
            return Err(format!("group by at most {KEYS_MAX} keys"));
        }
        Ok(Self(keys))
    }
}

fn key(name: &str) -> Option<GroupKey> {
    Some(match name {
        "gateway" => GroupKey::Text(Text::Gateway),
        "provider" => GroupKey::Text(Text::Provider),
        "model" => GroupKey::Text(Text::Model),
        "name" => GroupKey::Text(Text::ModelName),
        "key" => GroupKey::Text(Text::Key),
        "outcome" => GroupKey::Outcome,
        "status" => GroupKey::Status,
        "minute" => GroupKey::Time(Stretch::Minute),
        "hour" => GroupKey::Time(Stretch::Hour),
        "day" => GroupKey::Time(Stretch::Day),
        _ => {
            let name = name
                .strip_prefix("metadata.")
                .or_else(|| name.strip_prefix("meta."))?;
            return (!name.is_empty()).then(|| GroupKey::Metadata(name.into()));
        }
    })
}

/// A part of a group's name as text.
fn part_text(key: &GroupKey, part: Option<&Part>) -> String {
    match (key, part) {
        (_, None) => "(other)".into(),
        (_, Some(Part::Text(text))) => String::from_utf8_lossy(text).into_owned(),
        (GroupKey::Outcome, Some(Part::Number(number))) => {
            let number = u8::try_from(*number).ok();
            let outcome = number.and_then(Outcome::from_number);
            outcome.map_or("unknown", Outcome::word).into()
        }
        (GroupKey::Time(stretch), Some(Part::Number(start))) => {
            let mut text = time(*start);
            match stretch {
                Stretch::Day => text.truncate("2026-11-21".len()),
                Stretch::Minute | Stretch::Hour => {
                    text.truncate("2026-11-21T08:00".len());
                    text.push('Z');
                }
            }
            text
        }
        (_, Some(Part::Number(number))) => number.to_string(),
    }
}

/// The per-milles that are printed, with their names.
const QUANTILES: [(&str, u32); 4] = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)];

/// The times that are printed, with their names.
const TIMES: [(&str, Time); 3] = [
    ("duration", Time::Duration),
    ("first_token", Time::FirstToken),
    ("overhead", Time::Overhead),
];

/// Prints the groups in their order, what is beyond them last.
pub fn print(
    keys: &GroupKeys,
    grouped: &Grouped,
    output: Output,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows = grouped.groups.iter().chain(&grouped.other);
    match output {
        Output::Table => print_table(keys, rows, out),
        Output::Csv => {
            let names = values(keys, &Group::default());
            write_csv_line(out, names.into_iter().map(|(name, _)| name))?;
            rows.into_iter().try_for_each(|group| {
                let values = values(keys, group);
                write_csv_line(out, values.iter().map(|(_, value)| plain(value)))
            })
        }
        Output::Ndjson => rows
            .into_iter()
            .try_for_each(|group| writeln!(out, "{}", object(keys, group))),
        Output::Json => {
            let all: Vec<_> = rows.map(|group| object(keys, group)).collect();
            writeln!(out, "{:#}", Value::from(all))
        }
    }
}

fn object(keys: &GroupKeys, group: &Group) -> Value {
    Value::Object(values(keys, group).into_iter().collect::<Map<_, _>>())
}

/// The named values of a group, in a fixed order.
fn values(keys: &GroupKeys, group: &Group) -> Vec<(String, Value)> {
    let totals = &group.totals;
    let tokens = |kind: Tokens| decimal(&totals.used(kind).to_string());
    let mut values: Vec<(String, Value)> = names(keys, group)
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    let numbers = [
        ("records", json!(totals.rows)),
        ("requests", json!(totals.requests)),
        ("errors", json!(totals.errors())),
        ("cached", json!(totals.cached())),
        ("tokens_in", tokens(Tokens::Input)),
        ("tokens_out", tokens(Tokens::Output)),
        ("tokens_cache_read", tokens(Tokens::CacheRead)),
        ("tokens_cache_write", tokens(Tokens::CacheWrite)),
        ("tokens_reasoning", tokens(Tokens::Reasoning)),
        ("tokens_saved_in", tokens(Tokens::CachedInput)),
        ("tokens_saved_out", tokens(Tokens::CachedOutput)),
        ("unmetered", json!(totals.unmetered)),
        ("cost", decimal(&dollars(totals.cost))),
        ("unpriced", json!(totals.unpriced)),
    ];
    values.extend(numbers.map(|(name, value)| (name.to_owned(), value)));
    for (name, time) in TIMES {
        for (quantile, per_mille) in QUANTILES {
            let micros = group.times[time as usize].quantile(per_mille);
            values.push((format!("{name}_{quantile}_ms"), millis(micros)));
        }
    }
    values
}

fn names<'a>(
    keys: &'a GroupKeys,
    group: &'a Group,
) -> impl Iterator<Item = (&'a str, String)> + 'a {
    keys.0.iter().enumerate().map(|(index, (name, key))| {
        let part = group.parts.get(index);
        (name.as_str(), part_text(key, part))
    })
}

fn millis(micros: Option<u64>) -> Value {
    micros.map_or(Value::Null, |micros| {
        decimal(&format!("{}.{:03}", micros / 1000, micros % 1000))
    })
}

fn print_table<'a>(
    keys: &GroupKeys,
    groups: impl Iterator<Item = &'a Group>,
    out: &mut dyn Write,
) -> io::Result<()> {
    const TITLES: [&str; 9] = [
        "REQUESTS",
        "ERRORS",
        "TOKENS IN",
        "TOKENS OUT",
        "COST $",
        "UNPRICED",
        "P50 MS",
        "P95 MS",
        "P99 MS",
    ];
    let named = keys.0.len();
    let titles = keys.0.iter().map(|(name, _)| name.to_uppercase());
    let mut lines: Vec<Vec<String>> = vec![titles.chain(TITLES.map(String::from)).collect()];
    for group in groups {
        let names = names(keys, group).map(|(_, text)| match text.as_str() {
            "" => "(none)".into(),
            text => printable(text),
        });
        lines.push(names.chain(cells(group)).collect());
    }
    let widths: Vec<usize> = (0..named + TITLES.len())
        .map(|index| {
            let cells = lines.iter().filter_map(|line| line.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let mut text = String::new();
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if index > 0 {
                text.push_str("  ");
            }
            // Writing to a text cannot fail.
            let _ = if index < named {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "{cell:>width$}")
            };
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn cells(group: &Group) -> [String; 9] {
    let totals = &group.totals;
    let tokens = |kind: Tokens| totals.used(kind).to_string();
    let quantile = |per_mille| {
        let micros = group.times[Time::Duration as usize].quantile(per_mille);
        micros.map_or_else(|| "-".into(), |micros| (micros / 1000).to_string())
    };
    [
        totals.requests.to_string(),
        totals.errors().to_string(),
        tokens(Tokens::Input),
        tokens(Tokens::Output),
        dollars(totals.cost),
        totals.unpriced.to_string(),
        quantile(500),
        quantile(950),
        quantile(990),
    ]
}

/// An exact sum of pico-dollars in dollars.
fn dollars(picos: u128) -> String {
    const DOLLAR: u128 = 1_000_000_000_000;
    if let Ok(picos) = u64::try_from(picos) {
        return PicoDollars(picos).to_string();
    }
    // The part below a dollar always fits; its leading `0` gives way to the dollars.
    let part = PicoDollars(u64::try_from(picos % DOLLAR).unwrap_or(0)).to_string();
    let part = part.strip_prefix('0').unwrap_or_default();
    format!("{}{part}", picos / DOLLAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_beyond_a_record_print_exactly() {
        assert_eq!(dollars(0), "0");
        assert_eq!(dollars(150_000), "0.00000015");
        assert_eq!(dollars(20_000_000u128 * 1_000_000_000_000), "20000000");
        assert_eq!(
            dollars(20_000_000u128 * 1_000_000_000_000 + 10),
            "20000000.00000000001"
        );
    }

    #[test]
    fn several_keys_are_named_at_once() {
        let keys: GroupKeys = "model,hour,meta.user".parse().unwrap();
        assert_eq!(keys.0.len(), 3);
        for text in ["", "model,", "x", "meta.", "day,day,day,day,day,day"] {
            assert!(text.parse::<GroupKeys>().is_err(), "{text}");
        }
    }
}
