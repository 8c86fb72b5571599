//! Aggregations that take one line after the other and keep none: sums, means, counts, extremes, spreads.
//!
//! Lines are taken in the order of their labels, because sums depend on it in their last bits. Where series come in that
//! order, as storage gives them, they are read, looked at and forgotten one by one.

use foldhash::{HashMap, HashMapExt as _};
use model::labels::METRIC_NAME;
use model::series::is_stale;
use model::{Labels, MatchOp};

use super::aggregate::{group_labels, in_order};
use super::math::{Mean, Sum};
use super::selector::Wanted;
use super::{ABSENT, Engine, Line, Result, Steps, TakeLine};
use crate::syntax::ast::{Aggregate, AggregateOp, Expr, ExprKind};
use crate::value::Error;

/// One value per step of the lines so far.
pub(super) enum Fold {
    Sum(Vec<Option<Sum>>),
    Avg(Vec<Option<Mean>>),
    Count(Vec<f64>),
    Group(Vec<f64>),
    Min(Vec<f64>),
    Max(Vec<f64>),
    /// Variance, and whether its root is wanted.
    Spread(Vec<Spread>, bool),
}

/// A variance as the values come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Fold {
    /// Whether an operator is one of these.
    pub(super) fn is_of(op: AggregateOp) -> bool {
        Self::new(op, 0).is_some()
    }

    fn new(op: AggregateOp, n_steps: usize) -> Option<Self> {
        let absent = || vec![ABSENT; n_steps];
        Some(match op {
            AggregateOp::Sum => Self::Sum(vec![None; n_steps]),
            AggregateOp::Avg => Self::Avg(vec![None; n_steps]),
            AggregateOp::Count => Self::Count(absent()),
            AggregateOp::Group => Self::Group(absent()),
            AggregateOp::Min => Self::Min(absent()),
            AggregateOp::Max => Self::Max(absent()),
            AggregateOp::Stddev => Self::Spread(vec![Spread::default(); n_steps], true),
            AggregateOp::Stdvar => Self::Spread(vec![Spread::default(); n_steps], false),
            _ => return None,
        })
    }

    fn add(&mut self, line: &Line) {
        match self {
            Self::Sum(sums) => {
                each(line, sums, |sum, value| sum.get_or_insert_default().add(value));
            }
            Self::Avg(means) => {
                each(line, means, |mean, value| mean.get_or_insert_default().add(value));
            }
            Self::Count(counts) => {
                for (step, count) in counts.iter_mut().enumerate() {
                    if line.is_present(step) {
                        *count = if is_stale(*count) { 1.0 } else { *count + 1.0 };
                    }
                }
            }
            Self::Group(ones) => {
                for (step, one) in ones.iter_mut().enumerate() {
                    if line.is_present(step) {
                        *one = 1.0;
                    }
                }
            }
            Self::Min(best) => each(line, best, |best, value| {
                if is_stale(*best) || best.is_nan() || value < *best {
                    *best = value;
                }
            }),
            Self::Max(best) => each(line, best, |best, value| {
                if is_stale(*best) || best.is_nan() || value > *best {
                    *best = value;
                }
            }),
            Self::Spread(spreads, _) => each(line, spreads, Spread::add),
        }
    }

    fn finish(self) -> Vec<f64> {
        match self {
            Self::Sum(sums) => sums.into_iter().map(|sum| sum.map_or(ABSENT, Sum::total)).collect(),
            Self::Avg(means) => means.into_iter().map(|mean| mean.map_or(ABSENT, Mean::value)).collect(),
            Self::Count(values) | Self::Group(values) | Self::Min(values) | Self::Max(values) => values,
            Self::Spread(spreads, is_root) => {
                spreads.into_iter().map(|spread| spread.value(is_root)).collect()
            }
        }
    }
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn value(self, is_root: bool) -> f64 {
        if self.count == 0.0 {
            return ABSENT;
        }
        let variance = self.squares / self.count;
        if is_root { variance.sqrt() } else { variance }
    }
}

/// Hands each number of a line to `take`, with what is there of its step.
fn each<T>(line: &Line, of_steps: &mut [T], mut take: impl FnMut(&mut T, f64)) {
    for (of_step, &value) in of_steps.iter_mut().zip(&line.values) {
        if !is_stale(value) {
            take(of_step, value);
        }
    }
}

/// Lines that are aggregated together.
struct Group {
    labels: Labels,
    /// The first line as it is, as long as it is the only one: it takes less room than a fold of it.
    first: Option<Line>,
    fold: Option<Fold>,
    has_histograms: bool,
    /// The lines that have some, where those are added up.
    with_histograms: Vec<Line>,
}

struct Groups<'a> {
    aggregate: &'a Aggregate,
    steps: Steps,
    places: HashMap<Labels, usize>,
    all: Vec<Group>,
}

impl Engine<'_> {
    /// An aggregation by one of the operators of [`Fold`].
    pub(super) fn folded(&self, aggregate: &Aggregate, steps: Steps) -> Result<Vec<Line>> {
        let counted = (self.n_values.get(), self.n_samples.get());
        if let Some(groups) = self.fold_as_they_come(aggregate, steps)? {
            return Ok(self.folded_lines(groups));
        }
        self.n_values.set(counted.0);
        self.n_samples.set(counted.1);
        let mut groups = Groups::new(aggregate, steps);
        for (position, line) in in_order(self.vector(&aggregate.expr, steps)?).into_iter().enumerate() {
            if position % 256 == 0 {
                self.check()?;
            }
            groups.add(self, line)?;
        }
        Ok(self.folded_lines(groups))
    }

    /// The groups of lines that come one by one; `None` where they do not, or not in the order of their labels.
    fn fold_as_they_come<'a>(&self, aggregate: &'a Aggregate, steps: Steps) -> Result<Option<Groups<'a>>> {
        if !comes_in_order(&aggregate.expr) {
            return Ok(None);
        }
        let mut groups = Groups::new(aggregate, steps);
        let mut last: Option<Labels> = None;
        let mut is_in_order = true;
        let taken = self.each_line(&aggregate.expr, steps, &mut |line| {
            is_in_order = last.as_ref().is_none_or(|last| *last < line.labels);
            if !is_in_order {
                return Err(Error::Cancelled);
            }
            last = Some(line.labels.clone());
            groups.add(self, line)
        });
        match taken {
            Err(_) if !is_in_order => Ok(None),
            taken => taken.map(|is_taken| is_taken.then_some(groups)),
        }
    }

    /// Hands the lines of a selector or of a function of windows to `take`; nothing, and false, if it is neither.
    fn each_line(&self, expr: &Expr, steps: Steps, take: &mut TakeLine<'_>) -> Result<bool> {
        match &expr.unwrapped().kind {
            ExprKind::Selector(selector) => {
                self.each_instant(selector, steps, Wanted::Value, take)?;
                Ok(true)
            }
            ExprKind::Call(call) => self.each_range_line(call, steps, take),
            _ => Ok(false),
        }
    }

    fn folded_lines(&self, groups: Groups<'_>) -> Vec<Line> {
        let Groups { aggregate, steps, all, .. } = groups;
        let (op, span) = (aggregate.op, &aggregate.expr.span);
        let mut out = Vec::with_capacity(all.len());
        for mut group in all {
            if let Some(first) = group.first.take() {
                fold_of(&mut group.fold, op, steps).add(&first);
            }
            let values = group.fold.map_or_else(Vec::new, Fold::finish);
            let mut line = Line::new(group.labels, values);
            match op {
                AggregateOp::Sum | AggregateOp::Avg => {
                    self.reduce_histograms(op, &group.with_histograms, &mut line, span);
                }
                AggregateOp::Count | AggregateOp::Group => {}
                _ if group.has_histograms => self.inform_ignored_by(op, span),
                _ => {}
            }
            if !line.is_empty() {
                out.push(line);
            }
        }
        out
    }
}

impl<'a> Groups<'a> {
    fn new(aggregate: &'a Aggregate, steps: Steps) -> Self {
        Self { aggregate, steps, places: HashMap::new(), all: Vec::new() }
    }

    fn add(&mut self, engine: &Engine<'_>, line: Line) -> Result<()> {
        let op = self.aggregate.op;
        let labels = group_labels(self.aggregate, &line.labels);
        let place = if let Some(&place) = self.places.get(&labels) {
            place
        } else {
            engine.account(1, self.steps.n)?;
            self.places.insert(labels.clone(), self.all.len());
            self.all.push(Group::new(labels));
            self.all.len() - 1
        };
        let group = &mut self.all[place];
        if group.fold.is_none() && group.first.is_none() && line.histograms.is_none() {
            group.first = Some(line);
            return Ok(());
        }
        let fold = fold_of(&mut group.fold, op, self.steps);
        if let Some(first) = group.first.take() {
            fold.add(&first);
        }
        fold.add(&line);
        if line.histograms.is_some() {
            group.has_histograms = true;
            if matches!(op, AggregateOp::Sum | AggregateOp::Avg) {
                engine.account(1, self.steps.n)?;
                group.with_histograms.push(line);
            }
        }
        Ok(())
    }
}

impl Group {
    fn new(labels: Labels) -> Self {
        Self { labels, first: None, fold: None, has_histograms: false, with_histograms: Vec::new() }
    }
}

/// The fold of a group, begun if it was not.
fn fold_of(fold: &mut Option<Fold>, op: AggregateOp, steps: Steps) -> &mut Fold {
    let begin = || Fold::new(op, steps.n).expect("invariant: an operator of folds");
    fold.get_or_insert_with(begin)
}

/// Whether the lines of an expression come in the order of their labels, where series do: those of a selector, and of a
/// function of windows of one metric, because its name may go.
fn comes_in_order(expr: &Expr) -> bool {
    match &expr.unwrapped().kind {
        ExprKind::Selector(_) => true,
        ExprKind::Call(call) => call.arguments.iter().any(|argument| match &argument.unwrapped().kind {
            ExprKind::Matrix(selector, _) => selector
                .matchers
                .iter()
                .any(|matcher| matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal),
            _ => false,
        }),
        _ => false,
    }
}
