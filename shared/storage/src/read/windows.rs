//! What is stored, for people to look at.

use std::collections::{BTreeMap, BTreeSet};

use model::TenantId;

use super::index;
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
    /// How many files.
    pub files: u64,
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
    for window in index::known_windows(store, tenant).await? {
        for file in index::files(store, tenant, vec![window]).await? {
            let summary = file.summary()?;
            let level = file.key.level;
            let entry = stored.entry((window, level)).or_insert_with(|| StoredWindow {
                window,
                level,
                files: 0,
                rows: 0,
                bytes: 0,
                index_bytes: 0,
                min_start_ns: i64::MAX,
                max_start_ns: i64::MIN,
                services: BTreeSet::new(),
            });
            entry.files += 1;
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
