"""Requests are the bill: what each kind of request costs in storage calls, counted by the server itself."""

import re
import time
from collections import Counter

import pytest
import requests

import otlp
import remote_write
from spandrel import Server


# What merging costs is counted apart, and has a schedule of its own.
WITHOUT_COMPACTION = ("--compact-interval-ms", 0)


@pytest.fixture
def server(tmp_path):
    """A server that makes no storage calls but those of requests."""
    with Server(tmp_path / "data", *WITHOUT_COMPACTION) as server:
        yield server


def values(server, family):
    """The values of a family in `/metrics`, with their labels as dictionaries."""
    text = requests.get(server.http + "/metrics", timeout=10).text
    lines = re.findall(rf"^{family}\{{(.*)\}} (\d+)$", text, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="(.*?)"', labels)), int(n)) for labels, n in lines]


def calls(server):
    """Storage calls so far, by kind, of all functions and tenants together."""
    found = Counter()
    for labels, n in values(server, "spandrel_storage_calls_total"):
        found[labels["call"]] += n
    return found


def cost(server, action):
    """Storage calls of an action, without those that did not happen."""
    before = calls(server)
    action()
    return {kind: n - before[kind] for kind, n in calls(server).items() if n != before[kind]}


def test_an_ingest_request_costs_one_put_and_one_write(server):
    """Names that were seen before and a window that exists: the steady state."""
    first = cost(server, lambda: server.send(otlp.request(service="shop", n_spans=3)))
    print(f"first request of a service: {first}")
    for _ in range(3):
        assert cost(server, lambda: server.send(otlp.request(service="shop", n_spans=3))) == {"object_put": 1, "table_write": 1}

    message = otlp.request(service="shop", n_spans=3)
    server.send(message)
    again = cost(server, lambda: server.send(message))
    print(f"the same request again: {again}")
    assert sum(again.values()) <= 3


def test_queries_cost_few_calls_and_never_list(server):
    messages = [otlp.request(service=f"s{i % 4}", n_spans=5) for i in range(40)]
    server.send(*messages)
    (trace_id,) = otlp.trace_ids(messages[7])
    for name, action, most_gets in [
        ("trace by id", lambda: server.trace_v1(trace_id), 2),
        ("services", lambda: server.services(), 0),
        ("operations", lambda: server.operations("s1"), 0),
        ("search, 1 of 4 services", lambda: server.search(service="s1"), 20),
        ("search, no match", lambda: server.search(service="unknown"), 0),
    ]:
        spent = cost(server, action)
        print(f"{name}: {spent}")
        assert spent.get("object_get", 0) <= most_gets, name
        assert set(spent) <= {"object_get", "table_read"}, name
    assert calls(server)["object_list"] == 0


@pytest.mark.parametrize("door", ["ingest", "query"])
def test_the_log_says_what_a_request_cost(tmp_path, door):
    """One access-log line per request with its tenant and storage calls."""
    with Server(tmp_path / "data", env={"SPANDREL_LOG": "info"}) as server:
        message = otlp.request()
        server.send(message)
        server.trace_v1(otlp.trace_ids(message)[0])
    path = "/v1/traces" if door == "ingest" else "/jaeger/api/traces/"
    (line,) = [line for line in server.log().splitlines() if "spandrel::access" in line and f'path="{path}' in line]
    fields = dict(re.findall(r'(\w+)="?([^" ]*)"?', line))
    assert (fields["function"], fields["tenant"]) == (door, "default"), line
    counts = ("object_puts", "table_write_units") if door == "ingest" else ("object_gets", "table_read_units")
    assert all(int(fields[name]) > 0 for name in counts), line


def read_bytes(server):
    """Bytes read from objects so far."""
    found = values(server, "spandrel_storage_bytes_total")
    return sum(n for labels, n in found if (labels["direction"], labels["store"]) == ("read", "objects"))


def test_metrics_say_which_function_did_it_for_which_tenant(server):
    headers = {"X-Scope-OrgID": "team-a"}
    body = otlp.request(service="shop", n_spans=3).SerializeToString()
    sent = requests.post(server.http + "/v1/traces", body, headers={**headers, "Content-Type": "application/x-protobuf"}, timeout=10)
    assert sent.status_code == 200
    assert requests.get(server.http + "/jaeger/api/services", headers=headers, timeout=10).json()["data"] == ["shop"]
    found = {tuple(labels.values()): n for labels, n in values(server, "spandrel_storage_calls_total")}
    assert found["ingest", "team-a", "object_put"] == 1
    assert found["query", "team-a", "table_read"] >= 1
    assert found["query", "team-a", "object_put"] == 0
    units = {tuple(labels.values()): n for labels, n in values(server, "spandrel_storage_table_units_total")}
    assert units["ingest", "team-a", "write"] >= 2, "the index item, and what the table learns at first"


def test_a_query_costs_what_it_needs_not_what_is_stored(tmp_path):
    """The last hour of a metric, with one day stored and with thirty: the same objects and bytes."""
    now_ms = int(time.time()) * 1000
    minute_ms, day_ms = 60_000, 86_400_000

    def write(server, first_ms, last_ms):
        for start_ms in range(first_ms, last_ms, 15 * minute_ms):
            samples = [(start_ms + i * minute_ms, float(i)) for i in range(15) if start_ms + i * minute_ms <= now_ms]
            series = [({"__name__": f"m{n}", "instance": f"i{i}"}, samples) for n in range(3) for i in range(20)]
            response = remote_write.post(server.prometheus, remote_write.request(series))
            assert response.status_code == 204, response.text

    def ask(server):
        parameters = {"query": "sum(rate(m1[5m]))", "start": now_ms / 1000 - 3600, "end": now_ms / 1000, "step": 60}
        response = requests.get(f"{server.prometheus}/api/v1/query_range", params=parameters, timeout=30).json()
        assert len(response["data"]["result"]) == 1
        return response["data"]["result"][0]["values"]

    found = []
    with Server(tmp_path / "data", *WITHOUT_COMPACTION) as server:
        for first_ms, last_ms in [(now_ms - day_ms, now_ms), (now_ms - 30 * day_ms, now_ms - day_ms)]:
            write(server, first_ms, last_ms)
            before = read_bytes(server)
            spent = cost(server, lambda: found.append(ask(server)))
            found[-1] = (found[-1], spent, read_bytes(server) - before)
    (one_day, spent, n_bytes), (thirty_days, spent_later, n_bytes_later) = found
    print(f"with 1 day: {spent}, {n_bytes} bytes; with 30 days: {spent_later}, {n_bytes_later} bytes")
    assert one_day == thirty_days
    assert spent == spent_later and n_bytes == n_bytes_later
    assert spent["object_get"] <= 8
