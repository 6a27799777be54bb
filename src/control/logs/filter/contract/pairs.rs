//! A query's names and values, and the filters that are spread over several of them.

use super::{FieldError, RawFilter, RawValue};

/// Most parameters of one query; what is more is not looked at, and no filter needs as many.
const PAIRS_MAX: usize = 1024;

/// Takes a query apart (`a=1&b=x%20y`): decoded names and values in order. `+` is a blank. What
/// is not UTF-8 is replaced.
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(PAIRS_MAX)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match after.split_first_chunk::<2>().and_then(|(two, left)| {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(two[0])? * 16 + digit(two[1])?;
                Some((u8::try_from(byte).ok()?, left))
            }) {
                Some((byte, left)) => {
                    bytes.push(byte);
                    rest = left;
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Finds the filters that are written as repeated dotted names.
///
/// Either each filter's names stand together, or all keys, all operators and all values do. The
/// second shows in two keys with nothing between them; then each filter has one value, since it
/// cannot be told which would have more.
pub(super) fn dotted(pairs: &[(String, String)]) -> Result<Vec<RawFilter>, FieldError> {
    let path = ["query", "filters"];
    let parts = pairs
        .iter()
        .filter_map(|(name, value)| Some((Part::of(name)?, value.as_str())));
    let parts: Vec<_> = parts.collect();
    let count = |part| parts.iter().filter(|(other, _)| *other == part).count();
    let (keys, operators, values) = (count(Part::Key), count(Part::Operator), count(Part::Value));
    if keys == 0 && operators == 0 && values > 0 {
        return Err(FieldError::new(
            &path,
            "there is a `filters.value` without a `filters.key`",
        ));
    }
    if operators != keys {
        let message = format!(
            "there are {keys} `filters.key` and {operators} `filters.operator`; each filter has one of both"
        );
        return Err(FieldError::new(&path, message));
    }
    let all = |part| {
        parts
            .iter()
            .filter(move |(other, _)| *other == part)
            .map(|(_, value)| *value)
    };
    if keys == 1 {
        return Ok(vec![RawFilter {
            key: all(Part::Key).collect(),
            operator: all(Part::Operator).collect(),
            values: all(Part::Value).map(query_value).collect(),
        }]);
    }
    if one_after_another(&parts) {
        return Ok(in_turn(&parts));
    }
    if values != keys {
        let message = format!(
            "there are {keys} filters and {values} values, so it cannot be told which belong \
             together; send one filter after another, or JSON in `filters`"
        );
        return Err(FieldError::new(&path, message));
    }
    let filters = all(Part::Key)
        .zip(all(Part::Operator))
        .zip(all(Part::Value));
    Ok(filters
        .map(|((key, operator), value)| RawFilter {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: vec![query_value(value)],
        })
        .collect())
}

/// Says whether a parameter is part of a filter.
pub(super) fn is_dotted(name: &str) -> bool {
    Part::of(name).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Operator,
    Value,
}

impl Part {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "filters.key" => Self::Key,
            "filters.operator" => Self::Operator,
            // With brackets, as some clients mark arrays.
            "filters.value" | "filters.value[]" => Self::Value,
            _ => return None,
        })
    }
}

/// Says whether the parts are key, operator, values; key, operator, values; and so on, each
/// filter's operator after its key and before its values.
fn one_after_another(parts: &[(Part, &str)]) -> bool {
    let mut before = Part::Value;
    parts.first().is_some_and(|(part, _)| *part == Part::Key)
        && parts.iter().all(|(part, _)| {
            let fits = match part {
                Part::Key => before == Part::Value,
                Part::Operator => before == Part::Key,
                Part::Value => before != Part::Key,
            };
            before = *part;
            fits
        })
}

fn in_turn(parts: &[(Part, &str)]) -> Vec<RawFilter> {
    let mut filters: Vec<RawFilter> = Vec::new();
    for (part, value) in parts {
        if *part == Part::Key {
            filters.push(RawFilter {
                key: (*value).to_owned(),
                ..RawFilter::default()
            });
        } else if let Some(filter) = filters.last_mut() {
            match part {
                Part::Operator => filter.operator = String::from(*value),
                Part::Key | Part::Value => filter.values.push(query_value(value)),
            }
        }
    }
    filters
}

fn query_value(text: &str) -> RawValue {
    RawValue::Query(text.to_owned())
}
