//! The description of what is served, as an `OpenAPI` 3.1 document made from the table of routes.

use serde_json::{Map, Value, json};

use super::{
    ApiParts, custom_provider, dataset, dynamic_route, envelope, evaluation, field, gateway,
    provider_config,
    request::Request,
    route::{self, Answer, Needs, Parameter, Route},
};
use crate::handoff::mailbox::ApiAnswer;

/// `/openapi.json`
pub fn document(_: &ApiParts, _: &Request<'_>) -> ApiAnswer {
    envelope::document(200, &describe())
}

fn describe() -> Value {
    let mut paths = Map::new();
    for route in route::all() {
        // `{name...}` is ours; the document knows `{name}` only.
        let path = route.path.replace("...}", "}");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tidegate",
            "description": "Management side of a tidegate server. Every GET may be sent as HEAD. Requests for providers go to /v1/{account}/{gateway}/{provider}/… in the provider's own API, which is not described here.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The management token (TIDEGATE_API_TOKEN, or the file api-token in the data folder), or a token with the permission.",
                },
            },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut responses = Map::new();
    for answer in route.answers {
        responses.insert(answer.status.to_string(), response(answer));
    }
    if route.path.starts_with("/client/v4/accounts/") {
        let refused = "Refused: `errors` says why, one entry for each thing that is wrong.";
        responses.insert(
            "4XX".to_owned(),
            body(refused, envelope::JSON, &reference("Envelope")),
        );
    }
    if route.needs != Needs::Nothing {
        let refused = "No token, or one that does not permit this.";
        for status in ["401", "403"] {
            responses.insert(
                status.to_owned(),
                body(refused, envelope::JSON, &reference("Envelope")),
            );
        }
    }
    let in_path = route.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.trim_end_matches(['.', '}']);
        Some(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
    });
    let in_query = route.query.iter().copied().flatten().map(query_parameter);
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let security = match route.needs {
        Needs::Nothing => json!([]),
        Needs::Token | Needs::Read | Needs::Edit => json!([{"token": []}]),
    };
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters,
        "security": security,
        "responses": responses,
    });
    if !route.body.is_empty() {
        let content = json!({envelope::JSON: {"schema": reference(route.body)}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = json!({"type": parameter.kind});
    if parameter.kind == "integer" {
        schema["minimum"] = 0.into();
    }
    json!({"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema})
}

fn response(answer: &Answer) -> Value {
    let schema = match answer.schema {
        "" => json!({"type": "string"}),
        name => reference(name),
    };
    body(answer.meaning, answer.content_type, &schema)
}

fn body(meaning: &str, content_type: &str, schema: &Value) -> Value {
    json!({"description": meaning, "content": {content_type: {"schema": schema}}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "minimum": 0});
    let part = json!({
        "type": "object",
        "required": ["component", "message"],
        "properties": {"component": text(), "message": text()},
    });
    let message = json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer"},
            "message": text(),
            "path": {"type": "array", "items": text()},
        },
    });
    let info = json!({
        "type": "object",
        "properties": {
            "page": count(),
            "per_page": count(),
            "count": count(),
            "total_count": count(),
            "total_pages": count(),
        },
    });
    let mut schemas = json!({
        "Object": {"type": "object"},
        "Health": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"enum": ["live", "ready", "draining", "unavailable", "stuck"]},
                "shards": count(),
                "silent": count(),
                "degraded": {"type": "array", "items": part},
            },
        },
        "Envelope": {
            "type": "object",
            "required": ["success", "errors", "messages"],
            "properties": {
                "success": {"type": "boolean"},
                "errors": {"type": "array", "items": message},
                "messages": {"type": "array", "items": message},
                "result": {},
                "result_info": info,
            },
        },
    });
    for (name, schema) in bodies() {
        schemas[name] = schema;
    }
    schemas
}

/// Schemas of the bodies that are taken.
fn bodies() -> Vec<(&'static str, Value)> {
    // What is left out of an update stays as it was.
    let partial = |mut schema: Value| {
        schema["required"] = json!([]);
        schema
    };
    let number = || json!({"type": ["number", "null"]});
    vec![
        ("GatewayCreate", gateway::fields::schema(true)),
        ("GatewayUpdate", gateway::fields::schema(false)),
        (
            "CustomProviderCreate",
            field::schema(custom_provider::fields::FIELDS),
        ),
        (
            "CustomProviderUpdate",
            partial(field::schema(custom_provider::fields::FIELDS)),
        ),
        ("ProviderConfigCreate", provider_config::schema(true)),
        ("ProviderConfigUpdate", provider_config::schema(false)),
        ("RouteCreate", dynamic_route::schema()),
        (
            "RouteRename",
            json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}),
        ),
        ("RouteVersionCreate", dynamic_route::version_schema()),
        (
            "RouteDeploymentCreate",
            json!({"type": "object", "required": ["version_id"], "properties": {"version_id": {"type": "string"}}}),
        ),
        ("DatasetCreate", field::schema(dataset::FIELDS)),
        ("DatasetUpdate", partial(field::schema(dataset::FIELDS))),
        ("EvaluationCreate", evaluation::schema()),
        (
            "LogUpdate",
            json!({"type": "object", "properties": {
                "feedback": {"enum": [-1, 0, 1, null]},
                "score": number(),
                "metadata": {"type": ["object", "null"]},
            }}),
        ),
        (
            "SpendingLimit",
            json!({"type": "object", "required": ["amount", "duration", "strategy"], "properties": {
                "amount": {"type": "integer", "minimum": 100, "description": "Cents."},
                "duration": {"enum": ["daily", "weekly", "monthly"]},
                "strategy": {"enum": ["fixed", "sliding"]},
            }}),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = describe();
        let mut ids = BTreeSet::new();
        for route in route::all() {
            let path = route.path.replace("...}", "}");
            let operation = &document["paths"][&path][route.method.to_ascii_lowercase()];
            assert_eq!(operation["operationId"], route.id, "{path}");
            assert!(ids.insert(route.id), "{} is there twice", route.id);
            let open = operation["security"].as_array().unwrap().is_empty();
            assert_eq!(open, route.needs == Needs::Nothing);
            let names = path.matches('{').count();
            let parameters = operation["parameters"].as_array().unwrap();
            let in_path = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path");
            assert_eq!(in_path.count(), names, "{path}");
        }
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
