//! Text → expressions, checked for types; expressions → text.
//!
//! - [`ast`]: expressions. [`functions`]: the functions with their types.
//! - `lexer`, `parser`: from text. `print`: canonical text.
//!
//! Source: Prometheus `promql/parser`, version 3.5, with the experimental functions switched on.

pub mod ast;
pub mod functions;
mod lexer;
mod parser;
mod print;

use model::Matcher;

use ast::{Expr, Span};

/// Why a text is no expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes that are wrong.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// Line and column of the first of them, from 1; `None` in an empty query.
    place: Option<(usize, usize)>,
}

impl ParseError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), place: None }
    }

    fn placed(mut self, query: &str) -> Self {
        if query.is_empty() {
            return self;
        }
        let before = &query[..query.floor_char_boundary(self.span.start.min(query.len()))];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.place = Some((before.matches('\n').count() + 1, before.len() - line_start + 1));
        self
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place {
            None => write!(f, "unknown position: parse error: {}", self.message),
            Some((line, column)) => write!(f, "{line}:{column}: parse error: {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// The expression that `query` says.
///
/// # Errors
/// It says none, or one whose types do not fit.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    parser::parse(query).map_err(|err| err.placed(query))
}

/// The matchers of a selector without anything around it, as `match[]` has it.
///
/// # Errors
/// The text is no selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    parser::parse_selector(text).map_err(|err| err.placed(text))
}

/// The matchers of all selectors of an expression.
pub fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut all = Vec::new();
    expr.each_selector(&mut |selector| all.push(selector.matchers.clone()));
    all
}
