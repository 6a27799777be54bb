//! Single keys: one method for each kind of value, and what is said when it is not one.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use crate::config::file::{AmountText, DurationText, Field, SizeText};
use crate::config::limit::{self, Bound};
use crate::config::redact::shown;
use crate::config::secret::{Reference, ReferenceError, Secret, SecretError};
use crate::config::unit;
use crate::config::word::nearest;
use crate::domain::money::{PicoDollars, parse_dollars};

use super::Checker;

impl Checker<'_, '_> {
    pub(super) fn problem(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.report
            .problem(span, message.to_owned(), help.to_owned());
    }

    /// A key that has to be there; stands for whatever value it would have had.
    pub(super) fn missing<T>(&mut self, span: Range<usize>, name: &str, help: &str) -> Option<T> {
        if !self.report.was_taken_out(&span, name) {
            self.problem(span, &format!("`{name}` is missing"), help);
        }
        None
    }

    pub(super) fn number(
        &mut self,
        field: &Field<i64>,
        range: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let field = field.as_ref()?;
        let number = u64::try_from(*field.get_ref()).ok();
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let message = format!("must be from {} to {}", range.start(), range.end());
        self.problem(field.span(), &message, "");
        None
    }

    pub(super) fn duration(
        &mut self,
        field: &Field<DurationText>,
        bound: &Bound<Duration>,
    ) -> Duration {
        let Some(field) = field else {
            return bound.default;
        };
        let text = &field.get_ref().0;
        match unit::duration(text) {
            Ok(value) if bound.holds(&value) => return value,
            Ok(_) => {
                let (min, max) = (
                    unit::duration_text(bound.min),
                    unit::duration_text(bound.max),
                );
                let message = format!("must be from {min} to {max}");
                self.problem(field.span(), &message, "");
            }
            Err(error) => {
                let message = format!("{} is not a duration: {error}", shown(text));
                self.problem(field.span(), &message, unit::DURATION_HELP);
            }
        }
        bound.default
    }

    pub(super) fn size(&mut self, field: &Field<SizeText>, bound: &Bound<u64>) -> u64 {
        let Some(field) = field else {
            return bound.default;
        };
        let text = &field.get_ref().0;
        match unit::size(text) {
            Ok(value) if bound.holds(&value) => return value,
            Ok(_) => {
                let (min, max) = (unit::size_text(bound.min), unit::size_text(bound.max));
                let message = format!("must be from {min} to {max}");
                self.problem(field.span(), &message, "");
            }
            Err(error) => {
                let message = format!("{} is not a size: {error}", shown(text));
                self.problem(field.span(), &message, unit::SIZE_HELP);
            }
        }
        bound.default
    }

    pub(super) fn word<T: Copy>(
        &mut self,
        field: &Field<String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.one_word(field.as_ref()?, words)
    }

    pub(super) fn one_word<T: Copy>(
        &mut self,
        field: &Spanned<String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = field.get_ref();
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(text, &known) {
            Some(word) => format!("did you mean \"{word}\"? (one of {})", known.join(", ")),
            None if known.len() == 1 => format!("write \"{}\"", known.join("")),
            None => format!("write one of {}", known.join(", ")),
        };
        let message = format!("{} is not known here", shown(text));
        self.problem(field.span(), &message, &help);
        None
    }

    /// A name for people: one line, bounded.
    pub(super) fn name(&mut self, field: &Spanned<String>) -> Option<String> {
        let text = field.get_ref();
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count())
            && !text.contains(char::is_control)
            && text.trim() == text;
        if fits {
            return Some(text.clone());
        }
        let help = format!("write 1 to {NAME_CHARS_MAX} characters on one line");
        self.problem(field.span(), "this cannot be a name", &help);
        None
    }

    pub(super) fn names(&mut self, field: &Field<Vec<Spanned<String>>>) -> Option<Vec<String>> {
        let field = field.as_ref()?;
        if field.get_ref().len() > limit::LIST_MAX {
            let message = format!("more than {} entries", limit::LIST_MAX);
            self.problem(field.span(), &message, "");
            return None;
        }
        let names = field.get_ref().iter().map(|name| self.name(name));
        names.collect()
    }

    /// A path, relative ones starting at the file's folder.
    pub(super) fn path(&mut self, field: &Field<String>) -> Option<PathBuf> {
        let field = field.as_ref()?;
        let text = field.get_ref();
        if (1..=4096).contains(&text.len()) && !text.contains(char::is_control) {
            return Some(self.base_dir.join(text));
        }
        self.problem(
            field.span(),
            "this cannot be a path",
            "write the path of a file or folder",
        );
        None
    }

    pub(super) fn dollars(&mut self, field: &Spanned<AmountText>) -> Option<PicoDollars> {
        let source = self.report.text(field.span());
        let amount = if source.starts_with(['"', '\'']) {
            parse_dollars(&field.get_ref().0)
        } else {
            // A bare number is taken from the text, where it is still exact.
            parse_dollars(&source.replace('_', ""))
        };
        if amount.is_none() {
            self.problem(
                field.span(),
                "this is not an amount of dollars",
                "write a decimal number from 0 to 18 million, such as \"20.50\"",
            );
        }
        amount
    }

    /// The secret that a reference leads to, made by `make`.
    pub(super) fn secret(
        &mut self,
        field: &Spanned<String>,
        make: fn(String) -> Result<Secret, SecretError>,
    ) -> Option<(Secret, Reference)> {
        let reference = match Reference::parse(field.get_ref(), self.base_dir) {
            Ok(reference) => reference,
            Err(error) => {
                let help = match error {
                    ReferenceError::Literal => {
                        "put it into an environment variable or a file, and write \"env:NAME\" or \"file:PATH\""
                    }
                    ReferenceError::VariableName => {
                        "write \"env:NAME\" with letters, digits and `_`"
                    }
                    ReferenceError::Path => "write \"file:PATH\"",
                };
                self.problem(field.span(), &error.to_string(), help);
                return None;
            }
        };
        let found = match &reference {
            Reference::Env(name) => (self.sources.env)(name)
                .ok_or_else(|| format!("the environment variable {} is not set", shown(name))),
            Reference::File(path) => (self.sources.read_file)(path).map_err(|error| {
                format!("cannot read {}: {error}", shown(&path.to_string_lossy()))
            }),
        };
        let made = found.and_then(|text| {
            make(text).map_err(|error| match &reference {
                Reference::Env(name) => format!("the environment variable {} {error}", shown(name)),
                Reference::File(path) => {
                    format!("the file {} {error}", shown(&path.to_string_lossy()))
                }
            })
        });
        match made {
            Ok(secret) => Some((secret, reference)),
            Err(message) => {
                self.problem(field.span(), &message, "");
                None
            }
        }
    }
}

/// Longest name of a token, a profile and the like, in characters.
const NAME_CHARS_MAX: usize = 128;

/// A yes or no, with what holds where nothing is said.
pub(super) fn flag(field: &Field<bool>, default: bool) -> bool {
    field.as_ref().map_or(default, |field| *field.get_ref())
}

/// Where a key stands, if it is there.
pub(super) fn span<T>(field: &Field<T>) -> Option<Range<usize>> {
    field.as_ref().map(Spanned::span)
}

/// Where a yes stands, if it is one.
pub(super) fn set(field: &Field<bool>) -> Option<Range<usize>> {
    field
        .as_ref()
        .filter(|field| *field.get_ref())
        .map(Spanned::span)
}
