//! Index items of windows, and which files may hold an answer.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use bytes::Bytes;
use foldhash::fast::FixedState;
use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::search::{Condition, TraceSearch};
use model::{ContentHash, Signal, TenantId, TimeRange};

use crate::block::parquet::Invalid;
use crate::index::{
    FileKey, NamedWindow, PlacedFiles, Summary, TableLayout, Window, fingerprint, is_retired, keys,
    read_retired, split_treated,
};
use crate::kv::{Item, Key, SortRange, range_all};
use crate::{Error, Result, Store};

/// How many partitions of the index are read at once.
const CONCURRENT_PARTITIONS: usize = 16;
/// Items that are read at once where only some of them may be kept.
const ITEMS_OF_A_PAGE: usize = 1_000;
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
    /// The files that have its rows now, if it was merged: the item then says nothing.
    pub(crate) heirs: Option<PlacedFiles>,
    /// The policies that were applied to it.
    pub(crate) treatments: Vec<u64>,
    /// The sieve of its traces that is beside the item; empty where there is none, or nobody asked for it.
    sieve: Bytes,
}

impl IndexedFile {
    /// A file with this item, of which nothing else is known.
    pub(super) fn of_item(key: FileKey, item: Bytes) -> Self {
        let at = Key::new(String::new(), key.sort());
        Self { key, item, at, version: 0, heirs: None, treatments: Vec::new(), sieve: Bytes::new() }
    }

    /// What a table has under a key.
    ///
    /// # Errors
    /// Either is corrupt.
    fn read(signal: Signal, at: Key, item: Item, sieve: Bytes) -> Result<Self> {
        let key = FileKey::parse(signal, &at.sort)
            .ok_or_else(|| Error::corrupt(format!("index item {}", at.sort), "key is not a file's"))?;
        let Item { value, version } = item;
        let heirs = read_retired(signal, &value)
            .map_err(|err| Error::corrupt(format!("index item {}", at.sort), err))?;
        let (treatments, begin) = split_treated(&value);
        let item = if heirs.is_some() { Bytes::new() } else { value.slice(begin..) };
        Ok(Self { key, item, at, version, heirs, treatments, sieve })
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

/// The windows in which a tenant has files of a signal, ascending.
///
/// # Errors
/// As the table.
pub(crate) async fn known_windows(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
) -> Result<Vec<NamedWindow>> {
    let items = range_all(&*store.table, &keys::windows_partition(tenant, signal), SortRange::ALL).await?;
    let named = |(sort, _): &(String, _)| {
        NamedWindow::parse(sort, store.layout)
            .ok_or_else(|| Error::corrupt(format!("window {sort}"), "name is not a window's"))
    };
    let mut windows: Vec<NamedWindow> = items.iter().map(named).collect::<Result<_>>()?;
    windows.sort_unstable_by_key(|named| (named.window, Reverse(named.shards)));
    windows.dedup_by_key(|named| named.window);
    Ok(windows)
}

/// Where else items of these files of one window may be, given where they are: at the places of writers that spread it
/// over another number of partitions.
///
/// # Errors
/// As the table.
pub(crate) async fn other_places(
    store: &Store,
    tenant: &TenantId,
    window: Window,
    files: &[(Key, FileKey)],
) -> Result<Vec<Key>> {
    let Some((_, first)) = files.first() else { return Ok(Vec::new()) };
    let partition = keys::windows_partition(tenant, first.signal);
    let (start, end) = (format!("{window}#"), format!("{window}$"));
    let names = range_all(&*store.table, &partition, SortRange { start: &start, end: Some(&end) }).await?;
    let mut places = BTreeSet::new();
    for named in names.iter().filter_map(|(name, _)| NamedWindow::parse(name, store.layout)) {
        let layout = TableLayout { shards: named.shards };
        places.extend(files.iter().map(|(_, file)| file.index(tenant, window, layout)));
    }
    for (at, _) in files {
        places.remove(at);
    }
    Ok(places.into_iter().collect())
}

/// Whether an item of one of these files is at one of their [`other_places`].
///
/// # Errors
/// As the table.
pub(crate) async fn is_elsewhere(
    store: &Store,
    tenant: &TenantId,
    window: Window,
    files: &[(Key, FileKey)],
) -> Result<bool> {
    let places = other_places(store, tenant, window, files).await?;
    Ok(store.table.batch_get(&places).await?.iter().any(Option::is_some))
}

/// The files of a signal in these windows, and those that have the rows of what was merged there.
///
/// # Errors
/// As the table; missing where an heir's item is: it was deleted while this read went on.
pub(crate) async fn files(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    windows: Vec<NamedWindow>,
) -> Result<Vec<IndexedFile>> {
    let items = items(store, tenant, signal, windows).await?;
    living(store, tenant, signal, items).await
}

/// The files of spans in all windows, with sieves: of those that are `expected` in the same round as the list of windows,
/// of any other after it. Also gives the list.
///
/// # Errors
/// As [`files`].
pub(crate) async fn files_of_all_windows(
    store: &Store,
    tenant: &TenantId,
    expected: &[NamedWindow],
) -> Result<(Vec<IndexedFile>, Vec<NamedWindow>)> {
    let known = known_windows(store, tenant, Signal::Traces);
    let guessed = read_round(store, tenant, expected.iter().map(all_shards).collect());
    let (known, mut files) = future::try_join(known, guessed).await?;
    let of_expected: HashMap<Window, u8> =
        expected.iter().map(|named| (named.window, named.shards)).collect();
    let left = |named: &NamedWindow| {
        let n_read = of_expected.get(&named.window).copied().unwrap_or(0);
        (n_read < named.shards).then_some((named.window, n_read..named.shards))
    };
    let left: Vec<(Window, Range<u8>)> = known.iter().filter_map(left).collect();
    if !left.is_empty() {
        files.extend(read_round(store, tenant, left).await?);
    }
    Ok((living(store, tenant, Signal::Traces, files).await?, known))
}

/// The files among `items` that are not retired, and the heirs of those that are. An heir that is not among them was
/// published after its window was read, or lies in one that was not: it is read by its key, and so are its own heirs.
///
/// # Errors
/// As [`files`].
pub(crate) async fn living(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    mut items: Vec<IndexedFile>,
) -> Result<Vec<IndexedFile>> {
    let mut n_looked_at = 0;
    loop {
        let mut missing: HashMap<ContentHash, (Key, FileKey), FixedState> = HashMap::default();
        let mut last = None;
        for heirs in items[n_looked_at..].iter().filter_map(|file| file.heirs.as_ref()) {
            // What was merged together is mostly side by side.
            if last.replace(heirs) != Some(heirs) {
                for (partition, heir) in heirs.iter() {
                    missing
                        .entry(heir.content)
                        .or_insert_with(|| (Key::new(partition, heir.sort()), heir.clone()));
                }
            }
        }
        n_looked_at = items.len();
        if !missing.is_empty() {
            for file in &items {
                missing.remove(&file.key.content);
            }
        }
        if missing.is_empty() {
            break;
        }
        let (keys, heirs): (Vec<Key>, Vec<FileKey>) = missing.into_values().unzip();
        let found = store.table.batch_get(&keys).await?;
        for ((at, heir), item) in keys.into_iter().zip(heirs).zip(found) {
            let item = item.ok_or_else(|| Error::Missing { key: heir.object(tenant) })?;
            items.push(IndexedFile::read(signal, at, item, Bytes::new())?);
        }
    }
    items.retain(|file| file.heirs.is_none());
    Ok(items)
}

/// All items of files of a signal in these windows, retired ones too.
///
/// # Errors
/// As the table.
pub(crate) async fn items(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    windows: Vec<NamedWindow>,
) -> Result<Vec<IndexedFile>> {
    let shards = windows.iter().map(all_shards).collect();
    read_partitions(store, tenant, signal, shards, keys::FILES, CONCURRENT_PARTITIONS).await
}

/// Files of a signal in a window that are not retired: at most about `max_files`, of the lowest levels and of those the
/// oldest. Takes memory for these and a page.
///
/// # Errors
/// As the table.
pub(crate) async fn first_files(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    named: NamedWindow,
    max_files: usize,
) -> Result<Vec<IndexedFile>> {
    let max_of_partition = max_files.div_ceil(usize::from(named.shards));
    let of_partition = |shard| async move {
        let partition = keys::window_partition(tenant, signal, named.window, shard);
        let mut files = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.table.range(&partition, keys::FILES, after.as_deref(), ITEMS_OF_A_PAGE).await?;
            for (sort, item) in page.items {
                if !is_retired(&item.value) && files.len() < max_of_partition {
                    files.push(IndexedFile::read(
                        signal,
                        Key::new(partition.clone(), sort),
                        item,
                        Bytes::new(),
                    )?);
                }
            }
            after = page.next.filter(|_| files.len() < max_of_partition);
            if after.is_none() {
                return Ok::<_, Error>(files);
            }
        }
    };
    let partitions: Vec<_> = (0..named.shards).map(of_partition).collect();
    let files: Vec<_> =
        stream::iter(partitions).buffer_unordered(CONCURRENT_PARTITIONS).try_collect().await?;
    Ok(files.into_iter().flatten().collect())
}

/// Whether a window has an item of a file, retired or not: of each partition no more is read than the first.
///
/// # Errors
/// As the table.
pub(crate) async fn has_items(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    named: NamedWindow,
) -> Result<bool> {
    let of_partition = |shard| async move {
        let partition = keys::window_partition(tenant, signal, named.window, shard);
        let mut after: Option<String> = None;
        loop {
            let page = store.table.range(&partition, keys::FILES, after.as_deref(), 1).await?;
            // A page may be empty, and not the last.
            if !page.items.is_empty() || page.next.is_none() {
                return Ok::<_, Error>(!page.items.is_empty());
            }
            after = page.next;
        }
    };
    let partitions: Vec<_> = (0..named.shards).map(of_partition).collect();
    stream::iter(partitions).buffer_unordered(CONCURRENT_PARTITIONS).try_any(future::ready).await
}

/// All items of files of spans in these partitions of windows, with sieves, in one round.
async fn read_round(
    store: &Store,
    tenant: &TenantId,
    shards: Vec<(Window, Range<u8>)>,
) -> Result<Vec<IndexedFile>> {
    read_partitions(store, tenant, Signal::Traces, shards, SortRange::ALL, PARTITIONS_OF_A_ROUND).await
}

fn all_shards(named: &NamedWindow) -> (Window, Range<u8>) {
    (named.window, 0..named.shards)
}

async fn read_partitions(
    store: &Store,
    tenant: &TenantId,
    signal: Signal,
    shards: Vec<(Window, Range<u8>)>,
    range: SortRange<'static>,
    n_at_once: usize,
) -> Result<Vec<IndexedFile>> {
    let partitions = shards.into_iter().flat_map(|(window, shards)| {
        shards.map(move |shard| keys::window_partition(tenant, signal, window, shard))
    });
    // Collected first: a lazy iterator of futures inside of a future keeps that from being `Send`.
    let partitions: Vec<_> = partitions
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
            let has_sieve = !sieves.is_empty() && !is_retired(&item.value);
            let sieve = has_sieve.then(|| sieves.get(&format!("{}{sort}", keys::SIEVE_PREFIX))).flatten();
            let sieve = sieve.map_or_else(Bytes::new, |sieve| sieve.value.clone());
            files.push(IndexedFile::read(signal, Key::new(partition.clone(), sort), item, sieve)?);
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
pub(super) fn windows_in(known: &[NamedWindow], range: TimeRange) -> Vec<NamedWindow> {
    known.iter().copied().filter(|named| named.window.may_meet(range)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::{TableLayout, write_retired};
    use crate::kv::memory::MemoryTable;
    use crate::kv::{Condition, KeyValue as _, NewItem};
    use crate::object::memory::MemoryObjects;
    use crate::read::RecentTraces;

    const LAYOUT: TableLayout = TableLayout { shards: 3 };

    fn file(level: u8) -> FileKey {
        FileKey { signal: Signal::Logs, level, min_start_ns: 7, content: ContentHash([level; 16]) }
    }

    fn at(level: u8, window: Window) -> Key {
        file(level).index(&TenantId::default_tenant(), window, LAYOUT)
    }

    /// A table in which a file of hour 1 was merged in its hour, and that one into a day.
    async fn merged_twice() -> Store {
        let table = MemoryTable::default();
        let heirs = |level, window| {
            let heirs = [(at(level, window).partition, vec![file(level)])];
            write_retired(&PlacedFiles::of(Signal::Logs, &heirs.into()))
        };
        let (hour, day) = (Window::Hour(1), Window::of_hours(1, 24));
        let items = [
            (at(0, hour), heirs(1, hour)),
            (at(1, hour), heirs(9, day)),
            (at(9, day), b"\x01says something".to_vec()),
        ];
        for (key, value) in items {
            table.put(key, NewItem::lasting(value), Condition::Absent).await.unwrap();
        }
        let objects = Arc::new(MemoryObjects::default());
        Store { objects, table: Arc::new(table), layout: LAYOUT, recent: RecentTraces::default() }
    }

    #[tokio::test]
    async fn heirs_that_were_not_read_are_found_by_their_keys() {
        let (store, tenant) = (merged_twice().await, TenantId::default_tenant());
        let items = |windows: &[Window]| {
            let named = windows.iter().map(|window| NamedWindow::of(*window, LAYOUT)).collect();
            items(&store, &tenant, Signal::Logs, named)
        };
        let living = |items| living(&store, &tenant, Signal::Logs, items);
        let hour = items(&[Window::Hour(1)]).await.unwrap();
        assert_eq!(hour.len(), 2);
        let oldest: Vec<_> = hour.iter().filter(|file| file.key.level == 0).cloned().collect();
        let all = items(&[Window::Hour(1), Window::of_hours(1, 24)]).await.unwrap();
        for read in [oldest, hour, all] {
            let found = living(read).await.unwrap();
            let levels: Vec<u8> = found.iter().map(|file| file.key.level).collect();
            assert_eq!((levels, &*found[0].item), (vec![9], &b"\x01says something"[..]));
            assert_eq!(found[0].at, at(9, Window::of_hours(1, 24)));
        }
    }

    #[tokio::test]
    async fn an_heir_that_is_gone_is_missing() {
        let (store, tenant) = (merged_twice().await, TenantId::default_tenant());
        store.table.delete(&at(9, Window::of_hours(1, 24))).await.unwrap();
        let missing =
            files(&store, &tenant, Signal::Logs, vec![NamedWindow::of(Window::Hour(1), LAYOUT)]).await;
        assert!(matches!(missing, Err(Error::Missing { key }) if key == file(9).object(&tenant)));
    }
}
