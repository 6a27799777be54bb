//! What the elements of a route must be (contract `data-plane.md` section 8.1): one start, no
//! way that leads nowhere or round in a circle, shares that make a whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::control::api::{
    failure::Report,
    field::{object, text},
    gateway::fields::{member, option},
};

/// Elements of one route.
const ELEMENTS_MAX: usize = 256;

/// Outputs of a `percentage`.
const SHARES_MAX: usize = 5;

/// Parts of a condition, all levels together.
const CONDITION_PARTS_MAX: usize = 1000;

/// Operators of conditions.
const OPERATORS: [&str; 12] = [
    "$eq", "$ne", "$in", "$nin", "$and", "$or", "$not", "$exists", "$gt", "$gte", "$lt", "$lte",
];

/// Reads the elements of a version; they are kept as they were sent.
pub(super) fn read(given: &Value, report: &mut Report) -> Option<Value> {
    let Some(items) = given.as_array() else {
        report.wrong("must be a list");
        return None;
    };
    if !(1..=ELEMENTS_MAX).contains(&items.len()) {
        report.wrong(format!("must have 1 to {ELEMENTS_MAX} elements"));
        return None;
    }
    let mut nodes = BTreeMap::new();
    let mut starts = 0;
    for (index, item) in items.iter().enumerate() {
        report.within(index, |report| {
            let Some(form) = object(item, report) else {
                return;
            };
            let id = member(form, "id", report, |v, r| text(v, &(1..=256), r));
            let outputs = element(form, report);
            starts += usize::from(form.get("type") == Some(&"start".into()));
            if let (Some(id), Some(outputs)) = (id, outputs)
                && nodes.insert(id, (index, outputs)).is_some()
            {
                report.within("id", |report| report.wrong("another element has this id"));
            }
        });
    }
    if starts != 1 {
        report.wrong("must have exactly one element of type start");
    }
    for (index, outputs) in nodes.values() {
        for (name, target) in outputs {
            if !nodes.contains_key(target) && report.is_clean() {
                report.within(index, |report| {
                    report.within("outputs", |report| {
                        report.within(name, |report| {
                            report.within("elementId", |report| report.wrong("names no element"));
                        });
                    });
                });
            }
        }
    }
    if !report.is_clean() {
        return None;
    }
    if has_circle(&nodes) {
        report.wrong("must not lead round in a circle");
        return None;
    }
    Some(given.clone())
}

/// Where an element leads: output and target.
type Outputs = Vec<(String, String)>;

fn element(form: &Map<String, Value>, report: &mut Report) -> Option<Outputs> {
    const TYPES: &[&str] = &[
        "start",
        "conditional",
        "percentage",
        "rate",
        "rate_limit",
        "model",
        "end",
    ];
    let kind = member(form, "type", report, |value, report| {
        crate::control::api::field::word(value, TYPES, report)
    })?;
    let properties = match form.get("properties") {
        None | Some(Value::Null) => Map::new(),
        Some(value) => report.within("properties", |r| object(value, r).cloned())?,
    };
    report.within("properties", |report| match kind {
        "conditional" => conditions(&properties, report),
        "rate" | "rate_limit" => rate(&properties, report),
        "model" => model(&properties, report),
        _ => {}
    });
    let outputs = match form.get("outputs") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => report.within("outputs", |report| targets(value, report)),
    }?;
    report.within("outputs", |report| match kind {
        "start" => exactly(&outputs, &["next"], &[], report),
        "conditional" => exactly(&outputs, &["true", "false"], &[], report),
        "percentage" => shares(&outputs, report),
        "rate" | "rate_limit" | "model" => {
            exactly(&outputs, &["success"], &["fallback"], report);
        }
        _ => exactly(&outputs, &[], &[], report),
    });
    Some(outputs)
}

fn targets(given: &Value, report: &mut Report) -> Option<Outputs> {
    let form = object(given, report)?;
    let mut all = Vec::with_capacity(form.len());
    for (name, output) in form {
        let target = report.within(name, |report| {
            let output = object(output, report)?;
            member(output, "elementId", report, |v, r| text(v, &(1..=256), r))
        })?;
        all.push((name.clone(), target));
    }
    Some(all)
}

/// The outputs must be these, and may be those.
fn exactly(outputs: &Outputs, must: &[&str], may: &[&str], report: &mut Report) {
    for name in must {
        if !outputs.iter().any(|(known, _)| known == name) {
            report.within(name, |report| report.wrong("is required"));
        }
    }
    for (name, _) in outputs {
        if !must.contains(&name.as_str()) && !may.contains(&name.as_str()) {
            report.within(name, |report| report.wrong("is no output of this element"));
        }
    }
}

/// Shares such as `10%` must make a hundred, unless `else` takes the rest.
fn shares(outputs: &Outputs, report: &mut Report) {
    if !(1..=SHARES_MAX).contains(&outputs.len()) {
        report.wrong(format!("must have 1 to {SHARES_MAX} outputs"));
        return;
    }
    // Thousandths of a percent, so that 33.333% can be said.
    let mut sum = 0u64;
    let mut rest = false;
    for (name, _) in outputs {
        if name == "else" {
            rest = true;
            continue;
        }
        let Some(share) = name.strip_suffix('%').and_then(thousandths) else {
            let message = "must be a share such as 10%, or else";
            report.within(name, |report| report.wrong(message));
            return;
        };
        sum += share;
    }
    if sum > 100_000 || sum < 100_000 && !rest {
        report.wrong("the shares must make 100%");
    }
}

fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + part)
}

fn conditions(properties: &Map<String, Value>, report: &mut Report) {
    let name = if properties.contains_key("condition") {
        "condition"
    } else {
        "conditions"
    };
    report.within(name, |report| {
        let Some(root) = properties.get(name) else {
            report.wrong("is required");
            return;
        };
        if object(root, report).is_none() {
            return;
        }
        let mut waiting = vec![root];
        let mut parts = 0;
        while let Some(value) = waiting.pop() {
            parts += 1;
            if parts > CONDITION_PARTS_MAX {
                report.wrong(format!("must have at most {CONDITION_PARTS_MAX} parts"));
                return;
            }
            match value {
                Value::Object(form) => {
                    for (name, value) in form {
                        if name.starts_with('$') && !OPERATORS.contains(&name.as_str()) {
                            let known = OPERATORS.join(", ");
                            let message = format!("is not an operator; there are {known}");
                            report.within(name, |report| report.wrong(message));
                        }
                        waiting.push(value);
                    }
                }
                Value::Array(items) => waiting.extend(items),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    });
}

fn rate(properties: &Map<String, Value>, report: &mut Report) {
    option(properties, "limitType", report, |value, report| {
        crate::control::api::field::word(value, &["count", "cost"], report)
    });
    option(properties, "key", report, |v, r| text(v, &(0..=256), r));
    member(properties, "limit", report, positive);
    // An older name of it.
    let window = if properties.contains_key("interval") {
        "interval"
    } else {
        "window"
    };
    member(properties, window, report, positive);
}

fn model(properties: &Map<String, Value>, report: &mut Report) {
    for name in ["provider", "model"] {
        member(properties, name, report, |v, r| text(v, &(1..=512), r));
    }
    option(properties, "timeout", report, positive);
    option(properties, "retries", report, |value, report| {
        let retries = value.as_u64().filter(|retries| *retries <= 5);
        if retries.is_none() {
            report.wrong("must be a whole number from 0 to 5");
        }
        retries
    });
}

fn positive(value: &Value, report: &mut Report) -> Option<()> {
    let number = value
        .as_f64()
        .filter(|number| (0.0..=1e15).contains(number));
    if number.is_none() {
        report.wrong("must be a number that is not negative");
    }
    number.map(|_| ())
}

/// Takes elements away that lead nowhere further, until none is left or all that are left lead
/// to each other.
fn has_circle(nodes: &BTreeMap<String, (usize, Outputs)>) -> bool {
    let mut left: BTreeMap<&str, usize> = nodes
        .iter()
        .map(|(id, (_, outputs))| (id.as_str(), outputs.len()))
        .collect();
    loop {
        let ends: Vec<&str> = left
            .iter()
            .filter(|(_, ways)| **ways == 0)
            .map(|(id, _)| *id)
            .collect();
        if ends.is_empty() {
            return !left.is_empty();
        }
        for end in ends {
            left.remove(end);
            for (id, (_, outputs)) in nodes {
                let ways = outputs.iter().filter(|(_, target)| target == end).count();
                if let Some(open) = left.get_mut(id.as_str()) {
                    *open -= ways;
                }
            }
        }
    }
}

/// The schema of a list of elements.
pub(super) fn schema() -> Value {
    json!({
        "type": "array",
        "minItems": 1,
        "maxItems": ELEMENTS_MAX,
        "items": {
            "type": "object",
            "required": ["id", "type"],
            "properties": {
                "id": {"type": "string"},
                "type": {"enum": ["start", "conditional", "percentage", "rate", "model", "end"]},
                "properties": {"type": "object"},
                "outputs": {"type": "object", "additionalProperties": {
                    "type": "object",
                    "required": ["elementId"],
                    "properties": {"elementId": {"type": "string"}},
                }},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(elements: &Value, expected: &[&str]) {
        let mut report = Report::new(7001);
        let read = read(elements, &mut report);
        let failure = report.finish().err();
        let errors = failure.map(|failure| failure.errors).unwrap_or_default();
        let found: Vec<_> = errors
            .iter()
            .map(|error| format!("{}: {}", error.path.join("."), error.message))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(read.as_ref(), expected.is_empty().then_some(elements));
    }

    fn to(id: &str) -> Value {
        json!({"elementId": id})
    }

    fn whole() -> Value {
        json!([
            {"id": "s", "type": "start", "outputs": {"next": to("c")}},
            {"id": "c", "type": "conditional",
             "properties": {"conditions": {"$or": [{"metadata.plan": {"$eq": "free"}}]}},
             "outputs": {"true": to("p"), "false": to("r")}},
            {"id": "p", "type": "percentage", "outputs": {"33.333%": to("m"), "66.667%": to("e")}},
            {"id": "r", "type": "rate",
             "properties": {"limitType": "count", "key": "metadata.user", "limit": 5, "window": 60},
             "outputs": {"success": to("m"), "fallback": to("e")}},
            {"id": "m", "type": "model",
             "properties": {"provider": "openai", "model": "gpt-4o", "timeout": 0, "retries": 1},
             "outputs": {"success": to("e"), "fallback": to("e")}},
            {"id": "e", "type": "end", "outputs": {}},
        ])
    }

    #[test]
    fn a_whole_route_is_kept_as_it_is() {
        check(&whole(), &[]);
        let mut rest = whole();
        rest[2]["outputs"] = json!({"10%": to("m"), "else": to("e")});
        check(&rest, &[]);
    }

    #[test]
    fn what_cannot_be_walked_is_refused() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut elements = whole();
            change(&mut elements);
            elements
        };
        check(
            &with(&|all| all[0]["type"] = "end".into()),
            &[
                "body.0.outputs.next: is no output of this element",
                "body: must have exactly one element of type start",
            ],
        );
        check(
            &with(&|all| all[0]["outputs"]["next"] = to("x")),
            &["body.0.outputs.next.elementId: names no element"],
        );
        check(
            &with(&|all| all[4]["outputs"]["fallback"] = to("c")),
            &["body: must not lead round in a circle"],
        );
        check(
            &with(&|all| all[2]["outputs"] = json!({"50%": to("m"), "49.9%": to("e")})),
            &["body.2.outputs: the shares must make 100%"],
        );
        check(
            &with(&|all| all[5]["id"] = "m".into()),
            &["body.5.id: another element has this id"],
        );
        check(
            &with(&|all| all[1]["properties"]["conditions"] = json!({"a": {"$like": 1}})),
            &[
                "body.1.properties.conditions.$like: is not an operator; there are $eq, $ne, $in, $nin, $and, $or, $not, $exists, $gt, $gte, $lt, $lte",
            ],
        );
        check(&json!([]), &["body: must have 1 to 256 elements"]);
        check(&json!({}), &["body: must be a list"]);
    }
}
