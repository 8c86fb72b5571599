//! The layout of series in a file, version 1: how [`SeriesBatch`](model::SeriesBatch) becomes Parquet, and back.
//!
//! One row is one series with its samples of one request. Rows are sorted by metric, else in the order of the request.
//! Columns, in the order of the file; what a query reads comes first, so that one range covers it:
//!
//! | column | type | |
//! |---|---|---|
//! | `metric` | text | the label `__name__`; empty if there is none |
//! | `labels` | map of text to text | all other labels, ascending by name |
//! | `samples` | list of `{time, value, start_time}` | ascending by time; milliseconds, double to the bit; the start is null where it is not said |
//! | `temporality` | int32 | 0 as Prometheus has it, 1 delta |
//! | `histograms` | bytes | native histograms as [`histograms`] draws them; null for none |
//! | `exemplars` | bytes | as [`exemplars`] draws them; null for none |
//!
//! A file of one request has one or few samples a series, so they lie in plain lists that every engine reads; a series'
//! identity is not stored but follows from its labels. [`encode()`] writes a file, [`decode()`] reads rows of it. The
//! file's metadata has `spandrel.layout` = `series/1`.

use std::sync::LazyLock;

use super::parquet::Physical;
use super::parquet::file::{self, Content, Leaf, Logical, Node, Occurs};

pub mod chunk;
mod decode;
mod encode;
pub mod exemplars;
pub mod histograms;

mod key;
mod labels;
pub mod merged;

pub use decode::{FileSeries, Row, decode};
pub use encode::{EncodedSeries, encode};
pub use labels::{LabelReader, LabelSet, LabelSets};

use encode::ListLevels;

use super::parts::Projection;

/// What a question wants of rows beside their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Labels,
    /// Samples, histograms and how they relate.
    Samples,
    /// Exemplars.
    Exemplars,
}

impl Wanted {
    /// The columns to read of a file of one request.
    pub const fn columns(self) -> Projection {
        use column::{
            EXEMPLARS, HISTOGRAMS, LABEL_NAME, LABEL_VALUE, SAMPLE_TIME, SAMPLE_VALUE, TEMPORALITY,
        };
        match self {
            Self::Labels => Projection::of(&[LABEL_NAME, LABEL_VALUE]),
            Self::Samples => {
                Projection::of(&[LABEL_NAME, LABEL_VALUE, SAMPLE_TIME, SAMPLE_VALUE, TEMPORALITY, HISTOGRAMS])
            }
            Self::Exemplars => Projection::of(&[LABEL_NAME, LABEL_VALUE, EXEMPLARS]),
        }
    }

    /// The columns to read of a unit of a merged file.
    pub const fn merged_columns(self) -> Projection {
        use merged::column::{CHUNKS, EXEMPLARS, HISTOGRAMS, LABEL_NAME, LABEL_VALUE, TEMPORALITY};
        match self {
            Self::Labels => Projection::of(&[LABEL_NAME, LABEL_VALUE]),
            Self::Samples => Projection::of(&[LABEL_NAME, LABEL_VALUE, TEMPORALITY, CHUNKS, HISTOGRAMS]),
            Self::Exemplars => Projection::of(&[LABEL_NAME, LABEL_VALUE, EXEMPLARS]),
        }
    }
}

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "series/1";

use Occurs::{Optional, Repeated, Required};

const fn node(name: &'static str, occurs: Occurs, logical: Logical, content: Content) -> Node<'static> {
    Node { name, occurs, logical, content }
}

const TEXT: Content = Content::Leaf(Physical::ByteArray);

pub(super) const NODES: &[Node<'static>] = &[
    node("metric", Required, Logical::String, TEXT),
    node("labels", Required, Logical::Map, Content::Group(1)),
    node("key_value", Repeated, Logical::None, Content::Group(2)),
    node("key", Required, Logical::String, TEXT),
    node("value", Required, Logical::String, TEXT),
    node("samples", Required, Logical::List, Content::Group(1)),
    node("list", Repeated, Logical::None, Content::Group(1)),
    node("element", Required, Logical::None, Content::Group(3)),
    node("time", Required, Logical::TimestampMs, Content::Leaf(Physical::Int64)),
    node("value", Required, Logical::None, Content::Leaf(Physical::Double)),
    node("start_time", Optional, Logical::TimestampMs, Content::Leaf(Physical::Int64)),
    node("temporality", Required, Logical::None, Content::Leaf(Physical::Int32)),
    node("histograms", Optional, Logical::None, Content::Leaf(Physical::ByteArray)),
    node("exemplars", Optional, Logical::None, Content::Leaf(Physical::ByteArray)),
];

/// Positions of the columns among the leaves.
#[expect(missing_docs, reason = "the names are those of the columns")]
pub mod column {
    pub const METRIC: usize = 0;
    pub const LABEL_NAME: usize = 1;
    pub const LABEL_VALUE: usize = 2;
    pub const SAMPLE_TIME: usize = 3;
    pub const SAMPLE_VALUE: usize = 4;
    pub const SAMPLE_START: usize = 5;
    pub const TEMPORALITY: usize = 6;
    pub const HISTOGRAMS: usize = 7;
    pub const EXEMPLARS: usize = 8;
    /// How many columns there are.
    pub const COUNT: usize = 9;
}

static LEAVES: LazyLock<Vec<Leaf<'static>>> = LazyLock::new(|| file::leaves(NODES));
