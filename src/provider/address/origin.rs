//! Schemes, hosts and ports, and the URLs of the file that name them.

use std::{borrow::Cow, net::Ipv4Addr, net::Ipv6Addr};

use super::super::url_text;

/// Where a connection goes: scheme, host and port.
///
/// The host is lower case; an IPv6 address stands without its brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A host name or an IP address. The table's own hosts are borrowed, so a clone is free.
    pub host: Cow<'static, str>,
    /// The port, the scheme's default included.
    pub port: u16,
}

impl Origin {
    /// Reads `http://host[:port]` with nothing behind it.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (origin, rest) = Self::split(url)?;
        match rest.bytes().next() {
            None => Ok(origin),
            Some(b'/') if rest.len() == 1 => Ok(origin),
            Some(b'#') => Err(UrlError::Fragment),
            Some(b'?') => Err(UrlError::Query),
            Some(_) => Err(UrlError::Path),
        }
    }

    /// Reads scheme, host and port off the front of an absolute URL; gives back what follows.
    pub fn split(url: &str) -> Result<(Self, &str), UrlError> {
        let (tls, authority, rest) = cut(url)?;
        let (host, port) = parse_authority(tls, authority)?;
        let host = Cow::Owned(host);
        Ok((Self { tls, host, port }, rest))
    }

    /// Whether the port is the scheme's own, so that the `Host` field leaves it out.
    pub fn is_default_port(&self) -> bool {
        self.port == default_port(self.tls)
    }

    /// Appends the text of the `Host` field: host, and port unless it is the scheme's own.
    pub fn write_authority(&self, out: &mut Vec<u8>) {
        let is_v6 = self.host.contains(':');
        out.extend_from_slice(if is_v6 { b"[" } else { b"" });
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(if is_v6 { b"]" } else { b"" });
        if !self.is_default_port() {
            out.push(b':');
            let mut digits = [0; 5];
            let mut left = self.port;
            let mut used = 0;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
                left /= 10;
                used += 1;
                if left == 0 {
                    break;
                }
            }
            out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
        }
    }

    /// The text of the `Host` field.
    pub fn authority(&self) -> String {
        let mut out = Vec::with_capacity(self.host.len() + 8);
        self.write_authority(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

/// An origin with a path in front of everything: a `base_url` or `origin` of the file, or a base
/// of the table.
///
/// Host and path may hold parts in braces (`{region}`) that the request's path fills in. The path
/// is empty or starts with a slash, and never ends in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub(crate) origin: Origin,
    pub(crate) path: Cow<'static, str>,
    pub(crate) open_host: bool,
    pub(crate) open_path: bool,
}

impl Base {
    /// A base of the table. `host` is lower case; `path` is empty or `/…` without a final slash.
    pub(crate) const fn https(host: &'static str, path: &'static str) -> Self {
        Self {
            origin: Origin {
                tls: true,
                host: Cow::Borrowed(host),
                port: default_port(true),
            },
            path: Cow::Borrowed(path),
            open_host: has_brace(host),
            open_path: has_brace(path),
        }
    }

    /// Reads `http[s]://host[:port][/path]`. Parts in braces must be among `parts`
    /// (`Provider::parts`; none for a custom provider and for an `origin`).
    pub fn parse(url: &str, parts: &[&str]) -> Result<Self, UrlError> {
        let (tls, authority, rest) = cut(url)?;
        let open_host = authority.contains('{');
        let (host, port) = if open_host {
            let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
            // What stands in braces will be checked as part of a host label when it is known.
            let sample = without_parts(host, parts)?;
            let port = if port.is_empty() {
                sample
            } else {
                format!("{sample}:{port}")
            };
            let (_, port) = parse_authority(tls, &port)?;
            (host.to_ascii_lowercase(), port)
        } else {
            parse_authority(tls, authority)?
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        if rest.contains('?') {
            return Err(UrlError::Query);
        }
        let path = rest.trim_end_matches('/');
        let open_path = path.contains('{');
        let sample = without_parts(path, parts)?;
        let is_plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
        if !sample.bytes().all(is_plain) || url_text::has_dot_segment(path.as_bytes()) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            origin: Origin {
                tls,
                host: Cow::Owned(host),
                port,
            },
            path: Cow::Owned(path.to_owned()),
            open_host,
            open_path,
        })
    }

    /// Scheme, host and port; the host may still hold parts in braces.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path: empty, or `/…` without a final slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether its host is the same for every request.
    pub fn is_fixed(&self) -> bool {
        !self.open_host
    }
}

/// Why a URL cannot be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("the url must start with https:// or http://")]
    Scheme,
    /// It names a user or a password.
    #[error("the url must not hold a user name or password")]
    UserInfo,
    /// It has a fragment.
    #[error("the url must not have a fragment (#)")]
    Fragment,
    /// It has a query.
    #[error("the url must not have a query (?)")]
    Query,
    /// The host is empty or has characters that no host has.
    #[error("the url's host is not a host name or IP address")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the url's port must be a number from 1 to 65535")]
    Port,
    /// The path has characters that must be percent-encoded, or a `.` or `..` segment.
    #[error("the url's path has a character that must be percent-encoded, or a dot segment")]
    Path,
    /// A part in braces that this provider's paths do not have.
    #[error("the url names a part in braces that this provider's paths do not have")]
    UnknownPart,
}

/// Whether `text` is a host name or an IPv4 address, in lower case. Names that end in a number
/// are addresses to some resolvers, so they must be whole ones.
pub(super) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= HOST_BYTES_MAX
        && text.split('.').all(is_label)
        && (!is_number || text.parse::<Ipv4Addr>().is_ok())
}

/// Longest host name in text (RFC 1035 section 2.3.4, less its length and root bytes).
const HOST_BYTES_MAX: usize = 253;

fn cut(url: &str) -> Result<(bool, &str, &str), UrlError> {
    let (scheme, after) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let tls = match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => true,
        _ if scheme.eq_ignore_ascii_case("http") => false,
        _ => return Err(UrlError::Scheme),
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end).unwrap_or((after, ""));
    Ok((tls, authority, rest))
}

fn parse_authority(tls: bool, authority: &str) -> Result<(String, u16), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
        let (address, after) = inside.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            None => return Err(UrlError::Host),
            Some(port) => Some(port),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(UrlError::Host);
        }
        (host, port)
    };
    let port = match port {
        None => default_port(tls),
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(UrlError::Port)?,
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
}

/// `text` with a letter in the place of each part in braces.
fn without_parts(text: &str, parts: &[&str]) -> Result<String, UrlError> {
    let mut sample = String::with_capacity(text.len());
    let mut left = text;
    while let Some((before, after)) = left.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(UrlError::UnknownPart)?;
        if !parts.contains(&name) {
            return Err(UrlError::UnknownPart);
        }
        sample.push_str(before);
        sample.push('x');
        left = after;
    }
    sample.push_str(left);
    Ok(sample)
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

const fn has_brace(text: &str) -> bool {
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        if *first == b'{' {
            return true;
        }
        left = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, authority: &str, path: &str) {
        let base = Base::parse(url, &["region"]).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(base.origin().authority(), authority, "{url}");
        assert_eq!(base.path(), path, "{url}");
    }

    #[test]
    fn urls_of_the_file_are_read() {
        check("https://api.openai.com/v1", "api.openai.com", "/v1");
        check("HTTPS://API.OpenAI.com:443/v1//", "api.openai.com", "/v1");
        check("http://127.0.0.1:9001/openai", "127.0.0.1:9001", "/openai");
        check("http://localhost", "localhost", "");
        check("http://localhost:80/", "localhost", "");
        check("https://localhost:80/", "localhost:80", "");
        check("http://[::1]:8000/v1", "[::1]:8000", "/v1");
        check("https://[2001:DB8::1]", "[2001:db8::1]", "");
        check("http://my_service:65535", "my_service:65535", "");
        check("https://h/a%20b/@x", "h", "/a%20b/@x");
        check(
            "https://bedrock.{region}.amazonaws.com.cn/x",
            "bedrock.{region}.amazonaws.com.cn",
            "/x",
        );
        check(
            "http://{region}.h:81/{region}",
            "{region}.h:81",
            "/{region}",
        );
    }

    #[test]
    fn urls_that_could_mislead_are_refused() {
        use UrlError::{Fragment, Host, Path, Port, Query, Scheme, UnknownPart, UserInfo};
        let cases = [
            ("", Scheme),
            ("api.openai.com", Scheme),
            ("ftp://h", Scheme),
            ("wss://h", Scheme),
            ("https://", Host),
            ("https:///v1", Host),
            ("https://user@h", UserInfo),
            ("https://user:secret@h/v1", UserInfo),
            ("https://h\\@evil.com", UserInfo),
            ("https://h\\evil", Host),
            ("https://h evil", Host),
            ("https://-h", Host),
            ("https://h..x", Host),
            ("https://h.", Host),
            ("https://127.1", Host),
            ("https://2130706433", Host),
            ("https://0x7f000001", Host),
            ("https://1.2.3.999", Host),
            ("https://ex%61mple.com", Host),
            ("https://exämple.com", Host),
            ("https://[::1", Host),
            ("https://[::1]x", Host),
            ("https://[fe80::1%25eth0]", Host),
            ("https://h:", Port),
            ("https://h:0", Port),
            ("https://h:65536", Port),
            ("https://h:+80", Port),
            ("https://h/v1?x=1", Query),
            ("https://h?x", Query),
            ("https://h/v1#x", Fragment),
            ("https://h/a b", Path),
            ("https://h/../x", Path),
            ("https://h/%2e%2e/x", Path),
            ("https://{zone}.h/", UnknownPart),
            ("https://h/{region", UnknownPart),
            ("https://h/}", Path),
        ];
        for (url, error) in cases {
            assert_eq!(Base::parse(url, &["region"]), Err(error), "{url}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        assert!(Origin::parse("http://h:1/").is_ok());
        assert_eq!(Origin::parse("http://h:1/x"), Err(UrlError::Path));
        assert_eq!(Origin::parse("http://h?x"), Err(UrlError::Query));
    }

    #[test]
    fn equal_origins_are_equal_however_they_were_made() {
        let parsed = Origin::parse("https://API.openai.com").unwrap();
        assert_eq!(parsed, Base::https("api.openai.com", "/v1").origin);
    }
}
