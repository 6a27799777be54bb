//! Heads in functions: found while they arrive, then taken apart.
//!
//! `cargo bench --bench head`; times are for one head or one path.
#![expect(clippy::unwrap_used, reason = "a bench, which may fail")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::http::head::{HeadScan, Method, parse_request, parse_response};
use tidegate::http::target::has_dot_segment;

/// As the load generator sends it: few fields.
const PLAIN: &str = "POST /v1/bench/default/openai/chat/completions HTTP/1.1\r\n\
    host: 127.0.0.1:8787\r\n\
    user-agent: load/1.0\r\n\
    accept: */*\r\n\
    accept-encoding: identity\r\n\
    authorization: Bearer sk-bench-0123456789abcdef0123456789abcdef\r\n\
    content-type: application/json\r\n\
    cf-aig-metadata: {\"team\":\"search\"}\r\n\
    content-length: 1024\r\n\r\n";

/// As the OpenAI Python SDK sends it: 552 bytes.
const SDK: &str = "POST /v1/me/default/openai/chat/completions HTTP/1.1\r\n\
    Host: 127.0.0.1:8787\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Connection: keep-alive\r\n\
    Accept: application/json\r\n\
    Content-Type: application/json\r\n\
    User-Agent: OpenAI/Python 2.8.1\r\n\
    X-Stainless-Lang: python\r\n\
    X-Stainless-Package-Version: 2.8.1\r\n\
    X-Stainless-OS: Linux\r\n\
    X-Stainless-Arch: x64\r\n\
    X-Stainless-Runtime: CPython\r\n\
    X-Stainless-Runtime-Version: 3.13.5\r\n\
    Authorization: Bearer sk-0123456789abcdef012\r\n\
    X-Stainless-Async: false\r\n\
    x-stainless-retry-count: 0\r\n\
    x-stainless-read-timeout: 600\r\n\
    Content-Length: 184\r\n\r\n";

/// As a provider behind a content delivery network answers.
const ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    Date: Fri, 21 Nov 2025 10:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Transfer-Encoding: chunked\r\n\
    x-request-id: req_0123456789abcdef0123456789abcdef\r\n\
    openai-processing-ms: 812\r\n\r\n";

/// A request of 30 fields: the SDK's behind two proxies.
fn crowded() -> String {
    let mut head = SDK.trim_end().to_owned();
    for number in 0..12 {
        write!(head, "\r\nX-Added-By-Proxy-{number}: value number {number}").unwrap();
    }
    head.push_str("\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
    head
}

fn find(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, head: &str) {
    group.throughput(Throughput::Bytes(head.len() as u64));
    group.bench_function(format!("find end, {name}"), |b| {
        b.iter(|| HeadScan::request().find_end(black_box(head.as_bytes()), 1 << 15));
    });
}

fn requests(c: &mut Criterion) {
    let crowded = crowded();
    let mut group = c.benchmark_group("request");
    for (name, head) in [
        ("8 fields", PLAIN),
        ("SDK, 17 fields", SDK),
        ("30 fields", crowded.as_str()),
    ] {
        find(&mut group, name, head);
        group.bench_function(format!("parse, {name}"), |b| {
            b.iter(|| {
                parse_request(black_box(head.as_bytes()))
                    .unwrap()
                    .fields
                    .len()
            });
        });
    }
    group.finish();
}

fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("response");
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("find end, 5 fields", |b| {
        b.iter(|| HeadScan::response().find_end(black_box(ANSWER.as_bytes()), 1 << 15));
    });
    group.bench_function("parse, 5 fields", |b| {
        b.iter(|| {
            let head = parse_response(black_box(ANSWER.as_bytes()), Method::Post);
            head.unwrap().fields.len()
        });
    });
    group.finish();
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for (name, path) in [
        ("chat", "/chat/completions"),
        (
            "dots, query",
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ),
        (
            "encoded",
            "/models/anthropic%2Fclaude-sonnet-4.5%2Fmessages",
        ),
    ] {
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_function(format!("has dot segment, {name}"), |b| {
            b.iter(|| has_dot_segment(black_box(path.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, requests, responses, paths);
criterion_main!(benches);
