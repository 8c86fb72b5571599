//! Columns of files, in few reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures::future;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use model::TenantId;

use super::RecentTraces;
use super::index::IndexedFile;
use crate::block::spans::{self, ChunkTable, Parts, Projection};
use crate::index::Places;
use crate::{Error, Result, Store};

/// Chunks less than this apart are read in one go: a request costs as much as some hundred KB.
pub(super) const JOIN_GAP: u64 = 128 << 10;

/// How many tasks read files at once, where nothing else is said.
pub(super) const CONCURRENT_TASKS: usize = 16;

/// Files of single requests that one task reads at most: a task costs as much as decoding one of them.
const FILES_OF_A_TASK: usize = 8;

/// Who asks, of which stores, and how much it may read. Cheap to clone.
#[derive(Clone)]
pub(super) struct Asker {
    store: Store,
    tenant: TenantId,
    max_bytes: u64,
    bytes: Arc<AtomicU64>,
}

impl Asker {
    pub(super) fn new(store: &Store, tenant: &TenantId, max_bytes: u64) -> Self {
        Self { store: store.clone(), tenant: tenant.clone(), max_bytes, bytes: Arc::default() }
    }

    /// Traces that were read before.
    pub(super) fn recent(&self) -> &RecentTraces {
        &self.store.recent
    }

    /// Bytes that were read so far.
    pub(super) fn spent(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Bytes that may still be read.
    pub(super) fn left(&self) -> u64 {
        self.max_bytes.saturating_sub(self.spent())
    }

    /// Counts bytes that are read.
    ///
    /// # Errors
    /// They are more than are left.
    pub(super) fn spend(&self, bytes: u64) -> Result<()> {
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > self.max_bytes {
            return Err(Error::OverLimit { limit: self.max_bytes, unit: "bytes" });
        }
        Ok(())
    }

    /// The bytes of the columns in `projection`.
    ///
    /// # Errors
    /// As the object store; over the limit; the object is missing.
    pub(super) async fn parts(
        &self,
        file: &IndexedFile,
        table: &ChunkTable,
        projection: Projection,
    ) -> Result<Parts> {
        self.parts_of(file, std::slice::from_ref(table), projection).await
    }

    /// The bytes of a file in `range`.
    ///
    /// # Errors
    /// As [`Asker::parts`].
    pub(super) async fn range(&self, file: &IndexedFile, range: std::ops::Range<u64>) -> Result<Bytes> {
        let key = file.key.object(&self.tenant);
        self.spend(range.end.saturating_sub(range.start))?;
        let bytes = self.store.objects.get_range(&key, range).await?;
        bytes.ok_or(Error::Missing { key })
    }

    /// Where the columns of a file of spans are, by row group.
    ///
    /// # Errors
    /// As [`Asker::parts`]; the file is corrupt.
    pub(super) async fn row_groups(&self, file: &IndexedFile) -> Result<Vec<ChunkTable>> {
        let corrupt = |err| file.corrupt(err);
        let merged = match file.summary()?.places().map_err(corrupt)? {
            Places::OfRequest(table) => return Ok(vec![table]),
            Places::Merged(merged) => merged,
        };
        let directory = self.range(file, merged.directory.clone()).await?;
        spans::merged::tables(&directory, &merged).map_err(corrupt)
    }

    /// The bytes of the columns in `projection` of these units, which ascend in the file.
    ///
    /// # Errors
    /// As [`Asker::parts`].
    pub(super) async fn parts_of(
        &self,
        file: &IndexedFile,
        units: &[ChunkTable],
        projection: Projection,
    ) -> Result<Parts> {
        let key = file.key.object(&self.tenant);
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for range in units.iter().flat_map(|unit| unit.ranges(projection, JOIN_GAP)) {
            match ranges.last_mut() {
                Some(last) if range.start.saturating_sub(last.end) <= JOIN_GAP => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        self.spend(ranges.iter().map(|range| range.end - range.start).sum())?;
        let read = |range: std::ops::Range<u64>| {
            let key = &key;
            async move {
                let bytes = self.store.objects.get_range(key, range.clone()).await?;
                let bytes = bytes.ok_or_else(|| Error::Missing { key: key.clone() })?;
                Ok::<_, Error>((range.start, bytes))
            }
        };
        let reads: Vec<_> = ranges.into_iter().map(read).collect();
        let mut parts = Parts::new();
        for (offset, bytes) in future::try_join_all(reads).await? {
            parts.add(offset, bytes);
        }
        Ok(parts)
    }
}

/// What is read in one go: a file, or a part of one.
pub(super) trait Portion: Send {
    /// Whether a task takes several of these.
    fn is_small(&self) -> bool;
}

impl Portion for IndexedFile {
    fn is_small(&self) -> bool {
        self.key.level == 0
    }
}

/// What `work` makes of each portion, in their order; `n_at_once` tasks at once, on all cores.
pub(super) fn each<P, T, F>(
    portions: Vec<P>,
    n_at_once: usize,
    work: impl Fn(P) -> F + Send,
) -> impl Stream<Item = Result<T>> + Send
where
    P: Portion,
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let n_of_a_task = (portions.len() / CONCURRENT_TASKS).clamp(1, FILES_OF_A_TASK);
    let mut tasks: Vec<Vec<P>> = Vec::new();
    for portion in portions {
        match tasks.last_mut() {
            Some(task) if task.len() < n_of_a_task && portion.is_small() && task[0].is_small() => {
                task.push(portion);
            }
            _ => tasks.push(vec![portion]),
        }
    }
    // Spawned when the stream gets there, so that no more than these are under way. The reads of a task go on at once.
    let run = move |portions: Vec<P>| {
        let all: Vec<F> = portions.into_iter().map(&work).collect();
        spawned(future::try_join_all(all))
    };
    let done = stream::iter(tasks).map(run).buffered(n_at_once);
    done.map_ok(|items| stream::iter(items.into_iter().map(Ok))).try_flatten()
}

/// What `work` gives, done on any core.
pub(super) async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(err) => match err.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(err) => Err(Error::unavailable("object store", "reading a file", err)),
        },
    }
}
