//! The filters of the management API (contract `management-api.md` 1.4 and 3).
//!
//! A filter is `{"key", "operator", "value": [...]}`. In a query it comes in three forms: as
//! repeated dotted names one filter after another (`filters.key=…&filters.operator=…&filters.value=…`,
//! as TypeScript sends it), with all keys, all operators, all values together (as Python does),
//! or as JSON in `filters`. [`list`] reads the whole query of a list or a deletion.

use serde_json::Value;

use super::{
    Filter, Term, Test,
    field::{FlagField, NumberField, TextField},
    language::{NEVER, VALUES_MAX},
    number::{Bound, NumberTest},
    text::Pattern,
};

pub mod list;
mod pairs;

use pairs::{dotted, is_dotted};

/// Why a part of a request was refused, in the shape that the API answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// 7001: a value that cannot stand there.
    pub code: u32,
    /// One sentence.
    pub message: String,
    /// Where: `["query", "filters", "0", "key"]`.
    pub path: Vec<String>,
}

impl FieldError {
    fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self {
            code: INVALID_VALUE,
            message: message.into(),
            path: path.iter().map(|step| (*step).to_owned()).collect(),
        }
    }
}

/// The code of a value that cannot stand where it does.
const INVALID_VALUE: u32 = 7001;

/// Most filters of one request.
const FILTERS_MAX: usize = 64;

/// Longest value of a filter: texts of records are not longer.
const VALUE_BYTES_MAX: usize = 4096;

/// A filter's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    CreatedAt,
    Text(TextField),
    Flag(FlagField),
    /// With the unit that the API counts it in.
    Number(NumberField, Scale),
    Feedback,
    MetadataName,
    MetadataValue,
}

/// In what the API counts a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Dollars,
    /// Whole milliseconds, cut off.
    Millis,
    Count,
}

/// Every key, in the contract's order.
const KEYS: [(&str, Key); 22] = [
    ("id", Key::Id),
    ("created_at", Key::CreatedAt),
    (
        "request_content_type",
        Key::Text(TextField::RequestContentType),
    ),
    (
        "response_content_type",
        Key::Text(TextField::ResponseContentType),
    ),
    ("request_type", Key::Text(TextField::RequestType)),
    ("success", Key::Flag(FlagField::Success)),
    ("cached", Key::Flag(FlagField::Cached)),
    ("provider", Key::Text(TextField::Provider)),
    ("model", Key::Text(TextField::Model)),
    ("model_type", Key::Text(TextField::ModelType)),
    ("cost", Key::Number(NumberField::Cost, Scale::Dollars)),
    ("tokens", Key::Number(NumberField::Tokens, Scale::Count)),
    (
        "tokens_in",
        Key::Number(NumberField::TokensIn, Scale::Count),
    ),
    (
        "tokens_out",
        Key::Number(NumberField::TokensOut, Scale::Count),
    ),
    (
        "duration",
        Key::Number(NumberField::Duration, Scale::Millis),
    ),
    ("feedback", Key::Feedback),
    ("event_id", Key::Text(TextField::Event)),
    ("metadata.key", Key::MetadataName),
    ("metadata.value", Key::MetadataValue),
    ("authentication", Key::Flag(FlagField::Authenticated)),
    ("wholesale", Key::Flag(FlagField::Wholesale)),
    ("compatibilityMode", Key::Flag(FlagField::Compatibility)),
];

/// The keys that are only those of log rows, not of datasets.
const MORE_KEYS: [(&str, Key); 2] = [
    ("dlp_action", Key::Text(TextField::DlpAction)),
    ("user_agent", Key::Text(TextField::UserAgent)),
];

/// The keys of a dataset's filters (contract section 4).
const DATASET_KEYS: [&str; 12] = [
    "created_at",
    "request_content_type",
    "response_content_type",
    "success",
    "cached",
    "provider",
    "model",
    "cost",
    "tokens",
    "tokens_in",
    "tokens_out",
    "duration",
];

/// What the filters are for, which decides the keys and operators there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Log rows: every key, every operator.
    Logs,
    /// A dataset: fewer keys, and no `neq`.
    Dataset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Neq,
    Contains,
    Lt,
    Gt,
}

const OPERATORS: [(&str, Operator); 5] = [
    ("eq", Operator::Eq),
    ("neq", Operator::Neq),
    ("contains", Operator::Contains),
    ("lt", Operator::Lt),
    ("gt", Operator::Gt),
];

impl Purpose {
    fn keys(self) -> impl Iterator<Item = (&'static str, Key)> {
        let all = KEYS.into_iter().chain(MORE_KEYS);
        all.filter(move |(name, _)| {
            self == Self::Logs || *name == "feedback" || DATASET_KEYS.contains(name)
        })
    }

    fn operators(self) -> impl Iterator<Item = (&'static str, Operator)> {
        let all = OPERATORS.into_iter();
        all.filter(move |(_, operator)| self == Self::Logs || *operator != Operator::Neq)
    }
}

/// A filter as it came: names and values not looked at yet.
#[derive(Debug, Clone, Default, PartialEq)]
struct RawFilter {
    key: String,
    operator: String,
    values: Vec<RawValue>,
}

#[derive(Debug, Clone, PartialEq)]
enum RawValue {
    /// A string of JSON, or a number, digit for digit.
    Text(String),
    Bool(bool),
    Null,
    /// From a query, where all is text: `null` and nothing stand for null where a text cannot.
    Query(String),
}

impl RawValue {
    fn of_json(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Text(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// As a text; null is the empty one.
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Query(text) => text,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Null => "",
        }
    }

    fn is_null(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Query(text) => matches!(text.as_str(), "" | "null"),
            Self::Text(text) => text == "null",
            Self::Bool(_) => false,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self.text() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}

/// Reads an array of filters; `path` is where it stands, such as `["body", "filters"]`.
pub fn of_json(value: &Value, purpose: Purpose, path: &[&str]) -> Result<Filter, Vec<FieldError>> {
    let raw = raw_of_json(value, path)?;
    compile(&raw, purpose, path)
}

fn raw_of_json(value: &Value, path: &[&str]) -> Result<Vec<RawFilter>, Vec<FieldError>> {
    let Value::Array(items) = value else {
        let message = "filters are an array of objects with key, operator and value";
        return Err(vec![FieldError::new(path, message)]);
    };
    let mut filters = Vec::new();
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate().take(FILTERS_MAX + 1) {
        let index = index.to_string();
        let at = |name: &'static str| [path, &[index.as_str(), name]].concat();
        let text = |name: &'static str| match item.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Err(FieldError::new(
                &at(name),
                format!("a filter needs `{name}`, which is a text"),
            )),
        };
        let values = match item.get("value") {
            Some(Value::Array(values)) => values.iter().map(RawValue::of_json).collect(),
            // One value that is not wrapped in an array means the same.
            Some(value) => RawValue::of_json(value).map(|value| vec![value]),
            None => None,
        };
        let values = values.ok_or_else(|| {
            let message = "`value` is an array of texts, numbers, booleans or null";
            FieldError::new(&at("value"), message)
        });
        match (text("key"), text("operator"), values) {
            (Ok(key), Ok(operator), Ok(values)) => filters.push(RawFilter {
                key,
                operator,
                values,
            }),
            (key, operator, values) => {
                let problems = [key.err(), operator.err(), values.err()];
                errors.extend(problems.into_iter().flatten());
            }
        }
    }
    if errors.is_empty() {
        Ok(filters)
    } else {
        Err(errors)
    }
}

fn compile(raw: &[RawFilter], purpose: Purpose, path: &[&str]) -> Result<Filter, Vec<FieldError>> {
    if raw.len() > FILTERS_MAX {
        let message = format!("there may be at most {FILTERS_MAX} filters");
        return Err(vec![FieldError::new(path, message)]);
    }
    if raw.iter().map(|filter| filter.values.len()).sum::<usize>() > VALUES_MAX {
        let message = format!("filters may have at most {VALUES_MAX} values together");
        return Err(vec![FieldError::new(path, message)]);
    }
    let mut terms = Vec::new();
    let mut errors = Vec::new();
    for (index, filter) in raw.iter().enumerate() {
        let index = index.to_string();
        match filter.compile(purpose) {
            Ok(term) => terms.push(term),
            Err(wrong) => errors.extend(wrong.into_iter().map(|(name, message)| {
                let at = [path, &[index.as_str(), name]].concat();
                FieldError::new(&at, message)
            })),
        }
        if purpose == Purpose::Dataset {
            let nulls = filter.values.iter().enumerate();
            for (place, _) in nulls.filter(|(_, value)| **value == RawValue::Null) {
                let place = place.to_string();
                let at = [path, &[index.as_str(), "value", &place]].concat();
                let message = "is a text, a number, true or false";
                errors.push(FieldError::new(&at, message));
            }
        }
    }
    if errors.is_empty() {
        Ok(Filter::new(terms))
    } else {
        Err(errors)
    }
}

/// The member that is wrong, and what is wrong with it.
type Wrong = (&'static str, String);

impl RawFilter {
    fn compile(&self, purpose: Purpose) -> Result<Term, Vec<Wrong>> {
        let key = find(purpose.keys(), "key", &self.key);
        let operator = find(purpose.operators(), "operator", &self.operator);
        let values = self.check_values();
        match (key, operator, values) {
            (Ok(key), Ok(operator), Ok(())) => {
                self.term(key, operator).map_err(|wrong| vec![wrong])
            }
            (key, operator, values) => {
                let wrong = [key.err(), operator.err(), values.err()];
                Err(wrong.into_iter().flatten().collect())
            }
        }
    }

    fn check_values(&self) -> Result<(), Wrong> {
        if self.values.is_empty() {
            return Err(("value", "a filter needs at least one value".into()));
        }
        if self
            .values
            .iter()
            .any(|value| value.text().len() > VALUE_BYTES_MAX)
        {
            let message = format!("a value has at most {VALUE_BYTES_MAX} bytes");
            return Err(("value", message));
        }
        Ok(())
    }

    fn term(&self, key: Key, operator: Operator) -> Result<Term, Wrong> {
        if matches!(operator, Operator::Lt | Operator::Gt) && self.values.len() > 1 {
            let message = format!("`{}` takes one value", self.operator);
            return Err(("value", message));
        }
        Ok(Term {
            negated: operator == Operator::Neq,
            test: self.test(key, operator)?,
        })
    }

    fn test(&self, key: Key, operator: Operator) -> Result<Test, Wrong> {
        Ok(match key {
            Key::Id => Test::Id(self.patterns(operator)?),
            Key::Text(field) => Test::Text(field, self.patterns(operator)?),
            Key::MetadataName => Test::MetadataKey(self.patterns(operator)?),
            Key::MetadataValue => Test::MetadataValue(self.patterns(operator)?),
            Key::CreatedAt => Test::Time(self.each(|value| time(value, operator))?),
            Key::Number(field, scale) => {
                Test::Number(field, self.each(|value| number(value, operator, scale))?)
            }
            Key::Flag(field) => self.flag(field, operator)?,
            Key::Feedback => Test::Feedback(self.feedback(operator)?),
        })
    }

    fn each<T>(&self, read: impl Fn(&RawValue) -> Result<T, Refusal>) -> Result<Vec<T>, Wrong> {
        let values = self.values.iter().map(|value| {
            read(value).map_err(|refusal| match refusal {
                Refusal::Value(what) => ("value", format!("`{}` is not {what}", value.text())),
                Refusal::Operator => self.wrong_operator(),
            })
        });
        values.collect()
    }

    fn wrong_operator(&self) -> Wrong {
        let message = format!("`{}` cannot be asked of `{}`", self.operator, self.key);
        ("operator", message)
    }

    fn patterns(&self, operator: Operator) -> Result<Vec<Pattern>, Wrong> {
        let patterns = self.each(|value| match (operator, value) {
            // In a query it may be the word, or stand for no text at all.
            (Operator::Eq | Operator::Neq, RawValue::Query(text)) if text == "null" => {
                Ok(vec![Pattern::exact(text), Pattern::exact("")])
            }
            (Operator::Eq | Operator::Neq, value) => Ok(vec![Pattern::exact(value.text())]),
            (Operator::Contains, RawValue::Null) => Ok(vec![Pattern::exact("")]),
            (Operator::Contains, value) => Ok(vec![Pattern::containing(value.text())]),
            (Operator::Lt | Operator::Gt, _) => Err(Refusal::Operator),
        })?;
        Ok(patterns.concat())
    }

    fn flag(&self, field: FlagField, operator: Operator) -> Result<Test, Wrong> {
        let values = self.each(|value| match operator {
            Operator::Eq | Operator::Neq => value.flag().ok_or(Refusal::Value("true or false")),
            Operator::Contains | Operator::Lt | Operator::Gt => Err(Refusal::Operator),
        })?;
        Ok(match (values.contains(&true), values.contains(&false)) {
            // Either will do: asked as a number that every record has.
            (true, true) => Test::Number(NumberField::Step, vec![NumberTest::KNOWN]),
            (wanted, _) => Test::Flag(field, wanted),
        })
    }

    fn feedback(&self, operator: Operator) -> Result<Vec<Option<i64>>, Wrong> {
        const GIVEN: [i64; 3] = [-1, 0, 1];
        let values = self.each(|value| {
            if value.is_null() && matches!(operator, Operator::Eq | Operator::Neq) {
                return Ok(vec![None]);
            }
            let number: i64 = value
                .text()
                .parse()
                .map_err(|_| Refusal::Value("1, -1 or null"))?;
            let given = GIVEN.into_iter();
            match operator {
                Operator::Eq | Operator::Neq => Ok(vec![Some(number)]),
                Operator::Lt => Ok(given.filter(|n| *n < number).map(Some).collect()),
                Operator::Gt => Ok(given.filter(|n| *n > number).map(Some).collect()),
                Operator::Contains => Err(Refusal::Operator),
            }
        })?;
        let mut wanted = values.concat();
        if wanted.is_empty() {
            wanted.push(Some(i64::MIN)); // nobody gives that
        }
        Ok(wanted)
    }
}

/// Why a value does not do.
enum Refusal {
    /// It is not such a thing.
    Value(&'static str),
    /// The operator has no meaning for the key.
    Operator,
}

fn find<T>(
    mut all: impl Iterator<Item = (&'static str, T)>,
    name: &'static str,
    text: &str,
) -> Result<T, Wrong> {
    let mut known = Vec::new();
    all.find_map(|(word, value)| {
        known.push(word);
        (word == text).then_some(value)
    })
    .ok_or_else(|| {
        let known = known.join(", ");
        let message = format!("`{text}` is no {name} of a filter; there are {known}");
        (name, message)
    })
}

/// Times are shown to the millisecond, so a whole millisecond stands for all within it.
fn time(value: &RawValue, operator: Operator) -> Result<(u64, u64), Refusal> {
    let at = moment(value.text()).ok_or(Refusal::Value("a time such as 2026-11-21T08:00:00Z"))?;
    let last = at.saturating_add(if at % 1000 == 0 { 999 } else { 0 });
    Ok(match operator {
        Operator::Eq | Operator::Neq => (at, last),
        Operator::Gt => last.checked_add(1).map_or(NEVER, |from| (from, u64::MAX)),
        Operator::Lt => super::language::before(at),
        Operator::Contains => return Err(Refusal::Operator),
    })
}

/// A day, a moment, or milliseconds since the Unix epoch; never a time ago.
fn moment(text: &str) -> Option<u64> {
    if (MILLIS_DIGITS_MIN..20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1000);
    }
    let is_date = text.len() >= 10 && text.starts_with(|c: char| c.is_ascii_digit());
    is_date.then(|| super::parse_time(text, 0)).flatten()
}

/// Least digits of a time in milliseconds: fewer are a day without its dashes, or seconds.
const MILLIS_DIGITS_MIN: usize = 12;

fn number(value: &RawValue, operator: Operator, scale: Scale) -> Result<NumberTest, Refusal> {
    if value.is_null() && matches!(operator, Operator::Eq | Operator::Neq) {
        return Ok(NumberTest::Unknown);
    }
    let bound = scale.read(value.text()).ok_or(Refusal::Value("a number"))?;
    let test = match operator {
        Operator::Eq | Operator::Neq => bound.equal(),
        Operator::Gt => bound.above(),
        Operator::Lt => bound.below(),
        Operator::Contains => return Err(Refusal::Operator),
    };
    Ok(scale.to_record(test))
}

impl Scale {
    fn read(self, text: &str) -> Option<Bound> {
        Bound::decimal(
            text,
            match self {
                Self::Dollars => 12,
                Self::Millis | Self::Count => 0,
            },
        )
    }

    fn to_record(self, test: NumberTest) -> NumberTest {
        match self {
            Self::Millis => test.finer(1000),
            Self::Dollars | Self::Count => test,
        }
    }
}

#[cfg(test)]
mod tests;
