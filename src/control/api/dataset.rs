//! Datasets (contract `management-api.md` section 4): saved filters over the records of a
//! gateway, looked up when they are used.

use serde_json::{Value, json};

use super::{
    envelope,
    failure::{Failure, Report},
    field::{self, Field, Kind as FieldKind, Usual},
    gateway::must_exist,
    office::Office,
    request::Request,
};
use crate::{
    control::{
        logs::filter::{
            Filter,
            contract::{self, Purpose},
        },
        store::{
            objects::{self, Kind, Object},
            text,
        },
    },
    handoff::mailbox::ApiAnswer,
};

/// What a dataset has.
pub const FIELDS: &[Field] = &[
    Field::new(
        "name",
        FieldKind::Text(1..=256),
        Usual::Nothing,
        "What people call it.",
    )
    .required(),
    Field::new(
        "enable",
        FieldKind::Flag,
        Usual::Flag(true),
        "Whether it is in use.",
    )
    .required(),
    Field::new(
        "filters",
        FieldKind::Own(
            filters,
            || json!({"type": "array", "items": {"type": "object"}}),
        ),
        Usual::Nothing,
        "Which records belong to it: all filters must let one pass.",
    )
    .required(),
];

/// Datasets of one gateway.
const DATASETS_MAX: u64 = 1000;

/// Reads the filters, and gives them as they are kept.
fn filters(given: &Value, report: &mut Report) -> Option<Value> {
    if let Err(errors) = contract::of_json(given, Purpose::Dataset, &[]) {
        for error in errors {
            report.wrong_at(error);
        }
        return None;
    }
    let kept = |item: &Value| {
        let values = match &item["value"] {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        json!({"key": item["key"], "operator": item["operator"], "value": values})
    };
    Some(given.as_array()?.iter().map(kept).collect())
}

/// The filters of a dataset, to be asked.
pub fn filter(dataset: &Object) -> Result<Filter, Failure> {
    let filters = dataset.document.get("filters").cloned();
    let filters = filters.unwrap_or_else(|| json!([]));
    Ok(contract::of_json(&filters, Purpose::Dataset, &["filters"])?)
}

/// `GET …/datasets`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let config = office.config();
    let all = office.look(|connection| {
        must_exist(connection, &config, gateway)?;
        Ok(objects::list(connection, Kind::Dataset, gateway)?)
    })?;
    let mut all: Vec<Value> = all.iter().map(shown).collect();
    if let Some(enable) = request.flag("enable") {
        all.retain(|dataset| dataset["enable"] == enable);
    }
    if let Some(name) = request.query("name") {
        all.retain(|dataset| dataset["name"] == name);
    }
    if let Some(part) = request.query("search") {
        all.retain(|dataset| holds(dataset, part));
    }
    Ok(envelope::list(all, request.paging()))
}

/// Says whether name or id of an object holds a text.
pub fn holds(object: &Value, part: &str) -> bool {
    let part = part.to_lowercase();
    ["name", "id"].iter().any(|name| {
        let text = object[name].as_str().unwrap_or_default();
        text.to_lowercase().contains(&part)
    })
}

/// `GET …/datasets/{id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let found = office.read(|connection| objects::get(connection, Kind::Dataset, gateway, id))?;
    let found = found.ok_or_else(|| Failure::not_found("dataset"))?;
    Ok(envelope::result(&shown(&found)))
}

/// `POST …/datasets`
pub fn create(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let body = request.body()?;
    let config = office.config();
    let mut report = Report::new(envelope::CODE_INVALID);
    let document = field::read(FIELDS, &body, None, &mut report);
    report.finish()?;
    let now = text::now();
    let id = text::random_id()?;
    let object = Object {
        parent: gateway.to_owned(),
        name: id.clone(),
        id,
        document,
        sealed: None,
        created_at: now,
        modified_at: now,
    };
    office.change(|connection| {
        must_exist(connection, &config, gateway)?;
        if objects::count(connection, Kind::Dataset, gateway)? >= DATASETS_MAX {
            let message = format!("a gateway can have at most {DATASETS_MAX} datasets");
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        objects::insert(connection, Kind::Dataset, &object)?;
        Ok(())
    })?;
    Ok(envelope::result(&shown(&object)))
}

/// `PUT …/datasets/{id}`: what is left out stays as it was.
pub fn update(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let body = request.body()?;
    let object = office.change(|connection| {
        let found = objects::get(connection, Kind::Dataset, gateway, id)?;
        let mut object = found.ok_or_else(|| Failure::not_found("dataset"))?;
        let mut report = Report::new(envelope::CODE_INVALID);
        object.document = field::read(FIELDS, &body, Some(&object.document), &mut report);
        report.finish()?;
        object.modified_at = text::now().max(object.created_at);
        objects::update(connection, Kind::Dataset, &object)?;
        Ok(object)
    })?;
    Ok(envelope::result(&shown(&object)))
}

/// `DELETE …/datasets/{id}`
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let object = office.change(|connection| {
        let found = objects::get(connection, Kind::Dataset, gateway, id)?;
        let object = found.ok_or_else(|| Failure::not_found("dataset"))?;
        objects::delete(connection, Kind::Dataset, gateway, id)?;
        Ok(object)
    })?;
    Ok(envelope::result(&shown(&object)))
}

/// A dataset as it is answered.
pub fn shown(object: &Object) -> Value {
    let member = |name: &str| object.document.get(name).cloned().unwrap_or_default();
    json!({
        "id": object.id,
        "name": member("name"),
        "enable": member("enable"),
        "filters": member("filters"),
        "gateway_id": object.parent,
        "created_at": text::time(object.created_at),
        "modified_at": text::time(object.modified_at),
    })
}
