//! The table of routes, in three parts.

use super::{Answer, Handler, Needs, Parameter, Route};
use crate::control::api::envelope;

mod server;
mod account;
mod gateway;

/// The table.
pub(super) static ROUTES: &[&[Route]] = &[server::ROUTES, account::ROUTES, gateway::ROUTES];

const fn json(status: u16, schema: &'static str, meaning: &'static str) -> Answer {
    Answer {
        status,
        meaning,
        content_type: envelope::JSON,
        schema,
    }
}

const fn text(content_type: &'static str, meaning: &'static str) -> Answer {
    Answer {
        status: 200,
        meaning,
        content_type,
        schema: "",
    }
}

const fn parameter(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind, about }
}

const fn entry(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    handler: Handler,
    id: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        needs,
        handler,
        id,
        summary,
        query: &[],
        body: "",
        answers: ENVELOPE,
    }
}

const fn get(
    path: &'static str,
    handler: Handler,
    id: &'static str,
    summary: &'static str,
) -> Route {
    entry("GET", path, Needs::Read, handler, id, summary)
}

const fn edit(
    method: &'static str,
    path: &'static str,
    handler: Handler,
    id: &'static str,
    summary: &'static str,
) -> Route {
    entry(method, path, Needs::Edit, handler, id, summary)
}

/// The usual answer.
const ENVELOPE: &[Answer] = &[json(
    200,
    "Envelope",
    "Done; `result` holds what was asked for.",
)];

/// Query parameters of every list.
const PAGES: &[Parameter] = &[
    parameter(
        "page",
        "integer",
        "Which page, from 1. One past the end is empty.",
    ),
    parameter(
        "per_page",
        "integer",
        "Entries of a page, 20 unless said, at most 100.",
    ),
];

const SEARCH: &[Parameter] = &[parameter(
    "search",
    "string",
    "Only entries that hold this text.",
)];

const ENABLED: &[Parameter] = &[parameter(
    "enable",
    "boolean",
    "Only entries that are enabled, or not.",
)];

const ORDERED: &[Parameter] = &[
    parameter("order_by", "string", "By which member entries are sorted."),
    parameter("order_by_direction", "string", "asc or desc."),
];
