//! Log records of a file through the `parquet` and `arrow` crates.

use arrow::array::{
    Array, FixedSizeBinaryArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use bytes::Bytes;
use model::LogColumns;
use model::logs::{Body, LogFields};

use super::{Attributes, ReferenceError, batches, count, span_id, text, trace_id, typed};

/// The log records of a whole file.
///
/// # Errors
/// The file is not Parquet, or lacks a column.
pub fn decode_logs(file: Bytes) -> Result<LogColumns, ReferenceError> {
    let mut columns = LogColumns::default();
    for batch in batches(file)? {
        append(&mut columns, &batch?)?;
    }
    Ok(columns)
}

fn time_ns(array: &TimestampNanosecondArray, row: usize) -> i64 {
    if array.is_null(row) { 0 } else { array.value(row) }
}

fn append(columns: &mut LogColumns, batch: &RecordBatch) -> Result<(), ReferenceError> {
    let column = |name: &'static str| batch.column_by_name(name);
    let texts = |name: &'static str| typed::<StringArray>(column(name), name);
    let numbers = |name: &'static str| typed::<Int64Array>(column(name), name);
    let times = |name: &'static str| typed::<TimestampNanosecondArray>(column(name), name);
    let ids = |name: &'static str| typed::<FixedSizeBinaryArray>(column(name), name);

    let attributes = Attributes::of(typed::<MapArray>(column("attributes"), "attributes")?)?;
    let (time, observed_time) = (times("time")?, times("observed_time")?);
    let severity: &Int32Array = typed(column("severity_number"), "severity_number")?;
    let (severity_text, event_name) = (texts("severity_text")?, texts("event_name")?);
    let (body, body_json) = (texts("body")?, texts("body_json")?);
    let (trace_ids, span_ids) = (ids("trace_id")?, ids("span_id")?);
    let (service, resource, resource_meta) =
        (texts("service_name")?, texts("resource_attributes")?, texts("resource_meta")?);
    let (scope_name, scope_version, scope_meta) =
        (texts("scope_name")?, texts("scope_version")?, texts("scope_meta")?);
    let (flags, dropped_attributes) = (numbers("flags")?, numbers("dropped_attributes_count")?);

    for row in 0..batch.num_rows() {
        attributes.push(&mut columns.attributes, row)?;
        let origin = columns.origins.intern_resource(
            text(service, row),
            text(resource, row),
            text(resource_meta, row),
        );
        let scope = (text(scope_name, row), text(scope_version, row), text(scope_meta, row));
        let origin = columns.origins.intern_scope(origin, scope.0, scope.1, scope.2);
        let record = LogFields {
            time_ns: time_ns(time, row),
            observed_time_ns: time_ns(observed_time, row),
            severity_number: severity.value(row),
            severity_text: text(severity_text, row),
            event_name: text(event_name, row),
            body: match (body.is_valid(row), body_json.is_valid(row)) {
                (false, false) => Body::None,
                (true, false) => Body::Text(body.value(row)),
                (false, true) => Body::Json(body_json.value(row)),
                (true, true) => return Err(ReferenceError::Column("body beside body_json".to_owned())),
            },
            trace_id: trace_id(trace_ids, row),
            span_id: span_id(span_ids, row),
            flags: count(flags, row),
            dropped_attributes_count: count(dropped_attributes, row),
        };
        columns.push_record(&record, origin);
    }
    Ok(())
}
