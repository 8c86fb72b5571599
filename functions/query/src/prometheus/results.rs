//! Results of range queries that are kept, in blocks of steps.
//!
//! A block is some steps of one query, at fixed places, with a hash of the set of files that it was computed from. Files
//! never change: where the set is the same, so is the result. What arrives late, is merged or removed changes the set, and
//! the block is computed anew.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use promql::Points;

use crate::kept::Kept;

/// Queries that are remembered to be evaluated as a whole.
const MAX_WHOLE: usize = 256;
/// What a block and each of its series need beside their points and labels.
const ENTRY_BYTES: usize = 200;
/// What a label needs: its texts are shared.
const LABEL_BYTES: usize = 48;
/// What a point needs, and a histogram beside its buckets.
const POINT_BYTES: usize = 16;
const HISTOGRAM_BYTES: usize = 200;

/// Results of range queries, shared by all requests of a process.
pub struct Results {
    /// By query and number.
    blocks: Kept<QueryKey, i64, Arc<Block>>,
    /// Queries that must be evaluated as a whole.
    whole: Mutex<HashSet<Arc<QueryKey>>>,
    cached_steps: AtomicU64,
    evaluated_steps: AtomicU64,
}

/// What became of the steps of range queries so far, and what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps that were answered by what was kept.
    pub cached_steps: u64,
    /// Steps that were evaluated, of queries that are long enough to be kept.
    pub evaluated_steps: u64,
    /// Bytes that are kept, about.
    pub bytes: u64,
    /// Blocks that there was no room for any more.
    pub evictions: u64,
}

/// What all blocks of a query have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct QueryKey {
    pub(super) tenant: String,
    pub(super) query: String,
    pub(super) step_ms: i64,
    /// The first step that is not before 0.
    pub(super) phase_ms: i64,
    pub(super) lookback_ms: i64,
}

/// What a block of steps gave.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// The set of files.
    pub(super) files: [u8; 32],
    /// By labels.
    pub(super) series: Vec<Points>,
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

impl Results {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            blocks: Kept::new(bytes),
            whole: Mutex::default(),
            cached_steps: AtomicU64::new(0),
            evaluated_steps: AtomicU64::new(0),
        }
    }

    /// Keeps up to about `bytes`; of 0 bytes nothing, and so nothing is looked for.
    pub fn of(bytes: u64) -> Option<Arc<Self>> {
        (bytes > 0).then(|| Arc::new(Self::new(bytes)))
    }

    /// What became of steps so far, and what is kept.
    pub fn counts(&self) -> Counts {
        let kept = self.blocks.counts();
        Counts {
            cached_steps: self.cached_steps.load(Relaxed),
            evaluated_steps: self.evaluated_steps.load(Relaxed),
            bytes: kept.bytes,
            evictions: kept.evictions,
        }
    }

    pub(super) fn count_steps(&self, n_cached: u64, n_evaluated: u64) {
        self.cached_steps.fetch_add(n_cached, Relaxed);
        self.evaluated_steps.fetch_add(n_evaluated, Relaxed);
    }

    /// Whether parts of a query did not tell its answer.
    pub(super) fn is_whole(&self, query: &Arc<QueryKey>) -> bool {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).contains(query)
    }

    /// Remembers that parts of a query do not tell its answer, so that they are not looked for again; for a while, because
    /// what is stored may become other.
    pub(super) fn note_whole(&self, query: &Arc<QueryKey>) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.len() >= MAX_WHOLE {
            whole.clear();
        }
        whole.insert(Arc::clone(query));
    }

    /// The block of this number, if it was computed from this set of files.
    pub(super) fn get(&self, query: &Arc<QueryKey>, number: i64, files: &[u8; 32]) -> Option<Arc<Block>> {
        self.blocks.get(query, &number, |block| block.files == *files)
    }

    /// Keeps a block, unless it is too large.
    pub(super) fn put(&self, query: &Arc<QueryKey>, number: i64, block: Block) {
        let bytes = bytes_of(query, &block);
        self.blocks.put(query, number, Arc::new(block), bytes);
    }
}

fn bytes_of(query: &QueryKey, block: &Block) -> u64 {
    let mut bytes = ENTRY_BYTES + query.tenant.len() + query.query.len();
    bytes += block.warnings.iter().chain(&block.infos).map(String::len).sum::<usize>();
    for series in &block.series {
        bytes += ENTRY_BYTES + series.labels.iter().count() * LABEL_BYTES;
        bytes += series.floats.len() * POINT_BYTES;
        for (_, histogram) in &series.histograms {
            let buckets = histogram.positive.counts.len() + histogram.negative.counts.len();
            bytes += HISTOGRAM_BYTES + (buckets + histogram.custom_bounds.len()) * POINT_BYTES;
        }
    }
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Arc<QueryKey> {
        let (tenant, query) = ("default".to_owned(), text.to_owned());
        Arc::new(QueryKey { tenant, query, step_ms: 1000, phase_ms: 0, lookback_ms: 1 })
    }

    fn block(files: u8, n_points: usize) -> Block {
        let floats = vec![(0, 1.0); n_points];
        let series = vec![Points { floats, ..Points::default() }];
        Block { files: [files; 32], series, warnings: Vec::new(), infos: Vec::new() }
    }

    #[test]
    fn a_block_is_found_by_query_number_and_files() {
        let results = Results::new(1 << 20);
        results.put(&query("x"), 5, block(1, 10));
        let is_there =
            |text: &str, number: i64, files: u8| results.get(&query(text), number, &[files; 32]).is_some();
        assert!(is_there("x", 5, 1));
        assert!(!is_there("y", 5, 1) && !is_there("x", 6, 1));
        let other_tenant = QueryKey { tenant: "other".to_owned(), ..(*query("x")).clone() };
        assert!(results.get(&Arc::new(other_tenant), 5, &[1; 32]).is_none());
        assert!(!is_there("x", 5, 2), "of other files");
        assert!(!is_there("x", 5, 1), "what is outdated is not kept");
        assert_eq!(results.counts().bytes, 0);
    }

    #[test]
    fn what_was_used_least_lately_goes_first() {
        let results = Results::new(20_000);
        for number in 0..100 {
            results.put(&query("x"), number, block(1, 100));
            assert!(results.get(&query("x"), 0, &[1; 32]).is_some(), "used each time");
            assert!(results.counts().bytes <= 20_000);
        }
        let kept: Vec<i64> =
            (0..100).filter(|&number| results.get(&query("x"), number, &[1; 32]).is_some()).collect();
        assert_eq!(kept.first(), Some(&0));
        assert_eq!(kept[1..], (101 - kept.len() as i64..100).collect::<Vec<_>>());
        assert_eq!(results.counts().evictions, 100 - kept.len() as u64);
        results.put(&query("y"), 0, block(1, 1000));
        assert!(results.get(&query("y"), 0, &[1; 32]).is_none(), "too large");
    }

    #[test]
    fn queries_without_parts_are_remembered_within_bounds() {
        let results = Results::new(1000);
        for i in 0..2 * MAX_WHOLE {
            results.note_whole(&query(&i.to_string()));
            assert!(results.is_whole(&query(&i.to_string())));
        }
        assert!(results.whole.lock().expect("a lock").len() <= MAX_WHOLE);
        assert!(!results.is_whole(&query("other")));
    }

    #[test]
    fn a_block_takes_the_place_of_an_older_one() {
        let results = Results::new(20_000);
        results.put(&query("x"), 0, block(1, 10));
        results.put(&query("x"), 0, block(2, 10));
        let bytes = results.counts().bytes;
        assert_eq!(*results.get(&query("x"), 0, &[2; 32]).expect("kept"), block(2, 10));
        results.put(&query("x"), 0, block(2, 10));
        assert_eq!(results.counts().bytes, bytes);
    }
}
