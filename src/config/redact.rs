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

/// Keys under which secrets stand, at any depth below them. `[tls]` has a `key` that is a path.
const SECRET_KEYS: [&str; 6] = [
    "token",
    "key",
    "keys",
    "authorization",
    "headers",
    "payload",
];

/// Says whether a text under this path may be shown in a source line.
fn is_harmless(text: &str, secret_place: bool) -> bool {
    let reference = Reference::parse(text, Path::new("")).is_ok();
    let url_with_secrets = text.contains("://") && text.contains(['@', '?']);
    !looks_secret(text) && !url_with_secrets && (!secret_place || reference)
}

/// The parts of one line that hold secrets, as the tree tells.
pub(super) fn hidden_by_tree(
    tree: &DeTable<'_>,
    text: &str,
    line: Range<usize>,
) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    hide_in_table(tree, text, &line, false, &mut hidden);
    hidden
}

fn hide_in_table(
    table: &DeTable<'_>,
    text: &str,
    line: &Range<usize>,
    secret_place: bool,
    hidden: &mut Vec<Range<usize>>,
) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        if looks_secret(name) && overlap(&key.span(), line) {
            hidden.push(key.span());
        }
        let secret_place = (secret_place || SECRET_KEYS.contains(&name)) && name != "tls";
        let tls = name == "tls" && value.get_ref().is_table();
        hide_in_value(value, text, line, secret_place, tls, hidden);
    }
}

fn hide_in_value(
    value: &Spanned<DeValue<'_>>,
    text: &str,
    line: &Range<usize>,
    secret_place: bool,
    tls: bool,
    hidden: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Table(table) if tls => {
            for (_, value) in table {
                hide_in_value(value, text, line, false, false, hidden);
            }
        }
        DeValue::Table(table) => hide_in_table(table, text, line, secret_place, hidden),
        DeValue::Array(items) => {
            for item in items.iter() {
                hide_in_value(item, text, line, secret_place, false, hidden);
            }
        }
        DeValue::String(string) => {
            if overlap(&value.span(), line) && !is_harmless(string, secret_place) {
                hidden.push(value.span());
            }
        }
        // A number, a date: only where a secret is expected could it be one.
        _ => {
            if secret_place && overlap(&value.span(), line) {
                hidden.push(value.span());
            }
        }
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The parts of a line that may hold secrets in a text that does not parse: all behind the first
/// `=` where the key sounds like one, or the line continues such a value; and what looks random.
pub(super) fn hidden_by_guess(text: &str, line_start: usize, line_end: usize) -> Vec<Range<usize>> {
    let line = text.get(line_start..line_end).unwrap_or_default();
    let sounds_secret = |line: &str| {
        let key = line.split('=').next().unwrap_or_default();
        let line_has_one = SECRET_KEYS.iter().any(|word| line.contains(word));
        line_has_one && !key.trim_start().starts_with('[')
    };
    let (owner, value_start) = match line.find('=') {
        Some(at) => (line, line_start + at + 1),
        None => {
            let before = text.get(..line_start).unwrap_or_default();
            let owner = before
                .rsplit('\n')
                .take(LOOK_BACK_LINES)
                .find(|line| line.contains('=') || line.trim_start().starts_with('['))
                .unwrap_or_default();
            (owner, line_start)
        }
    };
    if sounds_secret(owner) || looks_secret(line) {
        return vec![value_start..line_end];
    }
    Vec::new()
}

/// Lines that are read backwards for the key whose value goes on.
const LOOK_BACK_LINES: usize = 64;

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
