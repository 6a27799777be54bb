//! Request and response heads: found, taken apart, and their bodies' framing decided.
//!
//! [`HeadScan`] finds where a head ends while it arrives; [`parse_request`] and
//! [`parse_response`] take the whole head apart. `httparse` tokenises; every rule about framing,
//! hosts, targets and repeated fields is ours and follows RFC 9110 and RFC 9112 without their
//! leniencies. The result borrows from the head; one list of fields is all that is allocated.

use std::mem::MaybeUninit;

use super::header::{FieldName, is_token_byte};
use super::target::{Target, is_host};

mod error;
mod framing;
mod memo;
mod scan;

pub use error::HeadError;
pub use memo::HeadMemo;
pub use scan::HeadScan;

use framing::{Facts, Seen};

/// A request's head, taken apart. Everything borrows from the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// What is to be done.
    pub method: Method<'a>,
    /// The target as sent, in whichever form.
    pub target: &'a [u8],
    /// Path with query, percent-encoding as sent: begins with `/`, or is `*`.
    pub path: &'a [u8],
    /// Host with optional port: the target's authority, else the `Host` field, else (HTTP/1.0
    /// alone) empty.
    pub host: &'a [u8],
    /// The sender's version.
    pub version: Version,
    /// All fields in the order sent.
    pub fields: Vec<Field<'a>>,
    /// What delimits the body.
    pub framing: RequestFraming,
    /// Whether the sender lets the connection stay open.
    pub keep_alive: bool,
    /// Whether the sender waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// The protocols of an `Upgrade` that `Connection` names too.
    pub upgrade: Option<&'a [u8]>,
}

/// A response's head, taken apart. Everything borrows from the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The sender's version.
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase; empty when absent or not ASCII.
    pub reason: &'a [u8],
    /// All fields in the order sent.
    pub fields: Vec<Field<'a>>,
    /// What delimits the body.
    pub framing: ResponseFraming,
    /// Whether the sender lets the connection stay open. Never so when the connection's end
    /// delimits the body, or after a 101.
    pub keep_alive: bool,
    /// The protocol that a 101 switches to; `None` on every other status.
    pub upgrade: Option<&'a [u8]>,
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as sent: a token of at most [`NAME_BYTES_MAX`] bytes.
    pub name: &'a [u8],
    /// The value as sent, without white space around it; no control bytes but tabs.
    pub value: &'a [u8],
    /// The name as far as we know it.
    pub id: FieldName,
}

/// A request's method. Methods are case-sensitive: `get` is not `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method<'a> {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `PATCH`
    Patch,
    /// `OPTIONS`
    Options,
    /// Any other token.
    Other(&'a [u8]),
}

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// What delimits a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is none; a request is never delimited by the connection's end.
    None,
    /// So many bytes, possibly zero.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What delimits a response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the fields say.
    None,
    /// So many bytes, possibly zero.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends.
    Close,
}

/// Takes a request's head apart: the bytes up to and including its empty line, as
/// [`HeadScan::find_end`] delimits them.
///
/// ```
/// use tidegate::http::head::{Method, RequestFraming, parse_request};
///
/// let head = b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n";
/// let request = parse_request(head).unwrap();
/// assert_eq!(request.method, Method::Post);
/// assert_eq!(request.framing, RequestFraming::Length(5));
/// ```
pub fn parse_request(head: &[u8]) -> Result<RequestHead<'_>, HeadError> {
    let head = without_empty_lines(head)?;
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut raw = httparse::Request::new(&mut []);
    let end = raw.parse_with_uninit_headers(head, &mut slots);
    let end = end.map_err(|error| explain(error, head, HeadError::RequestLine))?;
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(HeadError::Incomplete);
    };

    let method = Method::parse(method.as_bytes())?;
    let version = Version::of_minor(minor);
    let target = target.as_bytes();
    let Target { authority, path } = Target::parse(target, method)?;
    let (fields, facts) = take_fields(head, end, raw.headers)?;
    let framing = facts.request_framing(version)?;
    Ok(RequestHead {
        method,
        target,
        path,
        host: host(facts.host, authority, version)?,
        version,
        fields,
        framing,
        keep_alive: facts.keep_alive(version),
        expects_continue: facts.expects_continue(version, framing),
        upgrade: facts.upgrade(version),
    })
}

/// Takes apart the head of the response to a request of method `request`: the bytes up to and
/// including its empty line, as [`HeadScan::find_end`] delimits them.
///
/// ```
/// use tidegate::http::head::{Method, ResponseFraming, parse_response};
///
/// let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// let response = parse_response(head, Method::Post).unwrap();
/// assert_eq!(response.framing, ResponseFraming::Chunked);
/// ```
pub fn parse_response<'a>(
    head: &'a [u8],
    request: Method<'_>,
) -> Result<ResponseHead<'a>, HeadError> {
    // httparse would skip empty lines before the status line; here they are left-over bytes of
    // something else.
    if head.first() != Some(&b'H') {
        return Err(HeadError::StatusLine);
    }
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut raw = httparse::Response::new(&mut []);
    let end = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut raw, head, &mut slots);
    let end = end.map_err(|error| explain(error, head, HeadError::StatusLine))?;
    let (Some(status), Some(reason), Some(minor)) = (raw.code, raw.reason, raw.version) else {
        return Err(HeadError::Incomplete);
    };
    if !(100..=599).contains(&status) {
        return Err(HeadError::StatusCode);
    }

    let version = Version::of_minor(minor);
    let (fields, facts) = take_fields(head, end, raw.headers)?;
    let framing = facts.response_framing(version, status, request == Method::Head)?;
    let upgrade = if status == 101 {
        Some(facts.upgrade(version).ok_or(HeadError::UpgradeUnnamed)?)
    } else {
        None
    };
    Ok(ResponseHead {
        version,
        status,
        reason: reason.as_bytes(),
        fields,
        framing,
        keep_alive: facts.keep_alive(version)
            && framing != ResponseFraming::Close
            && upgrade.is_none(),
        upgrade,
    })
}

/// Most fields in one head; common clients and providers send under 40.
pub const FIELDS_MAX: usize = 100;

/// Longest name of a field; the longest in common use have some 40 bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Longest method; the longest registered one has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;

impl<'a> RequestHead<'a> {
    /// The value of the first field of that name.
    pub fn field(&self, name: FieldName) -> Option<&'a [u8]> {
        first_value(&self.fields, name)
    }

    /// The values of every field of that name.
    pub fn values(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> {
        all_values(&self.fields, name)
    }
}

impl<'a> ResponseHead<'a> {
    /// The value of the first field of that name.
    pub fn field(&self, name: FieldName) -> Option<&'a [u8]> {
        first_value(&self.fields, name)
    }

    /// The values of every field of that name.
    pub fn values(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> {
        all_values(&self.fields, name)
    }

    /// Whether another head follows that answers the same request: every 1xx but the switch of
    /// protocols.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

fn first_value<'a>(fields: &[Field<'a>], name: FieldName) -> Option<&'a [u8]> {
    all_values(fields, name).next()
}

fn all_values<'a>(fields: &[Field<'a>], name: FieldName) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.id == name)
        .map(|field| field.value)
}

impl<'a> Method<'a> {
    /// Reads a method that is to be served: a token of bounded length, not `CONNECT`.
    pub fn parse(method: &'a [u8]) -> Result<Self, HeadError> {
        Ok(match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => return Err(HeadError::ConnectRefused),
            _ if method.len() > METHOD_BYTES_MAX => return Err(HeadError::MethodTooLong),
            _ if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) => {
                return Err(HeadError::RequestLine);
            }
            _ => Self::Other(method),
        })
    }

    /// The method as it is written in a request line.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Delete => b"DELETE",
            Self::Patch => b"PATCH",
            Self::Options => b"OPTIONS",
            Self::Other(method) => method,
        }
    }
}

impl Version {
    fn of_minor(minor: u8) -> Self {
        if minor == 0 {
            Self::Http10
        } else {
            Self::Http11
        }
    }
}

/// Drops the empty lines before a request line that [`HeadScan`] has let pass. The tokeniser would
/// drop bare line feeds as well.
fn without_empty_lines(mut head: &[u8]) -> Result<&[u8], HeadError> {
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    if head.starts_with(b"\n") {
        return Err(HeadError::BareLineFeed);
    }
    Ok(head)
}

/// Takes the fields over from the tokeniser, knowing their names and what they say of framing.
///
/// The tokeniser also takes lines that end in a bare line feed. Such a head does not come out of
/// [`HeadScan`]; that it is refused here too costs two comparisons a line.
fn take_fields<'a>(
    head: &'a [u8],
    end: httparse::Status<usize>,
    raw: &[httparse::Header<'a>],
) -> Result<(Vec<Field<'a>>, Facts<'a>), HeadError> {
    if end != httparse::Status::Complete(head.len()) {
        return Err(HeadError::Incomplete);
    }
    if !head.ends_with(b"\r\n\r\n") {
        return Err(HeadError::BareLineFeed);
    }
    let mut fields = Vec::with_capacity(raw.len());
    let mut facts = Facts::default();
    for header in raw {
        let name = header.name.as_bytes();
        if !follows_line_end(head, name) {
            return Err(HeadError::BareLineFeed);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(HeadError::NameTooLong);
        }
        let id = FieldName::of(name);
        if id == FieldName::Other && imitates_framing(name) {
            return Err(HeadError::ImitatedName);
        }
        let value = header.value;
        let field = Field { name, value, id };
        facts.note(&field);
        fields.push(field);
    }
    Ok((fields, facts))
}

/// Says whether `part`, a slice of `head`, stands right behind a whole line end.
fn follows_line_end(head: &[u8], part: &[u8]) -> bool {
    let at = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
    head.get(..at)
        .is_some_and(|before| before.ends_with(b"\r\n"))
}

/// Says whether a name reads as a framing header once its underscores become hyphens, as they do
/// in servers that hand headers over as CGI variables.
fn imitates_framing(name: &[u8]) -> bool {
    let is_like = |framing: &[u8]| {
        name.len() == framing.len()
            && name.iter().zip(framing).all(|(byte, wanted)| {
                byte.eq_ignore_ascii_case(wanted) || (*byte == b'_' && *wanted == b'-')
            })
    };
    is_like(b"content-length") || is_like(b"transfer-encoding")
}

/// The host a request is for (RFC 9112 section 3.2). A `Host` beside an absolute target must say
/// the same, or two readers would choose differently.
fn host<'a>(
    field: Seen<'a>,
    authority: Option<&'a [u8]>,
    version: Version,
) -> Result<&'a [u8], HeadError> {
    let stated = match field {
        Seen::Often => return Err(HeadError::HostRepeated),
        Seen::Once(value) if !is_host(value) => return Err(HeadError::HostMalformed),
        Seen::Once(value) => Some(value),
        Seen::Never if version == Version::Http11 => return Err(HeadError::HostMissing),
        Seen::Never => None,
    };
    match (authority, stated) {
        (Some(authority), Some(stated)) if !authority.eq_ignore_ascii_case(stated) => {
            Err(HeadError::HostMismatch)
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Ok(b""),
    }
}

/// Says in our words why the tokeniser refused a head. Off the hot path: the head is read again.
fn explain(error: httparse::Error, head: &[u8], start_line: HeadError) -> HeadError {
    if let Err(byte_fault) = HeadScan::request().find_end(head, usize::MAX) {
        return byte_fault;
    }
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => unsupported_version(head).unwrap_or(start_line),
        httparse::Error::Token | httparse::Error::Status | httparse::Error::NewLine => start_line,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => first_field_fault(head),
    }
}

/// A start line whose version has the right form and a number we do not speak.
fn unsupported_version(head: &[u8]) -> Option<HeadError> {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let is_unsupported = |word: &[u8]| {
        word.strip_prefix(b"HTTP/")
            .is_some_and(|number| match number {
                b"1.0" | b"1.1" => false,
                [major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
                _ => false,
            })
    };
    line.split(|byte| *byte == b' ')
        .any(is_unsupported)
        .then_some(HeadError::VersionUnsupported)
}

/// What is wrong with the first field line that is wrong.
fn first_field_fault(head: &[u8]) -> HeadError {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .find_map(field_fault)
        .unwrap_or(HeadError::Value)
}

fn field_fault(line: &[u8]) -> Option<HeadError> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Some(HeadError::FoldedLine);
    }
    let Some(name) = memchr::memchr(b':', line).and_then(|colon| line.get(..colon)) else {
        return Some(HeadError::NoColon);
    };
    if name.is_empty() {
        return Some(HeadError::EmptyName);
    }
    if name.ends_with(b" ") || name.ends_with(b"\t") {
        return Some(HeadError::SpaceBeforeColon);
    }
    (!name.iter().all(|byte| is_token_byte(*byte))).then_some(HeadError::Name)
}

#[cfg(test)]
mod tests;
