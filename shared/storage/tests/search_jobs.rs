//! Searches that are split among workers, and that are asked again: every answer as without.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use model::search::{Condition, TraceSearch};
use model::spans::SpanFields;
use model::{Signal, SpanColumns, SpanId, TenantId, TimeRange, TraceId};
use proptest::prelude::*;
use storage::compact::{self, Rules, Settings};
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read::{
    self, FilePart, Found, KeptMatches, Limits, Matches, Means, SearchJob, SearchWorkers, Share, TraceSet,
};
use storage::write::{Writer, content_hash};
use storage::{Calls, Error, Store};

const HOUR_NS: i64 = 3_600_000_000_000;
/// Begins a day.
const FIRST_NS: i64 = 480_000 * HOUR_NS;
const NOW_S: u64 = (480_000 + 48) * 3600;
/// What a file of one request costs in these tests: one request, and next to nothing.
const FILE_BYTES: u64 = 140 << 10;

fn memory() -> Store {
    Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 2 },
        recent: read::RecentTraces::default(),
    }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

async fn write(store: &Store, columns: &SpanColumns) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let content = content_hash(&tenant(), Signal::Traces, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    let block = storage::block::spans::encode(columns);
    Writer::new(store.clone())
        .spans(&tenant(), content, block, NOW_S, &Arc::default())
        .await
        .expect("memory");
}

async fn merge(store: &Store) {
    let rules = Rules { min_fresh: 3, min_merged: 2, max_inputs: 5, target_bytes: 4000, ..Rules::default() };
    let settings = Settings { rules, ..Settings::default() };
    compact::run(store, &settings, "test", &|| NOW_S, &Arc::default()).await.expect("memory");
}

/// Workers beside the one who asks, and what they were asked.
struct Workers {
    store: Store,
    share: Share,
    rounds: Mutex<Vec<Vec<SearchJob>>>,
    error: Option<Error>,
}

impl Workers {
    fn new(store: &Store, share: Share) -> Self {
        Self { store: store.clone(), share, rounds: Mutex::default(), error: None }
    }

    fn n_jobs(&self) -> usize {
        self.rounds.lock().expect("a lock").iter().map(Vec::len).sum()
    }
}

#[async_trait::async_trait]
impl SearchWorkers for Workers {
    fn share(&self) -> Share {
        self.share
    }

    async fn run(&self, jobs: Vec<SearchJob>) -> storage::Result<Vec<Found>> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut found = Vec::new();
        for job in &jobs {
            found.push(read::run_job(&self.store, &tenant(), job).await?);
        }
        self.rounds.lock().expect("a lock").push(jobs);
        Ok(found)
    }
}

/// Keeps everything.
#[derive(Default)]
struct Kept {
    files: Mutex<HashMap<FilePart, Matches>>,
    n_hits: AtomicU64,
    n_misses: AtomicU64,
}

impl KeptMatches for Kept {
    fn get(&self, part: &FilePart, limit: usize) -> Option<Matches> {
        let files = self.files.lock().expect("a lock");
        let found = files.get(part).filter(|matches| matches.suffice(limit)).cloned();
        let counter = if found.is_some() { &self.n_hits } else { &self.n_misses };
        counter.fetch_add(1, Relaxed);
        found
    }

    fn put(&self, part: &FilePart, matches: &Matches) {
        self.files.lock().expect("a lock").insert(*part, matches.clone());
    }
}

fn ids(set: &TraceSet) -> Vec<(TraceId, usize)> {
    set.traces.iter().map(|trace| (trace.trace_id, trace.spans.len())).collect()
}

/// So many spans at any of few times in three hours, of few services and traces: traces lie in many files.
fn batch(n: usize, seed: u64, n_traces: u64) -> SpanColumns {
    let mut state = seed;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut columns = SpanColumns::default();
    let hour = below(3) as i64;
    for _ in 0..n {
        let service = format!("service-{}", below(3));
        let resource = format!(r#"{{"service.name":"{service}"}}"#);
        let origin = columns.origins.intern_resource(&service, &resource, "");
        columns.attributes.push("route", model::columns::Value::Int(below(4) as i64));
        let fields = SpanFields {
            trace_id: TraceId((u128::from(below(n_traces)) + 1).to_be_bytes()),
            span_id: SpanId((below(1 << 30) + 1).to_be_bytes()),
            name: "work",
            start_ns: FIRST_NS + hour * HOUR_NS + below(40) as i64 * (HOUR_NS / 40) + below(3) as i64 * 400,
            duration_ns: below(100) as i64,
            ..SpanFields::default()
        };
        columns.push_span(&fields, origin);
    }
    columns
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (0..4).prop_map(|i| Condition::Service(format!("service-{i}"))),
        (0..100i64).prop_map(Condition::DurationAtLeast),
        (0..5i32).prop_map(|i| Condition::Attribute { key: "route".to_owned(), value: i.to_string() }),
    ];
    prop_oneof![3 => leaf.clone(), 1 => proptest::collection::vec(leaf, 1..3).prop_map(Condition::Any)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whoever_looks_finds_the_same(
        batches in proptest::collection::vec((1usize..12, any::<u64>()), 1..40),
        n_traces in 1u64..200,
        merged_after in proptest::option::of(0usize..40),
        searches in proptest::collection::vec(
            (proptest::collection::vec(any_condition(), 0..2), 0usize..12, 0i64..30, 1i64..40), 1..5),
        share in 0u64..(12 * FILE_BYTES),
        max_jobs in 1usize..8,
        keeps in any::<bool>(),
    ) {
        wait(async {
            let store = memory();
            for (i, &(n, seed)) in batches.iter().enumerate() {
                write(&store, &batch(n, seed, n_traces)).await;
                if merged_after == Some(i) {
                    merge(&store).await;
                }
            }
            let kept_by_conditions: Vec<Kept> = searches.iter().map(|_| Kept::default()).collect();
            // Twice, so that the second time finds what was kept, and with ranges that move.
            for moved in [0, 0, 3] {
                for ((conditions, limit, from, len), kept) in searches.iter().zip(&kept_by_conditions) {
                    let start_ns = FIRST_NS + (from + moved) * (HOUR_NS / 10) + 200;
                    let range = TimeRange { start_ns, end_ns_exclusive: start_ns + len * (HOUR_NS / 10) };
                    let search = TraceSearch { range, conditions: conditions.clone(), limit: *limit };
                    let limits = Limits::default();
                    let workers = Workers::new(&store, Share { bytes: share, max_jobs });
                    let kept = keeps.then_some(kept as &dyn KeptMatches);
                    let means = Means { kept, workers: Some(&workers) };
                    let alone = read::search(&store, &tenant(), &search, &limits).await.expect("memory");
                    let split = read::search_with(&store, &tenant(), &search, &limits, means).await;
                    prop_assert_eq!(ids(&alone), ids(&split.expect("memory")));
                    prop_assert!(workers.n_jobs() <= max_jobs);
                    for job in workers.rounds.lock().expect("a lock").iter().flatten() {
                        prop_assert!(!job.files.is_empty());
                    }
                    if *limit == 0 {
                        continue;
                    }
                    let mut after = None;
                    loop {
                        let alone = read::search_page(&store, &tenant(), &search, after, &limits).await;
                        let split =
                            read::search_page_with(&store, &tenant(), &search, after, &limits, means).await;
                        let (alone, split) = (alone.expect("memory"), split.expect("memory"));
                        prop_assert_eq!(ids(&alone.set), ids(&split.set));
                        prop_assert_eq!(alone.next, split.next);
                        after = alone.next;
                        if after.is_none() {
                            break;
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}

fn search(limit: usize) -> TraceSearch {
    TraceSearch { range: TimeRange::ALL, conditions: vec![Condition::Service("service-1".to_owned())], limit }
}

/// A file for each minute of a day; a span of `service-1` in each, a trace of its own.
async fn minutes(store: &Store) {
    for minute in 0..24 * 60 {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("service-1", r#"{"service.name":"service-1"}"#, "");
        let fields = SpanFields {
            trace_id: TraceId((minute as u128 + 1).to_be_bytes()),
            span_id: SpanId([1; 8]),
            name: "work",
            start_ns: FIRST_NS + minute * 60_000_000_000,
            ..SpanFields::default()
        };
        columns.push_span(&fields, origin);
        write(store, &columns).await;
    }
}

#[test]
fn small_searches_never_have_jobs_and_large_ones_have_few() {
    wait(async {
        let store = memory();
        minutes(&store).await;
        let n_jobs = async |limit: usize, share: Share| {
            let workers = Workers::new(&store, share);
            let means = Means { kept: None, workers: Some(&workers) };
            let found = read::search_with(&store, &tenant(), &search(limit), &Limits::default(), means).await;
            assert_eq!(found.expect("memory").traces.len(), limit.min(24 * 60));
            let rounds: Vec<usize> = workers.rounds.lock().expect("a lock").iter().map(Vec::len).collect();
            rounds
        };
        let all = 24 * 60 * FILE_BYTES;
        let none: [usize; 0] = [];
        assert_eq!(n_jobs(5000, Share { bytes: all, max_jobs: 16 }).await, none, "one share");
        assert_eq!(n_jobs(20, Share { bytes: all / 4, max_jobs: 16 }).await, none, "the first files suffice");
        assert_eq!(n_jobs(5000, Share { bytes: all / 8, max_jobs: 16 }).await.iter().sum::<usize>(), 8);
        assert_eq!(n_jobs(5000, Share { bytes: all / 80, max_jobs: 16 }).await.iter().sum::<usize>(), 16);
        let rounds = n_jobs(300, Share { bytes: all / 16, max_jobs: 16 }).await;
        assert!(
            rounds.iter().sum::<usize>() <= 8,
            "a fifth of the traces lie in a fifth of the files: {rounds:?}"
        );
        assert_eq!(n_jobs(60_000, Share { bytes: all / 8, max_jobs: 16 }).await, none, "too many traces");
    });
}

#[test]
fn what_is_asked_again_reads_the_index_and_what_is_new() {
    wait(async {
        let store = memory();
        minutes(&store).await;
        let kept = Kept::default();
        let ask = async |search: &TraceSearch| {
            let calls = Arc::new(Calls::default());
            // What was read before is decoded and kept elsewhere.
            let metered = Store { recent: read::RecentTraces::default(), ..store.metered(&calls) };
            let means = Means { kept: Some(&kept), workers: None };
            let found = read::search_with(&metered, &tenant(), search, &Limits::default(), means).await;
            (found.expect("memory").traces.len() as u64, calls.usage().object_gets)
        };
        let rare = TraceSearch {
            conditions: vec![Condition::Attribute { key: "a".to_owned(), value: "b".to_owned() }],
            ..search(20)
        };
        let (_, n_first) = ask(&rare).await;
        assert!(n_first >= 24 * 60, "{n_first} reads");
        assert_eq!(ask(&rare).await, (0, 0));
        let from = |minute: i64| TimeRange { start_ns: FIRST_NS + minute * 60_000_000_000, ..TimeRange::ALL };
        assert_eq!(ask(&TraceSearch { range: from(50), ..rare.clone() }).await, (0, 0), "the range moves on");
        write(&store, &batch(5, 1, 10)).await;
        assert_eq!(ask(&rare).await, (0, 1));
        assert_eq!(ask(&TraceSearch { limit: 100, ..rare.clone() }).await, (0, 0), "there is no more");
        merge(&store).await;
        let (_, n_merged) = ask(&rare).await;
        assert!(n_merged > 0, "of merged files nothing is known");
        assert_eq!(ask(&rare).await, (0, 0));
    });
}

/// Requests of one hour with a span each of many traces, merged into several files, each of which has spans of all times.
async fn merged_hour(store: &Store) -> u64 {
    for request in 0..40 {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("service-1", r#"{"service.name":"service-1"}"#, "");
        for n in 0..40 {
            let start = n * 40 + request;
            let fields = SpanFields {
                trace_id: TraceId((start as u128 + 1).to_be_bytes()),
                span_id: SpanId([1; 8]),
                name: "work",
                start_ns: FIRST_NS + start * 1_000_000_000,
                ..SpanFields::default()
            };
            columns.push_span(&fields, origin);
        }
        write(store, &columns).await;
    }
    let rules = Rules { min_fresh: 8, min_merged: 8, max_inputs: 8, target_bytes: 1000, ..Rules::default() };
    let settings = Settings { rules, grace_s: 0, ..Settings::default() };
    for later_s in [0, 1] {
        compact::run(store, &settings, "test", &|| NOW_S + later_s, &Arc::default()).await.expect("memory");
    }
    let files = store.objects.list("", None, 1000).await.expect("memory");
    files.len() as u64
}

#[test]
fn of_many_files_only_what_the_newest_traces_need_is_read() {
    wait(async {
        let store = memory();
        let n_files = merged_hour(&store).await;
        assert!((4..=8).contains(&n_files), "{n_files} files are looked at together");
        let kept = Kept::default();
        let ask = async |limit: usize| {
            let calls = Arc::new(Calls::default());
            let metered = Store { recent: read::RecentTraces::default(), ..store.metered(&calls) };
            let means = Means { kept: Some(&kept), workers: None };
            let found =
                read::search_with(&metered, &tenant(), &search(limit), &Limits::default(), means).await;
            let alone = read::search(&store, &tenant(), &search(limit), &Limits::default()).await;
            let found = ids(&found.expect("memory"));
            assert_eq!(found, ids(&alone.expect("memory")));
            assert_eq!(found.len(), limit);
            calls.usage().object_gets
        };
        let n_first = ask(3).await;
        // The directories and the blocks of each file; the newest traces are in the last one, of which a unit is read to find
        // them, and to answer.
        assert_eq!(n_first, 2 * n_files + 2);
        assert_eq!(ask(3).await, 1, "what was known is enough");
        assert_eq!(ask(2).await, 1);
        let n_more = ask(30).await;
        assert!(n_more > 2 * n_files, "{n_more} reads: of older traces nothing was known");
        assert!(ask(30).await <= n_files);
    });
}

#[test]
fn what_workers_read_counts_for_the_search() {
    wait(async {
        let store = memory();
        minutes(&store).await;
        let workers = Workers::new(&store, Share { bytes: 100 * FILE_BYTES, max_jobs: 4 });
        let means = Means { kept: None, workers: Some(&workers) };
        let limits = Limits { max_bytes: 20_000, ..Limits::default() };
        let over = read::search_with(&store, &tenant(), &search(5000), &limits, means).await;
        assert!(matches!(over, Err(Error::OverLimit { unit: "bytes", .. })), "{over:?}");
    });
}

#[test]
fn an_error_of_the_workers_is_the_searchs() {
    wait(async {
        let store = memory();
        minutes(&store).await;
        let mut workers = Workers::new(&store, Share { bytes: 100 * FILE_BYTES, max_jobs: 4 });
        workers.error = Some(Error::unavailable("worker", "running a job", "gone"));
        let means = Means { kept: None, workers: Some(&workers) };
        let failed = read::search_with(&store, &tenant(), &search(5000), &Limits::default(), means).await;
        assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    });
}
