//! What was made through the management API, laid over the configuration of the file. The file
//! wins: it is the operator's, and cannot be changed through the API.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
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
    snapshot::{self, Snapshot},
};

/// What was read before, so that after a change of one gateway only that one is read again. It
/// belongs to one store and one vault.
#[derive(Debug, Default)]
pub struct Memory {
    gateways: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    look: Look,
    settings: Gateway,
    /// As it is in force; `None` if it has to be compiled: it was changed, has credentials, or the
    /// file has one of this name.
    compiled: Option<Arc<snapshot::Gateway>>,
}

impl Memory {
    /// Reads the gateways: what each of them is set to, by its id.
    fn gateways(&mut self, store: &Store, vault: &Vault) -> Result<Vec<String>, ReloadError> {
        let known = &mut self.gateways;
        let found = store.read(|connection| {
            objects::all_but(connection, Kind::Gateway, |id, look| {
                known.get(id).is_some_and(|known| known.look == look)
            })
        })?;
        let mut ids = Vec::with_capacity(found.len());
        for found in found {
            ids.push(match found {
                Found::Known(id) => id,
                Found::New(look, object) => {
                    let settings = gateway::settings(&vault.document(Kind::Gateway, &object)?);
                    let new = Known {
                        look,
                        settings,
                        compiled: None,
                    };
                    known.insert(object.id.clone(), new);
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

    /// A gateway as it was compiled, if nothing of it has changed since [`overlay`] looked.
    pub fn compiled(&self, id: &str) -> Option<Arc<snapshot::Gateway>> {
        self.gateways.get(id)?.compiled.clone()
    }

    /// Keeps what `snapshot` was compiled to from `whole`, in which the file's gateways are those of
    /// `config`.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "each is looked at by itself, in whatever order"
    )]
    pub fn keep(&mut self, config: &Config, whole: &Config, snapshot: &Snapshot) {
        let credentials = whole.stored_credentials.iter();
        let with_credentials: HashSet<&str> =
            credentials.map(|stored| stored.gateway.as_str()).collect();
        for (id, known) in &mut self.gateways {
            let is_ours = !config.gateways.contains_key(id);
            if known.compiled.is_none() && is_ours && !with_credentials.contains(id.as_str()) {
                known.compiled = snapshot.shared_gateway(id).cloned();
            }
        }
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
        let Some(known) = memory.gateways.get_mut(&id) else {
            continue;
        };
        if config.gateways.contains_key(&id) {
            known.compiled = None;
            continue;
        }
        let settings = &known.settings;
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
    for credential in &whole.stored_credentials {
        if let Some(known) = memory.gateways.get_mut(&credential.gateway) {
            known.compiled = None;
        }
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
