#![expect(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "short is worth more than fast here"
)]

use std::{collections::BTreeMap, path::Path, sync::atomic::AtomicBool};

use serde_json::{Value as Json, json};

use super::{document::BODY_BYTES_MAX, *};
use crate::{
    control::{
        data_dir::DataDir,
        logs::{self, LogOptions, filter::field::metadata_value, folder::LogDir},
        rollup::{file, store::Rollups, table::members::UNTOLD, totals::Class},
    },
    domain::{
        outcome::Outcome,
        record::{Record, TEXTS, Text, Texts, flag},
    },
};

/// 2026-11-20T22:00:00Z: two hours before midnight.
const START: u64 = 1_795_212_000_000_000;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How many records the store has: one each 47 seconds, over some four hours.
const RECORDS: u64 = 300;

fn record(n: u64) -> Record {
    let metadata = format!(r#"{{"task":"t{}","user":{}}}"#, n % 4, n % 13);
    let is_logged = n % 10 != 3;
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = if n.is_multiple_of(5) {
        b"second"
    } else {
        b"default"
    };
    texts[Text::Provider as usize] = if n.is_multiple_of(2) {
        b"openai"
    } else {
        b"anthropic"
    };
    texts[Text::Model as usize] = [&b"gpt-4o"[..], b"claude", b""][(n % 3) as usize];
    if is_logged && !n.is_multiple_of(6) {
        texts[Text::Metadata as usize] = metadata.as_bytes();
    }
    let is_hit = n % 7 == 1;
    let is_failure = !is_hit && n % 8 == 5;
    let mut flags = if is_hit { flag::CACHED } else { 0 };
    if !is_logged {
        flags |= flag::UNLOGGED;
    }
    Record {
        id: u128::from(n + 1).to_be_bytes(),
        at_micros: START + n * 47 * SECOND,
        duration_micros: 1_000 + n * 17,
        first_token_micros: (!is_hit).then_some(500 + n),
        // A retry follows its first attempt.
        attempt: u8::from(n % 8 == 6),
        outcome: if is_failure {
            Outcome::UpstreamError as u8
        } else {
            Outcome::Ok as u8
        },
        status: 200,
        cost: (!is_failure).then_some(if is_hit { 0 } else { 1_000_000_000_007 * n + 3 }),
        tokens_input: (!is_failure).then_some(n),
        tokens_output: (!is_failure).then_some(2 * n + 1),
        flags,
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

/// A store written by the writer: one part of it summed up, one not.
struct Store {
    _dir: tempfile::TempDir,
    reader: LogReader,
}

fn write(dir: &Path, records: std::ops::Range<u64>) {
    let data_dir = DataDir::lock(dir).unwrap();
    let (senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
    for n in records {
        assert!(senders[0].record(Box::new(record(n))));
    }
    drop(senders);
    logs.stop();
}

fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    write(dir.path(), 0..RECORDS / 2);
    for (number, path) in log.journals().unwrap() {
        let never = AtomicBool::new(false);
        logs::seal::seal_journal(&log, number, &path, &mut Vec::new(), &never).unwrap();
        let _ = std::fs::remove_file(path);
    }
    let (mut rollups, _) = Rollups::open(log.clone(), START + 3 * DAY).unwrap();
    let pass = rollups
        .pass(START + 3 * DAY, &AtomicBool::new(false))
        .unwrap();
    assert_eq!(pass.rows, RECORDS / 2);
    write(dir.path(), RECORDS / 2..RECORDS);
    Store {
        _dir: dir,
        reader: LogReader::new(log),
    }
}

impl Store {
    fn post(&mut self, body: &Json) -> Json {
        let (status, answer) = answer(&mut self.reader, None, body.to_string().as_bytes());
        assert_eq!(status, 200);
        serde_json::from_slice(&answer).unwrap()
    }

    /// The groups that a query with these arguments and this selection has.
    #[track_caller]
    fn groups(&mut self, arguments: &str, selection: &str) -> Vec<Json> {
        let query = format!(
            "{{ viewer {{ accounts(filter: {{accountTag: \"any\"}}) {{ \
             groups: aiGatewayRequestsAdaptiveGroups({arguments}) {{ {selection} }} }} }} }}"
        );
        let answer = self.post(&json!({ "query": query }));
        assert_eq!(answer.get("errors"), None, "{answer:#}");
        let groups = &answer["data"]["viewer"]["accounts"][0]["groups"];
        groups.as_array().unwrap().clone()
    }

    /// What is wrong with a query.
    #[track_caller]
    fn error(&mut self, query: &str) -> String {
        let answer = self.post(&json!({ "query": query }));
        let Some(error) = answer["errors"][0]["message"].as_str() else {
            panic!("no error: {answer:#}");
        };
        error.to_owned()
    }
}

const ALL: &str = "count sum { cost cachedRequests erroredRequests attempts cachedTokensIn \
                   cachedTokensOut uncachedTokensIn uncachedTokensOut }";

/// What [`ALL`] is of these records, added up the plain way.
fn sums(records: &[Record]) -> Json {
    let is_hit = |record: &&Record| record.has(flag::CACHED);
    let (hits, others): (Vec<&Record>, Vec<&Record>) = records.iter().partition(is_hit);
    let sum = |records: &[&Record], of: fn(&Record) -> Option<u64>| -> u64 {
        records.iter().filter_map(|record| of(record)).sum()
    };
    let is_known = |known: bool, sum: u64| if known { json!(sum) } else { Json::Null };
    let metered = records.iter().any(|record| record.tokens_input.is_some());
    let priced = records.iter().any(|record| record.cost.is_some());
    let picos: u128 = records.iter().filter_map(|r| r.cost).map(u128::from).sum();
    let dollars = format!(
        "{}.{:012}",
        picos / 1_000_000_000_000,
        picos % 1_000_000_000_000
    );
    let dollars = dollars.trim_end_matches('0').trim_end_matches('.');
    let class = |record: &Record| Class::of(record.outcome, record.status, record.flags);
    let errors = records
        .iter()
        .filter(|record| class(record).is_error())
        .count();
    json!({
        "count": records.iter().filter(|record| record.attempt == 0).count(),
        "sum": {
            "cost": if priced { dollars.parse::<serde_json::Number>().unwrap().into() } else { Json::Null },
            "cachedRequests": hits.len(),
            "erroredRequests": errors,
            "attempts": others.len(),
            "cachedTokensIn": sum(&hits, |record| record.tokens_input),
            "cachedTokensOut": sum(&hits, |record| record.tokens_output),
            "uncachedTokensIn": is_known(metered, sum(&others, |record| record.tokens_input)),
            "uncachedTokensOut": is_known(metered, sum(&others, |record| record.tokens_output)),
        },
    })
}

fn time(micros: u64) -> Json {
    let micros = i64::try_from(micros).unwrap();
    let time = jiff::Timestamp::from_microsecond(micros).unwrap();
    time.to_string().into()
}

/// A dimension of a record, as the answer has it.
fn dimension(record: &Record, name: &str) -> Json {
    let at = record.at_micros;
    let text = |text: Text| match record.text(text).into_owned() {
        text if text.is_empty() => Json::Null,
        text => text.into(),
    };
    let member = |name: &str| {
        let value = metadata_value(record.texts.get(Text::Metadata), name);
        value.map_or(Json::Null, Json::from)
    };
    match name {
        "gateway" => text(Text::Gateway),
        "provider" => text(Text::Provider),
        "model" => text(Text::Model),
        "metadataRaw" => text(Text::Metadata),
        "datetimeMinute" => time(at - at % MINUTE),
        "datetimeHour" => time(at - at % HOUR),
        "date" => time(at - at % DAY).as_str().unwrap()[..10].into(),
        "task" => member("task"),
        "user" => member("user"),
        other => panic!("no dimension {other}"),
    }
}

/// Asks for all sums by `dimensions`, of those records that count, and compares.
#[track_caller]
fn check(store: &mut Store, filter: &str, dimensions: &[&str], counts: impl Fn(&Record) -> bool) {
    let mut expected: BTreeMap<String, (Json, Vec<Record>)> = BTreeMap::new();
    for record in (0..RECORDS).map(record).filter(counts) {
        let names = dimensions.iter().map(|name| {
            let value = dimension(&record, name);
            ((*name).to_owned(), value)
        });
        let name = Json::Object(names.collect());
        let entry = expected.entry(name.to_string());
        entry.or_insert((name, Vec::new())).1.push(record);
    }
    let fields: String = dimensions
        .iter()
        .map(|name| match *name {
            "task" | "user" => format!("{name}: metadataValue(key: \"{name}\") "),
            name => format!("{name} "),
        })
        .collect();
    let selection = match fields.as_str() {
        "" => ALL.to_owned(),
        fields => format!("dimensions {{ {fields} }} {ALL}"),
    };
    let arguments = format!("limit: 10000, filter: {{ {filter} }}");
    let found: BTreeMap<String, Json> = store
        .groups(&arguments, &selection)
        .into_iter()
        .map(|group| match group.get("dimensions") {
            Some(name) => (name.to_string(), group),
            None => ("{}".to_owned(), group),
        })
        .collect();
    let expected: BTreeMap<String, Json> = expected
        .into_iter()
        .map(|(key, (name, records))| {
            let mut group = serde_json::Map::new();
            if !dimensions.is_empty() {
                group.insert("dimensions".to_owned(), name);
            }
            group.extend(sums(&records).as_object().unwrap().clone());
            (key, Json::Object(group))
        })
        .collect();
    assert_eq!(found, expected, "{filter} by {dimensions:?}");
}

#[test]
fn sums_by_every_dimension_are_those_of_the_records() {
    let mut store = store();
    for dimensions in [
        &[][..],
        &["model"],
        &["provider"],
        &["gateway"],
        &["datetimeMinute"],
        &["datetimeHour"],
        &["date"],
        &["model", "provider", "gateway"],
        &[
            "datetimeMinute",
            "datetimeHour",
            "date",
            "model",
            "provider",
            "gateway",
        ],
    ] {
        check(&mut store, "", dimensions, |_| true);
    }
}

#[test]
fn exchanges_without_logging_count_as_ones_that_have_no_metadata() {
    let mut store = store();
    for dimensions in [
        &["metadataRaw"][..],
        &["task"],
        &["task", "gateway"],
        &["date", "datetimeHour", "user", "gateway"],
        &["task", "user"],
        &["metadataRaw", "task", "model"],
        &["datetimeHour", "task", "model", "provider", "gateway"],
        &[
            "datetimeMinute",
            "metadataRaw",
            "user",
            "model",
            "provider",
            "gateway",
        ],
    ] {
        check(&mut store, "", dimensions, |_| true);
        // Rollups know no providers by metadata, so records answer the same.
        check(&mut store, "provider_like: \"%\"", dimensions, |_| true);
    }
    let text = |record: &Record, text| record.text(text).into_owned();
    for filter in ["", "provider_like: \"%\", "] {
        let second = format!("{filter}gateway: \"second\"");
        check(&mut store, &second, &["task"], |record| {
            text(record, Text::Gateway) == "second"
        });
        let others = format!("{filter}gateway_neq: \"second\", date: \"2026-11-21\"");
        check(&mut store, &others, &["user", "datetimeHour"], |record| {
            text(record, Text::Gateway) != "second" && record.at_micros >= START + 2 * HOUR
        });
        let either = format!("{filter}OR: [{{ gateway: \"second\" }}, {{ date: \"2026-11-21\" }}]");
        check(&mut store, &either, &["task"], |record| {
            text(record, Text::Gateway) == "second" || record.at_micros >= START + 2 * HOUR
        });
    }
    let of_user = |record: &Record| record.text(Text::Metadata).contains(r#""user":4}"#);
    let like = r#"metadataRaw_like: "%\"user\":4}""#;
    check(&mut store, like, &["model"], |record| of_user(record));
    let unlike = r#"metadataRaw_neq: "{\"task\":\"t0\",\"user\":4}""#;
    check(&mut store, unlike, &["task"], |record| {
        record.text(Text::Metadata) != r#"{"task":"t0","user":4}"#
    });
    let like = format!(r#"{like}, model: "claude""#);
    check(&mut store, &like, &["task"], |record| {
        of_user(record) && record.text(Text::Model) == "claude"
    });
    let either = r#"OR: [{ metadataRaw_like: "%\"user\":4}" }, { provider: "openai" }]"#;
    check(&mut store, either, &["gateway"], |record| {
        of_user(record) || record.text(Text::Provider) == "openai"
    });
}

#[test]
fn values_of_metadata_are_known_when_the_records_are_gone() {
    let mut store = store();
    for name in store.reader.log().record_files().unwrap().sealed {
        std::fs::remove_file(name.path).unwrap();
    }
    check(&mut store, "", &["task", "date", "gateway"], |_| true);
    check(&mut store, "provider_like: \"%\"", &["task"], |record| {
        record.at_micros >= START + RECORDS / 2 * 47 * SECOND
    });
}

#[test]
fn rollups_that_do_not_tell_metadata_leave_it_to_records_and_say_how_many_are_gone() {
    let mut store = store();
    for (_, path) in file::list(store.reader.log()).unwrap() {
        let mut file = file::RollupFile::open(&path).unwrap();
        let mut tables = Vec::new();
        for at in file.tables.clone() {
            let mut table = file.table(&at).unwrap().unwrap();
            table.members.clone_from(&table.cells);
            for cell in &mut table.members {
                cell.parts.truncate(2);
                cell.parts.extend([UNTOLD, UNTOLD]);
            }
            tables.push(table);
        }
        file::write_anew(&path, &tables, START).unwrap();
    }
    check(&mut store, "", &["task", "date"], |_| true);
    for name in store.reader.log().record_files().unwrap().sealed {
        std::fs::remove_file(name.path).unwrap();
    }
    check(&mut store, "", &["task"], |record| {
        record.at_micros >= START + RECORDS / 2 * 47 * SECOND
    });
    let query = "{ viewer { accounts { aiGatewayRequestsAdaptiveGroups { count \
                 dimensions { metadataValue(key: \"task\") } } } } }";
    let answer = store.post(&json!({ "query": query }));
    assert_eq!(
        answer["extensions"],
        json!({ "recordsGone": RECORDS / 2 }),
        "{answer:#}"
    );
}

#[test]
fn an_answer_says_how_many_records_are_among_other_values() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (senders, logs) = logs::start(&data_dir, &LogOptions::new(1)).unwrap();
    for n in 0..600 {
        let metadata = format!(r#"{{"task":"t{n}"}}"#);
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Metadata as usize] = metadata.as_bytes();
        let record = Record {
            id: u128::from(n + 1).to_be_bytes(),
            at_micros: START + n,
            texts: Texts::pack(&texts),
            ..Record::default()
        };
        assert!(senders[0].record(Box::new(record)));
    }
    drop(senders);
    logs.stop();
    drop(data_dir);
    let log = LogDir::of(dir.path());
    for (number, path) in log.journals().unwrap() {
        let never = AtomicBool::new(false);
        logs::seal::seal_journal(&log, number, &path, &mut Vec::new(), &never).unwrap();
        let _ = std::fs::remove_file(path);
    }
    let mut store = Store {
        reader: LogReader::new(log.clone()),
        _dir: dir,
    };
    let query = "{ viewer { accounts { groups: aiGatewayRequestsAdaptiveGroups(limit: 1000) { \
                 count dimensions { task: metadataValue(key: \"task\") } } } } }";
    let groups = |answer: &Json| {
        let groups = answer["data"]["viewer"]["accounts"][0]["groups"].as_array();
        groups.unwrap().len()
    };
    let answer = store.post(&json!({ "query": query }));
    assert_eq!((groups(&answer), &answer["extensions"]), (600, &Json::Null));
    let (mut rollups, _) = Rollups::open(log, START + 3 * DAY).unwrap();
    rollups
        .pass(START + 3 * DAY, &AtomicBool::new(false))
        .unwrap();
    let answer = store.post(&json!({ "query": query }));
    assert_eq!(groups(&answer), 501);
    assert_eq!(answer["extensions"], json!({ "valuesInOther": 100 }));
}

#[test]
fn windows_that_meet_share_no_request_and_lose_none() {
    let mut store = store();
    // On a minute's edge and within a minute, with and without offset.
    for (text, micros) in [
        ("2026-11-20T23:10:00Z", START + 70 * MINUTE),
        ("2026-11-21T00:10:00.000+01:00", START + 70 * MINUTE),
        ("2026-11-20T23:10:30.5Z", START + 71 * MINUTE),
    ] {
        for field in ["datetime", "datetimeMinute"] {
            let before = format!("{field}_lt: \"{text}\"");
            check(&mut store, &before, &["model"], |record| {
                record.at_micros < micros
            });
            let after = format!("{field}_geq: \"{text}\"");
            check(&mut store, &after, &["model"], |record| {
                record.at_micros >= micros
            });
        }
    }
    let edge = START + 70 * MINUTE;
    let text = "2026-11-20T23:10:00Z";
    check(
        &mut store,
        &format!("datetime_gt: \"{text}\""),
        &[],
        |record| record.at_micros >= edge + MINUTE,
    );
    check(
        &mut store,
        &format!("datetime_leq: \"{text}\""),
        &["task"],
        |record| record.at_micros < edge + MINUTE,
    );
    check(
        &mut store,
        &format!("datetimeMinute: \"{text}\""),
        &["provider"],
        |record| (edge..edge + MINUTE).contains(&record.at_micros),
    );
}

#[test]
fn filters_are_of_hours_days_and_names() {
    let mut store = store();
    let midnight = START + 2 * HOUR;
    let hour = "2026-11-20T23:00:00Z";
    let within = |record: &Record, from: u64, to: u64| (from..to).contains(&record.at_micros);
    check(
        &mut store,
        &format!("datetimeHour: \"{hour}\""),
        &["model"],
        |record| within(record, START + HOUR, midnight),
    );
    check(
        &mut store,
        &format!("datetimeHour_gt: \"{hour}\""),
        &["model"],
        |record| record.at_micros >= midnight,
    );
    check(
        &mut store,
        &format!("datetimeHour_leq: \"{hour}\""),
        &["date"],
        |record| record.at_micros < midnight,
    );
    check(&mut store, "date: \"2026-11-21\"", &["gateway"], |record| {
        record.at_micros >= midnight
    });
    check(
        &mut store,
        "date_geq: \"2026-11-20\", date_lt: \"2026-11-21\"",
        &["date"],
        |record| record.at_micros < midnight,
    );
    check(&mut store, "date_gt: \"2026-11-21\"", &["date"], |_| false);
    let text = |record: &Record, text| record.text(text).into_owned();
    check(&mut store, "gateway: \"second\"", &["model"], |record| {
        text(record, Text::Gateway) == "second"
    });
    check(
        &mut store,
        "model_in: [\"claude\", \"gpt-4o\"]",
        &["provider"],
        |record| !text(record, Text::Model).is_empty(),
    );
    check(
        &mut store,
        "model_like: \"gpt%\", provider_neq: \"openai\"",
        &[],
        |record| text(record, Text::Model) == "gpt-4o" && text(record, Text::Provider) != "openai",
    );
    let either = format!(
        "OR: [{{ datetimeHour: \"{hour}\", model: \"claude\" }}, \
         {{ AND: [{{ gateway: \"second\" }}, {{ date: \"2026-11-21\" }}] }}]"
    );
    check(&mut store, &either, &["model", "datetimeHour"], |record| {
        within(record, START + HOUR, midnight) && text(record, Text::Model) == "claude"
            || record.at_micros >= midnight && text(record, Text::Gateway) == "second"
    });
}

#[test]
fn groups_come_in_the_order_and_number_that_were_asked_for() {
    let mut store = store();
    let minutes = |store: &mut Store, arguments: &str| -> Vec<String> {
        let groups = store.groups(arguments, "dimensions { at: datetimeMinute }");
        let at = |group: &Json| group["dimensions"]["at"].as_str().unwrap().to_owned();
        groups.iter().map(at).collect()
    };
    let mut expected: Vec<String> = (0..RECORDS)
        .map(|n| dimension(&record(n), "datetimeMinute"))
        .map(|minute| minute.as_str().unwrap().to_owned())
        .collect();
    expected.dedup();
    let all = minutes(&mut store, "limit: 10000, orderBy: [datetimeMinute_ASC]");
    assert_eq!(all, expected);
    assert_eq!(minutes(&mut store, "limit: 7"), expected[..7]);
    assert_eq!(minutes(&mut store, "orderBy: []"), expected[..100]);
    assert_eq!(minutes(&mut store, "limit: 0"), [""; 0]);
    expected.reverse();
    let last = minutes(&mut store, "limit: 150, orderBy: datetimeMinute_DESC");
    assert_eq!(last, expected[..150]);

    for (order, path) in [("count_DESC", "/count"), ("sum_cost_DESC", "/sum/cost")] {
        let arguments = format!("limit: 5, orderBy: [{order}, model_ASC]");
        let groups = store.groups(
            &arguments,
            "count sum { cost } dimensions { model provider datetimeHour }",
        );
        assert_eq!(groups.len(), 5);
        let of = |group: &Json| group.pointer(path).unwrap().as_f64().unwrap();
        assert!(
            groups.windows(2).all(|pair| of(&pair[0]) >= of(&pair[1])),
            "{groups:#?}"
        );
    }
    let groups = store.groups(
        "orderBy: [date_DESC, quantiles_durationMsP50_ASC]",
        "dimensions { date provider } quantiles { durationMsP50 durationMsP99 timeToFirstTokenMsP50 }",
    );
    let date = |group: &Json| group["dimensions"]["date"].as_str().unwrap().to_owned();
    assert_eq!(
        groups.iter().map(date).collect::<Vec<_>>(),
        ["2026-11-21", "2026-11-21", "2026-11-20", "2026-11-20"]
    );
    let median = groups[3]["quantiles"]["durationMsP50"].as_f64().unwrap();
    assert!((2.0..3.0).contains(&median), "{groups:#?}");
}

/// As documented: variables are used and not declared.
const DOCUMENTED: &str = "query{
  viewer {
    accounts(filter: { accountTag: \"any\" }) {
      requests: aiGatewayRequestsAdaptiveGroups(
        limit: $limit
        filter: { datetimeHour_geq: $start, datetimeHour_leq: $end }
        orderBy: [datetimeMinute_ASC]
      ) {
        count,
        dimensions {
          model,
          provider,
          gateway,
          ts: datetimeMinute
        }
      }
    }
  }
}";

#[test]
fn the_documented_example_works_with_its_undeclared_variables() {
    let mut store = store();
    let variables = json!({
        "limit": 1000,
        "start": "2026-11-20T23:00:00.000Z",
        "end": "2026-11-30T10:00:00.000Z",
        "orderBy": "date_ASC",
    });
    let count = |answer: &Json| {
        let groups = answer["data"]["viewer"]["accounts"][0]["requests"].as_array();
        let Some(groups) = groups else {
            panic!("{answer:#}");
        };
        let counts = groups.iter().map(|group| group["count"].as_u64().unwrap());
        counts.sum::<u64>()
    };
    let mut counted = (0..RECORDS).map(record);
    let expected = counted
        .by_ref()
        .filter(|record| record.at_micros >= START + HOUR && record.attempt == 0)
        .count() as u64;
    let answer = store.post(&json!({"query": DOCUMENTED, "variables": variables}));
    assert_eq!(count(&answer), expected);

    // Declared, by types of other schemas, with a default and one that is null.
    let declared = DOCUMENTED.replace(
        "query{",
        "query Q($limit: uint64!, $start: Time, $end: string = \"2026-11-30T10:00:00Z\", $x: Time) {",
    );
    let declared = declared.replace("datetimeHour_geq:", "datetime_geq: $x, datetimeHour_geq:");
    let variables = json!({"limit": 1000, "start": "2026-11-20T23:00:00.000Z"});
    let body = json!({"query": declared, "variables": variables, "operationName": "Q"});
    let answer = store.post(&body);
    assert_eq!(count(&answer), expected);

    // A whole filter and an order as variables.
    let query = "query($f: F, $o: [O!], $t: Boolean!) { viewer { accounts { requests: \
         aiGatewayRequestsAdaptiveGroups(filter: $f, orderBy: $o) { count \
         dimensions { date @include(if: $t) } } } } }";
    let variables = json!({
        "f": {"datetimeHour_geq": "2026-11-20T23:00:00Z"},
        "o": "count_DESC",
        "t": false,
    });
    let answer = store.post(&json!({"query": query, "variables": variables}));
    assert_eq!(count(&answer), expected);
    let groups = &answer["data"]["viewer"]["accounts"][0]["requests"];
    assert_eq!(
        groups.as_array().unwrap().len(),
        1,
        "a skipped dimension is none"
    );
}

#[test]
fn costs_have_every_digit() {
    let mut store = store();
    let query = "{ viewer { accounts { aiGatewayRequestsAdaptiveGroups { sum { cost } } } } }";
    let body = json!({ "query": query }).to_string();
    let (_, text) = answer(&mut store.reader, None, body.as_bytes());
    let picos: u128 = (0..RECORDS)
        .filter_map(|n| record(n).cost)
        .map(u128::from)
        .sum();
    let dollars = format!(
        "{}.{:012}",
        picos / 1_000_000_000_000,
        picos % 1_000_000_000_000
    );
    let expected = format!(
        r#"{{"data":{{"viewer":{{"accounts":[{{"aiGatewayRequestsAdaptiveGroups":[{{"sum":{{"cost":{}}}}}]}}]}}}}}}"#,
        dollars.trim_end_matches('0')
    );
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn another_account_is_an_error_where_one_is_configured() {
    let mut store = store();
    let mut ask = |account: Option<&str>, filter: &str| {
        let query = format!("{{ viewer {{ accounts{filter} {{ __typename }} }} }}");
        let body = json!({ "query": query }).to_string();
        let (status, text) = answer(&mut store.reader, account, body.as_bytes());
        assert_eq!(status, 200);
        let answer: Json = serde_json::from_slice(&text).unwrap();
        answer["errors"][0]["message"].as_str().map(str::to_owned)
    };
    assert_eq!(ask(None, "(filter: {accountTag: \"any\"})"), None);
    assert_eq!(ask(Some("acme"), "(filter: {accountTag: \"acme\"})"), None);
    assert_eq!(ask(Some("acme"), ""), None);
    let error = ask(Some("acme"), "(filter: {accountTag: \"other\"})");
    assert!(error.unwrap().contains("unknown"));
}

#[test]
fn a_query_that_is_wrong_is_told_so() {
    let mut store = store();
    let of = |arguments: &str, selection: &str| {
        format!(
            "{{ viewer {{ accounts {{ aiGatewayRequestsAdaptiveGroups{arguments} {{ {selection} }} }} }} }}"
        )
    };
    for (query, word) in [
        ("{ viewer { nothing } }".to_owned(), "nothing"),
        (of("", "sum { tokensIn }"), "tokensIn"),
        (of("", "dimensions { metadataValue }"), "key"),
        (of("(limit: -1)", "count"), "limit"),
        (of("(limit: 10001)", "count"), "10000"),
        (of("(limit: \"5\")", "count"), "Int"),
        (of("(limit: $l)", "count"), "$l"),
        (of("(orderBy: [count])", "count"), "count"),
        (of("(orderBy: [date_ASC])", "count"), "selected"),
        (
            of("(filter: {datetime_geq: \"soon\"})", "count"),
            "2026-11-21T12:00:00Z",
        ),
        (of("(filter: {date: 5})", "count"), "Date"),
        (of("(filter: {tokens: 5})", "count"), "tokens"),
        ("{ viewer".to_owned(), "expected"),
        ("mutation { viewer { __typename } }".to_owned(), "queries"),
        (
            "subscription { viewer { __typename } }".to_owned(),
            "queries",
        ),
        (
            "query A { viewer { __typename } } query B { viewer { __typename } }".to_owned(),
            "operationName",
        ),
        ("{ viewer { ...X } }".to_owned(), "X"),
        (String::new(), "expected"),
    ] {
        let error = store.error(&query);
        assert!(error.contains(word), "{query}: {error}");
    }
}

#[test]
fn a_body_without_a_query_is_a_bad_request() {
    let mut store = store();
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"{}",
        br#"{"query":5}"#,
        br#"{"query":"{viewer{__typename}}","variables":[]}"#,
        br#"{"query":"{viewer{__typename}}","operationName":5}"#,
        &[b'['; 10_000],
        &vec![b' '; BODY_BYTES_MAX + 1],
    ] {
        let (status, text) = answer(&mut store.reader, None, body);
        let answer: Json = serde_json::from_slice(&text).unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer["errors"][0]["message"].is_string(), "{answer}");
        assert_eq!(answer["data"], Json::Null);
    }
}

#[test]
fn hostile_queries_end_soon_and_with_a_word() {
    let mut store = store();
    let groups = "aiGatewayRequestsAdaptiveGroups";
    let accounts = |within: &str| format!("{{ viewer {{ accounts {{ {within} }} }} }}");
    let aliased: String = (0..1_000)
        .map(|n| format!("a{n}: {groups} {{ count }} "))
        .collect();
    let few: String = (0..40)
        .map(|n| format!("a{n}: {groups} {{ count }} "))
        .collect();
    let circle = "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }";
    let mut doubling = "{ viewer { ...F0 } } ".to_owned();
    for n in 0..40 {
        let next = n + 1;
        doubling += &format!("fragment F{n} on Viewer {{ ...F{next} ...F{next} }} ");
    }
    doubling += "fragment F40 on Viewer { __typename }";
    let types = "{ __schema { types { fields { type { fields { type { name } } } } } } }";
    let conditions = format!(
        "{groups}(filter: {{ OR: [{}] }}) {{ count }}",
        "{model: \"x\"} ".repeat(200)
    );
    let values: String = (0..100)
        .map(|n| format!("m{n}: metadataValue(key: \"k{n}\") "))
        .collect();
    for (query, word) in [
        ("{ a ".repeat(9_000), "deep"),
        (
            accounts(&format!("{groups}(limit: {}", "[".repeat(30_000))),
            "deep",
        ),
        (
            accounts(&format!("{groups}(filter: {}", "{AND:".repeat(9_000))),
            "deep",
        ),
        (accounts(&aliased), "500"),
        (accounts(&few), "16"),
        (circle.to_owned(), "itself"),
        (doubling, "500"),
        (
            "fragment F on Viewer { __typename } ".replace('F', "F0") + &"x".repeat(50_000),
            "expected",
        ),
        (types.to_owned(), "members"),
        (accounts(&conditions), "100"),
        (
            accounts(&format!("{groups} {{ dimensions {{ {values} }} }}")),
            "16",
        ),
    ] {
        let error = store.error(&query);
        assert!(
            error.contains(word),
            "{}: {error}",
            &query[..query.len().min(80)]
        );
    }
    // A long variable that is used often.
    let uses: String = (0..100)
        .map(|n| format!("a{n}: {groups}(filter: {{model: $m}}) {{ count }} "))
        .collect();
    let variables = json!({"m": "x".repeat(10_000)});
    let answer = store.post(&json!({"query": accounts(&uses), "variables": variables}));
    let error = answer["errors"][0]["message"].as_str().unwrap();
    assert!(error.contains("variables"), "{error}");
    let mut deep = json!("x");
    for _ in 0..60 {
        deep = json!([deep]);
    }
    let answer =
        store.post(&json!({"query": "{ viewer { __typename } }", "variables": {"d": deep}}));
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("deep")
    );
}

#[test]
fn the_schema_describes_itself_to_the_last_field() {
    let mut store = store();
    let query = "{ __schema { queryType { name } types { kind name description \
         fields { name description args { name description } type { ...T } } \
         inputFields { name description type { ...T } } enumValues { name description } } } } \
         fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
    let answer = store.post(&json!({ "query": query }));
    let types = answer["data"]["__schema"]["types"].as_array().unwrap();
    let mut names = Vec::new();
    for of in types {
        let name = of["name"].as_str().unwrap();
        // Types of GraphQL itself have no description.
        if name.starts_with("__") || ["ID", "String", "Boolean", "Int", "Float"].contains(&name) {
            continue;
        }
        names.push(name);
        assert!(of["description"].is_string(), "{name}");
        for members in ["fields", "inputFields", "enumValues"] {
            for member in of[members].as_array().into_iter().flatten() {
                assert!(member["description"].is_string(), "{name}: {member}");
                for argument in member["args"].as_array().into_iter().flatten() {
                    assert!(argument["description"].is_string(), "{name}: {member}");
                }
            }
        }
    }
    assert!(names.contains(&"AccountAiGatewayRequestsAdaptiveGroups"));
    let text = description();
    for name in [
        "durationMsP999: Decimal",
        "datetimeHour_geq: Time",
        "metadataRaw_like: String",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
}
