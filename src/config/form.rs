//! Reads the text into its mirror: TOML at all, keys that exist, values of the right kind.
//!
//! A key that is unknown or of the wrong kind is reported, taken out, and reading goes on, so
//! that one slip does not hide the next.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::File;
use super::limit::PROBLEMS_MAX;
use super::word::nearest;

/// Something wrong with the file's form: where, what, and what to do.
#[derive(Debug)]
pub(super) struct FormProblem {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// What is wrong; holds no value of the file.
    pub(super) message: String,
    /// What to do; may be empty.
    pub(super) help: String,
}

/// What reading gave: all that could be understood, and what could not.
#[derive(Debug)]
pub(super) struct Read<'a> {
    /// The mirror, without what `problems` names.
    pub(super) file: File,
    /// The text as a tree, for finding a place's path and where secrets stand.
    pub(super) tree: DeTable<'a>,
    /// Whether the text is no TOML: then the tree has gaps and `file` is empty.
    pub(super) broken: bool,
    /// What is wrong with the form.
    pub(super) problems: Vec<FormProblem>,
}

/// Reads the text. Where it is not TOML at all, nothing but that is reported.
pub(super) fn read(text: &str) -> Read<'_> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let tree = tree.into_inner();
    if !errors.is_empty() {
        return Read {
            file: File::default(),
            tree,
            broken: true,
            problems: syntax_problems(text, &errors),
        };
    }
    let mut problems = Vec::new();
    let mut rest = tree.clone();
    while problems.len() < PROBLEMS_MAX {
        let attempt = toml::de::Deserializer::from(Spanned::new(0..0, rest.clone()));
        let error = match File::deserialize(attempt) {
            Ok(file) => {
                return Read {
                    file,
                    tree,
                    broken: false,
                    problems,
                };
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let kind = kind_at(&rest, &span);
        problems.push(form_problem(span.clone(), error.message(), kind));
        if !remove(&mut rest, &span) {
            break;
        }
    }
    Read {
        file: File::default(),
        tree,
        broken: false,
        problems,
    }
}

/// One problem for each line that does not parse: the first of a line has the cause.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<FormProblem> {
    let start = text.len() - text.trim_start().len();
    if text[start..].starts_with('{') {
        return vec![FormProblem {
            span: start..start + 1,
            message: "this looks like JSON, and the file is TOML".to_owned(),
            help: "write keys as `listen = \"127.0.0.1:8787\"`, tables as `[limits]`".to_owned(),
        }];
    }
    let mut problems: Vec<FormProblem> = Vec::new();
    let mut last_line = None;
    for error in errors.iter().take(PROBLEMS_MAX) {
        let span = error.span().unwrap_or(0..0);
        let line = text
            .get(..span.start)
            .map(|before| before.matches('\n').count());
        if line == last_line && line.is_some() {
            continue;
        }
        last_line = line;
        let duplicate = error.message() == "duplicate key";
        problems.push(FormProblem {
            span,
            message: if duplicate {
                "this key or table is already there".to_owned()
            } else {
                format!("not valid TOML: {}", error.message())
            },
            help: if duplicate {
                "keep one of the two".to_owned()
            } else {
                String::new()
            },
        });
    }
    problems
}

/// Words the reader's error anew: its own text may quote the value, which may be a secret.
fn form_problem(span: Range<usize>, message: &str, kind: Option<&'static str>) -> FormProblem {
    let expected = message.rsplit_once(", expected ").map(|(_, tail)| tail);
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (key, known) = rest
            .rsplit_once("`, expected ")
            .or_else(|| rest.rsplit_once("`, there are "))
            .unwrap_or((rest, ""));
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let help = match nearest(key, &known) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        return FormProblem {
            span,
            message: "this key is not known".to_owned(),
            help,
        };
    }
    let expected = match expected {
        Some("a string") => "text in quotes",
        Some("a boolean") => "true or false",
        Some("i64") => "a whole number",
        Some("a sequence") => "a list",
        Some("a map") => "a table",
        Some(other) if other.starts_with("struct ") => "a table",
        Some(other) => other,
        None => "",
    };
    let found = match kind {
        Some("integer") if message.starts_with("invalid value") => "a number that is too large",
        Some("integer") => "a whole number",
        Some("float") => "a number with a fraction",
        Some("boolean") => "true or false",
        Some("string") => "text",
        Some("array") => "a list",
        Some("table") => "a table",
        Some("datetime") => "a date or time",
        _ => "not of the right kind",
    };
    FormProblem {
        span,
        message: format!("this is {found}"),
        help: match expected {
            "" => String::new(),
            expected => format!("write {expected}"),
        },
    }
}

/// The kind of the value that stands exactly at `span`.
fn kind_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<&'static str> {
    fn within(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<&'static str> {
        if value.span() == *span {
            return Some(value.get_ref().type_str());
        }
        match value.get_ref() {
            DeValue::Array(items) => items.iter().find_map(|item| within(item, span)),
            DeValue::Table(table) => kind_at(table, span),
            _ => None,
        }
    }
    table.iter().find_map(|(_, value)| within(value, span))
}

/// Takes out the entry whose key or value stands exactly at `span`. Says whether there was one.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let found = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span)
        .map(|(key, _)| key.get_ref().to_string());
    if let Some(key) = found {
        return table.remove(key.as_str()).is_some();
    }
    table
        .iter_mut()
        .any(|(_, value)| remove_within(value, span))
}

fn remove_within(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => remove(table, span),
        DeValue::Array(items) => {
            if !items.iter().any(|item| item.span() == *span) {
                return items.iter_mut().any(|item| remove_within(item, span));
            }
            for item in std::mem::replace(items, DeArray::new()) {
                if item.span() != *span {
                    items.push(item);
                }
            }
            true
        }
        _ => false,
    }
}
