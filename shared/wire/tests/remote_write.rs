//! Remote write through messages that prost encodes, written down a second time from the specification.

use model::SeriesBatch;
use model::series::{MetricType, STALE_BITS};
use prost::Message;
use wire::remote_write::{DecodedWrite, Version, decode};
use wire::{Encoding, Limits, decompress};

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeriesV2>,
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() }).collect()
}

fn read(body: &[u8], version: Version) -> DecodedWrite {
    decode(body, version, &Limits::default()).expect("a request")
}

fn shown(batch: &SeriesBatch) -> Vec<String> {
    let text = |series: usize| -> String {
        let pairs = batch.labels_of(series).iter();
        let pairs: Vec<_> = pairs
            .map(|pair| format!("{}={}", batch.symbols.get(pair.0), batch.symbols.get(pair.1)))
            .collect();
        let samples = batch.samples_of(series);
        let samples: Vec<_> =
            samples.map(|at| format!("{}@{}", batch.value[at], batch.time_ms[at])).collect();
        format!("{} {}", pairs.join(","), samples.join(" "))
    };
    (0..batch.n_series()).map(text).collect()
}

fn up(more: &[(&str, &str)], samples: Vec<Sample>) -> TimeSeries {
    let mut pairs = vec![("__name__", "up")];
    pairs.extend(more);
    TimeSeries { labels: labels(&pairs), samples, ..TimeSeries::default() }
}

fn sample(value: f64, timestamp: i64) -> Sample {
    Sample { value, timestamp, start_timestamp: 0 }
}

#[test]
fn series_of_version_one_come_with_sorted_labels() {
    let request = WriteRequest {
        timeseries: vec![
            up(&[("job", "b"), ("instance", "i")], vec![sample(1.0, 2), sample(0.5, 1)]),
            up(&[("job", "a")], vec![sample(f64::from_bits(STALE_BITS), 7)]),
        ],
        metadata: vec![Metadata { kind: 2, family: "up".into(), help: "Is it?".into(), unit: String::new() }],
    };
    let decoded = read(&request.encode_to_vec(), Version::V1);
    let batch = decoded.batch;
    assert_eq!(shown(&batch)[0], "__name__=up,instance=i,job=b 0.5@1 1@2");
    assert_eq!(batch.value[2].to_bits(), STALE_BITS, "bits are kept");
    assert_eq!((decoded.n_samples, decoded.rejected.n()), (3, 0));
    assert_eq!(
        (batch.metadata[0].metric_type, batch.metadata[0].help.as_str()),
        (MetricType::Gauge, "Is it?")
    );
}

#[test]
fn samples_out_of_time_are_left_out_and_too_many_series_refuse_the_request() {
    let request = WriteRequest {
        timeseries: vec![
            up(&[("a", "1")], vec![sample(1.0, 9), sample(2.0, 10), sample(3.0, 20), sample(4.0, 21)]),
            up(&[("a", "2")], vec![sample(5.0, 15)]),
        ],
        metadata: vec![],
    };
    let body = request.encode_to_vec();
    let limits = Limits { min_time_ms: 10, max_time_ms: 20, ..Limits::default() };
    let decoded = decode(&body, Version::V1, &limits).expect("a request");
    assert_eq!(shown(&decoded.batch), ["__name__=up,a=1 2@10 3@20", "__name__=up,a=2 5@15"]);
    assert_eq!((decoded.n_samples, decoded.rejected.of(wire::Reason::Time)), (3, 2));
    assert_eq!(decoded.rejected.message(), "a sample is older than allowed");
    let limits = Limits { max_series: 1, ..Limits::default() };
    let error = decode(&body, Version::V1, &limits).expect_err("two series");
    assert_eq!(error.to_string(), "body holds more than 1 series");
}

#[test]
fn what_is_invalid_is_left_out_and_counted() {
    let two = || vec![sample(1.0, 1), sample(2.0, 2)];
    let nameless = TimeSeries { labels: labels(&[("job", "a")]), samples: two(), ..TimeSeries::default() };
    let request = WriteRequest {
        timeseries: vec![
            up(&[], two()),
            nameless,
            up(&[("a", "1"), ("a", "2")], two()),
            up(&[("long", &"x".repeat(20_000))], two()),
            up(&[("ok", "1")], two()),
        ],
        metadata: vec![],
    };
    let decoded = read(&request.encode_to_vec(), Version::V1);
    assert_eq!(shown(&decoded.batch), ["__name__=up 1@1 2@2", "__name__=up,ok=1 1@1 2@2"]);
    assert_eq!((decoded.rejected.n(), decoded.rejected.message()), (6, "a series has no label __name__"));
}

#[test]
fn version_two_refers_to_symbols() {
    let symbols = ["", "__name__", "latency_seconds", "job", "a", "How long", "trace_id", "abc"];
    let series = TimeSeriesV2 {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![Sample { value: 3.0, timestamp: 9, start_timestamp: 4 }],
        exemplars: vec![ExemplarV2 { labels_refs: vec![6, 7], value: 0.5, timestamp: 8 }],
        metadata: Some(MetadataV2 { kind: 1, help_ref: 5, unit_ref: 0 }),
        ..TimeSeriesV2::default()
    };
    let broken =
        TimeSeriesV2 { labels_refs: vec![1, 99], samples: vec![sample(1.0, 1)], ..TimeSeriesV2::default() };
    let request = Request {
        symbols: symbols.iter().map(ToString::to_string).collect(),
        timeseries: vec![series, broken],
    };
    let decoded = read(&request.encode_to_vec(), Version::V2);
    let batch = decoded.batch;
    assert_eq!(shown(&batch), ["__name__=latency_seconds,job=a 3@9"]);
    assert_eq!(batch.start_ms, [4]);
    assert_eq!(batch.exemplars[0].labels.get("trace_id"), "abc");
    assert_eq!(
        (batch.metadata[0].family.as_str(), batch.metadata[0].help.as_str()),
        ("latency_seconds", "How long")
    );
    assert_eq!((decoded.n_samples, decoded.n_exemplars, decoded.rejected.n()), (1, 1, 1));
}

#[test]
fn histograms_have_absolute_counts() {
    let spans = vec![BucketSpan { offset: -1, length: 2 }, BucketSpan { offset: 3, length: 1 }];
    let integers = Histogram {
        count_int: Some(9),
        sum: 1.5,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count_int: Some(1),
        positive_spans: spans.clone(),
        positive_deltas: vec![2, 1, -1],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        negative_deltas: vec![1],
        reset_hint: 2,
        timestamp: 77,
        ..Histogram::default()
    };
    let floats = Histogram {
        count_float: Some(0.5),
        schema: -53,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_counts: vec![0.25, 0.25],
        custom_values: vec![1.0],
        timestamp: 78,
        ..Histogram::default()
    };
    let contradictory = Histogram { positive_spans: spans, ..Histogram::default() };
    let series = TimeSeries {
        labels: labels(&[("__name__", "h")]),
        histograms: vec![floats, integers, contradictory],
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: vec![series], metadata: vec![] };
    let decoded = read(&request.encode_to_vec(), Version::V1);
    let [first, second] = decoded.batch.histograms_of(0) else { panic!("two are valid") };
    assert_eq!((first.time_ms, second.time_ms), (77, 78));
    assert_eq!(first.histogram.positive.iter().collect::<Vec<_>>(), [(-1, 2.0), (0, 3.0), (4, 2.0)]);
    assert!(first.histogram.is_integer && !second.histogram.is_integer);
    assert_eq!(second.histogram.custom_bounds, [1.0]);
    assert_eq!((decoded.n_histograms, decoded.rejected.n()), (2, 1));
}

#[test]
fn the_message_is_named_by_the_content_type() {
    let check = |value: &str, expect: Option<Version>| {
        assert_eq!(Version::from_content_type(value), expect, "{value}");
    };
    check("application/x-protobuf", Some(Version::V1));
    check("Application/X-Protobuf; charset=utf-8", Some(Version::V1));
    check("application/x-protobuf;proto=prometheus.WriteRequest", Some(Version::V1));
    check("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Version::V2));
    check("application/x-protobuf;proto=other", None);
    check("application/json", None);
}

#[test]
fn bombs_are_refused_before_memory_is_taken() {
    let limits = Limits::default();
    let compressed = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).expect("compresses");
    let body = compressed(&vec![0; 1 << 20]);
    assert_eq!(decompress(&body, Encoding::SnappyBlock, &limits).expect("within the limit").len(), 1 << 20);
    let body = compressed(&vec![0; limits.max_body_bytes + 1]);
    assert!(matches!(decompress(&body, Encoding::SnappyBlock, &limits), Err(wire::Error::TooLarge { .. })));
    // Says 32 MiB and holds nothing.
    assert!(decompress(&[0x80, 0x80, 0x80, 0x10, 0], Encoding::SnappyBlock, &limits).is_err());
    let few = Limits { max_samples: 2, ..limits };
    let request = WriteRequest { timeseries: vec![up(&[], vec![sample(1.0, 1); 3])], metadata: vec![] };
    let error = decode(&request.encode_to_vec(), Version::V1, &few).expect_err("too many");
    assert_eq!(error.to_string(), "body holds more than 2 samples");
}

#[test]
fn cut_and_changed_bodies_never_panic() {
    let request = WriteRequest {
        timeseries: vec![up(&[("job", "b"), ("instance", "i")], vec![sample(1.0, 2), sample(0.5, 1)]); 3],
        metadata: vec![Metadata { kind: 2, family: "up".into(), help: "Is it?".into(), unit: String::new() }],
    };
    let body = request.encode_to_vec();
    let mut state = 7_u64;
    for version in [Version::V1, Version::V2] {
        for end in 0..body.len() {
            let _ = decode(&body[..end], version, &Limits::default());
            let mut changed = body.clone();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            changed[end] ^= (state >> 56) as u8;
            let _ = decode(&changed, version, &Limits::default());
        }
    }
}
