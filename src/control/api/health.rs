//! Health checks. They are open to everybody, so they tell what is wrong and nothing else.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{ApiParts, count::Counted, envelope, request::Request};
use crate::handoff::mailbox::ApiAnswer;

/// A part that can be degraded, in metrics and health checks.
pub const LOG: &str = "log";
/// See [`LOG`].
pub const CONFIG: &str = "config";

/// What does not work as it should: each part, and why if it is degraded.
pub fn parts(parts: &ApiParts) -> [(&'static str, Option<String>); 2] {
    let config = parts.standing.is_failing().then(|| {
        // The reason may quote the file, which is nobody's business: it is in the diagnostics.
        "the last change of configuration, keys or certificate could not be taken over; what was in force stays, and the server's diagnostics say why".to_owned()
    });
    [(LOG, parts.log_health.message()), (CONFIG, config)]
}

/// `/livez`
pub fn live(parts: &ApiParts, counted: &Counted<'_>) -> ApiAnswer {
    let live = counted.silent == 0;
    let status = if live { "live" } else { STUCK };
    let shards = parts.shards.len();
    answer(
        live,
        &json!({"status": status, "shards": shards, "silent": counted.silent}),
    )
}

/// `/readyz`
pub fn ready(parts: &ApiParts, _: &Request<'_>) -> ApiAnswer {
    let (ready, status) = readiness(parts);
    answer(
        ready,
        &json!({"status": status, "degraded": degraded(parts)}),
    )
}

/// `/healthz`
pub fn health(parts: &ApiParts, counted: &Counted<'_>) -> ApiAnswer {
    let (ready, status) = readiness(parts);
    let live = counted.silent == 0;
    let status = if live { status } else { STUCK };
    let document = json!({
        "status": status,
        "shards": parts.shards.len(),
        "silent": counted.silent,
        "degraded": degraded(parts),
    });
    answer(live && ready, &document)
}

/// A shard does not answer.
const STUCK: &str = "stuck";

fn readiness(parts: &ApiParts) -> (bool, &'static str) {
    if parts.draining.load(Ordering::Relaxed) {
        return (false, "draining");
    }
    if parts.standing.log_required() && parts.log_health.refuses_records() {
        // Every request would be refused.
        return (false, "unavailable");
    }
    (true, "ready")
}

fn degraded(all: &ApiParts) -> Vec<Value> {
    let degraded = parts(all)
        .into_iter()
        .filter_map(|(part, why)| Some((part, why?)));
    degraded
        .map(|(part, why)| json!({"component": part, "message": why}))
        .collect()
}

fn answer(good: bool, document: &Value) -> ApiAnswer {
    envelope::document(if good { 200 } else { 503 }, document)
}
