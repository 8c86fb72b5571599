//! The layout of exported samples, version 1: one row is one sample, in columns that every engine reads.
//!
//! | column | type | |
//! |---|---|---|
//! | `metric` | text | the label `__name__`; empty if there is none |
//! | `labels` | map of text to text | all other labels, ascending by name |
//! | `time` | timestamp, ms, UTC | |
//! | `value` | double | to the bit; null for a native histogram |
//! | `start_time` | timestamp, ms, UTC | since when it counts; null where that is not said |
//! | `temporality` | int32 | 0 as Prometheus has it, 1 delta: an increase since `start_time` |
//! | `histogram_count`, `histogram_sum` | double | of a native histogram |
//!
//! [`SampleWriter`] takes rows and holds one row group and the finished bytes. These files are for other engines: nothing
//! here reads them. The file's metadata has `spandrel.layout` = `samples/1`.

use std::sync::LazyLock;

use bytes::Bytes;
use model::dictionary::DictColumn;
use model::series::Temporality;

use super::columns::{ListLevels, optional};
use super::parquet::Physical;
use super::parquet::file::{self, Leaf, Logical, Node, Occurs, RowGroup};
use super::parquet::write::{Chunk, ChunkWriter, Levels};

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "samples/1";
const GROUP_ROWS: usize = 65_536;
const ZSTD_LEVEL: i32 = 3;

use Occurs::{Optional, Repeated, Required};

const NODES: &[Node<'static>] = &[
    Node::text("metric", Required),
    Node::group("labels", Required, Logical::Map, 1),
    Node::group("key_value", Repeated, Logical::None, 2),
    Node::text("key", Required),
    Node::text("value", Required),
    Node::leaf("time", Required, Logical::TimestampMs, Physical::Int64),
    Node::leaf("value", Optional, Logical::None, Physical::Double),
    Node::leaf("start_time", Optional, Logical::TimestampMs, Physical::Int64),
    Node::leaf("temporality", Required, Logical::None, Physical::Int32),
    Node::leaf("histogram_count", Optional, Logical::None, Physical::Double),
    Node::leaf("histogram_sum", Optional, Logical::None, Physical::Double),
];

static LEAVES: LazyLock<Vec<Leaf<'static>>> = LazyLock::new(|| file::leaves(NODES));

/// What is exported of a sample beside its series.
#[derive(Debug, Clone, Copy)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram {
        /// Observations.
        count: f64,
        /// Their sum.
        sum: f64,
    },
}

/// Writes a file of samples.
pub struct SampleWriter {
    writer: ChunkWriter,
    groups: Vec<RowGroup>,
    rows: Rows,
}

/// Rows that are not written yet.
#[derive(Default)]
struct Rows {
    metric: DictColumn,
    label_name: DictColumn,
    label_value: DictColumn,
    label_ends: Vec<u32>,
    time_ms: Vec<i64>,
    value: Vec<Option<f64>>,
    start_ms: Vec<i64>,
    temporality: Vec<i32>,
    count: Vec<Option<f64>>,
    sum: Vec<Option<f64>>,
}

impl Default for SampleWriter {
    fn default() -> Self {
        let mut writer = ChunkWriter::with_level(ZSTD_LEVEL);
        writer.out.extend_from_slice(file::MAGIC);
        Self { writer, groups: Vec::new(), rows: Rows::default() }
    }
}

impl SampleWriter {
    /// About how long the file is so far, in bytes.
    pub fn len(&self) -> usize {
        self.writer.out.len()
    }

    /// Whether no row was written.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.rows.time_ms.is_empty()
    }

    /// Appends a sample; `start_ms` is 0 where it is not said.
    pub fn push(
        &mut self,
        (metric, labels): (&str, &[(String, String)]),
        temporality: Temporality,
        (time_ms, start_ms): (i64, i64),
        value: SampleValue,
    ) {
        let rows = &mut self.rows;
        rows.metric.push(metric);
        for (name, value) in labels {
            rows.label_name.push(name);
            rows.label_value.push(value);
        }
        rows.label_ends.push(rows.label_name.len() as u32);
        rows.time_ms.push(time_ms);
        rows.start_ms.push(start_ms);
        rows.temporality.push(temporality as i32);
        let (value, count, sum) = match value {
            SampleValue::Float(value) => (Some(value), None, None),
            SampleValue::Histogram { count, sum } => (None, Some(count), Some(sum)),
        };
        rows.value.push(value);
        rows.count.push(count);
        rows.sum.push(sum);
        if rows.time_ms.len() >= GROUP_ROWS {
            self.close_group();
        }
    }

    fn close_group(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.time_ms.is_empty() {
            return;
        }
        let w = &mut self.writer;
        let flat = Levels::flat(rows.time_ms.len());
        let list = ListLevels::new(&rows.label_ends);
        let definition = list.definition();
        let chunks = vec![
            w.strings(flat, &rows.metric.dictionary, &rows.metric.rows),
            w.strings(list.levels(&definition), &rows.label_name.dictionary, &rows.label_name.rows),
            w.strings(list.levels(&definition), &rows.label_value.dictionary, &rows.label_value.rows),
            w.times(flat, &rows.time_ms),
            doubles(w, &rows.value),
            starts(w, &rows.start_ms),
            w.repeated_i32(flat, &rows.temporality),
            doubles(w, &rows.count),
            doubles(w, &rows.sum),
        ];
        self.groups.push(RowGroup { n_rows: rows.time_ms.len() as u64, chunks });
    }

    /// The file; `None` if no row was written.
    pub fn finish(mut self) -> Option<Bytes> {
        self.close_group();
        if self.groups.is_empty() {
            return None;
        }
        let mut out = self.writer.out;
        file::write_footer(&mut out, NODES, &LEAVES, &self.groups, &[("spandrel.layout", LAYOUT)]);
        Some(Bytes::from(out))
    }
}

fn doubles(w: &mut ChunkWriter, values: &[Option<f64>]) -> Chunk {
    let definition: Vec<u8> = values.iter().map(|value| u8::from(value.is_some())).collect();
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    w.doubles(optional(&definition), &known)
}

fn starts(w: &mut ChunkWriter, starts: &[i64]) -> Chunk {
    let definition: Vec<u8> = starts.iter().map(|&start| u8::from(start != 0)).collect();
    let known: Vec<i64> = starts.iter().copied().filter(|&start| start != 0).collect();
    w.repeated_i64(optional(&definition), &known)
}
