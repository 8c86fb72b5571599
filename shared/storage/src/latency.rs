//! Adds a wait to each storage call: what a local store is like when it is far away.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::object::{Object, ObjectMeta, PutOutcome};
use crate::{Result, Store};

impl Store {
    /// The same stores, each call of which takes `latency` longer.
    #[must_use]
    pub fn with_latency(&self, latency: Duration) -> Self {
        Self {
            objects: Arc::new(SlowObject { inner: Arc::clone(&self.objects), latency }),
            table: Arc::new(SlowTable { inner: Arc::clone(&self.table), latency }),
            layout: self.layout,
            recent: self.recent.clone(),
        }
    }
}

struct SlowObject {
    inner: Arc<dyn Object>,
    latency: Duration,
}

#[async_trait::async_trait]
impl Object for SlowObject {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        tokio::time::sleep(self.latency).await;
        self.inner.put_if_absent(key, body).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        tokio::time::sleep(self.latency).await;
        self.inner.get_range(key, range).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        tokio::time::sleep(self.latency).await;
        self.inner.get(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        tokio::time::sleep(self.latency).await;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        tokio::time::sleep(self.latency).await;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        tokio::time::sleep(self.latency).await;
        self.inner.list(prefix, after, limit).await
    }
}

struct SlowTable {
    inner: Arc<dyn KeyValue>,
    latency: Duration,
}

#[async_trait::async_trait]
impl KeyValue for SlowTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        tokio::time::sleep(self.latency).await;
        self.inner.get(key).await
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        tokio::time::sleep(self.latency).await;
        self.inner.batch_get(keys).await
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        tokio::time::sleep(self.latency).await;
        self.inner.range(partition, range, after, limit).await
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        tokio::time::sleep(self.latency).await;
        self.inner.put(key, item, condition).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        tokio::time::sleep(self.latency).await;
        self.inner.transact(writes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        tokio::time::sleep(self.latency).await;
        self.inner.delete(key).await
    }
}
