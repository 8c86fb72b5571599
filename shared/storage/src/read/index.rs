//! Index items of windows, and which files may hold an answer.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::search::{Condition, TraceSearch};
use model::{ContentHash, Signal, TenantId, TimeRange};

use crate::block::parquet::Invalid;
use crate::index::{FileKey, Summary, Window, fingerprint, keys, split_retired, split_treated};
use crate::kv::{Item, Key, SortRange, range_all};
use crate::{Error, Result, Store};

/// How many partitions of the index are read at once.
const CONCURRENT_PARTITIONS: usize = 16;
/// The same where all of them are read in one round: each has a page or two.
const PARTITIONS_OF_A_ROUND: usize = 256;

/// A file that the index names.
#[derive(Debug, Clone)]
pub(crate) struct IndexedFile {
    /// Where it is.
    pub(crate) key: FileKey,
    /// The item's value.
    pub(crate) item: Bytes,
    /// Where the item is.
    pub(crate) at: Key,
    /// The item's version.
    pub(crate) version: u64,
    /// The files that have its rows now, if it was merged.
    pub(crate) into: Option<Vec<ContentHash>>,
    /// The policies that were applied to it.
    pub(crate) treatments: Vec<u64>,
    /// The sieve of its traces that is beside the item; empty where there is none, or nobody asked for it.
    sieve: Bytes,
}

impl IndexedFile {
    /// A file with this item, of which nothing else is known.
    pub(super) fn of_item(key: FileKey, item: Bytes) -> Self {
        let at = Key::new(String::new(), key.sort());
        Self { key, item, at, version: 0, into: None, treatments: Vec::new(), sieve: Bytes::new() }
    }

    /// What the item says.
    ///
    /// # Errors
    /// The item is corrupt.
    pub(crate) fn summary(&self) -> Result<Summary<'_>> {
        Summary::parse(&self.item).map_err(|err| self.corrupt(err))
    }

    /// Whether the trace whose id has this hash may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub(super) fn may_have_trace(&self, summary: &Summary<'_>, hash: u64) -> Result<bool> {
        let may_have = summary.may_have_trace(hash).and_then(|may_have| {
            Ok(may_have && (self.sieve.is_empty() || fingerprint::may_pass(&self.sieve, hash)?))
        });
        may_have.map_err(|err| self.corrupt(err))
    }

    pub(crate) fn corrupt(&self, err: Invalid) -> Error {
        Error::corrupt(format!("file {}", self.key.sort()), err)
    }
}

/// The windows in which a tenant has files of a signal.
///
/// # Errors
/// As the table.
pub(crate) async fn known_windows(store: &Store, tenant: &TenantId, signal: Signal) -> Result<Vec<Window>> {
    let items = range_all(&*store.table, &keys::windows_partition(tenant, signal), SortRange::ALL).await?;
    let window = |(sort, _): &(String, _)| {
        Window::parse(sort).ok_or_else(|| Error::corrupt(format!("window {sort}"), "name is not a window's"))
    };
    items.iter().map(window).collect()
}

/// The files of a signal in these windows. A file that was merged into others that are all here is left out; where one is
/// not, because it was published while this read went on or lies in another window, the old file still has the rows.
///
/// # Errors
/// As the table.
pub(crate) async fn files(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    windows: Vec<Window>,
) -> Result<Vec<IndexedFile>> {
    Ok(live(items(store, tenant, signal, windows).await?))
}

/// The files of spans in all windows, with sieves: of those that are `expected` in the same round as the list of windows,
/// of any other after it. Also gives the list.
///
/// # Errors
/// As the table.
pub(crate) async fn files_of_all_windows(
    store: &Store,
    tenant: &TenantId,
    expected: Vec<Window>,
) -> Result<(Vec<IndexedFile>, Vec<Window>)> {
    let read = |windows| read_round(store, tenant, windows);
    let known = known_windows(store, tenant, Signal::Traces);
    let (known, mut files) = future::try_join(known, read(expected.clone())).await?;
    let left: Vec<Window> = known.iter().copied().filter(|window| !expected.contains(window)).collect();
    if !left.is_empty() {
        files.extend(read(left).await?);
    }
    Ok((live(files), known))
}

/// The files that are not merged into others that are all among these.
pub(crate) fn live(mut files: Vec<IndexedFile>) -> Vec<IndexedFile> {
    if files.iter().any(|file| file.into.is_some()) {
        let seen: HashSet<ContentHash> = files.iter().map(|file| file.key.content).collect();
        let is_merged = |into: &Vec<ContentHash>| into.iter().all(|content| seen.contains(content));
        files.retain(|file| !file.into.as_ref().is_some_and(is_merged));
    }
    files
}

/// All items of files of a signal in these windows, retired ones too.
///
/// # Errors
/// As the table.
pub(crate) async fn items(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    windows: Vec<Window>,
) -> Result<Vec<IndexedFile>> {
    read_partitions(store, tenant, signal, windows, keys::FILES, CONCURRENT_PARTITIONS).await
}

/// All items of files of spans in these windows, with sieves, in one round.
async fn read_round(store: &Store, tenant: &TenantId, windows: Vec<Window>) -> Result<Vec<IndexedFile>> {
    read_partitions(store, tenant, Signal::Traces, windows, SortRange::ALL, PARTITIONS_OF_A_ROUND).await
}

async fn read_partitions(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    windows: Vec<Window>,
    range: SortRange<'static>,
    n_at_once: usize,
) -> Result<Vec<IndexedFile>> {
    let shards = store.layout.shards.max(1);
    // Collected first: a lazy iterator of futures inside of a future keeps that from being `Send`.
    let partitions: Vec<_> = windows
        .into_iter()
        .flat_map(|window| {
            (0..shards).map(move |shard| keys::window_partition(tenant, signal, window, shard))
        })
        .map(|partition| async move {
            let items = range_all(&*store.table, &partition, range).await?;
            Ok::<_, Error>((partition, items))
        })
        .collect();
    let pages: Vec<_> = stream::iter(partitions).buffer_unordered(n_at_once).try_collect().await?;
    let mut files = Vec::with_capacity(pages.iter().map(|(_, items)| items.len()).sum());
    for (partition, mut items) in pages {
        // Sieves are behind the items.
        let n_items = items.partition_point(|(sort, _)| !sort.starts_with(keys::SIEVE_PREFIX));
        let sieves: HashMap<String, Item> = items.split_off(n_items).into_iter().collect();
        for (sort, item) in items {
            let key = FileKey::parse(signal, &sort)
                .ok_or_else(|| Error::corrupt(format!("index item {sort}"), "key is not a file's"))?;
            let (into, at) = split_retired(&item.value);
            let value = item.value.slice(at..);
            let (treatments, at) = split_treated(&value);
            files.push(IndexedFile {
                item: value.slice(at..),
                sieve: sieves.get(&key.sieve_sort()).map_or_else(Bytes::new, |sieve| sieve.value.clone()),
                at: Key::new(partition.clone(), sort),
                version: item.version,
                into,
                treatments,
                key,
            });
        }
    }
    Ok(files)
}

/// Whether a file may hold a span that the search asks for.
///
/// # Errors
/// The item is corrupt.
pub(super) fn may_match(file: &Summary<'_>, search: &TraceSearch) -> Result<bool, Invalid> {
    if !file.meets(search.range) {
        return Ok(false);
    }
    let service = search.conditions.iter().find_map(|condition| match condition {
        Condition::Service(service) => Some(service.as_str()),
        _ => None,
    });
    for condition in &search.conditions {
        if !may_hold(file, condition, service)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn may_hold(file: &Summary<'_>, condition: &Condition, service: Option<&str>) -> Result<bool, Invalid> {
    match (condition, service) {
        (Condition::Service(service), _) => file.may_have_service(service),
        (Condition::Name(name), Some(service)) => file.may_have_operation(service, name),
        (Condition::DurationAtLeast(least), _) => Ok(file.max_duration_ns >= *least),
        (Condition::DurationAtMost(most), _) => Ok(file.min_duration_ns <= *most),
        (Condition::Status(model::spans::STATUS_ERROR), _) => Ok(file.has_errors),
        (Condition::Any(any), _) => {
            for condition in any {
                if may_hold(file, condition, service)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// The windows of `known` whose files may hold spans that start in `range`.
pub(super) fn windows_in(known: &[Window], range: TimeRange) -> Vec<Window> {
    known.iter().copied().filter(|window| window.may_meet(range)).collect()
}
