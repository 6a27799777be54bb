//! The nouns that every zone shares: ids, usage, money, outcomes, records.
//!
//! Values only: nothing here opens a socket or a file, or reads a clock.
//! Reading order: [`id`], [`usage`], [`money`], [`outcome`], [`record`],
//! [`cache`] (what every zone knows of the response cache), [`short_hash`] (maps that are looked up on
//! every exchange), [`base64`], [`hexadecimal`].

pub mod id;
pub mod usage;
pub mod money;
pub mod outcome;
pub mod record;
pub mod cache;
pub mod short_hash;
pub mod base64;
pub mod hexadecimal;
