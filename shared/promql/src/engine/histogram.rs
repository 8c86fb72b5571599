//! Sums, differences, resets and quantiles of native histograms.
//!
//! Source: Prometheus `model/histogram/float_histogram.go`, `promql/quantile.go` `HistogramQuantile`.

use std::collections::BTreeMap;

use model::NativeHistogram;
use model::histogram::{BucketSpan, Buckets, ResetHint, exponential_bound};

type ByIndex = BTreeMap<i32, f64>;

/// A histogram with its buckets by index, at some schema and zero bucket.
struct Open {
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    positive: ByIndex,
    negative: ByIndex,
}

impl Open {
    /// With buckets joined to a schema that is not finer than the histogram's own.
    fn at(histogram: &NativeHistogram, schema: i32) -> Self {
        let by = if histogram.has_custom_bounds() { 0 } else { (histogram.schema - schema).max(0) };
        let side = |buckets: &Buckets| {
            let mut by_index = ByIndex::new();
            for (index, count) in buckets.iter() {
                let index = if by == 0 { index } else { ((index.wrapping_sub(1)) >> by).wrapping_add(1) };
                *by_index.entry(index).or_default() += count;
            }
            by_index
        };
        Self {
            schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count,
            positive: side(&histogram.positive),
            negative: side(&histogram.negative),
        }
    }

    /// Moves buckets that lie in a zero bucket of this width into it. The width that it then has is larger where a
    /// bucket that is not empty would be cut.
    fn widen(&mut self, threshold: f64) -> f64 {
        if threshold <= self.zero_threshold {
            return self.zero_threshold;
        }
        let mut threshold = threshold;
        loop {
            let mut is_done = true;
            for side in [&mut self.positive, &mut self.negative] {
                let schema = self.schema;
                let within: Vec<i32> = side
                    .keys()
                    .copied()
                    .take_while(|&index| exponential_bound(index.saturating_sub(1), schema) < threshold)
                    .collect();
                for index in within {
                    let count = side.remove(&index).unwrap_or_default();
                    self.zero_count += count;
                    let upper = exponential_bound(index, schema);
                    if count != 0.0 && upper > threshold {
                        threshold = upper;
                        is_done = false;
                    }
                }
            }
            if is_done {
                break;
            }
        }
        self.zero_threshold = threshold;
        threshold
    }
}

fn closed(by_index: ByIndex) -> Buckets {
    let mut buckets = Buckets::default();
    let mut next = 0;
    for (index, count) in by_index.into_iter().filter(|(_, count)| *count != 0.0) {
        match buckets.spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => buckets.spans.push(BucketSpan { offset: index.wrapping_sub(next), length: 1 }),
        }
        buckets.counts.push(count);
        next = index.wrapping_add(1);
    }
    buckets
}

/// `a + factor * b`; `None` if their buckets cannot be made the same.
pub(super) fn combined(a: &NativeHistogram, b: &NativeHistogram, factor: f64) -> Option<NativeHistogram> {
    if a.has_custom_bounds() != b.has_custom_bounds()
        || (a.has_custom_bounds() && a.custom_bounds != b.custom_bounds)
    {
        return None;
    }
    let schema = a.schema.min(b.schema);
    let (mut into, mut from) = (Open::at(a, schema), Open::at(b, schema));
    if !a.has_custom_bounds() {
        // Each may widen the other.
        while into.zero_threshold.to_bits() != from.zero_threshold.to_bits() {
            let threshold = into.widen(from.zero_threshold);
            from.widen(threshold);
        }
    }
    for (side, more) in [(&mut into.positive, from.positive), (&mut into.negative, from.negative)] {
        for (index, count) in more {
            *side.entry(index).or_default() += factor * count;
        }
    }
    Some(NativeHistogram {
        schema,
        zero_threshold: into.zero_threshold,
        zero_count: into.zero_count + factor * from.zero_count,
        count: a.count + factor * b.count,
        sum: a.sum + factor * b.sum,
        positive: closed(into.positive),
        negative: closed(into.negative),
        custom_bounds: a.custom_bounds.clone(),
        reset_hint: if a.reset_hint == b.reset_hint { a.reset_hint } else { ResetHint::Unknown },
        is_integer: false,
    })
}

/// Whether counting began anew between `previous` and `next`.
pub(super) fn is_reset(previous: &NativeHistogram, next: &NativeHistogram) -> bool {
    match next.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if next.count < previous.count {
        return true;
    }
    if next.has_custom_bounds() != previous.has_custom_bounds()
        || (next.has_custom_bounds() && next.custom_bounds != previous.custom_bounds)
        || next.schema > previous.schema
        || next.zero_threshold < previous.zero_threshold
    {
        return true;
    }
    let (mut before, after) = (Open::at(previous, next.schema), Open::at(next, next.schema));
    if !next.has_custom_bounds()
        && before.widen(next.zero_threshold).to_bits() != next.zero_threshold.to_bits()
    {
        return true;
    }
    if next.zero_count < before.zero_count {
        return true;
    }
    [(before.positive, after.positive), (before.negative, after.negative)].into_iter().any(
        |(before, after)| {
            before.into_iter().any(|(index, count)| after.get(&index).copied().unwrap_or_default() < count)
        },
    )
}

/// The quantile: exponential between the bounds of a bucket, linear in the zero bucket and between custom bounds.
pub(super) fn quantile(q: f64, histogram: &NativeHistogram) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if q.is_nan() || histogram.count == 0.0 {
        return f64::NAN;
    }
    let buckets = histogram.bounded_buckets();
    // From the nearer end: rounding counts less then. Observations of NaN count as the largest.
    let is_forward = histogram.sum.is_nan() || q < 0.5;
    let mut rank = if is_forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    let mut count = 0.0;
    let mut found = None;
    let mut take = |bucket: &model::histogram::BoundedBucket| {
        found = Some(*bucket);
        count += bucket.count;
        count >= rank
    };
    let reached =
        if is_forward { buckets.iter().any(&mut take) } else { buckets.iter().rev().any(&mut take) };
    let Some(mut bucket) = found else { return f64::NAN };
    if histogram.has_custom_bounds() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        match (histogram.negative.counts.is_empty(), histogram.positive.counts.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
    if !reached {
        if histogram.sum.is_nan() {
            return f64::NAN;
        }
        rank = count;
    }
    rank = if is_forward { rank - (count - bucket.count) } else { count - rank };
    let share = rank / bucket.count;
    if histogram.has_custom_bounds() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (log_lower + (log_upper - log_lower) * share).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - share)).exp2()
    }
}

/// The share of observations between two values.
pub(super) fn fraction(lower: f64, upper: f64, histogram: &NativeHistogram) -> f64 {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let buckets = histogram.bounded_buckets();
    let rank_of = |value: f64| {
        let mut rank = 0.0;
        for bucket in &buckets {
            if value >= bucket.upper {
                rank += bucket.count;
                continue;
            }
            if value > bucket.lower {
                rank += bucket.count * share_below(value, bucket, histogram);
            }
            break;
        }
        rank
    };
    (rank_of(upper) - rank_of(lower)) / histogram.count
}

/// Which part of a bucket lies below a value within it.
fn share_below(value: f64, bucket: &model::histogram::BoundedBucket, histogram: &NativeHistogram) -> f64 {
    let (mut lower, mut upper) = (bucket.lower, bucket.upper);
    let is_linear = histogram.has_custom_bounds() || (lower <= 0.0 && upper >= 0.0);
    if histogram.has_custom_bounds() {
        if lower == f64::NEG_INFINITY {
            lower = if upper > 0.0 { 0.0 } else { return 0.0 };
        }
        if upper == f64::INFINITY {
            return 0.0;
        }
    } else if is_linear {
        match (histogram.negative.counts.is_empty(), histogram.positive.counts.is_empty()) {
            (true, false) => lower = 0.0,
            (false, true) => upper = 0.0,
            _ => {}
        }
    }
    if is_linear {
        return ((value - lower) / (upper - lower)).clamp(0.0, 1.0);
    }
    let (log_lower, log_upper, log_value) = (lower.abs().log2(), upper.abs().log2(), value.abs().log2());
    if value > 0.0 {
        (log_value - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_value - log_upper) / (log_lower - log_upper)
    }
}

/// The variance of observations that are taken for the middles of their buckets: geometric, but for the zero bucket
/// and custom bounds.
pub(super) fn variance(histogram: &NativeHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut squares = 0.0;
    for bucket in histogram.bounded_buckets() {
        let middle = if histogram.has_custom_bounds() {
            f64::midpoint(bucket.lower, bucket.upper)
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        squares += bucket.count * delta * delta;
    }
    squares / histogram.count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: i32, offset: i32, counts: &[f64]) -> NativeHistogram {
        let spans = vec![BucketSpan { offset, length: counts.len() as u32 }];
        NativeHistogram {
            schema,
            zero_threshold: 1e-128,
            count: counts.iter().sum(),
            positive: Buckets { spans, counts: counts.to_vec() },
            ..NativeHistogram::default()
        }
    }

    #[test]
    fn the_coarser_schema_counts() {
        let sum = combined(&of(1, 1, &[1.0, 2.0, 4.0]), &of(0, 1, &[10.0, 20.0]), 1.0).expect("compatible");
        assert_eq!(sum.schema, 0);
        assert_eq!(sum.positive.iter().collect::<Vec<_>>(), [(1, 13.0), (2, 24.0)]);
        assert_eq!(sum.count, 37.0);
    }

    #[test]
    fn a_wider_zero_bucket_swallows_others() {
        let wide = NativeHistogram { zero_threshold: 1.5, zero_count: 5.0, count: 5.0, ..of(0, 3, &[]) };
        let wide = NativeHistogram { positive: Buckets::default(), ..wide };
        let sum = combined(&of(0, 0, &[1.0, 2.0, 3.0]), &wide, 1.0).expect("compatible");
        assert_eq!((sum.zero_threshold, sum.zero_count), (2.0, 8.0));
        assert_eq!(sum.positive.iter().collect::<Vec<_>>(), [(2, 3.0)]);
    }

    #[test]
    fn resets_are_found() {
        let before = of(0, 0, &[1.0, 2.0]);
        assert!(!is_reset(&before, &of(0, 0, &[1.0, 3.0])));
        assert!(is_reset(&before, &of(0, 0, &[1.0, 1.0])), "fewer in all");
        assert!(is_reset(&before, &of(0, 0, &[0.0, 9.0])), "fewer in a bucket");
        assert!(is_reset(&before, &of(1, 0, &[5.0, 9.0])), "finer");
    }

    #[test]
    fn quantiles_are_exponential_within_a_bucket() {
        let histogram = of(0, 1, &[10.0]);
        let check =
            |found: f64, expect: f64| assert!((found - expect).abs() < 1e-12, "{found}, expected {expect}");
        check(quantile(0.5, &histogram), 2_f64.sqrt());
        check(quantile(1.0, &histogram), 2.0);
        check(fraction(1.0, 2_f64.sqrt(), &histogram), 0.5);
        assert!(quantile(0.5, &of(0, 1, &[])).is_nan());
    }
}
