//! Stage 4: where a request may go, and what it is given to go there.

use std::borrow::Cow;

use super::{
    authenticate::Caller,
    emit::Upgrade,
    parse::{Call, Wishes},
    reply::Refusal,
};
use crate::{
    http::{
        head::{Field, RequestFraming, RequestHead, ResponseHead},
        header::FieldName,
    },
    provider::{
        address::{self, Origin, Wanted},
        credential::{self, BEARER, CredentialError, Slot, X_API_KEY},
        dialect::Dialect,
        model,
    },
    snapshot::{
        Gateway, Provider, Snapshot,
        providers::{DEFAULT_ALIAS, Kind, Secret, StoredKey},
    },
};

/// Where one exchange goes.
pub struct Route<'a> {
    /// The origin.
    pub origin: Origin,
    /// Path and query as they go upstream.
    pub path: Vec<u8>,
    /// The same as it is recorded: secrets replaced.
    pub recorded_path: Vec<u8>,
    /// Fields that tidegate adds.
    pub added: Vec<(Vec<u8>, Vec<u8>)>,
    /// Fields of the caller that ours replace.
    replaced: Vec<FieldName>,
    /// A stored credential is used.
    pub stored_credential: bool,
    /// It is the first of several, of which each attempt takes one. As far as the cache is
    /// concerned all go by the name of the first.
    pub keys: Option<KeyChoice<'a>>,
    /// The shape of the answer.
    pub dialect: Dialect,
    /// The model, where the path names it.
    pub model: Option<Cow<'a, str>>,
    /// The switch of protocols that the caller asked for.
    pub upgrade: Option<UpgradeRoute<'a>>,
}

/// Several stored keys of a provider.
pub struct KeyChoice<'a> {
    /// The keys.
    pub keys: &'a [StoredKey],
    slot: Slot,
    /// Where the first one is among the fields that are added.
    place: usize,
}

/// A switch of protocols that passes through.
pub struct UpgradeRoute<'a> {
    protocol: &'a [u8],
    subprotocols: Vec<u8>,
    echo: Option<&'a [u8]>,
}

impl UpgradeRoute<'_> {
    /// As the upstream head wants it.
    pub fn as_emit(&self) -> Upgrade<'_> {
        Upgrade {
            protocol: self.protocol,
            subprotocols: &self.subprotocols,
        }
    }
}

impl<'a> Route<'a> {
    /// The route without anything borrowed from the request it was planned for. The error: it is for
    /// that one alone, which switches protocols or may get another key by turns.
    pub fn into_known(self) -> Result<Route<'static>, Box<Route<'a>>> {
        if self.upgrade.is_some() || self.keys.is_some() {
            return Err(Box::new(self));
        }
        Ok(Route {
            origin: self.origin,
            path: self.path,
            recorded_path: self.recorded_path,
            added: self.added,
            replaced: self.replaced,
            stored_credential: self.stored_credential,
            keys: None,
            dialect: self.dialect,
            model: self.model.map(|model| Cow::Owned(model.into_owned())),
            upgrade: None,
        })
    }
}

impl Route<'_> {
    /// Says whether a field of the caller's gives way to one of ours.
    pub fn replaces(&self, field: &Field<'_>) -> bool {
        field.id == FieldName::XFalTargetUrl
            || self.replaced.contains(&field.id) && field.id != FieldName::Other
            || self
                .added
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(field.name))
    }

    /// The fields that tidegate adds, with the key at `place` of several.
    pub fn added_with(&self, place: usize) -> Cow<'_, [(Vec<u8>, Vec<u8>)]> {
        let choice = self.keys.as_ref();
        let key = choice.and_then(|choice| Some((choice, choice.keys.get(place)?)));
        let Some((choice, key)) = key else {
            return Cow::Borrowed(&self.added);
        };
        let mut added = self.added.clone();
        let mut value = Vec::new();
        let written = choice
            .slot
            .write_value(key.secret.expose().as_bytes(), &mut value);
        if let (Ok(()), Some((_, old))) = (written, added.get_mut(choice.place)) {
            *old = value;
        }
        Cow::Owned(added)
    }

    /// The subprotocol to answer a WebSocket with: the provider's choice, else the item of the
    /// offer that reveals least.
    pub fn subprotocol<'h>(&'h self, head: &ResponseHead<'h>) -> Option<&'h [u8]> {
        let upgrade = self.upgrade.as_ref()?;
        head.field(FieldName::SecWebSocketProtocol).or(upgrade.echo)
    }
}

/// Plans where a call goes and with which credential.
#[expect(
    clippy::too_many_arguments,
    reason = "what a plan depends on, each once"
)]
pub fn plan<'a>(
    snapshot: &Snapshot,
    gateway: &Gateway,
    provider: &'a Provider,
    caller: &Caller<'_>,
    call: &Call<'a>,
    wishes: &Wishes<'_>,
    head: &RequestHead<'a>,
    loopback: bool,
) -> Result<Route<'a>, Refusal> {
    let upgrade = upgrade(head);
    let mut path = Vec::with_capacity(call.rest.len() + 64);
    let wanted = Wanted {
        rest: call.rest,
        account_id: snapshot.account_id.as_deref().unwrap_or(call.place.account),
        target_url: head.field(FieldName::XFalTargetUrl),
    };
    let (place, dialect, model) = match &provider.kind {
        Kind::BuiltIn { id, overrides } => {
            let place = match upgrade {
                Some(_) => address::resolve_realtime(*id, &wanted, overrides, &mut path),
                None => address::resolve(*id, &wanted, overrides, &mut path),
            };
            (
                place,
                model::dialect_of(*id, call.rest),
                model::model_of(*id, call.rest),
            )
        }
        Kind::Custom { base, dialect, .. } => {
            let place = address::resolve_custom(base, call.rest, &mut path);
            (place, model::dialect_of_custom(*dialect, call.rest), None)
        }
    };
    let origin = place
        .map_err(|error| Refusal::bad_address(&error))?
        .into_origin();
    let mut recorded_path = Vec::with_capacity(path.len());
    if path.contains(&b'?') {
        credential::redact_query(&path, &mut recorded_path);
    } else {
        recorded_path.extend_from_slice(&path);
    }
    let mut route = Route {
        origin,
        path,
        recorded_path,
        added: Vec::new(),
        replaced: Vec::new(),
        stored_credential: false,
        keys: None,
        dialect,
        model,
        upgrade,
    };
    let stored = stored(gateway, provider, wishes);
    credentials(
        provider, caller, call, wishes, head, loopback, stored, &mut route,
    )?;
    if let Some((place, keys)) = several(gateway, provider, wishes, &route) {
        let slot = stored_slot(provider, call);
        route.keys = Some(KeyChoice { keys, slot, place });
    }
    Ok(route)
}

/// The switch of protocols that a request asks for. One with a body does not get it.
fn upgrade<'a>(head: &RequestHead<'a>) -> Option<UpgradeRoute<'a>> {
    let protocol = head.upgrade?;
    if !protocol.eq_ignore_ascii_case(b"websocket")
        || !matches!(
            head.framing,
            RequestFraming::None | RequestFraming::Length(0)
        )
    {
        return None;
    }
    let offer = credential::read_offer(head.values(FieldName::SecWebSocketProtocol));
    let mut subprotocols = Vec::new();
    credential::write_offer(
        head.values(FieldName::SecWebSocketProtocol),
        &mut subprotocols,
    );
    Some(UpgradeRoute {
        protocol,
        subprotocols,
        echo: offer.echo,
    })
}

/// The stored credential that a request may use: one of the gateway's, or the file's, whose alias
/// is `default`.
fn stored<'a>(
    gateway: &'a Gateway,
    provider: &'a Provider,
    wishes: &Wishes<'_>,
) -> Option<&'a Secret> {
    let of_gateway = gateway.credential(&provider.slug, wishes.alias);
    let of_file = match wishes.alias {
        None | Some(DEFAULT_ALIAS) => provider.keys.first().map(|key| &key.secret),
        Some(_) => None,
    };
    of_gateway.or(of_file)
}

/// The several keys of the file, where the first of them is used, and its place among the fields
/// that are added: the last.
fn several<'a>(
    gateway: &Gateway,
    provider: &'a Provider,
    wishes: &Wishes<'_>,
    route: &Route<'_>,
) -> Option<(usize, &'a [StoredKey])> {
    let of_gateway = gateway.credential(&provider.slug, wishes.alias);
    let applies = route.stored_credential && provider.keys.len() > 1 && of_gateway.is_none();
    let place = route.added.len().checked_sub(1)?;
    applies.then_some((place, &*provider.keys))
}

/// Where a stored credential goes.
fn stored_slot(provider: &Provider, call: &Call<'_>) -> Slot {
    match &provider.kind {
        Kind::BuiltIn { id, .. } => credential::stored_slot(*id, call.rest),
        Kind::Custom {
            dialect: Dialect::Anthropic,
            ..
        } => X_API_KEY,
        Kind::Custom { .. } => BEARER,
    }
}

/// Precedence (contract section 3.2): the caller's own credential, unchanged; else the stored
/// one, for callers who proved a token or sit on this machine; else none.
#[expect(
    clippy::too_many_arguments,
    reason = "what a credential depends on, each once"
)]
fn credentials(
    provider: &Provider,
    caller: &Caller<'_>,
    call: &Call<'_>,
    wishes: &Wishes<'_>,
    head: &RequestHead<'_>,
    loopback: bool,
    stored: Option<&Secret>,
    route: &mut Route<'_>,
) -> Result<(), Refusal> {
    if let Kind::Custom { fields, .. } = &provider.kind {
        for (name, value) in fields {
            route
                .added
                .push((name.as_bytes().to_vec(), value.expose().as_bytes().to_vec()));
        }
    }
    if caller.has_credential {
        own_credential(provider, call, head, route);
        return Ok(());
    }
    if let Some(alias) = wishes.alias
        && alias != DEFAULT_ALIAS
        && stored.is_none()
    {
        return Err(Refusal::unknown_alias(&provider.slug, alias));
    }
    let trusted = caller.key.is_some() || loopback;
    match stored {
        Some(secret) if trusted => stored_credential(provider, call, secret, route),
        _ => match provider.kind {
            // A provider of the operator's own may need none.
            Kind::Custom { .. } => Ok(()),
            Kind::BuiltIn { .. } => Err(Refusal::no_credential(&provider.slug)),
        },
    }
}

/// The caller's credential goes on as it is, unless it came where only a gateway can read it.
fn own_credential(
    provider: &Provider,
    call: &Call<'_>,
    head: &RequestHead<'_>,
    route: &mut Route<'_>,
) {
    if route.upgrade.is_some() {
        let offer = credential::read_offer(head.values(FieldName::SecWebSocketProtocol));
        if let Some((slot, secret)) = offer.credential {
            add(route, slot, secret);
        }
    }
    let Kind::BuiltIn { id, .. } = &provider.kind else {
        return;
    };
    if !credential::moves(*id) {
        return;
    }
    for field in &head.fields {
        if let Some((slot, secret)) = credential::moved(*id, call.rest, field.name, field.value) {
            route.replaced.push(field.id);
            add(route, slot, secret);
        }
    }
}

fn stored_credential(
    provider: &Provider,
    call: &Call<'_>,
    secret: &Secret,
    route: &mut Route<'_>,
) -> Result<(), Refusal> {
    let secret = secret.expose().as_bytes();
    if let Kind::BuiltIn { id, .. } = &provider.kind
        && secret.trim_ascii_start().starts_with(b"{")
    {
        let error = match id.slug() {
            "aws-bedrock" => CredentialError::NeedsSignature,
            "google-vertex-ai" => CredentialError::NeedsAccessToken,
            _ => CredentialError::Unprintable,
        };
        return Err(Refusal::bad_credential(&provider.slug, &error));
    }
    let slot = stored_slot(provider, call);
    let mut value = Vec::new();
    slot.write_value(secret, &mut value)
        .map_err(|error| Refusal::bad_credential(&provider.slug, &error))?;
    route.added.push((slot.header.as_bytes().to_vec(), value));
    route.stored_credential = true;
    Ok(())
}

fn add(route: &mut Route<'_>, slot: Slot, secret: &[u8]) {
    let mut value = Vec::new();
    // A secret that no field can hold came out of a field; it cannot fail.
    if slot.write_value(secret, &mut value).is_ok() {
        route.added.push((slot.header.as_bytes().to_vec(), value));
    }
}
