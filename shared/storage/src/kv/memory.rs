//! A table in memory: the reference implementation, for tests.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    Condition, Item, Key, KeyValue, MAX_TRANSACTION, MAX_VALUE_BYTES, NewItem, Outcome, Page, SortRange,
    Write,
};
use crate::{Error, Result};

/// Most bytes of values in a page of [`KeyValue::range`], as in DynamoDB.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Items in an ordered map behind a lock. Expiry times are accepted and ignored.
#[derive(Debug, Default)]
pub struct MemoryTable {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Key, Item>,
    last_version: u64,
}

impl MemoryTable {
    /// A table with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state; no operation leaves it half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, writes: Vec<Write>) -> Result<Outcome> {
        refuse_oversized(&writes)?;
        let mut state = self.lock();
        for write in &writes {
            let (Write::Put(key, _, condition)
            | Write::Delete(key, condition)
            | Write::Check(key, condition)) = write;
            if !holds(*condition, state.items.get(key).map(|item| item.version)) {
                return Ok(Outcome::ConditionFailed);
            }
        }
        for write in writes {
            match write {
                Write::Put(key, item, _) => {
                    state.last_version += 1;
                    let version = state.last_version;
                    state.items.insert(key, Item { value: item.value, version });
                }
                Write::Delete(key, _) => {
                    state.items.remove(&key);
                }
                Write::Check(..) => {}
            }
        }
        Ok(Outcome::Written)
    }
}

/// Whether `condition` holds for an item of `version`, or for no item.
pub(super) fn holds(condition: Condition, version: Option<u64>) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => version.is_none(),
        Condition::Version(wanted) => version == Some(wanted),
    }
}

/// Refuses what DynamoDB would refuse, so that no store takes what another does not.
pub(super) fn refuse_oversized(writes: &[Write]) -> Result<()> {
    let refuse = |why: String| Err(Error::refused("table", "checking a write", why));
    if writes.len() > MAX_TRANSACTION {
        return refuse(format!(
            "transaction of {} writes, at most {MAX_TRANSACTION} are allowed",
            writes.len()
        ));
    }
    let mut keys = HashSet::new();
    for write in writes {
        let (Write::Put(key, ..) | Write::Delete(key, _) | Write::Check(key, _)) = write;
        let Key { partition, sort } = key;
        let lengths_fit = [partition, sort].iter().all(|part| (1..=512).contains(&part.len()));
        if !lengths_fit || partition.chars().any(char::is_control) {
            return refuse(format!("invalid key {partition:?} {sort:?}"));
        }
        if writes.len() > 1 && !keys.insert(key) {
            return refuse(format!("two writes to {partition} {sort} in one transaction"));
        }
        if let Write::Put(_, item, _) = write
            && item.value.len() > MAX_VALUE_BYTES
        {
            return refuse(format!(
                "value of {} bytes for {partition} {sort}, at most {MAX_VALUE_BYTES} are allowed",
                item.value.len()
            ));
        }
    }
    Ok(())
}

#[async_trait::async_trait]
impl KeyValue for MemoryTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        Ok(self.lock().items.get(key).cloned())
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        let state = self.lock();
        Ok(keys.iter().map(|key| state.items.get(key).cloned()).collect())
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let first = match after {
            Some(after) if after >= range.start => Bound::Excluded(Key::new(partition, after)),
            _ => Bound::Included(Key::new(partition, range.start)),
        };
        let mut page = Page::default();
        let mut page_bytes = 0;
        for (key, item) in self.lock().items.range((first, Bound::Unbounded)) {
            if key.partition != partition || range.end.is_some_and(|end| key.sort.as_str() >= end) {
                break;
            }
            if page.items.len() >= limit.max(1) || page_bytes >= PAGE_BYTES {
                page.next = page.items.last().map(|(sort, _): &(String, Item)| sort.clone());
                break;
            }
            page_bytes += item.value.len();
            page.items.push((key.sort.clone(), item.clone()));
        }
        Ok(page)
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.write(vec![Write::Put(key, item, condition)])
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        self.write(writes)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.write(vec![Write::Delete(key.clone(), Condition::None)]).map(drop)
    }
}
