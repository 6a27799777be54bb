//! Analytics by GraphQL: what was asked through the gateway is counted, on whichever shard and with
//! or without logging.

use serde_json::{Value, json};

use crate::support::{
    client::{Answer, chat, post, post_with},
    server::{API_TOKEN, OPEN, Server, Setup, TOKEN},
    upstream::mock,
    wait::wait_until,
};

const PRICES: &str = r#"
[prices]
"openai/gpt-4o" = { input = "2.53", output = "10.07" }
"#;

/// As documented, variables undeclared.
const QUERY: &str = "query{ viewer { accounts(filter: { accountTag: \"me\" }) {
    requests: aiGatewayRequestsAdaptiveGroups(
        limit: $limit
        filter: { datetimeHour_geq: $start, datetimeHour_leq: $end }
        orderBy: [count_DESC]
    ) {
        count,
        dimensions { model, provider, gateway }
        sum { cost erroredRequests cachedRequests uncachedTokensIn uncachedTokensOut }
        quantiles { durationMsP50 }
    } } } }";

fn post_query(server: &Server, token: &str, body: &Value) -> Answer {
    let lines = format!("Authorization: Bearer {token}\r\n");
    let body = body.to_string();
    server.ask(&post_with("/client/v4/graphql", &lines, body.as_bytes()))
}

fn ask(server: &Server, query: &str) -> Value {
    let variables = json!({
        "limit": 1000,
        "start": "2020-01-01T00:00:00Z",
        "end": "2100-01-01T00:00:00.000Z",
    });
    let body = json!({"query": query, "variables": variables});
    let answer = post_query(server, API_TOKEN, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/json"));
    answer.json()
}

fn groups(answer: &Value) -> &[Value] {
    let groups = &answer["data"]["viewer"]["accounts"][0]["requests"];
    groups.as_array().map_or(&[], Vec::as_slice)
}

fn counted(answer: &Value) -> u64 {
    groups(answer)
        .iter()
        .filter_map(|group| group["count"].as_u64())
        .sum()
}

#[test]
fn exchanges_through_the_gateway_are_counted_by_what_is_selected() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let completions = format!("{OPEN}/openai/chat/completions");
    for (number, lines) in ["", "", "cf-aig-collect-log: false\r\n"].iter().enumerate() {
        let path = format!("{completions}?mock=in=100{number},out=7");
        let metadata = format!("{lines}cf-aig-metadata: {{\"task\":\"t{number}\"}}\r\n");
        let answer = server.ask(&post_with(&path, &metadata, chat("").as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let failed = server.ask(&post(&completions, &chat("+status=500")));
    assert_eq!(failed.status, 500, "{}", failed.text());

    let mut answer = Value::Null;
    wait_until("four requests counted", || {
        answer = ask(&server, QUERY);
        counted(&answer) == 4
    });
    assert_eq!(answer.get("errors"), None, "{answer:#}");
    let [group, other] = groups(&answer) else {
        panic!("{answer:#}");
    };
    let name = json!({"model": "gpt-4o", "provider": "openai", "gateway": "default"});
    assert_eq!(group["dimensions"], name);
    assert_eq!(group["count"], 3);
    let median = &group["quantiles"]["durationMsP50"];
    assert!(
        median.as_f64().is_some_and(|median| median > 0.0),
        "{answer:#}"
    );
    // 3003 × 2.53 + 21 × 10.07 = 7809.06 millionths.
    assert_eq!(
        group["sum"].to_string(),
        "{\"cost\":0.00780906,\"erroredRequests\":0,\"cachedRequests\":0,\
         \"uncachedTokensIn\":3003,\"uncachedTokensOut\":21}"
    );
    assert_eq!(other["dimensions"]["model"], "gpt-4o+status=500");
    assert_eq!(
        (&other["count"], &other["sum"]["erroredRequests"]),
        (&json!(1), &json!(1))
    );

    // What was not logged has no metadata.
    let tasks = QUERY.replace(
        "model, provider, gateway",
        "task: metadataValue(key: \"task\")",
    );
    let answer = ask(&server, &tasks);
    let mut counts: Vec<_> = groups(&answer)
        .iter()
        .map(|group| {
            (
                group["dimensions"]["task"].as_str(),
                group["count"].as_u64(),
            )
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(
        counts,
        [
            (None, Some(2)),
            (Some("t0"), Some(1)),
            (Some("t1"), Some(1))
        ],
        "{answer:#}"
    );
    let tasks = tasks.replace(
        "datetimeHour_leq: $end",
        "datetimeHour_leq: $end, metadataRaw_like: \"%task%\"",
    );
    let answer = ask(&server, &tasks);
    let names = groups(&answer)
        .iter()
        .map(|group| group["dimensions"]["task"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["t0", "t1"], "{answer:#}");
}

#[test]
fn a_wrong_query_is_an_error_within_a_success() {
    let server = Setup::new().start();
    let answer = ask(&server, "{ viewer { nothing } }");
    let error = answer["errors"][0]["message"].as_str();
    assert!(
        error.is_some_and(|error| error.contains("nothing")),
        "{answer:#}"
    );
    assert_eq!(answer["data"], Value::Null);

    let introspection = ask(&server, "{ __schema { queryType { name } } }");
    assert_eq!(
        introspection["data"]["__schema"]["queryType"]["name"],
        "Query"
    );
    let body = json!({"query": QUERY});
    assert_eq!(post_query(&server, TOKEN, &body).status, 403);
    assert_eq!(post_query(&server, "wrong", &body).status, 401);
    assert_eq!(post_query(&server, API_TOKEN, &json!([])).status, 400);
}
