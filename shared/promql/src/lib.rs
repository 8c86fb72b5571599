//! PromQL: parse, plan, evaluate. Pure: no I/O, no clock, nothing waits.
//!
//! before anything is read. [`evaluate()`] takes those series and gives the answer.
//!
//! - [`syntax`]: text and expressions.

pub mod syntax;

pub use syntax::ast::Expr;
pub use syntax::{ParseError, parse, parse_selector, selectors};
