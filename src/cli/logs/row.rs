//! A record as named values: the members of its JSON object, the columns of its CSV line.
//!
//! Names are those of the management API where it has one (contract `management-api.md` section
//! 3); times are RFC 3339 in UTC with milliseconds, costs exact decimals.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::domain::{
    outcome::Outcome,
    record::{Record, Text, flag},
};

/// The named values of one record, in a fixed order.
#[derive(Debug)]
pub struct Row(Vec<(&'static str, Value)>);

impl Row {
    /// Names the values of `record`.
    pub fn of(record: &Record) -> Self {
        let text = |text: Text| match record.text(text) {
            text if text.is_empty() => Value::Null,
            text => Value::from(text.into_owned()),
        };
        let success = record.outcome() == Outcome::Ok;
        let status = Some(record.status).filter(|status| *status != 0);
        let event = match record.text(Text::EventId) {
            event if event.is_empty() => record.id().to_string(),
            event => event.into_owned(),
        };
        Self(vec![
            ("id", record.id().to_string().into()),
            ("created_at", time(record.at_micros).into()),
            ("gateway", text(Text::Gateway)),
            ("provider", text(Text::Provider)),
            ("model", text(Text::Model)),
            ("model_name", text(Text::ModelName)),
            ("method", text(Text::Method)),
            ("path", text(Text::Path)),
            ("status_code", status.into()),
            ("outcome", record.outcome().word().into()),
            ("success", success.into()),
            ("cached", record.has(flag::CACHED).into()),
            ("stream", record.has(flag::STREAM).into()),
            ("duration", (record.duration_micros / 1000).into()),
            ("first_byte_ms", millis(record.first_byte_micros)),
            ("first_token_ms", millis(record.first_token_micros)),
            ("overhead_ms", millis(Some(record.overhead_micros))),
            ("tokens_in", record.tokens_used().0.into()),
            ("tokens_out", record.tokens_used().1.into()),
            ("tokens_cache_read", record.tokens_cache_read.into()),
            ("tokens_cache_write", record.tokens_cache_write.into()),
            ("tokens_reasoning", record.tokens_reasoning.into()),
            (
                "cost",
                record
                    .cost()
                    .map_or(Value::Null, |cost| decimal(&cost.to_string())),
            ),
            ("custom_cost", record.has(flag::CUSTOM_COST).into()),
            ("step", record.step.into()),
            ("attempt", record.attempt.into()),
            ("event_id", event.into()),
            ("key", text(Text::Key)),
            ("authenticated", record.has(flag::AUTHENTICATED).into()),
            ("stored_key", record.stored_place().into()),
            ("metadata", metadata(record)),
            ("request_size", record.request_bytes.into()),
            ("response_size", record.response_bytes.into()),
            ("request_content_type", text(Text::RequestContentType)),
            ("response_content_type", text(Text::ResponseContentType)),
            ("user_agent", text(Text::UserAgent)),
            ("error", text(Text::Error)),
            ("price_key", text(Text::PriceKey)),
            ("upstream_request_id", text(Text::UpstreamRequestId)),
        ])
    }

    /// The named values in order.
    pub fn values(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter()
    }

    /// The values as one JSON object.
    pub fn json(self) -> Value {
        let members = self.0.into_iter().map(|(name, value)| (name.into(), value));
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// Writes the line of names.
    pub fn write_csv_names(&self, out: &mut dyn Write) -> io::Result<()> {
        write_csv_line(out, self.0.iter().map(|(name, _)| (*name).to_owned()))
    }

    /// Writes the line of values; what is unknown is empty.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        write_csv_line(out, self.0.iter().map(|(_, value)| plain(value)))
    }
}

/// A value without JSON's quotes; empty for null.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Writes one line of comma-separated values (RFC 4180).
pub fn write_csv_line(out: &mut dyn Write, fields: impl Iterator<Item = String>) -> io::Result<()> {
    let mut line = String::new();
    for (index, field) in fields.enumerate() {
        if index > 0 {
            line.push(',');
        }
        if field.contains([',', '"', '\r', '\n']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(&field);
        }
    }
    line.push_str("\r\n");
    out.write_all(line.as_bytes())
}

/// RFC 3339 in UTC with milliseconds.
pub fn time(unix_micros: u64) -> String {
    i64::try_from(unix_micros)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

/// A decimal number as JSON, digit for digit.
pub fn decimal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn millis(micros: Option<u64>) -> Value {
    micros.map_or(Value::Null, |micros| {
        decimal(&format!("{}.{:03}", micros / 1000, micros % 1000))
    })
}

fn metadata(record: &Record) -> Value {
    let bytes = record.texts.get(Text::Metadata);
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| record.text(Text::Metadata).into())
}
