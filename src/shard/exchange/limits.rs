//! Stages 6 and 7 of an exchange: leave to go on, under limits on requests, tokens and cost, and
//! what is given back of it.

use std::time::Duration;

use super::{Errand, Stopped, step::Step};
use crate::{
    domain::{outcome::Outcome, usage::Usage},
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
        record::Draft,
        reply::Refusal,
    },
    snapshot::limits::{Claim, CostBound, Facts, Measure, NoBound, Rules, Scope, TokenGuess},
};

/// The leave of one step. Dropped, it ends as it should: given back where nothing was sent.
pub(super) struct Leave {
    holds: Vec<Hold>,
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
    let mut leave = Leave {
        holds: Vec::new(),
        model: known.name.clone(),
        body_bytes: draft.request_bytes,
        max_tokens: draft.max_tokens,
    };
    let model = String::from_utf8_lossy(&draft.model).into_owned();
    let metadata = draft.metadata.clone();
    let rules =
        |pick: fn(&Rules) -> bool| pick(of_gateway) || budget.is_some_and(|(_, rules)| pick(rules));
    let facts = Facts {
        key: step.caller.key.map(|key| &*key.name),
        metadata: &metadata,
        provider: &step.provider.slug,
        model: &model,
        model_name: &known.name,
        tokens: if rules(Rules::counts_tokens) {
            shard.ledger.estimates.tokens(&leave.request())
        } else {
            TokenGuess::default()
        },
        bound: if rules(Rules::has_hard) {
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
    for (place, (scope, rules)) in lists
        .into_iter()
        .enumerate()
        .filter_map(|(n, l)| Some((n, l?)))
    {
        let mut claims: Vec<Claim> = Vec::new();
        let claimed = rules.claim(scope, &facts, &mut claims);
        claimed.map_err(|why| {
            shard.count(Plain::Limited);
            no_bound(&why, rules, &facts)
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
    if let Some((policy, state)) = standings.rate_limit() {
        draft.limits = Some(Box::new((policy, state)));
    }
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
        Err(Interrupt::Late) => Err(Refusal::limits_unavailable().into()),
    }
}

/// How long the exchange can take.
fn life(step: &Step<'_, '_>) -> Duration {
    let total = step.provider.total_timeout;
    if total.is_zero() { LIFE } else { total * 2 }
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
    if matches!(
        step.head.method,
        Method::Get | Method::Head | Method::Options
    ) {
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

fn no_bound(why: &NoBound, rules: &Rules, facts: &Facts<'_>) -> Refusal {
    let message = rules
        .rule(why.rule)
        .map(|rule| rule.spend_message(facts.provider, facts.model));
    let why = if why.unpriced {
        "the model has no known price, and the limit is hard: set a price under [prices], or allow_unpriced on the rule"
    } else {
        "what the request can cost has no known bound, and the limit is hard: send max_tokens, and no media by address or tools that run at the provider"
    };
    Refusal::spend_limited(message.unwrap_or_default(), why, None)
}

fn refusal(refused: &Refused, rules: &Rules, facts: &Facts<'_>) -> Refusal {
    let after = refused.retry_after();
    let limits = refused.standings.rate_limit();
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
            Refusal::spend_limited(message.unwrap_or_default(), why, after)
        }
        Why::Limit | Why::TooLarge => {
            let rule = rules.rule(refused.rule).map(ToString::to_string);
            Refusal::rate_limited(&rule.unwrap_or_default(), after, limits)
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

    /// The request goes out: from here on something may be used.
    pub(super) fn note_sent(&mut self) {
        for hold in &mut self.holds {
            hold.note_sent();
        }
    }

    /// Ends it where no answer came through. Dropped, a hold says itself whether anything was sent.
    pub(super) fn end_failed(self, errand: &Errand<'_, '_>, outcome: Outcome) {
        let refused = matches!(outcome, Outcome::ClientError | Outcome::UpstreamError);
        for hold in self.holds {
            if refused {
                hold.settle(Actual::NOTHING);
            }
        }
        post::pump(errand.shard);
    }

    /// Ends it with what was used.
    pub(super) fn settle(
        mut self,
        errand: &Errand<'_, '_>,
        outcome: Outcome,
        usage: &Usage,
        cost: Option<u64>,
    ) {
        let shard = errand.shard;
        let tokens = estimate::counted(usage);
        let refused = matches!(outcome, Outcome::ClientError | Outcome::UpstreamError);
        let actual = if refused && tokens.is_none() {
            // The provider's own refusals cost nothing.
            Actual::NOTHING
        } else {
            Actual { tokens, cost }
        };
        if tokens.is_some() {
            shard.ledger.estimates.learn(&self.request(), usage);
        }
        for hold in self.holds.drain(..) {
            hold.settle(actual);
        }
        post::pump(shard);
    }
}
