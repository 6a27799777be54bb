//! How often a step is tried, how long each try may take, and how long the wait between two is
//! (contract `data-plane.md` sections 4 and 14). Values in, values out.

use std::time::Duration;

use super::parse::Wishes;
use crate::{
    http::{head::ResponseHead, header::FieldName, retry_after},
    snapshot::{Backoff, Retry},
};

/// Attempts that a step may have in all.
pub const ATTEMPTS_MAX: u8 = 5;

/// Longest wait that a request may ask for.
pub const HEADER_DELAY_MAX: Duration = Duration::from_secs(5);

/// Longest wait between two attempts, however it grows and whatever the provider says. A provider
/// that wants a longer one is not asked again.
pub const WAIT_MAX: Duration = Duration::from_mins(1);

/// The wait before the second attempt where attempts are asked for and no wait is.
const USUAL_DELAY: Duration = Duration::from_millis(200);

/// The attempts of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Attempts in all, 1 to [`ATTEMPTS_MAX`].
    pub max: u8,
    delay: Duration,
    backoff: Backoff,
    timeout: Option<Duration>,
}

impl Tries {
    /// What the request asks for, else the gateway's settings. A body that passes through is sent
    /// once: nobody holds it for a second time.
    pub fn of(wishes: &Wishes<'_>, gateway: &Retry, repeatable: bool) -> Self {
        let max = wishes.max_attempts.or(gateway.attempts).unwrap_or(1);
        Self {
            max: if repeatable {
                max.clamp(1, ATTEMPTS_MAX)
            } else {
                1
            },
            delay: wishes
                .retry_delay
                .or(gateway.delay)
                .unwrap_or(USUAL_DELAY)
                .min(WAIT_MAX),
            backoff: wishes
                .backoff
                .or(gateway.backoff)
                .unwrap_or(Backoff::Exponential),
            timeout: wishes.request_timeout,
        }
    }

    /// How long attempt `number` (from 0) may wait for the first byte. The last one of an exchange
    /// that was tried before waits without this limit (contract section 14); one that another step
    /// could follow does not, since then somebody else would be asked.
    pub fn limit(&self, number: u8, last_step: bool) -> Option<Duration> {
        let waited_for = last_step && self.max > 1 && number + 1 >= self.max;
        self.timeout.filter(|_| !waited_for)
    }

    /// The wait after attempt `number` (from 0): `d`, `d × n` or `d × 2^(n-1)`, or what the
    /// provider asked for if that is longer. `None`: it asked for more than anybody waits.
    pub fn wait(&self, number: u8, asked: Option<Duration>) -> Option<Duration> {
        let factor = match self.backoff {
            Backoff::Constant => 1,
            Backoff::Linear => u32::from(number) + 1,
            Backoff::Exponential => 1 << number.min(ATTEMPTS_MAX),
        };
        let own = self.delay.saturating_mul(factor).min(WAIT_MAX);
        match asked {
            Some(asked) if asked > WAIT_MAX => None,
            asked => Some(own.max(asked.unwrap_or_default())),
        }
    }
}

/// Says whether an answer of that status is worth another attempt at the same place.
pub fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..)
}

/// Says whether an answer of that status sends the request on to the next step.
pub fn is_failure(status: u16) -> bool {
    status >= 400
}

/// How long the provider wants to be left alone.
pub fn asked_wait(head: &ResponseHead<'_>, unix_seconds: u64) -> Option<Duration> {
    let millis = head.field(FieldName::RetryAfterMs);
    let millis = millis.and_then(retry_after::millis);
    millis.or_else(|| retry_after::parse(head.field(FieldName::RetryAfter)?, unix_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(max: u8, delay_ms: u64, backoff: Backoff) -> Tries {
        let wishes = Wishes {
            max_attempts: Some(max),
            retry_delay: Some(Duration::from_millis(delay_ms)),
            backoff: Some(backoff),
            request_timeout: Some(Duration::from_secs(2)),
            ..Wishes::default()
        };
        Tries::of(&wishes, &Retry::default(), true)
    }

    #[test]
    fn waits_grow_as_the_contract_says() {
        let waits = |backoff| {
            let tries = asking(5, 100, backoff);
            let waits = (0..4).map(|number| tries.wait(number, None).unwrap().as_millis());
            waits.collect::<Vec<_>>()
        };
        assert_eq!(waits(Backoff::Constant), [100, 100, 100, 100]);
        assert_eq!(waits(Backoff::Linear), [100, 200, 300, 400]);
        assert_eq!(waits(Backoff::Exponential), [100, 200, 400, 800]);
    }

    #[test]
    fn a_provider_is_left_alone_as_long_as_it_asks_within_the_cap() {
        let tries = asking(3, 100, Backoff::Constant);
        let wait = |seconds| tries.wait(0, Some(Duration::from_secs(seconds)));
        assert_eq!(wait(0), Some(Duration::from_millis(100)));
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(60), Some(WAIT_MAX));
        assert_eq!(wait(61), None);
    }

    #[test]
    fn only_the_last_attempt_of_a_repeated_last_step_waits_without_limit() {
        let limit = Some(Duration::from_secs(2));
        let tries = asking(3, 0, Backoff::Constant);
        assert_eq!(tries.limit(0, true), limit);
        assert_eq!(tries.limit(1, true), limit);
        assert_eq!(tries.limit(2, true), None);
        assert_eq!(tries.limit(2, false), limit, "another step could follow");
        let once = asking(1, 0, Backoff::Constant);
        assert_eq!(once.limit(0, true), limit, "nothing was tried before it");
    }

    #[test]
    fn a_request_goes_before_its_gateway() {
        let gateway = Retry {
            attempts: Some(2),
            delay: Some(Duration::from_secs(9)),
            backoff: Some(Backoff::Linear),
        };
        let tries = Tries::of(&Wishes::default(), &gateway, true);
        assert_eq!((tries.max, tries.delay), (2, Duration::from_secs(9)));
        let wishes = Wishes {
            max_attempts: Some(4),
            ..Wishes::default()
        };
        assert_eq!(Tries::of(&wishes, &gateway, true).max, 4);
        assert_eq!(
            Tries::of(&wishes, &gateway, false).max,
            1,
            "a body that passed"
        );
        assert_eq!(
            Tries::of(&Wishes::default(), &Retry::default(), true).max,
            1
        );
    }
}
