//! Finds the error in an answer that calls itself a success.
//!
//! Some providers send status 200 before they know, and then report the failure in the body: as an
//! event, or as an `error` member. Such an answer is passed on like any other, and never kept.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use crate::http::event_stream::{Event, EventStream};

/// Bytes that are looked at. A report of an error is small, and it is the whole body or the last
/// event of a stream: a document longer than this is an answer.
const LOOK_BYTES: usize = 64 * 1024;

/// Says whether `body` reports an error. Looks at [`LOOK_BYTES`] at each end at most.
pub fn reports_error(body: &[u8], stream: bool) -> bool {
    if !stream {
        return body.len() <= LOOK_BYTES && is_error(body);
    }
    let first = body.get(..LOOK_BYTES).unwrap_or(body);
    let from = body.len().saturating_sub(LOOK_BYTES).max(first.len());
    let last = body.get(from..).unwrap_or_default();
    let mut failed = false;
    for piece in [first, last] {
        // Where the piece begins or ends in the middle of an event, that one is no JSON.
        let mut events = EventStream::with_limit(LOOK_BYTES);
        let mut look = |event: Event<'_>| {
            failed |=
                event.name == b"error" || event.name == b"response.failed" || is_error(event.data);
        };
        events.feed(piece, &mut look);
        events.finish(&mut look);
    }
    failed
}

fn is_error(document: &[u8]) -> bool {
    /// Made ready once.
    static WORD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("error"));
    // Cheap for what is no document or has no such word: most events.
    if WORD.find(document).is_none() {
        return false;
    }
    match serde_json::from_slice(document) {
        Ok(Value::Object(top)) => reports(&top),
        // Some streams are one array, whose last item may be a report.
        Ok(Value::Array(items)) => items.iter().filter_map(Value::as_object).any(reports),
        Ok(_) | Err(_) => false,
    }
}

fn reports(top: &Map<String, Value>) -> bool {
    let error = match top.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    };
    error || top.get("type").is_some_and(|kind| kind == "error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_document_is_found() {
        for body in [
            r#"{"error":{"message":"x","code":502}}"#,
            r#" {"id":"1","error":"overloaded"}"#,
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            r#"{"type":"error"}"#,
            r#"{"error":true}"#,
            r#"[{"candidates":[]},{"error":{"code":503}}]"#,
        ] {
            assert!(reports_error(body.as_bytes(), false), "{body}");
        }
    }

    #[test]
    fn an_answer_that_speaks_of_errors_is_none() {
        for body in [
            r#"{"id":"resp_1","error":null,"output":[]}"#,
            r#"{"choices":[{"message":{"content":"an error: {\"error\":1}"}}]}"#,
            r#"{"error":""}"#,
            r#"{"error":{}}"#,
            r#"{"data":[{"error":{"a":1}}]}"#,
            r#"[["error",1]]"#,
            "error",
            "",
            "\u{0}\u{1}error",
        ] {
            assert!(!reports_error(body.as_bytes(), false), "{body}");
        }
    }

    #[test]
    fn an_error_event_is_found_at_either_end_of_a_stream() {
        let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}]}\n\n";
        assert!(!reports_error(delta.repeat(9).as_bytes(), true));
        let long = delta.repeat(10_000);
        assert!(!reports_error(long.as_bytes(), true));
        for event in [
            "event: error\ndata: {\"type\":\"error\"}\n\n",
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
            "event: response.failed\ndata: {}\n\n",
        ] {
            assert!(reports_error(event.as_bytes(), true), "{event}");
            let at_end = format!("{long}{event}");
            assert!(reports_error(at_end.as_bytes(), true), "{event}");
        }
    }
}
