//! Columns of files, in few reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures::future;
use model::TenantId;

use super::index::IndexedFile;
use crate::block::spans::{ChunkTable, Parts, Projection};
use crate::{Error, Result, Store};

/// Chunks less than this apart are read in one go: a request costs as much as some hundred KB.
const JOIN_GAP: u64 = 128 << 10;

/// What a query has read so far, and how much it may read.
pub(super) struct Budget {
    max_bytes: u64,
    bytes: AtomicU64,
}

impl Budget {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, bytes: AtomicU64::new(0) }
    }

    fn spend(&self, bytes: u64) -> Result<()> {
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > self.max_bytes {
            return Err(Error::OverLimit { limit: self.max_bytes, unit: "bytes" });
        }
        Ok(())
    }
}

/// The bytes of the columns in `projection`.
///
/// # Errors
/// As the object store; over the budget; the object is missing or shorter than its index item says.
pub(super) async fn parts(
    store: &Store,
    tenant: &TenantId,
    file: &IndexedFile,
    table: &ChunkTable,
    projection: Projection,
    budget: &Budget,
) -> Result<Parts> {
    let key = file.key.object(tenant);
    let ranges = table.ranges(projection, JOIN_GAP);
    budget.spend(ranges.iter().map(|range| range.end - range.start).sum())?;
    let read = |range: std::ops::Range<u64>| {
        let key = &key;
        async move {
            let bytes = store.objects.get_range(key, range.clone()).await?;
            let bytes = bytes.ok_or_else(|| Error::Missing { key: key.clone() })?;
            Ok::<_, Error>((range.start, bytes))
        }
    };
    let mut parts = Parts::new();
    for (offset, bytes) in future::try_join_all(ranges.into_iter().map(read)).await? {
        parts.add(offset, bytes);
    }
    Ok(parts)
}
