//! Where a slug leads: the built-in providers with the file's settings, and custom ones.

use std::{collections::HashMap, time::Duration};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::CompileError;
use crate::{
    config::{
        Config,
        upstream::{AddressOverride, Http2, ProviderSettings, Timeouts, UpstreamUrl},
    },
    provider::{
        address::{Base, Overrides},
        dialect::Dialect,
        table::{ProviderId, by_slug},
    },
};

pub use crate::config::{secret::Secret, upstream::DEFAULT_ALIAS};

/// What the slug of a custom provider begins with.
pub const CUSTOM_PREFIX: &str = "custom-";

/// All providers that can be called.
#[derive(Debug)]
pub struct Providers {
    built_in: Vec<Provider>,
    custom: HashMap<Box<str>, Provider>,
}

/// One provider as a shard calls it.
#[derive(Debug)]
pub struct Provider {
    /// Its slug, as records name it.
    pub slug: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// The stored keys of alias `default`, in the order of the file. Any of them does: what one was
    /// answered is, to the cache, what all would be.
    pub keys: Vec<StoredKey>,
    /// HTTP/2 may be spoken.
    pub http2: bool,
    /// Until a connection stands; zero: no limit.
    pub connect_timeout: Duration,
    /// From the request to the first byte of the answer; zero: no limit.
    pub first_byte_timeout: Duration,
    /// Between two reads of the answer; zero: no limit.
    pub idle_timeout: Duration,
    /// The whole attempt; zero: no limit.
    pub total_timeout: Duration,
}

/// One of a provider's stored keys.
#[derive(Debug)]
pub struct StoredKey {
    /// What is presented to the provider.
    pub secret: Secret,
    /// Its share of the requests, 1 to 1000.
    pub weight: u16,
    /// Names it within the process, also in the next snapshot.
    pub id: u64,
}

impl StoredKey {
    /// A key of the provider of that slug.
    pub fn new(slug: &str, secret: Secret, weight: u16) -> Self {
        let seed = xxh3_64(slug.as_bytes());
        Self {
            id: xxh3_64_with_seed(secret.expose().as_bytes(), seed),
            secret,
            weight,
        }
    }
}

/// What a provider is.
#[derive(Debug)]
pub enum Kind {
    /// One of the table, with the file's addresses.
    BuiltIn {
        /// Its place in the table.
        id: ProviderId,
        /// What replaces the table's address.
        overrides: Overrides,
    },
    /// One of the operator's.
    Custom {
        /// Where it is.
        base: Base,
        /// Its shape.
        dialect: Dialect,
        /// Fields added to each request.
        fields: Vec<(Box<str>, Secret)>,
    },
}

impl Providers {
    /// Compiles the providers of a checked configuration.
    pub fn compile(config: &Config) -> Result<Self, CompileError> {
        let default = ProviderSettings::default();
        let mut built_in = Vec::new();
        for id in ProviderId::all() {
            let slug = id.slug();
            let settings = config.providers.get(slug).unwrap_or(&default);
            let overrides = overrides(id, settings)?;
            built_in.push(Provider::new(
                slug,
                Kind::BuiltIn { id, overrides },
                settings,
            ));
        }
        let mut custom = HashMap::new();
        for (name, provider) in &config.custom_providers {
            if !provider.enable {
                continue;
            }
            let slug = format!("{CUSTOM_PREFIX}{name}");
            let settings = config.providers.get(&slug).unwrap_or(&default);
            let kind = Kind::Custom {
                base: base(&slug, &provider.base_url, &[])?,
                dialect: provider.dialect,
                fields: provider
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.clone()))
                    .collect(),
            };
            let provider = Provider::new(&slug, kind, settings);
            custom.insert(slug.into(), provider);
        }
        Ok(Self { built_in, custom })
    }

    /// The provider of that slug; aliases lead to the provider that they name.
    pub fn find(&self, slug: &str) -> Option<&Provider> {
        if slug.starts_with(CUSTOM_PREFIX) {
            return self.custom.get(slug);
        }
        self.built_in.get(by_slug(slug)?.index())
    }
}

impl Provider {
    fn new(slug: &str, kind: Kind, settings: &ProviderSettings) -> Self {
        let Timeouts {
            connect,
            first_byte,
            idle,
            total,
        } = settings.timeouts;
        Self {
            slug: slug.into(),
            kind,
            keys: settings
                .credentials
                .iter()
                .map(|stored| StoredKey::new(slug, stored.secret.clone(), stored.weight))
                .collect(),
            http2: settings.http2 == Http2::Alpn,
            connect_timeout: connect.unwrap_or_default(),
            first_byte_timeout: first_byte.unwrap_or_default(),
            idle_timeout: idle.unwrap_or_default(),
            total_timeout: total.unwrap_or_default(),
        }
    }
}

fn overrides(id: ProviderId, settings: &ProviderSettings) -> Result<Overrides, CompileError> {
    let mut overrides = Overrides::default();
    match &settings.address {
        None => {}
        Some(AddressOverride::Base(url)) => {
            overrides.base_url = Some(base(id.slug(), url, id.provider().parts)?);
        }
        Some(AddressOverride::Origin(url)) => overrides.origin = Some(base(id.slug(), url, &[])?),
    }
    Ok(overrides)
}

fn base(slug: &str, url: &UpstreamUrl, parts: &[&str]) -> Result<Base, CompileError> {
    Base::parse(&url.to_string(), parts).map_err(|error| CompileError::Address {
        slug: slug.into(),
        why: error.to_string().into(),
    })
}
