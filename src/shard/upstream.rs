//! The side that we call: hosts, their addresses, and connections kept open to them.
//!
//! Reading order: [`host`] (one origin with its pool and its addresses), [`breaker`] (an origin that
//! cannot be reached), [`keys`] (which of several keys goes next), [`connect`] (opening a connection), [`attempt`](self::attempt) (one try of an exchange), [`h2`] (the same where the
//! provider speaks HTTP/2).

pub mod host;
pub mod breaker;
pub mod keys;
pub mod connect;
pub mod attempt;
pub mod h2;
