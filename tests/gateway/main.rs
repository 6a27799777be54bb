//! Drives the real server, as a process of its own, against scripted providers.
//!
//! One file for each feature. Clients and scripted providers are plain blocking sockets that share
//! no protocol code with the server. The driver is the one that `TIDEGATE_DRIVER` names.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "test threads may block, and look at the clock"
)]
#![expect(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "short is worth more than fast here"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures, and the last words of a server whose test failed"
)]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "../support"]
mod support {
    //! What the tests share: the server as a process, clients, scripted providers, waiting.

    pub(crate) mod wait;
    pub(crate) mod server;
    pub(crate) mod client;
    pub(crate) mod upstream;
    pub(crate) mod process;
    pub(crate) mod http2;
    pub(crate) mod websocket;
}

mod bad_input;
mod bad_upstream;
mod relay;
mod hangup;
mod timeouts;
mod resume;
mod retries;
mod cache;
mod cache_live;
mod cache_verbs;
mod limits;
mod limits_edges;
mod breaker;
mod provider_keys;
mod auth;
mod secrets;
mod totals;
mod shutdown;
mod slow_disk;
mod websocket;
mod universal_socket;
mod http2;
mod metrics;
mod tls;
mod records;
mod retention;
mod graphql;
mod driver;
mod management;
mod management_gateways;
mod management_logs;
mod management_providers;
mod management_routes;
mod management_terraform;
