//! `tidegate logs`.
