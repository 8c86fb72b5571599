//! Counts each storage call and its bytes: requests are the bill, so each request knows what it cost.
//!
//! The units of the table are those in which DynamoDB bills, counted call by call because each call is rounded up by
//! itself; sums of bytes do not give them. Repetitions inside of a store's client are not seen here.
//! Source: Amazon DynamoDB Developer Guide, "DynamoDB read and write operations" and "Item sizes and formats".

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::Result;
use crate::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::object::{Object, ObjectMeta, PutOutcome};

/// Bytes up to which a write is one unit.
const WRITE_UNIT_BYTES: usize = 1024;
/// Bytes up to which a strongly consistent read, which all of ours are, is one unit.
const READ_UNIT_BYTES: usize = 4096;
/// What a write in a transaction costs in place of one unit.
const UNITS_IN_TRANSACTION: usize = 2;
/// What an item has beside key and value: the names of its attributes, and its version (a number of up to 20 digits,
/// two a byte).
const ITEM_OVERHEAD_BYTES: usize = 8 + 11;

/// Counters of storage calls; shared by everything that one request does.
#[derive(Debug, Default)]
pub struct Calls {
    /// Counters in which each call counts too.
    within: Option<Arc<Calls>>,
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
    table_read_units: AtomicU64,
    table_write_units: AtomicU64,
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
    /// Read units: 4 KB each, every call rounded up.
    pub table_read_units: u64,
    /// Write units: 1 KB each, every write rounded up; those of a transaction count twice. A removal is taken for one
    /// unit, and what is replaced for no larger than what replaces it, for the sizes of items that are there are not known.
    pub table_write_units: u64,
}

impl Calls {
    /// Counters of a part: whatever they count is counted in `whole` as well, at once, so that a sum lacks nothing even
    /// where the part is given up half-way.
    pub fn within(whole: Arc<Self>) -> Self {
        Self { within: Some(whole), ..Self::default() }
    }

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
            table_read_units: self.table_read_units.load(Relaxed),
            table_write_units: self.table_write_units.load(Relaxed),
        }
    }

    fn count(&self, counter: fn(&Self) -> &AtomicU64, by: usize) {
        counter(self).fetch_add(by as u64, Relaxed);
        if let Some(whole) = &self.within {
            whole.count(counter, by);
        }
    }

    /// What one read of the table found; finding nothing costs a unit too.
    fn count_found(&self, item_bytes: usize, value_bytes: usize) {
        self.count(|of| &of.table_bytes_read, value_bytes);
        self.count(|of| &of.table_read_units, item_bytes.div_ceil(READ_UNIT_BYTES).max(1));
    }

    fn count_item(&self, key: &Key, item: Option<&Item>) {
        let item_bytes = item.map_or(0, |item| item_bytes(key, &item.value));
        self.count_found(item_bytes, item.map_or(0, |item| item.value.len()));
    }

    fn count_write(&self, key: &Key, value: Option<&[u8]>, units_per_kilobyte: usize) {
        let bytes = key.partition.len() + key.sort.len() + value.map_or(0, <[u8]>::len);
        let units = value.map_or(1, |value| item_bytes(key, value).div_ceil(WRITE_UNIT_BYTES));
        self.count(|of| &of.table_writes, 1);
        self.count(|of| &of.table_bytes_written, bytes);
        self.count(|of| &of.table_write_units, units * units_per_kilobyte);
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.object_puts += other.object_puts;
        self.object_gets += other.object_gets;
        self.object_lists += other.object_lists;
        self.object_deletes += other.object_deletes;
        self.bytes_written += other.bytes_written;
        self.bytes_read += other.bytes_read;
        self.table_reads += other.table_reads;
        self.table_writes += other.table_writes;
        self.table_bytes_read += other.table_bytes_read;
        self.table_bytes_written += other.table_bytes_written;
        self.table_read_units += other.table_read_units;
        self.table_write_units += other.table_write_units;
    }
}

/// What DynamoDB takes for an item's size.
fn item_bytes(key: &Key, value: &[u8]) -> usize {
    key.partition.len() + key.sort.len() + value.len() + ITEM_OVERHEAD_BYTES
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
        self.calls.count(|of| &of.object_puts, 1);
        self.calls.count(|of| &of.bytes_written, body.len());
        self.inner.put_if_absent(key, body).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.calls.count(|of| &of.object_gets, 1);
        let bytes = self.inner.get_range(key, range).await?;
        self.calls.count(|of| &of.bytes_read, bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.calls.count(|of| &of.object_gets, 1);
        let bytes = self.inner.get(key).await?;
        self.calls.count(|of| &of.bytes_read, bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.calls.count(|of| &of.object_gets, 1);
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.calls.count(|of| &of.object_deletes, 1);
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.calls.count(|of| &of.object_lists, 1);
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
}

#[async_trait::async_trait]
impl KeyValue for MeteredKeyValue {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.calls.count(|of| &of.table_reads, 1);
        let item = self.inner.get(key).await?;
        self.calls.count_item(key, item.as_ref());
        Ok(item)
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        self.calls.count(|of| &of.table_reads, keys.len());
        let items = self.inner.batch_get(keys).await?;
        for (key, item) in keys.iter().zip(&items) {
            self.calls.count_item(key, item.as_ref());
        }
        Ok(items)
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        self.calls.count(|of| &of.table_reads, 1);
        let page = self.inner.range(partition, range, after, limit).await?;
        let bytes: usize =
            page.items.iter().map(|(sort, item)| partition.len() + sort.len() + item.value.len()).sum();
        self.calls.count_found(bytes + page.items.len() * ITEM_OVERHEAD_BYTES, bytes);
        Ok(page)
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.calls.count_write(&key, Some(&item.value), 1);
        self.inner.put(key, item, condition).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        let units = match &writes[..] {
            // DynamoDB has these without a transaction, and `kv::dynamodb` makes none of them.
            [Write::Put(..) | Write::Delete(_, Condition::None)] => 1,
            _ => UNITS_IN_TRANSACTION,
        };
        for write in &writes {
            match write {
                Write::Put(key, item, _) => self.calls.count_write(key, Some(&item.value), units),
                Write::Delete(key, _) | Write::Check(key, _) => self.calls.count_write(key, None, units),
            }
        }
        self.inner.transact(writes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.calls.count_write(key, None, 1);
        self.inner.delete(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::memory::MemoryTable;

    #[tokio::test]
    async fn units_are_rounded_up_call_by_call() {
        let whole = Arc::new(Calls::default());
        let table: Arc<dyn KeyValue> = Arc::new(MemoryTable::new());
        let mut sum = Usage::default();
        let next = || {
            let calls = Arc::new(Calls::within(Arc::clone(&whole)));
            (MeteredKeyValue::new(Arc::clone(&table), Arc::clone(&calls)), calls)
        };
        let mut check = |doing: &str, calls: &Calls, reads: u64, writes: u64| {
            let usage = calls.usage();
            assert_eq!((usage.table_read_units, usage.table_write_units), (reads, writes), "{doing}");
            sum += usage;
            assert_eq!(whole.usage(), sum, "{doing}");
        };
        let key = |sort: &str| Key::new("p", sort);
        let item = |bytes: usize| NewItem::lasting(vec![0; bytes]);

        // Partition 1 + sort key 1 + 19 around it: 1,003 bytes of value are just a unit.
        let (metered, calls) = next();
        metered.put(key("a"), item(1003), Condition::None).await.expect("memory");
        check("1,024 bytes", &calls, 0, 1);
        let (metered, calls) = next();
        metered.put(key("b"), item(1004), Condition::None).await.expect("memory");
        check("1,025 bytes", &calls, 0, 2);
        let (metered, calls) = next();
        let small = Write::Put(key("c"), item(1), Condition::None);
        metered.transact(vec![small.clone()]).await.expect("memory");
        check("one write is no transaction", &calls, 0, 1);
        let (metered, calls) = next();
        let large = Write::Put(key("d"), item(4000), Condition::None);
        metered.transact(vec![small, large, Write::Check(key("a"), Condition::None)]).await.expect("memory");
        check("(1 + 4 + 1 units) twice", &calls, 0, 12);
        let (metered, calls) = next();
        metered.delete(&key("b")).await.expect("memory");
        check("a removal", &calls, 0, 1);

        let (metered, calls) = next();
        metered.get(&key("nothing")).await.expect("memory");
        check("nothing", &calls, 1, 0);
        let (metered, calls) = next();
        metered.batch_get(&[key("a"), key("c"), key("d"), key("nothing")]).await.expect("memory");
        check("each by itself: 1,024, 22, 4,021 bytes and none", &calls, 4, 0);
        let (metered, calls) = next();
        metered.range("p", SortRange::ALL, None, 100).await.expect("memory");
        check("1,024 + 22 + 4,021 bytes together", &calls, 2, 0);
    }
}
