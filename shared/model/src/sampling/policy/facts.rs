//! What a policy wants to know of a trace, gathered span by span: from any number of batches, in any order.

use std::collections::HashMap;
use std::time::Duration;

use super::{Keep, Policy};
use crate::SpanColumns;
use crate::attribute::{self, AnyValue};
use crate::columns::Value;
use crate::dictionary::Dictionary;
use crate::ids::TraceId;
use crate::sampling::threshold::Randomness;
use crate::sampling::tracestate::{TraceState, adjusted_count};
use crate::spans::STATUS_ERROR;

/// Bytes of names of services and operations that are counted at most.
const MAX_COUNTED_BYTES: usize = 32 << 20;

/// How many spans each operation has, by service and name, as far as their tracestates tell: a span that was sampled
/// counts for all that it stands for.
///
/// Memory is bounded: where there are too many names, those that come later are not counted and thus rare.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    n_spans: HashMap<String, HashMap<String, f64>>,
    counted_bytes: usize,
}

impl Operations {
    /// Counts the spans of a batch. Needs the columns of trace state, service and name.
    pub fn add(&mut self, columns: &SpanColumns) {
        let states = &columns.trace_state;
        let weights: Vec<f64> =
            states.dictionary.iter().map(|state| adjusted_count(state).unwrap_or(1.0)).collect();
        let mut n_of_positions: HashMap<(u32, u32), f64> = HashMap::new();
        let rows = columns.origins.service.rows.iter().zip(&columns.name.rows).zip(&states.rows);
        for ((&service, &name), &state) in rows {
            *n_of_positions.entry((service, name)).or_default() += weights[state as usize];
        }
        for ((service, name), n) in n_of_positions {
            let service = columns.origins.service.dictionary.get(service);
            let name = columns.name.dictionary.get(name);
            if let Some(counted) = self.n_spans.get_mut(service).and_then(|names| names.get_mut(name)) {
                *counted += n;
            } else if self.counted_bytes < MAX_COUNTED_BYTES {
                self.counted_bytes += name.len() + size_of::<(String, f64)>();
                self.n_spans.entry(service.to_owned()).or_default().insert(name.to_owned(), n);
            }
        }
    }

    /// The spans of one operation.
    pub fn n(&self, service: &str, name: &str) -> u64 {
        let n = self.n_spans.get(service).and_then(|names| names.get(name)).copied().unwrap_or(0.0);
        n.round() as u64
    }
}

/// What a policy wants to know of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFacts {
    /// The trace.
    pub trace_id: TraceId,
    /// The greatest `rv` in a tracestate of its spans; `None` where its id is its randomness.
    pub written_randomness: Option<Randomness>,
    /// Whether any span has the status "error".
    pub has_error: bool,
    /// The first start of a span.
    pub min_start_ns: i64,
    /// The last end of a span; a negative duration counts as none.
    pub max_end_ns: i64,
    /// The least number of spans that any of its operations has.
    pub n_of_rarest: u64,
    /// The position in [`Policy::keep`] of the first attribute that any span or resource has.
    pub attribute: Option<usize>,
}

impl TraceFacts {
    /// What is known of a trace before its first span.
    pub fn of(trace_id: TraceId) -> Self {
        Self {
            trace_id,
            written_randomness: None,
            has_error: false,
            min_start_ns: i64::MAX,
            max_end_ns: i64::MIN,
            n_of_rarest: u64::MAX,
            attribute: None,
        }
    }

    /// Adds what is known of other spans of the trace.
    pub fn join(&mut self, other: &Self) {
        self.written_randomness = self.written_randomness.max(other.written_randomness);
        self.has_error |= other.has_error;
        self.min_start_ns = self.min_start_ns.min(other.min_start_ns);
        self.max_end_ns = self.max_end_ns.max(other.max_end_ns);
        self.n_of_rarest = self.n_of_rarest.min(other.n_of_rarest);
        self.attribute = self.attribute.into_iter().chain(other.attribute).min();
    }

    /// From the first start to the last end. Source: Collector, tailsamplingprocessor, policy `latency`.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.max_end_ns.saturating_sub(self.min_start_ns)).unwrap_or(0))
    }

    /// What decides on the trace.
    pub fn randomness(&self) -> Randomness {
        self.written_randomness.unwrap_or_else(|| Randomness::of_trace(self.trace_id))
    }
}

/// Looks at the spans of one batch for one policy; what is the same for many spans is looked at once.
/// Needs the columns of trace state, service, name, times and status; of a policy that lists attributes, those of
/// resources and attributes too.
pub struct Gatherer<'a> {
    columns: &'a SpanColumns,
    operations: &'a Operations,
    /// By position of a tracestate.
    randomnesses: Vec<Option<Randomness>>,
    /// By position of a resource: the first attribute of the policy that it has.
    of_resource: Vec<Option<usize>>,
    /// By position of a key: the attributes of the policy that have it.
    of_key: Vec<Vec<Wanted<'a>>>,
}

/// An attribute that a policy lists, with its position among the rules.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    at: usize,
    key: &'a str,
    value: Option<&'a str>,
}

impl<'a> Gatherer<'a> {
    /// A gatherer for `columns`, whose spans are counted in `operations`.
    pub fn new(policy: &'a Policy, columns: &'a SpanColumns, operations: &'a Operations) -> Self {
        let rules = policy.keep.iter().enumerate();
        let wanted: Vec<Wanted<'_>> = rules.filter_map(|(at, rule)| Wanted::of(at, rule)).collect();
        let keys = &columns.attributes.key.dictionary;
        let of_key = |key: &str| wanted.iter().filter(|wanted| wanted.key == key).copied().collect();
        Self {
            columns,
            operations,
            randomnesses: columns
                .trace_state
                .dictionary
                .iter()
                .map(|text| TraceState::parse(text).ok().and_then(|state| state.randomness()))
                .collect(),
            of_resource: first_of_resources(&wanted, &columns.origins.resource.dictionary),
            of_key: keys.iter().map(of_key).collect(),
        }
    }

    /// Adds the span in `row` to the facts of its trace.
    pub fn add(&self, row: usize, facts: &mut TraceFacts) {
        let columns = self.columns;
        let written = self.randomnesses[columns.trace_state.rows[row] as usize];
        facts.written_randomness = facts.written_randomness.max(written);
        facts.has_error |= columns.status_code[row] == STATUS_ERROR;
        let start_ns = columns.start_ns[row];
        facts.min_start_ns = facts.min_start_ns.min(start_ns);
        facts.max_end_ns = facts.max_end_ns.max(start_ns.saturating_add(columns.duration_ns[row].max(0)));
        let n = self.operations.n(columns.origins.service.get(row), columns.name.get(row));
        facts.n_of_rarest = facts.n_of_rarest.min(n);
        // A policy without attributes needs no columns of them.
        let entries = if self.of_key.is_empty() { 0..0 } else { columns.attributes.entries(row) };
        let of_span = entries.filter_map(|entry| {
            let wanted = &self.of_key[columns.attributes.key.rows[entry] as usize];
            wanted
                .iter()
                .find(|wanted| wanted.is_met_by(columns.attributes.value(entry)))
                .map(|wanted| wanted.at)
        });
        let resource = columns.origins.resource.rows.get(row);
        let of_resource = resource.and_then(|&position| self.of_resource[position as usize]);
        facts.attribute = of_span.chain(of_resource).chain(facts.attribute).min();
    }
}

/// For each resource the first attribute that it has, of those that are wanted.
fn first_of_resources(wanted: &[Wanted<'_>], resources: &Dictionary) -> Vec<Option<usize>> {
    if wanted.is_empty() {
        return vec![None; resources.len()];
    }
    let first = |text: &str| {
        let attributes = attribute::parse_map(text).unwrap_or_default();
        let is_met = |wanted: &&Wanted<'_>| {
            attributes.iter().any(|(key, value)| key == wanted.key && wanted.is_met_by_any(value))
        };
        wanted.iter().find(is_met).map(|wanted| wanted.at)
    };
    resources.iter().map(first).collect()
}

impl<'a> Wanted<'a> {
    fn of(at: usize, rule: &'a Keep) -> Option<Self> {
        match rule {
            Keep::Attribute { key, value } => Some(Self { at, key, value: value.as_deref() }),
            Keep::Errors | Keep::Slow { .. } | Keep::Rare { .. } => None,
        }
    }

    /// Whether a value is the one that is wanted; numbers and truths are compared as what they are.
    fn is_met_by(self, value: Value<'_>) -> bool {
        let Some(text) = self.value else { return true };
        match value {
            Value::Empty => text.is_empty(),
            Value::String(other) | Value::Json(other) => other == text,
            Value::Int(number) => text.parse() == Ok(number),
            Value::Double(number) => text.parse() == Ok(number),
            Value::Bool(truth) => text.parse() == Ok(truth),
        }
    }

    fn is_met_by_any(self, value: &AnyValue) -> bool {
        match value {
            AnyValue::Empty => self.is_met_by(Value::Empty),
            AnyValue::String(text) => self.is_met_by(Value::String(text)),
            AnyValue::Int(number) => self.is_met_by(Value::Int(*number)),
            AnyValue::Double(number) => self.is_met_by(Value::Double(*number)),
            AnyValue::Bool(truth) => self.is_met_by(Value::Bool(*truth)),
            AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::Map(_) => {
                let mut json = String::new();
                attribute::write_value(&mut json, value);
                self.is_met_by(Value::Json(&json))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::SpanFields;

    #[test]
    fn facts_are_those_of_all_spans() {
        let mut columns = SpanColumns::default();
        let mut push = |service: &str, name, start_ns, duration_ns, status_code, trace_state| {
            let origin = columns.origins.intern_resource(service, "", "");
            let fields =
                SpanFields { trace_state, name, start_ns, duration_ns, status_code, ..SpanFields::default() };
            columns.push_span(&fields, origin);
        };
        push("shop", "a", 100, 50, 0, "");
        push("shop", "a", 90, 5, 1, "ot=rv:00000000000001");
        push("shop", "b", 200, -500, 2, "ot=rv:00000000000002");
        push("cart", "a", 120, 60, 0, "ot=rv:x");
        let mut operations = Operations::default();
        operations.add(&columns);
        operations.add(&columns);
        assert_eq!(
            (operations.n("shop", "a"), operations.n("cart", "a"), operations.n("cart", "b")),
            (4, 2, 0)
        );
        let policy: Policy = "rest=1%;after=1h".parse().expect("a policy");
        let gatherer = Gatherer::new(&policy, &columns, &operations);
        let gathered = |rows: &[usize]| {
            let mut facts = TraceFacts::of(TraceId::NONE);
            for &row in rows {
                gatherer.add(row, &mut facts);
            }
            facts
        };
        let facts = gathered(&[3, 1, 2, 0]);
        assert_eq!(facts, gathered(&[0, 1, 2, 3]));
        let mut joined = gathered(&[3, 1]);
        joined.join(&gathered(&[0, 2]));
        assert_eq!(facts, joined);
        let expected = TraceFacts {
            written_randomness: Randomness::parse("00000000000002"),
            has_error: true,
            min_start_ns: 90,
            max_end_ns: 200,
            n_of_rarest: 2,
            ..TraceFacts::of(TraceId::NONE)
        };
        assert_eq!(facts, expected);
        assert_eq!(facts.duration(), Duration::from_nanos(110));
        assert_eq!(gathered(&[]).duration(), Duration::ZERO);
    }

    #[test]
    fn sampled_spans_count_for_those_they_stand_for() {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("shop", "", "");
        for trace_state in ["", "ot=th:8", "ot=th:c", "no tracestate"] {
            let fields = SpanFields { trace_state, name: "a", ..SpanFields::default() };
            columns.push_span(&fields, origin);
        }
        let mut operations = Operations::default();
        operations.add(&columns);
        assert_eq!(operations.n("shop", "a"), 1 + 2 + 4 + 1);
    }

    #[test]
    fn attributes_are_found_in_span_and_resource() {
        let check =
            |resource: &str, attributes: &[(&str, Value<'_>)], wanted: &str, expect: Option<usize>| {
                let mut columns = SpanColumns::default();
                let origin = columns.origins.intern_resource("", resource, "");
                for (key, value) in attributes {
                    columns.attributes.push(key, *value);
                }
                columns.push_span(&SpanFields::default(), origin);
                let policy: Policy = format!("{wanted};rest=1%;after=1h").parse().expect(wanted);
                let operations = Operations::default();
                let mut facts = TraceFacts::of(TraceId::NONE);
                Gatherer::new(&policy, &columns, &operations).add(0, &mut facts);
                assert_eq!(facts.attribute, expect, "{wanted}");
            };
        let attributes = [
            ("debug", Value::Bool(true)),
            ("n", Value::Int(7)),
            ("ratio", Value::Double(0.5)),
            ("ratio", Value::Double(2.0)),
            ("user", Value::String("a=b")),
            ("list", Value::Json("[1]")),
            ("none", Value::Empty),
        ];
        let resource = r#"{"host":"h1","cpus":4,"tags":["x"],"blob":{"$bytes":"AP8="}}"#;
        for met in [
            "attribute=debug",
            "attribute=debug=true",
            "attribute=n=7",
            "attribute=ratio=0.50",
            "attribute=ratio=2",
            "attribute=user=a=b",
            "attribute=list=[1]",
            "attribute=none",
            "attribute=host",
            "attribute=host=h1",
            "attribute=cpus=4",
            "attribute=tags=[\"x\"]",
        ] {
            check(resource, &attributes, met, Some(0));
        }
        for missed in [
            "attribute=debug=false",
            "attribute=n=8",
            "attribute=user=a",
            "attribute=h",
            "attribute=host=h2",
            "errors",
        ] {
            check(resource, &attributes, missed, None);
        }
        check(resource, &attributes, "errors;attribute=x;attribute=host;attribute=debug", Some(2));
        check(resource, &attributes, "errors;attribute=x;attribute=debug;attribute=host", Some(2));
        check("not json", &attributes, "attribute=host", None);
    }
}
