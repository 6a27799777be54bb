//! Records as a Parquet file: column by column, one group of rows after another, so that no number
//! of records takes memory.
//!
//! Names are those of the other outputs. Times are microseconds (`created_at` a time stamp in UTC,
//! the others end in `_us`), costs exact decimals with twelve digits behind the point, metadata JSON
//! text. What is unknown is null.

use std::{fmt::Write as _, io::Write, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::{ByteArray, FixedLenByteArray},
    errors::{ParquetError, Result},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};

use crate::domain::outcome::Outcome;
use crate::domain::record::{Record, Text, flag};

/// Rows of a group: large enough for a dictionary to pay, small enough to hold.
const GROUP_ROWS: usize = 65_536;

/// Bytes of text after which a group ends early.
const GROUP_BYTES: usize = 64 << 20;

/// Bytes of a cost: enough for twenty digits and a sign.
const COST_BYTES: usize = 9;

/// What a column holds of a record.
enum Source {
    Text(Text),
    /// A text that is made.
    Made(fn(&Record) -> String),
    Number(fn(&Record) -> Option<u64>),
    Flag(fn(&Record) -> bool),
    Cost,
    /// A time stamp.
    Moment,
}

/// Every column.
const COLUMNS: [(&str, Source); 38] = [
    ("id", Source::Made(|record| record.id().to_string())),
    ("created_at", Source::Moment),
    ("gateway", Source::Text(Text::Gateway)),
    ("provider", Source::Text(Text::Provider)),
    ("model", Source::Text(Text::Model)),
    ("model_name", Source::Text(Text::ModelName)),
    ("method", Source::Text(Text::Method)),
    ("path", Source::Text(Text::Path)),
    (
        "status_code",
        Source::Number(|record| (record.status > 0).then(|| record.status.into())),
    ),
    (
        "outcome",
        Source::Made(|record| record.outcome().word().into()),
    ),
    (
        "success",
        Source::Flag(|record| record.outcome() == Outcome::Ok),
    ),
    ("cached", Source::Flag(|record| record.has(flag::CACHED))),
    ("stream", Source::Flag(|record| record.has(flag::STREAM))),
    (
        "duration_us",
        Source::Number(|record| Some(record.duration_micros)),
    ),
    (
        "first_byte_us",
        Source::Number(|record| record.first_byte_micros),
    ),
    (
        "first_token_us",
        Source::Number(|record| record.first_token_micros),
    ),
    (
        "overhead_us",
        Source::Number(|record| Some(record.overhead_micros)),
    ),
    ("tokens_in", Source::Number(|record| record.tokens_input)),
    ("tokens_out", Source::Number(|record| record.tokens_output)),
    (
        "tokens_cache_read",
        Source::Number(|record| record.tokens_cache_read),
    ),
    (
        "tokens_cache_write",
        Source::Number(|record| record.tokens_cache_write),
    ),
    (
        "tokens_reasoning",
        Source::Number(|record| record.tokens_reasoning),
    ),
    ("cost", Source::Cost),
    (
        "custom_cost",
        Source::Flag(|record| record.has(flag::CUSTOM_COST)),
    ),
    ("step", Source::Number(|record| Some(record.step.into()))),
    (
        "attempt",
        Source::Number(|record| Some(record.attempt.into())),
    ),
    (
        "event_id",
        Source::Made(|record| match record.text(Text::EventId) {
            event if event.is_empty() => record.id().to_string(),
            event => event.into_owned(),
        }),
    ),
    ("key", Source::Text(Text::Key)),
    (
        "authenticated",
        Source::Flag(|record| record.has(flag::AUTHENTICATED)),
    ),
    (
        "stored_key",
        Source::Number(|record| record.stored_place().map(u64::from)),
    ),
    ("metadata", Source::Text(Text::Metadata)),
    (
        "request_size",
        Source::Number(|record| Some(record.request_bytes)),
    ),
    (
        "response_size",
        Source::Number(|record| Some(record.response_bytes)),
    ),
    (
        "request_content_type",
        Source::Text(Text::RequestContentType),
    ),
    (
        "response_content_type",
        Source::Text(Text::ResponseContentType),
    ),
    ("user_agent", Source::Text(Text::UserAgent)),
    ("error", Source::Text(Text::Error)),
    ("upstream_request_id", Source::Text(Text::UpstreamRequestId)),
];

impl Source {
    /// Its type in the schema, and what follows its name there.
    fn schema(&self) -> (&'static str, &'static str) {
        match self {
            Self::Text(_) | Self::Made(_) => ("BYTE_ARRAY", "(STRING)"),
            Self::Number(_) => ("INT64", "(INTEGER(64,false))"),
            Self::Flag(_) => ("BOOLEAN", ""),
            Self::Cost => ("FIXED_LEN_BYTE_ARRAY(9)", "(DECIMAL(20,12))"),
            Self::Moment => ("INT64", "(TIMESTAMP(MICROS,true))"),
        }
    }

    fn cells(&self) -> Cells {
        match self {
            Self::Text(_) | Self::Made(_) => Cells::Texts(Vec::new()),
            Self::Number(_) | Self::Moment => Cells::Numbers(Vec::new()),
            Self::Flag(_) => Cells::Flags(Vec::new()),
            Self::Cost => Cells::Costs(Vec::new()),
        }
    }
}

/// The known values of a column.
enum Cells {
    Texts(Vec<ByteArray>),
    Numbers(Vec<i64>),
    Flags(Vec<bool>),
    Costs(Vec<FixedLenByteArray>),
}

/// A column of the group that is gathered.
struct Column {
    cells: Cells,
    /// For each row 1 if it has a value, else 0.
    known: Vec<i16>,
}

/// Writes records to a Parquet file.
pub struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: usize,
    text_bytes: usize,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file.
    pub fn new(out: W) -> Result<Self> {
        let mut schema = String::from("message records {");
        for (name, source) in &COLUMNS {
            let (kind, meaning) = source.schema();
            // Writing to a text cannot fail.
            let _ = write!(schema, " OPTIONAL {kind} {name} {meaning};");
        }
        schema.push('}');
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let schema = Arc::new(parse_message_type(&schema)?);
        Ok(Self {
            file: SerializedFileWriter::new(out, schema, Arc::new(properties))?,
            columns: columns(),
            rows: 0,
            text_bytes: 0,
        })
    }

    /// Takes a record in.
    pub fn push(&mut self, record: &Record) -> Result<()> {
        for ((_, source), column) in COLUMNS.iter().zip(&mut self.columns) {
            column.push(source, record);
        }
        self.rows += 1;
        self.text_bytes += record.texts.byte_len();
        if self.rows >= GROUP_ROWS || self.text_bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left, and the end of the file; gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.flush()?;
        self.file.into_inner()
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in &self.columns {
            let writer = group.next_column()?;
            let writer = writer.ok_or(ParquetError::General("a column is missing".into()))?;
            column.write(writer)?;
        }
        group.close()?;
        self.columns = columns();
        self.rows = 0;
        self.text_bytes = 0;
        Ok(())
    }
}

fn columns() -> Vec<Column> {
    let columns = COLUMNS.iter().map(|(_, source)| Column {
        cells: source.cells(),
        known: Vec::new(),
    });
    columns.collect()
}

impl Column {
    fn push(&mut self, source: &Source, record: &Record) {
        let known = match (&mut self.cells, source) {
            (Cells::Texts(cells), Source::Text(text)) => {
                let value = record.text(*text);
                let known = !value.is_empty();
                if known {
                    cells.push(value.as_bytes().to_vec().into());
                }
                known
            }
            (Cells::Texts(cells), Source::Made(make)) => {
                cells.push(make(record).into_bytes().into());
                true
            }
            (Cells::Numbers(cells), Source::Number(of)) => {
                let value = of(record);
                cells.extend(value.map(u64::cast_signed));
                value.is_some()
            }
            (Cells::Numbers(cells), Source::Moment) => {
                cells.push(i64::try_from(record.at_micros).unwrap_or(i64::MAX));
                true
            }
            (Cells::Flags(cells), Source::Flag(of)) => {
                cells.push(of(record));
                true
            }
            (Cells::Costs(cells), Source::Cost) => {
                cells.extend(record.cost.map(cost_bytes));
                record.cost.is_some()
            }
            _ => false,
        };
        self.known.push(known.into());
    }

    fn write(&self, mut writer: SerializedColumnWriter<'_>) -> Result<()> {
        let known = Some(&self.known[..]);
        match (writer.untyped(), &self.cells) {
            (ColumnWriter::ByteArrayColumnWriter(column), Cells::Texts(cells)) => {
                column.write_batch(cells, known, None)?;
            }
            (ColumnWriter::Int64ColumnWriter(column), Cells::Numbers(cells)) => {
                column.write_batch(cells, known, None)?;
            }
            (ColumnWriter::BoolColumnWriter(column), Cells::Flags(cells)) => {
                column.write_batch(cells, known, None)?;
            }
            (ColumnWriter::FixedLenByteArrayColumnWriter(column), Cells::Costs(cells)) => {
                column.write_batch(cells, known, None)?;
            }
            _ => return Err(ParquetError::General("a column has another type".into())),
        }
        writer.close()
    }
}

/// Pico-dollars as a big-endian number: with twelve digits behind the point they are dollars.
fn cost_bytes(cost: u64) -> FixedLenByteArray {
    let mut bytes = vec![0u8; COST_BYTES];
    if let Some(low) = bytes.last_chunk_mut::<8>() {
        *low = cost.to_be_bytes();
    }
    FixedLenByteArray::from(bytes)
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };

    use super::*;
    use crate::domain::record::{TEXTS, Texts};

    #[test]
    fn records_are_read_back_with_what_is_unknown() {
        let mut writer = ParquetWriter::new(Vec::new()).unwrap();
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Model as usize] = "gpt-ä".as_bytes();
        let priced = Record {
            at_micros: 1_795_262_400_123_456,
            cost: Some(u64::MAX),
            tokens_input: Some(u64::MAX),
            status: 200,
            texts: Texts::pack(&texts),
            ..Record::default()
        };
        for record in [&priced, &Record::default()] {
            writer.push(record).unwrap();
        }
        let file = bytes::Bytes::from(writer.finish().unwrap());
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        let field = |row: usize, name: &str| {
            let columns = rows[row].get_column_iter();
            let mut found = columns.filter(|(column, _)| column.as_str() == name);
            found.next().unwrap().1.clone()
        };
        assert_eq!(field(0, "model"), Field::Str("gpt-ä".into()));
        assert_eq!(field(0, "tokens_in"), Field::ULong(u64::MAX));
        assert_eq!(
            field(0, "created_at"),
            Field::TimestampMicros(1_795_262_400_123_456)
        );
        let cost = field(0, "cost").to_string();
        assert_eq!(cost, "18446744.073709551615");
        assert_eq!(field(1, "cost"), Field::Null);
        assert_eq!(field(1, "status_code"), Field::Null);
        assert_eq!(field(1, "outcome"), Field::Str("ok".into()));
    }

    #[test]
    fn groups_of_rows_bound_what_is_held() {
        let mut writer = ParquetWriter::new(Vec::new()).unwrap();
        for _ in 0..GROUP_ROWS + 10 {
            writer.push(&Record::default()).unwrap();
        }
        assert_eq!(writer.rows, 10);
        let file = bytes::Bytes::from(writer.finish().unwrap());
        let reader = SerializedFileReader::new(file).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        assert_eq!(reader.metadata().file_metadata().num_rows(), 65_546);
    }
}
