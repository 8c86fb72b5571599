//! OTLP metrics: each kind of point as the series that Prometheus makes of it, in both formats.

use model::SeriesBatch;
use model::series::{MetricType, STALE_BITS, Temporality};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use wire::Limits;
use wire::otlp::Format;
use wire::otlp::metrics::{DecodedMetrics, Translation, TranslationStrategy, decode_metrics};

const AT: u64 = 1_795_600_000_123_456_789;
const START: u64 = 1_795_599_000_000_000_000;

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value.to_owned()))
}

fn request(resource: Vec<KeyValue>, metrics: Vec<otlp::Metric>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "lib".to_owned(),
        version: "1".to_owned(),
        ..InstrumentationScope::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_metrics: vec![otlp::ScopeMetrics {
                scope: Some(scope),
                metrics,
                ..otlp::ScopeMetrics::default()
            }],
            ..otlp::ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}

fn metric(name: &str, unit: &str, data: Data) -> otlp::Metric {
    otlp::Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: "Some help".to_owned(),
        data: Some(data),
        ..otlp::Metric::default()
    }
}

fn number(value: f64, attributes: Vec<KeyValue>) -> otlp::NumberDataPoint {
    otlp::NumberDataPoint {
        attributes,
        start_time_unix_nano: START,
        time_unix_nano: AT,
        value: Some(otlp::number_data_point::Value::AsDouble(value)),
        ..otlp::NumberDataPoint::default()
    }
}

fn sum(points: Vec<otlp::NumberDataPoint>, temporality: i32, is_monotonic: bool) -> Data {
    Data::Sum(otlp::Sum { data_points: points, aggregation_temporality: temporality, is_monotonic })
}

fn read(body: &[u8], translation: &Translation) -> DecodedMetrics {
    decode_metrics(body, Format::Protobuf, translation, &Limits::default()).expect("a request")
}

/// Each series with its samples, sorted.
fn shown(batch: &SeriesBatch) -> Vec<String> {
    let text = |series: usize| -> String {
        let pairs = batch.labels_of(series).iter();
        let mut pairs: Vec<_> = pairs
            .map(|pair| format!("{}={}", batch.symbols.get(pair.0), batch.symbols.get(pair.1)))
            .collect();
        let name = pairs.iter().position(|pair| pair.starts_with("__name__=")).map(|at| pairs.remove(at));
        let values: Vec<String> = batch.samples_of(series).map(|at| batch.value[at].to_string()).collect();
        let name = name.unwrap_or_default();
        format!("{}{{{}}} {}", name.trim_start_matches("__name__="), pairs.join(","), values.join(" "))
    };
    let mut all: Vec<String> = (0..batch.n_series()).map(text).collect();
    all.sort();
    all
}

fn shop() -> Vec<KeyValue> {
    vec![
        text("service.name", "cart"),
        text("service.namespace", "shop"),
        text("service.instance.id", "i-1"),
        text("k8s.pod.name", "cart-1"),
        key_value("process.pid", any_value::Value::IntValue(7)),
    ]
}

#[test]
fn numbers_become_gauges_and_counters() {
    let metrics = vec![
        metric(
            "queue.size",
            "{item}",
            Data::Gauge(otlp::Gauge { data_points: vec![number(5.0, vec![text("queue.name", "a")])] }),
        ),
        metric("http.requests", "1", sum(vec![number(9.0, vec![])], 2, true)),
        metric("connections", "", sum(vec![number(3.0, vec![])], 2, false)),
        metric("retries", "", sum(vec![number(2.0, vec![])], 1, true)),
    ];
    let translation = Translation {
        promote_resource_attributes: vec!["k8s.pod.name".to_owned()],
        ..Translation::default()
    };
    let decoded = read(&request(shop(), metrics), &translation);
    assert_eq!(
        shown(&decoded.batch),
        [
            "connections{instance=i-1,job=shop/cart,k8s_pod_name=cart-1} 3",
            "http_requests_total{instance=i-1,job=shop/cart,k8s_pod_name=cart-1} 9",
            "queue_size{instance=i-1,job=shop/cart,k8s_pod_name=cart-1,queue_name=a} 5",
            "retries_total{instance=i-1,job=shop/cart,k8s_pod_name=cart-1} 2",
            "target_info{instance=i-1,job=shop/cart,k8s_pod_name=cart-1,process_pid=7} 1",
        ]
    );
    let batch = &decoded.batch;
    assert_eq!(batch.time_ms[0], 1_795_600_000_123);
    assert_eq!(batch.start_ms[0], 1_795_599_000_000);
    let deltas = batch.temporality.iter().filter(|temporality| **temporality == Temporality::Delta).count();
    assert_eq!(deltas, 1);
    let types: Vec<(&str, MetricType)> =
        batch.metadata.iter().map(|said| (said.family.as_str(), said.metric_type)).collect();
    assert_eq!(
        types,
        [
            ("queue_size", MetricType::Gauge),
            ("http_requests_total", MetricType::Counter),
            ("connections", MetricType::Gauge),
            ("retries_total", MetricType::Unknown),
            ("target_info", MetricType::Gauge),
        ]
    );
}

#[test]
fn histograms_become_buckets() {
    let point = otlp::HistogramDataPoint {
        time_unix_nano: AT,
        count: 6,
        sum: Some(12.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 2.0],
        exemplars: vec![otlp::Exemplar {
            time_unix_nano: AT,
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            value: Some(otlp::exemplar::Value::AsDouble(1.5)),
            filtered_attributes: vec![text("user", "u")],
        }],
        ..otlp::HistogramDataPoint::default()
    };
    let wrong =
        otlp::HistogramDataPoint { bucket_counts: vec![1], explicit_bounds: vec![1.0, 2.0], ..point.clone() };
    let histogram = otlp::Histogram { data_points: vec![point, wrong], aggregation_temporality: 2 };
    let body = request(vec![], vec![metric("latency", "s", Data::Histogram(histogram))]);
    let decoded = read(&body, &Translation::default());
    assert_eq!(
        shown(&decoded.batch),
        [
            "latency_seconds_bucket{le=+Inf} 6",
            "latency_seconds_bucket{le=0.005} 1",
            "latency_seconds_bucket{le=2} 3",
            "latency_seconds_count{} 6",
            "latency_seconds_sum{} 12.5",
        ]
    );
    assert_eq!(decoded.rejected.n(), 1);
    assert!(decoded.rejected.message().contains("latency_seconds"), "{}", decoded.rejected.message());
    let exemplar = &decoded.batch.exemplars[0];
    assert_eq!(exemplar.labels.get("trace_id"), "ab".repeat(16));
    assert_eq!((exemplar.labels.get("user"), exemplar.value), ("u", 1.5));

    let native = Translation { convert_histograms_to_nhcb: true, ..Translation::default() };
    let batch = read(&body, &native).batch;
    let histogram = &batch.histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.custom_bounds.as_slice()), (-53, [0.005, 2.0].as_slice()));
}

#[test]
fn exponential_histograms_become_native_ones() {
    let buckets = |offset, counts: &[u64]| {
        Some(otlp::exponential_histogram_data_point::Buckets { offset, bucket_counts: counts.to_vec() })
    };
    let point = otlp::ExponentialHistogramDataPoint {
        time_unix_nano: AT,
        count: 37,
        sum: Some(1.0),
        scale: 3,
        zero_count: 0,
        positive: buckets(3, &[10, 0, 0, 20, 5, 2]),
        negative: buckets(-2, &[1]),
        ..otlp::ExponentialHistogramDataPoint::default()
    };
    let fine = otlp::ExponentialHistogramDataPoint {
        scale: 10,
        positive: buckets(4, &[1, 1, 1, 1, 1]),
        ..point.clone()
    };
    let coarse = otlp::ExponentialHistogramDataPoint { scale: -5, ..point.clone() };
    let of = |point| {
        let histogram = otlp::ExponentialHistogram { data_points: vec![point], aggregation_temporality: 2 };
        read(
            &request(vec![], vec![metric("h", "", Data::ExponentialHistogram(histogram))]),
            &Translation::default(),
        )
    };
    let decoded = of(point);
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!(histogram.schema, 3);
    let filled: Vec<_> = histogram.positive.iter().filter(|(_, count)| *count > 0.0).collect();
    assert_eq!(filled, [(4, 10.0), (7, 20.0), (8, 5.0), (9, 2.0)]);
    assert_eq!(histogram.negative.iter().collect::<Vec<_>>(), [(-1, 1.0)]);
    assert!(histogram.positive.is_consistent());

    let decoded = of(fine);
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!(histogram.schema, 8);
    assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(2, 4.0), (3, 1.0)]);
    assert_eq!(of(coarse).rejected.n(), 1);
}

#[test]
fn points_without_a_value_are_stale() {
    let mut point = number(0.0, vec![]);
    point.flags = 1;
    point.value = None;
    let nothing = otlp::NumberDataPoint { flags: 0, ..point.clone() };
    let gauge = Data::Gauge(otlp::Gauge { data_points: vec![point, nothing] });
    let decoded = read(&request(vec![], vec![metric("g", "", gauge)]), &Translation::default());
    assert_eq!(decoded.batch.value.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), [STALE_BITS]);
    assert_eq!(decoded.rejected.n(), 1);
}

#[test]
fn labels_that_become_the_same_are_joined() {
    let attributes =
        vec![text("a_b", "2"), text("a.b", "1"), key_value("flag", any_value::Value::BoolValue(true))];
    let gauge = |attributes| Data::Gauge(otlp::Gauge { data_points: vec![number(1.0, attributes)] });
    let body = request(vec![], vec![metric("g.x", "", gauge(attributes))]);
    assert_eq!(shown(&read(&body, &Translation::default()).batch), ["g_x{a_b=1;2,flag=true} 1"]);
    let untouched = Translation { strategy: TranslationStrategy::NoTranslation, ..Translation::default() };
    assert_eq!(shown(&read(&body, &untouched).batch), ["g.x{a.b=1,a_b=2,flag=true} 1"]);
    let scoped = Translation { promote_scope_metadata: true, ..Translation::default() };
    let batch = read(&body, &scoped).batch;
    assert_eq!(shown(&batch), ["g_x{a_b=1;2,flag=true,otel_scope_name=lib,otel_scope_version=1} 1"]);
}

#[test]
fn target_info_is_there_at_every_step() {
    let at = |time_ns| otlp::NumberDataPoint { time_unix_nano: time_ns, ..number(1.0, vec![]) };
    let minute = 60_000_000_000;
    let gauge = Data::Gauge(otlp::Gauge { data_points: vec![at(AT), at(AT + 6 * minute)] });
    let batch = read(&request(shop(), vec![metric("g", "", gauge)]), &Translation::default()).batch;
    let info =
        shown(&batch).into_iter().find(|series| series.starts_with("target_info")).expect("is written");
    assert!(info.ends_with("} 1 1 1 1"), "{info}");
}

#[test]
fn summaries_have_quantiles() {
    let quantile = |quantile, value| otlp::summary_data_point::ValueAtQuantile { quantile, value };
    let point = otlp::SummaryDataPoint {
        time_unix_nano: AT,
        count: 4,
        sum: 10.0,
        quantile_values: vec![quantile(0.5, 2.0), quantile(1.0, 5.0)],
        ..otlp::SummaryDataPoint::default()
    };
    let summary = Data::Summary(otlp::Summary { data_points: vec![point] });
    let batch = read(&request(vec![], vec![metric("s", "", summary)]), &Translation::default()).batch;
    assert_eq!(shown(&batch), ["s_count{} 4", "s_sum{} 10", "s{quantile=0.5} 2", "s{quantile=1} 5"]);
}

#[test]
fn json_says_the_same() {
    let json = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},
      {"key":"process.pid","value":{"intValue":"7"}}]},"scopeMetrics":[{"scope":{"name":"lib"},"metrics":[
      {"name":"a.b","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1795600000123456789","asInt":"5",
        "attributes":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"}]}}}]}]}},
      {"name":"n","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1795600000123456789","asDouble":"NaN","unknown":{}}]}},
      {"name":"h","unit":"s","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
        {"timeUnixNano":1795600000123456789,"count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[0.5],
         "exemplars":[{"traceId":"abababababababababababababababab","spanId":"0101010101010101","asDouble":0.25,"timeUnixNano":"1"}]}]}},
      {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1","count":"1","scale":1,"positive":{"offset":1,"bucketCounts":["1"]}}]}},
      {"name":"s","summary":{"dataPoints":[{"timeUnixNano":"1","count":"1","sum":2,"quantileValues":[{"quantile":0.5,"value":3}]}]}}
    ]}]}]}"#;
    let decoded = decode_metrics(json.as_bytes(), Format::Json, &Translation::default(), &Limits::default());
    let decoded = decoded.expect("a request");
    assert_eq!(
        shown(&decoded.batch),
        [
            "a_b_bytes{job=cart,k=[1,\"x\"]} 5",
            "e{job=cart} ",
            "h_seconds_bucket{job=cart,le=+Inf} 3",
            "h_seconds_bucket{job=cart,le=0.5} 1",
            "h_seconds_count{job=cart} 3",
            "h_seconds_sum{job=cart} 4.5",
            "n_total{job=cart} NaN",
            "s_count{job=cart} 1",
            "s_sum{job=cart} 2",
            "s{job=cart,quantile=0.5} 3",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain(shown(&decoded.batch).into_iter().filter(|series| series.starts_with("target_info")))
        .collect::<Vec<_>>()
    );
    assert_eq!((decoded.batch.histograms.len(), decoded.batch.exemplars.len()), (1, 1));
    for wrong in [
        "{",
        "[]",
        r#"{"resourceMetrics":{}}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}"#,
    ] {
        assert!(
            decode_metrics(wrong.as_bytes(), Format::Json, &Translation::default(), &Limits::default())
                .is_err(),
            "{wrong}"
        );
    }
    assert!(decode_metrics(b"{}", Format::Json, &Translation::default(), &Limits::default()).is_ok());
}

#[test]
fn cut_and_changed_bodies_never_panic() {
    let metrics = vec![
        metric("a", "s", sum(vec![number(9.0, vec![text("k", "v")])], 2, true)),
        metric(
            "h",
            "",
            Data::Histogram(otlp::Histogram {
                data_points: vec![otlp::HistogramDataPoint {
                    bucket_counts: vec![1, 2],
                    explicit_bounds: vec![1.0],
                    ..otlp::HistogramDataPoint::default()
                }],
                aggregation_temporality: 2,
            }),
        ),
    ];
    let body = request(shop(), metrics);
    let mut state = 3_u64;
    for end in 0..body.len() {
        let _ = decode_metrics(&body[..end], Format::Protobuf, &Translation::default(), &Limits::default());
        for _ in 0..4 {
            let mut changed = body.clone();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            changed[end] = (state >> 56) as u8;
            let _ = decode_metrics(&changed, Format::Protobuf, &Translation::default(), &Limits::default());
        }
    }
}

fn read_json(json: &str) -> Result<DecodedMetrics, wire::Error> {
    decode_metrics(json.as_bytes(), Format::Json, &Translation::default(), &Limits::default())
}

#[test]
fn a_wrong_point_of_json_costs_no_other() {
    let long = format!("[{}]", vec!["\"1\""; 400_000].join(","));
    let points = [
        r#"{"timeUnixNano":"1000000","asInt":"1"}"#,
        r#"{"timeUnixNano":"soon","asInt":"1"}"#,
        r#"{"timeUnixNano":"2000000","asInt":{}}"#,
        r#""no point""#,
        r#"{"timeUnixNano":"3000000","asDouble":2.5,"attributes":[{"key":"a","value":{"stringValue":"b"}}]}"#,
        &format!(r#"{{"timeUnixNano":"4000000","bucketCounts":{long}}}"#),
        "null",
    ];
    let json = format!(
        r#"{{"resourceMetrics":[null,{{"scopeMetrics":[null,{{"metrics":[null,
        {{"gauge":{{"dataPoints":[{}]}},"name":"g","unknown":[{{}}]}}]}}],
        "resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}}}}]}}"#,
        points.join(",")
    );
    let decoded = read_json(&json).expect("a request");
    assert_eq!(shown(&decoded.batch), ["g{a=b,job=shop} 2.5", "g{job=shop} 1"]);
    assert_eq!(decoded.rejected.n(), 5);
    assert!(decoded.rejected.message().contains("timeUnixNano"), "{}", decoded.rejected.message());
}

#[test]
fn what_is_no_json_of_metrics_is_an_error() {
    for json in [
        "",
        "[]",
        "1",
        r#"{"resourceMetrics":{}}"#,
        r#"{"resourceMetrics":[1]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":7}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":[]}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":["x"]}]}]"#,
    ] {
        let error = read_json(json).expect_err(json);
        assert_eq!(error.kind(), wire::ErrorKind::BadRequest, "{json}: {error}");
        assert!(error.to_string().len() < 1000);
    }
    for json in ["{}", r#"{"resourceMetrics":null}"#, r#"{"resourceMetrics":[{},{"scopeMetrics":[{}]}]}"#] {
        assert_eq!(read_json(json).expect(json).batch.n_samples(), 0);
    }
}
