//! Rules of a gateway: limits on cost, on requests and on model tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;

use crate::config::file::{self, Field};
use crate::config::gateway::{Dimension, LimitBy, SpendLimits, SpendRule, Technique, TrafficLimit};
use crate::config::limit;
use crate::config::redact::shown;

use super::Checker;
use super::field::{flag, span};
use super::gateway::TECHNIQUES;

impl Checker<'_, '_> {
    pub(super) fn spend_limits(&mut self, field: &Field<file::SpendLimits>) -> SpendLimits {
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
                let at = span(&item.get_ref().id).unwrap_or_else(|| item.span());
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
            allow_unpriced: flag(&file.allow_unpriced, false),
            id: id?,
            limit: limit?,
            window: window?,
        })
    }

    fn dimension(&mut self, field: &Spanned<file::Dimension>) -> Option<Dimension> {
        let file = field.get_ref();
        let help = "write mode = \"partition\" or mode = \"filter\"";
        let mode = file.mode.as_ref();
        let mode = mode.or_else(|| self.missing(field.span(), "mode", help))?;
        let filter = self.one_word(mode, &[("partition", false), ("filter", true)])?;
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

    pub(super) fn traffic_limits(
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
}
