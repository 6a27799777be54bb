//! Gateways that the management API makes, and what they do to requests.

use serde_json::{Value, json};

use super::management::{GATEWAYS, Manager, gateway};
use crate::support::{
    client::{Answer, Client, chat, post_with},
    server::{Server, Setup, TOKEN},
    upstream::mock,
    wait::wait_until,
};

#[track_caller]
fn call(server: &Server, id: &str, lines: &str) -> Answer {
    let path = format!("/v1/me/{id}/openai/chat/completions");
    server.ask(&post_with(&path, lines, chat("").as_bytes()))
}

fn at(id: &str) -> String {
    format!("{GATEWAYS}/{id}")
}

#[test]
fn a_gateway_comes_back_as_it_was_made_changed_and_deleted() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let made = manager.result("POST", GATEWAYS, Some(&gateway("mine", &json!({}))));
    for (name, value) in [
        ("id", json!("mine")),
        ("account_id", json!("me")),
        ("is_default", json!(false)),
        ("cache_ttl", json!(0)),
        ("rate_limiting_technique", json!("fixed")),
        ("authentication", json!(false)),
        ("byok_only", json!(false)),
        ("log_management", Value::Null),
        ("log_management_strategy", json!("DELETE_OLDEST")),
        ("logpush", json!(false)),
        ("otel", Value::Null),
        ("spend_limits", Value::Null),
        ("store_id", Value::Null),
        ("workers_ai_billing_mode", json!("postpaid")),
        ("zdr", json!(false)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert_eq!(made.get("dlp"), None);
    assert_eq!(manager.result("GET", &at("mine"), None), made);
    // What is left out stays as it was.
    let changed = manager.result("PUT", &at("mine"), Some(&json!({"byok_only": true})));
    let mut expected = made;
    expected["byok_only"] = json!(true);
    expected["modified_at"] = changed["modified_at"].clone();
    assert_eq!(changed, expected);
    assert_eq!(manager.result("GET", &at("mine"), None), changed);
    assert_eq!(manager.result("DELETE", &at("mine"), None), changed);
    for (method, body) in [("GET", None), ("DELETE", None), ("PUT", Some(&json!({})))] {
        manager.refused(method, &at("mine"), body, 404, &[(7002, "")]);
    }
}

#[test]
fn every_setting_survives_the_way_in_and_out() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let more = json!({
        "cache_invalidate_on_update": true,
        "cache_ttl": 300,
        "rate_limiting_interval": null,
        "rate_limiting_limit": null,
        "rate_limiting_technique": "sliding",
        "authentication": true,
        "byok_only": true,
        "dlp": {"enabled": true, "action": "BLOCK", "profiles": ["a", "b"]},
        "guardrails": {"prompt": {"P1": "BLOCK", "S13": "FLAG"}, "response": {}},
        "log_management": 10_000,
        "log_management_strategy": "STOP_INSERTING",
        "log_classification": true,
        "logpush": true,
        "logpush_public_key": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "otel": [{"url": "https://otel.example/v1/traces", "headers": {"x-key": "v"}, "content_type": "protobuf", "authorization": "secret-ref"}],
        "retry_max_attempts": 5,
        "retry_delay": 60_000,
        "retry_backoff": "exponential",
        "spend_limits": {"enabled": true, "rules": [{
            "id": "0123abcd", "enabled": false, "limit": 12.50, "limitType": "cost", "window": 86_400,
            "technique": "fixed",
            "metadata": {"user": {"mode": "partition"}, "team": {"mode": "filter", "values": ["x"]}},
            "model": {"mode": "filter", "values": ["gpt-4o"]},
            "provider": {"mode": "partition"},
        }]},
        "store_id": "store",
        "stripe": {"authorization": "ref", "usage_events": [{"payload": "{}"}]},
        "workers_ai_billing_mode": "unified",
        "zdr": true,
        "cache_scope": "gateway",
        "cache_streams": true,
        "on_disconnect": "drain",
        "resume_for": 330,
        "request_limits": [{"limit": 100, "window": 60, "technique": "sliding", "by": "metadata.user"}],
        "token_limits": [{"limit": 100, "window": 60, "technique": "fixed", "by": "key"}],
        "account_tag": "ignored", "something_else": [1, 2],
    });
    let body = gateway("full", &more);
    let made = manager.result("POST", GATEWAYS, Some(&body));
    for (name, value) in body.as_object().unwrap() {
        match name.as_str() {
            "something_else" => assert_eq!(made.get(name), None),
            "account_tag" => assert_eq!(made[name], "me"),
            _ => assert_eq!(&made[name], value, "{name}"),
        }
    }
    assert_eq!(manager.result("GET", &at("full"), None), made);
    let list = manager.result("GET", &format!("{GATEWAYS}?search=full"), None);
    assert_eq!(list, json!([made]));
    // The other form of dlp, and what switches itself off.
    let policies = json!({"enabled": false, "policies": [
        {"id": "p", "enabled": true, "action": "FLAG", "check": ["RESPONSE"], "profiles": []}]});
    let change =
        json!({"dlp": policies, "collect_logs": false, "cache_ttl": null, "retry_delay": null});
    let changed = manager.result("PUT", &at("full"), Some(&change));
    assert_eq!(changed["dlp"], policies);
    assert_eq!(changed["log_classification"], false);
    assert_eq!(
        (&changed["cache_ttl"], &changed["retry_delay"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(changed["otel"], made["otel"]);
    // Credentials are not readable in the file.
    for entry in std::fs::read_dir(server.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(10).any(|part| part == b"secret-ref");
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&json!({})),
        400,
        &[
            (7001, "body.id"),
            (7001, "body.cache_invalidate_on_update"),
            (7001, "body.cache_ttl"),
            (7001, "body.collect_logs"),
            (7001, "body.rate_limiting_interval"),
            (7001, "body.rate_limiting_limit"),
        ],
    );
    let wrong = gateway(
        "a b",
        &json!({
            "cache_ttl": -1,
            "collect_logs": null,
            "rate_limiting_interval": 1.5,
            "rate_limiting_limit": "many",
            "rate_limiting_technique": "Fixed",
            "dlp": {"enabled": true, "action": "WARN", "profiles": "all"},
            "guardrails": {"prompt": {"s1": "FLAG"}, "response": {"S14": "FLAG"}},
            "log_management": 9_999,
            "logpush_public_key": "-----BEGIN PRIVATE KEY-----",
            "otel": [{"url": "ftp://x", "headers": {"cf-aig-x": "y"}}],
            "retry_max_attempts": 6,
            "retry_delay": 60_001,
            "spend_limits": {"rules": [{"limit": -1, "limitType": "tokens", "window": 1}]},
        }),
    );
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&wrong),
        400,
        &[
            (7001, "body.id"),
            (7001, "body.cache_ttl"),
            (7001, "body.collect_logs"),
            (7001, "body.rate_limiting_interval"),
            (7001, "body.rate_limiting_limit"),
            (7001, "body.rate_limiting_technique"),
            (7001, "body.dlp.action"),
            (7001, "body.dlp.profiles"),
            (7001, "body.guardrails.prompt.s1"),
            (7001, "body.guardrails.response.S14"),
            (7001, "body.log_management"),
            (7001, "body.logpush_public_key"),
            (7001, "body.otel.0.url"),
            (7001, "body.otel.0.headers.cf-aig-x"),
            (7001, "body.retry_max_attempts"),
            (7001, "body.retry_delay"),
            (7001, "body.spend_limits.rules.0.limit"),
            (7001, "body.spend_limits.rules.0.limitType"),
        ],
    );
    let many: Vec<_> = (0..21)
        .map(|n| json!({"limit": n, "limitType": "cost", "window": 1}))
        .collect();
    let many = gateway(
        "x",
        &json!({"spend_limits": {"enabled": true, "rules": many}}),
    );
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&many),
        400,
        &[(7001, "body.spend_limits.rules")],
    );
    manager.result("POST", GATEWAYS, Some(&gateway("x", &json!({}))));
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&gateway("x", &json!({}))),
        409,
        &[(1003, "body.id")],
    );
}

#[test]
fn gateways_of_the_file_are_shown_and_not_changed() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let list = manager.result("GET", GATEWAYS, None);
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|g| &g["id"]).collect();
    assert_eq!(ids, ["default", "locked"]);
    assert_eq!(list[0]["is_default"], true);
    let locked = manager.result("GET", &at("locked"), None);
    assert_eq!(
        (&locked, &locked["authentication"]),
        (&list[1], &json!(true))
    );
    for (method, body) in [("PUT", Some(&json!({"zdr": true}))), ("DELETE", None)] {
        let answer = manager.ask(method, &at("locked"), body);
        super::management::check_refusal(&answer, 400, &[(7000, "")]);
        assert!(answer.text().contains("tidegate.toml"), "{}", answer.text());
    }
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&gateway("locked", &json!({}))),
        409,
        &[(1003, "body.id")],
    );
    assert_eq!(manager.result("GET", &at("locked"), None), locked);
}

#[test]
fn a_gateway_works_as_soon_as_it_is_made_and_until_it_is_deleted() {
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let mut manager = Manager::of(&server);
    call(&server, "api", "").check_refusal(400, 2001);
    manager.result(
        "POST",
        GATEWAYS,
        Some(&gateway("api", &json!({"authentication": false}))),
    );
    // Twice as many connections as shards, so that each is asked.
    for _ in 0..8 {
        assert_eq!(call(&server, "api", "").status, 200);
    }
    let token = format!("cf-aig-authorization: Bearer {TOKEN}\r\n");
    manager.result("PUT", &at("api"), Some(&json!({"authentication": true})));
    for _ in 0..8 {
        call(&server, "api", "").check_refusal(401, 2009);
        assert_eq!(call(&server, "api", &token).status, 200);
    }
    server.records_once(16);
    // No record, and then one without bodies.
    manager.result("PUT", &at("api"), Some(&json!({"collect_logs": false})));
    let answer = call(&server, "api", &token);
    assert_eq!((answer.status, answer.field("cf-aig-log-id")), (200, None));
    manager.result("PUT", &at("api"), Some(&json!({"collect_logs": true})));
    let quiet = format!("{token}cf-aig-collect-log-payload: false\r\n");
    let answer = call(&server, "api", &quiet);
    let id = answer.field("cf-aig-log-id").unwrap().to_owned();
    let last = server.records_once(17).pop().unwrap();
    assert_eq!(last["id"], *id);
    let body = crate::support::server::stored_body(&server.data_dir(), &id, "request");
    assert!(!body.status.success() || body.stdout.is_empty(), "{body:?}");
    // It survives a restart.
    drop(manager);
    let folder = server.folder().to_path_buf();
    server.kill();
    let again = Setup::over(mock.addr()).folder(&folder).start();
    assert_eq!(call(&again, "api", &token).status, 200);
    let mut manager = Manager::of(&again);
    manager.result("DELETE", &at("api"), None);
    for _ in 0..8 {
        call(&again, "api", &token).check_refusal(400, 2001);
    }
}

/// What is remembered of a connection's head must not outlive what it was decided by.
#[test]
fn a_connection_that_repeats_its_head_follows_every_change() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut manager = Manager::of(&server);
    let open =
        json!({"authentication": false, "cache_ttl": 600, "cache_invalidate_on_update": true});
    manager.result("POST", GATEWAYS, Some(&gateway("api", &open)));
    let mut client = server.connect();
    let ask = |client: &mut Client, lines: &str, text: &str| {
        let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]});
        let path = "/v1/me/api/openai/chat/completions";
        let answer = client.ask(&post_with(path, lines, body.to_string().as_bytes()));
        let cache = answer.field("cf-aig-cache-status").map(str::to_owned);
        (answer.status, cache)
    };
    let (hit, miss) = (
        (200, Some("HIT".to_owned())),
        (200, Some("MISS".to_owned())),
    );
    for text in ["one", "two", "six", "four and one more"] {
        assert_eq!(ask(&mut client, "", text), miss, "{text}");
        assert_eq!(ask(&mut client, "", text), hit, "{text}");
    }
    // Other settings: the same head, and another key.
    manager.result("PUT", &at("api"), Some(&json!({"cache_ttl": 900})));
    assert_eq!(ask(&mut client, "", "one"), miss);
    assert_eq!(ask(&mut client, "", "one"), hit);
    // Another head: nothing of the one before.
    let other = "authorization: Bearer somebody-else\r\n";
    for text in ["one", "two"] {
        assert_eq!(ask(&mut client, other, text), miss, "{text}");
        assert_eq!(ask(&mut client, other, text), hit, "{text}");
    }
    // Back to the head before that: what the last one proved is not this one's.
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "", "one"), hit);
    }
    assert_eq!(ask(&mut client, other, "his alone"), miss);
    assert_eq!(ask(&mut client, "", "his alone"), miss);
    assert_eq!(ask(&mut client, "", "his alone"), hit);
    // A refusal leaves its request unread, and ends the connection.
    manager.result("PUT", &at("api"), Some(&json!({"authentication": true})));
    assert_eq!(ask(&mut client, other, "one"), (401, None));
    let token = format!("cf-aig-authorization: Bearer {TOKEN}\r\n");
    client = server.connect();
    for _ in 0..4 {
        assert_eq!(ask(&mut client, &token, "one").0, 200);
    }
    manager.result("DELETE", &at("api"), None);
    assert_eq!(ask(&mut client, &token, "one"), (400, None));
}

#[test]
fn the_default_gateway_is_made_by_its_first_use() {
    let mock = mock();
    let file = format!(
        "listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\nshards = 2\n[providers.openai]\norigin = \"http://{}/openai\"\nkey = \"env:STORED_CREDENTIAL\"\n",
        mock.addr()
    );
    let server = Setup::new().whole_file(&file).start();
    let mut manager = Manager::of(&server);
    manager.refused("GET", &at("default"), None, 404, &[(7002, "")]);
    assert_eq!(call(&server, "default", "").status, 200);
    let mut found = Value::Null;
    wait_until("the default gateway", || {
        let answer = manager.ask("GET", &at("default"), None);
        found = answer.json()["result"].clone();
        answer.status == 200
    });
    for (name, value) in [
        ("is_default", json!(true)),
        ("authentication", json!(false)),
        ("collect_logs", json!(true)),
        ("cache_ttl", json!(0)),
        ("byok_only", json!(false)),
        ("workers_ai_billing_mode", json!("postpaid")),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    call(&server, "other", "").check_refusal(400, 2001);
    // Deleted, the next use makes it again.
    manager.result("DELETE", &at("default"), None);
    manager.refused("GET", &at("default"), None, 404, &[(7002, "")]);
    assert_eq!(call(&server, "default", "").status, 200);
    wait_until("the default gateway", || {
        manager.ask("GET", &at("default"), None).status == 200
    });
}

#[test]
fn a_server_for_other_machines_has_no_open_gateway_by_accident() {
    let file = "listen = \"0.0.0.0:0\"\ndata_dir = \"data\"\nshards = 1\n";
    let server = Setup::new().whole_file(file).start();
    let mut manager = Manager::of(&server);
    let open = gateway("open", &json!({"authentication": false}));
    manager.refused(
        "POST",
        GATEWAYS,
        Some(&open),
        400,
        &[(7001, "body.authentication")],
    );
    let made = manager.result("POST", GATEWAYS, Some(&gateway("made", &json!({}))));
    assert_eq!(made["authentication"], true);
}

#[test]
fn the_file_wins_over_what_was_made_and_a_reload_keeps_the_rest() {
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let mut manager = Manager::of(&server);
    for id in ["both", "mine"] {
        let open = json!({"authentication": false});
        manager.result("POST", GATEWAYS, Some(&gateway(id, &open)));
    }
    assert_eq!(call(&server, "both", "").status, 200);
    let file = server.folder().join("tidegate.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n[gateways.both]\nauthentication = true\n");
    std::fs::write(&file, text).unwrap();
    server.signal(rustix::process::Signal::HUP);
    wait_until("the reload", || call(&server, "both", "").status == 401);
    assert_eq!(call(&server, "mine", "").status, 200);
    // The shards have it a moment before the API does.
    wait_until("the file's settings to be shown", || {
        manager.result("GET", &at("both"), None)["authentication"] == true
    });
    manager.refused("DELETE", &at("both"), None, 400, &[(7000, "")]);
    let list = manager.result("GET", GATEWAYS, None);
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|g| &g["id"]).collect();
    assert_eq!(ids, ["both", "default", "locked", "mine"]);
    server.kill();
}

#[test]
fn an_open_gateway_that_was_made_keeps_a_server_from_other_machines() {
    let file = |listen: &str| format!("listen = \"{listen}\"\ndata_dir = \"data\"\nshards = 1\n");
    let mut server = Setup::new().whole_file(&file("127.0.0.1:0")).start();
    let mut manager = Manager::of(&server);
    manager.result(
        "POST",
        GATEWAYS,
        Some(&gateway("open", &json!({"authentication": false}))),
    );
    let folder = tempfile::TempDir::new().unwrap();
    server.kill();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for name in ["control.db", "control.db-wal", "master-key"] {
        let from = server.data_dir().join(name);
        if from.exists() {
            std::fs::copy(from, folder.path().join("data").join(name)).unwrap();
        }
    }
    let output = Setup::new()
        .folder(folder.path())
        .whole_file(&file("0.0.0.0:0"))
        .fail();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the gateway 'open'") && said.contains("--allow-open"),
        "{said}"
    );
    let again = Setup::new()
        .folder(folder.path())
        .whole_file(&file("127.0.0.1:0"))
        .start();
    let mut manager = Manager::of(&again);
    assert_eq!(
        manager.result("GET", &at("open"), None)["authentication"],
        false
    );
}
