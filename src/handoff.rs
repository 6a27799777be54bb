//! Where shards and side threads meet: bounded queues, plain counters, nothing that blocks a shard.
//!
//! Reading order: [`body_parts`] (how bodies are packed), [`log_queue`] (records and bodies on
//! their way to the log writer), [`log_health`] (what the writer lets everybody see).

pub mod body_parts;
pub mod log_queue;
pub mod log_health;
