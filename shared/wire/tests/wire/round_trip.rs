//! What goes in comes out: every field of every message, through protobuf and through JSON.

use std::cell::Cell;
use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;
use wire::otlp::{Format, JsonStyle, to_json, to_messages};

use crate::generate;
use crate::sample::{assert_same, decode};

/// Compares field by field and counts them.
#[derive(Default)]
pub(crate) struct Comparison {
    fields: usize,
}

impl Comparison {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, field: &str, a: &T, b: &T) {
        self.fields += 1;
        assert_eq!(a, b, "{field}");
    }

    fn lists<T>(&mut self, field: &str, a: &[T], b: &[T], mut compare: impl FnMut(&mut Self, &T, &T)) {
        self.equal(field, &a.len(), &b.len());
        for (a, b) in a.iter().zip(b) {
            compare(self, a, b);
        }
    }

    pub(crate) fn requests(&mut self, a: &ExportTraceServiceRequest, b: &ExportTraceServiceRequest) {
        self.lists("resource_spans", &a.resource_spans, &b.resource_spans, Self::resource_spans);
    }

    fn resource_spans(&mut self, a: &ResourceSpans, b: &ResourceSpans) {
        let (x, y) = (a.resource.as_ref().expect("resource"), b.resource.as_ref().expect("resource"));
        self.lists("resource.attributes", &x.attributes, &y.attributes, Self::key_values);
        self.equal("resource.dropped", &x.dropped_attributes_count, &y.dropped_attributes_count);
        self.lists("resource.entity_refs", &x.entity_refs, &y.entity_refs, |this, x, y| {
            this.equal("entity.schema_url", &x.schema_url, &y.schema_url);
            this.equal("entity.type", &x.r#type, &y.r#type);
            this.equal("entity.id_keys", &x.id_keys, &y.id_keys);
            this.equal("entity.description_keys", &x.description_keys, &y.description_keys);
        });
        self.equal("resource.schema_url", &a.schema_url, &b.schema_url);
        self.lists("scope_spans", &a.scope_spans, &b.scope_spans, Self::scope_spans);
    }

    fn scope_spans(&mut self, a: &ScopeSpans, b: &ScopeSpans) {
        let (x, y) = (a.scope.as_ref().expect("scope"), b.scope.as_ref().expect("scope"));
        self.equal("scope.name", &x.name, &y.name);
        self.equal("scope.version", &x.version, &y.version);
        self.lists("scope.attributes", &x.attributes, &y.attributes, Self::key_values);
        self.equal("scope.dropped", &x.dropped_attributes_count, &y.dropped_attributes_count);
        self.equal("scope.schema_url", &a.schema_url, &b.schema_url);
        self.lists("spans", &a.spans, &b.spans, Self::spans);
    }

    fn spans(&mut self, a: &Span, b: &Span) {
        self.equal("trace_id", &a.trace_id, &b.trace_id);
        self.equal("span_id", &a.span_id, &b.span_id);
        self.equal("trace_state", &a.trace_state, &b.trace_state);
        self.equal("parent_span_id", &a.parent_span_id, &b.parent_span_id);
        self.equal("flags", &a.flags, &b.flags);
        self.equal("name", &a.name, &b.name);
        self.equal("kind", &a.kind, &b.kind);
        self.equal("start", &a.start_time_unix_nano, &b.start_time_unix_nano);
        self.equal("end", &a.end_time_unix_nano, &b.end_time_unix_nano);
        self.lists("attributes", &a.attributes, &b.attributes, Self::key_values);
        self.equal("dropped_attributes_count", &a.dropped_attributes_count, &b.dropped_attributes_count);
        self.lists("events", &a.events, &b.events, |this, x, y| {
            this.equal("event.time", &x.time_unix_nano, &y.time_unix_nano);
            this.equal("event.name", &x.name, &y.name);
            this.lists("event.attributes", &x.attributes, &y.attributes, Self::key_values);
            this.equal("event.dropped", &x.dropped_attributes_count, &y.dropped_attributes_count);
        });
        self.equal("dropped_events_count", &a.dropped_events_count, &b.dropped_events_count);
        self.lists("links", &a.links, &b.links, |this, x, y| {
            this.equal("link.trace_id", &x.trace_id, &y.trace_id);
            this.equal("link.span_id", &x.span_id, &y.span_id);
            this.equal("link.trace_state", &x.trace_state, &y.trace_state);
            this.lists("link.attributes", &x.attributes, &y.attributes, Self::key_values);
            this.equal("link.dropped", &x.dropped_attributes_count, &y.dropped_attributes_count);
            this.equal("link.flags", &x.flags, &y.flags);
        });
        self.equal("dropped_links_count", &a.dropped_links_count, &b.dropped_links_count);
        self.equal("status", &a.status, &b.status);
    }

    fn key_values(&mut self, a: &KeyValue, b: &KeyValue) {
        self.equal("key", &a.key, &b.key);
        self.values(a.value.as_ref().expect("value"), b.value.as_ref().expect("value"));
    }

    fn values(&mut self, a: &AnyValue, b: &AnyValue) {
        match (&a.value, &b.value) {
            (Some(Value::DoubleValue(x)), Some(Value::DoubleValue(y))) => {
                self.equal("double", &x.to_bits(), &y.to_bits());
            }
            (Some(Value::ArrayValue(x)), Some(Value::ArrayValue(y))) => {
                self.lists("array", &x.values, &y.values, Self::values);
            }
            (Some(Value::KvlistValue(x)), Some(Value::KvlistValue(y))) => {
                self.lists("map", &x.values, &y.values, Self::key_values);
            }
            (x, y) => self.equal("value", x, y),
        }
    }
}

/// Brings `request` into the form in which it comes back, and counts the invalid spans.
pub(crate) fn normalise(request: &ExportTraceServiceRequest) -> (ExportTraceServiceRequest, u64) {
    let mut normal = ExportTraceServiceRequest::default();
    let mut n_invalid = 0;
    let mut resources: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut scopes: HashMap<(usize, Vec<u8>), usize> = HashMap::new();
    for of_resource in &request.resource_spans {
        let mut resource = of_resource.resource.clone().unwrap_or_default();
        normalise_attributes(&mut resource.attributes);
        for of_scope in &of_resource.scope_spans {
            let mut scope = of_scope.scope.clone().unwrap_or_default();
            normalise_attributes(&mut scope.attributes);
            for span in &of_scope.spans {
                let Some(span) = normalise_span(span) else {
                    n_invalid += 1;
                    continue;
                };
                let resource_at =
                    place_resource(&mut normal, &mut resources, &resource, &of_resource.schema_url);
                let groups = &mut normal.resource_spans[resource_at].scope_spans;
                let scope_at = place_scope(groups, &mut scopes, resource_at, &scope, &of_scope.schema_url);
                groups[scope_at].spans.push(span);
            }
        }
    }
    (normal, n_invalid)
}

fn place_resource(
    normal: &mut ExportTraceServiceRequest,
    known: &mut HashMap<Vec<u8>, usize>,
    resource: &Resource,
    schema_url: &str,
) -> usize {
    let envelope = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: Vec::new(),
        schema_url: schema_url.to_owned(),
    };
    *known.entry(envelope.encode_to_vec()).or_insert_with(|| {
        normal.resource_spans.push(envelope);
        normal.resource_spans.len() - 1
    })
}

fn place_scope(
    groups: &mut Vec<ScopeSpans>,
    known: &mut HashMap<(usize, Vec<u8>), usize>,
    resource: usize,
    scope: &InstrumentationScope,
    schema_url: &str,
) -> usize {
    let envelope =
        ScopeSpans { scope: Some(scope.clone()), spans: Vec::new(), schema_url: schema_url.to_owned() };
    *known.entry((resource, envelope.encode_to_vec())).or_insert_with(|| {
        groups.push(envelope);
        groups.len() - 1
    })
}

fn normalise_span(span: &Span) -> Option<Span> {
    let is_zero = |id: &[u8]| id.iter().all(|&byte| byte == 0);
    let optional = |id: &mut Vec<u8>, length: usize| {
        let is_valid = id.is_empty() || id.len() == length;
        if is_zero(id) {
            id.clear();
        }
        is_valid
    };
    let mut span = span.clone();
    let mut is_valid = span.trace_id.len() == 16 && !is_zero(&span.trace_id);
    is_valid &= span.span_id.len() == 8 && !is_zero(&span.span_id);
    is_valid &= optional(&mut span.parent_span_id, 8);
    for link in &mut span.links {
        is_valid &= optional(&mut link.trace_id, 16);
        is_valid &= optional(&mut link.span_id, 8);
        normalise_attributes(&mut link.attributes);
    }
    for event in &mut span.events {
        normalise_attributes(&mut event.attributes);
    }
    normalise_attributes(&mut span.attributes);
    span.status.get_or_insert_with(Status::default);
    is_valid.then_some(span)
}

fn normalise_attributes(attributes: &mut [KeyValue]) {
    for KeyValue { value, .. } in attributes {
        normalise_value(value.get_or_insert_with(AnyValue::default));
    }
}

fn normalise_value(value: &mut AnyValue) {
    match &mut value.value {
        // Counts only in profiles.
        Some(Value::StringValueStrindex(_)) => value.value = None,
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(normalise_value),
        Some(Value::KvlistValue(map)) => normalise_attributes(&mut map.values),
        _ => {}
    }
}

/// Makes every NaN the one that JSON can say.
fn plain_nans(bytes: &ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    fn attributes(list: &mut [KeyValue]) {
        list.iter_mut().filter_map(|entry| entry.value.as_mut()).for_each(value);
    }
    fn value(any: &mut AnyValue) {
        match &mut any.value {
            Some(Value::DoubleValue(number)) if number.is_nan() => *number = f64::NAN,
            Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(value),
            Some(Value::KvlistValue(map)) => attributes(&mut map.values),
            _ => {}
        }
    }
    let mut request = bytes.clone();
    for of_resource in &mut request.resource_spans {
        attributes(&mut of_resource.resource.get_or_insert_default().attributes);
        for of_scope in &mut of_resource.scope_spans {
            attributes(&mut of_scope.scope.get_or_insert_default().attributes);
            for span in &mut of_scope.spans {
                attributes(&mut span.attributes);
                span.events.iter_mut().for_each(|event| attributes(&mut event.attributes));
                span.links.iter_mut().for_each(|link| attributes(&mut link.attributes));
            }
        }
    }
    request
}

#[test]
fn every_field_comes_back_through_protobuf_and_json() {
    let n_fields = Cell::new(0);
    let n_rejected = Cell::new(0);
    let config = Config { cases: 1_200, failure_persistence: None, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let checked = TestRunner::new_with_rng(config, rng).run(&generate::request(), |request| {
        let mut comparison = Comparison::default();
        let (expect, n_invalid) = normalise(&request);

        let decoded = decode(&request.encode_to_vec(), Format::Protobuf);
        assert_eq!(decoded.rejected_spans, n_invalid, "{}", decoded.error_message);
        assert_eq!(decoded.error_message.is_empty(), n_invalid == 0);
        let messages = to_messages(decoded.columns.iter()).encode_to_vec();
        let messages = ExportTraceServiceRequest::decode(&messages[..]).expect("own messages");
        comparison.requests(&messages, &expect);

        // JSON cannot tell NaNs apart, so there the request has only one.
        let plain = plain_nans(&request);
        let from_protobuf = decode(&plain.encode_to_vec(), Format::Protobuf);
        let text = to_json(from_protobuf.columns.iter(), JsonStyle::Otlp);
        let from_json = decode(text.as_bytes(), Format::Json);
        assert_eq!((from_json.rejected_spans, from_json.error_message.as_str()), (0, ""));
        let messages = to_messages(from_json.columns.iter()).encode_to_vec();
        let messages = ExportTraceServiceRequest::decode(&messages[..]).expect("own messages");
        comparison.requests(&messages, &normalise(&plain).0);
        let regrouped = decode(&messages.encode_to_vec(), Format::Protobuf);
        assert_same(&regrouped.columns, &from_json.columns);

        n_fields.set(n_fields.get() + comparison.fields);
        n_rejected.set(n_rejected.get() + n_invalid);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    let (n_fields, n_rejected) = (n_fields.get(), n_rejected.get());
    assert!(
        n_fields > 200_000 && n_rejected > 100,
        "{n_fields} fields compared, {n_rejected} spans rejected"
    );
}
