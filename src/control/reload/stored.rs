//! What was made through the management API, laid over the configuration of the file. The file
//! wins: it is the operator's, and cannot be changed through the API.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value};

use super::ReloadError;
use crate::{
    config::{
        Config, StoredCredential, secret,
        upstream::{CustomProvider, UpstreamUrl},
    },
    control::store::{
        Store, gateway,
        objects::{self, Kind, Object},
        vault::Vault,
    },
    provider::{dialect::Dialect, table::by_slug},
};

/// The configuration with what the store has. Fails as a whole.
pub fn overlay<'c>(
    config: &'c Config,
    store: &Store,
    vault: &Vault,
) -> Result<Cow<'c, Config>, ReloadError> {
    let all = |kind| store.read(|connection| objects::all(connection, kind));
    let gateways = all(Kind::Gateway)?;
    let providers = all(Kind::CustomProvider)?;
    let credentials = all(Kind::ProviderConfig)?;
    if gateways.is_empty() && providers.is_empty() && credentials.is_empty() {
        return Ok(Cow::Borrowed(config));
    }
    let mut whole = config.clone();
    for object in gateways {
        if config.gateways.contains_key(&object.id) {
            continue;
        }
        let settings = gateway::settings(&vault.document(Kind::Gateway, &object)?);
        if !settings.authentication && !config.is_loopback() && !config.allow_open {
            return Err(ReloadError::OpenGateway { id: object.id });
        }
        whole.gateways.insert(object.id, settings);
    }
    for object in providers {
        if let Some(provider) = custom_provider(&object, vault)? {
            let slug = object.name;
            whole.custom_providers.entry(slug).or_insert(provider);
        }
    }
    for object in credentials {
        whole.stored_credentials.push(credential(&object, vault)?);
    }
    Ok(Cow::Owned(whole))
}

/// `None` for one whose address was checked by other rules than those of today.
fn custom_provider(object: &Object, vault: &Vault) -> Result<Option<CustomProvider>, ReloadError> {
    let document = vault.document(Kind::CustomProvider, object)?;
    let text = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let Ok(base_url) = UpstreamUrl::parse(text("base_url")) else {
        return Ok(None);
    };
    let headers: Map<String, Value> = serde_json::from_str(text("headers")).unwrap_or_default();
    let mut all = BTreeMap::new();
    for (name, value) in headers {
        if let Some(value) = value.as_str()
            && let Ok(value) = secret::header_value(value.to_owned())
        {
            all.insert(name.to_ascii_lowercase(), value);
        }
    }
    Ok(Some(CustomProvider {
        base_url,
        dialect: Dialect::parse(text("dialect")).unwrap_or(Dialect::Unknown),
        enable: document.get("enable") == Some(&Value::Bool(true)),
        headers: all,
    }))
}

fn credential(object: &Object, vault: &Vault) -> Result<StoredCredential, ReloadError> {
    let place = objects::place(Kind::ProviderConfig, &object.parent, &object.id);
    let sealed = object.sealed.as_deref().unwrap_or_default();
    let slug = object.text("provider_slug");
    Ok(StoredCredential {
        gateway: object.parent.clone(),
        // Another name of a provider leads to the same.
        provider: by_slug(slug).map_or(slug, |id| id.slug()).to_owned(),
        alias: object.text("alias").to_owned(),
        default: object.document.get("default_config") == Some(&Value::Bool(true)),
        secret: vault.open(&place, sealed)?,
    })
}
