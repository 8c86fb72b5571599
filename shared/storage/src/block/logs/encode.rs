//! Columns → file.

use bytes::Bytes;
use model::LogColumns;
use model::logs::BodyKind;

use super::{ChunkTable, EncodedLogs, LAYOUT, LEAVES, NODES, column};
use crate::block::columns::{nullable, optional, optional_ids, wide, write_attributes};
use crate::block::parquet::file;
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::index::LogDescriptor;

/// The file with these records, of which there must be at least one.
pub fn encode(columns: &LogColumns) -> EncodedLogs {
    let mut writer = ChunkWriter::fast();
    writer.out.reserve(columns.len() * 128 + 8192);
    writer.out.extend_from_slice(file::MAGIC);
    let chunks = write_chunks(&mut writer, columns);
    let mut out = writer.out;
    let chunk_table =
        ChunkTable { chunks: chunks.iter().map(|chunk| (chunk.len, chunk.compressed)).collect() };
    let metadata = [("spandrel.layout", LAYOUT)];
    file::write_footer(&mut out, NODES, &LEAVES, &chunks, columns.len() as u64, &metadata);
    let descriptor = LogDescriptor::of(columns, chunk_table, out.len() as u64);
    EncodedLogs { bytes: Bytes::from(out), descriptor }
}

fn write_chunks(w: &mut ChunkWriter, columns: &LogColumns) -> Vec<Chunk> {
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
