//! Object first, index second.
//!
//! 1. The object is stored under a name that follows from the request's content, unless it is there.
//!    Meanwhile the table learns the window and the names that this process has not seen in it yet.
//! 2. Then the index item is written, and the data is visible.
//!
//! A crash before 2 leaves an object that nothing names, never a name without an object; the sender repeats the
//! request and finds the object. A crash after 2 and before the answer leaves everything in place: the repeated
//! request writes the same item again.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foldhash::fast::FixedState;
use model::{ContentHash, Signal, TenantId};

use crate::block::spans::EncodedSpans;
use crate::index::names::{self, Operation, Operations};
use crate::index::{FileKey, Window, keys};
use crate::kv::{Condition, Key, KeyValue, NewItem, Outcome};
use crate::object::PutOutcome;
use crate::{Calls, Error, Result, Store};

/// How many names a process remembers to be in the table, all tenants together: 16 MB at most.
const MAX_KNOWN_NAMES: usize = 1_000_000;
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
    windows: HashSet<(TenantId, Window)>,
    /// Fingerprints of tenant, service, kind and operation.
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
    /// Every storage call is counted in `calls`.
    ///
    /// # Errors
    /// As the stores. What of it happened is then unknown, and repeating the call is safe.
    pub async fn spans(
        &self,
        tenant: &TenantId,
        content: ContentHash,
        spans: EncodedSpans,
        calls: &Arc<Calls>,
    ) -> Result<Stored> {
        let store = self.store.metered(calls);
        let EncodedSpans { bytes, descriptor } = spans;
        let file = FileKey { level: 0, min_start_ns: descriptor.min_start_ns, content };
        let window = Window::of(descriptor.min_start_ns, descriptor.max_start_ns);
        let object = file.object(tenant);
        let (outcome, ()) = futures::future::try_join(
            store.objects.put_if_absent(&object, bytes),
            self.remember(&*store.table, tenant, window, &descriptor.names),
        )
        .await?;
        let item = NewItem::lasting(descriptor.encode());
        store.table.put(file.index(tenant, window, store.layout), item, Condition::None).await?;
        Ok(Stored { key: object, outcome })
    }

    /// Makes the table know a window and names, where it may not yet.
    async fn remember(
        &self,
        table: &dyn KeyValue,
        tenant: &TenantId,
        window: Window,
        seen: &[(String, i32, String)],
    ) -> Result<()> {
        if !self.known().windows.contains(&(tenant.clone(), window)) {
            let empty = || NewItem::lasting(Bytes::from_static(b"1"));
            table.put(Key::new(keys::TENANTS_PARTITION, tenant.as_str()), empty(), Condition::None).await?;
            let key = Key::new(keys::windows_partition(tenant), window.to_string());
            table.put(key, empty(), Condition::None).await?;
            self.known().windows.insert((tenant.clone(), window));
        }
        let new = self.unknown(tenant, seen);
        if new.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = new.keys().map(|service| service_key(tenant, service)).collect();
        let items = table.batch_get(&keys).await?;
        for ((service, operations), item) in new.into_iter().zip(items) {
            self.remember_service(table, tenant, service, operations, item).await?;
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

    async fn remember_service(
        &self,
        table: &dyn KeyValue,
        tenant: &TenantId,
        service: String,
        new: Vec<Operation>,
        mut item: Option<crate::kv::Item>,
    ) -> Result<()> {
        let key = service_key(tenant, &service);
        for _ in 0..NAME_ATTEMPTS {
            let mut operations = match &item {
                Some(item) => Operations::parse(&item.value)
                    .map_err(|err| Error::corrupt(format!("names of service {service}"), err))?,
                None => Operations::default(),
            };
            let mut changed = item.is_none();
            for operation in &new {
                changed |= operations.insert(operation.clone());
            }
            let condition = item.as_ref().map_or(Condition::Absent, |item| Condition::Version(item.version));
            let written = !changed
                || table.put(key.clone(), NewItem::lasting(operations.encode()), condition).await?
                    == Outcome::Written;
            if written {
                let mut known = self.known();
                if known.names.len() >= MAX_KNOWN_NAMES {
                    known.names.clear();
                }
                let fingerprints =
                    new.iter().map(|new| name_fingerprint(tenant, &service, new.kind, &new.name));
                known.names.extend(fingerprints);
                return Ok(());
            }
            item = table.get(&key).await?;
        }
        let doing = format!("writing the names of service {service}");
        Err(Error::unavailable("table", doing, "too many writers at once"))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Whatever a panic left behind, the sets only hold what was written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_fingerprint(tenant: &TenantId, service: &str, kind: i32, name: &str) -> u64 {
    FixedState::default().hash_one((tenant, service, kind, name))
}

fn service_key(tenant: &TenantId, service: &str) -> Key {
    Key::new(keys::services_partition(tenant), names::service_sort(service))
}
