//! What the fuzz targets share: what has to hold for every request that a decoder accepts.

use storage::block::logs;
use storage::block::spans::{Parts, Projection, decode, encode};
use storage::index::Places;
use wire::otlp::{self, DecodedTraces, Format, JsonStyle};
use wire::{Error, Limits};

/// Limits small enough that a fuzzer's inputs reach them.
pub const LIMITS: Limits = Limits {
    max_compressed_bytes: 1 << 16,
    max_body_bytes: 1 << 20,
    max_depth: 32,
    max_attributes_per_span: 64,
    max_string_bytes: 1 << 12,
    max_labels: 16,
    max_label_value_bytes: 1 << 10,
    max_samples: 1 << 12,
    max_series: 1 << 10,
    min_time_ms: i64::MIN,
    max_time_ms: i64::MAX,
};

/// Decodes a body as spans and as log records. What was accepted must survive the file format and both renderings, and be bounded in size.
pub fn check_request(body: &[u8], format: Format) {
    check_logs(body, format);
    let decoded = match otlp::decode_traces(body, format, &LIMITS) {
        Ok(decoded) => decoded,
        Err(error) => return check_error(&error),
    };
    let DecodedTraces { columns, rejected_spans, error_message } = decoded;
    assert_eq!(rejected_spans == 0, error_message.is_empty());
    if columns.is_empty() {
        return;
    }
    assert!(columns.len() <= body.len(), "more spans than bytes");

    let file = encode(&columns);
    let stored = decode(&file.descriptor.chunks, &Parts::whole(file.bytes), Projection::ALL);
    let stored = stored.expect("our own file");
    assert_eq!(otlp::to_json(stored.iter(), JsonStyle::Otlp), otlp::to_json(columns.iter(), JsonStyle::Otlp));

    let again = otlp::to_json(columns.iter(), JsonStyle::Otlp);
    let again = otlp::decode_traces(again.as_bytes(), Format::Json, &Limits::default()).expect("our own JSON");
    assert_eq!(again.rejected_spans, 0, "{}", again.error_message);
    assert_eq!(again.columns.len(), columns.len());
}

fn check_logs(body: &[u8], format: Format) {
    let decoded = match otlp::decode_logs(body, format, &LIMITS) {
        Ok(decoded) => decoded,
        Err(error) => return check_error(&error),
    };
    assert_eq!(decoded.rejected_log_records == 0, decoded.error_message.is_empty());
    if decoded.columns.is_empty() {
        return;
    }
    assert!(decoded.columns.len() <= body.len(), "more log records than bytes");
    let file = logs::encode(&decoded.columns);
    let Places::OfRequest(table) = &file.descriptor.places else { panic!("a file of one request") };
    let stored = logs::decode(table, &Parts::whole(file.bytes), Projection::ALL).expect("our own file");
    assert_eq!(stored.first_difference(&decoded.columns), None);
}

/// An error's text goes to the sender: it is short.
pub fn check_error(error: &Error) {
    assert!(error.to_string().len() < 1000);
}
