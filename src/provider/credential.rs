//! Credentials: where a provider takes them, and what the caller brought along.
//!
//! Nothing here keeps, prints or compares a secret. The order of precedence (contract section
//! 3.2) is the caller's business: these functions say what is there and how it is written.

use super::{
    table::{Provider, ProviderId},
    url_text,
};

mod redact;
mod subprotocol;

pub use redact::redact_query;
pub use subprotocol::{Offer, read_offer, write_offer};

/// A place in a head that holds a credential: `{header}: {prefix}{credential}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The field's name in lower case.
    pub header: &'static str,
    /// What stands before the credential, with its space.
    pub prefix: &'static str,
}

impl Slot {
    /// Appends the field's value. A prefix that the credential already brings is not doubled.
    pub fn write_value(&self, credential: &[u8], out: &mut Vec<u8>) -> Result<(), CredentialError> {
        let credential = credential.trim_ascii();
        if credential.is_empty() || !credential.iter().all(|b| matches!(b, b' '..=b'~')) {
            return Err(CredentialError::Unprintable);
        }
        let has_prefix = credential
            .get(..self.prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(self.prefix.as_bytes()));
        if !has_prefix {
            out.extend_from_slice(self.prefix.as_bytes());
        }
        out.extend_from_slice(credential);
        Ok(())
    }

    /// Appends the whole field, line end included.
    pub fn write(&self, credential: &[u8], out: &mut Vec<u8>) -> Result<(), CredentialError> {
        let start = out.len();
        out.extend_from_slice(self.header.as_bytes());
        out.extend_from_slice(b": ");
        let written = self.write_value(credential, out);
        match written {
            Ok(()) => out.extend_from_slice(b"\r\n"),
            Err(_) => out.truncate(start),
        }
        written
    }
}

/// `Authorization: Bearer …`
pub const BEARER: Slot = slot(AUTHORIZATION, "Bearer ");
/// `Authorization: Key …` (Fal)
pub const KEY: Slot = slot(AUTHORIZATION, "Key ");
/// `Authorization: Token …` (Deepgram, Replicate, Cohere)
pub const TOKEN: Slot = slot(AUTHORIZATION, "Token ");
/// `Authorization: Api-Key …` (Baseten)
pub const API_KEY: Slot = slot(AUTHORIZATION, "Api-Key ");
/// `api-key: …` (Azure, Ideogram)
pub const API_KEY_HEADER: Slot = slot("api-key", "");
/// `x-api-key: …` (Anthropic, Cartesia, Parallel)
pub const X_API_KEY: Slot = slot("x-api-key", "");
/// `x-goog-api-key: …`
pub const GOOG: Slot = slot("x-goog-api-key", "");
/// `xi-api-key: …` (`ElevenLabs`)
pub const XI: Slot = slot("xi-api-key", "");

const AUTHORIZATION: &str = "authorization";

const fn slot(header: &'static str, prefix: &'static str) -> Slot {
    Slot { header, prefix }
}

/// Why a stored credential cannot be written into a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It is empty, or has characters that no field value may have.
    #[error("the credential is empty or has characters that a header cannot hold")]
    Unprintable,
    /// AWS keys: the request must be signed with them.
    #[error("the credential is a set of aws keys, which sign a request instead of standing in it")]
    NeedsSignature,
    /// A service account: an access token must be made from it.
    #[error("the credential is a service account, from which an access token must be made first")]
    NeedsAccessToken,
}

/// Reads a field as a credential for this provider: the bare secret, without its scheme.
///
/// The provider's own headers count, and `Authorization` for all of them. Since a gateway token
/// may stand in the provider's slot (contract section 3.1), this is also how a candidate for one
/// is found: compare what comes back, and leave a field that held a token out of the rest.
pub fn read<'v>(provider: ProviderId, name: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    let is_authorization = name.eq_ignore_ascii_case(AUTHORIZATION.as_bytes());
    let is_slot = |slot: &Slot| name.eq_ignore_ascii_case(slot.header.as_bytes());
    if !is_authorization && !provider.provider().slots.iter().any(is_slot) {
        return None;
    }
    let value = value.trim_ascii();
    let bare = if is_authorization {
        without_scheme(value)
    } else {
        value
    };
    (!bare.is_empty()).then_some(bare)
}

/// A value of `Authorization` or `cf-aig-authorization` without `Bearer ` or another scheme that
/// carries a bare secret. Others (a signature, a raw token) stay whole.
pub fn without_scheme(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    for slot in [BEARER, TOKEN, KEY, API_KEY] {
        let scheme = slot.prefix.trim_ascii_end().as_bytes();
        let Some((start, after)) = value.split_at_checked(scheme.len()) else {
            continue;
        };
        if start.eq_ignore_ascii_case(scheme) && matches!(after, [] | [b' ' | b'\t', ..]) {
            return after.trim_ascii();
        }
    }
    value
}

/// The raw value of the first query parameter that is a credential for this provider.
pub fn read_query(provider: ProviderId, path_and_query: &[u8]) -> Option<&[u8]> {
    let (_, query) = url_text::split_query(path_and_query);
    provider
        .provider()
        .query_keys
        .iter()
        .find_map(|name| url_text::parameter(query, name))
        .filter(|value| !value.is_empty())
}

/// Says whether the caller brought a credential for this provider, in a field or the query.
/// Leave out of `fields` what was recognised as a gateway token.
pub fn is_given<'h>(
    provider: ProviderId,
    path_and_query: &[u8],
    fields: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> bool {
    read_query(provider, path_and_query).is_some()
        || fields
            .into_iter()
            .any(|(name, value)| read(provider, name, value).is_some())
}

/// Where a stored credential goes for a request to `rest` (what follows the slug).
pub fn stored_slot(provider: ProviderId, rest: &[u8]) -> Slot {
    let line = provider.provider();
    (line.slot)(line, path_of(rest))
}

/// Appends the field that carries a stored credential: `name: value` and a line end.
pub fn write_stored(
    provider: ProviderId,
    rest: &[u8],
    credential: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CredentialError> {
    // Both kinds are stored as the JSON document that their owner handed out.
    if credential.trim_ascii_start().starts_with(b"{") {
        return Err(match provider.slug() {
            "aws-bedrock" => CredentialError::NeedsSignature,
            "google-vertex-ai" => CredentialError::NeedsAccessToken,
            _ => CredentialError::Unprintable,
        });
    }
    stored_slot(provider, rest).write(credential, out)
}

/// The field that must carry a credential instead of the one it was sent in, if the provider
/// reads it elsewhere: a Bedrock API key sent as a bearer token to mantle's Anthropic API.
pub fn moved<'v>(
    provider: ProviderId,
    rest: &[u8],
    name: &[u8],
    value: &'v [u8],
) -> Option<(Slot, &'v [u8])> {
    let slot = stored_slot(provider, rest);
    let is_bearer = value
        .get(..BEARER.prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(BEARER.prefix.as_bytes()));
    let is_moved = slot == X_API_KEY
        && moves(provider)
        && name.eq_ignore_ascii_case(AUTHORIZATION.as_bytes())
        && is_bearer;
    is_moved.then(|| (slot, without_scheme(value)))
}

/// Says whether [`moved`] can ever move a credential of this provider.
pub fn moves(provider: ProviderId) -> bool {
    provider.slug() == "aws-bedrock"
}

/// How a provider chooses the place of a stored credential.
pub(super) type SlotFn = fn(&'static Provider, &[u8]) -> Slot;

/// The provider's native place.
pub(super) fn native(line: &'static Provider, _: &[u8]) -> Slot {
    line.slots.first().copied().unwrap_or(BEARER)
}

/// The path of `rest` without its leading slashes.
fn path_of(rest: &[u8]) -> &[u8] {
    let (path, _) = url_text::split_query(rest);
    let slashes = path.iter().take_while(|b| **b == b'/').count();
    path.get(slashes..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
