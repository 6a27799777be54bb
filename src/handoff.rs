//! Where shards and side threads meet: bounded queues, plain counters, nothing that blocks a shard.
//!
//! A shard sends without waiting; a side thread reaches a shard by its mailbox and the bell that
//! the shard listens to. Reading order: [`mailbox`] (orders to a shard and its questions), [`mesh`]
//! (what shards say to each other),
//! [`counters`] (what a shard counts), [`body_parts`] (how bodies are packed), [`log_queue`]
//! (records and bodies on their way to the log writer), [`log_health`] (what the writer lets
//! everybody see), [`ledger`] (reservations on their way to the journal).

pub mod mailbox;
pub mod mesh;
pub mod counters;
pub mod body_parts;
pub mod log_queue;
pub mod log_health;
pub mod ledger;
