//! Columns of files, in few reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures::future;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use model::TenantId;

use super::index::IndexedFile;
use crate::block::spans::{ChunkTable, Parts, Projection};
use crate::{Error, Result, Store};

/// Chunks less than this apart are read in one go: a request costs as much as some hundred KB.
const JOIN_GAP: u64 = 128 << 10;

/// How many tasks read files at once.
const CONCURRENT_TASKS: usize = 16;

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

    fn spend(&self, bytes: u64) -> Result<()> {
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
        let key = file.key.object(&self.tenant);
        let ranges = table.ranges(projection, JOIN_GAP);
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

/// What `work` makes of each file, in the order of the files; several at once, on all cores.
pub(super) fn each<T, F>(
    files: Vec<IndexedFile>,
    work: impl Fn(IndexedFile) -> F + Send,
) -> impl Stream<Item = Result<T>> + Send
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let n_of_a_task = (files.len() / CONCURRENT_TASKS).clamp(1, FILES_OF_A_TASK);
    let mut tasks: Vec<Vec<IndexedFile>> = Vec::new();
    for file in files {
        let is_small = |file: &IndexedFile| file.key.level == 0;
        match tasks.last_mut() {
            Some(task) if task.len() < n_of_a_task && is_small(&file) && is_small(&task[0]) => {
                task.push(file);
            }
            _ => tasks.push(vec![file]),
        }
    }
    // Spawned when the stream gets there, so that no more than these are under way. The reads of a task go on at once.
    let run = move |files: Vec<IndexedFile>| {
        let all: Vec<F> = files.into_iter().map(&work).collect();
        spawned(future::try_join_all(all))
    };
    let done = stream::iter(tasks).map(run).buffered(CONCURRENT_TASKS);
    done.map_ok(|items| stream::iter(items.into_iter().map(Ok))).try_flatten()
}

async fn spawned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(err) => match err.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(err) => Err(Error::unavailable("object store", "reading a file", err)),
        },
    }
}
