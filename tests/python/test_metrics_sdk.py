"""The OpenTelemetry SDK for Python as a sender of metrics, in protobuf and JSON; PromQL as the reader."""

import time

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

RESOURCE = Resource(
    {"service.name": "cart", "service.namespace": "shop", "service.instance.id": "i-1", "k8s.pod.name": "cart-1", "host.arch": "arm64"}
)


def query(server, text):
    answer = requests.get(f"{server.prometheus}/api/v1/query", params={"query": text}, timeout=30).json()
    assert answer["status"] == "success", answer
    return {
        tuple(sorted((key, value) for key, value in series["metric"].items())): series.get("value", series.get("histogram"))[1]
        for series in answer["data"]["result"]
    }


def send(server, temporality=None, views=()):
    exporter = OTLPMetricExporter(endpoint=f"{server.http}/v1/metrics", preferred_temporality=temporality)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, views=list(views))
    meter = provider.get_meter("lib", "1.0")
    requests_made = meter.create_counter("http.requests", unit="1", description="Requests made.")
    latency = meter.create_histogram("latency", unit="s")
    queue = meter.create_up_down_counter("queue.size", unit="{item}")
    meter.create_observable_gauge("cpu.utilization", callbacks=[lambda _: []], unit="1")
    for code in ("200", "500"):
        requests_made.add(3, {"code": code})
    for seconds in (0.004, 0.2, 7, 20_000):
        latency.record(seconds)
    queue.add(5)
    queue.add(-2)
    yield provider
    requests_made.add(4, {"code": "200"})
    yield provider
    provider.shutdown()


COMMON = {"instance": "i-1", "job": "shop/cart", "k8s_pod_name": "cart-1", "service_instance_id": "i-1", "service_name": "cart", "service_namespace": "shop"}


def labels(**more):
    return tuple(sorted({**COMMON, **more}.items()))


def test_metrics_of_the_sdk_are_queried(server):
    for provider in send(server):
        assert provider.force_flush()
    assert query(server, "http_requests_total") == {
        labels(__name__="http_requests_total", code="200"): "7",
        labels(__name__="http_requests_total", code="500"): "3",
    }
    assert query(server, "queue_size") == {labels(__name__="queue_size"): "3"}
    assert query(server, "latency_seconds_count") == {labels(__name__="latency_seconds_count"): "4"}
    buckets = query(server, "latency_seconds_bucket")
    by_bound = {dict(key)["le"]: value for key, value in buckets.items()}
    assert (by_bound["5"], by_bound["10"], by_bound["10000"], by_bound["+Inf"]) == ("2", "3", "3", "4")
    joined = query(server, "sum by (host_arch) (queue_size * on (job, instance) group_left (host_arch) target_info)")
    assert joined == {(("host_arch", "arm64"),): "3"}
    assert query(server, "sum by (host_arch) (info(queue_size))") == joined
    metadata = requests.get(f"{server.prometheus}/api/v1/metadata", timeout=30).json()["data"]
    assert metadata["http_requests_total"] == [{"type": "counter", "help": "Requests made.", "unit": ""}]
    assert metadata["latency_seconds"][0] == {"type": "histogram", "help": "", "unit": "seconds"}


def test_delta_counters_add_up(server):
    temporality = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    for provider in send(server, temporality):
        assert provider.force_flush()
        time.sleep(0.01)
    assert query(server, 'http_requests_total{code="200"}') == {labels(__name__="http_requests_total", code="200"): "7"}


def test_exponential_histograms_are_native(server):
    views = [View(instrument_name="latency", aggregation=ExponentialBucketHistogramAggregation())]
    for provider in send(server, views=views):
        assert provider.force_flush()
    ((found, histogram),) = query(server, "latency_seconds").items()
    assert found == labels(__name__="latency_seconds")
    assert histogram["count"] == "4" and float(histogram["sum"]) == 20007.204
    assert sum(float(bucket[3]) for bucket in histogram["buckets"]) == 4
    assert query(server, "histogram_count(latency_seconds)") == {labels(): "4"}


def test_delta_exponential_histograms_add_up(server):
    temporality = {Histogram: AggregationTemporality.DELTA}
    exporter = OTLPMetricExporter(endpoint=f"{server.http}/v1/metrics", preferred_temporality=temporality)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    views = [View(instrument_name="latency", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, views=views)
    latency = provider.get_meter("lib").create_histogram("latency", unit="s")
    for batch in ((0.004, 0.2), (7, 20_000), (0.2,)):
        for seconds in batch:
            latency.record(seconds)
        assert provider.force_flush()
        time.sleep(0.01)
    provider.shutdown()
    # Over a window that holds all of them: an instant looks back as far as its samples may be old.
    ((found, histogram),) = query(server, "last_over_time(latency_seconds[5m])").items()
    assert found == labels(__name__="latency_seconds")
    assert histogram["count"] == "5" and abs(float(histogram["sum"]) - 20007.404) < 1e-6
    assert sum(float(bucket[3]) for bucket in histogram["buckets"]) == 5


@pytest.mark.parametrize("body, status", [("{}", 200), ("{", 400), ('{"resourceMetrics":[{}]}', 200)])
def test_answers_are_in_the_requests_own_format(server, body, status):
    response = requests.post(
        f"{server.http}/v1/metrics", data=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")


def test_what_has_no_name_is_said_and_the_rest_is_kept(server):
    now_ns = str(time.time_ns())
    point = {"timeUnixNano": now_ns, "asInt": "1"}
    metrics = [{"name": "ok", "gauge": {"dataPoints": [point]}}, {"name": "", "gauge": {"dataPoints": [point, point]}}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    response = requests.post(f"{server.http}/v1/metrics", json=body, timeout=30)
    assert response.status_code == 200
    assert response.json()["partialSuccess"]["rejectedDataPoints"] == "2"
    assert query(server, "ok") == {(("__name__", "ok"),): "1"}
