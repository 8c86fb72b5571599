//! What compaction does to stored traces by policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::columns::Value;
use model::sampling::policy::Keep;
use model::sampling::tracestate::adjusted_count;
use model::sampling::{Policy, Randomness};
use model::spans::SpanFields;
use model::{Signal, SpanColumns, SpanId, TraceId};
use storage::Store;
use storage::compact::{self, Settings, thin};
use storage::faults::{Crash, Faults};
use storage::read::{self, Limits};
use storage::write::{Writer, content_hash};

use super::{FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, let_grace_pass, memory};
use super::{run, settings, tenant, wait};

const POLICY: &str = "errors;slow=2s;rare=20;attribute=plan=gold;rest=10%;after=6h";

/// A trace as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    id: TraceId,
    n_spans: u8,
    /// Why the policy keeps it, if it does.
    reason: Option<&'static str>,
    hour: i64,
}

fn trace_id(random: &mut Random) -> TraceId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random.next().to_be_bytes());
    id[8..].copy_from_slice(&random.next().to_be_bytes());
    TraceId(id)
}

fn traces(n: usize, seed: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let trace = |_| {
        let reason = match random.below(60) {
            0 => Some("errors"),
            1 => Some("slow=2s"),
            2 if random.below(20) == 0 => Some("rare=20"),
            3 => Some("attribute=plan=gold"),
            _ => None,
        };
        let n_spans = 2 + random.below(3) as u8;
        Sent { id: trace_id(&mut random), n_spans, reason, hour: random.below(20) as i64 }
    };
    (0..n).map(trace).collect()
}

/// Appends one span of a trace: only its last tells that it is kept.
fn push(columns: &mut SpanColumns, trace: &Sent, span: u8) {
    let reason = if span + 1 == trace.n_spans { trace.reason } else { None };
    if reason == Some("attribute=plan=gold") {
        columns.attributes.push("plan", Value::String("gold"));
    }
    let origin = columns.origins.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
    let start_ms = (FIRST_HOUR + trace.hour) * HOUR_MS + i64::from(span) * 10;
    let fields = SpanFields {
        trace_id: trace.id,
        span_id: SpanId([span + 1; 8]),
        name: if reason == Some("rare=20") { "rare" } else { "GET /" },
        start_ns: start_ms * 1_000_000,
        duration_ns: if reason == Some("slow=2s") { 2_000_000_000 } else { 1_000_000 },
        status_code: if reason == Some("errors") { 2 } else { 0 },
        ..SpanFields::default()
    };
    columns.push_span(&fields, origin);
}

async fn write(writer: &Writer, columns: &SpanColumns) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let content = content_hash(&tenant(), Signal::Traces, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    let encoded = storage::block::spans::encode(columns);
    writer.spans(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
}

/// Sends traces so that the spans of one lie in different requests.
async fn send(store: &Store, traces: &[Sent], n_requests: u64, seed: u64) {
    let writer = Writer::new(store.clone());
    let mut random = Random(seed);
    let mut requests: BTreeMap<(i64, u64), SpanColumns> = BTreeMap::new();
    for trace in traces {
        for span in 0..trace.n_spans {
            let request = requests.entry((trace.hour, random.below(n_requests))).or_default();
            push(request, trace, span);
        }
    }
    for columns in requests.values() {
        write(&writer, columns).await;
    }
}

/// By trace its spans' tracestates.
async fn stored(store: &Store, traces: &[Sent]) -> storage::Result<BTreeMap<TraceId, Vec<String>>> {
    let mut stored: BTreeMap<TraceId, Vec<String>> = BTreeMap::new();
    for traces in traces.chunks(500) {
        let ids: Vec<TraceId> = traces.iter().map(|trace| trace.id).collect();
        let set = read::traces_by_id(store, &tenant(), &ids, NOW_S, &Limits::default()).await?;
        for trace in &set.traces {
            let states = set.spans(trace).map(|span| span.fields().trace_state.to_owned());
            stored.insert(trace.trace_id, states.collect());
        }
    }
    Ok(stored)
}

fn policy(text: &str) -> Policy {
    text.parse().expect(text)
}

fn sampling(text: &str) -> Settings {
    Settings { sampling: text.parse().expect(text), ..settings() }
}

/// Whether chance keeps a trace.
fn is_chosen(trace: &Sent, policy: &Policy) -> bool {
    policy.threshold().keeps(Randomness::of_trace(trace.id))
}

/// Asserts that what is stored is what the policy leaves of what was sent.
fn check(traces: &[Sent], stored: &BTreeMap<TraceId, Vec<String>>, policy: &Policy) {
    let threshold = format!("ot=th:{}", policy.threshold());
    for trace in traces {
        let expected = match (trace.reason, is_chosen(trace, policy)) {
            (Some(_), _) => Some(vec![String::new(); trace.n_spans.into()]),
            (None, true) => Some(vec![threshold.clone(); trace.n_spans.into()]),
            (None, false) => None,
        };
        assert_eq!(stored.get(&trace.id), expected.as_ref(), "{trace:?}");
    }
}

#[test]
fn a_policy_thins_whole_traces_and_weights_stay_right() {
    wait(async {
        let store = memory();
        let traces = traces(4_000, 1);
        send(&store, &traces, 3, 1).await;
        let dry_run = thin::dry_run(&store, &tenant(), &policy(POLICY)).await.expect("memory");
        // The day ends four hours after the last spans: until six hours later nothing goes.
        let young_s = (FIRST_HOUR as u64 + 24 + 5) * 3600;
        let report = run(&store, &sampling(POLICY), young_s).await.expect("memory");
        assert_eq!((report.failed, report.dropped, report.rewritten), (0, 0, 0), "{report:?}");
        let report = run(&store, &sampling(POLICY), NOW_S).await.expect("memory");
        assert!(report.failed == 0 && report.rewritten > 1 && report.dropped > 5_000, "{report:?}");
        let left = stored(&store, &traces).await.expect("memory");
        check(&traces, &left, &policy(POLICY));

        // Each sampled trace counts for ten: the variance of a trace's n spans is n²(1-p)/p.
        let rest = || traces.iter().filter(|trace| trace.reason.is_none());
        let n_sent: f64 = rest().map(|trace| f64::from(trace.n_spans)).sum();
        let variance: f64 = rest().map(|trace| f64::from(trace.n_spans).powi(2) * 9.0).sum();
        let weight = |state: &String| adjusted_count(state).unwrap_or(1.0);
        let counted: f64 = rest().filter_map(|trace| left.get(&trace.id)).flatten().map(weight).sum();
        let off = (counted - n_sent) / variance.sqrt();
        assert!(off.abs() < 3.0, "{counted} of {n_sent} spans: {off} sigma off");

        // What a dry run foretold came true.
        let n = |is_it: &dyn Fn(&&Sent) -> bool| traces.iter().filter(is_it).count() as u64;
        let chosen = n(&|trace| trace.reason.is_none() && is_chosen(trace, &policy(POLICY)));
        assert_eq!(dry_run.sampled.n_traces, chosen);
        assert_eq!(dry_run.dropped.n_traces, n(&|trace| trace.reason.is_none()) - chosen);
        assert_eq!(dry_run.dropped.n_spans, report.dropped);
        let reasons: BTreeSet<String> = policy(POLICY).keep.iter().map(Keep::to_string).collect();
        assert_eq!(dry_run.kept.keys().cloned().collect::<BTreeSet<_>>(), reasons);
        for (reason, share) in &dry_run.kept {
            assert_eq!(share.n_traces, n(&|trace| trace.reason == Some(reason)), "{reason}");
        }

        // A second pass changes nothing, and reads no object.
        let calls = Arc::default();
        let again = compact::run(&store, &everything_by(POLICY), "test", &|| NOW_S + 60, &calls).await;
        let again = again.expect("memory");
        assert_eq!((again.failed, again.rewritten, again.dropped, again.merges), (0, 0, 0, 0), "{again:?}");
        assert_eq!(calls.usage().object_gets, 0);
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(stored(&store, &traces).await.expect("memory"), left);
        assert_sound(&store).await;
    });
}

fn everything_by(text: &str) -> Settings {
    Settings { sampling: text.parse().expect(text), ..everything() }
}

#[test]
fn what_comes_late_is_treated_too() {
    wait(async {
        let store = memory();
        let traces = traces(600, 2);
        let (early, late) = traces.split_at(400);
        send(&store, early, 3, 2).await;
        run(&store, &sampling(POLICY), NOW_S).await.expect("memory");
        // Spans of known traces come late too, in a single request each, and whole traces.
        send(&store, late, 2, 3).await;
        let report = run(&store, &everything_by(POLICY), NOW_S + 1000).await.expect("memory");
        assert!(report.failed == 0 && report.dropped > 0, "{report:?}");
        let left = stored(&store, &traces).await.expect("memory");
        check(&traces, &left, &policy(POLICY));
        let again = run(&store, &everything_by(POLICY), NOW_S + 2000).await.expect("memory");
        assert_eq!((again.failed, again.rewritten), (0, 0), "{again:?}");
        let_grace_pass(&store, NOW_S + 2000).await;
        assert_eq!(stored(&store, &traces).await.expect("memory"), left);
    });
}

#[test]
fn another_policy_is_applied_to_what_is_left() {
    wait(async {
        let store = memory();
        let traces = traces(600, 3);
        send(&store, &traces, 3, 3).await;
        run(&store, &sampling("errors;slow=2s;rare=20;attribute=plan=gold;rest=50%;after=6h"), NOW_S)
            .await
            .expect("memory");
        // Only the age is another: nothing is read.
        let earlier = sampling("errors;slow=2s;rare=20;attribute=plan=gold;rest=50%;after=1h");
        let report = run(&store, &earlier, NOW_S + 60).await.expect("memory");
        assert_eq!(report.rewritten, 0);
        run(&store, &everything_by(POLICY), NOW_S + 1000).await.expect("memory");
        check(&traces, &stored(&store, &traces).await.expect("memory"), &policy(POLICY));
    });
}

#[test]
fn other_tenants_policies_do_nothing() {
    wait(async {
        let store = memory();
        let traces = traces(50, 4);
        send(&store, &traces, 2, 4).await;
        for text in ["team-a/rest=0%;after=0s", "rest=0%;after=0s|default/rest=100%;after=0s"] {
            let report = run(&store, &everything_by(text), NOW_S).await.expect("memory");
            assert_eq!((report.failed, report.rewritten), (0, 0), "{report:?}");
        }
        let report = run(&store, &everything_by("rest=0%;after=0s"), NOW_S).await.expect("memory");
        assert!(report.failed == 0 && report.rewritten > 0, "{report:?}");
        assert!(stored(&store, &traces).await.expect("memory").is_empty());
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}

#[test]
fn a_crash_at_any_step_leaves_traces_whole() {
    wait(async {
        let mut traces = traces(30, 5);
        for trace in &mut traces {
            trace.hour %= 2;
        }
        let policy_text = "errors;slow=2s;attribute=plan=gold;rare=2;rest=30%;after=6h";
        let store = memory();
        send(&store, &traces, 2, 5).await;
        run(&store, &settings(), NOW_S).await.expect("memory");
        let before = stored(&store, &traces).await.expect("memory");
        run(&store, &everything_by(policy_text), NOW_S + 5000).await.expect("memory");
        let after = stored(&store, &traces).await.expect("memory");
        assert!(after.len() < before.len());
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let what = format!("{crash:?} at {step}");
                let store = memory();
                send(&store, &traces, 2, 5).await;
                run(&store, &settings(), NOW_S).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = NOW_S + 5000;
                let _ = run(&faulty(&store, &faults), &everything_by(policy_text), later_s).await;
                let found = stored(&store, &traces).await.expect("memory");
                assert!(found == before || found == after, "{what}");
                if !faults.has_crashed() {
                    assert_eq!(found, after);
                    break;
                }
                let report = run(&store, &everything_by(policy_text), later_s + 1000).await.expect("memory");
                assert_eq!((report.failed, report.held), (0, 0), "{what}");
                assert_eq!(stored(&store, &traces).await.expect("memory"), after, "{what}");
                let_grace_pass(&store, later_s).await;
                assert_eq!(stored(&store, &traces).await.expect("memory"), after, "{what}");
            }
        }
    });
}

/// A trace that is larger than any unit is decided on by all of its spans, without being held.
#[test]
fn a_huge_trace_stays_for_its_last_span() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut random = Random(6);
        let (huge, other) = (trace_id(&mut random), trace_id(&mut random));
        for request in 0..6_u64 {
            let mut columns = SpanColumns::default();
            let origin = columns.origins.intern_resource("large", r#"{"service.name":"large"}"#, "");
            for span in 0..2_000_u64 {
                let number = request * 2_000 + span;
                let fields = SpanFields {
                    trace_id: if span % 50 == 0 { other } else { huge },
                    span_id: SpanId((number + 1).to_be_bytes()),
                    start_ns: FIRST_HOUR * HOUR_MS * 1_000_000 + number as i64,
                    status_code: if number == 11_999 { 2 } else { 0 },
                    ..SpanFields::default()
                };
                columns.push_span(&fields, origin);
            }
            write(&writer, &columns).await;
        }
        let settings =
            Settings { rules: compact::Rules::default(), ..everything_by("errors;rest=0%;after=1h") };
        let report = run(&store, &settings, NOW_S).await.expect("memory");
        assert_eq!((report.failed, report.dropped), (0, 240), "{report:?}");
        let found = read::traces_by_id(&store, &tenant(), &[huge, other], NOW_S, &Limits::default()).await;
        let sizes: Vec<usize> = found.expect("memory").traces.iter().map(|trace| trace.spans.len()).collect();
        assert_eq!(sizes, [11_760]);
    });
}
