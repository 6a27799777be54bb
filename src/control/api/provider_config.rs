//! Stored provider keys (contract `management-api.md` section 8). What is stored is sealed, used
//! for requests, and never shown again.

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    custom_provider::unknown_slug,
    envelope,
    failure::{Failure, Report},
    field::{self, Field, Kind as FieldKind, Usual},
    gateway::must_exist,
    office::{Noted, Office, note},
    request::Request,
};
use crate::{
    config::{Config, secret},
    control::store::{
        objects::{self, Kind, Object},
        text,
        vault::Vault,
    },
    handoff::mailbox::ApiAnswer,
    provider::table::by_slug,
    snapshot::providers::CUSTOM_PREFIX,
};

/// What a stored key has, besides the key.
pub const FIELDS: &[Field] = &[
    Field::new(
        "alias",
        FieldKind::Own(alias, || json!({"type": "string", "maxLength": 64})),
        Usual::Nothing,
        "What callers name it by (cf-aig-byok-alias). `default` is used where they name none.",
    )
    .required(),
    Field::new(
        "default_config",
        FieldKind::Flag,
        Usual::Flag(false),
        "Whether it is used where callers name none and there is no alias `default`.",
    )
    .required(),
    Field::new(
        "provider_slug",
        FieldKind::Text(1..=128),
        Usual::Nothing,
        "The provider.",
    )
    .required(),
    Field::new(
        "rate_limit",
        FieldKind::Whole(0..=1_000_000_000_000),
        Usual::Nothing,
        "Requests in each period.",
    )
    .nullable(),
    Field::new(
        "rate_limit_period",
        FieldKind::Whole(0..=315_360_000),
        Usual::Nothing,
        "The period in seconds.",
    )
    .nullable(),
];

/// Stored keys of one gateway.
const CONFIGS_MAX: u64 = 1000;

const RESOURCE: &str = "ai_gateway.provider_config";

fn alias(given: &Value, report: &mut Report) -> Option<Value> {
    let alias = field::text(given, &(1..=64), report)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if !alias.bytes().all(plain) {
        report.wrong("must have letters, digits, -, _ and . only");
        return None;
    }
    Some(alias.into())
}

/// `GET …/provider_configs`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let config = office.config();
    let all = office.look(|connection| {
        must_exist(connection, &config, gateway)?;
        Ok(objects::list(connection, Kind::ProviderConfig, gateway)?)
    })?;
    let all = all.iter().map(shown).collect();
    Ok(envelope::list(all, request.paging()))
}

/// `GET …/provider_configs/{id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let found =
        office.read(|connection| objects::get(connection, Kind::ProviderConfig, gateway, id))?;
    Ok(envelope::result(&shown(&found.ok_or_else(not_found)?)))
}

/// `POST …/provider_configs`
pub fn create(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let body = request.body()?;
    let config = office.config();
    let actor = &*request.call.key;
    let vault = office.vault.clone();
    let shown = office.publish(|connection| {
        must_exist(connection, &config, gateway)?;
        let mut report = Report::new(envelope::CODE_INVALID);
        let document = field::read(FIELDS, &body, None, &mut report);
        let secret = secret_of(&body, connection, &vault, true, &mut report)?;
        report.finish()?;
        if objects::count(connection, Kind::ProviderConfig, gateway)? >= CONFIGS_MAX {
            let message = format!("a gateway can have at most {CONFIGS_MAX} stored keys");
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        let now = text::now();
        let mut object = Object {
            parent: gateway.to_owned(),
            id: text::random_id()?,
            name: String::new(),
            document,
            sealed: None,
            created_at: now,
            modified_at: now,
        };
        settle(&mut object, secret, &vault, connection, &config)?;
        if !objects::insert(connection, Kind::ProviderConfig, &object)? {
            return Err(taken(&object));
        }
        only_default(connection, &object)?;
        let shown = shown(&object);
        let noted = Noted {
            actor,
            action: "provider config created",
            resource_type: RESOURCE,
            resource_id: &object.id,
            old: None,
            new: Some(&shown),
        };
        note(connection, &noted, now)?;
        Ok(shown)
    })?;
    Ok(envelope::result(&shown))
}

/// `PUT …/provider_configs/{id}`: what is left out stays as it was, the key too.
pub fn update(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let body = request.body()?;
    let config = office.config();
    let actor = &*request.call.key;
    let vault = office.vault.clone();
    let shown = office.publish(|connection| {
        let before = objects::get(connection, Kind::ProviderConfig, gateway, id)?;
        let before = before.ok_or_else(not_found)?;
        let mut report = Report::new(envelope::CODE_INVALID);
        let read = field::read(FIELDS, &body, Some(&before.document), &mut report);
        let secret = secret_of(&body, connection, &vault, false, &mut report)?;
        report.finish()?;
        let mut after = before.clone();
        after.document.extend(read);
        after.modified_at = text::now().max(before.created_at);
        settle(&mut after, secret, &vault, connection, &config)?;
        if !objects::update(connection, Kind::ProviderConfig, &after)? {
            return Err(taken(&after));
        }
        only_default(connection, &after)?;
        let shown_after = shown(&after);
        let noted = Noted {
            actor,
            action: "provider config updated",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&shown(&before)),
            new: Some(&shown_after),
        };
        note(connection, &noted, after.modified_at)?;
        Ok(shown_after)
    })?;
    Ok(envelope::result(&shown))
}

/// `DELETE …/provider_configs/{id}`
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let actor = &*request.call.key;
    let shown = office.publish(|connection| {
        let object = objects::get(connection, Kind::ProviderConfig, gateway, id)?;
        let object = object.ok_or_else(not_found)?;
        objects::delete(connection, Kind::ProviderConfig, gateway, id)?;
        let shown = shown(&object);
        let noted = Noted {
            actor,
            action: "provider config deleted",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&shown),
            new: None,
        };
        note(connection, &noted, text::now())?;
        Ok(shown)
    })?;
    Ok(envelope::result(&shown))
}

fn not_found() -> Failure {
    Failure::not_found("provider config")
}

fn taken(object: &Object) -> Failure {
    let message = format!(
        "the gateway has a key of '{}' with the alias '{}' already",
        object.text("provider_slug"),
        object.text("alias")
    );
    Failure::duplicate(&["body", "alias"], message)
}

/// A key, and the name that it is known by.
struct Named {
    secret: secret::Secret,
    id: String,
}

/// The key that a body brings, or names. A new one must have exactly one of `secret` and
/// `secret_id`, an older one may keep what it has.
fn secret_of(
    body: &Map<String, Value>,
    connection: &Connection,
    vault: &Vault,
    must: bool,
    report: &mut Report,
) -> Result<Option<Named>, Failure> {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    match (given("secret"), given("secret_id")) {
        (None, None) if !must => Ok(None),
        (None, None) => {
            report.within("secret", |report| {
                report.wrong("is required, or secret_id of a key that is stored already");
            });
            Ok(None)
        }
        (Some(_), Some(_)) => {
            report.within("secret_id", |report| {
                report.wrong("must not stand beside secret");
            });
            Ok(None)
        }
        (Some(text), None) => {
            let text = text.as_str().map(str::to_owned).map(secret::credential);
            let problem = match text {
                Some(Ok(secret)) => {
                    let id = text::random_id()?;
                    return Ok(Some(Named { secret, id }));
                }
                Some(Err(error)) => error.to_string(),
                None => "must be text".to_owned(),
            };
            report.within("secret", |report| report.wrong(problem));
            Ok(None)
        }
        (None, Some(id)) => {
            let all = objects::all(connection, Kind::ProviderConfig)?;
            let known = all
                .iter()
                .find(|other| other.document.get("secret_id") == Some(id));
            let Some(known) = known else {
                report.within("secret_id", |report| {
                    report.wrong("names no key that is stored here");
                });
                return Ok(None);
            };
            let place = objects::place(Kind::ProviderConfig, &known.parent, &known.id);
            let sealed = known.sealed.as_deref().unwrap_or_default();
            let secret = vault.open(&place, sealed)?;
            let id = known.text("secret_id").to_owned();
            Ok(Some(Named { secret, id }))
        }
    }
}

/// Checks the provider, seals the key, and names the object.
fn settle(
    object: &mut Object,
    named: Option<Named>,
    vault: &Vault,
    connection: &Connection,
    config: &Config,
) -> Result<(), Failure> {
    let slug = object.text("provider_slug").to_owned();
    let known = match slug.strip_prefix(CUSTOM_PREFIX) {
        Some(custom) => {
            config.custom_providers.contains_key(custom)
                || objects::named(connection, Kind::CustomProvider, "", custom)?.is_some()
        }
        None => by_slug(&slug).is_some(),
    };
    if !known {
        return Err(unknown_slug(&["body", "provider_slug"], &slug));
    }
    object.name = format!("{slug}/{}", object.text("alias"));
    if let Some(Named { secret, id }) = named {
        let place = objects::place(Kind::ProviderConfig, &object.parent, &object.id);
        object.sealed = Some(vault.seal(&place, secret.expose())?);
        let preview = preview(secret.expose());
        let document = &mut object.document;
        document.insert("secret_id".to_owned(), id.into());
        document.insert("secret_preview".to_owned(), preview.into());
    }
    Ok(())
}

/// The first three and the last four characters; of a short key nothing.
fn preview(secret: &str) -> String {
    /// What is hidden of a key that is shown in part must be too long to guess.
    const SHOWN_CHARS_MIN: usize = 20;
    let chars: Vec<char> = secret.chars().filter(|c| !c.is_control()).collect();
    if chars.len() < SHOWN_CHARS_MIN || secret.trim_start().starts_with('{') {
        return "***".to_owned();
    }
    let first: String = chars.iter().take(3).collect();
    let last: String = chars.iter().skip(chars.len() - 4).collect();
    format!("{first}...{last}")
}

/// One key of a provider is the default.
fn only_default(connection: &Connection, chosen: &Object) -> Result<(), Failure> {
    let is_default = |object: &Object| object.document.get("default_config") == Some(&true.into());
    if !is_default(chosen) {
        return Ok(());
    }
    for mut other in objects::list(connection, Kind::ProviderConfig, &chosen.parent)? {
        let same = other.text("provider_slug") == chosen.text("provider_slug");
        if same && other.id != chosen.id && is_default(&other) {
            let document = &mut other.document;
            document.insert("default_config".to_owned(), false.into());
            objects::update(connection, Kind::ProviderConfig, &other)?;
        }
    }
    Ok(())
}

fn shown(object: &Object) -> Value {
    let member = |name: &str| object.document.get(name).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": object.id,
        "alias": member("alias"),
        "default_config": member("default_config"),
        "gateway_id": object.parent,
        "provider_slug": member("provider_slug"),
        "secret_id": member("secret_id"),
        "secret_preview": member("secret_preview"),
        "modified_at": text::time(object.modified_at),
    });
    for name in ["rate_limit", "rate_limit_period"] {
        let value = member(name);
        if !value.is_null() {
            shown[name] = value;
        }
    }
    shown
}

/// The schema of a body.
pub fn schema(create: bool) -> Value {
    let mut schema = field::schema(FIELDS);
    schema["properties"]["secret"] = json!({
        "type": "string", "writeOnly": true, "description": "The key itself.",
    });
    schema["properties"]["secret_id"] = json!({
        "type": "string", "description": "Instead of the key: that of one that is stored already.",
    });
    if !create {
        schema["required"] = json!([]);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_tells_keys_apart_and_hides_short_ones() {
        assert_eq!(preview("sk-0123456789abcdefghij"), "sk-...ghij");
        assert_eq!(preview("sk-short"), "***");
        assert_eq!(preview("{\"private_key\": \"0123456789\"}"), "***");
    }
}
