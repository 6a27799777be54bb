//! Limits that hold: what an owner of counters grants, and what it wants back.
//!
//! One mechanism for limits on requests, on tokens and on cost. Before a request is sent it
//! **reserves** the most it may use, from all its limits or from none; when it has ended, however it
//! ended, it **settles** by what it used. All counters of a gateway live on one shard, their owner
//! ([`CounterKey::shard`](crate::snapshot::limits::CounterKey::shard)), so no two shards ever decide
//! about the same limit. Nothing here awaits or reads a clock.
//!
//! # A request, step by step
//!
//! 1. The asker's side. `gateway.rules` and `snapshot.budgets[key]` are the
//!    [`Rules`](crate::snapshot::limits::Rules). Where both are empty nothing happens. Where one
//!    [`counts_tokens`](crate::snapshot::limits::Rules::counts_tokens), [`estimate::Estimates`] of the
//!    shard guess them; where one
//!    [`has_hard`](crate::snapshot::limits::Rules::has_hard), [`bound::bound`] bounds the cost by
//!    [`PriceTable::dearest`](crate::provider::price::PriceTable::dearest). What costs nothing by its
//!    method (a GET that opens no WebSocket) is bound by `AtMost(0)`; a WebSocket is `Unbounded`.
//!    [`Rules::claim`](crate::snapshot::limits::Rules::claim) turns all that into claims; its error
//!    refuses the request.
//! 2. An [`Ask`] with the ticket of a [`desk::Waiting`] goes to the owner of the claims, which calls
//!    [`Book::reserve`]. `Some` answer goes back at once; where the asker's own shard is the owner, nobody
//!    needs to wait for that. `None`: a hard limit is involved, and the
//!    answer comes from [`Book::journalled`] or [`Book::tick`]. Answers go to
//!    [`desk::Desk::answered`] of the shard that the ticket names.
//! 3. A key's budget is asked for after the gateway's limits, at its own owner, with an `Ask` of its
//!    own. The first `Ask` then says `undoable`, and what it got is released if the second is
//!    refused.
//! 4. The exchange keeps each permit as a [`desk::Hold`], says when all owners have agreed
//!    ([`desk::Hold::note_admitted`]: from here on the request counts, also if it reaches nobody),
//!    and when something may be used ([`desk::Hold::note_sent`]).
//! 5. The end. An exchange that reached a provider settles with what the meter found:
//!    [`estimate::counted`] tokens and the cost, `None` where unknown; [`Actual::NOTHING`] where
//!    nothing was used. One that is dropped does the right thing by itself. An attempt that went out
//!    and was not answered may cost something: what was reserved for it stands, and the next one
//!    reserves anew. [`estimate::Estimates::learn`] learns from the usage.
//!    At the end of each turn the shard takes what ended from its desk ([`desk::Desk::take_end`]) to the
//!    owners ([`PermitId::shard`]): [`Book::settle`] or [`Book::release`].
//!
//! # The owner's loop
//!
//! At the end of each turn, and after each tick: [`Book::take_batch`], and if there is one, its
//! [`Post`](crate::handoff::mailbox::Post) to the journal; a batch that comes back from a full
//! queue goes to [`Book::take_back`], which answers those who wait. On
//! [`Order::Journalled`](crate::handoff::mailbox::Order::Journalled): [`Book::journalled`]. Every
//! tick of 20 ms: [`Book::tick`]. At the end of a drain, when nothing is in flight:
//! [`Book::take_rest`], so that nothing of the last second is lost. Before the first request:
//! [`Book::recover`] with what the journal held.
//!
//! # What is promised
//!
//! * A limit of N requests admits N in a window, exactly.
//! * Tokens reserve an estimate, and what is reserved in a window exceeds its limit by at most one
//!   request: one greater than the whole limit passes if its window is empty, since else it
//!   never could. A model of which nothing is known reserves all that is left, so that it goes alone
//!   until it is known. What is used exceeds the limit as far as answers were longer than estimated.
//! * Cost is charged afterwards, as the contract has it, unless the rule is hard: then it is
//!   reserved by its bound, written down before the request goes out, and never passed, also
//!   when the process is killed: a reservation that nobody settled counts as spent in full. (A
//!   power cut may take the last moments of the journal.)
//! * An amount counts from its reservation on, in the window of that moment. What is charged
//!   afterwards counts from then on.
//! * A permit that nobody settles ends by its deadline. Hard cost then counts as spent, tokens are
//!   given back, the request stays counted.
//! * Counters of cost survive a restart, those of soft rules up to the last second before a kill;
//!   requests and tokens are counted anew.
//! * A counter in whose window something counts is never dropped. Where there are
//!   [`book::COUNTERS_MAX`] of them, a request that needs another one is refused until
//!   one is empty: to fold counters would mix what the rules keep apart.

pub mod window;
pub mod estimate;
pub mod bound;
pub mod book;
pub mod desk;
pub mod post;

use std::time::Duration;

use super::emit::decimal;
use crate::snapshot::limits::{Claim, Measure};

pub use self::{book::Book, window::Now};

/// What a request asks of an owner: all of its claims, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The claims, each on a counter of its own.
    pub claims: Vec<Claim>,
    /// How long the permit lasts if nobody settles it: longer than the exchange can take.
    pub life: Duration,
    /// Another owner is asked next, and if it refuses, all of this is to be undone.
    pub undoable: bool,
}

/// The life of a permit whose exchange has no time limit of its own: longer than any answer takes.
/// Exchanges that end, end their permits; this is for faults of ours.
pub const LIFE: Duration = Duration::from_hours(24);

/// Names a question to an owner. The owner gives it back and makes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// The shard that asks.
    pub shard: usize,
    /// Its number for the question.
    pub number: u64,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The ticket of the question.
    pub ticket: Ticket,
    /// Whether the request may go.
    pub result: Result<Permit, Refusal>,
}

/// Leave to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Names it when it is settled or released; `None` where neither is owed.
    pub id: Option<PermitId>,
    /// How the limits stand now.
    pub standings: Standings,
}

/// Names a permit among all of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermitId(u64);

/// Bits of a permit's number that count; those above are its owner.
const PERMIT_BITS: u32 = 48;

impl PermitId {
    fn new(shard: usize, number: u64) -> Self {
        Self((shard as u64) << PERMIT_BITS | number & ((1 << PERMIT_BITS) - 1))
    }

    fn number(self) -> u64 {
        self.0 & ((1 << PERMIT_BITS) - 1)
    }

    /// The shard that owns it.
    pub fn shard(self) -> usize {
        usize::try_from(self.0 >> PERMIT_BITS).unwrap_or(usize::MAX)
    }
}

/// Why a request may not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What stands in its way.
    pub why: Why,
    /// The place of the rule in its list; of several the first.
    pub rule: u16,
    /// What that rule counts.
    pub measure: Measure,
    /// In how many microseconds there is room, if nothing else happens. `None`: never, or nobody
    /// knows.
    pub wait_micros: Option<u64>,
    /// How the limits stand.
    pub standings: Standings,
}

/// What stands in a request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The limit is reached, or the rest of it is less than what is to be reserved.
    Limit,
    /// By itself it may cost more than the whole limit.
    TooLarge,
    /// There are as many counters or permits as there may be.
    Crowded,
    /// The reservation could not be written down in time.
    Journal,
}

/// How the limits of a request stand: for each measure the one of which the least is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standings {
    /// Requests.
    pub requests: Option<Standing>,
    /// Tokens.
    pub tokens: Option<Standing>,
    /// Pico-dollars.
    pub cost: Option<Standing>,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// In how many microseconds all of it is, if nothing else happens.
    pub reset_micros: u64,
}

/// What an exchange really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actual {
    /// Tokens, input and output. Unknown: the estimate stands.
    pub tokens: Option<u64>,
    /// Pico-dollars, for soft rules. Unknown: nothing counts.
    pub cost: Option<u64>,
    /// Pico-dollars by the operator's own prices, for hard rules. Unknown: the reservation stands.
    pub list_cost: Option<u64>,
}

impl Actual {
    /// Nothing was used.
    pub const NOTHING: Self = Self {
        tokens: Some(0),
        cost: Some(0),
        list_cost: Some(0),
    };
}

impl Refusal {
    /// Seconds for `Retry-After`: at least one, rounded up.
    pub fn retry_after(&self) -> Option<u64> {
        Some(self.wait_micros?.div_ceil(1_000_000).max(1))
    }
}

impl Standings {
    /// Appends `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10) for requests
    /// and tokens, each with its line end: `"requests";q=100` and `"requests";r=99;t=60`. What a caller may
    /// spend is not his to know. Without the formatting machinery: every answer under a limit has
    /// them.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        // The first of them with the words around it in one piece, since mostly it is the only one.
        let (policy, now, first, second): (&[u8], &[u8], _, _) = match (self.requests, self.tokens)
        {
            (Some(requests), tokens) => (
                b"ratelimit-policy: \"requests\";q=",
                b"\r\nratelimit: \"requests\";r=",
                requests,
                tokens,
            ),
            (None, Some(tokens)) => (
                b"ratelimit-policy: \"tokens\";q=",
                b"\r\nratelimit: \"tokens\";r=",
                tokens,
                None,
            ),
            (None, None) => return,
        };
        out.extend_from_slice(policy);
        decimal(out, first.limit);
        if let Some(tokens) = second {
            out.extend_from_slice(b", \"tokens\";q=");
            decimal(out, tokens.limit);
        }
        let rest = |out: &mut Vec<u8>, standing: Standing| {
            decimal(out, standing.remaining);
            out.extend_from_slice(b";t=");
            decimal(out, standing.reset_micros.div_ceil(1_000_000));
        };
        out.extend_from_slice(now);
        rest(out, first);
        if let Some(tokens) = second {
            out.extend_from_slice(b", \"tokens\";r=");
            rest(out, tokens);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// These and those of another owner: of each measure the one of which less is left.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let theirs = [
            (Measure::Requests, other.requests),
            (Measure::Tokens, other.tokens),
            (Measure::Cost, other.cost),
        ];
        for (measure, standing) in theirs {
            if let Some(standing) = standing {
                self.note(measure, standing);
            }
        }
        self
    }

    fn note(&mut self, measure: Measure, standing: Standing) {
        let place = match measure {
            Measure::Requests => &mut self.requests,
            Measure::Tokens => &mut self.tokens,
            Measure::Cost => &mut self.cost,
        };
        if place.is_none_or(|other| standing.remaining < other.remaining) {
            *place = Some(standing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings_become_header_fields() {
        let standing = |remaining| {
            Some(Standing {
                limit: 100,
                remaining,
                reset_micros: 59_000_001,
            })
        };
        let both = Standings {
            requests: standing(9),
            ..Standings::default()
        };
        let other = Standings {
            requests: standing(12),
            tokens: standing(0),
            cost: standing(7),
        };
        let written = |standings: Standings| {
            let mut out = Vec::new();
            standings.write_fields(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Standings::default()), "");
        assert_eq!(
            written(both),
            "ratelimit-policy: \"requests\";q=100\r\nratelimit: \"requests\";r=9;t=60\r\n"
        );
        assert_eq!(
            written(both.and(&other)),
            "ratelimit-policy: \"requests\";q=100, \"tokens\";q=100\r\n\
             ratelimit: \"requests\";r=9;t=60, \"tokens\";r=0;t=60\r\n"
        );
        assert_eq!(other.and(&both).requests, standing(9));
    }
}
