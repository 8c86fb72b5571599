//! Object first, index second.
//!
//! 1. The object is stored under a name that follows from the request's content, unless it is there.
//!    Meanwhile the table learns the window and the names that this process has not seen in it yet.
//! 2. Then the index item is written, and the data is visible.
//!
//! A crash before 2 leaves an object that nothing names, never a name without an object; the sender repeats the
//! request and finds the object. A crash after 2 and before the answer leaves everything in place: the repeated
//! request finds the item, or what merging has left of it.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foldhash::fast::FixedState;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::series::Metadata;
use model::{ContentHash, Signal, TenantId};

use crate::block::logs::EncodedLogs;
use crate::block::series::EncodedSeries;
use crate::block::spans::EncodedSpans;
use crate::index::names::{self, Operation, Operations, Said};
use crate::index::{FileKey, NamedWindow, Window, WindowItem, keys};
use crate::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome};
use crate::object::PutOutcome;
use crate::read::index;
use crate::{Calls, Error, Result, Store};

/// How many names a process remembers to be in the table, all tenants together: 16 MB at most.
const MAX_KNOWN_NAMES: usize = 1_000_000;
/// How many windows a process remembers to have named.
const MAX_KNOWN_WINDOWS: usize = 100_000;
/// How many names are written at once.
const CONCURRENT_NAMES: usize = 16;
/// How often a conditional write of names is repeated when others write the same item.
const NAME_ATTEMPTS: usize = 16;

/// The name of what one request stores: a hash of tenant, signal and decompressed body.
pub fn content_hash(tenant: &TenantId, signal: Signal, body: &[u8]) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for part in [tenant.as_str(), signal.as_str()] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(body);
    let hash: [u8; 32] = hasher.finalize().into();
    ContentHash(hash[..16].try_into().expect("invariant: half of 32 bytes"))
}

/// Writes files. One per process: it remembers which names the table already has.
pub struct Writer {
    store: Store,
    known: Mutex<Known>,
}

/// What the table is known to have.
#[derive(Default)]
struct Known {
    /// When this process named each, seconds since the epoch.
    windows: HashMap<(TenantId, Signal, Window), u64>,
    /// Fingerprints of what tables of names hold: tenant, service, kind and operation; tenant, partition and name.
    names: HashSet<u64, FixedState>,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's key.
    pub key: String,
    /// Whether this call created it; a repeated request finds it there.
    pub outcome: PutOutcome,
}

impl Writer {
    /// Writes to `store`.
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// Stores the spans of one request durably and visibly. Sending the same content again stores nothing twice.
    /// `now_s` is the time in seconds since the epoch; every storage call is counted in `calls`.
    ///
    /// # Errors
    /// As the stores. What of it happened is then unknown, and repeating the call is safe.
    pub async fn spans(
        &self,
        tenant: &TenantId,
        content: ContentHash,
        spans: EncodedSpans,
        now_s: u64,
        calls: &Arc<Calls>,
    ) -> Result<Stored> {
        let store = self.store.metered(calls);
        let EncodedSpans { bytes, descriptor } = spans;
        let file =
            FileKey { signal: Signal::Traces, level: 0, min_start_ns: descriptor.min_start_ns, content };
        let window = Window::of(descriptor.min_start_ns, descriptor.max_start_ns);
        let names = self.remember_names(&*store.table, tenant, &descriptor.names);
        self.store_file(&store, tenant, &file, window, now_s, bytes, names, descriptor.encode()).await
    }

    /// Stores the series of one request durably and visibly, as [`Writer::spans`] does spans.
    ///
    /// # Errors
    /// As [`Writer::spans`].
    pub async fn series(
        &self,
        tenant: &TenantId,
        content: ContentHash,
        series: EncodedSeries,
        now_s: u64,
        calls: &Arc<Calls>,
    ) -> Result<Stored> {
        let store = self.store.metered(calls);
        let EncodedSeries { bytes, descriptor, metrics, label_names, metadata } = series;
        let min_time_ns = descriptor.min_time_ms.saturating_mul(1_000_000);
        let max_time_ns = descriptor.max_time_ms.saturating_mul(1_000_000);
        let file = FileKey { signal: Signal::Metrics, level: 0, min_start_ns: min_time_ns, content };
        let window = Window::of(min_time_ns, max_time_ns);
        let names = async {
            self.remember_texts(&*store.table, keys::metrics_partition(tenant), metrics).await?;
            self.remember_texts(&*store.table, keys::labels_partition(tenant), label_names).await?;
            self.remember_metadata(&*store.table, tenant, metadata).await
        };
        self.store_file(&store, tenant, &file, window, now_s, bytes, names, descriptor.encode()).await
    }

    /// Stores the log records of one request durably and visibly, as [`Writer::spans`] does spans.
    ///
    /// # Errors
    /// As [`Writer::spans`].
    pub async fn logs(
        &self,
        tenant: &TenantId,
        content: ContentHash,
        logs: EncodedLogs,
        now_s: u64,
        calls: &Arc<Calls>,
    ) -> Result<Stored> {
        let store = self.store.metered(calls);
        let EncodedLogs { bytes, descriptor } = logs;
        let file = FileKey { signal: Signal::Logs, level: 0, min_start_ns: descriptor.min_time_ns, content };
        let window = Window::of(descriptor.min_time_ns, descriptor.max_time_ns);
        let names = std::future::ready(Ok(()));
        self.store_file(&store, tenant, &file, window, now_s, bytes, names, descriptor.encode()).await
    }

    /// Object, window and names in any order, then the index item.
    #[expect(clippy::too_many_arguments, reason = "the parts of one write, named once")]
    async fn store_file(
        &self,
        store: &Store,
        tenant: &TenantId,
        file: &FileKey,
        window: Window,
        now_s: u64,
        bytes: Bytes,
        names: impl Future<Output = Result<()>>,
        item: Vec<u8>,
    ) -> Result<Stored> {
        let object = file.object(tenant);
        let (outcome, (), ()) = futures::future::try_join3(
            store.objects.put_if_absent(&object, bytes.clone()),
            self.remember_window(&*store.table, tenant, file.signal, window, now_s),
            names,
        )
        .await?;
        let key = file.index(tenant, window, store.layout);
        // A writer with another number of partitions may have written the item: merging would take it for two files.
        if outcome == PutOutcome::AlreadyThere
            && index::is_elsewhere(store, tenant, window, &[(key.clone(), file.clone())]).await?
        {
            return Ok(Stored { key: object, outcome });
        }
        // Where an item is, it is this one, or the file was merged meanwhile: its rows are visible in either case.
        let written = store.table.put(key, NewItem::lasting(item), Condition::Absent).await?;
        if written == Outcome::Written && outcome == PutOutcome::AlreadyThere {
            // An object without an item is of a write that died, or one that merging is about to remove.
            if store.objects.head(&object).await?.is_none() {
                store.objects.put_if_absent(&object, bytes).await?;
            }
        }
        Ok(Stored { key: object, outcome })
    }

    /// Makes the table know a window, where it may not yet or not any more.
    async fn remember_window(
        &self,
        table: &dyn KeyValue,
        tenant: &TenantId,
        signal: Signal,
        window: Window,
        now_s: u64,
    ) -> Result<()> {
        let entry = (tenant.clone(), signal, window);
        let named_at_s = self.known().windows.get(&entry).copied();
        if named_at_s.is_some_and(|at_s| now_s.abs_diff(at_s) < WindowItem::NAMED_FOR_S) {
            return Ok(());
        }
        table.put(Key::new(keys::TENANTS_PARTITION, tenant.as_str()), empty(), Condition::None).await?;
        let name = NamedWindow::of(window, self.store.layout);
        let key = Key::new(keys::windows_partition(tenant, signal), name.to_string());
        let item = NewItem::lasting(WindowItem { named_at_s: now_s }.encode());
        table.put(key, item, Condition::None).await?;
        let mut known = self.known();
        if known.windows.len() >= MAX_KNOWN_WINDOWS {
            known.windows.clear();
        }
        known.windows.insert(entry, now_s);
        Ok(())
    }

    /// Makes the table know names that have no value, where it may not yet.
    async fn remember_texts(
        &self,
        table: &dyn KeyValue,
        partition: String,
        texts: Vec<String>,
    ) -> Result<()> {
        let fingerprint = |text: &str| FixedState::default().hash_one((&partition, text));
        let new: Vec<String> = {
            let known = self.known();
            let is_new = |text: &String| {
                !text.is_empty()
                    && text.len() <= names::MAX_NAME_BYTES
                    && !known.names.contains(&fingerprint(text))
            };
            texts.into_iter().filter(is_new).collect()
        };
        let put = |text: &String| {
            let key = Key::new(partition.clone(), names::service_sort(text));
            async move { table.put(key, empty(), Condition::None).await }
        };
        let puts: Vec<_> = new.iter().map(put).collect();
        stream::iter(puts).buffer_unordered(CONCURRENT_NAMES).try_collect::<Vec<_>>().await?;
        self.known().remember(new.iter().map(|text| fingerprint(text)));
        Ok(())
    }

    /// Makes the table know what is said of families, where it may not yet.
    async fn remember_metadata(
        &self,
        table: &dyn KeyValue,
        tenant: &TenantId,
        said: Vec<Metadata>,
    ) -> Result<()> {
        for statement in said {
            let fingerprint = FixedState::default().hash_one((tenant, "metadata", &statement));
            if statement.family.len() > names::MAX_NAME_BYTES || self.known().names.contains(&fingerprint) {
                continue;
            }
            let family = statement.family.clone();
            let key = Key::new(keys::metadata_partition(tenant), names::service_sort(&family));
            let item = table.get(&key).await?;
            let add = |value: Option<&[u8]>| {
                let mut known = match value {
                    Some(value) => Said::parse(&family, value)
                        .map_err(|err| Error::corrupt(format!("metadata of {family}"), err))?,
                    None => Said::default(),
                };
                let changed = known.insert(statement.clone());
                Ok((changed || value.is_none()).then(|| known.encode()))
            };
            change(table, &key, item, add, &format!("writing the metadata of {family}")).await?;
            self.known().remember([fingerprint]);
        }
        Ok(())
    }

    /// Makes the table know the names of services and operations, where it may not yet.
    async fn remember_names(
        &self,
        table: &dyn KeyValue,
        tenant: &TenantId,
        seen: &[(String, i32, String)],
    ) -> Result<()> {
        let new = self.unknown(tenant, seen);
        if new.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = new.keys().map(|service| service_key(tenant, service)).collect();
        let items = table.batch_get(&keys).await?;
        for ((service, new), item) in new.into_iter().zip(items) {
            let add = |value: Option<&[u8]>| {
                let mut operations = match value {
                    Some(value) => Operations::parse(value)
                        .map_err(|err| Error::corrupt(format!("names of service {service}"), err))?,
                    None => Operations::default(),
                };
                let mut changed = value.is_none();
                for operation in &new {
                    changed |= operations.insert(operation.clone());
                }
                Ok(changed.then(|| operations.encode()))
            };
            let doing = format!("writing the names of service {service}");
            change(table, &service_key(tenant, &service), item, add, &doing).await?;
            let fingerprints = new.iter().map(|new| name_fingerprint(tenant, &service, new.kind, &new.name));
            self.known().remember(fingerprints);
        }
        Ok(())
    }

    /// The names that this process does not know the table to have, by service.
    fn unknown(&self, tenant: &TenantId, seen: &[(String, i32, String)]) -> HashMap<String, Vec<Operation>> {
        let known = self.known();
        let mut new: HashMap<String, Vec<Operation>> = HashMap::new();
        for (service, kind, name) in seen {
            if service.len() <= names::MAX_NAME_BYTES
                && !known.names.contains(&name_fingerprint(tenant, service, *kind, name))
            {
                new.entry(service.clone()).or_default().push(Operation { name: name.clone(), kind: *kind });
            }
        }
        new
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Whatever a panic left behind, the sets only hold what was written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remember(&mut self, fingerprints: impl IntoIterator<Item = u64>) {
        if self.names.len() >= MAX_KNOWN_NAMES {
            self.names.clear();
        }
        self.names.extend(fingerprints);
    }
}

/// The value of an item whose key says everything.
fn empty() -> NewItem {
    NewItem::lasting(Bytes::from_static(b"1"))
}

/// Replaces an item's value by what `add` makes of it, until nobody else wrote in between; `add` gives nothing if the
/// value may stay. `item` is the item as it was read last.
async fn change(
    table: &dyn KeyValue,
    key: &Key,
    mut item: Option<Item>,
    add: impl Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    doing: &str,
) -> Result<()> {
    for _ in 0..NAME_ATTEMPTS {
        let Some(value) = add(item.as_ref().map(|item| &*item.value))? else { return Ok(()) };
        let condition = item.as_ref().map_or(Condition::Absent, |item| Condition::Version(item.version));
        if table.put(key.clone(), NewItem::lasting(value), condition).await? == Outcome::Written {
            return Ok(());
        }
        item = table.get(key).await?;
    }
    Err(Error::unavailable("table", doing, "too many writers at once"))
}

fn name_fingerprint(tenant: &TenantId, service: &str, kind: i32, name: &str) -> u64 {
    FixedState::default().hash_one((tenant, service, kind, name))
}

fn service_key(tenant: &TenantId, service: &str) -> Key {
    Key::new(keys::services_partition(tenant), names::service_sort(service))
}
