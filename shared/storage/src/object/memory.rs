//! Objects in memory: the reference implementation, for tests.
//!
//! It keeps nothing after the process ends and never fails but for a key that no store would take.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Object, ObjectMeta, PutOutcome};
use crate::Result;

/// Objects in an ordered map behind a lock.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryObjects {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The map; no operation leaves it half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Object for MemoryObjects {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Ok(PutOutcome::AlreadyThere);
        }
        objects.insert(key.to_owned(), body);
        Ok(PutOutcome::Created)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(self.lock().get(key).map(|body| {
            let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(body.len());
            let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
            body.slice(start..end)
        }))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.lock().get(key).cloned())
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.lock().get(key).map(|body| body.len() as u64))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.lock();
        let in_prefix = objects.range::<str, _>((first, Bound::Unbounded));
        Ok(in_prefix
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, body)| ObjectMeta { key: key.clone(), size: body.len() as u64, modified_s: 0 })
            .collect())
    }
}
