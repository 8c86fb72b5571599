//! Log records.

use model::columns::{AttributeColumns, Origin, OriginColumns};
use model::logs::{Body, LogFields};
use model::{LogColumns, SpanId, TraceId};

use super::{Batch, Rows, Whose};

impl Rows for LogColumns {
    fn len(&self) -> usize {
        self.len()
    }

    fn reserve(&mut self, n_rows: usize) {
        self.time_ns.reserve(n_rows);
        self.observed_time_ns.reserve(n_rows);
        self.trace_id.reserve(n_rows);
        self.span_id.reserve(n_rows);
    }

    fn truncate(&mut self, len: usize) {
        self.truncate(len);
    }

    fn attributes(&mut self) -> &mut AttributeColumns {
        &mut self.attributes
    }

    fn origins(&mut self) -> &mut OriginColumns {
        &mut self.origins
    }
}

/// The fields of a record that are not lists, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::otlp) struct LogIn<'a> {
    pub(in crate::otlp) time_ns: u64,
    pub(in crate::otlp) observed_time_ns: u64,
    pub(in crate::otlp) severity_number: i32,
    pub(in crate::otlp) severity_text: &'a [u8],
    pub(in crate::otlp) event_name: &'a [u8],
    pub(in crate::otlp) body: BodyIn<'a>,
    pub(in crate::otlp) trace_id: &'a [u8],
    pub(in crate::otlp) span_id: &'a [u8],
    pub(in crate::otlp) flags: u32,
    pub(in crate::otlp) dropped_attributes_count: u32,
}

/// A body as it came.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::otlp) enum BodyIn<'a> {
    #[default]
    None,
    Text(&'a [u8]),
    /// Any other value, as the JSON of `model::attribute`.
    Json(&'a str),
}

impl Batch<'_, LogColumns> {
    /// Closes the open record: keeps it, or rejects it if anything of it is invalid.
    ///
    /// An id of the wrong length is no id, and the record is kept: OTLP asks that of receivers of logs, other than of
    /// spans. Source: open-telemetry/opentelemetry-proto `opentelemetry/proto/logs/v1/logs.proto`, `LogRecord.trace_id`.
    pub(in crate::otlp) fn close_record(&mut self, record: &LogIn<'_>) {
        let body = match record.body {
            BodyIn::None => Body::None,
            BodyIn::Text(text) => Body::Text(self.text(text, "body")),
            BodyIn::Json(json) => Body::Json(json),
        };
        let fields = LogFields {
            time_ns: record.time_ns as i64,
            observed_time_ns: record.observed_time_ns as i64,
            severity_number: record.severity_number,
            severity_text: self.text(record.severity_text, "severity text"),
            event_name: self.text(record.event_name, "event name"),
            body,
            trace_id: record.trace_id.try_into().map_or(TraceId::NONE, TraceId),
            span_id: record.span_id.try_into().map_or(SpanId::NONE, SpanId),
            flags: record.flags,
            dropped_attributes_count: record.dropped_attributes_count,
        };
        let max = self.limits.max_log_records();
        self.check_total("log records in a request", |columns| columns.len() + 1, max);
        self.close_row(Whose::LogRecord, |columns| columns.push_record(&fields, Origin::default()));
    }
}
