"""PromQL against a real Prometheus: the same data, the same generated expressions, the same answers.

SPANDREL_PROMQL_QUERIES says how many expressions, SPANDREL_PROMQL_SEED which.
"""

import math
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

import remote_write
from prometheus import Prometheus
from promql import Expressions, data
from spandrel import Server

N_QUERIES = int(os.environ.get("SPANDREL_PROMQL_QUERIES", "400"))
SEED = int(os.environ.get("SPANDREL_PROMQL_SEED", "1"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Base URLs of Prometheus and of the server, with the same data, and the time of its end in seconds."""
    folder = tmp_path_factory.mktemp("promql")
    end_s = int(time.time()) // 60 * 60
    rounds = data(random.Random(SEED), end_s * 1000)
    with Prometheus(folder / "prometheus") as reference, Server(folder / "data") as server:
        for batch in rounds:
            body = remote_write.request(batch)
            for base in (reference.url, server.prometheus):
                response = remote_write.post(base, body)
                assert response.status_code == 204, response.text
        yield reference.url, server.prometheus, end_s


def ask(base, query, range_of=None, at=None):
    parameters = {"query": query}
    if range_of is None:
        response = requests.post(f"{base}/api/v1/query", data={**parameters, "time": at}, timeout=60)
    else:
        start, end, step = range_of
        response = requests.post(
            f"{base}/api/v1/query_range", data={**parameters, "start": start, "end": end, "step": step}, timeout=60
        )
    return response.json()


def close(a, b):
    """Sums in another order differ in the last bits; what cancels out leaves nothing but such bits."""
    if isinstance(a, dict) or isinstance(b, dict):
        return isinstance(a, dict) and isinstance(b, dict) and same_histogram(a, b)
    a, b = float(a), float(b)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    # Beyond 1e300 the last bit decides between a number and infinity.
    is_huge = min(abs(a), abs(b)) > 1e300 and a * b > 0
    return a == b or is_huge or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def same_histogram(a, b):
    buckets = [[edge for bucket in histogram.get("buckets", []) for edge in bucket] for histogram in (a, b)]
    return (
        close(a["count"], b["count"])
        and close(a["sum"], b["sum"])
        and len(buckets[0]) == len(buckets[1])
        and all(map(close, *buckets))
    )


def values(answer):
    """By labels, by time: the values of any type of result."""
    result, kind = answer["data"]["result"], answer["data"]["resultType"]
    if kind in ("scalar", "string"):
        return {(): {float(result[0]): result[1]}}
    found = {}
    for series in result:
        points = series.get("values", []) + series.get("histograms", [])
        points = points or [series.get("value") or series["histogram"]]
        key = tuple(sorted(series["metric"].items()))
        assert key not in found, f"{key} occurs twice"
        found[key] = {float(at): value for at, value in points}
    return found


def by_time(answer):
    """The values of all series at each time, in order."""
    found = {}
    for points in values(answer).values():
        for at, value in points.items():
            found.setdefault(at, []).append(math.nan if isinstance(value, dict) else float(value))
    return {at: sorted(all_values, key=lambda value: (math.isnan(value), value)) for at, all_values in found.items()}


def same_ranks(expected, got):
    """Which of several equal values a ranking takes is nobody's promise: only the values are compared."""
    expected, got = by_time(expected), by_time(got)
    return expected.keys() == got.keys() and all(
        len(expected[at]) == len(got[at]) and all(map(close, expected[at], got[at])) for at in expected
    )


def difference(query, expected, got):
    """What differs, in words; nothing if nothing does."""
    if expected["status"] != got["status"]:
        return f"status {got['status']} {got.get('error', '')!r}, expected {expected['status']} {expected.get('error', '')!r}"
    if expected["status"] == "error":
        return None if expected["errorType"] == got["errorType"] else f"{got}, expected {expected}"
    if expected["data"]["resultType"] != got["data"]["resultType"]:
        return f"type {got['data']['resultType']}"
    expected_values, got_values = values(expected), values(got)
    if re.search("topk|bottomk", query) and same_ranks(expected, got):
        return None
    if expected_values.keys() != got_values.keys():
        missing = list(expected_values.keys() - got_values.keys())[:3]
        more = list(got_values.keys() - expected_values.keys())[:3]
        return f"series: missing {missing}, too many {more}"
    for key, points in expected_values.items():
        if points.keys() != got_values[key].keys():
            return f"times of {key}: {sorted(points.keys() ^ got_values[key].keys())[:5]}"
        for at, value in points.items():
            if not close(value, got_values[key][at]):
                return f"{key} at {at}: {got_values[key][at]}, expected {value}"
    return None


def remarks(answer):
    return sorted(answer.get("warnings", [])), sorted(answer.get("infos", []))


@pytest.mark.timeout(600)
def test_generated_expressions_have_the_answers_of_prometheus(both):
    reference, server, end_s = both
    draw = random.Random(SEED + 1)
    expressions = Expressions(draw, end_s)
    questions = []
    for _ in range(N_QUERIES):
        query = expressions.expression()
        if draw.random() < 0.5:
            questions.append((query, None, end_s - draw.choice([0, 7, 300, 1800])))
        else:
            step = draw.choice([15, 37, 60, 300])
            end = end_s - draw.choice([0, 13])
            questions.append((query, (end - step * draw.choice([1, 10, 50]), end, step), None))

    def compare(question):
        query, range_of, at = question
        expected, got = ask(reference, query, range_of, at), ask(server, query, range_of, at)
        return difference(query, expected, got), remarks(expected) == remarks(got), expected["status"], expected, got

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(compare, questions))
    different = [(question, outcome[0]) for question, outcome in zip(questions, outcomes) if outcome[0]]
    other_remarks = [
        (question, remarks(outcome[3]), remarks(outcome[4]))
        for question, outcome in zip(questions, outcomes)
        if not outcome[0] and not outcome[1]
    ]
    n_errors = sum(outcome[2] == "error" for outcome in outcomes)
    print(f"{len(questions)} expressions, {n_errors} of them errors, {len(different)} differ, {len(other_remarks)} in remarks only")
    for (query, range_of, at), what in different[:40]:
        print(f"\n{query}\n  at {at or range_of}: {what}")
    for (query, _, _), expected, got in other_remarks[:15]:
        print(f"\nremarks on {query}\n  expected {expected}\n  got      {got}")
    assert not different


def test_expressions_are_parsed_and_printed_as_by_prometheus(both):
    reference, server, end_s = both
    expressions = Expressions(random.Random(SEED + 2), end_s)
    queries = [expressions.expression() for _ in range(N_QUERIES)]
    queries += [
        "",
        "+x - -y",
        "-x ^ 2",
        "--1",
        "+(1 + x)",
        '{"a.b"}',
        '{b="c", "a"}',
        'x{b!~"c",a="\\n"}',
        'sum by ("a.b", c) (x)',
        "x[5m] offset -1w",
        "x @ 1.5",
        "rate(x[5m])[1h:] @ start()",
        "time() % Inf",
        'count_values without () ("a", x)',
        "1e30 - 1e-9",
        "x and on () y",
        "x > bool ignoring (a) group_right (b) y",
        "label_join(x, 'a', 'b', 'c', 'd')",
        "rate(",
        "foo(x)",
    ]
    n_errors = 0
    for query in queries:
        for endpoint in ("parse_query", "format_query"):
            expected, got = (
                requests.post(f"{base}/api/v1/{endpoint}", data={"query": query}, timeout=60).json()
                for base in (reference, server)
            )
            assert got == expected, f"{endpoint} of {query}"
            n_errors += expected["status"] == "error"
    assert 0 < n_errors < len(queries)
