//! Stage 2: which face a request addresses, and what its `cf-aig-*` fields ask for.
//!
//! A field that cannot be read counts as absent and never fails the request (contract
//! `data-plane.md` section 4).

use std::time::Duration;

use super::retry::{ATTEMPTS_MAX, HEADER_DELAY_MAX};
use crate::{
    domain::{
        money::{PicoDollars, Prices, Rate, parse_dollars},
        usage::Usage,
    },
    http::{
        head::{Method, RequestHead},
        header::{FieldName, whole_number},
    },
    snapshot::Backoff,
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
    if let Some(rest) = text.strip_prefix("/v1/") {
        return data_plane(rest);
    }
    let (bare, _) = text.split_once('?').unwrap_or((text, ""));
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
    match memchr::memchr2(b'/', b'?', text.as_bytes()) {
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
    /// `cf-aig-request-timeout`: from the request to the first part of the answer.
    pub request_timeout: Option<Duration>,
    /// `cf-aig-max-attempts`, or its alias `cf-aig-retry-count`.
    pub max_attempts: Option<u8>,
    /// `cf-aig-retry-delay`.
    pub retry_delay: Option<Duration>,
    /// `cf-aig-backoff`, or its alias `cf-aig-retry-backoff`.
    pub backoff: Option<Backoff>,
    /// `cf-aig-cache-ttl`, or its old name; zero is off.
    pub cache_ttl: Option<Duration>,
    /// `cf-aig-skip-cache`, or its old name.
    pub skip_cache: Option<bool>,
    /// `cf-aig-cache-key`.
    pub cache_key: Option<&'a [u8]>,
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
pub const EVENT_ID_BYTES_MAX: usize = 256;

/// Entries of metadata that are kept.
const METADATA_ENTRIES_MAX: usize = 5;

/// Longest `cf-aig-cache-key` that is taken; a longer one is none.
const CACHE_KEY_BYTES_MAX: usize = 1024;

/// Bounds of a time for which an answer is cached, zero aside.
pub const CACHE_TTL: std::ops::RangeInclusive<u64> = 60..=2_592_000;

/// Longest `cf-aig-request-timeout`: nobody waits for a day.
const REQUEST_TIMEOUT_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

impl<'a> Wishes<'a> {
    /// Reads the fields of a request. Of a name and its alias the name counts, in whatever order
    /// they come.
    pub fn read(head: &RequestHead<'a>) -> Self {
        let mut wishes = Self::default();
        let mut aliases = Self::default();
        let mut has_alias = false;
        for field in &head.fields {
            let value = field.value;
            match field.id {
                FieldName::CfAigEventId => {
                    wishes.event_id = is_event_id(value).then_some(value);
                }
                FieldName::CfAigCollectLog => wishes.collect_log = boolean(field.value),
                FieldName::CfAigCollectLogPayload => wishes.collect_payload = boolean(field.value),
                FieldName::CfAigMetadata => wishes.metadata = metadata(field.value),
                FieldName::CfAigCustomCost => wishes.custom_cost = custom_cost(field.value),
                FieldName::CfAigByokAlias => wishes.alias = std::str::from_utf8(field.value).ok(),
                FieldName::CfAigRequestTimeout => wishes.request_timeout = timeout(value),
                FieldName::CfAigMaxAttempts => wishes.max_attempts = attempts(value),
                FieldName::CfAigRetryCount => aliases.max_attempts = attempts(value),
                FieldName::CfAigRetryDelay => wishes.retry_delay = delay(value),
                FieldName::CfAigBackoff => wishes.backoff = backoff(value),
                FieldName::CfAigRetryBackoff => aliases.backoff = backoff(value),
                FieldName::CfAigCacheTtl => wishes.cache_ttl = ttl(value),
                FieldName::CfCacheTtl => aliases.cache_ttl = ttl(value),
                FieldName::CfAigSkipCache => wishes.skip_cache = boolean(value),
                FieldName::CfSkipCache => aliases.skip_cache = boolean(value),
                FieldName::CfAigCacheKey => {
                    let fits = (1..=CACHE_KEY_BYTES_MAX).contains(&value.len());
                    wishes.cache_key = fits.then_some(value);
                }
                _ => continue,
            }
            has_alias |= is_alias(field.id);
        }
        if has_alias {
            return wishes.over(&aliases);
        }
        wishes
    }

    /// These wishes where they say something, else those of `below`: a step's own go before the
    /// request's (contract `data-plane.md` section 4).
    #[must_use]
    pub fn over(mut self, below: &Self) -> Self {
        if self.metadata.is_empty() {
            self.metadata.clone_from(&below.metadata);
        }
        if self.custom_cost.is_none() {
            self.custom_cost.clone_from(&below.custom_cost);
        }
        Self {
            event_id: self.event_id.or(below.event_id),
            collect_log: self.collect_log.or(below.collect_log),
            collect_payload: self.collect_payload.or(below.collect_payload),
            metadata: self.metadata,
            custom_cost: self.custom_cost,
            alias: self.alias.or(below.alias),
            request_timeout: self.request_timeout.or(below.request_timeout),
            max_attempts: self.max_attempts.or(below.max_attempts),
            retry_delay: self.retry_delay.or(below.retry_delay),
            backoff: self.backoff.or(below.backoff),
            cache_ttl: self.cache_ttl.or(below.cache_ttl),
            skip_cache: self.skip_cache.or(below.skip_cache),
            cache_key: self.cache_key.or(below.cache_key),
        }
    }
}

/// Says whether a field is another name of one that [`Wishes`] has.
fn is_alias(id: FieldName) -> bool {
    matches!(
        id,
        FieldName::CfAigRetryCount
            | FieldName::CfAigRetryBackoff
            | FieldName::CfCacheTtl
            | FieldName::CfSkipCache
    )
}

/// Says whether a value can be an event's id: printable ASCII, and not too long.
pub fn is_event_id(value: &[u8]) -> bool {
    (1..=EVENT_ID_BYTES_MAX).contains(&value.len())
        && value.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// Milliseconds to wait for the first part of an answer; zero is no limit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let millis = whole_number(value)?.min(REQUEST_TIMEOUT_MAX_MS);
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Attempts in all, clamped to what is allowed.
pub fn attempts(value: &[u8]) -> Option<u8> {
    let most = u64::from(ATTEMPTS_MAX);
    u8::try_from(whole_number(value)?.clamp(1, most)).ok()
}

/// Milliseconds between attempts, clamped to what a request may ask for.
pub fn delay(value: &[u8]) -> Option<Duration> {
    Some(Duration::from_millis(whole_number(value)?).min(HEADER_DELAY_MAX))
}

/// How the wait grows.
pub fn backoff(value: &[u8]) -> Option<Backoff> {
    let words = [
        ("constant", Backoff::Constant),
        ("linear", Backoff::Linear),
        ("exponential", Backoff::Exponential),
    ];
    let found = |(word, _): &&(&str, Backoff)| value.eq_ignore_ascii_case(word.as_bytes());
    words.iter().find(found).map(|(_, backoff)| *backoff)
}

/// Seconds for which an answer is cached, clamped to what is allowed; zero is off.
pub fn ttl(value: &[u8]) -> Option<Duration> {
    let seconds = match whole_number(value)? {
        0 => 0,
        seconds => seconds.clamp(*CACHE_TTL.start(), *CACHE_TTL.end()),
    };
    Some(Duration::from_secs(seconds))
}

/// `true`, `false`, `1` or `0`.
pub fn boolean(value: &[u8]) -> Option<bool> {
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
    fn numbers_are_clamped_and_what_is_none_is_absent() {
        assert_eq!(attempts(b"9"), Some(5));
        assert_eq!(attempts(b"0"), Some(1));
        assert_eq!(attempts(b"-1"), None);
        assert_eq!(delay(b"60000"), Some(HEADER_DELAY_MAX));
        assert_eq!(timeout(b"0"), None);
        assert_eq!(timeout(b"2500"), Some(Duration::from_millis(2500)));
        assert_eq!(ttl(b"0"), Some(Duration::ZERO));
        assert_eq!(ttl(b"5"), Some(Duration::from_mins(1)));
        let month = Duration::from_hours(720);
        assert_eq!(ttl(b"99999999999999999999999"), Some(month));
        assert_eq!(ttl(b"1e3"), None);
        assert_eq!(backoff(b"Linear"), Some(Backoff::Linear));
        assert_eq!(backoff(b"quadratic"), None);
    }

    #[test]
    fn a_name_counts_before_its_alias_in_either_order() {
        for (first, second) in [
            ("cf-aig-max-attempts: 2", "cf-aig-retry-count: 4"),
            ("cf-aig-retry-count: 4", "cf-aig-max-attempts: 2"),
        ] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{first}\r\n{second}\r\n\r\n");
            let head = crate::http::head::parse_request(head.as_bytes()).unwrap();
            assert_eq!(Wishes::read(&head).max_attempts, Some(2));
        }
    }

    #[test]
    fn booleans_that_cannot_be_read_are_absent() {
        assert_eq!(boolean(b"True"), Some(true));
        assert_eq!(boolean(b"0"), Some(false));
        assert_eq!(boolean(b"yes"), None);
    }
}
