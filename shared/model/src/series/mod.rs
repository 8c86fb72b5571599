//! Series: a batch as it arrives and is stored, and one as a query evaluates it.

mod builder;

use std::sync::Arc;

use crate::dictionary::Dictionary;
use crate::histogram::NativeHistogram;
use crate::labels::Labels;

pub use builder::{BadLabels, SeriesBuilder};

/// The value that says that a series has ended: one NaN of all.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The NaN that Prometheus computes with and stores for "not a number".
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether a value is the stale marker.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// How the samples of a series relate to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Temporality {
    /// As Prometheus has them: each sample stands for itself (gauges) or counts from a start (counters).
    #[default]
    Cumulative,
    /// Each sample counts since the one before it. Stored as it came; a reader adds up.
    Delta,
}

/// A metric's type by OpenMetrics' names, in remote write's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricType {
    /// As the Prometheus API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// What a sender says of a metric family. Empty texts are "not said".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Metadata {
    /// Name of the family as its series have it (a counter's with `_total`, a histogram's without `_bucket`).
    pub family: String,
    /// Its type.
    pub metric_type: MetricType,
    /// Unit, in words.
    pub unit: String,
    /// Help text.
    pub help: String,
}

/// A sample of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Ms since the epoch.
    pub time_ms: i64,
    /// When counting began, ms since the epoch; 0 is "not said".
    pub start_ms: i64,
    /// The value.
    pub histogram: Arc<NativeHistogram>,
}

/// A measurement that stands for others, often with a trace id.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Ms since the epoch.
    pub time_ms: i64,
    /// What was measured.
    pub value: f64,
    /// Its own labels, `trace_id` among them.
    pub labels: Labels,
}

/// Series with their samples, as a request brings them and a file holds them.
///
/// Series `i` has the label pairs `label_ends[i-1]..label_ends[i]`, the samples `sample_ends[i-1]..sample_ends[i]`,
/// and so on. Label sets are unique within a batch and sorted by label name; samples of a series ascend by time;
/// where a request had two samples of one time, both were equal and one was left out, or both are here in the order
/// of the request.
#[derive(Debug, Clone, Default)]
pub struct SeriesBatch {
    /// Label names and values, each once.
    pub symbols: Dictionary,
    /// Positions in `symbols`: name, value.
    pub labels: Vec<(u32, u32)>,
    /// Per series, the end of its label pairs.
    pub label_ends: Vec<u32>,
    /// Per series.
    pub temporality: Vec<Temporality>,
    /// Ms since the epoch, of float samples.
    pub time_ms: Vec<i64>,
    /// Values; bits are kept.
    pub value: Vec<f64>,
    /// Start of counting, ms since the epoch, 0 for "not said". Empty if no sample of the batch says it.
    pub start_ms: Vec<i64>,
    /// Per series, the end of its float samples.
    pub sample_ends: Vec<u32>,
    /// Samples of histograms.
    pub histograms: Vec<HistogramSample>,
    /// Per series, the end of its histograms.
    pub histogram_ends: Vec<u32>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Per series, the end of its exemplars.
    pub exemplar_ends: Vec<u32>,
    /// What the request says of metric families.
    pub metadata: Vec<Metadata>,
}

impl SeriesBatch {
    /// How many series there are.
    pub fn n_series(&self) -> usize {
        self.label_ends.len()
    }

    /// How many samples there are, histograms included.
    pub fn n_samples(&self) -> usize {
        self.time_ms.len() + self.histograms.len()
    }

    /// The label pairs of a series, as positions in `symbols`.
    pub fn labels_of(&self, series_idx: usize) -> &[(u32, u32)] {
        &self.labels[range_of(&self.label_ends, series_idx)]
    }

    /// Where a series' float samples lie in `time_ms`, `value` and `start_ms`.
    pub fn samples_of(&self, series_idx: usize) -> std::ops::Range<usize> {
        range_of(&self.sample_ends, series_idx)
    }

    /// The histograms of a series.
    pub fn histograms_of(&self, series_idx: usize) -> &[HistogramSample] {
        &self.histograms[range_of(&self.histogram_ends, series_idx)]
    }

    /// Drops the series that `keep` does not want, with their samples; returns how many samples, histograms and
    /// exemplars that were.
    pub fn retain(&mut self, mut keep: impl FnMut(&Self, usize) -> bool) -> u64 {
        let kept: Vec<bool> = (0..self.n_series()).map(|series| keep(self, series)).collect();
        if kept.iter().all(|&kept| kept) {
            return 0;
        }
        let before = self.n_samples() + self.exemplars.len();
        retain_entries(&mut self.labels, &self.label_ends, &kept);
        retain_ends(&mut self.label_ends, &kept);
        retain_entries(&mut self.time_ms, &self.sample_ends, &kept);
        retain_entries(&mut self.value, &self.sample_ends, &kept);
        if !self.start_ms.is_empty() {
            retain_entries(&mut self.start_ms, &self.sample_ends, &kept);
        }
        retain_ends(&mut self.sample_ends, &kept);
        retain_entries(&mut self.histograms, &self.histogram_ends, &kept);
        retain_ends(&mut self.histogram_ends, &kept);
        retain_entries(&mut self.exemplars, &self.exemplar_ends, &kept);
        retain_ends(&mut self.exemplar_ends, &kept);
        let mut series = kept.iter();
        self.temporality.retain(|_| *series.next().expect("invariant: one entry per series"));
        (before - self.n_samples() - self.exemplars.len()) as u64
    }

    /// The exemplars of a series.
    pub fn exemplars_of(&self, series_idx: usize) -> &[Exemplar] {
        &self.exemplars[range_of(&self.exemplar_ends, series_idx)]
    }
}

/// Keeps the entries of the series that are kept.
fn retain_entries<T>(entries: &mut Vec<T>, ends: &[u32], kept: &[bool]) {
    let (mut entry, mut series) = (0, 0);
    entries.retain(|_| {
        while ends[series] <= entry {
            series += 1;
        }
        entry += 1;
        kept[series]
    });
}

/// Keeps the ends of the series that are kept, counted anew.
fn retain_ends(ends: &mut Vec<u32>, kept: &[bool]) {
    let (mut start, mut total, mut series) = (0, 0, 0);
    ends.retain_mut(|end| {
        let length = *end - start;
        start = *end;
        let is_kept = kept[series];
        series += 1;
        if is_kept {
            total += length;
            *end = total;
        }
        is_kept
    });
}

fn range_of(ends: &[u32], position: usize) -> std::ops::Range<usize> {
    let start = if position == 0 { 0 } else { ends[position - 1] as usize };
    start..ends[position] as usize
}

/// One series as a query evaluates it: cumulative, times strictly ascending over floats and histograms together.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Its identity.
    pub labels: Labels,
    /// Ms since the epoch, of float samples.
    pub time_ms: Vec<i64>,
    /// Their values; stale markers are among them.
    pub value: Vec<f64>,
    /// Samples of histograms; stale ones are among them.
    pub histograms: Vec<HistogramSample>,
}

/// A [`Series`] that lies somewhere else.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of `Series`")]
pub struct SeriesView<'a> {
    pub labels: &'a Labels,
    pub time_ms: &'a [i64],
    pub value: &'a [f64],
    pub histograms: &'a [HistogramSample],
}

impl Series {
    /// The series, to be looked at.
    pub fn view(&self) -> SeriesView<'_> {
        let Self { labels, time_ms, value, histograms } = self;
        SeriesView { labels, time_ms, value, histograms }
    }
}

impl SeriesView<'_> {
    /// How many samples there are, histograms included.
    pub fn n_samples(&self) -> usize {
        self.time_ms.len() + self.histograms.len()
    }

    /// A copy.
    pub fn to_series(&self) -> Series {
        Series {
            labels: self.labels.clone(),
            time_ms: self.time_ms.to_vec(),
            value: self.value.to_vec(),
            histograms: self.histograms.to_vec(),
        }
    }
}
