"""The Jaeger query API, v1 and v3, as the Jaeger UI and Grafana's data source call it."""

import json
from datetime import datetime, timedelta, timezone

import pytest
import requests

import jaeger
import otlp
from spandrel import Server, v3_result

SECOND_NS = 1_000_000_000
ENVELOPE = {"data", "total", "limit", "offset", "errors"}


def rfc3339(ns):
    """RFC 3339 with nanoseconds, as the UI writes it."""
    seconds = datetime.fromtimestamp(ns // SECOND_NS, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{ns % SECOND_NS:09}Z"


class Shop:
    """Twelve traces of three services, one second apart, the newest last."""

    def __init__(self):
        self.now_ns = otlp.now_ns() // SECOND_NS * SECOND_NS
        self.requests = []
        for i in range(12):
            message = otlp.request(
                service=["cart", "checkout", "pay/ment ü"][i % 3],
                n_spans=1 + i,
                name=["GET /cart", "POST /order", "charge"][i % 3],
                kind=[2, 3, 0][i % 3],
                start_ns=self.now_ns - (60 - i) * SECOND_NS,
                duration_ns=(i + 1) * 10_000_000,
                values={"http.status_code": 500 if i == 4 else 200, "user.id": f"u{i}", "cached": i % 2 == 0, "ratio": 0.5, "url": f"http://h:80/{i}"},
                status=2 if i == 4 else 0,
            )
            self.requests.append(message)
        self.trace_ids = [otlp.trace_ids(message)[0] for message in self.requests]

    def newest_first(self, *positions):
        return [self.trace_ids[i] for i in sorted(positions, reverse=True)]


@pytest.fixture(scope="module")
def shop():
    return Shop()


@pytest.fixture(scope="module")
def server(tmp_path_factory, shop):
    """One server for this file; its tests only read."""
    with Server(tmp_path_factory.mktemp("jaeger") / "data") as running:
        running.send(*shop.requests)
        yield running


def ids(traces):
    return [trace["traceID"] for trace in traces]


def test_envelope(server):
    for path in ["/api/services", "/api/services/cart/operations", "/api/operations?service=cart", "/api/traces?service=cart"]:
        response = server.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/json")
        body = response.json()
        assert set(body) == ENVELOPE
        assert (body["limit"], body["offset"], body["errors"]) == (0, 0, None)
        assert body["total"] == (0 if "traces" in path else len(body["data"]))
    pretty = server.get("/api/services", prettyPrint="true").text
    assert '\n    "data"' in pretty


def test_services(server):
    assert sorted(server.services()) == ["cart", "checkout", "pay/ment ü"]


def test_the_classical_port_serves_the_same(server):
    response = server.get("/api/services", base=server.jaeger)
    assert sorted(response.json()["data"]) == ["cart", "checkout", "pay/ment ü"]


def test_operations_are_unique_names(server):
    names = server.operations("cart")
    assert sorted(names) == sorted({"GET /cart", *(f"step {i}" for i in range(1, 10))})
    assert server.operations("unknown") == []


def test_operations_of_a_service_with_a_slash(server):
    """The UI sends the name percent-encoded, Grafana sends it raw."""
    expected = sorted({"charge", *(f"step {i}" for i in range(1, 12))})
    for name in ["pay%2Fment%20%C3%BC", "pay%2Fment+%C3%BC", "pay/ment%20%C3%BC"]:
        assert sorted(server.data_of(f"/api/services/{name}/operations")) == expected, name


def test_operations_with_kind(server):
    found = server.data_of("/api/operations", service="cart")
    assert {(entry["name"], entry["spanKind"]) for entry in found} >= {("GET /cart", "server"), ("step 1", "internal")}
    assert all(set(entry) == {"name", "spanKind"} for entry in found)
    found = server.data_of("/api/operations", service="cart", spanKind="server")
    assert found == [{"name": "GET /cart", "spanKind": "server"}]
    response = server.get("/api/operations")
    assert_error(response, 400, "parameter 'service' is required")


def assert_error(response, status, *words):
    """The v1 error envelope, written the way Go's http.Error does."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].lower().replace(" ", "") == "text/plain;charset=utf-8"
    assert response.text.endswith("\n")
    body = response.json()
    assert body["data"] is None
    (error,) = body["errors"]
    assert error["code"] == status
    for word in words:
        assert word in error["msg"], error


@pytest.mark.parametrize(
    "params, positions",
    [
        ({"service": "cart"}, [0, 3, 6, 9]),
        ({"service": "pay/ment ü"}, [2, 5, 8, 11]),
        ({"service": "unknown"}, []),
        ({"service": "cart", "operation": "GET /cart"}, [0, 3, 6, 9]),
        ({"service": "cart", "operation": "get /cart"}, []),
        ({"service": "cart", "operation": "step 7"}, [9]),
        ({"service": "cart", "limit": "2"}, [6, 9]),
        ({"service": "checkout", "tags": '{"http.status_code":"500"}'}, [4]),
        ({"service": "checkout", "tags": '{"error":"true"}'}, [4]),
        ({"service": "checkout", "tag": "error:true"}, [4]),
        ({"service": "checkout", "tags": '{"otel.status_code":"ERROR"}'}, [4]),
        ({"service": "cart", "tags": '{"user.id":"u6"}'}, [6]),
        ({"service": "cart", "tag": "user.id:u6"}, [6]),
        ({"service": "cart", "tag": ["user.id:u6", "cached:true"]}, [6]),
        ({"service": "cart", "tag": ["user.id:u6", "cached:false"]}, []),
        ({"service": "cart", "tag": "url:http://h:80/3"}, [3]),
        ({"service": "cart", "tags": '{"ratio":"0.5","cached":"false"}'}, [3, 9]),
        ({"service": "cart", "tags": ['{"cached":"true"}', '{"user.id":"u0"}']}, [0]),
        ({"service": "cart", "tags": '{"span.kind":"server"}'}, [0, 3, 6, 9]),
        ({"service": "cart", "tags": '{"no.such.key":"x"}'}, []),
        ({"service": "cart", "minDuration": "65ms"}, [6, 9]),
        ({"service": "cart", "maxDuration": "0.065s"}, [0, 3]),
        ({"service": "cart", "minDuration": "40ms", "maxDuration": "70000us"}, [3, 6]),
        ({"service": "cart", "minDuration": "1m40.5s"}, []),
        ({"service": "cart", "lookback": "1h", "limit": "20", "maxDuration": "", "minDuration": ""}, [0, 3, 6, 9]),
    ],
)
def test_search(server, shop, params, positions):
    """Newest first, whole traces, filters as both clients send them."""
    found = server.search(**params)
    assert ids(found) == shop.newest_first(*positions)
    for trace in found:
        position = shop.trace_ids.index(trace["traceID"])
        assert len(trace["spans"]) == 1 + position, "a found trace has all of its spans"
        jaeger.assert_shows(trace, otlp.records(shop.requests[position]))


@pytest.mark.parametrize(
    "start_s, end_s, positions",
    [(-60, 0, [0, 3, 6, 9]), (-58, -54, [3, 6]), (-57, -57, [3]), (-30, 0, []), (-3600, -61, [])],
)
def test_search_by_time(server, shop, start_s, end_s, positions):
    """`start` and `end` in microseconds, both included."""
    start, end = ((shop.now_ns + offset * SECOND_NS) // 1000 for offset in (start_s, end_s))
    assert ids(server.search(service="cart", start=start, end=end)) == shop.newest_first(*positions)


def test_search_by_id_reports_what_is_missing(server, shop):
    missing = "f" * 32
    response = server.get("/api/traces", traceID=[shop.trace_ids[3], missing, shop.trace_ids[4].upper()])
    assert response.status_code == 200
    body = response.json()
    assert sorted(ids(body["data"])) == sorted([shop.trace_ids[3], shop.trace_ids[4]])
    assert [(error["msg"], error["traceID"]) for error in body["errors"]] == [("trace not found", missing)]


@pytest.mark.parametrize(
    "query, words",
    [
        ("", ["service"]),
        ("service=cart&minDuration=5", ["minDuration"]),
        ("service=cart&minDuration=2s&maxDuration=1s", ["'maxDuration' should be greater than 'minDuration'"]),
        ("service=cart&limit=x", ['"x"']),
        ("service=cart&start=x", ["start"]),
        ("service=cart&tag=novalue", []),
        ("service=cart&tags=%7B%22a%22:1%7D", []),
        ("service=cart&tags=nojson", []),
        ("traceID=xyz", []),
    ],
)
def test_bad_search_parameters_are_named(server, query, words):
    assert_error(server.get(f"/api/traces?{query}"), 400, *words)


def test_trace_by_id(server, shop):
    for position in (0, 4, 11):
        n_values = jaeger.assert_shows(server.trace_v1(shop.trace_ids[position]), otlp.records(shop.requests[position]))
        print(f"trace {position}: {n_values} values")
    assert ids([server.trace_v1(shop.trace_ids[3].upper())]) == [shop.trace_ids[3]]


def test_time_hints_of_a_lookup_may_be_in_either_unit(server, shop):
    """Grafana sends milliseconds, the UI microseconds."""
    start_us, end_us = shop.now_ns // 1000 - 3_600_000_000, shop.now_ns // 1000
    for divisor in (1, 1000):
        query = f"/api/traces/{shop.trace_ids[3]}?start={start_us // divisor}&end={end_us // divisor}"
        assert len(server.data_of(query)) == 1


@pytest.mark.parametrize("trace_id", ["f" * 32, "1", "abcdef0123456789"])
def test_an_unknown_trace_is_not_found(server, trace_id):
    assert_error(server.get(f"/api/traces/{trace_id}"), 404, "trace not found")
    response = server.get(f"/api/v3/traces/{trace_id}")
    assert response.status_code == 404
    assert response.json()["error"]["httpCode"] == 404
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("trace_id", ["xyz", "g" * 32, "a" * 33, "0" * 32])
def test_a_malformed_id_is_a_bad_request(server, trace_id):
    assert server.get(f"/api/traces/{trace_id}").status_code in (400, 404)
    response = server.get(f"/api/v3/traces/{trace_id}")
    assert response.status_code in (400, 404)
    assert response.json()["error"]["httpCode"] == response.status_code


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api/services/cart", "/api/v3/nothing", "/api/traces/a/b"])
def test_unknown_api_paths_are_plain_404(server, path):
    response = server.get(path)
    assert response.status_code == 404
    assert "html" not in response.headers.get("content-type", "")


def test_short_ids_are_padded_and_shown_short(tmp_path):
    with Server(tmp_path / "data") as server:
        message = otlp.request(service="old", trace_id=b"\0" * 8 + b"\x0a\xbc\xde\xf0\x12\x34\x56\x78")
        server.send(message)
        for form in ["abcdef012345678", "0abcdef012345678", "0" * 16 + "0ABCDEF012345678"]:
            jaeger.assert_shows(server.trace_v1(form), otlp.records(message))
        assert ids(server.search(service="old")) == ["0abcdef012345678"]
        otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3("abcdef012345678")))
        (summary,) = server.get("/api/v3/trace-summaries", **window(otlp.now_ns())).json()["summaries"]
        assert summary["traceId"] == "0" * 16 + "0abcdef012345678"


def window(now_ns, seconds=3600):
    """The two times that a v3 search needs."""
    return {"query.startTimeMin": rfc3339(now_ns - seconds * SECOND_NS), "query.startTimeMax": rfc3339(now_ns)}


def test_v3_services_and_operations(server):
    body = server.get("/api/v3/services").json()
    assert sorted(body["services"]) == ["cart", "checkout", "pay/ment ü"]
    body = server.get("/api/v3/operations", service="cart").json()
    assert {"name": "GET /cart", "spanKind": "server"} in body["operations"]
    for key in ("spanKind", "span_kind"):
        body = server.get("/api/v3/operations", service="cart", **{key: "server"}).json()
        assert body["operations"] == [{"name": "GET /cart", "spanKind": "server"}]
    kinds = {entry["spanKind"] for entry in server.get("/api/v3/operations", service="pay/ment ü").json()["operations"]}
    assert kinds == {"internal"}, "a kind that is not there is reported as internal"


def test_v3_services_of_an_empty_store_is_an_empty_list(tmp_path):
    with Server(tmp_path / "data") as server:
        assert server.get("/api/v3/services").json() == {"services": []}
        assert server.services() == []
        assert server.search(service="x") == []
        response = server.get("/api/v3/traces", **window(otlp.now_ns()))
        assert (response.status_code, response.json()["error"]["message"]) == (404, "No traces found")
        assert server.get("/api/v3/trace-summaries", **window(otlp.now_ns())).json() == {"summaries": []}
        assert server.data_of("/api/dependencies") == []


@pytest.mark.parametrize(
    "query, positions",
    [
        ({"query.serviceName": "cart"}, [0, 3, 6, 9]),
        ({}, list(range(12))),
        ({"query.serviceName": "cart", "query.operationName": "step 7"}, [9]),
        ({"query.serviceName": "checkout", "query.attributes": '{"http.status_code":"500"}'}, [4]),
        ({"query.attributes": '{"error":"true"}'}, [4]),
        ({"query.serviceName": "cart", "query.durationMin": "65ms"}, [6, 9]),
        ({"query.service_name": "cart", "query.duration_max": "65ms"}, [0, 3]),
        ({"query.serviceName": "cart", "query.searchDepth": "2"}, [6, 9]),
        ({"query.serviceName": "cart", "query.num_traces": "2"}, [6, 9]),
    ],
)
def test_v3_search(server, shop, query, positions):
    query = {**window(shop.now_ns), **query}
    response = server.get("/api/v3/traces", **query)
    assert response.status_code == 200, response.text
    expected = otlp.records(*(shop.requests[i] for i in positions))
    otlp.assert_same(expected, otlp.records(v3_result(response)))

    summaries = server.get("/api/v3/trace-summaries", **query).json()["summaries"]
    assert [summary["traceId"] for summary in summaries] == shop.newest_first(*positions)
    for summary in summaries:
        position = shop.trace_ids.index(summary["traceId"])
        start_ns = shop.now_ns - (60 - position) * SECOND_NS
        service = ["cart", "checkout", "pay/ment ü"][position % 3]
        n_errors = 1 if position == 4 else 0
        assert summary["rootServiceName"] == service
        assert summary["rootOperationName"] == ["GET /cart", "POST /order", "charge"][position % 3]
        assert summary["minStartTimeUnixNano"] == str(start_ns)
        assert summary["maxEndTimeUnixNano"] == str(start_ns + position * 1000 + (position + 1) * 10_000_000)
        assert (summary["spanCount"], summary.get("errorSpanCount", 0)) == (position + 1, n_errors)
        assert summary.get("orphanSpanCount", 0) == 0
        (named,) = summary["services"]
        assert (named["name"], named["spanCount"], named.get("errorSpanCount", 0)) == (service, position + 1, n_errors)


def test_v3_times_may_have_a_plus_that_was_not_escaped(server, shop):
    """Grafana writes `+02:00` raw into the query, where it decodes to a space."""
    zone = timezone(timedelta(hours=2))
    start, end = (datetime.fromtimestamp(shop.now_ns / 1e9 + s, zone).isoformat() for s in (-3600, 1))
    query = f"query.serviceName=cart&query.startTimeMin={start}&query.startTimeMax={end}"
    assert requests.get(f"{server.http}/jaeger/api/v3/traces?{query}", timeout=30).status_code == 200
    assert server.get(f"/api/v3/traces/{shop.trace_ids[0]}?startTime={start}&endTime={end}").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "query.serviceName=cart",
        "query.startTimeMin=2026-01-01T00:00:00Z",
        "query.startTimeMin=x&query.startTimeMax=y",
        "query.startTimeMin=2026-01-02T00:00:00Z&query.startTimeMax=2026-01-01T00:00:00Z",
        "query.startTimeMin=2026-01-01T00:00:00Z&query.startTimeMax=2026-01-02T00:00:00Z&query.durationMin=x",
        "query.startTimeMin=2026-01-01T00:00:00Z&query.startTimeMax=2026-01-02T00:00:00Z&query.attributes=x",
    ],
)
def test_v3_bad_parameters_are_named(server, query):
    for path in ("traces", "trace-summaries"):
        response = server.get(f"/api/v3/{path}?{query}")
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["httpCode"] == 400 and "query." in error["message"], error


def test_dependencies(tmp_path):
    """Calls between services, from spans whose parent belongs to another service, also across files."""
    now_ns = otlp.now_ns()
    with Server(tmp_path / "data") as server:
        for i in range(3):
            trace_id = otlp.new_trace_id()
            edge, back, db = otlp.span_ids(trace_id, 3)
            parts = [("front", edge, b"", 3), ("back", back, edge, 2), ("db", db, back, 2)]
            for service, span_id, parent, kind in parts[: 2 + i % 2]:
                message = otlp.request(service=service, trace_id=trace_id, kind=kind, start_ns=now_ns - 10 * SECOND_NS)
                span = message.resource_spans[0].scope_spans[0].spans[0]
                span.span_id, span.parent_span_id = span_id, parent
                server.send(message)

        def links(**params):
            found = server.data_of("/api/dependencies", **params)
            assert all(set(link) <= {"parent", "child", "callCount", "source"} for link in found), found
            return {(link["parent"], link["child"]): link["callCount"] for link in found}

        expected = {("front", "back"): 3, ("back", "db"): 1}
        now_ms = now_ns // 1_000_000
        assert links() == expected
        assert links(endTs=now_ms, lookback=604_800_000) == expected
        assert links(endTs=now_ms, lookback=3_600_000, service="db") == {("back", "db"): 1}
        assert links(endTs=now_ms - 3_600_000, lookback=60_000) == {}
        assert_error(server.get("/api/dependencies", endTs="x"), 400)


def test_a_trace_over_many_files_is_complete(tmp_path):
    """One trace in 120 requests of three services, hours apart; and each of 40 others in between."""
    now_ns = otlp.now_ns()
    trace_id = otlp.new_trace_id()
    span_ids = otlp.span_ids(trace_id, 120)
    with Server(tmp_path / "data") as server:
        parts = []
        for i, span_id in enumerate(span_ids):
            message = otlp.request(
                service=f"s{i % 3}", trace_id=trace_id, start_ns=now_ns - i * 300 * SECOND_NS, name=f"part {i}"
            )
            span = message.resource_spans[0].scope_spans[0].spans[0]
            span.span_id, span.parent_span_id = span_id, b"" if i == 0 else span_ids[0]
            parts.append(message)
            server.send(message)
            if i % 3 == 0:
                server.send(otlp.request(service="noise", start_ns=now_ns - i * 300 * SECOND_NS))
        n_fields = otlp.assert_same(otlp.records(*parts), otlp.records(server.trace_v3(trace_id.hex())))
        print(f"120 files: {n_fields} fields equal")
        jaeger.assert_shows(server.trace_v1(trace_id.hex()), otlp.records(*parts))
        (found,) = server.search(service="s1", start=(now_ns - 3600 * SECOND_NS) // 1000, end=now_ns // 1000)
        assert len(found["spans"]) == 120, "search returns the whole trace, also what lies outside its time range"

    with Server(tmp_path / "data") as server:
        assert len(server.trace_v1(trace_id.hex())["spans"]) == 120, "and after a restart"


def test_spans_sent_twice_appear_once(tmp_path):
    """The same request again, the same spans in another batch, compressed otherwise, and as JSON."""
    message = otlp.request(service="twice", n_spans=5)
    sent = otlp.records(message)
    (trace_id,) = otlp.trace_ids(message)
    body = message.SerializeToString()
    with Server(tmp_path / "data") as server:
        server.send(message)
        n_files = len(server.stored_files())
        server.send(message)
        assert server.post(otlp.gzipped(body), Content_Encoding="gzip").status_code == 200
        assert len(server.stored_files()) == n_files, "the same body is stored once, however it was compressed"

        halves = [otlp.ExportTraceServiceRequest.FromString(body) for _ in range(2)]
        del halves[0].resource_spans[0].scope_spans[0].spans[3:]
        del halves[1].resource_spans[0].scope_spans[0].spans[:2]
        mixed = otlp.request(service="other")
        mixed.resource_spans.extend(message.resource_spans)
        server.send(*halves, mixed)
        assert server.post(otlp.json_text(message), "application/json").status_code == 200

        otlp.assert_same(sent, otlp.records(server.trace_v3(trace_id)))
        jaeger.assert_shows(server.trace_v1(trace_id), sent)
        (found,) = server.search(service="twice")
        assert len(found["spans"]) == 5
        (summary,) = [
            entry
            for entry in server.get("/api/v3/trace-summaries", **window(otlp.now_ns())).json()["summaries"]
            if entry["traceId"] == trace_id
        ]
        assert summary["spanCount"] == 5


def test_equal_ids_with_other_content_are_both_shown(tmp_path):
    """A client and its server may share a span id (Zipkin style): neither may vanish."""
    message = otlp.request(service="client", kind=3)
    other = otlp.ExportTraceServiceRequest.FromString(message.SerializeToString())
    other.resource_spans[0].resource.attributes[0].value.string_value = "server"
    other.resource_spans[0].scope_spans[0].spans[0].kind = 2
    (trace_id,) = otlp.trace_ids(message)
    with Server(tmp_path / "data") as server:
        server.send(message, other)
        groups = json.loads(server.get(f"/api/v3/traces/{trace_id}").content)["result"]["resourceSpans"]
        n_spans = sum(len(scope["spans"]) for group in groups for scope in group["scopeSpans"])
        assert n_spans == 2


def test_transform_shows_an_uploaded_file(server, shop):
    """The UI's upload of an OTLP JSON file."""
    message = shop.requests[5]
    response = requests.post(server.http + "/jaeger/api/transform", data=otlp.json_text(message), timeout=30)
    assert response.status_code == 200, response.text
    (trace,) = response.json()["data"]
    jaeger.assert_shows(trace, otlp.records(message))
    assert requests.post(server.http + "/jaeger/api/transform", data=b"nonsense", timeout=30).status_code == 400


def test_metrics_are_said_not_to_be_configured(server):
    """The UI hides its Monitor tab on 501."""
    for name in ("latencies?service=cart&quantile=0.95", "calls?service=cart", "errors?service=cart"):
        assert server.get(f"/api/metrics/{name}").status_code == 501
