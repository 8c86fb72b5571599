//! Spans with their events and links.

use model::columns::{AttributeColumns, Origin, OriginColumns};
use model::spans::{LinkView, SpanFields};
use model::{SpanColumns, SpanId, TraceId};

use super::{Batch, Fault, Rows, Whose};

impl Rows for SpanColumns {
    fn len(&self) -> usize {
        self.len()
    }

    fn reserve(&mut self, n_rows: usize) {
        self.trace_id.reserve(n_rows);
        self.span_id.reserve(n_rows);
        self.parent_span_id.reserve(n_rows);
        self.start_ns.reserve(n_rows);
        self.duration_ns.reserve(n_rows);
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

/// The fields of a span that are not lists, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::otlp) struct SpanIn<'a> {
    pub(in crate::otlp) trace_id: &'a [u8],
    pub(in crate::otlp) span_id: &'a [u8],
    pub(in crate::otlp) parent_span_id: &'a [u8],
    pub(in crate::otlp) trace_state: &'a [u8],
    pub(in crate::otlp) flags: u32,
    pub(in crate::otlp) name: &'a [u8],
    pub(in crate::otlp) kind: i32,
    pub(in crate::otlp) start_ns: u64,
    pub(in crate::otlp) end_ns: u64,
    pub(in crate::otlp) status_code: i32,
    pub(in crate::otlp) status_message: &'a [u8],
    pub(in crate::otlp) dropped_attributes_count: u32,
    pub(in crate::otlp) dropped_events_count: u32,
    pub(in crate::otlp) dropped_links_count: u32,
}

/// The fields of a link that are not lists, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::otlp) struct LinkIn<'a> {
    pub(in crate::otlp) trace_id: &'a [u8],
    pub(in crate::otlp) span_id: &'a [u8],
    pub(in crate::otlp) trace_state: &'a [u8],
    pub(in crate::otlp) dropped_attributes_count: u32,
    pub(in crate::otlp) flags: u32,
}

impl Batch<'_, SpanColumns> {
    /// Appends an event to the open span; `attributes` is JSON, empty for none.
    pub(in crate::otlp) fn event(
        &mut self,
        time_ns: u64,
        name: &[u8],
        attributes: &str,
        dropped_attributes_count: u32,
    ) {
        self.n_events += 1;
        if self.n_events > self.limits.max_attributes_per_span {
            return self.fail(Fault::TooMany { what: "events", max: self.limits.max_attributes_per_span });
        }
        if name.len() > self.limits.max_string_bytes {
            return self.fail(Fault::TooLong { what: "event name", max_bytes: self.limits.max_string_bytes });
        }
        let events = &mut self.columns.events;
        if events.name.push_utf8(name).is_err() {
            return self.fail(Fault::NotUtf8("event name"));
        }
        events.time_ns.push(time_ns as i64);
        events.attributes.push(attributes);
        events.dropped_attributes_count.push(dropped_attributes_count);
    }

    /// Appends a link to the open span; `attributes` is JSON, empty for none.
    pub(in crate::otlp) fn link(&mut self, link: &LinkIn<'_>, attributes: &str) {
        self.n_links += 1;
        if self.n_links > self.limits.max_attributes_per_span {
            return self.fail(Fault::TooMany { what: "links", max: self.limits.max_attributes_per_span });
        }
        let trace_id = TraceId(self.optional_id(link.trace_id, "trace id of link"));
        let span_id = SpanId(self.optional_id(link.span_id, "span id of link"));
        let trace_state = self.text(link.trace_state, "trace state of link");
        self.columns.links.push(LinkView {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: link.dropped_attributes_count,
            flags: link.flags,
        });
    }

    /// Closes the open span: keeps it, or rejects it if anything of it is invalid.
    pub(in crate::otlp) fn close_span(&mut self, span: &SpanIn<'_>) {
        let fields = SpanFields {
            trace_id: TraceId(self.required_id(span.trace_id, "trace id")),
            span_id: SpanId(self.required_id(span.span_id, "span id")),
            parent_span_id: SpanId(self.optional_id(span.parent_span_id, "parent span id")),
            trace_state: self.text(span.trace_state, "trace state"),
            flags: span.flags,
            name: self.text(span.name, "name"),
            kind: span.kind,
            start_ns: span.start_ns as i64,
            duration_ns: span.end_ns.wrapping_sub(span.start_ns) as i64,
            status_code: span.status_code,
            status_message: self.text(span.status_message, "status message"),
            dropped_attributes_count: span.dropped_attributes_count,
            dropped_events_count: span.dropped_events_count,
            dropped_links_count: span.dropped_links_count,
        };
        let max = self.limits.max_entries();
        self.check_total("events in a request", |columns| columns.events.time_ns.len(), max);
        self.check_total("links in a request", |columns| columns.links.span_id.len(), max);
        self.close_row(Whose::Span(span.span_id), |columns| columns.push_span(&fields, Origin::default()));
    }
}
