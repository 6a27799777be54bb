//! Signs of life for a service manager that watches (`sd_watchdog_enabled(3)`): it ends and starts
//! again what gives none for the time that `$WATCHDOG_USEC` says.

use std::{io, thread, time::Duration};

use super::notify::{self, State};
use crate::server::Control;

/// Starts the thread that gives them while every shard turns; none where nobody watches. It ends
/// with the process.
pub fn start(control: Control) -> io::Result<()> {
    let variable = |name| std::env::var(name).ok();
    let limit = limit(
        variable("WATCHDOG_USEC").as_deref(),
        variable("WATCHDOG_PID").as_deref(),
        std::process::id(),
    );
    let Some(limit) = limit else {
        return Ok(());
    };
    thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || watch(&control, limit / 2))?;
    Ok(())
}

/// Time without a sign of life after which this process is given up, if it is watched.
fn limit(micros: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    // The variables may be somebody else's, inherited.
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

fn watch(control: &Control, pause: Duration) {
    let mut silent = false;
    loop {
        let echoes = control.call_shards();
        thread::sleep(pause);
        // Shards that have ended in good order answer nothing; that end has a limit of its own.
        if control.is_ending() || echoes.are_all_here() {
            silent = false;
            if let Err(error) = notify::notify(State::Alive) {
                tracing::debug!("cannot tell the service manager: {error}");
            }
        } else if !silent {
            silent = true;
            tracing::error!("a shard does not answer: the service manager gets no sign of life");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_meant_is_watched() {
        let thirty = Some(Duration::from_secs(30));
        for (micros, pid, expected) in [
            (Some("30000000"), Some("7"), thirty),
            (Some("30000000"), None, thirty),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("soon"), Some("7"), None),
            (None, Some("7"), None),
            (None, None, None),
        ] {
            assert_eq!(limit(micros, pid, 7), expected, "{micros:?} {pid:?}");
        }
    }
}
