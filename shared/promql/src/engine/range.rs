//! Functions of windows of samples.
//!
//! Source: Prometheus `promql/functions.go`, version 3: a window is open on the left.

use std::sync::Arc;

use model::histogram::ResetHint;
use model::labels::METRIC_NAME;
use model::series::{HistogramSample, is_stale};
use model::{Labels, NativeHistogram};

use super::math::{Mean, Sum, Variance, quantile, regression, scaled};
use super::selector::Windows;
use super::{ABSENT, Engine, Line, Result, Steps, TakeLine, histogram, merged};
use crate::syntax::ast::{Call, ExprKind, Span};

/// What a function makes of a window.
enum Found {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// The samples of one series in one window, never none at all.
pub(super) struct Window<'a> {
    /// Ms since the epoch, ascending.
    pub(super) times: &'a [i64],
    pub(super) values: &'a [f64],
    pub(super) histograms: &'a [HistogramSample],
    /// The metric's name, for remarks.
    pub(super) metric: &'a str,
    /// Excluded.
    pub(super) start_ms: i64,
    /// Included.
    pub(super) end_ms: i64,
    /// The step that the window is for.
    pub(super) step_ms: i64,
}

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Histogram,
}

impl Window<'_> {
    /// What the last two samples are, by time.
    fn last_two(&self) -> Option<(Kind, Kind)> {
        let last_of = |n: usize| {
            let float = self.times.len().checked_sub(n).map(|at| self.times[at]);
            let histogram = self.histograms.len().checked_sub(n).map(|at| self.histograms[at].time_ms);
            [float.map(|time_ms| (time_ms, Kind::Float)), histogram.map(|time_ms| (time_ms, Kind::Histogram))]
        };
        let mut last: Vec<(i64, Kind)> = last_of(1).into_iter().chain(last_of(2)).flatten().collect();
        last.sort_by_key(|(time_ms, _)| std::cmp::Reverse(*time_ms));
        Some((last.get(1)?.1, last.first()?.1))
    }

    /// How often a number comes after a histogram, or the other way round; each such turn is a change and a reset.
    /// What lies between two samples of one kind is compared all the same.
    fn n_turns(&self) -> usize {
        if self.times.is_empty() || self.histograms.is_empty() {
            return 0;
        }
        let floats = self.times.iter().map(|time_ms| (*time_ms, Kind::Float));
        let histograms = self.histograms.iter().map(|sample| (sample.time_ms, Kind::Histogram));
        let mut all: Vec<(i64, Kind)> = floats.chain(histograms).collect();
        all.sort_by_key(|(time_ms, _)| *time_ms);
        all.windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
    }
}

impl Engine<'_> {
    /// Hands `take` a line per series of `windows`, with the number that `of` makes of each window. Labels lose the name
    /// unless `keeps_name`.
    fn over_windows(
        &self,
        windows: &Windows<'_>,
        steps: Steps,
        keeps_name: bool,
        take: &mut TakeLine<'_>,
        mut of: impl FnMut(&Window<'_>, usize) -> Option<f64>,
    ) -> Result<()> {
        let of = |window: &Window<'_>, step| of(window, step).map(Found::Float);
        self.over_windows_any(windows, steps, keeps_name, take, of)
    }

    /// As [`Engine::over_windows`], where the result may be a histogram.
    fn over_windows_any(
        &self,
        windows: &Windows<'_>,
        steps: Steps,
        keeps_name: bool,
        take: &mut TakeLine<'_>,
        mut of: impl FnMut(&Window<'_>, usize) -> Option<Found>,
    ) -> Result<()> {
        self.each_source(windows, |source| {
            let mut line = Line::new(Labels::empty(), vec![ABSENT; steps.n]);
            let mut is_empty = true;
            let (mut first, mut end, mut first_histogram, mut end_histogram) = (0, 0, 0, 0);
            for step in 0..steps.n {
                let step_ms = steps.time_ms(step);
                let end_ms = windows.fixed_ms.unwrap_or(step_ms) - windows.offset_ms;
                let start_ms = end_ms - windows.range_ms;
                advance(&source.time_ms, |time_ms| *time_ms, (start_ms, end_ms), (&mut first, &mut end));
                advance(
                    &source.histograms,
                    |sample: &HistogramSample| sample.time_ms,
                    (start_ms, end_ms),
                    (&mut first_histogram, &mut end_histogram),
                );
                if first == end && first_histogram == end_histogram {
                    continue;
                }
                let window = Window {
                    times: &source.time_ms[first..end],
                    values: &source.value[first..end],
                    histograms: &source.histograms[first_histogram..end_histogram],
                    metric: source.labels.get(METRIC_NAME),
                    start_ms,
                    end_ms,
                    step_ms,
                };
                match of(&window, step) {
                    None => continue,
                    Some(Found::Float(value)) => line.values[step] = value,
                    Some(Found::Histogram(histogram)) => line.set_histogram(step, histogram),
                }
                is_empty = false;
            }
            if is_empty {
                return Ok(());
            }
            line.labels =
                if keeps_name { source.labels.clone() } else { source.labels.without_metric_name() };
            take(line)
        })
    }

    /// Calls of functions of windows; `None` if the function is none.
    pub(super) fn range_call(&self, call: &Call, steps: Steps) -> Result<Option<Vec<Line>>> {
        let mut lines: Vec<Line> = Vec::new();
        let is_one = self.each_range_line(call, steps, &mut |line| {
            self.account(1, steps.n)?;
            lines.push(line);
            Ok(())
        })?;
        if !is_one {
            return Ok(None);
        }
        // Without the names, labels may have become the same.
        let are_different = lines.is_sorted_by(|a, b| a.labels < b.labels);
        if are_different { Ok(Some(lines)) } else { merged(lines).map(Some) }
    }

    /// Hands the lines of a call of a function of windows to `take`, one for each series even where labels have become the
    /// same; nothing, and false, if the function is none.
    pub(super) fn each_range_line(&self, call: &Call, steps: Steps, take: &mut TakeLine<'_>) -> Result<bool> {
        let name = call.function.name;
        let Some(vector) = call
            .arguments
            .iter()
            .find(|argument| argument.value_type() == crate::syntax::ast::ValueType::RangeVector)
        else {
            return Ok(false);
        };
        // Prometheus knows no place of a subquery.
        let is_subquery = matches!(vector.unwrapped().kind, ExprKind::Subquery(_));
        let span = if is_subquery { 0..0 } else { vector.span.clone() };
        let windows = self.windows(vector, steps)?;
        let range_s = windows.range_ms as f64 / 1e3;
        let plain = |take: &mut TakeLine<'_>, of: fn(&Window<'_>) -> Option<f64>| {
            self.over_windows(&windows, steps, false, take, |window, _| of(window))
        };
        let of_floats = |take: &mut TakeLine<'_>, of: fn(&Window<'_>) -> Option<f64>| {
            let of = |window: &Window<'_>, _| {
                self.inform_ignored(window, &span);
                of(window)
            };
            self.over_windows(&windows, steps, false, take, of)
        };
        match name {
            "rate" | "increase" | "delta" => {
                let (is_counter, is_rate) = (name != "delta", name == "rate");
                let of = |window: &Window<'_>, _| {
                    let rate = Extrapolation { is_counter, is_rate, range_s };
                    match (window.values.is_empty(), window.histograms.is_empty()) {
                        (_, true) => rate.of_floats(window).map(Found::Float),
                        (true, false) => {
                            self.check_kind(window, is_counter, &span);
                            let found = rate.of_histograms(window);
                            if found.is_none() {
                                self.warn_incompatible(window, &span);
                            }
                            found.map(|found| Found::Histogram(Arc::new(found)))
                        }
                        (false, false) => {
                            self.warn_mixed(window, &span);
                            None
                        }
                    }
                };
                // With the names first: they tell what is no counter.
                let mut looked_at: Vec<String> = Vec::new();
                let mut named = |mut line: Line| {
                    if is_counter {
                        self.hint_at_counter(&line, &mut looked_at, &span);
                    }
                    line.labels = line.labels.without_metric_name();
                    take(line)
                };
                self.over_windows_any(&windows, steps, true, &mut named, of)
            }
            "irate" | "idelta" => {
                let is_rate = name == "irate";
                let of = |window: &Window<'_>, _| match window.last_two()? {
                    (Kind::Float, Kind::Float) => instant_change(window, is_rate).map(Found::Float),
                    (Kind::Histogram, Kind::Histogram) => {
                        let [.., before, last] = window.histograms else { return None };
                        self.check_kind(window, is_rate, &span);
                        instant_change_of(before, last, is_rate)
                            .map(|found| Found::Histogram(Arc::new(found)))
                    }
                    _ => {
                        self.warn_mixed(window, &span);
                        None
                    }
                };
                self.over_windows_any(&windows, steps, false, take, of)
            }
            "last_over_time" => self.edge_over_time(&windows, steps, true, take),
            "first_over_time" => self.edge_over_time(&windows, steps, false, take),
            "count_over_time" => {
                plain(take, |window| Some((window.values.len() + window.histograms.len()) as f64))
            }
            "present_over_time" => plain(take, |_| Some(1.0)),
            "sum_over_time" | "avg_over_time" => {
                let of =
                    |window: &Window<'_>, _| match (window.values.is_empty(), window.histograms.is_empty()) {
                        (false, true) => Some(Found::Float(if name == "sum_over_time" {
                            let mut sum = Sum::default();
                            for value in window.values {
                                sum.add(*value);
                            }
                            sum.total()
                        } else {
                            let mut mean = Mean::default();
                            for value in window.values {
                                mean.add(*value);
                            }
                            mean.value()
                        })),
                        (true, _) => {
                            let total = sum_of(window.histograms.iter().map(|sample| &*sample.histogram));
                            if total.is_none() {
                                self.warn_incompatible(window, &span);
                            }
                            let total = total?;
                            let n = window.histograms.len() as f64;
                            let total = if name == "avg_over_time" { scaled(&total, 1.0 / n) } else { total };
                            Some(Found::Histogram(Arc::new(total)))
                        }
                        (false, false) => {
                            self.warn_mixed(window, &span);
                            None
                        }
                    };
                self.over_windows_any(&windows, steps, false, take, of)
            }
            "min_over_time" => of_floats(take, |window| extreme(window.values, |a, b| a < b)),
            "max_over_time" => of_floats(take, |window| extreme(window.values, |a, b| a > b)),
            "stddev_over_time" => of_floats(take, |window| variance(window.values).map(f64::sqrt)),
            "stdvar_over_time" => of_floats(take, |window| variance(window.values)),
            "mad_over_time" => of_floats(take, |window| {
                let median = quantile(0.5, &mut window.values.to_vec());
                let mut distances: Vec<f64> =
                    window.values.iter().map(|value| (value - median).abs()).collect();
                (!distances.is_empty()).then(|| quantile(0.5, &mut distances))
            }),
            "changes" => plain(take, |window| {
                let differ = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
                let histograms_differ = |pair: &&[HistogramSample]| pair[0].histogram != pair[1].histogram;
                let n_floats = window.values.windows(2).filter(differ).count();
                let n_histograms = window.histograms.windows(2).filter(histograms_differ).count();
                Some((n_floats + n_histograms + window.n_turns()) as f64)
            }),
            "resets" => plain(take, |window| {
                let falls = |pair: &&[f64]| pair[1] < pair[0];
                let resets =
                    |pair: &&[HistogramSample]| histogram::is_reset(&pair[0].histogram, &pair[1].histogram);
                let n_floats = window.values.windows(2).filter(falls).count();
                let n_histograms = window.histograms.windows(2).filter(resets).count();
                Some((n_floats + n_histograms + window.n_turns()) as f64)
            }),
            "deriv" => of_floats(take, |window| {
                (window.values.len() >= 2).then(|| regression(window.times, window.values, window.times[0]).0)
            }),
            "ts_of_first_over_time" => {
                plain(take, |window| window.times.first().map(|time_ms| *time_ms as f64 / 1e3))
            }
            "ts_of_last_over_time" => {
                plain(take, |window| window.times.last().map(|time_ms| *time_ms as f64 / 1e3))
            }
            "ts_of_min_over_time" => of_floats(take, |window| time_of_extreme(window, |a, b| a <= b)),
            "ts_of_max_over_time" => of_floats(take, |window| time_of_extreme(window, |a, b| a >= b)),
            "predict_linear" => {
                let seconds = self.scalar(&call.arguments[1], steps)?;
                let of = |window: &Window<'_>, step: usize| {
                    self.inform_ignored(window, &span);
                    if window.values.len() < 2 {
                        return None;
                    }
                    let (slope, value) = regression(window.times, window.values, window.step_ms);
                    Some(slope * seconds[step] + value)
                };
                self.over_windows(&windows, steps, false, take, of)
            }
            "quantile_over_time" => {
                let q = self.scalar(&call.arguments[0], steps)?;
                let of = |window: &Window<'_>, step: usize| {
                    self.inform_ignored(window, &call.arguments[0].span);
                    (!window.values.is_empty()).then(|| quantile(q[step], &mut window.values.to_vec()))
                };
                let mut is_checked = false;
                let mut checked = |line: Line| {
                    if !std::mem::replace(&mut is_checked, true) {
                        self.check_quantile(&q, &call.arguments[0].span);
                    }
                    take(line)
                };
                self.over_windows(&windows, steps, false, &mut checked, of)
            }
            "double_exponential_smoothing" => {
                let level = self.scalar(&call.arguments[1], steps)?;
                let trend = self.scalar(&call.arguments[2], steps)?;
                for (what, factors) in [("smoothing", &level), ("trend", &trend)] {
                    if let Some(wrong) = factors.iter().find(|factor| !(**factor > 0.0 && **factor < 1.0)) {
                        let short = if what == "smoothing" { "sf" } else { "tf" };
                        let problem =
                            format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {wrong:.6}");
                        return Err(crate::value::Error::Execution(problem));
                    }
                }
                let of = |window: &Window<'_>, step: usize| {
                    self.inform_ignored(window, &span);
                    smoothed(window.values, level[step], trend[step])
                };
                self.over_windows(&windows, steps, false, take, of)
            }
            "absent_over_time" => {
                let mut lines = Vec::new();
                let mut keep = |line: Line| {
                    self.account(1, steps.n)?;
                    lines.push(line);
                    Ok(())
                };
                self.over_windows(&windows, steps, true, &mut keep, |_, _| Some(1.0))?;
                super::call::absent(vector, &lines, steps).into_iter().try_for_each(take)
            }
            _ => return Ok(false),
        }?;
        Ok(true)
    }

    /// The first or last sample of each window, as it is, with the name.
    fn edge_over_time(
        &self,
        windows: &Windows<'_>,
        steps: Steps,
        is_last: bool,
        take: &mut TakeLine<'_>,
    ) -> Result<()> {
        self.over_windows_any(windows, steps, true, take, |window, _| {
            let float = if is_last {
                window.times.len().checked_sub(1)
            } else {
                (!window.times.is_empty()).then_some(0)
            };
            let histogram = if is_last { window.histograms.last() } else { window.histograms.first() };
            let is_float = match (float, histogram) {
                (Some(at), Some(sample)) => (window.times[at] > sample.time_ms) == is_last,
                (float, _) => float.is_some(),
            };
            match (is_float, float, histogram) {
                (true, Some(at), _) => Some(Found::Float(window.values[at])),
                (_, _, Some(sample)) => Some(Found::Histogram(Arc::clone(&sample.histogram))),
                _ => None,
            }
        })
    }

    fn warn_mixed(&self, window: &Window<'_>, span: &Span) {
        let metric = window.metric;
        self.warn(&format!("encountered a mix of histograms and floats for metric name {metric:?}"), span);
    }

    fn warn_incompatible(&self, window: &Window<'_>, span: &Span) {
        let histograms: Vec<&NativeHistogram> =
            window.histograms.iter().map(|sample| &*sample.histogram).collect();
        if let Some(problem) = incompatibility(&histograms) {
            self.warn(&format!("{problem} for metric name {:?}", window.metric), span);
        }
    }

    /// Says so where a function of numbers finds histograms beside them.
    fn inform_ignored(&self, window: &Window<'_>, span: &Span) {
        if !window.values.is_empty() && !window.histograms.is_empty() {
            let problem = "ignored histograms in a range containing both floats and histograms";
            self.inform(&format!("{problem} for metric name {:?}", window.metric), span);
        }
    }

    /// Warns where a function of counters is given histograms that are gauges, or the other way round.
    fn check_kind(&self, window: &Window<'_>, is_counter: bool, span: &Span) {
        let is_gauge = |sample: &HistogramSample| sample.histogram.reset_hint == ResetHint::Gauge;
        let [first, .., last] = window.histograms else { return };
        let are_gauges = is_gauge(first) && is_gauge(last);
        if !is_counter && !are_gauges {
            self.warn(&format!("this native histogram metric is not a gauge: {:?}", window.metric), span);
        } else if is_counter && window.histograms.iter().any(is_gauge) {
            self.warn(&format!("this native histogram metric is not a counter: {:?}", window.metric), span);
        }
    }

    /// Says so where a function of counters has a number of something that is not named like one; once for each name that
    /// was not `looked_at`.
    fn hint_at_counter(&self, line: &Line, looked_at: &mut Vec<String>, span: &Span) {
        let name = line.labels.get(METRIC_NAME);
        if name.is_empty()
            || looked_at.iter().any(|other| other == name)
            || line.values.iter().all(|value| is_stale(*value))
        {
            return;
        }
        looked_at.push(name.to_owned());
        let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        if !is_counter {
            let hint = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
            self.inform(&format!("{hint}: {name:?}"), span);
        }
    }

    /// Warns of a quantile that is none.
    pub(super) fn check_quantile(&self, q: &[f64], span: &Span) {
        for &q in q {
            if q.is_nan() || !(0.0..=1.0).contains(&q) {
                let shown = super::call::shown(q);
                self.warn(&format!("quantile value should be between 0 and 1, got {shown}"), span);
            }
        }
    }
}

/// Moves the two ends to the entries within a window, which lies no earlier than the one before.
fn advance<T>(
    entries: &[T],
    time_of: impl Fn(&T) -> i64,
    (start_ms, end_ms): (i64, i64),
    (first, end): (&mut usize, &mut usize),
) {
    while *end < entries.len() && time_of(&entries[*end]) <= end_ms {
        *end += 1;
    }
    while *first < *end && time_of(&entries[*first]) <= start_ms {
        *first += 1;
    }
}

/// The sum of histograms; `None` of none, or if their buckets cannot be made the same.
pub(super) fn sum_of<'h>(
    mut histograms: impl Iterator<Item = &'h NativeHistogram>,
) -> Option<NativeHistogram> {
    let first = histograms.next()?.clone();
    histograms.try_fold(first, |sum, next| histogram::combined(&sum, next, 1.0))
}

/// Why histograms have no sum.
pub(super) fn incompatibility(histograms: &[&NativeHistogram]) -> Option<&'static str> {
    let first = histograms.first()?;
    if histograms.iter().any(|other| other.has_custom_bounds() != first.has_custom_bounds()) {
        return Some("vector contains a mix of histograms with exponential and custom buckets schemas");
    }
    let differ = histograms.iter().any(|other| other.custom_bounds != first.custom_bounds);
    differ.then_some("vector contains histograms with incompatible custom buckets")
}

/// Change over a window, extrapolated to its edges; of counters with what resets took away.
/// Source: Prometheus `extrapolatedRate`, `histogramRate`.
#[derive(Clone, Copy)]
struct Extrapolation {
    is_counter: bool,
    is_rate: bool,
    range_s: f64,
}

impl Extrapolation {
    fn of_floats(self, window: &Window<'_>) -> Option<f64> {
        let (times, values) = (window.times, window.values);
        if values.len() < 2 {
            return None;
        }
        let (first, last) = (values[0], values[values.len() - 1]);
        let mut change = last - first;
        if self.is_counter {
            let mut previous = first;
            for &value in &values[1..] {
                if value < previous {
                    change += previous;
                }
                previous = value;
            }
        }
        let ends_ms = (times[0], times[times.len() - 1]);
        let counter = self.is_counter.then_some((first, change));
        Some(change * self.factor(window, ends_ms, values.len(), counter))
    }

    fn of_histograms(self, window: &Window<'_>) -> Option<NativeHistogram> {
        let samples = window.histograms;
        if samples.len() < 2 {
            return None;
        }
        let (first, last) = (&samples[0], &samples[samples.len() - 1]);
        // Nothing is left of the first where a reset comes right behind it, and its buckets may be others.
        let is_reset_first = self.is_counter && histogram::is_reset(&first.histogram, &samples[1].histogram);
        let mut change = if is_reset_first {
            NativeHistogram::clone(&last.histogram)
        } else {
            histogram::combined(&last.histogram, &first.histogram, -1.0)?
        };
        if self.is_counter {
            for pair in samples[usize::from(is_reset_first)..].windows(2) {
                if histogram::is_reset(&pair[0].histogram, &pair[1].histogram) {
                    change = histogram::combined(&change, &pair[0].histogram, 1.0)?;
                }
            }
        }
        let factor = self.factor(window, (first.time_ms, last.time_ms), samples.len(), None);
        Some(NativeHistogram { reset_hint: ResetHint::Gauge, ..scaled(&change, factor) })
    }

    /// What the change between the first and the last of `n` samples is multiplied with. Of a counter of numbers, its
    /// first value and its change are given: it does not reach below zero.
    fn factor(
        self,
        window: &Window<'_>,
        (first_ms, last_ms): (i64, i64),
        n: usize,
        counter: Option<(f64, f64)>,
    ) -> f64 {
        let mut to_start = (first_ms - window.start_ms) as f64 / 1e3;
        let mut to_end = (window.end_ms - last_ms) as f64 / 1e3;
        let sampled = (last_ms - first_ms) as f64 / 1e3;
        let between = sampled / (n - 1) as f64;
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if let Some((first, change)) = counter
            && change > 0.0
            && first >= 0.0
        {
            to_start = to_start.min(sampled * (first / change));
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        let factor = (sampled + to_start + to_end) / sampled;
        if self.is_rate { factor / self.range_s } else { factor }
    }
}

/// Change between the last two samples, a second if `is_rate`, where a fall is a reset.
fn instant_change(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let [.., before, last] = window.values else { return None };
    let [.., before_ms, last_ms] = window.times else { return None };
    let sampled_ms = last_ms - before_ms;
    if sampled_ms == 0 {
        return None;
    }
    let change = if is_rate && last < before { *last } else { last - before };
    Some(if is_rate { change / (sampled_ms as f64 / 1e3) } else { change })
}

/// As [`instant_change`], between two histograms.
fn instant_change_of(
    before: &HistogramSample,
    last: &HistogramSample,
    is_rate: bool,
) -> Option<NativeHistogram> {
    let change = if is_rate && histogram::is_reset(&before.histogram, &last.histogram) {
        NativeHistogram::clone(&last.histogram)
    } else {
        histogram::combined(&last.histogram, &before.histogram, -1.0)?
    };
    let seconds = (last.time_ms - before.time_ms) as f64 / 1e3;
    let change = if is_rate { scaled(&change, 1.0 / seconds) } else { change };
    Some(NativeHistogram { reset_hint: ResetHint::Gauge, ..change })
}

/// The value that no other beats; NaN only if there is nothing else.
fn extreme(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let mut values = values.iter().copied();
    let first = values.next()?;
    Some(values.fold(first, |best, value| if beats(value, best) || best.is_nan() { value } else { best }))
}

fn time_of_extreme(window: &Window<'_>, beats_or_ties: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let mut best = *window.values.first()?;
    let mut time_ms = window.times[0];
    for (&value, &at_ms) in window.values.iter().zip(window.times) {
        if beats_or_ties(value, best) || best.is_nan() {
            (best, time_ms) = (value, at_ms);
        }
    }
    Some(time_ms as f64 / 1e3)
}

fn variance(values: &[f64]) -> Option<f64> {
    let mut variance = Variance::default();
    for value in values {
        variance.add(*value);
    }
    (!values.is_empty()).then(|| variance.value())
}

/// Source: Prometheus `funcDoubleExponentialSmoothing`.
fn smoothed(values: &[f64], level_factor: f64, trend_factor: f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mut level, mut trend) = (values[0], values[1] - values[0]);
    let mut before = 0.0;
    for (position, value) in values.iter().enumerate().skip(1) {
        let scaled = level_factor * value;
        if position > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = scaled + (1.0 - level_factor) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}
