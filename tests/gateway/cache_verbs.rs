//! Purging the cache, by its verb and by the management API, and asking what it did.

use std::process::{Command, Output};

use serde_json::Value;
use tidegate::cli::demo::mock_provider::MockProvider;

use crate::support::{
    client::{Answer, chat, post_with},
    server::{API_TOKEN, OPEN, READ_TOKEN, STORED, Server, Setup, TOKEN, binary},
    upstream::mock,
};

const ACCOUNT: &str = "/client/v4/accounts/me/ai-gateway";

fn cached(mock: &MockProvider) -> Server {
    Setup::over(mock.addr()).gateway("cache_ttl = 3600").start()
}

#[track_caller]
fn call(server: &Server, path: &str, lines: &str, body: &str) -> (String, String) {
    let request = post_with(&format!("{OPEN}{path}"), lines, body.as_bytes());
    let answer = server.ask(&request);
    let field = |name| answer.field(name).unwrap_or("none").to_owned();
    (field("cf-aig-cache-status"), field("cf-aig-log-id"))
}

#[track_caller]
fn chat_call(server: &Server) -> String {
    call(server, "/openai/chat/completions", "", &chat("")).0
}

fn tidegate(server: &Server, token: Option<&str>, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .arg("cache")
        .args(words)
        .arg("--config")
        .arg(server.folder().join("tidegate.toml"))
        .env_clear()
        .env("CALLER_TOKEN", TOKEN)
        .env("READER_TOKEN", READ_TOKEN)
        .env("STORED_CREDENTIAL", STORED);
    if let Some(token) = token {
        command.env("TIDEGATE_API_TOKEN", token);
    }
    command.output().unwrap()
}

fn delete(server: &Server, path: &str, token: &str) -> Answer {
    let request = format!(
        "DELETE {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    server.ask(request.as_bytes())
}

#[track_caller]
fn explained(server: &Server, id: &str) -> Value {
    let output = tidegate(server, None, &["explain", id, "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_purge_by_the_verb_forgets_what_it_names_and_nothing_else() {
    let mock = mock();
    let server = cached(&mock);
    let address = server.address.to_string();
    for (what, expected) in [
        (["--gateway", "default"], "MISS"),
        (["--provider", "openai"], "MISS"),
        (["--provider", "anthropic"], "HIT"),
        (["--gateway", "locked"], "HIT"),
    ] {
        chat_call(&server);
        assert_eq!(chat_call(&server), "HIT");
        let words = [&["purge"], &what[..], &["--server", &address]].concat();
        let output = tidegate(&server, Some(API_TOKEN), &words);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(chat_call(&server), expected, "{what:?}");
    }
    let words = ["purge", "--all", "--server", &address];
    let output = tidegate(&server, Some(API_TOKEN), &words);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "{\"forgotten\":\"all answers\"}\n");
    assert_eq!(chat_call(&server), "MISS");
    assert_eq!(chat_call(&server), "HIT");
}

#[test]
fn the_token_of_the_data_folder_will_do_for_a_purge() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("cache_ttl = 3600")
        .env("TIDEGATE_API_TOKEN", "")
        .start();
    chat_call(&server);
    let address = server.address.to_string();
    let words = ["purge", "--all", "--server", &address];
    let output = tidegate(&server, None, &words);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(chat_call(&server), "MISS");
}

#[test]
fn a_purge_says_why_it_could_not_be_done() {
    let mock = mock();
    let mut server = cached(&mock);
    let address = server.address.to_string();
    let said = |server: &Server, token, words: &[&str]| {
        let output = tidegate(server, token, words);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let all = ["purge", "--all", "--server", &address];
    let refused = said(&server, Some(READ_TOKEN), &all);
    assert!(
        refused.contains("refused: the token is valid but lacks the permission"),
        "{refused}"
    );
    let unknown = ["purge", "--gateway", "nowhere", "--server", &address];
    let unknown = said(&server, Some(API_TOKEN), &unknown);
    assert!(unknown.contains("there is no such gateway"), "{unknown}");
    let nothing = said(&server, Some(API_TOKEN), &["purge"]);
    assert!(nothing.contains("--gateway"), "{nothing}");
    server.kill();
    let gone = said(&server, Some(API_TOKEN), &all);
    let expected = format!("tidegate: no server answers at {address} (");
    assert!(gone.starts_with(&expected), "{gone}");
}

#[test]
fn the_management_api_purges_with_the_permission_to_edit() {
    let mock = mock();
    let server = cached(&mock);
    let all = format!("{ACCOUNT}/cache");
    let gateway = format!("{ACCOUNT}/gateways/default/cache");
    let provider = format!("{ACCOUNT}/cache?provider=openai");
    chat_call(&server);
    for path in [&all, &gateway, &provider] {
        assert_eq!(delete(&server, path, READ_TOKEN).status, 403);
        assert_eq!(chat_call(&server), "HIT");
        let answer = delete(&server, path, API_TOKEN);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(chat_call(&server), "MISS", "{path}");
    }
    let nowhere = format!("{ACCOUNT}/gateways/nowhere/cache");
    assert_eq!(delete(&server, &nowhere, API_TOKEN).status, 404);
}

#[test]
fn a_gateway_that_is_deleted_takes_its_cached_answers_with_it() {
    let mock = mock();
    let server = cached(&mock);
    let lines = format!("Authorization: Bearer {API_TOKEN}\r\n");
    let gateways = format!("{ACCOUNT}/gateways");
    let made = r#"{"id":"brief","cache_invalidate_on_update":false,"cache_ttl":3600,
        "collect_logs":true,"rate_limiting_interval":0,"rate_limiting_limit":0,
        "rate_limiting_technique":"fixed","authentication":false}"#;
    let create = post_with(&gateways, &lines, made.as_bytes());
    let ask = || {
        let path = "/v1/me/brief/openai/chat/completions";
        let answer = server.ask(&post_with(path, "", chat("").as_bytes()));
        answer.field("cf-aig-cache-status").map(str::to_owned)
    };
    for _ in 0..2 {
        let answer = server.ask(&create);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(ask().as_deref(), Some("MISS"));
        assert_eq!(ask().as_deref(), Some("HIT"));
        let answer = delete(&server, &format!("{gateways}/brief"), API_TOKEN);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn explain_names_the_parts_that_kept_a_request_from_its_answer() {
    let mock = mock();
    let server = cached(&mock);
    let ask = |lines: &str, body: &str| call(&server, "/openai/chat/completions", lines, body).1;
    let first = ask("", &chat(""));
    let hit = ask("", &chat(""));
    let other_body = ask("", &chat("").replace("hello", "hullo"));
    let lines = "OpenAI-Organization: org-1\r\nAuthorization: Bearer other\r\n";
    let other_caller = ask(lines, &chat(""));
    let off = ask("cf-aig-cache-ttl: 0\r\n", &chat(""));
    let failed = ask("x-mock: status=500\r\n", &chat("").replace("hello", "fail"));
    let again = ask("x-mock: status=500\r\n", &chat("").replace("hello", "fail"));
    server.records_once(7);
    let check = |id: &str, cache: &str, with: Option<&str>, differs: Option<&[&str]>| {
        let said = explained(&server, id);
        assert_eq!(said["cache"], cache, "{said:#}");
        assert_eq!(said["compared_with"].as_str(), with, "{said:#}");
        let names: Option<Vec<&str>> = said["differs"]
            .as_array()
            .map(|names| names.iter().map(|name| name.as_str().unwrap()).collect());
        assert_eq!(names.as_deref(), differs, "{said:#}");
        said["why"].as_str().unwrap().to_owned()
    };
    check(&first, "miss", None, None);
    check(&hit, "hit", Some(&first), None);
    check(&other_body, "miss", Some(&hit), Some(&["body"]));
    check(
        &other_caller,
        "miss",
        Some(&hit),
        Some(&["credential", "header fields"]),
    );
    let why = check(&off, "not asked", None, None);
    assert!(why.starts_with("the cache was off"), "{why}");
    let why = check(&again, "miss", Some(&failed), Some(&[]));
    assert!(why.ends_with("with status 500"), "{why}");
    let table = tidegate(
        &server,
        None,
        &["explain", &other_body, "--output", "table"],
    );
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("\ndiffers              body\n"), "{table}");
}

#[test]
fn explain_works_without_a_server_and_says_what_is_no_record() {
    let mock = mock();
    let mut server = cached(&mock);
    let (_, id) = call(&server, "/openai/chat/completions", "", &chat(""));
    server.records_once(1);
    server.kill();
    assert_eq!(explained(&server, &id)["cache"], "miss");
    for (id, expected) in [
        ("x", "`x` is no record id"),
        ("01932f5e-7a30-7000-8000-0123456789ab", "there is no record"),
    ] {
        let output = tidegate(&server, None, &["explain", id]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    }
}
