//! Addresses to listen on, as people write them.

use std::net::{Ipv4Addr, SocketAddr};

use super::upstream::is_host_name;

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
