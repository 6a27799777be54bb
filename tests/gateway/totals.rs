//! Sums are exact, wherever they are read: thousands of exchanges of all kinds on all shards, with
//! aborts, errors and streams, against what the provider itself counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    process::Command,
    thread,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::cli::demo::mock_provider::MockProvider;

use super::management::{GATEWAYS, Manager};
use crate::support::{
    client::{Client, Sent, post, post_with},
    server::{OPEN, Server, Setup},
    upstream::{count, mock},
    wait::wait_until,
};

const THREADS: usize = 16;
const EXCHANGES_A_THREAD: usize = 625;
const EXCHANGES: usize = THREADS * EXCHANGES_A_THREAD;

/// Dollars for a million tokens, in and out; pico-dollars for one token are a million times that.
const PRICES: &str = r#"
[prices]
"openai/gpt-4o" = { input = "2.53", output = "10.07" }
"openai/text-embedding-3-small" = { input = "0.02", output = "0" }
"anthropic/claude-sonnet-4-6" = { input = "3.01", output = "15.13" }
"#;

/// Pico-dollars for a token in and out, by where the mock counts them.
const PICOS: [(&str, u64, u64); 3] = [
    ("openai/chat", 2_530_000, 10_070_000),
    ("openai/embeddings", 20_000, 0),
    ("anthropic/messages", 3_010_000, 15_130_000),
];

/// What is added up, everywhere.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    requests: u64,
    tokens_in: u64,
    tokens_out: u64,
    cost_picos: u64,
}

/// One thread's exchanges: two in ten are streams, one is broken off, one refused by the provider.
fn call(server: &Server, thread: usize) {
    let mut client = server.connect();
    for number in 0..EXCHANGES_A_THREAD {
        let figures = format!("in={},out={}", 100 + thread * 7 + number, 1 + number % 90);
        let chat = |stream: bool| {
            let mut body =
                json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]});
            if stream {
                body["stream"] = true.into();
                body["stream_options"] = json!({"include_usage": true});
            }
            body.to_string()
        };
        let openai = format!("{OPEN}/openai/chat/completions?mock={figures}");
        let request = match number % 10 {
            0..=3 => post(&openai, &chat(false)),
            4 | 5 => post(&format!("{openai},events=5"), &chat(true)),
            6 => {
                let status = [429, 500, 529][number % 3];
                post(&format!("{openai},status={status}"), &chat(false))
            }
            7 => {
                let path = format!("{openai},events=200,event_delay=20");
                break_off(server, &post(&path, &chat(true)));
                continue;
            }
            8 => post(
                &format!("{OPEN}/openai/embeddings?mock=in={}", 3 + number),
                r#"{"model":"text-embedding-3-small","input":"x"}"#,
            ),
            _ => post(
                &format!("{OPEN}/anthropic/v1/messages?mock={figures}"),
                r#"{"model":"claude-sonnet-4-6","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#,
            ),
        };
        client.send(&request);
        let answer = client.answer(Sent::of(&request));
        assert!(answer.whole, "{}", answer.head);
    }
}

/// Leaves in the middle of a stream.
fn break_off(server: &Server, request: &[u8]) {
    let mut client: Client<TcpStream> = server.connect();
    client.send(request);
    client.take_through(b"data: ");
}

/// What the provider counted of answers that it completed, at places that begin so.
fn counted(mock: &MockProvider, prefix: &str) -> Sums {
    let mut sums = Sums::default();
    let places = PICOS.into_iter();
    for (place, input, output) in places.filter(|(place, _, _)| place.starts_with(prefix)) {
        let count = |name: &str| count(mock, &format!("providers/{place}/{name}"));
        sums.requests += count("requests");
        sums.tokens_in += count("input_tokens");
        sums.tokens_out += count("output_tokens");
        sums.cost_picos += count("input_tokens") * input + count("output_tokens") * output;
    }
    sums
}

/// Dollars in decimal text as pico-dollars.
fn picos(dollars: &Value) -> u64 {
    let text = dollars.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{part:0<12}").parse().unwrap()
}

fn of_records(records: &[Value]) -> Sums {
    let mut sums = Sums::default();
    for record in records {
        sums.requests += 1;
        sums.tokens_in += record["tokens_in"].as_u64().unwrap_or(0);
        sums.tokens_out += record["tokens_out"].as_u64().unwrap_or(0);
        if !record["cost"].is_null() {
            sums.cost_picos += picos(&record["cost"]);
        }
    }
    sums
}

/// What the management API lists, page after page until one is empty, as clients do; of one
/// provider, or of all.
fn of_lists(server: &Server, gateway: &str, provider: Option<&str>, count: u64) -> Sums {
    let mut manager = Manager::of(server);
    let mut rows = Vec::new();
    for page in 1.. {
        let filter = provider.map_or_else(String::new, |provider| {
            format!("&filters.key=provider&filters.operator=eq&filters.value={provider}")
        });
        let path = format!("{GATEWAYS}/{gateway}/logs?per_page=100&page={page}{filter}");
        let list = manager.whole("GET", &path, None);
        assert_eq!(list["messages"], json!([]), "{path}");
        assert_eq!(list["result_info"]["total_count"], count, "{path}");
        let found = list["result"].as_array().unwrap();
        if found.is_empty() {
            break;
        }
        rows.extend_from_slice(found);
    }
    let ids: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len(), "no record is on two pages");
    of_records(&rows)
}

fn of_analytics(server: &Server) -> Sums {
    let query = "query { viewer { accounts(filter: {accountTag: \"me\"}) { \
                 aiGatewayRequestsAdaptiveGroups(limit: 10, filter: {}) { count dimensions { provider } \
                 sum { cost uncachedTokensIn uncachedTokensOut } } } } }";
    let body = json!({"query": query});
    let mut manager = Manager::of(server);
    let answer = manager
        .ask("POST", "/client/v4/graphql", Some(&body))
        .json();
    let groups = &answer["data"]["viewer"]["accounts"][0]["aiGatewayRequestsAdaptiveGroups"];
    let mut sums = Sums::default();
    for group in groups.as_array().unwrap() {
        sums.requests += group["count"].as_u64().unwrap();
        sums.tokens_in += group["sum"]["uncachedTokensIn"].as_u64().unwrap();
        sums.tokens_out += group["sum"]["uncachedTokensOut"].as_u64().unwrap();
        sums.cost_picos += picos(&group["sum"]["cost"]);
    }
    sums
}

fn of_groups(server: &Server) -> Sums {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "logs",
            "query",
            "--group-by",
            "provider",
            "--output",
            "ndjson",
            "--data-dir",
        ])
        .arg(server.data_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut sums = Sums::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        sums.requests += group["requests"].as_u64().unwrap();
        sums.tokens_in += group["tokens_in"].as_u64().unwrap();
        sums.tokens_out += group["tokens_out"].as_u64().unwrap();
        sums.cost_picos += picos(&group["cost"]);
    }
    sums
}

fn of_metrics(server: &Server) -> Sums {
    let text = server.figures();
    let sum = |name: &str, label: &str| {
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{'))
                && line.contains(label)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    Sums {
        requests: sum("tidegate_requests_total", ""),
        tokens_in: sum("tidegate_tokens_total", "kind=\"input\""),
        tokens_out: sum("tidegate_tokens_total", "kind=\"output\""),
        cost_picos: sum("tidegate_cost_picodollars_total", ""),
    }
}

#[test]
fn sums_are_those_that_the_provider_counted_to_the_last_picodollar() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let server = &server;
            scope.spawn(move || call(server, thread));
        }
    });
    let records = server.records_once(EXCHANGES);
    let of_kind = |kinds: &[usize]| {
        let numbers = 0..EXCHANGES_A_THREAD;
        let found = numbers.filter(|number| kinds.contains(&(number % 10)));
        (found.count() * THREADS) as u64
    };
    wait_until("the provider to notice who left", || {
        count(&mock, "total/aborted_by_peer") == of_kind(&[7])
    });
    let expected = counted(&mock, "");
    assert_eq!(expected.requests, EXCHANGES as u64);
    assert!(expected.cost_picos > 1_000_000_000, "{expected:?}");

    assert_eq!(of_records(&records), expected, "the records");
    assert_eq!(of_groups(&server), expected, "groups of the command line");
    let messages = counted(&mock, "anthropic/");
    let listed = of_lists(&server, "default", Some("anthropic"), messages.requests);
    assert_eq!(listed, messages, "the lists");
    assert_eq!(of_analytics(&server), expected, "the analytics");
    assert_eq!(of_metrics(&server), expected, "the metrics");

    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &records {
        *outcomes
            .entry(record["outcome"].as_str().unwrap())
            .or_default() += 1;
    }
    assert_eq!(outcomes["cancelled"], of_kind(&[7]), "{outcomes:?}");
    let ok = of_kind(&[0, 1, 2, 3, 4, 5, 8, 9]);
    assert_eq!(outcomes["ok"], ok, "{outcomes:?}");
}

/// Requests of the metadata value that is limited, of which so many are admitted.
const ADMITTED: u64 = 300;

/// What makes sums go wrong: answers that come twice, again, instead, not at all, or in part.
fn entangled_call(server: &Server, thread: usize) {
    let mut client = server.connect();
    for number in 0..EXCHANGES_A_THREAD {
        // Commands that no other request has: the mock counts by them how often it misbehaved.
        let figures = format!(
            "in={},out={}",
            1_000 * (thread + 1) + number,
            1 + number % 90
        );
        let openai = format!("{OPEN}/openai/chat/completions?mock=");
        let chat = |content: &str, stream: bool| {
            let mut body =
                json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}]});
            if stream {
                body["stream"] = true.into();
                body["stream_options"] = json!({"include_usage": true});
            }
            body
        };
        let plain = chat("x", false).to_string();
        let asking = |path: &str, lines: &str, body: &str| post_with(path, lines, body.as_bytes());
        let request = match number % 10 {
            0 => post(
                &format!("{OPEN}/openai/embeddings?mock=in={}", 3 + number),
                r#"{"model":"text-embedding-3-small","input":"x"}"#,
            ),
            // One of fifty answers, for everybody.
            1 | 2 => asking(
                &format!("{openai}in=77,out=7"),
                "cf-aig-cache-ttl: 3600\r\n",
                &chat(&format!("{}", number % 50), false).to_string(),
            ),
            // All threads ask the same at about the same time.
            3 => asking(
                &format!("{openai}in=55,out=5,delay=20"),
                "cf-aig-cache-ttl: 3600\r\n",
                &chat(&format!("together {number}"), false).to_string(),
            ),
            4 => asking(
                &format!("{openai}{figures},status=500,first=1"),
                "cf-aig-max-attempts: 3\r\ncf-aig-retry-delay: 1\r\n",
                &plain,
            ),
            5 => {
                let messages = json!({"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
                let steps = json!([
                    {"provider": "openai", "endpoint": "chat/completions", "headers": {"x-mock": "status=400"}, "query": chat("x", false)},
                    {"provider": "anthropic", "endpoint": "v1/messages", "headers": {"x-mock": figures}, "query": messages},
                ]);
                post(OPEN, &steps.to_string())
            }
            6 => asking(
                &format!("{openai}{figures}"),
                "cf-aig-metadata: {\"class\":\"limited\"}\r\n",
                &plain,
            ),
            7 => {
                let path = format!("{openai}{figures},events=200,event_delay=20");
                break_off(server, &post(&path, &chat("x", true).to_string()));
                continue;
            }
            8 => asking(
                &format!("{openai}{figures},status=500"),
                "cf-aig-max-attempts: 2\r\ncf-aig-retry-delay: 1\r\n",
                &plain,
            ),
            _ => post(
                &format!("{openai}{figures},events=5"),
                &chat("x", true).to_string(),
            ),
        };
        client.send(&request);
        let answer = client.answer(Sent::of(&request));
        assert!(answer.whole, "{}", answer.head);
    }
}

#[test]
fn sums_stay_exact_with_attempts_steps_hits_followers_limits_and_hang_ups() {
    let mock = mock();
    let folder = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::over(mock.addr())
            .folder(folder.path())
            .tables(PRICES)
            .gateway(&format!(
                "request_limits = [{{ limit = {ADMITTED}, window = 86400, technique = \"fixed\", by = \"metadata.class\" }}]"
            ))
    };
    let mut server = setup().start();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let server = &server;
            scope.spawn(move || entangled_call(server, thread));
        }
    });
    let of_kind = |kind: usize| {
        let numbers = 0..EXCHANGES_A_THREAD;
        (numbers.filter(|number| number % 10 == kind).count() * THREADS) as u64
    };
    // A record more for each attempt or step that another one followed.
    let followed = of_kind(4) + of_kind(5) + of_kind(8);
    let all = EXCHANGES as u64 + followed;
    let records = server.records_once(usize::try_from(all).unwrap());
    wait_until("the provider to notice who left", || {
        count(&mock, "total/aborted_by_peer") == of_kind(7)
    });
    let of_provider = counted(&mock, "");
    let with = |requests: u64| Sums {
        requests,
        ..counted(&mock, "")
    };
    assert!(of_provider.cost_picos > 1_000_000_000, "{of_provider:?}");

    // The provider was asked for all but what the cache had and what a limit refused.
    let hits = records.iter().filter(|record| record["cached"] == true);
    let hits = hits.count() as u64;
    let refused = of_kind(6) - ADMITTED;
    let is_refused = |record: &&Value| record["status_code"] == 429;
    assert_eq!(records.iter().filter(is_refused).count() as u64, refused);
    assert_eq!(of_provider.requests, all - hits - refused);
    // Each answer that was kept was asked for once: fifty, less those of other kinds, and one a number.
    let asked_once = [1, 2].map(|kind| (0..50).filter(move |n| n % 10 == kind).count());
    let asked_once = asked_once.iter().sum::<usize>() as u64 + of_kind(3) / THREADS as u64;
    assert_eq!(hits, of_kind(1) + of_kind(2) + of_kind(3) - asked_once);

    assert_eq!(of_records(&records), with(all), "the records");
    let exchanges = with(EXCHANGES as u64);
    assert_eq!(of_groups(&server), exchanges, "groups of the command line");
    assert_eq!(of_analytics(&server), exchanges, "the analytics");
    assert_eq!(of_metrics(&server), exchanges, "the metrics");
    let messages = counted(&mock, "anthropic/");
    assert_eq!(messages.requests, of_kind(5));
    let listed = of_lists(&server, "default", Some("anthropic"), messages.requests);
    assert_eq!(listed, messages, "the lists of one provider");

    // Page by page through all of them. Records that are not sealed yet are read whole for each page,
    // which takes a debug build a second.
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let server = setup().start();
    wait_until("the records of before to be sealed", || {
        let files = fs::read_dir(folder.path().join("data/log")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("journal-")).count() <= 1
    });
    let listed = of_lists(&server, "default", None, all);
    assert_eq!(listed, with(all), "the lists");
    assert_eq!(
        of_analytics(&server),
        exchanges,
        "the analytics of sealed records"
    );
}
