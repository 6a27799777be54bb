//! The table of routes.

use super::{Answer, Handler, Needs, Parameter, Route};
use crate::control::api::{
    account, envelope, gateway, health, office::stored, open_api, page, scrape,
};

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

const GATEWAYS: &str = "/client/v4/accounts/{account_id}/ai-gateway/gateways";
const GATEWAY: &str = "/client/v4/accounts/{account_id}/ai-gateway/gateways/{gateway_id}";

/// The table.
pub static ROUTES: &[Route] = &[
    entry(
        "GET",
        "/livez",
        Needs::Nothing,
        Handler::Counted(health::live),
        "live",
        "Whether every shard turns: each was asked and had a second to answer.",
    )
    .answers(&[
        json(200, "Health", "Every shard answered."),
        json(503, "Health", "At least one shard did not answer."),
    ]),
    entry(
        "GET",
        "/readyz",
        Needs::Nothing,
        Handler::Now(health::ready),
        "ready",
        "Whether new requests are welcome, and which parts do not work as they should.",
    )
    .answers(&[
        json(200, "Health", "Ready; `degraded` may name parts that limp."),
        json(503, "Health", "Draining, or refusing requests."),
    ]),
    entry(
        "GET",
        "/healthz",
        Needs::Nothing,
        Handler::Counted(health::health),
        "health",
        "Both checks in one: live and ready.",
    )
    .answers(&[
        json(200, "Health", "Live and ready."),
        json(503, "Health", "One of the two is not."),
    ]),
    entry(
        "GET",
        "/metrics",
        Needs::Read,
        Handler::Counted(scrape::metrics),
        "metrics",
        "Metrics of this server in Prometheus' text format.",
    )
    .answers(&[text("text/plain", "The metrics.")]),
    entry(
        "GET",
        "/openapi.json",
        Needs::Token,
        Handler::Now(open_api::document),
        "description",
        "This document.",
    )
    .answers(&[json(200, "Object", "The document.")]),
    entry(
        "GET",
        "/",
        Needs::Token,
        Handler::Now(page::dashboard),
        "root",
        "A page that says what there is.",
    )
    .answers(&[text("text/html", "The page.")]),
    entry(
        "GET",
        "/dashboard",
        Needs::Token,
        Handler::Now(page::dashboard),
        "dashboard",
        "A page that says what there is instead of a dashboard.",
    )
    .answers(&[text("text/html", "The page.")]),
    entry(
        "GET",
        "/dashboard/{page...}",
        Needs::Token,
        Handler::Now(page::dashboard),
        "dashboardPage",
        "The same page at every path below.",
    )
    .answers(&[text("text/html", "The page.")]),
    entry(
        "GET",
        "/client/v4/user/tokens/verify",
        Needs::Token,
        Handler::Now(account::verify_token),
        "verifyToken",
        "Whether the token of the request is valid.",
    ),
    get(
        "/client/v4/accounts",
        Handler::Now(account::accounts),
        "listAccounts",
        "The one account of this server.",
    )
    .query(&[PAGES]),
    get(
        GATEWAYS,
        stored(gateway::list),
        "listGateways",
        "The gateways.",
    )
    .query(&[PAGES, SEARCH]),
    edit(
        "POST",
        GATEWAYS,
        stored(gateway::create),
        "createGateway",
        "Makes a gateway.",
    )
    .body("GatewayCreate"),
    get(GATEWAY, stored(gateway::get), "getGateway", "One gateway."),
    edit(
        "PUT",
        GATEWAY,
        stored(gateway::update),
        "updateGateway",
        "Changes a gateway; what is left out stays as it was.",
    )
    .body("GatewayUpdate"),
    edit(
        "DELETE",
        GATEWAY,
        stored(gateway::delete),
        "deleteGateway",
        "Deletes a gateway with its records, keys, routes, datasets and evaluations.",
    ),
];
