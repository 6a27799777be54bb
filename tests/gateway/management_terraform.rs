//! What Terraform's provider sends and reads, call by call: what is written comes back the same,
//! so that a second plan is empty.

use serde_json::{Value, json};

use super::management::{GATEWAYS, Manager};
use crate::support::server::Setup;

/// Members that Terraform computes: it takes them from the answer of a write.
const COMPUTED: [&str; 14] = [
    "authentication",
    "byok_only",
    "log_classification",
    "log_management",
    "log_management_strategy",
    "logpush",
    "store_id",
    "workers_ai_billing_mode",
    "zdr",
    "otel",
    "spend_limits",
    "created_at",
    "is_default",
    "modified_at",
];

/// A plan is empty when what is read is what was written.
#[track_caller]
fn check_plan(state: &Value, manager: &mut Manager, path: &str) {
    for name in COMPUTED {
        assert!(state.get(name).is_some(), "{name} is not in the answer");
    }
    for _ in 0..2 {
        assert_eq!(&manager.result("GET", path, None), state);
    }
}

#[test]
fn a_gateway_is_created_read_updated_and_destroyed_with_an_empty_second_plan() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let required = json!({
        "cache_invalidate_on_update": true,
        "cache_ttl": 0,
        "collect_logs": true,
        "rate_limiting_interval": 0,
        "rate_limiting_limit": 0,
    });
    let with = |more: Value| {
        let mut body = required.clone();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let path = format!("{GATEWAYS}/tf");
    let create = with(json!({
        "id": "tf",
        "spend_limits": {"enabled": true, "rules": [
            {"limit": 20, "limitType": "cost", "window": 86_400},
            {"limit": 5.5, "limitType": "cost", "window": 3600, "technique": "fixed",
             "metadata": {"team": {"mode": "partition"}}},
        ]},
        "otel": [{"url": "https://b.example/v1", "headers": {"z": "1", "a": "2"}},
                 {"url": "https://a.example/v1", "headers": {}, "content_type": "protobuf"}],
        "dlp": {"enabled": true, "action": "FLAG", "profiles": ["z", "a"]},
    }));
    let state = manager.result("POST", GATEWAYS, Some(&create));
    check_plan(&state, &mut manager, &path);
    let rules = &state["spend_limits"]["rules"];
    let ids: Vec<_> = [0, 1]
        .map(|at| rules[at]["id"].as_str().unwrap().to_owned())
        .into();
    assert!(
        ids.iter()
            .all(|id| id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()))
    );
    assert_eq!(
        (&rules[0]["enabled"], &rules[0]["technique"]),
        (&json!(true), &json!("sliding"))
    );
    assert_eq!(state["dlp"]["profiles"], json!(["z", "a"]));
    assert_eq!(state["otel"][0]["url"], "https://b.example/v1");
    // Only what changed, and what must be there.
    let updated = manager.result(
        "PUT",
        &path,
        Some(&with(json!({"zdr": true, "cache_ttl": 60}))),
    );
    check_plan(&updated, &mut manager, &path);
    let mut expected = state.clone();
    for (name, value) in [
        ("zdr", json!(true)),
        ("cache_ttl", json!(60)),
        ("modified_at", updated["modified_at"].clone()),
    ] {
        expected[name] = value;
    }
    assert_eq!(updated, expected);
    // A rule that stays keeps its id, though the configuration never names one.
    let limits = json!({"spend_limits": {"enabled": true, "rules": [
        {"limit": 5.5, "limitType": "cost", "window": 3600, "technique": "fixed",
         "metadata": {"team": {"mode": "partition"}}},
        {"limit": 21, "limitType": "cost", "window": 86_400},
    ]}});
    let updated = manager.result("PUT", &path, Some(&with(limits)));
    check_plan(&updated, &mut manager, &path);
    let rules = &updated["spend_limits"]["rules"];
    assert_eq!(rules[0]["id"], *ids[1]);
    assert!(!ids.iter().any(|id| rules[1]["id"] == **id));
    manager.result("DELETE", &path, None);
    manager.refused("GET", &path, None, 404, &[(7002, "")]);
}
