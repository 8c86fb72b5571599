//! Columns back to OTLP messages, and those to JSON.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::AnyValue;
use model::attribute::{self, Attributes, write_string};
use model::columns::{ResourceMeta, ScopeMeta};
use model::spans::{EventView, LinkView, SpanView};

use super::message::{self, TracesData, any_value};

/// How [`to_json`] writes what OTLP and its users write differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonStyle {
    /// OTLP/JSON: `{"resourceSpans":…}`, hex ids, enums as numbers.
    Otlp,
    /// The first version of Tempo's API: `{"batches":…}`, base64 ids, enums by name.
    TempoBatches,
    /// The `trace` of the second version of Tempo's API: `{"resourceSpans":…}`, otherwise as `TempoBatches`.
    TempoTrace,
}

/// The spans as OTLP messages.
///
/// Spans are grouped by resource, then by scope, each in the order of its first span; within a scope the order is kept.
/// Every resource, scope and status is there, even if it is empty: Grafana follows them unchecked.
/// An attribute text that is not of the form of [`attribute`] becomes a string value, or no attributes for a whole map;
/// only damaged storage has such.
pub fn to_messages<'a>(spans: impl Iterator<Item = SpanView<'a>>) -> TracesData {
    let mut data = TracesData::default();
    let mut resources = HashMap::new();
    let mut scopes = HashMap::new();
    let mut last = None;
    for span in spans {
        let source = (std::ptr::from_ref(span.place().0), span.origin());
        let place = match last {
            Some((last_source, place)) if last_source == source => place,
            _ => place_of(&mut data, &mut resources, &mut scopes, span),
        };
        last = Some((source, place));
        let (resource, scope) = place;
        data.resource_spans[resource].scope_spans[scope].spans.push(span_message(span));
    }
    data
}

type Place = (usize, usize);

/// The positions of the span's resource and of its scope in there, which are added if they are new.
fn place_of<'a>(
    data: &mut TracesData,
    resources: &mut HashMap<(&'a str, &'a str), usize>,
    scopes: &mut HashMap<(usize, (&'a str, &'a str, &'a str)), usize>,
    span: SpanView<'a>,
) -> Place {
    let resource = *resources.entry((span.resource(), span.resource_meta())).or_insert_with(|| {
        data.resource_spans.push(resource_message(span));
        data.resource_spans.len() - 1
    });
    let of_resource = &mut data.resource_spans[resource].scope_spans;
    let scope = *scopes.entry((resource, span.scope())).or_insert_with(|| {
        of_resource.push(scope_message(span));
        of_resource.len() - 1
    });
    (resource, scope)
}

fn resource_message(span: SpanView<'_>) -> message::ResourceSpans {
    let meta = ResourceMeta::parse(span.resource_meta()).unwrap_or_default();
    let entity_ref = |entity: model::columns::EntityRef| message::EntityRef {
        schema_url: entity.schema_url,
        r#type: entity.kind,
        id_keys: entity.id_keys,
        description_keys: entity.description_keys,
    };
    let resource = message::Resource {
        attributes: map_message(span.resource()),
        dropped_attributes_count: meta.dropped_attributes_count,
        entity_refs: meta.entity_refs.into_iter().map(entity_ref).collect(),
    };
    message::ResourceSpans { resource: Some(resource), scope_spans: Vec::new(), schema_url: meta.schema_url }
}

fn scope_message(span: SpanView<'_>) -> message::ScopeSpans {
    let (name, version, meta) = span.scope();
    let meta = ScopeMeta::parse(meta).unwrap_or_default();
    let scope = message::InstrumentationScope {
        name: name.to_owned(),
        version: version.to_owned(),
        attributes: attributes_message(meta.attributes),
        dropped_attributes_count: meta.dropped_attributes_count,
    };
    message::ScopeSpans { scope: Some(scope), spans: Vec::new(), schema_url: meta.schema_url }
}

fn span_message(span: SpanView<'_>) -> message::Span {
    let fields = span.fields();
    let attributes = span.attributes().map(|(key, value)| {
        let value = value.to_any_value().unwrap_or_else(|_| match value {
            model::columns::Value::Json(text) => AnyValue::String(text.to_owned()),
            _ => AnyValue::Empty,
        });
        key_value_message(key.to_owned(), value)
    });
    message::Span {
        trace_id: fields.trace_id.0.to_vec(),
        span_id: fields.span_id.0.to_vec(),
        trace_state: fields.trace_state.to_owned(),
        parent_span_id: id_bytes(&fields.parent_span_id.0),
        name: fields.name.to_owned(),
        kind: fields.kind,
        start_time_unix_nano: fields.start_ns as u64,
        end_time_unix_nano: fields.start_ns.wrapping_add(fields.duration_ns) as u64,
        attributes: attributes.collect(),
        dropped_attributes_count: fields.dropped_attributes_count,
        events: span.events().map(event_message).collect(),
        dropped_events_count: fields.dropped_events_count,
        links: span.links().map(link_message).collect(),
        dropped_links_count: fields.dropped_links_count,
        status: Some(message::Status { message: fields.status_message.to_owned(), code: fields.status_code }),
        flags: fields.flags,
    }
}

fn event_message(event: EventView<'_>) -> message::Event {
    message::Event {
        time_unix_nano: event.time_ns as u64,
        name: event.name.to_owned(),
        attributes: map_message(event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn link_message(link: LinkView<'_>) -> message::Link {
    message::Link {
        trace_id: id_bytes(&link.trace_id.0),
        span_id: id_bytes(&link.span_id.0),
        trace_state: link.trace_state.to_owned(),
        attributes: map_message(link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags,
    }
}

/// An id that may be absent: zeros are no bytes.
fn id_bytes(id: &[u8]) -> Vec<u8> {
    if id.iter().all(|&byte| byte == 0) { Vec::new() } else { id.to_vec() }
}

fn map_message(json: &str) -> Vec<message::KeyValue> {
    attributes_message(attribute::parse_map(json).unwrap_or_default())
}

fn attributes_message(attributes: Attributes) -> Vec<message::KeyValue> {
    attributes.into_iter().map(|(key, value)| key_value_message(key, value)).collect()
}

fn key_value_message(key: String, value: AnyValue) -> message::KeyValue {
    message::KeyValue { key, value: Some(value_message(value)) }
}

fn value_message(value: AnyValue) -> message::AnyValue {
    use any_value::Value;
    let value = match value {
        AnyValue::Empty => None,
        AnyValue::String(text) => Some(Value::StringValue(text)),
        AnyValue::Bool(truth) => Some(Value::BoolValue(truth)),
        AnyValue::Int(number) => Some(Value::IntValue(number)),
        AnyValue::Double(number) => Some(Value::DoubleValue(number)),
        AnyValue::Bytes(bytes) => Some(Value::BytesValue(bytes)),
        AnyValue::Array(values) => {
            let values = values.into_iter().map(value_message).collect();
            Some(Value::ArrayValue(message::ArrayValue { values }))
        }
        AnyValue::Map(entries) => {
            Some(Value::KvlistValue(message::KeyValueList { values: attributes_message(entries) }))
        }
    };
    message::AnyValue { value }
}

/// The spans as JSON, grouped as by [`to_messages`].
pub fn to_json<'a>(spans: impl Iterator<Item = SpanView<'a>>, style: JsonStyle) -> String {
    messages_to_json(&to_messages(spans), style)
}

/// The messages as JSON.
///
/// Fields with the default value are left out; 64-bit integers are strings, doubles that are not finite too.
pub fn messages_to_json(data: &TracesData, style: JsonStyle) -> String {
    let root = match style {
        JsonStyle::Otlp | JsonStyle::TempoTrace => "resourceSpans",
        JsonStyle::TempoBatches => "batches",
    };
    let mut json = Json { out: String::new(), style };
    json.object(|json| {
        // Written even if empty, unlike other lists: it is what tells an answer without spans from no answer.
        json.key(root);
        json.array(&data.resource_spans, Json::resource_spans);
    });
    json.out
}

/// JSON being written; commas are put where the text so far ends in a value.
struct Json {
    out: String,
    style: JsonStyle,
}

impl Json {
    fn separate(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(['{', '[', ':']) {
            self.out.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        write_string(&mut self.out, key);
        self.out.push(':');
    }

    fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push('{');
        fields(self);
        self.out.push('}');
    }

    fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for item in items {
            write(self, item);
        }
        self.out.push(']');
    }

    fn list<T>(&mut self, key: &str, items: &[T], write: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.key(key);
            self.array(items, write);
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.key(key);
            write_string(&mut self.out, text);
        }
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.list(key, texts, |json, text| {
            json.separate();
            write_string(&mut json.out, text);
        });
    }

    fn number(&mut self, key: &str, number: u32) {
        if number != 0 {
            self.key(key);
            write!(self.out, "{number}").expect("invariant: writing to a string succeeds");
        }
    }

    fn time(&mut self, key: &str, time_ns: u64) {
        if time_ns != 0 {
            self.key(key);
            write!(self.out, "\"{time_ns}\"").expect("invariant: writing to a string succeeds");
        }
    }

    fn id(&mut self, key: &str, id: &[u8]) {
        if id.is_empty() {
            return;
        }
        self.key(key);
        self.out.push('"');
        match self.style {
            JsonStyle::Otlp => {
                for byte in id {
                    write!(self.out, "{byte:02x}").expect("invariant: writing to a string succeeds");
                }
            }
            JsonStyle::TempoBatches | JsonStyle::TempoTrace => BASE64.encode_string(id, &mut self.out),
        }
        self.out.push('"');
    }

    /// An enum; `names` by number.
    fn enumeration(&mut self, key: &str, number: i32, names: &[&str]) {
        if number == 0 {
            return;
        }
        self.key(key);
        let name = usize::try_from(number).ok().and_then(|number| names.get(number));
        match (self.style, name) {
            (JsonStyle::TempoBatches | JsonStyle::TempoTrace, Some(name)) => {
                write_string(&mut self.out, name);
            }
            _ => write!(self.out, "{number}").expect("invariant: writing to a string succeeds"),
        }
    }

    fn resource_spans(&mut self, spans: &message::ResourceSpans) {
        self.object(|json| {
            if let Some(resource) = &spans.resource {
                json.key("resource");
                json.object(|json| {
                    json.list("attributes", &resource.attributes, Self::key_value);
                    json.number("droppedAttributesCount", resource.dropped_attributes_count);
                    json.list("entityRefs", &resource.entity_refs, Self::entity_ref);
                });
            }
            json.list("scopeSpans", &spans.scope_spans, Self::scope_spans);
            json.text("schemaUrl", &spans.schema_url);
        });
    }

    fn entity_ref(&mut self, entity: &message::EntityRef) {
        self.object(|json| {
            json.text("schemaUrl", &entity.schema_url);
            json.text("type", &entity.r#type);
            json.texts("idKeys", &entity.id_keys);
            json.texts("descriptionKeys", &entity.description_keys);
        });
    }

    fn scope_spans(&mut self, spans: &message::ScopeSpans) {
        self.object(|json| {
            if let Some(scope) = &spans.scope {
                json.key("scope");
                json.object(|json| {
                    json.text("name", &scope.name);
                    json.text("version", &scope.version);
                    json.list("attributes", &scope.attributes, Self::key_value);
                    json.number("droppedAttributesCount", scope.dropped_attributes_count);
                });
            }
            json.list("spans", &spans.spans, Self::span);
            json.text("schemaUrl", &spans.schema_url);
        });
    }

    fn span(&mut self, span: &message::Span) {
        self.object(|json| {
            json.id("traceId", &span.trace_id);
            json.id("spanId", &span.span_id);
            json.text("traceState", &span.trace_state);
            json.id("parentSpanId", &span.parent_span_id);
            json.number("flags", span.flags);
            json.text("name", &span.name);
            json.enumeration("kind", span.kind, &super::KIND_NAMES);
            json.time("startTimeUnixNano", span.start_time_unix_nano);
            json.time("endTimeUnixNano", span.end_time_unix_nano);
            json.list("attributes", &span.attributes, Self::key_value);
            json.number("droppedAttributesCount", span.dropped_attributes_count);
            json.list("events", &span.events, Self::event);
            json.number("droppedEventsCount", span.dropped_events_count);
            json.list("links", &span.links, Self::link);
            json.number("droppedLinksCount", span.dropped_links_count);
            if let Some(status) = &span.status {
                json.key("status");
                json.object(|json| {
                    json.text("message", &status.message);
                    json.enumeration("code", status.code, &super::STATUS_NAMES);
                });
            }
        });
    }

    fn event(&mut self, event: &message::Event) {
        self.object(|json| {
            json.time("timeUnixNano", event.time_unix_nano);
            json.text("name", &event.name);
            json.list("attributes", &event.attributes, Self::key_value);
            json.number("droppedAttributesCount", event.dropped_attributes_count);
        });
    }

    fn link(&mut self, link: &message::Link) {
        self.object(|json| {
            json.id("traceId", &link.trace_id);
            json.id("spanId", &link.span_id);
            json.text("traceState", &link.trace_state);
            json.list("attributes", &link.attributes, Self::key_value);
            json.number("droppedAttributesCount", link.dropped_attributes_count);
            json.number("flags", link.flags);
        });
    }

    fn key_value(&mut self, entry: &message::KeyValue) {
        self.object(|json| {
            json.text("key", &entry.key);
            if let Some(value) = &entry.value {
                json.key("value");
                json.value(value);
            }
        });
    }

    /// A value; unlike a field, it is written even if it is the default of its kind.
    fn value(&mut self, value: &message::AnyValue) {
        use any_value::Value;
        self.object(|json| match &value.value {
            None => {}
            Some(Value::StringValue(text)) => {
                json.key("stringValue");
                write_string(&mut json.out, text);
            }
            Some(Value::BoolValue(truth)) => {
                json.key("boolValue");
                json.out.push_str(if *truth { "true" } else { "false" });
            }
            Some(Value::IntValue(number)) => {
                json.key("intValue");
                write!(json.out, "\"{number}\"").expect("invariant: writing to a string succeeds");
            }
            Some(Value::DoubleValue(number)) => {
                json.key("doubleValue");
                json.double(*number);
            }
            Some(Value::BytesValue(bytes)) => {
                json.key("bytesValue");
                json.out.push('"');
                BASE64.encode_string(bytes, &mut json.out);
                json.out.push('"');
            }
            Some(Value::ArrayValue(array)) => {
                json.key("arrayValue");
                json.object(|json| json.list("values", &array.values, Self::value));
            }
            Some(Value::KvlistValue(map)) => {
                json.key("kvlistValue");
                json.object(|json| json.list("values", &map.values, Self::key_value));
            }
        });
    }

    fn double(&mut self, number: f64) {
        let text = if number.is_finite() {
            format!("{number:?}")
        } else if number.is_nan() {
            "\"NaN\"".to_owned()
        } else {
            format!("\"{}Infinity\"", if number < 0.0 { "-" } else { "" })
        };
        self.out.push_str(&text);
    }
}
