//! Spans in OTLP/JSON.

use std::borrow::Cow;

use model::SpanColumns;
use serde::de::{MapAccess, SeqAccess};

use super::Row;
use super::scalar::{Fields, Id, Items, List, Object, enum_number, ignore, number, text};
use super::value::{MapEntries, RowAttributes};
use crate::otlp::batch::{Batch, JsonMap, LinkIn, SpanIn};
use crate::otlp::{KIND_NAMES, STATUS_NAMES};

impl Row for SpanColumns {
    const RESOURCES: &'static str = "resourceSpans";
    const SCOPES: &'static str = "scopeSpans";
    const ROWS: &'static str = "spans";

    fn read<'de, A: SeqAccess<'de>>(batch: &mut Batch<'_, Self>, list: &mut A) -> Result<bool, A::Error> {
        let mut item = Span {
            batch,
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
        let Span { batch, trace_id, id, parent_id, trace_state, name, status, others } = item;
        batch.close_span(&SpanIn {
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
    batch: &'b mut Batch<'l, SpanColumns>,
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
            "traceId" => self.trace_id = Id::of::<_, _, 16>(batch, map, "trace id")?,
            "spanId" => self.id = Id::of::<_, _, 8>(batch, map, "span id")?,
            "traceState" => self.trace_state = text(map)?,
            "parentSpanId" => self.parent_id = Id::of::<_, _, 8>(batch, map, "parent span id")?,
            "flags" => others.flags = number(batch, map, "flags")?,
            "name" => self.name = text(map)?,
            "kind" => others.kind = enum_number(batch, map, &KIND_NAMES, "kind")?,
            "startTimeUnixNano" => others.start_ns = number(batch, map, "start time")?,
            "endTimeUnixNano" => others.end_ns = number(batch, map, "end time")?,
            "attributes" => map.next_value_seed(List(&mut RowAttributes { batch }))?,
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
    batch: &'b mut Batch<'l, SpanColumns>,
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

struct Events<'b, 'l> {
    batch: &'b mut Batch<'l, SpanColumns>,
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
    batch: &'b mut Batch<'l, SpanColumns>,
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
    batch: &'b mut Batch<'l, SpanColumns>,
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
    batch: &'b mut Batch<'l, SpanColumns>,
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
            "traceId" => self.trace_id = Id::of::<_, _, 16>(batch, map, "trace id of link")?,
            "spanId" => self.span_id = Id::of::<_, _, 8>(batch, map, "span id of link")?,
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
