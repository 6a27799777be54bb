//! Where a provider is reached through a gateway (contract `management-api.md` section 9).

use super::{
    custom_provider::unknown_slug, envelope, failure::Failure, gateway::must_exist, office::Office,
    request::Request,
};
use crate::{
    control::store::objects::{self, Kind},
    handoff::mailbox::ApiAnswer,
    provider::table::by_slug,
    snapshot::providers::CUSTOM_PREFIX,
};

/// `GET …/gateways/{gateway_id}/url/{provider}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, provider) = (request.name("gateway_id"), request.name("provider"));
    let config = office.config();
    office.look(|connection| {
        must_exist(connection, &config, gateway)?;
        let known = match provider.strip_prefix(CUSTOM_PREFIX) {
            Some(slug) => {
                config.custom_providers.contains_key(slug)
                    || objects::named(connection, Kind::CustomProvider, "", slug)?.is_some()
            }
            None => ["universal", "compat"].contains(&provider) || by_slug(provider).is_some(),
        };
        if known {
            return Ok(());
        }
        Err(unknown_slug(&["path", "provider"], provider))
    })?;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let (host, account) = (&request.call.host, office.account(request));
    let base = format!("{scheme}://{host}/v1/{account}/{gateway}/");
    let url = match provider {
        "universal" => base,
        provider => format!("{base}{provider}"),
    };
    Ok(envelope::result(&url.into()))
}
