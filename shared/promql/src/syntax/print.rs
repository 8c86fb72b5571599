//! Expressions → canonical text.
//!
//! Source: Prometheus `promql/parser/printer.go`, `prettier.go`.

use std::fmt::{self, Write as _};

use model::labels::METRIC_NAME;

use super::ast::{Aggregate, At, Binary, Duration, Expr, ExprKind, Grouping, Selector, Subquery};

const WRITES: &str = "invariant: writing to a String does not fail";
/// Longer expressions are broken over lines by [`Expr::pretty`].
const MAX_LINE: usize = 100;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => f.write_str(&number_text(*number)),
            ExprKind::String(text) => f.write_str(&quoted(text)),
            ExprKind::Selector(selector) => {
                selector_text(f, selector)?;
                modifiers(f, selector.at, selector.offset.as_ref())
            }
            ExprKind::Matrix(selector, range) => {
                selector_text(f, selector)?;
                write!(f, "[{range}]")?;
                modifiers(f, selector.at, selector.offset.as_ref())
            }
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.expr, subquery_suffix(subquery)),
            ExprKind::Negate(expr) => write!(f, "-{expr}"),
            ExprKind::Plus(expr) => write!(f, "+{expr}"),
            ExprKind::Binary(binary) => {
                write!(f, "{} {} {}", binary.lhs, operator_text(binary), binary.rhs)
            }
            ExprKind::Aggregate(aggregate) => {
                f.write_str(&aggregate_head(aggregate))?;
                f.write_str("(")?;
                if let Some(parameter) = &aggregate.parameter {
                    write!(f, "{parameter}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (position, argument) in call.arguments.iter().enumerate() {
                    let separator = if position == 0 { "" } else { ", " };
                    write!(f, "{separator}{argument}")?;
                }
                f.write_str(")")
            }
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ms(ms) if *ms < 0 => write!(f, "-{}", duration_text(ms.unsigned_abs())),
            Self::Ms(ms) => f.write_str(&duration_text(ms.unsigned_abs())),
            Self::Step => f.write_str("step()"),
            Self::Negate(duration) => write!(f, "-{duration}"),
            Self::Binary(op, lhs, rhs) => write!(f, "({lhs} {} {rhs})", op.as_str()),
            Self::Extreme { is_max, of } => {
                write!(f, "{}({}, {})", if *is_max { "max" } else { "min" }, of.0, of.1)
            }
        }
    }
}

/// As Prometheus writes durations: the largest units first, days and more only if nothing is left over.
fn duration_text(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms;
    let units = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ];
    for (unit, size, must_be_exact) in units {
        if must_be_exact && !rest.is_multiple_of(size) {
            continue;
        }
        if rest >= size {
            write!(out, "{}{unit}", rest / size).expect("invariant: writing to a String does not fail");
            rest %= size;
        }
    }
    out
}

fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    number.to_string()
}

/// In double quotes, escaped as Go does.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            control if (control as u32) < 0x20 || control == '\u{7f}' => {
                write!(out, "\\x{:02x}", control as u32)
                    .expect("invariant: writing to a String does not fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn label_text(name: &str) -> String {
    if is_plain_name(name) { name.to_owned() } else { quoted(name) }
}

fn selector_text(f: &mut fmt::Formatter<'_>, selector: &Selector) -> fmt::Result {
    let mut parts = Vec::new();
    f.write_str(selector.name.as_deref().unwrap_or_default())?;
    for matcher in &selector.matchers {
        let is_name = matcher.name() == METRIC_NAME && selector.name.as_deref() == Some(matcher.value());
        if !is_name {
            parts.push(format!(
                "{}{}{}",
                label_text(matcher.name()),
                matcher.op().as_str(),
                quoted(matcher.value())
            ));
        }
    }
    parts.sort_unstable();
    if parts.is_empty() { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
}

fn modifiers(f: &mut impl fmt::Write, at: Option<At>, offset: Option<&Duration>) -> fmt::Result {
    match at {
        None => {}
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        Some(At::Ms(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)?;
        }
    }
    match offset {
        None | Some(Duration::Ms(0)) => Ok(()),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

fn subquery_suffix(subquery: &Subquery) -> String {
    let mut out = format!("[{}:", subquery.range);
    if let Some(step) = &subquery.step {
        out.push_str(&step.to_string());
    }
    out.push(']');
    modifiers(&mut out, subquery.at, subquery.offset.as_ref())
        .expect("invariant: writing to a String does not fail");
    out
}

fn operator_text(binary: &Binary) -> String {
    let mut out = binary.op.as_str().to_owned();
    if binary.returns_bool {
        out.push_str(" bool");
    }
    let matching = &binary.matching;
    if matching.is_on || !matching.labels.is_empty() {
        let labels = matching.labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ");
        out.push_str(if matching.is_on { " on (" } else { " ignoring (" });
        out.push_str(&labels);
        out.push(')');
    }
    let group = match matching.group {
        Grouping::OneToOne => None,
        Grouping::ManyToOne => Some(" group_left ("),
        Grouping::OneToMany => Some(" group_right ("),
    };
    if let Some(group) = group {
        out.push_str(group);
        out.push_str(&matching.include.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", "));
        out.push(')');
    }
    let (left, right) = (matching.fill_left, matching.fill_right);
    match (left, right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            write!(out, " fill ({})", number_text(left)).expect(WRITES);
        }
        _ => {
            for (keyword, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    write!(out, " {keyword} ({})", number_text(value)).expect(WRITES);
                }
            }
        }
    }
    out
}

fn aggregate_head(aggregate: &Aggregate) -> String {
    let mut out = aggregate.op.as_str().to_owned();
    let labels = aggregate.labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ");
    if aggregate.is_without {
        out.push_str(" without (");
    } else if !aggregate.labels.is_empty() {
        out.push_str(" by (");
    } else {
        return out;
    }
    out.push_str(&labels);
    out.push_str(") ");
    out
}

impl Expr {
    /// Canonical text, broken over lines where one would be longer than 100 characters.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.pretty_at(&mut out, 0);
        out
    }

    fn pretty_at(&self, out: &mut String, level: usize) {
        let indent = |out: &mut String, level: usize| out.extend(std::iter::repeat_n("  ", level));
        let line = self.to_string();
        if line.len() <= MAX_LINE {
            // As Prometheus has it.
            if !matches!(self.kind, ExprKind::Subquery(_)) {
                indent(out, level);
            }
            out.push_str(&line);
            return;
        }
        match &self.kind {
            ExprKind::Paren(expr) => {
                indent(out, level);
                out.push_str("(\n");
                expr.pretty_at(out, level + 1);
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            ExprKind::Binary(binary) => {
                binary.lhs.pretty_at(out, level + 1);
                out.push('\n');
                indent(out, level);
                out.push_str(&operator_text(binary));
                out.push('\n');
                binary.rhs.pretty_at(out, level + 1);
            }
            ExprKind::Aggregate(aggregate) => {
                indent(out, level);
                out.push_str(&aggregate_head(aggregate));
                out.push_str("(\n");
                if let Some(parameter) = &aggregate.parameter {
                    parameter.pretty_at(out, level + 1);
                    out.push_str(",\n");
                }
                aggregate.expr.pretty_at(out, level + 1);
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            ExprKind::Call(call) => {
                indent(out, level);
                out.push_str(call.function.name);
                out.push_str("(\n");
                for (position, argument) in call.arguments.iter().enumerate() {
                    if position > 0 {
                        out.push_str(",\n");
                    }
                    argument.pretty_at(out, level + 1);
                }
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            ExprKind::Negate(inner) | ExprKind::Plus(inner) => {
                indent(out, level);
                out.push(if matches!(self.kind, ExprKind::Plus(_)) { '+' } else { '-' });
                let mut text = String::new();
                inner.pretty_at(&mut text, level);
                out.push_str(text.trim_start());
            }
            ExprKind::Subquery(subquery) => {
                subquery.expr.pretty_at(out, level);
                out.push_str(&subquery_suffix(subquery));
            }
            _ => {
                indent(out, level);
                out.push_str(&line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn canonical_text_is_parsed_to_itself() {
        let check = |query: &str, expect: &str| {
            let expr = parse(query).unwrap_or_else(|err| panic!("{query}: {err}"));
            assert_eq!(expr.to_string(), expect, "{query}");
            assert_eq!(parse(expect).expect("own text").to_string(), expect);
        };
        check("1 +2", "1 + 2");
        check("-x^2", "-x ^ 2");
        check("Sum(rate(x[5m]))BY(a,b)", "sum by (a, b) (rate(x[5m]))");
        check("sum without() (x)", "sum without () (x)");
        check("topk(3,x)", "topk(3, x)");
        check("x{a='b',c!~\"d.*\"}", r#"x{a="b",c!~"d.*"}"#);
        check(r#"{"a.b", c="d"}"#, r#"{__name__="a.b",c="d"}"#);
        check("x{b='1',a='2'}", r#"x{a="2",b="1"}"#);
        check("+x - -(+1)", "+x - -(1)");
        check(r#"{__name__=~"x.*"}"#, r#"{__name__=~"x.*"}"#);
        check("x offset 90s @ 10.5", "x @ 10.500 offset 1m30s");
        check("x[1d] offset -1w", "x[1d] offset -1w");
        check("rate(x[5m])[1h:] @ start()", "rate(x[5m])[1h:] @ start()");
        check("a * on(x) group_left(y) b", "a * on (x) group_left (y) b");
        check("a == bool ignoring(x) b", "a == bool ignoring (x) b");
        check("a and on() b", "a and on () b");
        check("(a)", "(a)");
        check("\"a\\\"b\"", r#""a\"b""#);
        check("Inf", "+Inf");
        check("x[step()+1m]", "x[(step() + 1m)]");
        check("label_replace(x, 'a', '$1', 'b', '(.*)')", r#"label_replace(x, "a", "$1", "b", "(.*)")"#);
    }

    #[test]
    fn errors_say_where() {
        let check = |query: &str, expect: &str| {
            let error = parse(query).expect_err(query).to_string();
            assert_eq!(error, expect, "{query}");
        };
        check("", "unknown position: parse error: no expression found in input");
        check("sum(", "1:5: parse error: unclosed left parenthesis");
        check("foo bar", "1:5: parse error: unexpected identifier \"bar\"");
        check("foo(x)", "1:1: parse error: unknown function with name \"foo\"");
        check(
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        );
        check("1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
        check("x and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
        check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
        check("abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0");
        check(
            "x[5m] + 1",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        );
        check("x @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
        check("x\n+\n)", "3:2: parse error: unexpected right parenthesis ')'");
    }

    #[test]
    fn fill_modifiers_are_printed_as_they_are_read() {
        for (query, expect) in [
            ("a+fill(0)b", "a + fill (0) b"),
            ("a + fill_left(-1) fill_right(2.5) b", "a + fill_left (-1) fill_right (2.5) b"),
            ("a*on(x)group_left(w)fill_right(Inf)b", "a * on (x) group_left (w) fill_right (+Inf) b"),
            ("fill + fill_left", "fill + fill_left"),
        ] {
            let printed = parse(query).expect(query).to_string();
            assert_eq!(printed, expect);
            assert_eq!(parse(&printed).expect(&printed).to_string(), printed);
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(parse(&deep).expect_err("too deep").message.contains("nested"));
        let long = format!("1{}", "+1".repeat(100_000));
        assert!(parse(&long).is_err());
        assert!(parse(&"-".repeat(100_000)).is_err());
    }

    #[test]
    fn long_expressions_are_broken_over_lines() {
        let query = "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))";
        let pretty = parse(query).expect("valid").pretty();
        assert_eq!(
            pretty,
            "  sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m]))\n/\n  sum by (job) (rate(http_requests_total[5m]))"
        );
    }
}
