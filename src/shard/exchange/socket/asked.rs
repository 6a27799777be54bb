//! What a message of the caller's asks for, and the request that it becomes.
//!
//! `{"type":"universal.create","request":R}`, where `R` is what the universal endpoint takes over HTTP:
//! a step, an array of steps, or `{"providers":[…]}`. The event's id stands in `R`, beside `request`, or
//! in the first step, and counts in this order; without one the request's own id is the event's.

use std::{borrow::Cow, io::Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::{
    http::{head::RequestHead, header::FieldName},
    provider::credential,
    shard::{
        parse::{self, EVENT_ID_BYTES_MAX},
        reply::Refusal,
    },
};

/// A request that came over a socket.
#[derive(Debug)]
pub(super) struct Asked {
    /// The event's id, if the caller named one.
    pub(super) event_id: Option<String>,
    /// The body for the universal endpoint.
    pub(super) body: Vec<u8>,
}

/// A message that becomes no request.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The event's id, if one could be read.
    pub(super) event_id: Option<String>,
    /// Why.
    pub(super) refusal: Refusal,
}

impl Asked {
    /// Refuses it after all.
    pub(super) fn refuse(self, refusal: Refusal) -> Rejected {
        Rejected {
            event_id: self.event_id,
            refusal,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'t> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    request: Option<&'t RawValue>,
    #[serde(default)]
    event_id: Option<Value>,
}

/// The ids that a request's object may hold.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ids {
    event_id: Option<Value>,
    providers: First,
}

/// The id in the first element of a list; the others are passed over without being held.
#[derive(Default)]
struct First(Option<Value>);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = First;

            fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                text.write_str("a list of steps")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut steps: A) -> Result<First, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "camelCase")]
                struct Step {
                    #[serde(default)]
                    event_id: Option<Value>,
                }
                let first = steps.next_element::<Step>()?;
                while steps.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first.and_then(|step| step.event_id)))
            }
        }
        from.deserialize_seq(List)
    }
}

/// The one type of message that a caller sends.
const CREATE: &str = "universal.create";

/// Reads a message. What the steps themselves say is checked where those of any request are.
pub(super) fn read(text: &str) -> Result<Asked, Rejected> {
    let reject = |event_id: Option<String>, why: &dyn std::fmt::Display| Rejected {
        event_id,
        refusal: Refusal::bad_body(&format_args!(
            "this socket takes {{\"type\":\"{CREATE}\",\"request\":{{…}}}}: {why}"
        )),
    };
    let message: Message<'_> = serde_json::from_str(text).map_err(|error| reject(None, &error))?;
    let outside = message.event_id;
    // A request that cannot be read has no id of its own; its steps' own error says what it is.
    let inside = match message.request.map(RawValue::get) {
        Some(list) if list.starts_with('[') => {
            let First(in_step) = serde_json::from_str(list).unwrap_or_default();
            outside.or(in_step)
        }
        Some(object) => {
            let ids: Ids = serde_json::from_str(object).unwrap_or_default();
            ids.event_id.or(outside).or(ids.providers.0)
        }
        None => outside,
    };
    let event_id = match inside {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if parse::is_event_id(id.as_bytes()) && id.trim() == id => Some(id),
        Some(_) => {
            let why = format!(
                "eventId is a string of 1 to {EVENT_ID_BYTES_MAX} printable ASCII characters, without spaces at its ends"
            );
            return Err(reject(None, &why));
        }
    };
    match message.kind.as_deref() {
        Some(CREATE) => {}
        Some(_) => return Err(reject(event_id, &"the message's type is another one")),
        None => return Err(reject(event_id, &"the message has no type")),
    }
    match message.request {
        Some(request) => Ok(Asked {
            event_id,
            body: request.get().as_bytes().to_vec(),
        }),
        None => Err(reject(event_id, &"the message has no request")),
    }
}

/// The head that every request of a socket begins with: the fields of its handshake, apart from those
/// that were about the connection. A token in a subprotocol becomes a field.
pub(super) fn handshake(head: &RequestHead<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    put(
        &mut out,
        &[
            b"POST ",
            head.path,
            b" HTTP/1.1\r\nhost: ",
            head.host,
            b"\r\n",
        ],
    );
    for field in &head.fields {
        let is_anew = matches!(
            field.id,
            FieldName::Host
                | FieldName::ContentLength
                | FieldName::ContentType
                | FieldName::Expect
                | FieldName::CfAigEventId
                | FieldName::SecWebSocketKey
                | FieldName::SecWebSocketVersion
                | FieldName::SecWebSocketProtocol
                | FieldName::SecWebSocketExtensions
        );
        if !is_anew && !field.id.is_hop_by_hop() {
            put(&mut out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
    let offer = credential::read_offer(head.values(FieldName::SecWebSocketProtocol));
    if let Some(token) = offer.gateway_token {
        put(&mut out, &[b"cf-aig-authorization: ", token, b"\r\n"]);
    }
    out.extend_from_slice(b"content-type: application/json\r\n");
    out
}

/// The head of one request.
pub(super) fn head(handshake: &[u8], asked: &Asked) -> Vec<u8> {
    let mut out = handshake.to_vec();
    if let Some(id) = &asked.event_id {
        put(&mut out, &[b"cf-aig-event-id: ", id.as_bytes(), b"\r\n"]);
    }
    // Writing to a Vec cannot fail.
    let _ = write!(out, "content-length: {}\r\n\r\n", asked.body.len());
    out
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Method, RequestFraming, parse_request};

    #[track_caller]
    fn check(text: &str, id: Option<&str>, body: &str) {
        let asked = read(text).unwrap();
        assert_eq!(asked.event_id.as_deref(), id, "{text}");
        assert_eq!(String::from_utf8(asked.body).unwrap(), body);
    }

    #[test]
    fn the_id_stands_in_the_request_beside_it_or_in_the_first_step() {
        check(
            r#"{"type":"universal.create","request": {"eventId":"a","provider":"p"} }"#,
            Some("a"),
            r#"{"eventId":"a","provider":"p"}"#,
        );
        check(
            r#"{"type":"universal.create","eventId":"b","request":{"eventId":"a"}}"#,
            Some("a"),
            r#"{"eventId":"a"}"#,
        );
        check(
            r#"{"type":"universal.create","eventId":"b","request":[{"eventId":"a"}]}"#,
            Some("b"),
            r#"[{"eventId":"a"}]"#,
        );
        check(
            r#"{"type":"universal.create","request":[{"eventId":"a"},{"eventId":"c"}]}"#,
            Some("a"),
            r#"[{"eventId":"a"},{"eventId":"c"}]"#,
        );
        check(
            r#"{"type":"universal.create","request":{"providers":[{"eventId":"a"},7]}}"#,
            Some("a"),
            r#"{"providers":[{"eventId":"a"},7]}"#,
        );
        check(
            r#"{"type":"universal.create","eventId":null,"request":{"provider":"p"}}"#,
            None,
            r#"{"provider":"p"}"#,
        );
        // Its steps' own error will say what this is.
        check(
            r#"{"type":"universal.create","eventId":"b","request":7}"#,
            Some("b"),
            "7",
        );
    }

    #[test]
    fn what_is_no_request_is_rejected_with_its_id() {
        let check = |text: &str, id: Option<&str>, why: &str| {
            let rejected = read(text).unwrap_err();
            assert_eq!(rejected.event_id.as_deref(), id, "{text}");
            assert_eq!(
                (rejected.refusal.status, rejected.refusal.code),
                (400, 7000)
            );
            let said = &rejected.refusal.description;
            assert!(said.contains(why) && said.contains(CREATE), "{said}");
        };
        check("", None, "EOF");
        check("[1]", None, "invalid");
        check("{}", None, "no type");
        check(r#"{"type":"ping","eventId":"a"}"#, Some("a"), "another");
        check(
            r#"{"type":"universal.create","eventId":"a"}"#,
            Some("a"),
            "no request",
        );
        for id in ["7", r#""""#, r#""ä""#, r#"" a""#, r#""a\nb""#, "{}"] {
            let text = format!(r#"{{"type":"universal.create","request":{{"eventId":{id}}}}}"#);
            check(&text, None, "eventId");
        }
        let long = "x".repeat(EVENT_ID_BYTES_MAX + 1);
        let text = format!(r#"{{"type":"universal.create","eventId":"{long}","request":{{}}}}"#);
        check(&text, None, "eventId");
    }

    #[test]
    fn a_request_has_the_fields_of_the_handshake_and_none_of_the_connection() {
        let bytes = b"GET /v1/a/g?x=1 HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: realtime, cf-aig-authorization.secret\r\ncf-aig-event-id: other\r\ncf-aig-metadata: {\"a\":1}\r\nUser-Agent: test\r\n\r\n";
        let handshake = handshake(&parse_request(bytes).unwrap());
        let asked = Asked {
            event_id: Some("mine".to_owned()),
            body: b"{}".to_vec(),
        };
        let bytes = head(&handshake, &asked);
        let head = parse_request(&bytes).unwrap();
        assert_eq!(
            (head.method, head.path),
            (Method::Post, &b"/v1/a/g?x=1"[..])
        );
        assert_eq!((head.host, head.upgrade), (&b"gateway"[..], None));
        assert_eq!(head.framing, RequestFraming::Length(2));
        let mut fields: Vec<_> = head
            .fields
            .iter()
            .map(|field| String::from_utf8_lossy(field.name).to_ascii_lowercase())
            .collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "cf-aig-authorization",
                "cf-aig-event-id",
                "cf-aig-metadata",
                "content-length",
                "content-type",
                "host",
                "user-agent",
            ]
        );
        assert_eq!(head.field(FieldName::CfAigEventId), Some(&b"mine"[..]));
        assert_eq!(
            head.field(FieldName::CfAigAuthorization),
            Some(&b"secret"[..])
        );
    }
}
