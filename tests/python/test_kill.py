"""`kill -9` under load, ten times: what was acknowledged is there, exactly once."""

import json
import random
import subprocess
import time

import duckdb
import pytest
import requests

import otlp
from load import Crashing, Load, Samples, assert_stored_once
from spandrel import BINARY, environment

N_KILLS = 10


def rows(data, columns):
    """Rows of these columns over all stored files, read by DuckDB; what was merged is there twice for a while."""
    files = data / "objects" / "**" / "*.parquet"
    with duckdb.connect() as database:
        return database.execute(f"SELECT DISTINCT {columns} FROM read_parquet('{files}')").fetchall()


def n_indexed(server):
    """Spans and samples of the files that the index names."""
    return sum(window.n_items for window in server.stored_windows())


@pytest.mark.timeout(240)
def test_ten_kills_under_load_lose_nothing_acknowledged(tmp_path):
    """Senders that repeat a request until it is acknowledged, as exporters do; every field is compared."""
    draw = random.Random(20260101)
    data = tmp_path / "data"
    with Crashing(data) as crashing:
        with Load(crashing.server.http) as load:
            for _ in range(N_KILLS):
                load.wait_for(draw.randrange(50, 300))
                crashing.crash()
            load.wait_for(100)
        messages = load.acknowledged
        print(f"{N_KILLS} kills, {len(messages)} requests acknowledged, {load.n_retries} retries")
        assert len(messages) == len(load.begun), "every request was sent until it was acknowledged"
        assert load.statuses <= {200, 503}, load.statuses
        assert load.n_retries >= N_KILLS, "the kills fell into the load"

        n_spans = assert_stored_once(crashing.server, messages)
        print(f"{n_spans} spans read back by trace id, unchanged")
        assert n_indexed(crashing.server) == n_spans, "no request is stored twice"

    ((n_distinct, n_traces),) = rows(data, "count(DISTINCT (trace_id, span_id)), count(DISTINCT trace_id)")
    print(f"DuckDB: {n_distinct} distinct spans, {n_traces} traces")
    assert (n_distinct, n_traces) == (n_spans, len(messages))
    assert n_spans == len(otlp.records(*messages))


@pytest.mark.timeout(240)
def test_kills_under_the_benchmarks_load(tmp_path):
    """Full batches from `spandrel bench load`, which notes the spans of each request once it is acknowledged."""
    draw = random.Random(7)
    data, record, report = tmp_path / "data", tmp_path / "record", tmp_path / "report"
    with Crashing(data) as crashing, open(report, "wb") as output:
        load = subprocess.Popen(
            [
                str(BINARY),
                *("bench", "load", "--keep-going", "--record", str(record), "--endpoint", crashing.server.http),
                *("--spans-per-request", "200", "--total", "400000", "--seconds", "20"),
            ],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            n_kills = 0
            while load.poll() is None and n_kills < N_KILLS:
                seen = record.stat().st_size if record.exists() else 0
                while load.poll() is None and (record.stat().st_size if record.exists() else 0) == seen:
                    time.sleep(0.01)
                time.sleep(draw.uniform(0.05, 0.4))
                crashing.crash()
                n_kills += 1
            code = load.wait(60)
        finally:
            load.kill()
            load.wait()
        print(report.read_text())
        assert code == 0
        acknowledged = [json.loads(line) for line in record.read_text().splitlines()]
        spans = {tuple(ids) for line in acknowledged for ids in line["spans"]}
        print(f"{n_kills} kills, {len(acknowledged)} requests acknowledged with {len(spans)} spans")
        assert n_kills >= 3 and len(spans) > 10_000

        for trace_id in draw.sample(sorted({trace_id for trace_id, _ in spans}), 200):
            read = otlp.records(crashing.server.trace_v3(trace_id))
            missing = {span for span in spans if span[0] == trace_id} - set(read)
            assert not missing, f"trace {trace_id} lacks {missing}"
        n_spans = n_indexed(crashing.server)

    found = {(trace_id.lower(), span_id.lower()) for trace_id, span_id in rows(data, "hex(trace_id), hex(span_id)")}
    print(f"{n_spans} spans in the index; DuckDB: {len(found)} distinct spans")
    assert spans - found == set()
    assert len(found) == n_spans, "no request is stored twice"


@pytest.mark.timeout(240)
def test_kills_lose_no_acknowledged_sample(tmp_path):
    draw = random.Random(11)
    start_ms = int(time.time()) * 1000 - 60_000
    with Crashing(tmp_path / "data") as crashing:
        samples = Samples(crashing.server.http, start_ms)
        samples.start()
        for _ in range(N_KILLS):
            seen, deadline = samples.n, time.monotonic() + 30
            while samples.n < seen + draw.randrange(5, 60) and samples.wrong is None and time.monotonic() < deadline:
                time.sleep(0.005)
            crashing.crash()
        samples.is_over = True
        samples.join(60)
        assert not samples.is_alive() and samples.wrong is None, samples.wrong
        print(f"{N_KILLS} kills, {samples.n} requests acknowledged, {samples.n_retries} retries")
        assert samples.n > 20 and samples.n_retries > 0
        end_s = (start_ms + samples.n) / 1000
        answer = requests.get(
            f"{crashing.server.http}/prometheus/api/v1/query", params={"query": "x[5m]", "time": end_s}, timeout=60
        ).json()["data"]["result"]
        n_samples = n_indexed(crashing.server)
    assert len(answer) == 20
    for series in answer:
        assert [float(value) for _, value in series["values"]] == [float(n) for n in range(samples.n)]
    assert n_samples == 20 * samples.n, "no request is stored twice"
