//! What a custom provider has.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    config::upstream::UpstreamUrl,
    control::api::{
        failure::Report,
        field::{self, Field, Kind as FieldKind, Usual},
        gateway::fields::headers,
    },
    provider::address::Base,
};

/// The table.
pub const FIELDS: &[Field] = &[
    Field::new(
        "name",
        FieldKind::Text(1..=256),
        Usual::Nothing,
        "What people call it.",
    )
    .required(),
    Field::new(
        "slug",
        FieldKind::Own(
            slug,
            || json!({"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"}),
        ),
        Usual::Nothing,
        "Its name in paths, behind custom-. Unique.",
    )
    .required(),
    Field::new(
        "base_url",
        FieldKind::Own(base_url, || json!({"type": "string", "format": "uri"})),
        Usual::Nothing,
        "What the path of a request is appended to.",
    )
    .required(),
    Field::new(
        "description",
        FieldKind::Text(0..=LONG_CHARS_MAX),
        Usual::Nothing,
        "What it is.",
    )
    .nullable(),
    Field::new(
        "link",
        FieldKind::Text(0..=2048),
        Usual::Nothing,
        "Where to read about it.",
    )
    .nullable(),
    Field::new(
        "enable",
        FieldKind::Flag,
        Usual::Flag(false),
        "Whether it can be called; one that is not answers like an unknown one.",
    ),
    Field::new(
        "beta",
        FieldKind::Flag,
        Usual::Flag(false),
        "Whether it is called a beta.",
    ),
    Field::new(
        "curl_example",
        FieldKind::Text(0..=LONG_CHARS_MAX),
        Usual::Nothing,
        "How to call it with curl.",
    )
    .nullable(),
    Field::new(
        "js_example",
        FieldKind::Text(0..=LONG_CHARS_MAX),
        Usual::Nothing,
        "How to call it from JavaScript.",
    )
    .nullable(),
    Field::new(
        "position",
        FieldKind::Whole(0..=1_000_000),
        Usual::Nothing,
        "Its place in lists that people see.",
    )
    .nullable(),
    Field::new(
        "headers",
        FieldKind::Own(header_text, || json!({"type": "string"})),
        Usual::Nothing,
        "Fields added to each request: a JSON object as text. Values are never shown again.",
    )
    .nullable(),
    Field::new(
        "dialect",
        FieldKind::Word(&[
            "openai",
            "anthropic",
            "gemini",
            "cohere",
            "mistral",
            "bedrock",
            "workers-ai",
            "unknown",
        ]),
        Usual::Text("openai"),
        "tidegate's own: the shape of its API, by which usage is read.",
    ),
];

/// Longest description or example.
const LONG_CHARS_MAX: usize = 16 << 10;

fn slug(given: &Value, report: &mut Report) -> Option<Value> {
    let slug = field::text(given, &(1..=64), report)?;
    if !slug.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        report.wrong("must have letters, digits and hyphens only");
        return None;
    }
    Some(slug.into())
}

fn base_url(given: &Value, report: &mut Report) -> Option<Value> {
    let text = field::text(given, &(1..=2048), report)?;
    let why = match UpstreamUrl::parse(&text) {
        Ok(url) => match Base::parse(&url.to_string(), &[]) {
            Ok(_) => return Some(text.into()),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    report.wrong(format!("cannot be used: {why}"));
    None
}

fn header_text(given: &Value, report: &mut Report) -> Option<Value> {
    let text = field::text(given, &(0..=LONG_CHARS_MAX), report)?;
    if text.is_empty() {
        return Some(Value::Null);
    }
    let Ok(parsed) = serde_json::from_str::<Value>(&text) else {
        report.wrong("must be a JSON object, written as text");
        return None;
    };
    let headers = headers(&parsed, report)?;
    Some(headers.to_string().into())
}

/// Says whether a host is of this machine or a private network, as far as its name tells.
pub(super) fn is_private(host: &str) -> bool {
    if host == "localhost" || host.ends_with(".localhost") || host.ends_with(".internal") {
        return true;
    }
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || shared
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts_are_known_by_their_names() {
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "metadata.google.internal",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in ["api.example.com", "8.8.8.8", "100.128.0.1", "2606:4700::1"] {
            assert!(!is_private(host), "{host}");
        }
    }
}
