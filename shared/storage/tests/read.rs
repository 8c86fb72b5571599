//! Questions over what was written: every answer as a plain look at all spans gives it.

mod spans;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::attribute;
use model::search::{Condition, TraceSearch};
use model::spans::{SpanFields, SpanView};
use model::{Signal, SpanColumns, SpanId, TenantId, TimeRange, TraceId};
use proptest::prelude::*;
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read::{self, Limits, ServiceLink};
use storage::write::{Writer, content_hash};
use storage::{Calls, Error, Store};

fn memory(shards: u8) -> Store {
    Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards },
        recent: storage::read::RecentTraces::default(),
    }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

async fn write(store: &Store, batches: &[SpanColumns]) {
    let writer = Writer::new(store.clone());
    for (i, batch) in batches.iter().enumerate() {
        let content = content_hash(&tenant(), Signal::Traces, &i.to_le_bytes());
        let block = storage::block::spans::encode(batch);
        writer.spans(&tenant(), content, block, 1_000, &Arc::default()).await.expect("memory");
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

/// Whether a span meets a condition, by looking at it the long way.
fn meets(span: SpanView<'_>, condition: &Condition) -> bool {
    let fields = span.fields();
    match condition {
        Condition::Service(service) => span.service() == service,
        Condition::Name(name) => fields.name == name,
        Condition::Kind(kind) => fields.kind == *kind,
        Condition::Status(code) => fields.status_code == *code,
        Condition::StatusMessage(message) => fields.status_message == message,
        Condition::ScopeName(name) => span.scope().0 == name,
        Condition::ScopeVersion(version) => span.scope().1 == version,
        Condition::TraceState(state) => fields.trace_state == state,
        Condition::DurationAtLeast(least) => fields.duration_ns >= *least,
        Condition::DurationAtMost(most) => fields.duration_ns <= *most,
        Condition::Attribute { key, value } => {
            let in_json = |text: &str| {
                attribute::parse_map(text).expect("own json").iter().any(|(other, found)| {
                    let mut columns = SpanColumns::default();
                    let mut json = String::new();
                    attribute::write_value(&mut json, found);
                    let found = match found {
                        attribute::AnyValue::Empty => model::columns::Value::Empty,
                        attribute::AnyValue::String(text) => model::columns::Value::String(text),
                        attribute::AnyValue::Int(number) => model::columns::Value::Int(*number),
                        attribute::AnyValue::Double(number) => model::columns::Value::Double(*number),
                        attribute::AnyValue::Bool(truth) => model::columns::Value::Bool(*truth),
                        _ => model::columns::Value::Json(&json),
                    };
                    columns.attributes.push(other, found);
                    other == key && Condition::text_matches(found, value)
                })
            };
            span.attributes().any(|(other, found)| other == key && Condition::text_matches(found, value))
                || in_json(span.resource())
                || span.events().any(|event| in_json(event.attributes))
        }
        Condition::Any(any) => any.iter().any(|condition| meets(span, condition)),
    }
}

/// The ids that a search gives, newest first.
fn expected(batches: &[SpanColumns], search: &TraceSearch) -> Vec<TraceId> {
    let mut newest: HashMap<TraceId, i64> = HashMap::new();
    for span in batches.iter().flat_map(SpanColumns::iter) {
        let fields = span.fields();
        let is_match = search.range.contains(fields.start_ns)
            && search.conditions.iter().all(|condition| meets(span, condition));
        if is_match {
            newest
                .entry(fields.trace_id)
                .and_modify(|old| *old = fields.start_ns.max(*old))
                .or_insert(fields.start_ns);
        }
    }
    let mut found: Vec<_> = newest.into_iter().collect();
    found.sort_unstable_by_key(|&(id, start_ns)| (std::cmp::Reverse(start_ns), id));
    found.into_iter().take(search.limit).map(|(id, _)| id).collect()
}

/// A condition that some generated spans meet and some do not.
fn any_condition() -> impl Strategy<Value = Condition> {
    let text = "[a-c]?";
    let leaf = prop_oneof![
        text.prop_map(Condition::Service),
        text.prop_map(Condition::Name),
        (-1i32..7).prop_map(Condition::Kind),
        any::<i32>().prop_map(Condition::Status),
        text.prop_map(Condition::StatusMessage),
        text.prop_map(Condition::ScopeName),
        text.prop_map(Condition::ScopeVersion),
        text.prop_map(Condition::TraceState),
        any::<i64>().prop_map(Condition::DurationAtLeast),
        any::<i64>().prop_map(Condition::DurationAtMost),
        ("[a-e]{0,2}", prop_oneof!["[a-c]{0,2}", "[0-3]", "true|false", "NaN|1\\.0"])
            .prop_map(|(key, value)| Condition::Attribute { key, value }),
        "[0-2-]{1,2}".prop_map(|value| Condition::Attribute { key: "service.name".to_owned(), value }),
        Just(Condition::Attribute { key: "a".to_owned(), value: "1".to_owned() }),
    ];
    prop_oneof![4 => leaf.clone(), 1 => proptest::collection::vec(leaf, 0..4).prop_map(Condition::Any)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_a_look_at_all_spans_finds(
        batches in proptest::collection::vec(spans::any_columns(1..12), 1..6),
        conditions in proptest::collection::vec(any_condition(), 0..3),
        limit in 0usize..8,
        range in prop_oneof![Just((i64::MIN, i64::MAX)), any::<(i64, i64)>()],
        shards in 1u8..5,
    ) {
        let range = TimeRange { start_ns: range.0.min(range.1), end_ns_exclusive: range.0.max(range.1) };
        let search = TraceSearch { range, conditions, limit };
        let store = memory(shards);
        let found = wait(async {
            write(&store, &batches).await;
            read::search(&store, &tenant(), &search, &Limits::default()).await.expect("memory")
        });
        let ids: Vec<TraceId> = found.traces.iter().map(|trace| trace.trace_id).collect();
        prop_assert_eq!(ids, expected(&batches, &search));
        for trace in &found.traces {
            prop_assert!(!trace.spans.is_empty());
            prop_assert!(found.spans(trace).all(|span| span.fields().trace_id == trace.trace_id));
        }
    }

    #[test]
    fn a_trace_by_id_is_whole_and_each_span_is_there_once(
        batches in proptest::collection::vec(spans::any_columns(1..12), 1..5),
        again in any::<bool>(),
    ) {
        let mut stored = batches.clone();
        if again {
            // The same spans in other requests: nothing may be doubled.
            stored.extend(batches.iter().cloned());
        }
        let ids: BTreeSet<TraceId> = batches.iter().flat_map(|batch| batch.trace_id.iter().copied()).collect();
        let ids: Vec<TraceId> = ids.into_iter().collect();
        let store = memory(2);
        let found = wait(async {
            write(&store, &stored).await;
            read::traces_by_id(&store, &tenant(), &ids, 1_000, &Limits::default()).await.expect("memory")
        });
        prop_assert_eq!(found.traces.iter().map(|trace| trace.trace_id).collect::<Vec<_>>(), ids);
        for trace in &found.traces {
            let all = batches.iter().flat_map(SpanColumns::iter);
            let mut wanted: Vec<SpanView<'_>> = Vec::new();
            for span in all.filter(|span| span.fields().trace_id == trace.trace_id) {
                if !wanted.iter().any(|other| other.same_as(span)) {
                    wanted.push(span);
                }
            }
            prop_assert_eq!(trace.spans.len(), wanted.len());
            for span in found.spans(trace) {
                prop_assert!(wanted.iter().any(|other| other.same_as(span)));
            }
            let starts: Vec<i64> = found.spans(trace).map(|span| span.fields().start_ns).collect();
            prop_assert!(starts.is_sorted());
        }
    }
}

/// One span of `service` with this id, parent, and start in seconds.
fn span(columns: &mut SpanColumns, service: &str, trace: u8, id: u8, parent: u8, start_s: i64) {
    let resource = format!(r#"{{"service.name":"{service}"}}"#);
    let origin = columns.origins.intern_resource(service, &resource, "");
    let fields = SpanFields {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: SpanId([parent; 8]),
        name: "work",
        kind: 2,
        start_ns: start_s * 1_000_000_000,
        duration_ns: 1_000,
        ..SpanFields::default()
    };
    columns.push_span(&fields, origin);
}

fn batch(spans: &[(&str, u8, u8, u8, i64)]) -> SpanColumns {
    let mut columns = SpanColumns::default();
    for &(service, trace, id, parent, start_s) in spans {
        span(&mut columns, service, trace, id, parent, start_s);
    }
    columns
}

#[test]
fn links_count_calls_between_services_across_files_once() {
    let batches = [
        batch(&[("front", 1, 1, 0, 10), ("front", 1, 2, 1, 10)]),
        batch(&[("back", 1, 3, 2, 11), ("back", 2, 5, 4, 11)]),
        batch(&[("front", 2, 4, 0, 10), ("back", 1, 3, 2, 11)]),
        batch(&[("old", 3, 6, 1, -5000)]),
    ];
    let store = memory(1);
    let range = TimeRange { start_ns: 0, end_ns_exclusive: i64::MAX };
    let links = wait(async {
        write(&store, &batches).await;
        read::service_links(&store, &tenant(), range, &Limits::default()).await.expect("memory")
    });
    assert_eq!(links, [ServiceLink { parent: "front".to_owned(), child: "back".to_owned(), call_count: 2 }]);
}

#[test]
fn services_and_operations_are_known_after_the_write() {
    let store = memory(1);
    wait(async {
        write(&store, &[batch(&[("b", 1, 1, 0, 1), ("a", 1, 2, 1, 1), ("", 1, 3, 1, 1)])]).await;
        assert_eq!(read::services(&store, &tenant()).await.expect("memory"), ["", "a", "b"]);
        let operations = read::operations(&store, &tenant(), "a").await.expect("memory");
        assert_eq!(operations, [read::Operation { name: "work".to_owned(), kind: 2 }]);
        assert_eq!(read::operations(&store, &tenant(), "c").await.expect("memory"), []);
        let other: TenantId = "other".parse().expect("a name");
        assert_eq!(read::services(&store, &other).await.expect("memory"), Vec::<String>::new());
        assert_eq!(read::tenants(&store).await.expect("memory"), [tenant()]);
    });
}

#[test]
fn limits_end_a_query_with_an_error_that_says_which() {
    let store = memory(1);
    wait(async {
        write(&store, &[batch(&[("a", 1, 1, 0, 1), ("a", 1, 2, 1, 1)])]).await;
        let few_spans = Limits { max_spans: 1, ..Limits::default() };
        let few_bytes = Limits { max_bytes: 10, ..Limits::default() };
        let by_id = |limits| {
            let store = store.clone();
            async move { read::traces_by_id(&store, &tenant(), &[TraceId([1; 16])], 1_000, &limits).await }
        };
        assert!(matches!(by_id(few_spans).await, Err(Error::OverLimit { limit: 1, unit: "spans" })));
        assert!(matches!(by_id(few_bytes).await, Err(Error::OverLimit { limit: 10, unit: "bytes" })));
        let range = TimeRange::ALL;
        let links = read::service_links(&store, &tenant(), range, &few_spans).await;
        assert!(matches!(links, Err(Error::OverLimit { unit: "spans", .. })));
    });
}

#[test]
fn a_query_reads_only_the_files_that_may_answer_it() {
    let store = memory(1);
    let batches: Vec<SpanColumns> =
        (1..=50).map(|i| batch(&[("a", i, i, 0, i64::from(i)), ("b", i, 100, i, 7200)])).collect();
    wait(async {
        write(&store, &batches).await;
        let usage = |calls: &Arc<Calls>| calls.usage();
        let calls = Arc::new(Calls::default());
        let metered = store.metered(&calls);
        let found =
            read::traces_by_id(&metered, &tenant(), &[TraceId([7; 16])], 1_000, &Limits::default()).await;
        assert_eq!(found.expect("memory").traces.len(), 1);
        assert_eq!(usage(&calls).object_gets, 1, "one file has the trace");

        let calls = Arc::new(Calls::default());
        let metered = store.metered(&calls);
        let unknown =
            read::traces_by_id(&metered, &tenant(), &[TraceId([200; 16])], 1_000, &Limits::default()).await;
        assert!(unknown.expect("memory").traces.is_empty());
        assert_eq!(usage(&calls).object_gets, 0);
        assert_eq!(usage(&calls).object_lists, 0);

        let calls = Arc::new(Calls::default());
        let metered = store.metered(&calls);
        let search = TraceSearch {
            range: TimeRange::ALL,
            conditions: vec![Condition::Service("c".to_owned())],
            limit: 20,
        };
        assert!(
            read::search(&metered, &tenant(), &search, &Limits::default())
                .await
                .expect("memory")
                .traces
                .is_empty()
        );
        assert_eq!(usage(&calls).object_gets, 0, "no file has the service");
    });
}

#[test]
fn a_repeated_request_is_stored_once_and_known_to_be() {
    let store = memory(3);
    wait(async {
        let one = batch(&[("a", 1, 1, 0, 1)]);
        write(&store, std::slice::from_ref(&one)).await;
        write(&store, std::slice::from_ref(&one)).await;
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        let sums: BTreeMap<String, (usize, u64)> = windows
            .iter()
            .map(|window| (window.window.to_string(), (window.objects.len(), window.n_items)))
            .collect();
        assert_eq!(sums, BTreeMap::from([("1970-01-01T00".to_owned(), (1, 1))]));
        assert_eq!(read::verify(&store, &tenant()).await.expect("sound"), 1);
    });
}
