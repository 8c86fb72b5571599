//! The label sets of a file's rows.
//!
//! Some senders repeat themselves: an SDK exports the same series in the same order each time, and the leading columns
//! of its files are the same to the byte. So a question decodes, tests and hashes each such block once, and knows it again
//! by its bytes. Others do not, such as Prometheus' queue; a question that sees only new blocks stops to remember them.

use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use model::dictionary::Dictionary;
use model::labels::{Label, METRIC_NAME};
use model::{Labels, Matcher};

use super::{LEAVES, column};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{Pages, Repetition};
use crate::block::parts::{ChunkTable, Parts};

/// The longest block that is remembered; longer ones, of merged files, come once.
const MAX_KNOWN_BYTES: u64 = 256 << 10;
/// How much is remembered for one question, in bytes of memory.
const MAX_ALL_KNOWN_BYTES: usize = 32 << 20;
/// So many new blocks are seen before it counts whether any came again.
const TRIAL_BLOCKS: usize = 128;

/// The label sets of the rows of a file that were wanted.
#[derive(Debug, Default)]
pub struct LabelSets {
    /// Numbers the blocks that one [`LabelReader`] remembers, from 0; `None` for one that comes once.
    pub number: Option<usize>,
    metrics: Dictionary,
    names: Dictionary,
    values: Dictionary,
    /// Name and value of each label, as positions.
    labels: Vec<(u32, u32)>,
    /// The wanted rows, in the order of the file.
    pub rows: Vec<LabelSet>,
    /// How many rows the file has.
    pub n_rows: usize,
}

/// The labels of a row.
#[derive(Debug)]
pub struct LabelSet {
    /// The row's place in the file.
    pub row: u32,
    metric: u32,
    labels: Range<u32>,
    /// Identifies the label set among all files that one [`LabelReader`] reads.
    pub hash: u128,
    /// By selector whether the row passes it, lowest bit first; the 64th and all later ones share a bit.
    pub selectors: u64,
}

impl LabelSets {
    fn memory_bytes(&self) -> usize {
        let texts =
            [&self.metrics, &self.names, &self.values].map(|texts| 8 * texts.len() + texts.text_bytes());
        size_of_val(&*self.labels) + size_of_val(&*self.rows) + texts.iter().sum::<usize>()
    }

    fn pairs(&self, set: &LabelSet) -> &[(u32, u32)] {
        &self.labels[set.labels.start as usize..set.labels.end as usize]
    }

    /// The labels of a row.
    pub fn labels(&self, set: &LabelSet) -> Labels {
        self.labels_with(set, &mut |text| text.into())
    }

    /// The labels of a row, their texts made by `share`, which may give out a text it made before.
    pub fn labels_with(&self, set: &LabelSet, share: &mut dyn FnMut(&str) -> Arc<str>) -> Labels {
        let metric = self.metrics.get(set.metric);
        let pairs = self.pairs(set);
        let mut labels = Vec::with_capacity(pairs.len() + 1);
        if !metric.is_empty() {
            labels.push(Label { name: share(METRIC_NAME), value: share(metric) });
        }
        for &(name, value) in pairs {
            labels.push(Label { name: share(self.names.get(name)), value: share(self.values.get(value)) });
        }
        Labels::from_labels(labels)
    }

    /// The metric of a row; `""` if it has none.
    pub fn metric(&self, set: &LabelSet) -> &str {
        self.metrics.get(set.metric)
    }

    /// The labels that a row has beside the metric's, ascending by name.
    pub fn pairs_of<'a>(&'a self, set: &LabelSet) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs(set).iter().map(|&(name, value)| (self.names.get(name), self.values.get(value)))
    }

    /// The names of the labels that a row has beside the metric's.
    pub fn label_names<'a>(&'a self, set: &LabelSet) -> impl Iterator<Item = &'a str> {
        self.pairs(set).iter().map(|&(name, _)| self.names.get(name))
    }

    /// The value of a label of a row; `""` if it has none.
    pub fn label(&self, set: &LabelSet, name: &str) -> &str {
        if name == METRIC_NAME {
            return self.metrics.get(set.metric);
        }
        let found = self.pairs(set).iter().find(|pair| self.names.get(pair.0) == name);
        found.map_or("", |pair| self.values.get(pair.1))
    }
}

/// Reads the label sets of files for one question.
#[derive(Debug, Default)]
pub struct LabelReader {
    /// A row is wanted if it passes every matcher of any of these; of none, every row is.
    selectors: Vec<Vec<Matcher>>,
    hasher: SeriesHasher,
    known: Mutex<Known>,
}

/// Blocks that were read before.
#[derive(Debug, Default)]
struct Known {
    by_hash: HashTable<(u64, Block)>,
    n_bytes: usize,
    n_new: usize,
    n_again: usize,
}

impl Known {
    /// Whether remembering pays: of the blocks seen, one in eight came again.
    fn pays(&self) -> bool {
        self.n_new < TRIAL_BLOCKS || self.n_again * 8 >= self.n_new
    }
}

#[derive(Debug)]
struct Block {
    chunks: [(u64, bool); 3],
    bytes: Box<[u8]>,
    sets: Arc<LabelSets>,
}

impl LabelReader {
    /// Reads rows that pass every matcher of any of `selectors`; all rows if there are none.
    pub fn new(selectors: Vec<Vec<Matcher>>) -> Self {
        Self { selectors, ..Self::default() }
    }

    /// The label sets of a file.
    pub(super) fn read(&self, table: &ChunkTable, parts: &Parts) -> Result<Arc<LabelSets>, Invalid> {
        let range = table.range(column::METRIC).start..table.range(column::LABEL_VALUE).end;
        if range.end - range.start > MAX_KNOWN_BYTES || !self.known().pays() {
            return self.decode(table, parts).map(Arc::new);
        }
        let bytes = parts.get(&range)?;
        let chunks = [column::METRIC, column::LABEL_NAME, column::LABEL_VALUE].map(|at| table.chunks[at]);
        let mut hasher = self.hasher.0.build_hasher();
        hasher.write(bytes);
        let hash = hasher.finish();
        let is_it = |(other, block): &(u64, Block)| {
            *other == hash && block.chunks == chunks && *block.bytes == *bytes
        };
        {
            let mut known = self.known();
            if let Some((_, block)) = known.by_hash.find(hash, is_it) {
                let sets = Arc::clone(&block.sets);
                known.n_again += 1;
                return Ok(sets);
            }
        }
        // Not under the lock: others go on meanwhile, and it does no harm if two do the same.
        let mut sets = self.decode(table, parts)?;
        let mut known = self.known();
        known.n_new += 1;
        let n_bytes = bytes.len() + sets.memory_bytes();
        if !known.pays() {
            known.by_hash = HashTable::new();
        } else if known.n_bytes + n_bytes <= MAX_ALL_KNOWN_BYTES {
            sets.number = Some(known.by_hash.len());
            let sets = Arc::new(sets);
            known.n_bytes += n_bytes;
            let block = Block { chunks, bytes: bytes.into(), sets: Arc::clone(&sets) };
            known.by_hash.insert_unique(hash, (hash, block), |(hash, _)| *hash);
            return Ok(sets);
        }
        Ok(Arc::new(sets))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode(&self, table: &ChunkTable, parts: &Parts) -> Result<LabelSets, Invalid> {
        let read = |column: usize, repetition: Repetition| -> Result<Pages, Invalid> {
            let leaf = &LEAVES[column];
            let chunk = table.open(parts, column)?;
            chunk.pages(leaf.max_repetition, leaf.max_definition, repetition)
        };
        let mut sets = LabelSets::default();
        let metrics;
        (sets.metrics, metrics) = read(column::METRIC, Repetition::Read)?.strings()?;
        sets.n_rows = metrics.len();
        let metric_passes = MetricMatches::new(&self.selectors, &sets.metrics);
        if metric_passes.is_empty() {
            return Ok(sets);
        }
        let names = read(column::LABEL_NAME, Repetition::Ends)?;
        let values = read(column::LABEL_VALUE, Repetition::Values)?;
        let label_ends = &names.ends;
        let n_labels = names.n_values();
        if label_ends.len() != sets.n_rows
            || values.n_values() != n_labels
            || label_ends.last().map_or(0, |&end| end as usize) != n_labels
        {
            return Err(Invalid("labels differ in number"));
        }
        let (name_at, value_at);
        (sets.names, name_at) = names.strings_lazily()?;
        (sets.values, value_at) = values.strings_lazily()?;
        let mut hashes = Hashes::new(&self.hasher, &sets);
        let mut label_passes = LabelMatches::new(&self.selectors, &sets.names, &sets.values);
        for (at, &metric) in metrics.iter().enumerate() {
            let candidates = metric_passes.selectors(metric);
            if candidates == 0 {
                continue;
            }
            // Appended for now: a row that is not wanted takes them away again.
            let start = sets.labels.len();
            let first = if at == 0 { 0 } else { label_ends[at - 1] as usize };
            for entry in first..label_ends[at] as usize {
                sets.labels.push((name_at.get(entry)?, value_at.get(entry)?));
            }
            let labels = start as u32..sets.labels.len() as u32;
            let pairs = &sets.labels[start..];
            let selectors = label_passes.selectors(candidates, pairs);
            if selectors == 0 {
                sets.labels.truncate(start);
                continue;
            }
            let hash = hashes.of(metric, pairs, (&sets.metrics, &sets.names, &sets.values));
            sets.rows.push(LabelSet { row: at as u32, metric, labels, hash, selectors });
        }
        Ok(sets)
    }
}

/// Hashes label sets, the same way for all files of a question. Seeded at random, because senders choose the labels; 128
/// bits, so that two sets are taken for one less often than the disk errs.
#[derive(Debug, Clone, Default)]
struct SeriesHasher(RandomState, RandomState);

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

/// Hashes of the texts of a file, each computed once and only where it is needed.
struct Hashes<'a> {
    hasher: &'a SeriesHasher,
    metric_name: [u64; 2],
    metrics: Vec<Option<u128>>,
    names: Vec<Option<[u64; 2]>>,
    /// By value the name with which it came last, and the hash of the two: most values have one name.
    pairs: Vec<(u32, u128)>,
}

impl<'a> Hashes<'a> {
    fn new(hasher: &'a SeriesHasher, sets: &LabelSets) -> Self {
        Self {
            hasher,
            metric_name: hasher.text(METRIC_NAME),
            metrics: vec![None; sets.metrics.len()],
            names: vec![None; sets.names.len()],
            pairs: vec![(u32::MAX, 0); sets.values.len()],
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
            let (known_name, hash) = &mut self.pairs[value as usize];
            if *known_name != name {
                let of_name = *self.names[name as usize].get_or_insert_with(|| hasher.text(names.get(name)));
                (*known_name, *hash) = (name, SeriesHasher::pair(of_name, hasher.text(values.get(value))));
            }
            sum = sum.wrapping_add(*hash);
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
