//! The layout of series in a merged file, version 2: one row is one series with all its samples of some hours.
//!
//! Rows are sorted by metric, labels and temporality, and lie in *units*: row groups of about half a megabyte, each of which is
//! read by itself. Columns, in the order of a unit; what a query reads comes first, so that one range covers it:
//!
//! | column | type | |
//! |---|---|---|
//! | `metric` | text | the label `__name__`; empty if there is none |
//! | `labels` | map of text to text | all other labels, ascending by name |
//! | `temporality` | int32 | 0 as Prometheus has it, 1 delta |
//! | `chunks` | bytes | samples as [`chunk`](super::chunk) draws them; null for none |
//! | `histograms` | bytes | native histograms as [`histograms`](super::histograms) draws them; null for none |
//! | `n_samples` | int64 | samples in `chunks` |
//! | `min_time`, `max_time` | timestamp, ms, UTC | of samples and histograms; of exemplars where there is nothing else |
//! | `exemplars` | bytes | as [`exemplars`](super::exemplars) draws them; null for none |
//!
//! Against one row a sample that is a third of the bytes, and many times faster to read. [`SeriesWriter`] takes rows in
//! order and holds one unit and the finished bytes, [`decode()`] reads what a question wants of a unit, [`Run::read`]
//! what a merge wants. The file's metadata has `spandrel.layout` = `series/2`.

use std::sync::LazyLock;

use super::{TEXT, node};
use crate::block::parquet::file::Occurs::{Optional, Repeated, Required};
use crate::block::parquet::file::{self, Content, Leaf, Logical, Node};
use crate::block::parquet::read::{Pages, Repetition};
use crate::block::parquet::{Invalid, Physical};
use crate::block::parts::{ChunkTable, Parts};

mod decode;
mod merge;
mod run;
mod write;

pub use decode::decode;
pub use merge::{Merge, MergedSeries};
pub use run::{Gather, Run};
pub use write::{MergedRow, SeriesWriter, WrittenSeries};

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "series/2";

const TIMESTAMP: Content = Content::Leaf(Physical::Int64);
const BYTES: Content = Content::Leaf(Physical::ByteArray);

pub(in crate::block) const NODES: &[Node<'static>] = &[
    node("metric", Required, Logical::String, TEXT),
    node("labels", Required, Logical::Map, Content::Group(1)),
    node("key_value", Repeated, Logical::None, Content::Group(2)),
    node("key", Required, Logical::String, TEXT),
    node("value", Required, Logical::String, TEXT),
    node("temporality", Required, Logical::None, Content::Leaf(Physical::Int32)),
    node("chunks", Optional, Logical::None, BYTES),
    node("histograms", Optional, Logical::None, BYTES),
    node("n_samples", Required, Logical::None, Content::Leaf(Physical::Int64)),
    node("min_time", Required, Logical::TimestampMs, TIMESTAMP),
    node("max_time", Required, Logical::TimestampMs, TIMESTAMP),
    node("exemplars", Optional, Logical::None, BYTES),
];

/// Positions of the columns among the leaves. The first three are those of files of one request.
#[expect(missing_docs, reason = "the names are those of the columns")]
pub mod column {
    pub const METRIC: usize = 0;
    pub const LABEL_NAME: usize = 1;
    pub const LABEL_VALUE: usize = 2;
    pub const TEMPORALITY: usize = 3;
    pub const CHUNKS: usize = 4;
    pub const HISTOGRAMS: usize = 5;
    pub const N_SAMPLES: usize = 6;
    pub const MIN_TIME: usize = 7;
    pub const MAX_TIME: usize = 8;
    pub const EXEMPLARS: usize = 9;
    /// How many columns there are.
    pub const COUNT: usize = 10;
}

/// The pages of a column of a unit.
fn read_column(table: &ChunkTable, parts: &Parts, column: usize) -> Result<Pages, Invalid> {
    let leaf = &LEAVES[column];
    let chunk = table.open(parts, column)?;
    chunk.pages(leaf.max_repetition, leaf.max_definition, Repetition::Read)
}

static LEAVES: LazyLock<Vec<Leaf<'static>>> = LazyLock::new(|| file::leaves(NODES));
