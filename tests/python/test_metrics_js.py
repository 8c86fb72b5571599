"""What the OpenTelemetry JavaScript SDK measures is queried as Prometheus would show it."""

import shutil
import subprocess

import pytest
import requests

from spandrel import ROOT, environment

SCRIPT = ROOT / "tests" / "js" / "metrics.mjs"
NODE = shutil.which("node") or pytest.skip("node is not installed", allow_module_level=True)


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_javascript_sdk_metrics_are_queried(server, encoding, temporality):
    service = f"{encoding}-{temporality}"
    done = subprocess.run(
        [NODE, SCRIPT, encoding, temporality, server.http, service], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr

    def values(query, *names):
        answer = requests.get(f"{server.prometheus}/api/v1/query", params={"query": query}, timeout=30).json()
        assert answer["status"] == "success", answer
        return {tuple(series["metric"].get(name) for name in names): float(series["value"][1]) for series in answer["data"]["result"]}

    of = f'{{job="{service}"}}'
    assert values(f"items_sold_total{of}", "colour") == {("red",): 8, ("blue",): 4}
    assert values(f"stock_level{of}") == {(): 6}
    assert values(f"cpu_utilization_ratio{of}", "core") == {("0",): 0.25}
    assert values(f"bytes_read_total{of}") == {(): 4096}
    name = "http_server_request_duration_seconds"
    assert values(f"{name}_count{of}", "http_route") == {("/cart",): 4}
    buckets = values(f"{name}_bucket{of}", "le")
    assert (buckets[("5",)], buckets[("250",)], buckets[("+Inf",)]) == (3, 4, 4)
    assert values(f"target_info{of}", "host_name") == {("h1",): 1}
