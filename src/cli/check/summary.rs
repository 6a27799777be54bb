//! The settings in effect, for a look: names and numbers, never a secret.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::config::unit::size_text;
use crate::config::upstream::AddressOverride;
use crate::config::{Config, Driver, Permissions, limit::Limits};
use crate::domain::cache;

/// What a configuration comes to.
#[derive(Debug, Serialize)]
pub struct Summary {
    listen: Vec<String>,
    admin: Option<String>,
    data_dir: String,
    shards: Option<u16>,
    driver: &'static str,
    account_id: Option<String>,
    https: bool,
    gateways: Vec<Gateway>,
    auto_create_gateways: bool,
    tokens: Vec<Token>,
    providers: Vec<Provider>,
    custom_providers: Vec<CustomProvider>,
    prices: usize,
    limits: LimitsShown,
    cache: CacheShown,
    log_required: bool,
}

#[derive(Debug, Serialize)]
struct Gateway {
    id: String,
    authentication: bool,
    collect_logs: bool,
}

#[derive(Debug, Serialize)]
struct Token {
    name: String,
    source: String,
    permissions: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Provider {
    slug: String,
    keys: Vec<String>,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct CustomProvider {
    slug: String,
    base_url: String,
    enable: bool,
}

#[derive(Debug, Serialize)]
struct CacheShown {
    memory_bytes: u64,
    /// Depends on the number of shards; `None` where that is left to the machine.
    answer_bytes_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LimitsShown {
    head_bytes: u64,
    body_bytes: u64,
    gather_bytes: u64,
    head_timeout_ms: u128,
    body_timeout_ms: u128,
    idle_timeout_ms: u128,
    drain_delay_ms: u128,
    drain_timeout_ms: u128,
}

impl Summary {
    /// Takes what is worth showing.
    pub fn of(config: &Config) -> Self {
        let driver = Driver::WORDS
            .iter()
            .find(|(_, driver)| *driver == config.driver);
        Self {
            listen: config.listen.iter().map(ToString::to_string).collect(),
            admin: config.admin.map(|address| address.to_string()),
            data_dir: config.data_dir.display().to_string(),
            shards: config.shards,
            driver: driver.map_or("auto", |(word, _)| word),
            account_id: config.account_id.clone(),
            https: config.tls.is_some(),
            gateways: gateways(config),
            auto_create_gateways: config.auto_create_gateways,
            tokens: config.tokens.iter().map(Token::of).collect(),
            providers: providers(config),
            custom_providers: custom_providers(config),
            prices: config.prices.len(),
            limits: LimitsShown::of(&config.limits),
            cache: CacheShown::of(config),
            log_required: config.log_required,
        }
    }

    /// Prints it for people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |name: &str, value: &str| writeln!(out, "  {name:<16}  {value}");
        let scheme = if self.https { " (https)" } else { "" };
        line("listen", &format!("{}{scheme}", self.listen.join(", ")))?;
        line(
            "admin",
            self.admin.as_deref().unwrap_or("on the same addresses"),
        )?;
        line("data_dir", &self.data_dir)?;
        let shards = self.shards.map(|shards| shards.to_string());
        line("shards", shards.as_deref().unwrap_or("one for each core"))?;
        line("driver", self.driver)?;
        line("account", self.account_id.as_deref().unwrap_or("any"))?;
        let mut name = "gateways";
        for gateway in &self.gateways {
            line(name, &gateway.text())?;
            name = "";
        }
        if self.auto_create_gateways {
            line("", "any other is made on first use")?;
        }
        let tokens: Vec<_> = self.tokens.iter().map(Token::text).collect();
        list("tokens", &tokens, "none", &mut line)?;
        let providers: Vec<_> = self.providers.iter().map(Provider::text).collect();
        list(
            "providers",
            &providers,
            "all built-in ones, with callers' keys",
            &mut line,
        )?;
        let custom: Vec<_> = self
            .custom_providers
            .iter()
            .map(CustomProvider::text)
            .collect();
        list("custom providers", &custom, "none", &mut line)?;
        if self.prices > 0 {
            line("prices", &format!("{} of your own", self.prices))?;
        }
        self.limits.print(&mut line)?;
        line("response cache", &self.cache.text())
    }
}

/// Prints a line for each item under one name.
fn list(
    name: &str,
    items: &[String],
    none: &str,
    line: &mut dyn FnMut(&str, &str) -> io::Result<()>,
) -> io::Result<()> {
    let Some((first, others)) = items.split_first() else {
        return line(name, none);
    };
    line(name, first)?;
    others.iter().try_for_each(|item| line("", item))
}

fn gateways(config: &Config) -> Vec<Gateway> {
    let mut all: Vec<_> = config
        .gateways
        .iter()
        .map(|(id, gateway)| Gateway {
            id: id.clone(),
            authentication: gateway.authentication,
            collect_logs: gateway.collect_logs,
        })
        .collect();
    if !config.gateways.contains_key(crate::config::DEFAULT_GATEWAY) {
        let gateway = config.implied_gateway();
        let implied = Gateway {
            id: crate::config::DEFAULT_GATEWAY.to_owned(),
            authentication: gateway.authentication,
            collect_logs: gateway.collect_logs,
        };
        all.insert(0, implied);
    }
    all
}

fn providers(config: &Config) -> Vec<Provider> {
    let provider =
        |(slug, settings): (&String, &crate::config::upstream::ProviderSettings)| Provider {
            slug: slug.clone(),
            keys: settings
                .credentials
                .iter()
                .map(|key| key.source.to_string())
                .collect(),
            address: settings.address.as_ref().map(|address| match address {
                AddressOverride::Base(url) => format!("base_url {url}"),
                AddressOverride::Origin(url) => format!("origin {url}"),
            }),
        };
    config.providers.iter().map(provider).collect()
}

fn custom_providers(config: &Config) -> Vec<CustomProvider> {
    config
        .custom_providers
        .iter()
        .map(|(slug, provider)| CustomProvider {
            slug: format!("custom-{slug}"),
            base_url: provider.base_url.to_string(),
            enable: provider.enable,
        })
        .collect()
}

impl Gateway {
    fn text(&self) -> String {
        let token = if self.authentication {
            "callers show a token"
        } else {
            "open, no token asked for"
        };
        let records = if self.collect_logs {
            ""
        } else {
            ", not recorded"
        };
        format!("{}: {token}{records}", self.id)
    }
}

impl Token {
    fn of(token: &crate::config::Token) -> Self {
        let held = Permissions::WORDS
            .iter()
            .filter(|(_, permission)| token.permissions.contains(*permission));
        Self {
            name: token.name.clone(),
            source: token.source.to_string(),
            permissions: held.map(|(word, _)| *word).collect(),
        }
    }

    fn text(&self) -> String {
        format!(
            "{}: {} ({})",
            self.name,
            self.permissions.join(", "),
            self.source
        )
    }
}

impl Provider {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.keys.is_empty() {
            parts.push(format!("key {}", self.keys.join(" and ")));
        }
        parts.extend(self.address.clone());
        if parts.is_empty() {
            self.slug.clone()
        } else {
            format!("{}: {}", self.slug, parts.join(", "))
        }
    }
}

impl CustomProvider {
    fn text(&self) -> String {
        let state = if self.enable { "" } else { " (disabled)" };
        format!("{}: {}{state}", self.slug, self.base_url)
    }
}

impl CacheShown {
    fn of(config: &Config) -> Self {
        let shards = config.shards.map(usize::from);
        let share = shards.map(|shards| cache::share(config.cache_memory, shards));
        Self {
            memory_bytes: config.cache_memory,
            answer_bytes_max: share.map(cache::answer_bytes_max),
        }
    }

    fn text(&self) -> String {
        let memory = size_text(self.memory_bytes);
        match self.answer_bytes_max {
            _ if self.memory_bytes == 0 => "off".to_owned(),
            Some(0) => format!("off: {memory} is too little for so many shards"),
            Some(answer) => format!("{memory}, greatest answer {}", size_text(answer)),
            None => format!("{memory}, greatest answer 25MiB or a quarter of a shard's part"),
        }
    }
}

impl LimitsShown {
    fn of(limits: &Limits) -> Self {
        Self {
            head_bytes: limits.head_bytes,
            body_bytes: limits.body_bytes,
            gather_bytes: limits.gather_bytes,
            head_timeout_ms: limits.head_timeout.as_millis(),
            body_timeout_ms: limits.body_timeout.as_millis(),
            idle_timeout_ms: limits.idle_timeout.as_millis(),
            drain_delay_ms: limits.drain_delay.as_millis(),
            drain_timeout_ms: limits.drain_timeout.as_millis(),
        }
    }

    fn print(&self, line: &mut dyn FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
        let sizes = [
            ("head", self.head_bytes),
            ("body", self.body_bytes),
            ("gathered", self.gather_bytes),
        ];
        let sizes = sizes.map(|(name, bytes)| format!("{name} {}", size_text(bytes)));
        line("greatest sizes", &sizes.join(", "))?;
        let times = [
            ("head", self.head_timeout_ms),
            ("body", self.body_timeout_ms),
            ("idle", self.idle_timeout_ms),
            ("drain", self.drain_timeout_ms),
        ];
        let times = times.map(|(name, ms)| format!("{name} {}", time(ms)));
        line("longest waits", &times.join(", "))
    }
}

/// A time in seconds, or milliseconds where it has a rest.
fn time(ms: u128) -> String {
    let second = Duration::from_secs(1).as_millis();
    match ms % second {
        0 => format!("{} s", ms / second),
        _ => format!("{ms} ms"),
    }
}
