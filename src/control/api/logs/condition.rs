//! Filters of the contract: which records pass. Filters are joined by and; of several values one
//! must match, for `neq` none may. How they stand in a query is in [`form`].

use std::fmt::Write as _;

use serde_json::Value;

use super::row;
use crate::{
    control::{
        api::{
            envelope,
            failure::{ApiError, Failure},
        },
        store::marks::Mark,
    },
    domain::record::{Record, Text, flag},
};

pub mod form;

/// One filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    key: Key,
    operator: Operator,
    values: Vec<Operand>,
    /// What passes is turned around.
    negated: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    CreatedAt,
    RequestContentType,
    ResponseContentType,
    RequestType,
    Success,
    Cached,
    Provider,
    Model,
    ModelType,
    Cost,
    Tokens,
    TokensIn,
    TokensOut,
    Duration,
    Feedback,
    EventId,
    MetadataNames,
    MetadataValues,
    Authentication,
    Wholesale,
    CompatibilityMode,
    DlpAction,
    UserAgent,
}

const KEYS: [(&str, Key); 24] = [
    ("id", Key::Id),
    ("created_at", Key::CreatedAt),
    ("request_content_type", Key::RequestContentType),
    ("response_content_type", Key::ResponseContentType),
    ("request_type", Key::RequestType),
    ("success", Key::Success),
    ("cached", Key::Cached),
    ("provider", Key::Provider),
    ("model", Key::Model),
    ("model_type", Key::ModelType),
    ("cost", Key::Cost),
    ("tokens", Key::Tokens),
    ("tokens_in", Key::TokensIn),
    ("tokens_out", Key::TokensOut),
    ("duration", Key::Duration),
    ("feedback", Key::Feedback),
    ("event_id", Key::EventId),
    ("metadata.key", Key::MetadataNames),
    ("metadata.value", Key::MetadataValues),
    ("authentication", Key::Authentication),
    ("wholesale", Key::Wholesale),
    ("compatibilityMode", Key::CompatibilityMode),
    ("dlp_action", Key::DlpAction),
    ("user_agent", Key::UserAgent),
];

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

/// A value of a filter, read once.
#[derive(Debug, Clone, PartialEq)]
struct Operand {
    text: String,
    /// In 10⁻¹², for keys that are numbers.
    number: Option<i128>,
    is_null: bool,
}

/// What a record has for a key.
enum Has {
    /// Nothing.
    Nothing,
    /// One of these texts.
    Texts(Vec<String>),
    /// A number in 10⁻¹².
    Number(i128),
    /// A switch.
    Flag(bool),
}

/// A whole one in the unit of numbers.
const ONE: i128 = 1_000_000_000_000;

/// Values of one filter.
const VALUES_MAX: usize = 1024;

impl Condition {
    /// Reads one filter; `place` is its number, for messages.
    pub fn new(place: usize, key: &str, operator: &str, values: &[Value]) -> Result<Self, Failure> {
        let refuse = |part: &str, message: String| Failure {
            status: 400,
            errors: vec![ApiError {
                code: envelope::CODE_INVALID,
                message,
                path: ["query", "filters", &place.to_string(), part]
                    .map(str::to_owned)
                    .to_vec(),
            }],
        };
        let names = |all: &mut dyn Iterator<Item = &'static str>| {
            let mut text = "must be one of:".to_owned();
            for name in all {
                // Writing to a String cannot fail.
                let _ = write!(text, " {name}");
            }
            text
        };
        let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == key) else {
            return Err(refuse(
                "key",
                names(&mut KEYS.iter().map(|(name, _)| *name)),
            ));
        };
        let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == operator) else {
            let message = names(&mut OPERATORS.iter().map(|(name, _)| *name));
            return Err(refuse("operator", message));
        };
        if !(1..=VALUES_MAX).contains(&values.len()) {
            return Err(refuse(
                "value",
                format!("must have 1 to {VALUES_MAX} values"),
            ));
        }
        let mut operands = Vec::with_capacity(values.len());
        for value in values {
            let operand =
                operand(*key, value).map_err(|message| refuse("value", message.to_owned()))?;
            operands.push(operand);
        }
        Ok(Self {
            key: *key,
            operator: *operator,
            values: operands,
            negated: false,
        })
    }

    /// The opposite.
    #[must_use]
    pub fn negated(self) -> Self {
        Self {
            negated: !self.negated,
            ..self
        }
    }

    /// How many values it compares with.
    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// Says whether the filter asks for what was said of a record afterwards.
    pub fn needs_mark(&self) -> bool {
        matches!(
            self.key,
            Key::Feedback | Key::MetadataNames | Key::MetadataValues
        )
    }

    /// Says whether a record passes.
    pub fn passes(&self, record: &Record, mark: &Mark) -> bool {
        let has = has(self.key, record, mark);
        let any = |test: fn(&Has, &Operand) -> bool| self.values.iter().any(|v| test(&has, v));
        let passes = match self.operator {
            Operator::Eq => any(equals),
            Operator::Neq => !any(equals),
            Operator::Contains => any(contains),
            Operator::Lt => {
                any(|has, value| matches!((has, value.number), (Has::Number(a), Some(b)) if *a < b))
            }
            Operator::Gt => {
                any(|has, value| matches!((has, value.number), (Has::Number(a), Some(b)) if *a > b))
            }
        };
        passes != self.negated
    }
}

/// Says whether a key is a number, and whether it is a time.
fn is_number(key: Key) -> bool {
    matches!(
        key,
        Key::Cost
            | Key::Tokens
            | Key::TokensIn
            | Key::TokensOut
            | Key::Duration
            | Key::Feedback
            | Key::CreatedAt
    )
}

fn operand(key: Key, value: &Value) -> Result<Operand, &'static str> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => {
            return Err("must be text, a number, true, false or null");
        }
        other => other.to_string(),
    };
    let is_null = value.is_null() || text == "null";
    let number = match key {
        _ if !is_number(key) || is_null => None,
        Key::CreatedAt => Some(time(&text).ok_or("must be a time as in 2026-11-21T08:30:00Z")?),
        _ => Some(decimal(&text).ok_or("must be a number")?),
    };
    Ok(Operand {
        text,
        number,
        is_null,
    })
}

/// A time in milliseconds, in the unit of numbers: RFC 3339, a date, or Unix milliseconds.
fn time(text: &str) -> Option<i128> {
    let whole = match text.len() {
        10 if text.contains('-') => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    match whole.parse::<jiff::Timestamp>() {
        Ok(time) => Some(i128::from(time.as_microsecond()) * (ONE / 1000)),
        Err(_) => decimal(text),
    }
}

/// Reads decimal text exactly, in 10⁻¹²; finer digits are cut off.
fn decimal(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || !plain(whole) || !plain(part) {
        return None;
    }
    let part: String = part
        .chars()
        .chain("000000000000".chars())
        .take(12)
        .collect();
    let number = whole.parse::<i128>().ok()? * ONE + part.parse::<i128>().ok()?;
    Some(if negative { -number } else { number })
}

fn has(key: Key, record: &Record, mark: &Mark) -> Has {
    let text = |which: Text| one(record.text(which).into_owned());
    let count = |count: Option<u64>| match count {
        Some(count) => Has::Number(i128::from(count) * ONE),
        None => Has::Nothing,
    };
    match key {
        Key::Id => one(record.id().to_string()),
        Key::CreatedAt => Has::Number(i128::from(record.at_micros) * (ONE / 1000)),
        Key::RequestContentType => text(Text::RequestContentType),
        Key::ResponseContentType => text(Text::ResponseContentType),
        Key::RequestType => one(row::request_type(record).unwrap_or_default().to_owned()),
        Key::Success => Has::Flag(row::is_success(record)),
        Key::Cached => Has::Flag(record.has(flag::CACHED)),
        Key::Provider => text(Text::Provider),
        // Both names: the normalised one, which is shown, and the caller's own.
        Key::Model => Has::Texts(vec![
            row::model(record),
            record.text(Text::Model).into_owned(),
        ]),
        Key::ModelType => one(row::model_type(record).unwrap_or_default().to_owned()),
        Key::Cost => match record.cost {
            Some(cost) => Has::Number(i128::from(cost)),
            None => Has::Nothing,
        },
        Key::Tokens => count(tokens(record)),
        Key::TokensIn => count(record.tokens_input),
        Key::TokensOut => count(record.tokens_output),
        Key::Duration => count(Some(record.duration_micros / 1000)),
        Key::Feedback => match mark.feedback {
            Some(feedback) => Has::Number(i128::from(feedback) * ONE),
            None => Has::Nothing,
        },
        Key::EventId => match record.text(Text::EventId) {
            event if event.is_empty() => one(record.id().to_string()),
            event => one(event.into_owned()),
        },
        Key::MetadataNames => Has::Texts(members(record, mark, |(name, _)| name.clone())),
        Key::MetadataValues => Has::Texts(members(record, mark, |(_, value)| plain(value))),
        Key::Authentication => Has::Flag(record.has(flag::AUTHENTICATED)),
        Key::Wholesale | Key::CompatibilityMode => Has::Flag(false),
        Key::DlpAction => Has::Nothing,
        Key::UserAgent => text(Text::UserAgent),
    }
}

/// Tokens of both directions; `None` if neither is known.
pub fn tokens(record: &Record) -> Option<u64> {
    match (record.tokens_input, record.tokens_output) {
        (None, None) => None,
        (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
    }
}

fn one(text: String) -> Has {
    if text.is_empty() {
        return Has::Nothing;
    }
    Has::Texts(vec![text])
}

fn members(record: &Record, mark: &Mark, part: fn((&String, &Value)) -> String) -> Vec<String> {
    match row::metadata(record, mark) {
        Value::Object(all) => all.iter().map(part).collect(),
        _ => Vec::new(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn equals(has: &Has, value: &Operand) -> bool {
    match has {
        Has::Nothing => value.is_null,
        Has::Texts(texts) => texts.contains(&value.text),
        Has::Number(number) => value.number == Some(*number),
        Has::Flag(is) => match value.text.as_str() {
            "true" | "1" => *is,
            "false" | "0" => !*is,
            _ => false,
        },
    }
}

fn contains(has: &Has, value: &Operand) -> bool {
    match has {
        Has::Texts(texts) => texts.iter().any(|text| text.contains(&value.text)),
        Has::Nothing | Has::Number(_) | Has::Flag(_) => equals(has, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::{TEXTS, Texts};

    fn record() -> Record {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Provider as usize] = b"openai";
        texts[Text::Model as usize] = b"gpt-4o-2024-08-06";
        texts[Text::ModelName as usize] = b"openai/gpt-4o";
        texts[Text::Metadata as usize] = br#"{"user":"ada","n":7}"#;
        Record {
            at_micros: 1_795_000_000_000_000,
            duration_micros: 1_500_000,
            tokens_input: Some(10),
            cost: Some(500_000_000_000),
            flags: flag::CACHED,
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    }

    #[track_caller]
    fn passes(key: &str, operator: &str, values: &Value) -> bool {
        let condition = Condition::new(0, key, operator, values.as_array().unwrap()).unwrap();
        let mark = Mark {
            feedback: Some(-1),
            ..Mark::default()
        };
        condition.passes(&record(), &mark)
    }

    #[test]
    fn a_filter_lets_pass_what_it_says() {
        use serde_json::json;
        for (key, operator, values, expected) in [
            ("provider", "eq", json!(["anthropic", "openai"]), true),
            ("provider", "neq", json!(["anthropic", "openai"]), false),
            ("provider", "contains", json!(["pen"]), true),
            ("model", "eq", json!(["openai/gpt-4o"]), true),
            ("model", "eq", json!(["gpt-4o-2024-08-06"]), true),
            ("cost", "eq", json!(["0.5"]), true),
            ("cost", "gt", json!([0.499_999_999_999]), true),
            ("cost", "gt", json!([0.5]), false),
            ("cost", "lt", json!(["0.500000000001"]), true),
            ("tokens", "eq", json!([10]), true),
            ("tokens_out", "eq", json!([null]), true),
            ("tokens_out", "lt", json!([5]), false),
            ("duration", "gt", json!(["1499"]), true),
            ("cached", "eq", json!(["true"]), true),
            ("cached", "eq", json!([false]), false),
            ("success", "eq", json!([true]), true),
            ("feedback", "eq", json!([-1]), true),
            ("feedback", "eq", json!(["null"]), false),
            ("metadata.key", "eq", json!(["user"]), true),
            ("metadata.value", "eq", json!(["7"]), true),
            ("metadata.value", "contains", json!(["ad"]), true),
            ("metadata.value", "eq", json!(["user"]), false),
            ("created_at", "gt", json!(["2026-11-18"]), true),
            ("created_at", "lt", json!(["2026-11-18T11:06:40Z"]), false),
            ("wholesale", "eq", json!(["false"]), true),
        ] {
            assert_eq!(
                passes(key, operator, &values),
                expected,
                "{key} {operator} {values}"
            );
        }
    }
}
