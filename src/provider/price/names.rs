//! The rules by which a model's name may differ from the one that has the price: dates, versions,
//! regions. Each is written out; nothing is matched by resemblance.

/// A name in parts, so that none needs to be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) prefix: &'static str,
    pub(super) stem: &'a str,
    pub(super) suffix: &'static str,
}

impl<'a> Name<'a> {
    pub(super) fn plain(stem: &'a str) -> Self {
        Self {
            prefix: "",
            stem,
            suffix: "",
        }
    }
}

/// Names tried for one model: four endings, each with two beginnings.
const NAMES_MAX: usize = 8;

/// Where a Bedrock inference profile may run. Some have prices of their own in the table, which
/// are found first; the others cost what the model itself does.
const BEDROCK_REGIONS: [&str; 10] = [
    "us.", "eu.", "apac.", "global.", "jp.", "au.", "ca.", "in.", "sa.", "us-gov.",
];

/// The names under which a model's price may stand, most exact first.
pub(super) fn names_of<'a>(provider: &str, model: &'a str) -> [Option<Name<'a>>; NAMES_MAX] {
    let stem = bare(provider, model);
    let endings = endings(provider, stem);
    let mut names = [None; NAMES_MAX];
    let (exact, other) = names.split_at_mut(NAMES_MAX / 2);
    for ((exact, other), ending) in exact.iter_mut().zip(other).zip(endings) {
        *exact = ending.map(Name::plain);
        *other = ending.and_then(|ending| rewritten(provider, ending));
    }
    names
}

/// The model of a normalised `author/model` name, if the author is this provider.
pub(super) fn own_model<'a>(provider: &str, normalised: &'a str) -> Option<&'a str> {
    let (author, model) = normalised.split_once('/')?;
    let own = author == provider
        || matches!(
            (provider, author),
            ("google-ai-studio" | "google-vertex-ai", "google")
                | ("grok", "xai")
                | ("perplexity-ai", "perplexity")
                | ("aws-bedrock", "bedrock")
                | ("azure-openai", "azure" | "openai")
        );
    own.then_some(model)
}

/// The name without what a path or an account puts before it.
fn bare<'a>(provider: &str, model: &'a str) -> &'a str {
    match provider {
        "google-ai-studio" => model.strip_prefix("models/").unwrap_or(model),
        // publishers/{publisher}/models/{model}, google/{model}
        "google-vertex-ai" => match model.split_once("/models/") {
            Some((_, model)) => model,
            None => model.strip_prefix("google/").unwrap_or(model),
        },
        // arn:aws:bedrock:{region}:{account}:inference-profile/{model}
        "aws-bedrock" if model.starts_with("arn:") => {
            model.rsplit_once('/').map_or(model, |(_, model)| model)
        }
        // ft:{model}:{organisation}:{name}:{id}
        "openai" => match model.strip_prefix("ft:").and_then(|tail| tail.find(':')) {
            Some(end) => model.get(..end + "ft:".len()).unwrap_or(model),
            None => model,
        },
        _ => model,
    }
}

/// The name as it is, then with its versions taken off one after another.
fn endings<'a>(provider: &str, name: &'a str) -> [Option<&'a str>; NAMES_MAX / 2] {
    let steps: [fn(&str) -> Option<&str>; 3] = match provider {
        "aws-bedrock" => [without_colon, without_version, without_date],
        "google-ai-studio" | "google-vertex-ai" => [without_at, without_revision, without_date],
        "grok" => [without_date, without_month_day, without_latest],
        _ => [without_date, without_latest, |_| None],
    };
    let mut endings = [Some(name), None, None, None];
    let mut last = name;
    for (slot, step) in endings.iter_mut().skip(1).zip(steps) {
        *slot = step(last);
        last = slot.unwrap_or(last);
    }
    endings
}

/// The name as the provider's other way of writing has it.
fn rewritten<'a>(provider: &str, name: &'a str) -> Option<Name<'a>> {
    let named = |prefix, stem, suffix| Name {
        prefix,
        stem,
        suffix,
    };
    match provider {
        "aws-bedrock" => {
            // Answers name Claude without what Bedrock puts around it.
            if name.starts_with("claude-") {
                return Some(named("anthropic.", name, "-v1:0"));
            }
            let mut regions = BEDROCK_REGIONS.iter();
            regions.find_map(|region| Some(Name::plain(name.strip_prefix(region)?)))
        }
        "azure-openai" => {
            let stem = name.strip_prefix("gpt-3.5-")?;
            Some(named("gpt-35-", stem, ""))
        }
        "fireworks" if !name.contains('/') => Some(named("accounts/fireworks/models/", name, "")),
        _ => None,
    }
}

/// Takes off `:0`.
fn without_colon(name: &str) -> Option<&str> {
    name.rsplit_once(':').map(|(name, _)| name)
}

/// Takes off `-v1`.
fn without_version(name: &str) -> Option<&str> {
    let (name, version) = name.rsplit_once("-v")?;
    digits(version, 1..=2).then_some(name)
}

/// Takes off `@20241022`, `@default`.
fn without_at(name: &str) -> Option<&str> {
    name.rsplit_once('@').map(|(name, _)| name)
}

/// Takes off `-001`.
fn without_revision(name: &str) -> Option<&str> {
    let (name, revision) = name.rsplit_once('-')?;
    digits(revision, 3..=3).then_some(name)
}

/// Takes off `-0709`.
fn without_month_day(name: &str) -> Option<&str> {
    let (name, day) = name.rsplit_once('-')?;
    digits(day, 4..=4).then_some(name)
}

fn without_latest(name: &str) -> Option<&str> {
    name.strip_suffix("-latest")
}

/// Takes off `-20250929` or `-2024-08-06`.
fn without_date(name: &str) -> Option<&str> {
    let (rest, last) = name.rsplit_once('-')?;
    if digits(last, 8..=8) && last.starts_with("20") {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    let dated = digits(last, 2..=2) && digits(month, 2..=2) && digits(year, 4..=4);
    (dated && year.starts_with("20")).then_some(rest)
}

fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> bool {
    count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}
