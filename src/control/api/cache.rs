//! The response cache: what is kept is forgotten on request, and with what it came from. Ours.

use serde_json::json;

use super::{
    envelope,
    failure::Failure,
    gateway::must_exist,
    office::{Noted, Office, note},
    request::Request,
};
use crate::{
    control::store::text,
    domain::cache::Purge,
    handoff::mailbox::{ApiAnswer, Order},
};

/// `ai_gateway.cache` of the audit log.
const RESOURCE: &str = "ai_gateway.cache";

/// Greatest name of a provider that is looked for.
const SLUG_BYTES_MAX: usize = 128;

/// `DELETE …/gateways/{gateway_id}/cache`
pub fn purge_gateway(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let id = request.name("gateway_id");
    let config = office.config();
    office.look(|connection| must_exist(connection, &config, id))?;
    purge(office, request, &Purge::Gateway(id.into()), id)
}

/// `DELETE …/ai-gateway/cache`: everything, or with `provider` what one provider answered.
pub fn purge_account(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let Some(slug) = request.query("provider") else {
        return purge(office, request, &Purge::All, "all");
    };
    if slug.len() > SLUG_BYTES_MAX {
        let message = format!("must have at most {SLUG_BYTES_MAX} bytes");
        return Err(Failure::invalid(&["query", "provider"], message));
    }
    purge(office, request, &Purge::Provider(slug.into()), slug)
}

fn purge(
    office: &mut Office,
    request: &Request<'_>,
    what: &Purge,
    name: &str,
) -> Result<ApiAnswer, Failure> {
    let shown = match what {
        Purge::Gateway(id) => json!({"gateway": id}),
        Purge::Provider(slug) => json!({"provider": slug}),
        Purge::All | Purge::Key(_) => json!({"all": true}),
    };
    let actor = &*request.call.key;
    office.change(|connection| {
        let noted = Noted {
            actor,
            action: "cache purged",
            resource_type: RESOURCE,
            resource_id: name,
            old: None,
            new: Some(&shown),
        };
        note(connection, &noted, text::now())
    })?;
    if !office.forget(what) {
        let message = "not every part of the server could be told to forget; try again";
        return Err(Failure::new(503, envelope::CODE_REQUEST, message));
    }
    Ok(envelope::result(&shown))
}

impl Office {
    /// Tells every shard to forget cached answers, those on their way included; false: not all of
    /// them could be told. After [`Office::publish`] they hear of it behind the snapshot.
    pub fn forget(&self, what: &Purge) -> bool {
        let mut all_told = true;
        for post in self.shards() {
            all_told &= post.send(Order::Forget(what.clone())).is_ok();
        }
        all_told
    }
}
