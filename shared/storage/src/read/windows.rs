//! What is stored, for people to look at and to check.

use std::collections::{BTreeMap, BTreeSet};

use model::{Signal, TenantId};

use super::index::{self, IndexedFile};
use crate::block::reference;
use crate::block::spans::{self, Parts, Projection};
use crate::index::{Window, keys};
use crate::kv::{SortRange, range_all};
use crate::{Error, Result, Store};

/// The files of one level in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWindow {
    /// The window.
    pub window: Window,
    /// 0 as it arrived, higher when merged.
    pub level: u8,
    /// Keys of the objects.
    pub objects: Vec<String>,
    /// Spans in them.
    pub rows: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// Bytes of the index items' values.
    pub index_bytes: u64,
    /// Least start, ns since the epoch.
    pub min_start_ns: i64,
    /// Greatest start.
    pub max_start_ns: i64,
    /// Services, as far as files list them.
    pub services: BTreeSet<String>,
}

/// The tenants that have files, sorted.
///
/// # Errors
/// As the table.
pub async fn tenants(store: &Store) -> Result<Vec<TenantId>> {
    let items = range_all(&*store.table, keys::TENANTS_PARTITION, SortRange::ALL).await?;
    let tenant =
        |(sort, _): (String, _)| sort.parse().map_err(|err| Error::corrupt(format!("tenant {sort}"), err));
    items.into_iter().map(tenant).collect()
}

/// What a tenant has stored, by window and level.
///
/// # Errors
/// As the table.
pub async fn windows(store: &Store, tenant: &TenantId) -> Result<Vec<StoredWindow>> {
    let mut stored: BTreeMap<(Window, u8), StoredWindow> = BTreeMap::new();
    for window in index::known_windows(store, tenant, Signal::Traces).await? {
        for file in index::files(store, tenant, Signal::Traces, vec![window]).await? {
            let summary = file.summary()?;
            let level = file.key.level;
            let entry = stored.entry((window, level)).or_insert_with(|| StoredWindow {
                window,
                level,
                objects: Vec::new(),
                rows: 0,
                bytes: 0,
                index_bytes: 0,
                min_start_ns: i64::MAX,
                max_start_ns: i64::MIN,
                services: BTreeSet::new(),
            });
            entry.objects.push(file.key.object(tenant));
            entry.rows += summary.rows;
            entry.bytes += summary.size;
            entry.index_bytes += file.item.len() as u64;
            entry.min_start_ns = entry.min_start_ns.min(summary.min_start_ns);
            entry.max_start_ns = entry.max_start_ns.max(summary.max_start_ns);
            let services = summary.services().map_err(|err| file.corrupt(err))?;
            entry.services.extend(services.into_iter().flatten().map(str::to_owned));
        }
    }
    Ok(stored.into_values().collect())
}

/// Reads every file of a tenant twice, through this crate's reader and through the `parquet` crate, and compares them
/// with each other and with the index. Returns how many spans that were.
///
/// # Errors
/// As the stores; the first file that is missing, cut off, unreadable or read differently.
pub async fn verify(store: &Store, tenant: &TenantId) -> Result<u64> {
    let windows = index::known_windows(store, tenant, Signal::Traces).await?;
    let mut n_rows = 0;
    for file in index::files(store, tenant, Signal::Traces, windows).await? {
        n_rows += verify_file(store, tenant, &file).await?;
    }
    Ok(n_rows)
}

async fn verify_file(store: &Store, tenant: &TenantId, file: &IndexedFile) -> Result<u64> {
    let summary = file.summary()?;
    let key = file.key.object(tenant);
    let bytes = store.objects.get(&key).await?.ok_or_else(|| Error::Missing { key: key.clone() })?;
    if bytes.len() as u64 != summary.size {
        let why = format!("{} bytes where the index says {}", bytes.len(), summary.size);
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    let table = summary.chunks().map_err(|err| file.corrupt(err))?;
    let own = spans::decode(&table, &Parts::whole(bytes.clone()), Projection::ALL)
        .map_err(|err| file.corrupt(err))?;
    let other = reference::decode(bytes).map_err(|err| Error::corrupt(format!("object {key}"), err))?;
    let n_same = own.iter().zip(other.iter()).filter(|(own, other)| own.same_as(*other)).count() as u64;
    if n_same != summary.rows || own.len() != other.len() || own.len() as u64 != summary.rows {
        let why = format!(
            "{} spans in the index, {} by the own reader, {} by the parquet crate, {n_same} alike",
            summary.rows,
            own.len(),
            other.len()
        );
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    Ok(summary.rows)
}
