//! The functions of the language, with their types.
//!
//! Source: Prometheus `promql/parser/functions.go`.

use super::ast::ValueType::{self, InstantVector, RangeVector, Scalar, String};

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments.
    pub arguments: &'static [ValueType],
    /// How many of the last arguments may be left out; `None`: the last may be left out or repeated at will.
    pub n_optional: Option<usize>,
    /// What it gives.
    pub returns: ValueType,
}

const fn function(name: &'static str, arguments: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, arguments, n_optional: Some(0), returns }
}

const fn with_optional(name: &'static str, arguments: &'static [ValueType], n: usize) -> Function {
    Function { name, arguments, n_optional: Some(n), returns: InstantVector }
}

const fn repeating(name: &'static str, arguments: &'static [ValueType]) -> Function {
    Function { name, arguments, n_optional: None, returns: InstantVector }
}

const V: &[ValueType] = &[InstantVector];
const M: &[ValueType] = &[RangeVector];

/// All functions, by name.
pub static FUNCTIONS: &[Function] = &[
    function("abs", V, InstantVector),
    function("absent", V, InstantVector),
    function("absent_over_time", M, InstantVector),
    function("acos", V, InstantVector),
    function("acosh", V, InstantVector),
    function("asin", V, InstantVector),
    function("asinh", V, InstantVector),
    function("atan", V, InstantVector),
    function("atanh", V, InstantVector),
    function("avg_over_time", M, InstantVector),
    function("ceil", V, InstantVector),
    function("changes", M, InstantVector),
    function("clamp", &[InstantVector, Scalar, Scalar], InstantVector),
    function("clamp_max", &[InstantVector, Scalar], InstantVector),
    function("clamp_min", &[InstantVector, Scalar], InstantVector),
    function("cos", V, InstantVector),
    function("cosh", V, InstantVector),
    function("count_over_time", M, InstantVector),
    with_optional("day_of_month", V, 1),
    with_optional("day_of_week", V, 1),
    with_optional("day_of_year", V, 1),
    with_optional("days_in_month", V, 1),
    function("deg", V, InstantVector),
    function("delta", M, InstantVector),
    function("deriv", M, InstantVector),
    function("double_exponential_smoothing", &[RangeVector, Scalar, Scalar], InstantVector),
    function("exp", V, InstantVector),
    function("first_over_time", M, InstantVector),
    function("floor", V, InstantVector),
    function("histogram_avg", V, InstantVector),
    function("histogram_count", V, InstantVector),
    function("histogram_fraction", &[Scalar, Scalar, InstantVector], InstantVector),
    function("histogram_quantile", &[Scalar, InstantVector], InstantVector),
    function("histogram_stddev", V, InstantVector),
    function("histogram_stdvar", V, InstantVector),
    function("histogram_sum", V, InstantVector),
    with_optional("hour", V, 1),
    function("idelta", M, InstantVector),
    function("increase", M, InstantVector),
    with_optional("info", &[InstantVector, InstantVector], 1),
    function("irate", M, InstantVector),
    repeating("label_join", &[InstantVector, String, String, String]),
    function("label_replace", &[InstantVector, String, String, String, String], InstantVector),
    function("last_over_time", M, InstantVector),
    function("ln", V, InstantVector),
    function("log10", V, InstantVector),
    function("log2", V, InstantVector),
    function("mad_over_time", M, InstantVector),
    function("max_over_time", M, InstantVector),
    function("min_over_time", M, InstantVector),
    with_optional("minute", V, 1),
    with_optional("month", V, 1),
    function("pi", &[], Scalar),
    function("predict_linear", &[RangeVector, Scalar], InstantVector),
    function("present_over_time", M, InstantVector),
    function("quantile_over_time", &[Scalar, RangeVector], InstantVector),
    function("rad", V, InstantVector),
    function("rate", M, InstantVector),
    function("resets", M, InstantVector),
    with_optional("round", &[InstantVector, Scalar], 1),
    function("scalar", V, Scalar),
    function("sgn", V, InstantVector),
    function("sin", V, InstantVector),
    function("sinh", V, InstantVector),
    function("sort", V, InstantVector),
    repeating("sort_by_label", &[InstantVector, String]),
    repeating("sort_by_label_desc", &[InstantVector, String]),
    function("sort_desc", V, InstantVector),
    function("sqrt", V, InstantVector),
    function("stddev_over_time", M, InstantVector),
    function("stdvar_over_time", M, InstantVector),
    function("sum_over_time", M, InstantVector),
    function("tan", V, InstantVector),
    function("tanh", V, InstantVector),
    function("time", &[], Scalar),
    function("timestamp", V, InstantVector),
    function("ts_of_first_over_time", M, InstantVector),
    function("ts_of_last_over_time", M, InstantVector),
    function("ts_of_max_over_time", M, InstantVector),
    function("ts_of_min_over_time", M, InstantVector),
    function("vector", &[Scalar], InstantVector),
    with_optional("year", V, 1),
];

/// The function with this name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_name() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(find("rate").map(|function| function.name), Some("rate"));
        assert_eq!(find("Rate"), None);
    }
}
