//! The frames that a caller gets (contract `data-plane.md` section 15.1).
//!
//! A request ends with one `universal.done` or one `universal.error`, and nothing of it follows.
//! `metadata` has every member in each of the others; what is not known is `null`.

use serde_json::{Value, json, value::RawValue};

use crate::{domain::base64::base64, http::websocket, shard::reply::Refusal};

/// What is known of an answer once its head is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Metadata {
    /// `HIT` or `MISS`, where caching can apply.
    pub(super) cache_status: Option<String>,
    /// The event's id: the caller's, or the request's own.
    pub(super) event_id: Option<String>,
    /// The record's id, if one is made.
    pub(super) log_id: Option<String>,
    /// The step that answered.
    pub(super) step: Option<String>,
    /// `content-type` of the answer.
    pub(super) content_type: Option<String>,
    /// Status of the answer.
    pub(super) status: Option<u16>,
    /// What a stream can be resumed by.
    pub(super) run_id: Option<String>,
    /// Seconds after which to ask again.
    pub(super) retry_after: Option<u64>,
    /// How `response` is written if it is no JSON and no text: `base64`.
    pub(super) encoding: Option<&'static str>,
}

impl Metadata {
    fn json(&self) -> Value {
        let mut value = json!({
            "cacheStatus": self.cache_status,
            "eventId": self.event_id,
            "logId": self.log_id,
            "step": self.step,
            "contentType": self.content_type,
            "status": self.status,
        });
        // What most answers have not is left out.
        let rare = [
            ("runId", json!(self.run_id)),
            ("retryAfter", json!(self.retry_after)),
            ("encoding", json!(self.encoding)),
        ];
        for (name, rare) in rare {
            if !rare.is_null() {
                value[name] = rare;
            }
        }
        value
    }
}

/// Appends `universal.created`, with the whole answer unless it is a stream.
pub(super) fn created(out: &mut Vec<u8>, metadata: &Metadata, response: Option<&[u8]>) {
    let mut text = start("universal.created", &metadata.json());
    add_response(&mut text, response);
    end(out, text);
}

/// Appends `universal.stream`: one event, whose data is `response`, and its name if it has one.
pub(super) fn event(out: &mut Vec<u8>, event_id: &Value, name: &[u8], response: &[u8]) {
    let mut text = start("universal.stream", &json!({ "eventId": event_id }));
    if !name.is_empty() {
        text.extend_from_slice(b",\"event\":");
        add_text(&mut text, &String::from_utf8_lossy(name));
    }
    add_response(&mut text, Some(response));
    end(out, text);
}

/// Appends `universal.done`.
pub(super) fn done(out: &mut Vec<u8>, metadata: &Metadata) {
    end(out, start("universal.done", &metadata.json()));
}

/// Appends `universal.error`. `error` is the contract's list of code and message, `description` says
/// what to do, `response` is what the provider said.
pub(super) fn error(
    out: &mut Vec<u8>,
    metadata: &Metadata,
    error: &Value,
    description: &str,
    response: Option<&[u8]>,
) {
    let mut text = start("universal.error", &metadata.json());
    text.extend_from_slice(b",\"error\":");
    text.extend_from_slice(error.to_string().as_bytes());
    text.extend_from_slice(b",\"description\":");
    add_text(&mut text, description);
    add_response(&mut text, response);
    end(out, text);
}

/// Appends the error of a message that became no request.
pub(super) fn rejected(out: &mut Vec<u8>, event_id: Option<&str>, refusal: &Refusal) {
    let metadata = Metadata {
        event_id: event_id.map(str::to_owned),
        status: Some(refusal.status),
        ..Metadata::default()
    };
    refused(out, &metadata, refusal);
}

/// Appends the error that a refusal is.
pub(super) fn refused(out: &mut Vec<u8>, metadata: &Metadata, refusal: &Refusal) {
    let list = json!([{"code": refusal.code, "message": refusal.message}]);
    error(out, metadata, &list, &refusal.description, None);
}

/// What stands in `response` for an answer that is JSON: its own text, digit for digit. `None`: it is
/// no JSON.
pub(super) fn as_json(body: &[u8]) -> Option<&[u8]> {
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    Some(raw.get().as_bytes())
}

/// What stands in `response` for any other answer: a string, of its text or of its bytes in base64.
pub(super) fn as_string(body: &[u8]) -> (Vec<u8>, Option<&'static str>) {
    let mut out = Vec::with_capacity(body.len() + 2);
    match std::str::from_utf8(body) {
        Ok(text) => {
            add_text(&mut out, text);
            (out, None)
        }
        Err(_) => (in_base64(body), Some("base64")),
    }
}

/// A string of base64, quotation marks included.
pub(super) fn in_base64(bytes: &[u8]) -> Vec<u8> {
    format!("\"{}\"", base64(bytes)).into_bytes()
}

fn start(kind: &str, metadata: &Value) -> Vec<u8> {
    format!(r#"{{"type":"{kind}","metadata":{metadata}"#).into_bytes()
}

fn add_response(text: &mut Vec<u8>, response: Option<&[u8]>) {
    if let Some(response) = response {
        text.extend_from_slice(b",\"response\":");
        text.extend_from_slice(response);
    }
}

fn add_text(out: &mut Vec<u8>, text: &str) {
    // A string can always be written, and so can a Vec.
    let _ = serde_json::to_writer(out, text);
}

fn end(out: &mut Vec<u8>, mut text: Vec<u8>) {
    text.push(b'}');
    websocket::write_text(out, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_own_text_and_anything_else_is_a_string() {
        assert_eq!(as_json(b" {\"a\": 1.00} \n"), Some(&b"{\"a\": 1.00}"[..]));
        assert_eq!(as_json(b"{\"a\":"), None);
        assert_eq!(as_json(b"\"\xff\""), None);
        assert_eq!(as_string(b"a\"\n"), (b"\"a\\\"\\n\"".to_vec(), None));
        assert_eq!(as_string(b"\xff"), (b"\"/w==\"".to_vec(), Some("base64")));
    }
}
