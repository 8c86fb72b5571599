//! Keeps what was read of objects: in memory, and if told as files of a folder.
//!
//! Objects never change, so what was read of one is right for ever; that it was deleted meanwhile does not matter, for
//! nothing asks for an object that no index item names. The table is never cached: its items change.
//!
//! - A range is found if it lies within one that was read before. `ranges` decides what must go.
//! - Who misses a range that another one is just reading waits for that reading.
//! - A range that is read goes to memory at once, and to the folder (`disk`) behind the answer, unless that is busy.

mod disk;
mod ranges;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use crate::metered::MeteredObject;
use crate::object::{Object, ObjectMeta, PutOutcome};
use crate::{Calls, Error, Result, Store};

use self::disk::Disk;
use self::ranges::{ObjectId, Ranges};

/// Files that are written at the same time.
const CONCURRENT_WRITES: usize = 4;

/// A range of an object: its start and end.
type RangeOf = (ObjectId, u64, u64);

/// What was read of objects. Shared by all requests of a process.
pub struct Cache {
    /// Which store the objects are of, and who writes them.
    of: String,
    memory: Mutex<Ranges<Bytes>>,
    disk: Option<Arc<Disk>>,
    writes: Arc<Semaphore>,
    /// Ranges that are being read.
    pending: Mutex<HashMap<RangeOf, Arc<OnceCell<Bytes>>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
    saved_bytes: AtomicU64,
}

/// What became of reads so far, and what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads that memory answered.
    pub memory_hits: u64,
    /// Reads that the folder answered.
    pub disk_hits: u64,
    /// Reads that waited for another one's.
    pub joined: u64,
    /// Reads that went to the object store.
    pub misses: u64,
    /// Bytes that were not read of the object store.
    pub saved_bytes: u64,
    /// Bytes kept in memory.
    pub memory_bytes: u64,
    /// Bytes kept in the folder.
    pub disk_bytes: u64,
    /// Ranges that memory had no room for any more.
    pub memory_evictions: u64,
    /// Ranges that the folder had no room for any more.
    pub disk_evictions: u64,
}

impl Cache {
    /// Keeps up to `bytes` in memory; with `bytes` of 0 nothing. `of` names the store and the version of this program: what
    /// a folder has of others is not found.
    pub fn in_memory(of: &str, bytes: u64) -> Self {
        Self {
            of: of.to_owned(),
            memory: Mutex::new(Ranges::new(bytes)),
            disk: None,
            writes: Arc::new(Semaphore::new(CONCURRENT_WRITES)),
            pending: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// Also keeps up to `bytes` in a folder, and finds there what an earlier process kept. Blocks.
    ///
    /// # Errors
    /// The folder cannot be made or read, or another process has it.
    pub fn and_folder(self, folder: &Path, bytes: u64) -> io::Result<Self> {
        Ok(Self { disk: Some(Arc::new(Disk::open(folder, bytes)?)), ..self })
    }

    /// What became of reads so far, and what is kept.
    pub fn counts(&self) -> Counts {
        let memory = lock(&self.memory);
        let (disk_bytes, disk_evictions) = self.disk.as_ref().map_or((0, 0), |disk| disk.counts());
        Counts {
            memory_hits: self.counters.memory_hits.load(Relaxed),
            disk_hits: self.counters.disk_hits.load(Relaxed),
            joined: self.counters.joined.load(Relaxed),
            misses: self.counters.misses.load(Relaxed),
            saved_bytes: self.counters.saved_bytes.load(Relaxed),
            memory_bytes: memory.bytes(),
            disk_bytes,
            memory_evictions: memory.n_evicted(),
            disk_evictions,
        }
    }

    /// The bytes of `wanted`, from where they are nearest.
    async fn get_range(
        self: &Arc<Self>,
        inner: &dyn Object,
        key: &str,
        wanted: Range<u64>,
    ) -> Result<Option<Bytes>> {
        let object = self.object_id(key);
        if let Some(bytes) = self.in_memory_now(object, &wanted) {
            self.count_hit(&self.counters.memory_hits, &bytes);
            return Ok(Some(bytes));
        }
        let reading = Reading::join(self, (object, wanted.start, wanted.end));
        let mut is_first = false;
        let read = reading.cell.get_or_try_init(|| {
            is_first = true;
            self.read(inner, key, object, &wanted)
        });
        match read.await {
            Ok(bytes) => {
                let bytes = bytes.clone();
                if !is_first {
                    self.count_hit(&self.counters.joined, &bytes);
                }
                Ok(Some(bytes))
            }
            Err(NotRead::Absent) => Ok(None),
            Err(NotRead::Failed(error)) => Err(error),
        }
    }

    /// Reads from the folder or the object store, and keeps what was read.
    async fn read(
        &self,
        inner: &dyn Object,
        key: &str,
        object: ObjectId,
        wanted: &Range<u64>,
    ) -> Result<Bytes, NotRead> {
        // Between the look into memory and this, another one's reading may have ended.
        if let Some(bytes) = self.in_memory_now(object, wanted) {
            self.count_hit(&self.counters.memory_hits, &bytes);
            return Ok(bytes);
        }
        if let Some((range, bytes)) = self.on_disk(object, wanted).await {
            let part = part_of(&bytes, &range, wanted);
            self.count_hit(&self.counters.disk_hits, &part);
            lock(&self.memory).insert(object, range, bytes);
            return Ok(part);
        }
        self.counters.misses.fetch_add(1, Relaxed);
        let read = inner.get_range(key, wanted.clone()).await.map_err(NotRead::Failed)?;
        let bytes = read.ok_or(NotRead::Absent)?;
        // Shorter at the object's end: such ranges nobody asks for, and they would say nothing of the end.
        if bytes.len() as u64 == wanted.end - wanted.start {
            lock(&self.memory).insert(object, wanted.clone(), bytes.clone());
            self.write(object, wanted.start, bytes.clone());
        }
        Ok(bytes)
    }

    fn in_memory_now(&self, object: ObjectId, wanted: &Range<u64>) -> Option<Bytes> {
        let (range, bytes) = lock(&self.memory).find(object, wanted)?;
        Some(part_of(&bytes, &range, wanted))
    }

    async fn on_disk(&self, object: ObjectId, wanted: &Range<u64>) -> Option<(Range<u64>, Bytes)> {
        let (disk, wanted) = (Arc::clone(self.disk.as_ref()?), wanted.clone());
        tokio::task::spawn_blocking(move || disk.read(object, &wanted)).await.ok().flatten()
    }

    /// Writes to the folder, behind whoever asked; not at all where it is busy.
    fn write(&self, object: ObjectId, start: u64, bytes: Bytes) {
        let Some(disk) = self.disk.clone() else { return };
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else { return };
        tokio::task::spawn_blocking(move || {
            disk.write(object, start, &bytes);
            // In this order: who waits for all writes may open the folder anew.
            drop(disk);
            drop(permit);
        });
    }

    async fn forget(&self, key: &str) {
        let object = self.object_id(key);
        lock(&self.memory).forget(object);
        if let Some(disk) = self.disk.clone() {
            // Fails only where the runtime ends.
            let _ = tokio::task::spawn_blocking(move || disk.forget(object)).await;
        }
    }

    fn object_id(&self, key: &str) -> ObjectId {
        let hash =
            blake3::Hasher::new().update(self.of.as_bytes()).update(b"\n").update(key.as_bytes()).finalize();
        let (first, _) = hash.as_bytes().split_first_chunk().expect("invariant: a hash has 32 bytes");
        ObjectId::from_be_bytes(*first)
    }

    fn count_hit(&self, counter: &AtomicU64, bytes: &Bytes) {
        counter.fetch_add(1, Relaxed);
        self.counters.saved_bytes.fetch_add(bytes.len() as u64, Relaxed);
    }
}

/// Why a reading has no bytes; the next one who waits for it tries again.
enum NotRead {
    Absent,
    Failed(Error),
}

/// A reading of a range that several may wait for. It goes from the list with the last of them, also if that one is given up.
struct Reading<'a> {
    cache: &'a Cache,
    of: RangeOf,
    cell: Arc<OnceCell<Bytes>>,
}

impl<'a> Reading<'a> {
    fn join(cache: &'a Cache, of: RangeOf) -> Self {
        let cell = Arc::clone(lock(&cache.pending).entry(of).or_default());
        Self { cache, of, cell }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut pending = lock(&self.cache.pending);
        // This one and the list's; others come only under the lock.
        if Arc::strong_count(&self.cell) == 2 {
            pending.remove(&self.of);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn part_of(bytes: &Bytes, range: &Range<u64>, wanted: &Range<u64>) -> Bytes {
    bytes.slice((wanted.start - range.start) as usize..(wanted.end - range.start) as usize)
}

impl Store {
    /// The same stores, with what is read of objects kept in `cache`.
    #[must_use]
    pub fn cached(&self, cache: &Arc<Cache>) -> Self {
        let inner = Arc::clone(&self.objects);
        Self { objects: Arc::new(CachedObject { inner, cache: Arc::clone(cache) }), ..self.clone() }
    }
}

/// An object store whose ranges are kept in a cache.
struct CachedObject {
    inner: Arc<dyn Object>,
    cache: Arc<Cache>,
}

#[async_trait::async_trait]
impl Object for CachedObject {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        let outcome = self.inner.put_if_absent(key, body).await?;
        if outcome == PutOutcome::Created {
            self.cache.forget(key).await;
        }
        Ok(outcome)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if range.is_empty() {
            return self.inner.get_range(key, range).await;
        }
        self.cache.get_range(&*self.inner, key, range).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await?;
        self.cache.forget(key).await;
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }

    fn metered(&self, calls: &Arc<Calls>) -> Option<Arc<dyn Object>> {
        let inner = self.inner.metered(calls);
        let inner =
            inner.unwrap_or_else(|| Arc::new(MeteredObject::new(Arc::clone(&self.inner), Arc::clone(calls))));
        Some(Arc::new(Self { inner, cache: Arc::clone(&self.cache) }))
    }
}

#[cfg(test)]
mod tests;
