//! File → rows.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::series::{Exemplar, HistogramSample, Temporality};

use super::labels::{LabelReader, LabelSet, LabelSets};
use super::{LEAVES, chunk, column, exemplars, histograms};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{Pages, Repetition};
use crate::block::parts::{ChunkTable, Parts, Projection};

/// Rows of a file.
#[derive(Debug, Default)]
pub struct FileSeries {
    /// The label sets of the rows that were wanted.
    pub sets: Arc<LabelSets>,
    /// What else those rows have; as many, in the same order.
    pub rows: Vec<Row>,
    /// Histograms of rows, by the row's place; none if no row has any.
    pub(super) histograms: Vec<Vec<HistogramSample>>,
    /// Exemplars of rows, likewise.
    pub(super) exemplars: Vec<Vec<Exemplar>>,
    /// Samples and histograms of the wanted rows as they are stored; of merged files only, which have none of the lists.
    pub(super) packed: Bytes,
    /// Of all rows of the file, wanted or not: ms since the epoch.
    pub time_ms: Vec<i64>,
    /// Values, likewise.
    pub value: Vec<f64>,
    /// Starts, likewise; empty if they were not read or none is said, else 0 where it is not.
    pub start_ms: Vec<i64>,
}

/// What a row has beside its labels.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its samples in the file's columns; empty if those were not read.
    pub samples: Range<usize>,
    /// Its chunks of samples, and its histograms, in what is packed.
    pub(super) chunks: Range<usize>,
    pub(super) histograms: Range<usize>,
    /// How they relate to each other.
    pub temporality: Temporality,
}

impl FileSeries {
    /// The histograms of a row, by its place among the wanted ones.
    pub fn histograms(&self, row: usize) -> &[HistogramSample] {
        self.histograms.get(row).map_or(&[], Vec::as_slice)
    }

    /// The chunks of samples of a row of a merged file, by its place among the wanted ones; empty for none.
    pub fn chunks(&self, row: usize) -> Bytes {
        self.packed.slice(self.rows[row].chunks.clone())
    }

    /// Its histograms as [`histograms`] draws them; empty for none.
    pub fn packed_histograms(&self, row: usize) -> Bytes {
        self.packed.slice(self.rows[row].histograms.clone())
    }

    /// How many samples and histograms a row has packed; all of them are decoded for it.
    ///
    /// # Errors
    /// They are corrupt.
    pub fn n_packed_samples(&self, row: usize) -> Result<usize, Invalid> {
        let mut samples = chunk::Samples::default();
        for chunk in chunk::chunks(&self.chunks(row)) {
            chunk?.read_all(&mut samples)?;
        }
        Ok(samples.time_ms.len() + histograms::decode(&self.packed_histograms(row))?.len())
    }

    /// The exemplars of a row, by its place among the wanted ones.
    pub fn exemplars(&self, row: usize) -> &[Exemplar] {
        self.exemplars.get(row).map_or(&[], Vec::as_slice)
    }
}

/// The rows of a file with these chunks that `labels` wants, with the columns of `projection`.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(
    table: &ChunkTable,
    parts: &Parts,
    projection: Projection,
    labels: &LabelReader,
) -> Result<FileSeries, Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let read = |column: usize, repetition: Repetition| -> Result<Pages, Invalid> {
        let leaf = &LEAVES[column];
        let chunk = table.open(parts, column)?;
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition)
    };
    let mut file = FileSeries { sets: labels.read(table, parts)?, ..FileSeries::default() };
    let sets = Arc::clone(&file.sets);
    let n_rows = sets.n_rows;
    if sets.rows.is_empty() {
        return Ok(file);
    }
    file.rows.resize(sets.rows.len(), Row::default());
    read_samples(&mut file, &read, projection)?;
    if projection.has(column::TEMPORALITY) {
        temporalities(&read(column::TEMPORALITY, Repetition::Read)?, &mut file)?;
    }
    if projection.has(column::HISTOGRAMS) {
        let pages = read(column::HISTOGRAMS, Repetition::Read)?;
        each_blob(&pages, n_rows, &sets.rows, |row, blob| {
            file.histograms.resize(sets.rows.len(), Vec::new());
            file.histograms[row] = histograms::decode(blob)?;
            Ok(())
        })?;
    }
    if projection.has(column::EXEMPLARS) {
        let pages = read(column::EXEMPLARS, Repetition::Read)?;
        each_blob(&pages, n_rows, &sets.rows, |row, blob| {
            file.exemplars.resize(sets.rows.len(), Vec::new());
            file.exemplars[row] = exemplars::decode(blob)?;
            Ok(())
        })?;
    }
    Ok(file)
}

/// Notes the temporality of each wanted row.
pub(super) fn temporalities(pages: &Pages, file: &mut FileSeries) -> Result<(), Invalid> {
    let temporality = pages.i32s()?;
    for (row, set) in file.rows.iter_mut().zip(&file.sets.rows) {
        row.temporality = temporality_of(temporality.get(set.row as usize))?;
    }
    Ok(())
}

/// The temporality that a row's number stands for.
pub(super) fn temporality_of(number: Option<&i32>) -> Result<Temporality, Invalid> {
    match number {
        Some(0) => Ok(Temporality::Cumulative),
        Some(1) => Ok(Temporality::Delta),
        _ => Err(Invalid("series has no known temporality")),
    }
}

type ReadColumn<'a> = dyn Fn(usize, Repetition) -> Result<Pages, Invalid> + 'a;

fn read_samples(file: &mut FileSeries, read: &ReadColumn<'_>, projection: Projection) -> Result<(), Invalid> {
    if !projection.has(column::SAMPLE_TIME) {
        return Ok(());
    }
    let pages = read(column::SAMPLE_TIME, Repetition::Ends)?;
    let sample_ends = &pages.ends;
    if sample_ends.len() != file.sets.n_rows {
        return Err(Invalid("lists differ in number from rows"));
    }
    file.time_ms = pages.i64s()?;
    let n_samples = sample_ends.last().map_or(0, |&end| end as usize);
    if file.time_ms.len() != n_samples {
        return Err(Invalid("samples differ in number"));
    }
    for (row, set) in file.rows.iter_mut().zip(&file.sets.rows) {
        let at = set.row as usize;
        row.samples = if at == 0 { 0 } else { sample_ends[at - 1] as usize }..sample_ends[at] as usize;
    }
    if projection.has(column::SAMPLE_VALUE) {
        file.value = read(column::SAMPLE_VALUE, Repetition::Values)?.doubles()?;
        if file.value.len() != n_samples {
            return Err(Invalid("samples differ in number"));
        }
    }
    if projection.has(column::SAMPLE_START) {
        let pages = read(column::SAMPLE_START, Repetition::Skip)?;
        if pages.n_values() > 0 {
            let mut starts = pages.i64s()?.into_iter();
            for &level in pages.definition.iter().filter(|&&level| level > 0) {
                let start = if level == 2 { starts.next() } else { Some(0) };
                file.start_ms.push(start.ok_or(Invalid("column has too few values"))?);
            }
            if file.start_ms.len() != n_samples {
                return Err(Invalid("samples differ in number"));
            }
        }
    }
    Ok(())
}

/// Hands the bytes of each wanted row that has some to `take`, with the row's place among the wanted ones.
pub(super) fn each_blob(
    pages: &Pages,
    n_rows: usize,
    sets: &[LabelSet],
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    if pages.definition.len() != n_rows {
        return Err(Invalid("columns differ in length"));
    }
    if pages.n_values() == 0 {
        return Ok(());
    }
    let mut blobs = pages.blobs()?.into_iter();
    let mut wanted = sets.iter().enumerate().peekable();
    for (at, &level) in pages.definition.iter().enumerate() {
        let blob = if level == 1 { blobs.next() } else { None };
        if let Some((row, _)) = wanted.next_if(|(_, set)| set.row as usize == at)
            && let Some(blob) = blob
        {
            take(row, blob)?;
        }
    }
    Ok(())
}
