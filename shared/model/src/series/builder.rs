//! Labels and samples in any order → a batch.

use std::hash::{BuildHasher as _, Hasher as _};
use std::str::Utf8Error;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{Exemplar, HistogramSample, Metadata, SeriesBatch, Temporality};
use crate::dictionary::Dictionary;

/// Why labels are no identity of a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// A label without a name.
    #[error("a label has no name")]
    NoName,
    /// Two labels of one name.
    #[error("label {name:?} occurs twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// No label at all, or none with a value.
    #[error("a series has no labels")]
    None,
    /// Bytes that are no text.
    #[error("a label is not UTF-8")]
    NotUtf8(#[from] Utf8Error),
}

/// Collects series: first the labels of one, [`SeriesBuilder::close_labels`], then its samples by the number that gives.
/// A label set that comes again gets the same number.
#[derive(Debug, Default)]
pub struct SeriesBuilder {
    symbols: Dictionary,
    /// Label pairs of the series so far, sorted by name, and their ends.
    labels: Vec<(u32, u32)>,
    label_ends: Vec<u32>,
    temporality: Vec<Temporality>,
    /// Hash and number of each series.
    places: HashTable<(u64, u32)>,
    hasher: RandomState,
    /// Labels of the series that is being read, in the order in which they came.
    open: Vec<(u32, u32)>,
    /// The same of the series before: senders order their series, so most of the labels are those.
    previous: Vec<(u32, u32)>,
    sample_series: Vec<u32>,
    time_ms: Vec<i64>,
    value: Vec<f64>,
    start_ms: Vec<i64>,
    has_starts: bool,
    histograms: Vec<(u32, HistogramSample)>,
    exemplars: Vec<(u32, Exemplar)>,
    metadata: Vec<Metadata>,
}

impl SeriesBuilder {
    /// How many series there are.
    pub fn n_series(&self) -> usize {
        self.label_ends.len()
    }

    /// How many samples there are, histograms included.
    pub fn n_samples(&self) -> usize {
        self.time_ms.len() + self.histograms.len()
    }

    /// Makes a text known, for labels that are given by position.
    pub fn symbol(&mut self, text: &str) -> u32 {
        self.symbols.intern(text)
    }

    /// Appends a label to the open series.
    pub fn label(&mut self, name: &str, value: &str) {
        let pair = (self.symbols.intern(name), self.symbols.intern(value));
        self.open.push(pair);
    }

    /// Appends a label to the open series, by the positions that [`SeriesBuilder::symbol`] gave.
    pub fn label_at(&mut self, name: u32, value: u32) {
        self.open.push((name, value));
    }

    /// As [`SeriesBuilder::label_at`], for several labels.
    pub fn labels_at(&mut self, labels: &[(u32, u32)]) {
        self.open.extend_from_slice(labels);
    }

    /// Appends a label to the open series.
    ///
    /// # Errors
    /// The bytes are not UTF-8; the series should then be abandoned.
    pub fn label_utf8(&mut self, name: &[u8], value: &[u8]) -> Result<(), Utf8Error> {
        let before = self.previous.get(self.open.len()).copied();
        let known =
            |position: Option<u32>, text: &[u8]| position.filter(|&position| self.symbols.is(position, text));
        let (known_name, known_value) =
            (known(before.map(|pair| pair.0), name), known(before.map(|pair| pair.1), value));
        let name = known_name.map_or_else(|| self.symbols.intern_utf8(name), Ok)?;
        let value = known_value.map_or_else(|| self.symbols.intern_utf8(value), Ok)?;
        self.open.push((name, value));
        Ok(())
    }

    /// Forgets the labels of the open series.
    pub fn abandon_labels(&mut self) {
        self.open.clear();
    }

    /// The number of the series with the labels that were appended since the last one. Empty values are left out.
    ///
    /// # Errors
    /// The labels are no identity; they are forgotten.
    pub fn close_labels(&mut self, temporality: Temporality) -> Result<u32, BadLabels> {
        std::mem::swap(&mut self.open, &mut self.previous);
        self.open.clear();
        let start = self.labels.len();
        let symbols = &self.symbols;
        self.labels.extend(self.previous.iter().filter(|pair| !symbols.get(pair.1).is_empty()));
        let labels = &mut self.labels[start..];
        let is_sorted = labels.windows(2).all(|pair| symbols.get(pair[0].0) < symbols.get(pair[1].0));
        if !is_sorted {
            labels.sort_by(|a, b| symbols.get(a.0).cmp(symbols.get(b.0)));
        }
        let bad = if labels.is_empty() {
            Some(BadLabels::None)
        } else if symbols.get(labels[0].0).is_empty() {
            Some(BadLabels::NoName)
        } else if is_sorted {
            None
        } else {
            let twice = labels.windows(2).find(|pair| pair[0].0 == pair[1].0);
            twice.map(|pair| BadLabels::Twice { name: symbols.get(pair[0].0).to_owned() })
        };
        if let Some(bad) = bad {
            self.labels.truncate(start);
            return Err(bad);
        }
        Ok(self.place(start, temporality))
    }

    /// As [`SeriesBuilder::close_labels`], for labels that were appended ascending by name, each name once, none empty.
    pub fn close_sorted_labels(&mut self, temporality: Temporality) -> u32 {
        let start = self.labels.len();
        self.labels.append(&mut self.open);
        debug_assert!(
            self.labels[start..]
                .windows(2)
                .all(|pair| self.symbols.get(pair[0].0) < self.symbols.get(pair[1].0)),
            "invariant: the labels are sorted"
        );
        self.place(start, temporality)
    }

    /// The text of a symbol.
    pub fn text(&self, symbol: u32) -> &str {
        self.symbols.get(symbol)
    }

    /// The number of the series whose labels lie from `start` on; they are removed if it is known.
    fn place(&mut self, start: usize, temporality: Temporality) -> u32 {
        let new = &self.labels[start..];
        let mut hasher = self.hasher.build_hasher();
        for &(name, value) in new {
            hasher.write_u64(u64::from(name) << 32 | u64::from(value));
        }
        hasher.write_u8(temporality as u8);
        let hash = hasher.finish();
        let (labels, ends, temporalities) = (&self.labels, &self.label_ends, &self.temporality);
        let is_same = |&(other_hash, other): &(u64, u32)| {
            other_hash == hash
                && temporalities[other as usize] == temporality
                && labels[super::range_of(ends, other as usize)] == *new
        };
        if let Some(&(_, known)) = self.places.find(hash, is_same) {
            self.labels.truncate(start);
            return known;
        }
        let series = self.label_ends.len() as u32;
        self.label_ends.push(self.labels.len() as u32);
        self.temporality.push(temporality);
        self.places.insert_unique(hash, (hash, series), |&(hash, _)| hash);
        series
    }

    /// The metric's name of a series.
    pub fn metric_name(&self, series: u32) -> Option<&str> {
        let labels = &self.labels[super::range_of(&self.label_ends, series as usize)];
        let found = labels.iter().find(|pair| self.symbols.get(pair.0) == crate::labels::METRIC_NAME)?;
        Some(self.symbols.get(found.1))
    }

    /// Appends a sample; `start_ms` is 0 for "not said".
    pub fn sample(&mut self, series: u32, time_ms: i64, value: f64, start_ms: i64) {
        self.sample_series.push(series);
        self.time_ms.push(time_ms);
        self.value.push(value);
        self.start_ms.push(start_ms);
        self.has_starts |= start_ms != 0;
    }

    /// Appends a sample of a histogram.
    pub fn histogram(&mut self, series: u32, sample: HistogramSample) {
        self.histograms.push((series, sample));
    }

    /// Appends an exemplar.
    pub fn exemplar(&mut self, series: u32, exemplar: Exemplar) {
        self.exemplars.push((series, exemplar));
    }

    /// Appends what is said of a family, unless the very same was said.
    pub fn metadata(&mut self, metadata: Metadata) {
        if self.metadata.last() != Some(&metadata) {
            self.metadata.push(metadata);
        }
    }

    /// The batch: series in order of appearance, samples of each ascending by time, equal ones once.
    /// Series of which nothing came stay, without samples.
    pub fn finish(mut self) -> SeriesBatch {
        let n_series = self.n_series();
        let order = sample_order(&self.sample_series, &self.time_ms);
        let mut batch = SeriesBatch {
            symbols: self.symbols,
            labels: self.labels,
            label_ends: self.label_ends,
            temporality: self.temporality,
            ..SeriesBatch::default()
        };
        match order {
            None => {
                batch.sample_ends = ends_of(n_series, self.sample_series.iter().copied());
                (batch.time_ms, batch.value) = (self.time_ms, self.value);
                batch.start_ms = if self.has_starts { self.start_ms } else { Vec::new() };
            }
            Some(order) => {
                let mut series_of = Vec::with_capacity(order.len());
                let mut last: Option<usize> = None;
                for at in order {
                    let is_same = |other: usize| {
                        self.sample_series[other] == self.sample_series[at]
                            && self.time_ms[other] == self.time_ms[at]
                            && self.value[other].to_bits() == self.value[at].to_bits()
                            && self.start_ms[other] == self.start_ms[at]
                    };
                    if last.is_some_and(is_same) {
                        continue;
                    }
                    last = Some(at);
                    series_of.push(self.sample_series[at]);
                    batch.time_ms.push(self.time_ms[at]);
                    batch.value.push(self.value[at]);
                    if self.has_starts {
                        batch.start_ms.push(self.start_ms[at]);
                    }
                }
                batch.sample_ends = ends_of(n_series, series_of.iter().copied());
            }
        }
        self.histograms.sort_by_key(|(series, sample)| (*series, sample.time_ms));
        self.histograms.dedup();
        batch.histogram_ends = ends_of(n_series, self.histograms.iter().map(|(series, _)| *series));
        batch.histograms = self.histograms.into_iter().map(|(_, sample)| sample).collect();
        self.exemplars.sort_by_key(|(series, exemplar)| (*series, exemplar.time_ms));
        self.exemplars.dedup();
        batch.exemplar_ends = ends_of(n_series, self.exemplars.iter().map(|(series, _)| *series));
        batch.exemplars = self.exemplars.into_iter().map(|(_, exemplar)| exemplar).collect();
        batch.metadata = self.metadata;
        batch
    }
}

/// The order of the samples by series and time, those of one time as they came; `None` if they are in it, and all of
/// one series have times of their own.
fn sample_order(series: &[u32], time_ms: &[i64]) -> Option<Vec<usize>> {
    let key = |at: usize| (series[at], time_ms[at]);
    if (1..series.len()).all(|at| key(at - 1) < key(at)) {
        return None;
    }
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by_key(|&at| key(at));
    Some(order)
}

/// Per series the end of its entries, from the series of each entry in ascending order.
fn ends_of(n_series: usize, entries: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ends = vec![0; n_series];
    for series in entries {
        ends[series as usize] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(builder: &mut SeriesBuilder, labels: &[(&str, &str)]) -> Result<u32, BadLabels> {
        for (name, value) in labels {
            builder.label_utf8(name.as_bytes(), value.as_bytes()).expect("texts");
        }
        builder.close_labels(Temporality::Cumulative)
    }

    fn shown(batch: &SeriesBatch) -> Vec<String> {
        let text = |series: usize| -> String {
            let labels = batch.labels_of(series).iter();
            let labels: Vec<_> = labels
                .map(|pair| format!("{}={}", batch.symbols.get(pair.0), batch.symbols.get(pair.1)))
                .collect();
            let samples: Vec<_> = batch
                .samples_of(series)
                .map(|at| format!("{}@{}", batch.value[at], batch.time_ms[at]))
                .collect();
            format!("{} {}", labels.join(","), samples.join(" "))
        };
        (0..batch.n_series()).map(text).collect()
    }

    #[test]
    fn a_label_set_that_comes_again_is_the_same_series() {
        let mut builder = SeriesBuilder::default();
        let a = closed(&mut builder, &[("b", "2"), ("a", "1"), ("c", "")]).expect("labels");
        let b = closed(&mut builder, &[("a", "1"), ("b", "3")]).expect("labels");
        assert_eq!(closed(&mut builder, &[("a", "1"), ("b", "2")]), Ok(a));
        builder.sample(b, 5, 1.0, 0);
        builder.sample(a, 20, 4.0, 0);
        builder.sample(a, 10, 3.0, 0);
        builder.sample(a, 20, 4.0, 0);
        builder.sample(a, 20, 5.0, 0);
        let batch = builder.finish();
        assert_eq!(shown(&batch), ["a=1,b=2 3@10 4@20 5@20", "a=1,b=3 1@5"]);
        assert!(batch.start_ms.is_empty());
    }

    #[test]
    fn series_can_be_dropped_with_what_they_have() {
        let mut builder = SeriesBuilder::default();
        for name in ["a", "b", "c", "d"] {
            let series = closed(&mut builder, &[("n", name)]).expect("labels");
            if name == "d" {
                continue;
            }
            for at in 0..3 {
                builder.sample(series, at, f64::from(series), i64::from(name == "c"));
            }
            let exemplar = Exemplar { time_ms: 1, value: f64::from(series), labels: crate::Labels::empty() };
            builder.exemplar(series, exemplar);
        }
        let mut batch = builder.finish();
        assert_eq!(batch.retain(|_, _| true), 0);
        let is_wanted =
            |batch: &SeriesBatch, series: usize| batch.symbols.get(batch.labels_of(series)[0].1) != "b";
        assert_eq!(batch.retain(is_wanted), 4);
        assert_eq!(shown(&batch), ["n=a 0@0 0@1 0@2", "n=c 2@0 2@1 2@2", "n=d "]);
        assert_eq!(batch.start_ms, [0, 0, 0, 1, 1, 1]);
        assert_eq!(batch.exemplars_of(1)[0].value.to_bits(), 2_f64.to_bits());
        assert_eq!((batch.temporality.len(), batch.histogram_ends.len()), (3, 3));
    }

    #[test]
    fn labels_that_are_no_identity_are_refused() {
        let mut builder = SeriesBuilder::default();
        assert_eq!(closed(&mut builder, &[]), Err(BadLabels::None));
        assert_eq!(closed(&mut builder, &[("a", "")]), Err(BadLabels::None));
        assert_eq!(closed(&mut builder, &[("", "x")]), Err(BadLabels::NoName));
        let twice = Err(BadLabels::Twice { name: "a".to_owned() });
        assert_eq!(closed(&mut builder, &[("a", "1"), ("b", "1"), ("a", "2")]), twice);
        assert!(builder.label_utf8(b"a", b"\xff").is_err());
        builder.abandon_labels();
        assert_eq!(closed(&mut builder, &[("a", "1")]), Ok(0));
        assert_eq!(builder.n_series(), 1);
    }
}
