//! Rows in order, in memory: those of a unit, or those of files of single requests.

use std::ops::Range;

use hashbrown::HashTable;
use model::series::{Exemplar, HistogramSample, Temporality};

use super::super::chunk::{self, Samples};
use super::super::decode::{FileSeries, temporality_of};
use super::super::labels::{LabelReader, LabelSet, LabelSets};
use super::super::{exemplars, histograms, key};
use super::{column, read_column};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::Pages;
use crate::block::parts::{ChunkTable, Parts};

/// Rows in the order of their keys, each key once.
#[derive(Debug, Default)]
pub struct Run {
    keys: Vec<u8>,
    cells: Vec<u8>,
    rows: Vec<RunRow>,
    /// Samples and histograms that were left out, because others are equal or outrank them.
    pub n_duplicates: u64,
}

#[derive(Debug, Clone, Default)]
struct RunRow {
    key: Range<usize>,
    chunks: Range<usize>,
    histograms: Range<usize>,
    exemplars: Range<usize>,
}

/// A row of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowView<'a> {
    pub(super) key: &'a [u8],
    pub(super) chunks: &'a [u8],
    pub(super) histograms: &'a [u8],
    pub(super) exemplars: &'a [u8],
}

impl Run {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn row(&self, at: usize) -> RowView<'_> {
        let row = &self.rows[at];
        RowView {
            key: &self.keys[row.key.clone()],
            chunks: &self.cells[row.chunks.clone()],
            histograms: &self.cells[row.histograms.clone()],
            exemplars: &self.cells[row.exemplars.clone()],
        }
    }

    /// All rows of a unit of a merged file.
    ///
    /// # Errors
    /// The bytes are not a unit, or its rows are not in order.
    pub fn read(table: &ChunkTable, parts: &Parts) -> Result<Self, Invalid> {
        if table.chunks.len() != column::COUNT {
            return Err(Invalid("unit has another number of columns"));
        }
        let read = |column| read_column(table, parts, column);
        let sets = LabelReader::default().read(table, parts)?;
        let temporality = read(column::TEMPORALITY)?.i32s()?;
        let mut run = Self::default();
        for (at, set) in sets.rows.iter().enumerate() {
            let temporality = temporality_of(temporality.get(at))?;
            let start = run.keys.len();
            key::write(&mut run.keys, sets.metric(set), sets.pairs_of(set), temporality);
            if run.rows.last().is_some_and(|last| run.keys[last.key.clone()] >= run.keys[start..]) {
                return Err(Invalid("rows are not in order"));
            }
            run.rows.push(RunRow { key: start..run.keys.len(), ..RunRow::default() });
        }
        run.read_cells(&read(column::CHUNKS)?, |row| &mut row.chunks)?;
        run.read_cells(&read(column::HISTOGRAMS)?, |row| &mut row.histograms)?;
        run.read_cells(&read(column::EXEMPLARS)?, |row| &mut row.exemplars)?;
        Ok(run)
    }

    fn read_cells(
        &mut self,
        pages: &Pages,
        place: fn(&mut RunRow) -> &mut Range<usize>,
    ) -> Result<(), Invalid> {
        if pages.definition.len() != self.rows.len() {
            return Err(Invalid("columns differ in length"));
        }
        let mut blobs = pages.blobs()?.into_iter();
        for (row, &level) in self.rows.iter_mut().zip(&pages.definition) {
            let start = self.cells.len();
            if level == 1 {
                self.cells.extend_from_slice(blobs.next().ok_or(Invalid("column has too few values"))?);
            }
            *place(row) = start..self.cells.len();
        }
        Ok(())
    }
}

/// Gathers the rows of files of single requests, which one [`LabelReader`] read.
#[derive(Debug, Default)]
pub struct Gather {
    places: HashTable<(u128, u32)>,
    series: Vec<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    key: Vec<u8>,
    /// Time, bits of the value, start.
    samples: Vec<(i64, u64, i64)>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
}

impl Gather {
    /// Takes all rows of a file.
    pub fn add(&mut self, file: &FileSeries) {
        for (at, set) in file.sets.rows.iter().enumerate() {
            let series = self.series_of(&file.sets, set, file.rows[at].temporality);
            let series = &mut self.series[series];
            let samples = file.rows[at].samples.clone();
            series.samples.extend(samples.map(|at| {
                (file.time_ms[at], file.value[at].to_bits(), file.start_ms.get(at).copied().unwrap_or(0))
            }));
            series.histograms.extend_from_slice(file.histograms(at));
            series.exemplars.extend_from_slice(file.exemplars(at));
        }
    }

    fn series_of(&mut self, sets: &LabelSets, set: &LabelSet, temporality: Temporality) -> usize {
        let hash = set.hash.wrapping_add(temporality as u128);
        if let Some((_, series)) = self.places.find(hash as u64, |(other, _)| *other == hash) {
            return *series as usize;
        }
        let mut gathered = Gathered::default();
        key::write(&mut gathered.key, sets.metric(set), sets.pairs_of(set), temporality);
        let series = self.series.len();
        self.series.push(gathered);
        self.places.insert_unique(hash as u64, (hash, series as u32), |(hash, _)| *hash as u64);
        series
    }

    /// The rows in order.
    pub fn finish(mut self) -> Run {
        self.series.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut run = Run::default();
        for series in self.series {
            let Gathered { key, mut samples, mut histograms, mut exemplars } = series;
            let n_before = samples.len() + histograms.len();
            keep_greatest(&mut samples);
            histograms::keep_greatest(&mut histograms);
            exemplars::sort(&mut exemplars);
            run.n_duplicates += (n_before - samples.len() - histograms.len()) as u64;
            let key_at = run.keys.len();
            run.keys.extend_from_slice(&key);
            let chunks_at = run.cells.len();
            if !samples.is_empty() {
                chunk::write(&mut run.cells, &samples_of(&samples));
            }
            let histograms_at = run.cells.len();
            run.cells.extend_from_slice(&histograms::encode(&histograms));
            let exemplars_at = run.cells.len();
            run.cells.extend_from_slice(&exemplars::encode(&exemplars));
            run.rows.push(RunRow {
                key: key_at..run.keys.len(),
                chunks: chunks_at..histograms_at,
                histograms: histograms_at..exemplars_at,
                exemplars: exemplars_at..run.cells.len(),
            });
        }
        run
    }
}

/// Sorts samples by time and keeps of each time the greatest by its bits: the rule of
/// [`read::select`](crate::read::select).
pub(super) fn keep_greatest(samples: &mut Vec<(i64, u64, i64)>) {
    samples.sort_unstable();
    samples.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            *kept = *later;
        }
        is_same
    });
}

pub(super) fn samples_of(samples: &[(i64, u64, i64)]) -> Samples {
    let has_starts = samples.iter().any(|sample| sample.2 != 0);
    Samples {
        time_ms: samples.iter().map(|sample| sample.0).collect(),
        value: samples.iter().map(|sample| f64::from_bits(sample.1)).collect(),
        start_ms: if has_starts { samples.iter().map(|sample| sample.2).collect() } else { Vec::new() },
    }
}
