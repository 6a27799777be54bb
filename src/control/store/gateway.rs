//! A gateway in the two forms that it has: the document of the management API, and the settings
//! of the configuration. Documents were checked before they were stored, so that what does not
//! fit counts as not said.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    config::{
        gateway::{
            Action, Backoff, BillingMode, CacheScope, Dimension, Dlp, DlpPolicy, DlpRules, Gateway,
            Guardrails, LimitBy, LogStrategy, OnDisconnect, Otel, OtelEncoding, SpendLimits,
            SpendRule, Stripe, Technique, TrafficLimit,
        },
        secret::Secret,
        upstream::UpstreamUrl,
    },
    domain::money::{PicoDollars, parse_dollars},
};

/// Members of a document that may hold credentials, and are sealed for that reason.
pub const SECRET_MEMBERS: [&str; 2] = ["otel", "stripe"];

/// Words of [`Technique`].
pub const TECHNIQUES: [(&str, Technique); 2] =
    [("fixed", Technique::Fixed), ("sliding", Technique::Sliding)];
/// Words of [`LogStrategy`].
pub const STRATEGIES: [(&str, LogStrategy); 2] = [
    ("STOP_INSERTING", LogStrategy::StopInserting),
    ("DELETE_OLDEST", LogStrategy::DeleteOldest),
];
/// Words of [`Backoff`].
pub const BACKOFFS: [(&str, Backoff); 3] = [
    ("constant", Backoff::Constant),
    ("linear", Backoff::Linear),
    ("exponential", Backoff::Exponential),
];
/// Words of [`BillingMode`].
pub const BILLING_MODES: [(&str, BillingMode); 2] = [
    ("postpaid", BillingMode::Postpaid),
    ("unified", BillingMode::Unified),
];
/// Words of [`CacheScope`].
pub const CACHE_SCOPES: [(&str, CacheScope); 2] = [
    ("credential", CacheScope::Credential),
    ("gateway", CacheScope::Gateway),
];
/// Words of [`OnDisconnect`].
pub const DISCONNECTS: [(&str, OnDisconnect); 3] = [
    ("cancel", OnDisconnect::Cancel),
    ("drain", OnDisconnect::Drain),
    ("cache", OnDisconnect::Cache),
];
/// Words of [`Action`].
pub const ACTIONS: [(&str, Action); 2] = [("FLAG", Action::Flag), ("BLOCK", Action::Block)];
/// Words of [`OtelEncoding`].
pub const ENCODINGS: [(&str, OtelEncoding); 2] = [
    ("json", OtelEncoding::Json),
    ("protobuf", OtelEncoding::Protobuf),
];

fn value<T: Copy>(words: &[(&str, T)], word: Option<&Value>) -> Option<T> {
    let word = word?.as_str()?;
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value)
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, other)| *other == value);
    found.map_or("", |(name, _)| name)
}

/// The settings that a document means. `document` holds its secrets too.
pub fn settings(document: &Map<String, Value>) -> Gateway {
    let usual = Gateway::default();
    let flag = |name: &str, usual| document.get(name).and_then(Value::as_bool).unwrap_or(usual);
    let number = |name: &str| document.get(name).and_then(Value::as_u64);
    let seconds = |name: &str| Duration::from_secs(number(name).unwrap_or(0));
    let text = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Gateway {
        authentication: flag("authentication", usual.authentication),
        collect_logs: flag("collect_logs", usual.collect_logs),
        cache_invalidate_on_update: flag("cache_invalidate_on_update", false),
        cache_ttl: seconds("cache_ttl"),
        rate_limiting_limit: number("rate_limiting_limit").unwrap_or(0),
        rate_limiting_interval: seconds("rate_limiting_interval"),
        rate_limiting_technique: value(&TECHNIQUES, document.get("rate_limiting_technique"))
            .unwrap_or(usual.rate_limiting_technique),
        byok_only: flag("byok_only", false),
        dlp: document.get("dlp").and_then(dlp),
        guardrails: document.get("guardrails").and_then(guardrails),
        log_management: number("log_management"),
        log_management_strategy: value(&STRATEGIES, document.get("log_management_strategy"))
            .unwrap_or(usual.log_management_strategy),
        log_classification: flag("log_classification", false),
        logpush: flag("logpush", false),
        logpush_public_key: text("logpush_public_key"),
        otel: items(document.get("otel")).filter_map(otel).collect(),
        retry_max_attempts: number("retry_max_attempts").and_then(|n| u8::try_from(n).ok()),
        retry_delay: number("retry_delay").map(Duration::from_millis),
        retry_backoff: value(&BACKOFFS, document.get("retry_backoff")),
        spend_limits: spend_limits(document.get("spend_limits")),
        store_id: text("store_id"),
        stripe: document.get("stripe").and_then(stripe),
        workers_ai_billing_mode: value(&BILLING_MODES, document.get("workers_ai_billing_mode"))
            .unwrap_or(usual.workers_ai_billing_mode),
        zdr: flag("zdr", false),
        request_limits: traffic_limits(document.get("request_limits")),
        token_limits: traffic_limits(document.get("token_limits")),
        resume_for: seconds("resume_for"),
        cache_scope: value(&CACHE_SCOPES, document.get("cache_scope")).unwrap_or(usual.cache_scope),
        cache_streams: flag("cache_streams", false),
        on_disconnect: value(&DISCONNECTS, document.get("on_disconnect"))
            .unwrap_or(usual.on_disconnect),
    }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let texts = items(list).filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn is(value: &Value, name: &str, usual: bool) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(usual)
}

fn owned(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn dlp(form: &Value) -> Option<Dlp> {
    let enabled = form.get("enabled")?.as_bool()?;
    let rules = match form.get("policies") {
        None => DlpRules::Single {
            action: value(&ACTIONS, form.get("action"))?,
            profiles: texts(form.get("profiles")),
        },
        list => DlpRules::Policies(items(list).filter_map(dlp_policy).collect()),
    };
    Some(Dlp { enabled, rules })
}

fn dlp_policy(policy: &Value) -> Option<DlpPolicy> {
    let check = texts(policy.get("check"));
    Some(DlpPolicy {
        id: owned(policy, "id")?,
        enabled: is(policy, "enabled", true),
        action: value(&ACTIONS, policy.get("action"))?,
        request: check.iter().any(|side| side == "REQUEST"),
        response: check.iter().any(|side| side == "RESPONSE"),
        profiles: texts(policy.get("profiles")),
    })
}

fn guardrails(form: &Value) -> Option<Guardrails> {
    let side = |name: &str| {
        let all = form.get(name).and_then(Value::as_object);
        let all = all.into_iter().flatten();
        all.filter_map(|(key, action)| Some((key.clone(), value(&ACTIONS, Some(action))?)))
            .collect()
    };
    form.as_object()?;
    Some(Guardrails {
        prompt: side("prompt"),
        response: side("response"),
    })
}

fn otel(form: &Value) -> Option<Otel> {
    let headers = form.get("headers").and_then(Value::as_object);
    let headers = headers.into_iter().flatten().filter_map(|(name, value)| {
        let value = Secret::new(value.as_str()?.to_owned());
        Some((name.to_ascii_lowercase(), value))
    });
    Some(Otel {
        url: UpstreamUrl::parse(form.get("url")?.as_str()?).ok()?,
        headers: headers.collect(),
        authorization: owned(form, "authorization").map(Secret::new),
        content_type: value(&ENCODINGS, form.get("content_type")).unwrap_or(OtelEncoding::Json),
    })
}

fn stripe(form: &Value) -> Option<Stripe> {
    let events = items(form.get("usage_events"));
    Some(Stripe {
        authorization: Secret::new(owned(form, "authorization")?),
        usage_events: events.filter_map(|event| owned(event, "payload")).collect(),
    })
}

fn spend_limits(form: Option<&Value>) -> SpendLimits {
    let Some(form) = form else {
        return SpendLimits::default();
    };
    SpendLimits {
        enabled: is(form, "enabled", false),
        rules: items(form.get("rules")).filter_map(spend_rule).collect(),
    }
}

fn spend_rule(form: &Value) -> Option<SpendRule> {
    let metadata = form.get("metadata").and_then(Value::as_object);
    let metadata = metadata.into_iter().flatten();
    Some(SpendRule {
        id: owned(form, "id")?,
        enabled: is(form, "enabled", true),
        limit: dollars(form.get("limit")?)?,
        window: Duration::from_secs(form.get("window")?.as_u64()?),
        technique: value(&TECHNIQUES, form.get("technique")).unwrap_or(Technique::Sliding),
        metadata: metadata
            .filter_map(|(key, form)| Some((key.clone(), dimension(form)?)))
            .collect(),
        model: form.get("model").and_then(dimension),
        provider: form.get("provider").and_then(dimension),
        hard: is(form, "hard", false),
        allow_unpriced: is(form, "allow_unpriced", false),
    })
}

/// An amount of dollars, digit for digit; `None` for what is none.
pub fn dollars(number: &Value) -> Option<PicoDollars> {
    match number {
        Value::Number(number) => parse_dollars(&number.to_string()),
        _ => None,
    }
}

fn dimension(form: &Value) -> Option<Dimension> {
    match form.get("mode")?.as_str()? {
        "partition" => Some(Dimension::Partition),
        "filter" => Some(Dimension::Filter(texts(form.get("values")))),
        _ => None,
    }
}

fn traffic_limits(list: Option<&Value>) -> Vec<TrafficLimit> {
    let limit = |form: &Value| {
        Some(TrafficLimit {
            limit: form.get("limit")?.as_u64()?,
            window: Duration::from_secs(form.get("window")?.as_u64()?),
            technique: value(&TECHNIQUES, form.get("technique")).unwrap_or(Technique::Sliding),
            by: match form.get("by").and_then(Value::as_str).unwrap_or("gateway") {
                "gateway" => LimitBy::Gateway,
                "key" => LimitBy::Key,
                other => LimitBy::Metadata(other.strip_prefix("metadata.")?.to_owned()),
            },
        })
    };
    items(list).filter_map(limit).collect()
}

/// What stands in the place of a secret of the file.
const HIDDEN: &str = "***";

/// The document of a gateway that the file has. Its secrets are left out.
pub fn document(gateway: &Gateway) -> Map<String, Value> {
    let otel: Vec<Value> = gateway.otel.iter().map(otel_document).collect();
    let all = json!({
        "cache_invalidate_on_update": gateway.cache_invalidate_on_update,
        "cache_ttl": gateway.cache_ttl.as_secs(),
        "collect_logs": gateway.collect_logs,
        "rate_limiting_interval": gateway.rate_limiting_interval.as_secs(),
        "rate_limiting_limit": gateway.rate_limiting_limit,
        "rate_limiting_technique": word(&TECHNIQUES, gateway.rate_limiting_technique),
        "authentication": gateway.authentication,
        "byok_only": gateway.byok_only,
        "dlp": gateway.dlp.as_ref().map(dlp_document),
        "guardrails": gateway.guardrails.as_ref().map(guardrails_document),
        "log_management": gateway.log_management,
        "log_management_strategy": word(&STRATEGIES, gateway.log_management_strategy),
        "log_classification": gateway.log_classification,
        "logpush": gateway.logpush,
        "logpush_public_key": gateway.logpush_public_key,
        "otel": if otel.is_empty() { Value::Null } else { otel.into() },
        "retry_max_attempts": gateway.retry_max_attempts,
        "retry_delay": gateway.retry_delay.map(millis),
        "retry_backoff": gateway.retry_backoff.map(|backoff| word(&BACKOFFS, backoff)),
        "spend_limits": spend_document(&gateway.spend_limits),
        "store_id": gateway.store_id,
        "stripe": gateway.stripe.as_ref().map(|stripe| json!({
            "authorization": HIDDEN,
            "usage_events": stripe.usage_events.iter().map(|payload| json!({"payload": payload})).collect::<Vec<_>>(),
        })),
        "workers_ai_billing_mode": word(&BILLING_MODES, gateway.workers_ai_billing_mode),
        "zdr": gateway.zdr,
        "request_limits": traffic_document(&gateway.request_limits),
        "token_limits": traffic_document(&gateway.token_limits),
        "resume_for": gateway.resume_for.as_secs(),
        "cache_scope": word(&CACHE_SCOPES, gateway.cache_scope),
        "cache_streams": gateway.cache_streams,
        "on_disconnect": word(&DISCONNECTS, gateway.on_disconnect),
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn dlp_document(dlp: &Dlp) -> Value {
    match &dlp.rules {
        DlpRules::Single { action, profiles } => {
            json!({"enabled": dlp.enabled, "action": word(&ACTIONS, *action), "profiles": profiles})
        }
        DlpRules::Policies(policies) => {
            let policy = |policy: &DlpPolicy| {
                let sides = [("REQUEST", policy.request), ("RESPONSE", policy.response)];
                let check = sides.into_iter().filter(|(_, is)| *is);
                json!({
                    "id": policy.id,
                    "enabled": policy.enabled,
                    "action": word(&ACTIONS, policy.action),
                    "check": check.map(|(side, _)| side).collect::<Vec<_>>(),
                    "profiles": policy.profiles,
                })
            };
            json!({"enabled": dlp.enabled, "policies": policies.iter().map(policy).collect::<Vec<_>>()})
        }
    }
}

fn guardrails_document(guardrails: &Guardrails) -> Value {
    let side = |side: &BTreeMap<String, Action>| {
        let all = side.iter();
        all.map(|(key, action)| (key.clone(), word(&ACTIONS, *action).into()))
            .collect::<Map<_, _>>()
    };
    json!({"prompt": side(&guardrails.prompt), "response": side(&guardrails.response)})
}

fn otel_document(otel: &Otel) -> Value {
    let headers = otel.headers.keys();
    let headers: Map<_, _> = headers
        .map(|name| (name.clone(), Value::from(HIDDEN)))
        .collect();
    json!({
        "url": otel.url.to_string(),
        "headers": headers,
        "authorization": otel.authorization.as_ref().map(|_| HIDDEN),
        "content_type": word(&ENCODINGS, otel.content_type),
    })
}

fn spend_document(limits: &SpendLimits) -> Value {
    if limits.rules.is_empty() && !limits.enabled {
        return Value::Null;
    }
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Partition => json!({"mode": "partition"}),
        Dimension::Filter(values) => json!({"mode": "filter", "values": values}),
    };
    let rule = |rule: &SpendRule| {
        let limit = serde_json::from_str::<Value>(&rule.limit.to_string()).unwrap_or_default();
        let mut form = json!({
            "id": rule.id,
            "enabled": rule.enabled,
            "limit": limit,
            "limitType": "cost",
            "window": rule.window.as_secs(),
            "technique": word(&TECHNIQUES, rule.technique),
            "hard": rule.hard,
            "allow_unpriced": rule.allow_unpriced,
        });
        if !rule.metadata.is_empty() {
            let all = rule.metadata.iter();
            let all: Map<_, _> = all
                .map(|(key, form)| (key.clone(), dimension(form)))
                .collect();
            form["metadata"] = all.into();
        }
        for (name, value) in [("model", &rule.model), ("provider", &rule.provider)] {
            if let Some(value) = value {
                form[name] = dimension(value);
            }
        }
        form
    };
    json!({"enabled": limits.enabled, "rules": limits.rules.iter().map(rule).collect::<Vec<_>>()})
}

fn traffic_document(limits: &[TrafficLimit]) -> Value {
    if limits.is_empty() {
        return Value::Null;
    }
    let limit = |limit: &TrafficLimit| {
        let by = match &limit.by {
            LimitBy::Gateway => "gateway".to_owned(),
            LimitBy::Key => "key".to_owned(),
            LimitBy::Metadata(name) => format!("metadata.{name}"),
        };
        json!({
            "limit": limit.limit,
            "window": limit.window.as_secs(),
            "technique": word(&TECHNIQUES, limit.technique),
            "by": by,
        })
    };
    limits.iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_document() {
        let form = json!({
            "cache_ttl": 5, "collect_logs": false, "authentication": false, "zdr": true,
            "rate_limiting_limit": 7, "rate_limiting_interval": 60, "rate_limiting_technique": "sliding",
            "dlp": {"enabled": true, "policies": [
                {"id": "a", "enabled": false, "action": "FLAG", "check": ["RESPONSE"], "profiles": ["x"]}]},
            "guardrails": {"prompt": {"S1": "BLOCK"}, "response": {}},
            "log_management": 10_000, "log_management_strategy": "STOP_INSERTING",
            "retry_max_attempts": 3, "retry_delay": 50, "retry_backoff": "linear",
            "spend_limits": {"enabled": true, "rules": [
                {"id": "r", "enabled": true, "limit": 0.000_001, "limitType": "cost", "window": 60,
                 "technique": "fixed", "hard": true, "allow_unpriced": true, "model": {"mode": "filter", "values": ["m"]},
                 "metadata": {"user": {"mode": "partition"}}}]},
            "request_limits": [{"limit": 3, "window": 9, "technique": "fixed", "by": "metadata.team"}],
            "on_disconnect": "drain",
        });
        let first = settings(form.as_object().unwrap());
        assert_eq!(first.spend_limits.rules[0].limit, PicoDollars(1_000_000));
        let all = document(&first);
        let second = settings(&all);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        for (name, value) in form.as_object().unwrap() {
            if name != "spend_limits" {
                assert_eq!(&all[name], value, "{name}");
            }
        }
    }

    #[test]
    fn secrets_of_the_file_are_not_shown() {
        let form = json!({
            "otel": [{"url": "https://a.example/v1", "headers": {"x-key": "hush"}, "authorization": "hush"}],
            "stripe": {"authorization": "hush", "usage_events": [{"payload": "p"}]},
        });
        let shown = document(&settings(form.as_object().unwrap()));
        assert_eq!(shown["otel"][0]["url"], "https://a.example/v1");
        assert!(!Value::from(shown).to_string().contains("hush"));
    }
}
