//! Rows of files → series, each label set once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use model::series::{HistogramSample, Temporality};

use super::packed::{LOOSE_BYTES, PackedSeries};
use super::{Selection, Steps};
use crate::block::parquet::Invalid;
use crate::block::series::chunk::{self, Chunk};
use crate::block::series::{FileSeries, LabelSet};
use crate::{Error, Result};

/// What is looked at of series.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// The first instant, ms since the epoch.
    pub(super) first_ms: i64,
    /// The last.
    pub(super) last_ms: i64,
    /// Where samples are looked at, unless anywhere.
    pub(super) steps: Option<Steps>,
}

impl View {
    pub(super) fn of(selection: &Selection) -> Self {
        Self {
            first_ms: selection.start_ms_exclusive.saturating_add(1),
            last_ms: selection.end_ms,
            steps: selection.steps,
        }
    }

    pub(super) fn has(&self, time_ms: i64) -> bool {
        (self.first_ms..=self.last_ms).contains(&time_ms)
    }

    pub(super) fn meets(&self, chunk: &Chunk<'_>) -> bool {
        chunk.first_ms <= self.last_ms && chunk.last_ms >= self.first_ms
    }

    /// About how many samples of a chunk are looked at.
    fn n_expected_of(&self, chunk: &Chunk<'_>) -> usize {
        if !self.meets(chunk) {
            return 0;
        }
        let length_ms = |first_ms: i64, last_ms: i64| last_ms.saturating_sub(first_ms) as f64 + 1.0;
        let seen_ms = length_ms(chunk.first_ms.max(self.first_ms), chunk.last_ms.min(self.last_ms));
        let share = seen_ms / length_ms(chunk.first_ms, chunk.last_ms);
        let n_within = (chunk.n_samples as f64 * share) as usize + 1;
        match self.steps {
            Some(steps) => n_within.min((seen_ms / steps.step_ms as f64) as usize + 2),
            None => n_within,
        }
    }
}

/// Texts of labels, each once.
#[derive(Default)]
pub(super) struct Texts(HashMap<Box<str>, Arc<str>>);

impl Texts {
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(text.into(), Arc::clone(&shared));
        shared
    }
}

const UNPLACED: u32 = u32::MAX;

/// The series of one selection, joined over files.
pub(super) struct Joined {
    view: View,
    places: HashTable<(u128, u32)>,
    /// By block of label sets and row the series, [`UNPLACED`] if that was not looked for yet: blocks repeat.
    placed: Vec<Vec<u32>>,
    series: Vec<PackedSeries>,
    texts: Texts,
    /// Samples of a chunk that are taken out of it.
    time_ms: Vec<i64>,
    value: Vec<f64>,
}

impl Joined {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            places: HashTable::new(),
            placed: Vec::new(),
            series: Vec::new(),
            texts: Texts::default(),
            time_ms: Vec::new(),
            value: Vec::new(),
        }
    }

    pub(super) fn n_series(&self) -> usize {
        self.series.len()
    }

    pub(super) fn has_delta(&self) -> bool {
        self.series.iter().any(|series| series.temporality == Temporality::Delta)
    }

    /// Takes what a row has in the view, and returns how many samples that holds, packed ones by their bytes.
    ///
    /// # Errors
    /// A chunk is corrupt.
    pub(super) fn add(&mut self, file: &FileSeries, row: usize) -> Result<u64> {
        let added = self.try_add(file, row);
        let labels = || file.sets.labels(&file.sets.rows[row]);
        added.map_err(|err| Error::corrupt(format!("samples of {:?}", labels()), err))
    }

    fn try_add(&mut self, file: &FileSeries, row: usize) -> Result<u64, Invalid> {
        let view = self.view;
        let samples = file.rows[row].samples.clone();
        let times = &file.time_ms[samples.clone()];
        let start = samples.start + times.partition_point(|&time_ms| time_ms < view.first_ms);
        let end = samples.start + times.partition_point(|&time_ms| time_ms <= view.last_ms);
        let is_within = |sample: &&HistogramSample| view.has(sample.time_ms);
        let histograms = file.histograms(row);
        let (chunks, packed_histograms) = (file.chunks(row), file.packed_histograms(row));
        let mut n_expected = 0;
        for chunk in chunk::chunks(&chunks) {
            n_expected += view.n_expected_of(&chunk?);
        }
        let is_met = start < end
            || n_expected > 0
            || !packed_histograms.is_empty()
            || histograms.iter().any(|sample| is_within(&sample));
        if !is_met {
            return Ok(0);
        }
        let number = self.series_of(file, row, file.rows[row].temporality);
        let series = &mut self.series[number];
        let n_before = series.n_loose();
        for (&time_ms, &value) in file.time_ms[start..end].iter().zip(&file.value[start..end]) {
            series.push(time_ms, value);
        }
        series.histograms.extend(histograms.iter().filter(is_within).cloned());
        let mut n_packed_bytes = packed_histograms.len();
        if !packed_histograms.is_empty() {
            series.packed_histograms.push(packed_histograms);
        }
        // As a whole, unless what is looked at takes less room.
        if n_expected > 0 && n_expected * LOOSE_BYTES < chunks.len() {
            self.take_out(&chunks, number)?;
        } else if n_expected > 0 {
            n_packed_bytes += chunks.len();
            series.chunks.push(chunks);
        }
        let n_loose = self.series[number].n_loose() - n_before;
        Ok((n_loose + n_packed_bytes.div_ceil(LOOSE_BYTES)) as u64)
    }

    /// Gives a series the samples of chunks that are looked at.
    fn take_out(&mut self, chunks: &Bytes, number: usize) -> Result<(), Invalid> {
        let (view, series) = (self.view, &mut self.series[number]);
        for chunk in chunk::chunks(chunks) {
            let chunk = chunk?;
            if !view.meets(&chunk) {
                continue;
            }
            self.time_ms.clear();
            self.value.clear();
            chunk.read(&mut self.time_ms, &mut self.value)?;
            // Every delta counts, whether a step sees it or not.
            if let Some(steps) = view.steps.filter(|_| series.temporality == Temporality::Cumulative) {
                steps.thin(&mut self.time_ms, &mut self.value);
            }
            for (&time_ms, &value) in self.time_ms.iter().zip(&self.value) {
                if view.has(time_ms) {
                    series.push(time_ms, value);
                }
            }
        }
        Ok(())
    }

    /// Where the series of a row is.
    fn series_of(&mut self, file: &FileSeries, row: usize, temporality: Temporality) -> usize {
        let sets = &file.sets;
        let Some(number) = sets.number.filter(|_| temporality == Temporality::Cumulative) else {
            return self.place(file, &sets.rows[row], temporality);
        };
        if self.placed.len() <= number {
            self.placed.resize_with(number + 1, Vec::new);
        }
        if self.placed[number].is_empty() {
            self.placed[number].resize(sets.rows.len(), UNPLACED);
        }
        let known = self.placed[number][row];
        if known != UNPLACED {
            return known as usize;
        }
        let series = self.place(file, &sets.rows[row], temporality);
        self.placed[number][row] = series as u32;
        series
    }

    /// Where a series is, found by its labels. The two temporalities of one label set are two series until the end.
    fn place(&mut self, file: &FileSeries, set: &LabelSet, temporality: Temporality) -> usize {
        let hash = set.hash.wrapping_add(temporality as u128);
        if let Some((_, series)) = self.places.find(hash as u64, |(other, _)| *other == hash) {
            return *series as usize;
        }
        let texts = &mut self.texts;
        let series = self.series.len();
        let labels = file.sets.labels_with(set, &mut |text| texts.share(text));
        self.series.push(PackedSeries::new(labels, temporality));
        self.places.insert_unique(hash as u64, (hash, series as u32), |(hash, _)| *hash as u64);
        series
    }

    /// The series by labels.
    pub(super) fn finish(mut self) -> (View, Vec<PackedSeries>) {
        // Stable: of two temporalities of one label set the one that came first comes first.
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut series: Vec<PackedSeries> = Vec::with_capacity(self.series.len());
        for next in self.series {
            match series.last_mut() {
                Some(last) if last.labels == next.labels => last.later = Some(Box::new(next)),
                _ => series.push(next),
            }
        }
        (self.view, series)
    }
}
