//! From the mirror of the file to a [`Config`]: every value checked, every problem reported.
//!
//! Reading order: this page (the keys at the top of the file), then `field` (single values) and
//! the parts with many keys: `token`, `gateway` with its `rule`s, `provider`; `unbuilt` warns.
#![expect(
    clippy::ref_option,
    reason = "fields of the mirror are handed on as they are, which keeps the calls short"
)]

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use crate::domain::id::is_gateway_id;

use super::address::address;
use super::file::{self, Addresses, Field, File};
use super::limit;
use super::redact::shown;
use super::report::Report;
use super::upstream::is_host_name;
use super::{Config, DEFAULT_GATEWAY, Sources, Tls};

mod field;
mod token;
mod gateway;
mod rule;
mod unbuilt;
mod provider;

use self::field::{flag, set};

/// What the file says about the authentication of its gateways, to be judged once the final
/// listener is known.
pub(super) struct Gates(Vec<Gate>);

/// One gateway's part of [`Gates`].
struct Gate {
    id: String,
    /// The value of `authentication` and its place, where the file has one.
    authentication: Option<(Range<usize>, bool)>,
}

/// Checks the whole file into `config`.
pub(super) fn file(
    file: &File,
    config: &mut Config,
    report: &mut Report<'_>,
    base_dir: &Path,
    sources: &Sources<'_>,
) -> Gates {
    let mut checker = Checker {
        report,
        base_dir,
        sources,
    };
    checker.top(file, config);
    checker.limits(&file.limits, config);
    config.tls = file.tls.as_ref().and_then(|tls| checker.tls(tls));
    config.tokens = checker.tokens(&file.tokens);
    let gates = checker.gateways(&file.gateways, config);
    checker.custom_providers(&file.custom_providers, config);
    checker.providers(file, config);
    config.prices = checker.prices(file);
    gates
}

/// Decides what depends on the final listener: whether gateways ask for a token, and whether
/// that is safe.
pub(super) fn access(gates: &Gates, config: &mut Config, report: &mut Report<'_>) {
    let loopback = config.is_loopback();
    for gate in &gates.0 {
        let Some((span, authentication)) = &gate.authentication else {
            // Only `default` opens by itself, and only where nobody else can reach it.
            if let Some(gateway) = config.gateways.get_mut(&gate.id) {
                gateway.authentication = !(loopback && gate.id == DEFAULT_GATEWAY);
            }
            continue;
        };
        if *authentication || loopback {
            continue;
        }
        let open = config
            .listen
            .iter()
            .find(|address| !address.ip().to_canonical().is_loopback());
        let open = open.map(ToString::to_string).unwrap_or_default();
        let message = format!("whoever reaches {open} can use this gateway without a token");
        if config.allow_open {
            report.warn(span.clone(), message, String::new());
        } else {
            let help =
                "set authentication = true, listen on 127.0.0.1 only, or start with --allow-open";
            report.problem(span.clone(), message, help.to_owned());
        }
    }
    if let Some(admin) = config.admin
        && admin.port() != 0
        && config.listen.contains(&admin)
    {
        let message = format!("admin and listen are both {admin}");
        let help = "choose another port for admin, or leave it out to serve both".to_owned();
        report.general(message, help);
    }
}

/// Turns keys into values, noting what is wrong.
struct Checker<'c, 'a> {
    report: &'c mut Report<'a>,
    base_dir: &'c Path,
    sources: &'c Sources<'c>,
}

impl Checker<'_, '_> {
    fn top(&mut self, file: &File, config: &mut Config) {
        if let Some(listen) = &file.listen {
            self.listen(listen, config);
        }
        if let Some(text) = &file.admin {
            config.admin = self.address(text.get_ref(), text.span());
        }
        if let Some(path) = self.path(&file.data_dir) {
            config.data_dir = path;
        }
        let shards = self.number(&file.shards, &limit::SHARDS);
        config.shards = shards.and_then(|shards| u16::try_from(shards).ok());
        config.account_id = self.account_id(&file.account_id);
        config.auto_create_gateways = flag(&file.auto_create_gateways, false);
        config.allow_http_upstreams = flag(&file.allow_http_upstreams, false);
        let range = limit::LOG_SYNC_MS.min..=limit::LOG_SYNC_MS.max;
        if let Some(millis) = self.number(&file.log_sync_ms, &range) {
            config.log_sync = Duration::from_millis(millis);
        }
        config.log_compress_after =
            self.duration(&file.log_compress_after, &limit::LOG_COMPRESS_AFTER);
        config.log_retention = self.duration(&file.log_retention, &limit::LOG_RETENTION);
        config.log_bytes_max = self.size(&file.log_bytes_max, &limit::LOG_BYTES_MAX);
        config.cache_memory = self.size(&file.cache_memory, &limit::CACHE_MEMORY);
        config.hosts = self.hosts(file.hosts.as_deref().unwrap_or_default());
        config.log_required = flag(&file.log_required, false);
        self.unbuilt(
            "adding custom providers through the API",
            &[("allow_http_upstreams", set(&file.allow_http_upstreams))],
        );
    }

    fn listen(&mut self, listen: &Spanned<Addresses>, config: &mut Config) {
        let items: Vec<(&str, Range<usize>)> = match listen.get_ref() {
            Addresses::One(text) => vec![(text, listen.span())],
            Addresses::Many(items) => items
                .iter()
                .map(|item| (item.get_ref().as_str(), item.span()))
                .collect(),
        };
        if items.is_empty() {
            return self.problem(
                listen.span(),
                "there is no address in this list",
                "write at least one, or leave `listen` out for 127.0.0.1:8787",
            );
        }
        if items.len() > limit::LISTEN_MAX {
            let message = format!("more than {} addresses", limit::LISTEN_MAX);
            return self.problem(listen.span(), &message, "");
        }
        let mut all: Vec<SocketAddr> = Vec::new();
        for (text, span) in items {
            let Some(address) = self.address(text, span.clone()) else {
                continue;
            };
            if address.port() != 0 && all.contains(&address) {
                self.problem(span, "this address is there twice", "");
            } else {
                all.push(address);
            }
        }
        if !all.is_empty() {
            config.listen = all;
        }
    }

    fn address(&mut self, text: &str, span: Range<usize>) -> Option<SocketAddr> {
        match address(text) {
            Ok(address) => Some(address),
            Err(error) => {
                self.problem(span, &error.to_string(), &error.help(text));
                None
            }
        }
    }

    fn account_id(&mut self, field: &Field<String>) -> Option<String> {
        let field = field.as_ref()?;
        let id = field.get_ref();
        // The alphabet and length of gateway ids serve for accounts as well.
        if is_gateway_id(id) {
            return Some(id.clone());
        }
        self.problem(
            field.span(),
            "this cannot be an account id",
            "write 1 to 64 letters, digits, `-` and `_`",
        );
        None
    }

    fn hosts(&mut self, items: &[Spanned<String>]) -> Vec<String> {
        let mut hosts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let text = item.get_ref();
            if index >= limit::HOSTS_MAX {
                let message = format!("more than {} names", limit::HOSTS_MAX);
                self.problem(item.span(), &message, "");
                break;
            }
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            if is_host_name(text) {
                hosts.push(text.to_ascii_lowercase());
            } else if let Ok(address) = bare.parse::<std::net::Ipv6Addr>() {
                hosts.push(format!("[{address}]"));
            } else {
                self.problem(
                    item.span(),
                    &format!("{} is not a host name", shown(text)),
                    "write the name alone, without scheme, port or path",
                );
            }
        }
        hosts
    }

    fn limits(&mut self, file: &file::Limits, config: &mut Config) {
        config.limits = limit::Limits {
            head_bytes: self.size(&file.head_bytes, &limit::HEAD_BYTES),
            body_bytes: self.size(&file.body_bytes, &limit::BODY_BYTES),
            gather_bytes: self.size(&file.gather_bytes, &limit::GATHER_BYTES),
            head_timeout: self.duration(&file.head_timeout, &limit::HEAD_TIMEOUT),
            body_timeout: self.duration(&file.body_timeout, &limit::BODY_TIMEOUT),
            idle_timeout: self.duration(&file.idle_timeout, &limit::IDLE_TIMEOUT),
            drain_delay: self.duration(&file.drain_delay, &limit::DRAIN_DELAY),
            drain_timeout: self.duration(&file.drain_timeout, &limit::DRAIN_TIMEOUT),
        };
    }

    fn tls(&mut self, tls: &Spanned<file::Tls>) -> Option<Tls> {
        let file = tls.get_ref();
        for (field, name) in [(&file.cert, "cert"), (&file.key, "key")] {
            if field.is_none() {
                self.missing::<()>(tls.span(), name, "https takes both `cert` and `key`");
            }
        }
        let (cert, key) = (self.path(&file.cert), self.path(&file.key));
        Some(Tls {
            cert: cert?,
            key: key?,
        })
    }
}
