//! Filters that are spread over several parameters of a query.

use super::{FieldError, RawFilter, RawValue};

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
