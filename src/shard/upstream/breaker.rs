//! Stops connecting to an origin that cannot be reached: a dead provider costs one time-out, not
//! one for each request.
//!
//! Closed, every request may connect. A connect that ran out of time opens it, and so do
//! [`FAILURES_MAX`] failures in a row. Open, requests are refused at once until the cooldown ends;
//! then one request at a time tries (half-open). Its connection closes the breaker; its failure opens
//! it for twice as long. Connections that are open already are used all the while.

use std::{cell::Cell, rc::Rc, time::Duration};

use crate::shard::clock::Moment;

/// Failed connects in a row that open it. One or two may be a restart.
pub const FAILURES_MAX: u8 = 3;

/// The first cooldown: a time in which much can be refused, but nobody waits long for what is back.
pub const COOLDOWN_MIN: Duration = Duration::from_secs(1);

/// The longest cooldown, jitter apart. Each ends with one request that may wait for a time-out.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(15);

/// The breaker of one origin on one shard.
#[derive(Debug, Default)]
pub struct Breaker(Cell<State>);

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        /// In a row.
        failures: u8,
    },
    Open {
        until: Moment,
        cooldown: Duration,
        /// Somebody tries.
        probing: bool,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What a failed connect tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It was refused, or something of that kind; that took no time.
    Refused,
    /// It ran out of the time that is usual for it.
    Late,
    /// It ran out of a time that the request had cut short: that tells nothing.
    CutShort,
}

impl Breaker {
    /// Leave to connect, or how long nobody has it.
    pub fn pass(self: &Rc<Self>, now: Moment) -> Result<Pass, Duration> {
        let mut probe = false;
        if let State::Open {
            until,
            cooldown,
            probing,
        } = self.0.get()
        {
            if until > now {
                return Err(Duration::from_micros(until.micros_since(now)));
            }
            if probing {
                // Whoever tries may wait for a time-out; it is over soon after that.
                return Err(COOLDOWN_MIN);
            }
            probe = true;
            self.0.set(State::Open {
                until,
                cooldown,
                probing: true,
            });
        }
        Ok(Pass {
            breaker: Rc::clone(self),
            probe,
        })
    }

    /// Says whether it stops requests.
    pub fn is_open(&self) -> bool {
        matches!(self.0.get(), State::Open { .. })
    }
}

/// Leave to connect. Dropped, the attempt told nothing; a probe leaves its place to the next one.
#[derive(Debug)]
#[must_use = "dropped, it tells nothing"]
pub struct Pass {
    breaker: Rc<Breaker>,
    probe: bool,
}

impl Pass {
    /// The connection stands.
    pub fn connected(mut self) {
        self.probe = false;
        self.breaker.0.set(State::default());
    }

    /// No connection came about. `seed` is anything that differs between shards and moments: it
    /// spreads the cooldowns, so that not all try at once.
    pub fn failed(mut self, failure: Failure, now: Moment, seed: u64) {
        if failure == Failure::CutShort {
            return;
        }
        let next = match self.breaker.0.get() {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                if failure == Failure::Late || failures >= FAILURES_MAX {
                    open(COOLDOWN_MIN, now, seed)
                } else {
                    State::Closed { failures }
                }
            }
            State::Open { cooldown, .. } if self.probe => {
                open((cooldown * 2).min(COOLDOWN_MAX), now, seed)
            }
            // Begun before it opened: it is known already.
            open @ State::Open { .. } => open,
        };
        self.probe = false;
        self.breaker.0.set(next);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe
            && let State::Open {
                until, cooldown, ..
            } = self.breaker.0.get()
        {
            self.breaker.0.set(State::Open {
                until,
                cooldown,
                probing: false,
            });
        }
    }
}

/// Open for the cooldown and up to a quarter more.
fn open(cooldown: Duration, now: Moment, seed: u64) -> State {
    // The high bits of the product depend on all bits of the seed.
    let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    let jitter = cooldown / 4 * u32::try_from(spread).unwrap_or_default() / 256;
    State::Open {
        until: now.after(cooldown + jitter),
        cooldown,
        probing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    fn fail(breaker: &Rc<Breaker>, failure: Failure, millis: u64) {
        breaker
            .pass(at(millis))
            .unwrap()
            .failed(failure, at(millis), 0);
    }

    #[test]
    fn it_opens_after_a_time_out_or_some_failures_in_a_row() {
        let breaker = Rc::new(Breaker::default());
        fail(&breaker, Failure::Late, 0);
        assert_eq!(
            breaker.pass(at(400)).unwrap_err(),
            Duration::from_millis(600)
        );
        let breaker = Rc::new(Breaker::default());
        fail(&breaker, Failure::Refused, 0);
        fail(&breaker, Failure::Refused, 1);
        breaker.pass(at(2)).unwrap().connected();
        fail(&breaker, Failure::Refused, 3);
        fail(&breaker, Failure::Refused, 4);
        assert!(!breaker.is_open(), "not in a row");
        fail(&breaker, Failure::Refused, 5);
        assert!(breaker.is_open());
    }

    #[test]
    fn a_caller_without_patience_does_not_open_it() {
        let breaker = Rc::new(Breaker::default());
        for millis in 0..100 {
            fail(&breaker, Failure::CutShort, millis);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn one_at_a_time_tries_and_cooldowns_double_up_to_a_bound() {
        let breaker = Rc::new(Breaker::default());
        fail(&breaker, Failure::Late, 0);
        let mut now = 0;
        for cooldown in [1_000, 2_000, 4_000, 8_000, 15_000, 15_000] {
            assert!(breaker.pass(at(now + cooldown - 1)).is_err());
            now += cooldown;
            let probe = breaker.pass(at(now)).unwrap();
            assert!(breaker.pass(at(now)).is_err(), "somebody tries");
            // One that is dropped tells nothing, and another may try.
            drop(probe);
            fail(&breaker, Failure::Late, now);
        }
        breaker.pass(at(now + 15_000)).unwrap().connected();
        assert!(!breaker.is_open());
        fail(&breaker, Failure::Late, now);
        assert_eq!(breaker.pass(at(now)).unwrap_err(), COOLDOWN_MIN);
    }

    #[test]
    fn what_began_before_it_opened_neither_doubles_nor_keeps_it() {
        let breaker = Rc::new(Breaker::default());
        let early: Vec<_> = (0..4).map(|_| breaker.pass(at(0)).unwrap()).collect();
        let mut early = early.into_iter();
        for _ in 0..3 {
            early.next().unwrap().failed(Failure::Late, at(10), 0);
        }
        assert_eq!(breaker.pass(at(10)).unwrap_err(), COOLDOWN_MIN);
        early.next().unwrap().connected();
        assert!(!breaker.is_open());
    }

    #[test]
    fn cooldowns_spread_by_up_to_a_quarter() {
        let waits = (0..1_000).map(|seed| {
            let breaker = Rc::new(Breaker::default());
            breaker
                .pass(at(0))
                .unwrap()
                .failed(Failure::Late, at(0), seed);
            breaker.pass(at(0)).unwrap_err()
        });
        let waits: std::collections::BTreeSet<_> = waits.collect();
        let (first, last) = (*waits.first().unwrap(), *waits.last().unwrap());
        assert!(first >= COOLDOWN_MIN && last < COOLDOWN_MIN * 5 / 4);
        assert!(waits.len() > 100, "{}", waits.len());
    }
}
