//! A batch of spans, one vector per field.
//!
//! A decoder appends a span in two steps: first its attributes, events and links, then [`SpanColumns::push_span`],
//! which closes the row; [`SpanColumns::drop_open_row`] forgets what was appended for a span that turned out invalid.
//! Nothing of OTLP is lost: a row and its [`Origin`] hold every field of the span, its scope and its resource.
//! Two things are normal forms: a parent id of zeros is "no parent", and an empty text is "not set".

use crate::columns::{AttributeColumns, Origin, OriginColumns, Value, entries, last, retain, retain_lists};
use crate::dictionary::DictColumn;
use crate::ids::{SpanId, TraceId};

/// OTLP's number of the span kind "server".
pub const KIND_SERVER: i32 = 2;
/// OTLP's number of the status "error".
pub const STATUS_ERROR: i32 = 2;

/// Spans by column. All vectors that are not lists have one entry per span; a reader that was asked for some columns
/// leaves the others empty, but always fills `trace_id`.
#[derive(Debug, Clone, Default)]
pub struct SpanColumns {
    /// The trace.
    pub trace_id: Vec<TraceId>,
    /// The span.
    pub span_id: Vec<SpanId>,
    /// The parent, [`SpanId::NONE`] for a root.
    pub parent_span_id: Vec<SpanId>,
    /// W3C trace state.
    pub trace_state: DictColumn,
    /// W3C trace flags and OTLP's "remote" bits.
    pub flags: Vec<u32>,
    /// The operation.
    pub name: DictColumn,
    /// Span kind by OTLP's numbers; unknown numbers are kept.
    pub kind: Vec<i32>,
    /// Start, ns since the epoch; the bits of OTLP's unsigned number.
    pub start_ns: Vec<i64>,
    /// End minus start, wrapping; negative when the sender's clock went back.
    pub duration_ns: Vec<i64>,
    /// Status by OTLP's numbers: 0 unset, 1 ok, 2 error; unknown numbers are kept.
    pub status_code: Vec<i32>,
    /// Status message.
    pub status_message: DictColumn,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: Vec<u32>,
    /// Events that the sender dropped.
    pub dropped_events_count: Vec<u32>,
    /// Links that the sender dropped.
    pub dropped_links_count: Vec<u32>,
    /// Where the spans come from.
    pub origins: OriginColumns,
    /// Attributes of the spans.
    pub attributes: AttributeColumns,
    /// Events of the spans.
    pub events: EventColumns,
    /// Links of the spans.
    pub links: LinkColumns,
}

/// The fields of one span that are not lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of SpanColumns")]
pub struct SpanFields<'a> {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: SpanId,
    pub trace_state: &'a str,
    pub flags: u32,
    pub name: &'a str,
    pub kind: i32,
    pub start_ns: i64,
    pub duration_ns: i64,
    pub status_code: i32,
    pub status_message: &'a str,
    pub dropped_attributes_count: u32,
    pub dropped_events_count: u32,
    pub dropped_links_count: u32,
}

impl SpanColumns {
    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.trace_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.trace_id.is_empty()
    }

    /// Closes a row: the attributes, events and links since the last row become its own.
    pub fn push_span(&mut self, span: &SpanFields<'_>, origin: Origin) {
        self.trace_id.push(span.trace_id);
        self.span_id.push(span.span_id);
        self.parent_span_id.push(span.parent_span_id);
        self.trace_state.push(span.trace_state);
        self.flags.push(span.flags);
        self.name.push(span.name);
        self.kind.push(span.kind);
        self.start_ns.push(span.start_ns);
        self.duration_ns.push(span.duration_ns);
        self.status_code.push(span.status_code);
        self.status_message.push(span.status_message);
        self.dropped_attributes_count.push(span.dropped_attributes_count);
        self.dropped_events_count.push(span.dropped_events_count);
        self.dropped_links_count.push(span.dropped_links_count);
        self.origins.push(origin);
        self.attributes.close_row();
        self.events.ends.push(self.events.time_ns.len() as u32);
        self.links.ends.push(self.links.trace_id.len() as u32);
    }

    /// Keeps the first `len` rows and forgets the others and the open row; dictionaries keep their strings.
    pub fn truncate(&mut self, len: usize) {
        self.trace_id.truncate(len);
        self.span_id.truncate(len);
        self.parent_span_id.truncate(len);
        self.trace_state.rows.truncate(len);
        self.flags.truncate(len);
        self.name.rows.truncate(len);
        self.kind.truncate(len);
        self.start_ns.truncate(len);
        self.duration_ns.truncate(len);
        self.status_code.truncate(len);
        self.status_message.rows.truncate(len);
        self.dropped_attributes_count.truncate(len);
        self.dropped_events_count.truncate(len);
        self.dropped_links_count.truncate(len);
        self.origins.truncate(len);
        self.attributes.ends.truncate(len);
        self.events.ends.truncate(len);
        self.links.ends.truncate(len);
        self.drop_open_row();
    }

    /// Forgets all rows, to be filled with others like them: memory and strings stay, but for those of dictionaries that
    /// have become large.
    pub fn clear(&mut self) {
        self.truncate(0);
        let texts = [
            &mut self.trace_state,
            &mut self.name,
            &mut self.status_message,
            &mut self.attributes.key,
            &mut self.attributes.string,
            &mut self.attributes.json,
            &mut self.events.name,
            &mut self.events.attributes,
            &mut self.links.trace_state,
            &mut self.links.attributes,
        ];
        texts.into_iter().for_each(DictColumn::forget_large);
        self.origins.forget_large();
    }

    /// Keeps the rows that are told to stay, in order, and forgets the others and the open row; dictionaries keep their
    /// strings. One pass over each column, in place.
    pub fn retain(&mut self, is_kept: &[bool]) {
        retain(&mut self.trace_id, is_kept);
        retain(&mut self.span_id, is_kept);
        retain(&mut self.parent_span_id, is_kept);
        retain(&mut self.trace_state.rows, is_kept);
        retain(&mut self.flags, is_kept);
        retain(&mut self.name.rows, is_kept);
        retain(&mut self.kind, is_kept);
        retain(&mut self.start_ns, is_kept);
        retain(&mut self.duration_ns, is_kept);
        retain(&mut self.status_code, is_kept);
        retain(&mut self.status_message.rows, is_kept);
        retain(&mut self.dropped_attributes_count, is_kept);
        retain(&mut self.dropped_events_count, is_kept);
        retain(&mut self.dropped_links_count, is_kept);
        self.origins.retain(is_kept);
        self.attributes.retain(is_kept);
        self.events.retain(is_kept);
        self.links.retain(is_kept);
    }

    /// Forgets the attributes, events and links that were appended since the last row.
    pub fn drop_open_row(&mut self) {
        self.attributes.truncate(last(&self.attributes.ends));
        self.events.truncate(last(&self.events.ends));
        self.links.truncate(last(&self.links.ends));
    }

    /// The span in `row`.
    pub fn span(&self, row: usize) -> SpanView<'_> {
        assert!(row < self.len(), "invariant: row {row} of {}", self.len());
        SpanView { columns: self, row }
    }

    /// All spans in order.
    pub fn iter(&self) -> impl Iterator<Item = SpanView<'_>> {
        (0..self.len()).map(|row| SpanView { columns: self, row })
    }
}

/// Lists of events, one list per span; all other vectors have one entry per event.
#[derive(Debug, Clone, Default)]
pub struct EventColumns {
    /// Per span the end of its list.
    pub ends: Vec<u32>,
    /// Time, ns since the epoch; the bits of OTLP's unsigned number.
    pub time_ns: Vec<i64>,
    /// Name.
    pub name: DictColumn,
    /// Attributes as the JSON of [`attribute`](crate::attribute), empty for none.
    pub attributes: DictColumn,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: Vec<u32>,
}

impl EventColumns {
    /// Appends an event to the open row.
    pub fn push(&mut self, event: EventView<'_>) {
        self.time_ns.push(event.time_ns);
        self.name.push(event.name);
        self.attributes.push(event.attributes);
        self.dropped_attributes_count.push(event.dropped_attributes_count);
    }

    /// The entries of `row`.
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        entries(&self.ends, row)
    }

    fn retain(&mut self, is_kept: &[bool]) {
        let is_kept = retain_lists(&mut self.ends, self.time_ns.len(), is_kept);
        retain(&mut self.time_ns, &is_kept);
        retain(&mut self.name.rows, &is_kept);
        retain(&mut self.attributes.rows, &is_kept);
        retain(&mut self.dropped_attributes_count, &is_kept);
    }

    fn truncate(&mut self, len: usize) {
        self.time_ns.truncate(len);
        self.name.rows.truncate(len);
        self.attributes.rows.truncate(len);
        self.dropped_attributes_count.truncate(len);
    }
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of EventColumns")]
pub struct EventView<'a> {
    pub time_ns: i64,
    pub name: &'a str,
    pub attributes: &'a str,
    pub dropped_attributes_count: u32,
}

/// Lists of links, one list per span; all other vectors have one entry per link.
#[derive(Debug, Clone, Default)]
pub struct LinkColumns {
    /// Per span the end of its list.
    pub ends: Vec<u32>,
    /// The linked trace; zeros where the sender gave none.
    pub trace_id: Vec<TraceId>,
    /// The linked span; zeros where the sender gave none.
    pub span_id: Vec<SpanId>,
    /// W3C trace state.
    pub trace_state: DictColumn,
    /// Attributes as the JSON of [`attribute`](crate::attribute), empty for none.
    pub attributes: DictColumn,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: Vec<u32>,
    /// W3C trace flags and OTLP's "remote" bits.
    pub flags: Vec<u32>,
}

impl LinkColumns {
    /// Appends a link to the open row.
    pub fn push(&mut self, link: LinkView<'_>) {
        self.trace_id.push(link.trace_id);
        self.span_id.push(link.span_id);
        self.trace_state.push(link.trace_state);
        self.attributes.push(link.attributes);
        self.dropped_attributes_count.push(link.dropped_attributes_count);
        self.flags.push(link.flags);
    }

    /// The entries of `row`.
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        entries(&self.ends, row)
    }

    fn retain(&mut self, is_kept: &[bool]) {
        let is_kept = retain_lists(&mut self.ends, self.trace_id.len(), is_kept);
        retain(&mut self.trace_id, &is_kept);
        retain(&mut self.span_id, &is_kept);
        retain(&mut self.trace_state.rows, &is_kept);
        retain(&mut self.attributes.rows, &is_kept);
        retain(&mut self.dropped_attributes_count, &is_kept);
        retain(&mut self.flags, &is_kept);
    }

    fn truncate(&mut self, len: usize) {
        self.trace_id.truncate(len);
        self.span_id.truncate(len);
        self.trace_state.rows.truncate(len);
        self.attributes.rows.truncate(len);
        self.dropped_attributes_count.truncate(len);
        self.flags.truncate(len);
    }
}

/// One link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of LinkColumns")]
pub struct LinkView<'a> {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: &'a str,
    pub attributes: &'a str,
    pub dropped_attributes_count: u32,
    pub flags: u32,
}

/// One span of a [`SpanColumns`].
#[derive(Debug, Clone, Copy)]
pub struct SpanView<'a> {
    columns: &'a SpanColumns,
    row: usize,
}

impl<'a> SpanView<'a> {
    /// The fields that are not lists.
    pub fn fields(self) -> SpanFields<'a> {
        let Self { columns, row } = self;
        SpanFields {
            trace_id: columns.trace_id[row],
            span_id: columns.span_id[row],
            parent_span_id: columns.parent_span_id[row],
            trace_state: columns.trace_state.get(row),
            flags: columns.flags[row],
            name: columns.name.get(row),
            kind: columns.kind[row],
            start_ns: columns.start_ns[row],
            duration_ns: columns.duration_ns[row],
            status_code: columns.status_code[row],
            status_message: columns.status_message.get(row),
            dropped_attributes_count: columns.dropped_attributes_count[row],
            dropped_events_count: columns.dropped_events_count[row],
            dropped_links_count: columns.dropped_links_count[row],
        }
    }

    /// Where it comes from, as positions in the dictionaries of its columns.
    pub fn origin(self) -> Origin {
        self.columns.origins.get(self.row)
    }

    /// The columns and the row.
    pub fn place(self) -> (&'a SpanColumns, usize) {
        (self.columns, self.row)
    }

    /// The resource's `service.name`, empty if it has none.
    pub fn service(self) -> &'a str {
        self.columns.origins.service.get(self.row)
    }

    /// The resource's attributes as JSON.
    pub fn resource(self) -> &'a str {
        self.columns.origins.resource.get(self.row)
    }

    /// The JSON of [`ResourceMeta`](crate::columns::ResourceMeta).
    pub fn resource_meta(self) -> &'a str {
        self.columns.origins.resource_meta.get(self.row)
    }

    /// Name, version and the JSON of [`ScopeMeta`](crate::columns::ScopeMeta).
    pub fn scope(self) -> (&'a str, &'a str, &'a str) {
        self.columns.origins.scope(self.row)
    }

    /// Attributes in order.
    pub fn attributes(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.columns.attributes.row(self.row)
    }

    /// Events in order.
    pub fn events(self) -> impl Iterator<Item = EventView<'a>> {
        let events = &self.columns.events;
        events.entries(self.row).map(|entry| EventView {
            time_ns: events.time_ns[entry],
            name: events.name.get(entry),
            attributes: events.attributes.get(entry),
            dropped_attributes_count: events.dropped_attributes_count[entry],
        })
    }

    /// Links in order.
    pub fn links(self) -> impl Iterator<Item = LinkView<'a>> {
        let links = &self.columns.links;
        links.entries(self.row).map(|entry| LinkView {
            trace_id: links.trace_id[entry],
            span_id: links.span_id[entry],
            trace_state: links.trace_state.get(entry),
            attributes: links.attributes.get(entry),
            dropped_attributes_count: links.dropped_attributes_count[entry],
            flags: links.flags[entry],
        })
    }

    /// Whether both spans, their scopes and their resources are equal in every field, doubles by their bits.
    pub fn same_as(self, other: SpanView<'_>) -> bool {
        self.fields() == other.fields()
            && self.columns.origins.is_same(self.row, &other.columns.origins, other.row)
            && self.columns.attributes.is_same(self.row, &other.columns.attributes, other.row)
            && self.events().eq(other.events())
            && self.links().eq(other.links())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_open_row_can_be_dropped() {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
        columns.attributes.push("a", Value::Int(1));
        columns.push_span(&SpanFields { name: "first", ..SpanFields::default() }, origin);
        columns.attributes.push("b", Value::String("lost"));
        columns.attributes.push("c", Value::Int(2));
        columns.events.push(EventView {
            time_ns: 1,
            name: "lost",
            attributes: "",
            dropped_attributes_count: 0,
        });
        columns.drop_open_row();
        columns.attributes.push("d", Value::Int(3));
        columns.push_span(&SpanFields { name: "second", ..SpanFields::default() }, origin);

        let second: Vec<_> = columns.span(1).attributes().collect();
        assert_eq!(second, [("d", Value::Int(3))]);
        assert_eq!(columns.span(1).events().count(), 0);
        assert_eq!(columns.span(0).attributes().collect::<Vec<_>>(), [("a", Value::Int(1))]);
        assert_eq!(columns.span(1).service(), "shop");
    }

    #[test]
    fn rows_can_be_truncated_with_their_lists() {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("shop", "", "");
        for (name, value) in
            [("first", Value::Int(1)), ("second", Value::String("x")), ("third", Value::Bool(true))]
        {
            columns.attributes.push("a", value);
            columns.push_span(&SpanFields { name, ..SpanFields::default() }, origin);
        }
        columns.truncate(1);
        columns.attributes.push("b", Value::String("y"));
        columns.push_span(&SpanFields { name: "fourth", ..SpanFields::default() }, origin);
        let names: Vec<_> = columns.iter().map(|span| span.fields().name).collect();
        assert_eq!(names, ["first", "fourth"]);
        assert_eq!(columns.span(1).attributes().collect::<Vec<_>>(), [("b", Value::String("y"))]);
        assert_eq!(columns.span(1).service(), "shop");
    }

    /// A span with an event, a link and attributes of every kind, as many as `n` says, all told apart by it.
    fn push_numbered(columns: &mut SpanColumns, n: u32) {
        let text = n.to_string();
        let values = [
            Value::Empty,
            Value::String(&text),
            Value::Int(n.into()),
            Value::Double(n.into()),
            Value::Bool(n.is_multiple_of(2)),
            Value::Json("[1]"),
        ];
        for at in 0..n % 7 {
            columns.attributes.push(&text, values[((at + n) % 6) as usize]);
        }
        for at in 0..n % 3 {
            let (name, attributes) = (text.as_str(), "");
            let time_ns = at.into();
            columns.events.push(EventView { time_ns, name, attributes, dropped_attributes_count: n });
        }
        for at in 0..n % 4 {
            columns.links.push(LinkView {
                trace_id: TraceId([at as u8; 16]),
                span_id: SpanId([n as u8; 8]),
                trace_state: &text,
                attributes: "",
                dropped_attributes_count: at,
                flags: n,
            });
        }
        let resource = columns.origins.intern_resource(&text, &text, "");
        let origin = columns.origins.intern_scope(resource, &text, "", &text);
        let fields = SpanFields {
            trace_id: TraceId([n as u8; 16]),
            span_id: SpanId([n as u8; 8]),
            parent_span_id: SpanId([1; 8]),
            trace_state: &text,
            flags: n,
            name: &text,
            kind: n as i32,
            start_ns: n.into(),
            duration_ns: n.into(),
            status_code: n as i32,
            status_message: &text,
            dropped_attributes_count: n,
            dropped_events_count: n,
            dropped_links_count: n,
        };
        columns.push_span(&fields, origin);
    }

    proptest! {
        #[test]
        fn retained_rows_are_intact(
            is_kept in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..40),
            has_open_row in any::<bool>(),
        ) {
            let (mut columns, mut expected) = (SpanColumns::default(), SpanColumns::default());
            for &(n, is_kept) in &is_kept {
                push_numbered(&mut columns, n.into());
                if is_kept {
                    push_numbered(&mut expected, n.into());
                }
            }
            if has_open_row {
                columns.attributes.push("lost", Value::Int(1));
            }
            let is_kept: Vec<bool> = is_kept.into_iter().map(|(_, is_kept)| is_kept).collect();
            columns.retain(&is_kept);
            // Rows can be added behind them.
            push_numbered(&mut columns, 41);
            push_numbered(&mut expected, 41);
            prop_assert_eq!(columns.len(), expected.len());
            for (span, expected) in columns.iter().zip(expected.iter()) {
                prop_assert!(span.same_as(expected));
            }
        }
    }
}
