//! What belongs to one gateway.

use super::{ENABLED, ORDERED, PAGES, SEARCH, edit, get, json, parameter};
use crate::control::api::{
    cache, dataset, dynamic_route, evaluation, logs, provider_config,
    route::{
        Answer,
        Handler::{Scanned, Stored},
        Parameter, Route,
    },
    url,
};

macro_rules! gateway {
    ($rest:literal) => {
        concat!(
            "/client/v4/accounts/{account_id}/ai-gateway/gateways/{gateway_id}",
            $rest
        )
    };
}

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

const NAMED: &[Parameter] = &[parameter("name", "string", "Only entries with this name.")];

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

/// Answers that clients do not unwrap.
const BARE: &[Answer] = &[json(200, "Object", "What was asked for, not in `result`.")];

pub(super) static ROUTES: &[Route] = &[
    edit(
        "DELETE",
        gateway!("/cache"),
        Stored(cache::purge_gateway),
        "purgeGatewayCache",
        "Forgets the cached answers of a gateway.",
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
];
