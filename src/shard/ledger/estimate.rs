//! How many tokens a request will use, guessed before it is sent.
//!
//! No tokeniser: what counts is how many input tokens a model made of so many bytes before, and
//! how much it used to answer. Both are kept as a smoothed mean and a smoothed deviation (as TCP
//! keeps its round-trip times, RFC 6298), in integers; the guess is the mean and twice the
//! deviation, so that most requests use less than was reserved. It is a guess: a limit on tokens
//! settles by what was really used.

use std::cell::RefCell;

use crate::{
    domain::{short_hash::ShortMap, usage::Usage},
    snapshot::limits::TokenGuess,
};

/// Models that are remembered; beyond this all are forgotten, since callers can make up any
/// number.
const MODELS_MAX: usize = 1_024;

/// Input tokens in a MiB of body, until a model is known: one for three bytes, more than any
/// language of letters has.
const INPUT_PRIOR: u64 = (1 << 20) / 3;

/// Output tokens of an answer, until a model is known.
const OUTPUT_PRIOR: u64 = 1_024;

/// No guess is greater: a thousand million tokens. Sums of guesses stay far from overflow.
const GUESS_MAX: u64 = 1 << 30;

/// What one shard has learnt of models.
#[derive(Debug, Default)]
pub struct Estimates {
    models: RefCell<ShortMap<Box<str>, Learnt>>,
}

/// What is known of a model.
#[derive(Debug, Clone, Copy, Default)]
struct Learnt {
    /// Input tokens in a MiB of body.
    input: Smooth,
    /// Output tokens of an answer.
    output: Smooth,
}

/// A mean and a deviation; `None` before the first figure.
#[derive(Debug, Clone, Copy, Default)]
struct Smooth(Option<MeanAndDeviation>);

#[derive(Debug, Clone, Copy)]
struct MeanAndDeviation {
    /// Eight times the mean.
    mean: u64,
    /// Four times the deviation.
    deviation: u64,
}

/// What a request says that its tokens are guessed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model as `provider/model`; empty if the request named none.
    pub model: &'a str,
    /// Length of its body.
    pub body_bytes: u64,
    /// The most output tokens it allows.
    pub max_tokens: Option<u64>,
}

impl Estimates {
    /// The tokens that a request will use, input and output. The output is what the request
    /// allows, or where it sets no bound, what the model's answers were like. Where nobody knows
    /// that, a usual answer is hoped for, but none is counted on: a shard that has not met
    /// the model yet must not ask for more than others need.
    pub fn tokens(&self, request: &Request<'_>) -> TokenGuess {
        let models = self.models.borrow();
        let learnt = models.get(request.model).copied().unwrap_or_default();
        let in_a_mib = learnt.input.guess().unwrap_or(INPUT_PRIOR);
        let input = u128::from(request.body_bytes) * u128::from(in_a_mib);
        let input = u64::try_from(input.div_ceil(1 << 20)).unwrap_or(u64::MAX);
        let input = input.min(GUESS_MAX);
        let known = request.max_tokens.or_else(|| learnt.output.guess());
        TokenGuess {
            least: input + known.unwrap_or(1).min(GUESS_MAX),
            most: input + known.unwrap_or(OUTPUT_PRIOR).min(GUESS_MAX),
        }
    }

    /// Learns from what a request of this kind really used.
    pub fn learn(&self, request: &Request<'_>, usage: &Usage) {
        if usage.input.is_none() && usage.output.is_none() {
            return;
        }
        let mut models = self.models.borrow_mut();
        if models.len() >= MODELS_MAX && !models.contains_key(request.model) {
            models.clear();
        }
        let learnt = match models.get_mut(request.model) {
            Some(learnt) => learnt,
            None => models.entry(request.model.into()).or_default(),
        };
        if let Some(input) = usage.input
            && request.body_bytes > 0
        {
            let scaled = input.min(GUESS_MAX) << 20;
            learnt.input.note(scaled.div_ceil(request.body_bytes));
        }
        if let Some(output) = usage.output {
            learnt.output.note(output);
        }
    }
}

/// The tokens that limits count, input and output together; `None` if the answer told neither.
pub fn counted(usage: &Usage) -> Option<u64> {
    if usage.input.is_none() && usage.output.is_none() {
        return None;
    }
    let input = usage.input.unwrap_or(0);
    Some(input.saturating_add(usage.output.unwrap_or(0)))
}

impl Smooth {
    /// Takes a figure in: an eighth of it into the mean, a quarter of its distance into the
    /// deviation.
    fn note(&mut self, figure: u64) {
        // So that eight times a figure of any size is a figure.
        let figure = figure.min(1 << 52);
        let Some(known) = &mut self.0 else {
            self.0 = Some(MeanAndDeviation {
                mean: figure * 8,
                deviation: figure * 2,
            });
            return;
        };
        let distance = figure.abs_diff(known.mean / 8);
        known.deviation = known.deviation - known.deviation / 4 + distance;
        known.mean = known.mean - known.mean / 8 + figure;
    }

    fn guess(&self) -> Option<u64> {
        let known = self.0?;
        Some(known.mean.div_ceil(8) + known.deviation.div_ceil(2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(body_bytes: u64, max_tokens: Option<u64>) -> Request<'static> {
        Request {
            model: "openai/m",
            body_bytes,
            max_tokens,
        }
    }

    fn used(input: u64, output: u64) -> Usage {
        Usage {
            input: Some(input),
            output: Some(output),
            ..Usage::UNKNOWN
        }
    }

    #[test]
    fn an_unknown_model_is_guessed_by_its_bytes_and_a_usual_answer() {
        let estimates = Estimates::default();
        let check = |request: &Request<'_>, least, most| {
            assert_eq!(estimates.tokens(request), TokenGuess { least, most });
        };
        check(&request(300, None), 101, 100 + OUTPUT_PRIOR);
        check(&request(300, Some(7)), 107, 107);
        check(&request(0, Some(0)), 0, 0);
        check(
            &request(u64::MAX, Some(u64::MAX)),
            2 * GUESS_MAX,
            2 * GUESS_MAX,
        );
    }

    #[test]
    fn guesses_come_down_to_what_answers_are_like() {
        let estimates = Estimates::default();
        let request = request(400, None);
        estimates.learn(&request, &used(100, 20));
        let first = estimates.tokens(&request).most;
        assert!((200..=260).contains(&first), "{first}");
        for _ in 0..40 {
            estimates.learn(&request, &used(100, 20));
        }
        let guess = estimates.tokens(&request);
        assert_eq!(guess.least, guess.most, "the model is known");
        let last = guess.most;
        assert!((120..=124).contains(&last), "{last}");
        // Half the body, half the input.
        let half = Request {
            body_bytes: 200,
            ..request
        };
        assert!((70..=74).contains(&estimates.tokens(&half).most));
    }

    #[test]
    fn answers_that_tell_nothing_teach_nothing() {
        let estimates = Estimates::default();
        estimates.learn(&request(400, None), &Usage::UNKNOWN);
        assert!(estimates.models.borrow().is_empty());
        assert_eq!(counted(&Usage::UNKNOWN), None);
        let input_only = Usage {
            input: Some(3),
            ..Usage::UNKNOWN
        };
        assert_eq!(counted(&input_only), Some(3));
    }

    #[test]
    fn made_up_models_do_not_grow_the_memory() {
        let estimates = Estimates::default();
        for number in 0..3 * MODELS_MAX {
            let model = format!("openai/m{number}");
            let request = Request {
                model: &model,
                ..request(10, None)
            };
            estimates.learn(&request, &used(1, 1));
        }
        assert!(estimates.models.borrow().len() <= MODELS_MAX);
    }

    proptest! {
        #[test]
        fn a_guess_lies_where_the_figures_do(
            figures in prop::collection::vec(any::<u64>(), 1..50),
            steady in 0..1_000_000u64,
        ) {
            let mut smooth = Smooth::default();
            for figure in figures {
                smooth.note(figure);
                prop_assert!(smooth.guess().is_some());
            }
            for _ in 0..400 {
                smooth.note(steady);
            }
            let guess = smooth.guess().unwrap();
            // Integer division leaves a rest of a few.
            prop_assert!(guess.abs_diff(steady) <= 16, "{guess} for {steady}");
        }
    }
}
