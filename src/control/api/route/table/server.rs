//! The server itself: health, metrics, the description, the pages, the token.

use super::{PAGES, entry, get, json, text};
use crate::control::api::{
    account, analytics, health, open_api, page,
    route::{Handler, Needs, Route},
    scrape,
};

pub(super) static ROUTES: &[Route] = &[
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
    entry(
        "POST",
        "/client/v4/graphql",
        Needs::Read,
        Handler::Scanned(analytics::graphql),
        "graphql",
        "Analytics by GraphQL: an object with query, and with variables and operationName if needed.",
    )
    .body("Object")
    .answers(&[
        json(
            200,
            "Object",
            "The answer: data, and errors where there are some.",
        ),
        json(400, "Object", "The body holds no query."),
    ]),
];
