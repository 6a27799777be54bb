//! Dynamic routes, datasets, urls, billing, the audit log and the API's description.

use serde_json::{Value, json};

use super::management::{GATEWAYS, Manager, gateway};
use crate::support::server::Setup;

const ACCOUNT: &str = "/client/v4/accounts/me";

fn elements(model: &str) -> Value {
    json!([
        {"id": "start", "type": "start", "outputs": {"next": {"elementId": "model"}}},
        {"id": "model", "type": "model",
         "properties": {"provider": "openai", "model": model, "timeout": 1000, "retries": 1},
         "outputs": {"success": {"elementId": "end"}, "fallback": {"elementId": "end"}}},
        {"id": "end", "type": "end", "outputs": {}},
    ])
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one route from its beginning to its end"
)]
fn a_route_has_versions_and_one_of_them_is_deployed() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    manager.result("POST", GATEWAYS, Some(&gateway("g", &json!({}))));
    let routes = format!("{GATEWAYS}/g/routes");
    let first = elements("gpt-4o");
    let made = manager.result(
        "POST",
        &routes,
        Some(&json!({"name": "fast", "elements": first})),
    );
    assert_eq!(
        (&made["name"], &made["gateway_id"], &made["elements"]),
        (&json!("fast"), &json!("g"), &first)
    );
    assert_eq!(made["version"]["active"], "true");
    assert_eq!(made["version"]["data"], first.to_string());
    assert_eq!(
        made["deployment"]["version_id"],
        made["version"]["version_id"]
    );
    let route = format!("{routes}/{}", made["id"].as_str().unwrap());
    assert_eq!(manager.result("GET", &route, None), made);
    manager.refused(
        "POST",
        &routes,
        Some(&json!({"name": "fast", "elements": first})),
        409,
        &[(1003, "body.name")],
    );

    let second = elements("gpt-4o-mini");
    let version = manager.result(
        "POST",
        &format!("{route}/versions"),
        Some(&json!({"elements": second})),
    );
    assert_eq!(version["elements"], second);
    let id = version["version"]["version_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // It is there, and not in use.
    assert_eq!(manager.result("GET", &route, None)["elements"], first);
    let one = manager.result("GET", &format!("{route}/versions/{id}"), None);
    assert_eq!(
        (&one["active"], &one["elements"], &one["name"]),
        (&json!("false"), &second, &json!("fast"))
    );
    let list = manager.whole("GET", &format!("{route}/versions"), None);
    assert_eq!(list.get("result"), None);
    let active: Vec<_> = list["data"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["active"])
        .collect();
    assert_eq!(active, ["false", "true"]);
    assert_eq!(
        (&list["data"]["page"], &list["data"]["per_page"]),
        (&json!(1), &json!(20))
    );

    let deployed = manager.result(
        "POST",
        &format!("{route}/deployments"),
        Some(&json!({"version_id": id})),
    );
    assert_eq!(deployed["elements"], second);
    assert_eq!(
        manager.result("GET", &route, None)["version"]["version_id"],
        *id
    );
    let list = manager.whole("GET", &format!("{route}/deployments"), None);
    let deployments = list["data"]["deployments"].as_array().unwrap();
    assert_eq!(
        (deployments.len(), &deployments[0]["version_id"]),
        (2, &json!(id))
    );
    manager.refused(
        "POST",
        &format!("{route}/deployments"),
        Some(&json!({"version_id": "x"})),
        400,
        &[(7001, "body.version_id")],
    );

    let renamed = manager.whole("PATCH", &route, Some(&json!({"name": "slow"})));
    assert_eq!(renamed.get("result"), None);
    assert_eq!(
        (&renamed["route"]["name"], &renamed["route"]["account_tag"]),
        (&json!("slow"), &json!("me"))
    );
    let list = manager.whole("GET", &routes, None);
    assert_eq!(list["data"]["routes"], json!([renamed["route"]]));
    let empty = manager.whole("GET", &format!("{routes}?page=2"), None);
    assert_eq!(empty["data"]["routes"], json!([]));
    let gone = manager.result("DELETE", &route, None);
    assert_eq!((&gone["name"], gone.get("version")), (&json!("slow"), None));
    manager.refused("GET", &route, None, 404, &[(7002, "")]);
    manager.refused(
        "GET",
        &format!("{route}/versions"),
        None,
        404,
        &[(7002, "")],
    );
}

#[test]
fn a_route_that_cannot_be_walked_is_refused() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let routes = format!("{GATEWAYS}/locked/routes");
    let mut round = elements("m");
    round[1]["outputs"]["fallback"] = json!({"elementId": "model"});
    manager.refused(
        "POST",
        &routes,
        Some(&json!({"name": "x", "elements": round})),
        400,
        &[(7001, "body.elements")],
    );
    let mut dangling = elements("m");
    dangling[0]["outputs"]["next"]["elementId"] = json!("nowhere");
    manager.refused(
        "POST",
        &routes,
        Some(&json!({"name": "x", "elements": dangling})),
        400,
        &[(7001, "body.elements.0.outputs.next.elementId")],
    );
    manager.refused(
        "POST",
        &routes,
        Some(&json!({"name": "a/b", "elements": []})),
        400,
        &[(7001, "body.name"), (7001, "body.elements")],
    );
}

#[test]
fn datasets_are_kept_and_found() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let datasets = format!("{GATEWAYS}/locked/datasets");
    let filters = json!([{"key": "cost", "operator": "gt", "value": [0.01]}, {"key": "cached", "operator": "eq", "value": [false]}]);
    let made = manager.result(
        "POST",
        &datasets,
        Some(&json!({"name": "dear", "enable": true, "filters": filters})),
    );
    assert_eq!(
        (&made["filters"], &made["gateway_id"]),
        (&filters, &json!("locked"))
    );
    let one = format!("{datasets}/{}", made["id"].as_str().unwrap());
    let changed = manager.result("PUT", &one, Some(&json!({"enable": false})));
    assert_eq!(
        (&changed["enable"], &changed["name"]),
        (&json!(false), &json!("dear"))
    );
    for (query, count) in [
        ("", 1),
        ("?enable=true", 0),
        ("?name=dear", 1),
        ("?name=dea", 0),
        ("?search=DEA", 1),
    ] {
        let list = manager.result("GET", &format!("{datasets}{query}"), None);
        assert_eq!(list.as_array().unwrap().len(), count, "{query}");
    }
    let wrong = json!({"name": "x", "enable": true, "filters": [{"key": "id", "operator": "neq", "value": [null]}]});
    manager.refused(
        "POST",
        &datasets,
        Some(&wrong),
        400,
        &[
            (7001, "body.filters.0.key"),
            (7001, "body.filters.0.operator"),
            (7001, "body.filters.0.value.0"),
        ],
    );
    assert_eq!(manager.result("DELETE", &one, None), changed);
    manager.refused("GET", &one, None, 404, &[(7002, "")]);
}

#[test]
fn a_url_names_this_server() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    for (provider, rest) in [
        ("openai", "openai"),
        ("universal", ""),
        ("compat", "compat"),
    ] {
        let url = manager.result("GET", &format!("{GATEWAYS}/locked/url/{provider}"), None);
        assert_eq!(url, format!("http://localhost/v1/me/locked/{rest}"));
    }
    manager.refused(
        "GET",
        &format!("{GATEWAYS}/locked/url/nobody"),
        None,
        400,
        &[(7001, "path.provider")],
    );
    manager.refused(
        "GET",
        &format!("{GATEWAYS}/none/url/openai"),
        None,
        404,
        &[(7002, "")],
    );
}

#[test]
fn billing_answers_parse_and_payments_are_refused() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let billing = format!("{ACCOUNT}/ai-gateway/billing");
    let balance = manager.result("GET", &format!("{billing}/credit-balance"), None);
    assert_eq!(
        (&balance["balance"], &balance["has_default_payment_method"]),
        (&json!(0), &json!(false))
    );
    let invoices = manager.result("GET", &format!("{billing}/invoice-history?type=all"), None);
    assert_eq!(invoices["invoices"], json!([]));
    let preview = manager.result("GET", &format!("{billing}/invoice-preview"), None);
    assert!(
        preview["period_start"].as_u64() < preview["period_end"].as_u64(),
        "{preview}"
    );
    let usage = manager.result(
        "GET",
        &format!("{billing}/usage-history?value_grouping_window=day"),
        None,
    );
    assert_eq!(usage, json!({"history": []}));
    let limit = format!("{billing}/spending-limit");
    assert_eq!(manager.result("GET", &limit, None)["enabled"], false);
    let config = json!({"amount": 100, "duration": "daily", "strategy": "fixed"});
    assert_eq!(manager.result("POST", &limit, Some(&config)), json!({}));
    assert_eq!(
        manager.result("GET", &limit, None),
        json!({"enabled": true, "config": config})
    );
    manager.result("DELETE", &limit, None);
    assert_eq!(
        manager.result("GET", &limit, None)["config"]["amount"],
        Value::Null
    );
    manager.refused(
        "POST",
        &limit,
        Some(&json!({"amount": 99})),
        400,
        &[
            (7001, "body.amount"),
            (7001, "body.duration"),
            (7001, "body.strategy"),
        ],
    );
    for path in ["topup", "topup/status", "topup/config"] {
        manager.refused(
            "POST",
            &format!("{billing}/{path}"),
            Some(&json!({})),
            501,
            &[(7000, "")],
        );
    }
    manager.result("GET", &format!("{billing}/topup/config"), None);
    manager.result("DELETE", &format!("{billing}/topup/config"), None);
}

#[test]
fn changes_are_in_the_audit_log_with_their_doer() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let secret = json!({"stripe": {"authorization": "hush-hush", "usage_events": []}});
    manager.result("POST", GATEWAYS, Some(&gateway("a", &secret)));
    manager.result("PUT", &format!("{GATEWAYS}/a"), Some(&json!({"zdr": true})));
    manager.result("DELETE", &format!("{GATEWAYS}/a"), None);
    let log = manager.whole("GET", &format!("{ACCOUNT}/audit_logs"), None);
    let entries = log["result"].as_array().unwrap();
    let actions: Vec<_> = entries
        .iter()
        .map(|entry| &entry["action"]["info"])
        .collect();
    assert_eq!(
        actions,
        ["gateway deleted", "gateway updated", "gateway created"]
    );
    let updated = &entries[1];
    assert_eq!(
        updated["resource"],
        json!({"type": "ai_gateway.gateway", "id": "a"})
    );
    assert_eq!(
        (&updated["actor"]["id"], &updated["interface"]),
        (&json!("api"), &json!("API"))
    );
    assert_eq!(
        (
            &updated["oldValueJson"]["zdr"],
            &updated["newValueJson"]["zdr"]
        ),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&entries[0]["newValueJson"], &entries[2]["oldValueJson"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!log.to_string().contains("hush-hush"));
    let path = format!("{ACCOUNT}/audit_logs?direction=asc&per_page=1&page=2");
    assert_eq!(manager.result("GET", &path, None), json!([updated]));
    let path = format!("{ACCOUNT}/audit_logs?action.type=gateway+created");
    assert_eq!(manager.result("GET", &path, None), json!([entries[2]]));
    let path = format!("{ACCOUNT}/audit_logs?before=2020-01-01");
    assert_eq!(manager.result("GET", &path, None), json!([]));
    manager.refused(
        "GET",
        &format!("{ACCOUNT}/audit_logs?since=x"),
        None,
        400,
        &[(7001, "query.since")],
    );
}

#[test]
fn the_description_is_a_document_without_dangling_references() {
    let server = Setup::new().start();
    let mut manager = Manager::of(&server);
    let answer = manager.ask("GET", "/openapi.json", None);
    assert_eq!(answer.status, 200);
    let document = answer.json();
    let text = answer.text();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
    let gateways = &document["paths"][&GATEWAYS.replace("/me/", "/{account_id}/")];
    assert_eq!(gateways["post"]["operationId"], "createGateway");
}
