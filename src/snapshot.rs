//! The configuration, compiled for reading: immutable, replaced as a whole.

/// stub
#[derive(Debug)]
pub struct Snapshot {}
