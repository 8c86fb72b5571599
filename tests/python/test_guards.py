"""What bounds the metrics of a tenant, and how OTLP metrics are named: by flags, each refusal with its reason."""

import time

import pytest
import requests

import remote_write
from spandrel import Server


@pytest.fixture
def start(tmp_path):
    """Starts servers with arguments; each is ended by its id."""
    servers = []

    def start(*arguments):
        server = Server(tmp_path / f"data-{len(servers)}", *arguments)
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.stop()


def values(server, query):
    answer = requests.get(f"{server.prometheus}/api/v1/query", params={"query": query}, timeout=30).json()
    assert answer["status"] == "success", answer
    return {series["metric"].get("n"): float(series["value"][1]) for series in answer["data"]["result"]}


def rejected(server, reason):
    """The count of a reason on the server's own page of metrics."""
    page = requests.get(f"{server.http}/metrics", timeout=30).text
    (line,) = (line for line in page.splitlines() if line.startswith(f'spandrel_ingest_rejected_samples_total{{reason="{reason}"}}'))
    return int(line.split()[-1])


def series(name, at_ms, value=1.0, **labels):
    return {"__name__": "m", "n": name, **labels}, [(at_ms, value)]


def test_samples_too_old_or_too_new_are_left_out_and_said(start):
    server = start("--max-sample-age-ms", 60_000, "--max-sample-future-ms", 60_000)
    now_ms = time.time_ns() // 1_000_000
    body = remote_write.request([series("now", now_ms), series("old", now_ms - 120_000), series("new", now_ms + 120_000)])
    response = remote_write.post(server.prometheus, body)
    assert response.status_code == 400 and "older than allowed" in response.text
    assert response.headers["x-prometheus-remote-write-samples-written"] == "1"
    assert values(server, "m") == {"now": 1}
    assert rejected(server, "time") == 2

    points = [{"timeUnixNano": str(at_ms * 1_000_000), "asInt": "1"} for at_ms in (now_ms, now_ms - 120_000)]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "g", "gauge": {"dataPoints": points}}]}]}]}
    answer = requests.post(f"{server.http}/v1/metrics", json=body, timeout=30)
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1"
    assert "older than allowed" in answer.json()["partialSuccess"]["errorMessage"]


def test_series_over_a_tenants_limit_are_left_out_and_others_go_on(start):
    server = start("--max-series-per-tenant", 2)
    now_ms = time.time_ns() // 1_000_000
    response = remote_write.post(server.prometheus, remote_write.request([series(name, now_ms) for name in "abc"]))
    assert response.status_code == 400 and "2 series" in response.text
    assert response.headers["x-prometheus-remote-write-samples-written"] == "2"
    again = remote_write.request([series("a", now_ms + 1, 2.0), series("b", now_ms + 1, 2.0)])
    assert remote_write.post(server.prometheus, again).status_code == 204
    other = remote_write.request([series(name, now_ms) for name in "xy"])
    assert remote_write.post(server.prometheus, other, **{"X-Scope-OrgID": "other"}).status_code == 204
    assert set(values(server, "last_over_time(m[1m])")) == {"a", "b"}
    assert rejected(server, "series_limit") == 1


def test_labels_over_a_limit_are_left_out(start):
    server = start("--max-labels", 3, "--max-label-value-bytes", 5)
    now_ms = time.time_ns() // 1_000_000
    body = [series("ok", now_ms), series("many", now_ms, a="1", b="2"), series("toolong", now_ms)]
    response = remote_write.post(server.prometheus, remote_write.request(body))
    assert response.status_code == 400 and "more than 3 labels" in response.text
    assert values(server, "m") == {"ok": 1}
    assert rejected(server, "label_limits") == 2


@pytest.mark.parametrize(
    "strategy, name, label",
    [
        ("UnderscoreEscapingWithSuffixes", "http_requests_seconds_total", "url_path"),
        ("UnderscoreEscapingWithoutSuffixes", "http_requests", "url_path"),
        ("NoUTF8EscapingWithSuffixes", "http.requests_seconds_total", "url.path"),
        ("NoTranslation", "http.requests", "url.path"),
    ],
)
def test_names_follow_the_strategy(start, strategy, name, label):
    arguments = ("--otlp.promote-resource-attributes", "cloud.region", "--otlp.promote-scope-metadata")
    server = start("--otlp.translation-strategy", strategy, *arguments)
    attribute = lambda key, text: {"key": key, "value": {"stringValue": text}}
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "7", "attributes": [attribute("url.path", "/cart")]}
    sum_of = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}
    scope = {"name": "lib", "version": "1"}
    metrics = [{"scope": scope, "metrics": [{"name": "http.requests", "unit": "s", "sum": sum_of}]}]
    resource = {"attributes": [attribute("service.name", "shop"), attribute("cloud.region", "r1")]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": metrics}]}
    assert requests.post(f"{server.http}/v1/metrics", json=body, timeout=30).json() == {}
    answer = requests.get(f"{server.prometheus}/api/v1/query", params={"query": f'{{"{name}"}}'}, timeout=30).json()
    (found,) = answer["data"]["result"]
    region = label.replace("url", "cloud").replace("path", "region")
    expected = {"__name__": name, label: "/cart", region: "r1", "job": "shop", "otel_scope_name": "lib", "otel_scope_version": "1"}
    assert found["metric"] == expected and found["value"][1] == "7"


def test_an_unknown_strategy_ends_the_start(tmp_path):
    with pytest.raises(AssertionError, match="NoUTF8EscapingWithSuffixes"):
        Server(tmp_path / "data", "--otlp.translation-strategy", "Mine").start()
