use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::{
    list::{ListQuery, OrderBy, OrderDirection, Verb},
    *,
};
use crate::{
    control::{api::request::query_pairs, logs::filter::Said},
    domain::record::{ArchivedRecord, Record, TEXTS, Text, Texts, flag},
};

#[track_caller]
fn list(query: &str) -> ListQuery {
    list::read(&query_pairs(query), Verb::List).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The filter of a query, in the short language.
#[track_caller]
fn check(query: &str, expected: &str) {
    assert_eq!(list(query).filter.to_string(), expected);
}

#[track_caller]
fn check_error(query: &str, path: &str, message: &str) {
    let errors = list::read(&query_pairs(query), Verb::List).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|error| (error.code, error.path.join("."), error.message.as_str()))
        .collect();
    assert_eq!(found, [(7001, path.to_owned(), message)]);
}

#[test]
fn the_three_forms_of_a_query_mean_the_same() {
    let filter = "cost:>=0.500000000001 provider:openai,anthropic";
    check(
        "filters.key=provider&filters.operator=eq&filters.value=openai&filters.value=anthropic\
         &filters.key=cost&filters.operator=gt&filters.value=0.5",
        filter,
    );
    check(
        "filters=%5B%7B%22key%22%3A%22provider%22%2C%22operator%22%3A%22eq%22%2C%22value%22%3A%5B\
         %22openai%22%2C%22anthropic%22%5D%7D%2C%7B%22key%22%3A%22cost%22%2C%22operator%22%3A\
         %22gt%22%2C%22value%22%3A%5B0.5%5D%7D%5D",
        filter,
    );
    check(
        "filters.key=provider&filters.key=cost&filters.operator=eq&filters.operator=gt\
         &filters.value=openai&filters.value=0.5",
        "cost:>=0.500000000001 provider:openai",
    );
    check(
        "filters.key=provider&filters.operator=eq&filters.value=openai&filters.value=anthropic",
        "provider:openai,anthropic",
    );
}

#[test]
fn grouped_filters_whose_values_cannot_be_told_apart_are_refused() {
    check_error(
        "filters.key=provider&filters.key=cost&filters.operator=eq&filters.operator=gt\
         &filters.value=openai&filters.value=anthropic&filters.value=0.5",
        "query.filters",
        "there are 2 filters and 3 values, so it cannot be told which belong together; send one \
         filter after another, or JSON in `filters`",
    );
    check_error(
        "filters.key=provider&filters.value=openai",
        "query.filters",
        "there are 1 `filters.key` and 0 `filters.operator`; each filter has one of both",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of every key")]
fn every_key_is_read_and_an_unknown_one_is_named_with_its_place() {
    let json = |key: &str, operator: &str, value: &str| {
        let text = format!(r#"[{{"key":"{key}","operator":"{operator}","value":[{value}]}}]"#);
        of_json(
            &serde_json::from_str(&text).unwrap(),
            Purpose::Logs,
            &["body", "filters"],
        )
        .map(|filter| filter.to_string())
        .map_err(|errors| (errors[0].path.join("."), errors[0].message.clone()))
    };
    for (key, operator, value, expected) in [
        ("id", "eq", r#""AB-1""#, r#"id:"ab-1""#),
        (
            "created_at",
            "gt",
            r#""2026-11-21T08:00:00Z""#,
            "after:2026-11-21T08:00:00.001Z",
        ),
        (
            "created_at",
            "lt",
            r#""2026-11-21""#,
            "before:2026-11-21T00:00:00Z",
        ),
        (
            "created_at",
            "eq",
            r#""2026-11-21T08:00:00Z""#,
            "at:2026-11-21T08:00:00Z..2026-11-21T08:00:00.000999Z",
        ),
        (
            "request_content_type",
            "contains",
            r#""json""#,
            "request_content_type:*json*",
        ),
        (
            "response_content_type",
            "eq",
            "null",
            "response_content_type:\"\"",
        ),
        (
            "request_type",
            "neq",
            r#""websocket""#,
            "-request_type:websocket",
        ),
        ("success", "eq", "true", "success:true"),
        ("cached", "neq", r#""1""#, "-cached:true"),
        ("cached", "eq", "true,false", "step:>=0"),
        ("model", "contains", r#""a*b""#, r#"model:*"a*b"*"#),
        ("model_type", "eq", r#""embedding""#, "model_type:embedding"),
        ("cost", "gt", "1e-13", "cost:>=0.000000000001"),
        ("cost", "lt", "-1", "cost:<0"),
        ("cost", "eq", "null", "cost:none"),
        ("tokens", "gt", "4000", "tokens:>=4001"),
        ("tokens_in", "lt", "10.5", "tokens_in:<=10"),
        ("tokens_out", "neq", "1,2", "-tokens_out:1,2"),
        ("duration", "gt", "12.5", "duration:>=13000us"),
        ("duration", "eq", "12", "duration:12000us..12999us"),
        ("feedback", "eq", "1,null", "feedback:up,none"),
        ("feedback", "lt", "0", "feedback:down"),
        ("event_id", "eq", r#""x y""#, r#"event:"x y""#),
        ("metadata.key", "eq", r#""user""#, "meta_key:user"),
        ("metadata.value", "contains", "42", "meta_value:*42*"),
        ("authentication", "eq", "true", "authenticated:true"),
        ("wholesale", "eq", "false", "wholesale:false"),
        ("compatibilityMode", "eq", "false", "compat:false"),
        ("dlp_action", "eq", r#""BLOCK""#, "dlp_action:block"),
        ("user_agent", "contains", r#""curl""#, "user_agent:*curl*"),
    ] {
        assert_eq!(json(key, operator, value), Ok(expected.to_owned()), "{key}");
    }
    let error = |path: &str, start: &str, got: Result<String, (String, String)>| {
        let (at, message) = got.unwrap_err();
        assert_eq!(at, path);
        assert!(message.starts_with(start), "{message}");
    };
    error(
        "body.filters.0.key",
        "`metadata.user` is no key of a filter; there are id, created_at, ",
        json("metadata.user", "eq", "1"),
    );
    error(
        "body.filters.0.operator",
        "`like` is no operator of a filter; there are eq, neq, contains, lt, gt",
        json("cost", "like", "1"),
    );
    error(
        "body.filters.0.operator",
        "`contains` cannot be asked of `cost`",
        json("cost", "contains", "1"),
    );
    error(
        "body.filters.0.value",
        "`much` is not a number",
        json("cost", "gt", r#""much""#),
    );
    error(
        "body.filters.0.value",
        "`gt` takes one value",
        json("cost", "gt", "1,2"),
    );
    error(
        "body.filters.0.value",
        "a filter needs at least one value",
        json("cost", "gt", ""),
    );
    error(
        "body.filters.0.value",
        "`value` is an array of texts",
        json("cost", "gt", "{}"),
    );
    error(
        "body.filters.0.value",
        "`2h` is not a time",
        json("created_at", "gt", r#""2h""#),
    );
}

#[test]
fn datasets_have_fewer_keys_and_operators() {
    let value = serde_json::json!([
        {"key": "user_agent", "operator": "eq", "value": ["x"]},
        {"key": "cost", "operator": "neq", "value": [1]},
        {"key": "feedback", "operator": "eq", "value": [1]},
    ]);
    let errors = of_json(&value, Purpose::Dataset, &["body", "filters"]).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
    assert_eq!(paths, ["body.filters.0.key", "body.filters.1.operator"]);
    let value = serde_json::json!([{"key": "id", "operator": "neq", "value": [1, null]}]);
    let errors = of_json(&value, Purpose::Dataset, &["body", "filters"]).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
    let expected = ["key", "operator", "value.1"].map(|name| format!("body.filters.0.{name}"));
    assert_eq!(paths, expected);
}

#[test]
fn flat_parameters_are_terms_too() {
    check(
        "success=1&cached=false&provider=openai&model=m&min_cost=0.5&max_duration=20&search=blue",
        "success:true cached:false cost:>=0.5 duration:<=20999us provider:openai model:m \
         \"blue\"",
    );
    check(
        "start_date=2026-11-20&end_date=2026-11-21T08:00:00Z&feedback=0&min_total_tokens=5",
        "after:2026-11-20T00:00:00Z before:2026-11-21T08:00:00.001Z tokens:>=5 feedback:down",
    );
    check("unknown=1&search=&filters=", "");
    check_error(
        "cached=maybe",
        "query.cached",
        "`maybe` is not true or false",
    );
    check_error("min_cost=x", "query.min_cost", "`x` is not a number");
    check_error("page=0", "query.page", "`0` is not a number from 1 on");
    check_error(
        "order_by_direction=up",
        "query.order_by_direction",
        "`up` is not asc or desc",
    );
}

/// A query of a deletion that must be refused there.
#[track_caller]
fn check_no_deletion(query: &str, path: &str) {
    let errors = list::read(&query_pairs(query), Verb::Delete).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
    assert_eq!(paths, [path], "{query}");
}

#[test]
fn what_a_deletion_does_not_understand_deletes_nothing() {
    check_no_deletion("filters.value=openai", "query.filters");
    check_no_deletion("filters.operator=eq", "query.filters");
    check_no_deletion("filters[0].key=cost", "query.filters[0].key");
    check_no_deletion("search=blue", "query.search");
    check_no_deletion("provider=", "query.provider");
    check_no_deletion("limit=", "query.limit");
    check_no_deletion("limit=-1", "query.limit");
    let all = list::read(&query_pairs("filters=&page=x&other=1"), Verb::Delete).unwrap();
    assert!(all.filter.is_empty() && all.limit.is_none());
}

#[test]
fn a_parameter_of_a_list_that_is_empty_is_as_good_as_left_out() {
    check(
        "success=&provider=&min_cost=&start_date=&search=&filters=",
        "",
    );
    assert_eq!(list("page=&per_page=&order_by=&direction=").per_page, 20);
}

#[test]
fn parts_of_filters_in_any_order_are_those_of_their_keys() {
    let filter = "cost:>=0.500000000001 provider:openai";
    check(
        "filters.value=openai&filters.key=provider&filters.operator=eq\
         &filters.value=0.5&filters.key=cost&filters.operator=gt",
        filter,
    );
    check(
        "filters.key=provider&filters.operator=eq&filters.key=cost&filters.operator=gt\
         &filters.value=openai&filters.value=0.5",
        filter,
    );
    check(
        "filters.value=a&filters.operator=eq&filters.value=b&filters.key=provider",
        "provider:a,b",
    );
}

#[test]
fn null_in_a_query_is_the_word_or_no_text() {
    check(
        "filters.key=user_agent&filters.operator=eq&filters.value=null",
        "user_agent:null,\"\"",
    );
    check(
        "filters.key=cost&filters.operator=neq&filters.value=null",
        "-cost:none",
    );
}

fn sample() -> Record {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Provider as usize] = b"openai";
    texts[Text::Model as usize] = b"gpt-4o-2024-08-06";
    texts[Text::ModelName as usize] = b"openai/gpt-4o";
    texts[Text::Metadata as usize] = br#"{"user":"ada","n":7}"#;
    Record {
        id: [9; 16],
        at_micros: 1_795_000_000_000_000,
        duration_micros: 1_500_000,
        tokens_input: Some(10),
        cost: Some(500_000_000_000),
        flags: flag::CACHED,
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

#[track_caller]
fn check_passes(key: &str, operator: &str, values: &Value, said: &Arc<Said>, expected: bool) {
    let filters = json!([{"key": key, "operator": operator, "value": values}]);
    let filter = of_json(&filters, Purpose::Logs, &[]).unwrap();
    let bytes = rkyv::to_bytes::<rkyv::rancor::Failure>(&sample()).unwrap();
    let record = rkyv::access::<ArchivedRecord, rkyv::rancor::Failure>(&bytes).unwrap();
    let passes = filter.with_said(Arc::clone(said)).matches(record);
    assert_eq!(passes, expected, "{key} {operator} {values}");
}

#[test]
fn a_filter_lets_pass_what_it_says() {
    let mut said = Said::default();
    said.add_feedback([9; 16], -1);
    let said = Arc::new(said);
    for (key, operator, values, expected) in [
        ("provider", "eq", json!(["anthropic", "openai"]), true),
        ("provider", "neq", json!(["anthropic", "openai"]), false),
        ("provider", "contains", json!(["pen"]), true),
        ("model", "eq", json!(["openai/gpt-4o"]), true),
        ("model", "eq", json!(["gpt-4o-2024-08-06"]), true),
        ("cost", "eq", json!(["0.5"]), true),
        ("cost", "gt", json!([0.499_999_999_999]), true),
        ("cost", "gt", json!([0.5]), false),
        ("cost", "lt", json!(["0.500000000001"]), true),
        ("cost", "neq", json!([null]), true),
        ("cost", "eq", json!(["null"]), false),
        ("tokens", "eq", json!([10]), true),
        ("tokens_out", "eq", json!([null]), true),
        ("tokens_out", "lt", json!([5]), false),
        ("duration", "gt", json!(["1499"]), true),
        ("cached", "eq", json!(["true"]), true),
        ("cached", "eq", json!([false]), false),
        ("success", "eq", json!([true]), true),
        ("feedback", "eq", json!([-1]), true),
        ("feedback", "eq", json!([1, null]), false),
        ("feedback", "eq", json!(["null"]), false),
        ("metadata.key", "eq", json!(["user"]), true),
        ("metadata.value", "eq", json!(["7"]), true),
        ("metadata.value", "eq", json!([7]), true),
        ("metadata.value", "contains", json!(["ad"]), true),
        ("metadata.value", "eq", json!(["user"]), false),
        ("created_at", "gt", json!(["2026-11-18"]), true),
        ("created_at", "lt", json!(["2026-11-18T11:06:40Z"]), false),
        ("created_at", "eq", json!([1_795_000_000_000_u64]), true),
        ("created_at", "gt", json!(["1795000000000"]), false),
        ("wholesale", "eq", json!(["false"]), true),
        ("user_agent", "eq", json!([null]), true),
        ("dlp_action", "eq", json!([null]), true),
        ("event_id", "contains", json!(["09090909"]), true),
    ] {
        check_passes(key, operator, &values, &said, expected);
    }
}

#[test]
fn metadata_that_people_gave_a_record_takes_the_place_of_its_own() {
    let mut said = Said::default();
    said.add_metadata([9; 16], br#"{"judge":"eve"}"#.to_vec());
    let said = Arc::new(said);
    for (key, value, expected) in [
        ("metadata.key", "judge", true),
        ("metadata.key", "user", false),
        ("metadata.value", "eve", true),
        ("metadata.value", "ada", false),
    ] {
        check_passes(key, "eq", &json!([value]), &said, expected);
    }
}

#[test]
fn order_and_page_are_read_with_their_bounds() {
    let query = list("page=3&per_page=1000&order_by=model&direction=ASC&meta_info=true");
    assert_eq!((query.page, query.per_page), (3, 100));
    assert_eq!(query.order_by, OrderBy::Model);
    assert_eq!(query.direction, OrderDirection::Ascending);
    assert!(query.meta_info);
    assert_eq!(list("").per_page, 20);
    check_error(
        "order_by=cost",
        "query.order_by",
        "`cost` is not one of created_at, provider, model, model_type, success, cached",
    );
    let pairs = query_pairs("order_by=cost&limit=10");
    let delete = list::read(&pairs, Verb::Delete).unwrap();
    assert_eq!((delete.order_by, delete.limit), (OrderBy::Cost, Some(10)));
}

#[test]
fn every_error_of_a_query_is_told() {
    let pairs = query_pairs("page=x&filters=[{}]&cached=2&filters=nonsense");
    let errors = list::read(&pairs, Verb::List).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
    assert_eq!(
        paths,
        [
            "query.page",
            "query.filters.0.key",
            "query.filters.0.operator",
            "query.filters.0.value",
            "query.cached",
            "query.filters",
        ]
    );
}

#[test]
fn there_is_a_bound_on_filters_and_values() {
    let many = "filters.key=cost&filters.operator=eq&filters.value=1&".repeat(65);
    check_error(&many, "query.filters", "there may be at most 64 filters");
    let values = format!(
        "filters.key=model&filters.operator=eq{}",
        "&filters.value=a".repeat(257)
    );
    check_error(
        &values,
        "query.filters",
        "filters may have at most 256 values together",
    );
}

proptest! {
    #[test]
    fn any_query_is_read_without_a_panic(
        query in r#"((filters\.(key|operator|value)|filters|min_cost|start_date|page)=(cost|id|eq|gt|[-0-9.e"\[{}:%&a]{0,12})&){0,8}"#
    ) {
        if let Ok(query) = list::read(&query_pairs(&query), Verb::Delete) {
            let printed = query.filter.to_string();
            prop_assert_eq!(Filter::parse(&printed, 0), Ok(query.filter), "{}", printed);
        }
    }

    #[test]
    fn any_json_is_read_without_a_panic(
        key in "[a-z._]{0,8}|cost|created_at|feedback|duration",
        operator in "eq|gt|contains|x",
        value in r#"(null|true|-?[0-9]{1,30}(\.[0-9]{1,30})?(e-?[0-9]{1,3})?|"[a-z0-9:-]{0,12}"|\{\})"#,
    ) {
        let text = format!(r#"[{{"key":"{key}","operator":"{operator}","value":[{value}]}}]"#);
        if let Ok(json) = serde_json::from_str(&text) {
            let _ = of_json(&json, Purpose::Logs, &[]);
        }
    }
}
