//! Finds what crashes left behind, and mends it: objects that nothing names, items whose object is gone, leases of the dead.
//!
//! Objects are listed first and the index is read afterwards: what a writer stored in between has its item by then, or is
//! too young to be touched. It lists everything: for people and for a schedule of once a day, not for each tick.

use std::collections::BTreeSet;

use model::{Signal, TenantId};

use super::lease::{self, LEASE_S};
use crate::index::{AfterGrace, keys};
use crate::kv::{Condition, Key, SortRange, Write, range_all};
use crate::object::ObjectMeta;
use crate::read::index::{self, IndexedFile};
use crate::{Error, Result, Store};

/// Objects that a page of a listing has.
const PAGE: usize = 1000;

/// What there is to mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Objects that nothing names, of writes and merges that died before they were acknowledged or published.
    pub orphans: Vec<ObjectMeta>,
    /// Items whose object is gone, with its key: their rows are lost, and questions that need them fail.
    pub dangling: Vec<(Key, String)>,
    /// Leases that ran out long ago, with the versions of their items.
    pub leases: Vec<(Key, u64)>,
}

impl Damage {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.orphans.is_empty() && self.dangling.is_empty() && self.leases.is_empty()
    }
}

/// Looks for damage. Objects younger than `min_age_s` are left alone: longer than any write or merge takes.
///
/// # Errors
/// As the stores.
pub async fn find(store: &Store, min_age_s: u64, now_s: u64) -> Result<Damage> {
    let listed = list(store).await?;
    let keys: BTreeSet<&str> = listed.iter().map(|object| object.key.as_str()).collect();
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut damage = Damage::default();
    for tenant in crate::read::tenants(store).await? {
        for signal in Signal::ALL {
            for file in files(store, &tenant, signal).await? {
                let object = file.key.object(&tenant);
                // What is retired may be about to go, object first. The listing may be older than the item.
                let is_missing = file.heirs.is_none() && !keys.contains(object.as_str());
                if is_missing && store.objects.head(&object).await?.is_none() {
                    damage.dangling.push((file.at, object.clone()));
                }
                named.insert(object);
            }
        }
    }
    for (sort, item) in range_all(&*store.table, keys::RETIRED_PARTITION, SortRange::ALL).await? {
        let note = AfterGrace::parse(&item.value)
            .map_err(|err| Error::corrupt(format!("note of retired files {sort}"), err))?;
        named.extend(note.files().map(|(_, _, object)| object));
    }
    let is_orphan = |object: &ObjectMeta| {
        object.modified_s.saturating_add(min_age_s) <= now_s && !named.contains(&object.key)
    };
    damage.orphans = listed.into_iter().filter(is_orphan).collect();
    for (sort, item) in range_all(&*store.table, keys::LEASES_PARTITION, SortRange::ALL).await? {
        if lease::until_s(&item.value)?.saturating_add(LEASE_S) <= now_s {
            damage.leases.push((Key::new(keys::LEASES_PARTITION, sort), item.version));
        }
    }
    Ok(damage)
}

/// Removes orphans, dangling items and dead leases. Running it twice, or beside others, does no harm.
///
/// # Errors
/// As the stores.
pub async fn mend(store: &Store, damage: &Damage) -> Result<()> {
    for orphan in &damage.orphans {
        store.objects.delete(&orphan.key).await?;
    }
    for (item, _) in &damage.dangling {
        store.table.delete(item).await?;
    }
    for (lease, version) in &damage.leases {
        store.table.transact(vec![Write::Delete(lease.clone(), Condition::Version(*version))]).await?;
    }
    Ok(())
}

async fn list(store: &Store) -> Result<Vec<ObjectMeta>> {
    let mut listed: Vec<ObjectMeta> = Vec::new();
    loop {
        let after = listed.last().map(|last| last.key.clone());
        let page = store.objects.list("tenant=", after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        listed.extend(page);
        if is_last {
            return Ok(listed);
        }
    }
}

async fn files(store: &Store, tenant: &TenantId, signal: Signal) -> Result<Vec<IndexedFile>> {
    let windows = index::known_windows(store, tenant, signal).await?;
    index::items(store, tenant, signal, windows).await
}
