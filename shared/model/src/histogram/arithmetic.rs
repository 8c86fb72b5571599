//! Sums and differences of native histograms, and whether one began anew after another.
//!
//! Source: Prometheus `model/histogram/float_histogram.go`.

use std::collections::BTreeMap;

use super::{BucketSpan, Buckets, NativeHistogram, ResetHint, exponential_bound};

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
pub fn combined(a: &NativeHistogram, b: &NativeHistogram, factor: f64) -> Option<NativeHistogram> {
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
pub fn is_reset(previous: &NativeHistogram, next: &NativeHistogram) -> bool {
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
