//! Searches page by page, while files arrive and are merged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::search::{Condition, TraceSearch};
use model::spans::SpanFields;
use model::{Signal, SpanColumns, SpanId, TimeRange, TraceId};
use storage::Store;
use storage::read::{self, Limits, Position};
use storage::write::{Writer, content_hash};

use super::{FIRST_HOUR, HOUR_MS, NOW_S, Random, memory, run, settings, tenant, wait};

const FIRST_NS: i64 = FIRST_HOUR * HOUR_MS * 1_000_000;
const HOUR_NS: i64 = HOUR_MS * 1_000_000;

/// Spans of some traces at few different times from `first_ns` on, so that many traces have one place but for their ids.
async fn write(writer: &Writer, random: &mut Random, first_ns: i64, n_traces: u64) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut columns = SpanColumns::default();
    for _ in 0..=random.below(12) {
        let service = format!("service-{}", random.below(2));
        let json = format!(r#"{{"service.name":"{service}"}}"#);
        let origin = columns.origins.intern_resource(&service, &json, "");
        let route = format!("/{}", random.below(3));
        columns.attributes.push("http.route", model::columns::Value::String(&route));
        let fields = SpanFields {
            trace_id: TraceId((u128::from(random.below(n_traces)) + 1).to_be_bytes()),
            span_id: SpanId(random.next().to_be_bytes()),
            name: "work",
            start_ns: first_ns + random.below(12) as i64 * (HOUR_NS / 12),
            duration_ns: random.below(100) as i64,
            ..SpanFields::default()
        };
        columns.push_span(&fields, origin);
    }
    let content = content_hash(&tenant(), Signal::Traces, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    let encoded = storage::block::spans::encode(&columns);
    writer.spans(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
}

/// The places of all traces, by looking at each of their spans.
async fn expected(store: &Store, search: &TraceSearch, n_traces: u64) -> Vec<(i64, TraceId)> {
    let ids: Vec<TraceId> = (1..=u128::from(n_traces)).map(|id| TraceId(id.to_be_bytes())).collect();
    let set = read::traces_by_id(store, &tenant(), &ids, NOW_S, &Limits::default()).await.expect("memory");
    let mut places: Vec<(i64, TraceId)> = Vec::new();
    for trace in &set.traces {
        let matches = set.spans(trace).filter(|span| {
            search.range.contains(span.fields().start_ns)
                && search.conditions.iter().all(|condition| match condition {
                    Condition::Service(service) => span.service() == service,
                    Condition::Attribute { key, value } => span
                        .attributes()
                        .any(|(other, found)| other == key && Condition::text_matches(found, value)),
                    other => panic!("{other:?} is not asked for here"),
                })
        });
        if let Some(newest_ns) = matches.map(|span| span.fields().start_ns).max() {
            places.push((newest_ns, trace.trace_id));
        }
    }
    places.sort_by_key(|&(start_ns, id)| (std::cmp::Reverse(start_ns), id));
    places
}

#[test]
fn pages_have_each_trace_once_whatever_happens_between_them() {
    wait(async {
        let (mut n_pages, mut n_traces_in_all) = (0, 0);
        for seed in 0..30 {
            let mut random = Random(seed);
            let n_traces = 5 + random.below(60);
            let store = memory();
            let writer = Writer::new(store.clone());
            for _ in 0..25 {
                let first_ns = FIRST_NS + random.below(3) as i64 * HOUR_NS;
                write(&writer, &mut random, first_ns, n_traces).await;
            }
            if random.below(2) == 0 {
                run(&store, &settings(), NOW_S).await.expect("memory");
            }
            let mut conditions = Vec::new();
            if random.below(2) == 0 {
                conditions.push(Condition::Service("service-1".to_owned()));
            }
            if random.below(2) == 0 {
                conditions
                    .push(Condition::Attribute { key: "http.route".to_owned(), value: "/1".to_owned() });
            }
            let range = TimeRange { start_ns: FIRST_NS + 5, end_ns_exclusive: FIRST_NS + 4 * HOUR_NS };
            let limit = 1 + random.below(7) as usize;
            let search = TraceSearch { range, conditions, limit };
            let expect = expected(&store, &search, n_traces).await;

            let mut found: Vec<TraceId> = Vec::new();
            let mut after: Option<Position> = None;
            loop {
                let page = read::search_page(&store, &tenant(), &search, after, &Limits::default()).await;
                let page = page.expect("memory");
                n_pages += 1;
                assert!(page.set.traces.len() <= limit);
                assert!(page.next.is_none() || page.set.traces.len() == limit, "pages are full");
                let whole: Vec<TraceId> = page.set.traces.iter().map(|trace| trace.trace_id).collect();
                let by_id = read::traces_by_id(&store, &tenant(), &whole, NOW_S, &Limits::default()).await;
                for (trace, other) in page.set.traces.iter().zip(by_id.expect("memory").traces) {
                    assert_eq!(trace.spans.len(), other.spans.len(), "whole traces");
                }
                found.extend(whole);
                let Some(next) = page.next else { break };
                assert_eq!(expect.get(found.len() - 1), Some(&(next.start_ns, next.trace_id)));
                after = Some(next);
                match random.below(3) {
                    // Newer than what is asked for, of the same traces.
                    0 => write(&writer, &mut random, FIRST_NS + 4 * HOUR_NS, n_traces).await,
                    1 => drop(run(&store, &settings(), NOW_S).await.expect("memory")),
                    _ => {}
                }
            }
            assert_eq!(found, expect.iter().map(|&(_, id)| id).collect::<Vec<_>>(), "seed {seed}");
            n_traces_in_all += found.len();
        }
        assert!(n_pages > 100 && n_traces_in_all > 300, "{n_pages} pages, {n_traces_in_all} traces");
    });
}
