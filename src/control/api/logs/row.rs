//! A record as it is answered.

use serde_json::{Map, Value, json};

use super::body::{Bodies, Part, Which};
use crate::{
    control::{
        logs::filter::field,
        store::{marks::Mark, text},
    },
    domain::{
        outcome::Outcome,
        record::{Record, Text, flag},
    },
};

/// Bytes of a body that a detail shows.
const HEAD_BYTES: usize = 1024;

/// A row of a list.
pub fn short(record: &Record, mark: &Mark) -> Value {
    let text = |which: Text| record.text(which).into_owned();
    let option = |which: Text| match record.text(which) {
        text if text.is_empty() => Value::Null,
        text => text.into_owned().into(),
    };
    let event = match text(Text::EventId) {
        event if event.is_empty() => record.id().to_string(),
        event => event,
    };
    let kind = field::model_type(record.texts.get(Text::Path));
    json!({
        "id": record.id().to_string(),
        "created_at": text::time(millis(record.at_micros)),
        "provider": text(Text::Provider),
        "model": model(record),
        "model_type": Some(kind).filter(|kind| !kind.is_empty()),
        "path": text(Text::Path),
        "request_type": field::request_type(record.flags),
        "request_content_type": option(Text::RequestContentType),
        "response_content_type": option(Text::ResponseContentType),
        "status_code": Some(record.status).filter(|status| *status != 0),
        "success": is_success(record),
        "cached": record.has(flag::CACHED),
        "duration": record.duration_micros / 1000,
        "tokens_in": record.tokens_used().0,
        "tokens_out": record.tokens_used().1,
        "cost": cost(record),
        "custom_cost": record.has(flag::CUSTOM_COST),
        "step": record.step,
        "metadata": metadata(record, mark),
        "event_id": event,
        "feedback": mark.feedback,
        "score": mark.score.as_deref().map(number),
        "user_agent": option(Text::UserAgent),
        "authentication": record.has(flag::AUTHENTICATED),
        "byok": record.has(flag::STORED_CREDENTIAL),
        "wholesale": false,
        "compatibilityMode": false,
    })
}

/// One record in full.
pub fn detail(record: &Record, mark: &Mark, bodies: &Bodies) -> Value {
    let mut all = short(record, mark);
    let request = head(bodies.part(Which::Request));
    let response = head(bodies.part(Which::Response));
    let error = record.text(Text::Error);
    let more = json!({
        "request_size": record.request_bytes,
        "response_size": record.response_bytes,
        "request_head": request.as_ref().map(|(text, _)| text),
        "request_head_complete": request.as_ref().map(|(_, whole)| whole),
        "response_head": response.as_ref().map(|(text, _)| text),
        "response_head_complete": response.as_ref().map(|(_, whole)| whole),
        "outcome": record.outcome().word(),
        "error": Some(error.into_owned()).filter(|error| !error.is_empty()),
        "model_requested": record.text(Text::Model).into_owned(),
        "timings": {
            "upstream_ttfb_ms": record.first_byte_micros.map(millis_text),
            "ttft_ms": record.first_token_micros.map(millis_text),
            "gateway_overhead_ms": millis_text(record.overhead_micros),
        },
        "usage_metadata": {
            "cache_read_tokens": record.tokens_cache_read,
            "cache_write_tokens": record.tokens_cache_write,
            "reasoning_tokens": record.tokens_reasoning,
        },
        "dlp_action": null,
        "dlp_results": [],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    all
}

fn head(part: Option<&Part>) -> Option<(String, bool)> {
    let part = part?;
    let first = part.bytes.get(..HEAD_BYTES).unwrap_or(&part.bytes);
    let whole = part.whole && first.len() == part.bytes.len();
    Some((String::from_utf8_lossy(first).into_owned(), whole))
}

/// The normalised name; the caller's word where there is none.
fn model(record: &Record) -> String {
    match record.text(Text::ModelName) {
        name if name.is_empty() => record.text(Text::Model).into_owned(),
        name => name.into_owned(),
    }
}

/// Says whether the provider answered and the answer arrived whole.
fn is_success(record: &Record) -> bool {
    record.outcome() == Outcome::Ok
}

/// Metadata: what was said afterwards, else what the request brought.
fn metadata(record: &Record, mark: &Mark) -> Value {
    let text = match &mark.metadata {
        Some(text) => text.as_bytes(),
        None => record.texts.get(Text::Metadata),
    };
    serde_json::from_slice::<Map<String, Value>>(text).map_or(Value::Null, Value::Object)
}

fn cost(record: &Record) -> Value {
    record
        .cost()
        .map_or(Value::Null, |cost| number(&cost.to_string()))
}

/// A decimal number as JSON, digit for digit.
pub fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn millis(micros: u64) -> i64 {
    i64::try_from(micros / 1000).unwrap_or(i64::MAX)
}

fn millis_text(micros: u64) -> Value {
    number(&format!("{}.{:03}", micros / 1000, micros % 1000))
}
