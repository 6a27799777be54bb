//! `[gateways.ID]`: the contract's fields with their bounds, then tidegate's own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use crate::config::Config;
use crate::config::file::{self, Field, Named};
use crate::config::gateway::{
    Action, Backoff, BillingMode, CacheScope, Dimension, Dlp, DlpPolicy, DlpRules, Gateway,
    Guardrails, LimitBy, LogStrategy, OnDisconnect, Otel, OtelEncoding, SpendLimits, SpendRule,
    Stripe, Technique, TrafficLimit,
};
use crate::config::limit;
use crate::config::redact::shown;
use crate::config::secret;
use crate::domain::id::is_gateway_id;

use super::field::{flag, set, span};
use super::{Checker, Gates};

const TECHNIQUES: [(&str, Technique); 2] =
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
            gates.push((
                id.get_ref().clone(),
                authentication.map(|field| (field.span(), *field.get_ref())),
            ));
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

    /// Warns of what asks for a feature that does not exist yet. A line goes when its feature
    /// comes.
    fn unbuilt_of_gateway(&mut self, file: &file::Gateway, gateway: &Gateway) {
        let asked = |is: bool, at: Option<Range<usize>>| at.filter(|_| is);
        self.unbuilt(
            "the response cache",
            &[
                (
                    "cache_ttl",
                    asked(!gateway.cache_ttl.is_zero(), span(&file.cache_ttl)),
                ),
                (
                    "cache_invalidate_on_update",
                    set(&file.cache_invalidate_on_update),
                ),
                (
                    "cache_scope",
                    asked(
                        gateway.cache_scope == CacheScope::Gateway,
                        span(&file.cache_scope),
                    ),
                ),
                ("cache_streams", set(&file.cache_streams)),
            ],
        );
        self.unbuilt(
            "rate limits",
            &[
                (
                    "rate_limiting_limit",
                    asked(
                        gateway.rate_limiting_limit > 0,
                        span(&file.rate_limiting_limit),
                    ),
                ),
                ("rate_limiting_interval", span(&file.rate_limiting_interval)),
                (
                    "rate_limiting_technique",
                    span(&file.rate_limiting_technique),
                ),
                ("request_limits", span(&file.request_limits)),
                ("token_limits", span(&file.token_limits)),
            ],
        );
        self.unbuilt(
            "retries",
            &[
                (
                    "retry_max_attempts",
                    asked(
                        gateway.retry_max_attempts > Some(1),
                        span(&file.retry_max_attempts),
                    ),
                ),
                ("retry_delay", span(&file.retry_delay)),
                ("retry_backoff", span(&file.retry_backoff)),
            ],
        );
        self.unbuilt(
            "spend limits",
            &[("spend_limits", span(&file.spend_limits))],
        );
        self.unbuilt(
            "resuming streams",
            &[(
                "resume_for",
                asked(!gateway.resume_for.is_zero(), span(&file.resume_for)),
            )],
        );
        self.unbuilt(
            "going on after a hang-up",
            &[(
                "on_disconnect",
                asked(
                    gateway.on_disconnect != OnDisconnect::Cancel,
                    span(&file.on_disconnect),
                ),
            )],
        );
        self.unbuilt("guardrails", &[("guardrails", span(&file.guardrails))]);
        self.unbuilt("data loss prevention", &[("dlp", span(&file.dlp))]);
        self.unbuilt(
            "managing stored records",
            &[
                ("log_management", span(&file.log_management)),
                (
                    "log_management_strategy",
                    span(&file.log_management_strategy),
                ),
                ("log_classification", set(&file.log_classification)),
            ],
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

    fn seconds(&mut self, field: &Field<i64>) -> Option<Duration> {
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
        match &file.check {
            Some(check) => {
                for side in check.get_ref().iter().take(limit::LIST_MAX) {
                    sides.extend(self.one_word(side, &SIDES));
                }
            }
            None => {
                let help = "write [\"REQUEST\", \"RESPONSE\"] or one of them";
                self.missing::<()>(item.span(), "check", help);
            }
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

    fn spend_limits(&mut self, field: &Field<file::SpendLimits>) -> SpendLimits {
        let Some(field) = field else {
            return SpendLimits::default();
        };
        let file = field.get_ref();
        let mut limits = SpendLimits {
            enabled: flag(&file.enabled, false),
            rules: Vec::new(),
        };
        let Some(items) = &file.rules else {
            return limits;
        };
        if items.get_ref().len() > limit::RULES_MAX {
            let message = format!("more than {} rules", limit::RULES_MAX);
            self.problem(items.span(), &message, "");
            return limits;
        }
        let mut ids = BTreeSet::new();
        for (index, item) in items.get_ref().iter().enumerate() {
            let Some(rule) = self.spend_rule(item, index) else {
                continue;
            };
            if ids.insert(rule.id.clone()) {
                limits.rules.push(rule);
            } else {
                let at = span(&item.get_ref().id).unwrap_or(item.span());
                self.problem(at, "another rule has this id", "");
            }
        }
        limits
    }

    fn spend_rule(&mut self, item: &Spanned<file::SpendRule>, index: usize) -> Option<SpendRule> {
        let file = item.get_ref();
        let id = match &file.id {
            Some(id) => self.name(id),
            None => Some(format!("file-{}", index + 1)),
        };
        let limit = match &file.limit {
            Some(limit) => self.dollars(limit),
            None => self.missing(item.span(), "limit", "write dollars: limit = 20.0"),
        };
        match &file.limit_type {
            Some(kind) => {
                self.one_word(kind, &[("cost", ())]);
            }
            None => {
                self.missing::<()>(item.span(), "limitType", "write limitType = \"cost\"");
            }
        }
        let window = match &file.window {
            Some(_) => self.seconds(&file.window),
            None => self.missing(item.span(), "window", "write seconds: window = 86400"),
        };
        let technique = self.word(&file.technique, &TECHNIQUES);
        let mut metadata = BTreeMap::new();
        for (key, dimension) in file.metadata.iter().take(limit::LIST_MAX) {
            if let Some(dimension) = self.dimension(dimension) {
                metadata.insert(key.get_ref().clone(), dimension);
            }
        }
        Some(SpendRule {
            enabled: flag(&file.enabled, true),
            technique: technique.unwrap_or(Technique::Sliding),
            metadata,
            model: file.model.as_ref().and_then(|model| self.dimension(model)),
            provider: file
                .provider
                .as_ref()
                .and_then(|provider| self.dimension(provider)),
            hard: flag(&file.hard, false),
            id: id?,
            limit: limit?,
            window: window?,
        })
    }

    fn dimension(&mut self, field: &Spanned<file::Dimension>) -> Option<Dimension> {
        let file = field.get_ref();
        let filter = match &file.mode {
            Some(mode) => self.one_word(mode, &[("partition", false), ("filter", true)])?,
            None => {
                let help = "write mode = \"partition\" or mode = \"filter\"";
                return self.missing(field.span(), "mode", help);
            }
        };
        match (filter, &file.values) {
            (false, None) => Some(Dimension::Partition),
            (false, Some(values)) => {
                let help = "leave it out, or write mode = \"filter\"";
                self.problem(values.span(), "a partition has no `values`", help);
                None
            }
            (true, None) => self.missing(field.span(), "values", "write the values that count"),
            (true, Some(_)) => self.names(&file.values).map(Dimension::Filter),
        }
    }

    fn traffic_limits(
        &mut self,
        field: &Field<Vec<Spanned<file::TrafficLimit>>>,
    ) -> Vec<TrafficLimit> {
        let Some(items) = field else {
            return Vec::new();
        };
        if items.get_ref().len() > limit::RULES_MAX {
            let message = format!("more than {} limits", limit::RULES_MAX);
            self.problem(items.span(), &message, "");
            return Vec::new();
        }
        let limits = items.get_ref().iter();
        limits.filter_map(|item| self.traffic_limit(item)).collect()
    }

    fn traffic_limit(&mut self, item: &Spanned<file::TrafficLimit>) -> Option<TrafficLimit> {
        let file = item.get_ref();
        let limit = match &file.limit {
            Some(_) => self.number(&file.limit, &limit::COUNT),
            None => self.missing(item.span(), "limit", "write how many: limit = 100"),
        };
        let window = match &file.window {
            Some(_) => self.number(&file.window, &(1..=*limit::SECONDS.end())),
            None => self.missing(item.span(), "window", "write seconds: window = 60"),
        };
        let technique = self.word(&file.technique, &TECHNIQUES);
        let by = match &file.by {
            Some(by) => self.limit_by(by)?,
            None => LimitBy::Gateway,
        };
        Some(TrafficLimit {
            technique: technique.unwrap_or(Technique::Sliding),
            by,
            limit: limit?,
            window: Duration::from_secs(window?),
        })
    }

    fn limit_by(&mut self, field: &Spanned<String>) -> Option<LimitBy> {
        match field.get_ref().as_str() {
            "gateway" => return Some(LimitBy::Gateway),
            "key" => return Some(LimitBy::Key),
            text => {
                let name = text.strip_prefix("metadata.");
                if let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= 64) {
                    return Some(LimitBy::Metadata(name.to_owned()));
                }
            }
        }
        let message = format!("{} is not known here", shown(field.get_ref()));
        self.problem(
            field.span(),
            &message,
            "write gateway, key or metadata.NAME",
        );
        None
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
