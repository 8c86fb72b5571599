//! Unit → the rows that a question wants.

use std::sync::Arc;

use bytes::Bytes;

use super::super::chunk::{self, Chunk};
use super::super::decode::{FileSeries, Row, each_blob, temporalities};
use super::super::labels::LabelReader;
use super::super::{Wanted, exemplars};
use super::{column, read_column};
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts};

/// The rows of a unit that `labels` wants, samples and histograms packed as they are. Chunks that have no sample from
/// `first_ms` to `last_ms` are left out; those that have may have others.
///
/// # Errors
/// The bytes are not a unit of this layout, or parts are missing.
pub fn decode(
    table: &ChunkTable,
    parts: &Parts,
    wanted: Wanted,
    (first_ms, last_ms): (i64, i64),
    labels: &LabelReader,
) -> Result<FileSeries, Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("unit has another number of columns"));
    }
    let read = |column| read_column(table, parts, column);
    let mut file = FileSeries { sets: labels.read(table, parts)?, ..FileSeries::default() };
    let sets = Arc::clone(&file.sets);
    let (n_rows, rows) = (sets.n_rows, &sets.rows);
    if rows.is_empty() {
        return Ok(file);
    }
    file.rows.resize(rows.len(), Row::default());
    match wanted {
        Wanted::Labels => {}
        Wanted::Samples => {
            temporalities(&read(column::TEMPORALITY)?, &mut file)?;
            let (chunks, histograms) = (read(column::CHUNKS)?, read(column::HISTOGRAMS)?);
            let is_in = |chunk: &Chunk<'_>| chunk.first_ms <= last_ms && chunk.last_ms >= first_ms;
            let mut n_bytes = 0;
            each_blob(&chunks, n_rows, rows, |_, cell| {
                for chunk in chunk::chunks(cell) {
                    let chunk = chunk?;
                    n_bytes += if is_in(&chunk) { chunk.bytes.len() } else { 0 };
                }
                Ok(())
            })?;
            each_blob(&histograms, n_rows, rows, |_, cell| {
                n_bytes += cell.len();
                Ok(())
            })?;
            let mut packed = Vec::with_capacity(n_bytes);
            each_blob(&chunks, n_rows, rows, |row, cell| {
                let start = packed.len();
                for chunk in chunk::chunks(cell) {
                    let chunk = chunk?;
                    if is_in(&chunk) {
                        packed.extend_from_slice(chunk.bytes);
                    }
                }
                file.rows[row].chunks = start..packed.len();
                Ok(())
            })?;
            each_blob(&histograms, n_rows, rows, |row, cell| {
                let start = packed.len();
                packed.extend_from_slice(cell);
                file.rows[row].histograms = start..packed.len();
                Ok(())
            })?;
            file.packed = Bytes::from(packed);
        }
        Wanted::Exemplars => {
            each_blob(&read(column::EXEMPLARS)?, n_rows, rows, |row, cell| {
                file.exemplars.resize(rows.len(), Vec::new());
                file.exemplars[row] = exemplars::decode(cell)?;
                Ok(())
            })?;
        }
    }
    Ok(file)
}
