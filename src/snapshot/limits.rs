//! Limits on traffic and cost, compiled: which counters a request meets, and how much of each.
//!
//! A gateway has one list of [`Rules`], a key with a budget another with a single rule. Their
//! order is the order in which limits are checked: requests, tokens, cost. For a request the
//! list gives a [`Claim`] for each rule that applies to it; the owner of the counters grants all
//! of them or none. Counters hold no limit: the claim brings it, so that a changed limit holds
//! from the next request on.
//!
//! A counter is named by a [`CounterKey`]. Its `id` is a keyed hash (BLAKE3, 128 bits) of rule,
//! gateway and the values that split the rule, so nobody can make two callers share a counter; its
//! `owner` is the same for all counters of a gateway, and decides on which shard they live. What
//! names a rule is its id, or where it has none what it counts and how: other rules may come and
//! go around it.

pub mod calendar;
pub mod names;
mod compile;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::{calendar::Calendar, names::Names};
use crate::domain::money::PicoDollars;

/// The limits of one gateway, or of one key.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    list: Vec<Rule>,
    counts_tokens: bool,
    has_hard: bool,
    reads_metadata: bool,
}

/// One limit.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it is called in messages: the id of a spend rule, else a word for what it is.
    pub id: Box<str>,
    /// What it counts.
    pub measure: Measure,
    /// Cost is reserved before the request, so that the limit is never passed.
    pub hard: bool,
    /// Requests whose cost is unknown may pass although it is hard.
    pub allow_unpriced: bool,
    /// How much there may be in a window: requests, tokens or pico-dollars.
    pub limit: u64,
    /// The window.
    pub window: RuleWindow,
    /// Names the rule's counters among all others.
    seed: [u8; 32],
    /// One counter for each key; callers without one share one.
    by_key: bool,
    metadata: Vec<(Box<str>, Split)>,
    model: Option<Split>,
    provider: Option<Split>,
}

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Model tokens, input and output.
    Tokens,
    /// Cost in pico-dollars.
    Cost,
}

/// The window of a rule.
#[derive(Debug, Clone)]
pub enum RuleWindow {
    /// So many microseconds, aligned to the clock.
    Fixed(u64),
    /// The last so many microseconds.
    Sliding(u64),
    /// A period of the calendar.
    Calendar(Calendar),
}

/// How a dimension splits or chooses requests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Split {
    /// One counter for each value.
    Apart,
    /// Only requests with one of these values count.
    Only(Vec<Box<str>>),
}

/// Names a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterKey {
    /// Equal for all counters that live together.
    pub owner: u64,
    /// The counter.
    pub id: [u8; 16],
}

/// The first half of the id, which is a hash itself.
impl Hash for CounterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first @ .., _, _, _, _, _, _, _, _] = self.id;
        state.write_u64(u64::from_le_bytes(first));
    }
}

impl CounterKey {
    /// The number of the shard that owns the counter, among `shards`.
    pub fn shard(&self, shards: usize) -> usize {
        let product = u128::from(self.owner) * shards as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }
}

/// What a request asks of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The counter.
    pub key: CounterKey,
    /// The place of the rule in its list.
    pub rule: u16,
    /// What is counted.
    pub measure: Measure,
    /// Cost is reserved, not charged afterwards.
    pub hard: bool,
    /// The limit as the request's snapshot has it.
    pub limit: u64,
    /// The window.
    pub span: Span,
    /// What is reserved: 1 request; the estimate of tokens; the bound of the cost, or nothing
    /// where cost is charged afterwards.
    pub amount: u64,
    /// What must fit. Where that is less than `amount`, as much of it is reserved as there is.
    pub least: u64,
}

/// The window of a [`Claim`], in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Windows of this length, the first of them from the Unix epoch on.
    Fixed(u64),
    /// The last so many microseconds.
    Sliding(u64),
    /// From the first of these Unix times to the second, then to the third. The owner of the
    /// counter says which of the two it is: its clock may be a moment ahead of the asker's.
    Calendar([u64; 3]),
}

/// Whose limits are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Those of the gateway of this id.
    Gateway(&'a str),
    /// The budget of the key of this name.
    Key(&'a str),
}

/// What limits need to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Name of the key that the caller proved.
    pub key: Option<&'a str>,
    /// `cf-aig-metadata` as it was taken over: a JSON object of plain values, or nothing.
    pub metadata: &'a [u8],
    /// Slug of the provider.
    pub provider: &'a str,
    /// The model as the provider knows it; empty if the request named none.
    pub model: &'a str,
    /// The model as `provider/model` in records; empty if the request named none.
    pub model_name: &'a str,
    /// How many tokens the exchange may use; needed where [`Rules::counts_tokens`].
    pub tokens: TokenGuess,
    /// What it can cost at most; needed where [`Rules::has_hard`].
    pub bound: CostBound,
    /// Time of day: microseconds since the Unix epoch.
    pub unix_micros: u64,
}

/// How many tokens an exchange may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenGuess {
    /// So many in any case: there must be room for them.
    pub least: u64,
    /// So many perhaps: nobody knows the model yet, and they are reserved as far as there is room.
    pub most: u64,
}

/// What an exchange can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBound {
    /// At most so many pico-dollars.
    AtMost(u64),
    /// Nobody knows a price.
    Unpriced,
    /// There are prices, but what it will use has no bound.
    Unbounded,
}

/// A hard rule applies to a request whose cost has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the request costs has no known bound, and rule {rule} of its limits is hard")]
pub struct NoBound {
    /// The place of the rule.
    pub rule: u16,
    /// Nobody knows a price; else there is no bound on what is used.
    pub unpriced: bool,
}

impl Rules {
    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Says whether any rule counts tokens, so that they must be estimated.
    pub fn counts_tokens(&self) -> bool {
        self.counts_tokens
    }

    /// Says whether any rule is hard, so that the cost must be bounded.
    pub fn has_hard(&self) -> bool {
        self.has_hard
    }

    /// Says whether all requests with the same head and the same caller have the same claims: none
    /// depends on the model, on what a request may use, or on the time.
    pub fn follows_head(&self) -> bool {
        self.list.iter().all(Rule::follows_head)
    }

    /// The rule at a place, for messages.
    pub fn rule(&self, place: u16) -> Option<&Rule> {
        self.list.get(usize::from(place))
    }

    /// Appends the claims of a request to `out`, in the order of the rules. A request that lacks
    /// what a rule is split by is not limited by that rule; under a hard rule it is refused if it
    /// lacks the model and may cost anything.
    pub fn claim(
        &self,
        scope: Scope<'_>,
        facts: &Facts<'_>,
        names: &mut Names,
        out: &mut Vec<Claim>,
    ) -> Result<(), NoBound> {
        let metadata = self.metadata(facts);
        let owner = owner(scope);
        for (rule, place) in self.list.iter().zip(0..) {
            let parts = names.parts();
            push_scope(parts, scope);
            let no_bound = |unpriced| NoBound {
                rule: place,
                unpriced,
            };
            match rule.meets(facts, metadata.as_ref(), parts) {
                Meets::Yes => {}
                Meets::NobodyKnows if rule.hard && facts.bound != CostBound::AtMost(0) => {
                    return Err(no_bound(false));
                }
                Meets::No | Meets::NobodyKnows => continue,
            }
            let amount = match (rule.measure, rule.hard, facts.bound) {
                (Measure::Requests, _, _) => 1,
                (Measure::Tokens, _, _) => facts.tokens.most,
                (Measure::Cost, false, _) => 0,
                (Measure::Cost, true, CostBound::AtMost(most)) => most,
                (Measure::Cost, true, CostBound::Unpriced) if rule.allow_unpriced => 0,
                (Measure::Cost, true, CostBound::Unpriced) => return Err(no_bound(true)),
                (Measure::Cost, true, CostBound::Unbounded) => return Err(no_bound(false)),
            };
            let id = names.find(&rule.seed);
            out.push(Claim {
                key: CounterKey { owner, id },
                rule: place,
                measure: rule.measure,
                hard: rule.hard,
                limit: rule.limit,
                span: match &rule.window {
                    RuleWindow::Fixed(micros) => Span::Fixed(*micros),
                    RuleWindow::Sliding(micros) => Span::Sliding(*micros),
                    RuleWindow::Calendar(calendar) => {
                        Span::Calendar(calendar.bounds(facts.unix_micros))
                    }
                },
                amount,
                least: match rule.measure {
                    Measure::Tokens => facts.tokens.least,
                    Measure::Requests | Measure::Cost => amount,
                },
            });
        }
        Ok(())
    }

    fn metadata(&self, facts: &Facts<'_>) -> Option<Map<String, Value>> {
        if !self.reads_metadata || facts.metadata.is_empty() {
            return None;
        }
        match serde_json::from_slice(facts.metadata) {
            Ok(Value::Object(metadata)) => Some(metadata),
            _ => None,
        }
    }
}

impl fmt::Display for Rule {
    /// What the limit is: `cost limit 20 per 86400s, sliding`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Requests => write!(f, "request limit {}", self.limit)?,
            Measure::Tokens => write!(f, "token limit {}", self.limit)?,
            Measure::Cost => write!(f, "cost limit {}", PicoDollars(self.limit))?,
        }
        let seconds = |micros: &u64| micros / 1_000_000;
        match &self.window {
            RuleWindow::Fixed(micros) => write!(f, " per {}s, fixed", seconds(micros)),
            RuleWindow::Sliding(micros) => write!(f, " per {}s, sliding", seconds(micros)),
            RuleWindow::Calendar(calendar) => write!(f, " per {}", calendar.unit()),
        }
    }
}

impl Rule {
    /// What a caller is told when a limit on cost refuses (contract `data-plane.md` section 12.2).
    pub fn spend_message(&self, provider: &str, model: &str) -> String {
        let id = &self.id;
        let text = format!("Spend limit exceeded: rule '{id}' ({self}) for {provider} {model}");
        text.trim_end().to_owned()
    }
}

/// Whether a rule applies to a request.
enum Meets {
    Yes,
    No,
    /// The request does not say which model it asks for.
    NobodyKnows,
}

impl Rule {
    /// Says whether its claims are the same for all requests with one head and one caller.
    fn follows_head(&self) -> bool {
        let follows_clock = matches!(self.window, RuleWindow::Calendar(_));
        !self.hard && !follows_clock && self.model.is_none() && self.measure != Measure::Tokens
    }

    /// Says whether the rule applies, and notes in `parts` what splits it.
    fn meets(
        &self,
        facts: &Facts<'_>,
        metadata: Option<&Map<String, Value>>,
        parts: &mut Vec<u8>,
    ) -> Meets {
        if self.by_key {
            push(parts, facts.key.unwrap_or_default());
        }
        for (name, split) in &self.metadata {
            let value = metadata.and_then(|metadata| metadata.get(&**name));
            let Some(value) = value.and_then(text_of) else {
                return Meets::No;
            };
            if !split.take(&[&value], parts) {
                return Meets::No;
            }
        }
        if let Some(split) = &self.provider
            && !split.take(&[facts.provider], parts)
        {
            return Meets::No;
        }
        let Some(split) = &self.model else {
            return Meets::Yes;
        };
        if facts.model.is_empty() && facts.model_name.is_empty() {
            return Meets::NobodyKnows;
        }
        // A model may be written as the provider knows it, as records show it, or as records
        // show it without the provider. A counter goes by the name of the records: what a
        // provider takes for the same model must not have a counter of its own.
        let own = facts.model_name.split_once('/').map_or("", |(_, own)| own);
        let name = match facts.model_name {
            "" => facts.model,
            name => name,
        };
        if split.take(&[name, facts.model, own], parts) {
            Meets::Yes
        } else {
            Meets::No
        }
    }
}

impl Split {
    /// Takes a value in one of its spellings, the usual one first; `false` if the rule is not
    /// about it.
    fn take(&self, spellings: &[&str], parts: &mut Vec<u8>) -> bool {
        match self {
            Self::Apart => {
                push(parts, spellings.first().copied().unwrap_or_default());
                true
            }
            Self::Only(values) => values.iter().any(|value| spellings.contains(&&**value)),
        }
    }
}

/// The text of a plain value; a nested one or a null has none.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Seeds of owner hashes, so that a gateway and a key of one name live apart.
const OWNER_GATEWAY: u64 = 1;
const OWNER_KEY: u64 = 2;

fn owner(scope: Scope<'_>) -> u64 {
    match scope {
        Scope::Gateway(id) => xxh3_64_with_seed(id.as_bytes(), OWNER_GATEWAY),
        Scope::Key(name) => xxh3_64_with_seed(name.as_bytes(), OWNER_KEY),
    }
}

fn push_scope(parts: &mut Vec<u8>, scope: Scope<'_>) {
    match scope {
        Scope::Gateway(id) => {
            parts.push(b'g');
            push(parts, id);
        }
        Scope::Key(name) => {
            parts.push(b'k');
            push(parts, name);
        }
    }
}

/// Appends a part with its length, so that no two lists of parts give the same bytes.
fn push(parts: &mut Vec<u8>, part: &str) {
    parts.extend_from_slice(&(part.len() as u64).to_le_bytes());
    parts.extend_from_slice(part.as_bytes());
}
