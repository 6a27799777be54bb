//! Keeps secrets out of messages: what of a source line, a key or a value may be shown.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secret::Reference;

/// Characters of a value or key that are shown; either can be as long as the file.
const SHOWN_CHARS_MAX: usize = 120;

/// A piece of the file for use in a message: short, printable, and `***` if it looks like a key.
pub(super) fn shown(text: &str) -> String {
    format!("`{}`", clipped(text))
}

pub(super) fn clipped(text: &str) -> String {
    if looks_secret(text) {
        return "***".to_owned();
    }
    let mut kept: String = text.chars().take(SHOWN_CHARS_MAX).map(printable).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

/// Control characters would let a file draw on the terminal.
pub(super) fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

/// Starts of keys that providers issue.
const KEY_STARTS: [&str; 16] = [
    "sk-", "sk_", "pk-", "rk-", "gsk_", "xai-", "hf_", "r8_", "AIza", "AKIA", "ASIA", "ghp_",
    "pplx-", "csk-", "fw_", "Bearer ",
];

/// Letters and digits in one run from which on a word is taken for a key.
const RANDOM_RUN_MIN: usize = 24;

/// Guesses whether a secret stands in `text`, where nothing else tells.
fn looks_secret(text: &str) -> bool {
    if text.contains("PRIVATE KEY") || text.contains("\"private_key\"") {
        return true;
    }
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let mut runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    KEY_STARTS.iter().any(|start| text.starts_with(start))
        || words
            .into_iter()
            .any(|word| KEY_STARTS.iter().any(|start| word.starts_with(start)) && word.len() > 7)
        || runs.any(|run| {
            run.len() >= RANDOM_RUN_MIN
                && run.bytes().any(|b| b.is_ascii_digit())
                && run.bytes().any(|b| b.is_ascii_alphabetic())
        })
}

/// Pieces of the names of keys under which secrets stand, at any depth below them.
const SECRET_PIECES: [&str; 7] = [
    "token", "key", "auth", "secret", "password", "headers", "payload",
];

/// Names that have such a piece and hold no secret.
const HARMLESS_NAMES: [&str; 5] = [
    "tokens",
    "token_limits",
    "keys",
    "authentication",
    "logpush_public_key",
];

/// Tables in which any key may have been meant for a secret, but for [`PLAIN_NAMES`].
const SECRET_TABLES: [&str; 3] = ["tokens", "providers", "custom_providers"];

/// Keys of those tables that are known to hold none.
const PLAIN_NAMES: [&str; 19] = [
    "name",
    "permissions",
    "budget",
    "limit",
    "period",
    "time_zone",
    "hard",
    "allow_unpriced",
    "weight",
    "base_url",
    "origin",
    "http2",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "dialect",
    "allow_http",
    "enable",
];

/// Says whether what stands under the key `name` may be a secret by its name.
fn sounds_secret(name: &str) -> bool {
    SECRET_PIECES.iter().any(|piece| name.contains(piece)) && !HARMLESS_NAMES.contains(&name)
}

/// Where in the file a value stands, as far as secrets go.
#[derive(Clone, Copy)]
enum Place {
    /// Nothing is known to be secret here.
    Plain,
    /// In one of [`SECRET_TABLES`]: all but plain names.
    Guarded,
    /// Under a key that holds a secret.
    Secret,
    /// In `[tls]`, whose `key` is a path.
    Paths,
}

impl Place {
    /// The place below a key.
    fn below(self, name: &str) -> Self {
        match self {
            Self::Secret => Self::Secret,
            Self::Paths if matches!(name, "cert" | "key") => Self::Plain,
            Self::Guarded if PLAIN_NAMES.contains(&name) => Self::Plain,
            Self::Plain if name == "tls" => Self::Paths,
            Self::Plain if SECRET_TABLES.contains(&name) => Self::Guarded,
            Self::Plain | Self::Guarded | Self::Paths if sounds_secret(name) => Self::Secret,
            Self::Plain | Self::Guarded | Self::Paths => self,
        }
    }

    /// Whether a text that stands here may be shown.
    fn shows(self, text: &str) -> bool {
        let reference = Reference::parse(text, Path::new("")).is_ok();
        let url_with_secrets = text.contains("://") && text.contains(['@', '?']);
        let guarded = matches!(self, Self::Guarded | Self::Secret);
        !looks_secret(text) && !url_with_secrets && (!guarded || reference)
    }
}

/// The parts of one line that hold secrets, as the tree tells.
pub(super) fn hidden_by_tree(tree: &DeTable<'_>, line: &Range<usize>) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    hide_in_table(tree, line, Place::Plain, &mut hidden);
    hidden
}

fn hide_in_table(
    table: &DeTable<'_>,
    line: &Range<usize>,
    place: Place,
    hidden: &mut Vec<Range<usize>>,
) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        if overlap(&key.span(), line) && looks_secret(name) {
            hidden.push(key.span());
        }
        hide_in_value(value, line, place.below(name), hidden);
    }
}

fn hide_in_value(
    value: &Spanned<DeValue<'_>>,
    line: &Range<usize>,
    place: Place,
    hidden: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Table(table) => hide_in_table(table, line, place, hidden),
        DeValue::Array(items) => {
            for item in items {
                hide_in_value(item, line, place, hidden);
            }
        }
        DeValue::String(text) => {
            if overlap(&value.span(), line) && !place.shows(text) {
                hidden.push(value.span());
            }
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
            if overlap(&value.span(), line) && matches!(place, Place::Secret) {
                hidden.push(value.span());
            }
        }
        DeValue::Boolean(_) => {}
    }
}

/// Where the line's comment starts. Comments are not shown: they are where old keys are left.
pub(super) fn comment_start(tree: &DeTable<'_>, text: &str, line: &Range<usize>) -> Option<usize> {
    let mut written = Vec::new();
    written_in_table(tree, line, &mut written);
    let content = text.get(line.clone())?;
    let mut marks = content.match_indices('#').map(|(at, _)| line.start + at);
    marks.find(|at| !written.iter().any(|range| range.contains(at)))
}

/// The keys and texts that reach into a line: a `#` within them starts no comment.
fn written_in_table(table: &DeTable<'_>, line: &Range<usize>, written: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        if overlap(&key.span(), line) {
            written.push(key.span());
        }
        written_in_value(value, line, written);
    }
}

fn written_in_value(
    value: &Spanned<DeValue<'_>>,
    line: &Range<usize>,
    written: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Table(table) => written_in_table(table, line, written),
        DeValue::Array(items) => {
            for item in items {
                written_in_value(item, line, written);
            }
        }
        _ => {
            if overlap(&value.span(), line) {
                written.push(value.span());
            }
        }
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The part of a line that may hold secrets in a text that does not parse: what follows the
/// first `=` where the line, the table above it or the value that it continues may hold one; and
/// all of a line that looks like a key itself.
pub(super) fn hidden_by_guess(text: &str, line: &Range<usize>) -> Option<Range<usize>> {
    let content = text.get(line.clone()).unwrap_or_default();
    let before = text.get(..line.start).unwrap_or_default();
    let is_header = |line: &&str| line.starts_with('[') && !line.contains('=');
    if is_header(&content) && !content.contains(['"', '\'']) && !looks_secret(content) {
        return None;
    }
    let table = before.rsplit('\n').find(is_header).unwrap_or_default();
    let guarded = SECRET_TABLES.iter().any(|name| table.contains(name));
    // The line that the value started on: this one, or the nearest above that has a key.
    let mut above = before.rsplit('\n');
    let owner = if content.contains('=') {
        content
    } else {
        above
            .find(|line| line.contains('=') || is_header(line))
            .unwrap_or_default()
    };
    let named = SECRET_PIECES.iter().any(|piece| owner.contains(piece))
        || SECRET_TABLES.iter().any(|piece| owner.contains(piece));
    let secret = named || guarded || looks_secret(content);
    if !secret {
        return None;
    }
    // Only a bare key is shown; anything else before the `=`, or without one, may be the secret.
    let is_bare = |key: &str| {
        let mut bytes = key.bytes();
        bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let shown = match content.split_once('=') {
        Some((key, _)) if is_bare(key.trim()) && !looks_secret(key) => key.len() + 1,
        Some(_) | None => 0,
    };
    let start = line.start + shown;
    Some(start..line.end.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_names() {
        for key in [
            "sk-live-4242",
            "Bearer abc",
            "gsk_0123456789",
            "0123456789abcdef0123456789abcdef",
            "https://a/b?sk-proj-123456",
        ] {
            assert!(looks_secret(key), "{key}");
        }
        for name in [
            "openai/gpt-4o-mini-2024-07-18",
            "claude-3-5-sonnet-20241022",
            "rate_limiting_technique",
            "http://127.0.0.1:9001/openai",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
