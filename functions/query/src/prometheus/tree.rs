//! Expressions as trees in JSON.
//!
//! Source: Prometheus `web/api/v1/translate_ast.go`. Durations are milliseconds; those that depend on the step are 0.

use model::Matcher;
use promql::Expr;
use promql::syntax::ast::{
    Aggregate, At, Binary, Call, Duration, ExprKind, Grouping, Selector, Subquery, ValueType,
};
use serde_json::{Value, json};

/// The tree of `expr`.
pub(super) fn of(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({"type": "numberLiteral", "val": number_text(*number)}),
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Selector(selector) => of_selector("vectorSelector", selector),
        ExprKind::Matrix(selector, range) => {
            let mut tree = of_selector("matrixSelector", selector);
            tree["range"] = json!(milliseconds(Some(range)));
            tree
        }
        ExprKind::Subquery(subquery) => of_subquery(subquery),
        ExprKind::Negate(inner) => json!({"type": "unaryExpr", "op": "-", "expr": of(inner)}),
        ExprKind::Plus(inner) => json!({"type": "unaryExpr", "op": "+", "expr": of(inner)}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": of(inner)}),
        ExprKind::Binary(binary) => of_binary(binary),
        ExprKind::Aggregate(aggregate) => of_aggregate(aggregate),
        ExprKind::Call(call) => of_call(call),
    }
}

fn of_selector(kind: &str, selector: &Selector) -> Value {
    let (timestamp, start_or_end) = fixed_time(selector.at);
    json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": milliseconds(selector.offset.as_ref()),
        "matchers": selector.matchers.iter().map(of_matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
    })
}

fn of_matcher(matcher: &Matcher) -> Value {
    json!({"name": matcher.name(), "type": matcher.op().as_str(), "value": matcher.value()})
}

fn of_subquery(subquery: &Subquery) -> Value {
    let (timestamp, start_or_end) = fixed_time(subquery.at);
    json!({
        "type": "subquery",
        "expr": of(&subquery.expr),
        "range": milliseconds(Some(&subquery.range)),
        "offset": milliseconds(subquery.offset.as_ref()),
        "step": milliseconds(subquery.step.as_ref()),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
    })
}

fn of_binary(binary: &Binary) -> Value {
    let is_scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
    let matching = &binary.matching;
    let card = match matching.group {
        _ if binary.op.is_set() => "many-to-many",
        Grouping::OneToOne => "one-to-one",
        Grouping::ManyToOne => "many-to-one",
        Grouping::OneToMany => "one-to-many",
    };
    let matching = (!is_scalar(&binary.lhs) && !is_scalar(&binary.rhs)).then(|| {
        let mut shown = json!({
            "card": card, "labels": matching.labels, "on": matching.is_on, "include": matching.include,
        });
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            let number = |value: Option<f64>| value.map(|value| value.to_string());
            shown["fillValues"] =
                json!({"lhs": number(matching.fill_left), "rhs": number(matching.fill_right)});
        }
        shown
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": of(&binary.lhs),
        "rhs": of(&binary.rhs),
        "matching": matching,
        "bool": binary.returns_bool,
    })
}

fn of_aggregate(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.as_str(),
        "expr": of(&aggregate.expr),
        "param": aggregate.parameter.as_ref().map(of),
        "grouping": aggregate.labels,
        "without": aggregate.is_without,
    })
}

fn of_call(call: &Call) -> Value {
    let function = call.function;
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": function.arguments.iter().map(|&kind| type_name(kind)).collect::<Vec<_>>(),
            "variadic": function.n_optional.map_or(-1, |n| n as i64),
            "returnType": type_name(function.returns),
        },
        "args": call.arguments.iter().map(of).collect::<Vec<_>>(),
    })
}

fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}

fn fixed_time(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::Ms(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

fn milliseconds(duration: Option<&Duration>) -> i64 {
    match duration {
        Some(Duration::Ms(ms)) => *ms,
        _ => 0,
    }
}

/// As Go writes a number without an exponent.
fn number_text(number: f64) -> String {
    if number.is_infinite() {
        (if number > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        number.to_string()
    }
}
