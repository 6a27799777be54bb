//! Signals, waited for on a thread of their own, become orders to the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::notify::{self, State};
use crate::config::limit::Limits;
use crate::server::Control;

/// Catches the signals that [`Watch`] acts on.
pub fn catch() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Watch {
    forced: Arc<AtomicBool>,
}

/// What the thread has at hand.
struct Watcher {
    control: Control,
    limits: Limits,
    has_file: bool,
    forced: Arc<AtomicBool>,
}

impl Watch {
    /// Starts the thread. It ends with the process.
    pub fn start(
        mut signals: Signals,
        control: Control,
        limits: Limits,
        has_file: bool,
    ) -> io::Result<Self> {
        let forced = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            control,
            limits,
            has_file,
            forced: Arc::clone(&forced),
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || watcher.watch(&mut signals))?;
        Ok(Self { forced })
    }

    /// Whether the server was stopped with exchanges in flight.
    pub fn was_forced(&self) -> bool {
        self.forced.load(Ordering::Acquire)
    }
}

impl Watcher {
    fn watch(&self, signals: &mut Signals) {
        let mut ending = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP if ending => {}
                SIGHUP if self.has_file => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    self.control.reload();
                }
                SIGHUP => tracing::info!("SIGHUP: there is no configuration file to read again"),
                _ if ending => {
                    tracing::warn!("a second signal: ending now");
                    self.stop();
                }
                _ => {
                    ending = true;
                    self.end(signal);
                }
            }
        }
    }

    /// Begins the orderly end; its waits happen beside, so that a second signal is heard.
    fn end(&self, signal: i32) {
        if let Err(error) = notify::notify(State::Stopping) {
            tracing::debug!("cannot tell the service manager: {error}");
        }
        // Only a supervisor has a load balancer that must notice first; a person has not.
        let delay = match signal {
            SIGTERM => self.limits.drain_delay,
            _ => Duration::ZERO,
        };
        let timeout = self.limits.drain_timeout;
        self.control.unready();
        tracing::info!(
            delay_seconds = delay.as_secs(),
            timeout_seconds = timeout.as_secs(),
            "draining: what is in flight ends first"
        );
        let beside = Self {
            control: self.control.clone(),
            limits: self.limits,
            has_file: self.has_file,
            forced: Arc::clone(&self.forced),
        };
        let countdown = move || {
            thread::sleep(delay);
            beside.control.drain();
            thread::sleep(timeout);
            tracing::warn!("the drain timeout is over: ending now");
            beside.stop();
        };
        let started = thread::Builder::new()
            .name("drain".to_owned())
            .spawn(countdown);
        if started.is_err() {
            // Without a thread there is no countdown: drain at once, and a second signal ends it.
            self.control.drain();
        }
    }

    fn stop(&self) {
        self.forced.store(true, Ordering::Release);
        self.control.stop();
    }
}
