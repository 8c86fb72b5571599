//! Columns → file.

use model::LogColumns;
use model::logs::BodyKind;

use super::{EncodedLogs, LAYOUT, LEAVES, NODES, column};
use crate::block::columns::{nullable, optional, optional_ids, wide, write_attributes};
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parts::assemble;
use crate::index::LogDescriptor;

/// The file with these records, of which there must be at least one.
pub fn encode(columns: &LogColumns) -> EncodedLogs {
    let write = |writer: &mut ChunkWriter| write_chunks(writer, columns);
    let expected_bytes = columns.len() * 128 + 8192;
    let (bytes, chunks) = assemble(LAYOUT, (NODES, &LEAVES), columns.len(), expected_bytes, write);
    let descriptor = LogDescriptor::of(columns, chunks, bytes.len() as u64);
    EncodedLogs { bytes, descriptor }
}

pub(super) fn write_chunks(w: &mut ChunkWriter, columns: &LogColumns) -> Vec<Chunk> {
    let flat = Levels::flat(columns.len());
    let origins = &columns.origins;
    let mut chunks = Vec::with_capacity(column::COUNT);
    for times in [&columns.time_ns, &columns.observed_time_ns] {
        chunks.push(known_times(w, times));
    }
    chunks.push(w.repeated_i32(flat, &columns.severity_number));
    chunks.push(w.strings(flat, &origins.service.dictionary, &origins.service.rows));
    for text in [&columns.severity_text, &columns.event_name] {
        chunks.push(nullable(w, text));
    }
    let body = &columns.body;
    let has =
        |kind: BodyKind| body.kind.iter().map(move |&other| u8::from(other == kind)).collect::<Vec<_>>();
    chunks.push(w.strings(optional(&has(BodyKind::Text)), &body.texts, &body.text_rows));
    chunks.push(w.strings(optional(&has(BodyKind::Json)), &body.json, &body.json_rows));
    write_attributes(w, &columns.attributes, &mut chunks);
    chunks.push(optional_ids(w, columns.trace_id.iter().map(|id| id.0)));
    chunks.push(optional_ids(w, columns.span_id.iter().map(|id| id.0)));
    for text in [&origins.scope_name, &origins.scope_version, &origins.resource] {
        chunks.push(nullable(w, text));
    }
    for count in [&columns.flags, &columns.dropped_attributes_count] {
        chunks.push(w.repeated_i64(flat, &wide(count)));
    }
    for meta in [&origins.resource_meta, &origins.scope_meta] {
        chunks.push(nullable(w, meta));
    }
    chunks
}

/// Times of which 0 is null.
fn known_times(w: &mut ChunkWriter, times: &[i64]) -> Chunk {
    let definition: Vec<u8> = times.iter().map(|&time| u8::from(time != 0)).collect();
    let known: Vec<i64> = times.iter().copied().filter(|&time| time != 0).collect();
    w.changing_i64(optional(&definition), &known)
}
