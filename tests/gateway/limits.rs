//! Limits on requests, tokens and cost: what is admitted, exactly, and what a refusal says.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tidegate::{cli::demo::mock_provider::MockProvider, provider::table::ProviderId};

use crate::support::{
    client::{Answer, chat, get, post_with},
    server::{LOCKED, OPEN, Server, Setup, TOKEN},
    upstream::{count, mock},
    wait::wait_until,
};

pub(super) const CHAT: &str = "/openai/chat/completions";

/// A thousand tokens cost one cent, whichever they are.
pub(super) const CENT_A_THOUSAND: &str = r#"
[prices]
"openai/gpt-4o" = { input = "10", output = "10" }
"#;

#[track_caller]
pub(super) fn call(server: &Server, lines: &str, body: &str) -> Answer {
    let answer = server.ask(&post_with(&format!("{OPEN}{CHAT}"), lines, body.as_bytes()));
    // What it used is told to the owner of the limit after the answer has gone out: who asks again at
    // once, by another shard, may come before that.
    nothing_is_out(server);
    answer
}

pub(super) fn nothing_is_out(server: &Server) {
    wait_until("no permit to be out", || {
        server.figures().contains("\ntidegate_limit_permits 0\n")
    });
}

pub(super) fn asked(mock: &MockProvider) -> u64 {
    count(mock, "total/requests")
}

/// Sends so many requests from so many threads; how many were admitted.
pub(super) fn storm(server: &Server, threads: u64, each: u64, lines: &str, body: &str) -> u64 {
    // Such bodies are sent to hard limits alone.
    let is_hard = body.contains("max_tokens");
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    let answer = call(server, lines, body);
                    match answer.status {
                        200 => _ = admitted.fetch_add(1, Ordering::Relaxed),
                        429 => {}
                        // The journal may take too long on a machine that does much else: refused
                        // too, for a hard limit promises more than it grants.
                        503 if is_hard => {}
                        other => panic!("{other}: {}", answer.text()),
                    }
                }
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn a_limit_of_n_requests_admits_n_on_any_number_of_shards() {
    let mock = mock();
    for shards in [1, 2, 4] {
        for technique in ["fixed", "sliding"] {
            let limit = format!(
                "rate_limiting_limit = 50\nrate_limiting_interval = 86400\nrate_limiting_technique = \"{technique}\""
            );
            let server = Setup::over(mock.addr())
                .top(&format!("shards = {shards}"))
                .gateway(&limit)
                .start();
            let before = asked(&mock);
            let admitted = storm(&server, 16, 10, "", &chat(""));
            assert_eq!(admitted, 50, "{shards} shards, {technique}");
            assert_eq!(asked(&mock) - before, 50);
            let refused = call(&server, "", &chat(""));
            refused.check_refusal(429, 2003);
            let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
            assert!((1..=86_400).contains(&after), "{after}");
            assert!(
                refused
                    .field("ratelimit")
                    .unwrap()
                    .contains("\"requests\";r=0")
            );
            assert!(!server.said().contains("not built"), "{}", server.said());
        }
    }
}

#[test]
fn a_caller_learns_what_is_left_and_hits_of_the_cache_take_nothing() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("cache_ttl = 60\nrate_limiting_limit = 3\nrate_limiting_interval = 86400")
        .start();
    let left = |answer: &Answer| answer.field("ratelimit").map(str::to_owned);
    let first = call(&server, "", &chat(""));
    assert!(left(&first).unwrap().starts_with("\"requests\";r=2;t="));
    assert_eq!(first.field("ratelimit-policy"), Some("\"requests\";q=3"));
    for _ in 0..10 {
        let hit = call(&server, "", &chat(""));
        assert_eq!(
            (hit.status, hit.field("cf-aig-cache-status")),
            (200, Some("HIT"))
        );
        assert_eq!(left(&hit), None);
    }
    // Two are left, for others; then even the cache's miss is refused, its hit is not.
    for number in 0..3 {
        let body = chat("").replace("hello", &format!("hello {number}"));
        let expected = if number < 2 { 200 } else { 429 };
        assert_eq!(call(&server, "", &body).status, expected);
    }
    assert_eq!(call(&server, "", &chat("")).status, 200);
    let records = server.records_once(15);
    let refused: Vec<_> = records
        .iter()
        .filter(|record| record["status_code"] == 429)
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["outcome"], "refused");
}

#[test]
fn limits_of_a_key_or_a_metadata_value_count_apart() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("request_limits = [{ limit = 2, window = 86400, technique = \"sliding\", by = \"metadata.user\" }]")
        .start();
    let of = |user: &str| {
        let lines = format!("cf-aig-metadata: {{\"user\":\"{user}\"}}\r\n");
        call(&server, &lines, &chat("")).status
    };
    assert_eq!([of("a"), of("a"), of("a")], [200, 200, 429]);
    assert_eq!([of("b"), of("b"), of("b")], [200, 200, 429]);
    // Without the key the rule does not apply.
    for _ in 0..4 {
        assert_eq!(call(&server, "", &chat("")).status, 200);
    }
}

#[test]
fn tokens_are_reserved_before_and_settled_after() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("token_limits = [{ limit = 1000, window = 86400, technique = \"sliding\", by = \"gateway\" }]")
        .start();
    let lines = "x-mock: in=40,out=60\r\n";
    // The first teaches what an answer has.
    assert_eq!(call(&server, lines, &chat("")).status, 200);
    let admitted = 1 + storm(&server, 16, 4, lines, &chat(""));
    let used = admitted * 100;
    assert!(used <= 1000 + 100, "{used} tokens in a window of 1000");
    assert!(used >= 800, "{used} tokens of 1000: far too careful");
    call(&server, lines, &chat("")).check_refusal(429, 2003);
}

/// Cost of all records together, in pico-dollars.
pub(super) fn spent(records: &[Value]) -> u128 {
    let of = |record: &Value| {
        let cost = record["cost"].to_string();
        let (whole, part) = cost.split_once('.').unwrap_or((&cost, ""));
        let digits = format!("{whole}{part:0<12}");
        if cost == "null" {
            0
        } else {
            digits.parse::<u128>().unwrap()
        }
    };
    records.iter().map(of).sum()
}

pub(super) const DOLLAR: u128 = 1_000_000_000_000;

pub(super) fn hard(dollars: &str) -> String {
    format!(
        "spend_limits = {{ enabled = true, rules = [{{ id = \"r\", limit = {dollars}, limitType = \"cost\", window = 86400, hard = true }}] }}"
    )
}

/// A request whose cost is bounded: three cents at most, and that is what it costs.
pub(super) fn three_cents() -> String {
    chat("").replace("\"messages\"", "\"max_tokens\":1000,\"messages\"")
}

#[test]
fn a_hard_limit_is_never_passed_by_a_thousand_at_once() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables(CENT_A_THOUSAND)
        .gateway(&hard("1.0"))
        .start();
    let lines = "x-mock: in=1000,out=1000,delay=5\r\n";
    let admitted = storm(&server, 50, 20, lines, &three_cents());
    // Two cents each; what is reserved is more, so that the last ones may not fit.
    assert!((30..=50).contains(&admitted), "{admitted}");
    let records = server.records_once(1000);
    let spent = spent(&records);
    assert!(spent <= DOLLAR, "{spent}");
    assert_eq!(spent, u128::from(admitted) * DOLLAR / 50);
    let refused = call(&server, lines, &three_cents().replace("hello", "again"));
    if refused.status != 200 {
        refused.check_refusal(429, 2041);
        assert!(refused.text().contains("rule 'r'"), "{}", refused.text());
    }
    // Nothing stays reserved.
    wait_until("no permit to be out", || {
        server.figures().contains("\ntidegate_limit_permits 0\n")
    });
}

#[test]
fn what_was_spent_under_a_hard_limit_outlives_a_kill() {
    let mock = mock();
    let folder = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::over(mock.addr())
            .folder(folder.path())
            .tables(CENT_A_THOUSAND)
            .gateway(&hard("1.0"))
    };
    let lines = "x-mock: in=1000,out=1000,delay=30\r\n";
    let mut server = setup().start();
    let mut admitted = 0;
    for _ in 0..3 {
        // Some are in flight when the server dies.
        let pid = server.pid();
        let address = server.address;
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let request =
                            post_with(&format!("{OPEN}{CHAT}"), lines, three_cents().as_bytes());
                        let Ok(stream) = std::net::TcpStream::connect(address) else {
                            return;
                        };
                        let mut client = crate::support::client::Client::over(stream);
                        client.send(&request);
                        let Some(head) = client.try_head() else {
                            return;
                        };
                        if head.starts_with("HTTP/1.1 200") {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(60));
            let killed = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
            assert!(killed.unwrap().success());
        });
        admitted += done.into_inner();
        drop(server);
        server = setup().start();
    }
    admitted += storm(&server, 8, 20, lines, &three_cents());
    // The mock provider saw every one that went out; each cost two cents.
    let asked = u128::from(asked(&mock));
    assert!(
        asked * DOLLAR / 50 <= DOLLAR,
        "{asked} requests of two cents each"
    );
    assert!(u128::from(admitted) <= asked);
    assert!(
        asked >= 20,
        "{asked}: what was given back is not there to be spent"
    );
}

#[test]
fn without_a_price_or_a_bound_nothing_passes_a_hard_limit() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables(CENT_A_THOUSAND)
        .gateway(&hard("1.0"))
        .start();
    let unpriced = chat("").replace("gpt-4o", "nobody-knows-me");
    let answer = call(&server, "", &unpriced);
    answer.check_refusal(429, 2041);
    assert!(answer.text().contains("price"), "{}", answer.text());
    assert_eq!(asked(&mock), 0);
    // Allowed, it passes.
    let rule = hard("1.0").replace("hard = true", "hard = true, allow_unpriced = true");
    let server = Setup::over(mock.addr()).gateway(&rule).start();
    assert_eq!(call(&server, "", &unpriced).status, 200);
}

#[test]
fn a_soft_limit_is_charged_afterwards() {
    let mock = mock();
    let rule = hard("0.05").replace(", hard = true", "");
    let server = Setup::over(mock.addr())
        .tables(CENT_A_THOUSAND)
        .gateway(&rule)
        .start();
    let lines = "x-mock: in=1000,out=1000\r\n";
    let statuses: Vec<_> = (0..5)
        .map(|_| call(&server, lines, &chat("")).status)
        .collect();
    // Two cents each: the third passes the limit, and is the last.
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    // What has no price is not counted, and passes for ever.
    let unpriced = chat("").replace("gpt-4o", "nobody-knows-me");
    assert_eq!(
        call(&server, lines, &unpriced).status,
        429,
        "the limit is the gateway's"
    );
}

#[test]
fn a_key_without_a_budget_left_reaches_no_provider_by_any_path() {
    let mock = mock();
    let mut setup = Setup::new().env("POOR_TOKEN", "tide-poor-0123456789abcdef").tables(
        "[[tokens]]\nname = \"poor\"\ntoken = \"env:POOR_TOKEN\"\npermissions = [\"run\"]\nbudget = { limit = \"0\", period = \"monthly\", hard = true }\n",
    );
    for provider in ProviderId::all() {
        let slug = provider.slug();
        setup = setup.provider(slug, &format!("origin = \"http://{}/{slug}\"", mock.addr()));
    }
    let server = setup.start();
    let mut refused = 0;
    for provider in ProviderId::all() {
        for path in [
            "chat/completions",
            "v1/messages",
            "v1/embeddings",
            "res/dep/chat/completions?api-version=1",
            "bedrock-runtime/us-east-1/model/anthropic.claude-x/invoke",
            "v1/projects/p/locations/us-east1/publishers/google/models/gemini-2.5-flash:generateContent",
            "v1beta/models/gemini-2.5-flash:streamGenerateContent",
            "@cf/meta/llama-3-8b",
            "v1/audio/speech",
        ] {
            let request = post_with(
                &format!("{LOCKED}/{}/{path}", provider.slug()),
                "cf-aig-authorization: Bearer tide-poor-0123456789abcdef\r\n",
                three_cents().as_bytes(),
            );
            let answer = server.ask(&request);
            // Some paths are none of that provider's.
            if answer.status == 400 {
                continue;
            }
            assert_eq!(
                answer.status,
                429,
                "{} {path}: {}",
                provider.slug(),
                answer.text()
            );
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused}");
    let steps = json!([{"provider": "openai", "endpoint": "chat/completions", "query": {"model": "gpt-4o", "max_tokens": 5}}]);
    let lines = "cf-aig-authorization: Bearer tide-poor-0123456789abcdef\r\n";
    let answer = server.ask(&post_with(LOCKED, lines, steps.to_string().as_bytes()));
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(count(&mock, "connections/accepted"), 0);
    // Another key is not concerned.
    let lines = format!("cf-aig-authorization: Bearer {TOKEN}\r\n");
    let request = post_with(&format!("{LOCKED}{CHAT}"), &lines, chat("").as_bytes());
    assert_eq!(server.ask(&request).status, 200);
}

#[test]
fn what_costs_nothing_by_its_method_passes_a_hard_limit() {
    let mock = mock();
    let server = Setup::over(mock.addr()).gateway(&hard("1.0")).start();
    let answer = server.ask(&get(&format!("{OPEN}/openai/models"), ""));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_request_that_reaches_nobody_gives_everything_back() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .provider("groq", "base_url = \"http://127.0.0.1:9\"")
        .tables(CENT_A_THOUSAND)
        .tables("\"groq/gpt-4o\" = { input = \"10\", output = \"10\" }")
        .gateway(&hard("0.10"))
        .start();
    for _ in 0..30 {
        let request = post_with(
            &format!("{OPEN}/groq/chat/completions"),
            "",
            three_cents().as_bytes(),
        );
        server.ask(&request).check_refusal(502, 2005);
    }
    // Refusals of the provider's cost nothing either.
    for _ in 0..30 {
        let answer = call(
            &server,
            "x-mock: status=500,retry_after=0\r\n",
            &three_cents(),
        );
        assert_eq!(answer.status, 500, "{}", answer.text());
    }
    let lines = "x-mock: in=1000,out=1000\r\n";
    assert_eq!(call(&server, lines, &three_cents()).status, 200);
    wait_until("no permit to be out", || {
        server.figures().contains("\ntidegate_limit_permits 0\n")
    });
}

#[test]
fn steps_of_one_request_count_once_against_a_limit_on_requests() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("rate_limiting_limit = 2\nrate_limiting_interval = 86400")
        .start();
    let body: Value = serde_json::from_str(&chat("")).unwrap();
    let step = |commands: &str| json!({"provider": "openai", "endpoint": "chat/completions", "headers": {"x-mock": commands}, "query": body});
    let steps = json!([step("status=400"), step("status=401"), step("")]).to_string();
    for expected in [200, 200, 429] {
        let answer = server.ask(&post_with(OPEN, "", steps.as_bytes()));
        assert_eq!(answer.status, expected, "{}", answer.text());
    }
    assert_eq!(asked(&mock), 6);
}
