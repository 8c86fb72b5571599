//! Plan and series → answer.
//!
//! Every node gives, for all steps at once, one array of values per series; labels are computed per series, never per
//! step. A value that is absent at a step has the bits of the stale marker, which no computation yields.
//!
//! - `selector`: series to values at steps, and to windows. `range`: functions of windows.
//! - `binary`, `aggregate`, `fold`, `call`: the other nodes. `histogram`, `quantile`, `dates`, `math`: what they compute.

#![expect(clippy::float_cmp, reason = "the language compares numbers exactly")]

mod aggregate;
mod binary;
mod call;
mod dates;
mod fold;
mod histogram;
mod info;
mod math;
mod quantile;
mod range;
mod selector;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use model::series::SeriesView;
use model::series::{STALE_BITS, is_stale};
use model::{Labels, NativeHistogram};

use crate::plan::Plan;
use crate::syntax::ast::{Expr, ExprKind, Selector, Span, ValueType};
use crate::value::{Answer, Data, Error, Points, QueryParams, Sample, Value};

/// No value at this step.
const ABSENT: f64 = f64::from_bits(STALE_BITS);

type Result<T> = std::result::Result<T, Error>;

/// The times at which an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    start_ms: i64,
    step_ms: i64,
    n: usize,
}

impl Steps {
    fn new(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let n = if end_ms < start_ms {
            0
        } else if step_ms <= 0 {
            1
        } else {
            ((end_ms - start_ms) / step_ms) as usize + 1
        };
        Self { start_ms, step_ms, n }
    }

    fn time_ms(self, step: usize) -> i64 {
        self.start_ms + step as i64 * self.step_ms
    }

    /// One step at this time.
    fn once(time_ms: i64) -> Self {
        Self { start_ms: time_ms, step_ms: 0, n: 1 }
    }
}

/// Histograms of a line by step.
type Histograms = Option<Vec<Option<Arc<NativeHistogram>>>>;

/// A series with its values at all steps.
#[derive(Debug, Clone)]
struct Line {
    labels: Labels,
    /// Per step; absent where there is none or a histogram instead.
    values: Vec<f64>,
    /// Per step; `None` if the line has none at all.
    histograms: Histograms,
}

impl Line {
    fn new(labels: Labels, values: Vec<f64>) -> Self {
        Self { labels, values, histograms: None }
    }

    fn histogram(&self, step: usize) -> Option<&Arc<NativeHistogram>> {
        self.histograms.as_ref().and_then(|histograms| histograms[step].as_ref())
    }

    /// Whether there is a number or a histogram.
    fn is_present(&self, step: usize) -> bool {
        !is_stale(self.values[step]) || self.histogram(step).is_some()
    }

    /// Sets the histogram of a step, in place of a number.
    fn set_histogram(&mut self, step: usize, histogram: Arc<NativeHistogram>) {
        let n = self.values.len();
        self.values[step] = ABSENT;
        self.histograms.get_or_insert_with(|| vec![None; n])[step] = Some(histogram);
    }

    fn is_empty(&self) -> bool {
        (0..self.values.len()).all(|step| !self.is_present(step))
    }

    fn clear(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(histograms) = &mut self.histograms {
            histograms[step] = None;
        }
    }
}

/// What takes lines, one after the other.
type TakeLine<'a> = dyn FnMut(Line) -> Result<()> + 'a;

/// What a node gives.
#[derive(Debug, Clone)]
enum Output {
    /// Per step a number.
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Line>),
}

/// Evaluates a plan. `data` has the series of each of [`Plan::needs`]; `is_cancelled` is asked from time to time.
///
/// # Errors
/// The query makes no sense for this data; it needs too much memory; it was cancelled.
pub fn evaluate(plan: &Plan, data: &dyn Data, is_cancelled: &dyn Fn() -> bool) -> Result<Answer> {
    let engine = Engine {
        params: plan.params,
        query: &plan.query,
        data,
        is_cancelled,
        n_values: Cell::new(0),
        n_samples: Cell::new(0),
        warnings: RefCell::default(),
        infos: RefCell::default(),
    };
    let params = plan.params;
    let steps = Steps::new(params.start_ms, params.end_ms, params.step_ms);
    let is_range = params.step_ms > 0;
    let value = if is_range {
        if plan.expr.value_type() == ValueType::RangeVector {
            return Err(Error::Execution(not_for_range("range vector")));
        }
        let lines = match engine.evaluate(&plan.expr, steps)? {
            Output::Vector(lines) => lines,
            Output::Scalar(values) => vec![Line::new(Labels::empty(), values)],
            Output::Text(_) => return Err(Error::Execution(not_for_range("string"))),
        };
        let mut points: Vec<Points> = lines.into_iter().filter_map(|line| points_of(line, steps)).collect();
        points.sort_by(|a, b| a.labels.cmp(&b.labels));
        Value::Matrix(points)
    } else if plan.expr.value_type() == ValueType::RangeVector {
        Value::Matrix(engine.window_points(&plan.expr, params.start_ms)?)
    } else {
        match engine.evaluate(&plan.expr, steps)? {
            Output::Scalar(values) => Value::Scalar(values[0]),
            Output::Text(text) => Value::String(text),
            Output::Vector(mut lines) => {
                if !is_ordered(&plan.expr) {
                    lines.sort_by(|a, b| a.labels.cmp(&b.labels));
                }
                let sample = |line: Line| match line.histogram(0) {
                    Some(histogram) => Some((line.labels.clone(), Sample::Histogram(Arc::clone(histogram)))),
                    None if is_stale(line.values[0]) => None,
                    None => Some((line.labels, Sample::Float(line.values[0]))),
                };
                Value::Vector(lines.into_iter().filter_map(sample).collect())
            }
        }
    };
    Ok(Answer {
        value,
        n_samples: engine.n_samples.get(),
        warnings: remarked(engine.warnings),
        infos: remarked(engine.infos),
    })
}

fn not_for_range(found: &str) -> String {
    format!("invalid expression type {found:?} for range query, must be Scalar or instant Vector")
}

/// Whether the expression itself says in which order its series come.
fn is_ordered(expr: &Expr) -> bool {
    use crate::syntax::ast::AggregateOp::{Bottomk, Topk};
    match &expr.unwrapped().kind {
        ExprKind::Aggregate(aggregate) => matches!(aggregate.op, Topk | Bottomk),
        ExprKind::Call(call) => call.function.name.starts_with("sort"),
        _ => false,
    }
}

fn points_of(line: Line, steps: Steps) -> Option<Points> {
    let floats: Vec<(i64, f64)> = (0..steps.n)
        .filter(|&step| !is_stale(line.values[step]))
        .map(|step| (steps.time_ms(step), line.values[step]))
        .collect();
    let mut histograms = Vec::new();
    for (step, histogram) in line.histograms.into_iter().flatten().enumerate() {
        if let Some(histogram) = histogram {
            histograms.push((steps.time_ms(step), histogram));
        }
    }
    (!floats.is_empty() || !histograms.is_empty()).then_some(Points {
        labels: line.labels,
        floats,
        histograms,
    })
}

/// What all nodes share.
struct Engine<'a> {
    params: QueryParams,
    query: &'a str,
    data: &'a dyn Data,
    is_cancelled: &'a dyn Fn() -> bool,
    n_values: Cell<u64>,
    /// Samples that were looked at.
    n_samples: Cell<u64>,
    warnings: Remarks,
    infos: Remarks,
}

impl Engine<'_> {
    fn evaluate(&self, expr: &Expr, steps: Steps) -> Result<Output> {
        match &expr.kind {
            ExprKind::Number(number) => Ok(Output::Scalar(vec![*number; steps.n])),
            ExprKind::String(text) => Ok(Output::Text(text.clone())),
            ExprKind::Selector(selector) => self.instant(selector, steps).map(Output::Vector),
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => {
                Err(Error::Execution("a range vector has no values at steps".to_owned()))
            }
            ExprKind::Paren(expr) | ExprKind::Plus(expr) => self.evaluate(expr, steps),
            ExprKind::Negate(expr) => self.negate(expr, steps),
            ExprKind::Binary(binary) => self.binary(binary, &expr.span, steps),
            ExprKind::Aggregate(aggregate) => {
                self.aggregate(aggregate, &expr.span, steps).map(Output::Vector)
            }
            ExprKind::Call(call) => self.call(call, steps),
        }
    }

    fn vector(&self, expr: &Expr, steps: Steps) -> Result<Vec<Line>> {
        match self.evaluate(expr, steps)? {
            Output::Vector(lines) => Ok(lines),
            Output::Scalar(values) => Ok(vec![Line::new(Labels::empty(), values)]),
            Output::Text(_) => Err(Error::Execution("a string is no vector".to_owned())),
        }
    }

    fn scalar(&self, expr: &Expr, steps: Steps) -> Result<Vec<f64>> {
        match self.evaluate(expr, steps)? {
            Output::Scalar(values) => Ok(values),
            _ => Err(Error::Execution("expected a scalar".to_owned())),
        }
    }

    fn text(&self, expr: &Expr, steps: Steps) -> Result<String> {
        match self.evaluate(expr, steps)? {
            Output::Text(text) => Ok(text),
            _ => Err(Error::Execution("expected a string".to_owned())),
        }
    }

    fn negate(&self, expr: &Expr, steps: Steps) -> Result<Output> {
        match self.evaluate(expr, steps)? {
            Output::Scalar(values) => Ok(Output::Scalar(values.into_iter().map(|value| -value).collect())),
            Output::Vector(mut lines) => {
                for line in &mut lines {
                    line.labels = line.labels.without_metric_name();
                    for value in &mut line.values {
                        if !is_stale(*value) {
                            *value = -*value;
                        }
                    }
                    for histogram in line.histograms.iter_mut().flatten().flatten() {
                        *histogram = Arc::new(math::scaled(histogram, -1.0));
                    }
                }
                merged(lines).map(Output::Vector)
            }
            Output::Text(_) => Err(Error::Execution("a string cannot be negated".to_owned())),
        }
    }

    /// Hands each series of a selector to `take`.
    fn each_series(
        &self,
        selector: &Selector,
        mut take: impl FnMut(SeriesView<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut n_seen = 0;
        self.data.each(selector.number, &mut |series| {
            if n_seen % 64 == 0 {
                self.check()?;
            }
            n_seen += 1;
            self.count_samples(series.n_samples())?;
            take(series)
        })
    }

    /// Counts samples that were looked at, of which there may be as many as values in memory.
    fn count_samples(&self, n: usize) -> Result<()> {
        let n_samples = self.n_samples.get() + n as u64;
        self.n_samples.set(n_samples);
        if n_samples > self.params.max_samples { Err(Error::TooManySamples) } else { Ok(()) }
    }

    /// Counts values that are now in memory.
    fn account(&self, n_lines: usize, n_steps: usize) -> Result<()> {
        let n_values = self.n_values.get() + (n_lines * n_steps) as u64;
        self.n_values.set(n_values);
        if n_values > self.params.max_samples { Err(Error::TooManySamples) } else { self.check() }
    }

    fn check(&self) -> Result<()> {
        if (self.is_cancelled)() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Line and column of a place in the query.
    fn place(&self, span: &Span) -> String {
        let before = &self.query[..self.query.floor_char_boundary(span.start.min(self.query.len()))];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        format!("{}:{}", before.matches('\n').count() + 1, before.len() - line_start + 1)
    }

    fn warn(&self, message: &str, span: &Span) {
        remark(&self.warnings, format!("PromQL warning: {message}"), self.place(span));
    }

    fn inform(&self, message: &str, span: &Span) {
        remark(&self.infos, format!("PromQL info: {message}"), self.place(span));
    }
}

/// What was remarked, and where.
type Remarks = RefCell<Vec<(String, String)>>;

/// The same remark is made once, of the last place, as Prometheus does.
fn remark(remarks: &Remarks, message: String, place: String) {
    let mut remarks = remarks.borrow_mut();
    match remarks.iter_mut().find(|(other, _)| *other == message) {
        Some((_, last)) => *last = place,
        None => remarks.push((message, place)),
    }
}

fn remarked(remarks: Remarks) -> Vec<String> {
    remarks.into_inner().into_iter().map(|(message, place)| format!("{message} ({place})")).collect()
}

/// Lines whose labels have become the same, joined where no step has a value of two of them.
fn merged(lines: Vec<Line>) -> Result<Vec<Line>> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(lines.len());
    let mut kept: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        match places.entry(line.labels.clone()) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(kept.len());
                kept.push(line);
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let into = &mut kept[*entry.get()];
                for step in 0..line.values.len() {
                    if !line.is_present(step) {
                        continue;
                    }
                    if into.is_present(step) {
                        let problem = "vector cannot contain metrics with the same labelset";
                        return Err(Error::Execution(problem.to_owned()));
                    }
                    into.values[step] = line.values[step];
                    if let Some(histogram) = line.histogram(step) {
                        let n = line.values.len();
                        into.histograms.get_or_insert_with(|| vec![None; n])[step] =
                            Some(Arc::clone(histogram));
                    }
                }
            }
        }
    }
    Ok(kept)
}
