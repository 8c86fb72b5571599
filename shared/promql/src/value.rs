//! What a query is asked with, and what it is answered with.

use std::sync::Arc;

use model::series::SeriesView;
use model::{Labels, NativeHistogram, Series};

/// When a query is evaluated, and how much it may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryParams {
    /// First step, ms since the epoch.
    pub start_ms: i64,
    /// No step is later.
    pub end_ms: i64,
    /// Between steps, ms; 0 for an instant query, which has one step.
    pub step_ms: i64,
    /// How old a sample may be to stand for a step, ms.
    pub lookback_ms: i64,
    /// Between the steps of a subquery that does not say it, ms.
    pub subquery_step_ms: i64,
    /// Most values in memory at once.
    pub max_samples: u64,
}

impl QueryParams {
    /// An instant query with Prometheus' defaults.
    pub fn instant(time_ms: i64) -> Self {
        Self {
            start_ms: time_ms,
            end_ms: time_ms,
            step_ms: 0,
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            max_samples: 50_000_000,
        }
    }

    /// A range query with Prometheus' defaults.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        Self { end_ms, step_ms, ..Self::instant(start_ms) }
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The query makes no sense for this data. Prometheus' words.
    #[error("{0}")]
    Execution(String),
    /// It needs more memory than allowed. Prometheus' words.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// Series cannot be read. The words of whoever has them.
    #[error("{0}")]
    Unread(String),
    /// Whoever asked does not wait any longer.
    #[error("query timed out in expression evaluation")]
    Cancelled,
}

/// The series of each of [`Plan::needs`](crate::Plan::needs), one at a time: the engine keeps what it makes of a series,
/// not its samples, so that whoever has them packed may unpack one after the other.
pub trait Data {
    /// How many series a need has at most.
    fn n_series(&self, need: usize) -> usize;

    /// Hands each series of a need to `take`, whose samples ascend by time; the same ones each time.
    ///
    /// # Errors
    /// The first of `take`; a series cannot be read.
    fn each(&self, need: usize, take: &mut Take<'_>) -> Result<(), Error>;
}

/// What looks at a series.
pub type Take<'a> = dyn FnMut(SeriesView<'_>) -> Result<(), Error> + 'a;

impl Data for Vec<Vec<Series>> {
    fn n_series(&self, need: usize) -> usize {
        self.get(need).map_or(0, Vec::len)
    }

    fn each(&self, need: usize, take: &mut Take<'_>) -> Result<(), Error> {
        self.get(need).into_iter().flatten().try_for_each(|series| take(series.view()))
    }
}

/// A value at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
}

/// A series in an answer; each list ascending by time, no time in both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Points {
    /// Its labels.
    pub labels: Labels,
    /// Numbers, with their times in ms.
    pub floats: Vec<(i64, f64)>,
    /// Histograms, with their times in ms.
    pub histograms: Vec<(i64, Arc<NativeHistogram>)>,
}

/// The answer's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number at the query's time; of an instant query.
    Scalar(f64),
    /// A text; of an instant query.
    String(String),
    /// Series with a sample each; of an instant query.
    Vector(Vec<(Labels, Sample)>),
    /// Series with samples at their own times; of an instant query for a range.
    Matrix(Vec<Points>),
}

/// What a query is answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// What may be wrong with it, each once.
    pub warnings: Vec<String>,
    /// What is worth knowing, each once.
    pub infos: Vec<String>,
    /// Samples that were looked at.
    pub n_samples: u64,
}
