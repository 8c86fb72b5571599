//! Rows of one batch into another, without a look at texts that were moved before.
//!
//! Merging takes rows from many batches in turn. Each batch has a [`SpanTransfer`] or [`LogTransfer`], which remembers
//! where its texts lie in the dictionaries of the batch that is being filled, for as long as these are there. Spans are
//! moved column by column, many rows at once, whichever batches they are in.

mod append;
mod logs;
mod picks;

pub use logs::LogTransfer;
pub use picks::{Pick, Picks};

use std::ops::Range;

use picks::Texts;

use crate::columns::{AttributeColumns, N_KINDS, OriginColumns, ValueKind};
use crate::dictionary::{DictColumn, Dictionary};
use crate::spans::SpanColumns;

/// Where the texts of one dictionary lie in another, as far as they were moved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions {
    /// The [`Dictionary::id`] of the other.
    into: u64,
    /// Counts the others.
    round: u32,
    /// By position the round in which it was moved, and where to.
    moved: Vec<(u32, u32)>,
}

impl Positions {
    /// Has to come before [`Positions::of`], once for as many texts as go into the same dictionary.
    #[inline]
    pub(crate) fn begin(&mut self, from: &Dictionary, into: &Dictionary) {
        if self.into != into.id() {
            self.into = into.id();
            self.round += 1;
            self.moved.resize(from.len(), (0, 0));
        }
    }

    #[inline]
    pub(crate) fn of(&mut self, from: &Dictionary, position: u32, into: &mut Dictionary) -> u32 {
        let moved = &mut self.moved[position as usize];
        if moved.0 != self.round {
            *moved = (self.round, into.intern_of(from, position));
        }
        moved.1
    }

    /// Appends the texts of neighbouring entries, behind [`Positions::begin`].
    #[inline]
    fn extend_range(&mut self, from: &DictColumn, entries: Range<usize>, into: &mut DictColumn) {
        let DictColumn { dictionary, rows } = into;
        let positions = from.rows[entries].iter();
        rows.extend(positions.map(|&position| self.of(&from.dictionary, position, dictionary)));
    }

    /// The bytes that a text adds to the other dictionary.
    fn new_bytes(&self, from: &Dictionary, position: u32, into: &Dictionary) -> usize {
        let moved = self.moved.get(position as usize);
        let is_moved = self.into == into.id() && moved.is_some_and(|moved| moved.0 == self.round);
        if is_moved { 0 } else { from.get(position).len() }
    }

    /// Appends the texts of some entries.
    #[inline]
    fn extend(
        &mut self,
        from: &DictColumn,
        entries: impl ExactSizeIterator<Item = usize>,
        into: &mut DictColumn,
    ) {
        self.begin(&from.dictionary, &into.dictionary);
        let DictColumn { dictionary, rows } = into;
        if from.dictionary.len() == 1 && entries.len() > 0 {
            let only = self.of(&from.dictionary, 0, dictionary);
            rows.extend(std::iter::repeat_n(only, entries.len()));
            return;
        }
        rows.extend(entries.map(|entry| self.of(&from.dictionary, from.rows[entry], dictionary)));
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
    fn extend(&mut self, from: &OriginColumns, rows: &[u32], into: &mut OriginColumns) {
        self.service.extend(&from.service, each(rows), &mut into.service);
        self.resource.extend(&from.resource, each(rows), &mut into.resource);
        self.resource_meta.extend(&from.resource_meta, each(rows), &mut into.resource_meta);
        self.scope_name.extend(&from.scope_name, each(rows), &mut into.scope_name);
        self.scope_version.extend(&from.scope_version, each(rows), &mut into.scope_version);
        self.scope_meta.extend(&from.scope_meta, each(rows), &mut into.scope_meta);
    }
}

fn each(rows: &[u32]) -> impl ExactSizeIterator<Item = usize> {
    rows.iter().map(|&row| row as usize)
}

/// Where the texts of one batch of spans lie in another.
#[derive(Debug, Clone, Default)]
pub struct SpanTransfer {
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

impl AttributeTransfer {
    /// Has to come before [`AttributeTransfer::push_row`], once for as many rows as go into the same dictionaries.
    fn begin(&mut self, from: &AttributeColumns, into: &AttributeColumns) {
        self.key.begin(&from.key.dictionary, &into.key.dictionary);
        self.string.begin(&from.string.dictionary, &into.string.dictionary);
        self.json.begin(&from.json.dictionary, &into.json.dictionary);
    }

    /// Appends a row. `next` has by kind how many values there are, as [`AttributeColumns::n_of_kinds`] counts them.
    #[inline]
    fn push_row(
        &mut self,
        from: &AttributeColumns,
        row: usize,
        into: &mut AttributeColumns,
        next: &mut [u32; N_KINDS],
    ) {
        let entries = from.entries(row);
        if entries.is_empty() {
            into.close_row();
            return;
        }
        self.key.extend_range(&from.key, entries.clone(), &mut into.key);
        let kinds = &from.kind[entries.clone()];
        into.kind.extend_from_slice(kinds);
        // The values of a row lie side by side in the column of their kind.
        let before = *next;
        let mut ends = [0; N_KINDS];
        into.slot.extend(kinds.iter().zip(&from.slot[entries]).map(|(&kind, &slot)| {
            ends[kind as usize] = slot as usize + 1;
            let slot = next[kind as usize];
            next[kind as usize] += u32::from(kind != ValueKind::Empty);
            slot
        }));
        let values = |kind: ValueKind| {
            let (end, n) = (ends[kind as usize], next[kind as usize] - before[kind as usize]);
            end - n as usize..end
        };
        self.string.extend_range(&from.string, values(ValueKind::String), &mut into.string);
        self.json.extend_range(&from.json, values(ValueKind::Json), &mut into.json);
        into.int.extend_from_slice(&from.int[values(ValueKind::Int)]);
        into.double.extend_from_slice(&from.double[values(ValueKind::Double)]);
        into.bool.extend_from_slice(&from.bool[values(ValueKind::Bool)]);
        into.close_row();
    }
}

impl SpanColumns {
    /// Appends rows of other batches, each of which has a transfer that knows its texts.
    pub fn extend_from(&mut self, batches: &[&Self], picks: &Picks<'_>, transfers: &mut [SpanTransfer]) {
        picks.gather(batches, |from| &from.trace_id, &mut self.trace_id);
        picks.gather(batches, |from| &from.span_id, &mut self.span_id);
        picks.gather(batches, |from| &from.parent_span_id, &mut self.parent_span_id);
        picks.gather(batches, |from| &from.flags, &mut self.flags);
        picks.gather(batches, |from| &from.kind, &mut self.kind);
        picks.gather(batches, |from| &from.start_ns, &mut self.start_ns);
        picks.gather(batches, |from| &from.duration_ns, &mut self.duration_ns);
        picks.gather(batches, |from| &from.status_code, &mut self.status_code);
        picks.gather(batches, |from| &from.dropped_attributes_count, &mut self.dropped_attributes_count);
        picks.gather(batches, |from| &from.dropped_events_count, &mut self.dropped_events_count);
        picks.gather(batches, |from| &from.dropped_links_count, &mut self.dropped_links_count);
        let (origins, mut texts) = (&mut self.origins, Texts { batches, picks, transfers });
        texts.gather(|from| &from.trace_state, |known| &mut known.trace_state, &mut self.trace_state);
        texts.gather(|from| &from.name, |known| &mut known.name, &mut self.name);
        texts.gather(
            |from| &from.status_message,
            |known| &mut known.status_message,
            &mut self.status_message,
        );
        texts.gather(|from| &from.origins.service, |known| &mut known.origin.service, &mut origins.service);
        texts.gather(
            |from| &from.origins.resource,
            |known| &mut known.origin.resource,
            &mut origins.resource,
        );
        texts.gather(
            |from| &from.origins.resource_meta,
            |known| &mut known.origin.resource_meta,
            &mut origins.resource_meta,
        );
        texts.gather(
            |from| &from.origins.scope_name,
            |known| &mut known.origin.scope_name,
            &mut origins.scope_name,
        );
        texts.gather(
            |from| &from.origins.scope_version,
            |known| &mut known.origin.scope_version,
            &mut origins.scope_version,
        );
        texts.gather(
            |from| &from.origins.scope_meta,
            |known| &mut known.origin.scope_meta,
            &mut origins.scope_meta,
        );
        for (from, transfer) in batches.iter().zip(&mut *transfers) {
            transfer.attributes.begin(&from.attributes, &self.attributes);
        }
        let mut next = self.attributes.n_of_kinds();
        for pick in picks.in_order {
            let (batch, row) = (pick.batch as usize, pick.row as usize);
            let (from, known) = (batches[batch], &mut transfers[batch]);
            known.attributes.push_row(&from.attributes, row, &mut self.attributes, &mut next);
            self.push_events_of(from, row, known);
            self.push_links_of(from, row, known);
        }
    }

    #[inline]
    fn push_events_of(&mut self, from: &Self, row: usize, transfer: &mut SpanTransfer) {
        let (from, into) = (&from.events, &mut self.events);
        let entries = from.entries(row);
        if !entries.is_empty() {
            into.time_ns.extend_from_slice(&from.time_ns[entries.clone()]);
            transfer.event_name.extend(&from.name, entries.clone(), &mut into.name);
            transfer.event_attributes.extend(&from.attributes, entries.clone(), &mut into.attributes);
            into.dropped_attributes_count.extend_from_slice(&from.dropped_attributes_count[entries]);
        }
        into.ends.push(into.time_ns.len() as u32);
    }

    #[inline]
    fn push_links_of(&mut self, from: &Self, row: usize, transfer: &mut SpanTransfer) {
        let (from, into) = (&from.links, &mut self.links);
        let entries = from.entries(row);
        if !entries.is_empty() {
            into.trace_id.extend_from_slice(&from.trace_id[entries.clone()]);
            into.span_id.extend_from_slice(&from.span_id[entries.clone()]);
            transfer.link_trace_state.extend(&from.trace_state, entries.clone(), &mut into.trace_state);
            transfer.link_attributes.extend(&from.attributes, entries.clone(), &mut into.attributes);
            into.dropped_attributes_count.extend_from_slice(&from.dropped_attributes_count[entries.clone()]);
            into.flags.extend_from_slice(&from.flags[entries]);
        }
        into.ends.push(into.trace_id.len() as u32);
    }

    /// About how many bytes the batch takes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes(|text| text.dictionary.text_bytes())
    }

    /// About how many bytes a batch of these rows takes that has no other texts.
    pub fn memory_bytes_of_rows(&self) -> usize {
        self.bytes(DictColumn::used_text_bytes)
    }

    fn bytes(&self, text_bytes: impl Fn(&DictColumn) -> usize) -> usize {
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
        texts.into_iter().map(text_bytes).sum::<usize>()
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

    pub(super) fn batch(first: u8) -> SpanColumns {
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
        let mut filled = SpanColumns::default();
        let picks: Vec<Pick> = (0..4).flat_map(|row| [0, 1].map(|batch| Pick { batch, row })).collect();
        for round in 0..4 {
            for picks in picks.chunks(3) {
                filled.extend_from(&sources.each_ref(), &Picks::of(picks, 2), &mut transfers);
            }
            for (at, span) in filled.iter().enumerate() {
                assert!(span.same_as(sources[at % 2].span(at / 2)), "row {at}");
            }
            assert_eq!(filled.name.dictionary.len(), 3);
            assert!(filled.memory_bytes() > 1000);
            if round % 2 == 0 { filled.clear() } else { filled = SpanColumns::default() }
        }
    }
}
