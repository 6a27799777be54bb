//! Custom providers (contract `management-api.md` section 7). Those of the file are shown and
//! cannot be changed here.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{
    envelope,
    failure::{ApiError, Failure, Report},
    field,
    office::{Noted, Office, note},
    request::Request,
};
use crate::{
    config::{Config, upstream::UpstreamUrl},
    control::store::{
        objects::{self, Kind, Object},
        text::{self, UnixMillis},
        vault::Vault,
    },
    domain::{base64::base64, cache::Purge},
    handoff::mailbox::ApiAnswer,
    snapshot::providers::CUSTOM_PREFIX,
};

pub mod fields;

use self::fields::{FIELDS, is_private};

/// Custom providers of an account.
const PROVIDERS_MAX: u64 = 1000;

/// What stands in the place of a secret, and means the old one where it is sent back.
const HIDDEN: &str = "***";

const RESOURCE: &str = "ai_gateway.custom_provider";

/// `GET …/custom-providers`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let config = office.config();
    let account = office.account(request);
    let mut all = of_file(&config, account, office.started_at);
    for object in office.read(|connection| objects::list(connection, Kind::CustomProvider, ""))? {
        if !config.custom_providers.contains_key(&object.name) {
            all.push(shown(account, &object, &office.vault)?);
        }
    }
    for name in ["enable", "beta"] {
        if let Some(wanted) = request.flag(name) {
            all.retain(|provider| provider[name] == wanted);
        }
    }
    if let Some(part) = request.query("search") {
        let part = part.to_lowercase();
        let holds = |provider: &Value, name: &str| {
            let text = provider[name].as_str().unwrap_or_default();
            text.to_lowercase().contains(&part)
        };
        all.retain(|provider| {
            ["id", "name", "slug"]
                .iter()
                .any(|name| holds(provider, name))
        });
    }
    if let Some(order) = request.query("order_by") {
        sort(&mut all, order)?;
    }
    Ok(envelope::list(all, request.paging()))
}

/// Sorts by what `order_by` asks for: `name ASC`.
fn sort(all: &mut [Value], order: &str) -> Result<(), Failure> {
    const NAMES: [&str; 6] = [
        "name",
        "slug",
        "created_at",
        "modified_at",
        "position",
        "enable",
    ];
    let (name, direction) = order.split_once(' ').unwrap_or((order, "ASC"));
    let descending = direction.eq_ignore_ascii_case("desc");
    if !NAMES.contains(&name) || !descending && !direction.eq_ignore_ascii_case("asc") {
        let message = format!(
            "must be one of {}, and ASC or DESC behind it",
            NAMES.join(", ")
        );
        let code = envelope::CODE_PROVIDER_INVALID;
        return Err(Failure::at(400, code, &["query", "order_by"], message));
    }
    let compare = |a: &Value, b: &Value| match (&a[name], &b[name]) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (a, b) => a.as_u64().cmp(&b.as_u64()),
    };
    all.sort_by(|a, b| {
        let order: Ordering = compare(a, b);
        if descending { order.reverse() } else { order }
    });
    Ok(())
}

/// `GET …/custom-providers/{id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("id");
    let account = office.account(request);
    let mut of_file = of_file(&office.config(), account, office.started_at).into_iter();
    if let Some(provider) = of_file.find(|provider| provider["id"] == id) {
        return Ok(envelope::result(&provider));
    }
    let object =
        office.read(|connection| objects::get(connection, Kind::CustomProvider, "", id))?;
    let object = object.ok_or_else(not_found)?;
    Ok(envelope::result(&shown(account, &object, &office.vault)?))
}

/// `POST …/custom-providers`
pub fn create(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let body = request.body()?;
    let config = office.config();
    let document = read(&body, None, &config)?;
    let now = text::now();
    let object = object(text::random_id()?, &document, now, &office.vault)?;
    refuse_taken(&config, &object.name)?;
    let shown = shown(office.account(request), &object, &office.vault)?;
    let actor = &*request.call.key;
    office.publish(|connection| {
        if objects::count(connection, Kind::CustomProvider, "")? >= PROVIDERS_MAX {
            let message = format!("there can be at most {PROVIDERS_MAX} custom providers");
            return Err(Failure::new(400, envelope::CODE_PROVIDER_INVALID, message));
        }
        if !objects::insert(connection, Kind::CustomProvider, &object)? {
            return Err(taken(&object.name));
        }
        let noted = Noted {
            actor,
            action: "custom provider created",
            resource_type: RESOURCE,
            resource_id: &object.id,
            old: None,
            new: Some(&shown),
        };
        note(connection, &noted, now)
    })?;
    Ok(envelope::result(&shown))
}

/// `PATCH …/custom-providers/{id}`
pub fn update(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("id");
    let body = request.body()?;
    let config = office.config();
    refuse_file(&config, id)?;
    let account = office.account(request);
    let actor = &*request.call.key;
    let vault = office.vault.clone();
    let (shown, slugs) = office.publish(|connection| {
        let before = objects::get(connection, Kind::CustomProvider, "", id)?;
        let before = before.ok_or_else(not_found)?;
        let old = vault.document(Kind::CustomProvider, &before)?;
        let document = read(&body, Some(&old), &config)?;
        let now = text::now().max(before.created_at);
        let after = Object {
            created_at: before.created_at,
            ..object(id.to_owned(), &document, now, &vault)?
        };
        if after.name != before.name {
            refuse_taken(&config, &after.name)?;
        }
        if !objects::update(connection, Kind::CustomProvider, &after)? {
            return Err(taken(&after.name));
        }
        let (old, new) = (
            shown(account, &before, &vault)?,
            shown(account, &after, &vault)?,
        );
        let noted = Noted {
            actor,
            action: "custom provider updated",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&old),
            new: Some(&new),
        };
        note(connection, &noted, now)?;
        Ok((new, [before.name, after.name]))
    })?;
    forget(office, &slugs);
    Ok(envelope::result(&shown))
}

/// `DELETE …/custom-providers/{id}`
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("id");
    refuse_file(&office.config(), id)?;
    let account = office.account(request);
    let actor = &*request.call.key;
    let vault = office.vault.clone();
    let (shown, slug) = office.publish(|connection| {
        let object = objects::get(connection, Kind::CustomProvider, "", id)?;
        let object = object.ok_or_else(not_found)?;
        objects::delete(connection, Kind::CustomProvider, "", id)?;
        let shown = shown(account, &object, &vault)?;
        let noted = Noted {
            actor,
            action: "custom provider deleted",
            resource_type: RESOURCE,
            resource_id: id,
            old: Some(&shown),
            new: None,
        };
        note(connection, &noted, text::now())?;
        Ok((shown, object.name))
    })?;
    forget(office, &[slug]);
    Ok(envelope::result(&shown))
}

/// What a provider answered at another address, or with other settings, is not its answer any
/// more. Saved settings are part of a key, so that a shard that cannot be told does no harm.
fn forget(office: &Office, slugs: &[String]) {
    for slug in slugs {
        office.forget(&Purge::Provider(format!("{CUSTOM_PREFIX}{slug}").into()));
    }
}

fn not_found() -> Failure {
    let message = "Not Found: there is no such custom provider";
    Failure::new(404, envelope::CODE_PROVIDER_NOT_FOUND, message)
}

fn taken(slug: &str) -> Failure {
    let message = format!("there is a custom provider with the slug '{slug}' already");
    Failure::duplicate(&["body", "slug"], message)
}

fn refuse_taken(config: &Config, slug: &str) -> Result<(), Failure> {
    if config.custom_providers.contains_key(slug) {
        return Err(taken(slug));
    }
    Ok(())
}

fn refuse_file(config: &Config, id: &str) -> Result<(), Failure> {
    let slug = id.strip_prefix(FILE_ID).unwrap_or_default();
    if !config.custom_providers.contains_key(slug) {
        return Ok(());
    }
    let file = config.file.as_deref().unwrap_or("the configuration file");
    let message = format!(
        "this custom provider is managed by {file} and can be changed there only: edit [custom_providers.{slug}] and reload"
    );
    Err(Failure::new(400, envelope::CODE_REQUEST, message))
}

/// Ids of the file's providers begin with this: their slugs are all the name they have.
const FILE_ID: &str = "file-";

fn of_file(config: &Config, account: &str, at: UnixMillis) -> Vec<Value> {
    let provider = |(slug, provider): (&String, &crate::config::upstream::CustomProvider)| {
        let hidden = provider.headers.keys();
        let hidden: Map<_, _> = hidden
            .map(|name| (name.clone(), Value::from(HIDDEN)))
            .collect();
        let mut document = Map::new();
        document.insert("name".to_owned(), slug.as_str().into());
        document.insert("slug".to_owned(), slug.as_str().into());
        document.insert("base_url".to_owned(), provider.base_url.to_string().into());
        document.insert("enable".to_owned(), provider.enable.into());
        document.insert("dialect".to_owned(), provider.dialect.word().into());
        if !hidden.is_empty() {
            let text = Value::Object(hidden).to_string();
            document.insert("headers".to_owned(), text.into());
        }
        render(account, &format!("{FILE_ID}{slug}"), &document, at, at)
    };
    config.custom_providers.iter().map(provider).collect()
}

/// The document that a body makes of an older one, or of nothing.
fn read(
    body: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    config: &Config,
) -> Result<Map<String, Value>, Failure> {
    let mut report = Report::new(envelope::CODE_PROVIDER_INVALID);
    let mut document = field::read(FIELDS, body, old, &mut report);
    if let Some(url) = document.get("base_url").and_then(Value::as_str)
        && let Ok(url) = UpstreamUrl::parse(url)
        && !config.allow_http_upstreams
    {
        report.within("base_url", |report| {
            if !url.https {
                report.wrong("must start with https:// (allow_http_upstreams in the file permits plain http and private networks)");
            } else if is_private(&url.host) {
                report.wrong("leads into a private network, which allow_http_upstreams in the file would permit");
            }
        });
    }
    report.finish()?;
    keep_hidden(&mut document, old);
    Ok(document)
}

/// A header that is sent back as it was shown keeps its value.
fn keep_hidden(document: &mut Map<String, Value>, old: Option<&Map<String, Value>>) {
    let parse = |document: Option<&Map<String, Value>>| -> Map<String, Value> {
        let text = document.and_then(|document| document.get("headers")?.as_str());
        serde_json::from_str(text.unwrap_or("{}")).unwrap_or_default()
    };
    let (mut new, old) = (parse(Some(document)), parse(old));
    if new.is_empty() {
        return;
    }
    for (name, value) in &mut new {
        if value == HIDDEN
            && let Some(known) = old.get(name)
        {
            value.clone_from(known);
        }
    }
    document.insert("headers".to_owned(), Value::Object(new).to_string().into());
}

fn object(
    id: String,
    document: &Map<String, Value>,
    now: UnixMillis,
    vault: &Vault,
) -> Result<Object, Failure> {
    let slug = document.get("slug").and_then(Value::as_str);
    let mut object = Object {
        parent: String::new(),
        name: slug.unwrap_or_default().to_owned(),
        id,
        document: document.clone(),
        sealed: None,
        created_at: now,
        modified_at: now,
    };
    vault.hide(Kind::CustomProvider, &mut object, &["headers"])?;
    Ok(object)
}

fn shown(account: &str, object: &Object, vault: &Vault) -> Result<Value, Failure> {
    let mut document = vault.document(Kind::CustomProvider, object)?;
    if let Some(text) = document.get("headers").and_then(Value::as_str) {
        let mut headers: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        for value in headers.values_mut() {
            *value = HIDDEN.into();
        }
        let text = Value::Object(headers).to_string();
        document.insert("headers".to_owned(), text.into());
    }
    let (created, modified) = (object.created_at, object.modified_at);
    Ok(render(account, &object.id, &document, created, modified))
}

fn render(
    account: &str,
    id: &str,
    document: &Map<String, Value>,
    created_at: UnixMillis,
    modified_at: UnixMillis,
) -> Value {
    let mut all = json!({
        "id": id,
        "account_id": account,
        "account_tag": account,
        "created_at": text::time(created_at),
        "modified_at": text::time(modified_at),
    });
    for field in FIELDS {
        all[field.name] = match document.get(field.name) {
            Some(value) => value.clone(),
            None if field.name == "beta" => false.into(),
            None => Value::Null,
        };
    }
    all["logo"] = logo(all["name"].as_str().unwrap_or_default()).into();
    all
}

/// A square with the first letter of the name, as SVG in base64.
fn logo(name: &str) -> String {
    let letter = name.chars().find(|c| c.is_alphanumeric()).unwrap_or('?');
    let letter = letter.to_uppercase();
    let hue = name
        .bytes()
        .fold(0u32, |sum, byte| (sum * 31 + u32::from(byte)) % 360);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><rect width=\"32\" height=\"32\" rx=\"6\" fill=\"hsl({hue},45%,45%)\"/><text x=\"16\" y=\"22\" font-family=\"sans-serif\" font-size=\"18\" text-anchor=\"middle\" fill=\"#fff\">{letter}</text></svg>"
    );
    base64(svg.as_bytes())
}

/// The refusal of a slug that no provider has, for whoever names one.
pub fn unknown_slug(path: &[&str], slug: &str) -> Failure {
    let message = format!(
        "there is no provider called '{}'",
        slug.chars().take(80).collect::<String>()
    );
    Failure {
        status: 400,
        errors: vec![ApiError {
            code: envelope::CODE_INVALID,
            message,
            path: path.iter().map(|&name| name.to_owned()).collect(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_holds_a_letter_whatever_the_name() {
        assert_eq!(logo("<x>"), logo("<x>"));
        assert_ne!(logo("<&>"), "");
    }
}
