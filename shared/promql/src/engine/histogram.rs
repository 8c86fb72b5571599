//! Quantiles, fractions and variances of native histograms; sums and resets are the model's.
//!
//! Source: Prometheus `model/histogram/float_histogram.go`, `promql/quantile.go` `HistogramQuantile`.

use model::NativeHistogram;
pub(super) use model::histogram::{combined, is_reset};

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
    use model::histogram::{BucketSpan, Buckets};

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
