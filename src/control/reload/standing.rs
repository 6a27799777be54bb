//! How the configuration stands: written by `reload`, read by metrics, health checks and the API.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::config::Config;

/// What attempts to take over a change came to, and what of the configuration side threads need.
#[derive(Debug)]
pub struct Standing {
    succeeded: AtomicU64,
    failed: AtomicU64,
    failing: AtomicBool,
    log_required: AtomicBool,
    account_id: Mutex<Option<String>>,
}

impl Standing {
    /// The standing of a server that starts with `config`.
    pub fn new(config: &Config) -> Self {
        Self {
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            log_required: AtomicBool::new(config.log_required),
            account_id: Mutex::new(config.account_id.clone()),
        }
    }

    /// Notes that `config` is in force.
    pub fn succeeded(&self, config: &Config) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
        self.log_required
            .store(config.log_required, Ordering::Relaxed);
        let mut account_id = self
            .account_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        account_id.clone_from(&config.account_id);
    }

    /// Notes that a change could not be taken over, and what was in force stays.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// Attempts that succeeded and attempts that failed.
    pub fn attempts(&self) -> [u64; 2] {
        [&self.succeeded, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Says whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Says whether requests are refused while they cannot be recorded.
    pub fn log_required(&self) -> bool {
        self.log_required.load(Ordering::Relaxed)
    }

    /// The one account that is known; `None`: any.
    pub fn account_id(&self) -> Option<String> {
        self.account_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_until_the_next_success() {
        let standing = Standing::new(&Config::default());
        standing.failed();
        assert!(standing.is_failing());
        standing.succeeded(&Config {
            account_id: Some("acme".to_owned()),
            log_required: true,
            ..Config::default()
        });
        assert!(!standing.is_failing() && standing.log_required());
        assert_eq!(standing.attempts(), [1, 1]);
        assert_eq!(standing.account_id().as_deref(), Some("acme"));
    }
}
