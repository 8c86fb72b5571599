//! Erasure: after a round and its grace nothing is left that matches, and nothing else is missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::columns::{ScopeMeta, Value};
use model::logs::{Body, LogFields};
use model::search::TraceSearch;
use model::series::{Exemplar, SeriesBuilder, Temporality};
use model::spans::{EventView, LinkView, SpanFields};
use model::{Labels, LogColumns, MatchOp, Matcher, Signal, SpanColumns, SpanId, TimeRange, TraceId};
use storage::Store;
use storage::compact::{self, erase};
use storage::faults::{Crash, Faults};
use storage::index::{Erasure, ErasureTarget};
use storage::read::{self, Limits, Selection, SeriesLimits};
use storage::write::{Writer, content_hash};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, let_grace_pass, memory, run,
};
use super::{settings, tenant, wait};

/// Requests of each signal; few where each step of a round is tried.
const N: u8 = 24;
const FEW: u8 = 6;
const FIRST_NS: i64 = FIRST_HOUR * HOUR_MS * 1_000_000;

fn trace_id(n: u8) -> TraceId {
    TraceId([n + 1; 16])
}

/// What is attributed to user `n % 6`, of service `n % 4`, in one of five places by `n % 5`.
fn user(n: u8) -> String {
    format!("user-{}", n % 6)
}

fn service(n: u8) -> String {
    format!("service-{}", n % 4)
}

fn spans(n: u8) -> SpanColumns {
    let mut columns = SpanColumns::default();
    let json = format!(r#"{{"user.id":"{}"}}"#, user(n));
    let place = n % 5;
    let in_place = |of: u8| if place == of { json.as_str() } else { "" };
    if place == 0 {
        columns.attributes.push("user.id", Value::String(&user(n)));
    }
    let attributes = in_place(1);
    columns.events.push(EventView { time_ns: 1, name: "e", attributes, dropped_attributes_count: 0 });
    columns.links.push(LinkView {
        trace_id: TraceId([200; 16]),
        span_id: SpanId([3; 8]),
        trace_state: "",
        attributes: in_place(2),
        dropped_attributes_count: 0,
        flags: 0,
    });
    let scope = ScopeMeta {
        attributes: vec![("user.id".to_owned(), model::attribute::AnyValue::String(user(n)))],
        ..ScopeMeta::default()
    };
    let origin = columns.origins.intern_resource(&service(n), in_place(3), "");
    let meta = if place == 4 { scope.to_json() } else { String::new() };
    let origin = columns.origins.intern_scope(origin, "s", "", &meta);
    let fields = SpanFields {
        trace_id: trace_id(n),
        span_id: SpanId([n + 1; 8]),
        name: "GET /",
        start_ns: FIRST_NS + i64::from(n) * 60_000_000_000,
        ..SpanFields::default()
    };
    columns.push_span(&fields, origin);
    // Another span of the trace has nothing to do with the user.
    let origin = columns.origins.intern_resource("gateway", "", "");
    let other = SpanFields { span_id: SpanId([n + 101; 8]), ..fields };
    columns.push_span(&other, origin);
    columns
}

fn series(n: u8) -> model::SeriesBatch {
    let mut builder = SeriesBuilder::default();
    builder.label("__name__", "requests_total");
    builder.label("job", &format!("ns/{}", service(n)));
    builder.label("n", &n.to_string());
    builder.label("user_id", &user(n));
    let at = builder.close_labels(Temporality::Cumulative).expect("labels");
    let time_ms = FIRST_HOUR * HOUR_MS + i64::from(n) * 1000;
    builder.sample(at, time_ms, 1.0, 0);
    let labels = Labels::from_pairs([("trace_id", trace_id(n).to_string())]);
    builder.exemplar(at, Exemplar { time_ms, value: 1.0, labels });
    builder.finish()
}

fn logs(n: u8) -> LogColumns {
    let mut columns = LogColumns::default();
    for body in ["first", "second"] {
        if body == "first" {
            columns.attributes.push("user.id", Value::String(&user(n)));
        }
        let origin = columns.origins.intern_resource(&service(n), "", "");
        let origin = columns.origins.intern_scope(origin, "", "", "");
        let fields = LogFields {
            time_ns: FIRST_NS + i64::from(n),
            observed_time_ns: 0,
            severity_number: i32::from(n),
            severity_text: "",
            event_name: "",
            body: Body::Text(body),
            trace_id: trace_id(n),
            span_id: SpanId::NONE,
            flags: 0,
            dropped_attributes_count: 0,
        };
        columns.push_record(&fields, origin);
    }
    columns
}

async fn send(store: &Store, numbers: std::ops::Range<u8>) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let writer = Writer::new(store.clone());
    let calls = Arc::default();
    for n in numbers {
        let content = |signal| content_hash(&tenant(), signal, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
        let encoded = storage::block::spans::encode(&spans(n));
        writer.spans(&tenant(), content(Signal::Traces), encoded, NOW_S, &calls).await.expect("memory");
        let encoded = storage::block::series::encode(&series(n)).expect("samples");
        writer.series(&tenant(), content(Signal::Metrics), encoded, NOW_S, &calls).await.expect("memory");
        let encoded = storage::block::logs::encode(&logs(n));
        writer.logs(&tenant(), content(Signal::Logs), encoded, NOW_S, &calls).await.expect("memory");
    }
}

/// Merged files of several levels, and files of requests.
async fn filled(n: u8) -> Store {
    let store = memory();
    send(&store, 0..n / 3).await;
    run(&store, &everything(), NOW_S).await.expect("memory");
    send(&store, n / 3..n - 2).await;
    run(&store, &settings(), NOW_S + 600).await.expect("memory");
    send(&store, n - 2..n).await;
    store
}

/// What is stored: `span 3`, `sample 3`, `exemplar 3`, `log 3 first`.
async fn stored(store: &Store) -> storage::Result<BTreeSet<String>> {
    let mut stored = BTreeSet::new();
    let range = TimeRange { start_ns: FIRST_NS, end_ns_exclusive: FIRST_NS + 100 * HOUR_MS * 1_000_000 };
    let search = TraceSearch { range, conditions: Vec::new(), limit: 1000 };
    let found = read::search(store, &tenant(), &search, &Limits::default()).await?;
    for trace in &found.traces {
        for span in found.spans(trace) {
            assert!(stored.insert(format!("span {}", span.fields().span_id.0[0] - 1)), "doubled");
        }
    }
    let matcher = || vec![Matcher::new("__name__", MatchOp::Equal, "requests_total").expect("valid")];
    let first_ms = FIRST_HOUR * HOUR_MS;
    let (start_ms_exclusive, end_ms) = (first_ms - 1, first_ms + HOUR_MS);
    let selection = Selection { matchers: matcher(), start_ms_exclusive, end_ms, steps: None };
    let limits = SeriesLimits::default();
    for series in &read::select(store, &tenant(), &[selection], &limits).await?[0] {
        assert!(stored.insert(format!("sample {}", series.labels.get("n"))), "doubled");
    }
    let range_ms = (start_ms_exclusive, end_ms);
    for (labels, exemplars) in read::exemplars(store, &tenant(), &[matcher()], range_ms, &limits).await? {
        if !exemplars.is_empty() {
            stored.insert(format!("exemplar {}", labels.get("n")));
        }
    }
    for (_, columns) in super::logs::stored(store).await {
        for record in columns.iter() {
            let Body::Text(body) = record.body else { continue };
            let name = format!("log {} {body}", record.severity_number);
            assert!(stored.insert(name), "doubled");
        }
    }
    Ok(stored)
}

fn erasure(target: ErasureTarget, signals: &[Signal]) -> Erasure {
    Erasure {
        tenant: tenant(),
        signals: signals.to_vec(),
        target,
        requested_at_s: NOW_S + 700,
        done_at_s: None,
        n_removed: 0,
    }
}

fn of_user(n: u8) -> Erasure {
    let target = ErasureTarget::Attribute { key: "user.id".to_owned(), value: user(n) };
    erasure(target, &Signal::ALL)
}

fn all(n: u8) -> impl Iterator<Item = (u8, String)> {
    (0..n).flat_map(|n| {
        let names = [
            format!("span {n}"),
            format!("span {}", n + 100),
            format!("sample {n}"),
            format!("exemplar {n}"),
            format!("log {n} first"),
            format!("log {n} second"),
        ];
        names.map(|name| (n, name))
    })
}

/// All but what an erasure of a user takes.
fn without_user(n: u8, wanted: u8) -> BTreeSet<String> {
    let is_left = |(n, name): &(u8, String)| {
        let is_other = name.ends_with("second") || *name == format!("span {}", n + 100);
        n % 6 != wanted || is_other
    };
    all(n).filter(is_left).map(|(_, name)| name).collect()
}

#[test]
fn what_matches_goes_from_files_of_every_kind_and_nothing_else_does() {
    wait(async {
        let everything_sent: BTreeSet<String> = all(N).map(|(_, name)| name).collect();
        let check = async |erasure: Erasure, expected: BTreeSet<String>| {
            let what = erasure.target.to_string();
            let store = filled(N).await;
            assert_eq!(stored(&store).await.expect("memory"), everything_sent);
            erase::request(&store, &erasure).await.expect("memory");
            erase::request(&store, &erasure).await.expect("memory");
            assert_eq!(erase::list(&store).await.expect("memory"), std::slice::from_ref(&erasure));
            // Until a round nothing changes.
            assert_eq!(stored(&store).await.expect("memory"), everything_sent);
            let report = run(&store, &settings(), NOW_S + 800).await.expect("memory");
            assert_eq!((report.failed, report.held), (0, 0), "{what}: {report:?}");
            assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
            let n_removed = (everything_sent.len() - expected.len()) as u64;
            let done = &erase::list(&store).await.expect("memory")[0];
            assert_eq!(done.done_at_s, Some(NOW_S + 800), "{what}");
            // The exemplars of series that go are not counted.
            let n_exemplars =
                everything_sent.difference(&expected).filter(|name| name.starts_with("ex")).count();
            let of_series = everything_sent.difference(&expected).any(|name| name.starts_with("sample"));
            let expected_count = n_removed - if of_series { n_exemplars as u64 } else { 0 };
            assert_eq!((done.n_removed, report.dropped), (expected_count, expected_count), "{what}");
            let again = run(&store, &settings(), NOW_S + 900).await.expect("memory");
            assert_eq!((again.rewritten, again.failed), (0, 0), "{what}");
            let_grace_pass(&store, NOW_S + 900).await;
            assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
            assert_sound(&store).await;
        };
        check(of_user(2), without_user(N, 2)).await;
        let only_traces = Erasure { signals: vec![Signal::Traces], ..of_user(1) };
        let left = |name: &String| !name.starts_with("span") || without_user(N, 1).contains(name);
        check(only_traces, everything_sent.iter().filter(|name| left(name)).cloned().collect()).await;
        let of_trace = |n: u8, name: &str| n == 3 && !name.starts_with("sample");
        check(
            erasure(ErasureTarget::Trace(trace_id(3)), &Signal::ALL),
            all(N).filter(|(n, name)| !of_trace(*n, name)).map(|(_, name)| name).collect(),
        )
        .await;
        let of_service = |n: u8, name: &str| n % 4 == 1 && *name != format!("span {}", n + 100);
        check(
            erasure(ErasureTarget::Service(service(1)), &Signal::ALL),
            all(N).filter(|(n, name)| !of_service(*n, name)).map(|(_, name)| name).collect(),
        )
        .await;
        let nothing = ErasureTarget::Attribute { key: "user.id".to_owned(), value: "user".to_owned() };
        check(erasure(nothing, &Signal::ALL), everything_sent.clone()).await;
    });
}

#[test]
fn another_tenants_data_stays() {
    wait(async {
        let store = filled(N).await;
        let before = stored(&store).await.expect("memory");
        let other = Erasure { tenant: "other".parse().expect("a tenant"), ..of_user(2) };
        erase::request(&store, &other).await.expect("memory");
        let report = run(&store, &settings(), NOW_S + 800).await.expect("memory");
        assert_eq!((report.rewritten, report.failed), (0, 0));
        assert_eq!(stored(&store).await.expect("memory"), before);
        assert_eq!(erase::list(&store).await.expect("memory")[0].done_at_s, Some(NOW_S + 800));
    });
}

#[test]
fn a_crash_at_any_step_of_a_round_loses_nothing_and_the_next_round_ends_it() {
    wait(async {
        let all: BTreeSet<String> = all(FEW).map(|(_, name)| name).collect();
        let expected = without_user(FEW, 2);
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let what = format!("{crash:?} at {step}");
                let store = filled(FEW).await;
                erase::request(&store, &of_user(2)).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = NOW_S + 5000;
                let _ = run(&faulty(&store, &faults), &everything(), later_s).await;
                let found = stored(&store).await.expect("memory");
                assert!(found.is_subset(&all) && expected.is_subset(&found), "{what}");
                if !faults.has_crashed() {
                    break;
                }
                let report = run(&store, &everything(), later_s + 1000).await.expect("memory");
                assert_eq!((report.failed, report.held), (0, 0), "{what}");
                assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
                let done = &erase::list(&store).await.expect("memory")[0];
                assert!(done.done_at_s.is_some(), "{what}");
                assert_eq!(done.n_removed, 3, "{what}");
                let_grace_pass(&store, later_s).await;
                assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
            }
        }
    });
}

/// Passes of two compactors whose storage calls fail now and then, before their effect or behind it.
#[test]
fn rounds_of_unreliable_compactors_end() {
    wait(async {
        let all: BTreeSet<String> = all(FEW).map(|(_, name)| name).collect();
        let expected = without_user(FEW, 2);
        for seed in 0..20 {
            let what = format!("seed {seed}");
            let mut random = Random(seed);
            let store = filled(FEW).await;
            let unreliable = faulty(&store, &Faults::seeded(seed, 10 + random.below(20)));
            erase::request(&store, &of_user(2)).await.expect("memory");
            let mut now_s = NOW_S + 800;
            for _ in 0..8 {
                let owner = if random.below(2) == 0 { "first" } else { "second" };
                let settings = if random.below(2) == 0 { settings() } else { everything() };
                let _ = compact::run(&unreliable, &settings, owner, &|| now_s, &Arc::default()).await;
                now_s += random.below(300);
                let found = stored(&store).await.expect("memory");
                assert!(found.is_subset(&all) && expected.is_subset(&found), "{what}");
            }
            let report = run(&store, &everything(), now_s + 1000).await.expect("memory");
            assert_eq!((report.failed, report.held), (0, 0), "{what}");
            assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
            let done = &erase::list(&store).await.expect("memory")[0];
            assert!(done.done_at_s.is_some() && done.n_removed == 3, "{what}: {done:?}");
            let_grace_pass(&store, now_s + 1000).await;
            assert_eq!(stored(&store).await.expect("memory"), expected, "{what}");
        }
    });
}
