//! Deletes what merging made superfluous, once no question can need it.
//!
//! First objects go, then their items, then the notes of it: whoever finds a note after a crash does it all again. Items go
//! last because they tell a request that is sent again that its rows are stored.
//!
//! Until then nobody may take an item for a living one. One whose heir has an item is passed over; so the items of merged
//! files stay twice as long as those of requests, and these need no more than their removal. Merged files that are due
//! together may be heirs of each other: their items first say that their rows are gone.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::index::{AfterGrace, keys, write_retired};
use crate::kv::{Condition, Key, NewItem, SortRange};
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
    let mut merged: Vec<Key> = Vec::new();
    for (sort, item) in &page.items {
        let due = AfterGrace::parse(&item.value)
            .map_err(|err| Error::corrupt(format!("note of retired files {sort}"), err))?;
        for (file, item, object) in due.files() {
            if file.level > 0 {
                merged.push(item.clone());
            }
            files.push((item, object));
        }
    }
    // All of one step before the next.
    let gone = NewItem::lasting(write_retired(&[], &[]));
    let mark = |item: Key| store.table.put(item, gone.clone(), Condition::None);
    let marks: Vec<_> = merged.into_iter().map(mark).collect();
    stream::iter(marks).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    let objects: Vec<_> = files.iter().map(|(_, object)| store.objects.delete(object)).collect();
    stream::iter(objects).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    let items: Vec<_> = files.iter().map(|(item, _)| store.table.delete(item)).collect();
    stream::iter(items).buffer_unordered(CONCURRENT_DELETIONS).try_collect::<Vec<_>>().await?;
    for (sort, _) in page.items {
        store.table.delete(&Key::new(keys::RETIRED_PARTITION, sort)).await?;
    }
    Ok(files.len() as u64)
}
