//! Log records: every field comes back, through protobuf and through JSON; what is wrong costs as little as it may.

use std::fmt::Write as _;

use model::attribute::{self, AnyValue, Attributes};
use model::columns::{EntityRef, ResourceMeta, ScopeMeta};
use model::logs::Body;
use model::{LogColumns, SpanId, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as ProtoAny, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value as Json, json};
use wire::otlp::{DecodedLogs, Format, decode_logs};
use wire::{Error, Limits};

use crate::generate;

fn decode(body: &[u8], format: Format) -> DecodedLogs {
    decode_logs(body, format, &Limits::default()).expect("a request that can be read")
}

/// The model's value of a message's.
fn value(any: &ProtoAny) -> AnyValue {
    match &any.value {
        // Positions of strings count only in profiles.
        None | Some(ProtoValue::StringValueStrindex(_)) => AnyValue::Empty,
        Some(ProtoValue::StringValue(text)) => AnyValue::String(text.clone()),
        Some(ProtoValue::BoolValue(truth)) => AnyValue::Bool(*truth),
        Some(ProtoValue::IntValue(number)) => AnyValue::Int(*number),
        Some(ProtoValue::DoubleValue(number)) => AnyValue::Double(*number),
        Some(ProtoValue::BytesValue(bytes)) => AnyValue::Bytes(bytes.clone()),
        Some(ProtoValue::ArrayValue(array)) => AnyValue::Array(array.values.iter().map(value).collect()),
        Some(ProtoValue::KvlistValue(map)) => AnyValue::Map(attributes(&map.values)),
    }
}

fn attributes(list: &[KeyValue]) -> Attributes {
    let one = |entry: &KeyValue| (entry.key.clone(), entry.value.as_ref().map_or(AnyValue::Empty, value));
    list.iter().map(one).collect()
}

/// Text in which every bit of every value shows.
fn map_text(attributes: &Attributes) -> String {
    let mut text = String::new();
    if !attributes.is_empty() {
        attribute::write_map(&mut text, attributes);
    }
    text
}

/// Asserts that a row holds every field of a record and of where it comes from.
fn assert_row(columns: &LogColumns, row: usize, of: (&ResourceLogs, &ScopeLogs, &LogRecord)) {
    let (of_resource, of_scope, record) = of;
    let read = columns.iter().nth(row).expect("a row");
    assert_eq!(read.time_ns as u64, record.time_unix_nano);
    assert_eq!(read.observed_time_ns as u64, record.observed_time_unix_nano);
    assert_eq!(read.severity_number, record.severity_number);
    assert_eq!((read.severity_text, read.event_name), (&*record.severity_text, &*record.event_name));
    assert_eq!((read.flags, read.dropped_attributes_count), (record.flags, record.dropped_attributes_count));
    // An id of the wrong length is none.
    assert_eq!(read.trace_id.0, <[u8; 16]>::try_from(&record.trace_id[..]).unwrap_or_default());
    assert_eq!(read.span_id.0, <[u8; 8]>::try_from(&record.span_id[..]).unwrap_or_default());
    let mut json = String::new();
    let body = record.body.as_ref().map(value);
    let expect = match &body {
        None => Body::None,
        Some(AnyValue::String(text)) => Body::Text(text),
        Some(other) => {
            attribute::write_value(&mut json, other);
            Body::Json(&json)
        }
    };
    assert_eq!(read.body, expect);
    let found = columns.attributes.row(row);
    let found = found.map(|(key, value)| (key.to_owned(), value.to_any_value().expect("own JSON")));
    assert_eq!(map_text(&found.collect()), map_text(&attributes(&record.attributes)));

    let origins = &columns.origins;
    let resource = of_resource.resource.clone().unwrap_or_default();
    assert_eq!(origins.resource.get(row), map_text(&attributes(&resource.attributes)));
    let entity = |entity: &opentelemetry_proto::tonic::common::v1::EntityRef| EntityRef {
        schema_url: entity.schema_url.clone(),
        kind: entity.r#type.clone(),
        id_keys: entity.id_keys.clone(),
        description_keys: entity.description_keys.clone(),
    };
    let meta = ResourceMeta {
        dropped_attributes_count: resource.dropped_attributes_count,
        schema_url: of_resource.schema_url.clone(),
        entity_refs: resource.entity_refs.iter().map(entity).collect(),
    };
    assert_eq!(ResourceMeta::parse(origins.resource_meta.get(row)), Ok(meta));
    let scope = of_scope.scope.clone().unwrap_or_default();
    let meta = ScopeMeta {
        attributes: attributes(&scope.attributes),
        dropped_attributes_count: scope.dropped_attributes_count,
        schema_url: of_scope.schema_url.clone(),
    };
    assert_eq!(origins.scope(row), (&*scope.name, &*scope.version, &*meta.to_json()));
}

/// Asserts that the columns hold all records of a request in their order; returns how many.
fn assert_all(columns: &LogColumns, request: &ExportLogsServiceRequest) -> usize {
    let mut n_rows = 0;
    for of_resource in &request.resource_logs {
        for of_scope in &of_resource.scope_logs {
            for record in &of_scope.log_records {
                assert_row(columns, n_rows, (of_resource, of_scope, record));
                n_rows += 1;
            }
        }
    }
    assert_eq!(columns.len(), n_rows);
    n_rows
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}

fn json_value(any: &ProtoAny) -> Json {
    match &any.value {
        None | Some(ProtoValue::StringValueStrindex(_)) => json!({}),
        Some(ProtoValue::StringValue(text)) => json!({ "stringValue": text }),
        Some(ProtoValue::BoolValue(truth)) => json!({ "boolValue": truth }),
        Some(ProtoValue::IntValue(number)) => json!({ "intValue": number.to_string() }),
        Some(ProtoValue::DoubleValue(number)) if number.is_finite() => json!({ "doubleValue": number }),
        Some(ProtoValue::DoubleValue(number)) => {
            json!({ "doubleValue": if number.is_nan() { "NaN" } else if *number > 0.0 { "Infinity" } else { "-Infinity" } })
        }
        Some(ProtoValue::BytesValue(bytes)) => {
            use base64::Engine as _;
            json!({ "bytesValue": base64::engine::general_purpose::STANDARD.encode(bytes) })
        }
        Some(ProtoValue::ArrayValue(array)) => {
            json!({ "arrayValue": { "values": array.values.iter().map(json_value).collect::<Vec<_>>() } })
        }
        Some(ProtoValue::KvlistValue(map)) => {
            json!({ "kvlistValue": { "values": json_attributes(&map.values) } })
        }
    }
}

fn json_attributes(list: &[KeyValue]) -> Json {
    let one = |entry: &KeyValue| match &entry.value {
        Some(value) => json!({ "key": entry.key, "value": json_value(value) }),
        None => json!({ "key": entry.key }),
    };
    list.iter().map(one).collect()
}

fn json_record(record: &LogRecord) -> Json {
    let mut json = json!({
        "timeUnixNano": record.time_unix_nano.to_string(),
        "observedTimeUnixNano": record.observed_time_unix_nano.to_string(),
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "eventName": record.event_name,
        "attributes": json_attributes(&record.attributes),
        "droppedAttributesCount": record.dropped_attributes_count,
        "flags": record.flags,
        "traceId": hex(&record.trace_id),
        "spanId": hex(&record.span_id),
    });
    if let Some(body) = &record.body {
        json["body"] = json_value(body);
    }
    json
}

fn json_scope(scope: &InstrumentationScope) -> Json {
    json!({
        "name": scope.name,
        "version": scope.version,
        "attributes": json_attributes(&scope.attributes),
        "droppedAttributesCount": scope.dropped_attributes_count,
    })
}

fn json_resource(resource: &Resource) -> Json {
    let entities = resource.entity_refs.iter().map(|entity| {
        json!({
            "schemaUrl": entity.schema_url,
            "type": entity.r#type,
            "idKeys": entity.id_keys,
            "descriptionKeys": entity.description_keys,
        })
    });
    json!({
        "attributes": json_attributes(&resource.attributes),
        "droppedAttributesCount": resource.dropped_attributes_count,
        "entityRefs": entities.collect::<Vec<_>>(),
    })
}

fn json_request(request: &ExportLogsServiceRequest) -> String {
    let of_scope = |of: &ScopeLogs| {
        json!({
            "scope": of.scope.as_ref().map(json_scope),
            "logRecords": of.log_records.iter().map(json_record).collect::<Vec<_>>(),
            "schemaUrl": of.schema_url,
        })
    };
    let of_resource = |of: &ResourceLogs| {
        json!({
            "resource": of.resource.as_ref().map(json_resource),
            "scopeLogs": of.scope_logs.iter().map(of_scope).collect::<Vec<_>>(),
            "schemaUrl": of.schema_url,
        })
    };
    let resource_logs: Vec<_> = request.resource_logs.iter().map(of_resource).collect();
    json!({ "resourceLogs": resource_logs }).to_string()
}

/// Makes every NaN the one that JSON can say.
fn with_plain_nans(mut request: ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    fn plain(any: &mut ProtoAny) {
        match &mut any.value {
            Some(ProtoValue::DoubleValue(number)) if number.is_nan() => *number = f64::NAN,
            Some(ProtoValue::ArrayValue(array)) => array.values.iter_mut().for_each(plain),
            Some(ProtoValue::KvlistValue(map)) => plain_all(&mut map.values),
            _ => {}
        }
    }
    fn plain_all(list: &mut [KeyValue]) {
        list.iter_mut().filter_map(|entry| entry.value.as_mut()).for_each(plain);
    }
    for of_resource in &mut request.resource_logs {
        of_resource.resource.iter_mut().for_each(|resource| plain_all(&mut resource.attributes));
        for of_scope in &mut of_resource.scope_logs {
            of_scope.scope.iter_mut().for_each(|scope| plain_all(&mut scope.attributes));
            for record in &mut of_scope.log_records {
                record.body.iter_mut().for_each(plain);
                plain_all(&mut record.attributes);
            }
        }
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_field_comes_back_from_protobuf(request in generate::logs_request()) {
        let decoded = decode(&request.encode_to_vec(), Format::Protobuf);
        prop_assert_eq!((decoded.rejected_log_records, decoded.error_message.as_str()), (0, ""));
        assert_all(&decoded.columns, &request);
    }

    #[test]
    fn every_field_comes_back_from_json(request in generate::logs_request().prop_map(with_plain_nans)) {
        let text = json_request(&request);
        let decoded = decode(text.as_bytes(), Format::Json);
        prop_assert_eq!((decoded.rejected_log_records, decoded.error_message.as_str()), (0, ""), "{}", text);
        assert_all(&decoded.columns, &request);
        let protobuf = decode(&request.encode_to_vec(), Format::Protobuf);
        prop_assert_eq!(decoded.columns.first_difference(&protobuf.columns), None);
    }

    #[test]
    fn any_bytes_are_an_error_or_log_records(
        request in generate::logs_request(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut body = request.encode_to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(decoded) = decode_logs(&body, Format::Protobuf, &Limits::default()) {
            prop_assert_eq!(decoded.rejected_log_records == 0, decoded.error_message.is_empty());
        }
    }
}

fn one_record(fields: &str) -> DecodedLogs {
    let body = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{}},{{{fields}}}]}}]}}]}}"#);
    decode(body.as_bytes(), Format::Json)
}

#[test]
fn an_id_that_is_none_keeps_its_record() {
    for fields in [
        r#""traceId":"","spanId":"""#,
        r#""traceId":"0102","spanId":"01""#,
        r#""traceId":"AQIDBAUGBwgJCgsMDQ4PEA==","spanId":"not hex at all""#,
        r#""traceId":"00000000000000000000000000000000","spanId":null"#,
    ] {
        let decoded = one_record(fields);
        assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (2, 0), "{fields}");
        assert_eq!((decoded.columns.trace_id[1], decoded.columns.span_id[1]), (TraceId::NONE, SpanId::NONE));
    }
    let decoded = one_record(r#""traceId":"0102030405060708090A0b0C0d0E0f10","spanId":"AABBCCDDEEFF0011""#);
    assert_eq!(decoded.columns.trace_id[1].to_string(), "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(decoded.columns.span_id[1].to_string(), "aabbccddeeff0011");
}

#[test]
fn severities_are_numbers_or_names() {
    for (said, expect) in [
        ("9", 9),
        (r#""9""#, 9),
        (r#""SEVERITY_NUMBER_INFO""#, 9),
        (r#""SEVERITY_NUMBER_FATAL4""#, 24),
        (r#""SEVERITY_NUMBER_UNSPECIFIED""#, 0),
        ("null", 0),
        ("-7", -7),
        ("99", 99),
    ] {
        let decoded = one_record(&format!(r#""severityNumber":{said}"#));
        assert_eq!((decoded.columns.severity_number[1], decoded.rejected_log_records), (expect, 0), "{said}");
    }
}

#[test]
fn wrong_values_reject_only_their_record() {
    for (fields, expect) in [
        (r#""timeUnixNano":"-1""#, "time is not a number in its range"),
        (r#""observedTimeUnixNano":1.5"#, "observed time is not a number in its range"),
        (r#""severityNumber":"INFO""#, "severity number is not a number in its range"),
        (r#""flags":4294967296"#, "flags is not a number in its range"),
        (r#""body":{"intValue":"1e3"}"#, "is not a number"),
        (r#""body":{"bytesValue":"?"}"#, "is not base64"),
        (r#""body":{"arrayValue":{"values":[{"doubleValue":"inf"}]}}"#, "is not a number"),
    ] {
        let decoded = one_record(fields);
        assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (1, 1), "{fields}");
        assert!(decoded.error_message.contains(expect), "{expect:?} in {:?}", decoded.error_message);
    }
    let record = |text: &[u8]| {
        // A record with only a severity text, which is not UTF-8.
        let mut record = vec![0x1a, text.len() as u8];
        record.extend_from_slice(text);
        let wrap = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
        wrap(1, &wrap(2, &wrap(2, &record)))
    };
    let decoded = decode(&[record(b"ok"), record(b"\xff"), record(b"fine")].concat(), Format::Protobuf);
    assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (2, 1));
    assert!(decoded.error_message.contains("severity text"), "{}", decoded.error_message);
}

#[test]
fn limits_bound_a_record_and_a_request() {
    let limits =
        Limits { max_string_bytes: 8, max_attributes_per_span: 2, max_depth: 4, ..Limits::default() };
    let attribute = |key: &str| KeyValue { key: key.to_owned(), ..KeyValue::default() };
    let body = |value| Some(ProtoAny { value: Some(value) });
    let mut deep = ProtoAny { value: Some(ProtoValue::IntValue(1)) };
    for _ in 0..6 {
        let array = opentelemetry_proto::tonic::common::v1::ArrayValue { values: vec![deep] };
        deep = ProtoAny { value: Some(ProtoValue::ArrayValue(array)) };
    }
    let records = vec![
        LogRecord { body: body(ProtoValue::StringValue("12345678".to_owned())), ..LogRecord::default() },
        LogRecord { body: body(ProtoValue::StringValue("123456789".to_owned())), ..LogRecord::default() },
        LogRecord { attributes: ["a", "b", "c"].map(attribute).to_vec(), ..LogRecord::default() },
        LogRecord { body: Some(deep), ..LogRecord::default() },
        LogRecord { event_name: "last".to_owned(), ..LogRecord::default() },
    ];
    let scope_logs = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    let request = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    let decoded = decode_logs(&request, Format::Protobuf, &limits).expect("readable");
    assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (2, 3), "{}", decoded.error_message);
    assert_eq!(decoded.columns.event_name.get(1), "last");

    let many = [[0x12, 0x00]; 60].concat();
    let scope_logs = [&[0x12, many.len() as u8], &many[..]].concat();
    let body = [&[0x0a, scope_logs.len() as u8], &scope_logs[..]].concat();
    let limits = Limits { max_body_bytes: 64 * 50, ..Limits::default() };
    let decoded = decode_logs(&body, Format::Protobuf, &limits).expect("readable");
    assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (50, 10), "{}", decoded.error_message);
    let limits = Limits { max_body_bytes: 10, ..Limits::default() };
    let error = decode_logs(&body, Format::Protobuf, &limits).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { limit: 10 }), "{error}");
}
