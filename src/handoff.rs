//! Where shards and side threads meet: bounded queues, bells, plain values. No lock that a shard
//! could meet.
//!
//! A shard sends with `try_send` and never waits; a side thread reaches a shard by its
//! [`mailbox`] and the bell that the shard listens to.

pub mod counters;
pub mod mailbox;

