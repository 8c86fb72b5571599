//! Batches one behind the other, without a look at their texts.

use crate::columns::{AttributeColumns, OriginColumns};
use crate::dictionary::{DictColumn, Dictionary};
use crate::spans::{EventColumns, LinkColumns, SpanColumns};

impl SpanColumns {
    /// All rows of these batches. A text that several have may then be there as often.
    pub fn concat(batches: Vec<Self>) -> Self {
        let mut all = Self::default();
        all.reserve(&batches);
        for batch in batches {
            all.append(batch);
        }
        all
    }

    /// Makes room in the columns that most rows have something in: those that grow by doubling are copied as often.
    fn reserve(&mut self, batches: &[Self]) {
        let n_rows = batches.iter().map(Self::len).sum();
        self.trace_id.reserve(n_rows);
        self.span_id.reserve(n_rows);
        self.parent_span_id.reserve(n_rows);
        self.flags.reserve(n_rows);
        self.kind.reserve(n_rows);
        self.start_ns.reserve(n_rows);
        self.duration_ns.reserve(n_rows);
        self.status_code.reserve(n_rows);
        self.dropped_attributes_count.reserve(n_rows);
        self.dropped_events_count.reserve(n_rows);
        self.dropped_links_count.reserve(n_rows);
        self.events.ends.reserve(n_rows);
        self.links.ends.reserve(n_rows);
        let origins = &mut self.origins;
        let texts = [
            &mut self.trace_state,
            &mut self.name,
            &mut self.status_message,
            &mut origins.service,
            &mut origins.resource_meta,
            &mut origins.scope_name,
            &mut origins.scope_version,
            &mut origins.scope_meta,
        ];
        for text in texts {
            text.rows.reserve(n_rows);
        }
        origins.resource.reserve(batches.iter().map(|batch| &batch.origins.resource));
        self.attributes.reserve(batches);
    }

    /// Appends all rows of another batch. A text that both have may then be twice in a dictionary.
    fn append(&mut self, other: Self) {
        self.trace_id.extend(other.trace_id);
        self.span_id.extend(other.span_id);
        self.parent_span_id.extend(other.parent_span_id);
        self.trace_state.append(&other.trace_state);
        self.flags.extend(other.flags);
        self.name.append(&other.name);
        self.kind.extend(other.kind);
        self.start_ns.extend(other.start_ns);
        self.duration_ns.extend(other.duration_ns);
        self.status_code.extend(other.status_code);
        self.status_message.append(&other.status_message);
        self.dropped_attributes_count.extend(other.dropped_attributes_count);
        self.dropped_events_count.extend(other.dropped_events_count);
        self.dropped_links_count.extend(other.dropped_links_count);
        self.origins.append(&other.origins);
        self.attributes.append(other.attributes);
        self.events.append(other.events);
        self.links.append(other.links);
    }
}

impl OriginColumns {
    fn append(&mut self, other: &Self) {
        self.service.append(&other.service);
        self.resource.append(&other.resource);
        self.resource_meta.append(&other.resource_meta);
        self.scope_name.append(&other.scope_name);
        self.scope_version.append(&other.scope_version);
        self.scope_meta.append(&other.scope_meta);
    }
}

impl AttributeColumns {
    fn reserve(&mut self, batches: &[SpanColumns]) {
        let sum = |n: fn(&Self) -> usize| batches.iter().map(|batch| n(&batch.attributes)).sum();
        let n_entries = sum(|batch| batch.kind.len());
        self.ends.reserve(sum(|batch| batch.ends.len()));
        self.key.rows.reserve(n_entries);
        self.kind.reserve(n_entries);
        self.slot.reserve(n_entries);
        self.int.reserve(sum(|batch| batch.int.len()));
        self.double.reserve(sum(|batch| batch.double.len()));
        self.bool.reserve(sum(|batch| batch.bool.len()));
        self.string.reserve(batches.iter().map(|batch| &batch.attributes.string));
        self.json.reserve(batches.iter().map(|batch| &batch.attributes.json));
    }

    fn append(&mut self, other: Self) {
        append_ends(&mut self.ends, &other.ends, self.kind.len());
        let before = self.n_of_kinds();
        let kinds = other.kind.iter();
        self.slot.extend(kinds.zip(other.slot).map(|(&kind, slot)| before[kind as usize] + slot));
        self.key.append(&other.key);
        self.kind.extend(other.kind);
        self.string.append(&other.string);
        self.int.extend(other.int);
        self.double.extend(other.double);
        self.bool.extend(other.bool);
        self.json.append(&other.json);
    }
}

impl EventColumns {
    fn append(&mut self, other: Self) {
        append_ends(&mut self.ends, &other.ends, self.time_ns.len());
        self.time_ns.extend(other.time_ns);
        self.name.append(&other.name);
        self.attributes.append(&other.attributes);
        self.dropped_attributes_count.extend(other.dropped_attributes_count);
    }
}

impl LinkColumns {
    fn append(&mut self, other: Self) {
        append_ends(&mut self.ends, &other.ends, self.trace_id.len());
        self.trace_id.extend(other.trace_id);
        self.span_id.extend(other.span_id);
        self.trace_state.append(&other.trace_state);
        self.attributes.append(&other.attributes);
        self.dropped_attributes_count.extend(other.dropped_attributes_count);
        self.flags.extend(other.flags);
    }
}

fn append_ends(ends: &mut Vec<u32>, other: &[u32], n_entries: usize) {
    ends.extend(other.iter().map(|end| n_entries as u32 + end));
}

impl DictColumn {
    fn reserve<'a>(&mut self, others: impl Iterator<Item = &'a Self> + Clone) {
        self.rows.reserve(others.clone().map(Self::len).sum());
        let dictionaries = others.map(|other| &other.dictionary);
        let n_strings = dictionaries.clone().map(Dictionary::len).sum();
        self.dictionary.reserve(n_strings, dictionaries.map(Dictionary::text_bytes).sum());
    }

    fn append(&mut self, other: &Self) {
        let is_first = |text: &[u8]| !self.dictionary.is_empty() && self.dictionary.is(0, text);
        if other.dictionary.len() == 1 && is_first(other.dictionary.bytes_of(0)) {
            // Many columns have one text for all rows.
            self.rows.resize(self.rows.len() + other.rows.len(), 0);
            return;
        }
        let first = self.dictionary.append_unindexed(&other.dictionary);
        self.rows.extend(other.rows.iter().map(|row| first + row));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::batch;
    use super::*;

    #[test]
    fn rows_of_both_are_there_in_turn() {
        let (first, second) = (batch(0), batch(7));
        let both = SpanColumns::concat(vec![first.clone(), second.clone(), SpanColumns::default()]);
        let expected = first.iter().chain(second.iter());
        assert_eq!(both.len(), 8);
        assert!(both.iter().zip(expected).all(|(span, expected)| span.same_as(expected)));
        // One text for all rows stays one.
        assert_eq!(both.events.attributes.dictionary.len(), 1);
    }
}
