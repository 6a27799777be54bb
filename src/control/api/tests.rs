use std::io;

use serde_json::{Value, json};

use super::*;
use crate::{
    config::{Config, secret::Secret},
    control::{
        logs::{deletion::LogDeleter, folder::LogDir},
        reload::standing::Change,
    },
    domain::record::Record,
    handoff::{counters::Plain, log_health::LogWork, mailbox::letterbox},
};

/// A server without shards: the test takes their mail.
struct Bench {
    ask: Post<Question>,
    shards: Vec<Letterbox<Order>>,
    health: Arc<LogHealth>,
    draining: Arc<AtomicBool>,
    standing: Arc<Standing>,
    _api: Api,
    _dir: tempfile::TempDir,
}

fn bench(shards: usize, config: &Config) -> Bench {
    let (ask, questions) = letterbox().unwrap();
    let (posts, shards): (Vec<_>, Vec<_>) = (0..shards).map(|_| letterbox().unwrap()).unzip();
    let health = Arc::<LogHealth>::default();
    let draining = Arc::<AtomicBool>::default();
    let standing = Arc::new(Standing::new(config));
    let parts = ApiParts {
        shards: posts,
        log_health: Arc::clone(&health),
        log_counters: Vec::new(),
        driver: "epoll".to_owned(),
        driver_reason: None,
        draining: Arc::clone(&draining),
        standing: Arc::clone(&standing),
    };
    let dir = tempfile::tempdir().unwrap();
    // Nobody takes over what is made here.
    let (reload, _) = letterbox().unwrap();
    let state = ApiState {
        stores: [0; 2].map(|_| Store::open(dir.path()).unwrap()),
        records: Records {
            log: LogDir::of(dir.path()),
            deleter: Arc::new(LogDeleter::new(LogDir::of(dir.path()))),
        },
        vault: Vault::new(&Secret::new("a master key".to_owned())),
        reload,
    };
    Bench {
        ask,
        shards,
        health,
        draining,
        standing,
        _api: start(questions, parts, state).unwrap(),
        _dir: dir,
    }
}

impl Bench {
    fn ask(&self, ticket: u64, target: &str) {
        let call = ApiCall {
            method: "GET".into(),
            target: target.into(),
            host: "localhost".into(),
            content_type: "".into(),
            body: Vec::new(),
            key: "app".into(),
            read: true,
            edit: true,
        };
        let call = Box::new(call);
        assert!(
            self.ask
                .send(Question::Api {
                    shard: 0,
                    ticket,
                    call
                })
                .is_ok()
        );
    }

    fn order(&self, shard: usize) -> Order {
        loop {
            if let Some(order) = self.shards[shard].wait(Duration::from_secs(30)) {
                return order;
            }
        }
    }

    /// What shard 0 is told next must be an answer.
    fn answer(&self) -> (u64, ApiAnswer) {
        match self.order(0) {
            Order::Answer { ticket, answer } => (ticket, answer),
            _ => panic!("another order"),
        }
    }

    /// What the shard is told next must be a question for its counts.
    fn count(&self, shard: usize) -> crossbeam_channel::Sender<Box<Counters>> {
        match self.order(shard) {
            Order::Count(reply) => reply,
            _ => panic!("another order"),
        }
    }

    fn json(&self, target: &str) -> (u16, Value) {
        self.ask(1, target);
        let (_, answer) = self.answer();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }
}

fn counters(malformed: u64) -> Box<Counters> {
    let mut counters = Counters::default();
    counters.add(Plain::Malformed, malformed);
    counters.exchange("g", "openai", "m", &Record::default(), None);
    Box::new(counters)
}

fn line(answer: &ApiAnswer, name: &str) -> String {
    let text = std::str::from_utf8(&answer.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.to_owned()
}

#[test]
fn a_server_is_live_when_every_shard_answers() {
    let bench = bench(2, &Config::default());
    bench.ask(7, "/livez");
    for shard in 0..2 {
        bench.count(shard).send(counters(1)).unwrap();
    }
    let (ticket, answer) = bench.answer();
    assert_eq!((ticket, answer.status), (7, 200));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body, json!({"status": "live", "shards": 2, "silent": 0}));
}

#[test]
fn a_shard_that_is_gone_makes_the_server_stuck_but_not_unready() {
    let mut bench = bench(2, &Config::default());
    bench.shards.pop();
    bench.ask(1, "/livez");
    bench.count(0).send(counters(1)).unwrap();
    let (_, answer) = bench.answer();
    assert_eq!(answer.status, 503);
    assert_eq!(bench.json("/readyz").0, 200);
}

#[test]
fn a_scrape_that_waits_holds_nobody_up() {
    let bench = bench(2, &Config::default());
    bench.ask(1, "/metrics");
    let (first, second) = (bench.count(0), bench.count(1));
    // The counts are still awaited.
    bench.ask(2, "/readyz");
    assert_eq!(bench.answer().0, 2);
    first.send(counters(1)).unwrap();
    second.send(counters(2)).unwrap();
    let (ticket, answer) = bench.answer();
    assert_eq!((ticket, answer.status), (1, 200));
    assert_eq!(
        answer.content_type,
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(line(&answer, "tidegate_malformed_requests_total "), "3");
    assert_eq!(line(&answer, "tidegate_shards_silent "), "0");
}

#[test]
fn a_silent_shard_keeps_its_last_counts_and_is_counted() {
    let bench = bench(2, &Config::default());
    bench.ask(1, "/metrics");
    bench.count(0).send(counters(1)).unwrap();
    bench.count(1).send(counters(5)).unwrap();
    assert_eq!(
        line(&bench.answer().1, "tidegate_malformed_requests_total "),
        "6"
    );
    bench.ask(2, "/metrics");
    bench.count(0).send(counters(2)).unwrap();
    // The reply's channel closes without a reply: the shard will not answer.
    drop(bench.count(1));
    let (_, answer) = bench.answer();
    assert_eq!(line(&answer, "tidegate_malformed_requests_total "), "7");
    assert_eq!(line(&answer, "tidegate_shards_silent "), "1");
}

#[test]
fn a_shard_that_never_answers_is_given_up_after_the_limit() {
    let bench = bench(1, &Config::default());
    bench.ask(1, "/livez");
    let _held = bench.count(0);
    assert_eq!(bench.answer().1.status, 503);
}

#[test]
fn more_checks_than_collections_share_the_youngest() {
    let bench = bench(1, &Config::default());
    let all = COUNTS_MAX as u64 + 3;
    for ticket in 0..all {
        bench.ask(ticket, "/livez");
    }
    let mut answered = 0;
    while answered < all {
        match bench.order(0) {
            Order::Count(reply) => reply.send(counters(1)).unwrap(),
            Order::Answer { answer, .. } => {
                assert_eq!(answer.status, 200);
                answered += 1;
            }
            _ => panic!("another order"),
        }
    }
}

#[test]
fn degraded_parts_are_named_and_draining_is_not_ready() {
    let bench = bench(1, &Config::default());
    let ready = json!({"status": "ready", "degraded": []});
    assert_eq!(bench.json("/readyz"), (200, ready));
    bench
        .health
        .failed(LogWork::WriteRecords, &io::Error::from_raw_os_error(28));
    let degraded = json!([{
        "component": "log",
        "message": "cannot write records: No space left on device (os error 28)",
    }]);
    let (status, body) = bench.json("/readyz");
    assert_eq!((status, &body["degraded"]), (200, &degraded));
    bench.standing.failed(Change::Keys);
    let (status, body) = bench.json("/readyz");
    assert_eq!(
        (status, &body["degraded"][1]["component"]),
        (200, &json!("config"))
    );
    bench.draining.store(true, Ordering::Relaxed);
    let (status, body) = bench.json("/readyz");
    assert_eq!((status, &body["status"]), (503, &json!("draining")));
}

#[test]
fn a_server_that_must_record_and_cannot_is_not_ready() {
    let config = Config {
        log_required: true,
        ..Config::default()
    };
    let bench = bench(1, &config);
    bench
        .health
        .failed(LogWork::WriteRecords, &io::Error::from_raw_os_error(28));
    let (status, body) = bench.json("/readyz");
    assert_eq!((status, &body["status"]), (503, &json!("unavailable")));
}

#[test]
fn clients_find_their_account_and_token() {
    let config = Config {
        account_id: Some("acme".to_owned()),
        ..Config::default()
    };
    let bench = bench(1, &config);
    let (status, body) = bench.json("/client/v4/user/tokens/verify");
    assert_eq!((status, &body["result"]["status"]), (200, &json!("active")));
    let (_, body) = bench.json("/client/v4/accounts");
    assert_eq!(body["result"][0]["id"], "acme");
    assert_eq!(
        bench.json("/client/v4/accounts?page=2").1["result"],
        json!([])
    );
    let (status, body) = bench.json("/client/v4/accounts/acme/ai-gateway/gateways");
    assert_eq!((status, &body["result"]), (200, &json!([])));
    for path in [
        "/client/v4/accounts/other/ai-gateway/gateways",
        "/client/v4/accounts/acme/x",
    ] {
        let (status, body) = bench.json(path);
        assert_eq!((status, &body["errors"][0]["code"]), (404, &json!(7003)));
    }
}

#[test]
fn browsers_get_a_page_that_loads_nothing() {
    let bench = bench(1, &Config::default());
    for path in ["/", "/dashboard", "/dashboard/logs"] {
        bench.ask(1, path);
        let (_, answer) = bench.answer();
        assert_eq!(
            (answer.status, answer.content_type),
            (200, "text/html; charset=utf-8")
        );
        assert_eq!(answer.fields[0].0, "content-security-policy");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.contains("not part of this version") && !text.contains("http"),
            "{path}"
        );
    }
}
