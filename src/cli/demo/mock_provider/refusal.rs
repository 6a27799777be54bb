//! Errors in each provider's own shape.

use serde_json::{Value, json};

use super::answer::Answer;
use super::route::{Endpoint, Family, Route};

/// The answer with `status`, as this path's provider words it.
pub(super) fn refuse(
    route: &Route,
    status: u16,
    message: &str,
    digest: &str,
    retry_after: Option<u64>,
) -> Answer {
    let body = match route.family() {
        Family::OpenAi => open_ai(route, status, message),
        Family::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_type(status), "message": message },
            "request_id": format!("req_{digest}"),
        }),
        Family::Gemini => gemini(route, status, message),
        Family::Cohere => json!({ "id": digest, "message": message }),
        Family::Mistral => mistral(status, message),
        Family::Bedrock => json!({ "message": message }),
        Family::WorkersAi => json!({
            "result": null,
            "success": false,
            "errors": [{ "code": workers_ai_code(status), "message": message }],
            "messages": [],
        }),
        Family::HuggingFace => json!({ "error": message }),
        Family::Replicate => json!({ "title": "Error", "detail": message, "status": status }),
        Family::ElevenLabs => json!({ "detail": { "status": "error", "message": message } }),
    };
    let mut answer = Answer::json(status, &body);
    if route.family() == Family::Bedrock {
        answer = answer.with("x-amzn-errortype", bedrock_type(status));
    }
    if matches!(status, 429 | 503 | 529) || retry_after.is_some() {
        answer = answer.with("retry-after", retry_after.unwrap_or(1).to_string());
    }
    answer
}

/// The words of an error by command.
pub(super) fn message(status: u16) -> String {
    let text = match status {
        400 => "The request was malformed.",
        401 => "Incorrect API key provided.",
        403 => "The key may not use this model.",
        404 => "The model does not exist.",
        413 => "The request is too large.",
        429 => "Rate limit reached; try again later.",
        503 | 529 => "The server is overloaded.",
        _ => "The server had an error while processing your request.",
    };
    text.to_owned()
}

fn open_ai(route: &Route, status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", None),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..500 => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    if route.provider == "openrouter" {
        return json!({ "error": { "message": message, "code": status } });
    }
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

fn gemini(route: &Route, status: u16, message: &str) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    let error = json!({ "error": { "code": status, "message": message, "status": word } });
    if route.endpoint == (Endpoint::Generate { stream: true }) {
        return json!([error]);
    }
    error
}

fn mistral(status: u16, message: &str) -> Value {
    match status {
        401 => json!({ "detail": "Unauthorized" }),
        422 => json!({ "detail": [{ "type": "value_error", "loc": ["body"], "msg": message }] }),
        _ => json!({
            "object": "error",
            "message": message,
            "type": if status == 429 { "rate_limited" } else { "internal_server_error" },
            "param": null,
            "code": if status == 429 { "1300" } else { "1000" },
            "raw_status_code": status,
        }),
    }
}

fn bedrock_type(status: u16) -> &'static str {
    match status {
        401 => "UnrecognizedClientException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..500 => "ValidationException",
        _ => "InternalServerException",
    }
}

fn workers_ai_code(status: u16) -> u16 {
    match status {
        401 | 403 => 10_000,
        404 => 5007,
        429 => 3040,
        _ => 5006,
    }
}
