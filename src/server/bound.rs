//! The sockets that a server listens on, one a shard for each address.

use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::{config::Config, sys::socket};

/// Bound sockets: for each address one a shard.
pub(super) struct Bound {
    pub(super) main: Vec<Vec<TcpListener>>,
    pub(super) admin: Vec<TcpListener>,
}

pub(super) fn bind(config: &Config, shards: usize) -> Result<Bound, StartError> {
    let bind = |address: SocketAddr| {
        socket::listen_shared(address, shards)
            .map_err(|source| StartError::Listen { address, source })
    };
    Ok(Bound {
        main: config
            .listen
            .iter()
            .map(|address| bind(*address))
            .collect::<Result<_, _>>()?,
        admin: config.admin.map(bind).transpose()?.unwrap_or_default(),
    })
}

pub(super) fn addresses(listeners: &[Vec<TcpListener>]) -> Vec<SocketAddr> {
    listeners
        .iter()
        .filter_map(|sockets| addresses_of(sockets).into_iter().next())
        .collect()
}

pub(super) fn addresses_of(sockets: &[TcpListener]) -> Vec<SocketAddr> {
    sockets
        .iter()
        .filter_map(|socket| socket.local_addr().ok())
        .collect()
}
