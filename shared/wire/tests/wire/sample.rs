//! A small request with something in every field, and helpers to decode.

use model::SpanColumns;
use prost::Message as _;
use wire::Limits;
use wire::otlp::message::any_value::Value;
use wire::otlp::message::{
    AnyValue, ArrayValue, EntityRef, Event, InstrumentationScope, KeyValue, KeyValueList, Link, Resource,
    ResourceSpans, ScopeSpans, Span, Status, TracesData,
};
use wire::otlp::{DecodedTraces, Format, JsonStyle, decode_traces, messages_to_json};

pub(crate) fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(crate) fn string(text: &str) -> AnyValue {
    value(Value::StringValue(text.to_owned()))
}

pub(crate) fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

pub(crate) fn attribute(key: &str, text: &str) -> KeyValue {
    key_value(key, string(text))
}

pub(crate) fn array(values: Vec<AnyValue>) -> AnyValue {
    value(Value::ArrayValue(ArrayValue { values }))
}

pub(crate) fn map(values: Vec<KeyValue>) -> AnyValue {
    value(Value::KvlistValue(KeyValueList { values }))
}

/// A valid span with something in every field.
pub(crate) fn span(name: &str) -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        trace_state: "span=state".to_owned(),
        parent_span_id: vec![9; 8],
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_001_500,
        attributes: vec![
            attribute("text", "GET"),
            key_value("int", value(Value::IntValue(-200))),
            key_value("double", value(Value::DoubleValue(1.0))),
            key_value("bool", value(Value::BoolValue(true))),
            key_value("empty", AnyValue { value: None }),
            key_value("bytes", value(Value::BytesValue(vec![0, 255]))),
            key_value("array", array(vec![string("a"), value(Value::IntValue(1))])),
            key_value("map", map(vec![attribute("$x", "y"), key_value("none", AnyValue { value: None })])),
        ],
        dropped_attributes_count: 3,
        events: vec![Event {
            time_unix_nano: 1_700_000_000_000_000_700,
            name: "an event".to_owned(),
            attributes: vec![attribute("event.key", "event value")],
            dropped_attributes_count: 4,
        }],
        dropped_events_count: 5,
        links: vec![Link {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            trace_state: "link=state".to_owned(),
            attributes: vec![attribute("link.key", "link value")],
            dropped_attributes_count: 6,
            flags: 0x100,
        }],
        dropped_links_count: 7,
        status: Some(Status { message: "not good".to_owned(), code: 2 }),
        flags: 0x301,
    }
}

/// Spans of one resource and one scope, which have something in every field.
pub(crate) fn data(spans: Vec<Span>) -> TracesData {
    let resource = Resource {
        attributes: vec![attribute("service.name", "shop"), attribute("host", "h1")],
        dropped_attributes_count: 1,
        entity_refs: vec![EntityRef {
            schema_url: "entity/schema".to_owned(),
            r#type: "service".to_owned(),
            id_keys: vec!["service.name".to_owned()],
            description_keys: vec!["host".to_owned()],
        }],
    };
    let scope = InstrumentationScope {
        name: "a scope".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![attribute("scope.key", "scope value")],
        dropped_attributes_count: 2,
    };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, schema_url: "scope/schema".to_owned() };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        schema_url: "resource/schema".to_owned(),
    };
    TracesData { resource_spans: vec![resource_spans] }
}

pub(crate) fn decode(body: &[u8], format: Format) -> DecodedTraces {
    decode_traces(body, format, &Limits::default()).expect("a request that can be read")
}

/// Decodes both encodings of `data`, asserts that they agree, and returns the protobuf one.
pub(crate) fn decode_both(data: &TracesData, limits: &Limits) -> DecodedTraces {
    let protobuf = decode_traces(&data.encode_to_vec(), Format::Protobuf, limits).expect("protobuf");
    let text = messages_to_json(data, JsonStyle::Otlp);
    let json = decode_traces(text.as_bytes(), Format::Json, limits).expect(&text);
    assert_eq!(json.rejected_spans, protobuf.rejected_spans, "{text}");
    assert_same(&protobuf.columns, &json.columns);
    protobuf
}

pub(crate) fn assert_same(a: &SpanColumns, b: &SpanColumns) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b.iter()) {
        assert!(a.same_as(b), "{:?} {:?}\n{:?} {:?}", a.fields(), a.resource(), b.fields(), b.resource());
        assert_eq!(a.service(), b.service());
    }
}
