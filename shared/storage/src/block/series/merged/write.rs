//! Rows in order → file.

use bytes::Bytes;
use model::dictionary::DictColumn;
use model::series::Temporality;

use super::super::ListLevels;
use super::{LAYOUT, LEAVES, NODES, column};
use crate::block::columns::optional_blobs;
use crate::block::parquet::file::{self, RowGroup};
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parts::ChunkTable;
use crate::index::{SeriesDescriptor, SeriesUnit};

/// A unit is closed when its cells have as many bytes: one read brings it, a query that wants one metric of many reads
/// little else, and decoded it is some megabytes.
const UNIT_BYTES: usize = 512 << 10;
/// Rows of a unit at most.
const UNIT_ROWS: usize = 8192;

/// A series as it goes into a file.
#[derive(Debug, Clone, Copy)]
pub struct MergedRow<'a, L> {
    /// Its metric; empty if it has none.
    pub metric: &'a str,
    /// Its other labels, ascending by name.
    pub labels: L,
    /// How its samples relate to each other.
    pub temporality: Temporality,
    /// Chunks; empty for none.
    pub chunks: &'a [u8],
    /// Samples in them.
    pub n_samples: u64,
    /// Histograms, as bytes; empty for none.
    pub histograms: &'a [u8],
    /// How many.
    pub n_histograms: u64,
    /// Exemplars, as bytes; empty for none.
    pub exemplars: &'a [u8],
    /// First time of anything, ms since the epoch.
    pub min_time_ms: i64,
    /// Last time.
    pub max_time_ms: i64,
}

/// A merged file and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct WrittenSeries {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: SeriesDescriptor,
}

/// Writes a merged file from rows that come in order.
pub struct SeriesWriter {
    writer: ChunkWriter,
    groups: Vec<RowGroup>,
    units: Vec<SeriesUnit>,
    /// Metrics of the file, each once.
    metrics: Vec<String>,
    unit: Unit,
    n_rows: u64,
    n_samples: u64,
    range_ms: Option<(i64, i64)>,
}

/// Rows that are not written yet.
#[derive(Default)]
struct Unit {
    metric: DictColumn,
    label_name: DictColumn,
    label_value: DictColumn,
    label_ends: Vec<u32>,
    temporality: Vec<i32>,
    chunks: Blobs,
    histograms: Blobs,
    n_samples: Vec<i64>,
    min_time_ms: Vec<i64>,
    max_time_ms: Vec<i64>,
    exemplars: Blobs,
}

/// Cells end to end.
#[derive(Default)]
struct Blobs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Blobs {
    fn push(&mut self, blob: &[u8]) {
        self.bytes.extend_from_slice(blob);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// The cells, null where they are empty.
    fn write(&self, w: &mut ChunkWriter) -> Chunk {
        optional_blobs(w, self.iter())
    }
}

impl SeriesWriter {
    /// An empty file, compressed by `zstd_level`.
    pub fn new(zstd_level: i32) -> Self {
        let mut writer = ChunkWriter::with_level(zstd_level);
        writer.out.extend_from_slice(file::MAGIC);
        Self {
            writer,
            groups: Vec::new(),
            units: Vec::new(),
            metrics: Vec::new(),
            unit: Unit::default(),
            n_rows: 0,
            n_samples: 0,
            range_ms: None,
        }
    }

    /// Appends a row, which comes after all others.
    pub fn push<'l>(&mut self, row: MergedRow<'_, impl Iterator<Item = (&'l str, &'l str)>>) {
        let unit = &mut self.unit;
        if self.metrics.last().is_none_or(|last| last != row.metric) {
            self.metrics.push(row.metric.to_owned());
        }
        unit.metric.push(row.metric);
        for (name, value) in row.labels {
            unit.label_name.push(name);
            unit.label_value.push(value);
        }
        unit.label_ends.push(unit.label_name.len() as u32);
        unit.temporality.push(row.temporality as i32);
        unit.chunks.push(row.chunks);
        unit.histograms.push(row.histograms);
        unit.n_samples.push(row.n_samples as i64);
        unit.min_time_ms.push(row.min_time_ms);
        unit.max_time_ms.push(row.max_time_ms);
        unit.exemplars.push(row.exemplars);
        self.n_rows += 1;
        self.n_samples += row.n_samples + row.n_histograms;
        let (min, max) = self.range_ms.unwrap_or((row.min_time_ms, row.max_time_ms));
        self.range_ms = Some((min.min(row.min_time_ms), max.max(row.max_time_ms)));
        let n_bytes = unit.chunks.bytes.len() + unit.histograms.bytes.len() + unit.exemplars.bytes.len();
        if n_bytes >= UNIT_BYTES || unit.temporality.len() >= UNIT_ROWS {
            self.close_unit();
        }
    }

    /// About how long the file is so far, in bytes.
    pub fn len(&self) -> usize {
        self.writer.out.len()
    }

    /// Whether no row was written.
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// The file; `None` if no row was written.
    pub fn finish(mut self) -> Option<WrittenSeries> {
        self.close_unit();
        let range_ms = self.range_ms?;
        let mut out = self.writer.out;
        file::write_footer(&mut out, NODES, &LEAVES, &self.groups, &[("spandrel.layout", LAYOUT)]);
        let named = self.metrics.iter().filter(|metric| !metric.is_empty());
        let descriptor = SeriesDescriptor::merged(
            self.n_rows,
            self.n_samples,
            out.len() as u64,
            range_ms,
            self.units,
            named.map(String::as_str),
        );
        Some(WrittenSeries { bytes: Bytes::from(out), descriptor })
    }

    fn close_unit(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        let n_rows = unit.temporality.len();
        if n_rows == 0 {
            return;
        }
        let chunks = unit.write(&mut self.writer);
        debug_assert_eq!(chunks.len(), column::COUNT);
        self.units.push(SeriesUnit {
            rows: n_rows as u64,
            first_metric: unit.metric.get(0).to_owned(),
            chunks: ChunkTable::of(&chunks),
        });
        self.groups.push(RowGroup { n_rows: n_rows as u64, chunks });
    }
}

impl Unit {
    fn write(&self, w: &mut ChunkWriter) -> Vec<Chunk> {
        let flat = Levels::flat(self.temporality.len());
        let list = ListLevels::new(&self.label_ends);
        vec![
            w.strings(flat, &self.metric.dictionary, &self.metric.rows),
            w.strings(list.levels(), &self.label_name.dictionary, &self.label_name.rows),
            w.strings(list.levels(), &self.label_value.dictionary, &self.label_value.rows),
            w.repeated_i32(flat, &self.temporality),
            self.chunks.write(w),
            self.histograms.write(w),
            w.repeated_i64(flat, &self.n_samples),
            w.times(flat, &self.min_time_ms),
            w.times(flat, &self.max_time_ms),
            self.exemplars.write(w),
        ]
    }
}
