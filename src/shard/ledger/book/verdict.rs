//! Whether a claim can be granted, and when there is room if not.

use super::counters::Counter;
use crate::{
    shard::ledger::{Now, Refusal, Standing, Standings, Why},
    snapshot::limits::{Claim, Measure},
};

/// Says whether a claim can be granted where `sum` counts already.
pub(super) fn verdict(claim: &Claim, sum: u128) -> Result<(), Why> {
    let limit = u128::from(claim.limit);
    let least = u128::from(claim.least);
    if sum >= limit {
        return Err(Why::Limit);
    }
    match claim.measure {
        // Charged afterwards: what is left of the limit is enough.
        Measure::Cost if !claim.hard => Ok(()),
        Measure::Tokens if sum == 0 => Ok(()),
        Measure::Requests | Measure::Tokens | Measure::Cost if sum + least <= limit => Ok(()),
        Measure::Cost if least > limit => Err(Why::TooLarge),
        Measure::Requests | Measure::Tokens | Measure::Cost => Err(Why::Limit),
    }
}

/// What is reserved of a claim that is granted where `sum` counts already.
pub(super) fn granted(claim: &Claim, sum: u128) -> u64 {
    let left = u128::from(claim.limit).saturating_sub(sum);
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    claim.amount.min(left.max(claim.least))
}

/// The most that may count for the claim to be granted; `None` if it never is.
pub(super) fn room(claim: &Claim) -> Option<u128> {
    let below = claim.limit.checked_sub(1)?;
    let rest = match claim.measure {
        Measure::Cost if !claim.hard => below,
        Measure::Tokens => claim.limit.saturating_sub(claim.least),
        Measure::Requests | Measure::Cost => claim.limit.checked_sub(claim.least)?,
    };
    Some(u128::from(rest.min(below)))
}

/// Notes a refusal. Of several the first has the word, and the longest wait counts.
pub(super) fn worst(refusal: &mut Option<Refusal>, claim: &Claim, why: Why, wait: Option<u64>) {
    match refusal {
        Some(first) => {
            let both = first.wait_micros.zip(wait);
            first.wait_micros = both.map(|(one, other)| one.max(other));
        }
        None => {
            *refusal = Some(Refusal {
                why,
                rule: claim.rule,
                measure: claim.measure,
                wait_micros: wait,
                standings: Standings::default(),
            });
        }
    }
}

/// How a claim's limit stands.
pub(super) fn standing(claim: &Claim, counter: Option<&Counter>, now: Now) -> Standing {
    let sum = counter.map_or(0, |counter| counter.window.sum());
    let sum = u64::try_from(sum).unwrap_or(u64::MAX);
    Standing {
        limit: claim.limit,
        remaining: claim.limit.saturating_sub(sum),
        reset_micros: counter.map_or(0, |counter| counter.window.wait_empty(now)),
    }
}
