"""Our own trace search, page by page, and what is kept of questions: the same answers, fewer reads."""

import time

import requests

import otlp
import remote_write
from spandrel import Server

SECOND_NS = 1_000_000_000
PATH = "/spandrel/api/v1/search/traces"


def page(server, status=200, **params):
    response = requests.get(server.http + PATH, params=params, timeout=60)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def pages(server, between=lambda: None, token=None, **params):
    """The trace ids of all pages, or of those from a token on."""
    found = []
    while True:
        answer = page(server, **params, **({"token": token} if token else {}))
        found += [trace["traceId"] for trace in answer["traces"]]
        token = answer.get("next")
        if token is None:
            return found
        between()


def test_pages_have_each_trace_once_while_more_arrive(tmp_path):
    with Server(tmp_path / "data", "--compact-interval-ms", "100") as server:
        now_ns = otlp.now_ns()
        sent = [otlp.request(n_spans=3, start_ns=now_ns - (30 - i // 3) * SECOND_NS) for i in range(30)]
        server.send(*sent)
        expect = [otlp.trace_ids(message)[0] for message in sent]
        # Newest first, of one start by id.
        expect = [id for start in reversed(range(10)) for id in sorted(expect[3 * start : 3 * start + 3])]
        for limit in [1, 4, 30, 100]:
            found = pages(server, between=lambda: server.send(otlp.request(start_ns=otlp.now_ns())), limit=limit, end=now_ns // 1000)
            assert found == expect, limit
        assert len(pages(server, limit=7, service="nobody")) == 0
        # Without an end, that of the first page counts.
        first = page(server, limit=1)
        newer = otlp.request(start_ns=otlp.now_ns())
        server.send(newer)
        rest = pages(server, limit=100, token=first["next"])
        assert len(rest) == len(set(rest)) > 30
        assert not {first["traces"][0]["traceId"], *otlp.trace_ids(newer)} & set(rest)


def test_a_token_is_for_its_own_search_only(tmp_path):
    with Server(tmp_path / "data") as server:
        server.send(otlp.request(), otlp.request())
        token = page(server, limit=1)["next"]
        assert len(page(server, limit=1, token=token)["traces"]) == 1
        for params in [{"token": token[:-1]}, {"token": token.swapcase()}, {"token": "?"}]:
            error = page(server, status=400, **params)["error"]
            assert error["message"] == "invalid parameter token: it is damaged"
        error = page(server, status=400, token=token, service="shop")["error"]
        assert error["message"] == "invalid parameter token: it belongs to a search with other parameters"


def test_objects_are_read_once_and_found_again_after_a_restart(tmp_path):
    cache = ["--cache-dir", tmp_path / "cache", "--cache-memory-bytes", "1000000"]
    trace = otlp.request(n_spans=5)
    (trace_id,) = otlp.trace_ids(trace)
    gets = {"function": "query", "tenant": "default", "call": "object_get"}
    with Server(tmp_path / "data", *cache, "--compact-interval-ms", "0") as server:
        server.send(trace)
        answers = [server.trace_v3(trace_id) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert server.metric("spandrel_storage_calls_total", **gets) == 1
        assert server.metric("spandrel_object_cache_misses_total") == 1
        assert server.metric("spandrel_object_cache_hits_total", tier="memory") == 2
        deadline = time.monotonic() + 30
        while server.metric("spandrel_object_cache_bytes", tier="disk") == 0:
            assert time.monotonic() < deadline, "nothing was written to the folder"
            time.sleep(0.01)
    with Server(tmp_path / "data", *cache, "--compact-interval-ms", "0") as server:
        assert server.trace_v3(trace_id) == answers[0]
        assert server.metric("spandrel_storage_calls_total", **gets) == 0
        assert server.metric("spandrel_object_cache_hits_total", tier="disk") == 1
    # What is damaged there is read anew.
    (file,) = [path for path in (tmp_path / "cache").rglob("*-*") if path.is_file()]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with Server(tmp_path / "data", *cache, "--compact-interval-ms", "0") as server:
        assert server.trace_v3(trace_id) == answers[0]
        assert server.metric("spandrel_object_cache_misses_total") == 1


def test_a_refreshed_dashboard_evaluates_what_is_new(tmp_path):
    with Server(tmp_path / "data") as server:
        end_s = int(time.time()) // 15 * 15

        def write(first_s, last_s):
            labels = {"__name__": "requests_total", "job": "a"}
            samples = [(s * 1000, float(s)) for s in range(first_s, last_s, 15)]
            response = remote_write.post(server.prometheus, remote_write.request([(labels, samples)]))
            assert response.status_code == 204, response.text

        def ask(end_s, **params):
            params = {"query": "rate(requests_total[1m])", "start": end_s - 3600, "end": end_s, "step": 15, **params}
            response = requests.get(f"{server.prometheus}/api/v1/query_range", params=params, timeout=60)
            data = response.json()["data"]
            return data["result"], data["stats"]["cachedSteps"]

        for minute in range(60):
            write(end_s - 3600 + 60 * minute, end_s - 3600 + 60 * minute + 60)
        first, n_first = ask(end_s, stats="all")
        again, n_again = ask(end_s, stats="all")
        assert (first, n_first) == (again, 0)
        assert 150 < n_again < 241
        write(end_s, end_s + 15)
        later, n_later = ask(end_s + 15, stats="all")
        assert n_later > 150
        # Another lookback is another question, which nothing is kept of.
        plain, n_plain = ask(end_s + 15, stats="all", lookback_delta="301s")
        assert (later, n_plain) == (plain, 0)
        assert server.metric("spandrel_result_cache_steps_total", result="hit") == n_again + n_later
