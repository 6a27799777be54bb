//! Stage 2: which face a request addresses, and what its `cf-aig-*` fields ask for.
//!
//! A field that cannot be read counts as absent and never fails the request (contract
//! `data-plane.md` section 4).

use crate::{
    domain::{
        money::{PicoDollars, Prices, Rate, parse_dollars},
        usage::Usage,
    },
    http::{
        head::{Method, RequestHead},
        header::FieldName,
    },
};

/// Where a request leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face<'a> {
    /// `/v1/{account}/{gateway}/{provider}/…`: a provider's own API.
    Provider(Call<'a>),
    /// `/v1/{account}/{gateway}`: the universal endpoint.
    Universal(Place<'a>),
    /// `/v1/{account}/{gateway}/compat/…` and `/run`: one API for all providers.
    Unified(Place<'a>),
    /// `/livez`, `/readyz`, `/healthz`: open to everybody.
    Health,
    /// The management API, metrics, dashboard.
    Management,
    /// Nowhere.
    None,
}

/// The account and gateway of a path, percent-encoding as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Account id.
    pub account: &'a str,
    /// Gateway id.
    pub gateway: &'a str,
}

/// A call of a provider's own API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Account and gateway.
    pub place: Place<'a>,
    /// Provider slug.
    pub provider: &'a str,
    /// Everything after the slug and its slash, query included.
    pub rest: &'a [u8],
}

/// Finds the face that `path` (path and query, as sent) addresses.
///
/// The caller has made sure that no segment is `.` or `..`.
pub fn face(path: &[u8]) -> Face<'_> {
    let Ok(text) = std::str::from_utf8(path) else {
        return Face::None;
    };
    let (bare, _) = text.split_once('?').unwrap_or((text, ""));
    if let Some(rest) = text.strip_prefix("/v1/") {
        return data_plane(rest);
    }
    match bare {
        "/livez" | "/readyz" | "/healthz" => Face::Health,
        "/metrics" | "/openapi.json" | "/" | "/dashboard" => Face::Management,
        _ if bare.starts_with("/client/v4/") || bare.starts_with("/dashboard/") => Face::Management,
        _ => Face::None,
    }
}

fn data_plane(rest: &str) -> Face<'_> {
    let (account, rest) = cut(rest);
    let (gateway, rest) = cut(rest);
    if account.is_empty() || gateway.is_empty() {
        return Face::None;
    }
    let place = Place { account, gateway };
    let (provider, rest) = cut(rest);
    match provider {
        "" => Face::Universal(place),
        "compat" | "run" => Face::Unified(place),
        _ => Face::Provider(Call {
            place,
            provider,
            rest: rest.as_bytes(),
        }),
    }
}

/// Cuts the first segment off; the slash after it goes, a query stays with the rest.
fn cut(text: &str) -> (&str, &str) {
    match text.find(['/', '?']) {
        Some(at) if text.as_bytes().get(at) == Some(&b'/') => (
            text.get(..at).unwrap_or(""),
            text.get(at + 1..).unwrap_or(""),
        ),
        Some(at) => (text.get(..at).unwrap_or(""), text.get(at..).unwrap_or("")),
        None => (text, ""),
    }
}

/// What a request asks of the gateway by its header fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes<'a> {
    /// `cf-aig-event-id`.
    pub event_id: Option<&'a [u8]>,
    /// `cf-aig-collect-log`.
    pub collect_log: Option<bool>,
    /// `cf-aig-collect-log-payload`.
    pub collect_payload: Option<bool>,
    /// `cf-aig-metadata`, cut to its first five entries and written anew; empty if none.
    pub metadata: Vec<u8>,
    /// `cf-aig-custom-cost`.
    pub custom_cost: Option<CustomCost>,
    /// `cf-aig-byok-alias`.
    pub alias: Option<&'a str>,
}

/// A caller's own prices (contract `data-plane.md` section 10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomCost {
    /// By token.
    pub prices: Prices,
    /// For the whole exchange, whatever it used.
    pub total: Option<PicoDollars>,
}

impl CustomCost {
    /// What `usage` costs. Applies only where the answer reports tokens, the total apart.
    pub fn of(&self, usage: &Usage) -> Option<PicoDollars> {
        self.total.or_else(|| self.prices.cost(usage))
    }
}

/// Longest event id that is taken; a longer one is none.
const EVENT_ID_BYTES_MAX: usize = 256;

/// Entries of metadata that are kept.
const METADATA_ENTRIES_MAX: usize = 5;

impl<'a> Wishes<'a> {
    /// Reads the fields of a request.
    pub fn read(head: &RequestHead<'a>) -> Self {
        let mut wishes = Self::default();
        for field in &head.fields {
            match field.id {
                FieldName::CfAigEventId => {
                    let fits = (1..=EVENT_ID_BYTES_MAX).contains(&field.value.len())
                        && field.value.iter().all(|byte| (0x20..0x7f).contains(byte));
                    wishes.event_id = fits.then_some(field.value);
                }
                FieldName::CfAigCollectLog => wishes.collect_log = boolean(field.value),
                FieldName::CfAigCollectLogPayload => wishes.collect_payload = boolean(field.value),
                FieldName::CfAigMetadata => wishes.metadata = metadata(field.value),
                FieldName::CfAigCustomCost => wishes.custom_cost = custom_cost(field.value),
                FieldName::CfAigByokAlias => wishes.alias = std::str::from_utf8(field.value).ok(),
                _ => {}
            }
        }
        wishes
    }
}

fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        _ if value.eq_ignore_ascii_case(b"true") || value == b"1" => Some(true),
        _ if value.eq_ignore_ascii_case(b"false") || value == b"0" => Some(false),
        _ => None,
    }
}

/// Keeps the first five entries. A nested value or a null makes all of it vanish, and keys that
/// begin with `cf.` are the gateway's own (contract `data-plane.md` section 9).
fn metadata(value: &[u8]) -> Vec<u8> {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_slice(value) else {
        return Vec::new();
    };
    let plain =
        |value: &serde_json::Value| value.is_string() || value.is_number() || value.is_boolean();
    if !entries.values().all(plain) {
        return Vec::new();
    }
    let kept: serde_json::Map<_, _> = entries
        .into_iter()
        .filter(|(key, _)| !key.starts_with("cf."))
        .take(METADATA_ENTRIES_MAX)
        .collect();
    if kept.is_empty() {
        return Vec::new();
    }
    serde_json::Value::Object(kept).to_string().into_bytes()
}

fn custom_cost(value: &[u8]) -> Option<CustomCost> {
    let serde_json::Value::Object(members) = serde_json::from_slice(value).ok()? else {
        return None;
    };
    // The number's own text, digit for digit; a price may come as a string too.
    let text = |name: &str| match members.get(name) {
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let rate = |name: &str| text(name).and_then(|text| Rate::per_unit(&text));
    let (input, output) = (rate("per_token_in"), rate("per_token_out"));
    let prices = Prices {
        input,
        output,
        cache_read: rate("per_cache_read_token"),
        cache_write: rate("per_cache_write_token"),
        ..Prices::default()
    };
    let total = text("total_cost").and_then(|text| parse_dollars(&text));
    (prices != Prices::default() || total.is_some()).then_some(CustomCost { prices, total })
}

/// Says whether a request is the probe that some coding agents send to a provider's root.
pub fn is_probe(method: Method<'_>, call: &Call<'_>) -> bool {
    method == Method::Head && (call.rest.is_empty() || call.rest.first() == Some(&b'?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_provider(path: &str, provider: &str, rest: &str) {
        let Face::Provider(call) = face(path.as_bytes()) else {
            panic!("{path} is no provider's path");
        };
        assert_eq!((call.place.account, call.place.gateway), ("acct", "gw"));
        assert_eq!((call.provider, call.rest), (provider, rest.as_bytes()));
    }

    #[test]
    fn a_providers_path_keeps_its_rest_as_sent() {
        check_provider(
            "/v1/acct/gw/openai/chat/completions?a=b",
            "openai",
            "chat/completions?a=b",
        );
        check_provider("/v1/acct/gw/openai//v1/a%2Fb", "openai", "/v1/a%2Fb");
        check_provider("/v1/acct/gw/openai?model=x", "openai", "?model=x");
        check_provider("/v1/acct/gw/openai", "openai", "");
        check_provider("/v1/acct/gw/openai/", "openai", "");
    }

    #[test]
    fn other_paths_find_their_face() {
        let place = Place {
            account: "a",
            gateway: "g",
        };
        assert_eq!(face(b"/v1/a/g"), Face::Universal(place));
        assert_eq!(face(b"/v1/a/g/"), Face::Universal(place));
        assert_eq!(
            face(b"/v1/a/g/compat/chat/completions"),
            Face::Unified(place)
        );
        assert_eq!(face(b"/v1/a"), Face::None);
        assert_eq!(face(b"/v1//g/openai/x"), Face::None);
        assert_eq!(face(b"/livez?x"), Face::Health);
        assert_eq!(face(b"/metrics"), Face::Management);
        assert_eq!(face(b"/client/v4/accounts"), Face::Management);
        assert_eq!(face(b"/elsewhere"), Face::None);
        assert_eq!(face(b"/v1/\xff/g/openai"), Face::None);
    }

    #[test]
    fn metadata_keeps_five_plain_entries() {
        let check = |given: &str, kept: &str| {
            assert_eq!(metadata(given.as_bytes()), kept.as_bytes(), "{given}");
        };
        check(
            r#"{"a":1,"b":"x","c":true,"d":1.50,"e":5,"f":6}"#,
            r#"{"a":1,"b":"x","c":true,"d":1.50,"e":5}"#,
        );
        check(r#"{"cf.user_id":"x","a":1}"#, r#"{"a":1}"#);
        check(r#"{"a":{"b":1}}"#, "");
        check(r#"{"a":1,"b":null}"#, "");
        check("[1]", "");
        check("{", "");
        check("{}", "");
    }

    #[test]
    fn custom_costs_are_read_digit_by_digit() {
        let cost = custom_cost(br#"{"per_token_in":0.0000001,"per_token_out":2e-7}"#).unwrap();
        assert_eq!(cost.prices.input, Rate::per_unit("0.0000001"));
        assert_eq!(cost.prices.output, Rate::per_unit("0.0000002"));
        let total = custom_cost(br#"{"total_cost":"0.5"}"#).unwrap();
        assert_eq!(total.of(&Usage::UNKNOWN), parse_dollars("0.5"));
        for text in [
            "{}",
            "[]",
            "{",
            r#"{"per_token_in":-1}"#,
            r#"{"per_token_in":null}"#,
        ] {
            assert_eq!(custom_cost(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn booleans_that_cannot_be_read_are_absent() {
        assert_eq!(boolean(b"True"), Some(true));
        assert_eq!(boolean(b"0"), Some(false));
        assert_eq!(boolean(b"yes"), None);
    }
}
