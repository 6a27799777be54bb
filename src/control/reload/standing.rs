//! How the configuration stands: written by `reload`, read by metrics, health checks and the API.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use crate::config::Config;

/// What can be taken over by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Change {
    /// The file, and with it everything else.
    Everything = 0b111,
    /// What `control.db` holds: tokens, and what the management API made.
    Keys = 0b010,
    /// The certificate and its key.
    Certificate = 0b100,
}

/// What attempts to take over a change came to, and what of the configuration side threads need.
#[derive(Debug)]
pub struct Standing {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Bits of [`Change`].
    failing: AtomicU8,
    log_required: AtomicBool,
    config: Mutex<Arc<Config>>,
}

/// The bit of the file in [`Change::Everything`]: its failure says nothing of the others.
const FILE: u8 = 0b001;

impl Standing {
    /// The standing of a server that starts with `config`.
    pub fn new(config: &Config) -> Self {
        Self {
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicU8::new(0),
            log_required: AtomicBool::new(config.log_required),
            config: Mutex::new(Arc::new(config.clone())),
        }
    }

    /// Notes that `change` was taken over, and that `config` is in force.
    pub fn succeeded(&self, change: Change, config: &Config) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.failing.fetch_and(!(change as u8), Ordering::Relaxed);
        self.log_required
            .store(config.log_required, Ordering::Relaxed);
        if change == Change::Everything {
            let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Arc::new(config.clone());
        }
    }

    /// Notes that `change` could not be taken over, and what was in force stays.
    pub fn failed(&self, change: Change) {
        let bits = match change {
            Change::Everything => FILE,
            Change::Keys | Change::Certificate => change as u8,
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failing.fetch_or(bits, Ordering::Relaxed);
    }

    /// Attempts that succeeded and attempts that failed.
    pub fn attempts(&self) -> [u64; 2] {
        [&self.succeeded, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Says whether there is a change that could not be taken over.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) != 0
    }

    /// Says whether requests are refused while they cannot be recorded.
    pub fn log_required(&self) -> bool {
        self.log_required.load(Ordering::Relaxed)
    }

    /// The one account that is known; `None`: any.
    pub fn account_id(&self) -> Option<String> {
        self.config().account_id.clone()
    }

    /// The configuration of file, environment and flags that is in force.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.lock();
        Arc::clone(&config.unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_until_the_same_change_succeeds() {
        let config = Config {
            account_id: Some("acme".to_owned()),
            log_required: true,
            ..Config::default()
        };
        let standing = Standing::new(&Config::default());
        standing.failed(Change::Everything);
        standing.succeeded(Change::Keys, &Config::default());
        standing.succeeded(Change::Certificate, &Config::default());
        assert!(standing.is_failing());
        standing.succeeded(Change::Everything, &config);
        assert!(!standing.is_failing() && standing.log_required());
        assert_eq!(standing.attempts(), [3, 1]);
        assert_eq!(standing.account_id().as_deref(), Some("acme"));
        standing.failed(Change::Keys);
        standing.succeeded(Change::Everything, &config);
        assert!(!standing.is_failing());
    }
}
