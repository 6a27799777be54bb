//! Rows of named values, printed for people or for programs.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde_json::{Map, Value};

use super::logs::{
    Output,
    row::{plain, write_csv_line},
    table::printable,
};

/// One row: names and values, in the order in which they are shown.
pub(super) type NamedValues = Vec<(&'static str, Value)>;

/// Prints rows that all have the columns `names`, also where there is no row.
pub(super) fn print(
    names: &[&'static str],
    rows: &[NamedValues],
    output: Output,
    out: &mut dyn Write,
) -> io::Result<()> {
    match output {
        Output::Table => print_table(names, rows, out),
        Output::Json => {
            let all: Vec<_> = rows.iter().map(object).collect();
            writeln!(out, "{:#}", Value::from(all))
        }
        Output::Ndjson => rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", object(row))),
        Output::Csv => {
            write_csv_line(out, names.iter().map(|name| (*name).to_owned()))?;
            rows.iter()
                .try_for_each(|row| write_csv_line(out, row.iter().map(|(_, value)| cell(value))))
        }
    }
}

/// Like [`print`], but a JSON document is the object itself.
pub(super) fn print_one(row: &NamedValues, output: Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Json => writeln!(out, "{:#}", object(row)),
        Output::Table | Output::Ndjson | Output::Csv => {
            let names: Vec<_> = row.iter().map(|(name, _)| *name).collect();
            print(&names, std::slice::from_ref(row), output, out)
        }
    }
}

fn object(row: &NamedValues) -> Value {
    let members = row
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value::Object(members.collect::<Map<_, _>>())
}

fn print_table(
    names: &[&'static str],
    rows: &[NamedValues],
    out: &mut dyn Write,
) -> io::Result<()> {
    let titles: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    let show = |(_, value): &(_, Value)| match value {
        Value::Null => "-".to_owned(),
        value => printable(&cell(value)),
    };
    let cells = rows.iter().map(|row| row.iter().map(show).collect());
    let lines: Vec<Vec<String>> = [titles].into_iter().chain(cells).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A value as text; a list's entries stand beside each other.
fn cell(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        value => plain(value),
    }
}
