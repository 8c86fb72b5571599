//! Spans on their way into columns: what protobuf and JSON have in common.
//!
//! A decoder hands over a span's attributes, events and links, then closes the span; after the spans of a scope it
//! closes the scope, after the scopes the resource. Only then are the positions of scope and resource written into the
//! rows, because either may follow its spans. What makes a span, a scope or a resource invalid is remembered as the
//! [`Fault`] and decoding goes on, so that all else in the request is kept.
//!
//! Most of a request repeats itself, so nothing is hashed that can be guessed: the key that followed the previous key
//! in the last span, and the text that the key had last, are compared first; equal bytes need no UTF-8 check either.

use std::fmt::{self, Write as _};

use model::attribute;
use model::spans::{LinkView, Origin, ResourceMeta, ScopeMeta, SpanFields, ValueKind};
use model::{SpanColumns, SpanId, TraceId};

use super::DecodedTraces;
use crate::limits::Limits;

/// No position yet.
const NONE: u32 = u32::MAX;
/// Reasons that are told to the sender.
const MAX_REASONS: usize = 3;
/// A span with its attributes takes about this many bytes on the wire, an attribute about this many.
const TYPICAL_SPAN_BYTES: usize = 512;
const TYPICAL_ATTRIBUTE_BYTES: usize = 48;

/// Why a span cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{what} has {bytes} bytes instead of {expected}")]
    IdLength { what: &'static str, bytes: usize, expected: usize },
    #[error("{what} has {digits} hex digits instead of {expected}")]
    HexLength { what: &'static str, digits: usize, expected: usize },
    #[error("{0} is all zero")]
    IdZero(&'static str),
    #[error("{0} is not hexadecimal")]
    NotHex(&'static str),
    #[error("{0} is not base64")]
    NotBase64(&'static str),
    #[error("{0} is not a number in its range")]
    NotNumber(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("{what} is longer than {max_bytes} bytes")]
    TooLong { what: &'static str, max_bytes: usize },
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("value nested deeper than {max}")]
    TooDeep { max: usize },
}

/// What a fault was found in.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    Resource,
    Scope,
    /// By its id, however long that is.
    Span(&'a [u8]),
}

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource => f.write_str("resource"),
            Self::Scope => f.write_str("scope"),
            Self::Span([]) => f.write_str("span without id"),
            Self::Span(id) => {
                f.write_str("span ")?;
                id.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// The fields of a span that are not lists, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SpanIn<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent_span_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) flags: u32,
    pub(super) name: &'a [u8],
    pub(super) kind: i32,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) status_code: i32,
    pub(super) status_message: &'a [u8],
    pub(super) dropped_attributes_count: u32,
    pub(super) dropped_events_count: u32,
    pub(super) dropped_links_count: u32,
}

/// The fields of a link that are not lists, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinkIn<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) dropped_attributes_count: u32,
    pub(super) flags: u32,
}

/// A map of attributes that is written as JSON, entry by entry.
#[derive(Debug, Default)]
pub(super) struct JsonMap {
    /// Without the closing brace until [`JsonMap::close`]; empty for no entries.
    pub(super) text: String,
    n_entries: usize,
}

impl JsonMap {
    /// Counts an entry; false with a fault if there are too many.
    pub(super) fn admit(&mut self, batch: &mut Batch<'_>) -> bool {
        let max = batch.limits.max_attributes_per_span;
        if self.n_entries == max {
            batch.fail(Fault::TooMany { what: "attributes", max });
            return false;
        }
        self.n_entries += 1;
        true
    }

    /// Ends the map and gives its text.
    pub(super) fn close(&mut self) -> &str {
        if !self.text.is_empty() {
            self.text.push('}');
        }
        &self.text
    }

    /// Forgets the entries, keeps the room.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.n_entries = 0;
    }
}

/// A resource while it is read.
#[derive(Debug, Default)]
pub(super) struct ResourceIn {
    pub(super) attributes: JsonMap,
    /// The first `service.name` that is a string.
    pub(super) service: Option<String>,
    pub(super) meta: ResourceMeta,
    /// Entities and their keys.
    pub(super) n_entities: usize,
    pub(super) fault: Option<Fault>,
}

/// A scope while it is read.
#[derive(Debug, Default)]
pub(super) struct ScopeIn {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) attributes: JsonMap,
    pub(super) dropped_attributes_count: u32,
    pub(super) schema_url: String,
    pub(super) fault: Option<Fault>,
}

/// The spans so far.
pub(super) struct Batch<'l> {
    pub(super) limits: &'l Limits,
    /// The first fault of what is being read.
    pub(super) fault: Option<Fault>,
    /// Room for the JSON of a map or a value, kept for reuse.
    pub(super) scratch: JsonMap,
    columns: SpanColumns,
    n_attributes: usize,
    n_events: usize,
    n_links: usize,
    /// The place in `followers` that knows the next key.
    previous_key: usize,
    /// By position of a key plus one, 0 for the start of a span: the position of the key that came next last time.
    followers: Vec<u32>,
    /// By position of a key: the position of the text that it had last.
    latest: Vec<u32>,
    rejected_spans: u64,
    n_reasons: usize,
    error_message: String,
}

impl<'l> Batch<'l> {
    /// Nothing yet, with room for what a body of that length typically holds.
    pub(super) fn new(limits: &'l Limits, body_bytes: usize) -> Self {
        let mut columns = SpanColumns::default();
        let n_spans = body_bytes / TYPICAL_SPAN_BYTES;
        columns.trace_id.reserve(n_spans);
        columns.span_id.reserve(n_spans);
        columns.parent_span_id.reserve(n_spans);
        columns.start_ns.reserve(n_spans);
        columns.duration_ns.reserve(n_spans);
        let n_attributes = body_bytes / TYPICAL_ATTRIBUTE_BYTES;
        columns.attributes.key.rows.reserve(n_attributes);
        columns.attributes.kind.reserve(n_attributes);
        columns.attributes.slot.reserve(n_attributes);
        Self {
            limits,
            fault: None,
            scratch: JsonMap::default(),
            columns,
            n_attributes: 0,
            n_events: 0,
            n_links: 0,
            previous_key: 0,
            followers: vec![NONE],
            latest: Vec::new(),
            rejected_spans: 0,
            n_reasons: 0,
            error_message: String::new(),
        }
    }

    /// How many spans are kept so far.
    pub(super) fn n_rows(&self) -> usize {
        self.columns.len()
    }

    /// Remembers a fault, unless there is one already.
    #[cold]
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The text in `bytes`, empty with a fault if it is too long or not UTF-8.
    pub(super) fn text<'a>(&mut self, bytes: &'a [u8], what: &'static str) -> &'a str {
        if bytes.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what, max_bytes: self.limits.max_string_bytes });
            return "";
        }
        std::str::from_utf8(bytes).unwrap_or_else(|_| {
            self.fail(Fault::NotUtf8(what));
            ""
        })
    }

    /// Whether JSON text may grow on; if not, that is a fault.
    pub(super) fn may_grow(&mut self, json: &str) -> bool {
        let max_bytes = self.limits.max_json_bytes();
        if json.len() > max_bytes {
            self.fail(Fault::TooLong { what: "json of attributes", max_bytes });
        }
        json.len() <= max_bytes
    }

    /// Appends an attribute without a value to the open span.
    pub(super) fn empty_attribute(&mut self, key: &[u8]) {
        if let Some(key) = self.key(key) {
            self.push_attribute(key, ValueKind::Empty, 0);
        }
    }

    /// Appends a text attribute to the open span.
    #[inline]
    pub(super) fn string_attribute(&mut self, key: &[u8], text: &[u8]) {
        let Some(key) = self.key(key) else { return };
        let Some(position) = self.attribute_text(key, text) else { return };
        let rows = &mut self.columns.attributes.string.rows;
        rows.push(position);
        let slot = rows.len() - 1;
        self.push_attribute(key, ValueKind::String, slot);
    }

    /// Appends a whole number to the open span.
    #[inline]
    pub(super) fn int_attribute(&mut self, key: &[u8], number: i64) {
        let Some(key) = self.key(key) else { return };
        self.columns.attributes.int.push(number);
        let slot = self.columns.attributes.int.len() - 1;
        self.push_attribute(key, ValueKind::Int, slot);
    }

    /// Appends a floating-point number to the open span.
    pub(super) fn double_attribute(&mut self, key: &[u8], number: f64) {
        let Some(key) = self.key(key) else { return };
        self.columns.attributes.double.push(number);
        let slot = self.columns.attributes.double.len() - 1;
        self.push_attribute(key, ValueKind::Double, slot);
    }

    /// Appends a truth to the open span.
    pub(super) fn bool_attribute(&mut self, key: &[u8], truth: bool) {
        let Some(key) = self.key(key) else { return };
        self.columns.attributes.bool.push(truth);
        let slot = self.columns.attributes.bool.len() - 1;
        self.push_attribute(key, ValueKind::Bool, slot);
    }

    /// Appends bytes, an array or a map as JSON to the open span.
    pub(super) fn json_attribute(&mut self, key: &[u8], json: &str) {
        let Some(key) = self.key(key) else { return };
        self.columns.attributes.json.push(json);
        let slot = self.columns.attributes.json.len() - 1;
        self.push_attribute(key, ValueKind::Json, slot);
    }

    #[inline]
    fn push_attribute(&mut self, key: u32, kind: ValueKind, slot: usize) {
        let attributes = &mut self.columns.attributes;
        attributes.key.rows.push(key);
        attributes.kind.push(kind);
        attributes.slot.push(slot as u32);
    }

    /// Counts an attribute of the open span and gives the position of its key; none with a fault if it cannot be kept.
    #[inline]
    fn key(&mut self, key: &[u8]) -> Option<u32> {
        self.n_attributes += 1;
        if self.n_attributes > self.limits.max_attributes_per_span {
            self.fail(Fault::TooMany { what: "attributes", max: self.limits.max_attributes_per_span });
            return None;
        }
        let guess = self.followers[self.previous_key];
        if guess != NONE && self.columns.attributes.key.dictionary.is(guess, key) {
            self.previous_key = guess as usize + 1;
            return Some(guess);
        }
        self.unexpected_key(key)
    }

    fn unexpected_key(&mut self, key: &[u8]) -> Option<u32> {
        let position = self.intern_key(key)?;
        self.followers[self.previous_key] = position;
        self.previous_key = position as usize + 1;
        Some(position)
    }

    fn intern_key(&mut self, key: &[u8]) -> Option<u32> {
        if key.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what: "attribute key", max_bytes: self.limits.max_string_bytes });
            return None;
        }
        let Ok(position) = self.columns.attributes.key.dictionary.intern_utf8(key) else {
            self.fail(Fault::NotUtf8("attribute key"));
            return None;
        };
        if self.latest.len() <= position as usize {
            self.latest.resize(position as usize + 1, NONE);
            self.followers.resize(position as usize + 2, NONE);
        }
        Some(position)
    }

    /// The position of the text of an attribute with that key.
    #[inline]
    fn attribute_text(&mut self, key: u32, text: &[u8]) -> Option<u32> {
        let guess = self.latest[key as usize];
        if guess != NONE && self.columns.attributes.string.dictionary.is(guess, text) {
            return Some(guess);
        }
        self.unexpected_text(key, text)
    }

    fn unexpected_text(&mut self, key: u32, text: &[u8]) -> Option<u32> {
        if text.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what: "attribute value", max_bytes: self.limits.max_string_bytes });
            return None;
        }
        let Ok(position) = self.columns.attributes.string.dictionary.intern_utf8(text) else {
            self.fail(Fault::NotUtf8("attribute value"));
            return None;
        };
        self.latest[key as usize] = position;
        Some(position)
    }

    /// Appends an event to the open span; `attributes` is JSON, empty for none.
    pub(super) fn event(
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
    pub(super) fn link(&mut self, link: &LinkIn<'_>, attributes: &str) {
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

    fn optional_id<const N: usize>(&mut self, bytes: &[u8], what: &'static str) -> [u8; N] {
        if bytes.is_empty() {
            return [0; N];
        }
        bytes.try_into().unwrap_or_else(|_| {
            self.fail(Fault::IdLength { what, bytes: bytes.len(), expected: N });
            [0; N]
        })
    }

    fn required_id<const N: usize>(&mut self, bytes: &[u8], what: &'static str) -> [u8; N] {
        let Ok(id) = bytes.try_into() else {
            self.fail(Fault::IdLength { what, bytes: bytes.len(), expected: N });
            return [0; N];
        };
        if id == [0; N] {
            self.fail(Fault::IdZero(what));
        }
        id
    }

    /// Closes the open span: keeps it, or rejects it if anything of it is invalid.
    pub(super) fn close_span(&mut self, span: &SpanIn<'_>) {
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
        self.check_totals();
        (self.n_attributes, self.n_events, self.n_links, self.previous_key) = (0, 0, 0, 0);
        match self.fault.take() {
            None => self.columns.push_span(&fields, Origin::default()),
            Some(fault) => {
                self.columns.drop_open_row();
                self.reject(1, Whose::Span(span.span_id), fault);
            }
        }
    }

    /// Fails the open span if the request holds more than its length excuses.
    fn check_totals(&mut self) {
        let columns = &self.columns;
        let too_many = |what, n: usize, max: usize| (n > max).then_some(Fault::TooMany { what, max });
        let fault =
            too_many("attributes in a request", columns.attributes.kind.len(), self.limits.max_attributes())
                .or_else(|| {
                    too_many("events in a request", columns.events.time_ns.len(), self.limits.max_entries())
                })
                .or_else(|| {
                    too_many("links in a request", columns.links.span_id.len(), self.limits.max_entries())
                });
        if let Some(fault) = fault {
            self.fail(fault);
        }
    }

    fn reject(&mut self, n_spans: usize, whose: Whose<'_>, fault: Fault) {
        if n_spans == 0 {
            return;
        }
        self.rejected_spans += n_spans as u64;
        self.n_reasons += 1;
        if self.n_reasons <= MAX_REASONS {
            let separator = if self.n_reasons == 1 { "" } else { "; " };
            write!(self.error_message, "{separator}{whose}: {fault}")
                .expect("invariant: writing to a string succeeds");
        }
    }

    /// Closes the scope of the rows from `first_row` on: names it in them, or rejects them.
    pub(super) fn close_scope(&mut self, first_row: usize, mut scope: ScopeIn) {
        if let Some(fault) = scope.fault {
            return self.reject_rows(first_row, Whose::Scope, fault);
        }
        if first_row == self.columns.len() {
            return;
        }
        let meta = ScopeMeta {
            attributes: attribute::parse_map(scope.attributes.close())
                .expect("invariant: the writer's text can be read"),
            dropped_attributes_count: scope.dropped_attributes_count,
            schema_url: scope.schema_url,
        };
        let columns = &mut self.columns;
        let scope = columns.intern_scope(Origin::default(), &scope.name, &scope.version, &meta.to_json());
        columns.scope_name.rows[first_row..].fill(scope.scope_name);
        columns.scope_version.rows[first_row..].fill(scope.scope_version);
        columns.scope_meta.rows[first_row..].fill(scope.scope_meta);
    }

    /// Closes the resource of the rows from `first_row` on: names it in them, or rejects them.
    pub(super) fn close_resource(&mut self, first_row: usize, mut resource: ResourceIn) {
        if let Some(fault) = resource.fault {
            return self.reject_rows(first_row, Whose::Resource, fault);
        }
        if first_row == self.columns.len() {
            return;
        }
        let SpanColumns { service, resource: attributes, resource_meta, .. } = &mut self.columns;
        let position = service.dictionary.intern(resource.service.as_deref().unwrap_or_default());
        service.rows[first_row..].fill(position);
        let position = attributes.dictionary.intern(resource.attributes.close());
        attributes.rows[first_row..].fill(position);
        let position = resource_meta.dictionary.intern(&resource.meta.to_json());
        resource_meta.rows[first_row..].fill(position);
    }

    fn reject_rows(&mut self, first_row: usize, whose: Whose<'_>, fault: Fault) {
        let n_spans = self.columns.len() - first_row;
        self.columns.truncate(first_row);
        self.reject(n_spans, whose, fault);
    }

    /// What was collected.
    pub(super) fn finish(mut self) -> DecodedTraces {
        if self.n_reasons > MAX_REASONS {
            self.error_message.push_str("; and more");
        }
        DecodedTraces {
            columns: self.columns,
            rejected_spans: self.rejected_spans,
            error_message: self.error_message,
        }
    }

    /// Counts an entity, or a key of one; false with a fault if there are too many.
    pub(super) fn count_entity(&mut self, resource: &mut ResourceIn) -> bool {
        resource.n_entities += 1;
        let max = self.limits.max_attributes_per_span;
        if resource.n_entities > max {
            self.fail(Fault::TooMany { what: "entities and their keys", max });
        }
        resource.n_entities <= max
    }
}
