//! Records of a gateway (contract `management-api.md` section 3).
//!
//! Reading order: the handlers, then [`condition`] (which records a filter lets pass), [`wanted`]
//! (what a request asks for), [`search`] (the way through the log), [`row`] (a record as it is
//! answered), [`forget`] (records that were deleted), [`body`].

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    archive::Archive,
    envelope,
    failure::{Failure, Report},
    field,
    gateway::{fields::option, must_exist},
    request::Request,
};
use crate::{
    control::{
        logs::{query, segment::LogDir},
        store::{
            marks::{self, Mark},
            text,
        },
    },
    domain::{
        id::RequestId,
        record::{Record, Text},
    },
    handoff::mailbox::ApiAnswer,
};

pub mod condition;
pub mod wanted;
pub mod search;
pub mod row;
pub mod body;
pub mod forget;

use self::{body::Which, search::Search, wanted::Wanted};

/// `GET …/logs`
pub fn list(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let wanted = Wanted::of_list(request)?;
    let paging = request.paging();
    let config = archive.config();
    let (connection, log) = archive.both()?;
    must_exist(connection, &config, gateway)?;
    let search = Search {
        connection,
        log,
        gateway,
    };
    let found = search.page(&wanted, paging)?;
    let mut result = Vec::with_capacity(found.records.len());
    for record in &found.records {
        let mark = marks::get(connection, record.id())?.unwrap_or_default();
        result.push(row::short(record, &mark));
    }
    let mut info = paging.info(result.len(), found.total);
    if request.flag("meta_info") == Some(true) {
        found.extremes.write(&mut info);
    }
    Ok(envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": [], "result": result, "result_info": info}),
    ))
}

/// `DELETE …/logs`
pub fn delete(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let wanted = Wanted::of_delete(request)?;
    let config = archive.config();
    let (connection, log) = archive.both()?;
    must_exist(connection, &config, gateway)?;
    if wanted.is_everything() {
        archive.change(|connection| {
            marks::delete_all(connection, gateway)?;
            Ok(forget::gateway(connection, gateway, text::now())?)
        })?;
    } else {
        let search = Search {
            connection,
            log,
            gateway,
        };
        let ids = search.ids(&wanted)?;
        archive.change(|connection| {
            marks::delete(connection, &ids)?;
            Ok(forget::records(connection, &ids)?)
        })?;
    }
    // Clients do not unwrap this one.
    Ok(envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": [], "result": {}}),
    ))
}

/// `GET …/logs/{id}`
pub fn get(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (connection, log) = archive.both()?;
    let record = find(connection, log, request)?;
    let mark = marks::get(connection, record.id())?.unwrap_or_default();
    let bodies = body::find(log, &record)?;
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
    let (connection, log) = archive.both()?;
    let record = find(connection, log, request)?;
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
    let (connection, log) = archive.both()?;
    let record = find(connection, log, request)?;
    body::answer(&body::find(log, &record)?, which)
}

/// The record that a path names, if it is the gateway's and was not deleted.
fn find(connection: &Connection, log: &LogDir, request: &Request<'_>) -> Result<Record, Failure> {
    let not_found = || Failure::not_found("log");
    let gateway = request.name("gateway_id");
    let id = RequestId::parse(request.name("id")).ok_or_else(not_found)?;
    let (found, _) = query::by_id(log, id)?;
    let record = found.ok_or_else(not_found)?;
    let forgotten = record.at_micros <= forget::until(connection, gateway)?
        || forget::is_forgotten(connection, id)?;
    if forgotten || record.text(Text::Gateway) != gateway {
        return Err(not_found());
    }
    Ok(record)
}

/// What was said of a record, for filters that ask.
pub fn mark_of(connection: &Connection, id: RequestId) -> rusqlite::Result<Mark> {
    Ok(marks::get(connection, id)?.unwrap_or_default())
}
