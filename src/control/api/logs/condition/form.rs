//! The forms in which filters come: a JSON array, or dotted names with repetition as the official
//! clients write them (contract `management-api.md` section 1.4).

use serde_json::Value;

use super::Condition;
use crate::control::api::failure::Failure;

/// Reads filters from a query, in any of the three forms that clients use.
pub fn of_query(pairs: &[(String, String)]) -> Result<Vec<Condition>, Failure> {
    let wrong = |message: &str| Failure::invalid(&["query", "filters"], message);
    let mut found = Vec::new();
    let mut dotted = Vec::new();
    for (name, value) in pairs {
        match name.as_str() {
            "filters" if !value.is_empty() => of_json(value, &mut found)?,
            "filters.key" | "filters.operator" | "filters.value" => {
                dotted.push((name.trim_start_matches("filters."), value.as_str()));
            }
            _ => {}
        }
    }
    let keys = dotted.iter().filter(|(name, _)| *name == "key").count();
    if keys == 0 && !dotted.is_empty() {
        return Err(wrong("has an operator or a value without a key"));
    }
    if keys + found.len() > FILTERS_MAX {
        return Err(wrong("has too many filters; at most 64 are taken"));
    }
    let groups = if keys > 1 && is_grouped(&dotted) {
        zipped(&dotted).ok_or_else(|| {
            wrong("has different counts of keys, operators and values, so that it is not clear which belongs to which; send filters= with a JSON array")
        })?
    } else {
        in_turn(&dotted)
    };
    for (key, operator, values) in groups {
        let operator = operator.ok_or_else(|| wrong("has a key without an operator"))?;
        let values: Vec<Value> = values.into_iter().map(Value::from).collect();
        found.push(Condition::new(found.len(), key, operator, &values)?);
    }
    Ok(found)
}

/// Filters of one request.
const FILTERS_MAX: usize = 64;

type Dotted<'a> = [(&'a str, &'a str)];
type Group<'a> = (&'a str, Option<&'a str>, Vec<&'a str>);

/// Says whether keys come together, before the values that belong to them.
fn is_grouped(dotted: &Dotted<'_>) -> bool {
    let mut value_since = true;
    for (name, _) in dotted {
        match *name {
            "key" if !value_since => return true,
            "key" => value_since = false,
            "value" => value_since = true,
            _ => {}
        }
    }
    false
}

/// The n-th key with the n-th operator and the n-th value.
fn zipped<'a>(dotted: &Dotted<'a>) -> Option<Vec<Group<'a>>> {
    let all = |wanted: &str| -> Vec<&'a str> {
        let of_name = dotted.iter().filter(|(name, _)| *name == wanted);
        of_name.map(|(_, value)| *value).collect()
    };
    let (keys, operators, values) = (all("key"), all("operator"), all("value"));
    if keys.len() != operators.len() || keys.len() != values.len() {
        return None;
    }
    let each = keys.into_iter().zip(operators).zip(values);
    Some(
        each.map(|((key, operator), value)| (key, Some(operator), vec![value]))
            .collect(),
    )
}

/// A new key starts a new filter.
fn in_turn<'a>(dotted: &Dotted<'a>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    // What comes before the first key belongs to it.
    let mut early: Group<'a> = ("", None, Vec::new());
    for (name, value) in dotted {
        if *name == "key" {
            groups.push((value, None, Vec::new()));
            continue;
        }
        let group = groups.last_mut().unwrap_or(&mut early);
        match *name {
            "operator" => group.1 = Some(value),
            _ => group.2.push(value),
        }
    }
    if let Some(first) = groups.first_mut() {
        first.1 = first.1.or(early.1);
        first.2.splice(0..0, early.2);
    }
    groups
}

fn of_json(text: &str, found: &mut Vec<Condition>) -> Result<(), Failure> {
    let wrong = |message: &str| Failure::invalid(&["query", "filters"], message);
    let parsed: Value =
        serde_json::from_str(text).map_err(|_| wrong("must be a JSON array of filters"))?;
    let Value::Array(items) = parsed else {
        return Err(wrong("must be a JSON array of filters"));
    };
    if items.len() > FILTERS_MAX {
        return Err(wrong("has too many filters; at most 64 are taken"));
    }
    for item in &items {
        found.push(of_object(found.len(), item)?);
    }
    Ok(())
}

/// Reads a filter as it stands in JSON.
pub fn of_object(place: usize, item: &Value) -> Result<Condition, Failure> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let values = match item.get("value") {
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
        None => Vec::new(),
    };
    Condition::new(place, text("key"), text("operator"), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn query(text: &str) -> Result<Vec<Condition>, Vec<String>> {
        let pairs: Vec<_> = text
            .split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect();
        of_query(&pairs).map_err(|failure| {
            let errors = failure.errors.iter();
            errors
                .map(|error| format!("{} {}", error.code, error.path.join(".")))
                .collect()
        })
    }

    #[test]
    fn the_three_forms_of_filters_mean_the_same() {
        let json = query(
            r#"filters=[{"key":"provider","operator":"eq","value":["openai"]},{"key":"cost","operator":"gt","value":["0.5"]}]"#,
        );
        let turn = query(
            "filters.key=provider&filters.operator=eq&filters.value=openai&filters.key=cost&filters.operator=gt&filters.value=0.5",
        );
        let grouped = query(
            "filters.key=provider&filters.key=cost&filters.operator=eq&filters.operator=gt&filters.value=openai&filters.value=0.5",
        );
        let all = json.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((turn.as_ref(), grouped.as_ref()), (Ok(&all), Ok(&all)));
        let one = query("filters.key=provider&filters.operator=eq&filters.value=a&filters.value=b");
        assert_eq!(one.unwrap()[0].values(), 2);
        let typescript = query(
            "filters.key=provider&filters.operator=eq&filters.value=a&filters.value=b&filters.key=cost&filters.operator=gt&filters.value=1",
        );
        let both = typescript.unwrap();
        let values: Vec<_> = both.iter().map(Condition::values).collect();
        assert_eq!(values, [2, 1]);
    }

    #[test]
    fn what_is_unclear_or_unknown_is_refused() {
        for (text, expected) in [
            (
                "filters.key=metadata.user&filters.operator=eq&filters.value=a",
                "7001 query.filters.0.key",
            ),
            (
                "filters.key=cost&filters.operator=gte&filters.value=1",
                "7001 query.filters.0.operator",
            ),
            (
                "filters.key=cost&filters.operator=gt&filters.value=much",
                "7001 query.filters.0.value",
            ),
            (
                "filters.key=cost&filters.operator=gt",
                "7001 query.filters.0.value",
            ),
            ("filters.key=cost&filters.value=1", "7001 query.filters"),
            ("filters.operator=eq", "7001 query.filters"),
            ("filters={}", "7001 query.filters"),
            ("filters=x", "7001 query.filters"),
            (
                "filters.key=cost&filters.key=model&filters.operator=gt&filters.operator=eq&filters.value=1&filters.value=a&filters.value=b",
                "7001 query.filters",
            ),
        ] {
            assert_eq!(query(text), Err(vec![expected.to_owned()]), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(names in proptest::collection::vec("(filters|filters.key|filters.operator|filters.value|x)", 0..12),
                           values in proptest::collection::vec("(cost|eq|id|gt|model|1.5|-|null|\\[\\{\"key\":.*|.*)", 12)) {
            let pairs: Vec<_> = names.into_iter().zip(values).collect();
            let _ = of_query(&pairs);
        }
    }
}
