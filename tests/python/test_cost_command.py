"""`spandrel cost`: what is stored, planned and logged, in dollars, compared with the server's own counts."""

import json
import subprocess

import pytest
import requests

import otlp
from spandrel import BINARY, Server, environment

PUT, WRITE_UNIT, INVOCATION = 5.00e-6, 0.625e-6, 0.20e-6


def cost(*arguments, stdin=""):
    """The JSON that the command prints."""
    command = [str(BINARY), "cost", *map(str, arguments), "--json"]
    done = subprocess.run(command, input=stdin, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_and_its_log_cost_what_was_counted(tmp_path):
    n_requests, n_spans = 5, 7
    with Server(tmp_path / "data", env={"SPANDREL_LOG_STYLE": "json"}) as server:
        server.send(*[otlp.request(service="shop", n_spans=n_spans) for _ in range(n_requests)])
        assert requests.get(server.http + "/jaeger/api/services", timeout=10).json()["data"] == ["shop"]
        metrics = requests.get(server.http + "/metrics", timeout=10).text
    (units,) = [
        int(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith('spandrel_storage_table_units_total{function="ingest",tenant="default",unit="write"}')
    ]

    (part,) = cost("data", "--data", tmp_path / "data")["parts"]
    assert (part["signal"], part["level"], part["files"], part["items"]) == ("traces", 0, n_requests, n_requests * n_spans)
    assert part["made"]["object_puts"] == part["made"]["write_units"] == n_requests
    at_least = n_requests * (PUT + WRITE_UNIT + INVOCATION)
    assert at_least < part["dollars_to_make"] < 2 * at_least

    log = cost("logs", "--memory-mb", 0, stdin=server.log())
    parts = {(part["function"], part["tenant"]): part for part in log["parts"]}
    ingest = parts["ingest", "default"]
    assert (ingest["requests"], ingest["billed"]["object_puts"]) == (n_requests, n_requests)
    assert ingest["billed"]["write_units"] == units
    assert ingest["dollars"] == pytest.approx(n_requests * PUT + units * WRITE_UNIT + ingest["billed"]["read_units"] * 0.125e-6)
    assert parts["query", "default"]["requests"] == 1


def test_a_plan_keeps_the_goals():
    for per_request, most in [(2048, 0.006), (512, 0.02)]:
        plan = cost("plan", "--spans-per-second", 1000, "--spans-per-request", per_request, "--retention-days", 30)
        print(f"{per_request} a request: {plan['dollars_per_million']['spans']}")
        assert plan["dollars_per_million"]["spans"] <= most
    assert plan["dollars_per_idle_month"] <= 1


def test_limits_are_inside_or_named():
    rates = cost("scale")["rates"]
    outside = [[verdict["limit"] for verdict in rate["verdicts"] if not verdict["is_inside"]] for rate in rates]
    assert outside[0] == []
    assert outside[1] == []
    assert "requests of a prefix" in outside[2]
    assert all(verdict["needs"] for rate in rates for verdict in rate["verdicts"])


def test_tables_are_for_people_and_bad_arguments_are_refused():
    table = subprocess.run([str(BINARY), "cost", "plan"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "a month when nothing arrives" in table
    for bad in [["plan", "--spans-per-second", "-1"], ["plan", "--spans-per-request", "0"], ["logs", "/nothing"], []]:
        done = subprocess.run([str(BINARY), "cost", *bad], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "panicked" not in done.stderr, bad
