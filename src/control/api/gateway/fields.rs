//! What a gateway has: the contract's members with their bounds, then tidegate's own.

use serde_json::{Map, Value, json};

use super::spend;
use crate::{
    config::{limit, secret, upstream::UpstreamUrl},
    control::api::{
        failure::Report,
        field::{self, Field, Kind, Usual, flag, list, object, text, texts, word},
    },
};

/// The table.
pub const FIELDS: &[Field] = &[
    Field::new(
        "cache_invalidate_on_update",
        Kind::Flag,
        Usual::Flag(false),
        "Whether a change of the gateway drops its cached answers.",
    )
    .required(),
    Field::new(
        "cache_ttl",
        Kind::Whole(limit::SECONDS),
        Usual::Number(0),
        "How long answers are cached, in seconds; 0 is off, and so is null.",
    )
    .required()
    .null_is_usual(),
    Field::new(
        "collect_logs",
        Kind::Flag,
        Usual::Flag(true),
        "Whether exchanges are recorded.",
    )
    .required(),
    Field::new(
        "rate_limiting_interval",
        Kind::Whole(limit::SECONDS),
        Usual::Nothing,
        "The interval of the rate limit in seconds; 0 and null are off.",
    )
    .required()
    .nullable(),
    Field::new(
        "rate_limiting_limit",
        Kind::Whole(limit::COUNT),
        Usual::Nothing,
        "Requests in each interval; 0 and null are off.",
    )
    .required()
    .nullable(),
    Field::new(
        "rate_limiting_technique",
        Kind::Word(TECHNIQUES),
        Usual::Text("fixed"),
        "How the interval moves.",
    )
    .nullable(),
    Field::new(
        "authentication",
        Kind::Flag,
        Usual::Nothing,
        "Whether callers must present a gateway token. Left out, it is true unless the server listens on loopback only.",
    ),
    Field::new(
        "byok_only",
        Kind::Flag,
        Usual::Flag(false),
        "Whether only credentials of the caller or stored ones may be used.",
    ),
    Field::new(
        "dlp",
        Kind::Own(dlp, any_object),
        Usual::Nothing,
        "Data loss prevention: one action for all profiles, or policies.",
    )
    .nullable(),
    Field::new(
        "guardrails",
        Kind::Own(guardrails, any_object),
        Usual::Nothing,
        "Actions for categories of content, in prompts and in responses.",
    )
    .nullable(),
    Field::new(
        "log_management",
        Kind::Whole(limit::LOG_MANAGEMENT),
        Usual::Nothing,
        "How many records are kept.",
    )
    .nullable(),
    Field::new(
        "log_management_strategy",
        Kind::Word(&["STOP_INSERTING", "DELETE_OLDEST"]),
        Usual::Text("DELETE_OLDEST"),
        "What happens when that many are there.",
    )
    .nullable(),
    Field::new(
        "log_classification",
        Kind::Flag,
        Usual::Flag(false),
        "Whether records are classified; false where nothing is recorded.",
    ),
    Field::new(
        "logpush",
        Kind::Flag,
        Usual::Flag(false),
        "Whether records are pushed to a destination.",
    ),
    Field::new(
        "logpush_public_key",
        Kind::Own(public_key, any_text),
        Usual::Nothing,
        "The key with which pushed records are encrypted, as PEM.",
    )
    .nullable(),
    Field::new(
        "otel",
        Kind::Own(otel, any_list),
        Usual::Nothing,
        "Exporters of traces.",
    )
    .nullable(),
    Field::new(
        "retry_max_attempts",
        Kind::Whole(limit::RETRY_ATTEMPTS),
        Usual::Nothing,
        "Attempts in all.",
    )
    .nullable(),
    Field::new(
        "retry_delay",
        Kind::Whole(limit::RETRY_DELAY_MS),
        Usual::Nothing,
        "The wait before the second attempt, in milliseconds.",
    )
    .nullable(),
    Field::new(
        "retry_backoff",
        Kind::Word(&["constant", "linear", "exponential"]),
        Usual::Nothing,
        "How the wait grows.",
    )
    .nullable(),
    Field::new(
        "spend_limits",
        Kind::Own(spend::limits, any_object),
        Usual::Nothing,
        "Limits on cost, at most 20 rules.",
    )
    .nullable(),
    Field::new(
        "store_id",
        Kind::Text(1..=NAME_CHARS_MAX),
        Usual::Nothing,
        "The secrets store of stored keys.",
    )
    .nullable(),
    Field::new(
        "stripe",
        Kind::Own(stripe, any_object),
        Usual::Nothing,
        "Usage events for billing.",
    )
    .nullable(),
    Field::new(
        "workers_ai_billing_mode",
        Kind::Word(&["postpaid", "unified"]),
        Usual::Text("postpaid"),
        "How Workers AI is billed.",
    ),
    Field::new(
        "zdr",
        Kind::Flag,
        Usual::Flag(false),
        "Whether only providers that keep nothing may be used.",
    ),
    Field::new(
        "request_limits",
        Kind::Own(spend::traffic, any_list),
        Usual::Nothing,
        "tidegate's own: limits on requests, by gateway, key or metadata.",
    )
    .nullable(),
    Field::new(
        "token_limits",
        Kind::Own(spend::traffic, any_list),
        Usual::Nothing,
        "tidegate's own: limits on model tokens, by gateway, key or metadata.",
    )
    .nullable(),
    Field::new(
        "resume_for",
        Kind::Whole(0..=RESUME_SECONDS_MAX),
        Usual::Number(0),
        "tidegate's own: how long a stream can be resumed, in seconds.",
    ),
    Field::new(
        "cache_scope",
        Kind::Word(&["credential", "gateway"]),
        Usual::Text("credential"),
        "tidegate's own: who shares cached answers.",
    ),
    Field::new(
        "cache_streams",
        Kind::Flag,
        Usual::Flag(false),
        "tidegate's own: whether streams are cached.",
    ),
    Field::new(
        "on_disconnect",
        Kind::Word(&["cancel", "drain", "cache"]),
        Usual::Text("cancel"),
        "tidegate's own: what becomes of the upstream side when the caller hangs up.",
    ),
];

/// How a window moves.
pub const TECHNIQUES: &[&str] = &["fixed", "sliding"];

const ACTIONS: &[&str] = &["FLAG", "BLOCK"];

/// Categories of guardrails (data plane contract, section 13.1).
const CATEGORIES: [&str; 14] = [
    "P1", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13",
];

/// Longest name of anything within a gateway.
pub const NAME_CHARS_MAX: usize = 256;

/// The bound of the file (`resume_for`), in seconds.
const RESUME_SECONDS_MAX: u64 = limit::RESUME_FOR.max.as_secs();

/// Longest payload of a usage event, and longest reference to a credential.
const PAYLOAD_CHARS_MAX: usize = 16 << 10;

fn any_object() -> Value {
    json!({"type": "object"})
}

fn any_list() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}

fn any_text() -> Value {
    json!({"type": "string"})
}

/// Reads a member that must be there; the report says if it is not.
pub fn member<T>(
    form: &Map<String, Value>,
    name: &str,
    report: &mut Report,
    read: impl FnOnce(&Value, &mut Report) -> Option<T>,
) -> Option<T> {
    report.within(name, |report| {
        if let Some(value) = form.get(name) {
            return read(value, report);
        }
        report.wrong("is required");
        None
    })
}

/// Reads a member that may be left out or `null`: `Some(None)` then.
pub fn option<T>(
    form: &Map<String, Value>,
    name: &str,
    report: &mut Report,
    read: impl FnOnce(&Value, &mut Report) -> Option<T>,
) -> Option<Option<T>> {
    match form.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => report.within(name, |report| read(value, report)).map(Some),
    }
}

fn name(value: &Value, report: &mut Report) -> Option<String> {
    text(value, &(1..=NAME_CHARS_MAX), report)
}

fn profiles(value: &Value, report: &mut Report) -> Option<Value> {
    texts(value, limit::LIST_MAX, report)
}

fn dlp(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let enabled = member(form, "enabled", report, flag);
    let Some(policies) = form.get("policies") else {
        let action = member(form, "action", report, |v, r| word(v, ACTIONS, r));
        let profiles = member(form, "profiles", report, profiles);
        return Some(json!({"enabled": enabled?, "action": action?, "profiles": profiles?}));
    };
    let mut ids = Vec::new();
    let policies = report.within("policies", |report| {
        list(policies, limit::LIST_MAX, report, |policy, report| {
            dlp_policy(policy, &mut ids, report)
        })
    });
    Some(json!({"enabled": enabled?, "policies": policies?}))
}

fn dlp_policy(given: &Value, ids: &mut Vec<String>, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let id = member(form, "id", report, |value, report| {
        let id = name(value, report)?;
        if ids.contains(&id) {
            report.wrong("another policy has this id");
            return None;
        }
        ids.push(id.clone());
        Some(id)
    });
    let enabled = member(form, "enabled", report, flag);
    let action = member(form, "action", report, |v, r| word(v, ACTIONS, r));
    let check = member(form, "check", report, |value, report| {
        list(value, 2, report, |side, report| {
            word(side, &["REQUEST", "RESPONSE"], report)
        })
    });
    let profiles = member(form, "profiles", report, profiles);
    Some(json!({
        "id": id?, "enabled": enabled?, "action": action?, "check": check?, "profiles": profiles?,
    }))
}

fn guardrails(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let prompt = member(form, "prompt", report, categories);
    let response = member(form, "response", report, categories);
    Some(json!({"prompt": prompt?, "response": response?}))
}

fn categories(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let mut all = Map::new();
    for (category, action) in form {
        let known = CATEGORIES.contains(&category.as_str());
        let read = report.within(category, |report| {
            // As clients write what they do not set.
            if action.is_null() {
                return None;
            }
            if !known {
                report.wrong("is not a category: write P1, or S1 to S13");
                return None;
            }
            word(action, ACTIONS, report)
        });
        if let Some(read) = read {
            all.insert(category.clone(), read.into());
        }
    }
    Some(Value::Object(all))
}

fn public_key(given: &Value, report: &mut Report) -> Option<Value> {
    let bounds = *limit::PUBLIC_KEY_CHARS.start()..=*limit::PUBLIC_KEY_CHARS.end();
    let key = text(given, &bounds, report)?;
    // A private key here is a slip that must not spread.
    if !key.trim_start().starts_with("-----BEGIN") || key.contains("PRIVATE") {
        report.wrong("must be a public key as PEM (-----BEGIN PUBLIC KEY-----)");
        return None;
    }
    Some(key.into())
}

fn otel(given: &Value, report: &mut Report) -> Option<Value> {
    let all = list(given, limit::LIST_MAX, report, |item, report| {
        let form = object(item, report)?;
        let url = member(form, "url", report, |value, report| {
            let url = text(value, &(1..=2048), report)?;
            if let Err(error) = UpstreamUrl::parse(&url) {
                report.wrong(format!("cannot be used: {error}"));
                return None;
            }
            Some(url)
        });
        let headers = option(form, "headers", report, headers);
        let authorization = option(form, "authorization", report, |v, r| {
            text(v, &(1..=PAYLOAD_CHARS_MAX), r)
        });
        let encoding = option(form, "content_type", report, |v, r| {
            word(v, &["json", "protobuf"], r)
        });
        let mut otel = json!({
            "url": url?,
            "headers": headers?.unwrap_or_else(|| json!({})),
            "content_type": encoding?.unwrap_or("json"),
        });
        if let Some(authorization) = authorization? {
            otel["authorization"] = authorization.into();
        }
        Some(otel)
    })?;
    Some(all.into())
}

/// Reads extra header fields: names that HTTP allows, values that a field can carry.
pub fn headers(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    if form.len() > limit::HEADERS_MAX {
        report.wrong(format!("must have at most {} members", limit::HEADERS_MAX));
        return None;
    }
    let mut all = Map::new();
    for (header, value) in form {
        let read = report.within(header, |report| {
            let is_token = (1..=NAME_CHARS_MAX).contains(&header.len())
                && header
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
            if !is_token {
                report.wrong("this cannot be the name of a header");
                return None;
            }
            let lower = header.to_ascii_lowercase();
            if is_own_header(&lower) {
                report.wrong("this header is written by tidegate itself");
                return None;
            }
            let value = text(value, &(1..=secret::TOKEN_BYTES_MAX), report)?;
            if secret::header_value(value.clone()).is_err() {
                report.wrong("holds characters that no header can carry");
                return None;
            }
            Some(value)
        });
        all.insert(header.clone(), read?.into());
    }
    Some(Value::Object(all))
}

/// Headers that tidegate writes itself, or that belong to one connection.
fn is_own_header(lower: &str) -> bool {
    const OWN: [&str; 12] = [
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    OWN.contains(&lower) || lower.starts_with("cf-aig-") || lower.starts_with("tg-")
}

fn stripe(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let payload =
        |value: &Value, report: &mut Report| text(value, &(1..=PAYLOAD_CHARS_MAX), report);
    let authorization = member(form, "authorization", report, payload);
    let events = member(form, "usage_events", report, |value, report| {
        list(value, limit::LIST_MAX, report, |event, report| {
            let form = object(event, report)?;
            let payload = member(form, "payload", report, payload)?;
            Some(json!({"payload": payload}))
        })
    });
    Some(json!({"authorization": authorization?, "usage_events": events?}))
}

/// The schema of a gateway's body.
pub fn schema(create: bool) -> Value {
    let mut schema = field::schema(FIELDS);
    if create {
        schema["properties"]["id"] = json!({
            "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "The gateway's name in every path; it cannot be changed.",
        });
        if let Some(required) = schema["required"].as_array_mut() {
            required.insert(0, "id".into());
        }
    } else {
        // What is left out stays as it was.
        schema["required"] = json!([]);
    }
    schema
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::store::gateway::{document, settings};

    /// Values that look like what members are, and such as do not.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (0..100u64).prop_map(Value::from),
            "(fixed|sliding|FLAG|BLOCK|cost|https://a.example|-----BEGIN X|.{0,8})"
                .prop_map(Value::from),
        ];
        let names = "(enabled|action|profiles|policies|id|check|prompt|response|P1|rules|limit|limitType|window|url|headers|mode|values|by|x)";
        leaf.prop_recursive(4, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..6)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_panics_and_what_is_taken_is_stable(
            members in prop::collection::vec((0..FIELDS.len(), values()), 0..8)
        ) {
            let mut body = Map::new();
            for (place, value) in members {
                body.insert(FIELDS[place].name.to_owned(), value);
            }
            let mut report = Report::new(7001);
            // As a change of a gateway, so that nothing is required.
            let old = field::read(FIELDS, &document(&settings(&Map::new())), None, &mut report);
            prop_assert!(report.is_clean());
            let read = field::read(FIELDS, &body, Some(&old), &mut report);
            if report.is_clean() {
                // What was taken is taken again, and means the same to shards.
                let again = field::read(FIELDS, &read, Some(&old), &mut report);
                prop_assert!(report.is_clean());
                prop_assert_eq!(&again, &read);
                let _ = settings(&read);
            }
        }
    }
}
