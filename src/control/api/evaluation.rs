//! Evaluations (contract `management-api.md` section 5): figures over the records of datasets,
//! computed when the evaluation is made. They are not computed again when a dataset changes.

use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    archive::Archive,
    dataset, envelope,
    failure::{Failure, Report},
    field::{list as list_of, text as text_of},
    gateway::{fields::member, must_exist},
    logs::question,
    office::Office,
    request::Request,
};
use crate::{
    control::{
        logs::{
            filter::Said,
            query::{
                figures::{self, Figures},
                select::Limit,
            },
        },
        store::{
            marks,
            objects::{self, Kind, Object},
            text::{self, UnixMillis},
        },
    },
    domain::money::PicoDollars,
    handoff::mailbox::ApiAnswer,
};

/// One kind of evaluator.
struct Evaluator {
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    compute: fn(&Figures) -> Figure,
}

/// The evaluators there are.
const EVALUATORS: [Evaluator; 3] = [
    Evaluator {
        id: "cost",
        name: "Cost",
        kind: "cost",
        description: "Average cost of a request in dollars, of those whose cost is known.",
        compute: |sums| Figure {
            text: (sums.priced > 0)
                .then(|| PicoDollars(rounded(sums.cost, sums.priced)).to_string()),
            rows: sums.priced,
        },
    },
    Evaluator {
        id: "speed",
        name: "Speed",
        kind: "duration",
        description: "Average duration of a request in milliseconds.",
        compute: |sums| Figure {
            text: (sums.rows > 0).then(|| {
                let micros = rounded(sums.duration_micros, sums.rows);
                format!("{}.{:03}", micros / 1000, micros % 1000)
            }),
            rows: sums.rows,
        },
    },
    Evaluator {
        id: "human_feedback",
        name: "Human feedback",
        kind: "feedback",
        description: "Share of thumbs up in percent, of the requests that somebody has judged.",
        compute: |sums| Figure {
            text: (sums.judged > 0).then(|| {
                let thousandths = rounded(u128::from(sums.up) * 100_000, sums.judged);
                format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
            }),
            rows: sums.judged,
        },
    },
];

/// When the evaluators came to be: a constant, as they are.
const EVALUATORS_SINCE: &str = "2026-11-21T00:00:00.000Z";

/// Evaluations of one gateway.
const EVALUATIONS_MAX: u64 = 1000;

/// Datasets of one evaluation.
const DATASETS_MAX: usize = 32;

const RESULT_DONE: (u32, &str) = (1, "done");
const RESULT_EMPTY: (u32, &str) = (2, "no record has the value");

/// What an evaluator found.
struct Figure {
    text: Option<String>,
    rows: u64,
}

/// Sum by count, half up. `count` is not zero.
fn rounded(sum: u128, count: u64) -> u64 {
    let count = u128::from(count.max(1));
    u64::try_from((sum + count / 2) / count).unwrap_or(u64::MAX)
}

/// `GET …/evaluation-types`
pub fn types(_: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let kind = |evaluator: &Evaluator| {
        json!({
            "id": evaluator.id,
            "name": evaluator.name,
            "type": evaluator.kind,
            "description": evaluator.description,
            "enable": true,
            "mandatory": false,
            "created_at": EVALUATORS_SINCE,
            "modified_at": EVALUATORS_SINCE,
        })
    };
    let mut all: Vec<Value> = EVALUATORS.iter().map(kind).collect();
    if let Some(name) = request.query("order_by") {
        let text = |value: &Value| value[name].as_str().unwrap_or_default().to_owned();
        all.sort_by_key(text);
    }
    if request.query("order_by_direction") == Some("desc") {
        all.reverse();
    }
    Ok(envelope::list(all, request.paging()))
}

/// `GET …/evaluations`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let config = office.config();
    let all = office.look(|connection| {
        must_exist(connection, &config, gateway)?;
        Ok(objects::list(connection, Kind::Evaluation, gateway)?)
    })?;
    let mut all: Vec<Value> = all.iter().map(shown).collect();
    if let Some(name) = request.query("name") {
        all.retain(|evaluation| evaluation["name"] == name);
    }
    if let Some(processed) = request.flag("processed") {
        all.retain(|evaluation| evaluation["processed"] == processed);
    }
    if let Some(part) = request.query("search") {
        all.retain(|evaluation| dataset::holds(evaluation, part));
    }
    Ok(envelope::list(all, request.paging()))
}

/// `GET …/evaluations/{id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let found =
        office.read(|connection| objects::get(connection, Kind::Evaluation, gateway, id))?;
    let found = found.ok_or_else(|| Failure::not_found("evaluation"))?;
    Ok(envelope::result(&shown(&found)))
}

/// `DELETE …/evaluations/{id}`
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let object = office.change(|connection| {
        let found = objects::get(connection, Kind::Evaluation, gateway, id)?;
        let object = found.ok_or_else(|| Failure::not_found("evaluation"))?;
        objects::delete(connection, Kind::Evaluation, gateway, id)?;
        Ok(object)
    })?;
    Ok(envelope::result(&shown(&object)))
}

/// `POST …/evaluations`: computed at once.
pub fn create(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let name = member(&body, "name", &mut report, |v, r| text_of(v, &(1..=256), r));
    let ids = |name: &str, report: &mut Report| {
        member(&body, name, report, |value, report| {
            let all = list_of(value, DATASETS_MAX, report, |v, r| text_of(v, &(1..=64), r))?;
            if all.is_empty() {
                report.wrong("must not be empty");
                return None;
            }
            Some(all)
        })
    };
    let datasets = ids("dataset_ids", &mut report);
    let types = ids("evaluation_type_ids", &mut report);
    report.finish()?;
    let (name, types) = (name.unwrap_or_default(), types.unwrap_or_default());
    let config = archive.config();
    let account = match request.name("account_id") {
        "" => super::account::ANY_ACCOUNT,
        account => account,
    };
    let connection = archive.connection()?;
    must_exist(connection, &config, gateway)?;
    let evaluators = evaluators(&types)?;
    let datasets = load(connection, gateway, &datasets.unwrap_or_default())?;
    let sums = sum(archive, gateway, &datasets)?;
    let now = text::now();
    let object = object(gateway, name, account, &datasets, &evaluators, &sums, now)?;
    archive.change(|connection| {
        must_exist(connection, &config, gateway)?;
        if objects::count(connection, Kind::Evaluation, gateway)? >= EVALUATIONS_MAX {
            let message = format!("a gateway can have at most {EVALUATIONS_MAX} evaluations");
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        objects::insert(connection, Kind::Evaluation, &object)?;
        Ok(())
    })?;
    Ok(envelope::result(&shown(&object)))
}

fn evaluators(ids: &[String]) -> Result<Vec<&'static Evaluator>, Failure> {
    let mut all = Vec::new();
    for id in ids {
        let found = EVALUATORS.iter().find(|evaluator| evaluator.id == id);
        let known: Vec<_> = EVALUATORS.iter().map(|evaluator| evaluator.id).collect();
        all.push(found.ok_or_else(|| {
            let message = format!("names no evaluation type; there are {}", known.join(", "));
            Failure::invalid(&["body", "evaluation_type_ids"], message)
        })?);
    }
    Ok(all)
}

fn load(connection: &Connection, gateway: &str, ids: &[String]) -> Result<Vec<Object>, Failure> {
    let mut all = Vec::new();
    for id in ids {
        let found = objects::get(connection, Kind::Dataset, gateway, id)?;
        all.push(found.ok_or_else(|| {
            let message = "names no dataset of this gateway";
            Failure::invalid(&["body", "dataset_ids"], message)
        })?);
    }
    Ok(all)
}

/// Sums over the records of any of the datasets, each record once.
fn sum(archive: &mut Archive, gateway: &str, datasets: &[Object]) -> Result<Figures, Failure> {
    let mut said = Said::default();
    marks::add_feedback(archive.connection()?, gateway, &mut said)?;
    let said = Arc::new(said);
    let mut filters = Vec::new();
    for dataset in datasets {
        filters.push(dataset::filter(dataset)?.with_said(Arc::clone(&said)));
    }
    let filter = question::of_gateway(gateway).with_said(said);
    let snapshot = archive.snapshot()?;
    let (figures, _) = figures::figures(&snapshot, &filter, &filters, Limit::default());
    Ok(figures)
}

fn object(
    gateway: &str,
    name: String,
    account: &str,
    datasets: &[Object],
    evaluators: &[&Evaluator],
    sums: &Figures,
    now: UnixMillis,
) -> Result<Object, Failure> {
    let id = text::random_id()?;
    let mut results = Vec::new();
    for evaluator in evaluators {
        let figure = (evaluator.compute)(sums);
        let (status, description) = match figure.text {
            Some(_) => RESULT_DONE,
            None => RESULT_EMPTY,
        };
        results.push(json!({
            "id": text::random_id()?,
            "evaluation_id": id,
            "evaluation_type_id": evaluator.id,
            "result": figure.text.unwrap_or_default(),
            "status": status,
            "status_description": description,
            "total_logs": figure.rows,
            "created_at": text::time(now),
            "modified_at": text::time(now),
        }));
    }
    let datasets: Vec<Value> = datasets
        .iter()
        .map(|dataset| {
            let mut shown = dataset::shown(dataset);
            shown["account_id"] = account.into();
            shown["account_tag"] = account.into();
            shown
        })
        .collect();
    let document = Map::from_iter([
        ("name".to_owned(), name.into()),
        ("datasets".to_owned(), datasets.into()),
        ("processed".to_owned(), true.into()),
        ("total_logs".to_owned(), sums.rows.into()),
        ("results".to_owned(), results.into()),
    ]);
    Ok(Object {
        parent: gateway.to_owned(),
        name: id.clone(),
        id,
        document,
        sealed: None,
        created_at: now,
        modified_at: now,
    })
}

fn shown(object: &Object) -> Value {
    let mut shown = json!({
        "id": object.id,
        "gateway_id": object.parent,
        "created_at": text::time(object.created_at),
        "modified_at": text::time(object.modified_at),
    });
    for (name, value) in &object.document {
        shown[name.as_str()] = value.clone();
    }
    shown
}

/// The schema of a body.
pub fn schema() -> Value {
    let texts = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["name", "dataset_ids", "evaluation_type_ids"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 256},
            "dataset_ids": texts,
            "evaluation_type_ids": texts,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_of_the_rows_that_have_the_value() {
        let sums = Figures {
            rows: 3,
            duration_micros: 6_001,
            cost: 7,
            priced: 2,
            judged: 3,
            up: 2,
        };
        let figures: Vec<_> = EVALUATORS
            .iter()
            .map(|evaluator| {
                let figure = (evaluator.compute)(&sums);
                (figure.text.unwrap_or_default(), figure.rows)
            })
            .collect();
        let expected = [
            ("0.000000000004", 2), // 3.5, half up
            ("2.000", 3),
            ("66.667", 3),
        ];
        assert_eq!(
            figures,
            expected.map(|(text, rows)| (text.to_owned(), rows))
        );
        let none = (EVALUATORS[0].compute)(&Figures::default());
        assert_eq!((none.text, none.rows), (None, 0));
    }
}
