//! Searches through the API's routes, with workers that answer, hang and fail.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use edge::guard::Served;
use edge::ledger::Ledger;
use edge::metrics::Page;
use http::Request;
use model::spans::SpanFields;
use model::{Signal, SpanColumns, SpanId, TraceId};
use storage::Store;
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read::{Limits, RecentTraces};
use storage::write::{Writer, content_hash};
use tower::ServiceExt as _;

use super::*;
use crate::{State, jaeger};

const FIRST_NS: i64 = 480_000 * 3_600_000_000_000;
const N_FILES: i64 = 200;
/// What a file of one request costs in these tests.
const FILE_BYTES: u64 = 140 << 10;
const TENANT: &str = "team-a";
/// No file has it, so every file is looked at.
const RARE: &str = "/api/traces?service=shop&tag=a:b&limit=20&start=0&end=9999999999999999";
const ALL: &str = "/api/traces?service=shop&limit=1000&start=0&end=9999999999999999";

/// A span a minute, each a trace and a file.
async fn stored() -> Store {
    let store = Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 1 },
        recent: RecentTraces::default(),
    };
    for minute in 0..N_FILES {
        write(&store, minute).await;
    }
    store
}

async fn write(store: &Store, minute: i64) {
    let tenant: TenantId = TENANT.parse().expect("a tenant");
    let mut columns = SpanColumns::default();
    let origin = columns.origins.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
    let fields = SpanFields {
        trace_id: TraceId((minute as u128 + 1).to_be_bytes()),
        span_id: SpanId([1; 8]),
        name: "work",
        start_ns: FIRST_NS + minute * 60_000_000_000,
        ..SpanFields::default()
    };
    columns.push_span(&fields, origin);
    let content = content_hash(&tenant, Signal::Traces, &minute.to_le_bytes());
    let block = storage::block::spans::encode(&columns);
    Writer::new(store.clone()).spans(&tenant, content, block, 1, &Arc::default()).await.expect("memory");
}

/// What a worker does with the n-th job that it gets.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Hangs,
    Fails,
    SaysMissing,
}

struct Scripted {
    worker: Worker,
    does: fn(u64) -> Does,
    n_jobs: AtomicU64,
}

impl Workers for Scripted {
    fn run(&self, job: Bytes) -> BoxFuture<'_, storage::Result<Bytes>> {
        let does = (self.does)(self.n_jobs.fetch_add(1, Relaxed));
        async move {
            match does {
                Does::Answers => Ok(self.worker.answer(&job, Duration::MAX).await),
                Does::Hangs => std::future::pending().await,
                Does::Fails => Err(Error::unavailable("worker", "running a job", "secret")),
                Does::SaysMissing => Ok(Answer::Missing("gone".to_owned()).encode()),
            }
        }
        .boxed()
    }
}

/// The API over a store, and what is known of it.
struct Server {
    router: Router,
    state: State,
    ledger: Arc<Ledger>,
}

/// A server whose searches read a tenth of all by themselves.
fn server(store: &Store, does: fn(u64) -> Does, cache_bytes: u64) -> Server {
    let ledger: Arc<Ledger> = Arc::default();
    let timeout = Duration::from_secs(30);
    let worker = Worker::new(store.clone(), Arc::clone(&ledger), timeout);
    let workers = Arc::new(Scripted { worker, does, n_jobs: AtomicU64::new(0) });
    let share = Share { bytes: FILE_BYTES * N_FILES as u64 / 10, max_jobs: 8 };
    let state = State {
        store: store.clone(),
        limits: Limits::default(),
        timeout,
        clock: || FIRST_NS,
        ledger: Arc::clone(&ledger),
        results: None,
        searches: Searches::of(cache_bytes),
        fanout: Fanout::of(workers, share),
    };
    Server { router: jaeger::router(state.clone()), state, ledger }
}

struct Reply {
    status: u16,
    body: String,
    spread: Spread,
    /// Objects that the request itself read.
    object_gets: u64,
}

impl Server {
    async fn get(&self, uri: &str) -> Reply {
        let request = Request::get(uri).header("x-scope-orgid", TENANT).body(Body::empty()).expect(uri);
        let response = self.router.clone().oneshot(request).await.expect("a router never fails");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        Reply {
            status: parts.status.as_u16(),
            body: String::from_utf8(body.to_vec()).expect("UTF-8"),
            spread: *parts.extensions.get().expect("what others did"),
            object_gets: parts.extensions.get::<Served>().expect("what it cost").usage.object_gets,
        }
    }

    /// Objects that were read for the tenant by all.
    fn object_gets(&self) -> u64 {
        let mut page = Page::default();
        self.ledger.write(&mut page);
        let line = format!(
            r#"spandrel_storage_calls_total{{function="query",tenant="{TENANT}",call="object_get"}} "#
        );
        let page = page.finish();
        page.lines().find_map(|shown| shown.strip_prefix(&line)?.parse().ok()).expect("some")
    }

    fn metrics(&self) -> BTreeMap<String, u64> {
        let mut page = Page::default();
        self.state.write_metrics(&mut page);
        let value = |line: &str| line.rsplit_once(' ').map(|(name, n)| (name.to_owned(), n.parse().ok()));
        let all = page.finish();
        all.lines().filter_map(value).filter_map(|(name, n)| Some((name, n?))).collect()
    }
}

fn n_traces(reply: &Reply) -> usize {
    let body: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    body["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test(start_paused = true)]
async fn large_searches_have_jobs_and_the_same_answer() {
    let store = stored().await;
    let server = server(&store, |_| Does::Answers, 0);
    let alone = Server { router: jaeger::router(State { fanout: None, ..server.state.clone() }), ..server };
    let expect = alone.get(ALL).await;
    assert_eq!((n_traces(&expect), expect.spread), (N_FILES as usize, Spread::default()));

    let server = self::server(&store, |_| Does::Answers, 0);
    let reply = server.get(ALL).await;
    assert_eq!(reply.body, expect.body);
    assert_eq!(reply.spread, Spread { jobs: 8, ..Spread::default() });
    let reply = server.get(RARE).await;
    assert_eq!((n_traces(&reply), reply.spread.jobs), (0, 8));
    assert!(reply.object_gets < 20, "{} reads by the one who asks", reply.object_gets);
    assert!(server.object_gets() >= 3 * N_FILES as u64, "what workers read is counted for their tenant");
    let page = server.get("/api/traces?service=shop&limit=3&start=0&end=9999999999999999").await;
    assert_eq!((n_traces(&page), page.spread), (3, Spread::default()), "small searches have no jobs");
    assert_eq!(server.metrics()[r#"spandrel_query_jobs_total{start="first"}"#], 16);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_is_not_waited_for() {
    let store = stored().await;
    let server = server(&store, |n| if n == 2 { Does::Hangs } else { Does::Answers }, 0);
    let started = Instant::now();
    let reply = server.get(ALL).await;
    assert_eq!((reply.status, n_traces(&reply)), (200, N_FILES as usize));
    assert_eq!(reply.spread, Spread { jobs: 8, hedges: 1, ..Spread::default() });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(server.metrics()[r#"spandrel_query_jobs_total{start="hedge"}"#], 1);

    let server = self::server(&store, |_| Does::Hangs, 0);
    assert_eq!(server.get(ALL).await.status, 504, "all hang");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_is_asked_once_more_and_then_the_query_fails() {
    let store = stored().await;
    let server = server(&store, |n| if n == 2 { Does::Fails } else { Does::Answers }, 0);
    let reply = server.get(ALL).await;
    assert_eq!((reply.status, n_traces(&reply)), (200, N_FILES as usize));
    assert_eq!(reply.spread, Spread { jobs: 8, retries: 1, ..Spread::default() });

    let server = self::server(&store, |_| Does::Fails, 0);
    let reply = server.get(ALL).await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("a part of the query failed twice; retry later"), "{}", reply.body);
    assert!(!reply.body.contains("secret"));
    let reply = server.get("/api/v3/traces?query.startTimeMin=2000-01-01T00:00:00Z&query.startTimeMax=2100-01-01T00:00:00Z&query.serviceName=shop&query.searchDepth=1000").await;
    assert_eq!(reply.status, 503);
    assert!(
        reply.body.contains(r#""message":"a part of the query failed twice; retry later""#),
        "{}",
        reply.body
    );
}

#[tokio::test(start_paused = true)]
async fn a_search_is_made_anew_where_a_worker_misses_an_object() {
    let store = stored().await;
    let server = server(&store, |n| if n == 0 { Does::SaysMissing } else { Does::Answers }, 0);
    let reply = server.get(ALL).await;
    assert_eq!((reply.status, n_traces(&reply)), (200, N_FILES as usize));
    assert_eq!((reply.spread.retries, reply.spread.jobs), (0, 16));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_not_looked_for_again() {
    let store = stored().await;
    let server = server(&store, |_| Does::Answers, 1 << 20);
    server.get(RARE).await;
    let n_before = server.object_gets();
    assert!(n_before >= N_FILES as u64);
    let reply = server.get(RARE).await;
    assert_eq!(reply.spread, Spread { kept_files: N_FILES as u64, ..Spread::default() });
    assert_eq!(server.object_gets(), n_before, "also what workers found is kept");
    let later = RARE.replace("start=0", &format!("start={}", (FIRST_NS + 600_000_000_000) / 1000));
    assert_eq!(server.get(&later).await.spread.kept_files, N_FILES as u64 - 10);
    assert_eq!(server.object_gets(), n_before, "the range has moved on");
    write(&store, N_FILES).await;
    assert_eq!(server.get(RARE).await.object_gets, 1, "what is new");
    let metrics = server.metrics();
    assert_eq!(metrics[r#"spandrel_search_cache_files_total{result="miss"}"#], N_FILES as u64 + 1);
    assert_eq!(metrics[r#"spandrel_search_cache_files_total{result="hit"}"#], 3 * N_FILES as u64 - 10);
}

#[tokio::test]
async fn tasks_are_workers() {
    let store = stored().await;
    let ledger: Arc<Ledger> = Arc::default();
    let tasks = Tasks(Worker::new(store, ledger, Duration::from_secs(30)));
    let answer = tasks.run(Bytes::from_static(b"{}")).await.expect("an answer");
    assert!(matches!(Answer::decode(&answer), Ok(Answer::Failed(_))), "no job");
    assert!(Fanout::of(Arc::new(tasks), Share { max_jobs: 0, ..Share::default() }).is_none());
}
