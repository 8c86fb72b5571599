//! A table in one file of the local disk, by the embedded store redb.
//!
//! One thread writes. It takes all writes that are waiting, gives each its own check of its own conditions inside one
//! transaction of the store, commits once with a sync, and then answers them all: sixteen writers share one sync.
//! Reads run on the caller's thread: they are short, and mostly from memory.
//! The store locks its file, so a second process gets [`Error::InUse`].
//!
//! Stored: key = partition, 0x00, sort key; ordered by bytes, and 0x00 is in no partition, so partitions never mix.
//! ```text
//! value = version u64 LE | expires_at_s u64 LE, 0 for never | bytes
//! ```
//!
//! After an I/O error redb wants to be opened again; the next call does that. Rejected: quick repair and two-phase
//! commits, which make each commit slower to make the first open after a crash faster.

use std::future::Future;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::future;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::memory::{PAGE_BYTES, holds, refuse_oversized};
use super::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::object::local::{create_folder_durably, is_refusal};
use crate::{Error, Result};

const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// In [`META`]: every version given so far is lower.
const VERSION_CEILING: &str = "version_ceiling";
/// How many versions are reserved by one change of the ceiling, so that most commits do not touch it.
const VERSIONS_RESERVED: u64 = 1 << 20;

/// Memory for pages: the whole process has to stay under 150 MB.
const CACHE_BYTES: usize = 32 << 20;
/// Transactions that wait for the writer; more make their callers wait.
const QUEUED_TRANSACTIONS: usize = 1024;
/// Most transactions and bytes of values of one commit, so that the first of them is not kept waiting.
const COMMIT_TRANSACTIONS: usize = 512;
const COMMIT_BYTES: usize = 8 << 20;
/// Removals that [`EmbeddedTable::sweep`] has under way at once.
const SWEPT_AT_ONCE: usize = 256;

/// Version and expiry before the bytes of a value.
const HEADER_BYTES: usize = 16;

type RedbResult<T> = std::result::Result<T, redb::Error>;
type Opener = dyn Fn() -> std::result::Result<Database, redb::DatabaseError> + Send + Sync;

/// A table in a file. Dropping it finishes the queued writes and closes the file.
pub struct EmbeddedTable {
    file: Arc<TableFile>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Transaction>>,
    writer: Option<JoinHandle<()>>,
    /// Where the last sweep stopped.
    swept_to: Mutex<Vec<u8>>,
}

/// Writes that happen together, and who waits for them.
struct Transaction {
    writes: Vec<Write>,
    reply: oneshot::Sender<Result<Outcome>>,
}

impl EmbeddedTable {
    /// The table in the file `path`, which is created if it is missing, with the folders above it.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process, or this one, has it open; corrupt if the file is something else; refused
    /// or unavailable if it cannot be read or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = folder.display().to_string();
        create_folder_durably(folder).map_err(|error| failed(&name, "creating the folder", error.into()))?;
        let file = path.clone();
        let open = move || Database::builder().set_cache_size(CACHE_BYTES).create(&file);
        let table = Self::open_with(&name, Box::new(open))?;
        // The file's own entry: redb syncs only what is in the file.
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed(&name, "syncing the folder", error.into()))?;
        Ok(table)
    }

    fn open_with(folder: &str, open: Box<Opener>) -> Result<Self> {
        let opening = |error| failed(folder, "opening the table", error);
        let database = open().map_err(|error| opening(error.into()))?;
        let next_version = prepare(&database).map_err(opening)?;
        let file = Arc::new(TableFile {
            folder: folder.to_owned(),
            open,
            opened: RwLock::new(Opened { database: Some(database), n_failures: 0 }),
            n_commits: AtomicU64::new(0),
        });
        let (queue, queued) = mpsc::channel(QUEUED_TRANSACTIONS);
        let writer = Writer {
            file: Arc::clone(&file),
            // The first commit reserves versions.
            versions: Versions { next: next_version, ceiling: next_version },
        };
        let thread = std::thread::Builder::new().name("table-writer".to_owned());
        let writer = thread.spawn(move || writer.run(queued)).map_err(|error| opening(error.into()))?;
        Ok(Self { file, queue: Some(queue), writer: Some(writer), swept_to: Mutex::default() })
    }

    /// How many commits, and so syncs, the writes since the opening took.
    pub fn commits(&self) -> u64 {
        self.file.n_commits.load(Ordering::Relaxed)
    }

    /// Removes items that expired before `now_s`, and returns how many.
    ///
    /// Looks at `limit` items, from where the last sweep stopped, and starts again after the table's end: call it
    /// every so often with a few thousand. An item that is written again meanwhile is kept.
    ///
    /// # Errors
    /// As [`KeyValue::range`] and [`KeyValue::delete`].
    pub async fn sweep(&self, now_s: u64, limit: usize) -> Result<usize> {
        let start = std::mem::take(&mut *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner));
        let look = |database: &Database| expired_items(database, &start, now_s, limit);
        let expired = self.file.read("sweeping the table", look)?;
        let mut n_removed = 0;
        for group in expired.items.chunks(SWEPT_AT_ONCE) {
            let removals = group.iter().map(|(key, version)| async {
                let delete = Write::Delete(decode_key(key)?, Condition::Version(*version));
                self.write(vec![delete]).await
            });
            for outcome in future::join_all(removals).await {
                n_removed += usize::from(outcome? == Outcome::Written);
            }
        }
        *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner) = expired.next_start;
        Ok(n_removed)
    }

    fn write(&self, writes: Vec<Write>) -> impl Future<Output = Result<Outcome>> + Send {
        let queue = self.queue.clone();
        async move {
            refuse_oversized(&writes)?;
            let (reply, answer) = oneshot::channel();
            let queue = queue.expect("invariant: the queue is there until the table is dropped");
            let stopped = || Error::unavailable("table", "writing", "the writer thread has stopped");
            queue.send(Transaction { writes, reply }).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        }
    }
}

impl Drop for EmbeddedTable {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(folder = self.file.folder, "table writer panicked");
        }
    }
}

#[async_trait::async_trait]
impl KeyValue for EmbeddedTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        let encoded = encode_key(&key.partition, &key.sort);
        self.file.read("reading an item", |database| {
            let items = database.begin_read()?.open_table(ITEMS)?;
            items.get(encoded.as_slice())?.map(|value| decode_item(value.value())).transpose()
        })
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        self.file.read("reading items", |database| {
            let items = database.begin_read()?.open_table(ITEMS)?;
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let value = items.get(encode_key(&key.partition, &key.sort).as_slice())?;
                found.push(value.map(|value| decode_item(value.value())).transpose()?);
            }
            Ok(found)
        })
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let first = match after {
            Some(after) if after >= range.start => Bound::Excluded(encode_key(partition, after)),
            _ => Bound::Included(encode_key(partition, range.start)),
        };
        let end =
            range.end.map_or_else(|| [partition.as_bytes(), &[1]].concat(), |end| encode_key(partition, end));
        // The store panics on a range that ends before it starts.
        let (Bound::Excluded(first_key) | Bound::Included(first_key)) = &first else {
            return Ok(Page::default());
        };
        if *first_key >= end {
            return Ok(Page::default());
        }
        let bounds = (first.as_ref().map(Vec::as_slice), Bound::Excluded(end.as_slice()));
        self.file.read("reading a range", |database| {
            let items = database.begin_read()?.open_table(ITEMS)?;
            let mut page = Page::default();
            let mut page_bytes = 0;
            for entry in items.range::<&[u8]>(bounds)? {
                let (key, value) = entry?;
                if page.items.len() >= limit.max(1) || page_bytes >= PAGE_BYTES {
                    page.next = page.items.last().map(|(sort, _): &(String, Item)| sort.clone());
                    break;
                }
                let sort = &key.value()[partition.len() + 1..];
                let sort = std::str::from_utf8(sort).map_err(|_| corrupted("sort key is not UTF-8"))?;
                let item = decode_item(value.value())?;
                page_bytes += item.value.len();
                page.items.push((sort.to_owned(), item));
            }
            Ok(page)
        })
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.write(vec![Write::Put(key, item, condition)]).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        self.write(writes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.write(vec![Write::Delete(key.clone(), Condition::None)]).await.map(drop)
    }
}

/// The open file, or how to open it again.
struct TableFile {
    folder: String,
    open: Box<Opener>,
    /// Held for reading by every use of the database, for writing to open it again.
    opened: RwLock<Opened>,
    n_commits: AtomicU64,
}

struct Opened {
    /// `None` after it could not be opened again.
    database: Option<Database>,
    /// Counts the failures that were answered by opening again, so that one failure seen by many is answered once.
    n_failures: u64,
}

/// What a use of the database ended in.
enum Use<T> {
    Done(Result<T>),
    /// The database has to be opened again; what this call met, if it came so far.
    Failed {
        error: Option<redb::Error>,
        n_failures: u64,
    },
}

impl TableFile {
    /// Runs a read, a second time if the database had to be opened again.
    fn read<T>(&self, doing: &str, read: impl Fn(&Database) -> RedbResult<T>) -> Result<T> {
        match self.attempt(doing, &read) {
            Use::Done(outcome) => outcome,
            Use::Failed { n_failures, .. } => {
                self.open_again(n_failures)?;
                match self.attempt(doing, &read) {
                    Use::Done(outcome) => outcome,
                    Use::Failed { error, .. } => Err(self.unusable(doing, error)),
                }
            }
        }
    }

    fn attempt<T>(&self, doing: &str, work: impl FnOnce(&Database) -> RedbResult<T>) -> Use<T> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let n_failures = opened.n_failures;
        match opened.database.as_ref().map(work) {
            None => Use::Failed { error: None, n_failures },
            Some(Ok(done)) => Use::Done(Ok(done)),
            Some(Err(error)) if needs_opening_again(&error) => Use::Failed { error: Some(error), n_failures },
            Some(Err(error)) => Use::Done(Err(failed(&self.folder, doing, error))),
        }
    }

    /// Opens the file again, unless someone did since `n_failures` were counted.
    fn open_again(&self, n_failures: u64) -> Result<()> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.n_failures != n_failures && opened.database.is_some() {
            return Ok(());
        }
        opened.n_failures += 1;
        // Closes it, which gives up its lock.
        opened.database = None;
        let database =
            (self.open)().map_err(|error| failed(&self.folder, "opening the table again", error.into()))?;
        tracing::warn!(folder = self.folder, "table opened again after an I/O error");
        opened.database = Some(database);
        Ok(())
    }

    fn unusable(&self, doing: &str, error: Option<redb::Error>) -> Error {
        failed(&self.folder, doing, error.unwrap_or(redb::Error::DatabaseClosed))
    }
}

/// The thread that writes.
struct Writer {
    file: Arc<TableFile>,
    versions: Versions,
}

/// The versions that may be given: `next..ceiling`; more after the ceiling was raised on the disk.
struct Versions {
    next: u64,
    ceiling: u64,
}

impl Writer {
    /// Works until the table is dropped and the queue is empty.
    fn run(mut self, mut queued: mpsc::Receiver<Transaction>) {
        while let Some(first) = queued.blocking_recv() {
            let mut n_bytes = n_value_bytes(&first);
            let mut batch = vec![first];
            while batch.len() < COMMIT_TRANSACTIONS && n_bytes < COMMIT_BYTES {
                let Ok(transaction) = queued.try_recv() else { break };
                n_bytes += n_value_bytes(&transaction);
                batch.push(transaction);
            }
            let outcomes = self.write(&batch);
            for (i, transaction) in batch.into_iter().enumerate() {
                // An error means that the caller has gone away.
                let _ = transaction
                    .reply
                    .send(outcomes.as_ref().map(|outcomes| outcomes[i]).map_err(Error::clone));
            }
        }
    }

    /// Writes a batch, and opens the database again where that is what it takes.
    fn write(&mut self, batch: &[Transaction]) -> Result<Vec<Outcome>> {
        let Self { file, versions } = self;
        let mut began = false;
        let (error, n_failures) = match file
            .attempt("writing", |database| commit(database, batch, versions, &mut began, &file.n_commits))
        {
            Use::Done(outcome) => return outcome,
            Use::Failed { error, n_failures } => (error, n_failures),
        };
        file.open_again(n_failures)?;
        // Of a commit that failed nobody knows how far it came, and a second try of a conditional write would meet
        // its own first one. So only what failed before this batch began is tried again.
        if began {
            return Err(file.unusable("writing", error));
        }
        match file
            .attempt("writing", |database| commit(database, batch, versions, &mut began, &file.n_commits))
        {
            Use::Done(outcome) => outcome,
            Use::Failed { error, .. } => Err(file.unusable("writing", error)),
        }
    }
}

/// Makes the tables if they are missing, and returns the first version that may be given.
fn prepare(database: &Database) -> RedbResult<u64> {
    let transaction = database.begin_write()?;
    transaction.open_table(ITEMS)?;
    let ceiling = transaction.open_table(META)?.get(VERSION_CEILING)?.map(|ceiling| ceiling.value());
    transaction.commit()?;
    Ok(ceiling.unwrap_or(1))
}

/// Applies the transactions one after another, each to what the ones before it left, and makes them durable at once.
fn commit(
    database: &Database,
    batch: &[Transaction],
    versions: &mut Versions,
    began: &mut bool,
    n_commits: &AtomicU64,
) -> RedbResult<Vec<Outcome>> {
    let transaction = database.begin_write()?;
    *began = true;
    let mut changed = false;
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut items = transaction.open_table(ITEMS)?;
    for Transaction { writes, .. } in batch {
        if !all_hold(&items, writes)? {
            outcomes.push(Outcome::ConditionFailed);
            continue;
        }
        for write in writes {
            changed |= apply(&mut items, write, versions)?;
        }
        outcomes.push(Outcome::Written);
    }
    drop(items);
    if !changed {
        transaction.abort()?;
        return Ok(outcomes);
    }
    let ceiling = versions.ceiling;
    if versions.next > ceiling {
        versions.ceiling = versions.next + VERSIONS_RESERVED;
        transaction.open_table(META)?.insert(VERSION_CEILING, versions.ceiling)?;
    }
    if let Err(error) = transaction.commit() {
        // Whether the new ceiling is on the disk is unknown too.
        versions.ceiling = ceiling;
        return Err(error.into());
    }
    n_commits.fetch_add(1, Ordering::Relaxed);
    Ok(outcomes)
}

fn all_hold(items: &Table<'_, &[u8], &[u8]>, writes: &[Write]) -> RedbResult<bool> {
    for write in writes {
        let (Write::Put(key, _, condition) | Write::Delete(key, condition) | Write::Check(key, condition)) =
            write;
        if *condition == Condition::None {
            continue;
        }
        let value = items.get(encode_key(&key.partition, &key.sort).as_slice())?;
        let version =
            value.map(|value| decode_header(value.value())).transpose()?.map(|(version, _)| version);
        if !holds(*condition, version) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Applies one write, and returns whether it changed anything.
fn apply(items: &mut Table<'_, &[u8], &[u8]>, write: &Write, versions: &mut Versions) -> RedbResult<bool> {
    match write {
        Write::Put(key, item, _) => {
            let version = versions.next;
            versions.next += 1;
            let key = encode_key(&key.partition, &key.sort);
            let mut value = items.insert_reserve(key.as_slice(), HEADER_BYTES + item.value.len())?;
            let value = value.as_mut();
            value[..8].copy_from_slice(&version.to_le_bytes());
            value[8..HEADER_BYTES].copy_from_slice(&item.expires_at_s.unwrap_or(0).to_le_bytes());
            value[HEADER_BYTES..].copy_from_slice(&item.value);
            Ok(true)
        }
        Write::Delete(key, _) => {
            Ok(items.remove(encode_key(&key.partition, &key.sort).as_slice())?.is_some())
        }
        Write::Check(..) => Ok(false),
    }
}

/// What a look for expired items found.
struct Expired {
    /// Stored keys and versions.
    items: Vec<(Vec<u8>, u64)>,
    /// Where the next look starts: behind this one, or at the table's first item.
    next_start: Vec<u8>,
}

/// The items that expired before `now_s` among the `limit` items from `start` on.
fn expired_items(database: &Database, start: &[u8], now_s: u64, limit: usize) -> RedbResult<Expired> {
    let items = database.begin_read()?.open_table(ITEMS)?;
    let mut expired = Expired { items: Vec::new(), next_start: Vec::new() };
    for (i, entry) in items.range::<&[u8]>(start..)?.enumerate() {
        let (key, value) = entry?;
        if i == limit {
            expired.next_start = key.value().to_vec();
            break;
        }
        let (version, expires_at_s) = decode_header(value.value())?;
        if expires_at_s != 0 && expires_at_s < now_s {
            expired.items.push((key.value().to_vec(), version));
        }
    }
    Ok(expired)
}

fn n_value_bytes(transaction: &Transaction) -> usize {
    let value_bytes = |write: &Write| if let Write::Put(_, item, _) = write { item.value.len() } else { 0 };
    transaction.writes.iter().map(value_bytes).sum()
}

fn encode_key(partition: &str, sort: &str) -> Vec<u8> {
    [partition.as_bytes(), &[0], sort.as_bytes()].concat()
}

fn decode_key(key: &[u8]) -> Result<Key> {
    let parts = std::str::from_utf8(key).ok().and_then(|key| key.split_once('\0'));
    let (partition, sort) = parts.ok_or_else(|| Error::corrupt("table key", "no partition or not UTF-8"))?;
    Ok(Key::new(partition, sort))
}

fn decode_item(value: &[u8]) -> RedbResult<Item> {
    let (version, _) = decode_header(value)?;
    Ok(Item { value: Bytes::copy_from_slice(&value[HEADER_BYTES..]), version })
}

/// Version and expiry, 0 for never.
fn decode_header(value: &[u8]) -> RedbResult<(u64, u64)> {
    let (version, rest) = value.split_first_chunk().ok_or_else(|| corrupted("value without a version"))?;
    let (expires_at_s, _) = rest.split_first_chunk().ok_or_else(|| corrupted("value without an expiry"))?;
    Ok((u64::from_le_bytes(*version), u64::from_le_bytes(*expires_at_s)))
}

fn corrupted(why: &str) -> redb::Error {
    redb::Error::Corrupted(why.to_owned())
}

/// After these the database answers nothing but errors.
fn needs_opening_again(error: &redb::Error) -> bool {
    use redb::Error::{Backend, DatabaseClosed, Io, LockPoisoned, PreviousIo};
    matches!(error, Io(_) | Backend(_) | PreviousIo | DatabaseClosed | LockPoisoned(_))
}

fn failed(folder: &str, doing: &str, error: redb::Error) -> Error {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            Error::InUse { folder: folder.to_owned() }
        }
        redb::Error::Corrupted(why) => Error::corrupt(format!("table in {folder}"), why),
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Error::corrupt(format!("table in {folder}"), error)
        }
        redb::Error::Io(error) if is_refusal(&error) => Error::refused("table", doing, error),
        error => Error::unavailable("table", doing, error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io;
    use std::sync::atomic::AtomicBool;

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;
    use crate::kv::range_all;

    /// A disk that can be full: nothing grows and nothing is synced while it is.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
        /// Syncs that still work after the disk is full.
        syncs_left: Arc<AtomicU64>,
    }

    impl Disk {
        fn check(&self) -> io::Result<()> {
            if self.full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            let left = &self.syncs_left;
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                self.check()?;
            }
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }

        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
            self.file.try_lock_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
            self.file.unlock_range(start, end)
        }
    }

    #[derive(Default)]
    struct Switches {
        full: Arc<AtomicBool>,
        syncs_left: Arc<AtomicU64>,
        cannot_open: Arc<AtomicBool>,
    }

    fn open(path: &Path, switches: &Switches) -> EmbeddedTable {
        let path = path.to_owned();
        let (full, syncs_left) = (Arc::clone(&switches.full), Arc::clone(&switches.syncs_left));
        let cannot_open = Arc::clone(&switches.cannot_open);
        let open = move || {
            if cannot_open.load(Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let file = FileBackend::new(file)?;
            let disk = Disk { file, full: Arc::clone(&full), syncs_left: Arc::clone(&syncs_left) };
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk)
        };
        EmbeddedTable::open_with("folder", Box::new(open)).expect("open")
    }

    async fn put(table: &EmbeddedTable, sort: &str) -> Result<Outcome> {
        table.put(Key::new("partition", sort), NewItem::lasting("x"), Condition::Absent).await
    }

    async fn sorts(table: &EmbeddedTable) -> Vec<String> {
        let items = range_all(table, "partition", SortRange::ALL).await.expect("range");
        items.into_iter().map(|(sort, _)| sort).collect()
    }

    #[tokio::test]
    async fn full_disk_is_unavailable_and_passes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.redb");
        let switches = Switches::default();
        for n_syncs_left in 0..3 {
            let table = open(&path, &switches);
            let first = format!("{n_syncs_left} acknowledged before");
            put(&table, &first).await.expect("put");
            switches.syncs_left.store(n_syncs_left, Ordering::Relaxed);
            switches.full.store(true, Ordering::Relaxed);
            // Until the last sync fails too.
            let mut acknowledged = vec![first];
            let mut unknown = Vec::new();
            for i in 0..4 {
                let sort = format!("{n_syncs_left} while full {i}");
                match put(&table, &sort).await {
                    Ok(_) => acknowledged.push(sort),
                    Err(Error::Unavailable { .. }) => unknown.push(sort),
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(!unknown.is_empty());
            switches.full.store(false, Ordering::Relaxed);
            let last = format!("{n_syncs_left} acknowledged after");
            assert_eq!(put(&table, &last).await.expect("put"), Outcome::Written);
            acknowledged.push(last);
            let seen = sorts(&table).await;
            assert!(acknowledged.iter().all(|sort| seen.contains(sort)), "{acknowledged:?} in {seen:?}");
            drop(table);
            let seen = sorts(&open(&path, &switches)).await;
            assert!(acknowledged.iter().all(|sort| seen.contains(sort)), "{acknowledged:?} in {seen:?}");
        }
    }

    #[tokio::test]
    async fn table_that_cannot_be_opened_again_is_tried_with_each_call() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let switches = Switches::default();
        let table = open(&folder.path().join("table.redb"), &switches);
        put(&table, "a").await.expect("put");
        switches.full.store(true, Ordering::Relaxed);
        switches.cannot_open.store(true, Ordering::Relaxed);
        assert!(matches!(put(&table, "b").await, Err(Error::Unavailable { .. })));
        let read = table.get(&Key::new("partition", "a")).await;
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        switches.full.store(false, Ordering::Relaxed);
        switches.cannot_open.store(false, Ordering::Relaxed);
        assert!(table.get(&Key::new("partition", "a")).await.expect("get").is_some());
        put(&table, "c").await.expect("put");
        let versions: Vec<u64> = {
            let items = range_all(&table, "partition", SortRange::ALL).await.expect("range");
            items.into_iter().map(|(_, item)| item.version).collect()
        };
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    }
}
