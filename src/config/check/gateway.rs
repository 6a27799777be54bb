//! `[gateways.ID]`: the contract's fields with their bounds, then tidegate's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;

use crate::config::Config;
use crate::config::file::{self, Field, Named};
use crate::config::gateway::{
    Action, Backoff, BillingMode, CacheScope, Dlp, DlpPolicy, DlpRules, Gateway, Guardrails,
    LogStrategy, OnDisconnect, Otel, OtelEncoding, Stripe, Technique,
};
use crate::config::limit;
use crate::config::redact::shown;
use crate::config::secret;
use crate::domain::id::is_gateway_id;

use super::field::{flag, span};
use super::{Checker, Gate, Gates};

pub(super) const TECHNIQUES: [(&str, Technique); 2] =
    [("fixed", Technique::Fixed), ("sliding", Technique::Sliding)];

const ACTIONS: [(&str, Action); 2] = [("FLAG", Action::Flag), ("BLOCK", Action::Block)];

/// Categories of guardrails (data plane contract, section 13.1).
const CATEGORIES: [&str; 14] = [
    "P1", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13",
];

impl Checker<'_, '_> {
    pub(super) fn gateways(&mut self, items: &Named<file::Gateway>, config: &mut Config) -> Gates {
        let mut gates = Vec::new();
        for (index, (id, item)) in items.iter().enumerate() {
            if index >= limit::GATEWAYS_MAX {
                let message = format!("more than {} gateways", limit::GATEWAYS_MAX);
                self.problem(id.span(), &message, "");
                break;
            }
            if !is_gateway_id(id.get_ref()) {
                self.problem(
                    id.span(),
                    "this cannot be the id of a gateway",
                    "write 1 to 64 letters, digits, `-` and `_`",
                );
                continue;
            }
            let gateway = self.gateway(item);
            let authentication = item.get_ref().authentication.as_ref();
            gates.push(Gate {
                id: id.get_ref().clone(),
                authentication: authentication.map(|field| (field.span(), *field.get_ref())),
            });
            config.gateways.insert(id.get_ref().clone(), gateway);
        }
        Gates(gates)
    }

    fn gateway(&mut self, item: &Spanned<file::Gateway>) -> Gateway {
        let file = item.get_ref();
        let usual = Gateway::default();
        let gateway = Gateway {
            authentication: flag(&file.authentication, usual.authentication),
            collect_logs: flag(&file.collect_logs, usual.collect_logs),
            cache_invalidate_on_update: flag(&file.cache_invalidate_on_update, false),
            cache_ttl: self.seconds(&file.cache_ttl).unwrap_or_default(),
            rate_limiting_limit: self
                .number(&file.rate_limiting_limit, &limit::COUNT)
                .unwrap_or(0),
            rate_limiting_interval: self
                .seconds(&file.rate_limiting_interval)
                .unwrap_or_default(),
            rate_limiting_technique: self
                .word(&file.rate_limiting_technique, &TECHNIQUES)
                .unwrap_or(usual.rate_limiting_technique),
            byok_only: flag(&file.byok_only, false),
            dlp: file.dlp.as_ref().and_then(|dlp| self.dlp(dlp)),
            guardrails: file.guardrails.as_ref().map(|field| self.guardrails(field)),
            log_management: self.number(&file.log_management, &limit::LOG_MANAGEMENT),
            log_management_strategy: self
                .word(
                    &file.log_management_strategy,
                    &[
                        ("STOP_INSERTING", LogStrategy::StopInserting),
                        ("DELETE_OLDEST", LogStrategy::DeleteOldest),
                    ],
                )
                .unwrap_or(usual.log_management_strategy),
            // The contract: forced off where nothing is recorded.
            log_classification: flag(&file.log_classification, false)
                && flag(&file.collect_logs, true),
            logpush: flag(&file.logpush, false),
            logpush_public_key: self.public_key(&file.logpush_public_key),
            otel: self.otel(&file.otel),
            retry_max_attempts: self
                .number(&file.retry_max_attempts, &limit::RETRY_ATTEMPTS)
                .and_then(|attempts| u8::try_from(attempts).ok()),
            retry_delay: self
                .number(&file.retry_delay, &limit::RETRY_DELAY_MS)
                .map(Duration::from_millis),
            retry_backoff: self.word(
                &file.retry_backoff,
                &[
                    ("constant", Backoff::Constant),
                    ("linear", Backoff::Linear),
                    ("exponential", Backoff::Exponential),
                ],
            ),
            spend_limits: self.spend_limits(&file.spend_limits),
            store_id: file.store_id.as_ref().and_then(|id| self.name(id)),
            stripe: file.stripe.as_ref().and_then(|field| self.stripe(field)),
            workers_ai_billing_mode: self
                .word(
                    &file.workers_ai_billing_mode,
                    &[
                        ("postpaid", BillingMode::Postpaid),
                        ("unified", BillingMode::Unified),
                    ],
                )
                .unwrap_or(usual.workers_ai_billing_mode),
            zdr: flag(&file.zdr, false),
            request_limits: self.traffic_limits(&file.request_limits),
            token_limits: self.traffic_limits(&file.token_limits),
            resume_for: self.duration(&file.resume_for, &limit::RESUME_FOR),
            cache_scope: self
                .word(
                    &file.cache_scope,
                    &[
                        ("credential", CacheScope::Credential),
                        ("gateway", CacheScope::Gateway),
                    ],
                )
                .unwrap_or(usual.cache_scope),
            cache_streams: flag(&file.cache_streams, false),
            on_disconnect: self
                .word(
                    &file.on_disconnect,
                    &[
                        ("cancel", OnDisconnect::Cancel),
                        ("drain", OnDisconnect::Drain),
                        ("cache", OnDisconnect::Cache),
                    ],
                )
                .unwrap_or(usual.on_disconnect),
        };
        self.unbuilt_of_gateway(file, &gateway);
        gateway
    }

    pub(super) fn seconds(&mut self, field: &Field<i64>) -> Option<Duration> {
        self.number(field, &limit::SECONDS).map(Duration::from_secs)
    }

    fn public_key(&mut self, field: &Field<String>) -> Option<String> {
        let field = field.as_ref()?;
        let text = field.get_ref();
        // A private key here is a slip that must not spread.
        let public = text.trim_start().starts_with("-----BEGIN") && !text.contains("PRIVATE");
        if public && limit::PUBLIC_KEY_CHARS.contains(&text.chars().count()) {
            return Some(text.clone());
        }
        self.problem(
            field.span(),
            "this is not a public key",
            "write a PEM block of 16 to 1024 characters (-----BEGIN PUBLIC KEY-----)",
        );
        None
    }

    fn dlp(&mut self, field: &Spanned<file::Dlp>) -> Option<Dlp> {
        let file = field.get_ref();
        let enabled = flag(&file.enabled, false);
        let Some(policies) = &file.policies else {
            let action = match &file.action {
                Some(action) => self.one_word(action, &ACTIONS),
                None => self.missing(field.span(), "action", "write \"FLAG\" or \"BLOCK\""),
            };
            let profiles = self.names(&file.profiles).unwrap_or_default();
            let action = action?;
            let rules = DlpRules::Single { action, profiles };
            return Some(Dlp { enabled, rules });
        };
        for (at, name) in [
            (span(&file.action), "action"),
            (span(&file.profiles), "profiles"),
        ] {
            if let Some(at) = at {
                let message = format!("`{name}` stands beside `policies`");
                self.problem(at, &message, "write one form of dlp or the other");
            }
        }
        let policies = self.bounded(policies)?;
        let mut ids = BTreeSet::new();
        let mut all = Vec::new();
        for policy in policies {
            let Some(policy) = self.dlp_policy(policy, &mut ids) else {
                continue;
            };
            all.push(policy);
        }
        let rules = DlpRules::Policies(all);
        Some(Dlp { enabled, rules })
    }

    fn dlp_policy(
        &mut self,
        item: &Spanned<file::DlpPolicy>,
        ids: &mut BTreeSet<String>,
    ) -> Option<DlpPolicy> {
        #[derive(Clone, Copy, PartialEq)]
        enum Side {
            Request,
            Response,
        }
        const SIDES: [(&str, Side); 2] = [("REQUEST", Side::Request), ("RESPONSE", Side::Response)];
        let file = item.get_ref();
        let id = match &file.id {
            Some(id) => self.name(id).filter(|name| {
                let new = ids.insert(name.clone());
                if !new {
                    self.problem(id.span(), "another policy has this id", "");
                }
                new
            }),
            None => self.missing(item.span(), "id", "write a name for the policy"),
        };
        let action = match &file.action {
            Some(action) => self.one_word(action, &ACTIONS),
            None => self.missing(item.span(), "action", "write \"FLAG\" or \"BLOCK\""),
        };
        let mut sides = Vec::new();
        let help = "write [\"REQUEST\", \"RESPONSE\"] or one of them";
        let check = file.check.as_ref();
        let check = check.or_else(|| self.missing(item.span(), "check", help));
        for side in check
            .and_then(|check| self.bounded(check))
            .unwrap_or_default()
        {
            sides.extend(self.one_word(side, &SIDES));
        }
        Some(DlpPolicy {
            enabled: flag(&file.enabled, true),
            request: sides.contains(&Side::Request),
            response: sides.contains(&Side::Response),
            profiles: self.names(&file.profiles).unwrap_or_default(),
            id: id?,
            action: action?,
        })
    }

    fn guardrails(&mut self, field: &Spanned<file::Guardrails>) -> Guardrails {
        let file = field.get_ref();
        Guardrails {
            prompt: self.categories(&file.prompt),
            response: self.categories(&file.response),
        }
    }

    fn categories(
        &mut self,
        items: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> BTreeMap<String, Action> {
        let mut all = BTreeMap::new();
        for (category, action) in items {
            if CATEGORIES.contains(&category.get_ref().as_str()) {
                if let Some(action) = self.one_word(action, &ACTIONS) {
                    all.insert(category.get_ref().clone(), action);
                }
            } else {
                let message = format!("{} is not a category", shown(category.get_ref()));
                self.problem(category.span(), &message, "write P1, or S1 to S13");
            }
        }
        all
    }

    fn otel(&mut self, field: &Field<Vec<Spanned<file::Otel>>>) -> Vec<Otel> {
        const ENCODINGS: [(&str, OtelEncoding); 2] = [
            ("json", OtelEncoding::Json),
            ("protobuf", OtelEncoding::Protobuf),
        ];
        let Some(items) = field.as_ref().and_then(|field| self.bounded(field)) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in items {
            let file = item.get_ref();
            let url = match &file.url {
                Some(url) => self.url(url),
                None => self.missing(item.span(), "url", "write where traces are sent"),
            };
            let headers = self.headers(&file.headers);
            let authorization = file
                .authorization
                .as_ref()
                .and_then(|field| self.secret(field, secret::header_value));
            let content_type = self.word(&file.content_type, &ENCODINGS);
            if let Some(url) = url {
                all.push(Otel {
                    url,
                    headers,
                    authorization: authorization.map(|(secret, _)| secret),
                    content_type: content_type.unwrap_or(OtelEncoding::Json),
                });
            }
        }
        all
    }

    fn stripe(&mut self, field: &Spanned<file::Stripe>) -> Option<Stripe> {
        let file = field.get_ref();
        let authorization = match &file.authorization {
            Some(authorization) => self.secret(authorization, secret::header_value),
            None => self.missing(field.span(), "authorization", "write \"env:NAME\""),
        };
        let events = file.usage_events.as_ref();
        let events = events.and_then(|events| self.bounded(events));
        let mut usage_events = Vec::new();
        for event in events.unwrap_or_default() {
            match &event.get_ref().payload {
                Some(payload) => usage_events.push(payload.get_ref().clone()),
                None => {
                    self.missing::<()>(event.span(), "payload", "write the event's template");
                }
            }
        }
        let (authorization, _) = authorization?;
        Some(Stripe {
            authorization,
            usage_events,
        })
    }

    /// The items of a list, if they are not too many.
    pub(super) fn bounded<'f, T>(
        &mut self,
        list: &'f Spanned<Vec<Spanned<T>>>,
    ) -> Option<&'f [Spanned<T>]> {
        if list.get_ref().len() <= limit::LIST_MAX {
            return Some(list.get_ref());
        }
        let message = format!("more than {} entries", limit::LIST_MAX);
        self.problem(list.span(), &message, "");
        None
    }
}
