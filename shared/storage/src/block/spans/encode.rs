//! Columns → file.

use bytes::Bytes;
use model::dictionary::DictColumn;
use model::spans::ValueKind;
use model::{SpanColumns, SpanId, TraceId};

use super::{ChunkTable, EncodedSpans, LAYOUT, LEAVES, NODES, column};
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parquet::{file, hybrid};
use crate::index::Descriptor;

/// The file with these spans, of which there must be at least one.
pub fn encode(columns: &SpanColumns) -> EncodedSpans {
    let mut writer = ChunkWriter::fast();
    writer.out.reserve(columns.len() * 128 + 8192);
    writer.out.extend_from_slice(file::MAGIC);
    let chunks = write_chunks(&mut writer, columns);
    let mut out = writer.out;
    let chunk_table =
        ChunkTable { chunks: chunks.iter().map(|chunk| (chunk.len, chunk.compressed)).collect() };
    let metadata = [("spandrel.layout", LAYOUT)];
    file::write_footer(&mut out, NODES, &LEAVES, &chunks, columns.len() as u64, &metadata);
    let descriptor = Descriptor::of_spans(columns, chunk_table, out.len() as u64);
    EncodedSpans { bytes: Bytes::from(out), descriptor }
}

fn write_chunks(w: &mut ChunkWriter, columns: &SpanColumns) -> Vec<Chunk> {
    let flat = Levels::flat(columns.len());
    let mut chunks = Vec::with_capacity(column::COUNT);
    chunks.push(w.repeated_ids(flat, &ids(&columns.trace_id)));
    chunks.push(w.changing_i64(flat, &columns.start_ns));
    chunks.push(w.changing_i64(flat, &columns.duration_ns));
    for required in [&columns.service, &columns.name] {
        chunks.push(w.strings(flat, &required.dictionary, &required.rows));
    }
    for numbers in [&columns.kind, &columns.status_code] {
        chunks.push(w.repeated_i32(flat, numbers));
    }
    let texts = [
        &columns.status_message,
        &columns.scope_name,
        &columns.scope_version,
        &columns.trace_state,
        &columns.resource,
    ];
    for text in texts {
        chunks.push(nullable(w, text));
    }
    write_attributes(w, columns, &mut chunks);
    write_events(w, columns, &mut chunks);
    write_links(w, columns, &mut chunks);
    chunks.push(w.unique_ids(flat, &columns.span_id.iter().map(|id| id.0).collect::<Vec<_>>()));
    chunks.push(parents(w, &columns.parent_span_id));
    let counts = [
        &columns.flags,
        &columns.dropped_attributes_count,
        &columns.dropped_events_count,
        &columns.dropped_links_count,
    ];
    for count in counts {
        chunks.push(w.repeated_i64(flat, &wide(count)));
    }
    for meta in [&columns.resource_meta, &columns.scope_meta] {
        chunks.push(nullable(w, meta));
    }
    chunks
}

fn wide(numbers: &[u32]) -> Vec<i64> {
    numbers.iter().map(|&number| i64::from(number)).collect()
}

fn ids(ids: &[TraceId]) -> Vec<[u8; 16]> {
    ids.iter().map(|id| id.0).collect()
}

/// A text column whose empty texts are nulls.
fn nullable(w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
    nullable_in(w, text, &[], text.rows.len(), |_| true, 1)
}

/// A text column whose empty texts are nulls, in a list with these repetition levels.
/// `holds` tells of each level whether it is an entry of a list; `deepest` is the level of a text that is there.
fn nullable_in(
    w: &mut ChunkWriter,
    text: &DictColumn,
    repetition: &[u8],
    n_levels: usize,
    holds: impl Fn(usize) -> bool,
    deepest: u8,
) -> Chunk {
    // Distinct strings have the empty one at most once.
    let empty = text.dictionary.find("");
    let mut rows = text.rows.iter();
    let definition: Vec<u8> = (0..n_levels)
        .map(|level| {
            if !holds(level) {
                return deepest - 2;
            }
            let position = *rows.next().expect("invariant: as many texts as entries");
            deepest - u8::from(Some(position) == empty)
        })
        .collect();
    let levels =
        Levels { repetition, definition: &definition, definition_width: bits(deepest), count: n_levels };
    match empty {
        None => w.strings(levels, &text.dictionary, &text.rows),
        Some(empty) => {
            let present: Vec<u32> = text.rows.iter().copied().filter(|&position| position != empty).collect();
            w.strings(levels, &text.dictionary, &present)
        }
    }
}

fn bits(level: u8) -> u8 {
    (8 - level.leading_zeros()) as u8
}

fn parents(w: &mut ChunkWriter, parents: &[SpanId]) -> Chunk {
    let definition: Vec<u8> = parents.iter().map(|parent| u8::from(!parent.is_none())).collect();
    let present: Vec<[u8; 8]> =
        parents.iter().filter(|parent| !parent.is_none()).map(|parent| parent.0).collect();
    let levels =
        Levels { definition: &definition, definition_width: 1, count: parents.len(), ..Levels::default() };
    w.repeated_ids(levels, &present)
}

/// Levels of a list column: one per entry, and one for each empty list.
struct ListLevels {
    /// Encoded repetition levels.
    repetition: Vec<u8>,
    /// Per level whether it is an entry.
    holds: Vec<bool>,
}

impl ListLevels {
    fn new(ends: &[u32]) -> Self {
        let n_entries = ends.last().map_or(0, |&end| end as usize);
        let mut levels = Vec::with_capacity(n_entries + ends.len());
        let mut holds = Vec::with_capacity(n_entries + ends.len());
        let mut start = 0;
        for &end in ends {
            levels.push(0);
            holds.push(end > start);
            let more = (end - start).saturating_sub(1) as usize;
            levels.resize(levels.len() + more, 1);
            holds.resize(holds.len() + more, true);
            start = end;
        }
        let mut repetition = Vec::new();
        hybrid::write_levels(&mut repetition, &levels, 1);
        Self { repetition, holds }
    }

    fn definition(&self) -> Vec<u8> {
        self.holds.iter().map(|&holds| u8::from(holds)).collect()
    }

    /// Levels of a required column in the list.
    fn levels<'a>(&'a self, definition: &'a [u8]) -> Levels<'a> {
        Levels { repetition: &self.repetition, definition, definition_width: 1, count: definition.len() }
    }

    fn nullable(&self, w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
        nullable_in(w, text, &self.repetition, self.holds.len(), |level| self.holds[level], 2)
    }
}

fn write_attributes(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let attributes = &columns.attributes;
    let list = ListLevels::new(&attributes.ends);
    let definition = list.definition();
    chunks.push(w.strings(list.levels(&definition), &attributes.key.dictionary, &attributes.key.rows));
    // Per level its kind; an empty list has none and stays at definition level 0.
    let mut kinds = attributes.kind.iter();
    let kind_of_level: Vec<Option<ValueKind>> =
        list.holds.iter().map(|&holds| if holds { kinds.next().copied() } else { None }).collect();
    let mut typed = Vec::with_capacity(kind_of_level.len());
    let mut levels_of = |kind: ValueKind, write: &mut dyn FnMut(Levels<'_>) -> Chunk| {
        typed.clear();
        typed.extend(kind_of_level.iter().map(|other| match other {
            None => 0,
            Some(other) => 1 + u8::from(*other == kind),
        }));
        let levels = Levels {
            repetition: &list.repetition,
            definition: &typed,
            definition_width: 2,
            count: typed.len(),
        };
        chunks.push(write(levels));
    };
    let (string, json) = (&attributes.string, &attributes.json);
    levels_of(ValueKind::String, &mut |levels| w.strings(levels, &string.dictionary, &string.rows));
    levels_of(ValueKind::Int, &mut |levels| w.repeated_i64(levels, &attributes.int));
    levels_of(ValueKind::Double, &mut |levels| w.doubles(levels, &attributes.double));
    levels_of(ValueKind::Bool, &mut |levels| w.bools(levels, &attributes.bool));
    levels_of(ValueKind::Json, &mut |levels| w.strings(levels, &json.dictionary, &json.rows));
}

fn write_events(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let events = &columns.events;
    let list = ListLevels::new(&events.ends);
    let definition = list.definition();
    let levels = list.levels(&definition);
    chunks.push(w.changing_i64(levels, &events.time_ns));
    chunks.push(w.strings(levels, &events.name.dictionary, &events.name.rows));
    chunks.push(list.nullable(w, &events.attributes));
    chunks.push(w.repeated_i64(levels, &wide(&events.dropped_attributes_count)));
}

fn write_links(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let links = &columns.links;
    let list = ListLevels::new(&links.ends);
    let definition = list.definition();
    let levels = list.levels(&definition);
    chunks.push(w.repeated_ids(levels, &ids(&links.trace_id)));
    chunks.push(w.unique_ids(levels, &links.span_id.iter().map(|id| id.0).collect::<Vec<_>>()));
    chunks.push(list.nullable(w, &links.trace_state));
    chunks.push(list.nullable(w, &links.attributes));
    chunks.push(w.repeated_i64(levels, &wide(&links.dropped_attributes_count)));
    chunks.push(w.repeated_i64(levels, &wide(&links.flags)));
}
