//! The control plane: side threads, which may block, lock, read and write files.
//!
//! Nothing here is on the path of a request. Reading order: [`data_dir`] (the one folder, locked
//! by one server; `secret_file` for what it keeps there in secret), [`logs`] (the log store), [`rollup`] (counts by the minute), [`ledger`] (the journal of limits on cost), [`resolve`] (host names),
//! [`store`] (`control.db`), [`keys`] (tokens made at
//! run time), [`tls`] (certificates), [`reload`] (changes of the configuration), [`api`]
//! (management and health), [`graphql`] (analytics as the API serves them), [`metrics`].
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "side threads may block"
)]

pub mod data_dir;
mod secret_file;
pub mod logs;
pub mod rollup;
pub mod ledger;
pub mod resolve;
pub mod store;
pub mod keys;
pub mod tls;
pub mod reload;
pub mod graphql;
pub mod api;
pub mod metrics;
