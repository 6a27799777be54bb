//! Where a request goes: provider and path in, origin and upstream path out.
//!
//! The rest of the path is copied as it was sent, query and percent-encoding included; only its
//! join with the base is made. A path never chooses a host: where an address has parts that come
//! from the path (a region, a resource), each must be one host label.

use std::borrow::Cow;

use super::{
    fal, gemini,
    table::{Provider, ProviderId},
    url_text, workers_ai,
};

mod origin;

pub use origin::{Base, Origin, UrlError};

/// What the file says about a provider's address. Both replace for every request alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Replaces the upstream base of the table, as if it stood there: parse it with the
    /// provider's [`Provider::parts`].
    pub base_url: Option<Base>,
    /// Replaces scheme and host of every address, templated ones too, and puts its own path in
    /// front; the rest of the path stays.
    pub origin: Option<Base>,
}

/// What a request asks of a provider's address.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What follows `{provider}` in the request's target, as sent: query included, with or
    /// without its first slash, possibly empty.
    pub rest: &'a [u8],
    /// The account for addresses that name one (Workers AI): the URL's, unless configured.
    pub account_id: &'a str,
    /// The value of `x-fal-target-url`, if sent. Providers other than Fal ignore it.
    pub target_url: Option<&'a [u8]>,
}

/// Which origin a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'o> {
    /// One that is the same for every request: the table's or the file's.
    Fixed(&'o Origin),
    /// One made from a template for this request.
    Made(Origin),
}

impl Place<'_> {
    /// The origin, wherever it is kept.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Fixed(origin) => origin,
            Self::Made(origin) => origin,
        }
    }

    /// The origin by value; for the table's own this copies no text.
    pub fn into_origin(self) -> Origin {
        match self {
            Self::Fixed(origin) => origin.clone(),
            Self::Made(origin) => origin,
        }
    }
}

/// Why a path has no address. Each is the caller's to mend (status 400), and says how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nobody knows where this provider is.
    #[error("no address is known for {slug}: set base_url or origin for it in the file")]
    NoBase {
        /// The provider.
        slug: &'static str,
    },
    /// A space, control or `#` in the path.
    #[error("the path holds a byte that a URL must percent-encode")]
    Malformed,
    /// A segment that decodes to `.` or `..`.
    #[error("the path has a segment that means . or ..")]
    DotSegment,
    /// The path does not name what the address needs.
    #[error("the path after the provider must have the form {form}")]
    MissingPart {
        /// The form that was expected.
        form: &'static str,
    },
    /// A part of the path that goes into a host or an account has other characters.
    #[error("the {part} in the path may be letters, digits and inner hyphens only")]
    BadPart {
        /// Which part.
        part: &'static str,
    },
    /// A Bedrock service that is not proxied.
    #[error("aws-bedrock paths start with bedrock-runtime/ or bedrock-mantle/")]
    UnknownService,
    /// `x-fal-target-url` leads elsewhere.
    #[error(
        "x-fal-target-url must be an https url on fal.run or a subdomain of it, with the default port"
    )]
    TargetUrl,
    /// The `model` parameter of a realtime request names no model.
    #[error("the model parameter must name a model such as @cf/deepgram/nova-3")]
    RealtimeModel,
}

/// Finds the upstream address of a request and appends its path and query to `out_path`.
///
/// Allocates only for a host made from a template. After an error `out_path` is as it was.
///
/// ```
/// use tidegate::provider::address::{Overrides, Wanted, resolve};
///
/// let azure = tidegate::provider::by_slug("azure-openai").unwrap();
/// let rest = b"my-resource/gpt-4o/chat/completions?api-version=2024-10-21";
/// let wanted = Wanted { rest, account_id: "", target_url: None };
/// let (overrides, mut path) = (Overrides::default(), Vec::new());
/// let place = resolve(azure, &wanted, &overrides, &mut path).unwrap();
/// assert_eq!(place.origin().authority(), "my-resource.openai.azure.com");
/// assert!(path.starts_with(b"/openai/deployments/gpt-4o/chat/completions?api-version="));
/// ```
pub fn resolve<'o>(
    provider: ProviderId,
    wanted: &Wanted<'_>,
    overrides: &'o Overrides,
    out_path: &mut Vec<u8>,
) -> Result<Place<'o>, AddressError> {
    let line = provider.provider();
    if let (Some(target), Some(url)) = (line.target, wanted.target_url) {
        return target(url, overrides, out_path);
    }
    let (path, query) = split(wanted.rest)?;
    let route = (line.route)(line, path, wanted, overrides)?;
    write(&route, query, overrides, out_path)
}

/// Finds the address of a WebSocket. A request that names no path of its own goes where the
/// provider's realtime API is (contract section 15.2); any other as [`resolve`] says.
pub fn resolve_realtime<'o>(
    provider: ProviderId,
    wanted: &Wanted<'_>,
    overrides: &'o Overrides,
    out_path: &mut Vec<u8>,
) -> Result<Place<'o>, AddressError> {
    let line = provider.provider();
    let (path, query) = split(wanted.rest)?;
    let route_to = |path| (line.route)(line, path, wanted, overrides);
    match line.realtime {
        Realtime::At(short) if path.is_empty() => {
            write(&route_to(short.as_bytes())?, query, overrides, out_path)
        }
        Realtime::GeminiLive if path.is_empty() => {
            let route = route_to(gemini::LIVE_PATH.as_bytes())?;
            let query = gemini::live_query(query);
            write(&route, &query, overrides, out_path)
        }
        Realtime::ModelInPath if path.is_empty() => {
            let (path, query) = workers_ai::realtime(query)?;
            write(&route_to(path.as_bytes())?, &query, overrides, out_path)
        }
        Realtime::FalSocket if wanted.target_url.is_none() => {
            write(&fal::socket(path, overrides), query, overrides, out_path)
        }
        Realtime::At(_)
        | Realtime::GeminiLive
        | Realtime::ModelInPath
        | Realtime::FalSocket
        | Realtime::AsSent => resolve(provider, wanted, overrides, out_path),
    }
}

/// Finds the address at a custom provider: its base, a slash, and the rest (contract section 2.3).
pub fn resolve_custom<'o>(
    base: &'o Base,
    rest: &[u8],
    out_path: &mut Vec<u8>,
) -> Result<Place<'o>, AddressError> {
    let (path, query) = split(rest)?;
    let route = Route::new(base, path);
    write(&route, query, &NO_OVERRIDES, out_path)
}

static NO_OVERRIDES: Overrides = Overrides {
    base_url: None,
    origin: None,
};

/// Where a WebSocket goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realtime {
    /// To the path it was sent to.
    AsSent,
    /// Without a path, to this one below the base.
    At(&'static str),
    /// Without a path, to Gemini Live, `api_key` renamed to its `key`.
    GeminiLive,
    /// Without a path, to the path of the model that the query names.
    ModelInPath,
    /// To Fal's WebSocket host, unless the path is an app's own realtime endpoint.
    FalSocket,
}

/// How a path finds its base; one in each file of a provider with rules of its own.
pub(super) type RouteFn = for<'a, 'o> fn(
    &'static Provider,
    &'a [u8],
    &Wanted<'a>,
    &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError>;

/// How a header that names the whole target becomes an address.
pub(super) type TargetFn =
    for<'o> fn(&[u8], &'o Overrides, &mut Vec<u8>) -> Result<Place<'o>, AddressError>;

/// A path that found its base: what [`write`] joins.
#[derive(Debug)]
pub(super) struct Route<'a, 'o> {
    base: &'o Base,
    stem: &'o str,
    before: &'static str,
    path: &'a [u8],
    parts: [Part<'a>; 2],
}

/// A part of the path by which a base is filled in: its name in braces, and its value.
pub(super) type Part<'a> = (&'static str, &'a [u8]);

/// No part at all.
pub(super) const NO_PART: Part<'static> = ("", b"");

impl<'a, 'o> Route<'a, 'o> {
    /// `path` below `base`.
    pub(super) fn new(base: &'o Base, path: &'a [u8]) -> Self {
        Self {
            base,
            stem: base.path(),
            before: "",
            path,
            parts: [NO_PART; 2],
        }
    }

    /// Fills the base's braces.
    pub(super) fn parts(self, parts: [Part<'a>; 2]) -> Self {
        Self { parts, ..self }
    }

    /// Leaves away what the path repeats of the base's end.
    pub(super) fn without_repeat(self, repeats: &[&str]) -> Self {
        let stem = self.stem.as_bytes();
        let path = repeats.iter().find_map(|repeat| {
            let tail = repeat.strip_suffix('/').unwrap_or(repeat).as_bytes();
            let above = stem.strip_suffix(tail)?;
            if !above.ends_with(b"/") {
                return None;
            }
            match self.path.strip_prefix(tail)? {
                [] => Some(&b""[..]),
                [b'/', after @ ..] => Some(trim_slashes(after)),
                [_, ..] => None,
            }
        });
        Self {
            path: path.unwrap_or(self.path),
            ..self
        }
    }

    /// Leaves `tail` off the base's path, if it ends so.
    pub(super) fn without_tail(self, tail: &str) -> Self {
        let stem = self.stem.strip_suffix(tail).unwrap_or(self.stem);
        Self { stem, ..self }
    }

    /// Puts a piece with its own final slash between base and path.
    pub(super) fn before(self, before: &'static str) -> Self {
        Self { before, ..self }
    }
}

/// The plain rule: the base, a slash, the rest.
pub(super) fn plain<'a, 'o>(
    line: &'static Provider,
    path: &'a [u8],
    _: &Wanted<'a>,
    overrides: &'o Overrides,
) -> Result<Route<'a, 'o>, AddressError> {
    let base = match (&overrides.base_url, &line.base) {
        (Some(base), _) | (None, Some(base)) => base,
        // The origin brings scheme and host, so any empty base does.
        (None, None) if overrides.origin.is_some() => &EMPTY_BASE,
        (None, None) => return Err(AddressError::NoBase { slug: line.slug }),
    };
    Ok(Route::new(base, path).without_repeat(line.repeats))
}

static EMPTY_BASE: Base = Base::https("invalid", "");

/// The `base_url` of the file, else `base`, below which the rest of `path` goes.
pub(super) fn base_or<'o>(overrides: &'o Overrides, base: &'static Base) -> &'o Base {
    overrides.base_url.as_ref().unwrap_or(base)
}

/// The base of a line that has one.
pub(super) fn table_base(line: &'static Provider) -> &'static Base {
    line.base.as_ref().unwrap_or(&EMPTY_BASE)
}

/// Checks `rest` and splits it into the path without leading slashes and the query with its `?`.
fn split(rest: &[u8]) -> Result<(&[u8], &[u8]), AddressError> {
    if rest.iter().any(|b| matches!(b, 0..=b' ' | b'#' | 0x7f)) {
        return Err(AddressError::Malformed);
    }
    let (path, query) = url_text::split_query(rest);
    let path = trim_slashes(path);
    if url_text::has_dot_segment(path) {
        return Err(AddressError::DotSegment);
    }
    Ok((path, query))
}

/// A client whose base URL ends in a slash sends two: fold them at the join.
fn trim_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|b| **b == b'/').count();
    path.get(slashes..).unwrap_or_default()
}

/// Appends the upstream path and query, and says where they go.
pub(super) fn write<'o>(
    route: &Route<'_, 'o>,
    query: &[u8],
    overrides: &'o Overrides,
    out_path: &mut Vec<u8>,
) -> Result<Place<'o>, AddressError> {
    let place = match &overrides.origin {
        Some(origin) => Place::Fixed(&origin.origin),
        None if route.base.open_host => Place::Made(made_origin(route)?),
        None => Place::Fixed(&route.base.origin),
    };
    let start = out_path.len();
    if let Some(origin) = &overrides.origin {
        out_path.extend_from_slice(origin.path.as_bytes());
    }
    if route.base.open_path {
        fill(route.stem, &route.parts, |piece| {
            out_path.extend_from_slice(piece);
        });
    } else {
        out_path.extend_from_slice(route.stem.as_bytes());
    }
    let is_empty = route.before.is_empty() && route.path.is_empty();
    if !is_empty || out_path.len() == start {
        out_path.push(b'/');
    }
    out_path.extend_from_slice(route.before.as_bytes());
    out_path.extend_from_slice(route.path);
    out_path.extend_from_slice(query);
    Ok(place)
}

fn made_origin(route: &Route<'_, '_>) -> Result<Origin, AddressError> {
    for (part, value) in route.parts {
        let braced = |found: &str| found.contains(part) && !part.is_empty();
        if braced(&route.base.origin.host) && !is_label_part(value) {
            return Err(AddressError::BadPart { part });
        }
    }
    let mut host = String::with_capacity(route.base.origin.host.len() + PART_BYTES_MAX);
    fill(&route.base.origin.host, &route.parts, |piece| {
        host.extend(piece.iter().map(|b| char::from(b.to_ascii_lowercase())));
    });
    if !origin::is_host(&host) {
        let part = route.parts[0].0;
        return Err(AddressError::BadPart { part });
    }
    Ok(Origin {
        tls: route.base.origin.tls,
        host: Cow::Owned(host),
        port: route.base.origin.port,
    })
}

/// Says whether a part of a path may stand in a host label: no dot, so it stays one label.
fn is_label_part(value: &[u8]) -> bool {
    (1..=PART_BYTES_MAX).contains(&value.len())
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && !value.starts_with(b"-")
        && !value.ends_with(b"-")
}

/// Longest part of a host: a DNS label.
const PART_BYTES_MAX: usize = 63;

/// Hands out `text` in pieces, each part in braces replaced by its value. A part without a value
/// is left out; [`Base::parse`] lets only those pass that the provider's paths have.
fn fill(text: &str, parts: &[Part<'_>], mut piece: impl FnMut(&[u8])) {
    let mut left = text;
    while let Some((before, after)) = left.split_once('{') {
        piece(before.as_bytes());
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        if let Some((_, value)) = parts.iter().find(|(part, _)| *part == name) {
            piece(value);
        }
        left = after;
    }
    piece(left.as_bytes());
}

#[cfg(test)]
mod tests;
