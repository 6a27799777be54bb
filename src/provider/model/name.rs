//! One name for the many spellings of a model: `author/model`, as records, analytics and bills
//! show it (contract `observability.md` 1.3).
//!
//! What is taken off: the folders in which a provider keeps its models (`models/`, an ARN, a
//! region in front of a Bedrock id), and release dates and revisions at the end. What is changed:
//! `4-5` in a Claude name becomes `4.5`. Nothing else: `2411`, `0528` or `-latest` belong to a
//! name elsewhere, so each rule says for which family it holds.

use super::MODEL_BYTES_MAX;
use crate::provider::table::by_slug;

/// Appends the normalised name of what provider `slug` calls `raw`: `claude-haiku-4-5-20251001`
/// at `anthropic` is `anthropic/claude-haiku-4.5`. Appends nothing for an empty name; a
/// fine-tune's name stays whole. The raw name is for the record to keep beside it.
///
/// ```
/// let mut name = String::new();
/// tidegate::provider::model::normalise("openai", "gpt-4o-mini-2024-07-18", &mut name);
/// assert_eq!(name, "openai/gpt-4o-mini");
/// ```
pub fn normalise(slug: &str, raw: &str, out: &mut String) {
    let author = by_slug(slug).map_or(slug, |id| id.provider().author);
    let raw = bounded(raw.trim());
    if raw.is_empty() {
        return;
    }
    let name = without_folder(raw);
    let name = [author, slug]
        .into_iter()
        .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('/'))
        .filter(|name| !name.is_empty())
        .unwrap_or(name);
    out.push_str(author);
    out.push('/');
    if name.starts_with("ft:") {
        out.push_str(name);
        return;
    }
    let name = if slug == "aws-bedrock" {
        bedrock_name(name)
    } else {
        name
    };
    write_dotted(without_release(name), out);
}

/// Cuts what is longer than any model's name, between two characters.
fn bounded(raw: &str) -> &str {
    let mut end = raw.len().min(MODEL_BYTES_MAX);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    raw.get(..end).unwrap_or_default()
}

/// Takes off `models/`, `publishers/…/models/`, `projects/…/models/`, Fireworks' own account and
/// the front of an ARN.
fn without_folder(raw: &str) -> &str {
    if raw.starts_with("arn:") {
        // arn:aws:bedrock:{region}:{account}:{kind}/{id}; ids have colons of their own.
        let resource = raw.splitn(6, ':').nth(5).unwrap_or(raw);
        return match resource.split_once('/') {
            Some(("inference-profile" | "foundation-model", id)) if !id.is_empty() => id,
            Some(_) | None => resource,
        };
    }
    let below = if raw.starts_with("publishers/") || raw.starts_with("projects/") {
        raw.rsplit_once("/models/").map(|(_, name)| name)
    } else {
        raw.strip_prefix("models/")
            .or_else(|| raw.strip_prefix("accounts/fireworks/models/"))
    };
    below.filter(|name| !name.is_empty()).unwrap_or(raw)
}

/// Takes the region off the front of a Bedrock id, and the revision (`-v1:0`, `:0`, a context
/// size behind it) off its end. Revisions above 1 name another model (`titan-embed-text-v2`).
fn bedrock_name(id: &str) -> &str {
    const REGIONS: [&str; 10] = [
        "us", "eu", "apac", "global", "jp", "au", "us-gov", "ca", "sa", "me",
    ];
    let id = match id.split_once('.') {
        Some((region, name)) if REGIONS.contains(&region) && name.contains('.') => name,
        Some(_) | None => id,
    };
    match id.split_once(":0") {
        Some((name, after)) if after.is_empty() || after.starts_with(':') => {
            name.strip_suffix("-v1").unwrap_or(name)
        }
        Some(_) | None => id,
    }
}

/// Takes release dates and revisions off the end, one after another.
fn without_release(name: &str) -> &str {
    let mut name = name;
    while let Some(shorter) = shortened(name) {
        name = shorter;
    }
    name
}

fn shortened(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let shorter = without_at(name, last)
        .or_else(|| without_date(name))
        .or_else(|| without_revision(name, last))
        .or_else(|| without_hash(name))?;
    // A name that would be nothing but its folder was no release.
    (!shorter.is_empty() && !shorter.ends_with('/')).then_some(shorter)
}

/// Vertex: `@20251001`, `@default`, `@latest`, `@001`.
fn without_at<'n>(name: &'n str, last: &str) -> Option<&'n str> {
    let (_, release) = last.split_once('@')?;
    let is_release = matches!(release, "default" | "latest")
        || is_compact_date(release)
        || (release.len() == 3 && is_digits(release));
    let shorter = name.strip_suffix(release)?.strip_suffix('@')?;
    is_release.then_some(shorter)
}

/// `-20251001`, `-2024-08-06`, `-08-2024`, and `-05-20` behind `-preview` or `-exp`.
fn without_date(name: &str) -> Option<&str> {
    let (before, last) = name.rsplit_once('-')?;
    if is_compact_date(last) {
        return Some(before);
    }
    let (before, middle) = before.rsplit_once('-')?;
    if is_month(middle) && is_year(last) {
        return Some(before);
    }
    if !is_month(middle) || !is_day(last) {
        return None;
    }
    match before.rsplit_once('-') {
        Some((before, year)) if is_year(year) => Some(before),
        Some((_, "preview" | "exp")) => Some(before),
        Some(_) | None => None,
    }
}

/// Revisions that only some families write.
fn without_revision<'n>(name: &'n str, last: &str) -> Option<&'n str> {
    let (before, end) = name.rsplit_once('-')?;
    let is_revision = if let Some(claude) = claude_part(last) {
        // claude-3-5-sonnet-v2 is a revision, claude-v2 a model.
        end == "latest"
            || (is_version(end) && claude.bytes().any(|b| b.is_ascii_digit()) && {
                let kept = claude.strip_suffix(end).unwrap_or(claude);
                kept.bytes().any(|b| b.is_ascii_digit())
            })
    } else if let Some(rest) = last.strip_prefix("gemini-") {
        rest.starts_with(|c: char| c.is_ascii_digit()) && end.len() == 3 && is_digits(end)
    } else if last.starts_with("gpt-4") || last.starts_with("gpt-3.5") {
        let (month, day) = end.split_at_checked(2).unwrap_or_default();
        is_month(month) && is_day(day)
    } else {
        false
    };
    is_revision.then_some(before)
}

/// Replicate: `owner/name:` and the 64 digits of a version.
fn without_hash(name: &str) -> Option<&str> {
    let (before, hash) = name.rsplit_once(':')?;
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then_some(before)
}

/// Appends `name`; in a Claude name two small numbers in a row become one version with a dot.
fn write_dotted(name: &str, out: &mut String) {
    let Some(claude) = claude_part(name.rsplit('/').next().unwrap_or(name)) else {
        out.push_str(name);
        return;
    };
    out.push_str(name.strip_suffix(claude).unwrap_or_default());
    let is_small = |word: &str| word.len() <= 2 && is_digits(word);
    let mut before = "";
    for word in claude.split('-') {
        if is_small(before) && is_small(word) {
            out.push('.');
        } else if !before.is_empty() {
            out.push('-');
        }
        out.push_str(word);
        before = word;
    }
}

/// The part of a name that starts with `claude-`, at its front or behind a vendor and a dot.
fn claude_part(last: &str) -> Option<&str> {
    if last.starts_with("claude-") {
        return Some(last);
    }
    let (_, name) = last.split_once('.')?;
    name.starts_with("claude-").then_some(name)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_version(word: &str) -> bool {
    word.strip_prefix('v').is_some_and(is_digits)
}

fn is_between(text: &str, digits: usize, least: u32, most: u32) -> bool {
    let number = text.parse().unwrap_or(u32::MAX);
    text.len() == digits && is_digits(text) && (least..=most).contains(&number)
}

/// Years in which models have been released, and some more: 1024 or 2048 is a size, not a year.
fn is_year(text: &str) -> bool {
    is_between(text, 4, 2020, 2039)
}

fn is_month(text: &str) -> bool {
    is_between(text, 2, 1, 12)
}

fn is_day(text: &str) -> bool {
    is_between(text, 2, 1, 31)
}

fn is_compact_date(text: &str) -> bool {
    let (year, rest) = text.split_at_checked(4).unwrap_or_default();
    let (month, day) = rest.split_at_checked(2).unwrap_or_default();
    is_year(year) && is_month(month) && is_day(day)
}
