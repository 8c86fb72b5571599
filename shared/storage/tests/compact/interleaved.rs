//! Writing, merging, asking and dying in any order, against a model of what must and what may be there.
//!
//! Each seed is one history: requests with spans, samples and log records, some sent again; passes of two compactors; time that passes;
//! storage calls that fail before or after their effect; and a number of partitions that changes with each process. A question must find all that was acknowledged, exactly once, and
//! nothing that was never sent. At the end, when all is well again, a repair pass leaves no object that nothing names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::logs::LogFields;
use model::series::{SeriesBuilder, Temporality};
use model::spans::SpanFields;
use model::{LogColumns, MatchOp, Matcher, Signal, SpanColumns, SpanId, TraceId};
use storage::Store;
use storage::compact::{self, Settings};
use storage::faults::Faults;
use storage::index::TableLayout;
use storage::read::{self, Limits, Selection, SeriesLimits};
use storage::write::{Writer, content_hash};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, memory, mended, run, settings,
    tenant, wait,
};

const N_TRACES: u8 = 12;
const N_SERIES: u64 = 6;

type Span = (u8, u8, i64);
type Sample = (u64, i64);
/// The number of its request and its own, and its time.
type Record = (u32, i64);

/// What was sent, and what of it was acknowledged.
#[derive(Default)]
pub(super) struct Model {
    spans: BTreeMap<Span, bool>,
    samples: BTreeMap<Sample, bool>,
    records: BTreeMap<Record, bool>,
    /// The numbers of requests with log records, and of those that were sent more than once.
    requests: BTreeSet<u64>,
    again: BTreeSet<u64>,
}

/// A request that may be sent again.
#[derive(Clone)]
pub(super) enum Request {
    Spans(u64, Vec<Span>),
    Samples(u64, Vec<Sample>),
    Records(u64, Vec<Record>),
}

pub(super) fn request(random: &mut Random, number: u64) -> Request {
    let hour = FIRST_HOUR + random.below(5) as i64;
    let time_ms = |random: &mut Random| hour * HOUR_MS + random.below(200) as i64 * 15_000;
    let n = 1 + random.below(8);
    match random.below(3) {
        0 => {
            let span = |random: &mut Random| {
                (random.below(u64::from(N_TRACES)) as u8, random.below(5) as u8 + 1, time_ms(random))
            };
            Request::Spans(number, (0..n).map(|_| span(random)).collect())
        }
        1 => {
            let sample = |random: &mut Random| (random.below(N_SERIES), time_ms(random));
            Request::Samples(number, (0..n).map(|_| sample(random)).collect())
        }
        _ => {
            let record = |at: u64| (number as u32 * 100 + at as u32, time_ms(random));
            Request::Records(number, (0..n).map(record).collect())
        }
    }
}

/// The value of a sample follows from its series and time, so that equal ones are equal wherever they come from.
fn value(sample: Sample) -> f64 {
    sample.0 as f64 + (sample.1 / 15_000 % 1000) as f64 / 4.0
}

impl Request {
    pub(super) async fn send(&self, writer: &Writer, now_s: u64) -> storage::Result<()> {
        match self {
            Self::Spans(number, spans) => {
                let mut columns = SpanColumns::default();
                for &(trace, span, start_ms) in spans {
                    let origin = columns.origins.intern_resource("s", r#"{"service.name":"s"}"#, "");
                    let fields = SpanFields {
                        trace_id: TraceId([trace + 1; 16]),
                        span_id: SpanId([span; 8]),
                        start_ns: start_ms * 1_000_000,
                        ..SpanFields::default()
                    };
                    columns.push_span(&fields, origin);
                }
                let content = content_hash(&tenant(), Signal::Traces, &number.to_le_bytes());
                let encoded = storage::block::spans::encode(&columns);
                writer.spans(&tenant(), content, encoded, now_s, &Arc::default()).await.map(|_| ())
            }
            Self::Samples(number, samples) => {
                let mut builder = SeriesBuilder::default();
                for &(series, time_ms) in samples {
                    builder.label("__name__", "m");
                    builder.label("n", &series.to_string());
                    let at = builder.close_labels(Temporality::Cumulative).expect("labels");
                    builder.sample(at, time_ms, value((series, time_ms)), 0);
                }
                let content = content_hash(&tenant(), Signal::Metrics, &number.to_le_bytes());
                let encoded = storage::block::series::encode(&builder.finish()).expect("samples");
                writer.series(&tenant(), content, encoded, now_s, &Arc::default()).await.map(|_| ())
            }
            Self::Records(number, records) => {
                let mut columns = LogColumns::default();
                for &(own, time_ms) in records {
                    let service = ["s", "t"][own as usize % 2];
                    let origin = columns.origins.intern_resource(service, "", "");
                    let fields =
                        LogFields { time_ns: time_ms * 1_000_000, flags: own, ..LogFields::default() };
                    columns.push_record(&fields, origin);
                }
                let content = content_hash(&tenant(), Signal::Logs, &number.to_le_bytes());
                let encoded = storage::block::logs::encode(&columns);
                writer.logs(&tenant(), content, encoded, now_s, &Arc::default()).await.map(|_| ())
            }
        }
    }

    pub(super) fn note(&self, model: &mut Model, is_acknowledged: bool) {
        match self {
            Self::Spans(_, spans) => {
                for span in spans {
                    *model.spans.entry(*span).or_default() |= is_acknowledged;
                }
            }
            Self::Samples(_, samples) => {
                for sample in samples {
                    *model.samples.entry(*sample).or_default() |= is_acknowledged;
                }
            }
            Self::Records(number, records) => {
                if !model.requests.insert(*number) {
                    model.again.insert(*number);
                }
                for record in records {
                    *model.records.entry(*record).or_default() |= is_acknowledged;
                }
            }
        }
    }
}

fn check<T: Ord + Copy + std::fmt::Debug>(found: &[T], sent: &BTreeMap<T, bool>, what: &str) {
    let distinct: BTreeSet<T> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "{what}: doubled in {found:?}");
    for (item, is_acknowledged) in sent {
        assert!(!is_acknowledged || distinct.contains(item), "{what}: {item:?} is missing");
    }
    for item in &distinct {
        assert!(sent.contains_key(item), "{what}: {item:?} was never sent");
    }
}

pub(super) async fn ask(store: &Store, model: &Model, what: &str) {
    // What was read before would hide what is missing now.
    let store = &Store { recent: read::RecentTraces::default(), ..store.clone() };
    let ids: Vec<TraceId> = (1..=N_TRACES).map(|n| TraceId([n; 16])).collect();
    let found = read::traces_by_id(store, &tenant(), &ids, NOW_S, &Limits::default()).await.expect(what);
    let mut spans: Vec<Span> = Vec::new();
    for trace in &found.traces {
        spans.extend(found.spans(trace).map(|span| {
            let fields = span.fields();
            (fields.trace_id.0[0] - 1, fields.span_id.0[0], fields.start_ns / 1_000_000)
        }));
    }
    check(&spans, &model.spans, what);
    let selection = Selection {
        matchers: vec![Matcher::new("__name__", MatchOp::Equal, "m").expect("valid")],
        start_ms_exclusive: 0,
        end_ms: i64::MAX / 2_000_000,
        steps: None,
    };
    let found = read::select(store, &tenant(), &[selection], &SeriesLimits::default()).await.expect(what);
    let mut samples: Vec<Sample> = Vec::new();
    for series in &found[0] {
        let number: u64 = series.labels.get("n").parse().expect("a number");
        for (&time_ms, &found) in series.time_ms.iter().zip(&series.value) {
            assert!((found - value((number, time_ms))).abs() < 1e-9, "{what}");
            samples.push((number, time_ms));
        }
    }
    check(&samples, &model.samples, what);
    let mut records: BTreeSet<Record> = BTreeSet::new();
    for (_, columns) in super::logs::stored(store).await {
        let of_file: Vec<Record> =
            columns.iter().map(|record| (record.flags, record.time_ns / 1_000_000)).collect();
        let of_itself: BTreeMap<Record, bool> = of_file.iter().map(|&record| (record, true)).collect();
        check(&of_file, &of_itself, what);
        for record in of_file {
            // What came again may wait in a run of its own; its identity says that it is a copy.
            let may_be_copy = model.again.contains(&u64::from(record.0 / 100));
            assert!(records.insert(record) || may_be_copy, "{what}: {record:?} is in two files");
        }
    }
    let records: Vec<Record> = records.into_iter().collect();
    check(&records, &model.records, what);
}

fn with_any_layout(store: &Store, random: &mut Random) -> Store {
    Store { layout: TableLayout { shards: 1 + random.below(4) as u8 }, ..store.clone() }
}

async fn history(seed: u64) {
    let mut random = Random(seed);
    let store = memory();
    let faults = Faults::seeded(seed, 12 + random.below(30));
    let unreliable = faulty(&store, &faults);
    let mut model = Model::default();
    let mut sent: Vec<Request> = Vec::new();
    let mut writer = Writer::new(unreliable.clone());
    let mut now_s = NOW_S;
    for step in 0..40 {
        let what = format!("seed {seed}, step {step}");
        match random.below(10) {
            0..=4 => {
                let request = match sent.len() as u64 {
                    n if n > 0 && random.below(4) == 0 => sent[random.below(n) as usize].clone(),
                    n => request(&mut random, n),
                };
                let is_acknowledged = request.send(&writer, now_s).await.is_ok();
                request.note(&mut model, is_acknowledged);
                sent.push(request);
            }
            5 | 6 => {
                let settings = if random.below(2) == 0 { settings() } else { everything() };
                let owner = if random.below(2) == 0 { "first" } else { "second" };
                let few = Settings { max_merges: 1 + random.below(3), ..settings };
                let unreliable = with_any_layout(&unreliable, &mut random);
                let _ = compact::run(&unreliable, &few, owner, &|| now_s, &Arc::default()).await;
            }
            7 => now_s += random.below(1500),
            8 => writer = Writer::new(with_any_layout(&unreliable, &mut random)),
            _ => ask(&store, &model, &what).await,
        }
    }
    let what = format!("seed {seed}, at the end");
    ask(&store, &model, &what).await;
    for pass in 1..4 {
        let report = run(&store, &everything(), now_s + pass * 2000).await.expect("memory");
        assert_eq!(report.failed, 0, "{what}: {report:?}");
    }
    ask(&store, &model, &what).await;
    mended(&store).await;
    ask(&store, &model, &what).await;
    assert_sound(&store).await;
}

#[test]
fn nothing_is_ever_missing_or_doubled() {
    wait(async {
        for seed in 0..150 {
            history(seed).await;
        }
    });
}

#[test]
#[ignore = "some minutes: for changes of what this tests"]
fn nothing_is_ever_missing_or_doubled_in_many_histories() {
    wait(async {
        for seed in 1_000..4_000 {
            history(seed).await;
        }
    });
}
