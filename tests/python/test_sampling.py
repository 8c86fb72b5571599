"""Head sampling: what the flags say is dropped on arrival, whole traces at a time, and what is kept says its weight."""

import json
import random

import pytest

import otlp
from spandrel import Server

FNV_PRIME = 0x01000193
LOGS = "/v1/logs"


@pytest.fixture
def start(tmp_path):
    """Starts servers with arguments; each is ended by its id."""
    servers = []

    def start(*arguments, **more):
        server = Server(tmp_path / f"data-{len(servers)}", *arguments, **more)
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.stop()


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFF
    return value


def hash_randomness(seed, trace_id):
    """The Collector's 56 bits of a trace in the mode hash_seed, written a second time."""
    value = fnv1a(seed.to_bytes(4, "little") + trace_id)
    bucket, upper = value & 0x3FFF, value >> 18
    return (0x3FFF - bucket) << 42 | (upper ^ upper << 10) << 14 | bucket


def counted(server, name):
    """The value of a counter on the server's own page of metrics."""
    page = server.get("/metrics", base=server.http).text
    (line,) = (line for line in page.splitlines() if line.startswith(name + " "))
    return int(line.split()[-1])


def trace_states(server, trace_id):
    """The distinct tracestates of a stored trace and its number of spans; `None` if nothing of it is stored."""
    response = server.get(f"/api/traces/{trace_id.hex()}")
    if response.status_code == 404:
        return None
    (trace,) = response.json()["data"]
    tags = ({tag["key"]: tag["value"] for tag in span["tags"]} for span in trace["spans"])
    return ({found.get("w3c.tracestate") for found in tags}, len(trace["spans"]))


@pytest.mark.parametrize("seed", [0, 22])
def test_hash_seed_decides_as_the_collector_does(start, seed):
    server = start("--sampling.head-percentage", 25, "--sampling.head-seed", seed)
    draw = random.Random(seed)
    ids = [bytes.fromhex("0102030405060708090a0b0c0d0e0f10"), *(draw.randbytes(16) for _ in range(60))]
    server.send(*(otlp.request(trace_id=trace_id, n_spans=3) for trace_id in ids))
    threshold = 0xC << 52
    n_kept = 0
    for trace_id in ids:
        randomness = hash_randomness(seed, trace_id)
        is_kept = randomness >= threshold
        n_kept += is_kept
        expected = ({f"ot=rv:{randomness:014x};th:c"}, 3) if is_kept else None
        assert trace_states(server, trace_id) == expected
    assert 0 < n_kept < len(ids)
    assert counted(server, 'spandrel_ingest_sampled_out_total{signal="traces"}') == 3 * (len(ids) - n_kept)
    assert counted(server, 'spandrel_ingest_spans_total{outcome="rejected"}') == 0


def test_thresholds_of_an_sdk_are_raised_and_priorities_obeyed(start):
    server = start(env={"SPANDREL_SAMPLING_HEAD_PERCENTAGE": "25", "SPANDREL_SAMPLING_HEAD_MODE": "equalizing"})

    def sent(last_bytes, trace_state="", **values):
        trace_id = otlp.new_trace_id()[:9] + bytes.fromhex(last_bytes)
        message = otlp.request(trace_id=trace_id, values=values)
        message.resource_spans[0].scope_spans[0].spans[0].trace_state = trace_state
        server.send(message)
        return trace_states(server, trace_id)

    assert sent("c0000000000000") == ({"ot=th:c"}, 1)
    assert sent("bfffffffffffff") is None
    assert sent("d0000000000000", "a=1,ot=th:8;x:y, b=2") == ({"ot=th:c;x:y,a=1, b=2"}, 1)
    assert sent("f0000000000000", "ot=th:e") == ({"ot=th:e"}, 1)
    assert sent("00000000000000", "ot=rv:c0000000000000") == ({"ot=rv:c0000000000000;th:c"}, 1)
    assert sent("00000000000000", **{"sampling.priority": 1}) == ({"ot=th:0"}, 1)
    assert sent("ffffffffffffff", **{"sampling.priority": 0}) is None
    assert counted(server, 'spandrel_ingest_sampling_errors_total{signal="traces"}') == 0
    # It was sampled with a threshold that its randomness does not reach.
    assert sent("d0000000000000", "ot=th:e") is None
    assert counted(server, 'spandrel_ingest_sampling_errors_total{signal="traces"}') == 1


def test_log_records_are_sampled_only_if_told(start):
    records = [{"timeUnixNano": str(otlp.now_ns()), "traceId": trace_id} for trace_id in ("f" * 32, "1" * 32, "")]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
    arguments = ("--sampling.head-percentage", 50, "--sampling.head-mode", "proportional")
    for more, n_dropped in ((), 0), (("--sampling.head-logs", "traceID"), 1):
        server = start(*arguments, *more)
        response = server.post(body, "application/json", LOGS)
        assert (response.status_code, response.json()) == (200, {})
        assert counted(server, 'spandrel_ingest_sampled_out_total{signal="logs"}') == n_dropped
        assert counted(server, 'spandrel_ingest_log_records_total{outcome="accepted"}') == 3 - n_dropped


def test_a_percentage_that_is_none_ends_the_start(tmp_path):
    with pytest.raises(AssertionError, match="0 or more"):
        Server(tmp_path / "data", "--sampling.head-percentage", "ten").start()
