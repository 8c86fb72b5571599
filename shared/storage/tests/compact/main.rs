//! Merging: whatever the files are merged into, every question has the answer it had before.

mod erase;
mod export;
mod interleaved;
mod logs;
mod memory;
mod outage;
mod pages;
mod policy;
mod rules;
mod series;
mod spans;

use std::sync::Arc;

use model::TenantId;
use storage::Store;
use storage::compact::repair::{self, Damage};
use storage::compact::{self, Report, Rules, Settings};
use storage::faults::{Faults, FaultyObject, FaultyTable};
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read;

const HOUR_MS: i64 = 3_600_000;
/// Hours since the epoch in which the tests' data begins: the first of a long window.
const FIRST_HOUR: i64 = 480_000;
const NOW_S: u64 = (FIRST_HOUR as u64 + 48) * 3600;

/// Few inputs and small outputs, so that a test sees every level.
fn settings() -> Settings {
    let rules = Rules {
        min_fresh: 3,
        min_merged: 2,
        max_files: 16,
        max_inputs: 5,
        target_bytes: 4000,
        ..Rules::default()
    };
    Settings { rules, ..Settings::default() }
}

fn everything() -> Settings {
    Settings { everything: true, ..settings() }
}

fn memory() -> Store {
    Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 2 },
        recent: storage::read::RecentTraces::default(),
    }
}

fn faulty(store: &Store, faults: &Faults) -> Store {
    Store {
        objects: Arc::new(FaultyObject::new(Arc::clone(&store.objects), faults.clone())),
        table: Arc::new(FaultyTable::new(Arc::clone(&store.table), faults.clone())),
        layout: store.layout,
        recent: storage::read::RecentTraces::default(),
    }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

async fn run(store: &Store, settings: &Settings, now_s: u64) -> storage::Result<Report> {
    compact::run(store, settings, "test", &|| now_s, &Arc::default()).await
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

async fn objects(store: &Store) -> usize {
    store.objects.list("", None, usize::MAX).await.expect("memory").len()
}

/// Lets the grace period of everything pass.
async fn let_grace_pass(store: &Store, now_s: u64) {
    let report = run(store, &settings(), now_s + 100_000).await.expect("memory");
    assert_eq!(report.failed, 0);
}

/// What a repair pass finds much later, and mends.
async fn mended(store: &Store) -> Damage {
    let later_s = NOW_S + 1_000_000;
    let damage = repair::find(store, 86_400, later_s).await.expect("memory");
    repair::mend(store, &damage).await.expect("memory");
    assert!(repair::find(store, 86_400, later_s).await.expect("memory").is_empty());
    damage
}

/// Whether only what the index names is stored, and all of it is sound.
async fn assert_sound(store: &Store) {
    let windows = read::windows(store, &tenant()).await.expect("memory");
    let n_files: usize = windows.iter().map(|window| window.objects.len()).sum();
    assert_eq!(objects(store).await, n_files, "the inputs are gone");
    read::verify(store, &tenant()).await.expect("sound");
}
