"""Small files become large ones: no answer changes, nothing is lost or doubled, also when a server dies at it."""

import json
import random
import re
import shutil
import subprocess
import threading
import time

import duckdb
import pytest
import requests

import otlp
import remote_write
from load import Crashing, Load, Samples, assert_stored_once
from remote_write import STALE, Exemplar, Histogram
from spandrel import BINARY, JSON, Server, environment, run, stored_windows

SECOND_NS = 1_000_000_000
HOUR_S, DAY_S = 3600, 86_400
NEVER = ("--compact-interval-ms", 0)
OTHER = {"X-Scope-OrgID": "other"}


def settled_s():
    """Midnight two days ago: no hour of that day is open any more, and neither is the day."""
    return int(time.time()) // DAY_S * DAY_S - 2 * DAY_S


def compact(data, **variables):
    """One pass over all windows as if no more came; what it did."""
    report = json.loads(run("compact", "--data", data, "--everything", "--json", **variables))
    assert report["failed"] == report["held"] == report["forestalled"] == 0, report
    return report


def wait_until(condition, seconds=30):
    """Asks again and again, until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


class Story:
    """What was sent, by whom and when: three services over three hours of a day and one of the next, and their metrics."""

    def __init__(self):
        draw = random.Random(20260203)
        self.start_s = settled_s()
        self.end_s = self.start_s + DAY_S + HOUR_S
        self.traces = []
        for i in range(48):
            start_s = self.start_s + (i % 3) * HOUR_S + i * 60 + (DAY_S if i % 8 == 7 else 0)
            message = otlp.request(
                service=f"service-{i % 3}",
                trace_id=b"\x01" + draw.randbytes(15),
                n_spans=1 + i % 5,
                name=draw.choice(["GET /cart", "POST /cart", "GET /item"]),
                kind=2 + i % 2,
                start_ns=start_s * SECOND_NS + draw.randrange(SECOND_NS),
                duration_ns=draw.randrange(1_000, 2 * SECOND_NS),
                values={"user": f"u{i % 7}", "http.status_code": 200 + i, "ok": i % 2 == 0, "ratio": i / 4, "list": [i, "x"]},
                resource={"host.name": f"h{i % 4}"},
                status=2 if i % 6 == 0 else 0,
            )
            span = message.resource_spans[0].scope_spans[0].spans[0]
            if i % 4 == 0:
                span.events.add(time_unix_nano=span.start_time_unix_nano + 5, name="retry").attributes.extend(otlp.attributes({"n": i}))
                span.links.add(trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8)
            self.traces.append(message)
        # Spans that come again in other company, and a client and a server that share a span's id.
        self.repeats = []
        for i in range(0, 40, 8):
            both = otlp.ExportTraceServiceRequest()
            both.MergeFrom(self.traces[i])
            both.MergeFrom(self.traces[i + 3])
            self.repeats.append(both)
        self.shared = otlp.ExportTraceServiceRequest.FromString(self.traces[20].SerializeToString())
        self.shared.resource_spans[0].resource.attributes[0].value.string_value = "twin"
        self.shared.resource_spans[0].scope_spans[0].spans[0].kind = 4
        # One trace over many files, hours and services.
        self.long_id = b"\x02" + draw.randbytes(15)
        self.long, parent = [], b""
        for i, span_id in enumerate(otlp.span_ids(self.long_id, 9)):
            start_ns = (self.start_s + i * HOUR_S // 4) * SECOND_NS
            message = otlp.request(service=f"service-{i % 3}", trace_id=self.long_id, start_ns=start_ns, name=f"part {i}")
            span = message.resource_spans[0].scope_spans[0].spans[0]
            span.span_id, span.parent_span_id = span_id, parent
            parent = span_id
            self.long.append(message)
        self.spans = {*otlp.records(*self.traces), *otlp.records(*self.long)}
        self.n_rows = len(self.spans) + 1
        self.logs = [self.log_records(n) for n in range(24)]
        self.n_records = sum(1 + n % 7 for n in range(24))
        self.minutes = [*range(90), 400, 401, *range(DAY_S // 60, DAY_S // 60 + 5)]

    def samples(self, minute):
        """The series of one minute's request."""
        at_ms = (self.start_s + minute * 60) * 1000
        series = [({"__name__": "up", "job": f"j{n}"}, [(at_ms, float(n + minute % 3))]) for n in range(4)]
        for n in range(3):
            exemplar = (at_ms, Exemplar({"trace_id": f"{minute:032x}"}, 0.5 + n))
            series.append(({"__name__": "requests_total", "job": f"j{n}", "path": "/ä"}, [(at_ms, minute * (n + 1.5)), exemplar]))
        counts = [minute % 5, 3, minute]
        native = [(at_ms, Histogram(minute // 60 % 3, 1, counts, 7.5 * minute, zero=2))]
        custom = [(at_ms, Histogram(-53, 0, counts, 2.5 * minute, bounds=(0.1, 1.0, 10.0)))]
        series += [({"__name__": "native", "job": "a"}, native), ({"__name__": "custom", "job": "a"}, custom)]
        if minute % 20 < 15:
            series.append(({"__name__": "restless"}, [(at_ms, STALE if minute % 20 == 14 else float(minute))]))
        if minute == 3:
            series.append(({"__name__": "once", "job": "a"}, [(at_ms - 15_000, 0.1), (at_ms, float("nan"))]))
        return series

    def log_records(self, n):
        """A request of log records: of some hours in turn, two of the next day; some are alike, some know no time."""
        start_ns = (self.start_s + n % 3 * HOUR_S + (DAY_S if n % 12 == 11 else 0)) * SECOND_NS
        records = []
        for i in range(1 + n % 7):
            time_ns = str(start_ns + (n * 7 + i * 3) % 20 * SECOND_NS)
            record = {"observedTimeUnixNano": time_ns, "severityNumber": (n + i) % 25, "body": {"stringValue": f"line {i % 3}"}}
            if i % 4 != 3:
                record |= {"timeUnixNano": time_ns, "traceId": f"{n + 1:032x}", "spanId": f"{i + 1:016x}"}
            if i % 3 == 0:
                record["attributes"] = [{"key": "n", "value": {"intValue": str(n)}}, {"key": "list", "value": {"arrayValue": {}}}]
            if i % 5 == 4:
                record["body"] = {"kvlistValue": {"values": [{"key": "n", "value": {"doubleValue": n / 2}}]}}
            records.append(record)
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": f"service-{n % 3}"}}]}
        return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "tests"}, "logRecords": records}]}]}

    def deltas(self, minute):
        """OTLP metrics whose points are increases."""
        start_s = self.start_s + minute * 60
        point = {"startTimeUnixNano": str((start_s - 60) * SECOND_NS), "timeUnixNano": str(start_s * SECOND_NS), "asDouble": minute + 0.5}
        total = {"name": "increase", "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}}
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "service-0"}}]}
        return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [total]}]}]}

    def send(self, server):
        server.send(*self.traces, *self.traces[:3], *self.repeats, self.shared, *self.long)
        # An hour and a half in minutes, late and early ones; some come twice, some with others' again.
        bodies = [remote_write.request(self.samples(minute)) for minute in self.minutes]
        bodies += bodies[:5] + [bodies[n] + bodies[n + 1] for n in range(10, 40, 3)]
        random.Random(5).shuffle(bodies)
        for body in bodies:
            assert remote_write.post(server.prometheus, body).status_code == 204
        for minute in range(0, 90, 2):
            response = requests.post(f"{server.http}/v1/metrics", json=self.deltas(minute), timeout=30)
            assert (response.status_code, response.json()) == (200, {}), response.text
        # The other tenant's requests reach over hours.
        for first in range(0, 12, 4):
            at_s = [self.start_s + (first + n) * HOUR_S for n in (0, 3, 30)]
            parts = [otlp.request(service="elsewhere", n_spans=2, start_ns=s * SECOND_NS) for s in at_s]
            body = b"".join(part.SerializeToString() for part in parts)
            assert server.post(body, **OTHER).status_code == 200
            body = remote_write.request([({"__name__": "far"}, [(s * 1000, float(s - self.start_s)) for s in at_s])])
            assert remote_write.post(server.prometheus, body, **OTHER).status_code == 204
        for logs in [*self.logs, *self.logs[:3]]:
            assert server.post(otlp.json_text(logs), JSON, path="/v1/logs").status_code == 200

    def questions(self):
        """Paths and parameters below the one endpoint."""
        start_us, end_us = self.start_s * 1_000_000, self.end_s * 1_000_000
        for trace_id in [*otlp.trace_ids(*self.traces), self.long_id.hex(), "f" * 32]:
            yield f"/jaeger/api/traces/{trace_id}", {}
        yield f"/jaeger/api/v3/traces/{self.long_id.hex()}", {}
        yield "/jaeger/api/services", {}
        for service in ("service-0", "service-1", "service-2", "twin"):
            yield f"/jaeger/api/services/{service}/operations", {}
            for more in [
                {},
                {"limit": 3},
                {"operation": "GET /cart"},
                {"tags": '{"user":"u3"}'},
                {"tags": '{"error":"true"}', "limit": 2},
                {"tags": '{"host.name":"h1","ok":"true"}'},
                {"tags": '{"http.status_code":"230"}'},
                {"minDuration": "1s"},
                {"minDuration": "200ms", "maxDuration": "1500ms", "limit": 5},
                {"start": start_us + HOUR_S * 1_000_000, "end": start_us + 2 * HOUR_S * 1_000_000},
            ]:
                yield "/jaeger/api/traces", {"service": service, "start": start_us, "end": end_us, "limit": 100, **more}
        yield "/jaeger/api/dependencies", {"endTs": self.end_s * 1000, "lookback": 2 * DAY_S * 1000}
        api = "/prometheus/api/v1"
        window = {"start": self.start_s, "end": self.end_s}
        for query in [
            "up",
            "sum by (job) (up)",
            "rate(requests_total[5m])",
            "restless",
            "count_over_time(restless[10m])",
            "present_over_time(once[1h])",
            "native",
            "rate(native[10m])",
            "histogram_quantile(0.9, sum(rate(native[10m])))",
            "custom",
            "histogram_fraction(0, 1, custom)",
            "increase_total",
            "rate(increase_total[10m])",
            "count({__name__=~'.+'}) by (__name__)",
            "up{job=~'j[12]'} offset 10m",
            "sum_over_time(up[2d])",
        ]:
            yield f"{api}/query_range", {"query": query, "start": self.start_s - 60, "end": self.start_s + 7200, "step": 47}
            for minute in (0, 7, 89, 93, 401, DAY_S // 60 + 2):
                yield f"{api}/query", {"query": query, "time": self.start_s + minute * 60 + 1}
        for raw in ("up[2h]", "requests_total[2h]", "restless[2h]", "native[2h]", "custom[2h]", "once[1d]", "increase_total[2h]"):
            yield f"{api}/query", {"query": raw, "time": self.start_s + 7200}
        yield f"{api}/series", {"match[]": ["up", '{job="a"}'], **window}
        yield f"{api}/series", {"match[]": "up", "start": self.start_s + 400 * 60, "end": self.start_s + 410 * 60}
        yield f"{api}/series", {"match[]": "restless", "start": self.start_s + 450 * 60, "end": self.start_s + 460 * 60}
        yield f"{api}/labels", window
        yield f"{api}/labels", {"match[]": "requests_total", **window}
        for name in ("__name__", "job", "path"):
            yield f"{api}/label/{name}/values", window
        yield f"{api}/label/job/values", {"match[]": "native", **window}
        yield f"{api}/query_exemplars", {"query": "requests_total", **window}
        yield f"{api}/query_exemplars", {"query": 'rate(requests_total{job="j1"}[5m])', "start": self.start_s + 600, "end": self.start_s + 1200}
        yield f"{api}/metadata", {}

    def answers(self, server):
        """The answer to each question, and to some of another tenant."""
        found = {}
        with requests.Session() as session:
            for path, parameters in self.questions():
                response = session.get(server.http + path, params=parameters, timeout=60)
                assert response.status_code == (404 if path.endswith("f" * 32) else 200), (path, parameters, response.text)
                found[path, str(parameters)] = response.json()
            start_us, end_s = self.start_s * 1_000_000, self.end_s + DAY_S
            for path in (
                "/jaeger/api/services",
                f"/jaeger/api/traces?service=elsewhere&start={start_us}&end={end_s * 1_000_000}",
                f"/jaeger/api/traces?service=elsewhere&start={start_us + 1}&end={start_us + 8 * HOUR_S * 1_000_000}&limit=2",
                f"/prometheus/api/v1/query?query=far[3d]&time={end_s}",
            ):
                found["other", path] = session.get(server.http + path, headers=OTHER, timeout=60).json()
        return found


@pytest.fixture(scope="module")
def story():
    return Story()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, story):
    """The folder of a server that merged nothing, and what it answered."""
    data = tmp_path_factory.mktemp("stored") / "data"
    with Server(data, *NEVER) as server:
        story.send(server)
        answers = story.answers(server)
    return data, answers


@pytest.fixture(scope="module")
def merged(tmp_path_factory, stored):
    """A copy of it after everything was merged and what is superfluous deleted, and the two reports."""
    data = tmp_path_factory.mktemp("merged") / "data"
    shutil.copytree(stored[0], data)
    return data, [compact(data, SPANDREL_COMPACT_GRACE_S="0") for _ in range(2)]


def parquet_files(data):
    return sorted((data / "objects").rglob("*.parquet"))


def assert_same_answers(before, after):
    differences = [question for question in before if before[question] != after[question]]
    for question in differences[:3]:
        print(question, before[question], after[question], sep="\n", end="\n\n")
    assert not differences, f"{len(differences)} of {len(before)} answers differ: {differences[:10]}"


def test_answers_say_something(stored, story):
    """Questions that find nothing would compare nothing."""
    _, answers = stored
    empty = {str(question) for question, answer in answers.items() if not answer.get("data", answer.get("result"))}
    print(len(answers), "answers,", len(empty), "empty:", *sorted(empty), sep="\n")
    assert len(empty) < len(answers) / 4
    exemplars = answers["/prometheus/api/v1/query_exemplars", str({"query": "requests_total", "start": story.start_s, "end": story.end_s})]
    assert sum(len(series["exemplars"]) for series in exemplars["data"]) == 3 * 97


def test_merged_files_give_the_same_answers(merged, stored, story):
    data, _ = merged
    with Server(data, *NEVER) as server:
        assert_same_answers(stored[1], story.answers(server))


def test_answers_are_the_same_while_inputs_wait_for_deletion(stored, story, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(stored[0], data)
    report = compact(data)
    assert report["merges"] > 0 and report["deleted"] == 0, report
    with Server(data, *NEVER) as server:
        assert_same_answers(stored[1], story.answers(server))
        server.send(*story.traces, *story.repeats)
        assert_same_answers(stored[1], story.answers(server))
        assert {window.level for window in server.stored_windows()} != {0}
    assert "verified" in run("inspect", "--data", data, "--verify")


def test_every_file_is_merged_and_sound(merged, story):
    data, (first, second) = merged
    table = run("inspect", "--data", data, "--verify")
    print(table, first, second, sep="\n")
    windows = stored_windows(table)
    assert {window.signal for window in windows} == {"traces", "metrics", "logs"}
    assert all(window.level > 0 for window in windows)
    long = {(window.signal, window.window[-2:]) for window in windows if "+" in window.window}
    assert long == {("traces", "24"), ("metrics", "+6"), ("logs", "24")}
    assert len(re.findall(r"^(default|other): \d+ spans and samples verified$", table, re.MULTILINE)) == 2
    n_spans = sum(window.n_items for window in windows if window.signal == "traces")
    assert n_spans == story.n_rows + 18, "each span is there once, and those of the other tenant"
    assert sum(window.n_items for window in windows if window.signal == "logs") == story.n_records
    assert first["merges"] > 0 and first["outputs"] < first["inputs"] and first["duplicates"] > 0


def test_inputs_are_deleted_after_their_time_of_grace(merged, stored):
    data, (first, second) = merged
    assert second["deleted"] > 0
    table = run("inspect", "--data", data)
    assert "not in the index" not in table, table
    assert sum(window.n_files for window in stored_windows(table)) == len(parquet_files(data))
    assert len(parquet_files(data)) < len(parquet_files(stored[0])) / 10
    logs = [path.name for path in parquet_files(data) if "signal=logs" in str(path)]
    assert sorted(name[:3] for name in logs) == ["l1-", "l9-"], "an hour that is alone in its day is not merged again"
    again = compact(data, SPANDREL_COMPACT_GRACE_S="0")
    assert set(again.values()) == {0}, "there is nothing left to do"


def test_a_request_that_comes_again_changes_nothing_after_its_file_was_deleted(merged, stored, story, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(merged[0], data)
    with Server(data, *NEVER) as server:
        server.send(*story.traces[:6], *story.repeats)
        for minute in range(10):
            assert remote_write.post(server.prometheus, remote_write.request(story.samples(minute))).status_code == 204
        assert_same_answers(stored[1], story.answers(server))
    compact(data, SPANDREL_COMPACT_GRACE_S="0")
    with Server(data, *NEVER) as server:
        assert_same_answers(stored[1], story.answers(server))


def test_duckdb_reads_merged_spans(merged, story):
    data, _ = merged
    files = data / "objects" / "tenant=default" / "signal=traces" / "**" / "*.parquet"
    with duckdb.connect() as database:
        database.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
        query = lambda sql, *values: database.execute(sql, values).fetchall()
        n_spans, n_traces = len(story.spans), len(story.traces) + 1
        assert query("SELECT count(*), count(DISTINCT (trace_id, span_id)), count(DISTINCT trace_id) FROM spans") == [
            (story.n_rows, n_spans, n_traces)
        ]
        sent = otlp.records(*story.traces, *story.long)
        found = query(
            "SELECT hex(trace_id), hex(span_id), service_name, name, kind, epoch_ns(start_time), duration_ns, status_code,"
            " len(events), len(links) FROM spans WHERE service_name <> 'twin'"
        )
        assert sorted((trace_id.lower(), span_id.lower(), *row) for trace_id, span_id, *row in found) == sorted(
            (
                *ids,
                record["resource"]["attributes"][0]["value"]["stringValue"],
                record["span"]["name"],
                record["span"]["kind"],
                int(record["span"]["startTimeUnixNano"]),
                int(record["span"]["endTimeUnixNano"]) - int(record["span"]["startTimeUnixNano"]),
                record["span"].get("status", {}).get("code", 0),
                len(record["span"].get("events", [])),
                len(record["span"].get("links", [])),
            )
            for ids, record in sent.items()
        )
        assert query("SELECT count(*) FROM spans WHERE attribute_http_status_code_int = 210 AND attribute_ok_bool") == [(1,)]
        in_order = query("SELECT count(*) FROM spans WHERE attribute_http_status_code_int IS NOT NULL AND attributes_order IS NULL")
        assert in_order == [(0,)], "who has a value in a column has an order"
        assert query("SELECT count(DISTINCT trace_id) FROM spans WHERE resource_attributes LIKE '%h3%'") == [(12,)]
        dates = [time.strftime("%Y-%m-%d", time.gmtime(story.start_s + day * DAY_S)) for day in range(2)]
        folders = query("SELECT DISTINCT tenant, signal, date::VARCHAR FROM spans ORDER BY ALL")
        assert folders == [("default", "traces", date) for date in dates]
        late = sum(ns >= (story.start_s + DAY_S) * SECOND_NS for *_, ns, _, _, _, _ in found)
        assert query(f"SELECT count(*) FROM spans WHERE date = '{dates[1]}'") == [(late,)]


def test_duckdb_reads_the_same_log_records_merged_and_in_order(stored, merged, story):
    rows = {}
    for name, data in (("before", stored[0]), ("after", merged[0])):
        files = data / "objects" / "tenant=default" / "signal=logs" / "**" / "*.parquet"
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            found = database.execute(f"SELECT * EXCLUDE (date, hour) FROM read_parquet('{files}', hive_partitioning = true)")
            rows[name] = [dict(zip([column[0] for column in found.description], row)) for row in found.fetchall()]
    assert len(rows["before"]) == story.n_records
    assert sorted(map(repr, rows["after"])) == sorted(map(repr, rows["before"]))
    for file in parquet_files(merged[0]):
        if "signal=logs" in str(file):
            with duckdb.connect() as database:
                order = "SELECT service_name, epoch_ns(coalesce(time, observed_time)) FROM read_parquet(?)"
                keys = database.execute(order, [str(file)]).fetchall()
            assert keys == sorted(keys) and len(keys) > 1, file


def test_duckdb_reads_merged_series(merged, story):
    data, _ = merged
    files = data / "objects" / "tenant=default" / "signal=metrics" / "**" / "*.parquet"
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(f"CREATE VIEW series AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
        query = lambda sql, *values: database.execute(sql, values).fetchall()
        # Of each series one row for 0:00 to 6:00, one for the rest of the day and one for the next.
        up = query(
            "SELECT labels['job'], date::VARCHAR, n_samples, epoch_ms(min_time), epoch_ms(max_time), chunks IS NOT NULL"
            " FROM series WHERE metric = 'up' ORDER BY 1, 2, 4"
        )
        date = lambda at_s: time.strftime("%Y-%m-%d", time.gmtime(at_s))
        row = lambda job, n, first, last: (
            job,
            date(story.start_s + first * 60),
            n,
            (story.start_s + first * 60) * 1000,
            (story.start_s + last * 60) * 1000,
            True,
        )
        day = DAY_S // 60
        assert up == [row(f"j{n}", *part) for n in range(4) for part in [(90, 0, 89), (2, 400, 401), (5, day, day + 4)]]
        assert query("SELECT sum(n_samples) FROM series WHERE metric = 'restless'") == [
            (sum(minute % 20 < 15 for minute in story.minutes),)
        ]
        native = "sum(n_samples), bool_and(chunks IS NULL), bool_and(histograms IS NOT NULL)"
        assert query(f"SELECT {native} FROM series WHERE metric IN ('native', 'custom')") == [(0, True, True)]
        assert query("SELECT DISTINCT temporality FROM series WHERE metric LIKE 'increase%'") == [(1,)]
        assert query("SELECT count(*) > 0 FROM series WHERE exemplars IS NOT NULL AND metric = 'requests_total'") == [(True,)]


class Writing(threading.Thread):
    """Sends one after the other a trace of a settled hour and a sample of each of some series; each must be acknowledged.

    Request n has the trace `ids[n]`, in one of three hours in turn, and samples of the value n, n seconds after the start.
    """

    N_SERIES = 5

    def __init__(self, server, start_s):
        super().__init__(daemon=True)
        self.server, self.start_s = server, start_s
        self.ids, self.sent = [], []
        self.n_begun = self.n_acknowledged = 0
        self.is_over, self.error = threading.Event(), None

    def run(self):
        try:
            with requests.Session() as session:
                while not self.is_over.is_set():
                    self.write(session, self.n_begun)
        except Exception as error:
            self.error = error

    def write(self, session, n):
        start_ns = (self.start_s + n % 3 * HOUR_S + n) * SECOND_NS
        message = otlp.request(service="live", n_spans=3, start_ns=start_ns, values={"n": n})
        self.ids.append(otlp.trace_ids(message)[0])
        self.sent.append(message)
        self.n_begun += 1
        series = [({"__name__": "x", "n": str(i)}, [((self.start_s + n) * 1000, float(n))]) for i in range(self.N_SERIES)]
        bodies = [
            ("/v1/traces", message.SerializeToString(), {"Content-Type": "application/x-protobuf"}),
            ("/prometheus/api/v1/write", remote_write.snappy(remote_write.request(series)), remote_write.HEADERS),
        ]
        for path, body, headers in bodies:
            response = session.post(self.server.http + path, body, headers=headers, timeout=30)
            assert response.status_code in (200, 204), response.text
        self.n_acknowledged += 1


def check_trace(session, writing, draw):
    n = draw.randrange(writing.n_acknowledged)
    otlp.assert_same(otlp.records(writing.sent[n]), otlp.records(writing.server.trace_v3(writing.ids[n], session)))


def check_search(session, writing, draw):
    """All traces of one of the hours."""
    n_before, hour = writing.n_acknowledged, draw.randrange(3)
    start_s = writing.start_s + hour * HOUR_S
    window = {"start": start_s * 1_000_000, "end": (start_s + HOUR_S) * 1_000_000 - 1}
    response = writing.server.get("/api/traces", session=session, service="live", limit=1500, **window)
    assert response.status_code == 200, response.text
    traces = response.json()["data"]
    found = [trace["traceID"].zfill(32) for trace in traces]
    n_after = writing.n_begun
    assert len(found) == len(set(found)), "a trace is found once"
    assert all(len(trace["spans"]) == 3 for trace in traces)
    assert set(writing.ids[hour:n_before:3]) <= set(found) <= set(writing.ids[hour:n_after:3])


def check_samples(session, writing, draw):
    """All samples, by a raw selector and by an aggregation."""
    n_before = writing.n_acknowledged
    api = f"{writing.server.http}/prometheus/api/v1/query"
    query, end_s = draw.choice(["x[2h]", "sum(count_over_time(x[2h]))"]), writing.start_s + 7199
    response = session.get(api, params={"query": query, "time": end_s}, timeout=60)
    assert response.status_code == 200, response.text
    result = response.json()["data"]["result"]
    n_after = writing.n_begun
    if query == "x[2h]":
        assert len(result) == writing.N_SERIES
        for series in result:
            values = [float(value) for _, value in series["values"]]
            assert values == [float(n) for n in range(len(values))] and n_before <= len(values) <= n_after
    else:
        assert n_before * writing.N_SERIES <= float(result[0]["value"][1]) <= n_after * writing.N_SERIES


def test_questions_miss_and_double_nothing_while_files_are_merged_and_deleted(tmp_path):
    start_s = settled_s()
    # Questions take some hundredths of a second; the time of grace outlasts the longest of them.
    env = {"SPANDREL_COMPACT_GRACE_S": "3"}
    n_asked, draw = {}, random.Random(3)
    with Server(tmp_path / "data", "--compact-interval-ms", 200, env=env) as server, requests.Session() as session:
        writing = Writing(server, start_s)
        writing.start()
        try:
            wait_until(lambda: writing.n_acknowledged > 0 or writing.error)
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline and writing.error is None:
                check = draw.choice([check_trace, check_search, check_samples])
                check(session, writing, draw)
                n_asked[check.__name__] = n_asked.get(check.__name__, 0) + 1
        finally:
            writing.is_over.set()
            writing.join(60)
        assert writing.error is None and not writing.is_alive(), writing.error
        counts = {kind: server.metric("spandrel_compact_files_total", kind=kind) for kind in ("input", "output", "deleted")}
        n_merges, n_failures = (server.metric(f"spandrel_compact_{name}_total") for name in ("merges", "failures"))
        print(f"{writing.n_acknowledged} requests, {n_asked} questions, {n_merges} merges, files {counts}")
        assert n_failures == 0
        assert n_merges > 10 and counts["deleted"] > 0 and all(n_asked.values()) and len(n_asked) == 3
        assert_stored_once(server, writing.sent)
        assert any(window.level == 9 for window in server.stored_windows()), "settled hours went into the day"
    assert "verified" in run("inspect", "--data", tmp_path / "data", "--verify")


def test_kills_in_the_middle_of_merges_lose_and_double_nothing(tmp_path):
    """Senders that repeat a request until it is acknowledged, a server that merges all the time and dies at it."""
    draw = random.Random(17)
    data, start_s = tmp_path / "data", settled_s()
    arguments, env = ("--compact-interval-ms", 100), {"SPANDREL_COMPACT_MAX_MERGES": "2"}
    n_merges = 0
    with Crashing(data, *arguments, env=env) as crashing:
        samples = Samples(crashing.server.http, start_s * 1000)
        samples.start()
        with Load(crashing.server.http, n_threads=2, requests_per_s=150, start_ns=start_s * SECOND_NS) as load:
            for _ in range(5):
                load.wait_for(draw.randrange(30, 60))
                # In the middle of a pass, as often as not: the next merge is published soon, or was just.
                server = crashing.server
                wait_until(lambda: server.metric("spandrel_compact_merges_total") > 0)
                time.sleep(draw.uniform(0, 0.2))
                n_merges += server.metric("spandrel_compact_merges_total")
                crashing.crash()
            load.wait_for(30)
        samples.is_over = True
        samples.join(60)
        assert not samples.is_alive() and samples.wrong is None, samples.wrong
        assert len(load.acknowledged) == len(load.begun)
        print(f"{n_merges} merges, {len(load.acknowledged)} and {samples.n} requests acknowledged, {load.n_retries} sent again")
        assert n_merges >= 5 and samples.n > 5

        def check(server):
            n_spans = assert_stored_once(server, load.acknowledged)
            query = {"query": "x[1h]", "time": start_s + 3000}
            answer = requests.get(f"{server.http}/prometheus/api/v1/query", params=query, timeout=60).json()
            assert len(answer["data"]["result"]) == 20
            for series in answer["data"]["result"]:
                assert [float(value) for _, value in series["values"]] == [float(n) for n in range(samples.n)]
            indexed = {"traces": 0, "metrics": 0}
            for window in server.stored_windows():
                indexed[window.signal] += window.n_items
            assert indexed == {"traces": n_spans, "metrics": 20 * samples.n}, "no request is stored twice"

        check(crashing.server)
        crashing.crash()
        check(crashing.server)
    compact(data)
    table = run("inspect", "--data", data, "--verify")
    print(table)
    assert all(window.level > 0 for window in stored_windows(table))
    with Server(data, *NEVER) as server:
        check(server)


@pytest.mark.xdist_group("ministack")
def test_two_servers_merge_the_same_windows_and_everything_is_there_once(ministack, tmp_path):
    ministack.create_storage("mergers")
    locations = ["--object-store", "s3://mergers/prefix", "--index", "dynamodb://mergers", "--compact-interval-ms", 50]
    start_s = settled_s()
    messages = [otlp.request(n_spans=3, start_ns=(start_s + n % 4 * HOUR_S + n) * SECOND_NS) for n in range(60)]
    with (
        Server(tmp_path / "a", *locations, env=ministack.environment()) as first,
        Server(tmp_path / "b", *locations, env=ministack.environment()) as second,
    ):
        for n, message in enumerate(messages):
            (first, second)[n % 2].send(message)
            (first, second)[n // 2 % 2].send(message)
        # One file that comes late waits for others.
        wait_until(lambda: sum(window.n_files for window in first.stored_windows() if window.level < 9) <= 1)
        for server in (first, second):
            assert assert_stored_once(server, messages) == 180
            assert len(server.search(service="shop", start=start_s * 1_000_000, end=(start_s + DAY_S) * 1_000_000, limit=100)) == 60
        assert sum(window.n_items for window in second.stored_windows()) == 180, "no request is stored twice"
        merges = [server.metric("spandrel_compact_merges_total") for server in (first, second)]
        failures = [server.metric("spandrel_compact_failures_total") for server in (first, second)]
        print(f"merges {merges}, failures {failures}")
        assert sum(merges) > 0 and failures == [0, 0]


def test_open_hours_wait_for_company(tmp_path):
    """Few small files of an hour in which more is expected are left alone; 32 of them are merged."""
    start_ns = otlp.now_ns() - SECOND_NS
    with Server(tmp_path / "data", "--compact-interval-ms", 50) as server:
        server.send(*[otlp.request(n_spans=2, start_ns=start_ns) for _ in range(31)])
        n_passes = server.metric("spandrel_compact_passes_total")
        wait_until(lambda: server.metric("spandrel_compact_passes_total") >= n_passes + 3)
        assert server.metric("spandrel_compact_merges_total") == 0
        server.send(otlp.request(n_spans=2, start_ns=start_ns))
        wait_until(lambda: server.metric("spandrel_compact_merges_total") > 0)
        assert server.metric("spandrel_compact_merges_total") == 1
        (window,) = server.stored_windows()
        assert (window.level, window.n_files, window.n_items) == (1, 1, 64)


def test_metrics_count_what_was_merged(tmp_path):
    start_ns = settled_s() * SECOND_NS
    with Server(tmp_path / "data", "--compact-interval-ms", 3_600_000) as server:
        again = otlp.request(n_spans=3, start_ns=start_ns)
        both = otlp.ExportTraceServiceRequest.FromString(again.SerializeToString())
        both.MergeFrom(otlp.request(n_spans=4, start_ns=start_ns))
        server.send(again, both)
        assert server.metric("spandrel_compact_passes_total") == 0
    with Server(tmp_path / "data", "--compact-interval-ms", 100, env={"SPANDREL_COMPACT_GRACE_S": "0"}) as server:
        files = lambda kind: server.metric("spandrel_compact_files_total", kind=kind)
        # Two within their hour, what they became into its day.
        wait_until(lambda: files("deleted") == 3)
        assert (files("input"), files("output")) == (3, 2)
        assert server.metric("spandrel_compact_merges_total") == 2
        assert server.metric("spandrel_compact_rows_total", kind="written") == 14
        assert server.metric("spandrel_compact_rows_total", kind="duplicate") == 3
        assert server.metric("spandrel_compact_failures_total") == 0
        page = requests.get(server.http + "/metrics", timeout=10).text
        (puts,) = re.findall(r'^spandrel_storage_calls_total\{function="compact",[^}]*call="object_put"\} (\d+)$', page, re.MULTILINE)
        assert int(puts) == 2
    with Server(tmp_path / "off", *NEVER) as server:
        assert "spandrel_compact" not in requests.get(server.http + "/metrics", timeout=10).text


def test_the_command_is_refused_where_a_server_runs_and_with_settings_that_are_wrong(server):
    for variables, words in [({}, str(server.data)), ({"SPANDREL_COMPACT_GRACE_S": "many"}, "")]:
        command = [str(BINARY), "compact", "--data", str(server.data)]
        done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=30)
        text = done.stdout + done.stderr
        assert done.returncode > 0 and "panicked" not in text and words in text, text
    server.send(otlp.request())
