"""OTLP logs: the SDK for Python and raw requests as senders, DuckDB as the reader of the stored files."""

import json
import logging
import math

import duckdb
import pytest
import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import cases
import otlp
from spandrel import JSON, PROTOBUF, Server


@pytest.fixture
def server(tmp_path):
    """A server of one test's own: what it stored is all there is."""
    with Server(tmp_path / "data") as server:
        yield server


def stored(server, sql="SELECT * FROM logs ORDER BY observed_time, time, body", *values):
    """Rows of a query over `logs`, a view of all stored log records, as dicts."""
    with duckdb.connect() as database:
        # Timestamps as they are: DuckDB would show them in this machine's zone.
        database.execute("SET TimeZone = 'UTC'")
        files = server.data / "objects" / "tenant=*" / "signal=logs" / "**" / "*.parquet"
        database.execute(f"CREATE VIEW logs AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
        found = database.execute(sql, values)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row)) for row in found.fetchall()]


def test_records_of_the_sdk_are_stored_with_their_trace(server):
    resource = Resource({"service.name": "cart", "host.name": "h1"})
    provider = LoggerProvider(resource=resource)
    exporter = OTLPLogExporter(endpoint=f"{server.http}/v1/logs", compression=Compression.Gzip)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = logging.getLogger("shop.cart")
    logger.propagate = False
    handler = LoggingHandler(logger_provider=provider)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with TracerProvider(resource=resource).get_tracer("t").start_as_current_span("checkout"):
            context = trace.get_current_span().get_span_context()
            logger.warning("cart %s is %d%% full", "c-1", 90, extra={"cart.size": 9, "ratio": 0.9, "full": False})
        try:
            raise ValueError("no such item")
        except ValueError:
            logger.exception("failed")
        logger.debug("not sent")
        assert provider.force_flush()
    finally:
        logger.removeHandler(handler)
        provider.shutdown()

    first, second = stored(server, "SELECT *, epoch_ns(time) AS ns FROM logs ORDER BY time")
    assert first["body"] == "cart c-1 is 90% full"
    assert (first["severity_number"], first["severity_text"], first["service_name"]) == (13, "WARN", "cart")
    assert (first["trace_id"], first["span_id"]) == (context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))
    assert first["flags"] == context.trace_flags
    assert first["scope_name"] == "shop.cart"
    assert abs(first["ns"] - otlp.now_ns()) < 600 * 10**9
    attributes = first["attributes"]
    assert (attributes["cart.size"]["int"], attributes["ratio"]["double"], attributes["full"]["bool"]) == (9, 0.9, False)
    assert json.loads(first["resource_attributes"])["host.name"] == "h1"
    assert (second["body"], second["severity_number"], second["trace_id"], second["span_id"]) == ("failed", 17, None, None)
    assert second["attributes"]["exception.type"]["string"] == "ValueError"
    assert "no such item" in second["attributes"]["exception.stacktrace"]["string"]
    assert stored(server, "SELECT count(*) AS n FROM logs WHERE attributes['cart.size'].int > 5") == [{"n": 1}]


def everything():
    """Records with every kind of value as body and as attribute, and with every field."""
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add(schema_url="https://example.com/resource")
    group.resource.attributes.extend(otlp.attributes({"service.name": "raw", "nested": {"a": [1, None, b"\x00"]}}))
    group.resource.dropped_attributes_count = 3
    scope_group = group.scope_logs.add(schema_url="https://example.com/scope")
    scope_group.scope.name, scope_group.scope.version = "library", "0.1"
    scope_group.scope.attributes.extend(otlp.attributes({"n": -1}))
    start_ns = otlp.now_ns() - 10**9
    for i, (key, value) in enumerate({**cases.VALUES, "map": {"a": {"b": [1, "two", None, b"x"]}}}.items()):
        record = scope_group.log_records.add(
            time_unix_nano=start_ns + i,
            observed_time_unix_nano=start_ns + 1_000 + i,
            severity_number=i % 25,
            severity_text=f"level {i}",
            event_name=f"event {key}",
            dropped_attributes_count=i,
            flags=0x100 + i,
            trace_id=bytes([i + 1] * 16),
            span_id=bytes([i + 1] * 8),
        )
        record.body.CopyFrom(otlp.any_value(value))
        record.attributes.extend(otlp.attributes({key: value, "other": i}))
    # No time, no body, nothing at all.
    message.resource_logs.add().scope_logs.add().log_records.add(observed_time_unix_nano=start_ns + 2_000)
    message.resource_logs[1].scope_logs[0].log_records.add()
    return message


def typed(value):
    """What the stored struct of typed values holds for a value, without its JSON."""
    fields = {"string": None, "int": None, "double": None, "bool": None}
    name = {str: "string", bool: "bool", int: "int", float: "double"}.get(type(value))
    return {**fields, name: value} if name else fields


def same(a, b):
    return a == b or isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_every_field_and_every_type_is_stored(server, content_type):
    message = everything()
    sent = message.resource_logs[0].scope_logs[0].log_records
    body = message.SerializeToString() if content_type == PROTOBUF else otlp.json_text(message)
    response = server.post(body, content_type, path="/v1/logs")
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    if content_type == JSON:
        assert response.json() == {}
    else:
        assert not ExportLogsServiceResponse.FromString(response.content).HasField("partial_success")

    rows = stored(server, "SELECT *, epoch_ns(time) AS ns, epoch_ns(observed_time) AS observed_ns FROM logs ORDER BY observed_time NULLS LAST")
    assert len(rows) == len(sent) + 2
    values = [*cases.VALUES.values(), {"a": {"b": [1, "two", None, b"x"]}}]
    for row, record, value in zip(rows, sent, values):
        assert row["ns"] == record.time_unix_nano and row["observed_ns"] == record.observed_time_unix_nano
        assert row["severity_number"] == record.severity_number
        assert (row["severity_text"], row["event_name"]) == (record.severity_text, record.event_name)
        assert (row["flags"], row["dropped_attributes_count"]) == (record.flags, record.dropped_attributes_count)
        assert (row["trace_id"], row["span_id"]) == (record.trace_id, record.span_id)
        assert (row["service_name"], row["scope_name"], row["scope_version"]) == ("raw", "library", "0.1")
        assert json.loads(row["resource_attributes"]) == {"service.name": "raw", "nested": {"a": [1, None, {"$bytes": "AA=="}]}}
        assert json.loads(row["resource_meta"]) == {"dropped_attributes_count": 3, "schema_url": "https://example.com/resource"}
        assert json.loads(row["scope_meta"]) == {"attributes": {"n": -1}, "schema_url": "https://example.com/scope"}
        if isinstance(value, str):
            assert (row["body"], row["body_json"]) == (value, None)
        else:
            assert row["body"] is None and row["body_json"] is not None
        if isinstance(value, (bool, int)):
            assert json.loads(row["body_json"]) == value
        key = record.attributes[0].key
        found = dict(row["attributes"][key])
        as_json = found.pop("json")
        expected = typed(value)
        assert all(same(found[name], expected[name]) for name in expected), (key, found, expected)
        assert (as_json is not None) == isinstance(value, (list, dict, bytes)), key
        assert row["attributes"]["other"]["int"] == record.attributes[1].value.int_value
        assert list(row["attributes"]) == [entry.key for entry in record.attributes]
    for row in rows[-2:]:
        assert [row[name] for name in ("time", "body", "body_json", "trace_id", "span_id", "event_name")] == [None] * 6
        assert (row["attributes"], row["severity_number"], row["resource_attributes"]) == ({}, 0, None)
    assert rows[-1]["observed_time"] is None


def test_a_request_sent_twice_is_stored_once(server):
    body = everything().SerializeToString()
    for _ in range(2):
        assert server.post(body, path="/v1/logs").status_code == 200
    assert stored(server, "SELECT count(*) AS n FROM logs")[0]["n"] == len(cases.VALUES) + 3
    # The same bytes say something else as another signal, or for another tenant.
    assert server.post(body, path="/v1/logs", **{"X-Scope-OrgID": "other"}).status_code == 200
    counts = stored(server, "SELECT tenant, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1")
    assert [row["tenant"] for row in counts] == ["default", "other"]


def test_what_is_wrong_is_said_and_the_rest_is_kept(server):
    records = [{"body": {"stringValue": "kept"}}, {"timeUnixNano": "soon"}, {"traceId": "zz", "body": {"stringValue": "too"}}]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    response = requests.post(f"{server.http}/v1/logs", json=body, timeout=30)
    assert response.status_code == 200
    partial = response.json()["partialSuccess"]
    assert partial["rejectedLogRecords"] == "1" and "time" in partial["errorMessage"]
    assert [row["body"] for row in stored(server)] == ["kept", "too"]
    page = requests.get(f"{server.http}/metrics", timeout=30).text
    assert 'spandrel_ingest_log_records_total{outcome="accepted"} 2' in page


@pytest.mark.parametrize(
    "body, content_type, status", [(b"{", JSON, 400), (b"\xff", PROTOBUF, 400), (b"{}", "text/plain", 415), (b"", PROTOBUF, 200)]
)
def test_answers_are_in_the_requests_own_format(server, body, content_type, status):
    response = server.post(body, content_type, path="/v1/logs")
    assert response.status_code == status, response.text
    if content_type != "text/plain":
        assert response.headers["content-type"] == content_type
    assert not list((server.data / "objects").rglob("*.parquet"))
