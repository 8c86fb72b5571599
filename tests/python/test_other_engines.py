"""What other engines get: definitions of tables for Glue and Athena, and samples exported as rows."""

import json
import re

import duckdb
import pytest
import requests

import otlp
import remote_write
from spandrel import JSON, ROOT, Server, run
from test_compaction import NEVER, SECOND_NS, Story, compact

PARTITIONS = {"tenant": "VARCHAR", "signal": "VARCHAR", "date": "DATE", "hour": "BIGINT"}


@pytest.fixture(scope="module")
def story():
    return Story()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, story):
    """A folder of which some is merged and some is not, and what a server answers."""
    data = tmp_path_factory.mktemp("engines") / "data"
    with Server(data, *NEVER) as server:
        story.send(server)
        answers = {raw: floats(server, raw, story) for raw in ("up", "requests_total", "restless", "once")}
    compact(data, SPANDREL_COMPACT_GRACE_S="0")
    compact(data, SPANDREL_COMPACT_GRACE_S="0")
    with Server(data, *NEVER) as server:
        late = remote_write.request([({"__name__": "late"}, [((story.start_s + 10) * 1000, 1.0)])])
        assert remote_write.post(server.prometheus, late).status_code == 204
        record = {"timeUnixNano": str(story.start_s * SECOND_NS), "body": {"stringValue": "late"}}
        logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        assert server.post(otlp.json_text(logs), JSON, path="/v1/logs").status_code == 200
    return data, answers


def floats(server, metric, story):
    """The float samples of a metric as the query API has them: labels, time in ms, value as text."""
    query = {"query": f"{metric}[3d]", "time": story.end_s + 3600}
    response = requests.get(f"{server.http}/prometheus/api/v1/query", params=query, timeout=60).json()
    found = set()
    for series in response["data"]["result"]:
        labels = tuple(sorted((name, value) for name, value in series["metric"].items() if name != "__name__"))
        found |= {(labels, round(time_s * 1000), float(value)) for time_s, value in series["values"]}
    assert found, metric
    return found


def duckdb_type(kind):
    """The type by which DuckDB reads what Hive calls `kind`."""
    nested = re.fullmatch(r"(array|map|struct)<(.*)>", kind)
    if not nested:
        names = {"string": "VARCHAR", "binary": "BLOB", "bigint": "BIGINT", "int": "INTEGER"}
        return names.get(kind, kind.upper())
    parts, depth, start = [], 0, 0
    for at, char in enumerate(nested[2] + ","):
        depth += {"<": 1, ">": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(nested[2][start:at])
            start = at + 1
    if nested[1] == "array":
        return duckdb_type(nested[2]) + "[]"
    if nested[1] == "map":
        return f"MAP({', '.join(map(duckdb_type, parts))})"
    fields = (part.split(":", 1) for part in parts)
    return f"STRUCT({', '.join(f'{name} {duckdb_type(kind)}' for name, kind in fields)})"


def plain(kind):
    """A type of DuckDB's without what Hive cannot say: that a text is JSON, a time's zone and precision, quotes."""
    kind = kind.replace('"', "").replace("JSON", "VARCHAR")
    return re.sub(r"TIMESTAMP(TZ)?(_NS|_MS| WITH TIME ZONE)?", "TIMESTAMP", kind)


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_a_table_has_the_columns_and_rows_of_its_files(stored, signal):
    data, _ = stored
    own = ("http.status_code:int", "list:json", "ok:bool", "ratio:double", "step:int", "user")
    arguments = [argument for key in own for argument in ("--attribute", key)]
    (line,) = run("tables", "--location", "s3://b/p/", "--signal", signal, *arguments).splitlines()
    table = json.loads(line)
    template = table["Parameters"]["storage.location.template"]
    assert template == f"s3://b/p/tenant=${{tenant}}/signal={signal}/date=${{date}}/hour=${{hour}}/"
    with duckdb.connect() as database:
        folders = re.sub(r"\$\{\w+\}", "*", template).replace("s3://b/p", str(data / "objects"))
        files = f"read_parquet('{folders}*.parquet', hive_partitioning = true, union_by_name = true)"
        described = {name: kind for name, kind, *_ in database.execute(f"DESCRIBE SELECT * FROM {files}").fetchall()}
        (n_rows,) = database.execute(f"SELECT count(*) FROM {files}").fetchone()
        (in_all,) = database.execute(f"SELECT count(*) FROM read_parquet('{data}/objects/*/signal={signal}/**/*.parquet', union_by_name = true)").fetchone()
    assert n_rows == in_all > 0
    columns = {name: plain(kind) for name, kind in described.items() if name not in PARTITIONS}
    defined = {column["Name"]: duckdb_type(column["Type"]) for column in table["StorageDescriptor"]["Columns"]}
    # Which attributes have columns, the data decides: the table knows those of conventions and those that it is told of.
    assert columns.items() <= defined.items()
    assert all(name.startswith("attribute_") for name in defined.keys() - columns.keys())
    assert signal != "traces" or "attributes_order" in columns
    assert [key["Name"] for key in table["PartitionKeys"]] == [name for name in PARTITIONS if name != "signal"]
    assert set(PARTITIONS) <= set(described)


def test_definitions_for_terraform_are_what_the_command_prints():
    for line in run("tables", "--location", "s3://BUCKET/PREFIX").splitlines():
        table = json.loads(line)
        assert json.loads((ROOT / "terraform" / "tables" / f"{table['Name']}.json").read_text()) == table


def exported(folder):
    """The float samples of an export by metric, as [`floats`] gives them."""
    with duckdb.connect() as database:
        files = f"read_parquet('{folder}/**/*.parquet')"
        rows = database.execute(f"SELECT metric, labels, epoch_ms(time), value FROM {files} WHERE value IS NOT NULL").fetchall()
    found = {}
    for metric, labels, time_ms, value in rows:
        sample = (tuple(sorted(labels.items())), time_ms, value)
        assert sample not in found.setdefault(metric, set()), f"{metric} {sample} is there twice"
        found[metric].add(sample)
    return found


def same(found, expected):
    """Equality of samples, NaN being equal to itself."""
    key = lambda samples: sorted((labels, time_ms, repr(value)) for labels, time_ms, value in samples)
    return key(found) == key(expected)


def test_exported_samples_are_those_of_the_query_api(stored, story, tmp_path):
    data, answers = stored
    before = sorted(path for path in data.rglob("*.parquet"))
    print(run("export", "--data", data, "--signal", "metrics", "--out", tmp_path / "all"))
    found = exported(tmp_path / "all")
    for metric, expected in answers.items():
        assert same(found[metric], expected), metric
    assert len(found["late"]) == 1 and set(found) >= {"increase_total"}
    assert sorted(path for path in data.rglob("*.parquet")) == before
    with duckdb.connect() as database:
        files = f"read_parquet('{tmp_path}/all/**/*.parquet', hive_partitioning = true)"
        query = lambda sql: database.execute(f"SELECT {sql}").fetchall()
        days = query(f"DISTINCT date::VARCHAR = strftime(make_timestamp(epoch_ms(time) * 1000), '%Y-%m-%d') FROM {files}")
        assert days == [(True,)]
        histograms = query(f"count(*), sum(histogram_sum) FROM {files} WHERE metric = 'native' AND value IS NULL")
        assert histograms == [(len(story.minutes), sum(7.5 * minute for minute in story.minutes))]
        assert query(f"DISTINCT temporality FROM {files} WHERE metric LIKE 'increase%'") == [(1,)]


def test_an_export_may_be_a_part(stored, story, tmp_path):
    data, answers = stored
    first_s, last_s = story.start_s + 600, story.start_s + 1200
    run("export", "--data", data, "--signal", "metrics", "--out", tmp_path, "--from", first_s, "--to", last_s)
    inside = {sample for sample in answers["up"] if first_s * 1000 <= sample[1] <= last_s * 1000}
    assert inside and exported(tmp_path)["up"] == inside


def test_an_export_does_not_mix_with_what_is_there(stored, tmp_path):
    data, _ = stored
    (tmp_path / "file").write_text("")
    with pytest.raises(AssertionError, match="not empty"):
        run("export", "--data", data, "--signal", "metrics", "--out", tmp_path)
