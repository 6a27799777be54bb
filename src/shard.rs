//! The data plane: one shard is one core, one ring, one thread, and shares nothing.

pub mod clock;
pub mod stream;
pub mod tls;
