//! Mirror of the file's text: every key that exists, with the place where it was written.
//!
//! Nothing is required here, and nothing is judged but the kind of a value: `form` reads a text
//! into this, `check` makes values of it. What a key means is said where its value lives.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use toml::Spanned;

/// A value that the file may hold, and where it stands.
pub(super) type Field<T> = Option<Spanned<T>>;

/// A table whose keys the operator chooses.
pub(super) type Named<T> = BTreeMap<Spanned<String>, Spanned<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Field<Addresses>,
    pub(super) data_dir: Field<String>,
    pub(super) admin: Field<String>,
    pub(super) shards: Field<i64>,
    pub(super) account_id: Field<String>,
    pub(super) auto_create_gateways: Field<bool>,
    pub(super) allow_http_upstreams: Field<bool>,
    pub(super) log_sync_ms: Field<i64>,
    pub(super) log_compress_after: Field<DurationText>,
    pub(super) log_retention: Field<DurationText>,
    pub(super) log_bytes_max: Field<SizeText>,
    pub(super) cache_memory: Field<SizeText>,
    pub(super) hosts: Option<Vec<Spanned<String>>>,
    pub(super) log_required: Field<bool>,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) tls: Field<Tls>,
    #[serde(default)]
    pub(super) tokens: Vec<Spanned<Token>>,
    #[serde(default)]
    pub(super) gateways: Named<Gateway>,
    #[serde(default)]
    pub(super) providers: Named<Provider>,
    #[serde(default)]
    pub(super) custom_providers: Named<CustomProvider>,
    #[serde(default)]
    pub(super) prices: Named<Price>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) head_bytes: Field<SizeText>,
    pub(super) body_bytes: Field<SizeText>,
    pub(super) gather_bytes: Field<SizeText>,
    pub(super) head_timeout: Field<DurationText>,
    pub(super) body_timeout: Field<DurationText>,
    pub(super) idle_timeout: Field<DurationText>,
    pub(super) drain_delay: Field<DurationText>,
    pub(super) drain_timeout: Field<DurationText>,
}

/// `[tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Field<String>,
    pub(super) key: Field<String>,
}

/// `[[tokens]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "the key is called that in the file"
)]
pub(super) struct Token {
    pub(super) name: Field<String>,
    pub(super) token: Field<String>,
    pub(super) permissions: Field<Vec<Spanned<String>>>,
    pub(super) budget: Field<Budget>,
}

/// `budget` of a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) limit: Field<AmountText>,
    pub(super) period: Field<String>,
    pub(super) time_zone: Field<String>,
    pub(super) hard: Field<bool>,
    pub(super) allow_unpriced: Field<bool>,
}

/// `[gateways.ID]`: the management API's own names and units, then ours.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) authentication: Field<bool>,
    pub(super) collect_logs: Field<bool>,
    pub(super) cache_invalidate_on_update: Field<bool>,
    pub(super) cache_ttl: Field<i64>,
    pub(super) rate_limiting_interval: Field<i64>,
    pub(super) rate_limiting_limit: Field<i64>,
    pub(super) rate_limiting_technique: Field<String>,
    pub(super) byok_only: Field<bool>,
    pub(super) dlp: Field<Dlp>,
    pub(super) guardrails: Field<Guardrails>,
    pub(super) log_management: Field<i64>,
    pub(super) log_management_strategy: Field<String>,
    pub(super) log_classification: Field<bool>,
    pub(super) logpush: Field<bool>,
    pub(super) logpush_public_key: Field<String>,
    pub(super) otel: Field<Vec<Spanned<Otel>>>,
    pub(super) retry_max_attempts: Field<i64>,
    pub(super) retry_delay: Field<i64>,
    pub(super) retry_backoff: Field<String>,
    pub(super) spend_limits: Field<SpendLimits>,
    pub(super) store_id: Field<String>,
    pub(super) stripe: Field<Stripe>,
    pub(super) workers_ai_billing_mode: Field<String>,
    pub(super) zdr: Field<bool>,
    pub(super) request_limits: Field<Vec<Spanned<TrafficLimit>>>,
    pub(super) token_limits: Field<Vec<Spanned<TrafficLimit>>>,
    pub(super) resume_for: Field<DurationText>,
    pub(super) cache_scope: Field<String>,
    pub(super) cache_streams: Field<bool>,
    pub(super) on_disconnect: Field<String>,
}

/// `dlp` of a gateway: both of its forms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dlp {
    pub(super) enabled: Field<bool>,
    pub(super) action: Field<String>,
    pub(super) profiles: Field<Vec<Spanned<String>>>,
    pub(super) policies: Field<Vec<Spanned<DlpPolicy>>>,
}

/// One of the `policies` of `dlp`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DlpPolicy {
    pub(super) id: Field<String>,
    pub(super) enabled: Field<bool>,
    pub(super) action: Field<String>,
    pub(super) check: Field<Vec<Spanned<String>>>,
    pub(super) profiles: Field<Vec<Spanned<String>>>,
}

/// `guardrails` of a gateway: category to action, for each side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guardrails {
    #[serde(default)]
    pub(super) prompt: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub(super) response: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// One exporter of `otel`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otel {
    pub(super) url: Field<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) authorization: Field<String>,
    pub(super) content_type: Field<String>,
}

/// `stripe` of a gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stripe {
    pub(super) authorization: Field<String>,
    pub(super) usage_events: Field<Vec<Spanned<StripeEvent>>>,
}

/// One of the `usage_events` of `stripe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StripeEvent {
    pub(super) payload: Field<String>,
}

/// `spend_limits` of a gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendLimits {
    pub(super) enabled: Field<bool>,
    pub(super) rules: Field<Vec<Spanned<SpendRule>>>,
}

/// One rule of `spend_limits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendRule {
    pub(super) id: Field<String>,
    pub(super) enabled: Field<bool>,
    pub(super) limit: Field<AmountText>,
    #[serde(rename = "limitType")]
    pub(super) limit_type: Field<String>,
    pub(super) window: Field<i64>,
    pub(super) technique: Field<String>,
    #[serde(default)]
    pub(super) metadata: Named<Dimension>,
    pub(super) model: Field<Dimension>,
    pub(super) provider: Field<Dimension>,
    pub(super) hard: Field<bool>,
    pub(super) allow_unpriced: Field<bool>,
}

/// How a spend rule splits or chooses requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dimension {
    pub(super) mode: Field<String>,
    pub(super) values: Field<Vec<Spanned<String>>>,
}

/// One of `request_limits` or `token_limits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrafficLimit {
    pub(super) limit: Field<i64>,
    pub(super) window: Field<i64>,
    pub(super) technique: Field<String>,
    pub(super) by: Field<String>,
}

/// `[providers.SLUG]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) key: Field<String>,
    pub(super) keys: Field<Vec<Spanned<WeightedKey>>>,
    pub(super) base_url: Field<String>,
    pub(super) origin: Field<String>,
    pub(super) http2: Field<String>,
    pub(super) connect_timeout: Field<DurationText>,
    pub(super) first_byte_timeout: Field<DurationText>,
    pub(super) idle_timeout: Field<DurationText>,
    pub(super) total_timeout: Field<DurationText>,
}

/// One of several `keys` of a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightedKey {
    pub(super) key: Field<String>,
    pub(super) weight: Field<i64>,
}

/// `[custom_providers.SLUG]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomProvider {
    pub(super) base_url: Field<String>,
    pub(super) dialect: Field<String>,
    pub(super) allow_http: Field<bool>,
    pub(super) enable: Field<bool>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// One entry of `[prices]`: tokens in dollars for a million, the last three in dollars apiece.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) input: Field<PriceText>,
    pub(super) output: Field<PriceText>,
    pub(super) cache_read: Field<PriceText>,
    pub(super) cache_write: Field<PriceText>,
    pub(super) cache_write_hour: Field<PriceText>,
    pub(super) reasoning: Field<PriceText>,
    pub(super) input_audio: Field<PriceText>,
    pub(super) output_audio: Field<PriceText>,
    pub(super) input_image: Field<PriceText>,
    pub(super) image: Field<PriceText>,
    pub(super) audio_second: Field<PriceText>,
    pub(super) search: Field<PriceText>,
}

/// One address or several.
#[derive(Debug)]
pub(super) enum Addresses {
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
pub(super) struct DurationText(pub(super) String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar::text("a duration in quotes, such as \"30s\""))
            .map(Self)
    }
}

/// A size, still as text; a plain number was one of bytes.
#[derive(Debug)]
pub(super) struct SizeText(pub(super) String);

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
pub(super) struct PriceText(pub(super) String);

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
pub(super) struct AmountText(pub(super) String);

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
        if self.integers {
            Ok(number.to_string())
        } else {
            Err(E::invalid_type(de::Unexpected::Signed(number), &self))
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        if self.floats {
            Ok(number.to_string())
        } else {
            Err(E::invalid_type(de::Unexpected::Float(number), &self))
        }
    }
}
