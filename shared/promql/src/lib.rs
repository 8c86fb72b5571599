//! PromQL: parse, plan, evaluate. Pure: no I/O, no clock, nothing waits.
//!
//! [`parse`] gives an expression. [`plan()`] says which series it needs, each selector with its absolute time window,
//! before anything is read. [`evaluate()`] looks at those series, one at a time, and gives the answer.
//!
//! - [`syntax`]: text and expressions. [`value`]: what is asked with and answered with.
//! - `plan`: needs. `engine`: evaluation, by columns and series.

mod engine;
mod plan;
pub mod syntax;
pub mod value;

pub use engine::evaluate;
pub use plan::{Need, Plan, plan};
pub use syntax::ast::Expr;
pub use syntax::{ParseError, parse, parse_selector, selectors};
pub use value::{Answer, Data, Error, Points, QueryParams, Sample, Take, Value};
