//! Custom providers and stored provider keys that the management API makes.

use serde_json::{Value, json};

use super::management::{GATEWAYS, Manager, check_refusal, gateway};
use crate::support::{
    client::{chat, post_with},
    server::{STORED, Server, Setup, TOKEN},
    upstream::{last_request, mock},
};

const PROVIDERS: &str = "/client/v4/accounts/me/ai-gateway/custom-providers";

fn at(id: &Value) -> String {
    format!("{PROVIDERS}/{}", id.as_str().unwrap())
}

fn configs(gateway: &str) -> String {
    format!("{GATEWAYS}/{gateway}/provider_configs")
}

/// Calls `path` of the open gateway and gives the status and what the provider saw in a field.
#[track_caller]
fn call(server: &Server, path: &str, lines: &str) -> u16 {
    let lines = format!("cf-aig-authorization: Bearer {TOKEN}\r\n{lines}");
    let answer = server.ask(&post_with(path, &lines, chat("").as_bytes()));
    answer.status
}

fn field(request: &Value, name: &str) -> Vec<String> {
    let all = request["headers"].as_array().unwrap();
    let values = all
        .iter()
        .filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name));
    values
        .map(|field| field[1].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_custom_provider_is_called_once_it_is_enabled() {
    let mock = mock();
    let server = Setup::new().top("allow_http_upstreams = true").start();
    let mut manager = Manager::of(&server);
    let body = json!({
        "name": "My provider",
        "slug": "mine",
        "base_url": format!("http://{}/openai", mock.addr()),
        "headers": "{\"X-Team-Key\":\"team-secret-value\"}",
        "description": "Ours.",
        "position": 3,
    });
    let made = manager.result("POST", PROVIDERS, Some(&body));
    assert_eq!(
        (&made["enable"], &made["beta"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(made["headers"], "{\"X-Team-Key\":\"***\"}");
    assert!(made["logo"].as_str().is_some_and(|logo| logo.len() > 100));
    for name in ["name", "slug", "base_url", "description", "position"] {
        assert_eq!(made[name], body[name], "{name}");
    }
    let path = "/v1/me/default/custom-mine/chat/completions";
    assert_eq!(call(&server, path, ""), 400);
    // What was shown is sent back with the change, stars and all.
    let change = json!({"enable": true, "headers": made["headers"]});
    let changed = manager.result("PATCH", &at(&made["id"]), Some(&change));
    assert_eq!(changed["enable"], true);
    assert_eq!(call(&server, path, ""), 200);
    let seen = last_request(&mock);
    assert_eq!(field(&seen, "x-team-key"), ["team-secret-value"]);
    assert_eq!(field(&seen, "authorization"), [""; 0]);
    assert_eq!(manager.result("GET", &at(&made["id"]), None), changed);
    let deleted = manager.result("DELETE", &at(&made["id"]), None);
    assert_eq!(deleted, changed);
    assert_eq!(call(&server, path, ""), 400);
    manager.refused("GET", &at(&made["id"]), None, 404, &[(1004, "")]);
}

#[test]
fn custom_providers_are_checked_and_found() {
    let server = Setup::new()
        .tables("[custom_providers.filed]\nbase_url = \"https://filed.example/v1\"\n")
        .start();
    let mut manager = Manager::of(&server);
    manager.refused(
        "POST",
        PROVIDERS,
        Some(&json!({})),
        400,
        &[
            (1002, "body.name"),
            (1002, "body.slug"),
            (1002, "body.base_url"),
        ],
    );
    for (url, accepted) in [
        ("https://api.example.com/v1", true),
        ("http://api.example.com/v1", false),
        ("https://user:pass@example.com", false),
        ("https://10.0.0.1/v1", false),
        ("https://[::1]/v1", false),
        ("https://169.254.169.254/latest", false),
        ("https://localhost:1", false),
        ("ftp://example.com", false),
        ("", false),
    ] {
        let body = json!({"name": "n", "slug": "s", "base_url": url});
        let answer = manager.ask("POST", PROVIDERS, Some(&body));
        if accepted {
            assert_eq!(answer.status, 200, "{url}");
        } else {
            check_refusal(&answer, 400, &[(1002, "body.base_url")]);
        }
    }
    let body = |slug: &str| json!({"name": "N", "slug": slug, "base_url": "https://a.example"});
    for slug in ["s", "filed"] {
        manager.refused(
            "POST",
            PROVIDERS,
            Some(&body(slug)),
            409,
            &[(1003, "body.slug")],
        );
    }
    for (name, value) in [
        ("slug", json!("a_b")),
        ("headers", json!("not json")),
        ("headers", json!("{\"cf-aig-x\":\"y\"}")),
        ("enable", json!("yes")),
    ] {
        let mut wrong = body("other");
        wrong[name] = value;
        let answer = manager.ask("POST", PROVIDERS, Some(&wrong));
        assert_eq!(answer.status, 400, "{}", answer.text());
        let path = &answer.json()["errors"][0]["path"];
        assert_eq!(path[1], name, "{path}");
    }
    manager.result("POST", PROVIDERS, Some(&body("zz")));
    let mut slugs = |query: &str| -> Vec<String> {
        let list = manager.result("GET", &format!("{PROVIDERS}{query}"), None);
        let all = list.as_array().unwrap().iter();
        all.map(|provider| provider["slug"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(slugs(""), ["filed", "s", "zz"]);
    assert_eq!(slugs("?order_by=slug%20DESC"), ["zz", "s", "filed"]);
    assert_eq!(slugs("?search=Z"), ["zz"]);
    assert_eq!(slugs("?enable=true"), ["filed"]);
    assert_eq!(slugs("?page=2&per_page=2"), ["zz"]);
    let filed = json!("file-filed");
    manager.refused("DELETE", &at(&filed), None, 400, &[(7000, "")]);
}

/// What a connection remembers of a request that comes again (its route, the head as it goes
/// upstream) follows every change, and nobody else's request.
#[test]
fn a_kept_connection_uses_the_key_that_counts_now() {
    const KEY: &str = "sk-stored-by-the-api-0123456789";
    const OTHER: &str = "sk-another-one-of-the-api-98765";
    const OWN: &str = "sk-of-the-caller-himself-432100";
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut manager = Manager::of(&server);
    manager.result("POST", GATEWAYS, Some(&gateway("keys", &json!({}))));
    let path = "/v1/me/keys/openai/chat/completions";
    let mut client = server.connect();
    let mut check = |lines: &str, key: &str| {
        let token = format!("cf-aig-authorization: Bearer {TOKEN}\r\n{lines}");
        for text in [
            "",
            "of another length",
            "x",
            "and of one that has more digits than the first one had, by far enough",
        ] {
            let body =
                json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]});
            let body = body.to_string();
            assert_eq!(
                client.ask(&post_with(path, &token, body.as_bytes())).status,
                200
            );
            let seen = last_request(&mock);
            assert_eq!(
                field(&seen, "authorization"),
                [format!("Bearer {key}")],
                "{lines}{text}"
            );
            assert_eq!(field(&seen, "content-length"), [body.len().to_string()]);
            assert_eq!(
                field(&seen, "x-mine"),
                if lines.contains("x-mine") {
                    ["1"].as_slice()
                } else {
                    &[]
                }
            );
        }
    };
    check("", STORED);
    let config = json!({"alias": "default", "default_config": true, "provider_slug": "openai", "secret": KEY});
    let made = manager.result("POST", &configs("keys"), Some(&config));
    check("", KEY);
    check("x-mine: 1\r\n", KEY);
    check(&format!("authorization: Bearer {OWN}\r\n"), OWN);
    check("", KEY);
    let one = format!("{}/{}", configs("keys"), made["id"].as_str().unwrap());
    manager.result("PUT", &one, Some(&json!({"secret": OTHER})));
    check("", OTHER);
    manager.result("DELETE", &one, None);
    check("", STORED);
}

#[test]
fn a_stored_key_is_used_by_its_alias_and_never_shown() {
    const KEY: &str = "sk-stored-by-the-api-0123456789";
    const OTHER: &str = "sk-another-one-of-the-api-98765";
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let mut manager = Manager::of(&server);
    manager.result("POST", GATEWAYS, Some(&gateway("keys", &json!({}))));
    let path = "/v1/me/keys/openai/chat/completions";
    // The file's own key, as long as there is no other.
    assert_eq!(call(&server, path, ""), 200);
    assert_eq!(
        field(&last_request(&mock), "authorization"),
        [format!("Bearer {STORED}")]
    );
    let config = |alias: &str, default: bool, secret: &str| json!({"alias": alias, "default_config": default, "provider_slug": "openai", "secret": secret});
    let first = manager.whole("POST", &configs("keys"), Some(&config("team-a", true, KEY)));
    assert!(!first.to_string().contains(KEY));
    let first = &first["result"];
    assert_eq!(first["secret_preview"], "sk-...6789");
    assert_eq!(
        (&first["alias"], &first["gateway_id"]),
        (&json!("team-a"), &json!("keys"))
    );
    let check = |server: &Server, lines: &str, key: &str| {
        assert_eq!(call(server, path, lines), 200);
        let seen = field(&last_request(&mock), "authorization");
        assert_eq!(seen, [format!("Bearer {key}")], "{lines}");
    };
    check(&server, "", KEY);
    check(&server, "cf-aig-byok-alias: team-a\r\n", KEY);
    assert_eq!(call(&server, path, "cf-aig-byok-alias: other\r\n"), 400);
    // The alias `default` beats the one that is marked; a second mark takes the first away.
    manager.result(
        "POST",
        &configs("keys"),
        Some(&config("default", true, OTHER)),
    );
    check(&server, "", OTHER);
    check(&server, "cf-aig-byok-alias: team-a\r\n", KEY);
    let list = manager.whole("GET", &configs("keys"), None);
    let marks: Vec<_> = list["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["default_config"])
        .collect();
    assert_eq!(marks, [false, true]);
    assert!(!list.to_string().contains(KEY) && !list.to_string().contains(OTHER));
    // One key under two names.
    let again = json!({"alias": "b", "default_config": false, "provider_slug": "openai", "secret_id": first["secret_id"]});
    let again = manager.result("POST", &configs("keys"), Some(&again));
    check(&server, "cf-aig-byok-alias: b\r\n", KEY);
    // Another gateway has none of them.
    assert_eq!(
        call(
            &server,
            "/v1/me/default/openai/chat/completions",
            "cf-aig-byok-alias: b\r\n"
        ),
        400
    );
    let one = format!("{}/{}", configs("keys"), again["id"].as_str().unwrap());
    let rotated = manager.result("PUT", &one, Some(&json!({"secret": OTHER})));
    assert_eq!(rotated["secret_preview"], "sk-...8765");
    check(&server, "cf-aig-byok-alias: b\r\n", OTHER);
    manager.result("DELETE", &one, None);
    assert_eq!(call(&server, path, "cf-aig-byok-alias: b\r\n"), 400);
    // Neither is readable in any file, nor said by the server.
    let mut all = server.said() + &server.figures();
    for entry in std::fs::read_dir(server.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    assert!(!all.contains(KEY) && !all.contains(OTHER));
    // They are there after a restart; with another master key the server says what is wrong.
    drop(manager);
    let folder = server.folder().to_path_buf();
    server.kill();
    let mut again = Setup::over(mock.addr()).folder(&folder).start();
    check(&again, "cf-aig-byok-alias: team-a\r\n", KEY);
    again.kill();
    let output = Setup::over(mock.addr())
        .folder(&folder)
        .env("TIDEGATE_MASTER_KEY", "another-master-key-0123456789")
        .fail();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot be opened with this master key"),
        "{said}"
    );
    let kept = std::fs::read_to_string(folder.join("data/master-key")).unwrap();
    let given = Setup::over(mock.addr())
        .folder(&folder)
        .env("TIDEGATE_MASTER_KEY", kept.trim())
        .start();
    check(&given, "cf-aig-byok-alias: team-a\r\n", KEY);
}

#[test]
fn stored_keys_are_checked() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let whole =
        json!({"alias": "a", "default_config": false, "provider_slug": "openai", "secret": "sk-1"});
    let with = |name: &str, value: Value| {
        let mut body = whole.clone();
        body[name] = value;
        body
    };
    let path = configs("locked");
    for (body, place) in [
        (with("alias", json!("a b")), "body.alias"),
        (with("provider_slug", json!("nobody")), "body.provider_slug"),
        (
            with("provider_slug", json!("custom-none")),
            "body.provider_slug",
        ),
        (with("secret", json!("two words")), "body.secret"),
        (with("secret", Value::Null), "body.secret"),
        (with("secret_id", json!("x")), "body.secret_id"),
    ] {
        manager.refused("POST", &path, Some(&body), 400, &[(7001, place)]);
    }
    manager.refused("POST", &configs("none"), Some(&whole), 404, &[(7002, "")]);
    manager.refused("GET", &configs("none"), None, 404, &[(7002, "")]);
    manager.result("POST", &path, Some(&whole));
    manager.refused("POST", &path, Some(&whole), 409, &[(1003, "body.alias")]);
}
