//! Traces in OTLP/JSON, streamed into columns.
//!
//! Nothing is built of the request but the span at hand: a body of `{},{},…` costs no more than its columns.
//! [`Object`] and [`List`] drive serde; each type with [`Fields`] or [`Items`] stands for one OTLP message or one list of
//! them. What has the right JSON type but a wrong value (an id that is not hex, a number out of range) is a
//! [`Fault`](super::batch::Fault) of its span; what has the wrong type is an error, because the parser cannot go on behind it.
//!
//! Depth is bounded here and not by serde_json, whose own limit would cut deep but allowed values.

mod scalar;
mod value;

use std::borrow::Cow;

use model::spans::EntityRef;
use serde::de::{DeserializeSeed as _, MapAccess, SeqAccess};

use self::scalar::{Fields, Id, Items, List, Object, Text, enum_number, ignore, number, owned_text, text};
use self::value::{KeyValue, Leaf, MapEntries};
use super::batch::{Batch, JsonMap, LinkIn, ResourceIn, ScopeIn, SpanIn};
use super::{DecodedTraces, KIND_NAMES, STATUS_NAMES};
use crate::error::Error;
use crate::limits::Limits;

/// Reads a request; what is invalid in a span, a scope or a resource rejects its spans.
///
/// # Errors
/// The body is not UTF-8, not JSON, or a field has the wrong JSON type.
pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<DecodedTraces, Error> {
    let text = std::str::from_utf8(body).map_err(|error| Error::NotUtf8 { offset: error.valid_up_to() })?;
    // JSON is about twice as long as protobuf.
    let mut batch = Batch::new(limits, body.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Object(&mut Request { batch: &mut batch }).deserialize(&mut deserializer).map_err(Error::Json)?;
    deserializer.end().map_err(Error::Json)?;
    Ok(batch.finish())
}

struct Request<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Fields<'de> for Request<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "resourceSpans" => map.next_value_seed(List(self)),
            _ => ignore(map),
        }
    }
}

impl<'de> Items<'de> for Request<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let first_row = self.batch.n_rows();
        let mut item = ResourceSpans { batch: self.batch, resource: ResourceIn::default() };
        let found = list.next_element_seed(Object(&mut item))?.is_some();
        let resource = item.resource;
        self.batch.close_resource(first_row, resource);
        Ok(found)
    }
}

struct ResourceSpans<'b, 'l> {
    batch: &'b mut Batch<'l>,
    resource: ResourceIn,
}

impl<'de> Fields<'de> for ResourceSpans<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "resource" => {
                let mut resource = Resource { batch: self.batch, resource: &mut self.resource };
                map.next_value_seed(Object(&mut resource))?;
            }
            "scopeSpans" => map.next_value_seed(List(&mut ScopeSpansList { batch: self.batch }))?,
            "schemaUrl" => self.resource.meta.schema_url = owned_text(self.batch, map, "schema url")?,
            _ => ignore(map)?,
        }
        // A span takes its fault with it, so one that is left is the resource's.
        self.resource.fault = self.resource.fault.or(self.batch.fault.take());
        Ok(())
    }
}

struct Resource<'b, 'l> {
    batch: &'b mut Batch<'l>,
    resource: &'b mut ResourceIn,
}

impl<'de> Fields<'de> for Resource<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, resource } = self;
        match name {
            "attributes" => {
                let mut entries =
                    MapEntries { batch, map: &mut resource.attributes, service: Some(&mut resource.service) };
                map.next_value_seed(List(&mut entries))
            }
            "droppedAttributesCount" => {
                resource.meta.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
                Ok(())
            }
            "entityRefs" => map.next_value_seed(List(self)),
            _ => ignore(map),
        }
    }
}

impl<'de> Items<'de> for Resource<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut item = Entity { batch: self.batch, resource: self.resource, found: EntityRef::default() };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let entity = item.found;
        if self.batch.count_entity(self.resource) {
            self.resource.meta.entity_refs.push(entity);
        }
        Ok(true)
    }
}

struct Entity<'b, 'l> {
    batch: &'b mut Batch<'l>,
    resource: &'b mut ResourceIn,
    found: EntityRef,
}

impl<'de> Fields<'de> for Entity<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, resource, found: entity } = self;
        match name {
            "schemaUrl" => entity.schema_url = owned_text(batch, map, "schema url of entity")?,
            "type" => entity.kind = owned_text(batch, map, "type of entity")?,
            "idKeys" => {
                map.next_value_seed(List(&mut EntityKeys { batch, resource, keys: &mut entity.id_keys }))?;
            }
            "descriptionKeys" => {
                let keys = &mut entity.description_keys;
                map.next_value_seed(List(&mut EntityKeys { batch, resource, keys }))?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct EntityKeys<'b, 'l> {
    batch: &'b mut Batch<'l>,
    resource: &'b mut ResourceIn,
    keys: &'b mut Vec<String>,
}

impl<'de> Items<'de> for EntityKeys<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(key) = list.next_element_seed(Text)? else { return Ok(false) };
        if self.batch.count_entity(self.resource) {
            let key = key.unwrap_or_default();
            self.keys.push(self.batch.text(key.as_bytes(), "key of entity").to_owned());
        }
        Ok(true)
    }
}

struct ScopeSpansList<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Items<'de> for ScopeSpansList<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let first_row = self.batch.n_rows();
        let mut item = ScopeSpans { batch: self.batch, scope: ScopeIn::default() };
        let found = list.next_element_seed(Object(&mut item))?.is_some();
        let scope = item.scope;
        self.batch.close_scope(first_row, scope);
        Ok(found)
    }
}

struct ScopeSpans<'b, 'l> {
    batch: &'b mut Batch<'l>,
    scope: ScopeIn,
}

impl<'de> Fields<'de> for ScopeSpans<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "scope" => {
                let mut scope = Scope { batch: self.batch, scope: &mut self.scope };
                map.next_value_seed(Object(&mut scope))?;
            }
            "spans" => map.next_value_seed(List(&mut Spans { batch: self.batch }))?,
            "schemaUrl" => self.scope.schema_url = owned_text(self.batch, map, "schema url")?,
            _ => ignore(map)?,
        }
        // A span takes its fault with it, so one that is left is the scope's.
        self.scope.fault = self.scope.fault.or(self.batch.fault.take());
        Ok(())
    }
}

struct Scope<'b, 'l> {
    batch: &'b mut Batch<'l>,
    scope: &'b mut ScopeIn,
}

impl<'de> Fields<'de> for Scope<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, scope } = self;
        match name {
            "name" => scope.name = owned_text(batch, map, "scope name")?,
            "version" => scope.version = owned_text(batch, map, "scope version")?,
            "attributes" => {
                let mut entries = MapEntries { batch, map: &mut scope.attributes, service: None };
                map.next_value_seed(List(&mut entries))?;
            }
            "droppedAttributesCount" => {
                scope.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Spans<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Items<'de> for Spans<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut item = Span {
            batch: self.batch,
            trace_id: Id::default(),
            id: Id::default(),
            parent_id: Id::default(),
            trace_state: Cow::default(),
            name: Cow::default(),
            status: Status::default(),
            others: SpanIn::default(),
        };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let Span { trace_id, id, parent_id, trace_state, name, status, others, .. } = item;
        self.batch.close_span(&SpanIn {
            trace_id: trace_id.as_bytes(),
            span_id: id.as_bytes(),
            parent_span_id: parent_id.as_bytes(),
            trace_state: trace_state.as_bytes(),
            name: name.as_bytes(),
            status_code: status.code,
            status_message: status.message.as_bytes(),
            ..others
        });
        Ok(true)
    }
}

struct Span<'b, 'l, 'de> {
    batch: &'b mut Batch<'l>,
    trace_id: Id,
    id: Id,
    parent_id: Id,
    trace_state: Cow<'de, str>,
    name: Cow<'de, str>,
    status: Status<'de>,
    /// What needs no room of its own.
    others: SpanIn<'static>,
}

#[derive(Default)]
struct Status<'de> {
    code: i32,
    message: Cow<'de, str>,
}

impl<'de> Fields<'de> for Span<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, others, .. } = self;
        match name {
            "traceId" => self.trace_id = Id::of::<_, 16>(batch, map, "trace id")?,
            "spanId" => self.id = Id::of::<_, 8>(batch, map, "span id")?,
            "traceState" => self.trace_state = text(map)?,
            "parentSpanId" => self.parent_id = Id::of::<_, 8>(batch, map, "parent span id")?,
            "flags" => others.flags = number(batch, map, "flags")?,
            "name" => self.name = text(map)?,
            "kind" => others.kind = enum_number(batch, map, &KIND_NAMES, "kind")?,
            "startTimeUnixNano" => others.start_ns = number(batch, map, "start time")?,
            "endTimeUnixNano" => others.end_ns = number(batch, map, "end time")?,
            "attributes" => map.next_value_seed(List(&mut SpanAttributes { batch }))?,
            "droppedAttributesCount" => {
                others.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            "events" => map.next_value_seed(List(&mut Events { batch }))?,
            "droppedEventsCount" => others.dropped_events_count = number(batch, map, "dropped events count")?,
            "links" => map.next_value_seed(List(&mut Links { batch }))?,
            "droppedLinksCount" => others.dropped_links_count = number(batch, map, "dropped links count")?,
            "status" => {
                let mut fields = StatusFields { batch, status: &mut self.status };
                map.next_value_seed(Object(&mut fields))?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct StatusFields<'b, 'l, 'de> {
    batch: &'b mut Batch<'l>,
    status: &'b mut Status<'de>,
}

impl<'de> Fields<'de> for StatusFields<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "code" => self.status.code = enum_number(self.batch, map, &STATUS_NAMES, "status code")?,
            "message" => self.status.message = text(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct SpanAttributes<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Items<'de> for SpanAttributes<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut scratch = std::mem::take(&mut self.batch.scratch);
        scratch.clear();
        let mut item = KeyValue::new(self.batch, &mut scratch.text, 1);
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let KeyValue { key, value, .. } = item;
        let key = key.as_bytes();
        match value {
            Leaf::Empty => self.batch.empty_attribute(key),
            Leaf::String(text) => self.batch.string_attribute(key, text.as_bytes()),
            Leaf::Bool(truth) => self.batch.bool_attribute(key, truth),
            Leaf::Int(number) => self.batch.int_attribute(key, number),
            Leaf::Double(number) => self.batch.double_attribute(key, number),
            Leaf::Written => self.batch.json_attribute(key, &scratch.text),
        }
        self.batch.scratch = scratch;
        Ok(true)
    }
}

struct Events<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Items<'de> for Events<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut attributes = std::mem::take(&mut self.batch.scratch);
        attributes.clear();
        let mut item = Event {
            batch: self.batch,
            attributes: &mut attributes,
            time_ns: 0,
            name: Cow::default(),
            dropped_attributes_count: 0,
        };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let Event { time_ns, name, dropped_attributes_count, .. } = item;
        self.batch.event(time_ns, name.as_bytes(), attributes.close(), dropped_attributes_count);
        self.batch.scratch = attributes;
        Ok(true)
    }
}

struct Event<'b, 'l, 'de> {
    batch: &'b mut Batch<'l>,
    attributes: &'b mut JsonMap,
    time_ns: u64,
    name: Cow<'de, str>,
    dropped_attributes_count: u32,
}

impl<'de> Fields<'de> for Event<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, attributes, .. } = self;
        match name {
            "timeUnixNano" => self.time_ns = number(batch, map, "time of event")?,
            "name" => self.name = text(map)?,
            "attributes" => {
                map.next_value_seed(List(&mut MapEntries { batch, map: attributes, service: None }))?;
            }
            "droppedAttributesCount" => {
                self.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Links<'b, 'l> {
    batch: &'b mut Batch<'l>,
}

impl<'de> Items<'de> for Links<'_, '_> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut attributes = std::mem::take(&mut self.batch.scratch);
        attributes.clear();
        let mut item = Link {
            batch: self.batch,
            attributes: &mut attributes,
            trace_id: Id::default(),
            span_id: Id::default(),
            trace_state: Cow::default(),
            others: LinkIn::default(),
        };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let Link { trace_id, span_id, trace_state, others, .. } = item;
        let link = LinkIn {
            trace_id: trace_id.as_bytes(),
            span_id: span_id.as_bytes(),
            trace_state: trace_state.as_bytes(),
            ..others
        };
        self.batch.link(&link, attributes.close());
        self.batch.scratch = attributes;
        Ok(true)
    }
}

struct Link<'b, 'l, 'de> {
    batch: &'b mut Batch<'l>,
    attributes: &'b mut JsonMap,
    trace_id: Id,
    span_id: Id,
    trace_state: Cow<'de, str>,
    /// What needs no room of its own.
    others: LinkIn<'static>,
}

impl<'de> Fields<'de> for Link<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, attributes, others, .. } = self;
        match name {
            "traceId" => self.trace_id = Id::of::<_, 16>(batch, map, "trace id of link")?,
            "spanId" => self.span_id = Id::of::<_, 8>(batch, map, "span id of link")?,
            "traceState" => self.trace_state = text(map)?,
            "attributes" => {
                map.next_value_seed(List(&mut MapEntries { batch, map: attributes, service: None }))?;
            }
            "droppedAttributesCount" => {
                others.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            "flags" => others.flags = number(batch, map, "flags of link")?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}
