//! Which exchanges count: the filter of a question, made into conditions.

use std::ops::RangeInclusive;

use async_graphql::InputObject;

use super::scalar::{Date, Time};
use crate::control::logs::{filter::Pattern, query::group::Stretch};

/// Most conditions of one filter, those within `AND` and `OR` counted.
pub const CONDITIONS_MAX: usize = 100;

/// A text that a condition or a dimension is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Gateway id.
    Gateway,
    /// Provider slug.
    Provider,
    /// Model as it was named.
    Model,
    /// The metadata as JSON text.
    MetadataRaw,
}

/// What must hold of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It began within these microseconds since the Unix epoch, which begin and end where
    /// stretches of this length do.
    Time(Stretch, RangeInclusive<i64>),
    /// A text fits one of the patterns.
    Text(Name, Vec<Pattern>),
    /// A text fits none of the patterns.
    NotText(Name, Vec<Pattern>),
    /// All of these hold.
    All(Vec<Self>),
    /// One of these holds.
    Any(Vec<Self>),
}

/// All times.
const ALWAYS: RangeInclusive<i64> = 0..=i64::MAX;

impl Condition {
    /// No exchange that began outside fulfils it.
    pub fn span(&self) -> RangeInclusive<i64> {
        match self {
            Self::Time(_, range) => range.clone(),
            Self::Text(..) | Self::NotText(..) => ALWAYS,
            Self::All(all) => all.iter().map(Self::span).fold(ALWAYS, |a, b| {
                *a.start().max(b.start())..=*a.end().min(b.end())
            }),
            Self::Any(any) => {
                let spans = any.iter().map(Self::span).filter(|span| !span.is_empty());
                let hull = |a: RangeInclusive<i64>, b: RangeInclusive<i64>| {
                    *a.start().min(b.start())..=*a.end().max(b.end())
                };
                spans.reduce(hull).unwrap_or(RangeInclusive::new(1, 0))
            }
        }
    }

    /// Calls `visit` with it and with what is within it.
    pub fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        if let Self::All(within) | Self::Any(within) = self {
            for condition in within {
                condition.each(visit);
            }
        }
    }

    /// Says whether it holds for an exchange that began in the stretch at `micros` and has these
    /// texts.
    pub fn holds(&self, micros: u64, text: &impl Fn(Name) -> Vec<u8>) -> bool {
        let fits = |name: Name, patterns: &[Pattern]| {
            let text = text(name);
            patterns.iter().any(|pattern| pattern.matches(&text))
        };
        match self {
            Self::Time(_, range) => {
                i64::try_from(micros).is_ok_and(|micros| range.contains(&micros))
            }
            Self::Text(name, patterns) => fits(*name, patterns),
            Self::NotText(name, patterns) => !fits(*name, patterns),
            Self::All(all) => all.iter().all(|one| one.holds(micros, text)),
            Self::Any(any) => any.iter().any(|one| one.holds(micros, text)),
        }
    }
}

/// How a time is compared.
#[derive(Debug, Clone, Copy)]
enum Compare {
    Equal,
    GreaterOrEqual,
    LessOrEqual,
    Greater,
    Less,
}

/// The condition that the beginning of the stretch in which an exchange began compares so to
/// `micros`.
fn time(stretch: Stretch, compare: Compare, micros: i64) -> Condition {
    let length = stretch.micros().cast_signed();
    // The last stretch that begins at or before it, and the first that begins at or after it.
    let floor = micros.saturating_sub(micros.rem_euclid(length));
    let ceiling = if floor == micros {
        floor
    } else {
        floor.saturating_add(length)
    };
    let next = floor.saturating_add(length);
    let range = match compare {
        Compare::Equal if floor == micros => floor..=next - 1,
        Compare::Equal => RangeInclusive::new(1, 0),
        Compare::GreaterOrEqual => ceiling..=i64::MAX,
        Compare::Greater => next..=i64::MAX,
        Compare::LessOrEqual => 0..=next - 1,
        Compare::Less => 0..=ceiling.saturating_sub(1),
    };
    Condition::Time(stretch, range)
}

/// A text in which `%` stands for any run of characters.
fn like(text: &str) -> Pattern {
    Pattern::of_pieces(&text.split('%').collect::<Vec<_>>())
}

macro_rules! filter {
    (
        times {
            $($scalar:ident $stretch:ident $what:tt
                $eq:ident $eq_name:tt $geq:ident $geq_name:tt $leq:ident $leq_name:tt
                $gt:ident $gt_name:tt $lt:ident $lt_name:tt;)*
        }
        texts {
            $($name:ident $text:tt
                $is:ident $is_name:tt $not:ident $not_name:tt $one:ident $one_name:tt
                $like:ident $like_name:tt;)*
        }
    ) => {
        /// Which exchanges count. All of what is given must hold. Texts are compared without
        /// regard to upper and lower case.
        #[derive(Debug, Clone, Default, InputObject)]
        #[graphql(name = "AccountAiGatewayRequestsAdaptiveGroupsFilter_InputObject")]
        pub struct GroupsFilter {
            $(
                #[doc = concat!("The ", $what, " is this one.")]
                #[graphql(name = $eq_name)]
                pub $eq: Option<$scalar>,
                #[doc = concat!("The ", $what, " is this one or a later one.")]
                #[graphql(name = $geq_name)]
                pub $geq: Option<$scalar>,
                #[doc = concat!("The ", $what, " is this one or an earlier one.")]
                #[graphql(name = $leq_name)]
                pub $leq: Option<$scalar>,
                #[doc = concat!("The ", $what, " is a later one.")]
                #[graphql(name = $gt_name)]
                pub $gt: Option<$scalar>,
                #[doc = concat!("The ", $what, " is an earlier one.")]
                #[graphql(name = $lt_name)]
                pub $lt: Option<$scalar>,
            )*
            $(
                #[doc = concat!("The ", $text, " is this one.")]
                #[graphql(name = $is_name)]
                pub $is: Option<String>,
                #[doc = concat!("The ", $text, " is another one.")]
                #[graphql(name = $not_name)]
                pub $not: Option<String>,
                #[doc = concat!("The ", $text, " is one of these.")]
                #[graphql(name = $one_name)]
                pub $one: Option<Vec<String>>,
                #[doc = concat!("The ", $text, " looks like this, where `%` stands for any run of characters.")]
                #[graphql(name = $like_name)]
                pub $like: Option<String>,
            )*
            /// Each of these holds.
            #[graphql(name = "AND")]
            pub and: Option<Vec<GroupsFilter>>,
            /// At least one of these holds.
            #[graphql(name = "OR")]
            pub or: Option<Vec<GroupsFilter>>,
        }

        impl GroupsFilter {
            /// Its conditions, of which all must hold.
            pub fn conditions(&self) -> Vec<Condition> {
                let mut all = Vec::new();
                $(
                    for (compare, value) in [
                        (Compare::Equal, self.$eq),
                        (Compare::GreaterOrEqual, self.$geq),
                        (Compare::LessOrEqual, self.$leq),
                        (Compare::Greater, self.$gt),
                        (Compare::Less, self.$lt),
                    ] {
                        all.extend(value.map(|at| time(Stretch::$stretch, compare, at.0)));
                    }
                )*
                $(
                    let name = Name::$name;
                    if let Some(text) = &self.$is {
                        all.push(Condition::Text(name, vec![Pattern::exact(text)]));
                    }
                    if let Some(text) = &self.$not {
                        all.push(Condition::NotText(name, vec![Pattern::exact(text)]));
                    }
                    if let Some(texts) = &self.$one {
                        let patterns = texts.iter().map(|text| Pattern::exact(text)).collect();
                        all.push(Condition::Text(name, patterns));
                    }
                    if let Some(text) = &self.$like {
                        all.push(Condition::Text(name, vec![like(text)]));
                    }
                )*
                for within in self.and.iter().flatten() {
                    all.extend(within.conditions());
                }
                if let Some(any) = &self.or {
                    let any = any.iter().map(|one| Condition::All(one.conditions()));
                    all.push(Condition::Any(any.collect()));
                }
                all
            }
        }
    };
}

filter! {
    times {
        Time Minute "minute in which the exchange began, as for `datetimeMinute`,"
            datetime "datetime" datetime_geq "datetime_geq" datetime_leq "datetime_leq"
            datetime_gt "datetime_gt" datetime_lt "datetime_lt";
        Time Minute "beginning of the minute in which the exchange began"
            minute "datetimeMinute" minute_geq "datetimeMinute_geq" minute_leq "datetimeMinute_leq"
            minute_gt "datetimeMinute_gt" minute_lt "datetimeMinute_lt";
        Time Hour "beginning of the hour in which the exchange began"
            hour "datetimeHour" hour_geq "datetimeHour_geq" hour_leq "datetimeHour_leq"
            hour_gt "datetimeHour_gt" hour_lt "datetimeHour_lt";
        Date Day "day (UTC) on which the exchange began"
            date "date" date_geq "date_geq" date_leq "date_leq"
            date_gt "date_gt" date_lt "date_lt";
    }
    texts {
        Gateway "gateway"
            gateway "gateway" gateway_neq "gateway_neq" gateway_in "gateway_in"
            gateway_like "gateway_like";
        Provider "provider"
            provider "provider" provider_neq "provider_neq" provider_in "provider_in"
            provider_like "provider_like";
        Model "model"
            model "model" model_neq "model_neq" model_in "model_in" model_like "model_like";
        MetadataRaw "metadata as JSON text (empty for exchanges without logging)"
            metadata_raw "metadataRaw" metadata_raw_neq "metadataRaw_neq"
            metadata_raw_in "metadataRaw_in" metadata_raw_like "metadataRaw_like";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn comparisons_are_of_whole_stretches() {
        let check = |compare, micros, range: RangeInclusive<i64>| {
            let condition = time(Stretch::Minute, compare, micros);
            assert_eq!(condition, Condition::Time(Stretch::Minute, range));
        };
        let (at, within) = (5 * MINUTE, 5 * MINUTE + 1);
        check(Compare::Equal, at, at..=6 * MINUTE - 1);
        check(Compare::Equal, within, RangeInclusive::new(1, 0));
        check(Compare::GreaterOrEqual, at, at..=i64::MAX);
        check(Compare::GreaterOrEqual, within, 6 * MINUTE..=i64::MAX);
        check(Compare::Greater, at, 6 * MINUTE..=i64::MAX);
        check(Compare::Greater, within, 6 * MINUTE..=i64::MAX);
        check(Compare::LessOrEqual, at, 0..=6 * MINUTE - 1);
        check(Compare::LessOrEqual, within, 0..=6 * MINUTE - 1);
        check(Compare::Less, at, 0..=at - 1);
        check(Compare::Less, within, 0..=6 * MINUTE - 1);
    }

    #[test]
    fn the_span_is_that_of_all_and_of_any() {
        let at = |from: i64, to: i64| Condition::Time(Stretch::Minute, from..=to);
        let text = Condition::Text(Name::Model, Vec::new());
        let all = Condition::All(vec![at(0, 50), text.clone(), at(20, 90)]);
        assert_eq!(all.span(), 20..=50);
        let any = Condition::Any(vec![at(0, 5), all.clone()]);
        assert_eq!(any.span(), 0..=50);
        assert_eq!(Condition::Any(vec![all, text]).span(), ALWAYS);
        assert!(Condition::Any(Vec::new()).span().is_empty());
    }
}
