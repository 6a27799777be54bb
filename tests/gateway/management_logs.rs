//! Records through the management API: lists, filters, feedback, bodies, deletion, evaluations.

use serde_json::{Value, json};

use super::management::{GATEWAYS, Manager, gateway};
use crate::support::{
    client::{chat, chat_stream, post_with},
    server::{Server, Setup},
    upstream::mock,
    wait::wait_until,
};

const PRICES: &str = "[prices]\n\"openai/gpt-4o\" = { input = \"1\", output = \"2\" }\n";

fn logs(rest: &str) -> String {
    format!("{GATEWAYS}/g/logs{rest}")
}

fn call(server: &Server, id: &str, lines: &str, body: &str) {
    let path = format!("/v1/me/{id}/openai/chat/completions");
    server.ask(&post_with(&path, lines, body.as_bytes()));
}

/// Three records of gateway `g`: plain, stream, error; and one of another.
fn stage(server: &Server, manager: &mut Manager) {
    for id in ["g", "other"] {
        manager.result("POST", GATEWAYS, Some(&gateway(id, &json!({}))));
    }
    call(
        server,
        "g",
        "cf-aig-metadata: {\"user\":\"ada\",\"n\":7}\r\nUser-Agent: first/1\r\n",
        &chat(""),
    );
    call(
        server,
        "g",
        "cf-aig-metadata: {\"user\":\"bob\"}\r\n",
        &chat_stream(""),
    );
    call(server, "g", "", &chat("+status=500"));
    call(server, "other", "", &chat(""));
    server.records_once(4);
}

fn ids(list: &Value) -> Vec<&str> {
    list["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect()
}

#[test]
fn records_are_listed_newest_first_with_what_the_contract_names() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs("?meta_info=true"), None);
    let rows = list["result"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let status: Vec<_> = rows.iter().map(|row| &row["status_code"]).collect();
    assert_eq!(status, [500, 200, 200]);
    let first = &rows[2];
    for (name, value) in [
        ("provider", json!("openai")),
        ("model", json!("openai/gpt-4o")),
        ("model_type", json!("text-generation")),
        ("path", json!("/openai/v1/chat/completions")),
        ("success", json!(true)),
        ("cached", json!(false)),
        ("metadata", json!({"user": "ada", "n": 7})),
        ("user_agent", json!("first/1")),
        ("feedback", Value::Null),
        ("step", json!(0)),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    let tokens = first["tokens_in"].as_u64().unwrap() + 2 * first["tokens_out"].as_u64().unwrap();
    // A dollar for a million tokens is a millionth for each.
    let cost = first["cost"].to_string();
    let cost = tidegate::domain::money::parse_dollars(&cost).unwrap();
    assert_eq!(cost.0, tokens * 1_000_000);
    assert_eq!(rows[0]["cost"], Value::Null);
    let info = &list["result_info"];
    assert_eq!(
        (&info["count"], &info["total_count"]),
        (&json!(3), &json!(3))
    );
    assert!(info["min_duration"].as_u64() <= info["max_duration"].as_u64());
    assert!(info["min_tokens_in"].as_u64() <= info["max_tokens_in"].as_u64());
    assert!(info["min_cost"].as_f64().unwrap() > 0.0);
    assert_eq!(
        info["max_total_tokens"].as_u64(),
        rows[1..]
            .iter()
            .map(|row| row["tokens_in"].as_u64().unwrap() + row["tokens_out"].as_u64().unwrap())
            .max()
    );
    // Pages cut the list, and the one behind the last is empty.
    let all = ids(&list);
    for (query, expected) in [
        ("?per_page=2", &all[..2]),
        ("?per_page=2&page=2", &all[2..]),
        ("?per_page=2&page=3", &[][..]),
        ("?page=99999999999", &[][..]),
    ] {
        let page = manager.whole("GET", &logs(query), None);
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["result_info"]["total_count"], 3, "{query}");
    }
    let mut turned = all.clone();
    turned.reverse();
    let list = manager.whole(
        "GET",
        &logs("?order_by=created_at&order_by_direction=asc"),
        None,
    );
    assert_eq!(ids(&list), turned);
    manager.refused(
        "GET",
        &logs("?order_by=cost"),
        None,
        400,
        &[(7001, "query.order_by")],
    );
    manager.refused(
        "GET",
        &format!("{GATEWAYS}/none/logs"),
        None,
        404,
        &[(7002, "")],
    );
}

#[test]
fn every_form_of_a_filter_finds_the_same_records() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs(""), None);
    let all: Vec<_> = ids(&list).into_iter().map(str::to_owned).collect();
    let [failed, bob, ada] = [&all[0], &all[1], &all[2]];
    let json = "filters=%5B%7B%22key%22%3A%22metadata.value%22%2C%22operator%22%3A%22eq%22%2C%22value%22%3A%5B%22ada%22%2C%22bob%22%5D%7D%2C%7B%22key%22%3A%22tokens_in%22%2C%22operator%22%3A%22gt%22%2C%22value%22%3A%5B0%5D%7D%5D";
    for (query, expected) in [
        (json, vec![bob, ada]),
        (
            "filters.key=metadata.value&filters.operator=eq&filters.value=ada&filters.value=bob&filters.key=tokens_in&filters.operator=gt&filters.value=0",
            vec![bob, ada],
        ),
        (
            "filters.key=metadata.value&filters.key=tokens_in&filters.operator=eq&filters.operator=gt&filters.value=ada&filters.value=0",
            vec![ada],
        ),
        (
            "filters.key=success&filters.operator=eq&filters.value=false",
            vec![failed],
        ),
        (
            "filters.key=user_agent&filters.operator=contains&filters.value=first",
            vec![ada],
        ),
        (
            "filters.key=metadata.key&filters.operator=neq&filters.value=user",
            vec![failed],
        ),
        (
            "filters.key=cost&filters.operator=eq&filters.value=null",
            vec![failed],
        ),
        (
            "filters.key=feedback&filters.operator=eq&filters.value=1",
            vec![],
        ),
        ("success=true", vec![bob, ada]),
        ("success=0&provider=openai", vec![failed]),
        ("min_tokens_in=1", vec![bob, ada]),
        ("max_cost=0", vec![]),
        ("start_date=2020-01-01&end_date=2020-01-02", vec![]),
        ("start_date=2020-01-01", vec![failed, bob, ada]),
        ("search=ADA", vec![ada]),
        ("search=%22BOB%22&success=true", vec![bob]),
        ("search=in+no+record", vec![]),
        ("success=&model=&search=", vec![failed, bob, ada]),
        (
            "order_by=success&order_by_direction=asc&per_page=1",
            vec![failed],
        ),
    ] {
        let list = manager.whole("GET", &logs(&format!("?{query}")), None);
        assert_eq!(ids(&list), expected, "{query}");
    }
    let one = format!("filters.key=id&filters.operator=eq&filters.value={bob}");
    assert_eq!(
        ids(&manager.whole("GET", &logs(&format!("?{one}")), None)),
        [bob]
    );
    let query = "?filters.key=metadata.user&filters.operator=eq&filters.value=x";
    manager.refused(
        "GET",
        &logs(query),
        None,
        400,
        &[(7001, "query.filters.0.key")],
    );
}

#[test]
fn a_record_is_shown_in_full_marked_and_its_bodies_given_back() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs(""), None);
    let id = ids(&list)[2].to_owned();
    let one = logs(&format!("/{id}"));
    // Bodies reach the disk a moment after their record.
    let mut detail = Value::Null;
    wait_until("bodies", || {
        detail = manager.result("GET", &one, None);
        detail["request_head"].is_string() && detail["response_head_complete"] == true
    });
    let sent = chat("");
    assert_eq!(detail["request_head"], *sent);
    assert_eq!(detail["request_head_complete"], true);
    assert_eq!(detail["request_size"], sent.len());
    assert!(
        detail["response_head"]
            .as_str()
            .unwrap()
            .contains("chat.completion")
    );
    for name in [
        "event_id",
        "timings",
        "usage_metadata",
        "dlp_results",
        "authentication",
    ] {
        assert!(detail.get(name).is_some(), "{name}");
    }
    // Not unwrapped: the stored documents themselves.
    let request = manager.ask("GET", &format!("{one}/request"), None);
    assert_eq!((request.status, request.text()), (200, sent));
    assert_eq!(request.field("content-type"), Some("application/json"));
    let response = manager.ask("GET", &format!("{one}/response"), None);
    assert_eq!(
        (response.status, &response.json()["object"]),
        (200, &json!("chat.completion"))
    );
    let stream = logs(&format!("/{}/response", ids(&list)[1]));
    wait_until("the stream's body", || {
        let answer = manager.ask("GET", &stream, None);
        answer.status == 200 && answer.text().starts_with("data: ")
    });

    let mark = json!({"feedback": 1, "score": 87.5, "metadata": {"judge": "eve"}});
    assert_eq!(manager.result("PATCH", &one, Some(&mark)), json!({}));
    let detail = manager.result("GET", &one, None);
    assert_eq!(
        (&detail["feedback"], &detail["score"]),
        (&json!(1), &json!(87.5))
    );
    assert_eq!(detail["metadata"], json!({"judge": "eve"}));
    let found = manager.whole(
        "GET",
        &logs("?filters.key=feedback&filters.operator=eq&filters.value=1"),
        None,
    );
    assert_eq!(ids(&found), [&*id]);
    // What people say takes the place of what the request said, in filters too.
    for (value, expected) in [("eve", vec![&*id]), ("ada", vec![])] {
        let query =
            format!("?filters.key=metadata.value&filters.operator=eq&filters.value={value}");
        let found = manager.whole("GET", &logs(&query), None);
        assert_eq!(ids(&found), expected, "{value}");
    }
    manager.result(
        "PATCH",
        &one,
        Some(&json!({"feedback": null, "metadata": null})),
    );
    let detail = manager.result("GET", &one, None);
    assert_eq!(
        (&detail["feedback"], &detail["score"]),
        (&Value::Null, &json!(87.5))
    );
    assert_eq!(detail["metadata"], json!({"user": "ada", "n": 7}));
    manager.refused(
        "PATCH",
        &one,
        Some(&json!({"feedback": 2, "score": "x", "metadata": {"a": []}})),
        400,
        &[
            (7001, "body.feedback"),
            (7001, "body.score"),
            (7001, "body.metadata.a"),
        ],
    );
    // Another gateway's record, an unknown one, and what is no id.
    for path in [
        format!("{GATEWAYS}/other/logs/{id}"),
        logs("/01900000-0000-7000-8000-000000000000"),
        logs("/x"),
        logs("/x/request"),
    ] {
        manager.refused("GET", &path, None, 404, &[(7002, "")]);
    }
}

#[test]
fn deleted_records_are_gone_for_good_and_no_others() {
    let mock = mock();
    let mut server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs(""), None);
    let all: Vec<_> = ids(&list).into_iter().map(str::to_owned).collect();
    let unclear = "?filters.key=cost&filters.key=model&filters.operator=gt&filters.value=1";
    manager.refused(
        "DELETE",
        &logs(unclear),
        None,
        400,
        &[(7001, "query.filters")],
    );
    let gone = manager.whole(
        "DELETE",
        &logs("?filters.key=success&filters.operator=eq&filters.value=false"),
        None,
    );
    assert_eq!(gone["success"], true);
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)), all[1..]);
    manager.refused(
        "GET",
        &logs(&format!("/{}", all[0])),
        None,
        404,
        &[(7002, "")],
    );
    manager.whole(
        "DELETE",
        &logs("?limit=1&order_by=created_at&order_by_direction=asc"),
        None,
    );
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)), all[1..2]);
    // It holds after a restart.
    drop(manager);
    let folder = server.folder().to_path_buf();
    server.kill();
    let again = Setup::over(mock.addr())
        .tables(PRICES)
        .folder(&folder)
        .start();
    let mut manager = Manager::of(&again);
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)), all[1..2]);
    // Without a filter all go; new ones come.
    manager.whole("DELETE", &logs(""), None);
    assert!(ids(&manager.whole("GET", &logs(""), None)).is_empty());
    let others = format!("{GATEWAYS}/other/logs");
    assert_eq!(ids(&manager.whole("GET", &others, None)).len(), 1);
    call(&again, "g", "", &chat(""));
    again.records_once(2);
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)).len(), 1);
    // A gateway takes its records with it, also when its name is used again.
    manager.result("DELETE", &format!("{GATEWAYS}/g"), None);
    manager.refused("GET", &logs(""), None, 404, &[(7002, "")]);
    manager.result("POST", GATEWAYS, Some(&gateway("g", &json!({}))));
    assert!(ids(&manager.whole("GET", &logs(""), None)).is_empty());
}

fn count(manager: &mut Manager, gateway: &str) -> usize {
    ids(&manager.whole("GET", &format!("{GATEWAYS}/{gateway}/logs"), None)).len()
}

#[test]
fn gateways_whose_names_differ_in_case_keep_their_records_apart() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    for id in ["same", "Same"] {
        manager.result("POST", GATEWAYS, Some(&gateway(id, &json!({}))));
        call(&server, id, "", &chat(""));
    }
    server.records_once(2);
    assert_eq!(
        (count(&mut manager, "same"), count(&mut manager, "Same")),
        (1, 1)
    );
    manager.whole("DELETE", &format!("{GATEWAYS}/same/logs?limit=10"), None);
    assert_eq!(
        (count(&mut manager, "same"), count(&mut manager, "Same")),
        (0, 1)
    );
    manager.whole("DELETE", &format!("{GATEWAYS}/same/logs"), None);
    assert_eq!(count(&mut manager, "Same"), 1);
}

#[test]
fn the_worst_judged_records_can_be_deleted_first() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs(""), None);
    let all: Vec<_> = ids(&list).into_iter().map(str::to_owned).collect();
    for (id, feedback) in all.iter().zip([1, -1, 0]) {
        let one = logs(&format!("/{id}"));
        manager.result("PATCH", &one, Some(&json!({"feedback": feedback})));
    }
    let one = "?limit=1&order_by=feedback&order_by_direction=asc";
    manager.whole("DELETE", &logs(one), None);
    assert_eq!(
        ids(&manager.whole("GET", &logs(""), None)),
        [&*all[0], &*all[2]]
    );
    manager.whole("DELETE", &logs(one), None);
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)), [&*all[0]]);
    // What is not understood deletes nothing.
    for (query, place) in [
        ("?search=x", "query.search"),
        ("?filters.value=x", "query.filters"),
        ("?limit=", "query.limit"),
    ] {
        manager.refused("DELETE", &logs(query), None, 400, &[(7001, place)]);
    }
    assert_eq!(ids(&manager.whole("GET", &logs(""), None)), [&*all[0]]);
}

#[test]
fn an_evaluation_computes_over_the_records_of_its_datasets() {
    let mock = mock();
    let server = Setup::over(mock.addr()).tables(PRICES).start();
    let mut manager = Manager::of(&server);
    stage(&server, &mut manager);
    let list = manager.whole("GET", &logs(""), None);
    let all: Vec<_> = ids(&list).into_iter().map(str::to_owned).collect();
    for (id, feedback) in [(&all[1], 1), (&all[2], -1), (&all[0], -1)] {
        let one = logs(&format!("/{id}"));
        manager.result("PATCH", &one, Some(&json!({"feedback": feedback})));
    }
    let datasets = format!("{GATEWAYS}/g/datasets");
    let dataset = json!({"name": "good", "enable": true, "filters": [{"key": "success", "operator": "eq", "value": [true]}]});
    let dataset = manager.result("POST", &datasets, Some(&dataset));
    let types = manager.result(
        "GET",
        "/client/v4/accounts/me/ai-gateway/evaluation-types",
        None,
    );
    let types: Vec<_> = types
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["id"].clone())
        .collect();
    assert_eq!(types, ["cost", "speed", "human_feedback"]);
    let evaluations = format!("{GATEWAYS}/g/evaluations");
    let body =
        json!({"name": "first", "dataset_ids": [dataset["id"]], "evaluation_type_ids": types});
    let made = manager.result("POST", &evaluations, Some(&body));
    assert_eq!(
        (&made["processed"], &made["total_logs"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        (
            &made["datasets"][0]["id"],
            &made["datasets"][0]["account_id"]
        ),
        (&dataset["id"], &json!("me"))
    );
    let results = made["results"].as_array().unwrap();
    let rows: Vec<_> = results.iter().map(|result| &result["total_logs"]).collect();
    assert_eq!(rows, [2, 2, 2]);
    let costs: f64 = list["result"].as_array().unwrap()[1..]
        .iter()
        .map(|row| row["cost"].as_f64().unwrap())
        .sum();
    let mean: f64 = results[0]["result"].as_str().unwrap().parse().unwrap();
    assert!((mean - costs / 2.0).abs() < 1e-12, "{mean} {costs}");
    assert_eq!(results[2]["result"], "50.000");
    let one = format!("{evaluations}/{}", made["id"].as_str().unwrap());
    assert_eq!(manager.result("GET", &one, None), made);
    assert_eq!(
        manager.result(
            "GET",
            &format!("{evaluations}?processed=true&name=first"),
            None
        ),
        json!([made])
    );
    assert_eq!(
        manager.result("GET", &format!("{evaluations}?processed=false"), None),
        json!([])
    );
    for (name, ids) in [
        ("dataset_ids", json!(["x"])),
        ("evaluation_type_ids", json!(["x"])),
        ("dataset_ids", json!([])),
    ] {
        let mut wrong = body.clone();
        wrong[name] = ids;
        manager.refused(
            "POST",
            &evaluations,
            Some(&wrong),
            400,
            &[(7001, &format!("body.{name}"))],
        );
    }
    manager.result("DELETE", &one, None);
    manager.refused("GET", &one, None, 404, &[(7002, "")]);
}
