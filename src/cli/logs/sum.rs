//! `--group-by`: records counted and summed, in exact integers.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    str::FromStr,
};

use serde_json::json;

use super::{
    Output,
    row::{decimal, time, write_csv_line},
    table::printable,
};
use crate::{
    control::logs::filter::field::metadata_value,
    domain::{
        money::PicoDollars,
        outcome::Outcome,
        record::{ArchivedRecord, Text},
    },
};

/// Most groups kept apart; what comes beyond them is summed as `(other)`.
const GROUPS_MAX: usize = 100_000;

/// What records are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// A text of the record.
    Text(&'static str, Text),
    /// How it ended.
    Outcome,
    /// The status.
    Status,
    /// The day it began, UTC.
    Day,
    /// A member of the metadata.
    Metadata(String),
}

impl GroupKey {
    fn name(&self) -> &str {
        match self {
            Self::Text(name, _) => name,
            Self::Outcome => "outcome",
            Self::Status => "status",
            Self::Day => "day",
            Self::Metadata(name) => name,
        }
    }

    fn of(&self, record: &ArchivedRecord) -> String {
        match self {
            Self::Text(_, text) => String::from_utf8_lossy(record.texts.get(*text)).into_owned(),
            Self::Outcome => Outcome::from_number(record.outcome)
                .map_or("unknown", Outcome::word)
                .into(),
            Self::Status => record.status.to_native().to_string(),
            Self::Day => {
                let mut day = time(record.at_micros.to_native());
                day.truncate("2026-11-21".len());
                day
            }
            Self::Metadata(name) => {
                metadata_value(record.texts.get(Text::Metadata), name).unwrap_or_default()
            }
        }
    }
}

impl FromStr for GroupKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "model" => Self::Text("model", Text::Model),
            "provider" => Self::Text("provider", Text::Provider),
            "gateway" => Self::Text("gateway", Text::Gateway),
            "key" => Self::Text("key", Text::Key),
            "outcome" => Self::Outcome,
            "status" => Self::Status,
            "day" => Self::Day,
            _ => match text.strip_prefix("meta.") {
                Some(name) if !name.is_empty() => Self::Metadata(name.into()),
                _ => {
                    return Err(
                        "group by model, provider, gateway, key, outcome, status, day or \
                                meta.NAME"
                            .into(),
                    );
                }
            },
        })
    }
}

/// The sums of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    not_ok: u64,
    tokens_in: u128,
    tokens_out: u128,
    /// Pico-dollars.
    cost: u128,
    unpriced: u64,
}

/// The sums of all groups.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<String, Sum>);

impl Sums {
    /// Adds a record to its group.
    pub fn add(&mut self, key: &GroupKey, record: &ArchivedRecord) {
        let mut group = key.of(record);
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&group) {
            group = "(other)".into();
        }
        let sum = self.0.entry(group).or_default();
        let known = |number: &rkyv::option::ArchivedOption<rkyv::rend::u64_le>| {
            number.as_ref().map(|number| u128::from(number.to_native()))
        };
        sum.requests += 1;
        sum.not_ok += u64::from(record.outcome != Outcome::Ok as u8);
        sum.tokens_in += known(&record.tokens_input).unwrap_or(0);
        sum.tokens_out += known(&record.tokens_output).unwrap_or(0);
        match known(&record.cost) {
            Some(cost) => sum.cost += cost,
            None => sum.unpriced += 1,
        }
    }

    /// Prints the groups, dearest first.
    pub fn print(&self, key: &GroupKey, output: Output, out: &mut dyn Write) -> io::Result<()> {
        let mut groups: Vec<_> = self.0.iter().collect();
        groups.sort_by_key(|(group, sum)| {
            use std::cmp::Reverse;
            (Reverse(sum.cost), Reverse(sum.requests), *group)
        });
        let name = key.name();
        match output {
            Output::Table => print_table(name, &groups, out),
            Output::Csv => {
                let names = [
                    name,
                    "requests",
                    "not_ok",
                    "tokens_in",
                    "tokens_out",
                    "cost",
                ];
                let names = names.into_iter().chain(["unpriced"]);
                write_csv_line(out, names.map(String::from))?;
                groups.iter().try_for_each(|(group, sum)| {
                    write_csv_line(out, [(*group).clone()].into_iter().chain(sum.cells()))
                })
            }
            Output::Ndjson => groups
                .iter()
                .try_for_each(|(group, sum)| writeln!(out, "{}", sum.json(name, group))),
            Output::Json => {
                let all = groups.iter().map(|(group, sum)| sum.json(name, group));
                let all: Vec<_> = all.collect();
                writeln!(out, "{:#}", serde_json::Value::from(all))
            }
        }
    }
}

impl Sum {
    fn cells(&self) -> [String; 6] {
        [
            self.requests.to_string(),
            self.not_ok.to_string(),
            self.tokens_in.to_string(),
            self.tokens_out.to_string(),
            dollars(self.cost),
            self.unpriced.to_string(),
        ]
    }

    fn json(&self, name: &str, group: &str) -> serde_json::Value {
        json!({
            name: group,
            "requests": self.requests,
            "not_ok": self.not_ok,
            "tokens_in": decimal(&self.tokens_in.to_string()),
            "tokens_out": decimal(&self.tokens_out.to_string()),
            "cost": decimal(&dollars(self.cost)),
            "unpriced": self.unpriced,
        })
    }
}

fn print_table(name: &str, groups: &[(&String, &Sum)], out: &mut dyn Write) -> io::Result<()> {
    let titles = [
        "REQUESTS",
        "NOT OK",
        "TOKENS IN",
        "TOKENS OUT",
        "COST $",
        "UNPRICED",
    ];
    let mut lines = vec![(name.to_uppercase(), titles.map(String::from))];
    for (group, sum) in groups {
        let group = match group.as_str() {
            "" => "(none)".into(),
            group => printable(group),
        };
        lines.push((group, sum.cells()));
    }
    let first = lines.iter().map(|(group, _)| group.chars().count()).max();
    let first = first.unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(|index| {
        let cells = lines.iter().map(|(_, cells)| cells[index].len());
        cells.max().unwrap_or(0)
    });
    for (group, cells) in &lines {
        write!(out, "{group:<first$}")?;
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
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
}
