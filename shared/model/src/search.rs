//! What a query asks of spans.

use crate::time::TimeRange;

/// A test of one span.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The resource's `service.name` equals the text.
    Service(String),
    /// The span's name equals the text.
    Name(String),
    /// The span's kind by OTLP's number.
    Kind(i32),
    /// The status by OTLP's number.
    Status(i32),
    /// The status message equals the text.
    StatusMessage(String),
    /// The scope's name equals the text.
    ScopeName(String),
    /// The scope's version equals the text.
    ScopeVersion(String),
    /// The trace state equals the text.
    TraceState(String),
    /// Duration in ns at least this.
    DurationAtLeast(i64),
    /// Duration in ns at most this.
    DurationAtMost(i64),
    /// An attribute of the span, of its resource or of one of its events has this key, and its value written as text
    /// (see [`Condition::text_matches`]) is this one.
    Attribute {
        /// The key.
        key: String,
        /// The value as text.
        value: String,
    },
    /// At least one of these holds.
    Any(Vec<Condition>),
}

impl Condition {
    /// Whether a value equals what a user typed: strings to the letter, numbers by value, truths as `true`/`false`,
    /// bytes, arrays and maps by their JSON.
    #[expect(clippy::float_cmp, reason = "a number that is asked for is the number that was stored")]
    pub fn text_matches(value: crate::columns::Value<'_>, text: &str) -> bool {
        use crate::columns::Value;
        match value {
            Value::Empty => text.is_empty(),
            Value::String(string) => string == text,
            Value::Int(number) => text.parse() == Ok(number),
            Value::Double(number) => {
                text.parse::<f64>().is_ok_and(|typed| typed == number || (typed.is_nan() && number.is_nan()))
            }
            Value::Bool(truth) => text == if truth { "true" } else { "false" },
            Value::Json(json) => json == text,
        }
    }
}

/// Which traces are asked for: those with a span that starts in `range` and meets all conditions; the newest
/// `limit` of them by the start of their newest such span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSearch {
    /// Where the matching span starts.
    pub range: TimeRange,
    /// All must hold for one span.
    pub conditions: Vec<Condition>,
    /// How many traces at most.
    pub limit: usize,
}
