//! Members of bodies, told by tables: what a value may be, what it is where it is left out. The
//! API's description is made from the same tables.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::failure::Report;

/// One member of a body.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether a new resource must have it.
    pub required: bool,
    /// What `null` means.
    pub null: Null,
    /// What it is where it is left out.
    pub usual: Usual,
    /// What it is for.
    pub about: &'static str,
}

/// What a member may be.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole(RangeInclusive<u64>),
    /// One of some words.
    Word(&'static [&'static str]),
    /// Text of so many characters.
    Text(RangeInclusive<usize>),
    /// Something of its own: what brings it into its stored form, and its schema.
    Own(Reader, fn() -> Value),
}

/// Brings a value into its stored form; `None` after a word to the report.
pub type Reader = fn(&Value, &mut Report) -> Option<Value>;

/// What `null` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// It is refused.
    Refused,
    /// It is a value of its own.
    Kept,
    /// The same as leaving it out of a new resource.
    Usual,
}

/// What a member is where it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    /// `null`
    Nothing,
    /// A switch.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A word.
    Text(&'static str),
}

impl Usual {
    fn value(self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Flag(flag) => flag.into(),
            Self::Number(number) => number.into(),
            Self::Text(text) => text.into(),
        }
    }
}

impl Field {
    /// A member that may be left out.
    pub const fn new(name: &'static str, kind: Kind, usual: Usual, about: &'static str) -> Self {
        Self {
            name,
            kind,
            required: false,
            null: Null::Refused,
            usual,
            about,
        }
    }

    /// The same, which a new resource must have.
    #[must_use]
    pub const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// The same, which may be `null`.
    #[must_use]
    pub const fn nullable(self) -> Self {
        Self {
            null: Null::Kept,
            ..self
        }
    }

    /// The same, whose `null` is the usual value.
    #[must_use]
    pub const fn null_is_usual(self) -> Self {
        Self {
            null: Null::Usual,
            ..self
        }
    }

    /// The member's schema.
    pub fn schema(&self) -> Value {
        let mut schema = match &self.kind {
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Whole(bounds) => {
                json!({"type": "integer", "minimum": bounds.start(), "maximum": bounds.end()})
            }
            Kind::Word(words) => json!({"type": "string", "enum": words}),
            Kind::Text(bounds) => {
                json!({"type": "string", "minLength": bounds.start(), "maxLength": bounds.end()})
            }
            Kind::Own(_, schema) => schema(),
        };
        if self.null != Null::Refused {
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        schema["description"] = self.about.into();
        if self.usual != Usual::Nothing {
            schema["default"] = self.usual.value();
        }
        schema
    }
}

/// The schema of a whole body.
pub fn schema(fields: &[Field]) -> Value {
    let required = fields.iter().filter(|field| field.required);
    let required: Vec<_> = required.map(|field| field.name).collect();
    let properties: Map<_, _> = fields
        .iter()
        .map(|field| (field.name.to_owned(), field.schema()))
        .collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// Reads a body by its table: every member has a value afterwards. With `old`, what is left out
/// stays as it was; without, it is as usual. Unknown members are left out.
pub fn read(
    fields: &[Field],
    body: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    report: &mut Report,
) -> Map<String, Value> {
    let mut document = Map::new();
    for field in fields {
        let read = report.within(field.name, |report| {
            let given = body.get(field.name);
            match given {
                Some(Value::Null) => match field.null {
                    Null::Kept => Some(Value::Null),
                    Null::Usual => Some(field.usual.value()),
                    Null::Refused => {
                        report.wrong("must not be null");
                        None
                    }
                },
                Some(given) => value(&field.kind, given, report),
                None => match old {
                    Some(old) => {
                        let kept = old.get(field.name).cloned();
                        Some(kept.unwrap_or_else(|| field.usual.value()))
                    }
                    None if field.required => {
                        report.wrong("is required");
                        None
                    }
                    None => Some(field.usual.value()),
                },
            }
        });
        if let Some(read) = read {
            document.insert(field.name.to_owned(), read);
        }
    }
    document
}

fn value(kind: &Kind, given: &Value, report: &mut Report) -> Option<Value> {
    match kind {
        Kind::Flag => flag(given, report).map(Value::from),
        Kind::Whole(bounds) => whole(given, bounds, report).map(Value::from),
        Kind::Word(words) => word(given, words, report).map(Value::from),
        Kind::Text(bounds) => text(given, bounds, report).map(Value::from),
        Kind::Own(read, _) => read(given, report),
    }
}

/// Reads a switch.
pub fn flag(given: &Value, report: &mut Report) -> Option<bool> {
    let flag = given.as_bool();
    if flag.is_none() {
        report.wrong("must be true or false");
    }
    flag
}

/// Reads a whole number.
pub fn whole(given: &Value, bounds: &RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
    let number = given.as_u64().filter(|number| bounds.contains(number));
    if number.is_none() {
        let (min, max) = (bounds.start(), bounds.end());
        report.wrong(format!("must be a whole number from {min} to {max}"));
    }
    number
}

/// Reads one of some words.
pub fn word(
    given: &Value,
    words: &'static [&'static str],
    report: &mut Report,
) -> Option<&'static str> {
    let text = given.as_str();
    let word = text.and_then(|text| words.iter().find(|word| **word == text));
    if word.is_none() {
        report.wrong(format!("must be one of: {}", words.join(", ")));
    }
    word.copied()
}

/// Reads a text of so many characters, without control characters besides those of layout.
pub fn text(given: &Value, bounds: &RangeInclusive<usize>, report: &mut Report) -> Option<String> {
    let Some(text) = given.as_str() else {
        report.wrong("must be text");
        return None;
    };
    let fits = bounds.contains(&text.chars().count());
    let plain = !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    if !fits {
        let (min, max) = (bounds.start(), bounds.end());
        report.wrong(format!("must have {min} to {max} characters"));
    } else if !plain {
        report.wrong("must not hold control characters");
    }
    (fits && plain).then(|| text.to_owned())
}

/// Reads an object, for whoever reads its members.
pub fn object<'v>(given: &'v Value, report: &mut Report) -> Option<&'v Map<String, Value>> {
    let object = given.as_object();
    if object.is_none() {
        report.wrong("must be an object");
    }
    object
}

/// Reads a list of at most `max` items; each item that is wrong is reported.
pub fn list<T>(
    given: &Value,
    max: usize,
    report: &mut Report,
    mut item: impl FnMut(&Value, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(items) = given.as_array() else {
        report.wrong("must be a list");
        return None;
    };
    if items.len() > max {
        report.wrong(format!("must have at most {max} items"));
        return None;
    }
    let mut all = Vec::with_capacity(items.len());
    for (index, given) in items.iter().enumerate() {
        all.extend(report.within(index, |report| item(given, report)));
    }
    (all.len() == items.len()).then_some(all)
}

/// Reads a list of texts.
pub fn texts(given: &Value, max: usize, report: &mut Report) -> Option<Value> {
    let all = list(given, max, report, |item, report| {
        text(item, &(0..=TEXT_CHARS_MAX), report)
    })?;
    Some(all.into())
}

/// Longest text of a list.
const TEXT_CHARS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field::new("on", Kind::Flag, Usual::Flag(true), ""),
        Field::new("count", Kind::Whole(1..=5), Usual::Number(2), "").null_is_usual(),
        Field::new("word", Kind::Word(&["a", "b"]), Usual::Nothing, "").nullable(),
        Field::new("name", Kind::Text(1..=3), Usual::Nothing, "").required(),
    ];

    #[track_caller]
    fn check(body: &Value, old: Option<&Value>, expected: Result<Value, &[&str]>) {
        let mut report = Report::new(7001);
        let old = old.and_then(Value::as_object);
        let document = read(FIELDS, body.as_object().unwrap(), old, &mut report);
        match (report.finish(), expected) {
            (Ok(()), Ok(expected)) => assert_eq!(Value::from(document), expected),
            (Err(failure), Err(expected)) => {
                let errors = failure.errors.iter();
                let found: Vec<_> = errors
                    .map(|error| format!("{}: {}", error.path.join("."), error.message))
                    .collect();
                assert_eq!(found, expected);
            }
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_as_usual_or_as_it_was() {
        let usual = json!({"on": true, "count": 2, "word": null, "name": "n"});
        check(&json!({"name": "n", "more": 1}), None, Ok(usual));
        let old = json!({"on": false, "count": 3, "word": "b", "name": "n"});
        check(&json!({}), Some(&old), Ok(old.clone()));
        let expected = json!({"on": false, "count": 2, "word": null, "name": "n"});
        check(
            &json!({"count": null, "word": null}),
            Some(&old),
            Ok(expected),
        );
    }

    #[test]
    fn each_wrong_member_is_an_error_of_its_own() {
        let body = json!({"on": "yes", "count": 6, "word": "c"});
        check(
            &body,
            None,
            Err(&[
                "body.on: must be true or false",
                "body.count: must be a whole number from 1 to 5",
                "body.word: must be one of: a, b",
                "body.name: is required",
            ]),
        );
        let body = json!({"on": null, "count": 1.5, "name": "\u{0}"});
        check(
            &body,
            None,
            Err(&[
                "body.on: must not be null",
                "body.count: must be a whole number from 1 to 5",
                "body.name: must not hold control characters",
            ]),
        );
    }

    #[test]
    fn a_list_says_which_item_is_wrong() {
        let mut report = Report::new(7001);
        assert_eq!(texts(&json!(["a", 1, "b", 2]), 4, &mut report), None);
        let failure = report.finish().unwrap_err();
        let paths: Vec<_> = failure.errors.iter().map(|e| e.path.join(".")).collect();
        assert_eq!(paths, ["body.1", "body.3"]);
    }
}
