//! Spans for tests: generated ones and a fixed example.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::ops::Range;

use model::attribute::{self, AnyValue};
use model::columns::{AttributeColumns, ResourceMeta, ScopeMeta, Value};
use model::spans::{EventView, LinkView, SpanFields};
use model::{SpanColumns, SpanId, TraceId};
use proptest::prelude::*;

/// A value by chance.
#[derive(Debug, Clone)]
pub(crate) enum Attribute {
    Empty,
    String(String),
    Int(i64),
    Double(u64),
    Bool(bool),
    Json(Vec<u8>),
}

/// A key and a value by chance.
pub(crate) fn any_attribute() -> impl Strategy<Value = (String, Attribute)> {
    let value = prop_oneof![
        Just(Attribute::Empty),
        prop_oneof!["[a-c]{0,2}", any::<String>()].prop_map(Attribute::String),
        prop_oneof![0i64..4, any::<i64>()].prop_map(Attribute::Int),
        any::<u64>().prop_map(Attribute::Double),
        any::<bool>().prop_map(Attribute::Bool),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Attribute::Json),
    ];
    ("[a-e]{0,2}", value)
}

/// A text by chance, often one of few.
pub(crate) fn some_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]?", any::<String>()]
}

type Lists = (Vec<(String, Attribute)>, Vec<(i64, String, bool)>, Vec<([u8; 16], [u8; 8], String, u32)>);
type Scalars = ([u8; 16], [u8; 8], Option<[u8; 8]>, i64, i64, i32, i32, u32);

fn any_span() -> impl Strategy<Value = (Scalars, Lists, [String; 6])> {
    let trace = prop_oneof![(0u8..4).prop_map(|i| [i; 16]), any::<[u8; 16]>()];
    let scalars = (
        trace,
        any::<[u8; 8]>(),
        any::<Option<[u8; 8]>>(),
        any::<i64>(),
        any::<i64>(),
        -1i32..7,
        any::<i32>(),
        any::<u32>(),
    );
    let lists = (
        proptest::collection::vec(any_attribute(), 0..6),
        proptest::collection::vec((any::<i64>(), some_text(), any::<bool>()), 0..3),
        proptest::collection::vec((any::<[u8; 16]>(), any::<[u8; 8]>(), some_text(), any::<u32>()), 0..3),
    );
    let texts = [(); 6].map(|()| some_text());
    (scalars, lists, texts)
}

/// So many spans with anything in them.
pub(crate) fn any_columns(n: Range<usize>) -> impl Strategy<Value = SpanColumns> {
    proptest::collection::vec(any_span(), n).prop_map(|spans| {
        let mut columns = SpanColumns::default();
        for (scalars, lists, texts) in &spans {
            push(&mut columns, scalars, lists, texts);
        }
        columns
    })
}

/// Appends attributes to the open row.
pub(crate) fn push_attributes(columns: &mut AttributeColumns, attributes: &[(String, Attribute)]) {
    for (key, value) in attributes {
        let mut json = String::new();
        let value = match value {
            Attribute::Empty => Value::Empty,
            Attribute::String(text) => Value::String(text),
            Attribute::Int(number) => Value::Int(*number),
            Attribute::Double(bits) => Value::Double(f64::from_bits(*bits)),
            Attribute::Bool(truth) => Value::Bool(*truth),
            Attribute::Json(bytes) => {
                attribute::write_bytes(&mut json, bytes);
                Value::Json(&json)
            }
        };
        columns.push(key, value);
    }
}

fn push(
    columns: &mut SpanColumns,
    scalars: &Scalars,
    (attributes, events, links): &Lists,
    texts: &[String; 6],
) {
    push_attributes(&mut columns.attributes, attributes);
    for (time_ns, name, with_attributes) in events {
        let attributes = if *with_attributes { r#"{"a":1}"# } else { "" };
        columns.events.push(EventView { time_ns: *time_ns, name, attributes, dropped_attributes_count: 1 });
    }
    for (trace, span, text, number) in links {
        columns.links.push(LinkView {
            trace_id: TraceId(*trace),
            span_id: SpanId(*span),
            trace_state: text,
            attributes: if number % 2 == 0 { "" } else { r#"{"b":null}"# },
            dropped_attributes_count: *number,
            flags: number.wrapping_mul(7),
        });
    }
    let resource = format!(r#"{{"service.name":"{}"}}"#, scalars.6 % 3);
    let origin = columns.origins.intern_resource(&texts[0], &resource, &texts[1]);
    let origin = columns.origins.intern_scope(origin, &texts[2], &texts[3], "");
    let span = SpanFields {
        trace_id: TraceId(scalars.0),
        span_id: SpanId(scalars.1),
        parent_span_id: SpanId(scalars.2.unwrap_or_default()),
        trace_state: &texts[4],
        flags: scalars.7,
        name: &texts[5],
        kind: scalars.5,
        start_ns: scalars.3,
        duration_ns: scalars.4,
        status_code: scalars.6,
        status_message: &texts[1],
        dropped_attributes_count: scalars.7 / 2,
        dropped_events_count: 0,
        dropped_links_count: 1,
    };
    columns.push_span(&span, origin);
}

/// Three spans with every kind of value.
pub(crate) fn example() -> SpanColumns {
    let mut columns = SpanColumns::default();
    let resource_meta =
        ResourceMeta { schema_url: "https://example.test/1".to_owned(), ..ResourceMeta::default() };
    let scope_meta =
        ScopeMeta { attributes: vec![("k".to_owned(), AnyValue::Bool(true))], ..ScopeMeta::default() }
            .to_json();
    let shop = columns.origins.intern_resource(
        "shop",
        r#"{"service.name":"shop","pid":7}"#,
        &resource_meta.to_json(),
    );
    let shop = columns.origins.intern_scope(shop, "tracer", "1.2", &scope_meta);
    let start_ns = 1_795_568_400_000_000_000;

    columns.attributes.push("http.route", Value::String("/cart"));
    columns.attributes.push("http.response.status_code", Value::Int(500));
    columns.attributes.push("ratio", Value::Double(0.25));
    columns.attributes.push("retry", Value::Bool(true));
    columns.attributes.push("items", Value::Json(r#"["a",1]"#));
    columns.attributes.push("nothing", Value::Empty);
    columns.events.push(EventView {
        time_ns: start_ns + 5,
        name: "exception",
        attributes: r#"{"exception.type":"Timeout"}"#,
        dropped_attributes_count: 2,
    });
    columns.events.push(EventView {
        time_ns: start_ns + 6,
        name: "log",
        attributes: "",
        dropped_attributes_count: 0,
    });
    let root = SpanFields {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([1; 8]),
        trace_state: "a=b",
        flags: 0x101,
        name: "GET /cart",
        kind: 2,
        start_ns,
        duration_ns: 1_500_000,
        status_code: 2,
        status_message: "upstream timed out",
        ..SpanFields::default()
    };
    columns.push_span(&root, shop);

    columns.links.push(LinkView {
        trace_id: TraceId([9; 16]),
        span_id: SpanId([8; 8]),
        trace_state: "",
        attributes: r#"{"why":"retry"}"#,
        dropped_attributes_count: 0,
        flags: 1,
    });
    let child = SpanFields {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: SpanId([1; 8]),
        name: "SELECT",
        kind: 3,
        start_ns: start_ns + 100,
        duration_ns: 700_000,
        dropped_attributes_count: 1,
        ..SpanFields::default()
    };
    columns.push_span(&child, shop);

    let other = columns.origins.intern_resource("", "", "");
    let other_span = SpanFields {
        trace_id: TraceId([3; 16]),
        span_id: SpanId([4; 8]),
        start_ns: start_ns - 1,
        ..SpanFields::default()
    };
    columns.push_span(&other_span, other);
    columns
}

/// Compares bytes with a file of the folder `golden`, which `SPANDREL_UPDATE_GOLDEN=1` writes.
#[allow(clippy::disallowed_methods, reason = "tests are told by the environment what to write")]
pub(crate) fn check_golden(name: &str, bytes: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SPANDREL_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).expect("writable golden folder");
    }
    let golden = std::fs::read(&path).expect("golden file; SPANDREL_UPDATE_GOLDEN=1 writes it");
    assert!(
        golden == bytes,
        "{name} differs from the pinned layout; SPANDREL_UPDATE_GOLDEN=1 writes a new one"
    );
}
