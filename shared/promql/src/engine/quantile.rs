//! Quantiles and fractions of classic histograms: of series with the label `le`.
//!
//! Source: Prometheus `promql/quantile.go` `BucketQuantile`, `coalesceBuckets`, `ensureMonotonicAndIgnoreSmallDeltas`.

/// Relative differences below this are noise of floating point.
const SMALL_DELTA: f64 = 1e-12;

/// A bucket of a classic histogram: all observations up to the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// The quantile, and whether counts had to be mended because they fell from one bucket to the next.
pub(super) fn of_buckets(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let was_mended = ensure_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, was_mended);
    }
    let observations = buckets[buckets.len() - 1].count;
    if observations == 0.0 {
        return (f64::NAN, was_mended);
    }
    let mut rank = q * observations;
    let position = buckets[..buckets.len() - 1].partition_point(|bucket| !is_at_least(bucket.count, rank));
    if position == buckets.len() - 1 {
        return (buckets[buckets.len() - 2].upper, was_mended);
    }
    if position == 0 && buckets[0].upper <= 0.0 {
        return (buckets[0].upper, was_mended);
    }
    let (mut lower, upper, mut count) = (0.0, buckets[position].upper, buckets[position].count);
    if position > 0 {
        lower = buckets[position - 1].upper;
        count -= buckets[position - 1].count;
        rank -= buckets[position - 1].count;
    }
    (lower + (upper - lower) * (rank / count), was_mended)
}

/// NaN is not: a bucket without a known count is passed over.
fn is_at_least(count: f64, rank: f64) -> bool {
    count >= rank
}

/// The share of observations between two values, linear within buckets.
pub(super) fn fraction_of_buckets(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if lower.is_nan() || upper.is_nan() || buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |value: f64| {
        let mut before =
            Bucket { upper: if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY }, count: 0.0 };
        for bucket in buckets.iter() {
            if value <= before.upper {
                return before.count;
            }
            if value < bucket.upper {
                if before.upper == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
                    return before.count;
                }
                let share = (value - before.upper) / (bucket.upper - before.upper);
                return before.count + (bucket.count - before.count) * share;
            }
            before = *bucket;
        }
        count
    };
    (rank_of(upper) - rank_of(lower)) / count
}

/// Joins buckets of one bound.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, kept| {
        let same = later.upper == kept.upper;
        if same {
            kept.count += later.count;
        }
        same
    });
}

/// Makes counts not fall; whether one did by more than rounding explains.
fn ensure_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut was_mended = false;
    let Some(first) = buckets.first() else { return false };
    let mut previous = first.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == previous {
            continue;
        }
        let is_small = (bucket.count - previous).abs() <= SMALL_DELTA * (bucket.count.abs() + previous.abs());
        if is_small {
            bucket.count = previous;
            continue;
        }
        if bucket.count < previous {
            bucket.count = previous;
            was_mended = true;
            continue;
        }
        previous = bucket.count;
    }
    was_mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let check = |q: f64, buckets: &[(f64, f64)], expect: f64, mended: bool| {
            let mut all: Vec<Bucket> =
                buckets.iter().map(|&(upper, count)| Bucket { upper, count }).collect();
            let (found, was_mended) = of_buckets(q, &mut all);
            assert!(found == expect || (found.is_nan() && expect.is_nan()), "{q} of {buckets:?}: {found}");
            assert_eq!(was_mended, mended);
        };
        let inf = f64::INFINITY;
        check(0.5, &[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.0, false);
        check(0.75, &[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.5, false);
        check(0.25, &[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 0.5, false);
        check(1.0, &[(1.0, 10.0), (inf, 20.0)], 1.0, false);
        check(0.5, &[(-1.0, 10.0), (inf, 12.0)], -1.0, false);
        check(0.5, &[(1.0, 0.0), (inf, 0.0)], f64::NAN, false);
        check(0.5, &[(1.0, 10.0)], f64::NAN, false);
        check(0.5, &[(inf, 10.0)], f64::NAN, false);
        check(-0.5, &[], -inf, false);
        check(1.5, &[], inf, false);
        check(0.5, &[(1.0, 10.0), (2.0, 5.0), (inf, 20.0)], 1.0, true);
    }
}
