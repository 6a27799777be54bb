//! The whole query of a list of log rows, or of their deletion: filters in each of their forms,
//! the older flat parameters, order and page.

use super::{
    FieldError, Filter, Purpose, RawFilter, RawValue, compile, dotted, is_dotted, moment,
    raw_of_json,
};
use crate::control::logs::filter::{
    FlagField, FreeText, NumberField, Pattern, Term, Test, TextField, contract::Scale,
};

/// By what rows are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderBy {
    /// The time they began.
    #[default]
    CreatedAt,
    /// Provider slug.
    Provider,
    /// Model name.
    Model,
    /// What the model does.
    ModelType,
    /// Whether they ended well.
    Success,
    /// Whether the cache answered.
    Cached,
    /// Cost; unknown is least.
    Cost,
    /// Input tokens; unknown is least.
    TokensIn,
    /// Output tokens; unknown is least.
    TokensOut,
    /// Duration.
    Duration,
    /// What people said of them.
    Feedback,
}

impl OrderBy {
    /// Every order and its word. A list takes the first six, a deletion all.
    pub const WORDS: [(&'static str, Self); 11] = [
        ("created_at", Self::CreatedAt),
        ("provider", Self::Provider),
        ("model", Self::Model),
        ("model_type", Self::ModelType),
        ("success", Self::Success),
        ("cached", Self::Cached),
        ("cost", Self::Cost),
        ("tokens_in", Self::TokensIn),
        ("tokens_out", Self::TokensOut),
        ("duration", Self::Duration),
        ("feedback", Self::Feedback),
    ];
}

/// Which end of the order comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderDirection {
    /// The least.
    Ascending,
    /// The greatest.
    #[default]
    Descending,
}

/// For what a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To list rows.
    List,
    /// To delete them.
    Delete,
}

/// A query that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Which rows.
    pub filter: Filter,
    /// By what they are put in order.
    pub order_by: OrderBy,
    /// Which end comes first.
    pub direction: OrderDirection,
    /// The page, from 1.
    pub page: u64,
    /// Rows of a page.
    pub per_page: u32,
    /// Whether the least and greatest values are asked for.
    pub meta_info: bool,
    /// Most rows to delete.
    pub limit: Option<u64>,
}

/// Rows of a page unless the query says otherwise.
const PER_PAGE: u64 = 20;

/// Most rows of a page; who asks for more gets as many.
const PER_PAGE_MAX: u64 = 100;

/// Numbers that have a least and a greatest as parameters of their own.
const RANGES: [(&str, NumberField, Scale); 5] = [
    ("cost", NumberField::Cost, Scale::Dollars),
    ("duration", NumberField::Duration, Scale::Millis),
    ("tokens_in", NumberField::TokensIn, Scale::Count),
    ("tokens_out", NumberField::TokensOut, Scale::Count),
    ("total_tokens", NumberField::Tokens, Scale::Count),
];

/// Texts that are parameters of their own.
const TEXTS: [(&str, TextField); 5] = [
    ("provider", TextField::Provider),
    ("model", TextField::Model),
    ("model_type", TextField::ModelType),
    ("request_content_type", TextField::RequestContentType),
    ("response_content_type", TextField::ResponseContentType),
];

/// Reads a query, given as decoded names and values in order. Names that it does not know are passed
/// over.
pub fn read(pairs: &[(String, String)], verb: Verb) -> Result<ListQuery, Vec<FieldError>> {
    let mut query = ListQuery {
        filter: Filter::default(),
        order_by: OrderBy::default(),
        direction: OrderDirection::default(),
        page: 1,
        per_page: u32::try_from(PER_PAGE).unwrap_or(u32::MAX),
        meta_info: false,
        limit: None,
    };
    let mut terms = Vec::new();
    let mut filters: Vec<RawFilter> = Vec::new();
    let mut errors = Vec::new();
    match dotted(pairs) {
        Ok(found) if pairs.iter().any(|(name, _)| name.starts_with("filters.")) => {
            filters.extend(found);
        }
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    for (name, value) in pairs {
        let done = match name.as_str() {
            "filters" => of_text(value).map(|found| filters.extend(found)),
            name => query
                .parameter(name, value, verb, &mut terms)
                .map_err(|message| vec![FieldError::new(&["query", name], message)]),
        };
        errors.extend(done.err().into_iter().flatten());
    }
    match compile(&filters, Purpose::Logs, &["query", "filters"]) {
        Ok(filter) => query.filter = filter.and(Filter::new(terms)),
        Err(wrong) => errors.extend(wrong),
    }
    if errors.is_empty() {
        Ok(query)
    } else {
        Err(errors)
    }
}

/// Filters written as JSON. None at all where there is nothing.
fn of_text(text: &str) -> Result<Vec<RawFilter>, Vec<FieldError>> {
    let path = ["query", "filters"];
    if text.is_empty() {
        return Ok(Vec::new());
    }
    match serde_json::from_str(text) {
        Ok(value) => raw_of_json(&value, &path),
        Err(error) => Err(vec![FieldError::new(
            &path,
            format!("`filters` is no JSON: {error}"),
        )]),
    }
}

impl ListQuery {
    /// Takes one parameter in; what it filters by goes to `terms`. Says what is wrong with it.
    fn parameter(
        &mut self,
        name: &str,
        value: &str,
        verb: Verb,
        terms: &mut Vec<Term>,
    ) -> Result<(), String> {
        if value.is_empty() && verb == Verb::List {
            return Ok(()); // as good as left out
        }
        match name {
            "page" | "per_page" | "meta_info" if verb == Verb::Delete => {}
            // What is not understood must not let more be deleted.
            "search" if verb == Verb::Delete => {
                return Err("records are deleted by filters, not by a search".to_owned());
            }
            name if verb == Verb::Delete && name.starts_with("filter") && !is_dotted(name) => {
                return Err(format!("`{name}` is no form in which filters come"));
            }
            "page" => self.page = at_least_one(value)?,
            "per_page" => {
                let rows = at_least_one(value)?.min(PER_PAGE_MAX);
                self.per_page = u32::try_from(rows).unwrap_or(u32::MAX);
            }
            "limit" if verb == Verb::Delete => {
                let limit = value.parse().map_err(|_| not(value, "a number of rows"))?;
                self.limit = Some(limit);
            }
            "meta_info" => self.meta_info = truth(value)?,
            "order_by" => self.order_by = order_by(value, verb)?,
            "order_by_direction" | "direction" => {
                self.direction = match value.to_ascii_lowercase().as_str() {
                    "asc" => OrderDirection::Ascending,
                    "desc" => OrderDirection::Descending,
                    _ => return Err(not(value, "asc or desc")),
                }
            }
            _ => terms.extend(flat(name, value)?.map(Term::of)),
        }
        Ok(())
    }
}

/// The test that an older flat parameter stands for; `None` for a name that is none of them.
fn flat(name: &str, value: &str) -> Result<Option<Test>, String> {
    let test = match name {
        "search" => Test::Free(FreeText::new(value)),
        "success" => Test::Flag(FlagField::Success, truth(value)?),
        "cached" => Test::Flag(FlagField::Cached, truth(value)?),
        "feedback" => {
            let wanted = match value {
                "1" => 1,
                "0" | "-1" => -1,
                _ => return Err(not(value, "0 or 1")),
            };
            Test::Feedback(vec![Some(wanted)])
        }
        "start_date" => Test::Time(vec![(date(value)?, u64::MAX)]),
        "end_date" => {
            let end = date(value)?;
            let last = end.saturating_add(if end.is_multiple_of(1000) { 999 } else { 0 });
            Test::Time(vec![(0, last)])
        }
        _ => {
            if let Some((_, field)) = TEXTS.iter().find(|(other, _)| *other == name) {
                if value.is_empty() {
                    return Err(not(value, "a text"));
                }
                return Ok(Some(Test::Text(*field, vec![Pattern::exact(value)])));
            }
            return range(name, value);
        }
    };
    Ok(Some(test))
}

/// `min_cost`, `max_cost` and their like, both included.
fn range(name: &str, value: &str) -> Result<Option<Test>, String> {
    let (is_least, number) = match (name.strip_prefix("min_"), name.strip_prefix("max_")) {
        (Some(number), _) => (true, number),
        (None, Some(number)) => (false, number),
        (None, None) => return Ok(None),
    };
    let Some((_, field, scale)) = RANGES.iter().find(|(other, ..)| *other == number) else {
        return Ok(None);
    };
    let bound = scale.read(value).ok_or_else(|| not(value, "a number"))?;
    let test = if is_least {
        bound.at_least()
    } else {
        bound.at_most()
    };
    Ok(Some(Test::Number(*field, vec![scale.to_record(test)])))
}

fn order_by(value: &str, verb: Verb) -> Result<OrderBy, String> {
    let known = match verb {
        Verb::List => OrderBy::WORDS.get(..6).unwrap_or_default(),
        Verb::Delete => &OrderBy::WORDS,
    };
    let found = known.iter().find(|(word, _)| *word == value);
    found.map(|(_, order)| *order).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        not(value, &format!("one of {}", words.join(", ")))
    })
}

fn at_least_one(value: &str) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| not(value, "a number from 1 on"))
}

fn truth(value: &str) -> Result<bool, String> {
    let flag = RawValue::Query(value.to_owned()).flag();
    flag.ok_or_else(|| not(value, "true or false"))
}

fn date(value: &str) -> Result<u64, String> {
    moment(value).ok_or_else(|| not(value, "a time such as 2026-11-21T08:00:00Z"))
}

fn not(value: &str, what: &str) -> String {
    format!("`{value}` is not {what}")
}
