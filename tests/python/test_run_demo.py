"""The first minute: what the server prints, its first page, its health, and the demo's telemetry."""

import re
import time

import pytest
import requests

from spandrel import Server


def test_start_says_where_to_point_what(server):
    text = server.log()
    print(text)
    assert re.search(r"listening http=127\.0\.0\.1:\d+ jaeger=127\.0\.0\.1:\d+ prometheus=127\.0\.0\.1:\d+", text)
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={server.http}" in text
    assert f"{server.http}/jaeger" in text, "where to point Grafana's Jaeger data source"
    assert f"{server.http}/prometheus" in text, "where to point Grafana's Prometheus data source"
    assert "Grafana" in text
    assert str(server.data) in text


def test_first_page_tells_the_same(server):
    response = requests.get(server.http + "/", headers={"Accept": "text/html"}, timeout=10)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    for word in ["Spandrel", "OTEL_EXPORTER_OTLP_ENDPOINT", "/jaeger", "Grafana"]:
        assert word in response.text, word
    assert requests.get(server.http + "/nothing", timeout=10).status_code == 404


def test_health_and_metrics(server):
    for path in ("/-/healthy", "/-/ready"):
        assert requests.get(server.http + path, timeout=10).status_code == 200, path
    response = requests.get(server.http + "/metrics", timeout=10)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    names = {line.split("{")[0].split(" ")[0] for line in response.text.splitlines() if line and not line.startswith("#")}
    assert any(name.startswith("spandrel_") for name in names), names


def test_health_port(tmp_path):
    server = Server(tmp_path / "data")
    at = server.command.index("--listen.health")
    server.command[at + 1] = "127.0.0.1:0"
    with server:
        address = server.addresses()["health"]
        assert requests.get(f"http://{address}/", timeout=10).status_code == 200


@pytest.mark.timeout(60)
def test_demo_shows_a_shop_of_services_within_seconds(tmp_path):
    started = time.monotonic()
    with Server(tmp_path / "data", "--demo") as server:
        while len(services := server.services()) < 4 and time.monotonic() < started + 20:
            time.sleep(0.2)
        print(f"{services} after {time.monotonic() - started:.1f} s")
        assert len(services) >= 4, services

        def look():
            traces = [trace for service in server.services() for trace in server.search(service=service, limit=20)]
            widest = max(len({p["serviceName"] for p in trace["processes"].values()}) for trace in traces)
            spans = {span["spanID"]: span for trace in traces for span in trace["spans"]}
            failed = any(tag["key"] == "error" for span in spans.values() for tag in span["tags"])
            return widest, len(spans), failed

        # A trace is sent as its spans end, over a few requests of one second each.
        while (seen := look()) and not (seen[0] >= 3 and seen[1] > 20 and seen[2]) and time.monotonic() < started + 25:
            time.sleep(0.5)
        widest, n_spans, failed = seen
        assert widest >= 3 and n_spans > 20, seen
        assert failed, "some things fail in every shop"
        query = {"query": "count(rate(http_server_requests_total[1m]))"}
        rates = requests.get(f"{server.prometheus}/api/v1/query", params=query, timeout=10).json()["data"]["result"]
        assert float(rates[0]["value"][1]) > 1_000, "dashboards have something to show at once"
        while not server.data_of("/api/dependencies") and time.monotonic() < started + 40:
            time.sleep(0.2)
        assert len(server.data_of("/api/dependencies")) >= 3
