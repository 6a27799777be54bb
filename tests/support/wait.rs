//! Waiting for a condition, with a limit: the only place where a test rests.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything that is bound to happen. Generous: a loaded machine must not fail a
/// test, and a test that passes never waits for it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until `look` finds something, and gives it.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {SOON:?} for {what}");
        thread::sleep(PAUSE);
    }
}

/// Looks until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Looks until `measure` has given the same number for `calm`, and gives it. For what should have
/// come to a stand, where there is no event to wait for.
#[track_caller]
pub(crate) fn wait_until_calm(calm: Duration, mut measure: impl FnMut() -> u64) -> u64 {
    let mut last = measure();
    let mut since = Instant::now();
    wait_for("a number to stand still", || {
        let now = measure();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= calm).then_some(last)
    })
}
