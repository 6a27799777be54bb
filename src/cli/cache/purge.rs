//! `cache purge`: one request to the management API of the running server.

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::CacheError;
use crate::{
    cli::{
        listing::print_one,
        logs::{Face, Output, table::printable},
        settings::Place,
    },
    config::Config,
    control::{api::account::ANY_ACCOUNT, keys::api_token},
};

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Where the server's management listens [otherwise `admin`, or the first of `listen`, as
    /// the file says].
    #[arg(long, value_name = "ADDRESS")]
    server: Option<SocketAddr>,
}

/// Which answers.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhatArgs {
    /// Forget the answers of this gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Forget what this provider answered, whichever the gateway.
    #[arg(long)]
    provider: Option<String>,
    /// Forget everything.
    #[arg(long)]
    all: bool,
}

/// Longest wait for any byte of the server's.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read; those to a purge have some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn purge(
    args: &PurgeArgs,
    place: &Place,
    output: Output,
    face: &mut Face<'_>,
) -> Result<(), CacheError> {
    let config = place.load()?.config;
    let path = args
        .what
        .path(config.account_id.as_deref().unwrap_or(ANY_ACCOUNT));
    let address = args.server.unwrap_or_else(|| management(&config));
    if config.tls.is_some() {
        return Err(CacheError::Tls(address, path));
    }
    let token = api_token::known(&config, &config.data_dir)?;
    let token = token.ok_or_else(|| CacheError::NoToken(config.data_dir.clone()))?;
    let answer = delete(address, &path, token.expose())
        .map_err(|error| CacheError::NoServer(address, error))?;
    let (status, body) = take_apart(&answer).ok_or_else(|| {
        CacheError::Refused(address, "what answers there does not speak HTTP".to_owned())
    })?;
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if status != 200 {
        let said = body["errors"][0]["message"].as_str();
        let said = said.map_or_else(|| format!("status {status}"), printable);
        return Err(CacheError::Refused(address, said));
    }
    let row = vec![("forgotten", Value::from(args.what.words()))];
    print_one(&row, output, face.out)?;
    Ok(())
}

impl WhatArgs {
    fn path(&self, account: &str) -> String {
        let account = format!("/client/v4/accounts/{}/ai-gateway", encoded(account));
        match (&self.gateway, &self.provider) {
            (Some(gateway), _) => format!("{account}/gateways/{}/cache", encoded(gateway)),
            (None, Some(provider)) => format!("{account}/cache?provider={}", encoded(provider)),
            (None, None) => format!("{account}/cache"),
        }
    }

    fn words(&self) -> String {
        match (&self.gateway, &self.provider) {
            (Some(gateway), _) => format!("the answers of the gateway {gateway}"),
            (None, Some(provider)) => format!("the answers of the provider {provider}"),
            (None, None) => "all answers".to_owned(),
        }
    }
}

/// Where the management of a server with this configuration listens, as this machine reaches it.
fn management(config: &Config) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 8787));
    let first = config.listen.first().copied().unwrap_or(usual);
    let mut address = config.admin.unwrap_or(first);
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// Encodes what is no plain character of a segment or a value.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn delete(address: SocketAddr, path: &str, token: &str) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let request = format!(
        "DELETE {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         user-agent: tidegate-cli\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer that ends with its connection.
fn take_apart(answer: &[u8]) -> Option<(u16, &[u8])> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?;
    let status = line.get(..3)?.parse().ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((status, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_or_is_none() {
        let answer = b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\n{}";
        assert_eq!(take_apart(answer), Some((404, &b"{}"[..])));
        for none in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(take_apart(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn names_are_encoded_and_the_management_address_can_be_reached() {
        assert_eq!(encoded("a b/ä"), "a%20b%2F%C3%A4");
        let config = Config {
            listen: vec!["0.0.0.0:1".parse().unwrap()],
            ..Config::default()
        };
        assert_eq!(management(&config).to_string(), "127.0.0.1:1");
        let apart = Config {
            admin: Some("[::]:2".parse().unwrap()),
            ..config
        };
        assert_eq!(management(&apart).to_string(), "[::1]:2");
    }
}
