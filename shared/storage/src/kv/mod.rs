//! A table of small items: the trait and its implementations.
//!
//! An item is found by a partition and a sort key, as in DynamoDB; the items of one partition are ordered by sort key
//! (bytewise). Every write gives an item a new version, which conditional writes name.

#[cfg(feature = "aws")]
pub mod dynamodb;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;

use bytes::Bytes;

use crate::Result;

/// The most bytes that an item's value may have (DynamoDB: 400 KB for the whole item).
pub const MAX_VALUE_BYTES: usize = 380_000;
/// The most writes in one transaction (DynamoDB's limit).
pub const MAX_TRANSACTION: usize = 100;

/// Where an item is. The partition is text without control characters, 1 to 512 bytes; the sort key is text,
/// 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Items of one partition can be read in order.
    pub partition: String,
    /// Place in the partition.
    pub sort: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: Bytes,
    /// Changes with each write; opaque, never 0.
    pub version: u64,
}

/// What a write stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// The value, at most [`MAX_VALUE_BYTES`].
    pub value: Bytes,
    /// When the item may vanish by itself, in seconds since the epoch. Stores delete it some time later, or never;
    /// readers must not rely on it.
    pub expires_at_s: Option<u64>,
}

impl NewItem {
    /// An item that stays.
    pub fn lasting(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), expires_at_s: None }
    }
}

/// What must be true of the item under a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: write in any case.
    None,
    /// There is no item.
    Absent,
    /// There is an item and it has this version.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores an item.
    Put(Key, NewItem, Condition),
    /// Removes an item; with [`Condition::None`] or [`Condition::Absent`] it need not be there.
    Delete(Key, Condition),
    /// Writes nothing, but must hold.
    Check(Key, Condition),
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was written.
    Written,
    /// A condition did not hold; nothing was written.
    ConditionFailed,
}

/// A part of a partition, in the order of sort keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortRange<'a> {
    /// First sort key in the range; `""` for the partition's first.
    pub start: &'a str,
    /// First sort key after the range; `None` for the partition's end.
    pub end: Option<&'a str>,
}

impl SortRange<'_> {
    /// All of a partition.
    pub const ALL: Self = SortRange { start: "", end: None };
}

/// Some items of a range, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Sort keys and items, ascending.
    pub items: Vec<(String, Item)>,
    /// The last sort key read, if there may be more after it: the next call's `after`.
    pub next: Option<String>,
}

/// A table of small items.
///
/// Reads are strongly consistent: they see every write that was acknowledged before they began.
/// When a write returns [`Outcome::Written`], it is durable. After an error it may or may not have happened.
/// Any two processes that may open the table may call any method at once.
#[async_trait::async_trait]
pub trait KeyValue: Send + Sync {
    /// The item, or `None`.
    async fn get(&self, key: &Key) -> Result<Option<Item>>;

    /// The items of distinct keys, in the order of `keys`; any number of keys, split as the store needs it.
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>>;

    /// Items of one partition in the order of sort keys, from `range`, after the sort key `after` if given, at most
    /// `limit` (at least 1) and fewer where the store's page ends.
    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page>;

    /// Writes one item if `condition` holds.
    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome>;

    /// Writes all or nothing: at most [`MAX_TRANSACTION`] writes to distinct keys.
    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome>;

    /// Removes an item; removing what is not there is no error.
    async fn delete(&self, key: &Key) -> Result<()>;
}

/// All items of a range.
///
/// # Errors
/// As [`KeyValue::range`].
pub async fn range_all(
    table: &dyn KeyValue,
    partition: &str,
    range: SortRange<'_>,
) -> Result<Vec<(String, Item)>> {
    let mut items = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = table.range(partition, range, after.as_deref(), usize::MAX).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(items),
        }
    }
}
