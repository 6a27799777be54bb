//! What an exchange consumed, in model tokens.

/// Tokens of one exchange. `None` is unknown, which is not zero.
///
/// Every dialect is brought to one meaning:
/// `input` is **all** input tokens, those read from and written to the provider's prompt cache
/// included; `output` is all output tokens, reasoning included. The other fields are parts of
/// those two, never added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// Part of `input` that was read from the provider's prompt cache.
    pub cache_read: Option<u64>,
    /// Part of `input` that was written to the provider's prompt cache, of any lifetime.
    pub cache_write: Option<u64>,
    /// Part of `cache_write` that is kept for an hour (Anthropic prices it apart).
    pub cache_write_hour: Option<u64>,
    /// Part of `output` that was spent on reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Usage of which nothing is known.
    pub const UNKNOWN: Self = Self {
        input: None,
        output: None,
        cache_read: None,
        cache_write: None,
        cache_write_hour: None,
        reasoning: None,
    };

    /// Says whether the answer reported no tokens at all.
    pub fn is_unknown(&self) -> bool {
        *self == Self::UNKNOWN
    }

    /// Takes every field that `later` knows, and keeps the others: streams report in parts
    /// (Anthropic: input at the start, output at the end), and a later figure replaces an earlier.
    pub fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.cache_write_hour = later.cache_write_hour.or(self.cache_write_hour);
        self.reasoning = later.reasoning.or(self.reasoning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_report_replaces_only_what_it_knows() {
        let mut usage = Usage {
            input: Some(10),
            output: Some(1),
            ..Usage::UNKNOWN
        };
        usage.update(&Usage {
            output: Some(25),
            ..Usage::UNKNOWN
        });
        assert_eq!((usage.input, usage.output), (Some(10), Some(25)));
        assert!(Usage::UNKNOWN.is_unknown() && !usage.is_unknown());
    }
}
