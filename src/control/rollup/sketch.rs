//! A histogram of times that can be added to another without loss.
//!
//! Its buckets are those of an HDR histogram with two significant digits: every microsecond up
//! to 255, then 128 buckets for each power of two, so a value is off by less than one part in a
//! hundred. Buckets that hold something take memory, by pages of one power of two.

/// Buckets of a page.
const PAGE: usize = 128;

/// Values up to here are kept apart, later ones are taken for it: 12 days in microseconds.
const VALUE_MAX: u64 = (1 << 40) - 1;

/// Pages: two of single values, then one for each power of two from 2⁸ on.
const PAGES: usize = 34;

/// How many buckets there are.
pub const BUCKETS: usize = PAGE * PAGES;

/// The bucket of a value.
#[inline]
pub fn bucket_of(value: u64) -> u16 {
    let value = value.min(VALUE_MAX);
    // Below 2⁸ the shift is 0, which makes the first two pages one run of single values.
    let shift = (value | 255).ilog2() - 7;
    let bucket = (u64::from(shift) << 7) + (value >> shift);
    // At most (32 << 7) + 255.
    bucket as u16
}

/// The greatest value of a bucket.
pub fn value_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> 7).saturating_sub(1);
    let least = (bucket - (shift << 7)) << shift;
    least + (1 << shift) - 1
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    pages: [Option<Box<[u64; PAGE]>>; PAGES],
    count: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            pages: [const { None }; PAGES],
            count: 0,
        }
    }
}

impl Sketch {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.add_bucket(bucket_of(value), 1);
    }

    /// Counts `count` values of one bucket.
    #[inline]
    pub fn add_bucket(&mut self, bucket: u16, count: u64) {
        let bucket = usize::from(bucket);
        let Some(page) = self.pages.get_mut(bucket / PAGE) else {
            return; // no value has such a bucket
        };
        let page = page.get_or_insert_with(|| Box::new([0; PAGE]));
        page[bucket % PAGE] += count;
        self.count += count;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            let Some(theirs) = theirs else { continue };
            match mine {
                Some(mine) => {
                    for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                        *mine += theirs;
                    }
                }
                None => *mine = Some(theirs.clone()),
            }
        }
        self.count += other.count;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The buckets that hold something, in order, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        let pages = self.pages.iter().enumerate();
        pages
            .filter_map(|(number, page)| page.as_ref().map(|page| (number, page)))
            .flat_map(|(number, page)| {
                let counts = page.iter().enumerate().filter(|(_, count)| **count > 0);
                counts.map(move |(index, count)| ((number * PAGE + index) as u16, *count))
            })
    }

    /// The value that `per_mille` of a thousand values do not exceed; `None` if there is none.
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        let wanted = u128::from(self.count) * u128::from(per_mille);
        let rank = wanted.div_ceil(1000).max(1);
        let mut passed = 0u128;
        self.buckets().find_map(|(bucket, count)| {
            passed += u128::from(count);
            (passed >= rank).then(|| value_of(bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn every_bucket_holds_its_greatest_value_and_no_other_does() {
        for bucket in 0..BUCKETS as u16 {
            assert_eq!(bucket_of(value_of(bucket)), bucket);
            assert_eq!(
                bucket_of(value_of(bucket) + 1),
                bucket.saturating_add(1).min(BUCKETS as u16 - 1)
            );
        }
        assert_eq!(value_of(BUCKETS as u16 - 1), VALUE_MAX);
        assert_eq!(bucket_of(u64::MAX), BUCKETS as u16 - 1);
        assert_eq!(Sketch::default().quantile(500), None);
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = prop_oneof![0..300u64, 0..5_000_000u64, 0..VALUE_MAX];
        vec(value, 1..200)
    }

    fn sketch(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.record(*value));
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_an_hdr_histogram(values in values()) {
            let sketch = sketch(&values);
            let mut hdr = Histogram::<u64>::new(2).unwrap();
            values.iter().for_each(|value| hdr.record(*value).unwrap());
            for per_mille in [1, 500, 900, 950, 990, 1000] {
                let expected = hdr.value_at_quantile(f64::from(per_mille) / 1000.0);
                prop_assert_eq!(sketch.quantile(per_mille), Some(expected));
            }
        }

        #[test]
        fn the_sum_of_two_is_the_histogram_of_all(a in values(), b in values()) {
            let mut sum = sketch(&a);
            sum.merge(&sketch(&b));
            prop_assert_eq!(&sum, &sketch(&[a, b].concat()));
            let mut again = Sketch::default();
            sum.buckets().for_each(|(bucket, count)| again.add_bucket(bucket, count));
            prop_assert_eq!(again, sum);
        }
    }
}
