//! `[providers]`, `[custom_providers]` and `[prices]`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use crate::config::Config;
use crate::config::file::{self, DurationText, Field, File, Named, PriceText};
use crate::config::limit::{self, Bound};
use crate::config::redact::shown;
use crate::config::secret::{self, Secret};
use crate::config::upstream::{
    AddressOverride, Credential, CustomProvider, Http2, ProviderSettings, Timeouts, UpstreamUrl,
    UrlError, none_if_zero,
};
use crate::config::word::nearest;
use crate::domain::money::{Prices, Rate};
use crate::provider::dialect::Dialect;

use super::Checker;
use super::field::{flag, span};

/// What stands in front of a custom provider's slug in paths and prices.
const CUSTOM_PREFIX: &str = "custom-";

/// Longest slug of a custom provider; with its prefix it stands in every path.
const SLUG_BYTES_MAX: usize = 64;

/// Longest model name; the longest in use are resource names of some 150 characters.
const MODEL_BYTES_MAX: usize = 256;

/// Longest header name, as everywhere in the server.
const HEADER_NAME_BYTES_MAX: usize = 256;

/// Headers that a connection owns, or that tidegate writes itself.
const OWN_HEADERS: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "content-encoding",
];

/// Pieces of the names of headers that carry credentials.
const SECRET_HEADERS: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];

impl Checker<'_, '_> {
    pub(super) fn providers(&mut self, file: &File, config: &mut Config) {
        for (slug, item) in &file.providers {
            let name = slug.get_ref();
            let custom = name.strip_prefix(CUSTOM_PREFIX);
            let custom = custom.is_some_and(|slug| file.custom_providers.contains_key(slug));
            if !custom && !(self.sources.known_provider)(name) {
                self.unknown_provider(slug.span(), name, file);
                continue;
            }
            let settings = self.provider(item, custom);
            config.providers.insert(name.clone(), settings);
        }
    }

    fn unknown_provider(&mut self, span: Range<usize>, name: &str, file: &File) {
        let custom = file.custom_providers.keys();
        let known: Vec<String> = custom
            .map(|slug| format!("{CUSTOM_PREFIX}{slug}"))
            .collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match nearest(name, &known) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "a provider that is not built in goes into [custom_providers]".to_owned(),
        };
        let message = format!("{} is not a known provider", shown(name));
        self.problem(span, &message, &help);
    }

    fn provider(&mut self, item: &Spanned<file::Provider>, custom: bool) -> ProviderSettings {
        let file = item.get_ref();
        let credentials = self.credentials(file);
        let base_url = file.base_url.as_ref().and_then(|url| self.url(url));
        let origin = file.origin.as_ref().and_then(|url| self.url(url));
        if let (Some(_), Some(other)) = (&file.base_url, &file.origin) {
            self.problem(
                other.span(),
                "`base_url` and `origin` exclude each other",
                "`base_url` replaces the whole base, `origin` only scheme and host",
            );
        }
        for at in [span(&file.base_url), span(&file.origin)] {
            if let Some(at) = at.filter(|_| custom) {
                self.problem(
                    at,
                    "a custom provider has its address elsewhere",
                    "write base_url in [custom_providers]",
                );
            }
        }
        let address = match (base_url, origin) {
            (Some(url), _) => Some(AddressOverride::Base(url)),
            (None, Some(url)) => Some(AddressOverride::Origin(url)),
            (None, None) => None,
        };
        let http2 = self.word(&file.http2, &[("off", Http2::Off), ("alpn", Http2::Alpn)]);
        ProviderSettings {
            credentials,
            address,
            http2: http2.unwrap_or(Http2::Off),
            timeouts: Timeouts {
                connect: self.timeout(&file.connect_timeout, &limit::CONNECT_TIMEOUT),
                first_byte: self.timeout(&file.first_byte_timeout, &limit::FIRST_BYTE_TIMEOUT),
                idle: self.timeout(&file.idle_timeout, &limit::UPSTREAM_IDLE_TIMEOUT),
                total: self.timeout(&file.total_timeout, &limit::TOTAL_TIMEOUT),
            },
        }
    }

    fn timeout(
        &mut self,
        field: &Field<DurationText>,
        bound: &Bound<std::time::Duration>,
    ) -> Option<std::time::Duration> {
        none_if_zero(self.duration(field, bound))
    }

    fn credentials(&mut self, file: &file::Provider) -> Vec<Credential> {
        let mut all = Vec::new();
        if let Some(key) = &file.key {
            all.extend(self.credential(key, 1));
        }
        let Some(keys) = &file.keys else {
            return all;
        };
        if file.key.is_some() {
            let help = "keep `key` for one, `keys` for several";
            self.problem(keys.span(), "`key` and `keys` exclude each other", help);
        }
        if keys.get_ref().len() > limit::CREDENTIALS_MAX {
            let message = format!("more than {} keys", limit::CREDENTIALS_MAX);
            self.problem(keys.span(), &message, "");
            return all;
        }
        for item in keys.get_ref() {
            let file = item.get_ref();
            let weight = self.number(&file.weight, &limit::WEIGHT).unwrap_or(1);
            let weight = u16::try_from(weight).unwrap_or(1);
            match &file.key {
                Some(key) => all.extend(self.credential(key, weight)),
                None => {
                    self.missing::<()>(item.span(), "key", "write key = \"env:NAME\"");
                }
            }
        }
        all
    }

    fn credential(&mut self, field: &Spanned<String>, weight: u16) -> Option<Credential> {
        let (secret, source) = self.secret(field, secret::credential)?;
        Some(Credential {
            secret,
            weight,
            source,
            picked_up: false,
        })
    }

    pub(super) fn custom_providers(
        &mut self,
        items: &Named<file::CustomProvider>,
        config: &mut Config,
    ) {
        for (slug, item) in items {
            let name = slug.get_ref();
            let fits = (1..=SLUG_BYTES_MAX).contains(&name.len())
                && !name.starts_with('-')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !fits {
                self.problem(
                    slug.span(),
                    "this cannot be the slug of a provider",
                    "write 1 to 64 lower-case letters, digits and `-`, not starting with `-`",
                );
                continue;
            }
            if name.starts_with(CUSTOM_PREFIX) {
                let message = format!("this is reached as {CUSTOM_PREFIX}{name}");
                let help = "the prefix is put in front by itself".to_owned();
                self.report.warn(slug.span(), message, help);
            }
            if let Some(custom) = self.custom_provider(item) {
                config.custom_providers.insert(name.clone(), custom);
            }
        }
    }

    fn custom_provider(&mut self, item: &Spanned<file::CustomProvider>) -> Option<CustomProvider> {
        let file = item.get_ref();
        let base_url = match &file.base_url {
            Some(field) => self.url(field).filter(|url| {
                let fits = url.https || flag(&file.allow_http, false);
                if !fits {
                    self.problem(
                        field.span(),
                        "plain http would send keys and prompts in the clear",
                        "write https://, or allow_http = true for a private network",
                    );
                }
                fits
            }),
            None => self.missing(item.span(), "base_url", "write where the provider is"),
        };
        let words = Dialect::ALL.map(|dialect| (dialect.word(), dialect));
        let dialect = match &file.dialect {
            Some(dialect) => self.one_word(dialect, &words),
            None => Some(Dialect::Unknown),
        };
        let headers = self.headers(&file.headers);
        Some(CustomProvider {
            base_url: base_url?,
            dialect: dialect?,
            enable: flag(&file.enable, true),
            headers,
        })
    }

    pub(super) fn url(&mut self, field: &Spanned<String>) -> Option<UpstreamUrl> {
        let error = match UpstreamUrl::parse(field.get_ref()) {
            Ok(url) => return Some(url),
            Err(error) => error,
        };
        let help = match error {
            UrlError::Userinfo | UrlError::Query => "a key belongs into `key = \"env:NAME\"`",
            UrlError::Scheme
            | UrlError::Host
            | UrlError::Port
            | UrlError::Path
            | UrlError::Fragment => "write a URL such as \"https://api.example.com/v1\"",
        };
        let message = format!("this URL cannot be used: {error}");
        self.problem(field.span(), &message, help);
        None
    }

    /// Extra headers by lower-case name. A value may be a reference, and has to be one where the
    /// name says that it is a credential.
    pub(super) fn headers(
        &mut self,
        items: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> BTreeMap<String, Secret> {
        let mut all = BTreeMap::new();
        for (index, (name, value)) in items.iter().enumerate() {
            if index >= limit::HEADERS_MAX {
                let message = format!("more than {} headers", limit::HEADERS_MAX);
                self.problem(name.span(), &message, "");
                break;
            }
            let lower = name.get_ref().to_ascii_lowercase();
            let Some(value) = self.header_value(name, &lower, value) else {
                continue;
            };
            if all.insert(lower, value).is_some() {
                self.problem(name.span(), "this header is there twice", "");
            }
        }
        all
    }

    fn header_value(
        &mut self,
        name: &Spanned<String>,
        lower: &str,
        value: &Spanned<String>,
    ) -> Option<Secret> {
        // The characters of a token (RFC 9110 section 5.6.2).
        let is_token = (1..=HEADER_NAME_BYTES_MAX).contains(&lower.len())
            && lower
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            self.problem(name.span(), "this cannot be the name of a header", "");
            return None;
        }
        let ours = OWN_HEADERS.contains(&lower)
            || lower.starts_with("cf-aig-")
            || lower.starts_with("tg-");
        if ours {
            self.problem(
                name.span(),
                "this header is written by tidegate itself",
                "leave it out",
            );
            return None;
        }
        let text = value.get_ref();
        let is_reference = text.starts_with("env:") || text.starts_with("file:");
        let is_credential = SECRET_HEADERS.iter().any(|piece| lower.contains(piece));
        if is_reference || is_credential {
            return self
                .secret(value, secret::header_value)
                .map(|(secret, _)| secret);
        }
        match secret::header_value(text.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(value.span(), &format!("the value {error}"), "");
                None
            }
        }
    }

    pub(super) fn prices(&mut self, file: &File) -> Vec<(String, Prices)> {
        let mut all = Vec::new();
        for (name, item) in &file.prices {
            let text = name.get_ref();
            let (provider, model) = text.split_once('/').unwrap_or((text, ""));
            let fits = !model.is_empty()
                && model.len() <= MODEL_BYTES_MAX
                && !model.contains(char::is_control);
            if !fits {
                let message = format!("{} does not name a model", shown(text));
                self.problem(name.span(), &message, "write \"provider/model\" in quotes");
                continue;
            }
            let custom = provider
                .strip_prefix(CUSTOM_PREFIX)
                .is_some_and(|slug| file.custom_providers.contains_key(slug));
            if !custom && !(self.sources.known_provider)(provider) {
                self.unknown_provider(name.span(), provider, file);
                continue;
            }
            let price = item.get_ref();
            let prices = Prices {
                input: self.rate(&price.input),
                output: self.rate(&price.output),
                cache_read: self.rate(&price.cache_read),
                cache_write: self.rate(&price.cache_write),
                cache_write_hour: self.rate(&price.cache_write_hour),
                reasoning: self.rate(&price.reasoning),
                input_audio: self.rate(&price.input_audio),
                output_audio: self.rate(&price.output_audio),
                input_image: self.rate(&price.input_image),
                image: self.apiece(&price.image, 1),
                audio_milli: self.apiece(&price.audio_second, 1_000),
                search: self.apiece(&price.search, 1),
            };
            let reported = |name| self.report.was_taken_out(&item.span(), name);
            let by_token = price.input.is_some() || price.output.is_some();
            let by_piece =
                price.image.is_some() || price.audio_second.is_some() || price.search.is_some();
            if !by_token && !by_piece && !reported("input") && !reported("output") {
                let help = "write input = \"0.15\" (dollars for a million tokens)";
                self.problem(item.span(), "there is neither `input` nor `output`", help);
            }
            all.push((text.clone(), prices));
        }
        all
    }

    fn rate(&mut self, field: &Field<PriceText>) -> Option<Rate> {
        let field = field.as_ref()?;
        let rate = Rate::per_million(&field.get_ref().0);
        if rate.is_none() {
            let help = "write dollars for a million tokens as decimal text, such as \"0.15\"";
            self.no_price(field, help);
        }
        rate
    }

    /// A price for one piece, of which the table keeps the price of one of `parts`.
    fn apiece(&mut self, field: &Field<PriceText>, parts: u128) -> Option<Rate> {
        let field = field.as_ref()?;
        let rate = Rate::per_unit(&field.get_ref().0);
        if rate.is_none() {
            let help = "write dollars for one as decimal text, such as \"0.04\"";
            self.no_price(field, help);
        }
        Rate::from_units(rate?.units() / parts)
    }

    fn no_price(&mut self, field: &Spanned<PriceText>, help: &str) {
        let message = format!("{} is not a price", shown(&field.get_ref().0));
        self.problem(field.span(), &message, help);
    }
}
