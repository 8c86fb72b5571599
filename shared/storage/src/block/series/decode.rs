//! File → rows.

use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;

use foldhash::quality::RandomState;
use model::dictionary::Dictionary;
use model::labels::METRIC_NAME;
use model::series::{Exemplar, HistogramSample, Temporality};
use model::{Labels, Matcher};

use super::{LEAVES, column, exemplars, histograms};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{ChunkReader, Pages, Repetition};
use crate::block::parts::{ChunkTable, Parts, Projection};

/// What is wanted of a file.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The columns; those of the labels are always read.
    pub projection: Projection,
    /// Sets of matchers: a row is wanted if it passes every matcher of any set; of no sets, every row is.
    pub selectors: &'a [Vec<Matcher>],
}

impl Wanted<'_> {
    /// Every row, whole.
    pub const ALL: Self = Self { projection: Projection::ALL, selectors: &[] };
}

/// Rows of a file.
#[derive(Debug, Default)]
pub struct FileSeries {
    metrics: Dictionary,
    names: Dictionary,
    values: Dictionary,
    /// The rows that were wanted.
    pub rows: Vec<Row>,
    /// Name and value of each label, as positions.
    labels: Vec<(u32, u32)>,
    /// Of all rows of the file, wanted or not: ms since the epoch.
    pub time_ms: Vec<i64>,
    /// Values, likewise.
    pub value: Vec<f64>,
    /// Starts, likewise; empty if they were not read or none is said, else 0 where it is not.
    pub start_ms: Vec<i64>,
}

/// A row of a file.
#[derive(Debug)]
pub struct Row {
    metric: u32,
    labels: Range<u32>,
    /// Its samples in the file's columns; empty if those were not read.
    pub samples: Range<usize>,
    /// How they relate to each other.
    pub temporality: Temporality,
    /// Identifies the label set among files that were read with one [`SeriesHasher`].
    pub hash: u128,
    /// By selector whether the row passes it, lowest bit first; the 64th and all later ones share a bit.
    pub selectors: u64,
    /// Its histograms.
    pub histograms: Vec<HistogramSample>,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// Hashes label sets, the same way for all files of a query. Seeded at random, because senders choose the labels; 128
/// bits, so that two sets are taken for one less often than the disk errs.
#[derive(Debug, Clone, Default)]
pub struct SeriesHasher(RandomState, RandomState);

impl SeriesHasher {
    fn text(&self, text: &str) -> [u64; 2] {
        [&self.0, &self.1].map(|state| {
            let mut hasher = state.build_hasher();
            hasher.write(text.as_bytes());
            hasher.finish()
        })
    }

    /// Of one pair; a set's hash is the sum over its pairs, whose names differ.
    fn pair(name: [u64; 2], value: [u64; 2]) -> u128 {
        let lane = |at: usize| {
            let mixed = u128::from(name[at] ^ value[at].rotate_left(29)) * u128::from(value[at] | 1);
            (mixed as u64) ^ ((mixed >> 64) as u64) ^ name[at].rotate_left(17)
        };
        u128::from(lane(0)) << 64 | u128::from(lane(1))
    }
}

impl FileSeries {
    /// The labels of a row.
    pub fn labels(&self, row: &Row) -> Labels {
        self.labels_with(row, &mut |text| text.into())
    }

    /// The labels of a row, their texts made by `share`, which may give out a text it made before.
    pub fn labels_with(&self, row: &Row, share: &mut dyn FnMut(&str) -> std::sync::Arc<str>) -> Labels {
        let metric = self.metrics.get(row.metric);
        let mut labels = Vec::with_capacity(row.labels.len() + 1);
        if !metric.is_empty() {
            labels.push(model::labels::Label { name: share(METRIC_NAME), value: share(metric) });
        }
        for &(name, value) in &self.labels[row.labels.start as usize..row.labels.end as usize] {
            let (name, value) = (share(self.names.get(name)), share(self.values.get(value)));
            labels.push(model::labels::Label { name, value });
        }
        Labels::from_labels(labels)
    }

    /// The names of the labels that a row has beside the metric's.
    pub fn label_names<'a>(&'a self, row: &Row) -> impl Iterator<Item = &'a str> {
        let labels = &self.labels[row.labels.start as usize..row.labels.end as usize];
        labels.iter().map(|&(name, _)| self.names.get(name))
    }

    /// The value of a label of a row; `""` if it has none.
    pub fn label(&self, row: &Row, name: &str) -> &str {
        if name == METRIC_NAME {
            return self.metrics.get(row.metric);
        }
        let labels = &self.labels[row.labels.start as usize..row.labels.end as usize];
        let found = labels.iter().find(|pair| self.names.get(pair.0) == name);
        found.map_or("", |pair| self.values.get(pair.1))
    }
}

/// The wanted rows of a file with these chunks.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(
    table: &ChunkTable,
    parts: &Parts,
    wanted: Wanted<'_>,
    hasher: &SeriesHasher,
) -> Result<FileSeries, Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let read = |column: usize, repetition: Repetition| -> Result<Pages, Invalid> {
        let leaf = &LEAVES[column];
        let chunk = ChunkReader::open(parts.get(&table.range(column))?, table.chunks[column].1)?;
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition)
    };
    let mut file = FileSeries::default();
    let metrics;
    (file.metrics, metrics) = read(column::METRIC, Repetition::Read)?.strings()?;
    let n_rows = metrics.len();
    let metric_passes = MetricMatches::new(wanted.selectors, &file.metrics);
    if metric_passes.is_empty() {
        return Ok(file);
    }

    let names = read(column::LABEL_NAME, Repetition::Ends)?;
    let values = read(column::LABEL_VALUE, Repetition::Values)?;
    let label_ends = &names.ends;
    let n_labels = names.n_values();
    if label_ends.len() != n_rows
        || values.n_values() != n_labels
        || label_ends.last().map_or(0, |&end| end as usize) != n_labels
    {
        return Err(Invalid("labels differ in number"));
    }
    let (name_at, value_at);
    (file.names, name_at) = names.strings_lazily()?;
    (file.values, value_at) = values.strings_lazily()?;
    let mut hashes = Hashes::new(hasher, &file);
    let mut label_passes = LabelMatches::new(wanted.selectors, &file.names, &file.values);
    let mut row_of: Vec<u32> = Vec::new();
    for (at, &metric) in metrics.iter().enumerate() {
        let candidates = metric_passes.selectors(metric);
        if candidates == 0 {
            continue;
        }
        // Appended for now: a row that is not wanted takes them away again.
        let start = file.labels.len();
        let first = if at == 0 { 0 } else { label_ends[at - 1] as usize };
        for entry in first..label_ends[at] as usize {
            file.labels.push((name_at.get(entry)?, value_at.get(entry)?));
        }
        let labels = start as u32..file.labels.len() as u32;
        let pairs = &file.labels[start..];
        let selectors = label_passes.selectors(candidates, pairs);
        if selectors == 0 {
            file.labels.truncate(start);
        } else {
            row_of.push(at as u32);
            file.rows.push(Row {
                metric,
                hash: hashes.of(metric, pairs, (&file.metrics, &file.names, &file.values)),
                labels,
                samples: 0..0,
                temporality: Temporality::Cumulative,
                selectors,
                histograms: Vec::new(),
                exemplars: Vec::new(),
            });
        }
    }
    if file.rows.is_empty() {
        return Ok(file);
    }
    read_samples(&mut file, &read, wanted.projection, &row_of, n_rows)?;
    if wanted.projection.has(column::TEMPORALITY) {
        let temporality = read(column::TEMPORALITY, Repetition::Read)?.i32s()?;
        for (row, &at) in file.rows.iter_mut().zip(&row_of) {
            row.temporality = match temporality.get(at as usize) {
                Some(0) => Temporality::Cumulative,
                Some(1) => Temporality::Delta,
                _ => return Err(Invalid("series has no known temporality")),
            };
        }
    }
    if wanted.projection.has(column::HISTOGRAMS) {
        let pages = read(column::HISTOGRAMS, Repetition::Read)?;
        each_blob(&pages, n_rows, &row_of, |row, blob| {
            file.rows[row].histograms = histograms::decode(blob)?;
            Ok(())
        })?;
    }
    if wanted.projection.has(column::EXEMPLARS) {
        let pages = read(column::EXEMPLARS, Repetition::Read)?;
        each_blob(&pages, n_rows, &row_of, |row, blob| {
            file.rows[row].exemplars = exemplars::decode(blob)?;
            Ok(())
        })?;
    }
    Ok(file)
}

type ReadColumn<'a> = dyn Fn(usize, Repetition) -> Result<Pages, Invalid> + 'a;

fn read_samples(
    file: &mut FileSeries,
    read: &ReadColumn<'_>,
    projection: Projection,
    row_of: &[u32],
    n_rows: usize,
) -> Result<(), Invalid> {
    if !projection.has(column::SAMPLE_TIME) {
        return Ok(());
    }
    let pages = read(column::SAMPLE_TIME, Repetition::Ends)?;
    let sample_ends = &pages.ends;
    if sample_ends.len() != n_rows {
        return Err(Invalid("lists differ in number from rows"));
    }
    file.time_ms = pages.i64s()?;
    let n_samples = sample_ends.last().map_or(0, |&end| end as usize);
    if file.time_ms.len() != n_samples {
        return Err(Invalid("samples differ in number"));
    }
    for (row, &at) in file.rows.iter_mut().zip(row_of) {
        let at = at as usize;
        row.samples = if at == 0 { 0 } else { sample_ends[at - 1] as usize }..sample_ends[at] as usize;
    }
    if projection.has(column::SAMPLE_VALUE) {
        file.value = read(column::SAMPLE_VALUE, Repetition::Values)?.doubles()?;
        if file.value.len() != n_samples {
            return Err(Invalid("samples differ in number"));
        }
    }
    if projection.has(column::SAMPLE_START) {
        let pages = read(column::SAMPLE_START, Repetition::Skip)?;
        if pages.n_values() > 0 {
            let mut starts = pages.i64s()?.into_iter();
            for &level in pages.definition.iter().filter(|&&level| level > 0) {
                let start = if level == 2 { starts.next() } else { Some(0) };
                file.start_ms.push(start.ok_or(Invalid("column has too few values"))?);
            }
            if file.start_ms.len() != n_samples {
                return Err(Invalid("samples differ in number"));
            }
        }
    }
    Ok(())
}

/// Hands the bytes of each wanted row that has some to `take`, with the row's place among the wanted ones.
fn each_blob(
    pages: &Pages,
    n_rows: usize,
    row_of: &[u32],
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    if pages.definition.len() != n_rows {
        return Err(Invalid("columns differ in length"));
    }
    if pages.n_values() == 0 {
        return Ok(());
    }
    let mut blobs = pages.blobs()?.into_iter();
    let mut wanted = row_of.iter().enumerate().peekable();
    for (at, &level) in pages.definition.iter().enumerate() {
        let blob = if level == 1 { blobs.next() } else { None };
        if let Some((row, _)) = wanted.next_if(|(_, row)| **row as usize == at)
            && let Some(blob) = blob
        {
            take(row, blob)?;
        }
    }
    Ok(())
}

/// Hashes of the texts of a file, each computed once and only where it is needed.
struct Hashes<'a> {
    hasher: &'a SeriesHasher,
    metric_name: [u64; 2],
    metrics: Vec<Option<u128>>,
    names: Vec<Option<[u64; 2]>>,
    values: Vec<Option<[u64; 2]>>,
}

impl<'a> Hashes<'a> {
    fn new(hasher: &'a SeriesHasher, file: &FileSeries) -> Self {
        Self {
            hasher,
            metric_name: hasher.text(METRIC_NAME),
            metrics: vec![None; file.metrics.len()],
            names: vec![None; file.names.len()],
            values: vec![None; file.values.len()],
        }
    }

    fn of(
        &mut self,
        metric: u32,
        labels: &[(u32, u32)],
        texts: (&Dictionary, &Dictionary, &Dictionary),
    ) -> u128 {
        let (metrics, names, values) = texts;
        let hasher = self.hasher;
        let mut sum = *self.metrics[metric as usize].get_or_insert_with(|| match metrics.get(metric) {
            "" => 0,
            name => SeriesHasher::pair(self.metric_name, hasher.text(name)),
        });
        for &(name, value) in labels {
            let name = *self.names[name as usize].get_or_insert_with(|| hasher.text(names.get(name)));
            let value = *self.values[value as usize].get_or_insert_with(|| hasher.text(values.get(value)));
            sum = sum.wrapping_add(SeriesHasher::pair(name, value));
        }
        sum
    }
}

/// Bit of a selector among 64.
fn bit(selector: usize) -> u64 {
    1 << selector.min(63)
}

/// Which selectors the metrics of a file pass, as far as the metric tells.
struct MetricMatches(Vec<u64>);

impl MetricMatches {
    fn new(selectors: &[Vec<Matcher>], metrics: &Dictionary) -> Self {
        let of_metric = |metric: &str| {
            if selectors.is_empty() {
                return 1;
            }
            let passes = |matchers: &[Matcher]| {
                matchers
                    .iter()
                    .filter(|matcher| matcher.name() == METRIC_NAME)
                    .all(|matcher| matcher.matches(metric))
            };
            let passed = selectors.iter().enumerate().filter(|(_, matchers)| passes(matchers));
            passed.fold(0, |bits, (selector, _)| bits | bit(selector))
        };
        Self(metrics.iter().map(of_metric).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|&bits| bits == 0)
    }

    fn selectors(&self, metric: u32) -> u64 {
        self.0[metric as usize]
    }
}

/// Tests labels; what was found out of a value is remembered, since values repeat from row to row.
struct LabelMatches<'a> {
    /// Per selector its tests of other labels than the metric's.
    selectors: Vec<Vec<LabelTest<'a>>>,
    values: &'a Dictionary,
}

struct LabelTest<'a> {
    matcher: &'a Matcher,
    /// Position of its label; `None` if no row has it.
    name: Option<u32>,
    passes_absent: bool,
    /// Per value 0 for not known, 1 for no, 2 for yes.
    known: Vec<u8>,
}

impl<'a> LabelMatches<'a> {
    fn new(selectors: &'a [Vec<Matcher>], names: &Dictionary, values: &'a Dictionary) -> Self {
        let test = |matcher: &'a Matcher| LabelTest {
            matcher,
            name: names.find(matcher.name()),
            passes_absent: matcher.matches_empty(),
            known: vec![0; values.len()],
        };
        let tests = |matchers: &'a Vec<Matcher>| {
            matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME).map(test).collect()
        };
        Self { selectors: selectors.iter().map(tests).collect(), values }
    }

    /// Those of `candidates` whose tests these labels pass.
    fn selectors(&mut self, candidates: u64, labels: &[(u32, u32)]) -> u64 {
        if self.selectors.is_empty() {
            return candidates;
        }
        let mut passed = 0;
        for (selector, tests) in self.selectors.iter_mut().enumerate() {
            let passes = candidates & bit(selector) != 0
                && tests.iter_mut().all(|test| test.passes(labels, self.values));
            if passes {
                passed |= bit(selector);
            }
        }
        passed
    }
}

impl LabelTest<'_> {
    fn passes(&mut self, labels: &[(u32, u32)], values: &Dictionary) -> bool {
        let found = self.name.and_then(|name| labels.iter().find(|pair| pair.0 == name));
        let Some(&(_, value)) = found else { return self.passes_absent };
        let known = &mut self.known[value as usize];
        if *known == 0 {
            *known = 1 + u8::from(self.matcher.matches(values.get(value)));
        }
        *known == 2
    }
}
