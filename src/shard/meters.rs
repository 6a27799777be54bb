//! Meters that go round: an answer's meter is large, and takes longer to make than to begin anew.

use std::cell::RefCell;

use crate::provider::{
    dialect::{Dialect, Shape},
    meter::{Encoding, Meter},
};

/// Meters that are kept, of a kilobyte each and a few for what they read: an answer that came whole
/// needs its meter no longer than a turn.
const KEPT: usize = 64;

/// The meters of one shard that meter nothing now.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "they go round without being moved")]
pub struct Meters(RefCell<Vec<Box<Meter>>>);

impl Meters {
    /// A meter for an answer of this shape and encoding.
    pub fn take(&self, dialect: Dialect, shape: Shape, encoding: Encoding) -> Box<Meter> {
        let kept = self.0.borrow_mut().pop();
        match kept {
            Some(mut meter) => {
                meter.begin(dialect, shape, encoding);
                meter
            }
            None => Box::new(Meter::new(dialect, shape, encoding)),
        }
    }

    /// Takes a meter back whose answer is over.
    pub fn give_back(&self, mut meter: Box<Meter>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            meter.clear();
            kept.push(meter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_that_goes_round_knows_nothing_of_the_answer_before() {
        let meters = Meters::default();
        let take = || meters.take(Dialect::OpenAi, Shape::Json, Encoding::Identity);
        let mut meter = take();
        meter.feed(br#"{"model":"m","service_tier":"flex","usage":{"prompt_tokens":3,"comp"#);
        let place = std::ptr::from_ref(&*meter);
        meters.give_back(meter);
        let mut meter = take();
        assert!(std::ptr::eq(place, &raw const *meter));
        assert_eq!(meter.finish(), take().finish());
        assert!(
            meter
                .feed(br#"{"usage":{"completion_tokens":4}}"#)
                .first_token
        );
        let metered = meter.finish();
        assert_eq!((metered.usage.input, metered.usage.output), (None, Some(4)));
        assert_eq!(metered.model, None);
    }
}
