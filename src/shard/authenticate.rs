//! Stage 3: who asks (contract `data-plane.md` section 3).

use super::{remembered::Remembered, reply::Refusal};
use crate::{
    http::{
        head::{Field, RequestHead},
        header::FieldName,
    },
    provider::credential,
    snapshot::{Gateway, Key, Proof, Snapshot, providers::Kind},
};

/// Who asks, and what the request carried to prove it.
pub struct Caller<'s> {
    /// The key that was proved; `None` for callers of an open gateway.
    pub key: Option<&'s Key>,
    /// Places of fields that held one of this server's own tokens: none of them goes upstream.
    pub(super) tokens: u128,
    /// The request brings the provider's credential.
    pub has_credential: bool,
}

impl Caller<'_> {
    /// Says whether the field at `place` held one of this server's own tokens.
    pub fn is_token(&self, place: usize) -> bool {
        // A head has at most 100 fields.
        self.tokens >> place & 1 == 1
    }
}

/// Finds the caller of a provider's path. All that it looks at stands in the head, in the
/// snapshot, or belongs to the connection.
pub fn authenticate<'s>(
    snapshot: &'s Snapshot,
    gateway: &Gateway,
    kind: Option<&Kind>,
    head: &RequestHead<'_>,
    rest: &[u8],
    loopback: bool,
    remembered: &mut Remembered,
) -> Result<Caller<'s>, Refusal> {
    if let Some(caller) = remembered.caller(snapshot) {
        return Ok(caller);
    }
    let proof = &mut remembered.proof;
    let caller = look_at(snapshot, gateway, kind, head, rest, loopback, proof)?;
    remembered.keep_caller(snapshot, &caller);
    Ok(caller)
}

fn look_at<'s>(
    snapshot: &'s Snapshot,
    gateway: &Gateway,
    kind: Option<&Kind>,
    head: &RequestHead<'_>,
    rest: &[u8],
    loopback: bool,
    proof: &mut Proof,
) -> Result<Caller<'s>, Refusal> {
    let keys = &snapshot.keys;
    let offer = match head.upgrade {
        Some(_) => credential::read_offer(head.values(FieldName::SecWebSocketProtocol)),
        None => credential::Offer::default(),
    };
    let mut caller = Caller {
        key: None,
        tokens: 0,
        has_credential: offer.credential.is_some() || offer.has_native_credential,
    };
    let mut presented = false;
    for (place, field) in head.fields.iter().enumerate() {
        if field.id == FieldName::CfAigAuthorization {
            presented = true;
            let bare = credential::without_scheme(field.value);
            let found = keys.find_again(bare, proof);
            caller.key = caller.key.or(found);
            continue;
        }
        let Some(secret) = read_slot(kind, field) else {
            continue;
        };
        // The slot of the provider's credential may hold a token of ours (section 3.1). It must
        // not go upstream, whatever else proved the caller.
        match keys.find(secret) {
            Some(key) => {
                caller.tokens |= 1 << place;
                if !presented {
                    caller.key = caller.key.or(Some(key));
                }
            }
            None => caller.has_credential = true,
        }
    }
    if let Some(token) = offer.gateway_token {
        presented = true;
        caller.key = caller.key.or_else(|| keys.find(token));
    }
    if let Some(Kind::BuiltIn { id, .. }) = kind {
        caller.has_credential |= credential::read_query(*id, rest).is_some();
    }
    match caller.key {
        Some(key) if !key.run => return Err(Refusal::forbidden()),
        Some(_) => return Ok(caller),
        None => {}
    }
    if gateway.authentication {
        return Err(Refusal::unauthorized(if presented {
            "the token in cf-aig-authorization is not one of this server"
        } else {
            "this gateway asks for a token: send it as cf-aig-authorization: Bearer …"
        }));
    }
    if loopback {
        check_origin(snapshot, head)?;
    }
    Ok(caller)
}

/// The caller of one step: who asked for the exchange, with the step's own fields.
pub fn of_step<'s>(
    snapshot: &Snapshot,
    caller: &Caller<'s>,
    kind: &Kind,
    head: &RequestHead<'_>,
    rest: &[u8],
) -> Caller<'s> {
    let mut of_step = Caller {
        key: caller.key,
        tokens: 0,
        has_credential: false,
    };
    for (place, field) in head.fields.iter().enumerate() {
        let Some(secret) = read_slot(Some(kind), field) else {
            continue;
        };
        if snapshot.keys.find(secret).is_some() {
            of_step.tokens |= 1 << place;
        } else {
            of_step.has_credential = true;
        }
    }
    if let Kind::BuiltIn { id, .. } = kind {
        of_step.has_credential |= credential::read_query(*id, rest).is_some();
    }
    of_step
}

fn read_slot<'v>(kind: Option<&Kind>, field: &Field<'v>) -> Option<&'v [u8]> {
    match kind {
        Some(Kind::BuiltIn { id, .. }) => credential::read(*id, field.name, field.value),
        Some(Kind::Custom { .. }) | None => match field.id {
            FieldName::Authorization => Some(credential::without_scheme(field.value)),
            FieldName::XApiKey | FieldName::ApiKey => Some(field.value),
            _ => None,
        },
    }
}

/// Fields in which clients of the management API send a token without a scheme.
const BARE_TOKENS: [&str; 2] = ["x-auth-key", "x-auth-user-service-key"];

/// Finds the key of a request to the management side: `Authorization: Bearer …`, or one of
/// [`BARE_TOKENS`].
pub fn manager<'s>(snapshot: &'s Snapshot, head: &RequestHead<'_>) -> Result<&'s Key, Refusal> {
    let token = head
        .field(FieldName::Authorization)
        .map(credential::without_scheme);
    let bare = || {
        let is_bare = |field: &&Field<'_>| {
            let mut names = BARE_TOKENS.iter();
            names.any(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
        };
        head.fields.iter().find(is_bare).map(|field| field.value)
    };
    let found = token.or_else(bare);
    found
        .and_then(|token| snapshot.keys.find(token))
        .ok_or_else(Refusal::unknown_manager)
}

/// A page that somebody's browser shows must not reach an open listener on this machine: neither
/// by a name that was bound to a loopback address, nor from another origin.
fn check_origin(snapshot: &Snapshot, head: &RequestHead<'_>) -> Result<(), Refusal> {
    if !is_own_name(snapshot, head.host) {
        return Err(Refusal::foreign_host());
    }
    match head.field(FieldName::Origin) {
        None => Ok(()),
        Some(origin) => {
            let host = origin
                .strip_prefix(b"http://")
                .or_else(|| origin.strip_prefix(b"https://"));
            match host {
                Some(host) if is_own_name(snapshot, host) => Ok(()),
                _ => Err(Refusal::foreign_host()),
            }
        }
    }
}

fn is_own_name(snapshot: &Snapshot, host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    // HTTP/1.0 needs no Host, and no browser speaks it.
    if host.is_empty() {
        return true;
    }
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    if let Ok(address) = name.parse::<std::net::IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || snapshot.hosts.iter().any(|host| **host == *name)
}
