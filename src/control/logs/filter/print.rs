//! Prints a filter in the short language, so that reading it gives the same filter again.

use std::fmt::{self, Display, Write};

use super::{
    Filter, Term, Test,
    field::{FlagField, NumberField, TextField, Unit},
    number::NumberTest,
    text::Pattern,
};
use crate::domain::money::PicoDollars;

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            term.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_char('-')?;
        }
        match &self.test {
            Test::Number(field, tests) => {
                key(f, &NumberField::KEYS, *field)?;
                let unit = field.unit();
                list(f, tests, |f, test| number(f, unit, *test))
            }
            Test::Flag(field, wanted) => {
                key(f, &FlagField::KEYS, *field)?;
                wanted.fmt(f)
            }
            Test::Outcome(outcomes) => {
                f.write_str("outcome:")?;
                list(f, outcomes, |f, outcome| f.write_str(outcome.word()))
            }
            Test::Time(stretches) => times(f, stretches),
            Test::Id(patterns) => {
                f.write_str("id:")?;
                // Quoted, since an id without a star and quotes is the beginning of one.
                list(f, patterns, |f, pattern| {
                    pieces(f, pattern, pattern.as_exact().is_some())
                })
            }
            Test::Gateway(id) => {
                f.write_str("gateway:")?;
                quoted(f, id)
            }
            Test::Text(field, patterns) => {
                key(f, &TextField::KEYS, *field)?;
                list(f, patterns, |f, pattern| pieces(f, pattern, false))
            }
            Test::MetadataKey(patterns) => {
                f.write_str("meta_key:")?;
                list(f, patterns, |f, pattern| pieces(f, pattern, false))
            }
            Test::MetadataValue(patterns) => {
                f.write_str("meta_value:")?;
                list(f, patterns, |f, pattern| pieces(f, pattern, false))
            }
            Test::Metadata(name, patterns) => {
                write!(f, "meta.{name}:")?;
                list(f, patterns, |f, pattern| pieces(f, pattern, false))
            }
            Test::Feedback(wanted) => {
                f.write_str("feedback:")?;
                list(f, wanted, |f, wanted| match wanted {
                    Some(1) => f.write_str("up"),
                    Some(-1) => f.write_str("down"),
                    Some(other) => other.fmt(f),
                    None => f.write_str("none"),
                })
            }
            Test::Free(free) => quoted(f, &free.text),
        }
    }
}

fn key<F: Copy + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    keys: &[(&str, F)],
    field: F,
) -> fmt::Result {
    let found = keys.iter().find(|(_, other)| *other == field);
    write!(f, "{}:", found.map_or("", |(name, _)| name))
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    values: &[T],
    print: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        print(f, value)?;
    }
    Ok(())
}

fn number(f: &mut fmt::Formatter<'_>, unit: Unit, test: NumberTest) -> fmt::Result {
    let one = |f: &mut fmt::Formatter<'_>, number: u64| match unit {
        Unit::Dollars => PicoDollars(number).fmt(f),
        Unit::Time => write!(f, "{number}us"),
        Unit::Status | Unit::Count => number.fmt(f),
    };
    match test {
        NumberTest::Unknown => f.write_str("none"),
        NumberTest::Within(from, to) if from > to => {
            f.write_char('<')?;
            one(f, 0)
        }
        NumberTest::Within(from, to) if from == to => one(f, from),
        NumberTest::Within(from, u64::MAX) => {
            f.write_str(">=")?;
            one(f, from)
        }
        NumberTest::Within(0, to) => {
            f.write_str("<=")?;
            one(f, to)
        }
        NumberTest::Within(from, to) => {
            one(f, from)?;
            f.write_str("..")?;
            one(f, to)
        }
    }
}

fn times(f: &mut fmt::Formatter<'_>, stretches: &[(u64, u64)]) -> fmt::Result {
    match stretches {
        [(from, u64::MAX)] => write!(f, "after:{}", moment(*from)),
        [(0, to)] => write!(f, "before:{}", moment(to.saturating_add(1))),
        [(from, to)] if from > to => write!(f, "before:{}", moment(0)),
        stretches => {
            f.write_str("at:")?;
            list(f, stretches, |f, (from, to)| {
                write!(f, "{}..{}", moment(*from), moment(*to))
            })
        }
    }
}

/// A moment to the microsecond. Those beyond the calendar are its end.
fn moment(micros: u64) -> jiff::Timestamp {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
}

fn pieces(f: &mut fmt::Formatter<'_>, pattern: &Pattern, quote: bool) -> fmt::Result {
    for (index, piece) in pattern.pieces().iter().enumerate() {
        if index > 0 {
            f.write_char('*')?;
        }
        let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | ',' | '*');
        if quote || !piece.chars().all(is_plain) {
            quoted(f, piece)?;
        } else {
            f.write_str(piece)?;
        }
    }
    if pattern.as_exact() == Some("") && !quote {
        return f.write_str("\"\"");
    }
    Ok(())
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
