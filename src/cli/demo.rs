//! `tidegate demo`: everything visible without a provider's key.

pub mod mock_provider;
