//! The `reload` thread.

pub mod standing;
