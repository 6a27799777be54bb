//! Stages 6 and 7 of an exchange: leave to go on, under limits on requests, tokens and cost, and
//! what is given back of it.

use std::{cell::Cell, time::Duration};

use super::{Errand, Stopped, step::Step};
use crate::{
    handoff::counters::Plain,
    http::head::Method,
    provider::{dialect::Dialect, price::Dearest},
    shard::{
        body::Body,
        connection::{Downstream, Interrupt},
        ledger::{
            Actual, LIFE, Permit, Refusal as Refused, Standings, Why, bound, desk::Hold, estimate,
            post,
        },
        record::{Costed, Draft},
        reply::Refusal,
        retry::{ATTEMPTS_MAX, WAIT_MAX},
    },
    snapshot::limits::{Claim, CostBound, Facts, Measure, NoBound, Rules, Scope, TokenGuess},
};

/// The leave of one step. Dropped, it ends as it should: what may have been used stays reserved,
/// and all else is given back but the request itself.
pub(super) struct Leave {
    holds: Vec<Hold>,
    /// An attempt is on its way, or ended without an answer: something may be used.
    at_risk: Cell<bool>,
    /// One of its limits is hard.
    hard: bool,
    /// The model by its normalised name, to learn how many tokens its requests have.
    model: Box<str>,
    body_bytes: u64,
    max_tokens: Option<u64>,
}

/// Asks for leave, if any limit applies. A gateway's limits are asked first, the key's budget second;
/// what the first granted goes back if the second refuses.
pub(super) async fn reserve(
    errand: &mut Errand<'_, '_>,
    step: &Step<'_, '_>,
    body: &Body,
    draft: &mut Draft<'_>,
) -> Result<Option<Leave>, Stopped> {
    let snapshot = errand.snapshot;
    let of_gateway = &errand.gateway.rules;
    let of_key = step.caller.key.and_then(|key| {
        let rules = snapshot.budgets.get(&key.name)?;
        Some((Scope::Key(&key.name), rules))
    });
    let budget = of_key.filter(|(_, rules)| !rules.is_empty());
    if of_gateway.is_empty() && budget.is_none() {
        return Ok(None);
    }
    let shard = errand.shard;
    let known = shard
        .models
        .find(&snapshot.prices, &step.provider.slug, &draft.model);
    let rules =
        |pick: fn(&Rules) -> bool| pick(of_gateway) || budget.is_some_and(|(_, rules)| pick(rules));
    let mut leave = Leave {
        holds: Vec::new(),
        at_risk: Cell::new(false),
        hard: rules(Rules::has_hard),
        model: known.name.clone(),
        body_bytes: draft.request_bytes,
        max_tokens: draft.max_tokens,
    };
    let model = String::from_utf8_lossy(&draft.model).into_owned();
    let metadata = draft.metadata.clone();
    let facts = Facts {
        key: step.caller.key.map(|key| &*key.name),
        metadata: &metadata,
        provider: &step.provider.slug,
        model: &model,
        model_name: &known.name,
        tokens: if rules(Rules::counts_tokens) && !is_free(step) {
            shard.ledger.estimates.tokens(&leave.request())
        } else {
            TokenGuess::default()
        },
        bound: if leave.hard {
            let dearest = known.price.and_then(|place| snapshot.prices.dearest(place));
            cost_bound(step, body, draft, dearest.as_ref())
        } else {
            CostBound::Unpriced
        },
        unix_micros: shard.clock.unix_micros(shard.clock.now()),
    };
    let gateway = Scope::Gateway(draft.gateway);
    let lists = [Some((gateway, of_gateway)), budget];
    let mut standings = Standings::default();
    for (place, list) in lists.into_iter().enumerate() {
        let Some((scope, rules)) = list else {
            continue;
        };
        let mut claims: Vec<Claim> = Vec::new();
        let claimed = rules.claim(scope, &facts, &mut claims);
        claimed.map_err(|why| {
            shard.count(Plain::Limited);
            no_bound(why, rules, &facts)
        })?;
        // A request of the caller's counts once, however many steps it has.
        claims.retain(|claim| !(errand.admitted && claim.measure == Measure::Requests));
        if claims.is_empty() {
            continue;
        }
        let undoable = place == 0 && budget.is_some();
        let permit = ask(errand, claims, life(step), undoable, draft).await?;
        let permit = permit.map_err(|why| {
            shard.count(Plain::Limited);
            refusal(&why, rules, &facts)
        })?;
        standings = standings.and(&permit.standings);
        leave.holds.push(shard.ledger.desk.hold(&permit));
    }
    errand.admitted = true;
    for hold in &mut leave.holds {
        hold.note_admitted();
    }
    draft.limits = Some(Box::new(standings));
    Ok(Some(leave))
}

async fn ask(
    errand: &mut Errand<'_, '_>,
    claims: Vec<Claim>,
    life: Duration,
    undoable: bool,
    draft: &mut Draft<'_>,
) -> Result<Result<Permit, Refused>, Stopped> {
    let shard = errand.shard;
    if shard.ledger.desk.owes() {
        // What an earlier step gave back is there for this one.
        post::pump(shard);
    }
    let started = shard.clock.now();
    let waiting = post::ask(shard, claims, life, undoable);
    let peer = &mut *errand.peer;
    peer.limit(&shard.clock, post::ANSWER_LIMIT);
    let answered =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, waiting)
            .await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    match answered {
        Ok(answer) => Ok(answer),
        Err(Interrupt::Gone) => Err(Stopped::Gone),
        Err(Interrupt::Late) => {
            shard.count(Plain::Limited);
            Err(Refusal::limits_unavailable().into())
        }
    }
}

/// How long the step can take, all its attempts and the waits between them.
fn life(step: &Step<'_, '_>) -> Duration {
    let total = step.provider.total_timeout;
    // What follows a switch of protocols has no end of its own.
    if total.is_zero() || step.route.upgrade.is_some() {
        return LIFE;
    }
    (total + WAIT_MAX) * u32::from(ATTEMPTS_MAX) * 2
}

/// Says whether the request uses nothing that is counted or paid, by its method.
fn is_free(step: &Step<'_, '_>) -> bool {
    let reads = matches!(
        step.head.method,
        Method::Get | Method::Head | Method::Options
    );
    reads && step.route.upgrade.is_none()
}

fn cost_bound(
    step: &Step<'_, '_>,
    body: &Body,
    draft: &Draft<'_>,
    dearest: Option<&Dearest>,
) -> CostBound {
    if step.route.upgrade.is_some() {
        return CostBound::Unbounded;
    }
    if is_free(step) {
        return CostBound::AtMost(0);
    }
    let dialect: Dialect = step.route.dialect;
    let request = bound::Request {
        dialect,
        body: match body {
            Body::Whole(bytes) => Some(bytes),
            Body::Passing { .. } => None,
        },
        max_tokens: draft.max_tokens,
    };
    bound::bound(dearest, &request)
}

fn no_bound(why: NoBound, rules: &Rules, facts: &Facts<'_>) -> Refusal {
    let message = rules
        .rule(why.rule)
        .map(|rule| rule.spend_message(facts.provider, facts.model));
    let why = if why.unpriced {
        "the model has no known price, and the limit is hard: set a price under [prices], or allow_unpriced on the rule"
    } else {
        "what the request can cost has no known bound, and the limit is hard: send max_tokens, and no media by address or tools that run at the provider"
    };
    Refusal::spend_limited(&message.unwrap_or_default(), why, None)
}

fn refusal(refused: &Refused, rules: &Rules, facts: &Facts<'_>) -> Refusal {
    let after = refused.retry_after();
    match refused.why {
        Why::Crowded | Why::Journal => Refusal::limits_unavailable(),
        Why::Limit | Why::TooLarge if refused.measure == Measure::Cost => {
            let message = rules
                .rule(refused.rule)
                .map(|rule| rule.spend_message(facts.provider, facts.model));
            let why = if refused.why == Why::TooLarge {
                "by itself the request may cost more than the whole limit"
            } else {
                "the limit is reached, or what is left is less than the request may cost"
            };
            Refusal::spend_limited(&message.unwrap_or_default(), why, after)
        }
        Why::Limit | Why::TooLarge => {
            let rule = rules.rule(refused.rule).map(ToString::to_string);
            Refusal::rate_limited(&rule.unwrap_or_default(), after, &refused.standings)
        }
    }
}

impl Leave {
    fn request(&self) -> estimate::Request<'_> {
        estimate::Request {
            model: &self.model,
            body_bytes: self.body_bytes,
            max_tokens: self.max_tokens,
        }
    }

    /// Raised by an attempt before its request goes out.
    pub(super) fn at_risk(&self) -> &Cell<bool> {
        &self.at_risk
    }

    /// Says whether an attempt was made of which nobody knows what it used.
    pub(super) fn is_at_risk(&self) -> bool {
        self.at_risk.get()
    }

    /// What was attempted used nothing: it reached nobody, or the provider refused it.
    pub(super) fn nothing_used(&self) {
        self.at_risk.set(false);
    }

    /// Ends it without an answer.
    pub(super) fn end(self, errand: &Errand<'_, '_>) {
        drop(self);
        post::pump(errand.shard);
    }

    /// Ends it with what an answer of that status used.
    pub(super) fn settle(
        mut self,
        errand: &Errand<'_, '_>,
        step: &Step<'_, '_>,
        status: u16,
        cost: &Costed,
    ) {
        let shard = errand.shard;
        let usage = &cost.metered.usage;
        let tokens = estimate::counted(usage);
        if tokens.is_some() {
            shard.ledger.estimates.learn(&self.request(), usage);
        }
        let actual = if status >= 400 && tokens.is_none() {
            // The provider's own refusals cost nothing.
            Actual::NOTHING
        } else {
            Actual {
                tokens,
                cost: cost.cost,
                list_cost: self.list_cost(errand, step, cost),
            }
        };
        for hold in self.holds.drain(..) {
            hold.settle(actual);
        }
        post::pump(shard);
    }

    /// What hard limits count: the price that the operator knows, also where the caller says
    /// another one.
    fn list_cost(
        &self,
        errand: &Errand<'_, '_>,
        step: &Step<'_, '_>,
        cost: &Costed,
    ) -> Option<u64> {
        if !self.hard || step.wishes.custom_cost.is_none() {
            return cost.cost;
        }
        let place = cost.model.as_ref().and_then(|model| model.price);
        let Some(place) = place else {
            // Only a rule that allows what has no price lets this pass.
            return cost.cost;
        };
        let usage = &cost.metered.usage;
        if usage.is_unknown() {
            return None;
        }
        let priced = errand.snapshot.prices.at(place, usage)?;
        priced.prices.cost(usage).map(|cost| cost.0)
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.at_risk.get() {
            for hold in &mut self.holds {
                hold.note_sent();
            }
        }
    }
}
