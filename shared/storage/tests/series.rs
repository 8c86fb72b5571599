//! Series through files and stores: what was written comes back, by our reader and by the `parquet` crate.

mod spans;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray as _, RecordBatch};
use model::histogram::{BucketSpan, Buckets};
use model::series::{
    Exemplar, HistogramSample, Metadata, MetricType, STALE_BITS, SeriesBuilder, Temporality,
};
use model::{Labels, MatchOp, Matcher, NativeHistogram, Series, SeriesBatch, Signal, TenantId, matcher};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use storage::block::parts::{ChunkTable, Parts, Projection};
use storage::block::series::merged::{Gather, Merge, SeriesWriter};
use storage::block::series::{EncodedSeries, LabelReader, decode, encode};
use storage::index::{Places, TableLayout};
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read::{self, Selection, SeriesLimits};
use storage::write::{Writer, content_hash};
use storage::{Error, Store};

/// One series of a request, written down plainly.
#[derive(Debug, Clone)]
struct Plain {
    labels: Vec<(String, String)>,
    temporality: Temporality,
    /// Time, bits of the value, start.
    samples: Vec<(i64, u64, i64)>,
    histograms: Vec<(i64, u32)>,
    exemplars: Vec<(i64, String)>,
}

fn batch_of(plain: &[Plain]) -> SeriesBatch {
    let mut builder = SeriesBuilder::default();
    for series in plain {
        for (name, value) in &series.labels {
            builder.label(name, value);
        }
        let Ok(number) = builder.close_labels(series.temporality) else { continue };
        for &(time_ms, bits, start_ms) in &series.samples {
            builder.sample(number, time_ms, f64::from_bits(bits), start_ms);
        }
        for &(time_ms, seed) in &series.histograms {
            builder.histogram(
                number,
                HistogramSample { time_ms, start_ms: 0, histogram: Arc::new(histogram(seed)) },
            );
        }
        for (time_ms, trace_id) in &series.exemplars {
            let labels = Labels::from_pairs([("trace_id", trace_id)]);
            builder.exemplar(number, Exemplar { time_ms: *time_ms, value: 0.5, labels });
        }
    }
    builder.finish()
}

fn histogram(seed: u32) -> NativeHistogram {
    let counts = vec![f64::from(seed), f64::from(seed / 3), 1.5];
    NativeHistogram {
        schema: (seed % 13) as i32 - 4,
        count: f64::from(seed) * 2.0,
        sum: f64::from(seed) / 7.0,
        positive: Buckets { spans: vec![BucketSpan { offset: -1, length: 3 }], counts },
        ..NativeHistogram::default()
    }
}

fn plain_series() -> impl Strategy<Value = Plain> {
    let name = prop_oneof![Just("__name__".to_owned()), "[a-c]{1}", Just("é".to_owned())];
    let value = prop_oneof!["[a-d]{0,2}", "\\PC{0,6}"];
    let bits = prop_oneof![
        any::<u64>(),
        (0u64..1000).prop_map(|n| (n as f64).to_bits()),
        Just(STALE_BITS),
        any::<f64>().prop_map(f64::to_bits)
    ];
    let time = prop_oneof![any::<i64>(), 0i64..50];
    let sample = (time.clone(), bits, prop_oneof![Just(0i64), any::<i64>()]);
    (
        prop::collection::vec((name, value), 0..4),
        prop_oneof![Just(Temporality::Cumulative), Just(Temporality::Delta)],
        prop::collection::vec(sample, 0..5),
        prop::collection::vec((0i64..50, any::<u32>()), 0..3),
        prop::collection::vec((0i64..50, "[a-f]{4}"), 0..2),
    )
        .prop_map(|(labels, temporality, samples, histograms, exemplars)| Plain {
            labels,
            temporality,
            samples,
            histograms,
            exemplars,
        })
}

fn labels_of(batch: &SeriesBatch, series: usize) -> Labels {
    let pairs = batch.labels_of(series).iter();
    Labels::from_pairs(pairs.map(|pair| (batch.symbols.get(pair.0), batch.symbols.get(pair.1))))
}

/// Everything of a series but its labels, comparable to the bit.
type Content = (Vec<(i64, u64, i64)>, Vec<HistogramSample>, Vec<Exemplar>);

fn contents(batch: &SeriesBatch) -> BTreeMap<(Labels, Temporality), Content> {
    let mut all = BTreeMap::new();
    for series in 0..batch.n_series() {
        let start = |at: usize| batch.start_ms.get(at).copied().unwrap_or(0);
        let samples: Vec<_> = batch
            .samples_of(series)
            .map(|at| (batch.time_ms[at], batch.value[at].to_bits(), start(at)))
            .collect();
        let (histograms, exemplars) =
            (batch.histograms_of(series).to_vec(), batch.exemplars_of(series).to_vec());
        if !samples.is_empty() || !histograms.is_empty() || !exemplars.is_empty() {
            let key = (labels_of(batch, series), batch.temporality[series]);
            assert!(all.insert(key, (samples, histograms, exemplars)).is_none(), "label sets are unique");
        }
    }
    all
}

fn table(encoded: &EncodedSeries) -> &ChunkTable {
    match &encoded.descriptor.places {
        Places::OfRequest(table) => table,
        Places::Merged(_) => panic!("a file of one request"),
    }
}

fn read_back(encoded: &EncodedSeries) -> BTreeMap<(Labels, Temporality), Content> {
    let parts = Parts::whole(encoded.bytes.clone());
    let file = decode(table(encoded), &parts, Projection::ALL, &LabelReader::default()).expect("own file");
    let start = |at: usize| file.start_ms.get(at).copied().unwrap_or(0);
    let content = |at: usize, row: &storage::block::series::Row| {
        let samples =
            row.samples.clone().map(|at| (file.time_ms[at], file.value[at].to_bits(), start(at))).collect();
        (samples, file.histograms(at).to_vec(), file.exemplars(at).to_vec())
    };
    let rows = file.sets.rows.iter().zip(&file.rows).enumerate();
    rows.map(|(at, (set, row))| ((file.sets.labels(set), row.temporality), content(at, row))).collect()
}

fn by_the_parquet_crate(encoded: &EncodedSeries) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(encoded.bytes.clone()).expect("parquet").build();
    reader.expect("parquet").collect::<Result<_, _>>().expect("arrow")
}

/// Labels and samples as the `parquet` crate reads them.
fn plainly(batches: &[RecordBatch]) -> Vec<(Labels, Vec<(i64, u64)>)> {
    let mut rows = Vec::new();
    for batch in batches {
        let metrics = batch.column_by_name("metric").expect("metric").as_string::<i32>();
        let labels = batch.column_by_name("labels").expect("labels").as_map();
        let samples = batch.column_by_name("samples").expect("samples").as_list::<i32>();
        for row in 0..batch.num_rows() {
            let entries = labels.value(row);
            let (names, values) =
                (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let pairs = (0..names.len()).map(|at| (names.value(at), values.value(at)));
            let pairs = pairs.chain([("__name__", metrics.value(row))]);
            let list = samples.value(row);
            let list = list.as_struct();
            let times = list.column(0).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
            let numbers = list.column(1).as_primitive::<arrow::datatypes::Float64Type>();
            let of_row = (0..times.len()).map(|at| (times.value(at), numbers.value(at).to_bits())).collect();
            rows.push((Labels::from_pairs(pairs), of_row));
        }
    }
    rows.sort();
    rows
}

proptest! {
    #[test]
    fn what_was_written_comes_back(plain in prop::collection::vec(plain_series(), 0..12)) {
        let batch = batch_of(&plain);
        let expect = contents(&batch);
        match encode(&batch) {
            None => prop_assert!(expect.is_empty()),
            Some(encoded) => {
                prop_assert_eq!(&read_back(&encoded), &expect);
                let mut rows: Vec<(Labels, Vec<(i64, u64)>)> = expect
                    .iter()
                    .map(|((labels, _), content)| {
                        (labels.clone(), content.0.iter().map(|sample| (sample.0, sample.1)).collect())
                    })
                    .collect();
                rows.sort();
                prop_assert_eq!(plainly(&by_the_parquet_crate(&encoded)), rows);
            }
        }
    }

    #[test]
    fn a_changed_file_is_an_error_or_rows(plain in prop::collection::vec(plain_series(), 1..6), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        if let Some(encoded) = encode(&batch_of(&plain)) {
            let mut bytes = encoded.bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(table(&encoded), &Parts::whole(bytes.into()), Projection::ALL, &LabelReader::default());
        }
    }

    #[test]
    fn a_selection_is_what_a_plain_look_finds(
        requests in prop::collection::vec(prop::collection::vec(plain_series(), 1..6), 1..5),
        start in 0i64..40,
        len in 0i64..40,
        value in "[a-d]{0,2}",
    ) {
        let matchers = vec![
            Matcher::new("a", MatchOp::NotEqual, &value).expect("valid"),
            Matcher::new("b", MatchOp::Regex, "|a.*|b").expect("valid"),
        ];
        let batches: Vec<SeriesBatch> = requests.iter().map(|plain| batch_of(plain)).collect();
        let mut expect: HashMap<Labels, BTreeMap<i64, u64>> = HashMap::new();
        for batch in &batches {
            for series in (0..batch.n_series()).filter(|&series| batch.temporality[series] == Temporality::Cumulative) {
                let labels = labels_of(batch, series);
                for at in batch.samples_of(series) {
                    let time_ms = batch.time_ms[at];
                    if matcher::matches_all(&matchers, &labels) && start < time_ms && time_ms <= start + len {
                        let bits = batch.value[at].to_bits();
                        let kept = expect.entry(labels.clone()).or_default().entry(time_ms).or_insert(bits);
                        *kept = bits.max(*kept);
                    }
                }
            }
        }
        let found = wait(async {
            let store = memory();
            write(&store, &batches).await;
            let selection = Selection { matchers, start_ms_exclusive: start, end_ms: start + len, steps: None };
            read::select(&store, &tenant(), &[selection], &SeriesLimits::default()).await.expect("memory").remove(0)
        });
        let delta_only = |labels: &Labels| !expect.contains_key(labels);
        for series in &found {
            prop_assert!(series.time_ms.is_sorted_by(|a, b| a < b));
            if delta_only(&series.labels) {
                continue;
            }
            let samples: BTreeMap<i64, u64> =
                series.time_ms.iter().copied().zip(series.value.iter().map(|value| value.to_bits())).collect();
            for (time_ms, bits) in &expect[&series.labels] {
                prop_assert_eq!(samples.get(time_ms), Some(bits), "{:?} at {}", series.labels, time_ms);
            }
        }
        for labels in expect.keys() {
            prop_assert!(found.iter().filter(|series| series.labels == *labels).count() == 1, "{:?}", labels);
        }
    }
}

/// Series of every kind, for files that pin layouts.
fn example() -> SeriesBatch {
    let samples: Vec<(i64, f64)> =
        (0..40).map(|n| (1_700_000_000_000 + n * 15_000, n as f64 / 4.0)).collect();
    let mut odd = counter(&[("__name__", "odd"), ("job", "\u{e9}")], Temporality::Delta, &samples[..3]);
    odd.samples[1] = (odd.samples[1].0, STALE_BITS, 7);
    odd.samples[2].1 = 0x7ff8_dead_beef_0001;
    odd.histograms = vec![(1_700_000_000_000, 5), (1_700_000_015_000, 6)];
    odd.exemplars = vec![(1_700_000_000_001, "abcd".to_owned())];
    batch_of(&[
        counter(&[("__name__", "up"), ("job", "a"), ("pod", "1")], Temporality::Cumulative, &samples),
        odd,
        counter(&[("nameless", "x")], Temporality::Cumulative, &samples[5..6]),
    ])
}

/// The layouts are pinned: a change of these bytes is a new version, and old files must stay readable.
#[test]
fn golden_files_pin_the_layouts() {
    let encoded = encode(&example()).expect("samples");
    spans::check_golden("series-1.parquet", &encoded.bytes);
    spans::check_golden("series-1.item", &encoded.descriptor.encode());

    let parts = Parts::whole(encoded.bytes.clone());
    let labels = LabelReader::default();
    let decoded = decode(table(&encoded), &parts, Projection::ALL, &labels).expect("own file");
    let mut gathered = Gather::default();
    gathered.add(&decoded);
    gathered.add(&decoded);
    let mut merge = Merge::new(1);
    merge.feed(0, Some(gathered.finish()));
    let mut writer = SeriesWriter::new(3);
    while let Some(series) = merge.next_series().expect("own chunks") {
        series.write(&mut writer);
        while let Some(starved) = merge.starved() {
            merge.feed(starved, None);
        }
    }
    let written = writer.finish().expect("series");
    assert_eq!(written.descriptor.n_samples, encoded.descriptor.n_samples, "equal samples are stored once");
    spans::check_golden("series-2.parquet", &written.bytes);
    spans::check_golden("series-2.item", &written.descriptor.encode());
}

fn memory() -> Store {
    Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 2 },
        recent: storage::read::RecentTraces::default(),
    }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

async fn write(store: &Store, batches: &[SeriesBatch]) {
    let writer = Writer::new(store.clone());
    for (i, batch) in batches.iter().enumerate() {
        if let Some(encoded) = encode(batch) {
            let content = content_hash(&tenant(), Signal::Metrics, &i.to_le_bytes());
            writer.series(&tenant(), content, encoded, 1_000, &Arc::default()).await.expect("memory");
        }
    }
}

fn counter(labels: &[(&str, &str)], temporality: Temporality, samples: &[(i64, f64)]) -> Plain {
    Plain {
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        temporality,
        samples: samples.iter().map(|&(time_ms, value)| (time_ms, value.to_bits(), 0)).collect(),
        histograms: Vec::new(),
        exemplars: Vec::new(),
    }
}

fn all_of(metric: &str) -> Vec<Matcher> {
    vec![Matcher::new("__name__", MatchOp::Equal, metric).expect("valid")]
}

async fn selected(store: &Store, metric: &str, start: i64, end: i64) -> Vec<Series> {
    let selection =
        Selection { matchers: all_of(metric), start_ms_exclusive: start, end_ms: end, steps: None };
    read::select(store, &tenant(), &[selection], &SeriesLimits::default()).await.expect("memory").remove(0)
}

#[test]
fn delta_counters_add_up_from_the_start_of_the_window() {
    let hour = 3_600_000;
    let samples = [(hour, 1.0), (2 * hour, 2.0), (3 * hour, 3.0)];
    let delta = counter(&[("__name__", "x_total")], Temporality::Delta, &samples);
    wait(async {
        let store = memory();
        write(&store, &[batch_of(std::slice::from_ref(&delta))]).await;
        assert_eq!(selected(&store, "x_total", 0, 9 * hour).await[0].value, [1.0, 3.0, 6.0]);
        assert_eq!(selected(&store, "x_total", hour, 9 * hour).await[0].value, [2.0, 5.0]);
    });
}

#[test]
fn of_two_values_for_one_time_in_one_request_the_greatest_counts() {
    // Few samples and many are joined in different ways.
    for n in [2, 40] {
        let mut samples: Vec<(i64, f64)> = (0..n).map(|i| (1000 * i, 5.0)).collect();
        samples.extend([(1000, 7.0), (0, 3.0)]);
        let series = counter(&[("__name__", "x_total")], Temporality::Cumulative, &samples);
        wait(async {
            let store = memory();
            write(&store, &[batch_of(std::slice::from_ref(&series))]).await;
            let found = &selected(&store, "x_total", -1, 1000 * n).await[0];
            assert_eq!(found.time_ms.len() as i64, n);
            assert_eq!(found.value[..2], [5.0, 7.0], "{n} samples");
        });
    }
}

#[test]
fn names_values_and_metadata_are_looked_up() {
    wait(async {
        let store = memory();
        let mut batch = batch_of(&[
            counter(&[("__name__", "up"), ("job", "a"), ("pod", "1")], Temporality::Cumulative, &[(1, 1.0)]),
            counter(&[("__name__", "up"), ("job", "b")], Temporality::Cumulative, &[(1, 1.0)]),
            counter(&[("__name__", "down"), ("job", "c")], Temporality::Cumulative, &[(1, 1.0)]),
        ]);
        let statement = |help: &str| Metadata {
            family: "up".to_owned(),
            metric_type: MetricType::Gauge,
            unit: String::new(),
            help: help.to_owned(),
        };
        batch.metadata = vec![statement("One"), statement("Two")];
        write(&store, &[batch]).await;
        let (limits, all) = (SeriesLimits::default(), (0, 10));
        let up = [all_of("up")];
        let values = |name: &'static str, selectors: &'static [Vec<Matcher>]| {
            let store = store.clone();
            async move {
                read::label_values(&store, &tenant(), name, selectors, all, &limits).await.expect("memory")
            }
        };
        assert_eq!(values("__name__", &[]).await, ["down", "up"]);
        assert_eq!(values("job", &[]).await, ["a", "b", "c"]);
        assert!(values("nothing", &[]).await.is_empty());
        let of_up = read::label_values(&store, &tenant(), "job", &up, all, &limits).await.expect("memory");
        assert_eq!(of_up, ["a", "b"]);
        let names = |selectors: Vec<Vec<Matcher>>| {
            let store = store.clone();
            async move { read::label_names(&store, &tenant(), &selectors, all, &limits).await.expect("memory") }
        };
        assert_eq!(names(vec![]).await, ["__name__", "job", "pod"]);
        assert_eq!(names(vec![all_of("down")]).await, ["__name__", "job"]);
        let sets = read::label_sets(&store, &tenant(), &up, all, &limits).await.expect("memory");
        assert_eq!(format!("{sets:?}"), r#"[{__name__="up", job="a", pod="1"}, {__name__="up", job="b"}]"#);
        assert!(read::label_sets(&store, &tenant(), &up, (2, 10), &limits).await.expect("memory").is_empty());
        let said = read::metadata(&store, &tenant(), Some("up")).await.expect("memory");
        assert_eq!(said.iter().map(|said| said.help.as_str()).collect::<Vec<_>>(), ["One", "Two"]);
        assert_eq!(read::metadata(&store, &tenant(), None).await.expect("memory"), said);
        assert!(read::metadata(&store, &tenant(), Some("down")).await.expect("memory").is_empty());
    });
}

#[test]
fn questions_over_a_limit_are_refused() {
    let series: Vec<Plain> = (0..20)
        .map(|n| {
            counter(
                &[("__name__", "x"), ("n", &n.to_string())],
                Temporality::Cumulative,
                &[(1, 1.0), (2, 2.0)],
            )
        })
        .collect();
    wait(async {
        let store = memory();
        write(&store, &[batch_of(&series)]).await;
        let ask = |limits: SeriesLimits| {
            let store = store.clone();
            async move {
                let selection =
                    Selection { matchers: all_of("x"), start_ms_exclusive: 0, end_ms: 10, steps: None };
                read::select(&store, &tenant(), &[selection], &limits).await
            }
        };
        let all = SeriesLimits::default();
        assert_eq!(ask(all).await.expect("within")[0].len(), 20);
        for (limits, unit) in [
            (SeriesLimits { max_series: 19, ..all }, "series"),
            (SeriesLimits { max_samples: 39, ..all }, "samples"),
            (SeriesLimits { max_bytes: 10, ..all }, "bytes"),
        ] {
            let Err(Error::OverLimit { unit: over, .. }) = ask(limits).await else { panic!("{unit}") };
            assert_eq!(over, unit);
        }
    });
}

#[test]
fn deltas_between_two_steps_count() {
    let samples: Vec<(i64, f64)> = (1..=40).map(|time_ms| (time_ms, 1.0)).collect();
    let batch = batch_of(&[counter(&[("__name__", "x")], Temporality::Delta, &samples)]);
    wait(async {
        let store = memory();
        write(&store, std::slice::from_ref(&batch)).await;
        let steps = Some(read::Steps { first_ms: 10, step_ms: 10 });
        let selection = Selection { matchers: all_of("x"), start_ms_exclusive: 0, end_ms: 40, steps };
        let found =
            read::select(&store, &tenant(), &[selection], &SeriesLimits::default()).await.expect("memory");
        assert_eq!(
            (&*found[0][0].time_ms, &*found[0][0].value),
            (&[10, 20, 30, 40][..], &[10.0, 20.0, 30.0, 40.0][..])
        );
    });
}

#[test]
fn the_same_request_again_is_stored_once() {
    let batch = batch_of(&[counter(&[("__name__", "x")], Temporality::Delta, &[(1, 1.0)])]);
    wait(async {
        let store = memory();
        write(&store, std::slice::from_ref(&batch)).await;
        write(&store, std::slice::from_ref(&batch)).await;
        assert_eq!(selected(&store, "x", 0, 10).await[0].value, [1.0]);
    });
}
