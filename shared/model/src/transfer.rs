//! Rows of one batch into another, without a look at texts that were moved before.
//!
//! Merging takes rows from many batches in turn. Each batch has a [`SpanTransfer`] or [`LogTransfer`], which remembers
//! where its texts lie in the dictionaries of the batch that is being filled; [`SpanTransfer::renew`] and
//! [`LogTransfer::renew`] say that a new one is filled now.

mod logs;

pub use logs::LogTransfer;

use crate::columns::{AttributeColumns, OriginColumns, ValueKind};
use crate::dictionary::{DictColumn, Dictionary};
use crate::spans::SpanColumns;

/// Where the texts of one dictionary lie in another, as far as they were moved.
#[derive(Debug, Clone, Default)]
struct Positions {
    /// By position the round in which it was moved, and where to.
    moved: Vec<(u32, u32)>,
}

impl Positions {
    #[inline]
    fn of(&mut self, round: u32, from: &Dictionary, position: u32, to: &mut Dictionary) -> u32 {
        if self.moved.len() < from.len() {
            self.moved.resize(from.len(), (0, 0));
        }
        let moved = &mut self.moved[position as usize];
        if moved.0 != round {
            *moved = (round, to.intern(from.get(position)));
        }
        moved.1
    }

    /// The bytes that a text adds to the other dictionary.
    fn new_bytes(&self, round: u32, from: &Dictionary, position: u32) -> usize {
        let is_moved = self.moved.get(position as usize).is_some_and(|moved| moved.0 == round);
        if is_moved { 0 } else { from.get(position).len() }
    }

    #[inline]
    fn push(&mut self, round: u32, from: &DictColumn, entry: usize, to: &mut DictColumn) {
        let position = self.of(round, &from.dictionary, from.rows[entry], &mut to.dictionary);
        to.rows.push(position);
    }
}

/// Where the texts of origins lie.
#[derive(Debug, Clone, Default)]
struct OriginTransfer {
    service: Positions,
    resource: Positions,
    resource_meta: Positions,
    scope_name: Positions,
    scope_version: Positions,
    scope_meta: Positions,
}

impl OriginTransfer {
    fn push(&mut self, round: u32, from: &OriginColumns, row: usize, to: &mut OriginColumns) {
        self.service.push(round, &from.service, row, &mut to.service);
        self.resource.push(round, &from.resource, row, &mut to.resource);
        self.resource_meta.push(round, &from.resource_meta, row, &mut to.resource_meta);
        self.scope_name.push(round, &from.scope_name, row, &mut to.scope_name);
        self.scope_version.push(round, &from.scope_version, row, &mut to.scope_version);
        self.scope_meta.push(round, &from.scope_meta, row, &mut to.scope_meta);
    }
}

/// Where the texts of one batch of spans lie in another.
#[derive(Debug, Clone)]
pub struct SpanTransfer {
    round: u32,
    origin: OriginTransfer,
    name: Positions,
    status_message: Positions,
    trace_state: Positions,
    attributes: AttributeTransfer,
    event_name: Positions,
    event_attributes: Positions,
    link_trace_state: Positions,
    link_attributes: Positions,
}

#[derive(Debug, Clone, Default)]
struct AttributeTransfer {
    key: Positions,
    string: Positions,
    json: Positions,
}

impl Default for SpanTransfer {
    fn default() -> Self {
        Self {
            // What is not moved yet has round 0.
            round: 1,
            origin: OriginTransfer::default(),
            name: Positions::default(),
            status_message: Positions::default(),
            trace_state: Positions::default(),
            attributes: AttributeTransfer::default(),
            event_name: Positions::default(),
            event_attributes: Positions::default(),
            link_trace_state: Positions::default(),
            link_attributes: Positions::default(),
        }
    }
}

impl SpanTransfer {
    /// Another batch is filled from now on.
    pub fn renew(&mut self) {
        self.round += 1;
    }
}

impl AttributeTransfer {
    fn push(&mut self, round: u32, from: &AttributeColumns, row: usize, to: &mut AttributeColumns) {
        for entry in from.entries(row) {
            self.key.push(round, &from.key, entry, &mut to.key);
            let slot = from.slot[entry] as usize;
            let new_slot = match from.kind[entry] {
                ValueKind::Empty => 0,
                ValueKind::String => {
                    self.string.push(round, &from.string, slot, &mut to.string);
                    to.string.len() - 1
                }
                ValueKind::Int => {
                    to.int.push(from.int[slot]);
                    to.int.len() - 1
                }
                ValueKind::Double => {
                    to.double.push(from.double[slot]);
                    to.double.len() - 1
                }
                ValueKind::Bool => {
                    to.bool.push(from.bool[slot]);
                    to.bool.len() - 1
                }
                ValueKind::Json => {
                    self.json.push(round, &from.json, slot, &mut to.json);
                    to.json.len() - 1
                }
            };
            to.kind.push(from.kind[entry]);
            to.slot.push(new_slot as u32);
        }
        to.ends.push(to.key.len() as u32);
    }
}

impl SpanColumns {
    /// Appends a row of another batch, whose texts `transfer` knows.
    pub fn push_row_of(&mut self, from: &Self, row: usize, transfer: &mut SpanTransfer) {
        let round = transfer.round;
        self.trace_id.push(from.trace_id[row]);
        self.span_id.push(from.span_id[row]);
        self.parent_span_id.push(from.parent_span_id[row]);
        transfer.trace_state.push(round, &from.trace_state, row, &mut self.trace_state);
        self.flags.push(from.flags[row]);
        transfer.name.push(round, &from.name, row, &mut self.name);
        self.kind.push(from.kind[row]);
        self.start_ns.push(from.start_ns[row]);
        self.duration_ns.push(from.duration_ns[row]);
        self.status_code.push(from.status_code[row]);
        transfer.status_message.push(round, &from.status_message, row, &mut self.status_message);
        self.dropped_attributes_count.push(from.dropped_attributes_count[row]);
        self.dropped_events_count.push(from.dropped_events_count[row]);
        self.dropped_links_count.push(from.dropped_links_count[row]);
        transfer.origin.push(round, &from.origins, row, &mut self.origins);
        transfer.attributes.push(round, &from.attributes, row, &mut self.attributes);
        let (events, to) = (&from.events, &mut self.events);
        for entry in events.entries(row) {
            to.time_ns.push(events.time_ns[entry]);
            transfer.event_name.push(round, &events.name, entry, &mut to.name);
            transfer.event_attributes.push(round, &events.attributes, entry, &mut to.attributes);
            to.dropped_attributes_count.push(events.dropped_attributes_count[entry]);
        }
        to.ends.push(to.time_ns.len() as u32);
        let (links, to) = (&from.links, &mut self.links);
        for entry in links.entries(row) {
            to.trace_id.push(links.trace_id[entry]);
            to.span_id.push(links.span_id[entry]);
            transfer.link_trace_state.push(round, &links.trace_state, entry, &mut to.trace_state);
            transfer.link_attributes.push(round, &links.attributes, entry, &mut to.attributes);
            to.dropped_attributes_count.push(links.dropped_attributes_count[entry]);
            to.flags.push(links.flags[entry]);
        }
        to.ends.push(to.trace_id.len() as u32);
    }

    /// About how many bytes the batch takes.
    pub fn memory_bytes(&self) -> usize {
        let texts = [
            &self.trace_state,
            &self.name,
            &self.status_message,
            &self.origins.resource,
            &self.origins.resource_meta,
            &self.origins.scope_meta,
            &self.attributes.string,
            &self.attributes.json,
            &self.events.attributes,
            &self.links.attributes,
        ];
        let text_bytes: usize = texts.iter().map(|column| column.dictionary.text_bytes()).sum();
        text_bytes
            + self.len() * 160
            + self.attributes.kind.len() * 24
            + self.events.time_ns.len() * 24
            + self.links.trace_id.len() * 40
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Value;
    use crate::ids::{SpanId, TraceId};
    use crate::spans::{EventView, LinkView, SpanFields};

    fn batch(first: u8) -> SpanColumns {
        let mut columns = SpanColumns::default();
        for n in first..first + 4 {
            let text = format!("text {}", n % 3);
            columns.attributes.push("a", Value::String(&text));
            columns.attributes.push("n", Value::Int(n.into()));
            columns.attributes.push("d", Value::Double(f64::from(n)));
            columns.attributes.push("b", Value::Bool(n % 2 == 0));
            columns.attributes.push("e", Value::Empty);
            columns.attributes.push("j", Value::Json("[1]"));
            if n % 2 == 0 {
                let event =
                    EventView { time_ns: 3, name: &text, attributes: "{}", dropped_attributes_count: 1 };
                columns.events.push(event);
                columns.links.push(LinkView {
                    trace_id: TraceId([n; 16]),
                    span_id: SpanId([n; 8]),
                    trace_state: &text,
                    attributes: "",
                    dropped_attributes_count: 0,
                    flags: 7,
                });
            }
            let origin = columns.origins.intern_resource(&text, &text, "");
            let origin = columns.origins.intern_scope(origin, "scope", &text, &text);
            let fields = SpanFields { trace_id: TraceId([n; 16]), name: &text, ..SpanFields::default() };
            columns.push_span(&fields, origin);
        }
        columns
    }

    #[test]
    fn rows_arrive_as_they_were_in_every_batch_that_is_filled() {
        let sources = [batch(0), batch(7)];
        let mut transfers = [SpanTransfer::default(), SpanTransfer::default()];
        for _ in 0..3 {
            let mut filled = SpanColumns::default();
            for row in 0..4 {
                for (source, transfer) in sources.iter().zip(&mut transfers) {
                    filled.push_row_of(source, row, transfer);
                }
            }
            for (at, span) in filled.iter().enumerate() {
                assert!(span.same_as(sources[at % 2].span(at / 2)), "row {at}");
            }
            assert_eq!(filled.name.dictionary.len(), 3);
            assert!(filled.memory_bytes() > 1000);
            transfers.iter_mut().for_each(SpanTransfer::renew);
        }
    }
}
