//! Sums, regressions, quantiles, and histograms times numbers.

use model::NativeHistogram;
use model::histogram::{Buckets, ResetHint};

/// A sum that carries what rounding lost. Source: Neumaier; Prometheus `promql/functions.go` `kahanSumInc`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) value: f64,
    pub(super) lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, more: f64) {
        let sum = self.value + more;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.value.abs() >= more.abs() {
            self.lost += (self.value - sum) + more;
        } else {
            self.lost += (more - sum) + self.value;
        }
        self.value = sum;
    }

    pub(super) fn total(self) -> f64 {
        self.value + self.lost
    }
}

/// A mean that stays finite where the sum would not. Source: Prometheus `promql/engine.go`, aggregation AVG.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: Sum,
    count: f64,
    is_incremental: bool,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = Sum { value, lost: 0.0 };
            return;
        }
        if !self.is_incremental {
            let mut next = self.sum;
            next.add(value);
            if !next.value.is_infinite() {
                self.sum = next;
                return;
            }
            self.is_incremental = true;
            self.sum.value /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        let mut next = Sum { value: share * self.sum.value, lost: share * self.sum.lost };
        next.add(value / self.count);
        self.sum = next;
    }

    pub(super) fn value(self) -> f64 {
        if self.is_incremental {
            self.sum.total()
        } else {
            self.sum.value / self.count + self.sum.lost / self.count
        }
    }
}

/// Variance as the values come. Source: Welford.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean.total();
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - self.mean.total()));
    }

    pub(super) fn value(self) -> f64 {
        self.squares.total() / self.count
    }
}

/// The quantile of values, which get sorted: linear between neighbours.
/// Source: Prometheus `promql/quantile.go` `quantile`.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN comes first, as in Prometheus.
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Slope and value at `intercept_ms` of the line through samples.
/// Source: Prometheus `promql/functions.go` `linearRegression`.
pub(super) fn regression(times: &[i64], values: &[f64], intercept_ms: i64) -> (f64, f64) {
    let n = values.len() as f64;
    let is_constant = values.iter().all(|value| *value == values[0]);
    if is_constant {
        return if values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, values[0]) };
    }
    let (mut sum_x, mut sum_y, mut sum_xy, mut sum_xx) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (&time_ms, &y) in times.iter().zip(values) {
        let x = (time_ms - intercept_ms) as f64 / 1e3;
        sum_x.add(x);
        sum_y.add(y);
        sum_xy.add(x * y);
        sum_xx.add(x * x);
    }
    let (sum_x, sum_y, sum_xy, sum_xx) = (sum_x.total(), sum_y.total(), sum_xy.total(), sum_xx.total());
    let covariance = sum_xy - sum_x * sum_y / n;
    let variance = sum_xx - sum_x * sum_x / n;
    let slope = covariance / variance;
    (slope, sum_y / n - slope * sum_x / n)
}

/// A histogram with all counts and the sum times `factor`.
pub(super) fn scaled(histogram: &NativeHistogram, factor: f64) -> NativeHistogram {
    let mut scaled = histogram.clone();
    scaled.zero_count *= factor;
    scaled.count *= factor;
    scaled.sum *= factor;
    for count in scaled.positive.counts.iter_mut().chain(&mut scaled.negative.counts) {
        *count *= factor;
    }
    scaled.is_integer = false;
    if factor < 0.0 {
        scaled.reset_hint = ResetHint::Gauge;
    }
    scaled
}

/// A histogram by a number. By zero, it has no buckets any more.
pub(super) fn divided(histogram: &NativeHistogram, divisor: f64) -> NativeHistogram {
    let mut divided = histogram.clone();
    divided.zero_count /= divisor;
    divided.count /= divisor;
    divided.sum /= divisor;
    divided.is_integer = false;
    if divisor == 0.0 {
        (divided.positive, divided.negative) = (Buckets::default(), Buckets::default());
        return divided;
    }
    for count in divided.positive.counts.iter_mut().chain(&mut divided.negative.counts) {
        *count /= divisor;
    }
    if divisor < 0.0 {
        divided.reset_hint = ResetHint::Gauge;
    }
    divided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_rounding_loses() {
        let mut sum = Sum::default();
        for value in [1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 1.0);
        let mut mean = Mean::default();
        for _ in 0..4 {
            mean.add(f64::MAX);
        }
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-12, "the sum would not be finite");
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let check = |q: f64, values: &[f64], expect: f64| {
            let found = quantile(q, &mut values.to_vec());
            assert!(found == expect || (found.is_nan() && expect.is_nan()), "{q} of {values:?}: {found}");
        };
        check(0.5, &[3.0, 1.0, 2.0], 2.0);
        check(0.25, &[0.0, 1.0], 0.25);
        check(1.0, &[1.0, 5.0], 5.0);
        check(-0.1, &[1.0], f64::NEG_INFINITY);
        check(1.1, &[1.0], f64::INFINITY);
        check(0.5, &[], f64::NAN);
    }

    #[test]
    fn a_line_is_found() {
        let (slope, value) = regression(&[0, 1_000, 2_000], &[1.0, 3.0, 5.0], 2_000);
        assert_eq!((slope, value), (2.0, 5.0));
    }
}
