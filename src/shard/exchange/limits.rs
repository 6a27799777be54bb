//! Stages 6 and 7 of an exchange: leave to go on, under limits on requests, tokens and cost, and
//! what is given back of it.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    time::Duration,
};

use super::{Errand, Stopped, step::Step};
use crate::{
    handoff::counters::Plain,
    http::head::Method,
    provider::{dialect::Dialect, price::Dearest},
    shard::{
        Shard,
        body::Body,
        connection::{Downstream, Interrupt},
        ledger::{
            Actual, LIFE, Permit, Refusal as Refused, Standings, Why, bound,
            desk::{Hold, Waiting},
            estimate,
            post::{self, Asked},
        },
        models::Known,
        record::{Costed, Draft},
        reply::Refusal,
        retry::{ATTEMPTS_MAX, WAIT_MAX},
    },
    snapshot::limits::{Claim, CostBound, Facts, Measure, NoBound, Rules, Scope, TokenGuess},
};

/// The leave of one step. Dropped, it ends as it should: what may have been used stays reserved,
/// and all else is given back but the request itself.
pub(super) struct Leave {
    /// Of the gateway's limits, and of the key's budget.
    holds: [Option<Hold>; 2],
    /// An attempt is on its way, or ended without an answer: something may be used.
    at_risk: Cell<bool>,
    /// One of its limits is hard.
    hard: bool,
    /// One of its limits counts tokens.
    counts_tokens: bool,
    /// The model, to learn how many tokens its requests have.
    model: Rc<Known>,
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
        holds: [None, None],
        at_risk: Cell::new(false),
        hard: rules(Rules::has_hard),
        counts_tokens: rules(Rules::counts_tokens),
        model: known,
        body_bytes: draft.request_bytes,
        max_tokens: draft.max_tokens,
    };
    let tokens = if leave.counts_tokens && !is_free(step) {
        shard.ledger.estimates.tokens(&leave.request())
    } else {
        TokenGuess::default()
    };
    let bound = if leave.hard {
        let price = leave.model.price;
        let dearest = price.and_then(|place| snapshot.prices.dearest(place));
        cost_bound(step, body, draft, dearest.as_ref())
    } else {
        CostBound::Unpriced
    };
    let gateway = Scope::Gateway(draft.gateway);
    let lists = [Some((gateway, of_gateway)), budget];
    let mut standings = Standings::default();
    for (place, list) in lists.into_iter().enumerate() {
        let Some((scope, rules)) = list else {
            continue;
        };
        let mut claims = shard.ledger.claims();
        let kept = step.known.filter(|_| rules.follows_head());
        let kept = kept.and_then(|known| known.claims.get(place));
        if let Some(known) = kept.and_then(OnceCell::get) {
            claims.extend_from_slice(known);
        } else {
            let claimed = claim(
                shard,
                step,
                (&leave, draft, tokens, bound),
                (scope, rules),
                &mut claims,
            );
            claimed.map_err(|why| {
                shard.count(Plain::Limited);
                no_bound(why, rules, step, draft)
            })?;
            if let Some(kept) = kept {
                // It was empty.
                let _ = kept.set(claims.as_slice().into());
            }
        }
        // A request of the caller's counts once, however many steps it has.
        claims.retain(|claim| !(errand.admitted && claim.measure == Measure::Requests));
        if claims.is_empty() {
            continue;
        }
        let undoable = place == 0 && budget.is_some();
        if shard.ledger.desk.owes() {
            // What an earlier step gave back is there for this one.
            post::pump(shard);
        }
        let permit = match post::ask(shard, claims, life(step), undoable) {
            Asked::Answered(result) => result,
            // Boxed, like everything rare.
            Asked::Waiting(waiting) => Box::pin(wait(errand, waiting, draft)).await?,
        };
        let permit = permit.map_err(|why| {
            shard.count(Plain::Limited);
            refusal(&why, rules, step, draft)
        })?;
        standings = standings.and(&permit.standings);
        if let Some(hold) = leave.holds.get_mut(place) {
            *hold = Some(shard.ledger.desk.hold(&permit));
        }
    }
    errand.admitted = true;
    for hold in leave.holds.iter_mut().flatten() {
        hold.note_admitted();
    }
    draft.limits = Some(Box::new(standings));
    Ok(Some(leave))
}

/// Makes the claims of a list of rules.
fn claim(
    shard: &Shard,
    step: &Step<'_, '_>,
    (leave, draft, tokens, bound): (&Leave, &Draft<'_>, TokenGuess, CostBound),
    (scope, rules): (Scope<'_>, &Rules),
    claims: &mut Vec<Claim>,
) -> Result<(), NoBound> {
    let facts = Facts {
        key: step.caller.key.map(|key| &*key.name),
        metadata: &draft.metadata,
        provider: &step.provider.slug,
        model: &String::from_utf8_lossy(&draft.model),
        model_name: &leave.model.name,
        tokens,
        bound,
        unix_micros: shard.clock.unix_micros(shard.clock.now()),
    };
    let mut names = shard.ledger.names.borrow_mut();
    rules.claim(scope, &facts, &mut names, claims)
}

/// Waits for an owner's answer.
async fn wait(
    errand: &mut Errand<'_, '_>,
    waiting: Waiting,
    draft: &mut Draft<'_>,
) -> Result<Result<Permit, Refused>, Stopped> {
    let shard = errand.shard;
    let started = shard.clock.now();
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

fn no_bound(why: NoBound, rules: &Rules, step: &Step<'_, '_>, draft: &Draft<'_>) -> Refusal {
    let message = spend_message(why.rule, rules, step, draft);
    let why = if why.unpriced {
        "the model has no known price, and the limit is hard: set a price under [prices], or allow_unpriced on the rule"
    } else {
        "what the request can cost has no known bound, and the limit is hard: send max_tokens, and no media by address or tools that run at the provider"
    };
    Refusal::spend_limited(&message.unwrap_or_default(), why, None)
}

fn spend_message(
    rule: u16,
    rules: &Rules,
    step: &Step<'_, '_>,
    draft: &Draft<'_>,
) -> Option<String> {
    let model = String::from_utf8_lossy(&draft.model);
    let rule = rules.rule(rule)?;
    Some(rule.spend_message(&step.provider.slug, &model))
}

fn refusal(refused: &Refused, rules: &Rules, step: &Step<'_, '_>, draft: &Draft<'_>) -> Refusal {
    let after = refused.retry_after();
    match refused.why {
        Why::Crowded | Why::Journal => Refusal::limits_unavailable(),
        Why::Limit | Why::TooLarge if refused.measure == Measure::Cost => {
            let message = spend_message(refused.rule, rules, step, draft);
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
            model: &self.model.name,
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
        draft: &Draft<'_>,
    ) {
        let (shard, cost) = (errand.shard, &draft.cost);
        let usage = &cost.metered.usage;
        let tokens = estimate::counted(usage);
        if self.counts_tokens && tokens.is_some() {
            shard.ledger.estimates.learn(&self.request(), usage);
        }
        let actual = if draft.status >= 400 && tokens.is_none() {
            // The provider's own refusals cost nothing.
            Actual::NOTHING
        } else {
            Actual {
                tokens,
                cost: cost.cost,
                list_cost: self.list_cost(errand, step, cost),
            }
        };
        for hold in &mut self.holds {
            if let Some(hold) = hold.take() {
                hold.settle(actual);
            }
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
        let (_, cost) = errand.snapshot.prices.cost_at(place, usage)?;
        cost.map(|cost| cost.0)
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.at_risk.get() {
            for hold in self.holds.iter_mut().flatten() {
                hold.note_sent();
            }
        }
    }
}
