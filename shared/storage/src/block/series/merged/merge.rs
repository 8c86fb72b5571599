//! Several runs into one: pure; whoever drives it brings the units.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use model::labels::METRIC_NAME;
use model::series::{Exemplar, HistogramSample, Temporality};

use super::super::chunk::{self, Chunk, ENOUGH_SAMPLES, Samples};
use super::super::key::Identity;
use super::super::{exemplars, histograms};
use super::run::{RowView, Run, keep_greatest, samples_of};
use super::write::{MergedRow, SeriesWriter};
use crate::block::parquet::Invalid;

/// Merges inputs, each of which is fed run by run in the order of its rows.
///
/// Memory is bounded by one run of each input.
#[derive(Debug)]
pub struct Merge {
    inputs: Vec<Input>,
    /// Key of each input's next row.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// Samples and histograms that were left out, because others are equal or outrank them.
    pub n_duplicates: u64,
}

#[derive(Debug)]
enum Input {
    Starved,
    Fed { run: Run, next: usize },
    Ended,
}

/// A series after merging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedSeries {
    key: Vec<u8>,
    samples: MergedSamples,
}

/// What a series has after merging.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct MergedSamples {
    chunks: Vec<u8>,
    n_samples: u64,
    histograms: Vec<u8>,
    n_histograms: u64,
    exemplars: Vec<u8>,
    range_ms: Option<(i64, i64)>,
}

impl Merge {
    /// Of so many inputs.
    pub fn new(n_inputs: usize) -> Self {
        let inputs = (0..n_inputs).map(|_| Input::Starved).collect();
        Self { inputs, heads: BinaryHeap::new(), n_duplicates: 0 }
    }

    /// An input whose next run is needed.
    pub fn starved(&self) -> Option<usize> {
        self.inputs.iter().position(|input| matches!(input, Input::Starved))
    }

    /// Gives an input's next run; `None` if it has no more.
    pub fn feed(&mut self, input: usize, run: Option<Run>) {
        self.inputs[input] = match run {
            None => Input::Ended,
            Some(run) if run.is_empty() => {
                self.n_duplicates += run.n_duplicates;
                Input::Starved
            }
            Some(run) => {
                self.n_duplicates += run.n_duplicates;
                self.heads.push(Reverse((run.row(0).key.to_vec(), input)));
                Input::Fed { run, next: 0 }
            }
        };
    }

    /// The next series; `None` if there is none. No input may be starved.
    ///
    /// # Errors
    /// An input is corrupt.
    pub fn next_series(&mut self) -> Result<Option<MergedSeries>, Invalid> {
        let Some(Reverse((key, first))) = self.heads.pop() else { return Ok(None) };
        let mut with_key = vec![first];
        while self.heads.peek().is_some_and(|Reverse((other, _))| *other == key) {
            with_key.extend(self.heads.pop().map(|Reverse((_, input))| input));
        }
        // In the order of inputs, so that the same inputs give the same bytes.
        with_key.sort_unstable();
        let view = |&input: &usize| match &self.inputs[input] {
            Input::Fed { run, next } => Some(run.row(*next)),
            Input::Starved | Input::Ended => None,
        };
        let rows: Vec<RowView<'_>> = with_key.iter().filter_map(view).collect();
        let (samples, n_duplicates) = combine(&rows)?;
        self.n_duplicates += n_duplicates;
        for input in with_key {
            self.advance(input);
        }
        Ok(Some(MergedSeries { key, samples }))
    }

    fn advance(&mut self, at: usize) {
        let Input::Fed { run, next } = &mut self.inputs[at] else { return };
        *next += 1;
        if *next < run.len() {
            self.heads.push(Reverse((run.row(*next).key.to_vec(), at)));
        } else {
            self.inputs[at] = Input::Starved;
        }
    }
}

impl MergedSeries {
    /// Appends the series to a file.
    pub fn write(&self, writer: &mut SeriesWriter) {
        let identity = Identity::of(&self.key);
        let labels: Vec<_> = identity.labels().collect();
        let samples = &self.samples;
        let (min_time_ms, max_time_ms) = samples.range_ms.unwrap_or((0, 0));
        writer.push(MergedRow {
            metric: &identity.metric,
            labels: labels.iter().map(|(name, value)| (&**name, &**value)),
            temporality: identity.temporality,
            chunks: &samples.chunks,
            n_samples: samples.n_samples,
            histograms: &samples.histograms,
            n_histograms: samples.n_histograms,
            exemplars: &samples.exemplars,
            min_time_ms,
            max_time_ms,
        });
    }

    /// Its metric, its other labels, ascending by name, and how its samples relate to each other.
    pub fn identity(&self) -> (String, Vec<(String, String)>, Temporality) {
        let identity = Identity::of(&self.key);
        let labels = identity.labels().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        (identity.metric.into_owned(), labels, identity.temporality)
    }

    /// Its samples, ascending by time.
    ///
    /// # Errors
    /// What was merged is corrupt.
    pub fn samples(&self) -> Result<Samples, Invalid> {
        let mut all = Samples::default();
        for chunk in chunk::chunks(&self.samples.chunks) {
            chunk?.read_all(&mut all)?;
        }
        Ok(all)
    }

    /// Its native histograms, ascending by time.
    ///
    /// # Errors
    /// What was merged is corrupt.
    pub fn histograms(&self) -> Result<Vec<HistogramSample>, Invalid> {
        histograms::decode(&self.samples.histograms)
    }

    /// Samples and histograms.
    pub fn n_samples(&self) -> u64 {
        self.samples.n_samples + self.samples.n_histograms
    }

    /// Whether some label, the metric's name included, passes a test of name and value.
    pub fn any_label(&self, test: impl Fn(&str, &str) -> bool) -> bool {
        let identity = Identity::of(&self.key);
        test(METRIC_NAME, &identity.metric) || identity.labels().any(|(name, value)| test(&name, &value))
    }

    /// Drops the exemplars with a label that passes a test; returns how many those were.
    ///
    /// # Errors
    /// They are corrupt.
    pub fn drop_exemplars(&mut self, test: impl Fn(&str, &str) -> bool) -> Result<u64, Invalid> {
        let mut left = exemplars::decode(&self.samples.exemplars)?;
        let n_before = left.len();
        left.retain(|exemplar| !exemplar.labels.iter().any(|label| test(&label.name, &label.value)));
        let n_dropped = (n_before - left.len()) as u64;
        if n_dropped > 0 {
            self.samples.exemplars = exemplars::encode(&left);
        }
        Ok(n_dropped)
    }

    /// The parts of the series by time: the number of its slice of `width_ms`, counted from the epoch, and what it has
    /// there.
    ///
    /// # Errors
    /// What was merged is corrupt.
    pub fn split(self, width_ms: i64) -> Result<Vec<(i64, Self)>, Invalid> {
        let Self { key, samples } = self;
        let slice_of = |time_ms: i64| time_ms.div_euclid(width_ms);
        let (first_ms, last_ms) = samples.range_ms.unwrap_or((0, 0));
        if slice_of(first_ms) == slice_of(last_ms) {
            return Ok(vec![(slice_of(first_ms), Self { key, samples })]);
        }
        let mut slices: BTreeMap<i64, (Samples, Vec<HistogramSample>, Vec<Exemplar>)> = BTreeMap::new();
        for chunk in chunk::chunks(&samples.chunks) {
            let mut all = Samples::default();
            chunk?.read_all(&mut all)?;
            for (at, &time_ms) in all.time_ms.iter().enumerate() {
                let slice = &mut slices.entry(slice_of(time_ms)).or_default().0;
                slice.time_ms.push(time_ms);
                slice.value.push(all.value[at]);
                slice.start_ms.push(all.start_ms.get(at).copied().unwrap_or(0));
            }
        }
        for sample in histograms::decode(&samples.histograms)? {
            slices.entry(slice_of(sample.time_ms)).or_default().1.push(sample);
        }
        for exemplar in exemplars::decode(&samples.exemplars)? {
            slices.entry(slice_of(exemplar.time_ms)).or_default().2.push(exemplar);
        }
        let part = |(slice, (mut floats, samples, exemplars)): (i64, (Samples, Vec<_>, Vec<_>))| {
            let mut part = MergedSamples::default();
            let starts = samples.iter().map(|sample: &HistogramSample| sample.time_ms);
            let exemplar_times = exemplars.iter().map(|exemplar: &Exemplar| exemplar.time_ms);
            for time_ms in floats.time_ms.iter().copied().chain(starts).chain(exemplar_times) {
                part.reaches(time_ms, time_ms);
            }
            part.n_samples = floats.time_ms.len() as u64;
            if floats.start_ms.iter().all(|&start| start == 0) {
                floats.start_ms.clear();
            }
            chunk::write(&mut part.chunks, &floats);
            part.n_histograms = samples.len() as u64;
            part.histograms = histograms::encode(&samples);
            part.exemplars = exemplars::encode(&exemplars);
            (slice, Self { key: key.clone(), samples: part })
        };
        Ok(slices.into_iter().map(part).collect())
    }
}

impl MergedSamples {
    fn reaches(&mut self, first_ms: i64, last_ms: i64) {
        let (min, max) = self.range_ms.unwrap_or((first_ms, last_ms));
        self.range_ms = Some((min.min(first_ms), max.max(last_ms)));
    }
}

/// Joins rows of one series, and says how many samples and histograms are left out.
fn combine(rows: &[RowView<'_>]) -> Result<(MergedSamples, u64), Invalid> {
    let mut merged = MergedSamples::default();
    let mut n_duplicates = join_chunks(rows, &mut merged)?;
    let mut samples = Vec::new();
    for row in rows.iter().filter(|row| !row.histograms.is_empty()) {
        samples.extend(histograms::decode(row.histograms)?);
    }
    let n_before = samples.len();
    histograms::keep_greatest(&mut samples);
    n_duplicates += (n_before - samples.len()) as u64;
    merged.n_histograms = samples.len() as u64;
    merged.histograms = histograms::encode(&samples);
    for sample in &samples {
        merged.reaches(sample.time_ms, sample.time_ms);
    }
    let with_exemplars = rows.iter().filter(|row| !row.exemplars.is_empty());
    let mut found = Vec::new();
    for row in with_exemplars {
        found.extend(exemplars::decode(row.exemplars)?);
    }
    exemplars::sort(&mut found);
    merged.exemplars = exemplars::encode(&found);
    for exemplar in &found {
        merged.reaches(exemplar.time_ms, exemplar.time_ms);
    }
    Ok((merged, n_duplicates))
}

/// Chunks that are long enough and overlap no other are copied; what lies between is decoded and packed anew.
fn join_chunks(rows: &[RowView<'_>], merged: &mut MergedSamples) -> Result<u64, Invalid> {
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
    for row in rows {
        for chunk in chunk::chunks(row.chunks) {
            chunks.push(chunk?);
        }
    }
    let n_before: usize = chunks.iter().map(|chunk| chunk.n_samples).sum();
    chunks.sort_by_key(|chunk| (chunk.first_ms, chunk.last_ms));
    for chunk in &chunks {
        merged.reaches(chunk.first_ms, chunk.last_ms);
    }
    let is_alone = chunks.len() == 1;
    let mut pending = Samples::default();
    let mut reached_ms = None;
    for (at, chunk) in chunks.iter().enumerate() {
        let overlaps_before = reached_ms.is_some_and(|reached_ms| chunk.first_ms <= reached_ms);
        let overlaps_next = chunks.get(at + 1).is_some_and(|next| next.first_ms <= chunk.last_ms);
        reached_ms = reached_ms.max(Some(chunk.last_ms));
        if !overlaps_before && !overlaps_next && (is_alone || chunk.n_samples >= ENOUGH_SAMPLES) {
            flush(&mut pending, merged);
            merged.chunks.extend_from_slice(chunk.bytes);
            merged.n_samples += chunk.n_samples as u64;
        } else {
            if !overlaps_before && pending.time_ms.len() + chunk.n_samples > chunk::MAX_SAMPLES {
                flush(&mut pending, merged);
            }
            chunk.read_all(&mut pending)?;
        }
    }
    flush(&mut pending, merged);
    Ok(n_before as u64 - merged.n_samples)
}

/// Packs the samples that wait, each time once.
fn flush(pending: &mut Samples, merged: &mut MergedSamples) {
    let Samples { time_ms, value, start_ms } = std::mem::take(pending);
    if time_ms.is_empty() {
        return;
    }
    let samples = if time_ms.is_sorted_by(|a, b| a < b) {
        Samples { time_ms, value, start_ms }
    } else {
        let starts = start_ms.iter().copied().chain(std::iter::repeat(0));
        let mut samples: Vec<(i64, u64, i64)> = time_ms
            .iter()
            .zip(&value)
            .zip(starts)
            .map(|((time, value), start)| (*time, value.to_bits(), start))
            .collect();
        keep_greatest(&mut samples);
        samples_of(&samples)
    };
    merged.n_samples += samples.time_ms.len() as u64;
    chunk::write(&mut merged.chunks, &samples);
}
