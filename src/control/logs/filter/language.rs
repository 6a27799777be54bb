//! The short language of dashboard and command line.
//!
//! `status:5xx model:gpt-* cost:>0.01 duration:>2s meta.user:42 -gateway:test after:2h "free text"`
//!
//! Terms are and-ed, commas within a value are or, a leading `-` turns a term around. Texts
//! compare whole and without regard to case, `*` stands for any run of characters unless it is
//! quoted. Numbers take `>`, `>=`, `<`, `<=`, a range `1..5`, or `none` for what is unknown.
//! Values with blanks or commas are quoted. A term without a key is looked for anywhere.

use std::fmt;

use super::{
    Filter, FreeText, Term, Test,
    field::{FlagField, NumberField, TextField, Unit},
    number::{Bound, NumberTest},
    text::Pattern,
};
use crate::domain::outcome::Outcome;

/// Longest filter.
const FILTER_BYTES_MAX: usize = 8 << 10;

/// Most values of a filter, all terms together: each is compared with every record.
pub(super) const VALUES_MAX: usize = 256;

/// Why a filter was refused, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    filter: String,
    /// Byte range of the term.
    at: usize,
    length: usize,
    problem: String,
}

impl FilterError {
    /// What is wrong, in one sentence.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The character at which the wrong part begins, from 1.
    pub fn column(&self) -> usize {
        let before = self.filter.get(..self.at).unwrap_or_default();
        before.chars().count() + 1
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self
            .filter
            .get(self.at..self.at + self.length)
            .unwrap_or_default();
        writeln!(f, "{}", self.problem)?;
        writeln!(f, "  {}", self.filter)?;
        write!(
            f,
            "  {}{}",
            " ".repeat(self.column() - 1),
            "^".repeat(term.chars().count().max(1))
        )
    }
}

impl std::error::Error for FilterError {}

pub(super) fn parse(filter: &str, now_micros: u64) -> Result<Filter, FilterError> {
    let error = |at: usize, length: usize, problem: String| FilterError {
        // One line, and as many bytes, so that the mark below stands where it belongs.
        filter: filter
            .chars()
            .map(|c| if c.is_ascii_control() { ' ' } else { c })
            .collect(),
        at,
        length,
        problem,
    };
    if filter.len() > FILTER_BYTES_MAX {
        let problem = format!("a filter has at most {FILTER_BYTES_MAX} bytes");
        return Err(error(0, 0, problem));
    }
    let mut terms = Vec::new();
    let mut values = 0;
    for word in words(filter) {
        let parsed = word.and_then(|word| {
            values += word.values.len();
            if values > VALUES_MAX {
                return Err(word.error(format!("a filter has at most {VALUES_MAX} values")));
            }
            compile(&word, now_micros)
        });
        match parsed {
            Ok(term) => terms.push(term),
            Err(wrong) => return Err(error(wrong.at, wrong.length, wrong.problem)),
        }
    }
    Ok(Filter::new(terms))
}

/// A term as written.
#[derive(Debug)]
struct Word {
    at: usize,
    length: usize,
    negated: bool,
    key: Option<String>,
    values: Vec<Value>,
}

#[derive(Debug, Default)]
struct Value {
    /// As written, without quotes.
    text: String,
    /// The same, cut at the stars that are not quoted.
    pieces: Vec<String>,
    quoted: bool,
}

#[derive(Debug)]
struct WordError {
    at: usize,
    length: usize,
    problem: String,
}

impl Value {
    fn push(&mut self, c: char) {
        self.text.push(c);
        match self.pieces.last_mut() {
            Some(piece) => piece.push(c),
            None => self.pieces.push(c.into()),
        }
    }

    fn push_star(&mut self) {
        self.text.push('*');
        if self.pieces.is_empty() {
            self.pieces.push(String::new());
        }
        self.pieces.push(String::new());
    }

    fn pattern(&self) -> Pattern {
        Pattern::of_pieces(&self.pieces)
    }
}

impl Word {
    fn error(&self, problem: impl Into<String>) -> WordError {
        WordError {
            at: self.at,
            length: self.length,
            problem: problem.into(),
        }
    }
}

/// Cuts a filter into its terms.
fn words(filter: &str) -> impl Iterator<Item = Result<Word, WordError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = filter.get(at..)?;
        at += rest.len() - rest.trim_start().len();
        let rest = filter.get(at..).filter(|rest| !rest.is_empty())?;
        let word = word(rest, at);
        at = match &word {
            Ok(word) => word.at + word.length,
            Err(_) => filter.len(),
        };
        Some(word)
    })
}

/// Reads the term at the start of `rest`.
fn word(rest: &str, at: usize) -> Result<Word, WordError> {
    let mut chars = rest.char_indices().peekable();
    let negated = chars.next_if(|(_, c)| *c == '-').is_some();
    let mut key = None;
    let mut values = Vec::new();
    let mut value = Value::default();
    let mut length = rest.len();
    while let Some((index, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => {
                length = index;
                break;
            }
            ':' if key.is_none() && !value.quoted && is_key(&value.text) => {
                key = Some(std::mem::take(&mut value).text);
            }
            ',' if key.is_some() => values.push(std::mem::take(&mut value)),
            '*' => value.push_star(),
            '"' => {
                value.quoted = true;
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => {
                            if let Some((_, c)) = chars.next() {
                                value.push(c);
                            }
                        }
                        Some((_, c)) => value.push(c),
                        None => {
                            return Err(WordError {
                                at: at + index,
                                length: rest.len() - index,
                                problem: "this quote is not closed".into(),
                            });
                        }
                    }
                }
            }
            c => value.push(c),
        }
    }
    values.push(value);
    Ok(Word {
        at,
        length,
        negated,
        key,
        values,
    })
}

/// Says whether the text before a colon is a key.
fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The keys that are in no table of their own.
const OTHER_KEYS: [&str; 11] = [
    "after",
    "at",
    "before",
    "feedback",
    "id",
    "meta.NAME",
    "meta_key",
    "meta_value",
    "outcome",
    "since",
    "until",
];

fn compile(word: &Word, now_micros: u64) -> Result<Term, WordError> {
    let test = match word.key.as_deref() {
        None => Test::Free(free_text(word)?),
        Some(key) => compile_key(word, key, now_micros)?,
    };
    Ok(Term {
        negated: word.negated,
        test,
    })
}

fn free_text(word: &Word) -> Result<FreeText, WordError> {
    match word.values.first() {
        Some(value) if !value.text.is_empty() => Ok(FreeText::new(&value.text)),
        _ => Err(word.error("there is nothing to search for here")),
    }
}

fn compile_key(word: &Word, key: &str, now_micros: u64) -> Result<Test, WordError> {
    let is_missing = |value: &Value| value.text.is_empty() && !value.quoted;
    if word.values.iter().any(is_missing) {
        return Err(word.error(format!(
            "`{key}:` needs a value (`{key}:\"\"` for an empty one)"
        )));
    }
    let patterns = || word.values.iter().map(Value::pattern).collect();
    if let Some(name) = key.strip_prefix("meta.") {
        return Ok(Test::Metadata(name.into(), patterns()));
    }
    if let Some((_, field)) = TextField::KEYS.iter().find(|(name, _)| *name == key) {
        return Ok(Test::Text(*field, patterns()));
    }
    if let Some((_, field)) = NumberField::KEYS.iter().find(|(name, _)| *name == key) {
        let tests = word.values.iter().map(|value| number(word, *field, value));
        return Ok(Test::Number(*field, tests.collect::<Result<_, _>>()?));
    }
    if let Some((_, field)) = FlagField::KEYS.iter().find(|(name, _)| *name == key) {
        return match one(word)? {
            "true" | "yes" => Ok(Test::Flag(*field, true)),
            "false" | "no" => Ok(Test::Flag(*field, false)),
            other => Err(word.error(format!("`{other}` is neither `true` nor `false`"))),
        };
    }
    match key {
        "outcome" => outcomes(word).map(Test::Outcome),
        "id" => Ok(Test::Id(word.values.iter().map(id_pattern).collect())),
        "meta_key" => Ok(Test::MetadataKey(patterns())),
        "meta_value" => Ok(Test::MetadataValue(patterns())),
        "feedback" => feedback(word).map(Test::Feedback),
        "after" | "since" => Ok(Test::Time(vec![(time(word, now_micros)?, u64::MAX)])),
        "before" | "until" => Ok(Test::Time(vec![before(time(word, now_micros)?)])),
        "at" => stretches(word, now_micros).map(Test::Time),
        _ => Err(word.error(unknown_key(key))),
    }
}

/// The beginning of an id is enough; quoted it is the whole of one.
fn id_pattern(value: &Value) -> Pattern {
    if value.quoted || value.pieces.len() != 1 {
        return value.pattern();
    }
    Pattern::of_pieces(&[value.text.as_str(), ""])
}

/// All before a moment.
pub(super) fn before(micros: u64) -> (u64, u64) {
    micros.checked_sub(1).map_or(NEVER, |last| (0, last))
}

/// An empty stretch of time.
pub(super) const NEVER: (u64, u64) = (1, 0);

fn one(word: &Word) -> Result<&str, WordError> {
    match word.values.as_slice() {
        [value] => Ok(&value.text),
        _ => Err(word.error("this key takes one value")),
    }
}

fn number(word: &Word, field: NumberField, value: &Value) -> Result<NumberTest, WordError> {
    let unit = field.unit();
    read_number(unit, &value.text).ok_or_else(|| {
        let example = unit.example();
        word.error(format!("`{}` is not {example}", value.text))
    })
}

fn read_number(unit: Unit, text: &str) -> Option<NumberTest> {
    if text == "none" {
        return Some(NumberTest::Unknown);
    }
    if let (Unit::Status, Some(class)) = (unit, text.strip_suffix("xx")) {
        let class: u64 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some(NumberTest::Within(class * 100, class * 100 + 99));
    }
    if let Some(text) = text.strip_prefix(">=") {
        return Some(unit.read(text)?.at_least());
    }
    if let Some(text) = text.strip_prefix('>') {
        return Some(unit.read(text)?.above());
    }
    if let Some(text) = text.strip_prefix("<=") {
        return Some(unit.read(text)?.at_most());
    }
    if let Some(text) = text.strip_prefix('<') {
        return Some(unit.read(text)?.below());
    }
    if let Some((from, to)) = text.split_once("..") {
        return Some(unit.read(from)?.up_to(unit.read(to)?));
    }
    Some(unit.read(text.strip_prefix('=').unwrap_or(text))?.equal())
}

fn outcomes(word: &Word) -> Result<Vec<Outcome>, WordError> {
    let outcome = |value: &Value| {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.word().eq_ignore_ascii_case(&value.text))
            .ok_or_else(|| {
                let known: Vec<_> = Outcome::ALL.iter().map(|o| o.word()).collect();
                let known = known.join(", ");
                word.error(format!("`{}` is no outcome; there are {known}", value.text))
            })
    };
    word.values.iter().map(outcome).collect()
}

fn feedback(word: &Word) -> Result<Vec<Option<i64>>, WordError> {
    let wanted = word.values.iter().map(|value| match value.text.as_str() {
        "up" => Ok(Some(1)),
        "down" => Ok(Some(-1)),
        "none" => Ok(None),
        other => other
            .parse()
            .map(Some)
            .map_err(|_| word.error(format!("`{other}` is no feedback; write up, down or none"))),
    });
    wanted.collect()
}

fn time(word: &Word, now_micros: u64) -> Result<u64, WordError> {
    let text = one(word)?;
    parse_time(text, now_micros).ok_or_else(|| no_time(word, text))
}

fn no_time(word: &Word, text: &str) -> WordError {
    word.error(format!(
        "`{text}` is no time; write `2h`, `2026-11-21` or `2026-11-21T08:00:00Z`"
    ))
}

/// Stretches such as `2h..1h` or `2026-11-21T08:00:00Z..2026-11-21T09:00:00Z`, or moments.
fn stretches(word: &Word, now_micros: u64) -> Result<Vec<(u64, u64)>, WordError> {
    let stretch = |value: &Value| {
        let text = value.text.as_str();
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let read = |text| parse_time(text, now_micros);
        match (read(from), read(to)) {
            (Some(from), Some(to)) if from <= to => Ok((from, to)),
            (Some(_), Some(_)) => Ok(NEVER),
            _ => Err(no_time(word, text)),
        }
    };
    word.values.iter().map(stretch).collect()
}

/// Reads a time: so long ago (`2h`), a day or a moment (RFC 3339, UTC unless it says otherwise).
/// Gives microseconds since the Unix epoch.
pub fn parse_time(text: &str, now_micros: u64) -> Option<u64> {
    if let Some(Bound::Exact(ago) | Bound::Between(ago)) = Bound::duration(text) {
        return Some(now_micros.saturating_sub(ago));
    }
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let local = text.parse::<jiff::civil::DateTime>().ok()?;
        let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    })?;
    Some(u64::try_from(moment.as_microsecond()).unwrap_or(0))
}

fn unknown_key(key: &str) -> String {
    let texts = TextField::KEYS.iter().map(|(name, _)| *name);
    let numbers = NumberField::KEYS.iter().map(|(name, _)| *name);
    let flags = FlagField::KEYS.iter().map(|(name, _)| *name);
    let mut known: Vec<_> = texts
        .chain(numbers)
        .chain(flags)
        .chain(OTHER_KEYS)
        .collect();
    known.sort_unstable();
    format!(
        "`{key}` is no key of a filter; there are {}; quote it to search for it",
        known.join(", ")
    )
}
