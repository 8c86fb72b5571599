//! Operators between two expressions.
//!
//! Which series of the two sides belong together is found out once for all steps; whether the ones that are there at a
//! step belong to no more than one of the other side is a matter of each step.
//!
//! Source: Prometheus `promql/engine.go` `VectorBinop`, `VectorAnd`, `VectorOr`, `VectorUnless`, `resultMetric`.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use model::histogram::ResetHint;
use model::labels::METRIC_NAME;
use model::series::is_stale;
use model::{Labels, NativeHistogram};

use super::{ABSENT, Engine, Line, Output, Result, Steps, histogram, math, merged};
use crate::syntax::ast::{Binary, BinaryOp, Grouping, Matching, Span};
use crate::value::{Error, Sample};

impl Engine<'_> {
    pub(super) fn binary(&self, binary: &Binary, span: &Span, steps: Steps) -> Result<Output> {
        let lhs = self.evaluate(&binary.lhs, steps)?;
        let rhs = self.evaluate(&binary.rhs, steps)?;
        match (lhs, rhs) {
            (Output::Scalar(lhs), Output::Scalar(rhs)) => {
                let pairs = lhs.into_iter().zip(rhs);
                Ok(Output::Scalar(pairs.map(|(lhs, rhs)| of_scalars(binary.op, lhs, rhs)).collect()))
            }
            (Output::Vector(lines), Output::Scalar(scalar)) => {
                self.with_scalar(binary, lines, &scalar, Side::Right, span).map(Output::Vector)
            }
            (Output::Scalar(scalar), Output::Vector(lines)) => {
                self.with_scalar(binary, lines, &scalar, Side::Left, span).map(Output::Vector)
            }
            (Output::Vector(lhs), Output::Vector(rhs)) => {
                let lines = match binary.op {
                    BinaryOp::And => set_and(lhs, &rhs, &binary.matching, steps, true),
                    BinaryOp::Unless => set_and(lhs, &rhs, &binary.matching, steps, false),
                    BinaryOp::Or => set_or(lhs, rhs, &binary.matching, steps)?,
                    _ => self.matched(binary, lhs, rhs, steps, span)?,
                };
                Ok(Output::Vector(lines))
            }
            _ => Err(Error::Execution("a string has no operators".to_owned())),
        }
    }

    fn with_scalar(
        &self,
        binary: &Binary,
        lines: Vec<Line>,
        scalar: &[f64],
        side: Side,
        span: &Span,
    ) -> Result<Vec<Line>> {
        let op = binary.op;
        let drops_name = !op.is_comparison() || binary.returns_bool;
        let mut out = Vec::with_capacity(lines.len());
        for (position, mut line) in lines.into_iter().enumerate() {
            if position % 256 == 0 {
                self.check()?;
            }
            for (step, value) in line.values.iter_mut().enumerate() {
                if is_stale(*value) {
                    continue;
                }
                let (lhs, rhs) =
                    if side == Side::Right { (*value, scalar[step]) } else { (scalar[step], *value) };
                *value = match (op.is_comparison(), binary.returns_bool) {
                    (false, _) => arithmetic(op, lhs, rhs),
                    (true, true) => f64::from(u8::from(compares(op, lhs, rhs))),
                    (true, false) if compares(op, lhs, rhs) => *value,
                    (true, false) => ABSENT,
                };
            }
            if let Some(histograms) = &mut line.histograms {
                for (step, histogram) in histograms.iter_mut().enumerate() {
                    *histogram = match (histogram.take(), op, side) {
                        (Some(histogram), BinaryOp::Mul, _) => {
                            Some(Arc::new(math::scaled(&histogram, scalar[step])))
                        }
                        (Some(histogram), BinaryOp::Div, Side::Right) => {
                            Some(Arc::new(math::divided(&histogram, scalar[step])))
                        }
                        (None, ..) => None,
                        (Some(_), ..) => {
                            let (lhs, rhs) = if side == Side::Right {
                                ("histogram", "float")
                            } else {
                                ("float", "histogram")
                            };
                            self.inform(&incompatible(op, lhs, rhs), span);
                            None
                        }
                    };
                }
            }
            if drops_name {
                line.labels = line.labels.without_metric_name();
            }
            if !line.is_empty() {
                out.push(line);
            }
        }
        if drops_name { merged(out) } else { Ok(out) }
    }

    /// Says so where an operator makes nothing of the types of two samples.
    fn check_types(&self, op: BinaryOp, (lhs, rhs): (&Line, &Line), step: usize, span: &Span) {
        let kind = |line: &Line| if line.histogram(step).is_some() { "histogram" } else { "float" };
        let (lhs, rhs) = (kind(lhs), kind(rhs));
        if (lhs, rhs) == ("histogram", "histogram") && matches!(op, BinaryOp::Add | BinaryOp::Sub) {
            // They have a sum but for their buckets.
            let op = op.as_str();
            self.warn(&format!("incompatible bucket layout encountered for binary operator {op}"), span);
            return;
        }
        let fits = match (lhs, rhs) {
            ("float", "float") => true,
            ("histogram", "histogram") => {
                matches!(op, BinaryOp::Equal | BinaryOp::NotEqual)
            }
            _ => false,
        };
        if !fits {
            self.inform(&incompatible(op, lhs, rhs), span);
        }
    }

    /// Arithmetic and comparisons between vectors.
    fn matched(
        &self,
        binary: &Binary,
        lhs: Vec<Line>,
        rhs: Vec<Line>,
        steps: Steps,
        span: &Span,
    ) -> Result<Vec<Line>> {
        let matching = &binary.matching;
        let (mut lhs, mut rhs) = (lhs, rhs);
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            let (of_lhs, of_rhs) = (presence(&lhs, matching, steps), presence(&rhs, matching, steps));
            if let Some(value) = matching.fill_left {
                lhs.extend(fillers(value, &of_lhs, &of_rhs, steps));
            }
            if let Some(value) = matching.fill_right {
                rhs.extend(fillers(value, &of_rhs, &of_lhs, steps));
            }
        }
        // The "many" side first; where both are "one", that is the left.
        let swapped = matching.group == Grouping::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let one_name = if swapped { "left" } else { "right" };
        let mut groups: HashMap<Labels, usize> = HashMap::new();
        let mut ones: Vec<Vec<usize>> = Vec::new();
        for (position, line) in one.iter().enumerate() {
            let group = *groups.entry(signature(&line.labels, matching)).or_insert_with(|| {
                ones.push(Vec::new());
                ones.len() - 1
            });
            ones[group].push(position);
        }
        // Several lines of the "one" side in a group are fine as long as only one is there at a time; and where the other
        // side has nothing at all, nobody looks.
        let others: Vec<bool> =
            (0..steps.n).map(|step| many.iter().any(|line| line.is_present(step))).collect();
        for group in ones.iter().filter(|group| group.len() > 1) {
            for step in (0..steps.n).filter(|&step| others[step]) {
                let mut present = group.iter().filter(|&&position| one[position].is_present(step));
                if let (Some(&first), Some(&second)) = (present.next(), present.next()) {
                    let key = signature(&one[first].labels, matching);
                    return Err(Error::Execution(format!(
                        "found duplicate series for the match group {} on the {one_name} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                        shown(&key),
                        shown(&one[second].labels),
                        shown(&one[first].labels)
                    )));
                }
            }
        }
        let mut out: Vec<Line> = Vec::new();
        // Per result labels the line, to find steps at which two series give the same.
        let mut places: HashMap<Labels, usize> = HashMap::new();
        // For "one to one": which group has a result at which step.
        let mut taken: Vec<Option<Vec<bool>>> = vec![None; ones.len()];
        for (position, many_line) in many.iter().enumerate() {
            if position % 256 == 0 {
                self.check()?;
            }
            let Some(&group) = groups.get(&signature(&many_line.labels, matching)) else { continue };
            for &one_position in &ones[group] {
                let one_line = &one[one_position];
                let labels = result_labels(&many_line.labels, &one_line.labels, binary);
                let mut result = Line::new(labels, vec![ABSENT; steps.n]);
                let mut is_empty = true;
                for step in 0..steps.n {
                    if !many_line.is_present(step) || !one_line.is_present(step) {
                        continue;
                    }
                    let (lhs, rhs) = if swapped { (one_line, many_line) } else { (many_line, one_line) };
                    let Some(value) = of_samples(binary, (lhs, rhs), step) else {
                        self.check_types(binary.op, (lhs, rhs), step, span);
                        continue;
                    };
                    if matching.group == Grouping::OneToOne {
                        let taken = taken[group].get_or_insert_with(|| vec![false; steps.n]);
                        if std::mem::replace(&mut taken[step], true) {
                            let problem = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
                            return Err(Error::Execution(problem.to_owned()));
                        }
                    }
                    match value {
                        Sample::Float(value) => result.values[step] = value,
                        Sample::Histogram(histogram) => result.set_histogram(step, histogram),
                    }
                    is_empty = false;
                }
                if !is_empty {
                    self.account(1, steps.n)?;
                    place(&mut out, &mut places, result)?;
                }
            }
        }
        Ok(out)
    }
}

fn incompatible(op: BinaryOp, lhs: &str, rhs: &str) -> String {
    let op = op.as_str();
    format!("incompatible sample types encountered for binary operator {op:?}: {lhs} {op} {rhs}")
}

/// What an operator makes of the samples of two lines at a step; `None` for nothing.
fn of_samples(binary: &Binary, (lhs, rhs): (&Line, &Line), step: usize) -> Option<Sample> {
    let op = binary.op;
    let as_bool = |truth: bool| Sample::Float(f64::from(u8::from(truth)));
    match (lhs.histogram(step), rhs.histogram(step)) {
        (None, None) => {
            let (lhs, rhs) = (lhs.values[step], rhs.values[step]);
            match (op.is_comparison(), binary.returns_bool) {
                (false, _) => Some(Sample::Float(arithmetic(op, lhs, rhs))),
                (true, true) => Some(as_bool(compares(op, lhs, rhs))),
                (true, false) => compares(op, lhs, rhs).then_some(Sample::Float(lhs)),
            }
        }
        (Some(lhs), Some(rhs)) => match op {
            BinaryOp::Add => histogram::combined(lhs, rhs, 1.0).map(|sum| Sample::Histogram(Arc::new(sum))),
            BinaryOp::Sub => histogram::combined(lhs, rhs, -1.0).map(|rest| {
                Sample::Histogram(Arc::new(NativeHistogram { reset_hint: ResetHint::Gauge, ..rest }))
            }),
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let truth = same_histogram(lhs, rhs) == (op == BinaryOp::Equal);
                if binary.returns_bool {
                    Some(as_bool(truth))
                } else {
                    truth.then(|| Sample::Histogram(Arc::clone(lhs)))
                }
            }
            _ => None,
        },
        (Some(lhs), None) => {
            let result = match op {
                BinaryOp::Mul => math::scaled(lhs, rhs.values[step]),
                BinaryOp::Div => math::divided(lhs, rhs.values[step]),
                _ => return None,
            };
            Some(Sample::Histogram(Arc::new(result)))
        }
        (None, Some(rhs)) => {
            let is_product = op == BinaryOp::Mul;
            is_product.then(|| Sample::Histogram(Arc::new(math::scaled(rhs, lhs.values[step]))))
        }
    }
}

fn same_histogram(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let content = |histogram: &NativeHistogram| {
        let buckets = histogram.bounded_buckets();
        (histogram.schema, histogram.count, histogram.sum, histogram.zero_threshold, buckets)
    };
    content(a) == content(b)
}

/// Adds a line of results, or joins it with the one of the same labels.
fn place(out: &mut Vec<Line>, places: &mut HashMap<Labels, usize>, line: Line) -> Result<()> {
    match places.entry(line.labels.clone()) {
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(out.len());
            out.push(line);
        }
        std::collections::hash_map::Entry::Occupied(entry) => {
            let into = &mut out[*entry.get()];
            for step in (0..line.values.len()).filter(|&step| line.is_present(step)) {
                if into.is_present(step) {
                    let problem = "multiple matches for labels: grouping labels must ensure unique matches";
                    return Err(Error::Execution(problem.to_owned()));
                }
                match line.histogram(step) {
                    Some(histogram) => into.set_histogram(step, Arc::clone(histogram)),
                    None => into.values[step] = line.values[step],
                }
            }
        }
    }
    Ok(())
}

/// On which side of an operator something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The labels by which series of two sides belong together.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    if matching.is_on {
        labels.filter(|name| matching.labels.iter().any(|label| label == name))
    } else {
        labels.filter(|name| name != METRIC_NAME && !matching.labels.iter().any(|label| label == name))
    }
}

fn result_labels(many: &Labels, one: &Labels, binary: &Binary) -> Labels {
    let matching = &binary.matching;
    let drops_name = !binary.op.is_comparison() || binary.returns_bool;
    let is_kept = |name: &str| {
        if drops_name && name == METRIC_NAME {
            return false;
        }
        if matching.group != Grouping::OneToOne {
            return true;
        }
        matching.labels.iter().any(|label| label == name) == matching.is_on
    };
    let mut labels = many.filter(is_kept);
    if matching.group != Grouping::OneToOne {
        for name in &matching.include {
            labels = labels.with(name, one.get(name));
        }
    }
    labels
}

fn of_scalars(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    if op.is_comparison() { f64::from(u8::from(compares(op, lhs, rhs))) } else { arithmetic(op, lhs, rhs) }
}

fn arithmetic(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => lhs.powf(rhs),
        _ => lhs.atan2(rhs),
    }
}

fn compares(op: BinaryOp, lhs: f64, rhs: f64) -> bool {
    match op {
        BinaryOp::Equal => lhs == rhs,
        BinaryOp::NotEqual => lhs != rhs,
        BinaryOp::Less => lhs < rhs,
        BinaryOp::LessOrEqual => lhs <= rhs,
        BinaryOp::Greater => lhs > rhs,
        _ => lhs >= rhs,
    }
}

/// Lines of `lhs` at the steps at which a line of `rhs` with the same signature is there, or is not.
fn set_and(
    mut lhs: Vec<Line>,
    rhs: &[Line],
    matching: &Matching,
    steps: Steps,
    is_wanted: bool,
) -> Vec<Line> {
    let there = presence(rhs, matching, steps);
    for line in &mut lhs {
        let there = there.get(&signature(&line.labels, matching));
        for step in 0..steps.n {
            if there.is_some_and(|there| there[step]) != is_wanted {
                line.clear(step);
            }
        }
    }
    lhs.retain(|line| !line.is_empty());
    lhs
}

/// Lines of `lhs`, and those of `rhs` at the steps at which no line of `lhs` with the same signature is there.
fn set_or(mut lhs: Vec<Line>, mut rhs: Vec<Line>, matching: &Matching, steps: Steps) -> Result<Vec<Line>> {
    let there = presence(&lhs, matching, steps);
    for line in &mut rhs {
        if let Some(there) = there.get(&signature(&line.labels, matching)) {
            for step in (0..steps.n).filter(|&step| there[step]) {
                line.clear(step);
            }
        }
    }
    rhs.retain(|line| !line.is_empty());
    lhs.extend(rhs);
    merged(lhs)
}

/// Lines that stand for what one side lacks: per signature of the other side, at the steps at which only that is there.
/// Their labels are those that belong together.
fn fillers(
    value: f64,
    own: &HashMap<Labels, Vec<bool>>,
    other: &HashMap<Labels, Vec<bool>>,
    steps: Steps,
) -> Vec<Line> {
    let filler = |(signature, there): (&Labels, &Vec<bool>)| {
        let own = own.get(signature);
        let lacks = |step: usize| there[step] && !own.is_some_and(|own| own[step]);
        let values = (0..steps.n).map(|step| if lacks(step) { value } else { ABSENT }).collect();
        Line::new(signature.clone(), values)
    };
    other.iter().map(filler).filter(|line| !line.is_empty()).collect()
}

/// Per signature the steps at which a line is there.
fn presence(lines: &[Line], matching: &Matching, steps: Steps) -> HashMap<Labels, Vec<bool>> {
    let mut there: HashMap<Labels, Vec<bool>> = HashMap::new();
    for line in lines {
        let of_signature =
            there.entry(signature(&line.labels, matching)).or_insert_with(|| vec![false; steps.n]);
        for (step, there) in of_signature.iter_mut().enumerate() {
            *there |= line.is_present(step);
        }
    }
    there
}

/// Labels as Prometheus prints them in errors.
fn shown(labels: &Labels) -> String {
    format!("{labels:?}")
}
