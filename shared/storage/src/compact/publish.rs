//! Outputs in, inputs out: one conditional transaction.
//!
//! Objects are stored before. The transaction writes the outputs' items, names them in each input's item, names their
//! windows, and notes what is to be deleted after the grace period. It holds only while the lease is held and
//! every input is as it was read: of two compactors one publishes, and the other's objects are left for repair.

use std::collections::BTreeMap;

use model::{ContentHash, Signal, TenantId};

use super::lease::Lease;
use crate::index::{
    AfterGrace, FileKey, NamedWindow, PlacedFiles, Window, WindowItem, keys, write_retired, write_treated,
};
use crate::kv::{Condition, Key, MAX_TRANSACTION, NewItem, Outcome, Write};
use crate::object::PutOutcome;
use crate::read::index::{self, IndexedFile};
use crate::{Error, Result, Store};

/// A merged file whose object is stored.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) key: FileKey,
    pub(super) window: Window,
    pub(super) item: Vec<u8>,
}

/// What merged files of these inputs are named after: with `part`, each has its own name.
pub(super) fn content_of<'a>(
    tenant: &TenantId,
    signal: Signal,
    layout: &str,
    inputs: impl IntoIterator<Item = &'a IndexedFile>,
    part: usize,
) -> ContentHash {
    let mut contents: Vec<ContentHash> = inputs.into_iter().map(|input| input.key.content).collect();
    contents.sort_unstable_by_key(|content| content.0);
    let mut hasher = blake3::Hasher::new();
    for text in [tenant.as_str(), signal.as_str(), layout] {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    }
    for content in contents {
        hasher.update(&content.0);
    }
    hasher.update(&(part as u64).to_le_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    ContentHash(hash[..16].try_into().expect("invariant: half of 32 bytes"))
}

/// Stores an output's object. An object of that name that is there must be the same: it is of a merge that died.
pub(super) async fn store_object(
    store: &Store,
    tenant: &TenantId,
    key: &FileKey,
    bytes: bytes::Bytes,
) -> Result<()> {
    let object = key.object(tenant);
    if store.objects.put_if_absent(&object, bytes.clone()).await? == PutOutcome::AlreadyThere
        && store.objects.get(&object).await?.is_some_and(|there| there != bytes)
    {
        return Err(Error::corrupt(format!("object {object}"), "it differs from what its inputs give"));
    }
    Ok(())
}

/// Files and those that have their rows from now on.
#[derive(Debug)]
pub(super) struct Replacement<'a> {
    pub(super) inputs: &'a [IndexedFile],
    pub(super) outputs: &'a [Output],
}

/// What becomes of a merge.
pub(super) struct Publication<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) signal: Signal,
    pub(super) replacements: &'a [Replacement<'a>],
    /// Files that stay as they are, and what was applied to them.
    pub(super) treated: &'a [(IndexedFile, Vec<u64>)],
    /// What is written in the same transaction.
    pub(super) also: Option<Write>,
    /// When the inputs may be deleted, seconds since the epoch.
    pub(super) due_s: u64,
    pub(super) now_s: u64,
}

/// Makes the outputs visible in place of the inputs; tells whether that happened.
pub(super) async fn publish(store: &Store, lease: &Lease, publication: Publication<'_>) -> Result<Outcome> {
    let Publication { tenant, signal, replacements, treated, also, due_s, now_s } = publication;
    let inputs = || replacements.iter().flat_map(|replacement| replacement.inputs);
    let outputs = || replacements.iter().flat_map(|replacement| replacement.outputs);
    let mut writes = vec![lease.check()];
    writes.extend(also);
    let mut windows: Vec<Window> = outputs().map(|output| output.window).collect();
    windows.sort_unstable();
    windows.dedup();
    for window in windows {
        let name = NamedWindow::of(window, store.layout);
        let key = Key::new(keys::windows_partition(tenant, signal), name.to_string());
        let item = NewItem::lasting(WindowItem { named_at_s: now_s }.encode());
        writes.push(Write::Put(key, item, Condition::None));
        // As the condition below, where the other number of partitions of another compactor places the items.
        let of_window = outputs().filter(|output| output.window == window);
        let files: Vec<(Key, FileKey)> = of_window
            .map(|output| (output.key.index(tenant, window, store.layout), output.key.clone()))
            .collect();
        if index::is_elsewhere(store, tenant, window, &files).await? {
            return Ok(Outcome::ConditionFailed);
        }
    }
    for output in outputs() {
        let key = output.key.index(tenant, output.window, store.layout);
        writes.push(Write::Put(key, NewItem::lasting(output.item.clone()), Condition::Absent));
    }
    let mut retired: BTreeMap<String, Vec<FileKey>> = BTreeMap::new();
    for replacement in replacements {
        let mut heirs: BTreeMap<String, Vec<FileKey>> = BTreeMap::new();
        for output in replacement.outputs {
            let at = output.key.index(tenant, output.window, store.layout);
            heirs.entry(at.partition).or_default().push(output.key.clone());
        }
        let heirs = PlacedFiles::of(signal, &heirs);
        for input in replacement.inputs {
            let item = NewItem::lasting(write_retired(&heirs));
            writes.push(Write::Put(input.at.clone(), item, Condition::Version(input.version)));
            retired.entry(input.at.partition.clone()).or_default().push(input.key.clone());
        }
    }
    for (file, treatments) in treated {
        let item = NewItem::lasting(write_treated(treatments, &file.item));
        writes.push(Write::Put(file.at.clone(), item, Condition::Version(file.version)));
    }
    if !retired.is_empty() {
        let name = content_of(tenant, signal, "retired", inputs(), 0);
        // Of those that are due at once, what was merged first comes first.
        let level = inputs().map(|input| input.key.level).max().unwrap_or(0);
        let key = Key::new(keys::RETIRED_PARTITION, format!("{due_s:016x}#{level}#{name}"));
        let files = PlacedFiles::of(signal, &retired);
        let after_grace = AfterGrace { tenant: tenant.clone(), signal, files };
        writes.push(Write::Put(key, NewItem::lasting(after_grace.encode()), Condition::None));
    }
    if writes.len() > MAX_TRANSACTION {
        return Err(Error::refused("table", "publishing a merge", "it has too many inputs and outputs"));
    }
    store.table.transact(writes).await
}
