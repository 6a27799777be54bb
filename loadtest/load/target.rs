//! Where requests go and what their heads say.

use std::net::SocketAddr;

use super::place::{LoadError, loopback_only};

/// What every generating verb is told about its target.
#[derive(clap::Args, Clone)]
pub(crate) struct TargetOptions {
    /// Where to send requests: `http://127.0.0.1:PORT/path`.
    #[arg(long)]
    target: String,
    /// A further request header, `name:value`; may be given often.
    #[arg(long = "header")]
    headers: Vec<String>,
}

/// A checked target: a loopback address, a path, and header lines.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    path: String,
    header_lines: String,
}

impl TargetOptions {
    /// Checks them.
    pub(crate) fn check(&self) -> Result<Target, LoadError> {
        let bad = || LoadError::Target(self.target.clone());
        let rest = self.target.strip_prefix("http://").ok_or_else(bad)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.replace("localhost", "127.0.0.1");
        let address = loopback_only(host.parse().map_err(|_| bad())?)?;
        let mut header_lines = String::new();
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .filter(|_| !header.contains(['\r', '\n']))
                .ok_or_else(|| LoadError::Header(header.clone()))?;
            header_lines.extend([name.trim(), ": ", value.trim(), "\r\n"]);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Target {
            address,
            path: path.to_owned(),
            header_lines,
        })
    }
}

impl Target {
    /// The head of a POST with `query` added to the path and a body of `body_bytes` to follow.
    pub(crate) fn head(&self, query: &str, body_bytes: u64) -> Vec<u8> {
        let Self {
            address,
            path,
            header_lines,
        } = self;
        let mark = if path.contains('?') { '&' } else { '?' };
        format!(
            "POST {path}{mark}{query} HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/json\r\naccept: application/json\r\n\
             user-agent: load\r\nauthorization: Bearer sk-load-not-a-secret\r\n\
             {header_lines}content-length: {body_bytes}\r\n\r\n"
        )
        .into_bytes()
    }
}
