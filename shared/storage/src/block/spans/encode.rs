//! Columns → file.

use model::{SpanColumns, TraceId};

use super::{EncodedSpans, LAYOUT, LEAVES, NODES, column};
use crate::block::columns::{ListLevels, nullable, optional, optional_ids, wide, write_attributes};
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parts::assemble;
use crate::index::Descriptor;

/// The file with these spans, of which there must be at least one.
pub fn encode(columns: &SpanColumns) -> EncodedSpans {
    let write = |writer: &mut ChunkWriter| write_chunks(writer, columns, &vec![None; columns.len()]);
    let expected_bytes = columns.len() * 128 + 8192;
    let (bytes, chunks) = assemble(LAYOUT, (NODES, &LEAVES), columns.len(), expected_bytes, write);
    let descriptor = Descriptor::of_spans(columns, chunks, bytes.len() as u64);
    EncodedSpans { bytes, descriptor }
}

/// Appends the chunks of a row group. `parents` has the distance of each row to its parent's, where that is to be stored
/// instead of the id.
pub(super) fn write_chunks(
    w: &mut ChunkWriter,
    columns: &SpanColumns,
    parents: &[Option<i32>],
) -> Vec<Chunk> {
    let flat = Levels::flat(columns.len());
    let mut chunks = Vec::with_capacity(column::COUNT);
    chunks.push(w.repeated_ids(flat, &ids(&columns.trace_id)));
    chunks.push(w.changing_i64(flat, &columns.start_ns));
    chunks.push(w.changing_i64(flat, &columns.duration_ns));
    for required in [&columns.origins.service, &columns.name] {
        chunks.push(w.strings(flat, &required.dictionary, &required.rows));
    }
    for numbers in [&columns.kind, &columns.status_code] {
        chunks.push(w.repeated_i32(flat, numbers));
    }
    let texts = [
        &columns.status_message,
        &columns.origins.scope_name,
        &columns.origins.scope_version,
        &columns.trace_state,
        &columns.origins.resource,
    ];
    for text in texts {
        chunks.push(nullable(w, text));
    }
    write_attributes(w, &columns.attributes, &mut chunks);
    write_events(w, columns, &mut chunks);
    write_links(w, columns, &mut chunks);
    chunks.push(w.unique_ids(flat, &columns.span_id.iter().map(|id| id.0).collect::<Vec<_>>()));
    let explicit = columns.parent_span_id.iter().zip(parents);
    chunks
        .push(optional_ids(w, explicit.map(|(id, distance)| if distance.is_some() { [0; 8] } else { id.0 })));
    let definition: Vec<u8> = parents.iter().map(|distance| u8::from(distance.is_some())).collect();
    let distances: Vec<i32> = parents.iter().flatten().copied().collect();
    chunks.push(w.repeated_i32(optional(&definition), &distances));
    let counts = [
        &columns.flags,
        &columns.dropped_attributes_count,
        &columns.dropped_events_count,
        &columns.dropped_links_count,
    ];
    for count in counts {
        chunks.push(w.repeated_i64(flat, &wide(count)));
    }
    for meta in [&columns.origins.resource_meta, &columns.origins.scope_meta] {
        chunks.push(nullable(w, meta));
    }
    chunks
}

fn ids(ids: &[TraceId]) -> Vec<[u8; 16]> {
    ids.iter().map(|id| id.0).collect()
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
