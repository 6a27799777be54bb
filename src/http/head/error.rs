//! What can be wrong with a head.

use super::{FIELDS_MAX, METHOD_BYTES_MAX, NAME_BYTES_MAX};

/// Why a head was refused. The message says what was wrong in plain words and quotes nothing of
/// the head, so it may be shown to whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadError {
    /// A line feed without the carriage return before it.
    #[error("a line ends in a bare line feed")]
    BareLineFeed,
    /// A carriage return that no line feed follows.
    #[error("a carriage return stands alone")]
    BareCarriageReturn,
    /// NUL or another control byte.
    #[error("the head contains a control byte")]
    ControlByte,
    /// More empty lines before the start line than are skipped.
    #[error("empty lines stand before the start line")]
    EmptyLines,
    /// The head is longer than the limit.
    #[error("the head is larger than the limit")]
    TooLarge,
    /// More fields than [`FIELDS_MAX`].
    #[error("more than {FIELDS_MAX} header fields")]
    TooManyFields,
    /// A name longer than [`NAME_BYTES_MAX`].
    #[error("a header name is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The bytes are not one whole head.
    #[error("the head is not complete")]
    Incomplete,

    /// The request line is not method, one space, target, one space, version.
    #[error("the request line is malformed")]
    RequestLine,
    /// The status line is not version, one space, three digits.
    #[error("the status line is malformed")]
    StatusLine,
    /// The status is not within 100 to 599.
    #[error("the status code is not between 100 and 599")]
    StatusCode,
    /// A version that is well written and not ours.
    #[error("only http/1.1 and http/1.0 are spoken here")]
    VersionUnsupported,
    /// A method longer than [`METHOD_BYTES_MAX`].
    #[error("the method is longer than {METHOD_BYTES_MAX} bytes")]
    MethodTooLong,
    /// `CONNECT`: this is not a forward proxy.
    #[error("the method connect is not served")]
    ConnectRefused,
    /// The target is in none of the forms of RFC 9112 section 3.2, or has bytes it may not have.
    #[error("the request target is malformed")]
    Target,

    /// A line begins with white space: the obsolete continuation of the line before.
    #[error("a header line is folded")]
    FoldedLine,
    /// A line has no colon.
    #[error("a header line has no colon")]
    NoColon,
    /// A line begins with its colon.
    #[error("a header name is empty")]
    EmptyName,
    /// White space between name and colon.
    #[error("white space stands before a header's colon")]
    SpaceBeforeColon,
    /// A name with bytes that a token may not have.
    #[error("a header name contains a byte that it may not")]
    Name,
    /// A value with bytes that it may not have.
    #[error("a header value contains a byte that it may not")]
    Value,
    /// `content_length` and the like, which some readers take for the name with hyphens.
    #[error("a header name imitates a framing header")]
    ImitatedName,

    /// `Content-Length` is not a plain decimal number that fits.
    #[error("content-length is not a number of bytes")]
    LengthMalformed,
    /// More than one `Content-Length`, be they equal or not.
    #[error("content-length is given more than once")]
    LengthRepeated,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("content-length and transfer-encoding are both given")]
    LengthAndEncoding,
    /// Any `Transfer-Encoding` but one single `chunked`.
    #[error("transfer-encoding is not exactly chunked")]
    EncodingUnsupported,
    /// `Transfer-Encoding` in a message of HTTP/1.0.
    #[error("transfer-encoding is not known to http/1.0")]
    EncodingInVersion10,
    /// A body announced where there can be none: on 1xx and 204.
    #[error("a body is announced on a status that has none")]
    BodyOnBodiless,

    /// No `Host` in a request of HTTP/1.1.
    #[error("host is missing")]
    HostMissing,
    /// More than one `Host`.
    #[error("host is given more than once")]
    HostRepeated,
    /// `Host`, or the authority of an absolute target, is not a host with an optional port.
    #[error("host is malformed")]
    HostMalformed,
    /// `Host` differs from the authority of an absolute target.
    #[error("host differs from the request target")]
    HostMismatch,
    /// A 101 that does not say to which protocol it switches.
    #[error("the switch of protocols names no protocol")]
    UpgradeUnnamed,
}

impl HeadError {
    /// The status that answers a request with this head. (A response with this head is answered
    /// for by 502, whatever its fault.)
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyFields | Self::NameTooLong => 431,
            Self::MethodTooLong | Self::ConnectRefused => 501,
            Self::VersionUnsupported => 505,
            Self::BareLineFeed
            | Self::BareCarriageReturn
            | Self::ControlByte
            | Self::EmptyLines
            | Self::Incomplete
            | Self::RequestLine
            | Self::StatusLine
            | Self::StatusCode
            | Self::Target
            | Self::FoldedLine
            | Self::NoColon
            | Self::EmptyName
            | Self::SpaceBeforeColon
            | Self::Name
            | Self::Value
            | Self::ImitatedName
            | Self::LengthMalformed
            | Self::LengthRepeated
            | Self::LengthAndEncoding
            | Self::EncodingUnsupported
            | Self::EncodingInVersion10
            | Self::BodyOnBodiless
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostMalformed
            | Self::HostMismatch
            | Self::UpgradeUnnamed => 400,
        }
    }
}
