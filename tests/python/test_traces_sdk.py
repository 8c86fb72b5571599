"""What the OpenTelemetry Python SDK and raw OTLP requests send is read back without loss."""

import os
from datetime import datetime, timedelta, timezone

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.common.http import Compression as JsonCompression
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ProtoExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

import jaeger
import otlp
from cases import VALUES, raw_request

PROTOBUF_EXPORTERS = {
    "protobuf": Compression.NoCompression,
    "protobuf, gzip": Compression.Gzip,
    "protobuf, deflate": Compression.Deflate,
}
JSON_EXPORTERS = {"json": None, "json, gzip": JsonCompression.GZIP}


def exporter(kind, url):
    if kind in JSON_EXPORTERS:
        return JsonExporter(endpoint=f"{url}/v1/traces", compression=JSON_EXPORTERS[kind])
    return ProtoExporter(endpoint=f"{url}/v1/traces", compression=PROTOBUF_EXPORTERS[kind])


def send_shop_trace(url, kind):
    """Sends one trace with all that the SDK can say, and returns its trace id."""
    provider = TracerProvider(
        resource=Resource.create(
            {"service.name": "shop", "service.instance.id": "a-1", "process.pid": 7, "host.tags": ["a", "b"], "ratio": 0.5},
            schema_url="https://opentelemetry.io/schemas/1.27.0",
        )
    )
    provider.add_span_processor(BatchSpanProcessor(exporter(kind, url)))
    tracer = provider.get_tracer("shop", "1.2.3", "https://opentelemetry.io/schemas/1.26.0", {"library": "requests"})
    other = provider.get_tracer("no version")

    caller = SpanContext(
        int.from_bytes(otlp.new_trace_id()), 0xABCDEF, True, TraceFlags(1), TraceState([("vendor", "a:b"), ("rojo", "00f067")])
    )
    remote = trace.set_span_in_context(NonRecordingSpan(caller))
    start_ns = otlp.now_ns() - 5_123_456_789
    with tracer.start_as_current_span("GET /cart/{id}", remote, SpanKind.SERVER, VALUES, start_time=start_ns) as root:
        for i, span_kind in enumerate([SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]):
            with (tracer if i % 2 else other).start_as_current_span(f"step {i}", kind=span_kind) as child:
                child.set_attribute("step.index", i)
                child.add_event("cache.miss", {"key": f"k{i}", "attempt": i, "ratio": 0.25, "cold": i == 0})
                child.add_event("bare", timestamp=start_ns + i)
                if i == 1:
                    child.set_status(Status(StatusCode.ERROR, "connection refused"))
                    child.record_exception(ValueError("boom"))
                if i == 2:
                    child.set_status(Status(StatusCode.OK))
        links = [
            Link(root.get_span_context(), {"why": "follows", "weight": 2, "parts": ["a", "b"]}),
            Link(SpanContext(1 << 127, 1 << 63, False, TraceFlags(0), TraceState([("k", "v")]))),
        ]
        tracer.start_span("linked", links=links).end()
    provider.shutdown()
    return f"{caller.trace_id:032x}"


@pytest.mark.parametrize("kind", [*PROTOBUF_EXPORTERS, *JSON_EXPORTERS])
def test_sdk_trace_is_read_back_without_loss(server, relay, kind):
    trace_id = send_shop_trace(relay.url, kind)

    sent = relay.sent()
    assert len(sent) == 6
    for exchange in relay.exchanges:
        assert exchange.headers["content-type"] == ("application/json" if "json" in kind else "application/x-protobuf")
        assert exchange.headers.get("content-encoding", "none") == (kind.split(", ") + ["none"])[1]

    n_fields = otlp.assert_same(sent, otlp.records(server.trace_v3(trace_id)))
    print(f"{kind}: {len(sent)} spans, {n_fields} fields equal through API v3")

    n_values = jaeger.assert_shows(server.trace_v1(trace_id), sent)
    print(f"{kind}: {n_values} values as expected through API v1")

    assert server.services() == ["shop"]
    assert sorted(server.operations("shop")) == sorted({record["span"]["name"] for record in sent.values()})


@pytest.mark.parametrize("kind", ["protobuf", "json"])
def test_sdk_search_finds_the_trace(server, kind):
    trace_id = send_shop_trace(server.http, kind)
    for tags in ['{"int":"42"}', '{"yes":"true"}', '{"double":"0.1"}', '{"error":"true"}', '{"span.kind":"server"}']:
        found = server.search(service="shop", tags=tags)
        assert [found_trace["traceID"] for found_trace in found] == [trace_id], tags
    assert server.search(service="shop", tags='{"int":"43"}') == []


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_raw_request_is_read_back_without_loss(server, encoding):
    message, trace_id = raw_request()
    if encoding == "protobuf":
        server.send(message)
    else:
        response = server.post(otlp.json_text(message), "application/json")
        assert (response.status_code, response.json()) == (200, {})

    n_fields = otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id)))
    print(f"raw {encoding}: 8 spans, {n_fields} fields equal through API v3")


def test_json_input_may_take_every_form_the_specification_allows(server):
    message, trace_id = raw_request()

    def loosen(value, key=""):
        if isinstance(value, dict):
            return {**{k: loosen(v, k) for k, v in value.items()}, "unknownField": {"a": [1]}}
        if isinstance(value, list):
            return [loosen(v, key) for v in value]
        if key in ("traceId", "spanId", "parentSpanId"):
            return value.upper()
        if key in ("intValue", "startTimeUnixNano", "endTimeUnixNano", "timeUnixNano"):
            return int(value)
        return value

    response = server.post(otlp.json_text(loosen(otlp.to_json(message))), "application/json; charset=utf-8")
    assert (response.status_code, response.json()) == (200, {})
    otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id)))


def test_order_and_repetition_of_attribute_keys_are_kept(server):
    message = otlp.request(service="order", values={})
    span = message.resource_spans[0].scope_spans[0].spans[0]
    for key, value in [("b", 1), ("a", 2), ("c", 3), ("a", "again"), ("", "empty key")]:
        span.attributes.append(otlp.attributes({key: value})[0])
    server.send(message)
    otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(span.trace_id.hex())))


def test_spans_of_any_age_are_found_by_id(server):
    """Old spans, spans from the future and a span that lasted a day, each by id without a time hint."""
    now = datetime.now(timezone.utc)
    messages = [
        otlp.request(service="ages", start_ns=int((now - age).timestamp()) * 10**9, duration_ns=duration_ns)
        for age, duration_ns in [
            (timedelta(days=400), 10**6),
            (timedelta(days=30), 10**6),
            (timedelta(hours=25), 10**9 * 86_400),
            (timedelta(minutes=-5), 10**6),
        ]
    ]
    server.send(*messages)
    for message in messages:
        (trace_id,) = otlp.trace_ids(message)
        otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id)))


def test_a_large_trace_is_complete(server):
    trace_id = os.urandom(16)
    message = otlp.request(service="large", trace_id=trace_id, n_spans=10_000)
    server.send(message)
    n_fields = otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id.hex())))
    print(f"large: 10000 spans, {n_fields} fields equal")
    assert len(server.trace_v1(trace_id.hex())["spans"]) == 10_000
