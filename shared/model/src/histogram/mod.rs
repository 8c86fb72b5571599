//! Native histograms: exponential buckets, or buckets with custom bounds.
//!
//! Counts are 64-bit floats, as PromQL computes with them. An integer histogram's counts are exact up to 2^53, and
//! [`NativeHistogram::is_integer`] remembers what it was.

mod arithmetic;

pub use arithmetic::{combined, is_reset};

/// Schema of histograms with custom bounds.
pub const CUSTOM_BOUNDS_SCHEMA: i32 = -53;
/// The coarsest exponential schema: buckets grow by 2^16.
pub const MIN_SCHEMA: i32 = -4;
/// The finest exponential schema: buckets grow by 2^(1/256).
pub const MAX_SCHEMA: i32 = 8;

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Of the first run: the index of its first bucket. Of each later one: the empty buckets between it and the run
    /// before it.
    pub offset: i32,
    /// How many buckets it has.
    pub length: u32,
}

/// What is known about resets between this sample and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetHint {
    /// Nothing: compare the two.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// Not a counter: a gauge histogram, or the result of arithmetic.
    Gauge,
}

/// The buckets of one sign: `counts` has one entry per bucket of the spans, in their order, each an absolute count.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    /// The runs, ascending.
    pub spans: Vec<BucketSpan>,
    /// The counts; as many as the lengths of the spans together.
    pub counts: Vec<f64>,
}

/// One sample of a native histogram.
///
/// With base = 2^(2^-schema), the positive bucket of index i reaches from base^(i-1), which is not its own, to base^i,
/// which is; the negative one is its mirror image, and the zero bucket reaches to `zero_threshold` on both sides, with
/// both ends. With schema -53 the bounds of the positive bucket i are the custom bounds before i and at i; the first is
/// open to -Inf and the last to +Inf, and there are no others.
/// Source: Prometheus `model/histogram/float_histogram.go`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NativeHistogram {
    /// -4 to 8, or [`CUSTOM_BOUNDS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket to each side.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations, also those of NaN, which are in no bucket.
    pub count: f64,
    /// Their sum; the stale marker's bits mark the sample as stale.
    pub sum: f64,
    /// Buckets above the zero bucket, or those with custom bounds.
    pub positive: Buckets,
    /// Buckets below it, by absolute value.
    pub negative: Buckets,
    /// Upper bounds for schema -53, ascending, without +Inf; else empty.
    pub custom_bounds: Vec<f64>,
    /// What is known about resets.
    pub reset_hint: ResetHint,
    /// Whether it came with integer counts.
    pub is_integer: bool,
}

impl Buckets {
    /// Index and count of each bucket, ascending by index; those in gaps between spans are left out.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let mut next = 0_i32;
        let indexes = self.spans.iter().flat_map(move |span| {
            let first = next.wrapping_add(span.offset);
            next = first.wrapping_add(span.length as i32);
            first..next
        });
        indexes.zip(self.counts.iter().copied())
    }

    /// Whether the lengths of the spans are those of the counts, no later span goes back, and no index overflows.
    pub fn is_consistent(&self) -> bool {
        let mut next = 0_i64;
        for (position, span) in self.spans.iter().enumerate() {
            if position > 0 && span.offset < 0 {
                return false;
            }
            next += i64::from(span.offset) + i64::from(span.length);
            if i32::try_from(next).is_err() {
                return false;
            }
        }
        self.spans.iter().map(|span| u64::from(span.length)).sum::<u64>() == self.counts.len() as u64
    }
}

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundedBucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub has_lower: bool,
    /// Whether the upper bound belongs to it.
    pub has_upper: bool,
    /// Observations.
    pub count: f64,
}

/// Upper bound of the bucket `index`: 2^(index * 2^-schema); of the last bucket before infinity the largest float.
/// Source: Prometheus `model/histogram/generic.go` `getBoundExponential`.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        let exponent = i64::from(index) << -schema;
        return match exponent {
            1024 => f64::MAX,
            exponent => 2_f64.powi(exponent.clamp(-2000, 2000) as i32),
        };
    }
    let per_power = 1_i32 << schema;
    let (power, fraction) = (index.div_euclid(per_power), index.rem_euclid(per_power));
    if power == 1024 && fraction == 0 {
        return f64::MAX;
    }
    2_f64.powf(f64::from(fraction) / f64::from(per_power)) * 2_f64.powi(power)
}

impl NativeHistogram {
    /// Whether the sample says that the series has ended.
    pub fn is_stale(&self) -> bool {
        crate::series::is_stale(self.sum)
    }

    /// Whether the bounds of its buckets are its own.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_BOUNDS_SCHEMA
    }

    /// The buckets that are not empty, ascending. One that reaches into the zero bucket begins where that ends.
    pub fn bounded_buckets(&self) -> Vec<BoundedBucket> {
        let mut all = Vec::new();
        if self.has_custom_bounds() {
            let bound = |index: i32| {
                let found =
                    usize::try_from(index).ok().and_then(|index| self.custom_bounds.get(index).copied());
                found.unwrap_or(f64::INFINITY)
            };
            for (index, count) in self.positive.iter().filter(|(_, count)| *count != 0.0) {
                let lower = if index == 0 { f64::NEG_INFINITY } else { bound(index - 1) };
                all.push(BoundedBucket {
                    lower,
                    upper: bound(index),
                    has_lower: index == 0,
                    has_upper: true,
                    count,
                });
            }
            return all;
        }
        let bound = |index: i32| exponential_bound(index, self.schema);
        let lower_of = |index: i32| bound(index.saturating_sub(1)).max(self.zero_threshold);
        let mut negative: Vec<(i32, f64)> = self.negative.iter().filter(|(_, count)| *count != 0.0).collect();
        negative.reverse();
        for (index, count) in negative {
            let (lower, upper) = (-bound(index), -lower_of(index));
            all.push(BoundedBucket { lower, upper, has_lower: true, has_upper: false, count });
        }
        // As Prometheus lists them: a negative count of zeros is not shown.
        if self.zero_count > 0.0 {
            let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
            all.push(BoundedBucket {
                lower,
                upper,
                has_lower: true,
                has_upper: true,
                count: self.zero_count,
            });
        }
        for (index, count) in self.positive.iter().filter(|(_, count)| *count != 0.0) {
            let (lower, upper) = (lower_of(index), bound(index));
            all.push(BoundedBucket { lower, upper, has_lower: false, has_upper: true, count });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_say_the_indexes_of_buckets() {
        let spans = vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 3, length: 1 }];
        let buckets = Buckets { spans, counts: vec![1.0, 2.0, 3.0] };
        assert!(buckets.is_consistent());
        assert_eq!(buckets.iter().collect::<Vec<_>>(), [(-2, 1.0), (-1, 2.0), (3, 3.0)]);
    }

    #[test]
    fn spans_that_contradict_the_counts_are_found() {
        let of = |offset, length| BucketSpan { offset, length };
        let check = |spans: &[BucketSpan], n: usize| {
            Buckets { spans: spans.to_vec(), counts: vec![1.0; n] }.is_consistent()
        };
        assert!(!check(&[of(0, 2)], 1));
        assert!(!check(&[of(0, 1), of(-1, 1)], 2));
        assert!(!check(&[of(i32::MAX, 1)], 1));
        assert!(!check(&[of(0, u32::MAX)], 0));
    }
}
