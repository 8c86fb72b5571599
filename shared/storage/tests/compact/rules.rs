//! Retention by what traces, series and log records have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::columns::Value;
use model::logs::{Body, LogFields};
use model::series::{SeriesBuilder, Temporality};
use model::spans::SpanFields;
use model::{LogColumns, MatchOp, Matcher, Signal, SpanColumns, SpanId, TraceId};
use storage::Store;
use storage::compact::Settings;
use storage::faults::{Crash, Faults};
use storage::read::{self, Limits, Selection, SeriesLimits};
use storage::write::{Writer, content_hash};

use super::{FIRST_HOUR, HOUR_MS, NOW_S, assert_sound, everything, faulty, let_grace_pass, memory, run};
use super::{tenant, wait};

const DAY_S: u64 = 86_400;
/// Behind the first day and what files may reach beyond it.
const END_S: u64 = (FIRST_HOUR as u64 + 25) * 3600;
const RULES: &str =
    "10d,traces{status=error}=30d,traces{http.route=/health}=1d,metrics{job=probe}=1d,metrics{job=slo}=30d";

fn by(rules: &str) -> Settings {
    Settings { retention: rules.parse().expect(rules), ..everything() }
}

/// What a trace has: one of its two spans, which lie in different requests.
const KINDS: [&str; 4] = ["usual", "health", "failed", "failed health"];

fn span(n: u8, span: u8) -> SpanColumns {
    let mut columns = SpanColumns::default();
    let kind = KINDS[usize::from(n) % KINDS.len()];
    if span == 0 && kind.ends_with("health") {
        columns.attributes.push("http.route", Value::String("/health"));
    }
    let origin = columns.origins.intern_resource("shop", "", "");
    let start_ms = (FIRST_HOUR + i64::from(n) % 3) * HOUR_MS + i64::from(span);
    let fields = SpanFields {
        trace_id: TraceId([n + 1; 16]),
        span_id: SpanId([span + 1; 8]),
        start_ns: start_ms * 1_000_000,
        status_code: if span == 1 && kind.starts_with("failed") { 2 } else { 0 },
        ..SpanFields::default()
    };
    columns.push_span(&fields, origin);
    columns
}

const JOBS: [&str; 3] = ["usual", "probe", "slo"];

async fn send(store: &Store, numbers: std::ops::Range<u8>) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let writer = Writer::new(store.clone());
    let calls = Arc::default();
    let content = |signal| content_hash(&tenant(), signal, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    for n in numbers {
        for of_trace in 0..2 {
            let encoded = storage::block::spans::encode(&span(n, of_trace));
            writer.spans(&tenant(), content(Signal::Traces), encoded, NOW_S, &calls).await.expect("memory");
        }
        let mut builder = SeriesBuilder::default();
        builder.label("__name__", "m");
        builder.label("job", JOBS[usize::from(n) % JOBS.len()]);
        let series = builder.close_labels(Temporality::Cumulative).expect("labels");
        builder.sample(series, FIRST_HOUR * HOUR_MS + i64::from(n), 1.0, 0);
        let encoded = storage::block::series::encode(&builder.finish()).expect("samples");
        writer.series(&tenant(), content(Signal::Metrics), encoded, NOW_S, &calls).await.expect("memory");
    }
}

/// Kinds of traces that are there, with two spans each, and jobs of series.
async fn stored(store: &Store) -> (BTreeSet<&'static str>, BTreeSet<String>) {
    let ids: Vec<TraceId> = (1..=30).map(|n| TraceId([n; 16])).collect();
    let found = read::traces_by_id(store, &tenant(), &ids, NOW_S, &Limits::default()).await.expect("memory");
    let mut kinds = BTreeSet::new();
    for trace in &found.traces {
        assert_eq!(trace.spans.len(), 2, "traces are whole");
        kinds.insert(KINDS[usize::from(trace.trace_id.0[0] - 1) % KINDS.len()]);
    }
    let selection = Selection {
        matchers: vec![Matcher::new("__name__", MatchOp::Equal, "m").expect("valid")],
        start_ms_exclusive: FIRST_HOUR * HOUR_MS - 1,
        end_ms: (FIRST_HOUR + 1) * HOUR_MS,
        steps: None,
    };
    let series = read::select(store, &tenant(), &[selection], &SeriesLimits::default()).await;
    let series = series.expect("memory").swap_remove(0);
    (kinds, series.iter().map(|series| series.labels.get("job").to_owned()).collect())
}

async fn check(store: &Store, now_s: u64, kinds: &[&str], jobs: &[&str]) {
    let report = run(store, &by(RULES), now_s).await.expect("memory");
    assert_eq!((report.failed, report.held), (0, 0), "{report:?}");
    let (found_kinds, found_jobs) = stored(store).await;
    assert_eq!(found_kinds.into_iter().collect::<Vec<_>>(), kinds);
    assert_eq!(found_jobs.iter().map(String::as_str).collect::<Vec<_>>(), jobs);
    let again = run(store, &by(RULES), now_s + 1).await.expect("memory");
    assert_eq!((again.rewritten, again.dropped, again.failed), (0, 0, 0), "{again:?}");
}

#[test]
fn the_first_rule_that_fits_decides_and_whole_traces_go() {
    wait(async {
        let store = memory();
        send(&store, 0..24).await;
        let all = ["failed", "failed health", "health", "usual"];
        check(&store, END_S + DAY_S - 10, &all, &["slo", "usual"]).await;
        check(&store, END_S + DAY_S, &["failed", "failed health", "usual"], &["slo", "usual"]).await;
        // What comes late has the same rules.
        send(&store, 24..28).await;
        check(&store, END_S + 2 * DAY_S, &["failed", "failed health", "usual"], &["slo", "usual"]).await;
        check(&store, END_S + 10 * DAY_S, &["failed", "failed health"], &["slo"]).await;
        let_grace_pass(&store, END_S + 11 * DAY_S).await;
        assert_sound(&store).await;
        // When the longest has ended, files go as they are.
        let report = run(&store, &by(RULES), END_S + 31 * DAY_S).await.expect("memory");
        assert!(report.expired > 0 && report.rewritten == 0, "{report:?}");
        assert!(stored(&store).await.0.is_empty());
    });
}

#[test]
fn retention_and_sampling_go_together() {
    wait(async {
        let store = memory();
        send(&store, 0..24).await;
        let settings =
            Settings { sampling: "errors;rest=0%;after=6h".parse().expect("a policy"), ..by(RULES) };
        let report = run(&store, &settings, END_S + 2 * DAY_S).await.expect("memory");
        assert_eq!(report.failed, 0);
        assert_eq!(stored(&store).await.0.into_iter().collect::<Vec<_>>(), ["failed", "failed health"]);
        let again = run(&store, &settings, END_S + 2 * DAY_S + 1).await.expect("memory");
        assert_eq!((again.rewritten, again.failed), (0, 0), "{again:?}");
    });
}

#[test]
fn a_crash_at_any_step_drops_nothing_that_has_to_stay() {
    wait(async {
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let store = memory();
                send(&store, 0..4).await;
                run(&store, &everything(), NOW_S).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = END_S + 2 * DAY_S;
                let _ = run(&faulty(&store, &faults), &by(RULES), later_s).await;
                let (kinds, jobs) = stored(&store).await;
                assert!(kinds.len() >= 3 && jobs.len() >= 2, "{crash:?} at {step}");
                if !faults.has_crashed() {
                    break;
                }
                let kinds = ["failed", "failed health", "usual"];
                check(&store, later_s + 1000, &kinds, &["slo", "usual"]).await;
            }
        }
    });
}

/// What log records have: service, severity, an attribute, and their text.
const RECORDS: [(&str, i32, &str, &str); 5] = [
    ("shop", 9, "", "usual"),
    ("shop", 7, "", "debug"),
    ("audit", 7, "", "audit"),
    ("shop", 0, "/health", "health"),
    ("shop", 17, "/health", "failed health"),
];

fn records() -> LogColumns {
    let mut columns = LogColumns::default();
    for (service, severity_number, route, text) in RECORDS {
        if !route.is_empty() {
            columns.attributes.push("http.route", Value::String(route));
        }
        let origin = columns.origins.intern_resource(service, "", "");
        let time_ns = FIRST_HOUR * HOUR_MS * 1_000_000;
        let record = LogFields { time_ns, severity_number, body: Body::Text(text), ..LogFields::default() };
        columns.push_record(&record, origin);
    }
    columns
}

#[test]
fn log_records_go_by_service_severity_and_attributes() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let send = async |number: u64| {
            let content = content_hash(&tenant(), Signal::Logs, &number.to_le_bytes());
            let encoded = storage::block::logs::encode(&records());
            writer.logs(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
        };
        let check = async |now_s: u64, expected: &[&str]| {
            let rules = "10d,logs{service=audit}=30d,logs{severity=error,http.route=/health}=forever,\
                         logs{severity=debug}=2d,logs{http.route=/health}=1d";
            let report = run(&store, &by(rules), now_s).await.expect("memory");
            assert_eq!((report.failed, report.held), (0, 0), "{report:?}");
            let mut found = BTreeSet::new();
            for (_, columns) in super::logs::stored(&store).await {
                for record in columns.iter() {
                    let Body::Text(text) = record.body else { panic!("a text was sent") };
                    found.insert(text.to_owned());
                }
            }
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "at {now_s}");
            let again = run(&store, &by(rules), now_s + 1).await.expect("memory");
            assert_eq!((again.rewritten, again.dropped, again.failed), (0, 0, 0), "{again:?}");
        };
        for number in 0..7 {
            send(number).await;
        }
        check(END_S + DAY_S - 10, &["audit", "debug", "failed health", "health", "usual"]).await;
        check(END_S + DAY_S, &["audit", "debug", "failed health", "usual"]).await;
        // What comes late has the same rules.
        send(7).await;
        check(END_S + 2 * DAY_S, &["audit", "failed health", "usual"]).await;
        check(END_S + 10 * DAY_S, &["audit", "failed health"]).await;
        check(END_S + 30 * DAY_S, &["failed health"]).await;
        let_grace_pass(&store, END_S + 31 * DAY_S).await;
        assert_sound(&store).await;
    });
}
