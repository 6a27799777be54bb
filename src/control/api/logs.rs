//! Records of a gateway (contract `management-api.md` section 3).
//!
//! Reading order: the handlers, then [`question`] (what a request asks for), [`row`] (a record as it
//! is answered), [`body`]. What a query means is read by the log's own
//! [`filter::contract`](crate::control::logs::filter::contract), and answered by its
//! [`query`](crate::control::logs::query).

use serde_json::{Map, Value, json};

use super::{
    archive::Archive,
    envelope::{self, Paging},
    failure::{Failure, Report},
    field,
    gateway::{fields::option, must_exist},
    request::Request,
};
use crate::{
    control::{
        logs::{
            deletion::LogDeleter,
            filter::contract::list::{self, Verb},
            query::{ScanReport, page, search},
            snapshot::LogSnapshot,
        },
        store::{marks, text},
    },
    domain::{
        id::RequestId,
        record::{Record, Text},
    },
    handoff::mailbox::ApiAnswer,
};

pub mod question;
pub mod row;
pub mod body;

use self::body::Which;

/// `GET …/logs`
pub fn list(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let query = list::read(request.pairs(), Verb::List)?;
    let paging = Paging::new(Some(query.page), Some(query.per_page.into()));
    let config = archive.config();
    let connection = archive.connection()?;
    must_exist(connection, &config, gateway)?;
    let filter = question::filter(connection, gateway, &query)?;
    let mut bodies = ScanReport::default();
    let limit = question::bodies_limit();
    let filter = search::in_bodies(archive.log(), filter, limit, &mut bodies)?;
    let wanted = question::page_of(&query, paging.offset(), paging.per_page);
    let snapshot = archive.snapshot()?;
    let found = page::page(&snapshot, &filter, &wanted, question::records_limit())
        .map_err(|error| question::refusal(error, "page"))?;
    let connection = archive.connection()?;
    let mut result = Vec::with_capacity(found.records.len());
    for record in &found.records {
        let mark = marks::get(connection, record.id())?.unwrap_or_default();
        result.push(row::short(record, &mark));
    }
    let mut info = paging.info(result.len(), found.total.unwrap_or(0));
    if let Some(ranges) = &found.ranges {
        question::write_ranges(ranges, &mut info);
    }
    let messages = question::messages(&bodies, &found.report);
    Ok(envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": messages, "result": result, "result_info": info}),
    ))
}

/// `DELETE …/logs`
pub fn delete(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let query = list::read(request.pairs(), Verb::Delete)?;
    let config = archive.config();
    let connection = archive.connection()?;
    must_exist(connection, &config, gateway)?;
    let mut messages = Vec::new();
    if query.filter.is_empty() && query.limit.is_none() {
        let snapshot = archive.snapshot()?;
        delete_all(&snapshot, archive.deleter(), gateway)?;
        archive.change(|connection| Ok(marks::delete_all(connection, gateway)?))?;
    } else {
        let filter = question::filter(connection, gateway, &query)?;
        let wanted = question::page_of(&query, 0, 0);
        let snapshot = archive.snapshot()?;
        let (ids, report) = page::ids(&snapshot, &filter, &wanted, query.limit)
            .map_err(|error| question::refusal(error, "limit"))?;
        let mut ids: Vec<[u8; 16]> = ids.into_iter().map(|id| id.0).collect();
        ids.sort_unstable();
        archive.deleter().delete(&ids)?;
        archive.change(|connection| Ok(marks::delete(connection, gateway, &ids)?))?;
        messages = question::messages(&ScanReport::default(), &report);
    }
    // Clients do not unwrap this one.
    Ok(envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": messages, "result": {}}),
    ))
}

/// Deletes all records of a gateway: those of `snapshot`, and those of exchanges that began before
/// now and have not ended. New ones are not meant.
pub fn delete_all(
    snapshot: &LogSnapshot,
    deleter: &LogDeleter,
    gateway: &str,
) -> Result<(), Failure> {
    let now = RequestId::below(text::now().unsigned_abs());
    // A shard's clock may be ahead of this one.
    let (greatest, _) = page::greatest_id(snapshot, &question::of_gateway(gateway));
    let last = greatest.map_or(now, |greatest| greatest.max(now));
    Ok(deleter.delete_oldest(gateway.as_bytes(), last.0)?)
}

/// `GET …/logs/{id}`
pub fn get(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let record = find(archive, request)?;
    let mark = marks::get(archive.connection()?, record.id())?.unwrap_or_default();
    let bodies = body::find(archive.log(), &record)?;
    Ok(envelope::result(&row::detail(&record, &mark, &bodies)))
}

/// `PATCH …/logs/{id}`
pub fn mark(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let feedback = option(&body, "feedback", &mut report, |value, report| {
        let thumb = value.as_i64().filter(|thumb| (-1..=1).contains(thumb));
        if thumb.is_none() {
            report.wrong("must be -1, 1 or null");
        }
        thumb
    });
    let score = option(&body, "score", &mut report, |value, report| {
        let number = value
            .as_f64()
            .filter(|score| score.is_finite() && score.abs() <= 1e9);
        if number.is_none() {
            report.wrong("must be a number or null");
        }
        number.map(|_| value.to_string())
    });
    let metadata = option(&body, "metadata", &mut report, metadata);
    report.finish()?;
    let record = find(archive, request)?;
    let gateway = request.name("gateway_id");
    archive.change(|connection| {
        let mut mark = marks::get(connection, record.id())?.unwrap_or_default();
        // What is left out stays; null takes it away.
        if body.contains_key("feedback") {
            mark.feedback = feedback.flatten();
        }
        if body.contains_key("score") {
            mark.score = score.flatten();
        }
        if body.contains_key("metadata") {
            mark.metadata = metadata.flatten();
        }
        Ok(marks::set(
            connection,
            gateway,
            record.id(),
            &mark,
            text::now(),
        )?)
    })?;
    Ok(envelope::result(&json!({})))
}

/// Members of metadata that are kept.
const METADATA_MAX: usize = 64;

fn metadata(value: &Value, report: &mut Report) -> Option<String> {
    let form = field::object(value, report)?;
    if form.len() > METADATA_MAX {
        report.wrong(format!("must have at most {METADATA_MAX} members"));
        return None;
    }
    let mut all = Map::new();
    for (name, value) in form {
        let fits = match value {
            Value::String(text) => text.len() <= 4096,
            Value::Number(_) | Value::Bool(_) => true,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        if !fits {
            report.within(name, |report| {
                report.wrong("must be text of at most 4096 bytes, a number, true or false");
            });
            return None;
        }
        all.insert(name.clone(), value.clone());
    }
    Some(Value::Object(all).to_string())
}

/// `GET …/logs/{id}/request`
pub fn request_body(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    stored_body(archive, request, Which::Request)
}

/// `GET …/logs/{id}/response`
pub fn response_body(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    stored_body(archive, request, Which::Response)
}

fn stored_body(
    archive: &mut Archive,
    request: &Request<'_>,
    which: Which,
) -> Result<ApiAnswer, Failure> {
    let record = find(archive, request)?;
    body::answer(&body::find(archive.log(), &record)?, which)
}

/// The record that a path names, if it is the gateway's and was not deleted.
fn find(archive: &mut Archive, request: &Request<'_>) -> Result<Record, Failure> {
    let not_found = || Failure::not_found("log");
    let id = RequestId::parse(request.name("id")).ok_or_else(not_found)?;
    let (found, _) = page::find(&archive.snapshot()?, id);
    found
        .filter(|record| record.text(Text::Gateway) == request.name("gateway_id"))
        .ok_or_else(not_found)
}
