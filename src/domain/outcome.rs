//! How an exchange ended, and whose doing it was.

/// The end of one exchange. Each has one word, used in records, metrics and the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// The provider answered 1xx to 3xx and the whole answer reached the caller.
    #[default]
    Ok = 0,
    /// The provider refused the request: its own 4xx, passed on whole.
    ClientError = 1,
    /// The provider failed: its own 5xx, passed on whole.
    UpstreamError = 2,
    /// The provider could not be reached, or broke HTTP before its head was complete.
    UpstreamFailed = 3,
    /// The provider did not answer in time.
    UpstreamTimeout = 4,
    /// The provider's answer ended before its end: the caller's answer was cut too.
    UpstreamCut = 5,
    /// The caller went away before the end of the answer.
    Cancelled = 6,
    /// Refused by tidegate: malformed, unknown gateway or provider, too large.
    Refused = 7,
    /// Refused by tidegate: no valid token.
    Unauthorized = 8,
    /// tidegate itself failed.
    Internal = 9,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::ClientError,
        Self::UpstreamError,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::UpstreamCut,
        Self::Cancelled,
        Self::Refused,
        Self::Unauthorized,
        Self::Internal,
    ];

    /// The word for it: metric label, record column, filter value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamCut => "upstream_cut",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Internal => "internal",
        }
    }

    /// The outcome of that number, as it stands in a record.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The outcome of an answer that passed whole with `status`.
    pub fn of_status(status: u16) -> Self {
        match status {
            400..=499 => Self::ClientError,
            500.. => Self::UpstreamError,
            _ => Self::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_one_to_one() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
            assert_eq!(Outcome::from_number(outcome as u8), Some(outcome));
        }
        assert_eq!(Outcome::from_number(200), None);
    }
}
