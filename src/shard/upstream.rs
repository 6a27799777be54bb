//! The side that we call: hosts, their addresses, and connections kept open to them.
//!
//! Reading order: [`host`] (one origin with its pool and its addresses), [`connect`] (opening a
//! connection), [`attempt`](self) is the exchange's business.

pub mod host;
pub mod connect;
