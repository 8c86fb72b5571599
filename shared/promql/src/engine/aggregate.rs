//! Aggregations.
//!
//! Source: Prometheus `promql/engine.go` `aggregation`, `aggregationK`, `aggregationCountValues`.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use foldhash::quality::FixedState;
use foldhash::{HashMap, HashMapExt as _};
use model::labels::METRIC_NAME;
use model::series::is_stale;
use model::{Labels, NativeHistogram};

use super::call::shown;
use super::fold::Fold;
use super::math::{quantile, scaled};
use super::range::{incompatibility, sum_of};
use super::{ABSENT, Engine, Line, Result, Steps};
use crate::syntax::ast::{Aggregate, AggregateOp, Span};
use crate::value::Error;

/// The lines that are aggregated together.
struct Group {
    labels: Labels,
    members: Vec<usize>,
}

impl Engine<'_> {
    /// `span` is that of the whole aggregation.
    pub(super) fn aggregate(&self, aggregate: &Aggregate, span: &Span, steps: Steps) -> Result<Vec<Line>> {
        let op = aggregate.op;
        let parameter = aggregate.parameter.as_ref();
        if op == AggregateOp::CountValues {
            let parameter =
                parameter.ok_or_else(|| Error::Execution("count_values has no label".to_owned()))?;
            let label = self.text(parameter, steps)?;
            let lines = self.vector(&aggregate.expr, steps)?;
            return self.count_values(aggregate, &label, &lines, steps);
        }
        if Fold::is_of(op) {
            return self.folded(aggregate, steps);
        }
        let numbers = match parameter {
            Some(parameter) => self.scalar(parameter, steps)?,
            None => Vec::new(),
        };
        let lines = in_order(self.vector(&aggregate.expr, steps)?);
        if let (AggregateOp::Quantile, Some(parameter)) = (op, parameter) {
            self.check_quantile(&numbers, &parameter.span);
        }
        let groups = groups_of(aggregate, &lines);
        match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                self.of_k((op, span), &lines, &groups, &numbers, steps)
            }
            AggregateOp::LimitRatio => {
                self.check_ratio(&numbers, parameter.map_or(span, |parameter| &parameter.span))?;
                Ok(of_ratio(lines, &numbers))
            }
            _ => {
                let mut out = Vec::with_capacity(groups.len());
                for group in groups {
                    self.account(1, steps.n)?;
                    let line = Line::new(group.labels, quantiles(&lines, &group.members, &numbers, steps));
                    if group.members.iter().any(|&member| lines[member].histograms.is_some()) {
                        self.inform_ignored_by(op, &aggregate.expr.span);
                    }
                    if !line.is_empty() {
                        out.push(line);
                    }
                }
                Ok(out)
            }
        }
    }

    pub(super) fn inform_ignored_by(&self, op: AggregateOp, span: &Span) {
        self.inform(&format!("ignored histogram in {} aggregation", op.as_str()), span);
    }

    /// Warns of ratios that are cut to the nearest one there is.
    fn check_ratio(&self, ratios: &[f64], span: &Span) -> Result<()> {
        for &ratio in ratios {
            if ratio.is_nan() {
                return Err(Error::Execution("Ratio value NaN is NaN".to_owned()));
            }
            let nearest = ratio.clamp(-1.0, 1.0);
            if nearest.to_bits() != ratio.to_bits() {
                let problem = "ratio value should be between -1 and 1";
                self.warn(&format!("{problem}, got {}, capping to {nearest}", shown(ratio)), span);
            }
        }
        Ok(())
    }

    /// Sums or means of the histograms of lines; where there are numbers too, there is no result.
    pub(super) fn reduce_histograms(
        &self,
        op: AggregateOp,
        with_histograms: &[Line],
        into: &mut Line,
        span: &Span,
    ) {
        for step in 0..into.values.len() {
            let present = || with_histograms.iter().filter_map(|line| line.histogram(step));
            let n = present().count();
            if n == 0 {
                continue;
            }
            if !is_stale(into.values[step]) {
                self.warn("encountered a mix of histograms and floats for aggregation", span);
                into.values[step] = ABSENT;
                continue;
            }
            if let Some(sum) = sum_of(present().map(|histogram| &**histogram)) {
                let result = if op == AggregateOp::Avg { scaled(&sum, 1.0 / n as f64) } else { sum };
                into.set_histogram(step, Arc::new(result));
                continue;
            }
            // The first that does not fit to those before it is named.
            let all: Vec<&NativeHistogram> = present().map(|histogram| &**histogram).collect();
            let found =
                (2..=all.len()).find_map(|n| incompatibility(&all[..n]).map(|problem| (n - 1, problem)));
            let mut of_step = with_histograms.iter().filter(|line| line.histogram(step).is_some());
            if let Some((position, problem)) = found
                && let Some(line) = of_step.nth(position)
            {
                let metric = line.labels.get(METRIC_NAME);
                self.warn(&format!("{problem} for metric name {metric:?}"), span);
            }
        }
    }

    /// `topk`, `bottomk`, `limitk`: at each step some series of each group, with their own labels.
    fn of_k(
        &self,
        (op, span): (AggregateOp, &Span),
        lines: &[Line],
        groups: &[Group],
        numbers: &[f64],
        steps: Steps,
    ) -> Result<Vec<Line>> {
        let mut kept: Vec<Option<Vec<f64>>> = vec![None; lines.len()];
        let mut kept_histograms: Vec<Vec<usize>> = vec![Vec::new(); lines.len()];
        let mut order: Vec<usize> = Vec::new();
        for step in 0..steps.n {
            if step % 16 == 0 {
                self.check()?;
            }
            let k = numbers[step];
            if k.is_nan() || k >= i64::MAX as f64 || k <= i64::MIN as f64 {
                return Err(Error::Execution(format!("Scalar value {} overflows int64", shown(k))));
            }
            let k = k.max(0.0) as usize;
            if k == 0 {
                continue;
            }
            for group in groups {
                let mut present: Vec<(f64, usize)> = Vec::new();
                for &member in &group.members {
                    let value = lines[member].values[step];
                    if !is_stale(value) {
                        present.push((value, member));
                    } else if lines[member].is_present(step) {
                        if op == AggregateOp::Limitk {
                            present.push((f64::NAN, member));
                        } else {
                            self.inform_ignored_by(op, span);
                        }
                    }
                }
                if op != AggregateOp::Limitk {
                    let is_top = op == AggregateOp::Topk;
                    // NaN is the last choice of both.
                    let rank = |a: &(f64, usize), b: &(f64, usize)| match (a.0.is_nan(), b.0.is_nan()) {
                        (true, true) => a.1.cmp(&b.1),
                        (true, false) => std::cmp::Ordering::Greater,
                        (false, true) => std::cmp::Ordering::Less,
                        _ if is_top => {
                            b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1))
                        }
                        _ => a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1)),
                    };
                    if present.len() > k {
                        present.select_nth_unstable_by(k - 1, rank);
                        present.truncate(k);
                    }
                    present.sort_unstable_by(rank);
                }
                for &(value, member) in present.iter().take(k) {
                    if kept[member].is_none() {
                        order.push(member);
                    }
                    let values = kept[member].get_or_insert_with(|| vec![ABSENT; steps.n]);
                    if is_stale(lines[member].values[step]) {
                        kept_histograms[member].push(step);
                    } else {
                        values[step] = value;
                    }
                }
            }
        }
        let mut out = Vec::with_capacity(order.len());
        for member in order {
            let Some(values) = kept[member].take() else { continue };
            let mut line = Line::new(lines[member].labels.clone(), values);
            for &step in &kept_histograms[member] {
                let histogram = lines[member].histogram(step).cloned();
                line.histograms.get_or_insert_with(|| vec![None; steps.n])[step] = histogram;
            }
            out.push(line);
        }
        Ok(out)
    }

    fn count_values(
        &self,
        aggregate: &Aggregate,
        label: &str,
        lines: &[Line],
        steps: Steps,
    ) -> Result<Vec<Line>> {
        if label.is_empty() {
            return Err(Error::Execution(format!("invalid label name {label:?}")));
        }
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Line> = Vec::new();
        for line in lines {
            let of_group = group_labels(aggregate, &line.labels);
            for step in 0..steps.n {
                if !line.is_present(step) {
                    continue;
                }
                let text = match line.histogram(step) {
                    Some(histogram) => histogram_text(histogram),
                    None => shown(line.values[step]),
                };
                let labels = of_group.with(label, &text);
                let position = *places.entry(labels).or_insert_with_key(|labels| {
                    out.push(Line::new(labels.clone(), vec![ABSENT; steps.n]));
                    out.len() - 1
                });
                let count = &mut out[position].values[step];
                *count = if is_stale(*count) { 1.0 } else { *count + 1.0 };
            }
            // Every value may be a series of its own.
            if out.len() as u64 * steps.n as u64 + self.n_values.get() > self.params.max_samples {
                return Err(Error::TooManySamples);
            }
            self.check()?;
        }
        Ok(out)
    }
}

/// A histogram as Prometheus prints it.
fn histogram_text(histogram: &NativeHistogram) -> String {
    let mut parts =
        vec![format!("count:{}", shown(histogram.count)), format!("sum:{}", shown(histogram.sum))];
    for bucket in histogram.bounded_buckets() {
        let open = if bucket.has_lower { '[' } else { '(' };
        let close = if bucket.has_upper { ']' } else { ')' };
        let (lower, upper) = (short(bucket.lower), short(bucket.upper));
        parts.push(format!("{open}{lower},{upper}{close}:{}", shown(bucket.count)));
    }
    format!("{{{}}}", parts.join(", "))
}

/// A bound, with an exponent where it is very small.
fn short(bound: f64) -> String {
    if bound != 0.0 && bound.abs() < 1e-4 { format!("{bound:e}") } else { shown(bound) }
}

/// Series whose labels' hash falls into the ratio; the complement for negative ones.
fn of_ratio(lines: Vec<Line>, ratios: &[f64]) -> Vec<Line> {
    let mut out = Vec::new();
    for mut line in lines {
        let offset = hash_share(&line.labels);
        for (step, ratio) in ratios.iter().enumerate() {
            let ratio = ratio.clamp(-1.0, 1.0);
            let is_kept = if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio };
            if !is_kept {
                line.clear(step);
            }
        }
        if !line.is_empty() {
            out.push(line);
        }
    }
    out
}

/// A number in [0, 1) that follows from the labels alone.
fn hash_share(labels: &Labels) -> f64 {
    let mut hasher = FixedState::default().build_hasher();
    for label in labels {
        for text in [&label.name, &label.value] {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff);
        }
    }
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

pub(super) fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let is_named = |name: &str| aggregate.labels.iter().any(|label| label == name);
    if aggregate.is_without {
        labels.filter(|name| name != METRIC_NAME && !is_named(name))
    } else if aggregate.labels.is_empty() {
        Labels::empty()
    } else {
        labels.filter(is_named)
    }
}

/// The lines by labels. Sums depend on their order in the last bits, and `topk` takes the first of equal values: neither may
/// follow from the order in which files were read, nor from steps before.
pub(super) fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    if !lines.is_sorted_by(|a, b| a.labels <= b.labels) {
        lines.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    lines
}

fn groups_of(aggregate: &Aggregate, lines: &[Line]) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (position, line) in lines.iter().enumerate() {
        let labels = group_labels(aggregate, &line.labels);
        let group = *places.entry(labels).or_insert_with_key(|labels| {
            groups.push(Group { labels: labels.clone(), members: Vec::new() });
            groups.len() - 1
        });
        groups[group].members.push(position);
    }
    groups
}

/// The quantile of the numbers of the members at each step.
fn quantiles(lines: &[Line], members: &[usize], q: &[f64], steps: Steps) -> Vec<f64> {
    let mut out = vec![ABSENT; steps.n];
    let mut values = Vec::with_capacity(members.len());
    for (step, out) in out.iter_mut().enumerate() {
        values.clear();
        let all = members.iter().map(|&member| lines[member].values[step]);
        values.extend(all.filter(|value| !is_stale(*value)));
        if !values.is_empty() {
            *out = quantile(q[step], &mut values);
        }
    }
    out
}
