//! What frames a body: the rules of RFC 9112 section 6, without their leniencies.

use crate::http::header::{FieldName, list_items};

use super::{Field, HeadError, RequestFraming, ResponseFraming, Version};

/// A field that may stand once. Absent is not empty, and twice is not once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Seen<'a> {
    #[default]
    Never,
    Once(&'a [u8]),
    Often,
}

impl<'a> Seen<'a> {
    fn note(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Often => Self::Often,
        };
    }
}

/// What a head's fields say about its message and its connection, gathered in one pass.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    length: Seen<'a>,
    encoding: Seen<'a>,
    pub(super) host: Seen<'a>,
    upgrade: Seen<'a>,
    expects_continue: bool,
    connection: Options,
}

/// The options of all `Connection` fields that concern the connection itself.
#[derive(Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// How a message is delimited before its kind is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

impl<'a> Facts<'a> {
    /// Takes one field.
    pub(super) fn note(&mut self, field: &Field<'a>) {
        if field.id == FieldName::ContentLength {
            self.length.note(field.value);
        } else if field.id == FieldName::TransferEncoding {
            self.encoding.note(field.value);
        } else if field.id == FieldName::Host {
            self.host.note(field.value);
        } else if field.id == FieldName::Upgrade {
            self.upgrade.note(field.value);
        } else if field.id == FieldName::Expect {
            self.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
        } else if field.id == FieldName::Connection {
            for option in list_items(field.value) {
                self.connection.close |= option.eq_ignore_ascii_case(b"close");
                self.connection.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.connection.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
    }

    /// The framing of a request's body.
    pub(super) fn request_framing(&self, version: Version) -> Result<RequestFraming, HeadError> {
        Ok(match self.announced(version)? {
            Announced::Nothing => RequestFraming::None,
            Announced::Length(length) => RequestFraming::Length(length),
            Announced::Chunked => RequestFraming::Chunked,
        })
    }

    /// The framing of a response's body (RFC 9112 section 6.3).
    ///
    /// A length on an answer to HEAD or on a 304 tells of a body that is not sent. On 1xx and 204
    /// it must not be there at all (RFC 9110 section 8.6); an explicit zero is let pass, since it
    /// cannot be read in two ways.
    pub(super) fn response_framing(
        &self,
        version: Version,
        status: u16,
        answers_head: bool,
    ) -> Result<ResponseFraming, HeadError> {
        let announced = self.announced(version)?;
        let is_bodiless = status < 200 || status == 204;
        if is_bodiless && !matches!(announced, Announced::Nothing | Announced::Length(0)) {
            return Err(HeadError::BodyOnBodiless);
        }
        if is_bodiless || status == 304 || answers_head {
            return Ok(ResponseFraming::None);
        }
        Ok(match announced {
            Announced::Nothing => ResponseFraming::Close,
            Announced::Length(length) => ResponseFraming::Length(length),
            Announced::Chunked => ResponseFraming::Chunked,
        })
    }

    /// Whether the connection stays open after this message (RFC 9112 section 9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.connection.close
            && match version {
                Version::Http11 => true,
                Version::Http10 => self.connection.keep_alive,
            }
    }

    /// Whether the sender waits for a 100 before it sends its body. HTTP/1.0 has no such thing
    /// (RFC 9110 section 10.1.1), and without a body there is nothing to wait for.
    pub(super) fn expects_continue(&self, version: Version, framing: RequestFraming) -> bool {
        self.expects_continue
            && version == Version::Http11
            && !matches!(framing, RequestFraming::None | RequestFraming::Length(0))
    }

    /// The protocols offered by a single `Upgrade` that `Connection` names; HTTP/1.0 has none
    /// (RFC 9110 section 7.8).
    pub(super) fn upgrade(&self, version: Version) -> Option<&'a [u8]> {
        match self.upgrade {
            Seen::Once(protocols)
                if self.connection.upgrade
                    && version == Version::Http11
                    && !protocols.is_empty() =>
            {
                Some(protocols)
            }
            Seen::Never | Seen::Once(_) | Seen::Often => None,
        }
    }

    fn announced(&self, version: Version) -> Result<Announced, HeadError> {
        let chunked = match self.encoding {
            Seen::Never => false,
            Seen::Once(value) if value.eq_ignore_ascii_case(b"chunked") => true,
            Seen::Once(_) | Seen::Often => return Err(HeadError::EncodingUnsupported),
        };
        if chunked && version == Version::Http10 {
            return Err(HeadError::EncodingInVersion10);
        }
        match self.length {
            Seen::Often => Err(HeadError::LengthRepeated),
            Seen::Once(_) if chunked => Err(HeadError::LengthAndEncoding),
            Seen::Once(value) => decimal(value)
                .map(Announced::Length)
                .ok_or(HeadError::LengthMalformed),
            Seen::Never if chunked => Ok(Announced::Chunked),
            Seen::Never => Ok(Announced::Nothing),
        }
    }
}

/// Reads digits and nothing else: Rust's own `parse` takes a sign.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let mut number: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    (number <= LENGTH_MAX).then_some(number)
}

/// Greatest length of a body: what a signed 64-bit number holds, since other readers keep it in
/// one.
const LENGTH_MAX: u64 = i64::MAX.cast_unsigned();

/// Digits of [`LENGTH_MAX`]; longer numbers are too great or padded with zeros.
const LENGTH_DIGITS_MAX: usize = 19;
