//! Records as columns for people.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::row::time;
use crate::domain::{
    outcome::Outcome,
    record::{Record, Text, flag},
};

/// Longest cell; more is cut.
const CELL_CHARS_MAX: usize = 40;

/// Columns between two cells.
const GAP: usize = 2;

struct Column {
    title: &'static str,
    /// Width where later rows are not known yet.
    least: usize,
    align: Align,
    /// Columns with the greatest number go first when the terminal is narrow.
    dispensable: u8,
    cell: fn(&Record) -> String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

const COLUMNS: [Column; 12] = [
    Column {
        title: "TIME",
        least: 23,
        align: Align::Left,
        dispensable: 0,
        cell: |record| time(record.at_micros).replace('T', " ").replace('Z', ""),
    },
    Column {
        title: "STATUS",
        least: 10,
        align: Align::Left,
        dispensable: 0,
        cell: status,
    },
    Column {
        title: "GATEWAY",
        least: 8,
        align: Align::Left,
        dispensable: 7,
        cell: |record| record.text(Text::Gateway).into_owned(),
    },
    Column {
        title: "PROVIDER",
        least: 9,
        align: Align::Left,
        dispensable: 3,
        cell: |record| record.text(Text::Provider).into_owned(),
    },
    Column {
        title: "MODEL",
        least: 20,
        align: Align::Left,
        dispensable: 0,
        cell: |record| record.text(Text::Model).into_owned(),
    },
    Column {
        title: "IN",
        least: 6,
        align: Align::Right,
        dispensable: 2,
        cell: |record| number(record.tokens_input),
    },
    Column {
        title: "OUT",
        least: 5,
        align: Align::Right,
        dispensable: 2,
        cell: |record| number(record.tokens_output),
    },
    Column {
        title: "COST $",
        least: 11,
        align: Align::Right,
        dispensable: 0,
        cell: |record| record.cost().map_or_else(unknown, |cost| cost.to_string()),
    },
    Column {
        title: "TTFT",
        least: 7,
        align: Align::Right,
        dispensable: 6,
        cell: |record| record.first_token_micros.map_or_else(unknown, span),
    },
    Column {
        title: "DURATION",
        least: 8,
        align: Align::Right,
        dispensable: 1,
        cell: |record| span(record.duration_micros),
    },
    Column {
        title: "KEY",
        least: 6,
        align: Align::Left,
        dispensable: 5,
        cell: |record| record.text(Text::Key).into_owned(),
    },
    Column {
        title: "ID",
        least: 36,
        align: Align::Left,
        dispensable: 0,
        cell: |record| record.id().to_string(),
    },
];

fn unknown() -> String {
    "-".into()
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(unknown, |value| value.to_string())
}

/// The status, and how it ended where the status alone does not tell.
fn status(record: &Record) -> String {
    let mut text = match record.status {
        0 => unknown(),
        status => status.to_string(),
    };
    match record.outcome() {
        Outcome::Ok if record.has(flag::CACHED) => text.push_str(" cached"),
        Outcome::Ok | Outcome::ClientError | Outcome::UpstreamError => {}
        other => {
            text.push(' ');
            text.push_str(other.word());
        }
    }
    text
}

/// A time in the unit that fits.
fn span(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{:02}s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// Prints pages of records under one line of titles; later pages keep the first one's widths.
#[derive(Debug)]
pub struct Table {
    terminal: Option<usize>,
    more_to_come: bool,
    /// Index and width of every column shown; empty before the first page.
    shown: Vec<(usize, usize)>,
}

impl Table {
    /// A table of one page, as wide as the terminal, or as it needs to be.
    pub fn new(terminal: Option<usize>) -> Self {
        Self {
            terminal,
            more_to_come: false,
            shown: Vec::new(),
        }
    }

    /// A table to which rows will be added: its columns have room for them.
    pub fn open_ended(terminal: Option<usize>) -> Self {
        Self {
            more_to_come: true,
            ..Self::new(terminal)
        }
    }

    /// Prints a page.
    pub fn print(&mut self, records: &[Record], out: &mut dyn Write) -> io::Result<()> {
        let cells: Vec<Vec<String>> = records
            .iter()
            .map(|record| {
                let cell = |column: &Column| cut(&printable(&(column.cell)(record)));
                COLUMNS.iter().map(cell).collect()
            })
            .collect();
        if self.shown.is_empty() {
            self.fit(&cells);
            let titles: Vec<String> = COLUMNS.iter().map(|column| column.title.into()).collect();
            self.write_line(&titles, out)?;
        }
        cells.iter().try_for_each(|line| self.write_line(line, out))
    }

    /// Chooses the columns and their widths by the first page.
    fn fit(&mut self, cells: &[Vec<String>]) {
        let width = |index: usize| {
            let widths = cells
                .iter()
                .filter_map(|line| line.get(index))
                .map(|cell| cell.chars().count());
            widths.max().unwrap_or(0)
        };
        self.shown = COLUMNS
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let least = if self.more_to_come { column.least } else { 0 };
                (index, width(index).max(column.title.len()).max(least))
            })
            .collect();
        let Some(terminal) = self.terminal else {
            return;
        };
        while self
            .shown
            .iter()
            .map(|(_, width)| width + GAP)
            .sum::<usize>()
            > terminal + GAP
        {
            let first_to_go = self
                .shown
                .iter()
                .enumerate()
                .max_by_key(|(_, (index, _))| COLUMNS[*index].dispensable)
                .filter(|(_, (index, _))| COLUMNS[*index].dispensable > 0);
            match first_to_go {
                Some((place, _)) => self.shown.remove(place),
                None => break,
            };
        }
    }

    fn write_line(&self, cells: &[String], out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for (index, width) in &self.shown {
            let cell = cells.get(*index).map(String::as_str).unwrap_or_default();
            match COLUMNS[*index].align {
                Align::Left => {
                    let _ = write!(line, "{cell:<width$}");
                }
                Align::Right => {
                    let _ = write!(line, "{cell:>width$}");
                }
            }
            line.push_str(&" ".repeat(GAP));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.into();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// `text` with everything escaped that would move a terminal's cursor, change its colours or turn
/// the direction of writing: callers choose what stands in a record.
pub fn printable(text: &str) -> String {
    escape(text, false)
}

/// The same for text of several lines: line ends and tabs stay.
pub fn printable_lines(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if lines => out.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}
