//! Limits of the configuration to rules.

use std::{collections::HashMap, time::Duration};

use super::{Calendar, Measure, Rule, RuleWindow, Rules, Split, push};
use crate::{
    config::{
        Budget, Token,
        gateway::{Dimension, Gateway, LimitBy, SpendRule, Technique, TrafficLimit},
    },
    snapshot::CompileError,
};

/// Domain of the hashes that name rules. They stand in the ledger's journal: another text would
/// forget what was spent.
const CONTEXT: &str = "tidegate 2026-11-21 ledger counter";

/// What the limit of `rate_limiting_limit` is called.
const RATE_LIMITING: &str = "rate_limiting";

/// What the rule of a budget is called.
const BUDGET: &str = "budget";

impl Rules {
    /// Compiles the limits of a gateway, in the order in which they are checked.
    pub fn of_gateway(gateway: &Gateway) -> Self {
        let mut rules = Vec::new();
        let interval = micros(gateway.rate_limiting_interval);
        if gateway.rate_limiting_limit > 0 && interval > 0 {
            rules.push(Rule {
                limit: gateway.rate_limiting_limit,
                window: window(gateway.rate_limiting_technique, interval),
                seed: seed(&[RATE_LIMITING]),
                ..Rule::new(RATE_LIMITING, Measure::Requests)
            });
        }
        let lists = [
            (&gateway.request_limits, Measure::Requests, "request_limits"),
            (&gateway.token_limits, Measure::Tokens, "token_limits"),
        ];
        for (limits, measure, name) in lists {
            let mut alike = HashMap::new();
            for limit in limits.iter().filter(|limit| !limit.window.is_zero()) {
                rules.push(traffic_rule(limit, measure, name, &mut alike));
            }
        }
        if gateway.spend_limits.enabled {
            let spend = gateway.spend_limits.rules.iter();
            let on = spend.filter(|rule| rule.enabled && !rule.window.is_zero());
            rules.extend(on.map(spend_rule));
        }
        Self::of(rules)
    }

    /// Compiles the budgets of tokens, by the tokens' names. Time zones are loaded here, never
    /// later.
    pub fn of_budgets(tokens: &[Token]) -> Result<HashMap<Box<str>, Self>, CompileError> {
        let budgets = tokens
            .iter()
            .filter_map(|token| Some((token, token.budget.as_ref()?)));
        budgets
            .map(|(token, budget)| Ok((token.name.as_str().into(), of_budget(token, budget)?)))
            .collect()
    }

    fn of(list: Vec<Rule>) -> Self {
        Self {
            counts_tokens: list.iter().any(|rule| rule.measure == Measure::Tokens),
            has_hard: list.iter().any(|rule| rule.hard),
            reads_metadata: list.iter().any(|rule| !rule.metadata.is_empty()),
            list,
        }
    }
}

fn of_budget(token: &Token, budget: &Budget) -> Result<Rules, CompileError> {
    let calendar = Calendar::load(budget).ok_or_else(|| CompileError::TimeZone {
        token: token.name.as_str().into(),
        zone: budget.time_zone.as_str().into(),
    })?;
    Ok(Rules::of(vec![Rule {
        hard: budget.hard,
        allow_unpriced: budget.allow_unpriced,
        limit: budget.limit.0,
        window: RuleWindow::Calendar(calendar),
        seed: seed(&[BUDGET]),
        ..Rule::new(BUDGET, Measure::Cost)
    }]))
}

/// A limit of these has no id: it is named by what it counts, and among those alike by its turn.
fn traffic_rule(
    limit: &TrafficLimit,
    measure: Measure,
    name: &'static str,
    alike: &mut HashMap<String, u64>,
) -> Rule {
    let by = match &limit.by {
        LimitBy::Gateway => "gateway".to_owned(),
        LimitBy::Key => "key".to_owned(),
        LimitBy::Metadata(name) => format!("metadata.{name}"),
    };
    let technique = match limit.technique {
        Technique::Fixed => "fixed",
        Technique::Sliding => "sliding",
    };
    let kind = format!("{by} {technique} {}", limit.window.as_secs());
    let seen = alike.entry(kind.clone()).or_default();
    *seen += 1;
    let metadata = match &limit.by {
        LimitBy::Gateway | LimitBy::Key => Vec::new(),
        LimitBy::Metadata(name) => vec![(name.as_str().into(), Split::Apart)],
    };
    Rule {
        limit: limit.limit,
        window: window(limit.technique, micros(limit.window)),
        seed: seed(&[name, &kind, &seen.to_string()]),
        by_key: limit.by == LimitBy::Key,
        metadata,
        ..Rule::new(name, measure)
    }
}

fn spend_rule(rule: &SpendRule) -> Rule {
    let metadata = rule.metadata.iter();
    Rule {
        hard: rule.hard,
        allow_unpriced: rule.allow_unpriced,
        limit: rule.limit.0,
        window: window(rule.technique, micros(rule.window)),
        seed: seed(&["spend_limits", &rule.id]),
        metadata: metadata
            .map(|(key, dimension)| (key.as_str().into(), split(dimension)))
            .collect(),
        model: rule.model.as_ref().map(split),
        provider: rule.provider.as_ref().map(split),
        ..Rule::new(&rule.id, Measure::Cost)
    }
}

impl Rule {
    /// A rule that limits nothing yet.
    fn new(id: &str, measure: Measure) -> Self {
        Self {
            id: id.into(),
            measure,
            hard: false,
            allow_unpriced: false,
            limit: 0,
            window: RuleWindow::Fixed(1),
            seed: [0; 32],
            by_key: false,
            metadata: Vec::new(),
            model: None,
            provider: None,
        }
    }
}

fn split(dimension: &Dimension) -> Split {
    match dimension {
        Dimension::Partition => Split::Apart,
        Dimension::Filter(values) => {
            Split::Only(values.iter().map(|value| value.as_str().into()).collect())
        }
    }
}

fn window(technique: Technique, micros: u64) -> RuleWindow {
    match technique {
        Technique::Fixed => RuleWindow::Fixed(micros),
        Technique::Sliding => RuleWindow::Sliding(micros),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn seed(names: &[&str]) -> [u8; 32] {
    let mut parts = Vec::new();
    for name in names {
        push(&mut parts, name);
    }
    blake3::derive_key(CONTEXT, &parts)
}
