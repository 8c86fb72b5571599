//! Counts each storage call and its bytes: requests are the bill, so each request knows what it cost.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::Result;
use crate::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::object::{Object, ObjectMeta, PutOutcome};

/// Counters of storage calls; shared by everything that one request does.
#[derive(Debug, Default)]
pub struct Calls {
    object_puts: AtomicU64,
    object_gets: AtomicU64,
    object_lists: AtomicU64,
    object_deletes: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    table_reads: AtomicU64,
    table_writes: AtomicU64,
    table_bytes_read: AtomicU64,
    table_bytes_written: AtomicU64,
}

/// What [`Calls`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Create-only writes of objects.
    pub object_puts: u64,
    /// Reads of objects, ranged or whole, and of their lengths.
    pub object_gets: u64,
    /// Pages of listings.
    pub object_lists: u64,
    /// Removals.
    pub object_deletes: u64,
    /// Bytes of objects written.
    pub bytes_written: u64,
    /// Bytes of objects read.
    pub bytes_read: u64,
    /// Reads of the table: single items, batches, pages.
    pub table_reads: u64,
    /// Writes to the table; each write of a transaction counts.
    pub table_writes: u64,
    /// Bytes of keys and values read from the table.
    pub table_bytes_read: u64,
    /// Bytes of keys and values written to the table.
    pub table_bytes_written: u64,
}

impl Calls {
    /// What was counted so far.
    pub fn usage(&self) -> Usage {
        Usage {
            object_puts: self.object_puts.load(Relaxed),
            object_gets: self.object_gets.load(Relaxed),
            object_lists: self.object_lists.load(Relaxed),
            object_deletes: self.object_deletes.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            table_reads: self.table_reads.load(Relaxed),
            table_writes: self.table_writes.load(Relaxed),
            table_bytes_read: self.table_bytes_read.load(Relaxed),
            table_bytes_written: self.table_bytes_written.load(Relaxed),
        }
    }
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

/// An object store whose calls are counted.
pub struct MeteredObject {
    inner: Arc<dyn Object>,
    calls: Arc<Calls>,
}

impl MeteredObject {
    /// Counts the calls of `inner` in `calls`.
    pub fn new(inner: Arc<dyn Object>, calls: Arc<Calls>) -> Self {
        Self { inner, calls }
    }
}

#[async_trait::async_trait]
impl Object for MeteredObject {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        count(&self.calls.object_puts, 1);
        count(&self.calls.bytes_written, body.len());
        self.inner.put_if_absent(key, body).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        count(&self.calls.object_gets, 1);
        let bytes = self.inner.get_range(key, range).await?;
        count(&self.calls.bytes_read, bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        count(&self.calls.object_gets, 1);
        let bytes = self.inner.get(key).await?;
        count(&self.calls.bytes_read, bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        count(&self.calls.object_gets, 1);
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        count(&self.calls.object_deletes, 1);
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        count(&self.calls.object_lists, 1);
        self.inner.list(prefix, after, limit).await
    }
}

/// A table whose calls are counted.
pub struct MeteredKeyValue {
    inner: Arc<dyn KeyValue>,
    calls: Arc<Calls>,
}

impl MeteredKeyValue {
    /// Counts the calls of `inner` in `calls`.
    pub fn new(inner: Arc<dyn KeyValue>, calls: Arc<Calls>) -> Self {
        Self { inner, calls }
    }

    fn count_write(&self, key: &Key, value_bytes: usize) {
        count(&self.calls.table_writes, 1);
        count(&self.calls.table_bytes_written, key.partition.len() + key.sort.len() + value_bytes);
    }
}

#[async_trait::async_trait]
impl KeyValue for MeteredKeyValue {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        count(&self.calls.table_reads, 1);
        let item = self.inner.get(key).await?;
        count(&self.calls.table_bytes_read, item.as_ref().map_or(0, |item| item.value.len()));
        Ok(item)
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        count(&self.calls.table_reads, keys.len());
        let items = self.inner.batch_get(keys).await?;
        count(&self.calls.table_bytes_read, items.iter().flatten().map(|item| item.value.len()).sum());
        Ok(items)
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        count(&self.calls.table_reads, 1);
        let page = self.inner.range(partition, range, after, limit).await?;
        let bytes =
            page.items.iter().map(|(sort, item)| partition.len() + sort.len() + item.value.len()).sum();
        count(&self.calls.table_bytes_read, bytes);
        Ok(page)
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.count_write(&key, item.value.len());
        self.inner.put(key, item, condition).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        for write in &writes {
            match write {
                Write::Put(key, item, _) => self.count_write(key, item.value.len()),
                Write::Delete(key, _) | Write::Check(key, _) => self.count_write(key, 0),
            }
        }
        self.inner.transact(writes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.count_write(key, 0);
        self.inner.delete(key).await
    }
}
