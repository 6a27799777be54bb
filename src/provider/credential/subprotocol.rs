//! Credentials among WebSocket subprotocols: how browsers, which cannot set headers, bring them.

use super::{BEARER, KEY, Slot, XI};

/// What a client's `Sec-WebSocket-Protocol` fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer<'a> {
    /// The gateway token of `cf-aig-authorization.{token}`.
    pub gateway_token: Option<&'a [u8]>,
    /// A credential that goes upstream in a header, and which.
    pub credential: Option<(Slot, &'a [u8])>,
    /// Whether an item that goes upstream as it is holds the provider's own kind of credential.
    pub has_native_credential: bool,
    /// The item to answer with unless the provider chooses one: the first that is no credential,
    /// else the first (a browser fails a handshake that answers none of its items).
    pub echo: Option<&'a [u8]>,
}

/// Reads the values of all `Sec-WebSocket-Protocol` fields, in order.
pub fn read_offer<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Offer<'a> {
    let mut offer = Offer::default();
    let mut first = None;
    for (item, kind) in items(values) {
        first = first.or(Some(item));
        match kind {
            Kind::Plain => offer.echo = offer.echo.or(Some(item)),
            Kind::Gateway(token) => offer.gateway_token = offer.gateway_token.or(Some(token)),
            Kind::Header(slot, secret) => {
                offer.credential = offer.credential.or(Some((slot, secret)));
            }
            Kind::Native => offer.has_native_credential = true,
        }
    }
    offer.echo = offer.echo.or(first);
    offer
}

/// Appends the items that go upstream, parted by commas; none means the field is left out.
/// Items that only the gateway understands stay behind.
pub fn write_offer<'a>(values: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut is_first = true;
    for (item, kind) in items(values) {
        match kind {
            Kind::Plain | Kind::Native => {
                out.extend_from_slice(if is_first { b"" } else { b", " });
                out.extend_from_slice(item);
                is_first = false;
            }
            Kind::Gateway(_) | Kind::Header(_, _) => {}
        }
    }
}

/// What an offered item is.
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// A protocol.
    Plain,
    /// The gateway's own token.
    Gateway(&'a [u8]),
    /// A credential that the provider wants in a header.
    Header(Slot, &'a [u8]),
    /// A credential that the provider reads from the item itself.
    Native,
}

fn items<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = (&'a [u8], Kind<'a>)> {
    let mut follows_scheme = false;
    values
        .into_iter()
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
        .map(move |item| {
            let kind = if follows_scheme {
                Kind::Native
            } else {
                kind_of(item)
            };
            // Deepgram's browsers offer `token` or `bearer` and the key as the next item.
            follows_scheme = !follows_scheme
                && (item.eq_ignore_ascii_case(b"token") || item.eq_ignore_ascii_case(b"bearer"));
            (item, kind)
        })
}

fn kind_of(item: &[u8]) -> Kind<'_> {
    let secret_after = |prefix: &str| {
        item.strip_prefix(prefix.as_bytes())
            .filter(|secret| !secret.is_empty())
    };
    if let Some(token) = secret_after("cf-aig-authorization.") {
        Kind::Gateway(token)
    } else if let Some(key) = secret_after("xi-api-key.") {
        Kind::Header(XI, key)
    } else if let Some(key) = secret_after("fal-api-key.") {
        Kind::Header(KEY, key)
    } else if let Some(key) = secret_after("authorization.bearer.") {
        Kind::Header(BEARER, key)
    } else if secret_after("openai-insecure-api-key.").is_some() {
        Kind::Native
    } else {
        Kind::Plain
    }
}
