//! A stand-in for every provider: answers in their shapes, counts what it sees, misbehaves on command.
//!
//! It shares no protocol code with the gateway, so that a mistake in one cannot hide in the other:
//! blocking sockets, one thread a connection, its own reading of HTTP/1.1. Loopback only.
//!
//! # Addresses
//!
//! The end of the path decides what is asked for; whatever stands before it is ignored, except
//! that the first segment that is a provider's slug names the provider. So
//! `http://127.0.0.1:PORT/openai/v1`, `…/anthropic`, `…/google-ai-studio`, `…/groq/openai/v1`,
//! `…/cohere` and so on work as base URLs. An unknown path below a known provider is echoed as
//! JSON. A WebSocket handshake is accepted on any path; its frames come back.
//!
//! # Content
//!
//! Answers depend on the request's body and on nothing else, so that a direct and a proxied call
//! can be compared byte by byte (`stamp` excepted). The text is the xxh3 digest of the body in
//! 16 hex digits, followed by words; one piece (a delta of a stream) is one token:
//!
//! | number | is |
//! |---|---|
//! | input tokens | `in=N`, else a quarter of the body's bytes, rounded up, at least 1 |
//! | visible tokens | `events=N`, else 16; a tool call is 5 |
//! | reasoning tokens | twice the visible ones if the model's name has `reason` in it or thinking is asked for, else 0 |
//! | output tokens | `out=N`, else visible and reasoning together |
//! | cache read tokens | half of the input (down) if the model's name has `cached` in it, else 0 |
//! | cache write tokens | a quarter of the input (down) in that case, where the dialect reports them |
//!
//! A request with tools is answered by a call of the first one, unless it holds a tool's result.
//!
//! # Commands
//!
//! `x-mock: key=value,key` as a header, `?mock=key=value,key` in the query, or at the end of the
//! model's name (`gpt-4o+status=500+delay=200`; the answer names the model `gpt-4o`). The words
//! are listed at the fields of `command::Command`; an unknown one is answered by 400.
//!
//! # Inspection
//!
//! `GET /__mock/counters`, `GET /__mock/requests?last=N`, `POST /__mock/reset`. An answer counts as
//! completed once its last byte is written, which its reader may see a moment earlier; `in_flight`
//! is 0 when all is counted.
//!
//! Reading order: `connection` (the life of a request), `request`, `route`, `command`, `ask`,
//! the dialects, `answer`, `send`, `counters`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "runs on threads of its own, which may block"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

mod connection;
mod request;
mod route;
mod command;
mod ask;
mod openai;
mod responses;
mod anthropic;
mod gemini;
mod cohere;
mod bedrock;
mod workers_ai;
mod media;
mod refusal;
mod answer;
mod send;
mod malformed;
mod websocket;
mod counters;
mod peer;
mod digest;

use command::Command;
use counters::Counters;

/// A running mock provider; dropping it closes its listener and every connection.
#[derive(Debug)]
pub struct MockProvider {
    shared: Arc<Shared>,
    addr: SocketAddr,
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
}

impl MockProvider {
    /// Binds and starts to answer. An address that is not loopback is `InvalidInput`, and so are
    /// commands that nobody knows.
    pub fn start(options: Options) -> io::Result<Self> {
        let Options {
            listen,
            connections_max,
            commands,
        } = options;
        if !listen.ip().is_loopback() {
            return Err(invalid("the mock provider listens on loopback only"));
        }
        let mut standing = Command::default();
        standing
            .extend(&commands, ',')
            .map_err(|error| invalid(&error.to_string()))?;

        let listener = Arc::new(TcpListener::bind(listen)?);
        rustix::net::listen(&listener, BACKLOG)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            standing,
            counters: Counters::default(),
            peers: peer::Peers::new(connections_max),
        });
        let accepting = thread::Builder::new()
            .name("mock-accept".to_owned())
            .spawn({
                let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
                move || accept(&shared, &listener)
            })?;
        Ok(Self {
            shared,
            addr,
            listener,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What `GET /__mock/counters` answers, now.
    pub fn counters(&self) -> serde_json::Value {
        self.shared.counters.report(&self.shared.peers)
    }

    /// What `GET /__mock/requests?last=N` answers, now: the newest `last` requests, oldest first.
    pub fn requests(&self, last: usize) -> serde_json::Value {
        self.shared.counters.requests(last)
    }

    /// Forgets counts and requests, as `POST /__mock/reset` does.
    pub fn reset(&self) {
        self.shared.counters.reset();
    }
}

impl Drop for MockProvider {
    fn drop(&mut self) {
        self.shared.peers.close_all();
        // Linux wakes an `accept` whose listener is shut down; an error means it was not waiting.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.shared.peers.close_all();
    }
}

/// What a mock provider is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// A loopback address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Most connections open at once. Each costs a thread; further ones are closed and counted.
    pub connections_max: usize,
    /// Commands that apply to every request, comma-separated; a request's own come on top.
    pub commands: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            connections_max: CONNECTIONS_MAX,
            commands: String::new(),
        }
    }
}

/// What all threads of one mock provider see.
#[derive(Debug)]
struct Shared {
    standing: Command,
    counters: Counters,
    peers: peer::Peers,
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while !shared.peers.closing() {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.peers.closing() => return,
            Err(_) => {
                // Out of descriptors, most likely: others must close before the next can come.
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        let Some(peer) = peer::Peer::admit(stream, shared) else {
            continue;
        };
        // A failed spawn drops the closure and with it the peer, which closes the connection.
        let _ = thread::Builder::new()
            .name("mock-peer".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || connection::serve(&peer));
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Connections waiting to be accepted; a load test opens its thousands at once.
const BACKLOG: i32 = 4096;

/// One thread each: more than any test of one machine opens towards a provider, far fewer than
/// the kernel's usual limit of threads.
const CONNECTIONS_MAX: usize = 16_384;

/// A connection's stack. Virtual until touched; JSON of 128 levels, serde's limit, fits unoptimised.
const STACK_BYTES: usize = 512 * 1024;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
