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
use super::math::{Mean, Sum, quantile, scaled};
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
                self.account(groups.len(), steps.n)?;
                let mut out = Vec::with_capacity(groups.len());
                for group in groups {
                    self.check()?;
                    let values = reduced(op, &lines, &group.members, &numbers, steps);
                    let mut line = Line::new(group.labels, values);
                    if matches!(op, AggregateOp::Sum | AggregateOp::Avg) {
                        self.reduce_histograms(op, &lines, &group.members, &mut line, &aggregate.expr.span);
                    } else if !matches!(op, AggregateOp::Count | AggregateOp::Group)
                        && group.members.iter().any(|&member| lines[member].histograms.is_some())
                    {
                        let problem = format!("ignored histogram in {} aggregation", op.as_str());
                        self.inform(&problem, &aggregate.expr.span);
                    }
                    if !line.is_empty() {
                        out.push(line);
                    }
                }
                Ok(out)
            }
        }
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

    /// Sums or means of histograms; where there are numbers too, there is no result.
    fn reduce_histograms(
        &self,
        op: AggregateOp,
        lines: &[Line],
        members: &[usize],
        into: &mut Line,
        span: &Span,
    ) {
        let with_histograms: Vec<&Line> =
            members.iter().map(|&member| &lines[member]).filter(|line| line.histograms.is_some()).collect();
        if with_histograms.is_empty() {
            return;
        }
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
                            self.inform(&format!("ignored histogram in {} aggregation", op.as_str()), span);
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

fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
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
fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
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

/// One value per step from the members that are there.
fn reduced(op: AggregateOp, lines: &[Line], members: &[usize], numbers: &[f64], steps: Steps) -> Vec<f64> {
    let mut out = vec![ABSENT; steps.n];
    match op {
        AggregateOp::Sum => {
            let mut sums = vec![Sum::default(); steps.n];
            each(lines, members, |step, value| {
                sums[step].add(value);
                out[step] = 0.0;
            });
            for (out, sum) in out.iter_mut().zip(sums).filter(|(out, _)| !is_stale(**out)) {
                *out = sum.total();
            }
        }
        AggregateOp::Avg => {
            let mut means = vec![Mean::default(); steps.n];
            each(lines, members, |step, value| {
                means[step].add(value);
                out[step] = 0.0;
            });
            for (out, mean) in out.iter_mut().zip(means).filter(|(out, _)| !is_stale(**out)) {
                *out = mean.value();
            }
        }
        AggregateOp::Count | AggregateOp::Group => {
            for &member in members {
                for (step, out) in out.iter_mut().enumerate() {
                    if lines[member].is_present(step) {
                        *out = if is_stale(*out) || op == AggregateOp::Group { 1.0 } else { *out + 1.0 };
                    }
                }
            }
        }
        AggregateOp::Min => each(lines, members, |step, value| {
            let best = out[step];
            if is_stale(best) || best.is_nan() || value < best {
                out[step] = value;
            }
        }),
        AggregateOp::Max => each(lines, members, |step, value| {
            let best = out[step];
            if is_stale(best) || best.is_nan() || value > best {
                out[step] = value;
            }
        }),
        AggregateOp::Stddev | AggregateOp::Stdvar => {
            let (mut counts, mut means) = (vec![0.0; steps.n], vec![0.0; steps.n]);
            each(lines, members, |step, value| {
                counts[step] += 1.0;
                if is_stale(out[step]) {
                    means[step] = value;
                    out[step] = if value.is_finite() { 0.0 } else { f64::NAN };
                    return;
                }
                let delta = value - means[step];
                means[step] += delta / counts[step];
                out[step] += delta * (value - means[step]);
            });
            for (out, count) in out.iter_mut().zip(counts).filter(|(out, _)| !is_stale(**out)) {
                *out /= count;
                if op == AggregateOp::Stddev {
                    *out = out.sqrt();
                }
            }
        }
        _ => {
            let mut values = Vec::with_capacity(members.len());
            for (step, out) in out.iter_mut().enumerate() {
                values.clear();
                values.extend(
                    members
                        .iter()
                        .map(|&member| lines[member].values[step])
                        .filter(|value| !is_stale(*value)),
                );
                if !values.is_empty() {
                    *out = quantile(numbers[step], &mut values);
                }
            }
        }
    }
    out
}

/// Hands each number of the members to `take`, member by member.
fn each(lines: &[Line], members: &[usize], mut take: impl FnMut(usize, f64)) {
    for &member in members {
        for (step, &value) in lines[member].values.iter().enumerate() {
            if !is_stale(value) {
                take(step, value);
            }
        }
    }
}
