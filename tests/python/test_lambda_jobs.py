"""A query function that invokes itself: large searches are split among invocations of the real zip in an AWS emulator."""

import json
from urllib.parse import urlencode

import pytest

import otlp
from aws import url_event
from lambdas import storage_variables, zip_of
from spandrel import PROTOBUF

pytestmark = [pytest.mark.xdist_group("ministack"), pytest.mark.timeout(180)]

N_FILES = 24
# Each file counts as one request at least, so that these are some ten shares.
SHARE = {"SPANDREL_QUERY_SHARE_BYTES": "400000", "SPANDREL_SEARCH_CACHE_BYTES": "0"}


@pytest.fixture(scope="module")
def stored(ministack):
    """Two query functions over the same files: one that splits searches, one that does not."""
    ministack.create_storage("jobs")
    variables = storage_variables("jobs")
    ingest = ministack.create_function("jobs-ingest", zip_of("ingest"), variables)
    split = ministack.create_function("jobs-query", zip_of("query"), {**variables, **SHARE, "SPANDREL_QUERY_JOBS": "4"})
    alone = ministack.create_function("jobs-alone", zip_of("query"), {**variables, **SHARE, "SPANDREL_QUERY_JOBS": "0"})
    for number in range(N_FILES):
        message = otlp.request(service="shop", n_spans=2, values={"number": str(number)})
        status, _, body = ingest.request("POST", "/v1/traces", message.SerializeToString(), {"Content-Type": PROTOBUF})
        assert (status, body) == (200, b"")
    return split, alone


def searched(function, **params):
    """The traces that a search finds, and its statistics."""
    page = function.get_json(f"/spandrel/api/v1/search/traces?{urlencode(params)}")
    assert "next" not in page
    return [trace["traceId"] for trace in page["traces"]], page["stats"]


def test_a_large_search_is_split_among_invocations(stored):
    split, alone = stored
    nothing = {"jobs": 0, "hedges": 0, "retries": 0, "keptFiles": 0}
    expect, stats = searched(alone, service="shop", limit=100)
    assert (len(expect), stats) == (N_FILES, nothing)
    traces, stats = searched(split, service="shop", limit=100)
    assert (traces, stats["jobs"], stats["retries"]) == (expect, 4, 0), stats
    rare, stats = searched(split, service="shop", tag="number:7", limit=100)
    assert (rare, stats["jobs"]) == (searched(alone, service="shop", tag="number:7", limit=100)[0], 4)
    assert len(rare) == 1
    recent, stats = searched(split, service="shop", limit=1, tag="number:23")
    status, _, _ = split.request("GET", "/jaeger/api/services")
    assert (len(recent), status) == (1, 200)


def test_jobs_come_by_invocation_only(stored):
    split, _ = stored
    job = {"spandrelJob": {"version": 9}}
    assert split.invoke(job) == {"failed": "version 9 of the message is not known"}
    for path in ["/", "/job", "/jaeger/api/traces"]:
        status, _, body = split.request("POST", path, json.dumps(job).encode(), {"Content-Type": "application/json"})
        assert status in (404, 405) and b"failed" not in body, (path, status, body)
    answer = split.invoke({**url_event(method="POST", path="/job", body=json.dumps(job)), **job})
    assert answer["statusCode"] in (404, 405), "what looks like a request is one"
