//! Deletes what merging made superfluous, once no question can need it.
//!
//! First the items say that their rows are gone, so that nobody looks for the objects even where the file that has the rows
//! was merged further; then the objects go, then the items, then the note of it all. Whoever finds the note after a crash
//! does it all again. The items go last because they tell a request that is sent again that its rows are stored.

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
    for (sort, item) in &page.items {
        let due = AfterGrace::parse(&item.value)
            .map_err(|err| Error::corrupt(format!("note of retired files {sort}"), err))?;
        files.extend(due.files());
    }
    // All of one step before the next: what is due at once may have been merged one into the other.
    let gone = NewItem::lasting(write_retired(&[], &[]));
    let mark = |(item, _): &(Key, String)| store.table.put(item.clone(), gone.clone(), Condition::None);
    let marks: Vec<_> = files.iter().map(mark).collect();
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
