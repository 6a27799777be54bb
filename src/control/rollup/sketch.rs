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
#[expect(clippy::cast_possible_truncation, reason = "at most (32 << 7) + 255")]
pub fn bucket_of(value: u64) -> u16 {
    let value = value.min(VALUE_MAX);
    // Below 2⁸ the shift is 0, which makes the first two pages one run of single values.
    let shift = (value | 255).ilog2() - 7;
    let bucket = (u64::from(shift) << 7) + (value >> shift);
    bucket as u16
}

/// The same for a value of 32 bits, in fewer steps: a float's exponent and the top of its fraction
/// are page and place. No such value is rounded in 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "at most (26 << 7) + 127")]
pub fn bucket_of_narrow(value: u32) -> u16 {
    /// What stands for 2⁶: one page below the first power of two that is not kept apart.
    const FIRST: u64 = (1023 + 6) << 7;
    const FRACTION_BITS: u32 = 52;
    let scaled = (f64::from(value).to_bits() >> (FRACTION_BITS - 7)).wrapping_sub(FIRST) as u16;
    if value < 128 { value as u16 } else { scaled }
}

/// The greatest value of a bucket.
pub fn value_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> 7).saturating_sub(1);
    let least = (bucket - (shift << 7)) << shift;
    least + (1 << shift) - 1
}

/// A histogram.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    counts: Counts,
    /// How many values were counted before every bucket got its place. From then on it stays, so
    /// that counting a value is one addition.
    count: u64,
}

#[derive(Debug, Clone)]
enum Counts {
    /// Buckets in order with their counts, while they are few.
    Few(Vec<(u16, u64)>),
    /// A page for each power of two that has some.
    Pages(Box<[Option<Box<[u64; PAGE]>>; PAGES]>),
    /// Every bucket, once so many values were counted that the memory is little beside them.
    All(Box<[u64; BUCKETS]>),
}

/// Values from which on every bucket has its place: 34 KB, two or three times what the pages took.
const MANY: u64 = 1 << 13;

/// Most buckets that are kept in a list: a histogram of so many takes 400 bytes.
const FEW: usize = 24;

impl Default for Counts {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.buckets().eq(other.buckets())
    }
}

impl Eq for Sketch {}

impl Sketch {
    /// Counts one value.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a few instructions, for each row of a question"
    )]
    pub fn record(&mut self, value: u64) {
        let bucket = bucket_of(value);
        match &mut self.counts {
            Counts::All(all) => add_to(&mut all[..], usize::from(bucket), 1),
            Counts::Few(_) | Counts::Pages(_) => self.record_early(bucket),
        }
    }

    /// Says whether every bucket has its place.
    pub fn is_table(&self) -> bool {
        matches!(self.counts, Counts::All(_))
    }

    /// The count of each bucket, for who counts many values at once; `None` while they are few.
    pub fn table(&mut self) -> Option<&mut [u64; BUCKETS]> {
        match &mut self.counts {
            Counts::All(all) => Some(all),
            Counts::Few(_) | Counts::Pages(_) => None,
        }
    }

    /// Counts a value of a bucket while there are few; not put where [`Self::record`] is called,
    /// whose usual path is short.
    #[inline(never)]
    fn record_early(&mut self, bucket: u16) {
        self.add_bucket(bucket, 1);
    }

    /// Counts `count` values of one bucket.
    #[inline]
    pub fn add_bucket(&mut self, bucket: u16, count: u64) {
        if usize::from(bucket) >= BUCKETS || count == 0 {
            return; // no value has such a bucket
        }
        match &mut self.counts {
            Counts::All(all) => add_to(&mut all[..], usize::from(bucket), count),
            Counts::Pages(pages) => {
                add_to_pages(pages, bucket, count);
                self.count = self.count.saturating_add(count);
                if self.count > MANY {
                    self.take_room();
                }
            }
            Counts::Few(_) => {
                self.count = self.count.saturating_add(count);
                self.add_to_few(bucket, count);
            }
        }
    }

    #[cold]
    #[expect(
        clippy::large_stack_arrays,
        reason = "34 KB on their way to the heap, once for each histogram"
    )]
    fn take_room(&mut self) {
        let mut all = Box::new([0; BUCKETS]);
        for (bucket, count) in self.buckets() {
            add_to(&mut all[..], usize::from(bucket), count);
        }
        self.counts = Counts::All(all);
    }

    fn add_to_few(&mut self, bucket: u16, count: u64) {
        let Counts::Few(few) = &mut self.counts else {
            return;
        };
        match few.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => few[at].1 = few[at].1.saturating_add(count),
            Err(at) if few.len() < FEW => few.insert(at, (bucket, count)),
            Err(_) => {
                let mut pages = Box::new([const { None }; PAGES]);
                for (bucket, count) in few.iter() {
                    add_to_pages(&mut pages, *bucket, *count);
                }
                add_to_pages(&mut pages, bucket, count);
                self.counts = Counts::Pages(pages);
            }
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add_bucket(bucket, count);
        }
    }

    /// Takes all of `other`, whose values it has, out again.
    pub fn subtract(&mut self, other: &Self) {
        let mut less = Self::default();
        let mut theirs = other.buckets().peekable();
        for (bucket, count) in self.buckets() {
            while theirs.next_if(|(other, _)| *other < bucket).is_some() {}
            let out = theirs.next_if(|(other, _)| *other == bucket);
            less.add_bucket(
                bucket,
                count.saturating_sub(out.map_or(0, |(_, count)| count)),
            );
        }
        *self = less;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        match &self.counts {
            Counts::Few(_) | Counts::Pages(_) => self.count,
            Counts::All(all) => all
                .iter()
                .fold(0, |sum, count| u64::saturating_add(sum, *count)),
        }
    }

    /// Says whether no value was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The buckets that hold something, in order, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        let (few, pages, all) = match &self.counts {
            Counts::Few(few) => (few.as_slice(), None, None),
            Counts::Pages(pages) => (&[][..], Some(pages.iter()), None),
            Counts::All(all) => (&[][..], None, Some(all.chunks(PAGE))),
        };
        let pages = pages.into_iter().flatten().enumerate();
        let pages = pages.filter_map(|(number, page)| Some((number, &page.as_deref()?[..])));
        let all = all.into_iter().flatten().enumerate();
        let counted = pages.chain(all).flat_map(|(number, page)| {
            let counts = page.iter().enumerate().filter(|(_, count)| **count > 0);
            counts.filter_map(move |(index, count)| {
                Some((u16::try_from(number * PAGE + index).ok()?, *count))
            })
        });
        few.iter().copied().chain(counted)
    }

    /// The value that `per_mille` of a thousand values do not exceed; `None` if there is none.
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        let wanted = u128::from(self.count()) * u128::from(per_mille);
        let rank = wanted.div_ceil(1000).max(1);
        let mut passed = 0u128;
        self.buckets().find_map(|(bucket, count)| {
            passed += u128::from(count);
            (passed >= rank).then(|| value_of(bucket))
        })
    }
}

#[inline]
fn add_to_pages(pages: &mut [Option<Box<[u64; PAGE]>>; PAGES], bucket: u16, count: u64) {
    let bucket = usize::from(bucket);
    if let Some(page) = pages.get_mut(bucket / PAGE) {
        let page = page.get_or_insert_with(|| Box::new([0; PAGE]));
        add_to(&mut page[..], bucket % PAGE, count);
    }
}

#[inline]
fn add_to(counts: &mut [u64], index: usize, count: u64) {
    if let Some(slot) = counts.get_mut(index) {
        *slot = slot.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn every_bucket_holds_its_greatest_value_and_no_other_does() {
        let last = u16::try_from(BUCKETS - 1).unwrap();
        for bucket in 0..=last {
            assert_eq!(bucket_of(value_of(bucket)), bucket);
            assert_eq!(bucket_of(value_of(bucket) + 1), (bucket + 1).min(last));
        }
        assert_eq!(value_of(last), VALUE_MAX);
        assert_eq!(bucket_of(u64::MAX), last);
        assert_eq!(Sketch::default().quantile(500), None);
    }

    #[test]
    fn narrow_values_have_the_same_buckets() {
        let powers = (0..32).flat_map(|bits| {
            let power = 1u32 << bits;
            (0..1000).flat_map(move |near| [power.wrapping_sub(near), power.wrapping_add(near)])
        });
        for value in powers.chain([u32::MAX]) {
            assert_eq!(bucket_of_narrow(value), bucket_of(value.into()), "{value}");
        }
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = prop_oneof![0..300u64, 0..5_000_000u64, 0..VALUE_MAX];
        vec(value, 1..200)
    }

    fn sketch(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.record(*value);
        }
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_an_hdr_histogram(values in values()) {
            let sketch = sketch(&values);
            let mut hdr = Histogram::<u64>::new(2).unwrap();
            for value in &values {
                hdr.record(*value).unwrap();
            }
            for per_mille in [1, 500, 900, 950, 990, 1000] {
                let expected = hdr.value_at_quantile(f64::from(per_mille) / 1000.0);
                prop_assert_eq!(sketch.quantile(per_mille), Some(expected));
            }
        }

        #[test]
        fn many_values_are_counted_like_few(values in values(), count in 1..100_000u64) {
            let mut sketch = sketch(&values);
            sketch.add_bucket(bucket_of(7), count);
            let mut again = Sketch::default();
            again.add_bucket(bucket_of(7), count);
            for value in &values {
                again.record(*value);
            }
            prop_assert_eq!(&sketch, &again);
            prop_assert_eq!(sketch.count(), values.len() as u64 + count);
            let sum: u64 = sketch.buckets().map(|(_, count)| count).sum();
            prop_assert_eq!(sum, sketch.count());
        }

        #[test]
        fn the_sum_of_two_is_the_histogram_of_all(a in values(), b in values()) {
            let mut sum = sketch(&a);
            sum.merge(&sketch(&b));
            prop_assert_eq!(&sum, &sketch(&[&a[..], &b].concat()));
            let mut rest = sum.clone();
            rest.subtract(&sketch(&b));
            prop_assert_eq!(rest, sketch(&a));
            let mut again = Sketch::default();
            sum.buckets().for_each(|(bucket, count)| again.add_bucket(bucket, count));
            prop_assert_eq!(again, sum);
        }
    }
}
