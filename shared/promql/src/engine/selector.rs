//! Series → values at steps, and windows of samples.

use std::borrow::Cow;
use std::sync::Arc;

use model::Labels;
use model::series::{HistogramSample, SeriesView, is_stale};

use super::{ABSENT, Engine, Line, Result, Steps, TakeLine};
use crate::plan::at_range;
use crate::syntax::ast::{Expr, ExprKind, Selector};
use crate::value::{Error, Points};

/// A series of which windows are taken: no stale markers among its samples.
pub(super) struct Source<'a> {
    pub(super) labels: Labels,
    pub(super) time_ms: Cow<'a, [i64]>,
    pub(super) value: Cow<'a, [f64]>,
    pub(super) histograms: Cow<'a, [HistogramSample]>,
}

/// What windows are taken of.
enum Sources<'a> {
    /// The series of a selector, one at a time.
    Stored(&'a Selector),
    /// What an expression gave.
    Evaluated(Vec<Source<'a>>),
}

/// What windows are taken of, and where they lie.
pub(super) struct Windows<'a> {
    sources: Sources<'a>,
    /// Length of a window, ms.
    pub(super) range_ms: i64,
    /// How far the window's end lies before the step, ms.
    pub(super) offset_ms: i64,
    /// The step instead of each step.
    pub(super) fixed_ms: Option<i64>,
}

/// What a selector looks for at a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Value,
    /// The time of the sample, in seconds.
    Time,
}

impl Engine<'_> {
    /// The newest sample of each series at each step, if it is not older than the lookback and not stale.
    pub(super) fn instant(&self, selector: &Selector, steps: Steps) -> Result<Vec<Line>> {
        self.instant_wanted(selector, steps, Wanted::Value)
    }

    pub(super) fn instant_wanted(
        &self,
        selector: &Selector,
        steps: Steps,
        wanted: Wanted,
    ) -> Result<Vec<Line>> {
        let mut lines = Vec::with_capacity(self.data.n_series(selector.number));
        self.each_instant(selector, steps, wanted, &mut |line| {
            self.account(1, steps.n)?;
            lines.push(line);
            Ok(())
        })?;
        Ok(lines)
    }

    /// As [`Engine::instant_wanted`], one line after the other.
    pub(super) fn each_instant(
        &self,
        selector: &Selector,
        steps: Steps,
        wanted: Wanted,
        take: &mut TakeLine<'_>,
    ) -> Result<()> {
        let offset_ms = selector.offset.as_ref().map_or(0, |offset| offset.ms(self.params.step_ms));
        let looked_at = match selector.at {
            None => steps,
            at => Steps::once(at_range(at, &self.params, 0, 0).0),
        };
        self.each_series(selector, |series| {
            let mut line = at_steps(series, looked_at, offset_ms, self.params.lookback_ms, wanted);
            if line.is_empty() {
                return Ok(());
            }
            if looked_at != steps {
                let value = line.values[0];
                line.values = vec![value; steps.n];
                if let Some(histograms) = &mut line.histograms {
                    let histogram = histograms[0].clone();
                    *histograms = vec![histogram; steps.n];
                }
            }
            take(line)
        })
    }

    /// Hands each series that windows are taken of to `take`.
    pub(super) fn each_source(
        &self,
        windows: &Windows<'_>,
        mut take: impl FnMut(&Source<'_>) -> Result<()>,
    ) -> Result<()> {
        match &windows.sources {
            Sources::Stored(selector) => self.each_series(selector, |series| take(&without_stale(series))),
            Sources::Evaluated(sources) => sources.iter().enumerate().try_for_each(|(position, source)| {
                if position % 64 == 0 {
                    self.check()?;
                }
                take(source)
            }),
        }
    }

    /// The windows of a range vector at `steps`.
    pub(super) fn windows<'e>(&self, expr: &'e Expr, steps: Steps) -> Result<Windows<'e>> {
        let step_ms = self.params.step_ms;
        match &expr.kind {
            ExprKind::Paren(expr) => self.windows(expr, steps),
            ExprKind::Matrix(selector, range) => Ok(Windows {
                sources: Sources::Stored(selector),
                range_ms: range.ms(step_ms),
                offset_ms: selector.offset.as_ref().map_or(0, |offset| offset.ms(step_ms)),
                fixed_ms: selector.at.map(|at| at_range(Some(at), &self.params, 0, 0).0),
            }),
            ExprKind::Subquery(subquery) => {
                let range_ms = subquery.range.ms(step_ms);
                let offset_ms = subquery.offset.as_ref().map_or(0, |offset| offset.ms(step_ms));
                let inner_step_ms =
                    subquery.step.as_ref().map_or(self.params.subquery_step_ms, |step| step.ms(step_ms));
                if inner_step_ms <= 0 {
                    let problem = "zero or negative subquery step is not accepted";
                    return Err(Error::Execution(problem.to_owned()));
                }
                let last_ms = steps.time_ms(steps.n.saturating_sub(1));
                let (start_ms, end_ms) = at_range(subquery.at, &self.params, steps.start_ms, last_ms);
                // Steps are multiples of the step, whenever the query starts; the window is open on the left.
                let after_ms = start_ms - offset_ms - range_ms;
                let first_ms = (after_ms.div_euclid(inner_step_ms) + 1) * inner_step_ms;
                let inner = Steps::new(first_ms, end_ms - offset_ms, inner_step_ms);
                if inner.n as u64 > self.params.max_samples {
                    return Err(Error::TooManySamples);
                }
                let lines = if inner.n == 0 { Vec::new() } else { self.vector(&subquery.expr, inner)? };
                let sources = lines.into_iter().map(|line| source_of(line, inner)).collect();
                Ok(Windows {
                    sources: Sources::Evaluated(sources),
                    range_ms,
                    offset_ms,
                    fixed_ms: subquery.at.map(|_| start_ms),
                })
            }
            _ => Err(Error::Execution("expected a range vector".to_owned())),
        }
    }

    /// The samples of a range vector at one time, as they are.
    pub(super) fn window_points(&self, expr: &Expr, time_ms: i64) -> Result<Vec<Points>> {
        let windows = self.windows(expr, Steps::once(time_ms))?;
        let end_ms = windows.fixed_ms.unwrap_or(time_ms) - windows.offset_ms;
        let start_ms = end_ms - windows.range_ms;
        let is_within = |time_ms: i64| start_ms < time_ms && time_ms <= end_ms;
        let mut all = Vec::new();
        self.each_source(&windows, |source| {
            let samples = source.time_ms.iter().copied().zip(source.value.iter().copied());
            let floats: Vec<(i64, f64)> = samples.filter(|(time_ms, _)| is_within(*time_ms)).collect();
            let histograms: Vec<_> = source
                .histograms
                .iter()
                .filter(|sample| is_within(sample.time_ms))
                .map(|sample| (sample.time_ms, Arc::clone(&sample.histogram)))
                .collect();
            if !floats.is_empty() || !histograms.is_empty() {
                all.push(Points { labels: source.labels.clone(), floats, histograms });
            }
            Ok(())
        })?;
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }
}

fn at_steps(series: SeriesView<'_>, steps: Steps, offset_ms: i64, lookback_ms: i64, wanted: Wanted) -> Line {
    let mut values = vec![ABSENT; steps.n];
    let mut histograms = None;
    let (times, samples) = (series.time_ms, series.histograms);
    let (mut next_float, mut next_histogram) = (0, 0);
    for (step, value) in values.iter_mut().enumerate() {
        let time_ms = steps.time_ms(step) - offset_ms;
        while next_float < times.len() && times[next_float] <= time_ms {
            next_float += 1;
        }
        while next_histogram < samples.len() && samples[next_histogram].time_ms <= time_ms {
            next_histogram += 1;
        }
        let float_ms = next_float.checked_sub(1).map(|at| times[at]);
        let histogram_ms = next_histogram.checked_sub(1).map(|at| samples[at].time_ms);
        let newest_ms = float_ms.max(histogram_ms);
        let Some(newest_ms) = newest_ms.filter(|newest_ms| *newest_ms > time_ms - lookback_ms) else {
            continue;
        };
        if float_ms == Some(newest_ms) {
            let found = series.value[next_float - 1];
            if !is_stale(found) {
                *value = if wanted == Wanted::Time { newest_ms as f64 / 1e3 } else { found };
            }
            continue;
        }
        let found = &samples[next_histogram - 1].histogram;
        if found.is_stale() {
            continue;
        }
        if wanted == Wanted::Time {
            *value = newest_ms as f64 / 1e3;
        } else {
            histograms.get_or_insert_with(|| vec![None; steps.n])[step] = Some(Arc::clone(found));
        }
    }
    Line { labels: series.labels.clone(), values, histograms }
}

fn without_stale(series: SeriesView<'_>) -> Source<'_> {
    let labels = series.labels.clone();
    let histograms = if series.histograms.iter().any(|sample| sample.histogram.is_stale()) {
        Cow::Owned(series.histograms.iter().filter(|sample| !sample.histogram.is_stale()).cloned().collect())
    } else {
        Cow::Borrowed(series.histograms)
    };
    if !series.value.iter().any(|value| is_stale(*value)) {
        return Source {
            labels,
            time_ms: Cow::Borrowed(series.time_ms),
            value: Cow::Borrowed(series.value),
            histograms,
        };
    }
    let kept = series.time_ms.iter().copied().zip(series.value.iter().copied());
    let (time_ms, value): (Vec<i64>, Vec<f64>) = kept.filter(|(_, value)| !is_stale(*value)).unzip();
    Source { labels, time_ms: Cow::Owned(time_ms), value: Cow::Owned(value), histograms }
}

fn source_of<'a>(line: Line, steps: Steps) -> Source<'a> {
    let mut time_ms = Vec::with_capacity(steps.n);
    let mut value = Vec::with_capacity(steps.n);
    for (step, &sample) in line.values.iter().enumerate() {
        if !is_stale(sample) {
            time_ms.push(steps.time_ms(step));
            value.push(sample);
        }
    }
    let mut histograms = Vec::new();
    for (step, histogram) in line.histograms.into_iter().flatten().enumerate() {
        if let Some(histogram) = histogram {
            histograms.push(HistogramSample { time_ms: steps.time_ms(step), start_ms: 0, histogram });
        }
    }
    Source {
        labels: line.labels,
        time_ms: Cow::Owned(time_ms),
        value: Cow::Owned(value),
        histograms: Cow::Owned(histograms),
    }
}
