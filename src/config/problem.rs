//! Problems as the operator meets them: where, what, what to do; never with a secret in them.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::redact::{clipped, comment_start, hidden_by_guess, hidden_by_tree, printable};

/// One thing that is wrong, or (in a list of warnings) worth knowing.
///
/// Prints as `tidegate.toml:12:9: limits.head_timeout: …`, the source line with a caret under the
/// spot, and what to do. Serialises without the source line, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name, or the variable or flag that has the problem.
    pub origin: String,
    /// Line in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The key's path: `gateways.default.cache_ttl`; empty outside of keys.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty where the message says it all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub help: String,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// A source line made safe to print, and where its caret goes, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    at: usize,
    length: usize,
}

impl Problem {
    /// A problem of a variable, a flag, or a file as a whole.
    pub fn elsewhere(origin: &str, message: String, help: String) -> Self {
        Self {
            origin: origin.to_owned(),
            line: None,
            column: None,
            path: String::new(),
            message,
            help,
            excerpt: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        let mut gutter = 1;
        if let (Some(excerpt), Some(line)) = (&self.excerpt, self.line) {
            let number = line.to_string();
            gutter = number.len();
            write!(f, "\n{:gutter$} |\n{number} | {}", "", excerpt.text)?;
            let (at, length) = (excerpt.at, excerpt.length);
            write!(f, "\n{:gutter$} | {:at$}{:^<length$}", "", "", "^")?;
        }
        if !self.help.is_empty() {
            write!(f, "\n{:gutter$} = {}", "", self.help)?;
        }
        Ok(())
    }
}

/// All that is wrong, in the order of the file; never empty where it is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The text that problems point into.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    pub(super) tree: &'a DeTable<'a>,
    /// Set where the text does not parse, so that the tree cannot say where secrets stand.
    pub(super) broken: bool,
}

impl Source<'_> {
    /// A problem at these bytes of the text.
    pub(super) fn problem(&self, span: Range<usize>, message: String, help: String) -> Problem {
        let path = self.path(&span);
        let start = floor(self.text, span.start);
        let end = floor(self.text, span.end).max(start);
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_number = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Problem {
            origin: self.name.to_owned(),
            line: Some(line_number),
            column: Some(column),
            path,
            message,
            help,
            excerpt: Some(self.excerpt(line_start, start..end)),
        }
    }

    /// The path of the key or value at these bytes; empty where there is none.
    pub(super) fn path(&self, span: &Range<usize>) -> String {
        if self.broken {
            String::new()
        } else {
            path_at(self.tree, span).unwrap_or_default()
        }
    }

    fn excerpt(&self, line_start: usize, span: Range<usize>) -> Excerpt {
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let mut place = line_start..line_start + line.len();
        let hidden = if self.broken {
            Vec::from_iter(hidden_by_guess(self.text, &place))
        } else {
            if let Some(at) = comment_start(self.tree, self.text, &place) {
                place.end = at;
            }
            hidden_by_tree(self.tree, &place)
        };
        let line = self.text.get(place).unwrap_or_default().trim_end();
        let mut text = String::new();
        let mut count = 0;
        let mut at = None;
        let mut end = 0;
        let mut masked_until = 0;
        for (offset, letter) in line.char_indices() {
            let position = line_start + offset;
            if position >= span.start && at.is_none() {
                at = Some(count);
            }
            if let Some(range) = hidden.iter().find(|range| range.contains(&position)) {
                if masked_until != range.end {
                    masked_until = range.end;
                    text.push_str("***");
                    count += 3;
                }
            } else {
                text.push(printable(letter));
                count += 1;
            }
            if position < span.end {
                end = count;
            }
        }
        let at = at.unwrap_or(count);
        clip(&text, at, end.saturating_sub(at).max(1))
    }
}

/// Characters of a source line that are shown; longer ones are cut around the spot.
const EXCERPT_CHARS_MAX: usize = 120;

/// Characters kept in front of the spot of a line that is cut.
const EXCERPT_LEAD: usize = 40;

fn clip(text: &str, at: usize, length: usize) -> Excerpt {
    let count = text.chars().count();
    if count <= EXCERPT_CHARS_MAX {
        return Excerpt {
            text: text.to_owned(),
            at,
            length,
        };
    }
    let skip = at.saturating_sub(EXCERPT_LEAD);
    let mut kept = String::new();
    if skip > 0 {
        kept.push('…');
    }
    kept.extend(text.chars().skip(skip).take(EXCERPT_CHARS_MAX));
    if skip + EXCERPT_CHARS_MAX < count {
        kept.push('…');
    }
    let at = at - skip + usize::from(skip > 0);
    Excerpt {
        text: kept,
        at,
        length: length.min(EXCERPT_CHARS_MAX.saturating_sub(at)).max(1),
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The path of the entry whose key or value stands exactly at `span`.
fn path_at(tree: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let mut steps = Vec::new();
    find_table(tree, span, &mut steps).then(|| {
        let mut path = String::new();
        for step in steps {
            match step {
                Step::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    push_key(&mut path, key);
                }
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        path
    })
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn push_key(path: &mut String, key: &str) {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare {
        path.push_str(&clipped(key));
    } else {
        path.extend(["\"", &clipped(key), "\""]);
    }
}

fn find_table<'t>(table: &'t DeTable<'_>, span: &Range<usize>, steps: &mut Vec<Step<'t>>) -> bool {
    for (key, value) in table {
        steps.push(Step::Key(key.get_ref()));
        if key.span() == *span || find_value(value, span, steps) {
            return true;
        }
        steps.pop();
    }
    false
}

fn find_value<'t>(
    value: &'t Spanned<DeValue<'_>>,
    span: &Range<usize>,
    steps: &mut Vec<Step<'t>>,
) -> bool {
    // The span of `[[tables]]` is that of its first element, which is what is meant.
    let items = value.get_ref().as_array();
    let doubled = items.and_then(|items| items.first()).map(Spanned::span) == Some(value.span());
    if value.span() == *span && !doubled {
        return true;
    }
    match value.get_ref() {
        DeValue::Table(table) => find_table(table, span, steps),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                steps.push(Step::Index(index));
                if find_value(item, span, steps) {
                    return true;
                }
                steps.pop();
            }
            false
        }
        _ => false,
    }
}
