//! What a person reads when the server serves: addresses, driver, folder, keys by name, the token
//! once.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::{Config, DEFAULT_GATEWAY};
use crate::server::Server;

/// What the introduction takes from the configuration, which goes to the server.
#[derive(Debug)]
pub struct Intro {
    https: bool,
    account: String,
    data_dir: PathBuf,
    /// `openai (env:OPENAI_API_KEY)`: names only.
    keys: Vec<String>,
    /// Stored keys are for callers with a token only.
    keys_need_token: bool,
    gateway_needs_token: bool,
}

impl Intro {
    /// Notes what is needed later.
    pub fn of(config: &Config) -> Self {
        let gateway = config.gateways.get(DEFAULT_GATEWAY);
        let implied = || config.implied_gateway().authentication;
        Self {
            https: config.tls.is_some(),
            account: config
                .account_id
                .clone()
                .unwrap_or_else(|| "ACCOUNT".to_owned()),
            data_dir: config.data_dir.clone(),
            keys: key_names(config),
            keys_need_token: !config.is_loopback(),
            gateway_needs_token: gateway.map_or_else(implied, |gateway| gateway.authentication),
        }
    }

    /// Lines for people.
    pub fn text(&self, server: &Server) -> String {
        let token = server.api_token();
        let token = token.made_now.then(|| Token {
            secret: token.secret.expose(),
            path: token.path.as_deref().map(|path| path.display().to_string()),
        });
        self.lines(&Running {
            addresses: server.addresses(),
            admin: server.admin_address(),
            driver: server.driver(),
            driver_note: server.driver_note(),
            shards: server.shards(),
            token,
        })
    }

    /// The same as one event for machines. Logs travel, so the token itself stays out of them.
    pub fn trace(&self, server: &Server) {
        let token = server.api_token();
        let token_file = token.path.as_deref().filter(|_| token.made_now);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            addresses = ?server.addresses(),
            admin = ?server.admin_address(),
            driver = server.driver(),
            driver_note = server.driver_note(),
            shards = server.shards(),
            data_dir = %self.data_dir.display(),
            keys = ?self.keys,
            management_token_made = ?token_file,
            "serving"
        );
    }

    fn lines(&self, running: &Running<'_>) -> String {
        let mut text = format!("tidegate {} serves\n\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: &str| {
            // Writing into a text cannot fail.
            let _ = writeln!(text, "  {name:<11}  {value}");
        };
        for address in running.addresses {
            line("listening", &url(*address, self.https));
        }
        let main = running
            .addresses
            .first()
            .map(|address| base(*address, self.https));
        let main = main.unwrap_or_default();
        line(
            "base URL",
            &format!("{main}/v1/{}/{DEFAULT_GATEWAY}/PROVIDER", self.account),
        );
        line(
            "",
            if self.gateway_needs_token {
                "callers show a gateway token: cf-aig-authorization: Bearer …"
            } else {
                "for instance PROVIDER = openai; no token is asked for"
            },
        );
        line("driver", &driver(running));
        line("data", &self.data_dir.display().to_string());
        line("keys", &self.keys_line());
        if let Some(admin) = running.admin {
            line("management", &base(admin, false));
        }
        if let Some(token) = &running.token {
            let management = running.admin.map_or(main, |admin| base(admin, false));
            line(
                "token",
                &format!("{} (for management; shown this once)", token.secret),
            );
            if let Some(path) = &token.path {
                line("", &format!("kept in {path}"));
            }
            let header = format!("-H 'authorization: Bearer {}'", token.secret);
            line("", &format!("curl {header} {management}/metrics"));
        }
        text.push('\n');
        text
    }

    fn keys_line(&self) -> String {
        match (self.keys.is_empty(), self.keys_need_token) {
            (true, _) => "none found: callers bring the provider's key".to_owned(),
            (false, false) => self.keys.join(", "),
            (false, true) => {
                format!(
                    "{}; for callers with a gateway token only",
                    self.keys.join(", ")
                )
            }
        }
    }
}

/// What the introduction takes from the server.
struct Running<'a> {
    addresses: &'a [SocketAddr],
    admin: Option<SocketAddr>,
    driver: &'a str,
    driver_note: Option<&'a str>,
    shards: usize,
    token: Option<Token<'a>>,
}

/// A management token that was made at this start.
struct Token<'a> {
    secret: &'a str,
    path: Option<String>,
}

fn driver(running: &Running<'_>) -> String {
    let shards = match running.shards {
        1 => "1 shard".to_owned(),
        number => format!("{number} shards"),
    };
    match running.driver_note {
        None => format!("{}, {shards}", running.driver),
        Some(note) => format!(
            "{}, {shards}; a better one was refused: {note}",
            running.driver
        ),
    }
}

/// Names of the stored credentials, and where each was found.
pub fn key_names(config: &Config) -> Vec<String> {
    config
        .providers
        .iter()
        .flat_map(|(slug, settings)| {
            settings
                .credentials
                .iter()
                .map(move |credential| format!("{slug} ({})", credential.source))
        })
        .collect()
}

/// The start of a URL that reaches `address` from this machine.
pub fn base(address: SocketAddr, https: bool) -> String {
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    url(SocketAddr::new(reachable, address.port()), https)
}

fn url(address: SocketAddr, https: bool) -> String {
    let scheme = if https { "https" } else { "http" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_shows_the_token_once() {
        let intro = Intro {
            https: false,
            account: "ACCOUNT".to_owned(),
            data_dir: "/state/tidegate".into(),
            keys: vec!["openai (env:OPENAI_API_KEY)".to_owned()],
            keys_need_token: false,
            gateway_needs_token: false,
        };
        let text = intro.lines(&Running {
            addresses: &["127.0.0.1:8787".parse().unwrap()],
            admin: None,
            driver: "io_uring-defer",
            driver_note: None,
            shards: 2,
            token: Some(Token {
                secret: "tg_0123",
                path: Some("/state/tidegate/api-token".to_owned()),
            }),
        });
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_server_for_others_says_what_callers_need() {
        let intro = Intro {
            https: true,
            account: "acme".to_owned(),
            data_dir: "data".into(),
            keys: vec!["openai (file:/run/openai)".to_owned()],
            keys_need_token: true,
            gateway_needs_token: true,
        };
        let text = intro.lines(&Running {
            addresses: &["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()],
            admin: Some("127.0.0.1:8788".parse().unwrap()),
            driver: "epoll",
            driver_note: Some("Operation not permitted (os error 1)"),
            shards: 1,
            token: None,
        });
        insta::assert_snapshot!(text);
    }
}
