"""The real zips of ingest and query in an AWS emulator, behind function URLs."""

import base64
import concurrent.futures
import gzip
import json
import zipfile
from urllib.parse import unquote

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

import jaeger
import otlp
from aws import url_event
from cases import raw_request
from lambdas import storage_variables, zip_of
from spandrel import JSON, PROTOBUF, Server

pytestmark = [pytest.mark.xdist_group("ministack"), pytest.mark.timeout(180)]


class Deployment:
    """Both functions on one bucket and one table."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        stack.create_storage(name)
        self.ingest = stack.create_function(f"{name}-ingest", zip_of("ingest"), storage_variables(name))
        self.query = stack.create_function(f"{name}-query", zip_of("query"), storage_variables(name))

    def post(self, body, content_type=PROTOBUF, path="/v1/traces", **headers):
        headers = {"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.ingest.request("POST", path, body, headers)

    def send(self, *messages):
        for message in messages:
            status, _, body = self.post(message.SerializeToString())
            assert (status, body) == (200, b"")

    def trace_v3(self, trace_id):
        result = self.query.get_json(f"/jaeger/api/v3/traces/{trace_id}")["result"]
        return otlp.from_json(otlp.ExportTraceServiceRequest(), result)


@pytest.fixture(scope="module")
def deployment(ministack):
    return Deployment(ministack, "lambda")


@pytest.mark.parametrize("name", ["ingest", "query"])
def test_zip_is_small_and_starts_on_the_runtime(name):
    """One executable file named bootstrap that needs no newer C library than the runtime's 2.34."""
    path = zip_of(name)
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        binary = archive.read(entry)
    assert entry.filename == "bootstrap"
    assert entry.external_attr >> 16 & 0o111, "executable"
    versions = {tuple(map(int, v.split(b"."))) for v in set(_glibc_versions(binary))}
    print(f"{name}: zip {path.stat().st_size:,} bytes, binary {len(binary):,} bytes, glibc {max(versions)}")
    assert max(versions) <= (2, 34)
    assert path.stat().st_size < 20_000_000


def _glibc_versions(binary):
    at = 0
    while (at := binary.find(b"GLIBC_2.", at)) >= 0:
        end = binary.index(b"\0", at)
        if end - at < 16:
            yield binary[at + 6 : end]
        at = end


def test_sdk_trace_goes_through_both_functions(deployment):
    """The Python SDK posts to the ingest URL, the query URL shows the trace, nothing in between is ours."""
    for compression in (Compression.NoCompression, Compression.Gzip):
        provider = TracerProvider(resource=Resource.create({"service.name": "lambda-shop"}))
        # The emulator tells function URLs apart by the host, which no name server here knows.
        headers = {"Host": deployment.ingest.host}
        exporter = OTLPSpanExporter(f"{deployment.stack.url}/v1/traces", headers=headers, compression=compression)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("shop", "1.0")
        with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER, attributes={"a": 1, "b": b"\x00\xff"}) as root:
            tracer.start_span("step").end()
        provider.shutdown()
        trace_id = f"{root.get_span_context().trace_id:032x}"
        spans = otlp.records(deployment.trace_v3(trace_id))
        assert sorted(record["span"]["name"] for record in spans.values()) == ["GET /", "step"]
    assert "lambda-shop" in deployment.query.get_json("/jaeger/api/services")["data"]
    found = deployment.query.get_json("/jaeger/api/traces?service=lambda-shop&tags=%7B%22a%22%3A%221%22%7D")["data"]
    assert len(found) == 2


def test_every_field_survives_both_functions(deployment):
    message, trace_id = raw_request()
    deployment.send(message)
    n_fields = otlp.assert_same(otlp.records(message), otlp.records(deployment.trace_v3(trace_id)))
    print(f"{n_fields} fields equal through two functions")


@pytest.mark.parametrize("content_type, encoding", [(PROTOBUF, None), (PROTOBUF, "gzip"), (JSON, None)])
def test_bodies_and_answers_keep_their_encoding(deployment, content_type, encoding):
    """Protobuf arrives as base64, JSON as text. Not here: gzip in JSON, which gateways may hand over as broken text."""
    message = otlp.request(service="encoded")
    body = message.SerializeToString() if content_type == PROTOBUF else otlp.json_text(message)
    headers = {"Content_Encoding": "gzip"} if encoding else {}
    status, answered, answer = deployment.post(gzip.compress(body) if encoding else body, content_type, **headers)
    assert (status, answer) == (200, b"" if content_type == PROTOBUF else b"{}")
    assert answered["content-type"].split(";")[0] == content_type
    (trace_id,) = otlp.trace_ids(message)
    otlp.assert_same(otlp.records(message), otlp.records(deployment.trace_v3(trace_id)))


def test_protobuf_answers_are_not_corrupted(deployment):
    """A partial success and an error are binary: they must not come back as base64 text or as broken UTF-8."""
    message = otlp.request(n_spans=200)
    for span in message.resource_spans[0].scope_spans[0].spans[:150]:
        span.trace_id = b"\xff" * 15
    status, headers, body = deployment.post(message.SerializeToString())
    assert (status, headers["content-type"]) == (200, PROTOBUF)
    assert otlp.ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == 150
    status, headers, body = deployment.post(b"nonsense")
    assert (status, headers["content-type"]) == (400, PROTOBUF)


def test_retries_at_other_instances_store_once(deployment):
    """The same request eight times at once: several function instances, one object."""
    before = len(deployment.stack.objects(deployment.name))
    body = otlp.request(service="retried").SerializeToString()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: deployment.post(body)[0], range(8)))
    assert answers == [200] * 8
    assert len(deployment.stack.objects(deployment.name)) == before + 1


def test_stored_files_are_those_of_the_local_server(deployment, tmp_path):
    """The same request gives the same object, byte for byte, under the same name."""
    message = otlp.request(service="same")
    with Server(tmp_path / "data") as server:
        server.send(message)
        (file,) = server.stored_files()
    deployment.send(message)
    key = f"data/{file.relative_to(tmp_path / 'data' / 'objects')}"
    assert deployment.stack.objects(deployment.name)[key] == file.read_bytes()


def test_paths_with_escapes_and_raw_query_characters(deployment):
    """What the emulator's gateway passes on: decoded paths, re-encoded queries."""
    message = otlp.request(service="a/b ü", name="GET /x?y=1#z", values={"k": "v w+x%", "q": '{ .a = "b" }'})
    deployment.send(message)
    (trace_id,) = otlp.trace_ids(message)
    for target in ("/jaeger/api/services/a%2Fb%20%C3%BC/operations", "/jaeger/api/services/a/b%20%C3%BC/operations"):
        assert deployment.query.get_json(target)["data"] == ["GET /x?y=1#z"], target
    for target in (
        "/jaeger/api/traces?service=a%2Fb+%C3%BC",
        "/jaeger/api/traces?service=a/b%20%C3%BC&operation=GET+/x%3Fy%3D1%23z",
        '/jaeger/api/traces?service=a/b%20%C3%BC&tags={"k":"v%20w%2Bx%25"}',
        "/jaeger/api/traces?service=a/b%20%C3%BC&tag=k:v+w%2Bx%25&tag=q:%7B%20.a%20%3D%20%22b%22%20%7D",
    ):
        found = deployment.query.get_json(target)["data"]
        assert [trace["traceID"] for trace in found] == [trace_id], target


def events_for(path, query):
    """The same GET as a function URL hands it over (as sent) and as an HTTP API does (path decoded once)."""
    yield url_event(path=path, query=query)
    yield url_event(path=unquote(path), query=query, domain="abc.execute-api.us-east-1.amazonaws.com")


@pytest.mark.parametrize(
    "path, query",
    [
        ("/jaeger/api/services/a%2Fb/operations", ""),
        ("//jaeger//api/services/a%2Fb/operations", ""),
        ("/jaeger/api/traces", "service=a%2Fb"),
        ("/jaeger/api/traces", "service=a/b&tags={ \"k\" : \"v w\" }"),
        ("/jaeger/api/traces", "service=a/b&tag=k:v w"),
        ("/jaeger/api/traces", "service=a/b&tag=k:v+w"),
        ("/jaeger/api/traces", "service=a/b&tag=u:ü|<>`^\\{}\"'"),
        ("/jaeger/api/traces", "service=a/b&tag=k:v%20w&tag=n:1,2"),
        ("/jaeger/api/traces", "service=a/b&tag=p:100%"),
    ],
)
def test_events_with_raw_characters_do_not_kill_the_function(deployment, path, query):
    """Literal spaces, quotes, braces and non-ASCII in `rawQueryString`, seen in the field; repeated keys with commas."""
    message = otlp.request(
        service="a/b", name="op", values={"k": "v w", "n": "1,2", "u": "ü|<>`^\\{}\"'", "p": "100%"}
    )
    deployment.send(message)
    (trace_id,) = otlp.trace_ids(message)
    for event in events_for(path, query):
        answer = deployment.query.invoke(event)
        assert answer["statusCode"] == 200, answer
        body = json.loads(base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else answer["body"])
        if "operations" in path:
            assert body["data"] == ["op"]
        else:
            assert trace_id in [trace["traceID"] for trace in body["data"]]


def test_events_of_every_shape_are_answered(deployment):
    """Base64 of a text type, a missing body, a stage, a health check, a nonsense body: always an HTTP answer."""
    message = otlp.request(service="events")
    body = message.SerializeToString()

    def post(**fields):
        return deployment.ingest.invoke(url_event(method="POST", path="/v1/traces", **fields))

    as_base64 = base64.b64encode(body).decode()
    answer = post(body=as_base64, base64=True, headers={"content-type": PROTOBUF})
    assert answer["statusCode"] == 200, answer
    answer = post(body=base64.b64encode(otlp.json_text(message)).decode(), base64=True, headers={"content-type": JSON})
    assert answer["statusCode"] == 200, answer
    answer = post(body=base64.b64encode(gzip.compress(body)).decode(), base64=True, headers={"content-type": PROTOBUF, "content-encoding": "gzip"})
    assert answer["statusCode"] == 200, answer
    assert post(headers={"content-type": PROTOBUF})["statusCode"] == 200, "no body is an empty request"
    assert post(body="!!!", base64=True, headers={"content-type": PROTOBUF})["statusCode"] == 400
    assert post(body=as_base64, base64=True)["statusCode"] == 415
    assert deployment.ingest.invoke(url_event(path="/v1/traces"))["statusCode"] == 405
    assert deployment.ingest.invoke(url_event(path="/nothing"))["statusCode"] == 404
    assert deployment.query.invoke(url_event(path="/jaeger/api/traces/zz"))["statusCode"] in (400, 404)
    (trace_id,) = otlp.trace_ids(message)
    otlp.assert_same(otlp.records(message), otlp.records(deployment.trace_v3(trace_id)))


def test_storage_that_fails_is_an_error_to_retry(ministack):
    """A table that is not there: 503, not 500, so that exporters keep the data; never an unhandled failure."""
    ministack.client("s3").create_bucket(Bucket="half")
    variables = {**storage_variables("half"), "SPANDREL_INDEX": "dynamodb://missing"}
    ingest = ministack.create_function("half-ingest", zip_of("ingest"), variables)
    status, headers, _ = ingest.request("POST", "/v1/traces", otlp.request().SerializeToString(), {"Content-Type": PROTOBUF})
    assert (status, headers["content-type"]) == (503, PROTOBUF)


def test_missing_settings_are_named(ministack):
    ingest = ministack.create_function("bare-ingest", zip_of("ingest"), {})
    status, _, body = ingest.request("POST", "/v1/traces", otlp.request().SerializeToString(), {"Content-Type": PROTOBUF})
    print(status, body)
    assert status >= 500


def test_answers_are_compressed_on_request(deployment):
    message = otlp.request(service="zipped", n_spans=300)
    deployment.send(message)
    (trace_id,) = otlp.trace_ids(message)
    status, headers, body = deployment.query.request("GET", f"/jaeger/api/traces/{trace_id}", headers={"Accept-Encoding": "gzip"})
    assert (status, headers.get("content-encoding")) == (200, "gzip")
    (trace,) = json.loads(gzip.decompress(body))["data"]
    jaeger.assert_shows(trace, otlp.records(message))


def test_an_answer_too_large_for_lambda_is_a_clear_error(deployment):
    """Over 6 MB of JSON the platform would answer with its own generic 5xx: the function says so first."""
    trace_id = otlp.new_trace_id()
    for part in range(4):
        message = otlp.request(service="large", trace_id=trace_id, n_spans=1, values={f"v{i}": "x" * 400_000 + str(i) for i in range(6)})
        message.resource_spans[0].scope_spans[0].spans[0].span_id = bytes([1 + part]) * 8
        deployment.send(message)
    status, headers, body = deployment.query.request("GET", f"/jaeger/api/traces/{trace_id.hex()}")
    assert status == 413, (status, body[:300])
    assert json.loads(body)["errors"][0]["code"] == 413
    status, headers, body = deployment.query.request("GET", f"/jaeger/api/traces/{trace_id.hex()}", headers={"Accept-Encoding": "gzip"})
    assert status == 200, "compressed it fits"
