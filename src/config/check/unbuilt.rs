//! Keys that are understood and checked, but whose feature does not exist yet.
//!
//! A key that asks for nothing (the default, a `false`) gives no warning.

use std::ops::Range;

use crate::config::file;
use crate::config::gateway::{BillingMode, Gateway};

use super::Checker;
use super::field::{set, span};

impl Checker<'_, '_> {
    /// Warns of keys that ask for something that does not exist yet; `None` is not asked for.
    pub(super) fn unbuilt(&mut self, feature: &str, keys: &[(&str, Option<Range<usize>>)]) {
        let asked: Vec<_> = keys
            .iter()
            .filter_map(|(key, span)| Some((*key, span.clone()?)))
            .collect();
        let Some((_, span)) = asked.first() else {
            return;
        };
        let names: Vec<&str> = asked.iter().map(|(key, _)| *key).collect();
        let verb = match names.len() {
            1 => "has",
            _ => "have",
        };
        let message = format!(
            "not built yet: {feature}; {} {verb} no effect",
            names.join(", ")
        );
        self.report.warn(span.clone(), message, String::new());
    }

    /// Warns of what asks for a feature that does not exist yet. A line goes when its feature
    /// comes.
    pub(super) fn unbuilt_of_gateway(&mut self, file: &file::Gateway, gateway: &Gateway) {
        self.unbuilt_extras(file, gateway);
    }

    fn unbuilt_extras(&mut self, file: &file::Gateway, gateway: &Gateway) {
        let asked = |is: bool, at: Option<Range<usize>>| at.filter(|_| is);
        self.unbuilt("guardrails", &[("guardrails", span(&file.guardrails))]);
        self.unbuilt("data loss prevention", &[("dlp", span(&file.dlp))]);
        self.unbuilt(
            "classifying records",
            &[("log_classification", set(&file.log_classification))],
        );
        self.unbuilt(
            "exporting records and traces",
            &[
                ("logpush", set(&file.logpush)),
                ("logpush_public_key", span(&file.logpush_public_key)),
                ("otel", span(&file.otel)),
                ("stripe", span(&file.stripe)),
            ],
        );
        self.unbuilt(
            "stores, billing modes and zero data retention",
            &[
                ("store_id", span(&file.store_id)),
                (
                    "workers_ai_billing_mode",
                    asked(
                        gateway.workers_ai_billing_mode != BillingMode::Postpaid,
                        span(&file.workers_ai_billing_mode),
                    ),
                ),
                ("zdr", set(&file.zdr)),
            ],
        );
    }
}
