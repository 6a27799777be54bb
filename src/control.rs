//! The control plane: everything that runs on side threads and may block.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "side threads may block"
)]

pub mod resolve;
