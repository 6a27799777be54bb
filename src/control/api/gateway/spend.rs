//! Rules of a gateway: limits on cost, on requests and on model tokens.

use serde_json::{Map, Value, json};

use super::fields::{NAME_CHARS_MAX, TECHNIQUES, member, option};
use crate::{
    config::limit,
    control::{
        api::{
            failure::{Failure, Report},
            field::{flag, list, object, text, texts, whole, word},
        },
        store::{gateway::dollars, text::short_id},
    },
};

/// Reads `spend_limits`. Rules without an id get one later: [`name_rules`].
pub(super) fn limits(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let enabled = option(form, "enabled", report, flag);
    let mut ids = Vec::new();
    let rules = option(form, "rules", report, |value, report| {
        list(value, limit::RULES_MAX, report, |item, report| {
            rule(item, &mut ids, report)
        })
    });
    Some(json!({
        "enabled": enabled?.unwrap_or(false),
        "rules": rules?.unwrap_or_default(),
    }))
}

fn rule(given: &Value, ids: &mut Vec<String>, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let id = option(form, "id", report, |value, report| {
        let id = text(value, &(1..=NAME_CHARS_MAX), report)?;
        if ids.contains(&id) {
            report.wrong("another rule has this id");
            return None;
        }
        ids.push(id.clone());
        Some(id)
    });
    let limit = member(form, "limit", report, |value, report| {
        if dollars(value).is_none() {
            report.wrong("must be dollars: a number that is not negative");
            return None;
        }
        Some(value.clone())
    });
    let kind = member(form, "limitType", report, |v, r| word(v, &["cost"], r));
    let window = member(form, "window", report, |v, r| whole(v, &limit::SECONDS, r));
    let enabled = option(form, "enabled", report, flag);
    let technique = option(form, "technique", report, |v, r| word(v, TECHNIQUES, r));
    let metadata = option(form, "metadata", report, dimensions);
    let model = option(form, "model", report, dimension);
    let provider = option(form, "provider", report, dimension);
    let hard = option(form, "hard", report, flag);
    let allow_unpriced = option(form, "allow_unpriced", report, flag);
    let mut rule = Map::new();
    if let Some(id) = id? {
        rule.insert("id".to_owned(), id.into());
    }
    rule.insert("enabled".to_owned(), enabled?.unwrap_or(true).into());
    rule.insert("limit".to_owned(), limit?);
    rule.insert("limitType".to_owned(), kind?.into());
    rule.insert("window".to_owned(), window?.into());
    let technique = technique?.unwrap_or("sliding");
    rule.insert("technique".to_owned(), technique.into());
    let forms = [
        ("metadata", metadata?),
        ("model", model?),
        ("provider", provider?),
        ("hard", hard?.map(Value::from)),
        ("allow_unpriced", allow_unpriced?.map(Value::from)),
    ];
    for (name, value) in forms {
        if let Some(value) = value {
            rule.insert(name.to_owned(), value);
        }
    }
    Some(Value::Object(rule))
}

fn dimensions(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    if form.len() > limit::LIST_MAX {
        report.wrong(format!("must have at most {} members", limit::LIST_MAX));
        return None;
    }
    let mut all = Map::new();
    for (key, value) in form {
        let read = report.within(key, |report| dimension(value, report))?;
        all.insert(key.clone(), read);
    }
    Some(Value::Object(all))
}

fn dimension(given: &Value, report: &mut Report) -> Option<Value> {
    let form = object(given, report)?;
    let modes = &["partition", "filter"];
    let mode = member(form, "mode", report, |value, report| {
        word(value, modes, report)
    })?;
    if mode == "partition" {
        return Some(json!({"mode": mode}));
    }
    let values = member(form, "values", report, |value, report| {
        texts(value, limit::LIST_MAX, report)
    })?;
    Some(json!({"mode": mode, "values": values}))
}

/// Gives an id to every rule without one: that of the same rule before, so that what was spent
/// under it stays counted, else a new one.
pub(super) fn name_rules(new: Option<&mut Value>, old: Option<&Value>) -> Result<(), Failure> {
    fn rules(limits: Option<&Value>) -> impl Iterator<Item = &Map<String, Value>> {
        let rules = limits.and_then(|limits| limits.get("rules")?.as_array());
        rules.into_iter().flatten().filter_map(Value::as_object)
    }
    fn id(rule: &Map<String, Value>) -> Option<&Value> {
        rule.get("id")
    }
    let mut taken: Vec<Value> = rules(new.as_deref()).filter_map(id).cloned().collect();
    let list = new.and_then(|limits| limits.get_mut("rules")?.as_array_mut());
    let unnamed = list.into_iter().flatten().filter_map(Value::as_object_mut);
    for rule in unnamed.filter(|rule| !rule.contains_key("id")) {
        let same = |before: &&Map<String, Value>| {
            let free = id(before).is_some_and(|id| !taken.contains(id));
            let rest = before.iter().filter(|(name, _)| *name != "id");
            free && before.len() == rule.len() + 1
                && rest
                    .into_iter()
                    .all(|(name, value)| rule.get(name) == Some(value))
        };
        let before = rules(old).find(same).and_then(id).cloned();
        let id = match before {
            Some(id) => id,
            None => short_id()?.into(),
        };
        taken.push(id.clone());
        rule.shift_insert(0, "id".to_owned(), id);
    }
    Ok(())
}

/// Reads `request_limits` or `token_limits`.
pub(super) fn traffic(given: &Value, report: &mut Report) -> Option<Value> {
    let all = list(given, limit::RULES_MAX, report, |item, report| {
        let form = object(item, report)?;
        let limit = member(form, "limit", report, |v, r| whole(v, &limit::COUNT, r));
        let window = member(form, "window", report, |value, report| {
            whole(value, &(1..=*limit::SECONDS.end()), report)
        });
        let technique = option(form, "technique", report, |v, r| word(v, TECHNIQUES, r));
        let by = option(form, "by", report, |value, report| {
            let by = text(value, &(1..=NAME_CHARS_MAX), report)?;
            let metadata = by.strip_prefix("metadata.");
            let metadata = metadata.filter(|name| (1..=64).contains(&name.len()));
            if metadata.is_none() && by != "gateway" && by != "key" {
                report.wrong("must be gateway, key or metadata.NAME");
                return None;
            }
            Some(by)
        });
        Some(json!({
            "limit": limit?,
            "window": window?,
            "technique": technique?.unwrap_or("sliding"),
            "by": by?.unwrap_or_else(|| "gateway".to_owned()),
        }))
    })?;
    Some(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_keeps_its_id_while_it_stays_the_same() {
        let rule = |limit: u64| json!({"limit": limit, "limitType": "cost", "window": 60});
        let read = |rules: Value, old: Option<&Value>| {
            let mut report = Report::new(7001);
            let mut limits = limits(&json!({"rules": rules}), &mut report).unwrap();
            name_rules(Some(&mut limits), old).unwrap();
            limits
        };
        let first = read(json!([rule(1), rule(2), rule(2)]), None);
        let ids = |limits: &Value| -> Vec<String> {
            let rules = limits["rules"].as_array().unwrap();
            rules
                .iter()
                .map(|rule| rule["id"].as_str().unwrap().to_owned())
                .collect()
        };
        let before = ids(&first);
        assert!(before.iter().all(|id| id.len() == 8));
        let second = read(json!([rule(2), rule(1), rule(2), rule(3)]), Some(&first));
        let after = ids(&second);
        assert_eq!(after[..3], [&*before[1], &*before[0], &*before[2]]);
        assert!(!before.contains(&after[3]));
    }
}
