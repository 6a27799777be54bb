//! The table of routes.

use super::{
    Answer,
    Handler::{self, Scanned, Stored},
    Needs, Parameter, Route,
};
use crate::control::api::{
    account, audit_log, billing, custom_provider, dataset, dynamic_route, envelope, evaluation,
    gateway, health, logs, open_api, page, provider_config, scrape, url,
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

const NAMED: &[Parameter] = &[parameter("name", "string", "Only entries with this name.")];

const ENABLED: &[Parameter] = &[parameter(
    "enable",
    "boolean",
    "Only entries that are enabled, or not.",
)];

const ORDERED: &[Parameter] = &[
    parameter("order_by", "string", "By which member entries are sorted."),
    parameter("order_by_direction", "string", "asc or desc."),
];

const FILTERS: &[Parameter] = &[
    parameter(
        "filters",
        "string",
        "A JSON array of filters: key, operator and value each.",
    ),
    parameter(
        "filters.key",
        "string",
        "Key of a filter; repeated for each.",
    ),
    parameter("filters.operator", "string", "eq, neq, contains, lt or gt."),
    parameter(
        "filters.value",
        "string",
        "A value of the filter; may be repeated.",
    ),
];

const LOG_LIST: &[Parameter] = &[
    parameter(
        "meta_info",
        "boolean",
        "Whether result_info holds least and greatest values.",
    ),
    parameter(
        "start_date",
        "string",
        "Not before; filters on created_at say it too.",
    ),
    parameter("end_date", "string", "Not after."),
];

const LIMIT: &[Parameter] = &[parameter("limit", "integer", "Most records to delete.")];

const PROVIDER_LIST: &[Parameter] = &[
    parameter("beta", "boolean", "Only those that are a beta, or not."),
    parameter(
        "order_by",
        "string",
        "A member, with ASC or DESC behind it.",
    ),
];

const AUDITED: &[Parameter] = &[
    parameter("since", "string", "Not before: RFC 3339 or a date."),
    parameter("before", "string", "Not after."),
    parameter(
        "action.type",
        "string",
        "What was done, such as gateway updated.",
    ),
    parameter("actor.email", "string", "Name of the token that did it."),
    parameter("direction", "string", "asc or desc; desc unless said."),
];

/// Answers that clients do not unwrap.
const BARE: &[Answer] = &[json(200, "Object", "What was asked for, not in `result`.")];

macro_rules! account {
    ($rest:literal) => {
        concat!("/client/v4/accounts/{account_id}", $rest)
    };
}

macro_rules! gateway {
    ($rest:literal) => {
        concat!(
            "/client/v4/accounts/{account_id}/ai-gateway/gateways/{gateway_id}",
            $rest
        )
    };
}

const GATEWAYS: &str = account!("/ai-gateway/gateways");
const GATEWAY: &str = gateway!("");
const PROVIDERS: &str = account!("/ai-gateway/custom-providers");
const PROVIDER: &str = account!("/ai-gateway/custom-providers/{id}");
const CONFIGS: &str = gateway!("/provider_configs");
const CONFIG: &str = gateway!("/provider_configs/{id}");
const ROUTE: &str = gateway!("/routes/{id}");
const VERSIONS: &str = gateway!("/routes/{id}/versions");
const DEPLOYMENTS: &str = gateway!("/routes/{id}/deployments");
const DATASETS: &str = gateway!("/datasets");
const DATASET: &str = gateway!("/datasets/{id}");
const EVALUATIONS: &str = gateway!("/evaluations");
const EVALUATION: &str = gateway!("/evaluations/{id}");
const LOGS: &str = gateway!("/logs");
const LOG: &str = gateway!("/logs/{id}");
const SPENDING: &str = account!("/ai-gateway/billing/spending-limit");
const TOPUP_CONFIG: &str = account!("/ai-gateway/billing/topup/config");

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
        Stored(gateway::list),
        "listGateways",
        "The gateways.",
    )
    .query(&[PAGES, SEARCH]),
    edit(
        "POST",
        GATEWAYS,
        Stored(gateway::create),
        "createGateway",
        "Makes a gateway.",
    )
    .body("GatewayCreate"),
    get(GATEWAY, Stored(gateway::get), "getGateway", "One gateway."),
    edit(
        "PUT",
        GATEWAY,
        Stored(gateway::update),
        "updateGateway",
        "Changes a gateway; what is left out stays as it was.",
    )
    .body("GatewayUpdate"),
    edit(
        "DELETE",
        GATEWAY,
        Stored(gateway::delete),
        "deleteGateway",
        "Deletes a gateway with its records, keys, routes, datasets and evaluations.",
    ),
    get(
        PROVIDERS,
        Stored(custom_provider::list),
        "listCustomProviders",
        "The custom providers.",
    )
    .query(&[PAGES, SEARCH, ENABLED, PROVIDER_LIST]),
    edit(
        "POST",
        PROVIDERS,
        Stored(custom_provider::create),
        "createCustomProvider",
        "Makes a custom provider.",
    )
    .body("CustomProviderCreate"),
    get(
        PROVIDER,
        Stored(custom_provider::get),
        "getCustomProvider",
        "One custom provider.",
    ),
    edit(
        "PATCH",
        PROVIDER,
        Stored(custom_provider::update),
        "updateCustomProvider",
        "Changes a custom provider; what is left out stays as it was.",
    )
    .body("CustomProviderUpdate"),
    edit(
        "DELETE",
        PROVIDER,
        Stored(custom_provider::delete),
        "deleteCustomProvider",
        "Deletes a custom provider.",
    ),
    get(
        CONFIGS,
        Stored(provider_config::list),
        "listProviderConfigs",
        "The stored provider keys of a gateway, without the keys.",
    )
    .query(&[PAGES]),
    edit(
        "POST",
        CONFIGS,
        Stored(provider_config::create),
        "createProviderConfig",
        "Stores a provider key.",
    )
    .body("ProviderConfigCreate"),
    get(
        CONFIG,
        Stored(provider_config::get),
        "getProviderConfig",
        "One stored provider key, without the key.",
    ),
    edit(
        "PUT",
        CONFIG,
        Stored(provider_config::update),
        "updateProviderConfig",
        "Changes a stored provider key; what is left out stays as it was.",
    )
    .body("ProviderConfigUpdate"),
    edit(
        "DELETE",
        CONFIG,
        Stored(provider_config::delete),
        "deleteProviderConfig",
        "Deletes a stored provider key.",
    ),
    get(
        gateway!("/routes"),
        Stored(dynamic_route::list),
        "listRoutes",
        "The dynamic routes of a gateway.",
    )
    .query(&[PAGES])
    .answers(BARE),
    edit(
        "POST",
        gateway!("/routes"),
        Stored(dynamic_route::create),
        "createRoute",
        "Makes a dynamic route with its first version, and deploys it.",
    )
    .body("RouteCreate"),
    get(
        ROUTE,
        Stored(dynamic_route::get),
        "getRoute",
        "One dynamic route.",
    ),
    edit(
        "PATCH",
        ROUTE,
        Stored(dynamic_route::rename),
        "renameRoute",
        "Gives a dynamic route another name.",
    )
    .body("RouteRename")
    .answers(BARE),
    edit(
        "DELETE",
        ROUTE,
        Stored(dynamic_route::delete),
        "deleteRoute",
        "Deletes a dynamic route.",
    ),
    get(
        VERSIONS,
        Stored(dynamic_route::versions),
        "listRouteVersions",
        "The versions of a dynamic route.",
    )
    .query(&[PAGES])
    .answers(BARE),
    edit(
        "POST",
        VERSIONS,
        Stored(dynamic_route::create_version),
        "createRouteVersion",
        "Makes a version of a dynamic route, not deployed.",
    )
    .body("RouteVersionCreate"),
    get(
        gateway!("/routes/{id}/versions/{version_id}"),
        Stored(dynamic_route::get_version),
        "getRouteVersion",
        "One version of a dynamic route.",
    ),
    get(
        DEPLOYMENTS,
        Stored(dynamic_route::deployments),
        "listRouteDeployments",
        "The deployments of a dynamic route.",
    )
    .query(&[PAGES])
    .answers(BARE),
    edit(
        "POST",
        DEPLOYMENTS,
        Stored(dynamic_route::deploy),
        "createRouteDeployment",
        "Makes a version the active one.",
    )
    .body("RouteDeploymentCreate"),
    get(
        DATASETS,
        Stored(dataset::list),
        "listDatasets",
        "The datasets of a gateway: saved filters.",
    )
    .query(&[PAGES, SEARCH, NAMED, ENABLED]),
    edit(
        "POST",
        DATASETS,
        Stored(dataset::create),
        "createDataset",
        "Makes a dataset.",
    )
    .body("DatasetCreate"),
    get(DATASET, Stored(dataset::get), "getDataset", "One dataset."),
    edit(
        "PUT",
        DATASET,
        Stored(dataset::update),
        "updateDataset",
        "Changes a dataset; what is left out stays as it was.",
    )
    .body("DatasetUpdate"),
    edit(
        "DELETE",
        DATASET,
        Stored(dataset::delete),
        "deleteDataset",
        "Deletes a dataset.",
    ),
    get(
        EVALUATIONS,
        Stored(evaluation::list),
        "listEvaluations",
        "The evaluations of a gateway.",
    )
    .query(&[
        PAGES,
        SEARCH,
        NAMED,
        &[parameter(
            "processed",
            "boolean",
            "Only those that are done, or not.",
        )],
    ]),
    edit(
        "POST",
        EVALUATIONS,
        Scanned(evaluation::create),
        "createEvaluation",
        "Computes figures over the records of datasets.",
    )
    .body("EvaluationCreate"),
    get(
        EVALUATION,
        Stored(evaluation::get),
        "getEvaluation",
        "One evaluation.",
    ),
    edit(
        "DELETE",
        EVALUATION,
        Stored(evaluation::delete),
        "deleteEvaluation",
        "Deletes an evaluation.",
    ),
    get(
        account!("/ai-gateway/evaluation-types"),
        Stored(evaluation::types),
        "listEvaluationTypes",
        "What evaluations can compute.",
    )
    .query(&[PAGES, ORDERED]),
    get(
        LOGS,
        Scanned(logs::list),
        "listLogs",
        "The records of a gateway.",
    )
    .query(&[PAGES, SEARCH, FILTERS, ORDERED, LOG_LIST]),
    edit(
        "DELETE",
        LOGS,
        Scanned(logs::delete),
        "deleteLogs",
        "Deletes the records that filters let pass; without filters all.",
    )
    .query(&[FILTERS, ORDERED, LIMIT])
    .answers(BARE),
    get(LOG, Scanned(logs::get), "getLog", "One record."),
    edit(
        "PATCH",
        LOG,
        Scanned(logs::mark),
        "updateLog",
        "Notes feedback, score or metadata of a record.",
    )
    .body("LogUpdate"),
    get(
        gateway!("/logs/{id}/request"),
        Scanned(logs::request_body),
        "getLogRequest",
        "The stored body of a request.",
    )
    .answers(BARE),
    get(
        gateway!("/logs/{id}/response"),
        Scanned(logs::response_body),
        "getLogResponse",
        "The stored body of an answer.",
    )
    .answers(BARE),
    get(
        gateway!("/url/{provider}"),
        Stored(url::get),
        "getProviderUrl",
        "Where a provider is reached through a gateway.",
    ),
    get(
        account!("/ai-gateway/billing/credit-balance"),
        Stored(billing::credit_balance),
        "getCreditBalance",
        "Credits: none are needed here.",
    ),
    get(
        account!("/ai-gateway/billing/invoice-history"),
        Stored(billing::invoice_history),
        "listInvoices",
        "Invoices: none are written here.",
    )
    .query(&[
        PAGES,
        &[parameter("type", "string", "auto, manual or all.")],
    ]),
    get(
        account!("/ai-gateway/billing/invoice-preview"),
        Stored(billing::invoice_preview),
        "previewInvoice",
        "The invoice of this month: nothing is due.",
    ),
    get(
        account!("/ai-gateway/billing/usage-history"),
        Stored(billing::usage_history),
        "listBilledUsage",
        "Usage that was billed: none.",
    )
    .query(&[&[
        parameter("value_grouping_window", "string", "day or hour."),
        parameter("start_time", "integer", "Unix milliseconds."),
        parameter("end_time", "integer", "Unix milliseconds."),
    ]]),
    get(
        SPENDING,
        Stored(billing::spending_limit),
        "getSpendingLimit",
        "The account's spending limit.",
    ),
    edit(
        "POST",
        SPENDING,
        Stored(billing::set_spending_limit),
        "setSpendingLimit",
        "Keeps a spending limit for the account.",
    )
    .body("SpendingLimit"),
    edit(
        "DELETE",
        SPENDING,
        Stored(billing::delete_spending_limit),
        "deleteSpendingLimit",
        "Forgets the account's spending limit.",
    ),
    edit(
        "POST",
        account!("/ai-gateway/billing/topup"),
        Stored(billing::payment),
        "topUp",
        "Payments are not taken here.",
    )
    .answers(PAYMENT),
    edit(
        "POST",
        account!("/ai-gateway/billing/topup/status"),
        Stored(billing::payment),
        "getTopUpStatus",
        "Payments are not taken here.",
    )
    .answers(PAYMENT),
    get(
        TOPUP_CONFIG,
        Stored(billing::topup_config),
        "getTopUpConfig",
        "Automatic payments: none are set up.",
    ),
    edit(
        "POST",
        TOPUP_CONFIG,
        Stored(billing::payment),
        "setTopUpConfig",
        "Payments are not taken here.",
    )
    .answers(PAYMENT),
    edit(
        "DELETE",
        TOPUP_CONFIG,
        Stored(billing::delete_topup_config),
        "deleteTopUpConfig",
        "Automatic payments: none are set up.",
    ),
    get(
        account!("/audit_logs"),
        Stored(audit_log::list),
        "listAuditLogs",
        "Who changed what through this API.",
    )
    .query(&[PAGES, AUDITED]),
];

const PAYMENT: &[Answer] = &[json(501, "Envelope", "This server takes no payments.")];
