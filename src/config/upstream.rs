//! Providers as the operator sets them up: addresses, credentials, time limits.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::provider::dialect::Dialect;

use super::limit;
use super::secret::{Reference, Secret};

/// `[providers.SLUG]`: what differs from the built-in table.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Stored credentials, alias `default`; several share the load by weight. Empty: none.
    pub credentials: Vec<Credential>,
    /// Which address replaces the built-in one.
    pub address: Option<AddressOverride>,
    /// Whether HTTP/2 may be spoken.
    pub http2: Http2,
    /// Limits on time.
    pub timeouts: Timeouts,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            credentials: Vec::new(),
            address: None,
            http2: Http2::Off,
            timeouts: Timeouts::default(),
        }
    }
}

/// The alias of every credential that comes from file or environment.
pub const DEFAULT_ALIAS: &str = "default";

/// A stored credential of a provider.
#[derive(Debug, Clone)]
pub struct Credential {
    /// What is presented to the provider.
    pub secret: Secret,
    /// Share of the requests among several, 1 to 1000.
    pub weight: u16,
    /// Where it came from, for "which keys were found".
    pub source: Reference,
    /// Whether it was picked up under a name that SDKs use, without a word in the file.
    pub picked_up: bool,
}

/// Which part of a provider's address is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressOverride {
    /// `base_url`: replaces the whole upstream base.
    Base(UpstreamUrl),
    /// `origin`: replaces scheme and host of every address, also of templated ones. Its path, if
    /// any, goes in front.
    Origin(UpstreamUrl),
}

/// Whether HTTP/2 is spoken to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// `off`
    Off,
    /// `alpn`: where the provider chooses it.
    Alpn,
}

/// Limits on the time of an attempt; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    pub connect: Option<Duration>,
    /// From the request to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Between two reads of the response.
    pub idle: Option<Duration>,
    /// The whole attempt.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: none_if_zero(limit::CONNECT_TIMEOUT.default),
            first_byte: none_if_zero(limit::FIRST_BYTE_TIMEOUT.default),
            idle: none_if_zero(limit::UPSTREAM_IDLE_TIMEOUT.default),
            total: none_if_zero(limit::TOTAL_TIMEOUT.default),
        }
    }
}

/// In the file, `"0s"` is no limit.
pub(super) fn none_if_zero(value: Duration) -> Option<Duration> {
    (!value.is_zero()).then_some(value)
}

/// `[custom_providers.SLUG]`, reached as `custom-SLUG`.
#[derive(Debug, Clone)]
pub struct CustomProvider {
    /// What a request's path is appended to.
    pub base_url: UpstreamUrl,
    /// The shape of its API, for usage and `/compat`.
    pub dialect: Dialect,
    /// Whether it is there at all: a disabled one answers like an unknown one.
    pub enable: bool,
    /// Headers added to each request; names in lower case, values secret.
    pub headers: BTreeMap<String, Secret>,
}

/// An `http` or `https` URL with a host, and nothing that could carry a secret or be cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Whether it is `https`.
    pub https: bool,
    /// Host name in lower case or IP address; an IPv6 address stands without brackets.
    pub host: String,
    /// The port, explicit or the scheme's.
    pub port: u16,
    /// The path without its final slash: empty, or starting with `/`.
    pub path: String,
}

/// What is wrong with a URL. No variant carries the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("it starts with neither https:// nor http://")]
    Scheme,
    /// A user name or password.
    #[error("it holds a user name or password")]
    Userinfo,
    /// A `?` and what follows.
    #[error("it has a query")]
    Query,
    /// A `#` and what follows.
    #[error("it has a fragment")]
    Fragment,
    /// No host, or one that cannot be.
    #[error("its host is not a name or an address")]
    Host,
    /// A port that is not 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// Characters that no path has, or `.` and `..` as segments.
    #[error("its path has characters or segments that are not allowed")]
    Path,
}

/// Longest URL; longer ones meet limits elsewhere.
const URL_BYTES_MAX: usize = 2048;

impl UpstreamUrl {
    /// Reads a URL strictly (RFC 3986, ASCII only).
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains('?') {
            return Err(UrlError::Query);
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::Userinfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(digits) => parse_port(digits).ok_or(UrlError::Port)?,
            None if https => 443,
            None => 80,
        };
        let path = path.trim_end_matches('/');
        if text.len() > URL_BYTES_MAX || !is_path(path) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            https,
            host,
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.https {
            ("https", 443)
        } else {
            ("http", 80)
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]", self.host)?;
        } else {
            write!(f, "{scheme}://{}", self.host)?;
        }
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn split_port(authority: &str) -> Result<(String, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
        let port = match rest {
            "" => None,
            _ => Some(rest.strip_prefix(':').ok_or(UrlError::Host)?),
        };
        return Ok((address.to_string(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if is_host_name(host) {
        Ok((host.to_ascii_lowercase(), port))
    } else {
        Err(UrlError::Host)
    }
}

/// Says whether `host` is a DNS name or an IPv4 address (RFC 1123 section 2.1; underscores occur
/// in container networks and are let through). A name whose last label is digits must be an
/// address, or a resolver may read it as one.
pub(super) fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    if numeric {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Reads a port. Only digits: `parse` alone would take a plus sign.
fn parse_port(digits: &str) -> Option<u16> {
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = plain.then(|| digits.parse().ok())??;
    (port != 0).then_some(port)
}

/// Says whether a path has only the characters of RFC 3986 section 3.3, whole percent escapes,
/// and no segment that is, or decodes to, `.` or `..`.
fn is_path(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
                digit() && digit()
            }
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'
            | b'+' | b',' | b';' | b'=' | b':' | b'@' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !fits {
            return false;
        }
    }
    path.split('/').all(|segment| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain != "." && plain != ".."
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_read_and_print() {
        let check = |text: &str, printed: &str| {
            let url = UpstreamUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), printed, "{text}");
        };
        check("https://api.openai.com/v1", "https://api.openai.com/v1");
        check("https://api.openai.com/v1/", "https://api.openai.com/v1");
        check("HTTP://Example.COM:80", "http://example.com");
        check(
            "http://127.0.0.1:9001/openai",
            "http://127.0.0.1:9001/openai",
        );
        check("http://[::1]:8000/v1", "http://[::1]:8000/v1");
        check("http://vllm_1:8000", "http://vllm_1:8000");
        check("https://a/b%20c/:x@y", "https://a/b%20c/:x@y");
    }

    #[test]
    fn what_is_no_base_url_says_why() {
        let check = |text: &str, error| assert_eq!(UpstreamUrl::parse(text), Err(error), "{text}");
        check("", UrlError::Scheme);
        check("api.openai.com/v1", UrlError::Scheme);
        check("ftp://a", UrlError::Scheme);
        check("https://", UrlError::Host);
        check("https:///v1", UrlError::Host);
        check("https://user:pass@host/v1", UrlError::Userinfo);
        check("https://host/v1?key=1", UrlError::Query);
        check("https://host/v1#a", UrlError::Fragment);
        check("https://ho st/v1", UrlError::Host);
        check("https://-a/v1", UrlError::Host);
        check("https://a..b", UrlError::Host);
        check("https://127.1", UrlError::Host);
        check("https://2130706433", UrlError::Host);
        check("https://[::1", UrlError::Host);
        check("https://[::1]x", UrlError::Host);
        check("https://host:", UrlError::Port);
        check("https://host:0", UrlError::Port);
        check("https://host:+80", UrlError::Port);
        check("https://host:65536", UrlError::Port);
        check("https://host/a b", UrlError::Path);
        check("https://host/a%2", UrlError::Path);
        check("https://host/a/../b", UrlError::Path);
        check("https://host/%2E%2e/b", UrlError::Path);
        check("https://host/ä", UrlError::Path);
        check("https://host/a\r\nx", UrlError::Path);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(text in "https?://[a-z0-9.:\\[\\]@-]{0,12}(/[ -~]{0,12})?") {
            if let Ok(url) = UpstreamUrl::parse(&text) {
                prop_assert_eq!(UpstreamUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
