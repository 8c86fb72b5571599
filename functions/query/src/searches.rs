//! What searches for traces found in files, kept for the next ones.
//!
//! An entry is the newest traces of one file under some conditions, within as much of the range as the file reaches. Files
//! never change, so an entry is right for ever; what is merged or erased goes into other files, and the old entry is not asked
//! for any more. A search that is asked again, or whose range has moved on, reads the index and what is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::TenantId;
use model::search::{Condition, TraceSearch};
use storage::read::{FilePart, Hit, Matches};

use crate::kept::Kept;

/// What an entry needs beside its traces.
const ENTRY_BYTES: usize = 250;

/// What searches found in files, shared by all requests of a process.
pub struct Searches {
    files: Kept<SearchKey, FilePart, Matches>,
    n_hits: AtomicU64,
    n_misses: AtomicU64,
}

/// What was found of files so far, and what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files of which it was known what they have.
    pub hits: u64,
    /// Files of which it was not.
    pub misses: u64,
    /// Bytes that are kept, about.
    pub bytes: u64,
    /// Files for which there was no room any more.
    pub evictions: u64,
}

/// What all searches with the same entries have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SearchKey {
    tenant: TenantId,
    /// Sorted, each once: all must hold, in whatever order.
    conditions: Vec<Condition>,
}

impl SearchKey {
    pub(crate) fn of(tenant: &TenantId, search: &TraceSearch) -> Self {
        let mut conditions = search.conditions.clone();
        conditions.sort_unstable();
        conditions.dedup();
        Self { tenant: tenant.clone(), conditions }
    }
}

impl Searches {
    /// Keeps up to about `bytes`; of 0 bytes nothing, and so nothing is looked for.
    pub fn of(bytes: u64) -> Option<Arc<Self>> {
        let files = Kept::new(bytes);
        (bytes > 0).then(|| Arc::new(Self { files, n_hits: AtomicU64::new(0), n_misses: AtomicU64::new(0) }))
    }

    /// What was found so far, and what is kept.
    pub fn counts(&self) -> Counts {
        let kept = self.files.counts();
        Counts {
            hits: self.n_hits.load(Relaxed),
            misses: self.n_misses.load(Relaxed),
            bytes: kept.bytes,
            evictions: kept.evictions,
        }
    }

    pub(crate) fn get(&self, key: &Arc<SearchKey>, part: &FilePart, limit: usize) -> Option<Matches> {
        let found = self.files.get(key, part, |matches| matches.suffice(limit));
        let counter = if found.is_some() { &self.n_hits } else { &self.n_misses };
        counter.fetch_add(1, Relaxed);
        found
    }

    pub(crate) fn put(&self, key: &Arc<SearchKey>, part: &FilePart, matches: &Matches) {
        let bytes = ENTRY_BYTES + matches.hits.len() * size_of::<Hit>();
        self.files.put(key, *part, matches.clone(), bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use model::{ContentHash, TimeRange, TraceId};

    use super::*;

    fn key(tenant: &str, conditions: &[&str]) -> Arc<SearchKey> {
        let conditions = conditions.iter().map(|name| Condition::Name((*name).to_owned())).collect();
        let search = TraceSearch { range: TimeRange::ALL, conditions, limit: 5 };
        Arc::new(SearchKey::of(&tenant.parse().expect("a tenant"), &search))
    }

    fn part(content: u8) -> FilePart {
        FilePart { content: ContentHash([content; 16]), size: 1, range: TimeRange::ALL }
    }

    fn matches(n: u8, limit: usize) -> Matches {
        Matches::newest_of((0..n).map(|i| (TraceId([i; 16]), i64::from(i))), limit)
    }

    #[test]
    fn what_a_file_has_is_found_by_tenant_conditions_and_part() {
        let searches = Searches::of(1 << 20).expect("some bytes");
        searches.put(&key("a", &["x", "y"]), &part(1), &matches(3, 5));
        let is_there = |key: &Arc<SearchKey>, part: &FilePart| searches.get(key, part, 5).is_some();
        assert!(is_there(&key("a", &["x", "y"]), &part(1)));
        assert!(is_there(&key("a", &["y", "x", "y"]), &part(1)), "the order says nothing");
        assert!(!is_there(&key("b", &["x", "y"]), &part(1)));
        assert!(!is_there(&key("a", &["x"]), &part(1)));
        assert!(!is_there(&key("a", &["x", "y"]), &part(2)));
        let half = FilePart { range: TimeRange { start_ns: 0, end_ns_exclusive: 9 }, ..part(1) };
        assert!(!is_there(&key("a", &["x", "y"]), &half));
        assert_eq!((searches.counts().hits, searches.counts().misses), (2, 4));
        assert!(Searches::of(0).is_none());
    }

    #[test]
    fn what_was_found_for_few_tells_nothing_of_more() {
        let searches = Searches::of(1 << 20).expect("some bytes");
        searches.put(&key("a", &[]), &part(1), &matches(9, 5));
        searches.put(&key("a", &[]), &part(2), &matches(3, 5));
        let n_hits = |file: u8, limit| searches.get(&key("a", &[]), &part(file), limit).map(|m| m.hits.len());
        assert_eq!(n_hits(1, 2), Some(5), "more than are asked for");
        assert_eq!(n_hits(2, 100), Some(3), "all that there are");
        assert_eq!(n_hits(1, 6), None);
    }

    #[test]
    fn bytes_are_bounded() {
        let searches = Searches::of(20_000).expect("some bytes");
        for file in 0..200 {
            searches.put(&key("a", &[]), &part(file), &matches(5, 5));
            assert!(searches.counts().bytes <= 20_000);
        }
        assert!(searches.counts().evictions > 100);
        assert!(searches.get(&key("a", &[]), &part(199), 5).is_some());
    }
}
