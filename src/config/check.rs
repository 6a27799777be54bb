//! From the mirror of the file to a [`Config`]: every value checked, every problem reported.
//!
//! [`Report`] collects what is wrong; a `Checker` turns single keys into values; the parts of
//! the file that have many keys are in `gateway` and `provider`.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::domain::money::{PicoDollars, parse_dollars};

use super::environment::{TOKEN_BYTES_GOOD, is_weak};
use super::file::{self, Addresses, AmountText, DurationText, Field, File, SizeText};
use super::limit::{self, Bound};
use super::problem::{Problem, Problems, Source};
use super::redact::shown;
use super::secret::{self, Reference, ReferenceError, Secret, SecretError};
use super::upstream::is_host_name;
use super::word::nearest;
use super::{
    Budget, Config, DEFAULT_GATEWAY, Loaded, Period, Permissions, Sources, Tls, Token, unit,
};

mod gateway;
mod provider;

/// What is wrong so far, and what is worth a warning.
pub(super) struct Report<'a> {
    source: Source<'a>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Problems and warnings over [`limit::PROBLEMS_MAX`], only counted.
    left_out: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            problems: Vec::new(),
            warnings: Vec::new(),
            left_out: 0,
        }
    }

    /// Something wrong at these bytes of the file.
    pub(super) fn problem(&mut self, span: Range<usize>, message: String, help: String) {
        if self.problems.len() >= limit::PROBLEMS_MAX {
            self.left_out += 1;
            return;
        }
        self.problems.push(self.source.problem(span, message, help));
    }

    /// Something wrong with a variable or flag.
    pub(super) fn elsewhere(&mut self, origin: &str, message: String, help: String) {
        self.problems
            .push(Problem::elsewhere(origin, message, help));
    }

    /// Something worth knowing at these bytes of the file.
    pub(super) fn warn(&mut self, span: Range<usize>, message: String, help: String) {
        if self.warnings.len() < limit::PROBLEMS_MAX {
            self.warnings.push(self.source.problem(span, message, help));
        }
    }

    /// Something worth knowing about a variable or flag.
    pub(super) fn warn_elsewhere(&mut self, origin: &str, message: String, help: String) {
        self.warnings
            .push(Problem::elsewhere(origin, message, help));
    }

    /// The configuration, if nothing is wrong.
    pub(super) fn finish(mut self, config: Config) -> Result<Loaded, Problems> {
        // What concerns the file comes first, in its order.
        let place = |problem: &Problem| (problem.line.is_none(), problem.line, problem.column);
        self.problems.sort_by_key(place);
        self.warnings.sort_by_key(place);
        if self.left_out > 0 {
            let message = format!("and {} problems more", self.left_out);
            let more = Problem::elsewhere(self.source.name, message, String::new());
            self.problems.push(more);
        }
        match self.problems.is_empty() {
            true => Ok(Loaded {
                config,
                warnings: self.warnings,
            }),
            false => Err(Problems(self.problems)),
        }
    }
}

/// What the file says about the authentication of its gateways, to be judged once the final
/// listener is known: id, place and value where it says something.
pub(super) struct Gates(Vec<(String, Option<(Range<usize>, bool)>)>);

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
    for (id, authentication) in &gates.0 {
        let Some((span, authentication)) = authentication else {
            // Only `default` opens by itself, and only where nobody else can reach it.
            if let Some(gateway) = config.gateways.get_mut(id) {
                gateway.authentication = !(loopback && id == DEFAULT_GATEWAY);
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
        match config.allow_open {
            true => report.warn(span.clone(), message, String::new()),
            false => report.problem(
                span.clone(),
                message,
                "set authentication = true, listen on 127.0.0.1 only, or start with --allow-open"
                    .to_owned(),
            ),
        }
    }
    if let Some(admin) = config.admin
        && admin.port() != 0
        && config.listen.contains(&admin)
    {
        let message = format!("admin and listen are both {admin}");
        let help = "choose another port for admin, or leave it out to serve both".to_owned();
        report.elsewhere("admin", message, help);
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
        config.hosts = self.hosts(file.hosts.as_deref().unwrap_or_default());
        config.log_required = flag(&file.log_required, false);
        self.unbuilt(
            "compression of the log",
            &[("log_compress_after", span(&file.log_compress_after))],
        );
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
        if crate::domain::id::is_gateway_id(id) {
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

    fn tokens(&mut self, items: &[Spanned<file::Token>]) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        // By digest: comparing each with each would take minutes for thousands.
        let mut names = std::collections::BTreeSet::new();
        let mut secrets = std::collections::BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if index >= limit::TOKENS_MAX {
                let message = format!("more than {} tokens", limit::TOKENS_MAX);
                self.problem(
                    item.span(),
                    &message,
                    "make them with `tidegate keys create`",
                );
                break;
            }
            let Some(token) = self.token(item) else {
                continue;
            };
            let file = item.get_ref();
            let name_span = span(&file.name).unwrap_or(item.span());
            let token_span = span(&file.token).unwrap_or(item.span());
            if !names.insert(token.name.clone()) {
                self.problem(name_span, "another token has this name", "");
                continue;
            }
            let digest = *blake3::hash(token.secret.expose().as_bytes()).as_bytes();
            if let Some(other) = secrets.insert(digest, token.name.clone()) {
                let message = format!("this is the same secret as that of {}", shown(&other));
                self.problem(token_span, &message, "give each token a secret of its own");
                continue;
            }
            if is_weak(&token.secret) {
                let message = format!("the token is shorter than {TOKEN_BYTES_GOOD} characters");
                self.report
                    .warn(token_span, message, "a long random one is safer".to_owned());
            }
            tokens.push(token);
        }
        tokens
    }

    fn token(&mut self, item: &Spanned<file::Token>) -> Option<Token> {
        let file = item.get_ref();
        let name = match &file.name {
            Some(name) => self.name(name),
            None => self.missing(item.span(), "name", "records show it; write name = \"app\""),
        };
        let secret = match &file.token {
            Some(field) => self.secret(field, secret::token),
            None => self.missing(item.span(), "token", "write token = \"env:APP_TOKEN\""),
        };
        let permissions = match &file.permissions {
            Some(list) => self.permissions(list),
            None => Some(Permissions::RUN),
        };
        let budget = match &file.budget {
            Some(budget) => Some(self.budget(budget)?),
            None => None,
        };
        self.unbuilt("budgets", &[("budget", span(&file.budget))]);
        let (secret, source) = secret?;
        Some(Token {
            name: name?,
            secret,
            source,
            permissions: permissions?,
            budget,
        })
    }

    fn permissions(&mut self, list: &Spanned<Vec<Spanned<String>>>) -> Option<Permissions> {
        let mut all = Permissions::NONE;
        if list.get_ref().is_empty() {
            self.problem(
                list.span(),
                "a token without permissions can do nothing",
                "write [\"run\"], and \"read\" or \"edit\" for management",
            );
            return None;
        }
        let mut complete = true;
        for item in list.get_ref() {
            match self.one_word(item, &Permissions::WORDS) {
                Some(permission) => all = all.with(permission),
                None => complete = false,
            }
        }
        complete.then_some(all)
    }

    fn budget(&mut self, budget: &Spanned<file::Budget>) -> Option<Budget> {
        const PERIODS: [(&str, Period); 4] = [
            ("hourly", Period::Hourly),
            ("daily", Period::Daily),
            ("weekly", Period::Weekly),
            ("monthly", Period::Monthly),
        ];
        let file = budget.get_ref();
        let limit = match &file.limit {
            Some(limit) => self.dollars(limit),
            None => self.missing(budget.span(), "limit", "write dollars: limit = \"50\""),
        };
        let period = match &file.period {
            Some(period) => self.one_word(period, &PERIODS),
            None => self.missing(budget.span(), "period", "write period = \"monthly\""),
        };
        let time_zone = match &file.time_zone {
            Some(zone) => self.time_zone(zone),
            None => Some("UTC".to_owned()),
        };
        Some(Budget {
            limit: limit?,
            period: period?,
            time_zone: time_zone?,
            hard: flag(&file.hard, false),
        })
    }

    fn time_zone(&mut self, field: &Spanned<String>) -> Option<String> {
        let zone = field.get_ref();
        let fits = (1..=64).contains(&zone.len())
            && zone.split('/').all(|part| !part.is_empty())
            && zone
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
        if fits {
            return Some(zone.clone());
        }
        self.problem(
            field.span(),
            "this cannot be a time zone",
            "write \"UTC\" or a name such as \"Europe/Vienna\"",
        );
        None
    }
}

/// Single keys.
impl Checker<'_, '_> {
    fn problem(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.report
            .problem(span, message.to_owned(), help.to_owned());
    }

    /// A key that has to be there; stands for whatever value it would have had.
    fn missing<T>(&mut self, span: Range<usize>, name: &str, help: &str) -> Option<T> {
        self.problem(span, &format!("`{name}` is missing"), help);
        None
    }

    /// Warns of keys that ask for something that does not exist yet; `None` is not asked for.
    fn unbuilt(&mut self, feature: &str, keys: &[(&str, Option<Range<usize>>)]) {
        let asked: Vec<_> = keys
            .iter()
            .filter_map(|(key, span)| Some((*key, span.clone()?)))
            .collect();
        let Some((_, span)) = asked.first() else {
            return;
        };
        let names: Vec<&str> = asked.iter().map(|(key, _)| *key).collect();
        let verb = match names.len() {
            1 => "has",
            _ => "have",
        };
        let message = format!(
            "not built yet: {feature}; {} {verb} no effect",
            names.join(", ")
        );
        self.report.warn(span.clone(), message, String::new());
    }

    fn number(&mut self, field: &Field<i64>, range: &RangeInclusive<u64>) -> Option<u64> {
        let field = field.as_ref()?;
        let number = u64::try_from(*field.get_ref()).ok();
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let message = format!("must be from {} to {}", range.start(), range.end());
        self.problem(field.span(), &message, "");
        None
    }

    fn duration(&mut self, field: &Field<DurationText>, bound: &Bound<Duration>) -> Duration {
        let Some(field) = field else {
            return bound.default;
        };
        let text = &field.get_ref().0;
        match unit::duration(text) {
            Ok(value) if bound.holds(&value) => return value,
            Ok(_) => {
                let (min, max) = (
                    unit::duration_text(bound.min),
                    unit::duration_text(bound.max),
                );
                let message = format!("must be from {min} to {max}");
                self.problem(field.span(), &message, "");
            }
            Err(error) => {
                let message = format!("{} is not a duration: {error}", shown(text));
                self.problem(field.span(), &message, unit::DURATION_HELP);
            }
        }
        bound.default
    }

    fn size(&mut self, field: &Field<SizeText>, bound: &Bound<u64>) -> u64 {
        let Some(field) = field else {
            return bound.default;
        };
        let text = &field.get_ref().0;
        match unit::size(text) {
            Ok(value) if bound.holds(&value) => return value,
            Ok(_) => {
                let (min, max) = (unit::size_text(bound.min), unit::size_text(bound.max));
                let message = format!("must be from {min} to {max}");
                self.problem(field.span(), &message, "");
            }
            Err(error) => {
                let message = format!("{} is not a size: {error}", shown(text));
                self.problem(field.span(), &message, unit::SIZE_HELP);
            }
        }
        bound.default
    }

    fn word<T: Copy>(&mut self, field: &Field<String>, words: &[(&str, T)]) -> Option<T> {
        self.one_word(field.as_ref()?, words)
    }

    fn one_word<T: Copy>(&mut self, field: &Spanned<String>, words: &[(&str, T)]) -> Option<T> {
        let text = field.get_ref();
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(text, &known) {
            Some(word) => format!("did you mean \"{word}\"? (one of {})", known.join(", ")),
            None => format!("write one of {}", known.join(", ")),
        };
        let message = format!("{} is not known here", shown(text));
        self.problem(field.span(), &message, &help);
        None
    }

    /// A name for people: one line, bounded.
    fn name(&mut self, field: &Spanned<String>) -> Option<String> {
        let text = field.get_ref();
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count())
            && !text.contains(char::is_control)
            && text.trim() == text;
        if fits {
            return Some(text.clone());
        }
        let help = format!("write 1 to {NAME_CHARS_MAX} characters on one line");
        self.problem(field.span(), "this cannot be a name", &help);
        None
    }

    fn names(&mut self, field: &Field<Vec<Spanned<String>>>) -> Option<Vec<String>> {
        let field = field.as_ref()?;
        if field.get_ref().len() > limit::LIST_MAX {
            let message = format!("more than {} entries", limit::LIST_MAX);
            self.problem(field.span(), &message, "");
            return None;
        }
        let names = field.get_ref().iter().map(|name| self.name(name));
        names.collect()
    }

    /// A path, relative ones starting at the file's folder.
    fn path(&mut self, field: &Field<String>) -> Option<PathBuf> {
        let field = field.as_ref()?;
        let text = field.get_ref();
        if (1..=4096).contains(&text.len()) && !text.contains(char::is_control) {
            return Some(self.base_dir.join(text));
        }
        self.problem(
            field.span(),
            "this cannot be a path",
            "write the path of a file or folder",
        );
        None
    }

    fn dollars(&mut self, field: &Spanned<AmountText>) -> Option<PicoDollars> {
        let source = self
            .report
            .source
            .text
            .get(field.span())
            .unwrap_or_default();
        let amount = match source.starts_with(['"', '\'']) {
            true => parse_dollars(&field.get_ref().0),
            // A bare number is taken from the text, where it is still exact.
            false => parse_dollars(&source.replace('_', "")),
        };
        if amount.is_none() {
            self.problem(
                field.span(),
                "this is not an amount of dollars",
                "write a decimal number from 0 to 18 million, such as \"20.50\"",
            );
        }
        amount
    }

    /// The secret that a reference leads to, made by `make`.
    fn secret(
        &mut self,
        field: &Spanned<String>,
        make: fn(String) -> Result<Secret, SecretError>,
    ) -> Option<(Secret, Reference)> {
        let reference = match Reference::parse(field.get_ref(), self.base_dir) {
            Ok(reference) => reference,
            Err(error) => {
                let help = match error {
                    ReferenceError::Literal => {
                        "put it into an environment variable or a file, and write \"env:NAME\" or \"file:PATH\""
                    }
                    ReferenceError::VariableName => {
                        "write \"env:NAME\" with letters, digits and `_`"
                    }
                    ReferenceError::Path => "write \"file:PATH\"",
                };
                self.problem(field.span(), &error.to_string(), help);
                return None;
            }
        };
        let found = match &reference {
            Reference::Env(name) => (self.sources.env)(name)
                .ok_or_else(|| format!("the environment variable {} is not set", shown(name))),
            Reference::File(path) => (self.sources.read_file)(path).map_err(|error| {
                format!("cannot read {}: {error}", shown(&path.to_string_lossy()))
            }),
        };
        let made = found.and_then(|text| {
            make(text).map_err(|error| match &reference {
                Reference::Env(name) => format!("the environment variable {} {error}", shown(name)),
                Reference::File(path) => {
                    format!("the file {} {error}", shown(&path.to_string_lossy()))
                }
            })
        });
        match made {
            Ok(secret) => Some((secret, reference)),
            Err(message) => {
                self.problem(field.span(), &message, "");
                None
            }
        }
    }
}

/// Longest name of a token, a profile and the like, in characters.
const NAME_CHARS_MAX: usize = 128;

/// A yes or no, with what holds where nothing is said.
fn flag(field: &Field<bool>, default: bool) -> bool {
    field.as_ref().map_or(default, |field| *field.get_ref())
}

/// Where a key stands, if it is there.
fn span<T>(field: &Field<T>) -> Option<Range<usize>> {
    field.as_ref().map(Spanned::span)
}

/// Where a yes stands, if it is one.
fn set(field: &Field<bool>) -> Option<Range<usize>> {
    field
        .as_ref()
        .filter(|field| *field.get_ref())
        .map(Spanned::span)
}

/// What is wrong with an address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// A URL.
    #[error("this is a URL, not an address to listen on")]
    Url,
    /// A port alone, with or without colon.
    #[error("this is a port without an address")]
    PortOnly,
    /// An address without a port.
    #[error("the port is missing")]
    NoPort,
    /// A host name.
    #[error("names are not looked up here")]
    Name,
    /// Anything else.
    #[error("this is not an address")]
    Other,
}

impl AddressError {
    pub(super) fn help(self, text: &str) -> String {
        let port = text
            .rsplit(':')
            .next()
            .filter(|port| port.parse::<u16>().is_ok())
            .unwrap_or("8787");
        match self {
            Self::PortOnly | Self::Url | Self::Other => format!(
                "write \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for all"
            ),
            Self::NoPort => "write address and port, such as \"127.0.0.1:8787\"".to_owned(),
            Self::Name => format!("write an IP address, or \"localhost:{port}\""),
        }
    }
}

/// Reads an address to listen on. `localhost` is 127.0.0.1; no other name is looked up.
pub(super) fn address(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains("://") {
        return Err(AddressError::Url);
    }
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_port(text) || text.strip_prefix(':').is_some_and(is_port) {
        return Err(AddressError::PortOnly);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if text == "localhost" || bare.parse::<std::net::IpAddr>().is_ok() {
        return Err(AddressError::NoPort);
    }
    match text.rsplit_once(':') {
        Some(("localhost", port)) if is_port(port) => match port.parse() {
            Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Err(_) => Err(AddressError::Other),
        },
        Some((host, port)) if is_port(port) && is_host_name(host) => Err(AddressError::Name),
        _ => Err(AddressError::Other),
    }
}
