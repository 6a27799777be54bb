//! A set of numbers, kept as ranges: of journals, almost always one.

use std::ops::RangeInclusive;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<RangeInclusive<u64>>);

impl Ranges {
    /// The ranges, in order, apart from each other.
    pub fn iter(&self) -> impl Iterator<Item = &RangeInclusive<u64>> {
        self.0.iter()
    }

    /// Adds a range.
    pub fn add(&mut self, range: &RangeInclusive<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut first, mut last) = (*range.start(), *range.end());
        // Those before it that end right before it or later, up to those that begin right after
        // it: they become one with it.
        let from = self
            .0
            .partition_point(|other| other.end().saturating_add(1) < first);
        let to = self
            .0
            .partition_point(|other| *other.start() <= last.saturating_add(1));
        if let Some(touched) = self.0.get(from..to)
            && let (Some(low), Some(high)) = (touched.first(), touched.last())
        {
            first = first.min(*low.start());
            last = last.max(*high.end());
        }
        self.0.splice(from..to, [first..=last]);
    }

    /// Says whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.0
            .get(self.0.partition_point(|range| *range.end() < number))
            .is_some_and(|range| range.contains(&number))
    }

    /// Says whether all of a range is in it.
    pub fn covers(&self, range: &RangeInclusive<u64>) -> bool {
        self.0
            .get(self.0.partition_point(|other| other.end() < range.end()))
            .is_some_and(|other| other.contains(range.start()) && other.contains(range.end()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_the_numbers_that_were_added(added in vec((0..40u64, 0..6u64), 0..12)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, more) in added {
                ranges.add(&(first..=first + more));
                set.extend(first..=first + more);
            }
            for number in 0..50 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
                for last in number..50 {
                    let all = (number..=last).all(|n| set.contains(&n));
                    prop_assert_eq!(ranges.covers(&(number..=last)), all);
                }
            }
            let list: Vec<_> = ranges.iter().collect();
            prop_assert!(list.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
        }
    }
}
