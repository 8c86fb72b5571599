//! Protobuf that no encoder of ours writes, but that is valid, or almost.

use prost::Message as _;
use prost::encoding;
use wire::otlp::message::any_value::Value;
use wire::otlp::message::{AnyValue, Resource, Span, Status};
use wire::otlp::{Format, decode_traces, to_messages};
use wire::{Error, Limits};

use crate::sample::{assert_same, attribute, data, decode, decode_both, key_value, span, value};

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoding::encode_key(number, encoding::WireType::LengthDelimited, &mut out);
    encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn request(span_bytes: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, span_bytes)))
}

fn minimal() -> Vec<u8> {
    [field(1, &[1; 16]), field(2, &[2; 8])].concat()
}

#[test]
fn fields_may_come_in_any_order() {
    let expect = decode_both(&data(vec![span("one")]), &Limits::default());
    let resource_spans = &data(vec![span("one")]).resource_spans[0];
    let scope_spans = &resource_spans.scope_spans[0];
    // Every field of the span alone, the last first; lists keep their order by themselves.
    let one = span("one");
    let parts = [
        Span { flags: one.flags, ..Span::default() },
        Span { status: one.status.clone(), ..Span::default() },
        Span { dropped_links_count: one.dropped_links_count, ..Span::default() },
        Span { links: one.links.clone(), ..Span::default() },
        Span { dropped_events_count: one.dropped_events_count, ..Span::default() },
        Span { events: one.events.clone(), ..Span::default() },
        Span { dropped_attributes_count: one.dropped_attributes_count, ..Span::default() },
        Span { attributes: one.attributes[..3].to_vec(), ..Span::default() },
        Span { end_time_unix_nano: one.end_time_unix_nano, ..Span::default() },
        Span { start_time_unix_nano: one.start_time_unix_nano, kind: one.kind, ..Span::default() },
        Span { name: one.name.clone(), ..Span::default() },
        Span { attributes: one.attributes[3..].to_vec(), ..Span::default() },
        Span {
            parent_span_id: one.parent_span_id.clone(),
            trace_state: one.trace_state.clone(),
            ..Span::default()
        },
        Span { span_id: one.span_id.clone(), ..Span::default() },
        Span { trace_id: one.trace_id.clone(), ..Span::default() },
    ];
    let span_bytes: Vec<u8> = parts.iter().flat_map(prost::Message::encode_to_vec).collect();
    let scope_bytes = [
        field(3, scope_spans.schema_url.as_bytes()),
        field(2, &span_bytes),
        field(1, &scope_spans.scope.as_ref().expect("scope").encode_to_vec()),
    ]
    .concat();
    let resource_bytes = [
        field(3, resource_spans.schema_url.as_bytes()),
        field(2, &scope_bytes),
        field(1, &resource_spans.resource.as_ref().expect("resource").encode_to_vec()),
    ]
    .concat();
    assert_same(&decode(&field(1, &resource_bytes), Format::Protobuf).columns, &expect.columns);
}

#[test]
fn the_last_of_repeated_scalars_wins_and_messages_merge() {
    let mut bytes = Span { name: "first".to_owned(), kind: 1, ..Span::default() }.encode_to_vec();
    bytes.extend(Span { name: "last".to_owned(), kind: 4, ..Span::default() }.encode_to_vec());
    bytes.extend(field(15, &Status { message: "kept".to_owned(), code: 1 }.encode_to_vec()));
    bytes.extend(field(15, &Status { message: String::new(), code: 2 }.encode_to_vec()));
    // A key and a value that are set twice; the second value says nothing and changes nothing.
    bytes.extend(field(
        9,
        &[
            field(1, b"a"),
            field(2, &field(1, b"x")),
            field(1, b"b"),
            field(2, &field(1, b"y")),
            field(2, b""),
        ]
        .concat(),
    ));
    bytes.extend(minimal());
    let scope_bytes = field(2, &bytes);
    let resource =
        |key: &str| Resource { attributes: vec![attribute(key, "v")], ..Resource::default() }.encode_to_vec();
    let resource_bytes =
        [field(1, &resource("a")), field(2, &scope_bytes), field(1, &resource("b"))].concat();
    let decoded = decode(&field(1, &resource_bytes), Format::Protobuf);
    let span = decoded.columns.span(0);
    assert_eq!((span.fields().name, span.fields().kind), ("last", 4));
    assert_eq!((span.fields().status_message, span.fields().status_code), ("kept", 2));
    assert_eq!(span.attributes().collect::<Vec<_>>(), [("b", model::columns::Value::String("y"))]);
    assert_eq!(span.resource(), r#"{"a":"v","b":"v"}"#);
}

#[test]
fn unknown_fields_are_skipped_everywhere() {
    // A varint, eight bytes, a string, a group with a group inside, four bytes; numbers that no message has.
    let unknown: Vec<u8> = [
        &[0xa0, 0x06, 0x96, 0x01][..],
        &[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &field(100, b"unknown"),
        &[0xa3, 0x06, 0x08, 0x01, 0xab, 0x06, 0xac, 0x06, 0xa4, 0x06],
        &[0xa5, 0x06, 1, 2, 3, 4],
        // Known numbers with other wire types.
        &[0x0d, 1, 2, 3, 4, 0x15, 1, 2, 3, 4, 0x1d, 1, 2, 3, 4, 0x2d, 1, 2, 3, 4, 0x35, 1, 2, 3, 4],
    ]
    .concat();
    let with = |content: &[u8]| [&unknown, content, &unknown].concat();
    let value = with(&field(5, &with(&field(1, &with(&field(1, b"x"))))));
    let key_value = with(&[field(1, b"key"), field(2, &value)].concat());
    let event = with(&[field(2, b"event"), field(3, &key_value)].concat());
    let status = [&unknown[..unknown.len() - 25], &field(2, b"message")].concat();
    let span_bytes = with(&[minimal(), field(9, &key_value), field(11, &event), field(15, &status)].concat());
    let resource = with(&field(1, &key_value));
    let scope = with(&[field(1, b"scope"), field(3, &key_value)].concat());
    let scope_spans = with(&[field(1, &scope), field(2, &span_bytes)].concat());
    // The removed list of instrumentation libraries, field 1000, too.
    let resource_spans = with(&[field(1, &resource), field(2, &scope_spans), field(1000, b"old")].concat());
    let decoded = decode(&with(&field(1, &resource_spans)), Format::Protobuf);
    assert_eq!((decoded.columns.len(), decoded.rejected_spans), (1, 0));
    let span = decoded.columns.span(0);
    assert_eq!(span.attributes().collect::<Vec<_>>(), [("key", model::columns::Value::Json(r#"["x"]"#))]);
    assert_eq!(span.resource(), r#"{"key":["x"]}"#);
    assert_eq!(span.scope().0, "scope");
    assert_eq!(span.events().next().expect("event").attributes, r#"{"key":["x"]}"#);
    assert_eq!(span.fields().status_message, "message");
}

#[test]
fn keys_and_values_of_every_length_are_read() {
    let texts = [0, 1, 100, 124, 125, 126, 127, 128, 129, 16_383, 16_384].map(|length| "x".repeat(length));
    let numbers = [0, 1, 127, 128, 129, 16_383, 16_384, 1 << 40, i64::MAX, -1, i64::MIN];
    let mut one = span("one");
    one.attributes.clear();
    for text in &texts {
        one.attributes.extend([attribute("k", text), attribute(text, "v"), attribute(text, text)]);
        one.attributes.extend(numbers.map(|number| key_value(text, value(Value::IntValue(number)))));
        one.attributes.push(key_value(text, value(Value::DoubleValue(0.1))));
        one.attributes.push(key_value(text, value(Value::BoolValue(true))));
        one.attributes.push(key_value(text, AnyValue { value: None }));
    }
    let decoded = decode_both(&data(vec![one.clone(), one.clone()]), &Limits::default());
    let messages = to_messages(decoded.columns.iter());
    for span in &messages.resource_spans[0].scope_spans[0].spans {
        assert_eq!(span.attributes, one.attributes);
    }
}

#[test]
fn numbers_out_of_range_wrap_as_protobuf_says() {
    // kind -1 as ten bytes; a dropped count of 2^32 + 5.
    let bytes = [
        minimal(),
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0x50, 0x85, 0x80, 0x80, 0x80, 0x10],
    ]
    .concat();
    let decoded = decode(&request(&bytes), Format::Protobuf);
    let fields = decoded.columns.span(0).fields();
    assert_eq!((fields.kind, fields.dropped_attributes_count), (-1, 5));
}

#[test]
fn broken_protobuf_is_an_error_wherever_it_breaks() {
    let valid = data(vec![span("one")]).encode_to_vec();
    let mut n_errors = 0;
    for length in 1..valid.len() {
        n_errors +=
            usize::from(decode_traces(&valid[..length], Format::Protobuf, &Limits::default()).is_err());
    }
    assert_eq!(n_errors, valid.len() - 1);
    let check = |span_bytes: &[u8], expect: &str| {
        let error =
            decode_traces(&request(span_bytes), Format::Protobuf, &Limits::default()).expect_err(expect);
        assert!(matches!(error, Error::Malformed { .. }));
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(&[minimal(), vec![0x0a, 50]].concat(), "field ends after its message");
    check(&[minimal(), vec![0x30]].concat(), "field ends after its message");
    check(
        &[minimal(), vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat(),
        "varint",
    );
    check(&[minimal(), vec![0x0e]].concat(), "unknown wire type");
    check(&[minimal(), vec![0x0c]].concat(), "groups");
    check(&[minimal(), vec![0x00]].concat(), "invalid tag");
    // Broken inside of a span that is invalid already, and inside of a nested value.
    check(&[field(1, b"short"), field(9, &field(2, &[0x0a, 9]))].concat(), "field ends after its message");
    check(
        &[minimal(), field(9, &field(2, &field(5, &field(1, &[0x0a, 9]))))].concat(),
        "field ends after its message",
    );
}

#[test]
fn an_empty_request_is_valid() {
    for (body, format) in
        [(&b""[..], Format::Protobuf), (b"{}", Format::Json), (b"\x0a\x00", Format::Protobuf)]
    {
        let decoded = decode(body, format);
        assert_eq!(
            (decoded.columns.len(), decoded.rejected_spans, decoded.error_message.as_str()),
            (0, 0, "")
        );
    }
}
