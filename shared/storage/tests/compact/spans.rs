//! Merging of spans.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use model::columns::Value;
use model::search::{Condition, TraceSearch};
use model::spans::{EventView, LinkView, SpanFields};
use model::transfer::{Pick, Picks, SpanTransfer};
use model::{Signal, SpanColumns, SpanId, TimeRange, TraceId};
use storage::Store;
use storage::compact::Settings;
use storage::faults::{Crash, Faults};
use storage::index::TableLayout;
use storage::index::keys::windows_partition;
use storage::kv::SortRange;
use storage::read::{self, Limits, TraceSet};
use storage::write::{Writer, content_hash};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, let_grace_pass, memory, mended,
    objects, run, settings, tenant, wait,
};

const N_TRACES: u64 = 40;

fn trace_id(number: u64) -> TraceId {
    // Half of them have the shape of old 64-bit ids.
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number + 1).to_be_bytes());
    if number.is_multiple_of(2) {
        id[0] = number as u8 + 1;
    }
    TraceId(id)
}

/// What a request brings: spans of some traces within an hour; some spans come in several requests.
fn batch(random: &mut Random, first_hour: i64, n_hours: u64) -> SpanColumns {
    let mut columns = SpanColumns::default();
    let hour_ns = (first_hour + random.below(n_hours) as i64) * HOUR_MS * 1_000_000;
    for _ in 0..=random.below(15) {
        let trace = random.below(N_TRACES);
        let span = random.below(6);
        let text = format!("value {}", random.below(5));
        columns.attributes.push("http.route", Value::String(&text));
        columns.attributes.push("size", Value::Int(random.below(4) as i64));
        if random.below(3) == 0 {
            columns.attributes.push("ratio", Value::Double(f64::NAN));
            columns.attributes.push("list", Value::Json("[1,2]"));
            columns.events.push(EventView {
                time_ns: 5,
                name: "e",
                attributes: "{}",
                dropped_attributes_count: 1,
            });
            columns.links.push(LinkView {
                trace_id: trace_id(0),
                span_id: SpanId([3; 8]),
                trace_state: "",
                attributes: "",
                dropped_attributes_count: 0,
                flags: 1,
            });
        }
        let service = format!("service-{}", span % 3);
        let json = format!(r#"{{"service.name":"{service}"}}"#);
        let origin = columns.origins.intern_resource(&service, &json, "");
        let origin = columns.origins.intern_scope(origin, "scope", "1", "");
        let fields = SpanFields {
            trace_id: trace_id(trace),
            span_id: SpanId([span as u8 + 1; 8]),
            parent_span_id: if span == 0 { SpanId::NONE } else { SpanId([span as u8; 8]) },
            name: if span.is_multiple_of(2) { "GET /" } else { "query" },
            start_ns: hour_ns + random.below(3_000) as i64 * 1_000_000,
            duration_ns: random.below(1_000) as i64,
            status_code: random.below(3) as i32,
            ..SpanFields::default()
        };
        columns.push_span(&fields, origin);
    }
    columns
}

async fn write(writer: &Writer, batch: &SpanColumns) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let content = content_hash(&tenant(), Signal::Traces, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    let encoded = storage::block::spans::encode(batch);
    writer.spans(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
}

fn text(set: &TraceSet) -> String {
    let mut text = String::new();
    for trace in &set.traces {
        let mut spans: Vec<String> = set
            .spans(trace)
            .map(|span| {
                let attributes: Vec<_> = span.attributes().collect();
                let events: Vec<_> = span.events().collect();
                let links: Vec<_> = span.links().collect();
                let of_origin = (span.service(), span.resource(), span.scope());
                format!("{:?} {attributes:?} {events:?} {links:?} {of_origin:?}", span.fields())
            })
            .collect();
        spans.sort_unstable();
        writeln!(text, "{}\n  {}", trace.trace_id, spans.join("\n  ")).expect("a string");
    }
    text
}

/// What every question gives.
async fn answers(store: &Store) -> storage::Result<String> {
    // What was read before would hide what is missing now.
    let store = &Store { recent: read::RecentTraces::default(), ..store.clone() };
    let ids: Vec<TraceId> = (0..N_TRACES + 3).map(trace_id).collect();
    let limits = Limits::default();
    let mut answers = text(&read::traces_by_id(store, &tenant(), &ids, NOW_S, &limits).await?);
    let first_ns = FIRST_HOUR * HOUR_MS * 1_000_000;
    let hours = |from: i64, to: i64| TimeRange {
        start_ns: first_ns + from * HOUR_MS * 1_000_000,
        end_ns_exclusive: first_ns + to * HOUR_MS * 1_000_000,
    };
    let attribute =
        |value: &str| Condition::Attribute { key: "http.route".to_owned(), value: value.to_owned() };
    let searches = [
        (hours(0, 100), 1000, vec![]),
        (hours(0, 100), 3, vec![Condition::Service("service-1".to_owned())]),
        (hours(1, 3), 1000, vec![attribute("value 2"), Condition::DurationAtLeast(500)]),
        (hours(0, 100), 1000, vec![Condition::Status(2), Condition::Name("query".to_owned())]),
        (hours(0, 100), 1000, vec![attribute("nothing")]),
    ];
    for (range, limit, conditions) in searches {
        let search = TraceSearch { range, conditions, limit };
        let found = read::search(store, &tenant(), &search, &limits).await?;
        let order: Vec<String> = found.traces.iter().map(|trace| trace.trace_id.to_string()).collect();
        writeln!(answers, "{order:?}\n{}", text(&found)).expect("a string");
    }
    let links = read::service_links(store, &tenant(), hours(0, 100), &limits).await?;
    Ok(format!("{answers}{links:?}"))
}

#[test]
fn every_question_has_the_same_answer_after_merging() {
    wait(async {
        for seed in 0..15 {
            let mut random = Random(seed);
            let store = memory();
            let writer = Writer::new(store.clone());
            for _ in 0..40 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 10)).await;
            }
            let before = answers(&store).await.expect("memory");
            let report = run(&store, &settings(), NOW_S).await.expect("memory");
            assert!(report.merges > 0 && report.failed == 0, "{report:?}");
            assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
            let again = run(&store, &everything(), NOW_S).await.expect("memory");
            assert_eq!(again.failed, 0, "{again:?}");
            let_grace_pass(&store, NOW_S).await;
            assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
            assert_sound(&store).await;
        }
    });
}

#[test]
fn who_knows_of_fewer_partitions_misses_nothing() {
    wait(async {
        let memory = memory();
        let with = |shards| Store { layout: TableLayout { shards }, ..memory.clone() };
        let (narrow, wide) = (with(1), with(9));
        let mut random = Random(3);
        for store in [&narrow, &wide] {
            let writer = Writer::new(store.clone());
            for _ in 0..20 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 10)).await;
            }
        }
        let before = answers(&wide).await.expect("memory");
        assert_eq!(answers(&narrow).await.expect("memory"), before);
        assert_eq!(objects(&narrow).await, 40);
        assert!(mended(&narrow).await.is_empty(), "what another process wrote is no damage");
        let report = run(&narrow, &everything(), NOW_S).await.expect("memory");
        assert_eq!((report.failed, report.inputs >= 40), (0, true), "{report:?}");
        let_grace_pass(&narrow, NOW_S).await;
        assert_eq!(answers(&wide).await.expect("memory"), before);
        assert_sound(&narrow).await;
    });
}

#[test]
fn equal_spans_of_different_requests_are_stored_once() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let columns = batch(&mut Random(1), FIRST_HOUR, 1);
        for _ in 0..3 {
            write(&writer, &columns).await;
        }
        let before = answers(&store).await.expect("memory");
        let report = run(&store, &everything(), NOW_S).await.expect("memory");
        assert_eq!((report.rows, report.duplicates), (columns.len() as u64, 2 * columns.len() as u64));
        assert_eq!(answers(&store).await.expect("memory"), before);
    });
}

/// What files of a level there are, in the order of their bytes.
async fn files_of_level(store: &Store, level: u8) -> Vec<Bytes> {
    let mut files = Vec::new();
    for object in store.objects.list("", None, usize::MAX).await.expect("memory") {
        if object.key.contains(&format!("/l{level}-")) {
            files.push(store.objects.get(&object.key).await.expect("memory").expect("it is listed"));
        }
    }
    files.sort();
    files
}

#[test]
fn a_file_that_is_alone_comes_into_its_day_as_it_is() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for seed in 0..6 {
            write(&writer, &batch(&mut Random(seed), FIRST_HOUR, 1)).await;
        }
        let before = answers(&store).await.expect("memory");
        // In two steps: within the hour, because they are more than one merge reads, and then into the day.
        let rules = storage::compact::Rules { max_inputs: 4, min_merged: 2, ..Default::default() };
        let report = run(&store, &Settings { rules, ..everything() }, NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.failed), (4, 0), "{report:?}");
        let of_hour = files_of_level(&store, 2).await;
        assert!(!of_hour.is_empty(), "a file of the level");
        assert_eq!(files_of_level(&store, 9).await, of_hour);
        assert_eq!(answers(&store).await.expect("memory"), before);
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(answers(&store).await.expect("memory"), before);
        assert_sound(&store).await;
    });
}

#[test]
fn a_run_of_full_files_comes_into_its_day_as_it_is() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..4 {
            let mut columns = SpanColumns::default();
            for number in 0..2_100 {
                let origin = columns.origins.intern_resource("service", "{}", "");
                let origin = columns.origins.intern_scope(origin, "", "", "");
                let fields = SpanFields {
                    trace_id: TraceId((request * 2_100 + number + 1_u128).to_be_bytes()),
                    span_id: SpanId([1; 8]),
                    name: "GET /",
                    start_ns: FIRST_HOUR * HOUR_MS * 1_000_000 + number as i64,
                    ..SpanFields::default()
                };
                columns.push_span(&fields, origin);
            }
            write(&writer, &columns).await;
        }
        // Two of two requests each are merged, and are two units of 4,096 spans then: a full file, and a short one.
        let rules =
            storage::compact::Rules { min_fresh: 2, max_inputs: 2, target_bytes: 80_000, ..settings().rules };
        let report = run(&store, &Settings { rules, ..everything() }, NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.rows, report.failed), (4, 3 * 8_400, 0), "{report:?}");
        let of_hour = files_of_level(&store, 2).await;
        assert_eq!(of_hour.len(), 2);
        assert_eq!(files_of_level(&store, 9).await, of_hour);
        let_grace_pass(&store, NOW_S).await;
        let ids: Vec<TraceId> = (1..=8_400_u128).map(|id| TraceId(id.to_be_bytes())).collect();
        let found = read::traces_by_id(&store, &tenant(), &ids, NOW_S, &Limits::default()).await;
        assert_eq!(found.expect("memory").traces.len(), ids.len());
        assert_sound(&store).await;
    });
}

#[test]
fn an_hour_is_forgotten_when_no_item_is_left_in_it() {
    wait(async {
        let store = memory();
        write(&Writer::new(store.clone()), &batch(&mut Random(1), FIRST_HOUR, 1)).await;
        let is_hour_known = async || {
            let partition = windows_partition(&tenant(), Signal::Traces);
            let windows = store.table.range(&partition, SortRange::ALL, None, 10).await.expect("memory");
            windows.items.iter().any(|(name, _)| name.starts_with("2024-10-04T00#"))
        };
        let slow = Settings { grace_s: 1_000_000, ..everything() };
        let report = run(&store, &slow, NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.failed), (1, 0), "into its day");
        run(&store, &slow, NOW_S + 100_000).await.expect("memory");
        assert!(is_hour_known().await, "what was merged waits for its deletion there");
        let report = run(&store, &slow, NOW_S + 1_100_000).await.expect("memory");
        assert_eq!((report.deleted, report.failed), (1, 0));
        assert!(!is_hour_known().await);
        assert_sound(&store).await;
    });
}

#[test]
fn what_reaches_over_days_is_split_among_them() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut columns = batch(&mut Random(2), FIRST_HOUR, 1);
        for _ in 0..5 {
            let later = batch(&mut Random(columns.len() as u64), FIRST_HOUR + 30, 1);
            let picks: Vec<Pick> = (0..later.len() as u32).map(|row| Pick { batch: 0, row }).collect();
            columns.extend_from(&[&later], &Picks::of(&picks, 1), &mut [SpanTransfer::default()]);
        }
        write(&writer, &columns).await;
        let before = answers(&store).await.expect("memory");
        let report = run(&store, &settings(), NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.outputs, report.failed), (1, 2, 0));
        assert_eq!(answers(&store).await.expect("memory"), before);
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(answers(&store).await.expect("memory"), before);
        assert_sound(&store).await;
    });
}

/// A trace of many units comes back whole, and so does one whose spans are large.
#[test]
fn traces_may_be_larger_than_a_unit() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..6_u32 {
            let mut columns = SpanColumns::default();
            let origin = columns.origins.intern_resource("large", r#"{"service.name":"large"}"#, "");
            for span in 0..2_000_u32 {
                let number = u64::from(request * 2_000 + span);
                let long = if span == 7 { "x".repeat(3 << 20) } else { String::new() };
                columns.attributes.push("blob", Value::String(&long));
                let fields = SpanFields {
                    trace_id: trace_id(u64::from(span % 10 == 0)),
                    span_id: SpanId(number.to_be_bytes()),
                    start_ns: FIRST_HOUR * HOUR_MS * 1_000_000 + number as i64,
                    ..SpanFields::default()
                };
                columns.push_span(&fields, origin);
            }
            write(&writer, &columns).await;
        }
        let settings = Settings { rules: storage::compact::Rules::default(), ..everything() };
        let report = run(&store, &settings, NOW_S).await.expect("memory");
        // Within their hour, then into their day.
        assert_eq!((report.failed, report.rows), (0, 2 * 12_000));
        let ids = [trace_id(0), trace_id(1)];
        let found =
            read::traces_by_id(&store, &tenant(), &ids, NOW_S, &Limits::default()).await.expect("memory");
        let sizes: Vec<usize> = found.traces.iter().map(|trace| trace.spans.len()).collect();
        assert_eq!(sizes, [10_800, 1_200]);
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}

#[test]
fn a_crash_at_any_step_changes_no_answer() {
    wait(async {
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let store = memory();
                let writer = Writer::new(store.clone());
                let mut random = Random(11);
                for _ in 0..10 {
                    write(&writer, &batch(&mut random, FIRST_HOUR, 2)).await;
                }
                let before = answers(&store).await.expect("memory");
                run(&store, &Settings { max_merges: 1, ..settings() }, NOW_S).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = NOW_S + 5000;
                let _ = run(&faulty(&store, &faults), &everything(), later_s).await;
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                if !faults.has_crashed() {
                    break;
                }
                let report = run(&store, &everything(), later_s + 1000).await.expect("memory");
                assert_eq!((report.failed, report.held), (0, 0), "{crash:?} at {step}");
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                let_grace_pass(&store, later_s).await;
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
            }
        }
    });
}
