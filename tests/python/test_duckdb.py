"""The stored files are open: DuckDB and PyArrow, which know nothing of us, read them by their names."""

import duckdb
import pyarrow.dataset
import pyarrow.parquet
import pytest

import otlp
from spandrel import Server

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
COLUMNS = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "trace_state",
    "flags",
    "name",
    "kind",
    "start_time",
    "duration_ns",
    "status_code",
    "status_message",
    "service_name",
    "resource_attributes",
    "resource_meta",
    "scope_name",
    "scope_version",
    "scope_meta",
    "dropped_attributes_count",
    "dropped_events_count",
    "dropped_links_count",
    "attributes",
    "events",
    "links",
]


class Load:
    """A known load: 3 services, 3 hours, 30 requests of 10 spans each."""

    def __init__(self):
        now_ns = otlp.now_ns() // HOUR_NS * HOUR_NS
        self.requests = [
            otlp.request(
                service=f"service-{i % 3}",
                n_spans=10,
                start_ns=now_ns - (i // 10) * HOUR_NS - HOUR_NS + i * SECOND_NS,
                duration_ns=1_000 * (i + 1) + 7,
                values={"http.response.status_code": 200 + i, "user": f"u{i}", "ok": i % 2 == 0, "ratio": i / 4, "list": [i, "x"]},
                resource={"host.name": f"h{i}"},
                status=2 if i == 7 else 0,
            )
            for i in range(30)
        ]
        span = self.requests[7].resource_spans[0].scope_spans[0].spans[0]
        span.events.add(time_unix_nano=span.start_time_unix_nano + 5, name="retry").attributes.extend(otlp.attributes({"n": 3}))
        span.links.add(trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8).attributes.extend(otlp.attributes({"why": "x"}))
        span.trace_state, span.status.message, span.flags = "k=v", "failed", 0x101
        span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = 1, 2, 3
        self.span = span


@pytest.fixture(scope="module")
def load():
    return Load()


@pytest.fixture(scope="module")
def data(tmp_path_factory, load):
    """The data folder of a server that has stored the load, one file a request, and was stopped."""
    folder = tmp_path_factory.mktemp("duckdb") / "data"
    with Server(folder, "--compact-interval-ms", 0) as server:
        server.send(*load.requests)
    return folder


@pytest.fixture(scope="module")
def query(data):
    """Runs SQL over `spans`, a view of all stored files, and returns rows."""
    database = duckdb.connect()
    files = data / "objects" / "**" / "*.parquet"
    database.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
    yield lambda sql, *values: database.execute(sql, values).fetchall()
    database.close()


def test_layout_of_the_folders(data):
    files = sorted((data / "objects").rglob("*.parquet"))
    assert len(files) == 30
    for file in files:
        tenant, signal, date, hour, name = file.relative_to(data / "objects").parts
        assert (tenant, signal) == ("tenant=default", "signal=traces")
        assert date.startswith("date=20") and len(date) == len("date=2026-01-01")
        assert hour.startswith("hour=") and len(hour) == len("hour=00")
        assert name.startswith("l0-") and name.endswith(".parquet")


def test_schema(query):
    schema = {name: kind for name, kind, *_ in query("DESCRIBE spans")}
    for name, kind in schema.items():
        print(f"{name:28} {kind}")
    assert [name for name in COLUMNS if name not in schema] == []
    assert {"tenant", "signal", "date", "hour"} <= set(schema)
    for name in ("trace_id", "span_id", "parent_span_id"):
        assert schema[name] == "BLOB"
    for name in ("name", "service_name", "trace_state", "status_message", "scope_name", "scope_version"):
        assert schema[name] == "VARCHAR"
    assert schema["resource_attributes"] in ("VARCHAR", "JSON")
    assert schema["start_time"].startswith("TIMESTAMP")
    assert "INT" in schema["duration_ns"] and "INT" in schema["kind"] and "INT" in schema["status_code"]
    assert schema["attributes"].startswith("MAP(VARCHAR, STRUCT(")
    assert schema["events"].endswith("[]") and schema["events"].startswith("STRUCT(")
    assert schema["links"].endswith("[]")


def test_counts_and_groups(query):
    assert query("SELECT count(*), count(DISTINCT (trace_id, span_id)), count(DISTINCT trace_id) FROM spans") == [(300, 300, 30)]
    assert query("SELECT service_name, count(*) FROM spans GROUP BY 1 ORDER BY 1") == [
        ("service-0", 100),
        ("service-1", 100),
        ("service-2", 100),
    ]
    assert query("SELECT count(*) FROM (SELECT DISTINCT date, hour FROM spans)") == [(3,)]
    assert query("SELECT count(*) FROM spans WHERE kind = 2") == [(30,)]
    assert query("SELECT sum(duration_ns) FROM spans") == [(sum(10 * (1_000 * (i + 1) + 7) for i in range(30)),)]


def test_pruning_by_folder(query, load):
    hours = query("SELECT date, hour, count(*) FROM spans GROUP BY ALL ORDER BY 1, 2")
    assert [n for *_, n in hours] == [100, 100, 100]
    date, hour, _ = hours[0]
    (plan,) = query(f"EXPLAIN ANALYZE SELECT count(*) FROM spans WHERE date = '{date}' AND hour = '{hour}'")
    assert "10/30" in plan[1].replace(" ", ""), "DuckDB opens only the files of that hour:\n" + plan[1]


def test_filters_on_typed_attributes(query):
    for key, field, value, expected in [
        ("user", "string", "u5", 10),
        ("http.response.status_code", "int", 207, 10),
        ("ok", "bool", True, 150),
        ("ratio", "double", 1.25, 10),
    ]:
        found = query(f"SELECT count(*) FROM spans WHERE attributes[?].{field} = ?", key, value)
        assert found == [(expected,)], (key, found)
    assert query("SELECT count(*) FROM spans WHERE attributes['http.response.status_code'].int BETWEEN 205 AND 207") == [(30,)]
    (text,) = query("SELECT DISTINCT attributes['list'].json FROM spans WHERE attributes['user'].string = 'u5'")[0]
    assert "5" in text and '"x"' in text, text
    assert query("SELECT count(*) FROM spans WHERE resource_attributes LIKE '%h5%'") == [(10,)]


def test_every_column_of_one_span(query, load):
    span = load.span
    ((row),) = query(
        "SELECT span_id, parent_span_id, name, kind, epoch_ns(start_time), duration_ns, status_code, status_message, trace_state,"
        " flags, dropped_attributes_count, dropped_events_count, dropped_links_count, scope_name, service_name,"
        " events, links FROM spans WHERE trace_id = ? AND span_id = ?",
        span.trace_id,
        span.span_id,
    )
    *columns, events, links = row
    assert columns[0] == span.span_id and not (columns[1] or b"").strip(b"\0")
    assert columns[2:] == [
        "GET /cart",
        2,
        span.start_time_unix_nano,
        span.end_time_unix_nano - span.start_time_unix_nano,
        2,
        "failed",
        "k=v",
        0x101,
        1,
        2,
        3,
        "tests",
        "service-1",
    ]
    assert (len(events), events[0]["name"]) == (1, "retry")
    assert (len(links), bytes(links[0]["trace_id"]), bytes(links[0]["span_id"])) == (1, b"\xaa" * 16, b"\xbb" * 8)
    print(events[0], links[0])


def test_every_span_of_the_load_is_there_exactly_once(query, load):
    stored = query("SELECT trace_id, span_id, service_name, name FROM spans")
    sent = [
        (bytes.fromhex(trace_id), bytes.fromhex(span_id), record["resource"]["attributes"][0]["value"]["stringValue"], record["span"]["name"])
        for (trace_id, span_id), record in otlp.records(*load.requests).items()
    ]
    assert sorted(stored) == sorted(sent)


def test_pyarrow_reads_the_same(query, data):
    dataset = pyarrow.dataset.dataset(data / "objects", format="parquet", partitioning="hive")
    table = dataset.to_table(columns=["trace_id", "span_id", "service_name", "name", "duration_ns", "start_time"])
    rows = [tuple(row.values()) for row in table.drop_columns(["start_time"]).to_pylist()]
    assert sorted(rows) == sorted(query("SELECT trace_id, span_id, service_name, name, duration_ns FROM spans"))
    times = [value.value for value in table["start_time"]]
    assert sorted(times) == sorted(ns for (ns,) in query("SELECT epoch_ns(start_time) FROM spans"))

    file = next((data / "objects").rglob("*.parquet"))
    whole = pyarrow.parquet.read_table(file, partitioning=None)
    assert whole.num_rows == 10
    whole.validate(full=True)
    print(whole.schema)
    metadata = pyarrow.parquet.read_metadata(file)
    print(metadata, metadata.metadata)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            assert metadata.row_group(group).column(column).compression in ("ZSTD", "UNCOMPRESSED", "SNAPPY")
