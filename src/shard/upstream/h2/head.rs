//! Heads from one version to the other.
//!
//! Which fields pass is decided in one place, where HTTP/1 heads are written and read
//! ([`emit`](crate::shard::emit) and [`parse_response`](crate::http::head::parse_response)); a
//! request is therefore taken from the head that was written for HTTP/1, and an answer given back
//! as one.

use http::{
    Method, Request, Uri, Version,
    header::{HeaderMap, HeaderName, HeaderValue},
    response::Parts,
    uri::Scheme,
};

/// Takes a request's head apart that [`emit::request_front`](crate::shard::emit::request_front) began and
/// [`emit::request_end`](crate::shard::emit::request_end) ended.
/// `None`: it cannot be said in HTTP/2 as it is.
pub fn request(head: &[u8], authority: &str) -> Option<Request<()>> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let path = words.next()?;
    // The type would drop a fragment without a word.
    if path.contains(&b'#') {
        return None;
    }
    let uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(authority)
        .path_and_query(path)
        .build();
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.ok()?;
    *request.version_mut() = Version::HTTP_2;
    for line in lines {
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok()?;
        if is_of_the_connection(&name) {
            continue;
        }
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        let mut value = HeaderValue::from_bytes(value).ok()?;
        // Never kept in the table that compresses the fields of all who share the connection.
        value.set_sensitive(is_secret(&name));
        append(request.headers_mut(), name, value)?;
    }
    Some(request)
}

fn append(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Option<()> {
    fields.try_append(name, value).ok().map(drop)
}

/// Fields that HTTP/2 says otherwise, or not at all (RFC 9113 section 8.2.2).
fn is_of_the_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Names that carry credentials, as providers call them; one too many does no harm.
fn is_secret(name: &HeaderName) -> bool {
    ["auth", "key", "token", "secret", "cookie", "signature"]
        .iter()
        .any(|part| name.as_str().contains(part))
}

/// Appends an answer's head as HTTP/1 would say it. The body's framing is a length, if one was
/// given, else the end of the stream.
pub fn response(out: &mut Vec<u8>, parts: &Parts) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.extend_from_slice(b" \r\n");
    for (name, value) in &parts.headers {
        if is_of_the_connection(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Method as OurMethod, ResponseFraming, parse_response};

    fn taken(head: &str) -> Option<Request<()>> {
        request(head.as_bytes(), "api.example.com")
    }

    #[test]
    fn a_request_loses_what_belongs_to_http_1_and_keeps_the_rest() {
        let request = taken(
            "POST /v1/x?a=b%20c HTTP/1.1\r\nhost: api.example.com\r\nContent-Type: a/b\r\nX-Two: 1\r\nx-two: 2\r\n\
             Authorization: Bearer k\r\ntransfer-encoding: chunked\r\nconnection: upgrade\r\ncontent-length: 3\r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://api.example.com/v1/x?a=b%20c");
        let fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        assert_eq!(
            fields,
            [
                "content-type: a/b",
                "x-two: 1",
                "x-two: 2",
                "authorization: Bearer k",
                "content-length: 3"
            ]
        );
        assert!(request.headers()["authorization"].is_sensitive());
        assert!(!request.headers()["content-type"].is_sensitive());
    }

    #[test]
    fn a_request_that_http_2_would_change_is_not_taken() {
        for path in ["/a#b", "/a b", "/a\u{7f}"] {
            assert!(
                taken(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).is_none_or(|request| {
                    // A space ends the target in HTTP/1 already.
                    path == "/a b" && request.uri().path() == "/a"
                })
            );
        }
    }

    #[test]
    fn an_answer_reads_as_http_1() {
        let answer = http::Response::builder()
            .status(200)
            .header("content-type", "text/event-stream")
            .header("x-request-id", "r1")
            .body(())
            .unwrap();
        let (parts, ()) = answer.into_parts();
        let mut out = Vec::new();
        response(&mut out, &parts);
        let head = parse_response(&out, OurMethod::Post).unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.fields.len(), 2);
        assert_eq!(head.framing, ResponseFraming::Close);
        assert!(!head.keep_alive);
    }

    #[test]
    fn a_given_length_delimits_the_answer() {
        let answer = http::Response::builder()
            .status(201)
            .header("content-length", "12")
            .body(())
            .unwrap();
        let (parts, ()) = answer.into_parts();
        let mut out = Vec::new();
        response(&mut out, &parts);
        let head = parse_response(&out, OurMethod::Post).unwrap();
        assert_eq!(head.framing, ResponseFraming::Length(12));
    }
}
