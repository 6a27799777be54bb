//! Heads, written anew in both directions: nothing is copied that was not understood.

use super::{
    cache::{cached::is_replayed, key::Offered},
    ledger::Standings,
    reply::{self, Ids},
};
use crate::http::{
    head::{Field, Method, RequestHead, ResponseHead},
    header::{FieldName, connection_names, is_gateway_only},
};

/// What delimits a body that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The connection's end.
    Close,
}

/// What the credential stage decided about one field of the request.
pub trait KeepField {
    /// Says whether the field goes upstream.
    fn keeps(&self, field: &Field<'_>) -> bool;
}

impl<F: Fn(&Field<'_>) -> bool> KeepField for F {
    fn keeps(&self, field: &Field<'_>) -> bool {
        self(field)
    }
}

/// The head of an upstream request, apart from the caller's own fields.
pub struct UpstreamHead<'a> {
    /// Path and query.
    pub path: &'a [u8],
    /// `Host`.
    pub authority: &'a str,
    /// Fields that tidegate adds: credentials, a provider's own extra fields.
    pub added: &'a [(Vec<u8>, Vec<u8>)],
}

/// A switch of protocols.
pub struct Upgrade<'a> {
    /// As the caller named it.
    pub protocol: &'a [u8],
    /// `Sec-WebSocket-Protocol` without the items that were credentials; empty: none offered.
    pub subprotocols: &'a [u8],
}

/// Appends the request's head as far as its framing: method, path, host, the caller's end-to-end
/// fields that `keep` lets pass, then ours. [`request_end`] ends it.
pub fn request_front(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    upstream: &UpstreamHead<'_>,
    keep: &dyn KeepField,
) {
    put(
        out,
        &[
            head.method.as_bytes(),
            b" ",
            upstream.path,
            b" HTTP/1.1\r\nhost: ",
        ],
    );
    put(out, &[upstream.authority.as_bytes(), b"\r\n"]);
    for field in &head.fields {
        if request_field_passes(head, field) && keep.keeps(field) {
            write_request_field(out, field);
        }
    }
    for (name, value) in upstream.added {
        put(out, &[name, b": ", value, b"\r\n"]);
    }
}

/// Appends what is behind that: how the body is framed, and the switch of protocols.
pub fn request_end(out: &mut Vec<u8>, framing: Framing, upgrade: Option<&Upgrade<'_>>) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(bytes) => length(out, bytes),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(upgrade) = upgrade {
        put(
            out,
            &[
                b"connection: upgrade\r\nupgrade: ",
                upgrade.protocol,
                b"\r\n",
            ],
        );
        if !upgrade.subprotocols.is_empty() {
            put(
                out,
                &[b"sec-websocket-protocol: ", upgrade.subprotocols, b"\r\n"],
            );
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Says whether a field of the caller's is one that a provider may see.
pub fn request_field_passes(head: &RequestHead<'_>, field: &Field<'_>) -> bool {
    let ours = match field.id {
        FieldName::Other => is_gateway_only(field.name),
        // Made anew from the address, the framing and the switch of protocols.
        FieldName::Host
        | FieldName::ContentLength
        | FieldName::TransferEncoding
        | FieldName::Expect
        | FieldName::SecWebSocketProtocol
        // A cookie would be this server's own, set for its dashboard.
        | FieldName::Cookie => true,
        id => id.is_hop_by_hop() || id.is_client_address() || is_gateway_only(field.name),
    };
    !ours && !is_named_by_connection(&head.fields, field.name)
}

/// Answers must be readable for usage and records, so only what we can read is asked for.
fn write_request_field(out: &mut Vec<u8>, field: &Field<'_>) {
    if field.id != FieldName::AcceptEncoding {
        return put(out, &[field.name, b": ", field.value, b"\r\n"]);
    }
    let asked: &[u8] = if takes_gzip(field.value) {
        b"gzip"
    } else {
        b"identity"
    };
    put(out, &[field.name, b": ", asked, b"\r\n"]);
}

/// Says whether a value of `accept-encoding` is passed on as `gzip`; any other is as `identity`.
pub fn takes_gzip(accepted: &[u8]) -> bool {
    accepted.split(|byte| *byte == b',').any(|item| {
        let item = item.trim_ascii();
        item.eq_ignore_ascii_case(b"gzip")
            || item.len() > 4
                && item
                    .get(..4)
                    .is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"))
                && !item.ends_with(b"q=0")
    })
}

/// The head of a response to downstream, apart from the provider's own fields.
pub struct DownstreamHead<'a> {
    /// The body's framing.
    pub framing: Framing,
    /// The connection lives on.
    pub keep: bool,
    /// The contract's ids.
    pub ids: Ids<'a>,
    /// Microseconds that tidegate added up to here.
    pub overhead_micros: u64,
    /// How limits stand.
    pub limits: Option<&'a Standings>,
    /// The subprotocol of a switch of protocols, as it is to be echoed.
    pub subprotocol: Option<&'a [u8]>,
}

/// Appends the response's head: the provider's status and end-to-end fields, then ours.
pub fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    to: Method<'_>,
    downstream: &DownstreamHead<'_>,
) {
    status_line(out, head.status, head.reason);
    for field in &head.fields {
        if response_field_passes(head, field, to) {
            put(out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
    downstream.ids.write(out);
    if let Some(standings) = downstream.limits {
        standings.write_fields(out);
    }
    out.extend_from_slice(b"server-timing: tg;dur=");
    milliseconds(out, downstream.overhead_micros);
    out.extend_from_slice(b"\r\n");
    match downstream.framing {
        Framing::None | Framing::Close => {}
        Framing::Length(bytes) => length(out, bytes),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(protocol) = head.upgrade {
        put(
            out,
            &[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"],
        );
        if let Some(subprotocol) = downstream.subprotocol {
            put(out, &[b"sec-websocket-protocol: ", subprotocol, b"\r\n"]);
        }
    } else if !downstream.keep {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the provider's end-to-end fields that a cached answer keeps.
pub fn kept_fields(out: &mut Vec<u8>, head: &ResponseHead<'_>, to: Method<'_>) {
    for field in &head.fields {
        if response_field_passes(head, field, to) && is_replayed(field) {
            put(out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
}

/// The head of an answer that comes from the cache.
pub struct CachedHead<'a> {
    /// HTTP status.
    pub status: u16,
    /// The fields that were kept, each with its line end.
    pub fields: &'a [u8],
    /// The body's framing.
    pub framing: Framing,
    /// The connection lives on.
    pub keep: bool,
    /// The contract's ids.
    pub ids: Ids<'a>,
    /// Microseconds that tidegate took.
    pub overhead_micros: u64,
}

/// Appends the head of an answer that comes from the cache.
pub fn cached(out: &mut Vec<u8>, head: &CachedHead<'_>) {
    status_line(out, head.status, b"");
    out.extend_from_slice(head.fields);
    head.ids.write(out);
    out.extend_from_slice(b"server-timing: tg;dur=");
    milliseconds(out, head.overhead_micros);
    out.extend_from_slice(b"\r\n");
    match head.framing {
        Framing::None | Framing::Close => {}
        Framing::Length(bytes) => length(out, bytes),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if !head.keep {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Puts another field of ours behind the others of a head that is complete.
pub fn add_field(head: &mut Vec<u8>, name: &str, value: &str) {
    head.truncate(head.len().saturating_sub(2));
    put(
        head,
        &[name.as_bytes(), b": ", value.as_bytes(), b"\r\n\r\n"],
    );
}

/// The content codings that a provider is offered for a request with these fields.
pub fn offered(fields: &[Field<'_>]) -> Offered {
    let field = fields
        .iter()
        .find(|field| field.id == FieldName::AcceptEncoding);
    match field {
        None => Offered::Nothing,
        Some(field) if takes_gzip(field.value) => Offered::Gzip,
        Some(_) => Offered::Identity,
    }
}

/// Appends an interim response (103 and its like) as it may pass on.
pub fn interim(out: &mut Vec<u8>, head: &ResponseHead<'_>, to: Method<'_>) {
    status_line(out, head.status, head.reason);
    for field in &head.fields {
        if response_field_passes(head, field, to) {
            put(out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn response_field_passes(head: &ResponseHead<'_>, field: &Field<'_>, to: Method<'_>) -> bool {
    let dropped = match field.id {
        FieldName::Other => field.name.len() > 7 && field.name.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"cf-aig-")),
        // The answer to HEAD and a 304 may tell the length of what they do not carry.
        FieldName::ContentLength => to != Method::Head && head.status != 304,
        FieldName::TransferEncoding
        | FieldName::SecWebSocketProtocol
        // They speak of the provider's host, and would be taken for ours.
        | FieldName::AltSvc
        | FieldName::StrictTransportSecurity => true,
        id => id.is_hop_by_hop() || id.as_str().starts_with("cf-aig-"),
    };
    !dropped && !is_named_by_connection(&head.fields, field.name)
}

fn is_named_by_connection(fields: &[Field<'_>], name: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.id == FieldName::Connection)
        .any(|field| connection_names(field.value, name))
}

fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    let reason = if reason.is_empty() {
        reply::reason(status).as_bytes()
    } else {
        reason
    };
    let digits = [
        b'0' + (status / 100 % 10) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
    ];
    put(out, &[b"HTTP/1.1 ", &digits, b" ", reason, b"\r\n"]);
}

fn length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends microseconds as milliseconds with three decimals.
fn milliseconds(out: &mut Vec<u8>, micros: u64) {
    decimal(out, micros / 1_000);
    let part = (micros % 1_000) as u16;
    let digit = |value: u16| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(part / 100), digit(part / 10), digit(part)]);
}

/// Appends a number without the formatting machinery, which costs more than a small head.
pub fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::id::RequestId,
        http::head::{parse_request, parse_response},
    };

    fn upstream(given: &str) -> String {
        let head = parse_request(given.as_bytes()).unwrap();
        let upstream = UpstreamHead {
            path: b"/v1/x",
            authority: "api.example.com",
            added: &[(b"authorization".to_vec(), b"Bearer k".to_vec())],
        };
        let mut out = Vec::new();
        request_front(&mut out, &head, &upstream, &|_: &Field<'_>| true);
        request_end(&mut out, Framing::Length(2), None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_end_to_end_fields_of_the_caller_go_upstream() {
        let sent = upstream(
            "POST /v1/a/g/openai/x HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\nConnection: keep-alive, X-Mine\r\n\
             X-Mine: 1\r\nX-Forwarded-For: 10.0.0.1\r\ncf-aig-authorization: Bearer t\r\nCF-Something: 1\r\ntg-replay: 1\r\n\
             Cookie: a=b\r\nKeep-Alive: 5\r\nTE: trailers\r\nAccept-Encoding: gzip, deflate, br\r\nX-Unknown: passes\r\n\r\n",
        );
        assert_eq!(
            sent,
            "POST /v1/x HTTP/1.1\r\nhost: api.example.com\r\nAccept-Encoding: gzip\r\nX-Unknown: passes\r\n\
             authorization: Bearer k\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn an_encoding_that_cannot_be_read_is_not_asked_for() {
        for (given, asked) in [
            ("br, zstd", "identity"),
            ("gzip;q=0", "identity"),
            ("br;q=1, gzip;q=0.5", "gzip"),
        ] {
            let sent = upstream(&format!(
                "GET / HTTP/1.1\r\nHost: g\r\nAccept-Encoding: {given}\r\n\r\n"
            ));
            assert!(
                sent.contains(&format!("Accept-Encoding: {asked}\r\n")),
                "{sent}"
            );
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for value in [0, 7, 10, 1_024, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
        let mut out = Vec::new();
        milliseconds(&mut out, 12_034);
        assert_eq!(out, b"12.034");
    }

    #[test]
    fn a_response_loses_what_belongs_to_its_connection() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 3\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
                     Alt-Svc: h3\r\ncf-aig-log-id: forged\r\ncf-ray: stays\r\n\r\n";
        let head = parse_response(head, Method::Post).unwrap();
        let downstream = DownstreamHead {
            framing: Framing::Length(3),
            keep: true,
            ids: Ids {
                request: RequestId([0; 16]),
                event: None,
                log: None,
                step: None,
                cache: None,
            },
            limits: None,
            overhead_micros: 1_041,
            subprotocol: None,
        };
        let mut out = Vec::new();
        response(&mut out, &head, Method::Post, &downstream);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ncf-ray: stays\r\n\
             cf-aig-request-id: 00000000-0000-0000-0000-000000000000\r\n\
             cf-aig-event-id: 00000000-0000-0000-0000-000000000000\r\n\
             server-timing: tg;dur=1.041\r\ncontent-length: 3\r\n\r\n"
        );
    }
}
