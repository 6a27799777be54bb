//! The filter language of dashboard, command line and API.
//!
//! `status:5xx model:gpt-* cost:>0.01 duration:>2s meta.user:42 -gateway:test after:2h "free text"`
//!
//! Terms are and-ed, commas within a value are or, a leading `-` turns a term around. Texts
//! compare whole and without regard to case, `*` stands for any run of characters. Numbers take
//! `>`, `>=`, `<`, `<=`, a range `1..5`, or `none` for what is unknown. Values with blanks or
//! commas are quoted. A term without a key is searched for in path, model, error and metadata.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use crate::domain::{
    money,
    outcome::Outcome,
    record::{ArchivedRecord, Text, flag},
};

/// Longest filter.
const FILTER_BYTES_MAX: usize = 8 << 10;

/// Most values of a filter, all terms together: each is compared with every record.
const VALUES_MAX: usize = 256;

/// A compiled filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Cheap terms come first.
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Number(NumberKey, Vec<NumberTest>),
    Flag(u32, bool),
    Outcome(Vec<Outcome>),
    Time(TimeTest),
    Id(Vec<String>),
    Event(Vec<Glob>),
    Text(Text, Vec<Glob>),
    Metadata(String, Vec<Glob>),
    Free(String),
}

impl Test {
    /// How dear it is to ask, by order of magnitude.
    fn rank(&self) -> u8 {
        match self {
            Self::Number(..) | Self::Flag(..) | Self::Outcome(_) | Self::Time(_) => 0,
            Self::Id(_) | Self::Event(_) | Self::Text(..) => 1,
            Self::Free(_) => 2,
            Self::Metadata(..) => 3,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum NumberKey {
    Status,
    Cost,
    Tokens,
    TokensIn,
    TokensOut,
    Duration,
    Ttft,
    Overhead,
    Step,
    Attempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberTest {
    Within(u64, u64),
    Unknown,
}

#[derive(Debug, Clone, Copy)]
enum TimeTest {
    After(u64),
    Before(u64),
}

/// Why a filter was refused, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    filter: String,
    /// Byte range of the term.
    at: usize,
    length: usize,
    problem: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.filter.get(..self.at).unwrap_or_default();
        let term = self
            .filter
            .get(self.at..self.at + self.length)
            .unwrap_or_default();
        writeln!(f, "{}", self.problem)?;
        writeln!(f, "  {}", self.filter)?;
        write!(
            f,
            "  {}{}",
            " ".repeat(before.chars().count()),
            "^".repeat(term.chars().count().max(1))
        )
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Compiles `filter`; times such as `2h` are counted back from `now_micros` (Unix epoch).
    pub fn parse(filter: &str, now_micros: u64) -> Result<Self, FilterError> {
        let error = |at: usize, length: usize, problem: String| FilterError {
            // One line, so that the mark below stands where it belongs.
            filter: filter.replace(char::is_control, " "),
            at,
            length,
            problem,
        };
        if filter.len() > FILTER_BYTES_MAX {
            return Err(error(
                0,
                0,
                format!("a filter has at most {FILTER_BYTES_MAX} bytes"),
            ));
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
        terms.sort_by_key(|term| term.test.rank());
        Ok(Self { terms })
    }

    /// Says whether the record passes.
    pub fn matches(&self, record: &ArchivedRecord) -> bool {
        self.terms
            .iter()
            .all(|term| term.test.passes(record) != term.negated)
    }

    /// The times at which a record that passes can have begun: what lies outside needs no look.
    pub fn micros(&self) -> RangeInclusive<u64> {
        let (mut from, mut to) = (0, u64::MAX);
        for term in self.terms.iter().filter(|term| !term.negated) {
            match term.test {
                Test::Time(TimeTest::After(time)) => from = from.max(time),
                Test::Time(TimeTest::Before(time)) => to = to.min(time),
                _ => {}
            }
        }
        from..=to
    }

    /// Adds the terms of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self.terms.sort_by_key(|term| term.test.rank());
        self
    }
}

impl Test {
    fn passes(&self, record: &ArchivedRecord) -> bool {
        match self {
            Self::Number(key, tests) => {
                let number = key.of(record);
                tests.iter().any(|test| test.passes(number))
            }
            Self::Flag(bit, wanted) => (record.flags.to_native() & bit != 0) == *wanted,
            Self::Outcome(outcomes) => {
                let outcome = Outcome::from_number(record.outcome);
                outcomes.iter().any(|wanted| Some(*wanted) == outcome)
            }
            Self::Time(TimeTest::After(time)) => record.at_micros.to_native() >= *time,
            Self::Time(TimeTest::Before(time)) => record.at_micros.to_native() < *time,
            Self::Id(prefixes) => {
                let text = crate::domain::id::RequestId(record.id).text();
                prefixes
                    .iter()
                    .any(|prefix| text.starts_with(prefix.as_bytes()))
            }
            Self::Event(globs) => {
                let event = record.texts.get(Text::EventId);
                let own = crate::domain::id::RequestId(record.id).text();
                let event = if event.is_empty() { &own } else { event };
                any(globs, event)
            }
            Self::Text(text, globs) => any(globs, record.texts.get(*text)),
            Self::Metadata(name, globs) => {
                let metadata = record.texts.get(Text::Metadata);
                metadata_value(metadata, name).is_some_and(|value| any(globs, value.as_bytes()))
            }
            Self::Free(needle) => [Text::Path, Text::Model, Text::Error, Text::Metadata]
                .into_iter()
                .any(|text| contains(record.texts.get(text), needle.as_bytes())),
        }
    }
}

fn any(globs: &[Glob], text: &[u8]) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

impl NumberKey {
    fn of(self, record: &ArchivedRecord) -> Option<u64> {
        let number = |field: &rkyv::option::ArchivedOption<rkyv::rend::u64_le>| {
            field.as_ref().map(|number| number.to_native())
        };
        match self {
            Self::Status => match record.status.to_native() {
                0 => None,
                status => Some(u64::from(status)),
            },
            Self::Cost => number(&record.cost),
            Self::Tokens => {
                let input = number(&record.tokens_input);
                let output = number(&record.tokens_output);
                match (input, output) {
                    (None, None) => None,
                    (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
                }
            }
            Self::TokensIn => number(&record.tokens_input),
            Self::TokensOut => number(&record.tokens_output),
            Self::Duration => Some(record.duration_micros.to_native()),
            Self::Ttft => number(&record.first_token_micros),
            Self::Overhead => Some(record.overhead_micros.to_native()),
            Self::Step => Some(u64::from(record.step)),
            Self::Attempt => Some(u64::from(record.attempt)),
        }
    }

    /// Reads one number in the key's own unit.
    fn parse(self, text: &str) -> Option<u64> {
        match self {
            Self::Cost => money::parse_dollars(text).map(|cost| cost.0),
            Self::Duration | Self::Ttft | Self::Overhead => duration_micros(text),
            Self::Status
            | Self::Tokens
            | Self::TokensIn
            | Self::TokensOut
            | Self::Step
            | Self::Attempt => count(text),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Status => "`200`, `5xx` or `>=400`",
            Self::Cost => "dollars such as `>0.01`",
            Self::Duration | Self::Ttft | Self::Overhead => {
                "a time such as `>2s`, `250ms` or `1m..5m`"
            }
            Self::Tokens | Self::TokensIn | Self::TokensOut | Self::Step | Self::Attempt => {
                "a number such as `>4000` or `1..5`"
            }
        }
    }
}

/// Digits, with `k` or `M` for thousands and millions.
fn count(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => text
            .strip_suffix('M')
            .map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A time such as `2s`, `1.5s`, `250ms`, `2h`; at least one unit.
fn duration_micros(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32, u64); 6] = [
        // The unit, the power of ten it has in microseconds, and the factor beyond.
        ("us", 0, 1),
        ("ms", 3, 1),
        ("s", 6, 1),
        ("m", 6, 60),
        ("h", 6, 3_600),
        ("d", 6, 86_400),
    ];
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (digits, unit) = text.split_at(digits_end);
    let (_, power, factor) = UNITS.into_iter().find(|(name, ..)| *name == unit)?;
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = part.get(..part.len().min(power as usize))?;
    let whole: u64 = whole.parse().ok()?;
    let fraction = match part {
        "" => 0,
        part => part
            .parse::<u64>()
            .ok()?
            .checked_mul(10u64.pow(power - u32::try_from(part.len()).ok()?))?,
    };
    whole
        .checked_mul(10u64.pow(power))?
        .checked_add(fraction)?
        .checked_mul(factor)
}

impl NumberTest {
    fn parse(key: NumberKey, text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::Unknown);
        }
        if let (NumberKey::Status, Some(class)) = (key, text.strip_suffix("xx")) {
            let class = count(class).filter(|class| (1..=9).contains(class))?;
            return Some(Self::Within(class * 100, class * 100 + 99));
        }
        if let Some(text) = text.strip_prefix(">=") {
            return Some(Self::Within(key.parse(text)?, u64::MAX));
        }
        if let Some(text) = text.strip_prefix('>') {
            return Some(Self::Within(key.parse(text)?.checked_add(1)?, u64::MAX));
        }
        if let Some(text) = text.strip_prefix("<=") {
            return Some(Self::Within(0, key.parse(text)?));
        }
        if let Some(text) = text.strip_prefix('<') {
            return Some(match key.parse(text)? {
                0 => Self::Within(1, 0), // nothing is below zero
                bound => Self::Within(0, bound - 1),
            });
        }
        if let Some((from, to)) = text.split_once("..") {
            return Some(Self::Within(key.parse(from)?, key.parse(to)?));
        }
        let number = key.parse(text.strip_prefix('=').unwrap_or(text))?;
        Some(Self::Within(number, number))
    }

    fn passes(self, number: Option<u64>) -> bool {
        match (self, number) {
            (Self::Within(from, to), Some(number)) => (from..=to).contains(&number),
            (Self::Unknown, None) => true,
            (Self::Within(..), None) | (Self::Unknown, Some(_)) => false,
        }
    }
}

/// A text with `*` for any run of characters; compares without regard to ASCII case.
#[derive(Debug, Clone)]
struct Glob {
    /// The literal pieces between the stars, in lower case.
    pieces: Vec<Vec<u8>>,
}

impl Glob {
    fn new(value: &Value) -> Self {
        let text = value.text.to_ascii_lowercase();
        let pieces = if value.quoted {
            vec![text.into_bytes()]
        } else {
            text.split('*').map(Into::into).collect()
        };
        Self { pieces }
    }

    fn matches(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return text.is_empty();
        };
        let Some((last, middle)) = rest.split_last() else {
            return text.eq_ignore_ascii_case(first);
        };
        // Taking each piece at its first place is enough: pieces are literal.
        let Some(mut left) = strip_start(text, first) else {
            return false;
        };
        for piece in middle {
            match find(left, piece) {
                Some(at) => left = left.get(at + piece.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        left.len() >= last.len()
            && left
                .get(left.len() - last.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(last))
    }
}

fn strip_start<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// Finds `needle`, which is in lower case.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let Some(first) = needle.first() else {
        return Some(0);
    };
    let upper = first.to_ascii_uppercase();
    memchr::memchr2_iter(*first, upper, text).find(|at| {
        text.get(*at..*at + needle.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(needle))
    })
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    find(text, needle).is_some()
}

/// The value of one member of a metadata object, as text.
pub fn metadata_value<'a>(metadata: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    if metadata.is_empty() {
        return None;
    }
    let object: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    match object.get(name)? {
        serde_json::Value::String(text) => Some(Cow::Owned(text.clone())),
        serde_json::Value::Null => None,
        other => Some(Cow::Owned(other.to_string())),
    }
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

#[derive(Debug)]
struct Value {
    text: String,
    quoted: bool,
}

#[derive(Debug)]
struct WordError {
    at: usize,
    length: usize,
    problem: String,
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
    let mut value = Value {
        text: String::new(),
        quoted: false,
    };
    let mut length = rest.len();
    while let Some((index, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => {
                length = index;
                break;
            }
            ':' if key.is_none() && !value.quoted && is_key(&value.text) => {
                key = Some(std::mem::take(&mut value.text));
            }
            ',' if key.is_some() => values.push(std::mem::replace(
                &mut value,
                Value {
                    text: String::new(),
                    quoted: false,
                },
            )),
            '"' => {
                value.quoted = true;
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => value.text.extend(chars.next().map(|(_, c)| c)),
                        Some((_, c)) => value.text.push(c),
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
            c => value.text.push(c),
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

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Every key with a text behind it.
const TEXT_KEYS: [(&str, Text); 10] = [
    ("model", Text::Model),
    ("provider", Text::Provider),
    ("gateway", Text::Gateway),
    ("key", Text::Key),
    ("method", Text::Method),
    ("path", Text::Path),
    ("user_agent", Text::UserAgent),
    ("error", Text::Error),
    ("name", Text::ModelName),
    ("upstream_id", Text::UpstreamRequestId),
];

/// Every key with a number behind it.
const NUMBER_KEYS: [(&str, NumberKey); 11] = [
    ("status", NumberKey::Status),
    ("cost", NumberKey::Cost),
    ("tokens", NumberKey::Tokens),
    ("tokens_in", NumberKey::TokensIn),
    ("tokens_out", NumberKey::TokensOut),
    ("duration", NumberKey::Duration),
    ("ttft", NumberKey::Ttft),
    ("first_token", NumberKey::Ttft),
    ("overhead", NumberKey::Overhead),
    ("step", NumberKey::Step),
    ("attempt", NumberKey::Attempt),
];

/// Every key with a yes or no behind it.
const FLAG_KEYS: [(&str, u32); 5] = [
    ("cached", flag::CACHED),
    ("stream", flag::STREAM),
    ("authenticated", flag::AUTHENTICATED),
    ("web_socket", flag::WEB_SOCKET),
    ("custom_cost", flag::CUSTOM_COST),
];

/// The other keys.
const OTHER_KEYS: [&str; 8] = [
    "outcome",
    "id",
    "event",
    "after",
    "since",
    "before",
    "until",
    "meta.NAME",
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

fn free_text(word: &Word) -> Result<String, WordError> {
    match word.values.first() {
        Some(value) if !value.text.is_empty() => Ok(value.text.to_ascii_lowercase()),
        _ => Err(word.error("there is nothing to search for here")),
    }
}

fn compile_key(word: &Word, key: &str, now_micros: u64) -> Result<Test, WordError> {
    if word
        .values
        .iter()
        .any(|value| value.text.is_empty() && !value.quoted)
    {
        return Err(word.error(format!(
            "`{key}:` needs a value (`{key}:\"\"` for an empty one)"
        )));
    }
    let globs = || word.values.iter().map(Glob::new).collect();
    if let Some(name) = key.strip_prefix("meta.") {
        return Ok(Test::Metadata(name.into(), globs()));
    }
    if let Some((_, text)) = TEXT_KEYS.iter().find(|(name, _)| *name == key) {
        return Ok(Test::Text(*text, globs()));
    }
    if let Some((_, number)) = NUMBER_KEYS.iter().find(|(name, _)| *name == key) {
        let tests = word.values.iter().map(|value| {
            NumberTest::parse(*number, &value.text).ok_or_else(|| {
                let example = number.example();
                word.error(format!("`{}` is not {example}", value.text))
            })
        });
        return Ok(Test::Number(*number, tests.collect::<Result<_, _>>()?));
    }
    if let Some((_, bit)) = FLAG_KEYS.iter().find(|(name, _)| *name == key) {
        return match one(word)? {
            "true" | "yes" => Ok(Test::Flag(*bit, true)),
            "false" | "no" => Ok(Test::Flag(*bit, false)),
            other => Err(word.error(format!("`{other}` is neither `true` nor `false`"))),
        };
    }
    match key {
        "outcome" => outcomes(word).map(Test::Outcome),
        "event" => Ok(Test::Event(globs())),
        "id" => Ok(Test::Id(
            word.values
                .iter()
                .map(|value| value.text.to_ascii_lowercase())
                .collect(),
        )),
        "after" | "since" => time(word, now_micros).map(|at| Test::Time(TimeTest::After(at))),
        "before" | "until" => time(word, now_micros).map(|at| Test::Time(TimeTest::Before(at))),
        _ => Err(word.error(unknown_key(key))),
    }
}

fn one(word: &Word) -> Result<&str, WordError> {
    match word.values.as_slice() {
        [value] => Ok(&value.text),
        _ => Err(word.error("this key takes one value")),
    }
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

fn time(word: &Word, now_micros: u64) -> Result<u64, WordError> {
    let text = one(word)?;
    parse_time(text, now_micros).ok_or_else(|| {
        word.error(format!(
            "`{text}` is no time; write `2h`, `2026-11-21` or `2026-11-21T08:00:00Z`"
        ))
    })
}

/// Reads a time: so long ago (`2h`), a day or a moment (RFC 3339, UTC unless it says otherwise).
/// Gives microseconds since the Unix epoch.
pub fn parse_time(text: &str, now_micros: u64) -> Option<u64> {
    if let Some(ago) = duration_micros(text) {
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
    let texts = TEXT_KEYS.iter().map(|(name, _)| *name);
    let numbers = NUMBER_KEYS.iter().map(|(name, _)| *name);
    let flags = FLAG_KEYS.iter().map(|(name, _)| *name);
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

#[cfg(test)]
mod tests;
