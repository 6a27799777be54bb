//! `/metrics`

use super::{ApiParts, count::Counted, envelope, health};
use crate::{
    control::metrics::{self, Sources, process::Process},
    handoff::mailbox::ApiAnswer,
};

/// Sums what the shards told, and writes it.
pub fn metrics(parts: &ApiParts, counted: &Counted<'_>) -> ApiAnswer {
    let degraded = health::parts(parts).map(|(part, why)| (part, why.is_some()));
    let loads: Vec<_> = counted.known.iter().map(|known| known.load).collect();
    let sources = Sources {
        counters: &counted.sum(),
        loads: &loads,
        shards_silent: counted.silent,
        log_health: &parts.log_health,
        log_counters: &parts.log_counters,
        reloads: parts.standing.attempts(),
        degraded: &degraded,
        driver: &parts.driver,
        driver_reason: parts.driver_reason.as_deref().unwrap_or_default(),
        process: &Process::read(),
    };
    match metrics::exposition(&sources) {
        Ok(text) => ApiAnswer {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            fields: Vec::new(),
            body: text.into_bytes(),
        },
        Err(_) => envelope::failure(500, envelope::CODE_REQUEST, "the metrics cannot be written"),
    }
}
