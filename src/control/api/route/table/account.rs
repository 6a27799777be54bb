//! What belongs to the account: gateways, custom providers, billing, the audit log.

use super::{ENABLED, ORDERED, PAGES, SEARCH, edit, get, json, parameter};
use crate::control::api::{
    audit_log, billing, cache, custom_provider, evaluation, gateway,
    route::{Answer, Handler::Stored, Parameter, Route},
};

macro_rules! account {
    ($rest:literal) => {
        concat!("/client/v4/accounts/{account_id}", $rest)
    };
}

const GATEWAYS: &str = account!("/ai-gateway/gateways");
const GATEWAY: &str = account!("/ai-gateway/gateways/{gateway_id}");
const PROVIDERS: &str = account!("/ai-gateway/custom-providers");
const PROVIDER: &str = account!("/ai-gateway/custom-providers/{id}");
const SPENDING: &str = account!("/ai-gateway/billing/spending-limit");
const TOPUP_CONFIG: &str = account!("/ai-gateway/billing/topup/config");

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

const PAYMENT: &[Answer] = &[json(501, "Envelope", "This server takes no payments.")];

pub(super) static ROUTES: &[Route] = &[
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
    edit(
        "DELETE",
        account!("/ai-gateway/cache"),
        Stored(cache::purge_account),
        "purgeCache",
        "Forgets cached answers: all, or those of one provider.",
    )
    .query(&[&[parameter(
        "provider",
        "string",
        "Only what this provider answered, whichever the gateway.",
    )]]),
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
        account!("/ai-gateway/evaluation-types"),
        Stored(evaluation::types),
        "listEvaluationTypes",
        "What evaluations can compute.",
    )
    .query(&[PAGES, ORDERED]),
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
