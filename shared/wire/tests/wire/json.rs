//! JSON as senders write it, and as they should not.

use model::columns::Value;
use wire::otlp::{DecodedTraces, Format, decode_traces};
use wire::{Error, ErrorKind, Limits};

use crate::sample::decode;

const IDS: &str = r#""traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708""#;

fn request(span_fields: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},"name":"other"}},{{{span_fields}}}]}}]}}]}}"#
    )
}

fn decode_span(span_fields: &str) -> DecodedTraces {
    let decoded = decode(request(span_fields).as_bytes(), Format::Json);
    assert_eq!(
        (decoded.columns.len() as u64 + decoded.rejected_spans, decoded.columns.is_empty()),
        (2, false)
    );
    decoded
}

fn decode_attribute(value: &str) -> DecodedTraces {
    decode_span(&format!(r#"{IDS},"attributes":[{{"key":"k","value":{value}}}]"#))
}

#[test]
fn ids_are_hex_in_any_case() {
    let decoded = decode_span(
        r#""traceId":"0102030405060708090A0b0C0d0E0f1F","spanId":"AABBCCDDEEFF0011","parentSpanId":"aAbBcCdDeEfF0011""#,
    );
    let fields = decoded.columns.span(1).fields();
    assert_eq!(fields.trace_id.to_string(), "0102030405060708090a0b0c0d0e0f1f");
    assert_eq!(fields.span_id.to_string(), "aabbccddeeff0011");
    assert_eq!(fields.parent_span_id, fields.span_id);
}

#[test]
fn wrong_values_reject_only_their_span() {
    let check = |span_fields: &str, expect: &str| {
        let decoded = decode_span(span_fields);
        assert_eq!(decoded.rejected_spans, 1, "{span_fields}");
        assert!(decoded.error_message.contains(expect), "{expect:?} in {:?}", decoded.error_message);
    };
    let trace = r#""traceId":"0102030405060708090a0b0c0d0e0f10""#;
    check("", "trace id has 0 bytes instead of 16");
    check(trace, "span id has 0 bytes instead of 8");
    check(r#""traceId":"AQIDBAUGBwgJCgsMDQ4PEA==""#, "trace id is not hexadecimal");
    check(r#""traceId":"zz02030405060708090a0b0c0d0e0f10""#, "trace id is not hexadecimal");
    check(r#""traceId":"01""#, "trace id has 1 bytes instead of 16");
    check(r#""traceId":"00000000000000000000000000000000""#, "trace id is all zero");
    check(&format!(r#"{trace},"spanId":"010""#), "span id has 3 hex digits instead of 16");
    check(&format!(r#"{trace},"spanId":"010203040506070809""#), "span id has 18 hex digits instead of 16");
    check(&format!(r#"{trace},"spanId":"éééé""#), "span id is not hexadecimal");
    check(&format!(r#"{IDS},"parentSpanId":"01""#), "parent span id has 1 bytes instead of 8");
    check(
        &format!(r#"{IDS},"links":[{{"traceId":"x"}}]"#),
        "trace id of link has 1 hex digits instead of 32",
    );
    check(&format!(r#"{IDS},"links":[{{"spanId":"xy"}}]"#), "span id of link is not hexadecimal");
    check(&format!(r#"{IDS},"startTimeUnixNano":"-1""#), "start time is not a number in its range");
    check(&format!(r#"{IDS},"startTimeUnixNano":1.5"#), "start time is not a number in its range");
    check(
        &format!(r#"{IDS},"endTimeUnixNano":"18446744073709551616""#),
        "end time is not a number in its range",
    );
    check(&format!(r#"{IDS},"flags":4294967296"#), "flags is not a number in its range");
    check(&format!(r#"{IDS},"kind":"SERVER""#), "kind is not a number in its range");
    check(&format!(r#"{IDS},"kind":2147483648"#), "kind is not a number in its range");
    check(&format!(r#"{IDS},"status":{{"code":"OK"}}"#), "status code is not a number in its range");
    check(
        &format!(r#"{IDS},"attributes":[{{"value":{{"intValue":"1e3"}}}}]"#),
        "attribute value is not a number",
    );
    check(
        &format!(r#"{IDS},"attributes":[{{"value":{{"doubleValue":"inf"}}}}]"#),
        "attribute value is not a number",
    );
    check(
        &format!(r#"{IDS},"attributes":[{{"value":{{"bytesValue":"?"}}}}]"#),
        "attribute value is not base64",
    );
    check("", "trace id");
    check(r#""spans":[]"#, "trace id");
    assert_eq!(decode(request("").replace("{}", "null").as_bytes(), Format::Json).rejected_spans, 1);
}

#[test]
fn values_have_their_kinds() {
    let check = |value: &str, expect: Value<'_>| {
        let decoded = decode_attribute(value);
        let attributes: Vec<_> = decoded.columns.span(1).attributes().collect();
        match (attributes[..].first(), expect) {
            (Some(&("k", Value::Double(got))), Value::Double(expect)) => {
                assert_eq!(got.to_bits(), expect.to_bits());
            }
            (got, expect) => assert_eq!(got, Some(&("k", expect)), "{value}"),
        }
    };
    check("{}", Value::Empty);
    check("null", Value::Empty);
    check(r#"{"stringValue":null}"#, Value::Empty);
    check(r#"{"unknownValue":[1,{"a":2}]}"#, Value::Empty);
    check(r#"{"string_value":"x"}"#, Value::Empty);
    check(r#"{"stringValueStrindex":3}"#, Value::Empty);
    check(r#"{"stringValue":""}"#, Value::String(""));
    check(r#"{"stringValue":"a\"\u00e9\ud83d\ude00"}"#, Value::String("a\"é😀"));
    check(r#"{"boolValue":true}"#, Value::Bool(true));
    check(r#"{"boolValue":false}"#, Value::Bool(false));
    check(r#"{"intValue":"5"}"#, Value::Int(5));
    check(r#"{"intValue":-5}"#, Value::Int(-5));
    check(r#"{"intValue":5.0}"#, Value::Int(5));
    check(r#"{"intValue":"-9223372036854775808"}"#, Value::Int(i64::MIN));
    check(r#"{"intValue":9223372036854775807}"#, Value::Int(i64::MAX));
    check(r#"{"doubleValue":1}"#, Value::Double(1.0));
    check(r#"{"doubleValue":-0.0}"#, Value::Double(-0.0));
    check(r#"{"doubleValue":"1.5"}"#, Value::Double(1.5));
    check(r#"{"doubleValue":"NaN"}"#, Value::Double(f64::NAN));
    check(r#"{"doubleValue":"Infinity"}"#, Value::Double(f64::INFINITY));
    check(r#"{"doubleValue":"-Infinity"}"#, Value::Double(f64::NEG_INFINITY));
    check(r#"{"doubleValue":0.30000000000000004}"#, Value::Double(0.1 + 0.2));
    check(r#"{"bytesValue":"AP8="}"#, Value::Json(r#"{"$bytes":"AP8="}"#));
    check(r#"{"bytesValue":"-_8"}"#, Value::Json(r#"{"$bytes":"+/8="}"#));
    check(r#"{"bytesValue":""}"#, Value::Json(r#"{"$bytes":""}"#));
    check(r#"{"arrayValue":{}}"#, Value::Json("[]"));
    check(r#"{"arrayValue":{"values":null}}"#, Value::Json("[]"));
    check(r#"{"arrayValue":null}"#, Value::Empty);
    check(
        r#"{"arrayValue":{"values":[{},null,{"intValue":1},{"doubleValue":1}]}}"#,
        Value::Json("[null,null,1,1.0]"),
    );
    check(r#"{"kvlistValue":{"values":[]}}"#, Value::Json("{}"));
    check(
        r#"{"kvlistValue":{"values":[{"value":{"arrayValue":{"values":[{"stringValue":"x"}]}},"key":"late"},{"key":"$n"},{}]}}"#,
        Value::Json(r#"{"late":["x"],"$$n":null,"":null}"#),
    );
    check(r#"{"stringValue":"a","intValue":"1"}"#, Value::Int(1));
    check(r#"{"arrayValue":{"values":[{"intValue":1}]},"kvlistValue":{}}"#, Value::Json("{}"));
}

#[test]
fn numbers_enums_and_null_are_read_as_meant() {
    let decoded = decode_span(&format!(
        r#"{IDS},"startTimeUnixNano":1700000000000000000,"endTimeUnixNano":"1700000000000000009","kind":"SPAN_KIND_CLIENT",
        "status":{{"code":"STATUS_CODE_ERROR","message":null}},"flags":"257","droppedAttributesCount":null,
        "droppedEventsCount":"3","events":null,"links":null,"attributes":null,"traceState":null,"parentSpanId":null,
        "unknown":{{"deep":[[[{{}}]]]}},"dropped_links_count":9,"name":null"#
    ));
    let fields = decoded.columns.span(1).fields();
    assert_eq!((fields.start_ns, fields.duration_ns), (1_700_000_000_000_000_000, 9));
    assert_eq!((fields.kind, fields.status_code, fields.flags), (3, 2, 257));
    assert_eq!(
        (fields.dropped_attributes_count, fields.dropped_events_count, fields.dropped_links_count),
        (0, 3, 0)
    );
    assert_eq!((fields.name, fields.status_message), ("", ""));
}

#[test]
fn resource_scope_and_schema_may_follow_their_spans() {
    let body = format!(
        r#"{{"resourceSpans":[{{"schemaUrl":"r","scopeSpans":[{{"spans":[{{{IDS}}}],"schemaUrl":"s","scope":{{"name":"n"}}}}],
        "resource":{{"attributes":[{{"value":{{"stringValue":"shop"}},"key":"service.name"}}]}}}},null,{{}}]}}"#
    );
    let decoded = decode(body.as_bytes(), Format::Json);
    let span = decoded.columns.span(0);
    assert_eq!((span.service(), span.resource()), ("shop", r#"{"service.name":"shop"}"#));
    assert_eq!(span.resource_meta(), r#"{"schema_url":"r"}"#);
    assert_eq!(span.scope(), ("n", "", r#"{"schema_url":"s"}"#));
}

#[test]
fn what_is_no_json_of_a_request_is_an_error() {
    let check = |body: &[u8]| {
        let error = decode_traces(body, Format::Json, &Limits::default()).expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    };
    for body in [
        "",
        "x",
        "[]",
        "1",
        "\"\"",
        "{",
        "{}{}",
        "{} x",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[1]}"#,
    ] {
        check(body.as_bytes());
    }
    check(request(r#""name":5"#).as_bytes());
    check(request(r#""kind":{}"#).as_bytes());
    check(request(r#""attributes":{}"#).as_bytes());
    check(request(r#""name":"\ud800""#).as_bytes());
    check(request(r#""attributes":[{"value":"x"}]"#).as_bytes());
    check(request(r#""attributes":[{"value":{"boolValue":"true"}}]"#).as_bytes());
    let wrong = b"{\"a\":\"\xff\"}";
    check(wrong);
    let error = decode_traces(wrong, Format::Json, &Limits::default()).expect_err("not UTF-8");
    assert!(matches!(error, Error::NotUtf8 { offset: 6 }), "{error}");
}
