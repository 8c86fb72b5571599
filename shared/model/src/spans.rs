//! A batch of spans, one vector per field.
//!
//! A decoder appends a span in two steps: first its attributes, events and links, then [`SpanColumns::push_span`],
//! which closes the row; [`SpanColumns::drop_open_row`] forgets what was appended for a span that turned out invalid.
//! Nothing of OTLP is lost: a row and its [`Origin`] hold every field of the span, its scope and its resource.
//! Two things are normal forms: a parent id of zeros is "no parent", and an empty text is "not set".

use crate::attribute::{self, AnyValue, Attributes, ParseError};
use crate::dictionary::{DictColumn, Dictionary};
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
    /// The resource's `service.name` where that is a string, else empty.
    pub service: DictColumn,
    /// The resource's attributes as the JSON of [`attribute`].
    pub resource: DictColumn,
    /// What else OTLP says of the resource: the JSON of [`ResourceMeta`], empty for nothing.
    pub resource_meta: DictColumn,
    /// Instrumentation scope.
    pub scope_name: DictColumn,
    /// Version of the scope.
    pub scope_version: DictColumn,
    /// What else OTLP says of the scope: the JSON of [`ScopeMeta`], empty for nothing.
    pub scope_meta: DictColumn,
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

/// Where a span comes from: positions in the dictionaries of one [`SpanColumns`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of SpanColumns")]
pub struct Origin {
    pub service: u32,
    pub resource: u32,
    pub resource_meta: u32,
    pub scope_name: u32,
    pub scope_version: u32,
    pub scope_meta: u32,
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

    /// Makes a resource known and returns its part of an [`Origin`]; the scope's part is empty text.
    /// `attributes_json` and `meta_json` as the columns of the same names.
    pub fn intern_resource(&mut self, service: &str, attributes_json: &str, meta_json: &str) -> Origin {
        Origin {
            service: self.service.dictionary.intern(service),
            resource: self.resource.dictionary.intern(attributes_json),
            resource_meta: self.resource_meta.dictionary.intern(meta_json),
            ..self.intern_scope(Origin::default(), "", "", "")
        }
    }

    /// Makes a scope known and returns `origin` with it.
    pub fn intern_scope(&mut self, origin: Origin, name: &str, version: &str, meta_json: &str) -> Origin {
        Origin {
            scope_name: self.scope_name.dictionary.intern(name),
            scope_version: self.scope_version.dictionary.intern(version),
            scope_meta: self.scope_meta.dictionary.intern(meta_json),
            ..origin
        }
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
        self.service.rows.push(origin.service);
        self.resource.rows.push(origin.resource);
        self.resource_meta.rows.push(origin.resource_meta);
        self.scope_name.rows.push(origin.scope_name);
        self.scope_version.rows.push(origin.scope_version);
        self.scope_meta.rows.push(origin.scope_meta);
        self.attributes.ends.push(self.attributes.key.len() as u32);
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
        self.service.rows.truncate(len);
        self.resource.rows.truncate(len);
        self.resource_meta.rows.truncate(len);
        self.scope_name.rows.truncate(len);
        self.scope_version.rows.truncate(len);
        self.scope_meta.rows.truncate(len);
        self.attributes.ends.truncate(len);
        self.events.ends.truncate(len);
        self.links.ends.truncate(len);
        self.drop_open_row();
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

fn last(ends: &[u32]) -> usize {
    ends.last().map_or(0, |&end| end as usize)
}

/// The entries of `row` in a list column with these `ends`.
fn entries(ends: &[u32], row: usize) -> std::ops::Range<usize> {
    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
    start..ends[row] as usize
}

/// Which of the typed columns holds an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// No value.
    Empty,
    /// In [`AttributeColumns::string`].
    String,
    /// In [`AttributeColumns::int`].
    Int,
    /// In [`AttributeColumns::double`].
    Double,
    /// In [`AttributeColumns::bool`].
    Bool,
    /// Bytes, an array or a map, in [`AttributeColumns::json`].
    Json,
}

/// A borrowed value; bytes, arrays and maps are the JSON text of [`attribute`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of ValueKind")]
pub enum Value<'a> {
    Empty,
    String(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
    Json(&'a str),
}

impl Value<'_> {
    /// The value as an owned tree.
    ///
    /// # Errors
    /// The JSON text is not of the form that [`attribute`] writes.
    pub fn to_any_value(self) -> Result<AnyValue, ParseError> {
        Ok(match self {
            Self::Empty => AnyValue::Empty,
            Self::String(text) => AnyValue::String(text.to_owned()),
            Self::Int(number) => AnyValue::Int(number),
            Self::Double(number) => AnyValue::Double(number),
            Self::Bool(truth) => AnyValue::Bool(truth),
            Self::Json(text) => attribute::parse(text)?,
        })
    }
}

/// Lists of attributes, one list per span. `key`, `kind` and `slot` have one entry per attribute; each typed column
/// has one entry per attribute of its kind, in the same order.
#[derive(Debug, Clone, Default)]
pub struct AttributeColumns {
    /// Per span the end of its list.
    pub ends: Vec<u32>,
    /// Keys.
    pub key: DictColumn,
    /// Kinds of the values.
    pub kind: Vec<ValueKind>,
    /// The entry of the value in the column of its kind.
    pub slot: Vec<u32>,
    /// Texts.
    pub string: DictColumn,
    /// Whole numbers.
    pub int: Vec<i64>,
    /// Floating-point numbers.
    pub double: Vec<f64>,
    /// Truths.
    pub bool: Vec<bool>,
    /// Bytes, arrays and maps as JSON.
    pub json: DictColumn,
}

impl AttributeColumns {
    /// Appends an attribute to the open row.
    pub fn push(&mut self, key: &str, value: Value<'_>) {
        self.key.push(key);
        let (kind, slot) = match value {
            Value::Empty => (ValueKind::Empty, 0),
            Value::String(text) => {
                self.string.push(text);
                (ValueKind::String, self.string.len() - 1)
            }
            Value::Int(number) => {
                self.int.push(number);
                (ValueKind::Int, self.int.len() - 1)
            }
            Value::Double(number) => {
                self.double.push(number);
                (ValueKind::Double, self.double.len() - 1)
            }
            Value::Bool(truth) => {
                self.bool.push(truth);
                (ValueKind::Bool, self.bool.len() - 1)
            }
            Value::Json(text) => {
                self.json.push(text);
                (ValueKind::Json, self.json.len() - 1)
            }
        };
        self.kind.push(kind);
        self.slot.push(slot as u32);
    }

    /// The entries of `row`.
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        entries(&self.ends, row)
    }

    /// The value of an entry.
    pub fn value(&self, entry: usize) -> Value<'_> {
        let slot = self.slot[entry] as usize;
        match self.kind[entry] {
            ValueKind::Empty => Value::Empty,
            ValueKind::String => Value::String(self.string.get(slot)),
            ValueKind::Int => Value::Int(self.int[slot]),
            ValueKind::Double => Value::Double(self.double[slot]),
            ValueKind::Bool => Value::Bool(self.bool[slot]),
            ValueKind::Json => Value::Json(self.json.get(slot)),
        }
    }

    fn truncate(&mut self, len: usize) {
        // Only the dropped tail is looked at: many dropped rows must not cost a walk over all entries each.
        let tail = &self.kind[len..];
        let dropped = |kind: ValueKind| tail.iter().filter(|&&other| other == kind).count();
        let strings = self.string.rows.len() - dropped(ValueKind::String);
        let ints = self.int.len() - dropped(ValueKind::Int);
        let doubles = self.double.len() - dropped(ValueKind::Double);
        let bools = self.bool.len() - dropped(ValueKind::Bool);
        let jsons = self.json.rows.len() - dropped(ValueKind::Json);
        self.key.rows.truncate(len);
        self.kind.truncate(len);
        self.slot.truncate(len);
        self.string.rows.truncate(strings);
        self.int.truncate(ints);
        self.double.truncate(doubles);
        self.bool.truncate(bools);
        self.json.rows.truncate(jsons);
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
    /// Attributes as the JSON of [`attribute`], empty for none.
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
    /// Attributes as the JSON of [`attribute`], empty for none.
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
        let Self { columns, row } = self;
        Origin {
            service: columns.service.rows[row],
            resource: columns.resource.rows[row],
            resource_meta: columns.resource_meta.rows[row],
            scope_name: columns.scope_name.rows[row],
            scope_version: columns.scope_version.rows[row],
            scope_meta: columns.scope_meta.rows[row],
        }
    }

    /// The columns and the row.
    pub fn place(self) -> (&'a SpanColumns, usize) {
        (self.columns, self.row)
    }

    /// The resource's `service.name`, empty if it has none.
    pub fn service(self) -> &'a str {
        self.columns.service.get(self.row)
    }

    /// The resource's attributes as JSON.
    pub fn resource(self) -> &'a str {
        self.columns.resource.get(self.row)
    }

    /// The JSON of [`ResourceMeta`].
    pub fn resource_meta(self) -> &'a str {
        self.columns.resource_meta.get(self.row)
    }

    /// Name, version and the JSON of [`ScopeMeta`].
    pub fn scope(self) -> (&'a str, &'a str, &'a str) {
        let Self { columns, row } = self;
        (columns.scope_name.get(row), columns.scope_version.get(row), columns.scope_meta.get(row))
    }

    /// Attributes in order.
    pub fn attributes(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let attributes = &self.columns.attributes;
        attributes.entries(self.row).map(|entry| (attributes.key.get(entry), attributes.value(entry)))
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
        let same_value = |(a, b): ((&str, Value<'_>), (&str, Value<'_>))| {
            let values = match (a.1, b.1) {
                (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
                (a, b) => a == b,
            };
            a.0 == b.0 && values
        };
        self.fields() == other.fields()
            && self.resource() == other.resource()
            && self.resource_meta() == other.resource_meta()
            && self.scope() == other.scope()
            && self.columns.attributes.entries(self.row).len()
                == other.columns.attributes.entries(other.row).len()
            && self.attributes().zip(other.attributes()).all(same_value)
            && self.events().eq(other.events())
            && self.links().eq(other.links())
    }
}

/// What OTLP says of a resource beside its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceMeta {
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema of the resource.
    pub schema_url: String,
    /// Entities that the attributes describe.
    pub entity_refs: Vec<EntityRef>,
}

/// One entity of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of OTLP's EntityRef")]
pub struct EntityRef {
    pub schema_url: String,
    pub kind: String,
    pub id_keys: Vec<String>,
    pub description_keys: Vec<String>,
}

/// What OTLP says of a scope beside its name and version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScopeMeta {
    /// Attributes of the scope.
    pub attributes: Attributes,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema of the scope's data.
    pub schema_url: String,
}

fn text_entry(entries: &mut Attributes, key: &str, text: &str) {
    if !text.is_empty() {
        entries.push((key.to_owned(), AnyValue::String(text.to_owned())));
    }
}

fn count_entry(entries: &mut Attributes, key: &str, count: u32) {
    if count != 0 {
        entries.push((key.to_owned(), AnyValue::Int(i64::from(count))));
    }
}

fn keys_entry(entries: &mut Attributes, key: &str, keys: &[String]) {
    if !keys.is_empty() {
        entries.push((key.to_owned(), AnyValue::Array(keys.iter().cloned().map(AnyValue::String).collect())));
    }
}

fn map_text(entries: &Attributes) -> String {
    let mut text = String::new();
    if !entries.is_empty() {
        attribute::write_map(&mut text, entries);
    }
    text
}

fn to_text(value: AnyValue) -> String {
    if let AnyValue::String(text) = value { text } else { String::new() }
}

fn to_count(value: &AnyValue) -> u32 {
    if let AnyValue::Int(count) = value { u32::try_from(*count).unwrap_or(0) } else { 0 }
}

fn to_keys(value: AnyValue) -> Vec<String> {
    if let AnyValue::Array(values) = value { values.into_iter().map(to_text).collect() } else { Vec::new() }
}

impl ResourceMeta {
    /// JSON with what is set; empty text if nothing is.
    pub fn to_json(&self) -> String {
        let mut entries = Attributes::new();
        count_entry(&mut entries, "dropped_attributes_count", self.dropped_attributes_count);
        text_entry(&mut entries, "schema_url", &self.schema_url);
        if !self.entity_refs.is_empty() {
            let refs = self.entity_refs.iter().map(EntityRef::to_value).collect();
            entries.push(("entity_refs".to_owned(), AnyValue::Array(refs)));
        }
        map_text(&entries)
    }

    /// Reads what [`ResourceMeta::to_json`] wrote; unknown keys are ignored.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut meta = Self::default();
        for (key, value) in attribute::parse_map(text)? {
            match (key.as_str(), value) {
                ("dropped_attributes_count", value) => meta.dropped_attributes_count = to_count(&value),
                ("schema_url", value) => meta.schema_url = to_text(value),
                ("entity_refs", AnyValue::Array(refs)) => {
                    meta.entity_refs = refs.into_iter().map(EntityRef::from_value).collect();
                }
                _ => {}
            }
        }
        Ok(meta)
    }
}

impl EntityRef {
    fn to_value(&self) -> AnyValue {
        let mut entries = Attributes::new();
        text_entry(&mut entries, "schema_url", &self.schema_url);
        text_entry(&mut entries, "type", &self.kind);
        keys_entry(&mut entries, "id_keys", &self.id_keys);
        keys_entry(&mut entries, "description_keys", &self.description_keys);
        AnyValue::Map(entries)
    }

    fn from_value(value: AnyValue) -> Self {
        let mut entity = Self::default();
        let AnyValue::Map(entries) = value else { return entity };
        for (key, value) in entries {
            match key.as_str() {
                "schema_url" => entity.schema_url = to_text(value),
                "type" => entity.kind = to_text(value),
                "id_keys" => entity.id_keys = to_keys(value),
                "description_keys" => entity.description_keys = to_keys(value),
                _ => {}
            }
        }
        entity
    }
}

impl ScopeMeta {
    /// JSON with what is set; empty text if nothing is.
    pub fn to_json(&self) -> String {
        let mut entries = Attributes::new();
        if !self.attributes.is_empty() {
            entries.push(("attributes".to_owned(), AnyValue::Map(self.attributes.clone())));
        }
        count_entry(&mut entries, "dropped_attributes_count", self.dropped_attributes_count);
        text_entry(&mut entries, "schema_url", &self.schema_url);
        map_text(&entries)
    }

    /// Reads what [`ScopeMeta::to_json`] wrote; unknown keys are ignored.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut meta = Self::default();
        for (key, value) in attribute::parse_map(text)? {
            match (key.as_str(), value) {
                ("attributes", AnyValue::Map(attributes)) => meta.attributes = attributes,
                ("dropped_attributes_count", value) => meta.dropped_attributes_count = to_count(&value),
                ("schema_url", value) => meta.schema_url = to_text(value),
                _ => {}
            }
        }
        Ok(meta)
    }
}

impl Dictionary {
    /// The attributes that the JSON at `position` holds.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn attributes(&self, position: u32) -> Result<Attributes, ParseError> {
        attribute::parse_map(self.get(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_row_can_be_dropped() {
        let mut columns = SpanColumns::default();
        let origin = columns.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
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
        let origin = columns.intern_resource("shop", "", "");
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

    #[test]
    fn resource_and_scope_meta_come_back_from_their_json() {
        let resource = ResourceMeta {
            dropped_attributes_count: 3,
            schema_url: "https://example.test/schema".to_owned(),
            entity_refs: vec![EntityRef {
                kind: "host".to_owned(),
                id_keys: vec!["host.id".to_owned()],
                ..EntityRef::default()
            }],
        };
        assert_eq!(ResourceMeta::parse(&resource.to_json()), Ok(resource));
        let scope = ScopeMeta {
            attributes: vec![("k".to_owned(), AnyValue::Double(1.5))],
            dropped_attributes_count: 0,
            schema_url: "s".to_owned(),
        };
        assert_eq!(ScopeMeta::parse(&scope.to_json()), Ok(scope));
        assert_eq!(ScopeMeta::default().to_json(), "");
        assert_eq!(ScopeMeta::parse(""), Ok(ScopeMeta::default()));
    }
}
