//! Deletes what merging made superfluous, once no question can need it.
//!
//! First objects go, then their items, then the notes of it: whoever finds a note after a crash does it all again. Items go
//! last because they tell a request that is sent again that its rows are stored.
//!
//! A file whose item is not retired is left alone: its request came again after all that was done, before the note of it
//! went, or is being written now.
//!
//! Until then a retired item names its heirs, and a reader that misses one looks for it by its key. So items of merged files
//! stay twice as long as those of requests, and these need no more than their removal. Merged files that are due together
//! may be heirs of each other: their items first say that their rows are gone, and go after those of requests.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::Signal;

use crate::index::{AfterGrace, FileKey, GONE, Window, is_retired, keys};
use crate::kv::{Condition, Item, Key, NewItem, SortRange};
use crate::read::index;
use crate::{Error, Result, Store};

/// How many deletions are under way at once.
const CONCURRENT_DELETIONS: usize = 16;
/// Notes that one call works through at most.
const MAX_NOTES: usize = 256;

/// Deletes what is due; returns how many files that were.
///
/// # Errors
/// As the stores.
pub(super) async fn delete_due(store: &Store, now_s: u64) -> Result<u64> {
    let end = format!("{:016x}", now_s.saturating_add(1));
    let range = SortRange { start: "", end: Some(&end) };
    let page = store.table.range(keys::RETIRED_PARTITION, range, None, MAX_NOTES).await?;
    let mut files: Vec<(Key, String)> = Vec::new();
    let mut living: BTreeSet<String> = BTreeSet::new();
    let mut merged: BTreeSet<Key> = BTreeSet::new();
    let mut sieves: BTreeSet<Key> = BTreeSet::new();
    for (sort, item) in &page.items {
        let due = AfterGrace::parse(&item.value)
            .map_err(|err| Error::corrupt(format!("note of retired files {sort}"), err))?;
        for (file, item, object) in due.files() {
            if file.level > 0 {
                merged.insert(item.clone());
                if due.signal == Signal::Traces {
                    sieves.insert(Key::new(item.partition.clone(), file.sieve_sort()));
                }
            }
            files.push((item, object));
        }
        living.extend(living_elsewhere(store, &due).await?);
    }
    let files = marked(store, files).await?;
    merged.retain(|item| files.binary_search_by(|(other, _)| other.cmp(item)).is_ok());
    // All of one step before the next.
    let mark = |item: Key| store.table.put(item, NewItem::lasting(GONE), Condition::None);
    let marks: Vec<_> = merged.iter().cloned().map(mark).collect();
    stream::iter(marks).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    let objects = files.iter().map(|(_, object)| object).filter(|object| !living.contains(*object));
    let objects: Vec<_> = objects.map(|object| store.objects.delete(object)).collect();
    stream::iter(objects).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    let sieves: Vec<_> = sieves.iter().map(|sieve| store.table.delete(sieve)).collect();
    stream::iter(sieves).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    // Those of requests first: no item names an heir that has none.
    let (merged, fresh): (Vec<&Key>, Vec<&Key>) =
        files.iter().map(|(item, _)| item).partition(|item| merged.contains(item));
    for items in [fresh, merged] {
        let items: Vec<_> = items.into_iter().map(|item| store.table.delete(item)).collect();
        stream::iter(items).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    }
    for (sort, _) in page.items {
        store.table.delete(&Key::new(keys::RETIRED_PARTITION, sort)).await?;
    }
    Ok(files.len() as u64)
}

/// The objects of files that have a living item in another partition: their requests came again to a writer with another
/// number of partitions, after their objects went and before their items did.
async fn living_elsewhere(store: &Store, due: &AfterGrace) -> Result<Vec<String>> {
    let mut of_windows: BTreeMap<Window, Vec<(Key, FileKey)>> = BTreeMap::new();
    for (file, at, _) in due.files().filter(|(file, ..)| file.level == 0) {
        if let Some(window) = keys::window_of_partition(&at.partition) {
            of_windows.entry(window).or_default().push((at, file));
        }
    }
    let mut living = Vec::new();
    for (window, files) in of_windows {
        let places = index::other_places(store, &due.tenant, window, &files).await?;
        let items = store.table.batch_get(&places).await?;
        for (at, item) in places.iter().zip(items) {
            let is_living = item.is_some_and(|item| !is_retired(&item.value));
            let file = FileKey::parse(due.signal, &at.sort).filter(|_| is_living);
            living.extend(file.map(|file| file.object(&due.tenant)));
        }
    }
    Ok(living)
}

/// Those of these files whose items say that they are retired, each once.
async fn marked(store: &Store, mut files: Vec<(Key, String)>) -> Result<Vec<(Key, String)>> {
    files.sort_unstable();
    files.dedup();
    let keys: Vec<Key> = files.iter().map(|(item, _)| item.clone()).collect();
    let items = store.table.batch_get(&keys).await?;
    let is_marked = |item: &Option<Item>| item.as_ref().is_some_and(|item| is_retired(&item.value));
    Ok(files.into_iter().zip(&items).filter(|(_, item)| is_marked(item)).map(|(file, _)| file).collect())
}
