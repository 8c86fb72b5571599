use tokio::sync::Notify;

use super::*;
use crate::object::memory::MemoryObjects;

const BODY: &[u8] = b"0123456789";

/// Objects whose reads wait until they are let through, if they are held up.
#[derive(Default)]
struct Gated {
    inner: MemoryObjects,
    is_closed: std::sync::atomic::AtomicBool,
    n_failures: AtomicU64,
    opened: Notify,
    entered: Notify,
}

#[async_trait::async_trait]
impl Object for Gated {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        self.inner.put_if_absent(key, body).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.entered.notify_one();
        if self.is_closed.load(Relaxed) {
            self.opened.notified().await;
        }
        if self.n_failures.load(Relaxed) > 0 {
            self.n_failures.fetch_sub(1, Relaxed);
            return Err(Error::unavailable("object store", "reading", "it is down"));
        }
        self.inner.get_range(key, range).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }
}

/// A store with one object `a`, a cache over it, and the calls that reach it.
struct Fixture {
    gated: Arc<Gated>,
    cache: Arc<Cache>,
    calls: Arc<Calls>,
    objects: Arc<dyn Object>,
}

async fn over(cache: Cache) -> Fixture {
    let gated = Arc::new(Gated::default());
    gated.put_if_absent("a", Bytes::from_static(BODY)).await.expect("memory");
    let (cache, calls) = (Arc::new(cache), Arc::new(Calls::default()));
    let store = Store {
        objects: Arc::clone(&gated) as _,
        table: Arc::new(crate::kv::memory::MemoryTable::new()),
        layout: crate::index::TableLayout { shards: 1 },
        recent: crate::read::RecentTraces::default(),
    };
    let objects = store.cached(&cache).metered(&calls).objects;
    Fixture { gated, cache, calls, objects }
}

impl Fixture {
    async fn read(&self, range: Range<u64>) -> Option<Bytes> {
        self.objects.get_range("a", range).await.expect("read")
    }

    fn n_calls(&self) -> u64 {
        self.calls.usage().object_gets
    }

    fn is_idle(&self) -> bool {
        lock(&self.cache.pending).is_empty()
    }
}

#[tokio::test]
async fn what_was_read_is_not_read_again_and_not_counted() {
    let fixture = over(Cache::in_memory("s3://a", 1 << 20)).await;
    for range in [2..8, 2..8, 3..5, 7..8] {
        let expect = &BODY[range.start as usize..range.end as usize];
        assert_eq!(fixture.read(range).await.as_deref(), Some(expect));
    }
    assert_eq!((fixture.n_calls(), fixture.calls.usage().bytes_read), (1, 6));
    let counts = fixture.cache.counts();
    assert_eq!((counts.misses, counts.memory_hits, counts.saved_bytes), (1, 3, 9));
    assert!(fixture.is_idle());
}

#[tokio::test]
async fn what_ends_past_the_object_or_is_empty_is_read_each_time() {
    let fixture = over(Cache::in_memory("s3://a", 1 << 20)).await;
    for _ in 0..2 {
        assert_eq!(fixture.read(5..20).await.as_deref(), Some(&b"56789"[..]));
        assert_eq!(fixture.read(10..20).await.as_deref(), Some(&b""[..]));
        assert_eq!(fixture.read(5..5).await.as_deref(), Some(&b""[..]));
    }
    assert_eq!((fixture.n_calls(), fixture.cache.counts().memory_bytes), (6, 0));
}

#[tokio::test]
async fn an_absent_object_and_a_failure_are_asked_for_again() {
    let fixture = over(Cache::in_memory("s3://a", 1 << 20)).await;
    let read_b = async || fixture.objects.get_range("b", 0..2).await;
    assert_eq!(read_b().await.expect("read"), None);
    fixture.gated.put_if_absent("b", Bytes::from_static(b"bb")).await.expect("memory");
    fixture.gated.n_failures.store(1, Relaxed);
    assert!(matches!(read_b().await, Err(Error::Unavailable { .. })));
    assert_eq!(read_b().await.expect("read").as_deref(), Some(&b"bb"[..]));
    assert!(fixture.is_idle());
}

#[tokio::test]
async fn a_range_that_several_miss_is_read_once() {
    // Also where it is too large to be kept.
    for bytes in [1 << 20, 0] {
        let fixture = Arc::new(over(Cache::in_memory("s3://a", bytes)).await);
        fixture.gated.is_closed.store(true, Relaxed);
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let fixture = Arc::clone(&fixture);
                tokio::spawn(async move { fixture.read(0..4).await })
            })
            .collect();
        fixture.gated.entered.notified().await;
        // All readers have come as far as they can: this is one thread, and each yields only where it waits.
        tokio::task::yield_now().await;
        fixture.gated.is_closed.store(false, Relaxed);
        fixture.gated.opened.notify_waiters();
        for reader in readers {
            assert_eq!(reader.await.expect("a reader").as_deref(), Some(&b"0123"[..]));
        }
        let counts = fixture.cache.counts();
        assert_eq!((fixture.n_calls(), counts.misses, counts.joined), (1, 1, 9));
        assert!(fixture.is_idle());
    }
}

#[tokio::test]
async fn who_waits_for_a_reading_that_is_given_up_reads_itself() {
    let fixture = Arc::new(over(Cache::in_memory("s3://a", 1 << 20)).await);
    fixture.gated.is_closed.store(true, Relaxed);
    let reader = || {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { fixture.read(0..4).await })
    };
    let first = reader();
    fixture.gated.entered.notified().await;
    let second = reader();
    tokio::task::yield_now().await;
    fixture.gated.is_closed.store(false, Relaxed);
    first.abort();
    assert!(first.await.expect_err("given up").is_cancelled());
    assert_eq!(second.await.expect("a reader").as_deref(), Some(&b"0123"[..]));
    assert!(fixture.is_idle());
    assert_eq!(fixture.n_calls(), 2);
}

#[tokio::test]
async fn a_deleted_object_is_forgotten_by_who_deletes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::in_memory("s3://a", 1 << 20).and_folder(folder.path(), 1 << 20).expect("a folder");
    let fixture = over(cache).await;
    assert!(fixture.read(0..4).await.is_some());
    written(&fixture.cache).await;
    fixture.objects.delete("a").await.expect("deleted");
    assert_eq!(fixture.read(0..4).await, None);
    let counts = fixture.cache.counts();
    assert_eq!((counts.memory_bytes, counts.disk_bytes), (0, 0));
}

/// Waits until nothing is written any more.
async fn written(cache: &Cache) {
    let all = cache.writes.acquire_many(CONCURRENT_WRITES as u32).await;
    drop(all.expect("never closed"));
}

#[tokio::test]
async fn a_folder_serves_the_next_process_once_to_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = || Cache::in_memory("s3://a", 1 << 20).and_folder(folder.path(), 1 << 20).expect("a folder");
    let fixture = over(cache()).await;
    assert!(fixture.read(0..6).await.is_some());
    written(&fixture.cache).await;
    drop(fixture);

    let fixture = over(cache()).await;
    assert_eq!(fixture.read(1..3).await.as_deref(), Some(&b"12"[..]));
    assert_eq!(fixture.read(4..6).await.as_deref(), Some(&b"45"[..]));
    let counts = fixture.cache.counts();
    assert_eq!((fixture.n_calls(), counts.disk_hits, counts.memory_hits), (0, 1, 1));
    drop(fixture);

    let other = Cache::in_memory("s3://b", 1 << 20).and_folder(folder.path(), 1 << 20).expect("a folder");
    let fixture = over(other).await;
    assert!(fixture.read(1..3).await.is_some());
    assert_eq!((fixture.n_calls(), fixture.cache.counts().disk_hits), (1, 0), "of another store");
}
