//! Unit → the rows that a question wants.

use std::sync::Arc;

use super::super::chunk::{self, Chunk};
use super::super::decode::{FileSeries, Row, each_blob, temporalities};
use super::super::labels::LabelReader;
use super::super::{Wanted, exemplars, histograms};
use super::{column, read_column};
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts};

/// For as many samples there is room from the start; a unit that says it has more gets it when they come.
const MAX_EXPECTED_SAMPLES: usize = 1 << 21;

/// The rows of a unit that `labels` wants. Chunks that have no sample from `first_ms` to `last_ms` are left out; those
/// that have may have others.
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
            let FileSeries { rows: found, time_ms, value, .. } = &mut file;
            let cells = read(column::CHUNKS)?;
            let is_in = |chunk: &Chunk<'_>| chunk.first_ms <= last_ms && chunk.last_ms >= first_ms;
            let mut n_samples = 0;
            each_blob(&cells, n_rows, rows, |_, cell| {
                for chunk in chunk::chunks(cell) {
                    let chunk = chunk?;
                    n_samples += if is_in(&chunk) { chunk.n_samples } else { 0 };
                }
                Ok(())
            })?;
            // Each sample takes some bits at least, but for those that are all alike.
            let n_expected = n_samples.min(MAX_EXPECTED_SAMPLES);
            time_ms.reserve_exact(n_expected);
            value.reserve_exact(n_expected);
            each_blob(&cells, n_rows, rows, |row, cell| {
                let start = time_ms.len();
                for chunk in chunk::chunks(cell) {
                    let chunk = chunk?;
                    if is_in(&chunk) {
                        chunk.read(time_ms, value)?;
                    }
                }
                found[row].samples = start..time_ms.len();
                Ok(())
            })?;
            each_blob(&read(column::HISTOGRAMS)?, n_rows, rows, |row, cell| {
                file.histograms.resize(rows.len(), Vec::new());
                file.histograms[row] = histograms::decode(cell)?;
                Ok(())
            })?;
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
