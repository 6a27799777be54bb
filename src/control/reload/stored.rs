//! What was made through the management API, laid over the configuration of the file. The file
//! wins: it is the operator's, and cannot be changed through the API.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use serde_json::{Map, Value};

use super::ReloadError;
use crate::{
    config::{
        Config, StoredCredential,
        gateway::Gateway,
        secret,
        upstream::{CustomProvider, UpstreamUrl},
    },
    control::store::{
        Store, gateway,
        objects::{self, Found, Kind, Look, Object},
        vault::Vault,
    },
    provider::{dialect::Dialect, table::by_slug},
};

/// What was read before, so that after a change of one gateway only that one is read again. It
/// belongs to one store and one vault.
#[derive(Debug, Default)]
pub struct Memory {
    gateways: HashMap<String, (Look, Gateway)>,
}

impl Memory {
    /// Reads the gateways: what each of them is set to, by its id.
    fn gateways(&mut self, store: &Store, vault: &Vault) -> Result<Vec<String>, ReloadError> {
        let known = &mut self.gateways;
        let is_known = |id: &str, look| {
            known
                .get(id)
                .is_some_and(|(known_look, _)| *known_look == look)
        };
        let found =
            store.read(|connection| objects::all_but(connection, Kind::Gateway, is_known))?;
        let mut ids = Vec::with_capacity(found.len());
        for found in found {
            ids.push(match found {
                Found::Known(id) => id,
                Found::New(look, object) => {
                    let settings = gateway::settings(&vault.document(Kind::Gateway, &object)?);
                    known.insert(object.id.clone(), (look, settings));
                    object.id
                }
            });
        }
        if known.len() > ids.len() {
            // Some were deleted.
            let there: HashSet<&str> = ids.iter().map(String::as_str).collect();
            known.retain(|id, _| there.contains(id.as_str()));
        }
        Ok(ids)
    }
}

/// The configuration with what the store has. Fails as a whole.
pub fn overlay<'c>(
    config: &'c Config,
    store: &Store,
    vault: &Vault,
    memory: &mut Memory,
) -> Result<Cow<'c, Config>, ReloadError> {
    let all = |kind| store.read(|connection| objects::all(connection, kind));
    let gateways = memory.gateways(store, vault)?;
    let providers = all(Kind::CustomProvider)?;
    let credentials = all(Kind::ProviderConfig)?;
    if gateways.is_empty() && providers.is_empty() && credentials.is_empty() {
        return Ok(Cow::Borrowed(config));
    }
    let mut whole = config.clone();
    for id in gateways {
        let Some((_, settings)) = memory.gateways.get(&id) else {
            continue;
        };
        if config.gateways.contains_key(&id) {
            continue;
        }
        if !settings.authentication && !config.is_loopback() && !config.allow_open {
            return Err(ReloadError::OpenGateway { id });
        }
        whole.gateways.insert(id, settings.clone());
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
