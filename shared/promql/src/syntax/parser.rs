//! Tokens → expressions: recursive descent, operators by precedence.

use std::ops::Range;

use model::labels::METRIC_NAME;
use model::{MatchOp, Matcher};

use super::ParseError;
use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Duration, Expr, ExprKind, Grouping, Matching,
    Selector, Span, Subquery, ValueType,
};
use super::functions;
use super::lexer::{Token, tokens};

/// The deepest nesting: a hostile query ends with an error, not with the stack.
const MAX_DEPTH: usize = 100;

type Result<T> = std::result::Result<T, ParseError>;

pub(super) fn parse(query: &str) -> Result<Expr> {
    let mut parser = Parser::new(query)?;
    if parser.peek() == &Token::End {
        return Err(ParseError::new(0..0, "no expression found in input"));
    }
    let expr = parser.expression(0)?;
    parser.expect_end()?;
    Ok(expr)
}

pub(super) fn parse_selector(text: &str) -> Result<Vec<Matcher>> {
    let mut parser = Parser::new(text)?;
    let name = match parser.peek() {
        Token::Word => Some(parser.word().0),
        _ => None,
    };
    let selector = parser.selector(name)?;
    parser.expect_end()?;
    Ok(selector.matchers)
}

struct Parser<'q> {
    query: &'q str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    n_selectors: usize,
    /// Whether the next selector may be one that selects nothing in particular.
    allows_empty: bool,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str) -> Result<Self> {
        Ok(Self { query, tokens: tokens(query)?, at: 0, depth: 0, n_selectors: 0, allows_empty: false })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at].1.clone()
    }

    /// End of the token before.
    fn last_end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |at| self.tokens[at].1.end)
    }

    fn advance(&mut self) -> (Token, Span) {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn text(&self, span: &Range<usize>) -> &'q str {
        &self.query[span.clone()]
    }

    /// The word that comes next, which there is.
    fn word(&mut self) -> (&'q str, Span) {
        let (_, span) = self.advance();
        (self.text(&span), span)
    }

    /// Whether the next token is this sign.
    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(other) if *other == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        if is {
            self.advance();
        }
        is
    }

    /// Whether the next token is this keyword, in any case.
    fn is_keyword(&self, keyword: &str) -> bool {
        self.peek() == &Token::Word && self.text(&self.span()).eq_ignore_ascii_case(keyword)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is = self.is_keyword(keyword);
        if is {
            self.advance();
        }
        is
    }

    fn expect(&mut self, sign: &'static str, context: &str) -> Result<()> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(context, &format!("{sign:?}"))) }
    }

    fn expect_end(&self) -> Result<()> {
        if self.peek() == &Token::End { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    /// The error that the next token should not be there.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let span = self.span();
        let text = self.text(&span);
        let what = match self.peek() {
            Token::End => "end of input".to_owned(),
            Token::Word if is_keyword(text) => format!("<{}>", text.to_ascii_lowercase()),
            Token::Word => format!("identifier {text:?}"),
            Token::Number(_) => format!("number {text:?}"),
            Token::Duration(_) => format!("number/duration {text:?}"),
            Token::Text(_) => format!("string {text:?}"),
            Token::Sign(sign) => match *sign {
                "(" => "left parenthesis".to_owned(),
                "," => "\",\"".to_owned(),
                "=" => "\"=\"".to_owned(),
                ")" | "}" | "]" | "{" | "[" | ":" => format!("{sign:?}"),
                operator => format!("<op:{operator}>"),
            },
        };
        let mut message = format!("unexpected {what}");
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::new(span, message)
    }

    fn expression(&mut self, least_precedence: u8) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::new(
                self.span(),
                format!("expression is nested deeper than {MAX_DEPTH}"),
            ));
        }
        let expr = self.operators(least_precedence);
        self.depth -= 1;
        expr
    }

    fn operators(&mut self, least_precedence: u8) -> Result<Expr> {
        let start = self.span().start;
        let mut lhs = self.unary()?;
        let mut n_operators = 0;
        while let Some(op) = self.binary_operator() {
            let precedence = op.precedence();
            if precedence < least_precedence {
                break;
            }
            n_operators += 1;
            if n_operators > MAX_DEPTH * 10 {
                return Err(ParseError::new(self.span(), "expression has too many operators"));
            }
            let (_, op_span) = self.advance();
            let returns_bool = self.take_keyword("bool");
            let (matching, has_matching) = self.matching()?;
            // `^` binds to the right, all others to the left.
            let rhs = self.expression(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            let span = start..self.last_end();
            let mut binary = Binary { op, lhs, rhs, returns_bool, matching };
            check_binary(&binary, has_matching, &span, &op_span)?;
            if [&binary.lhs, &binary.rhs].iter().any(|side| side.value_type() == ValueType::Scalar) {
                // `on ()` says nothing where one side is a number.
                binary.matching = Matching::default();
            }
            lhs = Expr { kind: ExprKind::Binary(Box::new(binary)), span };
        }
        Ok(lhs)
    }

    fn binary_operator(&self) -> Option<BinaryOp> {
        use BinaryOp as Op;
        match self.peek() {
            Token::Sign(sign) => Some(match *sign {
                "+" => Op::Add,
                "-" => Op::Sub,
                "*" => Op::Mul,
                "/" => Op::Div,
                "%" => Op::Mod,
                "^" => Op::Pow,
                "==" => Op::Equal,
                "!=" => Op::NotEqual,
                "<" => Op::Less,
                "<=" => Op::LessOrEqual,
                ">" => Op::Greater,
                ">=" => Op::GreaterOrEqual,
                _ => return None,
            }),
            Token::Word => {
                let keywords =
                    [("and", Op::And), ("or", Op::Or), ("unless", Op::Unless), ("atan2", Op::Atan2)];
                keywords.into_iter().find(|(keyword, _)| self.is_keyword(keyword)).map(|(_, op)| op)
            }
            _ => None,
        }
    }

    /// `on (…) group_left (…) fill (…)` and its like; whether labels are named at all.
    fn matching(&mut self) -> Result<(Matching, bool)> {
        let mut matching = Matching { is_on: self.is_keyword("on"), ..Matching::default() };
        let has_labels = matching.is_on || self.is_keyword("ignoring");
        if has_labels {
            self.advance();
            matching.labels = self.label_list()?;
            for (keyword, group) in
                [("group_left", Grouping::ManyToOne), ("group_right", Grouping::OneToMany)]
            {
                if self.take_keyword(keyword) {
                    matching.group = group;
                    if self.is("(") {
                        matching.include = self.label_list()?;
                    }
                    break;
                }
            }
        }
        while let Some((left, right)) = self.fill()? {
            matching.fill_left = left.or(matching.fill_left);
            matching.fill_right = right.or(matching.fill_right);
        }
        Ok((matching, has_labels))
    }

    /// `fill (0)`, `fill_left (0)` or `fill_right (0)`, if one of them comes next: the values of the two sides. They are
    /// names of metrics where no parenthesis follows.
    fn fill(&mut self) -> Result<Option<(Option<f64>, Option<f64>)>> {
        let sides = [("fill", (true, true)), ("fill_left", (true, false)), ("fill_right", (false, true))];
        let Some((_, (left, right))) = sides.into_iter().find(|(keyword, _)| self.is_keyword(keyword)) else {
            return Ok(None);
        };
        if !matches!(self.tokens.get(self.at + 1), Some((Token::Sign("("), _))) {
            return Ok(None);
        }
        self.advance();
        self.expect("(", "fill modifier")?;
        let sign = if self.take("-") { -1.0 } else { 1.0 };
        if sign > 0.0 {
            self.take("+");
        }
        let number = match self.peek().clone() {
            Token::Number(number) => number,
            Token::Duration(ms) => ms as f64 / 1e3,
            Token::Word if self.is_keyword("inf") => f64::INFINITY,
            Token::Word if self.is_keyword("nan") => f64::NAN,
            _ => return Err(self.unexpected("fill modifier", "number")),
        };
        self.advance();
        self.expect(")", "fill modifier")?;
        let value = sign * number;
        Ok(Some((left.then_some(value), right.then_some(value))))
    }

    /// `(a, b)`.
    fn label_list(&mut self) -> Result<Vec<String>> {
        self.expect("(", "grouping opts")?;
        let mut labels = Vec::new();
        while !self.take(")") {
            let label = match self.peek().clone() {
                Token::Word => self.word().0.to_owned(),
                Token::Text(text) => {
                    self.advance();
                    text
                }
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            if label.contains(':') {
                return Err(ParseError::new(
                    self.span(),
                    format!("invalid label name for grouping: {label:?}"),
                ));
            }
            labels.push(label);
            if !self.take(",") && !self.is(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn unary(&mut self) -> Result<Expr> {
        let start = self.span().start;
        let is_negative = self.is("-");
        if !is_negative && !self.is("+") {
            return self.postfix();
        }
        self.advance();
        // Binds less tightly than `^`, more than `*`.
        let expr = self.expression(6)?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::InstantVector) {
            let found = expr.value_type().documented();
            let problem = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {found:?}"
            );
            return Err(ParseError::new(start..self.last_end(), problem));
        }
        let span = start..self.last_end();
        Ok(match expr.kind {
            ExprKind::Number(number) if is_negative => Expr { kind: ExprKind::Number(-number), span },
            ExprKind::Number(_) => Expr { span, ..expr },
            _ if !is_negative => Expr { kind: ExprKind::Plus(Box::new(expr)), span },
            _ => Expr { kind: ExprKind::Negate(Box::new(expr)), span },
        })
    }

    /// A simple expression with what may stand behind it: ranges, offsets, `@`.
    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.simple()?;
        loop {
            if self.is("[") {
                expr = self.brackets(expr)?;
            } else if self.is_keyword("offset") {
                self.advance();
                let offset = self.signed_duration()?;
                let span = expr.span.start..self.last_end();
                let place = offset_of(&mut expr).ok_or_else(|| {
                    ParseError::new(
                        span.clone(),
                        "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                    )
                })?;
                if place.replace(offset).is_some() {
                    return Err(ParseError::new(span, "offset may not be set multiple times"));
                }
                expr.span = span;
            } else if self.take("@") {
                let at = self.at_time()?;
                let span = expr.span.start..self.last_end();
                let place = at_of(&mut expr).ok_or_else(|| {
                    ParseError::new(
                        span.clone(),
                        "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                    )
                })?;
                if place.replace(at).is_some() {
                    return Err(ParseError::new(span, "@ <timestamp> may not be set multiple times"));
                }
                expr.span = span;
            } else {
                return Ok(expr);
            }
        }
    }

    /// `[5m]` or `[1h:1m]` behind `expr`.
    fn brackets(&mut self, expr: Expr) -> Result<Expr> {
        let (_, bracket) = self.advance();
        let range_span = self.span();
        let range = self.duration_expression(0)?;
        if matches!(range, Duration::Ms(ms) if ms <= 0) {
            return Err(ParseError::new(range_span, "duration must be greater than 0"));
        }
        let start = expr.span.start;
        if self.take("]") {
            let span = start..self.last_end();
            return match expr.kind {
                ExprKind::Selector(selector) if selector.offset.is_some() => {
                    Err(ParseError::new(span, "no offset modifiers allowed before range"))
                }
                ExprKind::Selector(selector) if selector.at.is_some() => {
                    Err(ParseError::new(span, "no @ modifiers allowed before range"))
                }
                ExprKind::Selector(selector) => Ok(Expr { kind: ExprKind::Matrix(selector, range), span }),
                _ => Err(ParseError::new(bracket, "ranges only allowed for vector selectors")),
            };
        }
        self.expect(":", "subquery or range")?;
        let step_span = self.span();
        let step = if self.is("]") { None } else { Some(self.duration_expression(0)?) };
        if matches!(step, Some(Duration::Ms(ms)) if ms <= 0) {
            return Err(ParseError::new(step_span, "duration must be greater than 0"));
        }
        self.expect("]", "subquery or range")?;
        let span = start..self.last_end();
        if expr.value_type() != ValueType::InstantVector {
            let found = expr.value_type().documented();
            let problem = format!("subquery is only allowed on instant vector, got {found} instead");
            return Err(ParseError::new(span, problem));
        }
        let subquery = Subquery { expr, range, step, offset: None, at: None };
        Ok(Expr { kind: ExprKind::Subquery(Box::new(subquery)), span })
    }

    /// A duration that may have a sign: of `offset`.
    fn signed_duration(&mut self) -> Result<Duration> {
        if self.take("-") {
            let duration = self.duration_operand()?;
            return Ok(match duration {
                Duration::Ms(ms) => Duration::Ms(-ms),
                other => Duration::Negate(Box::new(other)),
            });
        }
        self.take("+");
        self.duration_operand()
    }

    fn duration_expression(&mut self, least_precedence: u8) -> Result<Duration> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::new(
                self.span(),
                format!("expression is nested deeper than {MAX_DEPTH}"),
            ));
        }
        let mut lhs = self.signed_duration()?;
        while let Some(op) = self.binary_operator() {
            let precedence = op.precedence();
            let is_arithmetic = precedence >= BinaryOp::Add.precedence() && op != BinaryOp::Atan2;
            if !is_arithmetic || precedence < least_precedence {
                break;
            }
            self.advance();
            let rhs =
                self.duration_expression(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            lhs = Duration::Binary(op, Box::new(lhs), Box::new(rhs));
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn duration_operand(&mut self) -> Result<Duration> {
        match self.peek().clone() {
            Token::Duration(ms) => {
                self.advance();
                Ok(Duration::Ms(ms))
            }
            Token::Number(seconds) => {
                let span = self.span();
                self.advance();
                let ms = (seconds * 1e3).round();
                if ms.abs() < i64::MAX as f64 {
                    Ok(Duration::Ms(ms as i64))
                } else {
                    Err(ParseError::new(span, "duration out of range"))
                }
            }
            Token::Sign("(") => {
                self.advance();
                let duration = self.duration_expression(0)?;
                self.expect(")", "duration expression")?;
                Ok(duration)
            }
            Token::Word if self.is_keyword("step") => {
                self.advance();
                self.expect("(", "duration expression")?;
                self.expect(")", "duration expression")?;
                Ok(Duration::Step)
            }
            Token::Word if self.is_keyword("min") || self.is_keyword("max") => {
                let is_max = self.is_keyword("max");
                self.advance();
                self.expect("(", "duration expression")?;
                let first = self.duration_expression(0)?;
                self.expect(",", "duration expression")?;
                let second = self.duration_expression(0)?;
                self.expect(")", "duration expression")?;
                Ok(Duration::Extreme { is_max, of: Box::new((first, second)) })
            }
            _ => Err(self.unexpected("", "number, duration, or step()")),
        }
    }

    fn at_time(&mut self) -> Result<At> {
        for (keyword, at) in [("start", At::Start), ("end", At::End)] {
            if self.take_keyword(keyword) {
                if !self.take("(") {
                    return Err(self.unexpected("@", "timestamp"));
                }
                self.expect(")", "@")?;
                return Ok(at);
            }
        }
        let start = self.span().start;
        let sign = if self.take("-") { -1.0 } else { 1.0 };
        if sign > 0.0 {
            self.take("+");
        }
        let seconds = match self.peek().clone() {
            Token::Number(number) => number,
            Token::Duration(ms) => ms as f64 / 1e3,
            Token::Word if self.is_keyword("inf") => f64::INFINITY,
            Token::Word if self.is_keyword("nan") => f64::NAN,
            _ => return Err(self.unexpected("@", "timestamp")),
        };
        self.advance();
        let ms = (sign * seconds * 1e3).round();
        if ms.is_finite() && ms.abs() < 9e18 {
            Ok(At::Ms(ms as i64))
        } else {
            let span = start..self.last_end();
            let text = self.text(&span).to_owned();
            Err(ParseError::new(span, format!("timestamp out of bounds for @ modifier: {text}")))
        }
    }

    fn simple(&mut self) -> Result<Expr> {
        let start = self.span().start;
        match self.peek().clone() {
            Token::Number(number) => {
                self.advance();
                Ok(Expr { kind: ExprKind::Number(number), span: start..self.last_end() })
            }
            Token::Duration(ms) => {
                self.advance();
                Ok(Expr { kind: ExprKind::Number(ms as f64 / 1e3), span: start..self.last_end() })
            }
            Token::Text(text) => {
                self.advance();
                Ok(Expr { kind: ExprKind::String(text), span: start..self.last_end() })
            }
            Token::Sign("(") => {
                self.advance();
                let expr = self.expression(0)?;
                self.expect(")", "paren expression")?;
                Ok(Expr { kind: ExprKind::Paren(Box::new(expr)), span: start..self.last_end() })
            }
            Token::Sign("{") => {
                let selector = self.selector(None)?;
                let span = selector.span.clone();
                Ok(Expr { kind: ExprKind::Selector(selector), span })
            }
            Token::Word if !is_reserved(self.text(&self.span())) => self.named(),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// What begins with a word: a number, an aggregation, a call, or a selector.
    fn named(&mut self) -> Result<Expr> {
        let (word, span) = self.word();
        let start = span.start;
        let lower = word.to_ascii_lowercase();
        let next_is_list = self.is("(");
        let opens = next_is_list || self.is_keyword("by") || self.is_keyword("without");
        if let Some(&(_, op)) = AggregateOp::ALL.iter().find(|(name, _)| *name == lower)
            && opens
        {
            return self.aggregate(op, start);
        }
        if next_is_list && !is_keyword(word) {
            let function = functions::find(word)
                .ok_or_else(|| ParseError::new(span, format!("unknown function with name {word:?}")))?;
            return self.call(function, start);
        }
        match lower.as_str() {
            "inf" if !self.is("{") => return Ok(Expr { kind: ExprKind::Number(f64::INFINITY), span }),
            "nan" if !self.is("{") => return Ok(Expr { kind: ExprKind::Number(f64::NAN), span }),
            _ => {}
        }
        let selector = self.selector(Some(word))?;
        let span = start..self.last_end();
        Ok(Expr { kind: ExprKind::Selector(Selector { span: span.clone(), ..selector }), span })
    }

    /// What stands in parentheses behind a function. The second argument of `info` is a selector that need not select.
    fn arguments(&mut self, is_info: bool) -> Result<Vec<Expr>> {
        self.expect("(", "function call")?;
        let mut arguments = Vec::new();
        while !self.take(")") {
            self.allows_empty = is_info && arguments.len() == 1 && self.is("{");
            arguments.push(self.expression(0)?);
            if !self.take(",") && !self.is(")") {
                return Err(self.unexpected("", ""));
            }
            if self.is(")") && matches!(self.tokens[self.at - 1].0, Token::Sign(",")) {
                let comma = self.tokens[self.at - 1].1.clone();
                return Err(ParseError::new(comma, "trailing commas not allowed in function call args"));
            }
        }
        Ok(arguments)
    }

    fn aggregate(&mut self, op: AggregateOp, start: usize) -> Result<Expr> {
        let mut grouping = self.grouping()?;
        if !self.is("(") {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut arguments = self.arguments(false)?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let span = start..self.last_end();
        let n_expected = 1 + usize::from(op.parameter().is_some());
        if arguments.is_empty() {
            return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
        }
        if arguments.len() != n_expected {
            let problem = format!(
                "wrong number of arguments for aggregate expression provided, expected {n_expected}, got {}",
                arguments.len()
            );
            return Err(ParseError::new(span, problem));
        }
        let expr = arguments.pop().expect("invariant: as many as expected");
        let parameter = arguments.pop();
        expect_type(&expr, ValueType::InstantVector, "aggregation expression")?;
        if let (Some(parameter), Some(expected)) = (&parameter, op.parameter()) {
            expect_type(parameter, expected, "aggregation parameter")?;
        }
        let (is_without, labels) = grouping.unwrap_or_default();
        let aggregate = Aggregate { op, expr, parameter, is_without, labels };
        Ok(Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span })
    }

    /// `by (…)` or `without (…)`: whether it is the latter, and the labels.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>> {
        let is_without = self.is_keyword("without");
        if !is_without && !self.is_keyword("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some((is_without, self.label_list()?)))
    }

    fn call(&mut self, function: &'static functions::Function, start: usize) -> Result<Expr> {
        let arguments = self.arguments(function.name == "info")?;
        let span = start..self.last_end();
        let n_most = function.arguments.len();
        let n = arguments.len();
        let name = function.name;
        let problem = match function.n_optional {
            Some(0) if n != n_most => {
                Some(format!("expected {n_most} argument(s) in call to {name:?}, got {n}"))
            }
            Some(n_optional) if n + n_optional < n_most => Some(format!(
                "expected at least {} argument(s) in call to {name:?}, got {n}",
                n_most - n_optional
            )),
            Some(_) if n > n_most => {
                Some(format!("expected at most {n_most} argument(s) in call to {name:?}, got {n}"))
            }
            None if n + 1 < n_most => {
                Some(format!("expected at least {} argument(s) in call to {name:?}, got {n}", n_most - 1))
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(ParseError::new(span, problem));
        }
        for (position, argument) in arguments.iter().enumerate() {
            let expected = function.arguments[position.min(n_most - 1)];
            expect_type(argument, expected, &format!("call to function {name:?}"))?;
        }
        if name == "info"
            && let Some(argument) = arguments.get(1)
        {
            let problem = match &argument.kind {
                ExprKind::Selector(selector) if selector.name.is_none() => None,
                ExprKind::Selector(_) => Some(", got vector selector instead"),
                _ => Some(""),
            };
            if let Some(problem) = problem {
                let problem = format!("expected label selectors only{problem}");
                return Err(ParseError::new(argument.span.clone(), problem));
            }
        }
        Ok(Expr { kind: ExprKind::Call(Call { function, arguments }), span })
    }

    /// The braces behind a name, or without one.
    fn selector(&mut self, name: Option<&str>) -> Result<Selector> {
        let allows_empty = std::mem::take(&mut self.allows_empty);
        let start = name.map_or_else(|| self.span().start, |_| self.tokens[self.at - 1].1.start);
        let mut matchers = Vec::new();
        let mut twice = None;
        if self.take("{") {
            while !self.take("}") {
                let label_span = self.span();
                let label = match self.peek().clone() {
                    Token::Word => self.word().0.to_owned(),
                    Token::Text(text) => {
                        self.advance();
                        if self.is(",") || self.is("}") {
                            if let Some(name) = name {
                                twice = twice.or_else(|| Some(format!("{name:?} or {text:?}")));
                            }
                            matchers.push(equal_name(&text));
                            if !self.take(",") && !self.is("}") {
                                return Err(self.unexpected("label matching", ""));
                            }
                            continue;
                        }
                        text
                    }
                    _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
                };
                let op = match self.peek() {
                    Token::Sign("=") => MatchOp::Equal,
                    Token::Sign("!=") => MatchOp::NotEqual,
                    Token::Sign("=~") => MatchOp::Regex,
                    Token::Sign("!~") => MatchOp::NotRegex,
                    _ => return Err(self.unexpected("label matching", "label matching operator")),
                };
                self.advance();
                let Token::Text(value) = self.peek().clone() else {
                    return Err(self.unexpected("label matching", "string"));
                };
                self.advance();
                if let Some(name) = name
                    && label == METRIC_NAME
                {
                    twice = twice.or_else(|| Some(format!("{name:?} or {value:?}")));
                }
                let matcher = Matcher::new(&label, op, &value).map_err(|err| {
                    ParseError::new(label_span, format!("error parsing regexp: {}", err.reason()))
                })?;
                matchers.push(matcher);
                if !self.take(",") && !self.is("}") {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        } else if name.is_none() {
            return Err(self.unexpected("", ""));
        }
        matchers.extend(name.map(equal_name));
        let span = start..self.last_end();
        if let Some(names) = twice {
            return Err(ParseError::new(span, format!("metric name must not be set twice: {names}")));
        }
        if !allows_empty && matchers.iter().all(Matcher::matches_empty) {
            let problem = "vector selector must contain at least one non-empty matcher";
            return Err(ParseError::new(span, problem));
        }
        let number = self.n_selectors;
        self.n_selectors += 1;
        Ok(Selector { matchers, name: name.map(str::to_owned), offset: None, at: None, number, span })
    }
}

fn equal_name(name: &str) -> Matcher {
    Matcher::new(METRIC_NAME, MatchOp::Equal, name).expect("invariant: only a pattern can be invalid")
}

/// Words that cannot name a metric.
fn is_reserved(word: &str) -> bool {
    let reserved = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];
    reserved.iter().any(|other| word.eq_ignore_ascii_case(other))
}

/// Words that cannot name a function.
fn is_keyword(word: &str) -> bool {
    is_operator_word(&word.to_ascii_lowercase())
}

fn is_operator_word(lower: &str) -> bool {
    matches!(
        lower,
        "and"
            | "or"
            | "unless"
            | "atan2"
            | "bool"
            | "on"
            | "ignoring"
            | "group_left"
            | "group_right"
            | "by"
            | "without"
            | "offset"
    )
}

fn offset_of(expr: &mut Expr) -> Option<&mut Option<Duration>> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => Some(&mut selector.offset),
        ExprKind::Subquery(subquery) => Some(&mut subquery.offset),
        _ => None,
    }
}

fn at_of(expr: &mut Expr) -> Option<&mut Option<At>> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => Some(&mut selector.at),
        ExprKind::Subquery(subquery) => Some(&mut subquery.at),
        _ => None,
    }
}

fn expect_type(expr: &Expr, expected: ValueType, context: &str) -> Result<()> {
    let found = expr.value_type();
    if found == expected {
        return Ok(());
    }
    let problem = format!("expected type {} in {context}, got {}", expected.documented(), found.documented());
    Err(ParseError::new(expr.span.clone(), problem))
}

fn check_binary(binary: &Binary, has_matching: bool, span: &Span, op_span: &Span) -> Result<()> {
    let op = binary.op;
    let types = [binary.lhs.value_type(), binary.rhs.value_type()];
    if types.iter().any(|side| !matches!(side, ValueType::Scalar | ValueType::InstantVector)) {
        let side = if matches!(types[0], ValueType::Scalar | ValueType::InstantVector) {
            &binary.rhs
        } else {
            &binary.lhs
        };
        let problem = "binary expression must contain only scalar and instant vector types";
        return Err(ParseError::new(side.span.clone(), problem));
    }
    let is_of_vectors = types == [ValueType::InstantVector; 2];
    if binary.returns_bool && !op.is_comparison() {
        return Err(ParseError::new(
            op_span.clone(),
            "bool modifier can only be used on comparison operators",
        ));
    }
    if op.is_comparison() && !binary.returns_bool && types == [ValueType::Scalar; 2] {
        return Err(ParseError::new(op_span.clone(), "comparisons between scalars must use BOOL modifier"));
    }
    if op.is_set() && !is_of_vectors {
        let problem = format!("set operator {:?} not allowed in binary scalar expression", op.as_str());
        return Err(ParseError::new(span.clone(), problem));
    }
    if binary.matching.fill_left.is_some() || binary.matching.fill_right.is_some() {
        let problem = if op.is_set() {
            "filling in missing series not allowed for set operators"
        } else {
            "filling in missing series only allowed between instant vectors"
        };
        if op.is_set() || !is_of_vectors {
            return Err(ParseError::new(span.clone(), problem));
        }
    }
    if !has_matching {
        return Ok(());
    }
    if !is_of_vectors && !binary.matching.labels.is_empty() {
        return Err(ParseError::new(span.clone(), "vector matching only allowed between instant vectors"));
    }
    if op.is_set() && binary.matching.group != Grouping::OneToOne {
        let problem = format!("no grouping allowed for {:?} operation", op.as_str());
        return Err(ParseError::new(span.clone(), problem));
    }
    if binary.matching.is_on
        && let Some(label) =
            binary.matching.labels.iter().find(|label| binary.matching.include.contains(label))
    {
        let problem = format!("label {label:?} must not occur in ON and GROUP clause at once");
        return Err(ParseError::new(op_span.clone(), problem));
    }
    Ok(())
}
