//! Records printed in one of the forms, page after page.

use std::io::{self, Write};

use super::{Output, row::Row, table::Table};
use crate::domain::record::Record;

/// Prints records in one of the forms.
pub(super) struct Printer {
    output: Output,
    table: Table,
    printed: u64,
}

impl Printer {
    pub(super) fn new(output: Output, table: Table) -> Self {
        Self {
            output,
            table,
            printed: 0,
        }
    }

    /// Prints more records.
    pub(super) fn print(&mut self, records: &[Record], out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Table {
            return self.table.print(records, out);
        }
        for record in records {
            let row = Row::of(record);
            match self.output {
                Output::Table => {}
                Output::Ndjson => writeln!(out, "{}", row.json())?,
                Output::Json => {
                    let before = if self.printed == 0 { "[" } else { "," };
                    write!(out, "{before}\n{}", row.json())?;
                }
                Output::Csv => {
                    if self.printed == 0 {
                        row.write_csv_names(out)?;
                    }
                    row.write_csv(out)?;
                }
            }
            self.printed += 1;
        }
        Ok(())
    }

    /// Prints what belongs behind the last record.
    pub(super) fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.output {
            Output::Json if self.printed == 0 => writeln!(out, "[]"),
            Output::Json => writeln!(out, "\n]"),
            Output::Csv if self.printed == 0 => Row::of(&Record::default()).write_csv_names(out),
            Output::Table | Output::Ndjson | Output::Csv => Ok(()),
        }
    }
}
