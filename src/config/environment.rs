//! Variables and flags, laid over what the file said.
//!
//! Only documented variables count, and each is checked like the key it stands for; a message
//! names the variable or flag.

use std::io;
use std::path::PathBuf;

use super::address::address;
use super::limit;
use super::redact::shown;
use super::report::Report;
use super::secret::{self, Reference, Secret};
use super::upstream::Credential;
use super::{Config, Driver, Sources};

/// Addresses are separated by this in `TIDEGATE_LISTEN`.
const LIST_SEPARATOR: char = ',';

/// Applies the environment, then the flags. `has_data_dir` says whether the file named one.
pub(super) fn apply(
    config: &mut Config,
    report: &mut Report<'_>,
    sources: &Sources<'_>,
    has_data_dir: bool,
) {
    let variable = |name: &str| (sources.env)(name).filter(|value| !value.trim().is_empty());
    if !has_data_dir {
        config.data_dir = state_dir(&variable);
    }
    if let Some(text) = variable("TIDEGATE_LISTEN") {
        let parts: Vec<&str> = text.split(LIST_SEPARATOR).map(str::trim).collect();
        listen(config, report, "TIDEGATE_LISTEN", &parts);
    }
    if let Some(text) = variable("TIDEGATE_ADMIN") {
        admin(config, report, "TIDEGATE_ADMIN", text.trim());
    }
    if let Some(text) = variable("TIDEGATE_DATA_DIR") {
        config.data_dir = PathBuf::from(text);
    }
    if let Some(text) = variable("TIDEGATE_SHARDS") {
        shards(config, report, "TIDEGATE_SHARDS", text.trim().parse().ok());
    }
    if let Some(text) = variable("TIDEGATE_DRIVER") {
        driver(config, report, "TIDEGATE_DRIVER", text.trim());
    }
    config.log_filter = variable("TIDEGATE_LOG");
    config.master_key = master_key(report, sources, &variable);
    config.redis_url = variable("TIDEGATE_REDIS_URL").map(Secret::new);
    if config.redis_url.is_some() {
        let message = "sharing limits between machines is not built yet: this has no effect";
        report.warn_elsewhere("TIDEGATE_REDIS_URL", message.to_owned(), String::new());
    }
    config.api_token = api_token(report, sources, &variable);
    flags(config, report, sources);
    pick_up(config, report, sources, &variable);
}

/// The user's state folder (XDG base directory specification), or `data` where there is none.
fn state_dir(variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let absolute = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return state.join("tidegate");
    }
    match absolute("HOME") {
        Some(home) => home.join(".local/state/tidegate"),
        None => PathBuf::from("data"),
    }
}

fn flags(config: &mut Config, report: &mut Report<'_>, sources: &Sources<'_>) {
    let flags = sources.flags;
    if !flags.listen.is_empty() {
        let parts: Vec<&str> = flags.listen.iter().map(String::as_str).collect();
        listen(config, report, "--listen", &parts);
    }
    if let Some(text) = &flags.admin {
        admin(config, report, "--admin", text);
    }
    if let Some(path) = &flags.data_dir {
        config.data_dir.clone_from(path);
    }
    if flags.shards.is_some() {
        shards(config, report, "--shards", flags.shards);
    }
    if let Some(word) = &flags.driver {
        driver(config, report, "--driver", word);
    }
    config.allow_open = flags.allow_open;
}

fn listen(config: &mut Config, report: &mut Report<'_>, origin: &str, parts: &[&str]) {
    if parts.len() > limit::LISTEN_MAX {
        let message = format!("more than {} addresses", limit::LISTEN_MAX);
        return report.elsewhere(origin, message, String::new());
    }
    let mut all = Vec::new();
    for part in parts {
        match address(part) {
            Ok(address) if all.contains(&address) && address.port() != 0 => {
                let message = format!("{} is there twice", shown(part));
                report.elsewhere(origin, message, String::new());
            }
            Ok(address) => all.push(address),
            Err(error) => report.elsewhere(origin, error.to_string(), error.help(part)),
        }
    }
    if !all.is_empty() {
        config.listen = all;
    }
}

fn admin(config: &mut Config, report: &mut Report<'_>, origin: &str, text: &str) {
    match address(text) {
        Ok(address) => config.admin = Some(address),
        Err(error) => report.elsewhere(origin, error.to_string(), error.help(text)),
    }
}

fn shards(config: &mut Config, report: &mut Report<'_>, origin: &str, number: Option<u64>) {
    if let Some(number) = number.filter(|number| limit::SHARDS.contains(number)) {
        config.shards = u16::try_from(number).ok();
        return;
    }
    let (min, max) = (limit::SHARDS.start(), limit::SHARDS.end());
    let message = format!("must be a whole number from {min} to {max}");
    report.elsewhere(origin, message, String::new());
}

fn driver(config: &mut Config, report: &mut Report<'_>, origin: &str, word: &str) {
    if let Some((_, driver)) = Driver::WORDS.iter().find(|(name, _)| *name == word) {
        config.driver = *driver;
        return;
    }
    let message = format!("{} is not a driver", shown(word));
    report.elsewhere(origin, message, "write auto, uring or epoll".to_owned());
}

fn api_token(
    report: &mut Report<'_>,
    sources: &Sources<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<Secret> {
    const PLAIN: &str = "TIDEGATE_API_TOKEN";
    const FILE: &str = "TIDEGATE_API_TOKEN_FILE";
    let (origin, text) = match (variable(PLAIN), variable(FILE)) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            let message = format!("both {PLAIN} and {FILE} are set");
            report.elsewhere(PLAIN, message, "keep one of them".to_owned());
            return None;
        }
        (Some(text), None) => (PLAIN, text),
        (None, Some(path)) => match (sources.read_file)(path.as_ref()) {
            Ok(text) => (FILE, text),
            Err(error) => {
                let message = format!("cannot read {}: {error}", shown(&path));
                report.elsewhere(FILE, message, String::new());
                return None;
            }
        },
    };
    match secret::token(text) {
        Ok(token) => {
            if is_weak(&token) {
                let message = format!("the token is shorter than {TOKEN_BYTES_GOOD} characters");
                report.warn_elsewhere(origin, message, "a long random one is safer".to_owned());
            }
            Some(token)
        }
        Err(error) => {
            report.elsewhere(origin, format!("the token {error}"), String::new());
            None
        }
    }
}

/// The key that seals stored credentials: from the environment, from a file, or handed over by
/// systemd (`LoadCredential=tidegate-master-key:…`).
fn master_key(
    report: &mut Report<'_>,
    sources: &Sources<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<Secret> {
    const PLAIN: &str = "TIDEGATE_MASTER_KEY";
    const FILE: &str = "TIDEGATE_MASTER_KEY_FILE";
    const FOLDER: &str = "CREDENTIALS_DIRECTORY";
    const CREDENTIAL: &str = "tidegate-master-key";
    let mut read =
        |origin: &'static str, path: PathBuf, must: bool| match (sources.read_file)(&path) {
            Ok(text) => Some((origin, text)),
            Err(error) if !must && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let name = path.display().to_string();
                let message = format!("cannot read {}: {error}", shown(&name));
                report.elsewhere(origin, message, String::new());
                None
            }
        };
    let (origin, text) = match (variable(PLAIN), variable(FILE)) {
        (None, None) => {
            let folder = variable(FOLDER)?;
            read(FOLDER, PathBuf::from(folder).join(CREDENTIAL), false)?
        }
        (Some(_), Some(_)) => {
            let message = format!("both {PLAIN} and {FILE} are set");
            report.elsewhere(PLAIN, message, "keep one of them".to_owned());
            return None;
        }
        (Some(text), None) => (PLAIN, text),
        (None, Some(path)) => read(FILE, PathBuf::from(path), true)?,
    };
    let problem = match secret::token(text) {
        Ok(key) if !is_weak(&key) => return Some(key),
        Ok(_) => format!("the master key is shorter than {TOKEN_BYTES_GOOD} characters"),
        Err(error) => format!("the master key {error}"),
    };
    let help = "a good one comes from `openssl rand -base64 32`".to_owned();
    report.elsewhere(origin, problem, help);
    None
}

/// Length from which on a random token cannot be guessed: 16 characters are some 90 bits.
pub(super) const TOKEN_BYTES_GOOD: usize = 16;

/// Says whether a token is so short that it may be guessed.
pub(super) fn is_weak(token: &Secret) -> bool {
    token.expose().len() < TOKEN_BYTES_GOOD
}

/// Fills in credentials that SDKs keep in the environment, where the file names none.
fn pick_up(
    config: &mut Config,
    report: &mut Report<'_>,
    sources: &Sources<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) {
    for (slug, names) in sources.picked_up_keys {
        let named = config
            .providers
            .get(*slug)
            .is_some_and(|settings| !settings.credentials.is_empty());
        if named {
            continue;
        }
        let found = names.iter().find_map(|name| Some((*name, variable(name)?)));
        let Some((name, text)) = found else {
            continue;
        };
        match secret::credential(text) {
            Ok(secret) => {
                let settings = config.providers.entry((*slug).to_owned()).or_default();
                settings.credentials.push(Credential {
                    secret,
                    weight: 1,
                    source: Reference::Env(name.to_owned()),
                    picked_up: true,
                });
            }
            Err(error) => {
                let message = format!("not used as the key of {slug}: it {error}");
                report.warn_elsewhere(name, message, String::new());
            }
        }
    }
}
