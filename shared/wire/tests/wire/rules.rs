//! What makes a span invalid, in both formats alike, and what the answers look like.

use model::attribute;
use model::columns::Value as ColumnValue;
use prost::Message as _;
use wire::otlp::message::any_value::Value;
use wire::otlp::message::{
    EntityRef, Event, InstrumentationScope, KeyValue, Link, Resource, Span, TracesData,
};
use wire::otlp::{Format, JsonStyle, decode_traces, error_response, messages_to_json, traces_response};
use wire::{ErrorKind, Limits};

use crate::sample::{
    array, assert_same, attribute as text_attribute, data, decode, decode_both, key_value, map, span, string,
    value,
};

/// Decodes a request of one span that `change` made invalid, between two that are valid.
fn check_rejected(limits: &Limits, change: impl FnOnce(&mut Span), expect: &str) {
    let mut changed = span("changed");
    change(&mut changed);
    let decoded = decode_both(&data(vec![span("before"), changed, span("after")]), limits);
    assert_eq!(decoded.rejected_spans, 1, "{expect}");
    assert!(decoded.error_message.contains(expect), "{expect:?} in {:?}", decoded.error_message);
    let names: Vec<_> = decoded.columns.iter().map(|span| span.fields().name.to_owned()).collect();
    assert_eq!(names, ["before", "after"], "{expect}");
    let expect = decode_both(&data(vec![span("before"), span("after")]), limits);
    assert_same(&decoded.columns, &expect.columns);
}

fn check_kept(limits: &Limits, change: impl FnOnce(&mut Span)) {
    let mut changed = span("changed");
    change(&mut changed);
    let decoded = decode_both(&data(vec![changed]), limits);
    assert_eq!((decoded.rejected_spans, decoded.error_message.as_str(), decoded.columns.len()), (0, "", 1));
}

#[test]
fn spans_with_wrong_ids_are_rejected() {
    let limits = Limits::default();
    let check = |change: fn(&mut Span), expect: &str| check_rejected(&limits, change, expect);
    check(|span| span.trace_id = vec![], "trace id has 0 bytes instead of 16");
    check(|span| span.trace_id = vec![1; 15], "span 0102030405060708: trace id has 15 bytes instead of 16");
    check(|span| span.trace_id = vec![0; 16], "trace id is all zero");
    check(|span| span.span_id = vec![], "span id has 0 bytes instead of 8");
    check(|span| span.span_id = vec![1; 7], "span id has 7 bytes instead of 8");
    check(|span| span.span_id = vec![0; 8], "span id is all zero");
    check(|span| span.parent_span_id = vec![1; 4], "parent span id has 4 bytes instead of 8");
    check(|span| span.links[0].trace_id = vec![1; 8], "trace id of link has 8 bytes instead of 16");
    check(|span| span.links[0].span_id = vec![1; 2], "span id of link has 2 bytes instead of 8");
    check_kept(&limits, |span| span.parent_span_id = vec![]);
    check_kept(&limits, |span| span.parent_span_id = vec![0; 8]);
    check_kept(&limits, |span| span.links[0].trace_id = vec![]);
    check_kept(&limits, |span| span.links[0].span_id = vec![]);
}

#[test]
fn spans_over_a_limit_are_rejected() {
    let limits =
        Limits { max_attributes_per_span: 9, max_string_bytes: 20, max_depth: 3, ..Limits::default() };
    let long = || "é".repeat(10) + "x";
    let fits = || "é".repeat(10);
    let deep = |depth: usize| {
        (1..depth).fold(string("x"), |inner, i| {
            if i % 2 == 0 { array(vec![inner]) } else { map(vec![key_value("k", inner)]) }
        })
    };
    let many = |n: usize| (0..n).map(|i| text_attribute("k", &i.to_string())).collect::<Vec<KeyValue>>();
    let check = |change: &dyn Fn(&mut Span), expect: &str| check_rejected(&limits, change, expect);
    check(&|span| span.name = long(), "name is longer than 20 bytes");
    check(&|span| span.trace_state = long(), "trace state is longer");
    check(&|span| span.status.as_mut().expect("status").message = long(), "status message is longer");
    check(&|span| span.attributes[0] = text_attribute(&long(), ""), "attribute key is longer");
    check(&|span| span.attributes[0] = text_attribute("k", &long()), "attribute value is longer");
    check(
        &|span| span.attributes[0] = key_value("k", array(vec![string(&long())])),
        "attribute value is longer",
    );
    check(
        &|span| span.attributes[0] = key_value("k", value(Value::BytesValue(vec![0; 21]))),
        "attribute value is longer",
    );
    check(&|span| span.events[0].name = long(), "event name is longer");
    check(&|span| span.events[0].attributes = vec![text_attribute(&long(), "")], "attribute key is longer");
    check(&|span| span.links[0].trace_state = long(), "trace state of link is longer");
    check(&|span| span.links[0].attributes = vec![text_attribute("k", &long())], "attribute value is longer");
    check(&|span| span.attributes = many(10), "more than 9 attributes");
    check(&|span| span.events[0].attributes = many(10), "more than 9 attributes");
    check(&|span| span.links[0].attributes = many(10), "more than 9 attributes");
    check(&|span| span.events = vec![span.events[0].clone(); 10], "more than 9 events");
    check(&|span| span.links = vec![span.links[0].clone(); 10], "more than 9 links");
    check(&|span| span.attributes[0] = key_value("k", deep(4)), "value nested deeper than 3");
    check(&|span| span.events[0].attributes = vec![key_value("k", deep(4))], "value nested deeper than 3");
    check(&|span| span.links[0].attributes = vec![key_value("k", deep(9))], "value nested deeper than 3");
    let wide = || key_value("k", array(vec![string("123456789"); 9]));
    check(&|span| span.attributes[0] = wide(), "json of attributes is longer than 80 bytes");
    check(
        &|span| span.events[0].attributes = vec![wide(), wide()],
        "json of attributes is longer than 80 bytes",
    );
    check_kept(&limits, |span| {
        span.name = fits();
        span.trace_state = fits();
        span.attributes = many(9);
        span.attributes[0] = key_value(&fits(), deep(3));
        span.attributes[1] = key_value("k", value(Value::BytesValue(vec![0; 20])));
        span.events = vec![span.events[0].clone(); 9];
        span.links = vec![span.links[0].clone(); 9];
    });
}

#[test]
fn values_as_deep_as_allowed_are_kept_in_both_formats() {
    let nested = |depth: usize| (1..depth).fold(string("x"), |inner, _| map(vec![key_value("k", inner)]));
    check_kept(&Limits::default(), |span| span.attributes[0] = key_value("k", nested(32)));
    check_rejected(
        &Limits::default(),
        |span| span.attributes[0] = key_value("k", nested(33)),
        "nested deeper than 32",
    );
}

#[test]
fn entries_without_content_are_bounded_by_the_body() {
    let limits = Limits { max_body_bytes: 16 * 20, max_attributes_per_span: 1000, ..Limits::default() };
    let bare = || Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() };
    let check = |change: &dyn Fn(&mut Span), expect: &str| {
        let mut changed = bare();
        change(&mut changed);
        let mut body = data(vec![bare(), changed]);
        body.resource_spans[0].resource = None;
        body.resource_spans[0].scope_spans[0].scope = None;
        let decoded = decode_traces(&body.encode_to_vec(), Format::Protobuf, &limits).expect("small enough");
        assert_eq!((decoded.columns.len(), decoded.rejected_spans), (1, 1));
        assert!(decoded.error_message.contains(expect), "{}", decoded.error_message);
    };
    check(&|span| span.attributes = vec![KeyValue::default(); 41], "more than 40 attributes in a request");
    check(&|span| span.events = vec![Event::default(); 21], "more than 20 events in a request");
    check(&|span| span.links = vec![Link::default(); 21], "more than 20 links in a request");
}

/// Where this stands in a text, the encoded request gets a byte that is not UTF-8.
const WRONG: &str = "WRONG";

#[test]
fn spans_with_wrong_utf8_are_rejected() {
    let check = |change: fn(&mut Span), expect: &str| {
        let mut changed = span("changed");
        change(&mut changed);
        let decoded = decode(&with_wrong_utf8(&data(vec![span("a"), changed, span("b")])), Format::Protobuf);
        assert_eq!((decoded.rejected_spans, decoded.columns.len()), (1, 2), "{expect}");
        assert!(decoded.error_message.contains(expect), "{expect:?} in {:?}", decoded.error_message);
        assert_same(
            &decoded.columns,
            &decode_both(&data(vec![span("a"), span("b")]), &Limits::default()).columns,
        );
    };
    check(|span| span.name = WRONG.to_owned(), "name is not UTF-8");
    check(|span| span.trace_state = WRONG.to_owned(), "trace state is not UTF-8");
    check(
        |span| span.status.as_mut().expect("status").message = WRONG.to_owned(),
        "status message is not UTF-8",
    );
    check(|span| span.attributes[1].key = WRONG.to_owned(), "attribute key is not UTF-8");
    check(|span| span.attributes[1].value = Some(string(WRONG)), "attribute value is not UTF-8");
    check(|span| span.attributes[1].value = Some(array(vec![string(WRONG)])), "attribute value is not UTF-8");
    check(
        |span| span.attributes[1].value = Some(map(vec![text_attribute(WRONG, "")])),
        "attribute key is not UTF-8",
    );
    check(|span| span.events[0].name = WRONG.to_owned(), "event name is not UTF-8");
    check(|span| span.events[0].attributes[0] = text_attribute("k", WRONG), "attribute value is not UTF-8");
    check(|span| span.links[0].trace_state = WRONG.to_owned(), "trace state of link is not UTF-8");
    check(|span| span.links[0].attributes[0] = text_attribute(WRONG, ""), "attribute key is not UTF-8");
}

fn with_wrong_utf8(data: &TracesData) -> Vec<u8> {
    let mut body = data.encode_to_vec();
    let at = body.windows(WRONG.len()).position(|bytes| bytes == WRONG.as_bytes()).expect("the mark");
    body[at] = 0xff;
    body
}

fn resource(data: &mut TracesData) -> &mut Resource {
    data.resource_spans[0].resource.as_mut().expect("resource")
}

fn scope(data: &mut TracesData) -> &mut InstrumentationScope {
    data.resource_spans[0].scope_spans[0].scope.as_mut().expect("scope")
}

#[test]
fn an_invalid_resource_or_scope_rejects_its_spans_only() {
    let check = |change: fn(&mut TracesData), expect: &str| {
        let mut changed = data(vec![span("one"), Span { trace_id: vec![], ..span("two") }, span("three")]);
        change(&mut changed);
        changed.resource_spans.extend(data(vec![span("kept")]).resource_spans);
        let decoded = decode(&with_wrong_utf8(&changed), Format::Protobuf);
        assert_eq!((decoded.rejected_spans, decoded.columns.len()), (3, 1), "{expect}");
        assert!(decoded.error_message.contains(expect), "{expect:?} in {:?}", decoded.error_message);
        let expect = decode_both(&data(vec![span("kept")]), &Limits::default());
        assert_same(&decoded.columns, &expect.columns);
    };
    check(
        |data| resource(data).attributes[0] = text_attribute("service.name", WRONG),
        "resource: service name is not",
    );
    check(|data| resource(data).attributes[1].key = WRONG.to_owned(), "resource: attribute key is not UTF-8");
    check(
        |data| resource(data).entity_refs[0].id_keys[0] = WRONG.to_owned(),
        "resource: key of entity is not UTF-8",
    );
    check(
        |data| resource(data).entity_refs[0].r#type = WRONG.to_owned(),
        "resource: type of entity is not UTF-8",
    );
    check(|data| data.resource_spans[0].schema_url = WRONG.to_owned(), "resource: schema url is not UTF-8");
    check(|data| scope(data).name = WRONG.to_owned(), "scope: scope name is not UTF-8");
    check(|data| scope(data).version = WRONG.to_owned(), "scope: scope version is not UTF-8");
    check(
        |data| scope(data).attributes[0] = text_attribute("k", WRONG),
        "scope: attribute value is not UTF-8",
    );
    check(
        |data| data.resource_spans[0].scope_spans[0].schema_url = WRONG.to_owned(),
        "scope: schema url is not UTF-8",
    );
}

#[test]
fn a_resource_or_scope_over_a_limit_rejects_its_spans_in_both_formats() {
    let limits =
        Limits { max_attributes_per_span: 9, max_string_bytes: 20, max_depth: 3, ..Limits::default() };
    let check = |change: fn(&mut TracesData)| {
        let mut changed = data(vec![span("one"), span("two")]);
        change(&mut changed);
        changed.resource_spans.extend(data(vec![span("kept")]).resource_spans);
        let decoded = decode_both(&changed, &limits);
        assert_eq!((decoded.rejected_spans, decoded.columns.len()), (2, 1), "{}", decoded.error_message);
    };
    check(|data| resource(data).attributes = vec![text_attribute("k", "v"); 10]);
    check(|data| resource(data).attributes = vec![text_attribute("service.name", "a name that is too long")]);
    check(|data| resource(data).entity_refs = vec![EntityRef::default(); 10]);
    check(|data| resource(data).entity_refs[0].id_keys = vec![String::new(); 8]);
    check(|data| scope(data).name = "a name that is too long".to_owned());
    check(|data| scope(data).attributes = vec![text_attribute("k", "v"); 10]);
    check(|data| data.resource_spans[0].schema_url = "a schema that is too long".to_owned());
}

#[test]
fn the_service_is_the_first_name_that_is_a_string() {
    let check = |attributes: Vec<KeyValue>, expect: &str| {
        let mut data = data(vec![span("one")]);
        data.resource_spans[0].resource.as_mut().expect("resource").attributes = attributes;
        assert_eq!(decode_both(&data, &Limits::default()).columns.span(0).service(), expect);
    };
    let name = "service.name";
    check(vec![], "");
    check(vec![text_attribute("name", "x")], "");
    check(vec![text_attribute(name, "a"), text_attribute(name, "b")], "a");
    check(vec![key_value(name, value(Value::IntValue(1))), text_attribute(name, "b")], "b");
    check(vec![key_value(name, value(Value::IntValue(1)))], "");
}

#[test]
fn every_field_has_its_place_in_the_columns() {
    let decoded = decode_both(&data(vec![span("an operation")]), &Limits::default());
    let span = decoded.columns.span(0);
    let fields = span.fields();
    assert_eq!(fields.trace_id.to_string(), "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(fields.span_id.to_string(), "0102030405060708");
    assert_eq!(fields.parent_span_id.to_string(), "0909090909090909");
    assert_eq!(
        (fields.trace_state, fields.name, fields.status_message),
        ("span=state", "an operation", "not good")
    );
    assert_eq!((fields.kind, fields.status_code, fields.flags), (2, 2, 0x301));
    assert_eq!((fields.start_ns, fields.duration_ns), (1_700_000_000_000_000_000, 1_500));
    assert_eq!(
        (fields.dropped_attributes_count, fields.dropped_events_count, fields.dropped_links_count),
        (3, 5, 7)
    );
    assert_eq!(span.service(), "shop");
    assert_eq!(span.resource(), r#"{"service.name":"shop","host":"h1"}"#);
    assert_eq!(
        span.resource_meta(),
        r#"{"dropped_attributes_count":1,"schema_url":"resource/schema","entity_refs":[{"schema_url":"entity/schema","type":"service","id_keys":["service.name"],"description_keys":["host"]}]}"#
    );
    let (name, version, meta) = span.scope();
    assert_eq!((name, version), ("a scope", "1.2"));
    assert_eq!(
        meta,
        r#"{"attributes":{"scope.key":"scope value"},"dropped_attributes_count":2,"schema_url":"scope/schema"}"#
    );
    let attributes: Vec<_> = span.attributes().collect();
    assert_eq!(
        attributes,
        [
            ("text", ColumnValue::String("GET")),
            ("int", ColumnValue::Int(-200)),
            ("double", ColumnValue::Double(1.0)),
            ("bool", ColumnValue::Bool(true)),
            ("empty", ColumnValue::Empty),
            ("bytes", ColumnValue::Json(r#"{"$bytes":"AP8="}"#)),
            ("array", ColumnValue::Json(r#"["a",1]"#)),
            ("map", ColumnValue::Json(r#"{"$$x":"y","none":null}"#)),
        ]
    );
    let event = span.events().next().expect("an event");
    assert_eq!((event.time_ns, event.name), (1_700_000_000_000_000_700, "an event"));
    assert_eq!((event.attributes, event.dropped_attributes_count), (r#"{"event.key":"event value"}"#, 4));
    let link = span.links().next().expect("a link");
    assert_eq!((link.trace_id.0, link.span_id.0), ([7; 16], [8; 8]));
    assert_eq!((link.trace_state, link.attributes), ("link=state", r#"{"link.key":"link value"}"#));
    assert_eq!((link.dropped_attributes_count, link.flags), (6, 0x100));
}

#[test]
fn what_is_not_set_is_empty() {
    let bare =
        Span { trace_id: vec![1; 16], span_id: vec![1; 8], parent_span_id: vec![0; 8], ..Span::default() };
    let mut data = data(vec![bare]);
    data.resource_spans[0].resource = None;
    data.resource_spans[0].schema_url.clear();
    data.resource_spans[0].scope_spans[0].scope = None;
    data.resource_spans[0].scope_spans[0].schema_url.clear();
    let decoded = decode_both(&data, &Limits::default());
    let span = decoded.columns.span(0);
    assert!(span.fields().parent_span_id.is_none());
    assert_eq!((span.service(), span.resource(), span.resource_meta()), ("", "", ""));
    assert_eq!(span.scope(), ("", "", ""));
    assert_eq!((span.attributes().count(), span.events().count(), span.links().count()), (0, 0, 0));
    assert!(attribute::parse_map(span.resource()).expect("empty").is_empty());
}

#[test]
fn times_keep_their_bits() {
    let check = |start: u64, end: u64, expect: (i64, i64)| {
        let timed = Span { start_time_unix_nano: start, end_time_unix_nano: end, ..span("timed") };
        let decoded = decode_both(&data(vec![timed]), &Limits::default());
        let fields = decoded.columns.span(0).fields();
        assert_eq!((fields.start_ns, fields.duration_ns), expect);
    };
    check(10, 30, (10, 20));
    check(30, 10, (30, -20));
    check(u64::MAX, 0, (-1, 1));
    check(0, u64::MAX, (0, -1));
}

#[test]
fn reasons_are_few() {
    let spans = (0..100).map(|i| Span { trace_id: vec![1; i % 15], ..span("wrong") }).collect();
    let decoded = decode_both(&data(spans), &Limits::default());
    assert_eq!(decoded.rejected_spans, 100);
    assert_eq!(
        decoded.error_message,
        "span 0102030405060708: trace id has 0 bytes instead of 16; \
         span 0102030405060708: trace id has 1 bytes instead of 16; \
         span 0102030405060708: trace id has 2 bytes instead of 16; and more"
    );
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let body = data(vec![span("one")]).encode_to_vec();
    let limits = Limits { max_body_bytes: body.len() - 1, ..Limits::default() };
    for format in [Format::Protobuf, Format::Json] {
        assert_eq!(decode_traces(&body, format, &limits).expect_err("too large").kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn content_types_ignore_parameters_and_case() {
    let check = |value: &str, expect: Option<Format>| {
        assert_eq!(Format::from_content_type(value), expect, "{value:?}");
    };
    check("application/x-protobuf", Some(Format::Protobuf));
    check("Application/X-Protobuf; messageType=x", Some(Format::Protobuf));
    check("application/json", Some(Format::Json));
    check(" APPLICATION/json ;charset=utf-8", Some(Format::Json));
    for other in ["", "text/plain", "application/jsonl", "application/grpc", ";application/json"] {
        check(other, None);
    }
    for format in [Format::Protobuf, Format::Json] {
        assert_eq!(Format::from_content_type(format.content_type()), Some(format));
    }
}

#[test]
fn answers_have_these_bytes() {
    let check =
        |answer: Vec<u8>, expect: &[u8]| assert_eq!(answer, expect, "{}", String::from_utf8_lossy(&answer));
    check(traces_response(Format::Protobuf, 0, ""), b"");
    check(traces_response(Format::Json, 0, ""), b"{}");
    check(traces_response(Format::Protobuf, 3, "why"), b"\x0a\x07\x08\x03\x12\x03why");
    check(
        traces_response(Format::Json, 3, "\"why\""),
        br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"\"why\""}}"#,
    );
    check(traces_response(Format::Protobuf, 0, "hm"), b"\x0a\x04\x12\x02hm");
    check(traces_response(Format::Json, 0, "hm"), br#"{"partialSuccess":{"errorMessage":"hm"}}"#);
    check(traces_response(Format::Json, 2, ""), br#"{"partialSuccess":{"rejectedSpans":"2"}}"#);
    check(error_response(Format::Protobuf, 3, "bad"), b"\x08\x03\x12\x03bad");
    check(error_response(Format::Json, 3, "bad\n"), br#"{"code":3,"message":"bad\n"}"#);
    check(error_response(Format::Protobuf, 0, ""), b"");
}

#[test]
fn json_has_this_text_in_each_style() {
    let mut data = data(vec![span("an operation")]);
    data.resource_spans[0].scope_spans[0].spans[0].attributes.truncate(3);
    let check =
        |style: JsonStyle, expect: &str| assert_eq!(messages_to_json(&data, style), expect.replace('\n', ""));
    check(
        JsonStyle::Otlp,
        r#"
{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},
{"key":"host","value":{"stringValue":"h1"}}],"droppedAttributesCount":1,
"entityRefs":[{"schemaUrl":"entity/schema","type":"service","idKeys":["service.name"],"descriptionKeys":["host"]}]},
"scopeSpans":[{"scope":{"name":"a scope","version":"1.2",
"attributes":[{"key":"scope.key","value":{"stringValue":"scope value"}}],"droppedAttributesCount":2},
"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","traceState":"span=state",
"parentSpanId":"0909090909090909","flags":769,"name":"an operation","kind":2,
"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001500",
"attributes":[{"key":"text","value":{"stringValue":"GET"}},{"key":"int","value":{"intValue":"-200"}},
{"key":"double","value":{"doubleValue":1.0}}],"droppedAttributesCount":3,
"events":[{"timeUnixNano":"1700000000000000700","name":"an event",
"attributes":[{"key":"event.key","value":{"stringValue":"event value"}}],"droppedAttributesCount":4}],
"droppedEventsCount":5,
"links":[{"traceId":"07070707070707070707070707070707","spanId":"0808080808080808","traceState":"link=state",
"attributes":[{"key":"link.key","value":{"stringValue":"link value"}}],"droppedAttributesCount":6,"flags":256}],
"droppedLinksCount":7,"status":{"message":"not good","code":2}}],"schemaUrl":"scope/schema"}],
"schemaUrl":"resource/schema"}]}"#,
    );
    let bare = Span { trace_id: vec![255; 16], span_id: vec![1; 8], kind: 3, ..Span::default() };
    let bare = decode(&crate::sample::data(vec![bare]).encode_to_vec(), Format::Protobuf);
    let mut messages = wire::otlp::to_messages(bare.columns.iter());
    *resource(&mut messages) = Resource::default();
    messages.resource_spans[0].schema_url.clear();
    *scope(&mut messages) = InstrumentationScope::default();
    messages.resource_spans[0].scope_spans[0].schema_url.clear();
    messages.resource_spans[0].scope_spans[0].spans[0].status.as_mut().expect("always there").code = 2;
    let span = r#"[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"traceId":"/////////////////////w==","spanId":"AQEBAQEBAQE=","kind":"SPAN_KIND_CLIENT","status":{"code":"STATUS_CODE_ERROR"}}]}]}]"#;
    assert_eq!(messages_to_json(&messages, JsonStyle::TempoBatches), format!(r#"{{"batches":{span}}}"#));
    assert_eq!(messages_to_json(&messages, JsonStyle::TempoTrace), format!(r#"{{"resourceSpans":{span}}}"#));
    assert_eq!(messages_to_json(&TracesData::default(), JsonStyle::Otlp), r#"{"resourceSpans":[]}"#);
}
