//! Samples of a series from several files, packed as they are stored, and unpacked for a look.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::histogram::{ResetHint, combined};
use model::series::{HistogramSample, SeriesView, Temporality, is_stale};
use model::{Labels, NativeHistogram};

use super::join::View;
use crate::block::parquet::Invalid;
use crate::block::series::chunk::{self, Chunk};
use crate::block::series::histograms;

/// What a sample takes that is not packed.
pub(super) const LOOSE_BYTES: usize = size_of::<(i64, f64)>();

/// A series as it was read.
pub(super) struct PackedSeries {
    pub(super) labels: Labels,
    pub(super) temporality: Temporality,
    /// Chunks of merged files; they may have more than is looked at.
    pub(super) chunks: Vec<Bytes>,
    /// Native histograms of merged files, likewise.
    pub(super) packed_histograms: Vec<Bytes>,
    /// Those of files of one request.
    pub(super) histograms: Vec<HistogramSample>,
    /// The same label set with the other temporality, whose samples count where there are no others.
    pub(super) later: Option<Box<Self>>,
    /// Time in ms and value of samples that came a few at a time, together: the next one goes to another series, and each
    /// place in memory is a wait.
    loose: Vec<(i64, f64)>,
}

/// Where a series is unpacked; one after the other takes the place of the one before.
#[derive(Default)]
pub struct Room {
    time_ms: Vec<i64>,
    value: Vec<f64>,
    histograms: Vec<HistogramSample>,
    /// Samples that are not in order yet.
    loose: Vec<(i64, f64)>,
}

impl PackedSeries {
    pub(super) fn new(labels: Labels, temporality: Temporality) -> Self {
        Self {
            labels,
            temporality,
            chunks: Vec::new(),
            packed_histograms: Vec::new(),
            histograms: Vec::new(),
            later: None,
            loose: Vec::new(),
        }
    }

    /// Adds a sample, in any order.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) {
        self.loose.push((time_ms, value));
    }

    /// How many samples and histograms are not packed.
    pub(super) fn n_loose(&self) -> usize {
        self.loose.len() + self.histograms.len()
    }

    /// What the series has in the view, cumulative; `None` if that is nothing.
    ///
    /// # Errors
    /// A chunk is corrupt.
    pub(super) fn unpack<'a>(
        &'a self,
        view: &View,
        room: &'a mut Room,
    ) -> Result<Option<SeriesView<'a>>, Invalid> {
        self.read(view, room)?;
        if let Some(later) = &self.later {
            let mut beside = Room::default();
            later.read(view, &mut beside)?;
            room.add(beside);
        }
        if let Some(steps) = view.steps {
            steps.thin(&mut room.time_ms, &mut room.value);
        }
        let found = SeriesView {
            labels: &self.labels,
            time_ms: &room.time_ms,
            value: &room.value,
            histograms: &room.histograms,
        };
        Ok((found.n_samples() > 0).then_some(found))
    }

    /// Reads what is in the view, cumulative, with all samples that steps do not see.
    fn read(&self, view: &View, room: &mut Room) -> Result<(), Invalid> {
        self.read_floats(view, room)?;
        let Room { time_ms, value, histograms, .. } = room;
        histograms.clear();
        if !self.histograms.is_empty() || !self.packed_histograms.is_empty() {
            histograms.extend_from_slice(&self.histograms);
            for packed in &self.packed_histograms {
                histograms.extend(
                    histograms::decode(packed)?.into_iter().filter(|sample| view.has(sample.time_ms)),
                );
            }
            histograms::keep_greatest(histograms);
            // A float and a histogram of one time: the float counts, as where Prometheus joins blocks.
            histograms.retain(|sample| time_ms.binary_search(&sample.time_ms).is_err());
        }
        if self.temporality == Temporality::Delta {
            let mut sum = 0.0;
            for value in value {
                if !is_stale(*value) {
                    sum += *value;
                    *value = sum;
                }
            }
            add_up(histograms);
        }
        Ok(())
    }

    fn read_floats(&self, view: &View, room: &mut Room) -> Result<(), Invalid> {
        let Room { time_ms, value, loose, .. } = room;
        time_ms.clear();
        value.clear();
        for cell in &self.chunks {
            for chunk in chunk::chunks(cell) {
                let chunk: Chunk<'_> = chunk?;
                if view.meets(&chunk) {
                    chunk.read(time_ms, value)?;
                }
            }
        }
        if !self.loose.is_empty() || !ascend(time_ms) {
            loose.clear();
            loose.extend(time_ms.iter().copied().zip(value.iter().copied()));
            loose.extend_from_slice(&self.loose);
            in_order(loose);
            time_ms.clear();
            value.clear();
            time_ms.extend(loose.iter().map(|sample| sample.0));
            value.extend(loose.iter().map(|sample| sample.1));
        }
        let end = time_ms.partition_point(|&time_ms| time_ms <= view.last_ms);
        time_ms.truncate(end);
        value.truncate(end);
        let start = time_ms.partition_point(|&time_ms| time_ms < view.first_ms);
        time_ms.drain(..start);
        value.drain(..start);
        Ok(())
    }
}

impl Room {
    /// Adds samples of other times.
    fn add(&mut self, other: Self) {
        let mut samples: BTreeMap<i64, f64> = other.time_ms.into_iter().zip(other.value).collect();
        samples.extend(self.time_ms.iter().copied().zip(self.value.iter().copied()));
        self.time_ms = samples.keys().copied().collect();
        self.value = samples.into_values().collect();
        let mut histograms: BTreeMap<i64, HistogramSample> =
            other.histograms.into_iter().map(|sample| (sample.time_ms, sample)).collect();
        histograms.extend(self.histograms.drain(..).map(|sample| (sample.time_ms, sample)));
        let is_alone = |sample: &HistogramSample| self.time_ms.binary_search(&sample.time_ms).is_err();
        self.histograms = histograms.into_values().filter(is_alone).collect();
    }
}

/// Sorts samples by time and keeps of one time the greatest by its bits.
fn in_order(samples: &mut Vec<(i64, f64)>) {
    if samples.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    samples.sort_unstable_by_key(|sample| (sample.0, sample.1.to_bits()));
    samples.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            *kept = *later;
        }
        same
    });
}

/// Whether each time is later than the one before. They are counted, because without an early end several are compared at
/// once.
fn ascend(times: &[i64]) -> bool {
    times.windows(2).filter(|pair| pair[0] >= pair[1]).count() == 0
}

/// Makes each histogram the sum of those up to it. Where buckets cannot be made the same, counting begins anew.
fn add_up(histograms: &mut [HistogramSample]) {
    let mut sum: Option<Arc<NativeHistogram>> = None;
    for sample in histograms.iter_mut().filter(|sample| !sample.histogram.is_stale()) {
        let is_integer = sample.histogram.is_integer && sum.as_ref().is_none_or(|sum| sum.is_integer);
        let added = sum.and_then(|sum| combined(&sum, &sample.histogram, 1.0));
        let mut next = added.unwrap_or_else(|| NativeHistogram::clone(&sample.histogram));
        (next.reset_hint, next.is_integer) = (ResetHint::Unknown, is_integer);
        sample.histogram = Arc::new(next);
        sum = Some(Arc::clone(&sample.histogram));
    }
}
