//! Where a request wants to go: the forms of a target, the grammar of a host, the path rules.

use super::head::{HeadError, Method};

/// A request's target, taken apart and otherwise as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The authority of an absolute target.
    pub(super) authority: Option<&'a [u8]>,
    /// Path with query: `*`, or beginning with `/`.
    pub(super) path: &'a [u8],
}

impl<'a> Target<'a> {
    /// Takes a target in origin-form, absolute-form (http and https) or, for OPTIONS alone,
    /// asterisk-form (RFC 9112 section 3.2). Bytes must be visible ASCII; a fragment is refused,
    /// since a lenient reader would cut it off.
    pub(super) fn parse(target: &'a [u8], method: Method<'a>) -> Result<Self, HeadError> {
        // Without an early exit, so that the compiler makes vector code of it.
        let strange = target.iter().fold(0, |any, byte| {
            any | u8::from(!byte.is_ascii_graphic()) | u8::from(*byte == b'#')
        });
        if strange != 0 {
            return Err(HeadError::Target);
        }
        match target.first() {
            Some(b'/') => Ok(Self {
                authority: None,
                path: target,
            }),
            Some(b'*') if target.len() == 1 && method == Method::Options => Ok(Self {
                authority: None,
                path: target,
            }),
            Some(_) => Self::parse_absolute(target),
            None => Err(HeadError::Target),
        }
    }

    fn parse_absolute(target: &'a [u8]) -> Result<Self, HeadError> {
        let rest = after_scheme(target).ok_or(HeadError::Target)?;
        let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(HeadError::Target)?;
        if !is_host(authority) {
            return Err(HeadError::HostMalformed);
        }
        let path = match path.first() {
            None => b"/".as_slice(),
            Some(b'/') => path,
            // A query without a path: nobody sends it, and it cannot be passed on as it is.
            Some(_) => return Err(HeadError::Target),
        };
        Ok(Self {
            authority: Some(authority),
            path,
        })
    }
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
}

/// Says whether `authority` is a host name, an IPv4 address or an IPv6 address in brackets, with
/// an optional port, and nothing else.
///
/// Narrower than the grammar of RFC 3986: no user, no percent-encoding, no list of hosts. What is
/// left is read alike by everyone.
pub fn is_host(authority: &[u8]) -> bool {
    if authority.len() > HOST_BYTES_MAX {
        return false;
    }
    let Some(bracketed) = authority.strip_prefix(b"[") else {
        let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
        let Some((name, port)) = authority.split_at_checked(end) else {
            return false;
        };
        return !name.is_empty() && name.iter().all(|byte| is_name_byte(*byte)) && is_port(port);
    };
    let Some(end) = memchr::memchr(b']', bracketed) else {
        return false;
    };
    let (Some(address), Some(port)) = (bracketed.get(..end), bracketed.get(end + 1..)) else {
        return false;
    };
    let is_address_byte = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    address.contains(&b':') && address.iter().all(is_address_byte) && is_port(port)
}

/// Longest authority: 253 bytes of a DNS name, a final dot, a colon and five digits.
const HOST_BYTES_MAX: usize = 260;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Nothing, or a colon and a number below 65,536 (which the grammar lets be empty).
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else {
        return port.is_empty();
    };
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).is_ok()
}

/// Says whether a path, once decoded, has a segment `.` or `..` (data-plane contract 1.2: such a
/// path is refused with 400). A query is not looked at.
///
/// Dots count encoded and plain (`%2e`); slashes and backslashes, encoded and plain, all end a
/// segment, because some upstream decodes them before it resolves the path; so does a semicolon
/// (`..;x`), behind which some servers hide parameters. Names that merely contain an encoded slash
/// (`models/a%2Fb`) stay allowed.
///
/// ```
/// use tidegate::http::target::has_dot_segment;
///
/// assert!(has_dot_segment(b"/v1/%2e%2E/admin"));
/// assert!(has_dot_segment(b"/v1/..%2fadmin"));
/// assert!(!has_dot_segment(b"/models/a%2Fb.c/gpt-4.1?q=/../"));
/// ```
pub fn has_dot_segment(path: &[u8]) -> bool {
    // Most paths hold no dot in any writing.
    if memchr::memchr2(b'.', b'%', path).is_none() {
        return false;
    }
    let mut segment = Segment::Empty;
    let mut rest = path;
    while let Some((byte, tail)) = decode_first(rest) {
        // The query begins at a plain question mark; an encoded one belongs to the path.
        if byte == b'?' && rest.first() == Some(&b'?') {
            break;
        }
        rest = tail;
        segment = match byte {
            b'/' | b'\\' | b';' if segment.is_dots() => return true,
            b'/' | b'\\' => Segment::Empty,
            b'.' => segment.with_dot(),
            _ => Segment::Named,
        };
    }
    segment.is_dots()
}

/// As much of a path segment as its dots need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Empty,
    OneDot,
    TwoDots,
    Named,
}

impl Segment {
    fn is_dots(self) -> bool {
        matches!(self, Self::OneDot | Self::TwoDots)
    }

    fn with_dot(self) -> Self {
        match self {
            Self::Empty => Self::OneDot,
            Self::OneDot => Self::TwoDots,
            Self::TwoDots | Self::Named => Self::Named,
        }
    }
}

/// The first byte of `text`, decoded once, and what follows it. A percent sign without two hex
/// digits stands for itself.
fn decode_first(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = text.split_first()?;
    if first == b'%'
        && let Some((pair, tail)) = rest.split_first_chunk::<2>()
        && let Some(byte) = hex_pair(*pair)
    {
        return Some((byte, tail));
    }
    Some((first, rest))
}

/// Says whether every percent sign is followed by two hex digits.
///
/// ```
/// use tidegate::http::target::is_percent_encoding_whole;
///
/// assert!(is_percent_encoding_whole(b"/a%2Fb"));
/// assert!(!is_percent_encoding_whole(b"/a%2"));
/// ```
pub fn is_percent_encoding_whole(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        text.get(at + 1..)
            .and_then(|rest| rest.first_chunk::<2>())
            .is_some_and(|pair| hex_pair(*pair).is_some())
    })
}

fn hex_pair([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_disguise() {
        for path in [
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "..",
            "/%2e",
            "/%2e%2e",
            "/%2E./b",
            "/.%2e/b",
            "/a/..%2fb",
            "/a/..%2Fb",
            "/a%2f..%2fb",
            "/a%2f%2e%2e",
            "/a/..\\b",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/a/..;x/b",
            "/a/..;",
            "/a/..?q",
            "/%2e?q",
            "/a/..%3bx/b",
        ] {
            assert!(has_dot_segment(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn names_with_dots_and_encoded_slashes_stay_allowed() {
        for path in [
            "/",
            "",
            "*",
            "/a%2Fb",
            "/@cf/meta/llama-3.1",
            "/v1beta/models/gemini-2.5:generate",
            "/...",
            "/a..b",
            "/..a",
            "/a..",
            "/.well-known",
            "/%2e%2e%2e",
            "/%252e%252e/",
            "/a?x=/../",
            "/a;../b",
            "/a%3F",
            "/%2",
            "/%zz",
            "/.%",
            "/a//b",
        ] {
            assert!(!has_dot_segment(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn percent_signs_need_two_hex_digits() {
        for whole in ["", "/", "/%00", "/%aF%Fa"] {
            assert!(is_percent_encoding_whole(whole.as_bytes()), "{whole}");
        }
        for broken in ["%", "/%", "/%2", "/%2g", "/%%20", "/%+1", "/%-1", "/% 1"] {
            assert!(!is_percent_encoding_whole(broken.as_bytes()), "{broken}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for host in [
            "a",
            "api.openai.com",
            "api.openai.com.",
            "localhost:8787",
            "10.0.0.1:1",
            "a_b.c~d",
            "[::1]",
            "[2001:db8::1]:443",
            "[::ffff:10.0.0.1]:0",
            "a:",
            "a:65535",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "a:b",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:1:2",
            "a:000001",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[g::]",
            "[1.2.3.4]",
            "a%2e",
            "a\\b",
            "a?b",
            "a#b",
            "\u{e4}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(&[b'a'; 261]));
    }

    #[track_caller]
    fn check(target: &str, method: Method<'_>, expected: Result<(Option<&str>, &str), HeadError>) {
        let parsed = Target::parse(target.as_bytes(), method);
        let expected = expected.map(|(authority, path)| Target {
            authority: authority.map(str::as_bytes),
            path: path.as_bytes(),
        });
        assert_eq!(parsed, expected, "{target}");
    }

    #[test]
    fn a_target_has_one_of_three_forms() {
        check("/a?b", Method::Get, Ok((None, "/a?b")));
        check("//a", Method::Get, Ok((None, "//a")));
        check("*", Method::Options, Ok((None, "*")));
        check("http://h/a", Method::Get, Ok((Some("h"), "/a")));
        check("HTTPS://h:1", Method::Get, Ok((Some("h:1"), "/")));
        check("*", Method::Get, Err(HeadError::Target));
        check("*a", Method::Options, Err(HeadError::Target));
        check("", Method::Get, Err(HeadError::Target));
        check("a", Method::Get, Err(HeadError::Target));
        check("h:443", Method::Get, Err(HeadError::Target));
        check("ftp://h/", Method::Get, Err(HeadError::Target));
        check("http:/h/", Method::Get, Err(HeadError::Target));
        check("http://h?q", Method::Get, Err(HeadError::Target));
        check("http://", Method::Get, Err(HeadError::HostMalformed));
        check("http:///a", Method::Get, Err(HeadError::HostMalformed));
        check("http://u@h/a", Method::Get, Err(HeadError::HostMalformed));
        check("http://h\\a", Method::Get, Err(HeadError::HostMalformed));
        check("/a#b", Method::Get, Err(HeadError::Target));
        check("/\u{e4}", Method::Get, Err(HeadError::Target));
        check("/a\tb", Method::Get, Err(HeadError::Target));
    }
}
