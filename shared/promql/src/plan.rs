//! What a query needs, before anything is read.

use model::Matcher;

use crate::syntax::ast::{At, BinaryOp, Duration, Expr, ExprKind, Selector};
use crate::value::QueryParams;

/// Series that a query needs, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// What they must pass.
    pub matchers: Vec<Matcher>,
    /// Samples after this instant, ms since the epoch,
    pub start_ms_exclusive: i64,
    /// up to this one.
    pub end_ms: i64,
    /// Where the newest sample is looked for at steps only: the first of them and the time between two, ms. A sample
    /// with another behind it that every step sees too is not needed.
    pub steps_ms: Option<(i64, i64)>,
}

/// An expression with what evaluating it needs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The expression; selectors are numbered as `needs` is.
    pub(crate) expr: Expr,
    pub(crate) params: QueryParams,
    /// The query's text, for places in remarks.
    pub(crate) query: String,
    needs: Vec<Need>,
}

/// The matcher of the series that `info` takes labels from, unless it is told others.
pub(crate) const INFO_METRIC: &str = "target_info";

/// Finds out what `expr`, which `query` says, needs.
pub fn plan(query: &str, expr: &Expr, params: &QueryParams) -> Plan {
    let mut plan = Plan { expr: expr.clone(), params: *params, query: query.to_owned(), needs: Vec::new() };
    let mut expr = plan.expr.clone();
    let is_stepped = params.step_ms > 0;
    plan.visit(&mut expr, params.start_ms, params.end_ms, is_stepped);
    plan.expr = expr;
    plan
}

impl Plan {
    /// What to fetch, numbered as [`crate::evaluate()`] asks for it.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// Whether what the query gives at a step follows from that step alone, so that the steps of a range may be evaluated
    /// in parts, with the same answer to the bit. Not where it looks at the ends of the range, and not for `info`, whose
    /// series are joined over all steps.
    pub fn is_stepwise(&self) -> bool {
        is_stepwise(&self.expr)
    }

    /// Notes the selectors below `expr`, which is evaluated from `start_ms` to `end_ms`, at the query's steps or at others.
    fn visit(&mut self, expr: &mut Expr, start_ms: i64, end_ms: i64, is_stepped: bool) {
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Selector(selector) => {
                let lookback_ms = self.params.lookback_ms;
                self.need(selector, start_ms, end_ms, lookback_ms, is_stepped);
            }
            ExprKind::Matrix(selector, range) => {
                let range_ms = range.ms(self.params.step_ms);
                self.need(selector, start_ms, end_ms, range_ms, false);
            }
            ExprKind::Subquery(subquery) => {
                let params = self.params;
                let range_ms = subquery.range.ms(params.step_ms);
                let offset_ms = subquery.offset.as_ref().map_or(0, |offset| offset.ms(params.step_ms));
                let (start_ms, end_ms) = at_range(subquery.at, &params, start_ms, end_ms);
                let first_ms = start_ms.saturating_sub(offset_ms).saturating_sub(range_ms);
                self.visit(&mut subquery.expr, first_ms, end_ms.saturating_sub(offset_ms), false);
            }
            ExprKind::Negate(expr) | ExprKind::Plus(expr) | ExprKind::Paren(expr) => {
                self.visit(expr, start_ms, end_ms, is_stepped);
            }
            ExprKind::Binary(binary) => {
                self.visit(&mut binary.lhs, start_ms, end_ms, is_stepped);
                self.visit(&mut binary.rhs, start_ms, end_ms, is_stepped);
            }
            ExprKind::Aggregate(aggregate) => {
                if let Some(parameter) = &mut aggregate.parameter {
                    self.visit(parameter, start_ms, end_ms, is_stepped);
                }
                self.visit(&mut aggregate.expr, start_ms, end_ms, is_stepped);
            }
            ExprKind::Call(call) => {
                if call.function.name == "info" {
                    complete_info(&mut call.arguments);
                }
                for argument in &mut call.arguments {
                    self.visit(argument, start_ms, end_ms, is_stepped);
                }
            }
        }
    }

    fn need(&mut self, selector: &mut Selector, start_ms: i64, end_ms: i64, back_ms: i64, is_stepped: bool) {
        let offset_ms = selector.offset.as_ref().map_or(0, |offset| offset.ms(self.params.step_ms));
        let is_stepped = is_stepped && selector.at.is_none();
        let (start_ms, end_ms) = at_range(selector.at, &self.params, start_ms, end_ms);
        selector.number = self.needs.len();
        self.needs.push(Need {
            matchers: selector.matchers.clone(),
            start_ms_exclusive: start_ms.saturating_sub(offset_ms).saturating_sub(back_ms),
            end_ms: end_ms.saturating_sub(offset_ms),
            steps_ms: is_stepped.then(|| (start_ms.saturating_sub(offset_ms), self.params.step_ms)),
        });
    }
}

fn is_stepwise(expr: &Expr) -> bool {
    let is_free = |at: Option<At>| !matches!(at, Some(At::Start | At::End));
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => is_free(selector.at),
        ExprKind::Subquery(subquery) => is_free(subquery.at) && is_stepwise(&subquery.expr),
        ExprKind::Negate(expr) | ExprKind::Plus(expr) | ExprKind::Paren(expr) => is_stepwise(expr),
        ExprKind::Binary(binary) => is_stepwise(&binary.lhs) && is_stepwise(&binary.rhs),
        ExprKind::Aggregate(aggregate) => {
            aggregate.parameter.as_ref().is_none_or(is_stepwise) && is_stepwise(&aggregate.expr)
        }
        ExprKind::Call(call) => call.function.name != "info" && call.arguments.iter().all(is_stepwise),
    }
}

/// Gives `info` the selector that it was not given, or the metric that its selector does not name.
fn complete_info(arguments: &mut Vec<Expr>) {
    let named = || {
        let matcher = Matcher::new(model::labels::METRIC_NAME, model::MatchOp::Equal, INFO_METRIC);
        matcher.expect("invariant: only a pattern can be invalid")
    };
    match arguments.get_mut(1) {
        None => {
            let span = arguments[0].span.clone();
            let selector = Selector {
                matchers: vec![named()],
                name: None,
                offset: None,
                at: None,
                number: 0,
                span: span.clone(),
            };
            arguments.push(Expr { kind: ExprKind::Selector(selector), span });
        }
        Some(Expr { kind: ExprKind::Selector(selector), .. }) => {
            if !selector.matchers.iter().any(|matcher| matcher.name() == model::labels::METRIC_NAME) {
                selector.matchers.push(named());
            }
        }
        Some(_) => {}
    }
}

/// The steps of something that may have a fixed time.
pub(crate) fn at_range(at: Option<At>, params: &QueryParams, start_ms: i64, end_ms: i64) -> (i64, i64) {
    match at {
        None => (start_ms, end_ms),
        Some(At::Ms(ms)) => (ms, ms),
        Some(At::Start) => (params.start_ms, params.start_ms),
        Some(At::End) => (params.end_ms, params.end_ms),
    }
}

impl Duration {
    /// Milliseconds, where the query's step is `step_ms`.
    pub(crate) fn ms(&self, step_ms: i64) -> i64 {
        match self {
            Self::Ms(ms) => *ms,
            other => (other.seconds(step_ms) * 1e3).round() as i64,
        }
    }

    fn seconds(&self, step_ms: i64) -> f64 {
        match self {
            Self::Ms(ms) => *ms as f64 / 1e3,
            Self::Step => step_ms as f64 / 1e3,
            Self::Negate(duration) => -duration.seconds(step_ms),
            Self::Binary(op, lhs, rhs) => {
                let (lhs, rhs) = (lhs.seconds(step_ms), rhs.seconds(step_ms));
                match op {
                    BinaryOp::Add => lhs + rhs,
                    BinaryOp::Sub => lhs - rhs,
                    BinaryOp::Mul => lhs * rhs,
                    BinaryOp::Div => lhs / rhs,
                    BinaryOp::Mod => lhs % rhs,
                    _ => lhs.powf(rhs),
                }
            }
            Self::Extreme { is_max, of } => {
                let (first, second) = (of.0.seconds(step_ms), of.1.seconds(step_ms));
                if *is_max { first.max(second) } else { first.min(second) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_known_before_anything_is_read() {
        let check = |query: &str, expect: &[(i64, i64)]| {
            let expr = crate::parse(query).expect(query);
            let plan = plan(query, &expr, &QueryParams::range(1_000_000, 2_000_000, 10_000));
            let windows: Vec<_> =
                plan.needs().iter().map(|need| (need.start_ms_exclusive, need.end_ms)).collect();
            assert_eq!(windows, expect, "{query}");
        };
        check("1 + 2", &[]);
        check("x", &[(700_000, 2_000_000)]);
        check("x offset 1m", &[(640_000, 1_940_000)]);
        check("x offset -1m", &[(760_000, 2_060_000)]);
        check("rate(x[2m]) / y", &[(880_000, 2_000_000), (700_000, 2_000_000)]);
        check("rate(x[2m] @ start())", &[(880_000, 1_000_000)]);
        check("x @ 5", &[(-295_000, 5_000)]);
        check("max_over_time(rate(x[1m])[10m:1m] offset 1m)", &[(280_000, 1_940_000)]);
        check("info(x)", &[(700_000, 2_000_000), (700_000, 2_000_000)]);
        check("rate(x[step()*2])", &[(980_000, 2_000_000)]);
    }

    #[test]
    fn what_looks_at_the_ends_of_the_range_is_not_stepwise() {
        let check = |query: &str, expect: bool| {
            let expr = crate::parse(query).expect(query);
            let plan = plan(query, &expr, &QueryParams::range(1_000_000, 2_000_000, 10_000));
            assert_eq!(plan.is_stepwise(), expect, "{query}");
        };
        check("sum by (job) (rate(x[5m] offset 1h)) / 2", true);
        check("topk(scalar(k), x @ 5)", true);
        check("max_over_time(x[10m:step()])", true);
        check("x - x @ start()", false);
        check("topk(scalar(k @ end()), x)", false);
        check("-(max_over_time(x[10m:1m] @ end()))", false);
        check("rate(x[5m] @ end())", false);
        check("sum(info(x))", false);
    }
}
