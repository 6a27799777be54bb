use std::io;

use super::*;
use crate::{
    domain::record::Record,
    handoff::{counters::Attempted, log_health::LogWork},
};

fn record(cost: Option<u64>) -> Record {
    Record {
        duration_micros: 700,
        overhead_micros: 40,
        first_token_micros: Some(1_500_000),
        tokens_input: Some(10),
        tokens_output: Some(5),
        cost,
        ..Record::default()
    }
}

fn text(counters: &Counters) -> String {
    let health = LogHealth::default();
    health.wrote_records(3, 4096);
    health.failed(LogWork::WriteBodies, &io::Error::from_raw_os_error(28));
    let process = Process {
        cpu_micros: Some(2_500_000),
        resident_bytes: Some(4096),
        virtual_bytes: Some(8192),
        open_fds: Some(7),
        max_fds: Some(1024),
        start_seconds: Some(1_700_000_000),
    };
    exposition(&Sources {
        counters,
        loads: &[
            Load {
                busy_ppm: 250_000,
                lag_micros: 1_500,
            },
            Load::default(),
        ],
        shards_silent: 1,
        log_health: &health,
        log_counters: &[],
        reloads: [3, 1],
        degraded: &[("log", true), ("config", false)],
        driver: "epoll",
        driver_reason: "io_uring_setup: \"EPERM\"",
        process: &process,
    })
    .unwrap()
}

fn lines<'a>(text: &'a str, family: &Family) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.starts_with(family.name))
        .collect()
}

#[test]
fn the_exposition_has_every_family_in_order_and_nothing_else() {
    let mut counters = Counters::default();
    counters.exchange("default", "openai", "gpt-4o", &record(Some(5)), None);
    counters.attempt("openai", Attempted::Answered);
    let text = text(&counters);
    let described: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let expected: Vec<_> = names::ALL
        .iter()
        .map(|family| {
            format!(
                "{} {}",
                family.name,
                format!("{:?}", family.kind).to_lowercase()
            )
        })
        .collect();
    assert_eq!(described, expected);
    for family in names::ALL {
        assert!(
            !lines(&text, family).is_empty(),
            "{} has no series",
            family.name
        );
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)));
    }
}

#[test]
fn sums_are_exact_and_labels_escaped() {
    let mut counters = Counters::default();
    let model = "my\"model\\\n";
    counters.exchange("g", "openai", model, &record(Some(u64::MAX)), None);
    counters.exchange("g", "openai", model, &record(Some(u64::MAX)), None);
    counters.exchange("g", "openai", model, &record(None), None);
    let text = text(&counters);
    let by = r#"gateway="g",provider="openai",model="my\"model\\\n""#;
    assert_eq!(
        lines(&text, &names::COST),
        [format!(
            "tidegate_cost_picodollars_total{{{by}}} 36893488147419103230"
        )]
    );
    assert_eq!(
        lines(&text, &names::REQUESTS),
        [format!("tidegate_requests_total{{{by},outcome=\"ok\"}} 3")]
    );
    assert_eq!(
        lines(&text, &names::TOKENS)[..2],
        [
            format!("tidegate_tokens_total{{{by},kind=\"input\"}} 30"),
            format!("tidegate_tokens_total{{{by},kind=\"output\"}} 15"),
        ]
    );
    assert_eq!(
        lines(&text, &names::UNPRICED),
        [format!("tidegate_unpriced_requests_total{{{by}}} 1")]
    );
}

#[test]
fn distributions_are_cumulative_in_exact_seconds() {
    let mut counters = Counters::default();
    counters.exchange("g", "openai", "m", &record(None), None);
    counters.exchange("g", "openai", "m", &record(None), None);
    let text = text(&counters);
    let lines = lines(&text, &names::DURATION);
    let by = r#"{gateway="g",provider="openai""#;
    let line = |index: usize| {
        lines[index]
            .strip_prefix("tidegate_request_duration_seconds")
            .unwrap()
    };
    assert_eq!(line(0), format!("_bucket{by},le=\"0.0001\"}} 0"));
    assert_eq!(line(2), format!("_bucket{by},le=\"0.0005\"}} 0"));
    assert_eq!(line(3), format!("_bucket{by},le=\"0.001\"}} 2"));
    assert_eq!(line(12), format!("_bucket{by},le=\"1.0\"}} 2"));
    assert_eq!(line(16), format!("_bucket{by},le=\"+Inf\"}} 2"));
    assert_eq!(line(17), format!("_sum{by}}} 0.0014"));
    assert_eq!(line(18), format!("_count{by}}} 2"));
    assert_eq!(lines.len(), 19);
}

#[test]
fn output_speed_has_bounds_of_its_own() {
    let mut counters = Counters::default();
    counters.exchange("g", "openai", "m", &record(None), Some(200_000));
    let text = text(&counters);
    let by = r#"{gateway="g",provider="openai""#;
    for line in [
        format!("_bucket{by},le=\"20.0\"}} 0"),
        format!("_bucket{by},le=\"30.0\"}} 1"),
        format!("_bucket{by},le=\"1000.0\"}} 1"),
        format!("_sum{by}}} 25.0"),
        format!("_count{by}}} 1"),
    ] {
        let line = format!("tidegate_output_tokens_per_second{line}");
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn the_state_of_the_server_is_told() {
    let mut counters = Counters::default();
    counters.attempt("openai", Attempted::Timeout);
    counters.add(Plain::UpstreamOpen, 3);
    counters.set(Plain::UpstreamIdle, 1);
    let text = text(&counters);
    for line in [
        "tidegate_shards 2",
        "tidegate_shards_silent 1",
        "tidegate_log_records_total{result=\"written\"} 3",
        "tidegate_shard_busy_ratio{shard=\"0\"} 0.25",
        "tidegate_shard_loop_lag_seconds{shard=\"0\"} 0.0015",
        "tidegate_shard_loop_lag_seconds{shard=\"1\"} 0.0",
        "tidegate_upstream_connections{state=\"active\"} 2",
        "tidegate_upstream_connections{state=\"idle\"} 1",
        "tidegate_upstream_attempts_total{provider=\"openai\",result=\"timeout\"} 1",
        "tidegate_log_disk_bytes 4096",
        "tidegate_log_failures_total 1",
        "tidegate_degraded{component=\"log\"} 1",
        "tidegate_degraded{component=\"config\"} 0",
        "tidegate_config_reloads_total{result=\"success\"} 3",
        "tidegate_config_reloads_total{result=\"failure\"} 1",
        r#"tidegate_io_driver_info{driver="epoll",reason="io_uring_setup: \"EPERM\""} 1"#,
        "process_cpu_seconds_total 2.5",
        "process_start_time_seconds 1700000000",
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
}

/// Whoever has Prometheus' own checker can have it look at the text: `promtool check metrics`.
#[test]
fn prometheus_own_checker_accepts_the_text() {
    use std::process::{Command, Stdio};
    let Ok(promtool) = std::env::var("PROMTOOL") else {
        return;
    };
    let mut counters = Counters::default();
    counters.exchange("g", "openai", "m\"\\\n", &record(Some(u64::MAX)), None);
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    io::Write::write_all(&mut input, text(&counters).as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
