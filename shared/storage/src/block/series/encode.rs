//! Batch → file.

use bytes::Bytes;
use model::SeriesBatch;
use model::labels::METRIC_NAME;
use model::series::Metadata;

use super::{LAYOUT, LEAVES, NODES, column, exemplars, histograms};
use crate::block::columns::optional_blobs;
use crate::block::parquet::hybrid;
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parts::assemble;
use crate::index::SeriesDescriptor;

/// A file of series and what else of a request has its place in the table.
#[derive(Debug, Clone)]
pub struct EncodedSeries {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: SeriesDescriptor,
    /// The names of its metrics, each once.
    pub metrics: Vec<String>,
    /// The names of its labels, each once.
    pub label_names: Vec<String>,
    /// What the request says of families.
    pub metadata: Vec<Metadata>,
}

/// The file with the series of a batch that have a sample, a histogram or an exemplar; `None` if none has.
pub fn encode(batch: &SeriesBatch) -> Option<EncodedSeries> {
    let rows = Rows::of(batch);
    let (min_time_ms, max_time_ms) = time_range(batch)?;
    let n_rows = rows.series.len();
    let expected_bytes = batch.n_samples() * 24 + batch.symbols.text_bytes() + 4096;
    let write = |writer: &mut ChunkWriter| write_chunks(writer, batch, &rows);
    let (bytes, table) = assemble(LAYOUT, (NODES, &LEAVES), n_rows, expected_bytes, write);
    let mut is_name = vec![false; batch.symbols.len()];
    for &(name, _) in &rows.labels {
        is_name[name as usize] = true;
    }
    let text = |position: usize| batch.symbols.get(position as u32).to_owned();
    let label_names = is_name.iter().enumerate().filter(|(_, is)| **is).map(|(at, _)| text(at)).collect();
    let mut metrics: Vec<u32> = rows.metric.clone();
    metrics.dedup();
    let named = metrics.into_iter().filter(|&position| (position as usize) < batch.symbols.len());
    let metrics: Vec<String> = named.map(|position| text(position as usize)).collect();
    let descriptor = SeriesDescriptor::new(
        n_rows as u64,
        batch.n_samples() as u64,
        bytes.len() as u64,
        (min_time_ms, max_time_ms),
        table,
        &metrics,
    );
    Some(EncodedSeries { bytes, descriptor, metrics, label_names, metadata: batch.metadata.clone() })
}

/// Which series become rows, in which order.
struct Rows {
    series: Vec<u32>,
    /// Per row its metric, as a position in the batch's symbols.
    metric: Vec<u32>,
    /// The other labels of all rows, and their ends.
    labels: Vec<(u32, u32)>,
    label_ends: Vec<u32>,
}

impl Rows {
    fn of(batch: &SeriesBatch) -> Self {
        let name = batch.symbols.find(METRIC_NAME);
        let has_something = |series: usize| {
            !batch.samples_of(series).is_empty()
                || !batch.histograms_of(series).is_empty()
                || !batch.exemplars_of(series).is_empty()
        };
        let metric_of = |series: usize| {
            let labels = batch.labels_of(series).iter();
            labels.copied().find(|pair| Some(pair.0) == name).map(|pair| pair.1)
        };
        let mut keyed: Vec<(Option<u32>, u32)> = (0..batch.n_series())
            .filter(|&series| has_something(series))
            .map(|series| (metric_of(series), series as u32))
            .collect();
        // Distinct names are few: they are sorted once, and then only numbers are.
        let mut names: Vec<Option<u32>> = keyed.iter().map(|(metric, _)| *metric).collect();
        names.sort_unstable();
        names.dedup();
        names.sort_by_key(|metric| metric.map(|position| batch.symbols.get(position)));
        let mut rank = vec![0_u32; batch.symbols.len()];
        for (at, metric) in names.iter().enumerate() {
            if let Some(position) = metric {
                rank[*position as usize] = at as u32 + 1;
            }
        }
        keyed.sort_by_key(|(metric, _)| metric.map_or(0, |position| rank[position as usize]));
        let mut rows =
            Self { series: Vec::new(), metric: Vec::new(), labels: Vec::new(), label_ends: Vec::new() };
        // A series without a name has the empty one, which no label has as its value.
        let nameless = batch.symbols.len() as u32;
        for (metric, series) in keyed {
            rows.series.push(series);
            rows.metric.push(metric.unwrap_or(nameless));
            let labels = batch.labels_of(series as usize);
            let name_at = labels.iter().position(|pair| Some(pair.0) == name);
            let (before, after) = name_at.map_or((labels, &[][..]), |at| (&labels[..at], &labels[at + 1..]));
            rows.labels.extend_from_slice(before);
            rows.labels.extend_from_slice(after);
            rows.label_ends.push(rows.labels.len() as u32);
        }
        rows
    }
}

/// First and last time of anything in a batch.
fn time_range(batch: &SeriesBatch) -> Option<(i64, i64)> {
    let times = batch.time_ms.iter().copied();
    let times = times.chain(batch.histograms.iter().map(|sample| sample.time_ms));
    let times = times.chain(batch.exemplars.iter().map(|exemplar| exemplar.time_ms));
    times.fold(None, |range, time_ms| match range {
        None => Some((time_ms, time_ms)),
        Some((first, last)) => Some((time_ms.min(first), time_ms.max(last))),
    })
}

fn write_chunks(w: &mut ChunkWriter, batch: &SeriesBatch, rows: &Rows) -> Vec<Chunk> {
    let n_rows = rows.series.len();
    let flat = Levels::flat(n_rows);
    let mut chunks = Vec::with_capacity(column::COUNT);
    if rows.metric.iter().any(|&metric| metric as usize == batch.symbols.len()) {
        let mut symbols = batch.symbols.clone();
        symbols.push_unindexed("");
        chunks.push(w.strings(flat, &symbols, &rows.metric));
    } else {
        chunks.push(w.strings(flat, &batch.symbols, &rows.metric));
    }
    let list = ListLevels::new(&rows.label_ends);
    let (names, values): (Vec<u32>, Vec<u32>) = rows.labels.iter().copied().unzip();
    chunks.push(w.strings(list.levels(), &batch.symbols, &names));
    chunks.push(w.strings(list.levels(), &batch.symbols, &values));

    let samples: Vec<std::ops::Range<usize>> =
        rows.series.iter().map(|&series| batch.samples_of(series as usize)).collect();
    let mut n_samples = 0;
    let ends: Vec<u32> = samples
        .iter()
        .map(|range| {
            n_samples += range.len() as u32;
            n_samples
        })
        .collect();
    let list = ListLevels::new(&ends);
    let at = || samples.iter().cloned().flatten();
    chunks.push(w.times(list.levels(), &at().map(|at| batch.time_ms[at]).collect::<Vec<_>>()));
    chunks.push(w.split_doubles(list.levels(), &at().map(|at| batch.value[at]).collect::<Vec<_>>()));
    chunks.push(write_starts(w, batch, &list, at()));
    let temporality: Vec<i32> =
        rows.series.iter().map(|&series| batch.temporality[series as usize] as i32).collect();
    chunks.push(w.repeated_i32(flat, &temporality));
    let of_histograms = |series: u32| histograms::encode(batch.histograms_of(series as usize));
    chunks.push(write_blobs(w, rows, of_histograms));
    let of_exemplars = |series: u32| exemplars::encode(batch.exemplars_of(series as usize));
    chunks.push(write_blobs(w, rows, of_exemplars));
    chunks
}

/// Starts where they are said: level 0 is an empty list, 1 a sample without a start.
fn write_starts(
    w: &mut ChunkWriter,
    batch: &SeriesBatch,
    list: &ListLevels,
    mut samples: impl Iterator<Item = usize>,
) -> Chunk {
    let mut starts = Vec::new();
    let definition: Vec<u8> = list
        .definition
        .iter()
        .map(|&holds| {
            if holds == 0 {
                return 0;
            }
            let at = samples.next().expect("invariant: as many samples as entries");
            match batch.start_ms.get(at) {
                None | Some(0) => 1,
                Some(&start_ms) => {
                    starts.push(start_ms);
                    2
                }
            }
        })
        .collect();
    let levels = Levels {
        repetition: &list.repetition,
        definition: &definition,
        definition_width: 2,
        count: definition.len(),
    };
    w.times(levels, &starts)
}

/// Bytes of each row, null where they are empty.
fn write_blobs(w: &mut ChunkWriter, rows: &Rows, of: impl Fn(u32) -> Vec<u8>) -> Chunk {
    let blobs: Vec<Vec<u8>> = rows.series.iter().map(|&series| of(series)).collect();
    optional_blobs(w, blobs.iter().map(Vec::as_slice))
}

/// Levels of a list column: one per entry, and one for each empty list.
pub(super) struct ListLevels {
    /// Encoded repetition levels.
    repetition: Vec<u8>,
    /// Per level 1 if it is an entry.
    definition: Vec<u8>,
}

impl ListLevels {
    pub(super) fn new(ends: &[u32]) -> Self {
        let n_entries = ends.last().map_or(0, |&end| end as usize);
        let mut levels = Vec::with_capacity(n_entries + ends.len());
        let mut definition = Vec::with_capacity(n_entries + ends.len());
        let mut start = 0;
        for &end in ends {
            levels.push(0);
            definition.push(u8::from(end > start));
            let n_more = (end - start).saturating_sub(1) as usize;
            levels.resize(levels.len() + n_more, 1);
            definition.resize(definition.len() + n_more, 1);
            start = end;
        }
        let mut repetition = Vec::new();
        hybrid::write_levels(&mut repetition, &levels, 1);
        Self { repetition, definition }
    }

    pub(super) fn levels(&self) -> Levels<'_> {
        Levels {
            repetition: &self.repetition,
            definition: &self.definition,
            definition_width: 1,
            count: self.definition.len(),
        }
    }
}
