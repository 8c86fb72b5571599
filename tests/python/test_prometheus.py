"""Prometheus' API with requests written by hand, with promtool, and with a Prometheus that writes to us."""

import json
import math
import subprocess
import time

import duckdb
import pytest
import requests

import remote_write
from prometheus import Prometheus, binary
from remote_write import STALE
from spandrel import environment


def write(server, series, **headers):
    response = remote_write.post(server.prometheus, remote_write.request(series), **headers)
    assert (response.status_code, response.content) == (204, b""), response.text


def get(server, path, status=200, **parameters):
    response = requests.get(f"{server.prometheus}/api/v1/{path}", params=parameters, timeout=30)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def up(**labels):
    return {"__name__": "up", **labels}


@pytest.fixture
def now_s():
    return int(time.time())


def test_what_was_written_is_queried(server, now_s):
    now_ms = now_s * 1000
    write(server, [(up(job="a"), [(now_ms - 15_000, 1.0), (now_ms, 0.5)]), (up(job="b"), [(now_ms, STALE)])])
    answer = requests.get(f"{server.prometheus}/api/v1/query", params={"query": "up", "time": now_s}, timeout=30)
    # Grafana reads the keys in this order.
    assert answer.text == (
        '{"status":"success","data":{"resultType":"vector","result":['
        f'{{"metric":{{"__name__":"up","job":"a"}},"value":[{now_s},"0.5"]}}]}}}}'
    )
    matrix = get(server, "query_range", query="up", start=now_s - 15, end=now_s, step="15s")["data"]
    assert matrix == {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "up", "job": "a"}, "values": [[now_s - 15, "1"], [now_s, "0.5"]]}],
    }
    raw = get(server, "query", query="up[1m]", time=now_s)["data"]["result"]
    assert raw == matrix["result"], "a stale marker is no sample"
    # The same on the one endpoint, by POST and with a prefix.
    form = {"query": "up", "time": now_s}
    posted = requests.post(f"{server.http}/prometheus/api/v1/query", data=form, timeout=30)
    assert posted.text == answer.text


def test_scalars_and_strings_need_no_data(server):
    assert get(server, "query", query="1+1", time=4)["data"] == {"resultType": "scalar", "result": [4, "2"]}
    assert get(server, "query", query='"x"', time=4.5)["data"] == {"resultType": "string", "result": [4.5, "x"]}
    assert get(server, "query", query="up", time=4)["data"] == {"resultType": "vector", "result": []}


def test_values_are_written_as_prometheus_writes_them(server, now_s):
    values = [0.1, 1e21, 1e-7, math.inf, -math.inf, math.nan, -0.0, 123456789.0]
    write(server, [({"__name__": "v", "n": str(n)}, [(now_s * 1000, value)]) for n, value in enumerate(values)])
    result = get(server, "query", query="v", time=now_s)["data"]["result"]
    texts = {int(series["metric"]["n"]): series["value"][1] for series in result}
    assert [texts[n] for n in range(len(values))] == ["0.1", "1e+21", "1e-07", "+Inf", "-Inf", "NaN", "-0", "123456789"]


@pytest.mark.parametrize(
    "path, parameters, status, kind, text",
    [
        ("query", {"query": "sum("}, 400, "bad_data", 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
        ("query", {"query": "up", "time": "x"}, 400, "bad_data", 'invalid parameter "time": cannot parse "x" to a valid timestamp'),
        ("query_range", {"query": "up", "start": 1, "end": 0, "step": 1}, 400, "bad_data", "end timestamp must not be before start time"),
        ("query_range", {"query": "up", "start": 0, "end": 11001, "step": 1}, 400, "bad_data", "exceeded maximum resolution of 11,000 points"),
        ("query_range", {"query": "up", "start": 0, "end": 1, "step": 0}, 400, "bad_data", "zero or negative query resolution step widths"),
        ("series", {}, 400, "bad_data", "no match[] parameter provided"),
        ("series", {"match[]": "{}"}, 400, "bad_data", "must contain at least one non-empty matcher"),
        ("labels", {"limit": -1}, 400, "bad_data", "limit must be non-negative"),
        ("rules", {"type": "x"}, 400, "bad_data", "not supported value"),
        ("query", {"query": "a * on (x) group_left (x) b"}, 400, "bad_data", "must not occur in ON and GROUP clause"),
    ],
)
def test_errors_have_prometheus_form(server, path, parameters, status, kind, text):
    answer = get(server, path, status, **parameters)
    assert (answer["status"], answer["errorType"]) == ("error", kind)
    assert text in answer["error"]


def test_an_evaluation_that_makes_no_sense_is_an_execution_error(server, now_s):
    write(server, [(up(job="a", pod=str(pod)), [(now_s * 1000, 1.0)]) for pod in range(2)])
    answer = get(server, "query", 422, query="up * on (job) up", time=now_s)
    assert answer["errorType"] == "execution"
    assert "many-to-many matching not allowed" in answer["error"]
    repaired = get(server, "query", query="up * on (job, pod) up", time=now_s)
    assert len(repaired["data"]["result"]) == 2


def test_labels_values_and_series_are_looked_up(server, now_s):
    now_ms = now_s * 1000
    odd = {"__name__": "http.requests", "service.name": "a/b", "job": "x"}
    write(server, [(up(job="a"), [(now_ms, 1.0)]), (up(job="b"), [(now_ms, 1.0)]), (odd, [(now_ms, 1.0)])])
    assert get(server, "labels")["data"] == ["__name__", "job", "service.name"]
    assert get(server, "labels", **{"match[]": "up"})["data"] == ["__name__", "job"]
    assert get(server, "label/__name__/values")["data"] == ["http.requests", "up"]
    assert get(server, "label/job/values", **{"match[]": "up"})["data"] == ["a", "b"]
    assert get(server, "label/U__service_2e_name/values")["data"] == ["a/b"]
    assert get(server, "label/nothing/values")["data"] == []
    limited = get(server, "label/job/values", limit=2)
    assert (limited["data"], limited["warnings"]) == (["a", "b"], ["results truncated due to limit"])
    series = get(server, "series", **{"match[]": ['{"http.requests"}', 'up{job="a"}']})["data"]
    assert series == [odd, up(job="a")]
    window = {"start": now_s - 7200, "end": now_s - 3600}
    assert get(server, "series", **{"match[]": "up", **window})["data"] == []
    assert get(server, "query", query='{"http.requests","service.name"="a/b"}', time=now_s)["data"]["result"][0]["metric"] == odd


def test_metadata_is_what_senders_said(server, now_s):
    body = remote_write.request([(up(), [(now_s * 1000, 1.0)])])
    body += remote_write.metadata("up", 2, "Whether it is.") + remote_write.metadata("requests_total", 1, "All of them.")
    assert remote_write.post(server.prometheus, body).status_code == 204
    everything = get(server, "metadata")["data"]
    assert everything == {
        "requests_total": [{"type": "counter", "help": "All of them.", "unit": ""}],
        "up": [{"type": "gauge", "help": "Whether it is.", "unit": ""}],
    }
    assert list(get(server, "metadata", metric="up")["data"]) == ["up"]
    assert len(get(server, "metadata", limit=1)["data"]) == 1
    assert len(get(server, "metadata", limit=0)["data"]) == 2


def test_grafana_finds_what_it_probes(server):
    health = requests.post(f"{server.prometheus}/api/v1/query", data={"query": "1+1", "time": 4}, timeout=30)
    assert health.json()["data"]["result"] == [4, "2"]
    info = get(server, "status/buildinfo")["data"]
    assert info["version"].startswith("3.") and "features" not in info
    # The probe for exemplars sends milliseconds where seconds belong.
    probe = get(server, "query_exemplars", query="test", start=1795590000000, end=1795597200000)
    assert probe == {"status": "success", "data": []}
    assert requests.get(f"{server.prometheus}/api/v1/query_exemplars", params={"query": "1"}, timeout=30).status_code == 204
    assert get(server, "rules")["data"] == {"groups": []}
    assert get(server, "alerts")["data"] == {"alerts": []}
    assert get(server, "targets")["data"]["activeTargets"] == []
    for path in ("status/runtimeinfo", "status/flags", "status/config", "status/tsdb"):
        assert get(server, path)["status"] == "success"
    assert get(server, "format_query", query="sum(x)by(a)")["data"] == "sum by (a) (x)"
    stats = get(server, "query", query="1", stats="all")["data"]["stats"]
    assert stats["samples"]["totalQueryableSamples"] == 0 and stats["timings"]["execTotalTime"] > 0
    preflight = requests.options(f"{server.prometheus}/api/v1/query", headers={"Origin": "http://x"}, timeout=30)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
    compressed = requests.get(f"{server.prometheus}/api/v1/labels", headers={"Accept-Encoding": "gzip"}, timeout=30)
    assert compressed.json()["status"] == "success"


def test_the_same_request_again_is_stored_once(server, now_s):
    series = [({"__name__": "x_total"}, [(now_s * 1000 - 15_000, 1.0), (now_s * 1000, 4.0)])]
    for _ in range(3):
        write(server, series)
    assert get(server, "query", query="sum(sum_over_time(x_total[1m]))", time=now_s)["data"]["result"][0]["value"][1] == "5"
    assert len(list((server.data / "objects").rglob("*.parquet"))) == 1


def test_old_and_late_samples_are_taken(server, now_s):
    day_s = 86_400
    for at in (now_s, now_s - 40 * day_s, now_s - 60, now_s - day_s):
        write(server, [(up(), [(at * 1000, float(at))])])
    for at in (now_s, now_s - 40 * day_s, now_s - 60, now_s - day_s):
        result = get(server, "query", query="up", time=at)["data"]["result"]
        assert float(result[0]["value"][1]) == at


def test_what_is_invalid_is_left_out_and_said(server, now_s):
    good = (up(job="good"), [(now_s * 1000, 1.0)])
    nameless = ({"job": "bad"}, [(now_s * 1000, 1.0)])
    response = remote_write.post(server.prometheus, remote_write.request([good, nameless]))
    assert response.status_code == 400
    assert "__name__" in response.text
    assert response.headers["x-prometheus-remote-write-samples-written"] == "1"
    assert len(get(server, "query", query="up", time=now_s)["data"]["result"]) == 1
    for body, headers, status in [
        (b"\xff\xff", {}, 400),
        (remote_write.snappy(b"\x0a\xff"), {}, 400),
        (b"", {"Content-Type": "application/json"}, 415),
        (b"", {"Content-Encoding": "gzip"}, 415),
        (b"\x80\x80\x80\x80\x08", {}, 413),
    ]:
        response = requests.post(
            f"{server.prometheus}/api/v1/write", data=body, headers={**remote_write.HEADERS, **headers}, timeout=30
        )
        assert response.status_code == status, (body, response.text)
        assert response.headers["content-type"].startswith("text/plain")


def test_duckdb_reads_the_files(server, now_s):
    write(server, [(up(job=job), [(now_s * 1000 - 15_000, 1.5), (now_s * 1000, 2.5)]) for job in ("a", "b")])
    files = server.data / "objects" / "**" / "*.parquet"
    with duckdb.connect() as database:
        rows = database.execute(
            f"SELECT metric, labels['job'], len(samples), epoch_ms(samples[2].time), samples[2].value "
            f"FROM read_parquet('{files}') ORDER BY 2"
        ).fetchall()
    assert rows == [("up", job, 2, now_s * 1000, 2.5) for job in ("a", "b")]


def test_promtool_asks(server, now_s):
    write(server, [(up(job="a"), [(now_s * 1000, 1.0)])])

    def promtool(*arguments):
        command = [binary("promtool"), "query", *arguments]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=True).stdout

    output = promtool("instant", "--format=json", f"--time={now_s}", server.prometheus, "up")
    assert json.loads(output)[0]["metric"] == up(job="a")
    output = promtool("range", f"--start={now_s - 60}", f"--end={now_s}", "--step=1s", server.prometheus, "up")
    assert 'up{job="a"}' in output
    assert 'up{job="a"}' in promtool("series", "--match=up", server.prometheus) or "job" in output
    assert promtool("labels", server.prometheus, "job").split() == ["a"]


def test_a_prometheus_writes_to_us(server, tmp_path):
    """It scrapes itself and writes by both versions of the protocol."""
    config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: itself
  static_configs: [{{targets: ['TARGET']}}]
remote_write:
- url: {server.prometheus}/api/v1/write
  write_relabel_configs: [{{target_label: protocol, replacement: v1}}]
- url: {server.http}/prometheus/api/v1/write
  name: second
  protobuf_message: io.prometheus.write.v2.Request
  write_relabel_configs: [{{target_label: protocol, replacement: v2}}]
"""
    from aws import free_port

    port = free_port()
    with Prometheus(tmp_path / "prometheus", config.replace("TARGET", f"127.0.0.1:{port}"), port=port) as prometheus:
        deadline = time.monotonic() + 60
        found = {}
        while time.monotonic() < deadline and found.keys() != {"v1", "v2"}:
            time.sleep(0.5)
            result = get(server, "query", query='count by (protocol) ({job="itself"})')["data"]["result"]
            found = {series["metric"]["protocol"]: float(series["value"][1]) for series in result}
        assert found.keys() == {"v1", "v2"}, (tmp_path / "prometheus" / "log").read_text()[-3000:]
        assert found["v1"] == found["v2"] > 300
        failed = requests.get(
            f"{prometheus.url}/api/v1/query",
            params={"query": "sum(prometheus_remote_storage_samples_failed_total)"},
            timeout=30,
        ).json()["data"]["result"]
        assert all(series["value"][1] == "0" for series in failed)
    metadata = get(server, "metadata", metric="prometheus_build_info")["data"]
    assert metadata["prometheus_build_info"][0]["type"] == "gauge"


def test_a_prometheus_reads_from_us(server, now_s, tmp_path):
    """It has no samples of its own: what it answers, it read here; numbers, native histograms and stale markers."""
    start_ms = (now_s - 300) * 1000
    counter = [(start_ms + i * 15_000, float(i * 3)) for i in range(20)]
    histograms = [(start_ms + i * 15_000, remote_write.Histogram(0, 1, [i, 2 * i], 7 * i)) for i in range(1, 20)]
    ended = [(start_ms, 5.0), (start_ms + 15_000, STALE)]
    write(server, [(up(job="a"), counter), ({"__name__": "native", "job": "a"}, histograms), ({"__name__": "ended"}, ended)])
    config = f"remote_read:\n- {{url: '{server.prometheus}/api/v1/read', read_recent: true}}\n"
    with Prometheus(tmp_path / "prometheus", config) as prometheus:
        for query in (
            "up",
            'up{job=~"a|b"} * 2',
            "rate(up[2m])",
            'absent(up{job!="a"})',
            "histogram_quantile(0.5, native)",
            "sum(rate(native[2m]))",
            "count_over_time(ended[10m])",
            "ended",
        ):
            parameters = {"query": query, "start": now_s - 300, "end": now_s - 30, "step": 30}
            theirs = requests.get(f"{prometheus.url}/api/v1/query_range", params=parameters, timeout=30).json()
            ours = requests.get(f"{server.prometheus}/api/v1/query_range", params=parameters, timeout=30).json()
            assert theirs["status"] == "success", theirs
            assert len(theirs["data"]["result"]) == 1, query
            assert [series["metric"] for series in theirs["data"]["result"]] == [series["metric"] for series in ours["data"]["result"]]
            values = lambda answer: [
                (at, value if isinstance(value, str) else (value["count"], value["sum"]))
                for series in answer["data"]["result"]
                for at, value in series.get("values", []) + series.get("histograms", [])
            ]
            assert values(theirs) == values(ours), query


@pytest.mark.parametrize(
    "body, headers, status, text",
    [
        (b"no snappy", {}, 400, "snappy"),
        (remote_write.snappy(b"\x0a\xff"), {}, 400, "not a remote read request"),
        (remote_write.snappy(b"\x0a\x06\x1a\x04\x12\x02ab\x10\x01"), {}, 400, "only SAMPLES"),
        (remote_write.snappy(b""), {"Content-Encoding": "gzip"}, 415, "snappy"),
        (remote_write.snappy(b""), {}, 200, None),
    ],
)
def test_remote_read_refuses_in_words(server, body, headers, status, text):
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", **headers}
    response = requests.post(f"{server.prometheus}/api/v1/read", data=body, headers=headers, timeout=30)
    assert response.status_code == status, response.text
    if text is None:
        assert response.headers["content-encoding"] == "snappy" and response.headers["content-type"] == "application/x-protobuf"
    else:
        assert text in response.text
    assert requests.get(f"{server.prometheus}/api/v1/read", timeout=30).status_code == 405


@pytest.mark.parametrize(
    "query, status, kind, text",
    [
        ("sum_over_time(up[30d:1s])", 422, "execution", "too many samples"),
        ("max_over_time(max_over_time(up[30d:1s])[30d:1s])", 422, "execution", "too many samples"),
        ('up{job=~"((a{1,100}){1,100}){1,100}"}', 400, "bad_data", "error parsing regexp"),
        ("(" * 5000 + "1" + ")" * 5000, 400, "bad_data", "nested deeper"),
        ("1" + "+1" * 20000, 400, "bad_data", "too many operators"),
        ("up * on () group_left () up", 422, "execution", "many-to-many"),
        ("-" * 100_000 + "1", 400, "bad_data", "nested deeper"),
    ],
    ids=["steps of a subquery", "nested subqueries", "regex", "parentheses", "operators", "cartesian", "signs"],
)
def test_queries_of_death_end_with_an_error(server, now_s, query, status, kind, text):
    write(server, [(up(job=f"j{i}"), [(now_s * 1000, float(i))]) for i in range(30)])
    parameters = {"query": query, "start": now_s - 3600, "end": now_s, "step": 15}
    response = requests.post(f"{server.prometheus}/api/v1/query_range", data=parameters, timeout=60)
    assert (response.status_code, response.json()["errorType"]) == (status, kind), response.text[:300]
    assert text in response.json()["error"]
    # And the server goes on.
    assert len(get(server, "query", query="up", time=now_s)["data"]["result"]) == 30
