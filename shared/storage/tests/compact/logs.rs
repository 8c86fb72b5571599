//! Merging of log records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::columns::Value;
use model::logs::{Body, LogFields};
use model::transfer::LogTransfer;
use model::{LogColumns, Signal, SpanId, TraceId};
use storage::Store;
use storage::block::reference;
use storage::compact::{Rules, Settings};
use storage::faults::{Crash, Faults};
use storage::read;
use storage::write::{Writer, content_hash};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, let_grace_pass, memory, run,
    settings, tenant, wait,
};

const SECOND_NS: i64 = 1_000_000_000;

fn hour_ns(hours_later: i64) -> i64 {
    (FIRST_HOUR + hours_later) * HOUR_MS * 1_000_000
}

/// What a request brings: log records within an hour, each numbered, many with a time in common.
fn batch(random: &mut Random, request: i64, n_hours: u64) -> LogColumns {
    let mut columns = LogColumns::default();
    let start_ns = hour_ns(random.below(n_hours) as i64);
    for number in 0..=random.below(25) {
        let text = format!("value {}", random.below(5));
        columns.attributes.push("request", Value::Int(request));
        columns.attributes.push("number", Value::Int(number as i64));
        if random.below(3) == 0 {
            columns.attributes.push("text", Value::String(&text));
            columns.attributes.push("ratio", Value::Double(f64::NAN));
            columns.attributes.push("list", Value::Json("[1,2]"));
            columns.attributes.push("nothing", Value::Empty);
        }
        let service = ["", "cart", "shop", "web"][random.below(4) as usize];
        let json = format!(r#"{{"service.name":"{service}","pod":{}}}"#, random.below(3));
        let origin = columns.origins.intern_resource(service, &json, "");
        let origin = columns.origins.intern_scope(origin, "scope", &text, "");
        let time_ns = start_ns + random.below(6) as i64 * 60 * SECOND_NS;
        let is_timed = random.below(4) > 0;
        let body = format!("line {}", random.below(8));
        let record = LogFields {
            time_ns: if is_timed { time_ns } else { 0 },
            observed_time_ns: if is_timed { random.below(9) as i64 } else { time_ns },
            severity_number: random.below(25) as i32,
            severity_text: "INFO",
            event_name: &text,
            body: [Body::None, Body::Text(&body), Body::Json("{}")][random.below(3) as usize],
            trace_id: TraceId([random.below(4) as u8; 16]),
            span_id: SpanId([random.below(4) as u8; 8]),
            flags: random.below(2) as u32,
            dropped_attributes_count: random.below(2) as u32,
        };
        columns.push_record(&record, origin);
    }
    columns
}

async fn write(writer: &Writer, columns: &LogColumns) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let content = content_hash(&tenant(), Signal::Logs, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    let encoded = storage::block::logs::encode(columns);
    writer.logs(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
}

/// The log records of each file that is not retired, with its level, through the `parquet` crate.
pub(super) async fn stored(store: &Store) -> Vec<(u8, LogColumns)> {
    let mut stored = Vec::new();
    for window in read::windows(store, &tenant()).await.expect("memory") {
        for key in window.objects.iter().filter(|_| window.signal == Signal::Logs) {
            let bytes = store.objects.get(key).await.expect("memory").expect("indexed");
            stored.push((window.level, reference::decode_logs(bytes).expect("a file")));
        }
    }
    stored
}

fn text(columns: &LogColumns, row: usize, fields: &LogFields<'_>) -> String {
    let attributes: Vec<_> = columns.attributes.row(row).collect();
    let origins = &columns.origins;
    let of_origin = (origins.service.get(row), origins.resource.get(row), origins.scope(row));
    format!("{fields:?} {attributes:?} {of_origin:?}")
}

/// All log records, sorted by all that they say.
async fn records(store: &Store) -> Vec<String> {
    let mut records = Vec::new();
    for (_, columns) in stored(store).await {
        records.extend(columns.iter().enumerate().map(|(row, fields)| text(&columns, row, &fields)));
    }
    records.sort_unstable();
    records
}

/// Whether each merged file is sorted by service and time, and what is equal in both as its request had it.
async fn assert_in_order(store: &Store) {
    for (level, columns) in stored(store).await {
        let key = |row: usize| (columns.origins.service.get(row).to_owned(), columns.event_time_ns(row));
        let numbered = |row: usize| {
            let numbers: Vec<_> = columns.attributes.row(row).take(2).map(|(_, value)| value).collect();
            (numbers[0], numbers[1])
        };
        for row in (1..columns.len()).filter(|_| level > 0) {
            assert!(key(row - 1) <= key(row), "row {row}");
            let ((request, number), (before, number_before)) = (numbered(row), numbered(row - 1));
            if let (Value::Int(number), Value::Int(number_before)) = (number, number_before)
                && (key(row - 1), before) == (key(row), request)
            {
                assert!(number_before < number, "row {row}");
            }
        }
    }
}

#[test]
fn every_record_is_there_once_and_in_order_at_every_level() {
    wait(async {
        for seed in 0..15 {
            let mut random = Random(seed);
            let store = memory();
            let writer = Writer::new(store.clone());
            for request in 0..40 {
                write(&writer, &batch(&mut random, request, 10)).await;
            }
            let before = records(&store).await;
            let report = run(&store, &settings(), NOW_S).await.expect("memory");
            assert!(report.merges > 0 && report.failed == 0, "{report:?}");
            assert_eq!(records(&store).await, before, "seed {seed}");
            assert_in_order(&store).await;
            let again = run(&store, &everything(), NOW_S).await.expect("memory");
            assert_eq!((again.failed, again.duplicates), (0, 0), "{again:?}");
            let_grace_pass(&store, NOW_S).await;
            assert_eq!(records(&store).await, before, "seed {seed}");
            assert_in_order(&store).await;
            assert_sound(&store).await;
            let levels: Vec<u8> = stored(&store).await.iter().map(|(level, _)| *level).collect();
            assert!(!levels.contains(&0) && levels.contains(&9), "{levels:?}");
        }
    });
}

fn push(columns: &mut LogColumns, body: &str) {
    let origin = columns.origins.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
    let record = LogFields { time_ns: hour_ns(0), body: Body::Text(body), ..LogFields::default() };
    columns.push_record(&record, origin);
}

async fn count(store: &Store, wanted: &str) -> usize {
    let files = stored(store).await;
    let records = files.iter().flat_map(|(_, columns)| columns.iter());
    records.filter(|record| record.body == Body::Text(wanted)).count()
}

#[test]
fn records_that_are_alike_stay() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..6 {
            let mut columns = LogColumns::default();
            push(&mut columns, "retry");
            push(&mut columns, &format!("line of {request}"));
            push(&mut columns, "retry");
            write(&writer, &columns).await;
        }
        let rules = Rules { max_inputs: 2, ..everything().rules };
        for pass in 0..4 {
            let settings = Settings { rules, ..everything() };
            let report = run(&store, &settings, NOW_S + pass).await.expect("memory");
            assert_eq!((report.failed, report.duplicates), (0, 0));
        }
        assert_eq!((stored(&store).await.len(), count(&store, "retry").await), (1, 12));
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}

/// Its name is free again once it was merged and deleted; what it brings is known all the same.
#[test]
fn a_request_that_comes_again_after_its_file_was_deleted_is_stored_once() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let content = |request: usize| content_hash(&tenant(), Signal::Logs, &request.to_le_bytes());
        let requests: Vec<LogColumns> = (0..4)
            .map(|request| {
                let mut columns = LogColumns::default();
                push(&mut columns, "retry");
                push(&mut columns, &"x".repeat(request));
                push(&mut columns, "retry");
                columns
            })
            .collect();
        for pass in 0..3 {
            let now_s = NOW_S + pass * 100_000;
            // At the second and third pass some come again.
            for (request, columns) in requests.iter().enumerate().skip(pass as usize) {
                let encoded = storage::block::logs::encode(columns);
                writer
                    .logs(&tenant(), content(request), encoded, now_s, &Arc::default())
                    .await
                    .expect("memory");
            }
            let report = run(&store, &everything(), now_s).await.expect("memory");
            assert_eq!((report.failed, report.duplicates), (0, [0, 9, 6][pass as usize]), "{report:?}");
            let_grace_pass(&store, now_s).await;
            assert_eq!(count(&store, "retry").await, 8);
            assert_sound(&store).await;
        }
        // The same name with other rows, as after another head sampling: they are others, and stay.
        let mut other = LogColumns::default();
        push(&mut other, "other");
        let encoded = storage::block::logs::encode(&other);
        let now_s = NOW_S + 400_000;
        writer.logs(&tenant(), content(0), encoded, now_s, &Arc::default()).await.expect("memory");
        let report = run(&store, &everything(), now_s).await.expect("memory");
        assert_eq!((report.failed, report.duplicates), (0, 0), "{report:?}");
        assert_eq!((count(&store, "other").await, count(&store, "retry").await), (1, 8));
    });
}

#[test]
fn what_reaches_over_days_is_split_among_them() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut columns = batch(&mut Random(2), 0, 1);
        for request in 1..6 {
            let mut later = batch(&mut Random(columns.len() as u64), request, 1);
            for time_ns in later.time_ns.iter_mut().chain(&mut later.observed_time_ns) {
                *time_ns += if *time_ns > SECOND_NS { 30 * 3600 * SECOND_NS } else { 0 };
            }
            let mut transfer = LogTransfer::of(&later);
            (0..later.len()).for_each(|row| columns.push_row_of(&later, row, &mut transfer));
        }
        write(&writer, &columns).await;
        let before = records(&store).await;
        let report = run(&store, &settings(), NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.outputs, report.failed), (1, 2, 0));
        assert_eq!(records(&store).await, before);
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(records(&store).await, before);
        assert_in_order(&store).await;
        assert_sound(&store).await;
    });
}

/// Units end where memory or rows say so, and a file where it has as many units as it may.
#[test]
fn large_records_have_units_of_their_own() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..4 {
            let mut columns = LogColumns::default();
            for number in 0..300 {
                let long =
                    format!("{request} {number} {}", "x".repeat(if number == 7 { 5 << 20 } else { 15_000 }));
                push(&mut columns, &long);
            }
            write(&writer, &columns).await;
        }
        let before = records(&store).await;
        let settings = Settings { rules: Rules::default(), ..everything() };
        let report = run(&store, &settings, NOW_S).await.expect("memory");
        assert_eq!((report.failed, report.rows, report.outputs), (0, 1200, 1));
        assert_eq!(records(&store).await, before);
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    wait(async {
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let store = memory();
                let writer = Writer::new(store.clone());
                let mut random = Random(11);
                for request in 0..7 {
                    write(&writer, &batch(&mut random, request, 2)).await;
                }
                let before = records(&store).await;
                run(&store, &Settings { max_merges: 1, ..settings() }, NOW_S).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = NOW_S + 5000;
                let _ = run(&faulty(&store, &faults), &everything(), later_s).await;
                assert_eq!(records(&store).await, before, "{crash:?} at {step}");
                if !faults.has_crashed() {
                    break;
                }
                let report = run(&store, &everything(), later_s + 1000).await.expect("memory");
                assert_eq!((report.failed, report.held), (0, 0), "{crash:?} at {step}");
                assert_eq!(records(&store).await, before, "{crash:?} at {step}");
                let_grace_pass(&store, later_s).await;
                assert_eq!(records(&store).await, before, "{crash:?} at {step}");
            }
        }
    });
}
