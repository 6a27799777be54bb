//! What holds for every input, one function a fuzz target. The fuzz targets call these under
//! libFuzzer, `tests/corpus.rs` calls them on every corpus file and on generated input.
//!
//! A law is checked against a second reading: the same input in other pieces, the output read
//! again, or a plain reader that keeps everything in memory.

#![allow(dead_code, reason = "each fuzz target uses one law")]
#![allow(
    clippy::allow_attributes,
    reason = "which laws are unused depends on who includes them"
)]

use serde_json::Value;
use tidegate::config::{Flags, Sources, load};
use tidegate::control::logs::frame::{
    FLAG_LZ4, FLAG_PACKED, FileHeader, FrameBuffer, Header, Kind, encode_rows, padded, read_any,
    seal,
};
use tidegate::domain::money::parse_dollars;
use tidegate::http::body::{BodyError, CHUNK_END, ChunkDecoder, LengthCounter};
use tidegate::http::event_stream::EventStream;
use tidegate::http::head::{
    FIELDS_MAX, Field, HeadError, HeadScan, Method, NAME_BYTES_MAX, RequestHead, ResponseFraming,
    ResponseHead, Version, parse_request, parse_response,
};
use tidegate::http::header::{FieldName, connection_names, is_gateway_only};
use tidegate::http::target::{has_dot_segment, is_host, is_percent_encoding_whole};
use tidegate::http::websocket::{Messages, Received};
use tidegate::provider::dialect::{Dialect, Shape};
use tidegate::provider::meter::{Encoding, Meter, Metered};
use tidegate::provider::scanner::{RequestFacts, RequestScan};

/// A head means the same however it arrives; what is accepted is strict, and reads the same once
/// it is written anew.
pub(crate) fn head(input: &[u8]) {
    for limit in [64, 32 * 1024] {
        let request_end = scan(HeadScan::request, input, limit);
        if let Ok(Some(end)) = request_end {
            assert!(end <= limit && input[..end].ends_with(b"\r\n\r\n"));
            _ = parse_request(&input[..end]);
        }
        let response_end = scan(HeadScan::response, input, limit);
        if let Ok(Some(end)) = response_end {
            _ = parse_response(&input[..end], Method::Get);
        }
    }

    // The parsers are sound on what the scan has not seen, too.
    if let Ok(request) = parse_request(input) {
        let start = first_line(input);
        let scanned = HeadScan::request().find_end(&input[start..], usize::MAX);
        assert_eq!(scanned, Ok(Some(input.len() - start)));
        check_fields(&request.fields);
        check_request(&request);
        assert_eq!(parse_request(&rewrite_request(&request)), Ok(request));
    }
    for method in [Method::Get, Method::Head] {
        let Ok(response) = parse_response(input, method) else {
            continue;
        };
        let scanned = HeadScan::response().find_end(input, usize::MAX);
        assert_eq!(scanned, Ok(Some(input.len())));
        check_fields(&response.fields);
        check_response(&response, method);
        assert_eq!(
            parse_response(&rewrite_response(&response), method),
            Ok(response)
        );
    }

    assert_eq!(has_dot_segment(input), has_dot_segment_plainly(input));
    _ = is_percent_encoding_whole(input);
    _ = is_gateway_only(input);
    _ = FieldName::of(input);
    _ = connection_names(input, b"close");
}

fn first_line(mut head: &[u8]) -> usize {
    let mut start = 0;
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
        start += 2;
    }
    start
}

/// The result of a scan of the whole input, after every other delivery gave the same.
fn scan(start: fn() -> HeadScan, input: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
    let whole = start().find_end(input, limit);
    for step in steps(input) {
        let mut scan = start();
        let mut result = scan.find_end(&[], limit);
        for end in ends(input.len(), step) {
            if result != Ok(None) {
                break;
            }
            result = scan.find_end(&input[..end], limit);
        }
        assert_eq!(result, whole, "in steps of {step}");
    }
    whole
}

fn check_fields(fields: &[Field<'_>]) {
    assert!(fields.len() <= FIELDS_MAX);
    for field in fields {
        assert!(!field.name.is_empty() && field.name.len() <= NAME_BYTES_MAX);
        assert!(field.name.iter().all(u8::is_ascii_graphic));
        assert!(
            !field
                .value
                .iter()
                .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        );
        assert!(!field.value.starts_with(b" ") && !field.value.ends_with(b" "));
        let known = field.id.as_str().as_bytes();
        assert!(field.id == FieldName::Other || field.name.eq_ignore_ascii_case(known));
    }
}

fn count(fields: &[Field<'_>], name: FieldName) -> usize {
    fields.iter().filter(|field| field.id == name).count()
}

fn check_request(request: &RequestHead<'_>) {
    assert!(request.path.starts_with(b"/") || request.path == b"*");
    assert!(
        is_host(request.host) || (request.host.is_empty() && request.version == Version::Http10)
    );
    let lengths = count(&request.fields, FieldName::ContentLength);
    let encodings = count(&request.fields, FieldName::TransferEncoding);
    assert!(lengths + encodings <= 1, "framing is said once");
    assert!(count(&request.fields, FieldName::Host) <= 1);
}

fn check_response(response: &ResponseHead<'_>, method: Method<'_>) {
    let is_bodiless =
        method == Method::Head || response.status < 200 || matches!(response.status, 204 | 304);
    assert_eq!(response.framing == ResponseFraming::None, is_bodiless);
    assert_eq!(response.upgrade.is_some(), response.status == 101);
    assert!(!response.keep_alive || response.framing != ResponseFraming::Close);
}

fn rewrite_request(request: &RequestHead<'_>) -> Vec<u8> {
    let mut head = [request.method.as_bytes(), b" ", request.target, b" "].concat();
    head.extend_from_slice(version(request.version));
    rewrite_fields(&mut head, &request.fields);
    head
}

fn rewrite_response(response: &ResponseHead<'_>) -> Vec<u8> {
    let mut head = version(response.version).to_vec();
    head.extend_from_slice(format!(" {} ", response.status).as_bytes());
    head.extend_from_slice(response.reason);
    rewrite_fields(&mut head, &response.fields);
    head
}

fn rewrite_fields(head: &mut Vec<u8>, fields: &[Field<'_>]) {
    for field in fields {
        head.extend_from_slice(&[b"\r\n", field.name, b": ", field.value].concat());
    }
    head.extend_from_slice(b"\r\n\r\n");
}

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

/// Decodes the whole path, then looks at its segments.
fn has_dot_segment_plainly(path: &[u8]) -> bool {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let pair = path
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let pair =
            pair.filter(|pair| path[at] == b'%' && pair.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(Ok(byte)) = pair.map(|pair| u8::from_str_radix(pair, 16)) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(path[at]);
            at += 1;
        }
    }
    decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .map(|segment| {
            segment
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
        })
        .any(|name| name == b"." || name == b"..")
}

/// A chunked body means the same however it arrives; it agrees with a plain reader; what may be
/// passed on holds the same payload and no byte of a trailer.
pub(crate) fn body(input: &[u8]) {
    let plain = read_chunks_plainly(input);
    let whole = decode(input, input.len().max(1));
    match (&plain, &whole) {
        (Ok(Some(plain)), Ok(decoded)) => {
            assert!(decoded.done, "a whole body is seen to be whole");
            assert_eq!(&decoded.payload, &plain.payload);
            assert_eq!(decoded.consumed, plain.end);
            assert_eq!(decoded.forwarded, input[..plain.trailers_at]);
        }
        (Ok(None), Ok(decoded)) => assert!(!decoded.done && decoded.consumed == input.len()),
        (Err(()), Err(_)) => {}
        (plain, decoded) => panic!("plainly {plain:?}, decoded {decoded:?}"),
    }
    for step in steps(input) {
        assert_eq!(decode(input, step), whole, "in steps of {step}");
    }
    if let Ok(decoded) = whole.filter_done() {
        let mut passed_on = decoded.forwarded.clone();
        passed_on.extend_from_slice(CHUNK_END);
        let again = decode(&passed_on, passed_on.len());
        let again = again.unwrap_or_else(|error| panic!("what was passed on is refused: {error}"));
        assert!(again.done && again.consumed == passed_on.len());
        assert_eq!(again.payload, decoded.payload);
    }

    let length = input.first().map_or(0, |byte| u64::from(*byte));
    let mut counter = LengthCounter::new(length);
    let consumed: usize = input
        .chunks(7)
        .map(|piece| counter.feed(piece).consumed)
        .sum();
    assert_eq!(consumed as u64 + counter.remaining(), length);
    assert_eq!(counter.is_done(), input.len() as u64 >= length);
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    payload: Vec<u8>,
    forwarded: Vec<u8>,
    consumed: usize,
    done: bool,
}

trait FilterDone {
    fn filter_done(self) -> Result<Decoded, ()>;
}

impl FilterDone for Result<Decoded, BodyError> {
    fn filter_done(self) -> Result<Decoded, ()> {
        self.ok().filter(|decoded| decoded.done).ok_or(())
    }
}

fn decode(input: &[u8], step: usize) -> Result<Decoded, BodyError> {
    let mut decoder = ChunkDecoder::new();
    let mut decoded = Decoded {
        payload: Vec::new(),
        forwarded: Vec::new(),
        consumed: 0,
        done: false,
    };
    for piece in input.chunks(step) {
        let fed = decoder.feed(piece, |data| {
            assert!(!data.is_empty());
            decoded.payload.extend_from_slice(data);
        })?;
        assert!(fed.forward <= fed.consumed && fed.consumed <= piece.len());
        assert!(fed.done || fed.consumed == piece.len());
        assert_eq!(fed.done, decoder.is_done());
        assert_eq!(decoder.payload_bytes(), decoded.payload.len() as u64);
        decoded.forwarded.extend_from_slice(&piece[..fed.forward]);
        decoded.consumed += fed.consumed;
        decoded.done = fed.done;
    }
    Ok(decoded)
}

#[derive(Debug)]
struct Plain {
    payload: Vec<u8>,
    trailers_at: usize,
    end: usize,
}

/// Reads a chunked body line by line from memory: whole (`Some`), not ended (`None`) or refused.
/// Where a line has not ended it says refused only if no ending could save it.
fn read_chunks_plainly(input: &[u8]) -> Result<Option<Plain>, ()> {
    let mut payload = Vec::new();
    let mut at = 0;
    let mut announced = 0_u64;
    loop {
        let Some(end) = line_end(&input[at..])? else {
            return check_chunk_line(&input[at..], false).map(|_| None);
        };
        let size = check_chunk_line(&input[at..at + end], true)?;
        at += end + 2;
        if size == 0 {
            break;
        }
        announced = announced.checked_add(size).ok_or(())?;
        if announced > i64::MAX as u64 {
            return Err(());
        }
        let here = (input.len() - at).min(usize::try_from(size).map_err(|_| ())?);
        payload.extend_from_slice(&input[at..at + here]);
        at += here;
        if (here as u64) < size {
            return Ok(None);
        }
        match &input[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(()),
        }
    }
    let trailers_at = at;
    loop {
        let Some(end) = line_end(&input[at..])? else {
            let is_sound = check_trailer(&input[at..], false);
            let is_bounded = input.len() - trailers_at <= 8192;
            return if is_sound && is_bounded {
                Ok(None)
            } else {
                Err(())
            };
        };
        if end > 0 && !check_trailer(&input[at..at + end], true) {
            return Err(());
        }
        at += end + 2;
        if at - trailers_at > 8192 {
            return Err(());
        }
        if end == 0 {
            return Ok(Some(Plain {
                payload,
                trailers_at,
                end: at,
            }));
        }
    }
}

/// Where the first line ends; an error when a line feed or a carriage return stands alone.
fn line_end(input: &[u8]) -> Result<Option<usize>, ()> {
    match input.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        None => Ok(None),
        Some(at) if input[at] == b'\n' => Err(()),
        Some(at) => match input.get(at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(()),
        },
    }
}

fn check_chunk_line(line: &[u8], has_ended: bool) -> Result<u64, ()> {
    let has_return = line.ends_with(b"\r");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let digits = line
        .iter()
        .position(|byte| *byte == b';')
        .unwrap_or(line.len());
    let (size, extension) = line.split_at(digits);
    let may_be_empty = !has_ended && !has_return && extension.is_empty();
    if size.len() > 16
        || !size.iter().all(u8::is_ascii_hexdigit)
        || (size.is_empty() && !may_be_empty)
    {
        return Err(());
    }
    let is_text = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte);
    if extension.len() > 256 || !extension.iter().all(is_text) {
        return Err(());
    }
    let size = std::str::from_utf8(size).map_err(|_| ())?;
    if size.is_empty() {
        Ok(0)
    } else {
        u64::from_str_radix(size, 16).map_err(|_| ())
    }
}

fn check_trailer(line: &[u8], has_ended: bool) -> bool {
    let has_return = line.ends_with(b"\r");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_token = |name: &[u8]| {
        let mark = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
        name.iter()
            .all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
    };
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
            colon > 0 && is_token(&line[..colon]) && line[colon + 1..].iter().all(is_text)
        }
        None => !has_ended && is_token(line) && (!has_return || line.is_empty()),
    }
}

/// An event stream means the same however it arrives, and agrees with a plain reader.
pub(crate) fn event_stream(input: &[u8]) {
    for limit in [24, 64 * 1024] {
        let plain = read_events_plainly(input, limit);
        for step in steps(input) {
            assert_eq!(read_events(input, step, limit), plain, "in steps of {step}");
        }
    }
}

/// Events as name and data, and how many were left out.
type Events = (Vec<(Vec<u8>, Vec<u8>)>, u64);

fn read_events(input: &[u8], step: usize, limit: usize) -> Events {
    let mut stream = EventStream::with_limit(limit);
    let mut events = Vec::new();
    for piece in input.chunks(step) {
        stream.feed(piece, |event| {
            events.push((event.name.to_vec(), event.data.to_vec()));
        });
    }
    stream.finish(|event| events.push((event.name.to_vec(), event.data.to_vec())));
    (events, stream.skipped())
}

fn read_events_plainly(input: &[u8], limit: usize) -> Events {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let (mut events, mut skipped) = (Vec::new(), 0);
    let (mut name, mut data, mut bytes) = (Vec::new(), Vec::<Vec<u8>>::new(), 0);
    let mut lines = plain_lines(input);
    lines.push(Vec::new());
    for line in lines {
        if line.is_empty() {
            if bytes > limit {
                skipped += 1;
            } else if !data.is_empty() {
                events.push((name.clone(), data.join(&b'\n')));
            }
            name.clear();
            data.clear();
            bytes = 0;
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"data" => data.push(value),
            b"event" => name = value,
            _ => continue,
        }
        bytes += line.len();
    }
    (events, skipped)
}

fn plain_lines(input: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut after_return = false;
    for &byte in input {
        let is_end = byte == b'\r' || (byte == b'\n' && !after_return);
        if is_end {
            lines.push(Vec::new());
        } else if byte != b'\n'
            && let Some(line) = lines.last_mut()
        {
            line.push(byte);
        }
        after_return = byte == b'\r';
    }
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

/// Messages of a WebSocket are the same however they arrive, end in the same violation, and agree
/// with a plain reader.
pub(crate) fn websocket(input: &[u8]) {
    for limit in [5, 64 * 1024] {
        let plain = read_messages_plainly(input, limit);
        for step in steps(input) {
            let messages = read_messages(input, step, limit);
            assert_eq!(messages, plain, "in steps of {step}");
        }
    }
}

/// What was received, and the close code of the violation that ended it.
type Heard = (Vec<Received>, Option<u16>);

fn read_messages(input: &[u8], step: usize, limit: usize) -> Heard {
    let mut messages = Messages::new(limit);
    let mut heard = Vec::new();
    for mut piece in input.chunks(step) {
        while !piece.is_empty() {
            match messages.feed(piece) {
                Ok(fed) => {
                    assert!(fed.consumed > 0, "it stands still");
                    piece = &piece[fed.consumed..];
                    heard.extend(fed.received);
                }
                Err(violation) => return (heard, Some(violation.code())),
            }
        }
    }
    (heard, None)
}

fn read_messages_plainly(mut input: &[u8], limit: usize) -> Heard {
    let mut heard = Vec::new();
    let mut text: Option<Vec<u8>> = None;
    loop {
        let [first, second, rest @ ..] = input else {
            return (heard, None);
        };
        let long = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        let after = long + if masked { 4 } else { 0 };
        if rest.len() < after {
            return (heard, None);
        }
        let length = rest[..long]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if long == 0 {
            u64::from(second & 0x7f)
        } else {
            length
        };
        let is_shortest = match long {
            2 => length > 125,
            8 => length > 0xffff,
            _ => true,
        };
        let (opcode, is_final) = (first & 0x0f, first & 0x80 != 0);
        let is_known = matches!(opcode, 0..=2 | 8..=10);
        let is_control = opcode >= 8;
        let is_placed = is_control || (opcode == 0) == text.is_some();
        let is_short = !is_control || is_final && length <= 125;
        if first & 0x70 != 0 || !masked || !is_shortest || !is_known || !is_placed || !is_short {
            return (heard, Some(1002));
        }
        if opcode == 2 {
            return (heard, Some(1003));
        }
        let held = text.as_ref().map_or(0, Vec::len) as u64;
        if !is_control && length.saturating_add(held) > limit as u64 {
            return (heard, Some(1009));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = rest[after..].get(..length) else {
            return (heard, None);
        };
        let mask = rest[long..after].iter().cycle();
        let payload: Vec<u8> = payload
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        input = &rest[after + length..];
        match opcode {
            8 => match payload[..] {
                [] => heard.push(Received::Close(None)),
                [a, b, ref reason @ ..] => {
                    let code = u16::from_be_bytes([a, b]);
                    if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) {
                        return (heard, Some(1002));
                    }
                    if std::str::from_utf8(reason).is_err() {
                        return (heard, Some(1007));
                    }
                    heard.push(Received::Close(Some(code)));
                }
                [_] => return (heard, Some(1002)),
            },
            9 => heard.push(Received::Ping(payload)),
            10 => heard.push(Received::Pong),
            _ => {
                let mut whole = text.take().unwrap_or_default();
                whole.extend(payload);
                if !is_final {
                    text = Some(whole);
                } else if let Ok(whole) = String::from_utf8(whole) {
                    heard.push(Received::Text(whole));
                } else {
                    return (heard, Some(1007));
                }
            }
        }
    }
}

/// Sizes of the pieces an input is delivered in: whole, byte by byte, and a few between.
fn steps(input: &[u8]) -> impl Iterator<Item = usize> {
    let whole = input.len().max(1);
    [1, 2, 3, 7, whole / 2 + 1, whole]
        .into_iter()
        .filter(move |step| *step <= whole)
}

/// Where the pieces end.
fn ends(len: usize, step: usize) -> impl Iterator<Item = usize> {
    (step..len).step_by(step).chain([len])
}

/// A request's body says the same however it arrives; where it is JSON, it says what a parser
/// that keeps it in memory makes of it.
pub(crate) fn scanner(input: &[u8]) {
    for content_type in ["application/json", "multipart/form-data; boundary=x"] {
        let whole = scan_request(content_type, input, input.len().max(1));
        for step in steps(input) {
            let facts = scan_request(content_type, input, step);
            assert_eq!(facts, whole, "{content_type} in steps of {step}");
        }
    }
    let facts = RequestFacts::of_json(input);
    assert_eq!(facts, scan_request("", input, input.len().max(1)));
    // Longer names of models are none, and a parser does not tell how long a name was written.
    if input.len() < 1024
        && let Some(document) = read_document_plainly(input)
    {
        let mut plain = PlainRequest::default();
        plain.read(&document, 0);
        assert_eq!(facts, plain.facts());
    }
}

fn scan_request(content_type: &str, input: &[u8], step: usize) -> RequestFacts {
    let mut scan = RequestScan::of_content_type(content_type.as_bytes());
    for piece in input.chunks(step) {
        scan.feed(piece);
    }
    scan.facts()
}

/// The document, if it is one and has no name twice in one object: of those a parser keeps the
/// last one whole, the scanner the last one of each member inside.
fn read_document_plainly(input: &[u8]) -> Option<Value> {
    let document = serde_json::from_slice(input).ok()?;
    (count_members(&document) == count_colons(input)).then_some(document)
}

fn count_members(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            members.len() + members.values().map(count_members).sum::<usize>()
        }
        Value::Array(elements) => elements.iter().map(count_members).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn count_colons(document: &[u8]) -> usize {
    let (mut colons, mut in_string, mut escaped) = (0, false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    colons
}

#[derive(Default)]
struct PlainRequest {
    model: Option<Box<str>>,
    stream: Option<bool>,
    limits: [Option<u64>; 4],
}

impl PlainRequest {
    /// Reads a value at the root; arrays are transparent as far as the scanner follows.
    fn read(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Array(elements) if depth < 9 => {
                for element in elements {
                    self.read(element, depth + 1);
                }
            }
            Value::Object(members) if depth < 9 => {
                for (name, value) in members {
                    match name.as_str() {
                        "model" => {
                            self.model = value.as_str().filter(|m| !m.is_empty()).map(Box::from);
                        }
                        "stream" => self.stream = value.as_bool(),
                        "max_tokens" => self.limits[0] = whole_number_plainly(value),
                        "max_completion_tokens" => self.limits[1] = whole_number_plainly(value),
                        "max_output_tokens" => self.limits[2] = whole_number_plainly(value),
                        "generationConfig" => {
                            self.read_nested("maxOutputTokens", value, depth + 1);
                        }
                        "inferenceConfig" => self.read_nested("maxTokens", value, depth + 1),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn read_nested(&mut self, wanted: &str, value: &Value, depth: usize) {
        match value {
            Value::Array(elements) if depth < 9 => {
                for element in elements {
                    self.read_nested(wanted, element, depth + 1);
                }
            }
            Value::Object(members) if depth < 9 => {
                if let Some(value) = members.get(wanted) {
                    self.limits[3] = whole_number_plainly(value);
                }
            }
            _ => {}
        }
    }

    fn facts(self) -> RequestFacts {
        RequestFacts {
            model: self.model,
            stream: self.stream,
            max_tokens: self.limits.into_iter().flatten().max(),
        }
    }
}

fn whole_number_plainly(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else {
        return None;
    };
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    let is_whole = part.bytes().all(|digit| digit == b'0') && text.len() <= 24;
    whole.parse().ok().filter(|_| is_whole)
}

/// Metering never fails. A document and binary frames mean the same however they arrive; the
/// first token comes once; asking twice gives the same answer.
pub(crate) fn meter(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let choice = usize::from(choice);
    let dialect = Dialect::ALL[choice % 8];
    let shape = [
        Shape::Json,
        Shape::EventStream,
        Shape::AmazonEventStream,
        Shape::JsonLines,
    ][choice / 8 % 4];
    let encoding = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Unsupported,
    ][choice / 32 % 4];
    let start = || Meter::new(dialect, shape, encoding);
    let whole = meter_in_steps(start(), body, body.len().max(1));
    for step in steps(body) {
        let metered = meter_in_steps(start(), body, step);
        // Whole events without a sign of usage are leapt over, parts of one are not.
        if matches!(shape, Shape::Json | Shape::AmazonEventStream) {
            assert_eq!(metered, whole, "in steps of {step}");
        }
    }
    if shape == Shape::EventStream && encoding == Encoding::Identity {
        let events = body.split_inclusive(|byte| *byte == b'\n');
        let mut meter = start();
        for line in events {
            meter.feed(line);
        }
        _ = meter.finish();
    }
}

fn meter_in_steps(mut meter: Meter, body: &[u8], step: usize) -> Metered {
    let mut first_tokens = 0;
    for piece in body.chunks(step) {
        first_tokens += u32::from(meter.feed(piece).first_token);
    }
    assert!(first_tokens <= 1);
    let metered = meter.finish();
    assert_eq!(meter.finish(), metered);
    if let Some(cost) = &metered.cost_reported {
        _ = parse_dollars(cost);
    }
    metered
}

/// A log file is read whatever its bytes; one whose checksums are right is too, and a frame that
/// makes no sense does not hide the one behind it.
pub(crate) fn frame(input: &[u8]) {
    _ = read_any(input);
    let rows = input.first().map_or(0, |byte| u32::from(*byte % 4));
    for (kind, flags) in [
        (2, 0),
        (2, FLAG_PACKED),
        (3, 0),
        (3, FLAG_LZ4),
        (1, 0),
        (4, 0),
        (9, 0xffff),
    ] {
        let mut file = Vec::new();
        let mut contents = FrameBuffer::new();
        FileHeader {
            contents: Kind::Rows,
            compressed: false,
            created_micros: 1,
            version: "0.1.0".to_owned(),
        }
        .write(&mut contents);
        add_frame(&mut file, 0, (1, 0, 0), &contents);
        add_frame(&mut file, 1, (kind, flags, rows), input);
        if let Some((good, header)) = encode_rows(&[Box::default()], FrameBuffer::new()) {
            add_frame(
                &mut file,
                2,
                (2, header.flags, 1),
                &good[64..64 + header.length as usize],
            );
        }
        let (records, _) = read_any(&file);
        assert!(records >= 1, "kind {kind}, flags {flags}");
        for end in ends(file.len(), file.len() / 5 + 1) {
            assert!(read_any(&file[..end]).0 <= records);
        }
    }
}

fn add_frame(file: &mut Vec<u8>, sequence: u64, what: (u8, u16, u32), payload: &[u8]) {
    let (kind, flags, rows) = what;
    let header = Header {
        kind,
        flags,
        rows,
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        min_micros: 0,
        max_micros: 0,
        sequence,
        segment: 7,
        payload_hash: 0,
    };
    let offset = file.len();
    file.resize(offset + padded(payload.len()), 0);
    let frame = &mut file[offset..];
    frame[64..64 + payload.len()].copy_from_slice(payload);
    seal(frame, header, offset as u64);
}

/// What no message may show, wherever it was planted.
const PLANTED: &str = "sk-planted-5tR0ngS3cret-0123456789abcdef";

/// A configuration is taken or refused, whatever its text, and neither the one nor the other
/// shows a secret: not from a variable, not from a file, not one that stands where a reference to
/// it should.
pub(crate) fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if text.contains(PLANTED) {
        return; // said in the open
    }
    check_config(&text);
    check_config(&format!("[providers.openai]\nkey = \"{PLANTED}\"\n{text}"));
    check_config(&format!(
        "[[tokens]]\nname = \"a\"\ntoken = '{PLANTED}'\n{text}"
    ));
}

fn check_config(text: &str) {
    let sources = Sources {
        env: &|name| {
            let ours = name.starts_with("TIDEGATE_") || name.starts_with("XDG_") || name == "HOME";
            (!ours).then(|| PLANTED.to_owned())
        },
        read_file: &|_| Ok(format!("{PLANTED}\n")),
        known_provider: &|slug| ["openai", "anthropic", "azure-openai"].contains(&slug),
        picked_up_keys: &[("anthropic", &["ANTHROPIC_API_KEY"])],
        flags: &Flags::default(),
    };
    let shown = match load(text, "tidegate.toml", "/etc/tidegate".as_ref(), &sources) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(ToString::to_string);
            format!("{loaded:?}{}", warnings.collect::<String>())
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            let json = serde_json::to_string(&problems).unwrap_or_default();
            format!("{problems}{problems:?}{json}")
        }
    };
    assert!(!shown.contains(PLANTED), "shown in\n{shown}");
}
