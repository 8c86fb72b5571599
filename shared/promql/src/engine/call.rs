//! Calls of functions.
//!
//! Source: Prometheus `promql/functions.go`.

use foldhash::{HashMap, HashMapExt as _};
use model::labels::METRIC_NAME;
use model::series::is_stale;
use model::{Labels, MatchOp};
use regex::Regex;

use super::dates::Date;
use super::quantile::{Bucket, fraction_of_buckets, of_buckets};
use super::selector::Wanted;
use super::{ABSENT, Engine, Line, Output, Result, Steps, histogram, merged};
use crate::syntax::ast::{Call, Expr, ExprKind, Span};
use crate::value::Error;

/// The label with a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

impl Engine<'_> {
    pub(super) fn call(&self, call: &Call, steps: Steps) -> Result<Output> {
        let arguments = &call.arguments;
        let name = call.function.name;
        if let Some(lines) = self.range_call(call, steps)? {
            return Ok(Output::Vector(lines));
        }
        if let Some(function) = of_number(name) {
            return self.mapped(&arguments[0], steps, |value, _| Some(function(value))).map(Output::Vector);
        }
        if let Some(part) = of_date(name) {
            let Some(argument) = arguments.first() else {
                let values = (0..steps.n).map(|step| part(&date_at(steps.time_ms(step) as f64 / 1e3)) as f64);
                return Ok(Output::Vector(vec![Line::new(Labels::empty(), values.collect())]));
            };
            return self
                .mapped(argument, steps, |value, _| Some(part(&date_at(value)) as f64))
                .map(Output::Vector);
        }
        let vector = match name {
            "time" => {
                return Ok(Output::Scalar(
                    (0..steps.n).map(|step| steps.time_ms(step) as f64 / 1e3).collect(),
                ));
            }
            "pi" => return Ok(Output::Scalar(vec![std::f64::consts::PI; steps.n])),
            "scalar" => return self.single(&arguments[0], steps).map(Output::Scalar),
            "vector" => vec![Line::new(Labels::empty(), self.scalar(&arguments[0], steps)?)],
            "timestamp" => self.timestamp(&arguments[0], steps)?,
            "absent" => {
                let lines = self.vector(&arguments[0], steps)?;
                absent(&arguments[0], &lines, steps)
            }
            "clamp" => {
                let least = self.scalar(&arguments[1], steps)?;
                let most = self.scalar(&arguments[2], steps)?;
                self.mapped(&arguments[0], steps, |value, step| {
                    let (least, most) = (least[step], most[step]);
                    (most >= least || least.is_nan() || most.is_nan())
                        .then(|| smaller(most, larger(least, value)))
                })?
            }
            "clamp_min" => {
                let least = self.scalar(&arguments[1], steps)?;
                self.mapped(&arguments[0], steps, |value, step| Some(larger(least[step], value)))?
            }
            "clamp_max" => {
                let most = self.scalar(&arguments[1], steps)?;
                self.mapped(&arguments[0], steps, |value, step| Some(smaller(most[step], value)))?
            }
            "round" => {
                let to = match arguments.get(1) {
                    Some(to) => self.scalar(to, steps)?,
                    None => vec![1.0; steps.n],
                };
                self.mapped(&arguments[0], steps, |value, step| {
                    let inverse = 1.0 / to[step];
                    Some((value * inverse + 0.5).floor() / inverse)
                })?
            }
            "sort" | "sort_desc" => {
                let mut lines = self.vector(&arguments[0], steps)?;
                if steps.step_ms == 0 {
                    lines.retain(|line| !is_stale(line.values[0]));
                    sort_by_value(&mut lines, name == "sort_desc");
                }
                lines
            }
            "sort_by_label" | "sort_by_label_desc" => {
                let mut lines = self.vector(&arguments[0], steps)?;
                let mut labels = Vec::new();
                for argument in &arguments[1..] {
                    labels.push(self.text(argument, steps)?);
                }
                lines.sort_by(|a, b| {
                    let by_labels =
                        labels.iter().map(|label| natural(a.labels.get(label), b.labels.get(label)));
                    by_labels
                        .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                        .then_with(|| a.labels.cmp(&b.labels))
                });
                if name == "sort_by_label_desc" {
                    lines.reverse();
                }
                lines
            }
            "label_replace" => self.label_replace(arguments, steps)?,
            "label_join" => self.label_join(arguments, steps)?,
            "info" => self.info(arguments, steps)?,
            "histogram_quantile" => self.histogram_quantile(arguments, steps)?,
            "histogram_fraction" => self.histogram_fraction(arguments, steps)?,
            "histogram_stddev" => {
                self.of_histograms(&arguments[0], steps, |found| histogram::variance(found).sqrt())?
            }
            "histogram_stdvar" => self.of_histograms(&arguments[0], steps, histogram::variance)?,
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                self.of_histograms(&arguments[0], steps, |histogram| match name {
                    "histogram_count" => histogram.count,
                    "histogram_sum" => histogram.sum,
                    _ => histogram.sum / histogram.count,
                })?
            }
            _ => return Err(Error::Execution(format!("function {name:?} is not supported"))),
        };
        Ok(Output::Vector(vector))
    }

    /// Each number of a vector through `of`, which may drop it; labels lose the name.
    fn mapped(
        &self,
        argument: &Expr,
        steps: Steps,
        of: impl Fn(f64, usize) -> Option<f64>,
    ) -> Result<Vec<Line>> {
        let mut lines = self.vector(argument, steps)?;
        for line in &mut lines {
            line.labels = line.labels.without_metric_name();
            line.histograms = None;
            for (step, value) in line.values.iter_mut().enumerate() {
                if !is_stale(*value) {
                    *value = of(*value, step).unwrap_or(ABSENT);
                }
            }
        }
        lines.retain(|line| !line.is_empty());
        merged(lines)
    }

    /// Each histogram of a vector as a number; numbers are left out.
    fn of_histograms(
        &self,
        argument: &Expr,
        steps: Steps,
        of: impl Fn(&model::NativeHistogram) -> f64,
    ) -> Result<Vec<Line>> {
        let mut lines = self.vector(argument, steps)?;
        for line in &mut lines {
            line.labels = line.labels.without_metric_name();
            let histograms = line.histograms.take();
            for step in 0..steps.n {
                let histogram = histograms.as_ref().and_then(|histograms| histograms[step].as_ref());
                line.values[step] = histogram.map_or(ABSENT, |histogram| of(histogram));
            }
        }
        lines.retain(|line| !line.is_empty());
        merged(lines)
    }

    /// The number of a vector that has just one, at each step; NaN else.
    fn single(&self, argument: &Expr, steps: Steps) -> Result<Vec<f64>> {
        let lines = self.vector(argument, steps)?;
        let mut values = vec![f64::NAN; steps.n];
        for (step, value) in values.iter_mut().enumerate() {
            let mut present = lines.iter().filter(|line| !is_stale(line.values[step]));
            if let (Some(line), None) = (present.next(), present.next()) {
                *value = line.values[step];
            }
        }
        Ok(values)
    }

    /// Times of the samples themselves where the argument is a selector, else those of the steps.
    fn timestamp(&self, argument: &Expr, steps: Steps) -> Result<Vec<Line>> {
        let mut lines = if let ExprKind::Selector(selector) = &argument.unwrapped().kind {
            self.instant_wanted(selector, steps, Wanted::Time)?
        } else {
            let mut lines = self.vector(argument, steps)?;
            for line in &mut lines {
                for step in 0..steps.n {
                    if line.is_present(step) {
                        line.values[step] = steps.time_ms(step) as f64 / 1e3;
                    }
                }
                line.histograms = None;
            }
            lines
        };
        for line in &mut lines {
            line.labels = line.labels.without_metric_name();
        }
        merged(lines)
    }

    fn label_replace(&self, arguments: &[Expr], steps: Steps) -> Result<Vec<Line>> {
        let mut lines = self.vector(&arguments[0], steps)?;
        let (destination, replacement) = (self.text(&arguments[1], steps)?, self.text(&arguments[2], steps)?);
        let (source, pattern) = (self.text(&arguments[3], steps)?, self.text(&arguments[4], steps)?);
        let regex = Regex::new(&model::matcher::anchored(&pattern)).map_err(|_| {
            Error::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        if destination.is_empty() {
            let problem = format!("invalid destination label name in label_replace(): {destination}");
            return Err(Error::Execution(problem));
        }
        for line in &mut lines {
            let value = line.labels.get(&source);
            if let Some(captures) = regex.captures(value) {
                let mut replaced = String::new();
                expand(&captures, &replacement, &mut replaced);
                line.labels = line.labels.with(&destination, &replaced);
            }
        }
        merged(lines)
    }

    fn label_join(&self, arguments: &[Expr], steps: Steps) -> Result<Vec<Line>> {
        let mut lines = self.vector(&arguments[0], steps)?;
        let (destination, separator) = (self.text(&arguments[1], steps)?, self.text(&arguments[2], steps)?);
        if destination.is_empty() {
            return Err(Error::Execution(format!(
                "invalid destination label name in label_join(): {destination}"
            )));
        }
        let mut sources = Vec::new();
        for argument in &arguments[3..] {
            sources.push(self.text(argument, steps)?);
        }
        for line in &mut lines {
            let values: Vec<&str> = sources.iter().map(|source| line.labels.get(source)).collect();
            line.labels = line.labels.with(&destination, &values.join(&separator));
        }
        merged(lines)
    }

    /// The series of a vector by everything but `le`, with the bounds that `le` says.
    fn classic_histograms(&self, lines: &[Line], span: &Span) -> Vec<(Labels, Vec<(f64, usize)>)> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut histograms: Vec<(Labels, Vec<(f64, usize)>)> = Vec::new();
        for (position, line) in lines.iter().enumerate() {
            let bound = line.labels.get(BUCKET_LABEL);
            let Some(upper) = bound_of(bound) else {
                if line.histograms.is_none() {
                    let name = line.labels.get(METRIC_NAME);
                    let problem = format!(
                        "bucket label {BUCKET_LABEL:?} is missing or has a malformed value of {bound:?} for metric name {name:?}"
                    );
                    self.warn(&problem, span);
                }
                continue;
            };
            let labels = line.labels.filter(|name| name != BUCKET_LABEL && name != METRIC_NAME);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                histograms.push((labels.clone(), Vec::new()));
                histograms.len() - 1
            });
            histograms[place].1.push((upper, position));
        }
        histograms
    }

    fn histogram_quantile(&self, arguments: &[Expr], steps: Steps) -> Result<Vec<Line>> {
        let q = self.scalar(&arguments[0], steps)?;
        let lines = self.vector(&arguments[1], steps)?;
        if !lines.is_empty() {
            self.check_quantile(&q, &arguments[0].span);
        }
        let mut out = Vec::new();
        let mut buckets = Vec::new();
        for (labels, bounds) in self.classic_histograms(&lines, &arguments[1].span) {
            self.check()?;
            self.account(1, steps.n)?;
            let mut values = vec![ABSENT; steps.n];
            for (step, value) in values.iter_mut().enumerate() {
                present_buckets(&lines, &bounds, step, &mut buckets);
                if buckets.is_empty() {
                    continue;
                }
                let (found, was_mended) = of_buckets(q[step], &mut buckets);
                *value = found;
                if was_mended {
                    let name =
                        bounds.first().map_or("", |(_, position)| lines[*position].labels.get(METRIC_NAME));
                    self.inform(
                        &format!("input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {name:?}"),
                        &arguments[1].span,
                    );
                }
            }
            let line = Line::new(labels, values);
            if !line.is_empty() {
                out.push(line);
            }
        }
        let native = of_native(&lines, steps, |step, found| histogram::quantile(q[step], found));
        self.beside_native(out, native, &arguments[1].span)
    }

    fn histogram_fraction(&self, arguments: &[Expr], steps: Steps) -> Result<Vec<Line>> {
        let (lower, upper) = (self.scalar(&arguments[0], steps)?, self.scalar(&arguments[1], steps)?);
        let lines = self.vector(&arguments[2], steps)?;
        let mut out = Vec::new();
        let mut buckets = Vec::new();
        for (labels, bounds) in self.classic_histograms(&lines, &arguments[2].span) {
            let mut values = vec![ABSENT; steps.n];
            for (step, value) in values.iter_mut().enumerate() {
                present_buckets(&lines, &bounds, step, &mut buckets);
                if !buckets.is_empty() {
                    *value = fraction_of_buckets(lower[step], upper[step], &mut buckets);
                }
            }
            out.push(Line::new(labels, values));
        }
        out.retain(|line| !line.is_empty());
        let native =
            of_native(&lines, steps, |step, found| histogram::fraction(lower[step], upper[step], found));
        self.beside_native(out, native, &arguments[2].span)
    }

    /// The results for classic histograms and those for native ones, which come with their metrics' names. Where both
    /// have one, there is none.
    fn beside_native(
        &self,
        mut classic: Vec<Line>,
        native: Vec<(String, Line)>,
        span: &Span,
    ) -> Result<Vec<Line>> {
        let places: HashMap<Labels, usize> =
            classic.iter().enumerate().map(|(position, line)| (line.labels.clone(), position)).collect();
        for (name, mut line) in native {
            if let Some(&position) = places.get(&line.labels) {
                let other = &mut classic[position];
                for step in 0..line.values.len() {
                    if line.is_present(step) && other.is_present(step) {
                        let problem = "vector contains a mix of classic and native histograms";
                        self.warn(&format!("{problem} for metric name {name:?}"), span);
                        line.clear(step);
                        other.clear(step);
                    }
                }
            }
            classic.push(line);
        }
        classic.retain(|line| !line.is_empty());
        merged(classic)
    }
}

/// A number for each native histogram, with the metric's name, which the labels lose.
fn of_native(
    lines: &[Line],
    steps: Steps,
    of: impl Fn(usize, &model::NativeHistogram) -> f64,
) -> Vec<(String, Line)> {
    let with_histograms = lines.iter().filter(|line| line.histograms.is_some());
    let numbers = with_histograms.map(|line| {
        let value = |step: usize| line.histogram(step).map_or(ABSENT, |found| of(step, found));
        let name = line.labels.get(METRIC_NAME).to_owned();
        (name, Line::new(line.labels.without_metric_name(), (0..steps.n).map(value).collect()))
    });
    numbers.filter(|(_, line)| !line.is_empty()).collect()
}

fn present_buckets(lines: &[Line], bounds: &[(f64, usize)], step: usize, buckets: &mut Vec<Bucket>) {
    buckets.clear();
    let present = bounds.iter().filter(|(_, position)| !is_stale(lines[*position].values[step]));
    buckets.extend(present.map(|&(upper, position)| Bucket { upper, count: lines[position].values[step] }));
}

/// A bound as Go's `ParseFloat` reads it.
fn bound_of(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// `$1`, `${name}` and `$$` as Go's `Regexp.Expand` reads them: a name is as long as possible.
fn expand(captures: &regex::Captures<'_>, replacement: &str, out: &mut String) {
    captures.expand(replacement, out);
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn sort_by_value(lines: &mut [Line], descending: bool) {
    lines.sort_by(|a, b| {
        let (a, b) = (a.values[0], b.values[0]);
        // NaN comes last, whichever the direction.
        match (a.is_nan(), b.is_nan()) {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => std::cmp::Ordering::Greater,
            (false, true) => std::cmp::Ordering::Less,
            _ => {
                let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                if descending { order.reverse() } else { order }
            }
        }
    });
}

/// Texts with numbers in them, in the order that people expect: runs of digits as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (n_a, n_b) = (digits(a), digits(b));
        if n_a > 0 && n_b > 0 {
            let trimmed = |text: &str| text.trim_start_matches('0').len();
            let (number_a, number_b) = (&a[..n_a], &b[..n_b]);
            let order = trimmed(number_a)
                .cmp(&trimmed(number_b))
                .then_with(|| number_a.trim_start_matches('0').cmp(number_b.trim_start_matches('0')));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[n_a..], &b[n_b..]);
            continue;
        }
        let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
        match (chars_a.next(), chars_b.next()) {
            (None, None) => return std::cmp::Ordering::Equal,
            (None, _) => return std::cmp::Ordering::Less,
            (_, None) => return std::cmp::Ordering::Greater,
            (Some(first), Some(second)) if first == second => (a, b) = (chars_a.as_str(), chars_b.as_str()),
            (Some(first), Some(second)) => return first.cmp(&second),
        }
    }
}

/// A number as Prometheus prints it.
pub(super) fn shown(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    value.to_string()
}

/// 1 where no line has anything, with the labels that the selector says outright.
pub(super) fn absent(argument: &Expr, lines: &[Line], steps: Steps) -> Vec<Line> {
    let is_absent = |step: usize| lines.iter().all(|line| !line.is_present(step));
    let values: Vec<f64> = (0..steps.n).map(|step| if is_absent(step) { 1.0 } else { ABSENT }).collect();
    let line = Line::new(labels_of_absent(argument), values);
    if line.is_empty() { Vec::new() } else { vec![line] }
}

/// Source: Prometheus `createLabelsForAbsentFunction`: labels of `=` matchers that no other matcher is about.
fn labels_of_absent(argument: &Expr) -> Labels {
    let (ExprKind::Selector(selector) | ExprKind::Matrix(selector, _)) = &argument.kind else {
        return Labels::empty();
    };
    let matchers = || selector.matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME);
    let is_alone = |name: &str| matchers().filter(|matcher| matcher.name() == name).count() == 1;
    let outright = matchers().filter(|matcher| matcher.op() == MatchOp::Equal && is_alone(matcher.name()));
    Labels::from_pairs(outright.map(|matcher| (matcher.name(), matcher.value())))
}

fn of_number(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => f64::to_radians,
        "deg" => f64::to_degrees,
        "sgn" => |value| {
            if value > 0.0 {
                1.0
            } else if value < 0.0 {
                -1.0
            } else {
                value
            }
        },
        _ => return None,
    })
}

fn of_date(name: &str) -> Option<fn(&Date) -> i64> {
    Some(match name {
        "year" => |date| date.year,
        "month" => |date| date.month,
        "day_of_month" => |date| date.day,
        "day_of_week" => |date| date.day_of_week,
        "day_of_year" => |date| date.day_of_year,
        "days_in_month" => Date::days_in_month,
        "hour" => |date| date.hour,
        "minute" => |date| date.minute,
        _ => return None,
    })
}

/// The date so many seconds after the epoch, the fraction cut off; of what is no whole number, Go's is the least.
fn date_at(seconds: f64) -> Date {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    Date::of(if (-LIMIT..LIMIT).contains(&seconds) { seconds as i64 } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_sort_as_people_expect() {
        let mut values = ["pod-10", "pod-9", "a", "pod-9a", ""];
        values.sort_by(|a, b| natural(a, b));
        assert_eq!(values, ["", "a", "pod-9", "pod-9a", "pod-10"]);
    }
}
