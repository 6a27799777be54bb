//! HTTP/1.1 grammar over byte slices (RFC 9110, RFC 9112): bytes in, values out.
//!
//! Nothing here owns a socket, a clock or a task: a connection hands over what it has read and
//! learns what it means. Every reader is incremental and gives the same answer however the bytes
//! were cut. Reading order: [`head`] (request and response heads and what frames their bodies),
//! [`target`] (where a request wants to go), [`body`] (content-length and chunked framing),
//! [`header`] (names we know, which of them stay on one connection), [`retry_after`] (how long
//! to wait), [`event_stream`] (server-sent events, read for metering), [`websocket`] (messages of
//! a connection that has switched to them).
//!
//! Readers are strict on purpose: what two lenient readers could understand differently is
//! refused, never repaired. A head is always written anew from its parsed form.
#![warn(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod head;
pub mod target;
pub mod body;
pub mod header;
pub mod retry_after;
pub mod event_stream;
pub mod websocket;
