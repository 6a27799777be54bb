//! Mirror of the file's text: every key that exists, with the place where it was written.
//!
//! Nothing is required and nothing is judged here but the kind of a value; [`super::check`] does
//! the rest. A key that is unknown or of the wrong kind is reported, taken out, and reading goes
//! on, so that one slip does not hide the next.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::limit::PROBLEMS_MAX;
use super::word::nearest;

/// A value that the file may hold, and where it stands.
pub type Field<T> = Option<Spanned<T>>;

/// A table whose keys the operator chooses.
pub type Named<T> = BTreeMap<Spanned<String>, Spanned<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Config documents each")]
pub struct File {
    pub listen: Field<Addresses>,
    pub data_dir: Field<String>,
    pub admin: Field<String>,
    pub shards: Field<i64>,
    pub account_id: Field<String>,
    pub auto_create_gateways: Field<bool>,
    pub allow_http_upstreams: Field<bool>,
    pub log_sync_ms: Field<i64>,
    pub log_compress_after: Field<DurationText>,
    pub hosts: Option<Vec<Spanned<String>>>,
    pub log_required: Field<bool>,
    #[serde(default)]
    pub limits: Limits,
    pub tls: Field<Tls>,
    #[serde(default)]
    pub tokens: Vec<Spanned<Token>>,
    #[serde(default)]
    pub gateways: Named<Gateway>,
    #[serde(default)]
    pub providers: Named<Provider>,
    #[serde(default)]
    pub custom_providers: Named<CustomProvider>,
    #[serde(default)]
    pub prices: Named<Price>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Limits documents each")]
pub struct Limits {
    pub head_bytes: Field<SizeText>,
    pub body_bytes: Field<SizeText>,
    pub gather_bytes: Field<SizeText>,
    pub head_timeout: Field<DurationText>,
    pub body_timeout: Field<DurationText>,
    pub idle_timeout: Field<DurationText>,
    pub drain_delay: Field<DurationText>,
    pub drain_timeout: Field<DurationText>,
}

/// `[tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Tls documents each")]
pub struct Tls {
    pub cert: Field<String>,
    pub key: Field<String>,
}

/// `[[tokens]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Token documents each")]
pub struct Token {
    pub name: Field<String>,
    pub token: Field<String>,
    pub permissions: Field<Vec<Spanned<String>>>,
    pub budget: Field<Budget>,
}

/// `budget` of a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Budget documents each")]
pub struct Budget {
    pub limit: Field<AmountText>,
    pub period: Field<String>,
    pub time_zone: Field<String>,
    pub hard: Field<bool>,
}

/// `[gateways.ID]`: the management API's own names and units, then ours.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Gateway documents each")]
pub struct Gateway {
    pub authentication: Field<bool>,
    pub collect_logs: Field<bool>,
    pub cache_invalidate_on_update: Field<bool>,
    pub cache_ttl: Field<i64>,
    pub rate_limiting_interval: Field<i64>,
    pub rate_limiting_limit: Field<i64>,
    pub rate_limiting_technique: Field<String>,
    pub byok_only: Field<bool>,
    pub dlp: Field<Dlp>,
    pub guardrails: Field<Guardrails>,
    pub log_management: Field<i64>,
    pub log_management_strategy: Field<String>,
    pub log_classification: Field<bool>,
    pub logpush: Field<bool>,
    pub logpush_public_key: Field<String>,
    pub otel: Field<Vec<Spanned<Otel>>>,
    pub retry_max_attempts: Field<i64>,
    pub retry_delay: Field<i64>,
    pub retry_backoff: Field<String>,
    pub spend_limits: Field<SpendLimits>,
    pub store_id: Field<String>,
    pub stripe: Field<Stripe>,
    pub workers_ai_billing_mode: Field<String>,
    pub zdr: Field<bool>,
    pub request_limits: Field<Vec<Spanned<TrafficLimit>>>,
    pub token_limits: Field<Vec<Spanned<TrafficLimit>>>,
    pub resume_for: Field<DurationText>,
    pub cache_scope: Field<String>,
    pub cache_streams: Field<bool>,
    pub on_disconnect: Field<String>,
}

/// `dlp` of a gateway: both of its forms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Dlp documents each")]
pub struct Dlp {
    pub enabled: Field<bool>,
    pub action: Field<String>,
    pub profiles: Field<Vec<Spanned<String>>>,
    pub policies: Field<Vec<Spanned<DlpPolicy>>>,
}

/// One of the `policies` of `dlp`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; DlpPolicy documents each"
)]
pub struct DlpPolicy {
    pub id: Field<String>,
    pub enabled: Field<bool>,
    pub action: Field<String>,
    pub check: Field<Vec<Spanned<String>>>,
    pub profiles: Field<Vec<Spanned<String>>>,
}

/// `guardrails` of a gateway: category to action, for each side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; Guardrails documents each"
)]
pub struct Guardrails {
    #[serde(default)]
    pub prompt: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub response: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// One exporter of `otel`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Otel documents each")]
pub struct Otel {
    pub url: Field<String>,
    #[serde(default)]
    pub headers: BTreeMap<Spanned<String>, Spanned<String>>,
    pub authorization: Field<String>,
    pub content_type: Field<String>,
}

/// `stripe` of a gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Stripe documents each")]
pub struct Stripe {
    pub authorization: Field<String>,
    pub usage_events: Field<Vec<Spanned<StripeEvent>>>,
}

/// One of the `usage_events` of `stripe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of the file; Stripe documents each")]
pub struct StripeEvent {
    pub payload: Field<String>,
}

/// `spend_limits` of a gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; SpendLimits documents each"
)]
pub struct SpendLimits {
    pub enabled: Field<bool>,
    pub rules: Field<Vec<Spanned<SpendRule>>>,
}

/// One rule of `spend_limits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; SpendRule documents each"
)]
pub struct SpendRule {
    pub id: Field<String>,
    pub enabled: Field<bool>,
    pub limit: Field<AmountText>,
    #[serde(rename = "limitType")]
    pub limit_type: Field<String>,
    pub window: Field<i64>,
    pub technique: Field<String>,
    #[serde(default)]
    pub metadata: Named<Dimension>,
    pub model: Field<Dimension>,
    pub provider: Field<Dimension>,
    pub hard: Field<bool>,
}

/// How a spend rule splits or chooses requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; Dimension documents each"
)]
pub struct Dimension {
    pub mode: Field<String>,
    pub values: Field<Vec<Spanned<String>>>,
}

/// One of `request_limits` or `token_limits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; TrafficLimit documents each"
)]
pub struct TrafficLimit {
    pub limit: Field<i64>,
    pub window: Field<i64>,
    pub technique: Field<String>,
    pub by: Field<String>,
}

/// `[providers.SLUG]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; ProviderSettings documents each"
)]
pub struct Provider {
    pub key: Field<String>,
    pub keys: Field<Vec<Spanned<WeightedKey>>>,
    pub base_url: Field<String>,
    pub origin: Field<String>,
    pub http2: Field<String>,
    pub connect_timeout: Field<DurationText>,
    pub first_byte_timeout: Field<DurationText>,
    pub idle_timeout: Field<DurationText>,
    pub total_timeout: Field<DurationText>,
}

/// One of several `keys` of a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; Credential documents each"
)]
pub struct WeightedKey {
    pub key: Field<String>,
    pub weight: Field<i64>,
}

/// `[custom_providers.SLUG]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; CustomProvider documents each"
)]
pub struct CustomProvider {
    pub base_url: Field<String>,
    pub dialect: Field<String>,
    pub allow_http: Field<bool>,
    pub enable: Field<bool>,
    #[serde(default)]
    pub headers: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// One entry of `[prices]`, in dollars for a million.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys of the file; money::Prices documents each"
)]
pub struct Price {
    pub input: Field<PriceText>,
    pub output: Field<PriceText>,
    pub cache_read: Field<PriceText>,
    pub cache_write: Field<PriceText>,
    pub cache_write_hour: Field<PriceText>,
    pub reasoning: Field<PriceText>,
}

/// One address or several.
#[derive(Debug)]
pub enum Addresses {
    /// `listen = "…"`; it stands where the value stands.
    One(String),
    /// `listen = ["…", "…"]`
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"127.0.0.1:8787\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Addresses, E> {
                Ok(Addresses::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Addresses, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Addresses::Many(all))
            }
        }
        deserializer.deserialize_any(Of)
    }
}

/// A duration, still as text.
#[derive(Debug)]
pub struct DurationText(pub String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar::text("a duration in quotes, such as \"30s\""))
            .map(Self)
    }
}

/// A size, still as text; a plain number was one of bytes.
#[derive(Debug)]
pub struct SizeText(pub String);

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar {
                expected: "a size such as \"8MiB\", or a number of bytes",
                integers: true,
                floats: false,
            })
            .map(Self)
    }
}

/// A price: decimal text, never a number, which would pass through a float.
#[derive(Debug)]
pub struct PriceText(pub String);

impl<'de> Deserialize<'de> for PriceText {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar::text("a price in quotes, such as \"0.15\""))
            .map(Self)
    }
}

/// An amount of dollars. The contract writes a number, so numbers are taken too; whoever reads
/// the amount takes a number's digits from the file's text, so that no float has a say.
#[derive(Debug)]
pub struct AmountText(pub String);

impl<'de> Deserialize<'de> for AmountText {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar {
                expected: "an amount of dollars, such as \"20.50\"",
                integers: true,
                floats: true,
            })
            .map(Self)
    }
}

/// Takes a text, and numbers where they are allowed.
struct Scalar {
    expected: &'static str,
    integers: bool,
    floats: bool,
}

impl Scalar {
    fn text(expected: &'static str) -> Self {
        Self {
            expected,
            integers: false,
            floats: false,
        }
    }
}

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        match self.integers {
            true => Ok(number.to_string()),
            false => Err(E::invalid_type(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        match self.floats {
            true => Ok(number.to_string()),
            false => Err(E::invalid_type(de::Unexpected::Float(number), &self)),
        }
    }
}

/// Something wrong with the file's form: where, what, and what to do.
#[derive(Debug)]
pub struct FormProblem {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong; holds no value of the file.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
}

/// What reading gave: all that could be understood, and what could not.
#[derive(Debug)]
pub struct Read<'a> {
    /// The mirror, without what `problems` names.
    pub file: File,
    /// The text as a tree, for finding a place's path and where secrets stand.
    pub tree: DeTable<'a>,
    /// Whether the text is no TOML: then the tree has gaps and `file` is empty.
    pub broken: bool,
    /// What is wrong with the form.
    pub problems: Vec<FormProblem>,
}

/// Reads the text. Where it is not TOML at all, nothing but that is reported.
pub fn read(text: &str) -> Read<'_> {
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
            message: match duplicate {
                true => "this key or table is already there".to_owned(),
                false => format!("not valid TOML: {}", error.message()),
            },
            help: match duplicate {
                true => "keep one of the two".to_owned(),
                false => String::new(),
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
