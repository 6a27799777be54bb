//! Gateways (contract `management-api.md` section 2). Those of the file are shown and cannot be
//! changed here. Reading order: the handlers, then [`fields`] (what a gateway has).

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    envelope,
    failure::{Failure, Report},
    field,
    office::{Noted, Office, note},
    request::Request,
};
use crate::{
    config::{Config, DEFAULT_GATEWAY, gateway::Gateway, limit},
    control::store::{
        gateway::{SECRET_MEMBERS, document},
        marks,
        objects::{self, Kind, Object},
        text::{self, UnixMillis},
        vault::Vault,
    },
    domain::{cache::Purge, id::is_gateway_id},
    handoff::mailbox::ApiAnswer,
};

pub mod fields;
mod spend;

use self::fields::FIELDS;

/// `ai_gateway.gateway` of the audit log.
const RESOURCE: &str = "ai_gateway.gateway";

/// `GET …/gateways`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let config = office.config();
    let stored = office.read(|connection| objects::list(connection, Kind::Gateway, ""))?;
    let account = office.account(request);
    let wanted = |id: &str| request.query("search").is_none_or(|part| id.contains(part));
    let of_file = config.gateways.iter().filter(|(id, _)| wanted(id));
    let of_file = of_file.map(|(id, gateway)| Entry::File(id, gateway));
    let stored = stored.iter().filter(|object| wanted(&object.id));
    let stored = stored.filter(|object| !config.gateways.contains_key(&object.id));
    let all: Vec<Entry<'_>> = of_file.chain(stored.map(Entry::Stored)).collect();
    let (paging, total) = (request.paging(), all.len() as u64);
    let mut page = Vec::new();
    for entry in paging.of(all) {
        page.push(match entry {
            Entry::File(id, gateway) => {
                let at = office.started_at;
                shown(account, id, &document(gateway), at, at)
            }
            Entry::Stored(object) => {
                let document = office.document(Kind::Gateway, object)?;
                shown_object(account, object, &document)
            }
        });
    }
    Ok(envelope::page(&page, paging, total))
}

/// Where a gateway of a list comes from.
enum Entry<'a> {
    File(&'a str, &'a Gateway),
    Stored(&'a Object),
}

/// `GET …/gateways/{gateway_id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("gateway_id");
    let account = office.account(request);
    if let Some(gateway) = office.config().gateways.get(id) {
        let at = office.started_at;
        let gateway = shown(account, id, &document(gateway), at, at);
        return Ok(envelope::result(&gateway));
    }
    let object = office.read(|connection| objects::get(connection, Kind::Gateway, "", id))?;
    let object = object.ok_or_else(|| Failure::not_found("gateway"))?;
    let document = office.document(Kind::Gateway, &object)?;
    Ok(envelope::result(&shown_object(account, &object, &document)))
}

/// `POST …/gateways`
pub fn create(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let body = request.body()?;
    let config = office.config();
    let mut report = Report::new(envelope::CODE_INVALID);
    let id = report.within("id", |report| match body.get("id") {
        None => {
            report.wrong("is required");
            None
        }
        Some(id) => {
            let id = id.as_str().filter(|id| is_gateway_id(id));
            if id.is_none() {
                report.wrong("must have 1 to 64 letters, digits, - and _");
            }
            id
        }
    });
    let document = read(&body, None, &config, &mut report)?;
    report.finish()?;
    let id = id.unwrap_or_default();
    let duplicate = || {
        let message = format!("there is a gateway called '{id}' already");
        Failure::duplicate(&["body", "id"], message)
    };
    if config.gateways.contains_key(id) {
        return Err(duplicate());
    }
    let now = text::now();
    let object = object(id, &document, now, &office.vault)?;
    let shown = shown(office.account(request), id, &document, now, now);
    let actor = &*request.call.key;
    office.publish(|connection| {
        if objects::count(connection, Kind::Gateway, "")? >= limit::GATEWAYS_MAX as u64 {
            let message = format!("there can be at most {} gateways", limit::GATEWAYS_MAX);
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        if !objects::insert(connection, Kind::Gateway, &object)? {
            return Err(duplicate());
        }
        let noted = Noted {
            actor,
            action: "gateway created",
            resource_type: RESOURCE,
            resource_id: id,
            old: None,
            new: Some(&without_secrets(&shown)),
        };
        note(connection, &noted, now)
    })?;
    Ok(envelope::result(&shown))
}

/// `PUT …/gateways/{gateway_id}`: what is left out stays as it was.
pub fn update(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("gateway_id");
    let body = request.body()?;
    let config = office.config();
    refuse_file(&config, id)?;
    let account = office.account(request);
    let actor = &*request.call.key;
    let vault = office.vault.clone();
    let shown = office.publish(|connection| {
        let before = find(connection, id)?;
        let old = vault.document(Kind::Gateway, &before)?;
        let mut report = Report::new(envelope::CODE_INVALID);
        let document = read(&body, Some(&old), &config, &mut report)?;
        report.finish()?;
        // A clock that was set back does not make a change older than the gateway.
        let now = text::now().max(before.created_at);
        let after = Object {
            created_at: before.created_at,
            ..object(id, &document, now, &vault)?
        };
        objects::update(connection, Kind::Gateway, &after)?;
        let shown = shown_object(account, &after, &document);
        let noted = Noted {
            actor,
            action: "gateway updated",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&without_secrets(&shown_object(account, &before, &old))),
            new: Some(&without_secrets(&shown)),
        };
        note(connection, &noted, now)?;
        Ok(shown)
    })?;
    Ok(envelope::result(&shown))
}

/// `DELETE …/gateways/{gateway_id}`: with its records, keys, routes, datasets and evaluations.
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("gateway_id");
    refuse_file(&office.config(), id)?;
    let account = office.account(request);
    let actor = &*request.call.key;
    let (vault, records) = (office.vault.clone(), office.records.clone());
    let shown = office.publish(|connection| {
        let object = find(connection, id)?;
        let document = vault.document(Kind::Gateway, &object)?;
        objects::delete(connection, Kind::Gateway, "", id)?;
        marks::delete_all(connection, id)?;
        records.delete_all(id)?;
        let shown = shown_object(account, &object, &document);
        let noted = Noted {
            actor,
            action: "gateway deleted",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&without_secrets(&shown)),
            new: None,
        };
        note(connection, &noted, text::now())?;
        Ok(shown)
    })?;
    // A shard that could not be told keeps them to their end; no later gateway has their keys.
    office.forget(&Purge::Gateway(id.into()));
    // Those of exchanges that began before the shards were told.
    office.records.delete_all(id)?;
    Ok(envelope::result(&shown))
}

/// Makes a gateway that was used although nobody made it, with the settings it was used with.
pub fn make_implied(office: &mut Office, id: &str) -> Result<(), Failure> {
    let config = office.config();
    if config.gateways.contains_key(id) || !is_gateway_id(id) {
        return Ok(());
    }
    let known = office.read(|connection| objects::get(connection, Kind::Gateway, "", id))?;
    if known.is_some() {
        return Ok(());
    }
    let document = document(&config.implied_gateway());
    let now = text::now();
    let object = object(id, &document, now, &office.vault)?;
    let shown = shown("", id, &document, now, now);
    office.publish(|connection| {
        let room = objects::count(connection, Kind::Gateway, "")? < limit::GATEWAYS_MAX as u64;
        if !room || !objects::insert(connection, Kind::Gateway, &object)? {
            return Ok(());
        }
        let noted = Noted {
            actor: "",
            action: "gateway created",
            resource_type: RESOURCE,
            resource_id: id,
            old: None,
            new: Some(&shown),
        };
        note(connection, &noted, now)
    })
}

/// Refuses what belongs to a gateway that does not exist.
pub fn must_exist(connection: &Connection, config: &Config, id: &str) -> Result<(), Failure> {
    if !config.gateways.contains_key(id) {
        find(connection, id)?;
    }
    Ok(())
}

fn find(connection: &Connection, id: &str) -> Result<Object, Failure> {
    let found = objects::get(connection, Kind::Gateway, "", id)?;
    found.ok_or_else(|| Failure::not_found("gateway"))
}

fn refuse_file(config: &Config, id: &str) -> Result<(), Failure> {
    if !config.gateways.contains_key(id) {
        return Ok(());
    }
    let file = config.file.as_deref().unwrap_or("the configuration file");
    let message = format!(
        "the gateway '{id}' is managed by {file} and can be changed there only: edit [gateways.{id}] and reload"
    );
    Err(Failure::new(400, envelope::CODE_REQUEST, message))
}

fn object(
    id: &str,
    document: &Map<String, Value>,
    now: UnixMillis,
    vault: &Vault,
) -> Result<Object, Failure> {
    let mut object = Object {
        parent: String::new(),
        id: id.to_owned(),
        name: id.to_owned(),
        document: document.clone(),
        sealed: None,
        created_at: now,
        modified_at: now,
    };
    vault.hide(Kind::Gateway, &mut object, &SECRET_MEMBERS)?;
    Ok(object)
}

/// The document that a body makes of an older one, or of nothing.
fn read(
    body: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    config: &Config,
    report: &mut Report,
) -> Result<Map<String, Value>, Failure> {
    let mut document = field::read(FIELDS, body, old, report);
    if document.get("authentication").is_some_and(Value::is_null) {
        let usual = config.implied_gateway().authentication;
        document.insert("authentication".to_owned(), usual.into());
    }
    let open = document.get("authentication") == Some(&Value::Bool(false));
    if open && !config.is_loopback() && !config.allow_open {
        report.within("authentication", |report| {
            report.wrong("must be true: other machines can reach this server, and it was not started with --allow-open");
        });
    }
    if document.get("collect_logs") == Some(&Value::Bool(false)) {
        document.insert("log_classification".to_owned(), false.into());
    }
    let rules = old.and_then(|old| old.get("spend_limits"));
    spend::name_rules(document.get_mut("spend_limits"), rules)?;
    Ok(document)
}

fn shown_object(account: &str, object: &Object, document: &Map<String, Value>) -> Value {
    shown(
        account,
        &object.id,
        document,
        object.created_at,
        object.modified_at,
    )
}

/// A gateway as it is answered.
fn shown(
    account: &str,
    id: &str,
    document: &Map<String, Value>,
    created_at: UnixMillis,
    modified_at: UnixMillis,
) -> Value {
    let mut all = json!({
        "id": id,
        "internal_id": id,
        "account_id": account,
        "account_tag": account,
        "created_at": text::time(created_at),
        "modified_at": text::time(modified_at),
        "is_default": id == DEFAULT_GATEWAY,
        "wholesale": false,
    });
    for field in FIELDS {
        let value = document.get(field.name).cloned().unwrap_or_default();
        // An object in the contract, not an object or null.
        if field.name == "dlp" && value.is_null() {
            continue;
        }
        all[field.name] = value;
    }
    all
}

fn without_secrets(shown: &Value) -> Value {
    let mut shown = shown.clone();
    for name in SECRET_MEMBERS {
        if !shown[name].is_null() {
            shown[name] = "***".into();
        }
    }
    shown
}
