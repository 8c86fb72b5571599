//! OTLP metrics → series of Prometheus.
//!
//! `protobuf` and `json` read the messages, metric by metric; `translate` makes series of data points, named by `names`.
//! What cannot be translated is counted and said; everything beside it is kept. Delta temporality is kept as it came.

mod json;
mod names;
mod protobuf;
mod translate;

use model::SeriesBatch;
use model::attribute::Attributes;

use super::Format;
use crate::error::Error;
use crate::limits::Limits;
use crate::rejected::Rejected;
use translate::Translator;

pub use names::{TranslationStrategy, UnknownStrategy};

/// How metrics are translated; by the names of Prometheus' configuration, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Translation {
    /// How names are made.
    pub strategy: TranslationStrategy,
    /// Keys of resource attributes that become labels of each series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether `target_info` keeps what `job` and `instance` say already.
    pub keep_identifying_resource_attributes: bool,
    /// Whether histograms with explicit bounds become native ones, with custom bounds.
    pub convert_histograms_to_nhcb: bool,
    /// Whether the scope becomes labels.
    pub promote_scope_metadata: bool,
}

/// What a request held.
#[derive(Debug, Default)]
pub struct DecodedMetrics {
    /// The series.
    pub batch: SeriesBatch,
    /// Data points that were rejected.
    pub rejected: Rejected,
}

/// Reads an `ExportMetricsServiceRequest`.
///
/// # Errors
/// The body is over the limit, holds more samples than allowed, or is not of that format.
pub fn decode_metrics(
    body: &[u8],
    format: Format,
    translation: &Translation,
    limits: &Limits,
) -> Result<DecodedMetrics, Error> {
    if body.len() > limits.max_body_bytes {
        return Err(Error::TooLarge { limit: limits.max_body_bytes });
    }
    let mut translator = Translator::new(translation, limits);
    match format {
        Format::Protobuf => protobuf::read(body, limits, &mut translator)?,
        Format::Json => json::read(body, limits, &mut translator)?,
    }
    match translator.excess() {
        Some(excess) => Err(excess),
        None => Ok(translator.finish()),
    }
}

/// What made the metrics.
#[derive(Debug, Default)]
struct Scope {
    name: String,
    version: String,
    attributes: Attributes,
    schema_url: String,
}

/// A metric without its points.
#[derive(Debug)]
struct MetricIn {
    name: String,
    description: String,
    unit: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Sum { is_monotonic: bool, is_delta: bool },
    Histogram { is_delta: bool },
    Exponential { is_delta: bool },
    Summary,
}

impl Kind {
    fn is_delta(self) -> bool {
        match self {
            Self::Sum { is_delta, .. } | Self::Histogram { is_delta } | Self::Exponential { is_delta } => {
                is_delta
            }
            Self::Gauge | Self::Summary => false,
        }
    }
}

/// Points of a metric that are in memory before they become samples.
const POINTS_AT_ONCE: usize = 512;

/// OTLP's number of delta temporality.
const DELTA: i64 = 1;

#[derive(Debug, Default)]
struct PointIn {
    attributes: Attributes,
    start_ns: u64,
    time_ns: u64,
    flags: u32,
    value: PointValue,
    exemplars: Vec<ExemplarIn>,
}

#[derive(Debug, Default)]
enum PointValue {
    #[default]
    None,
    Number(f64),
    Histogram {
        count: u64,
        sum: Option<f64>,
        bucket_counts: Vec<u64>,
        bounds: Vec<f64>,
    },
    Exponential(Box<Exponential>),
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

#[derive(Debug, Default)]
struct Exponential {
    scale: i32,
    count: u64,
    sum: Option<f64>,
    zero_count: u64,
    zero_threshold: Option<f64>,
    /// Offset and counts.
    positive: (i32, Vec<u64>),
    negative: (i32, Vec<u64>),
}

#[derive(Debug, Default)]
struct ExemplarIn {
    time_ns: u64,
    value: f64,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    attributes: Attributes,
}
