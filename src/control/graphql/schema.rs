//! What can be asked, as GraphQL sees it. The comments on fields are the schema's own words.

use std::sync::{Arc, MutexGuard, PoisonError};

use async_graphql::{Context, Error, InputObject, Lookahead, Object, Result, Value};

use super::{
    Desk, SharedDesk,
    filter::{CONDITIONS_MAX, Condition, GroupsFilter, Name},
    groups::{self, Dimension, Question, SumField},
    order::{OrderBy, OrderKey},
    scalar::{Count, Date, Decimal, Time},
};
use crate::control::{
    logs::query::group::{Group, Part, Stretch},
    rollup::totals,
};

/// Groups of an answer where the query does not say.
const LIMIT: usize = 100;

/// Most groups of an answer.
const LIMIT_MAX: usize = 10_000;

/// Most keys of an order.
const ORDER_MAX: usize = 8;

/// Most dimensions of a question.
const DIMENSIONS_MAX: usize = 16;

/// Longest name of a member of the metadata.
const KEY_BYTES_MAX: usize = 256;

/// What may be asked.
pub struct Query;

/// Analytics of this gateway server.
#[Object]
impl Query {
    /// Who asks.
    async fn viewer(&self) -> Viewer {
        Viewer
    }
}

/// Who asks.
pub struct Viewer;

/// Which account.
#[derive(Debug, InputObject)]
#[graphql(name = "AccountFilter_InputObject")]
pub struct AccountFilter {
    /// The account's id, as it stands in the paths of requests.
    pub account_tag: Option<String>,
}

/// Who asks, and what that one may see.
#[Object]
impl Viewer {
    /// The account of this server. Where the configuration names it, another one is an error.
    #[expect(clippy::unused_async, reason = "resolvers must be async")]
    async fn accounts(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which account; the one there is if nothing is said.")] filter: Option<
            AccountFilter,
        >,
    ) -> Result<Vec<Account>> {
        let asked = filter.and_then(|filter| filter.account_tag);
        let desk = hold(context)?;
        match (asked, &desk.account) {
            (Some(asked), Some(known)) if asked != *known => Err(Error::new(
                "the account is unknown: `accountTag` must be the account that this server is configured for",
            )),
            _ => Ok(vec![Account]),
        }
    }
}

/// An account.
pub struct Account;

/// An account.
#[Object(name = "account")]
impl Account {
    /// Requests through the gateways, in groups: one for each combination of the dimensions that
    /// are selected. Complete to the last exchange that ended; exchanges without logging are
    /// counted, as ones that have no metadata. By one member of the metadata, also by time and
    /// gateway, groups are known as far back as all others; what asks for more of the metadata, or
    /// for it and the provider or the model, is known while records are kept. Where metadata was
    /// not counted by an earlier version, `recordsGone` of the answer's `extensions` says how many
    /// records are missing.
    #[expect(clippy::unused_async, reason = "resolvers must be async")]
    async fn ai_gateway_requests_adaptive_groups(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Most groups of the answer: 100 unless said, at most 10,000.")]
        limit: Option<i64>,
        #[graphql(desc = "Which exchanges count; all of them if nothing is said.")] filter: Option<
            GroupsFilter,
        >,
        #[graphql(
            desc = "In which order groups come, the first key first. Of equals, and if nothing is said, those come first whose dimensions are the least, times before texts."
        )]
        order_by: Option<Vec<OrderBy>>,
    ) -> Result<Vec<Groups>> {
        let question = question(&context.look_ahead(), limit, filter.as_ref(), order_by)?;
        let mut desk = hold(context)?;
        let desk = &mut *desk;
        desk.questions = desk.questions.checked_sub(1).ok_or_else(|| {
            let most = super::QUESTIONS_MAX;
            Error::new(format!("one query asks for groups at most {most} times"))
        })?;
        let end = desk.end;
        let found = groups::answer(&mut desk.reader, &question, end, &mut desk.met)
            .map_err(|error| Error::new(error.to_string()))?;
        let values = found.len().saturating_mul(desk.fields);
        desk.values = desk.values.checked_sub(values).ok_or_else(|| {
            Error::new("the answer would be too long: ask for fewer groups or fewer fields")
        })?;
        let dimensions: Arc<[Dimension]> = question.dimensions.into();
        let found = found.into_iter().map(|group| Groups {
            dimensions: Arc::clone(&dimensions),
            group: Arc::new(group),
        });
        Ok(found.collect())
    }
}

fn hold<'c>(context: &Context<'c>) -> Result<MutexGuard<'c, Desk>> {
    let desk = context.data::<SharedDesk>()?;
    Ok(desk.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes a question of a field's arguments and of what is selected below it.
fn question(
    selected: &Lookahead<'_>,
    limit: Option<i64>,
    filter: Option<&GroupsFilter>,
    order_by: Option<Vec<OrderBy>>,
) -> Result<Question> {
    let limit = match limit.map(usize::try_from) {
        None => LIMIT,
        Some(Ok(limit)) if limit <= LIMIT_MAX => limit,
        Some(_) => {
            return Err(Error::new(format!(
                "`limit` must be between 0 and {LIMIT_MAX}"
            )));
        }
    };
    let conditions = filter.map(GroupsFilter::conditions).unwrap_or_default();
    let mut count = 0;
    for condition in &conditions {
        condition.each(&mut |_: &Condition| count += 1);
    }
    if count > CONDITIONS_MAX {
        return Err(Error::new(format!(
            "the filter has more than {CONDITIONS_MAX} conditions"
        )));
    }
    let dimensions = dimensions(selected)?;
    let order: Vec<(OrderKey, bool)> = order_by
        .unwrap_or_default()
        .into_iter()
        .map(OrderBy::key)
        .collect();
    if order.len() > ORDER_MAX {
        return Err(Error::new(format!(
            "`orderBy` has more than {ORDER_MAX} keys"
        )));
    }
    for (key, _) in &order {
        if let Some(dimension) = key.dimension()
            && !dimensions.contains(&dimension)
        {
            return Err(Error::new(
                "`orderBy` names a dimension that is not selected: groups have none but those",
            ));
        }
    }
    let by_quantile = |(key, _): &(OrderKey, bool)| matches!(key, OrderKey::Quantile(_));
    Ok(Question {
        times: selected.field("quantiles").exists() || order.iter().any(by_quantile),
        conditions,
        dimensions,
        order,
        limit,
    })
}

/// The dimensions that are selected, each once: times, then texts, then members of the metadata.
fn dimensions(selected: &Lookahead<'_>) -> Result<Vec<Dimension>> {
    let mut found: Vec<Dimension> = Vec::new();
    for fields in selected.field("dimensions").selection_fields() {
        for field in fields.selection_set() {
            let dimension = match field.name() {
                "datetimeMinute" => Dimension::Time(Stretch::Minute),
                "datetimeHour" => Dimension::Time(Stretch::Hour),
                "date" => Dimension::Time(Stretch::Day),
                "model" => Dimension::Name(Name::Model),
                "provider" => Dimension::Name(Name::Provider),
                "gateway" => Dimension::Name(Name::Gateway),
                "metadataRaw" => Dimension::Name(Name::MetadataRaw),
                "metadataValue" => match field.arguments()?.into_iter().next() {
                    Some((_, Value::String(key))) if key.len() <= KEY_BYTES_MAX => {
                        Dimension::Value(key)
                    }
                    _ => {
                        return Err(Error::new(format!(
                            "`key` must be a text of at most {KEY_BYTES_MAX} bytes"
                        )));
                    }
                },
                // `__typename`, and nothing else: the query was checked.
                _ => continue,
            };
            if !found.contains(&dimension) {
                found.push(dimension);
            }
            if found.len() > DIMENSIONS_MAX {
                return Err(Error::new(format!(
                    "more than {DIMENSIONS_MAX} dimensions are selected"
                )));
            }
        }
    }
    found.sort_by_key(|dimension| match dimension {
        Dimension::Time(_) => 0,
        Dimension::Name(_) => 1,
        Dimension::Value(_) => 2,
    });
    Ok(found)
}

/// A group of requests.
#[derive(Clone)]
pub struct Groups {
    dimensions: Arc<[Dimension]>,
    group: Arc<Group>,
}

/// A group of requests that have the selected dimensions in common.
#[Object(name = "AccountAiGatewayRequestsAdaptiveGroups")]
impl Groups {
    /// Requests. One that was retried or fell back to another provider is one request, counted
    /// where its first attempt is; see `attempts` of `sum` for attempts.
    async fn count(&self) -> Count {
        Count(self.group.totals.requests.into())
    }

    /// What the requests of the group have in common.
    async fn dimensions(&self) -> Dimensions {
        Dimensions(self.clone())
    }

    /// Sums over the group.
    async fn sum(&self) -> Sum {
        Sum(Arc::clone(&self.group))
    }

    /// Quantiles over the group.
    async fn quantiles(&self) -> Quantiles {
        Quantiles(Arc::clone(&self.group))
    }
}

/// What the requests of a group have in common.
pub struct Dimensions(Groups);

impl Dimensions {
    fn part(&self, dimension: &Dimension) -> Option<&Part> {
        let mut all = self.0.dimensions.iter();
        let at = all.position(|known| known == dimension)?;
        self.0.group.parts.get(at)
    }

    fn time(&self, stretch: Stretch) -> Option<i64> {
        match self.part(&Dimension::Time(stretch))? {
            Part::Number(micros) => i64::try_from(*micros).ok(),
            Part::Text(_) => None,
        }
    }

    fn text(&self, dimension: &Dimension) -> Option<String> {
        match self.part(dimension)? {
            Part::Text(text) if text.is_empty() => None,
            Part::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Part::Number(_) => None,
        }
    }
}

/// What the requests of a group have in common. Selecting a field tells groups apart by it.
#[Object(name = "AccountAiGatewayRequestsAdaptiveGroupsDimensions")]
impl Dimensions {
    /// The model, as the caller or the answer named it; null if none is known.
    async fn model(&self) -> Option<String> {
        self.text(&Dimension::Name(Name::Model))
    }

    /// The provider, such as `openai`; null if the request named none.
    async fn provider(&self) -> Option<String> {
        self.text(&Dimension::Name(Name::Provider))
    }

    /// The gateway's id; null if the request named none.
    async fn gateway(&self) -> Option<String> {
        self.text(&Dimension::Name(Name::Gateway))
    }

    /// The beginning of the minute in which the requests came in.
    async fn datetime_minute(&self) -> Option<Time> {
        self.time(Stretch::Minute).map(Time)
    }

    /// The beginning of the hour in which the requests came in.
    async fn datetime_hour(&self) -> Option<Time> {
        self.time(Stretch::Hour).map(Time)
    }

    /// The day (UTC) on which the requests came in.
    async fn date(&self) -> Option<Date> {
        self.time(Stretch::Day).map(Date)
    }

    /// The metadata as JSON text; null if there is none, or if the exchange was not logged. Known
    /// while records are kept.
    async fn metadata_raw(&self) -> Option<String> {
        self.text(&Dimension::Name(Name::MetadataRaw))
    }

    /// The value of one member of the metadata, as text; null if there is none, or if the exchange
    /// was not logged. A day tells 500 values of a member apart and 2,000 of all members, each of
    /// 128 bytes at most: further ones are `(other)`, and `valuesInOther` of the answer's
    /// `extensions` says of how many records. Likewise `membersNotKept` says how many have one of
    /// too many members, which counts as none.
    async fn metadata_value(
        &self,
        #[graphql(desc = "The member's name.")] key: String,
    ) -> Option<String> {
        self.text(&Dimension::Value(key))
    }
}

/// Sums over a group.
pub struct Sum(Arc<Group>);

impl Sum {
    fn of(&self, field: SumField) -> Option<u128> {
        field.of(&self.0.totals)
    }
}

/// Sums over a group, retries and fallbacks included. A sum is null if nothing of it is known.
#[Object(name = "AccountAiGatewayRequestsAdaptiveGroupsSum")]
impl Sum {
    /// What the requests cost, in US dollars, exact; null if no price or no usage is known of any.
    async fn cost(&self) -> Option<Decimal> {
        self.of(SumField::Cost).map(Decimal::of_pico_dollars)
    }

    /// Requests that the gateway's cache answered.
    async fn cached_requests(&self) -> Option<Count> {
        self.of(SumField::CachedRequests).map(Count)
    }

    /// Attempts and refusals that ended in an error, whoever caused it: one for each attempt that
    /// failed, so a request that was retried can count several times.
    async fn errored_requests(&self) -> Option<Count> {
        self.of(SumField::ErroredRequests).map(Count)
    }

    /// Attempts at providers: retries and fallbacks count apart, and what the cache answered or
    /// the gateway refused does not count.
    async fn attempts(&self) -> Option<Count> {
        self.of(SumField::Attempts).map(Count)
    }

    /// Input tokens of requests that the gateway's cache answered.
    async fn cached_tokens_in(&self) -> Option<Count> {
        self.of(SumField::CachedTokensIn).map(Count)
    }

    /// Output tokens of requests that the gateway's cache answered.
    async fn cached_tokens_out(&self) -> Option<Count> {
        self.of(SumField::CachedTokensOut).map(Count)
    }

    /// Input tokens of all other requests, those that a provider read from its own prompt cache
    /// included.
    async fn uncached_tokens_in(&self) -> Option<Count> {
        self.of(SumField::UncachedTokensIn).map(Count)
    }

    /// Output tokens of all other requests.
    async fn uncached_tokens_out(&self) -> Option<Count> {
        self.of(SumField::UncachedTokensOut).map(Count)
    }
}

/// Quantiles over a group.
pub struct Quantiles(Arc<Group>);

impl Quantiles {
    fn of(&self, time: totals::Time, per_mille: u32) -> Option<Decimal> {
        let sketch = &self.0.times[time as usize];
        sketch.quantile(per_mille).map(Decimal::millis_of_micros)
    }
}

macro_rules! quantiles {
    ($($method:ident $name:tt $time:ident $per_mille:tt $what:tt;)*) => {
        /// Quantiles over a group, in milliseconds, each off by less than one part in a hundred;
        /// null if there is none.
        #[Object(name = "AccountAiGatewayRequestsAdaptiveGroupsQuantiles")]
        impl Quantiles {
            $(
                #[doc = $what]
                #[graphql(name = $name)]
                async fn $method(&self) -> Option<Decimal> {
                    self.of(totals::Time::$time, $per_mille)
                }
            )*
        }
    };
}

quantiles! {
    duration_p25 "durationMsP25" Duration 250
        "Milliseconds from request to the end of the answer that a quarter do not exceed.";
    duration_p50 "durationMsP50" Duration 500
        "Milliseconds from request to the end of the answer that half do not exceed.";
    duration_p75 "durationMsP75" Duration 750
        "Milliseconds from request to the end of the answer that three quarters do not exceed.";
    duration_p90 "durationMsP90" Duration 900
        "Milliseconds from request to the end of the answer that 90 % do not exceed.";
    duration_p95 "durationMsP95" Duration 950
        "Milliseconds from request to the end of the answer that 95 % do not exceed.";
    duration_p99 "durationMsP99" Duration 990
        "Milliseconds from request to the end of the answer that 99 % do not exceed.";
    duration_p999 "durationMsP999" Duration 999
        "Milliseconds from request to the end of the answer that 99.9 % do not exceed.";
    first_token_p50 "timeToFirstTokenMsP50" FirstToken 500
        "Milliseconds from the request sent to the provider to the first token that half do not exceed.";
    first_token_p90 "timeToFirstTokenMsP90" FirstToken 900
        "Milliseconds from the request sent to the provider to the first token that 90 % do not exceed.";
    first_token_p95 "timeToFirstTokenMsP95" FirstToken 950
        "Milliseconds from the request sent to the provider to the first token that 95 % do not exceed.";
    first_token_p99 "timeToFirstTokenMsP99" FirstToken 990
        "Milliseconds from the request sent to the provider to the first token that 99 % do not exceed.";
}
