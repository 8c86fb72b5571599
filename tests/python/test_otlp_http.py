"""The OTLP/HTTP door: encodings, content types, prefixes, limits, errors and partial success."""

import concurrent.futures
import http.client
import json
import socket
import struct
import zlib
from urllib.parse import urlsplit

import pytest
import requests
import zstandard
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

import otlp
from spandrel import JSON, PROTOBUF, Server

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
# The default limit of a decompressed body. Copies of it may exist while a request is refused.
BODY_LIMIT_BYTES = 64 * MEBIBYTE


def gzip_body(body):
    return otlp.gzipped(body)


def zstd_body(body):
    return zstandard.ZstdCompressor().compress(body)


def streamed_zstd_body(body):
    """A frame that does not say how long its content is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return compressor.compress(body) + compressor.flush()


def raw_deflate_body(body):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


ENCODINGS = {
    "none": (None, bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip_body),
    "gzip, upper case": ("GZIP", gzip_body),
    "gzip of two members": ("gzip", lambda body: gzip_body(body[:7]) + gzip_body(body[7:])),
    "zstd": ("zstd", zstd_body),
    "zstd, streamed": ("zstd", streamed_zstd_body),
    "deflate": ("deflate", zlib.compress),
}


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_accepted(server, encoding, content_type):
    name, compress = ENCODINGS[encoding]
    message = otlp.request(service="encodings", n_spans=3)
    body = message.SerializeToString() if content_type == PROTOBUF else otlp.json_text(message)
    response = server.post(compress(body), content_type, **({"Content_Encoding": name} if name else {}))
    assert response.status_code == 200, response.content
    assert_full_success(response, content_type)
    (trace_id,) = otlp.trace_ids(message)
    otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id)))


def assert_full_success(response, content_type):
    """200 with the response message of the request's encoding and no partial success in it."""
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == content_type
    if content_type == JSON:
        assert response.json() in ({}, {"partialSuccess": {}})
    else:
        assert response.content == b""


@pytest.mark.parametrize(
    "content_type, answered_as",
    [
        ("application/x-protobuf", PROTOBUF),
        ("application/x-protobuf; charset=utf-8", PROTOBUF),
        ("Application/X-Protobuf", PROTOBUF),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/json;charset=UTF-8;v=1", JSON),
        ("APPLICATION/JSON", JSON),
    ],
)
def test_media_type_parameters_and_case_are_ignored(server, content_type, answered_as):
    message = otlp.request()
    body = message.SerializeToString() if answered_as == PROTOBUF else otlp.json_text(message)
    assert_full_success(server.post(body, content_type), answered_as)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/octet-stream", "nonsense", ""])
def test_other_media_types_are_refused(server, content_type):
    response = server.post(otlp.request().SerializeToString(), content_type)
    assert response.status_code == 415
    assert response.headers["content-type"].startswith("text/plain")
    assert "application/x-protobuf" in response.text


def test_a_missing_media_type_is_refused(server):
    address = urlsplit(server.http)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request("POST", "/v1/traces", body=otlp.request().SerializeToString())
    assert connection.getresponse().status == 415
    connection.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(server, method):
    response = requests.request(method, server.http + "/v1/traces", timeout=30)
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("prefix", ["", "/", "/base", "/base/", "/a/b/c", "/jaeger/api/otlp"])
def test_a_prefix_before_the_path_is_accepted(server, prefix):
    """`OTEL_EXPORTER_OTLP_ENDPOINT=http://host/base` and a base that ends with a slash."""
    message = otlp.request()
    response = server.post(message.SerializeToString(), path=f"{prefix}/v1/traces")
    assert response.status_code == 200, response.text
    assert server.get(f"/api/traces/{otlp.trace_ids(message)[0]}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/trace", "/v2/traces", "/v1/traces/x"])
def test_other_paths_are_not_found(server, path):
    response = server.post(otlp.request().SerializeToString(), path=path)
    assert response.status_code in (404, 405), response.content
    assert server.services() == []


def test_an_empty_request_is_a_success(server):
    assert_full_success(server.post(b""), PROTOBUF)
    assert_full_success(server.post(b"{}", JSON), JSON)
    assert_full_success(server.post(b'{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}', JSON), JSON)
    assert server.services() == []


def test_a_chunked_body_is_accepted(server):
    message = otlp.request(n_spans=200)
    body = message.SerializeToString()
    chunks = (body[i : i + 1000] for i in range(0, len(body), 1000))
    assert_full_success(server.post(chunks), PROTOBUF)
    assert len(server.trace_v1(otlp.trace_ids(message)[0])["spans"]) == 200


def error_message(response, content_type):
    """The message of a google.rpc.Status in the request's encoding."""
    assert response.headers["content-type"].split(";")[0] == content_type, response.headers
    if content_type == JSON:
        status = response.json()
        assert set(status) <= {"code", "message", "details"}, status
        return status["message"]
    try:
        return Status.FromString(response.content).message
    except DecodeError:
        raise AssertionError(f"not a google.rpc.Status: {response.content!r}") from None


VALID = otlp.request(service="valid").SerializeToString()
MALFORMED = {
    "truncated": (PROTOBUF, VALID[:-3], None),
    "noise": (PROTOBUF, bytes(range(256)) * 4, None),
    "text": (PROTOBUF, b"hello", None),
    "a length beyond the end": (PROTOBUF, b"\x0a\xff\xff\xff\xff\x07", None),
    "json, truncated": (JSON, b'{"resourceSpans":[{', None),
    "json, a list": (JSON, b"[]", None),
    "json, not UTF-8": (JSON, b'{"resourceSpans":"\xff"}', None),
    "json, a wrong type": (JSON, b'{"resourceSpans":{"scopeSpans":5}}', None),
    "json, 100,000 lists": (JSON, b'{"resourceSpans":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "not gzip": (PROTOBUF, VALID, "gzip"),
    "gzip, truncated": (PROTOBUF, otlp.gzipped(VALID)[:-9], "gzip"),
    "gzip, a wrong checksum": (PROTOBUF, otlp.gzipped(VALID)[:-8] + b"\0\0\0\0" + otlp.gzipped(VALID)[-4:], "gzip"),
    "not zstd": (PROTOBUF, VALID, "zstd"),
    "zstd, truncated": (PROTOBUF, zstd_body(VALID)[:-3], "zstd"),
    "not deflate": (PROTOBUF, VALID, "deflate"),
    "empty gzip": (JSON, b"", "gzip"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_answered_400(server, case):
    content_type, body, encoding = MALFORMED[case]
    response = server.post(body, content_type, **({"Content_Encoding": encoding} if encoding else {}))
    assert response.status_code == 400, response.content
    message = error_message(response, content_type)
    assert message and len(message) < 1000, message
    assert server.services() == []
    assert server.post(VALID).status_code == 200


def test_unknown_json_fields_may_nest_as_deeply_as_they_like(server):
    """They are skipped, or the body is refused; a parser that recurses would end the process here."""
    body = b'{"resourceSpans":[],"a":' + b'{"a":[' * 100_000 + b"1" + b"]}" * 100_000 + b"}"
    assert server.post(body, JSON).status_code in (200, 400)
    assert server.post(VALID).status_code == 200


def test_unknown_content_encodings_are_refused(server):
    for encoding in ["br", "nonsense", "gzip, gzip, gzip"]:
        response = server.post(VALID, Content_Encoding=encoding)
        assert response.status_code in (400, 415), (encoding, response.status_code)


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_invalid_spans_are_rejected_and_the_rest_is_kept(server, content_type):
    message = otlp.request(service="partial", n_spans=6)
    spans = message.resource_spans[0].scope_spans[0].spans
    kept = otlp.ExportTraceServiceRequest.FromString(message.SerializeToString())
    spans[1].trace_id = spans[1].trace_id[:15]
    spans[2].trace_id = b""
    spans[3].span_id = b"\0" * 8
    spans[4].span_id = b"123456789"
    del kept.resource_spans[0].scope_spans[0].spans[1:5]
    body = message.SerializeToString() if content_type == PROTOBUF else otlp.json_text(message)

    for _ in range(2):
        response = server.post(body, content_type)
        assert response.status_code == 200
        if content_type == PROTOBUF:
            partial = otlp.ExportTraceServiceResponse.FromString(response.content).partial_success
            rejected, text = partial.rejected_spans, partial.error_message
        else:
            partial = response.json()["partialSuccess"]
            assert partial["rejectedSpans"] == "4", "int64 is text"
            rejected, text = int(partial["rejectedSpans"]), partial["errorMessage"]
        assert (rejected, bool(text)) == (4, True)
        print(text)
        (trace_id,) = otlp.trace_ids(kept)
        otlp.assert_same(otlp.records(kept), otlp.records(server.trace_v3(trace_id)))


def test_a_span_with_text_that_is_not_utf8_is_rejected_alone(server):
    message = otlp.request(service="text", n_spans=2, name="GET /cart")
    (trace_id,) = otlp.trace_ids(message)
    response = server.post(message.SerializeToString().replace(b"GET /cart", b"GET\xff/cart"))
    assert response.status_code == 200
    partial = otlp.ExportTraceServiceResponse.FromString(response.content).partial_success
    assert (partial.rejected_spans, "UTF-8" in partial.error_message) == (1, True), partial
    assert len(server.trace_v1(trace_id)["spans"]) == 1


def test_values_nested_too_deeply_do_not_harm_the_rest(server):
    """A value of 10,000 levels: the request is refused or the span is rejected, and the server goes on."""
    message = otlp.request(service="deep", n_spans=2)
    value = message.resource_spans[0].scope_spans[0].spans[1].attributes.add(key="deep").value
    for _ in range(90):
        value = value.array_value.values.add()
    value.int_value = 1
    response = server.post(message.SerializeToString())
    assert response.status_code in (200, 400), response.content

    def length_prefixed(tag, body):
        return tag + varint(len(body)) + body

    nested = b"\x18\x01"
    for _ in range(10_000):
        nested = length_prefixed(b"\x2a", length_prefixed(b"\x0a", nested))
    attribute = length_prefixed(b"\x4a", length_prefixed(b"\x0a", b"deep") + length_prefixed(b"\x12", nested))
    (trace_id,) = otlp.trace_ids(message)
    span = b"\x0a\x10" + bytes.fromhex(trace_id) + b"\x12\x08" + b"\x01" * 8 + attribute
    body = length_prefixed(b"\x0a", length_prefixed(b"\x12", length_prefixed(b"\x12", span)))
    response = server.post(body)
    assert response.status_code in (200, 400), response.content
    if response.status_code == 200:
        assert otlp.ExportTraceServiceResponse.FromString(response.content).partial_success.rejected_spans == 1
    assert server.post(VALID).status_code == 200


def varint(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def test_json_numbers_out_of_range_are_a_clear_error(server):
    """One SDK writes doubles such as 1e308 as `intValue`."""
    message = otlp.to_json(otlp.request(service="range", values={"n": 1}))
    for number in [1.7976931348623157e308, 2**64, "9223372036854775808", "x", 1.5, True]:
        message["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"][0]["value"]["intValue"] = number
        response = server.post(json.dumps(message).encode(), JSON)
        assert response.status_code in (200, 400), (number, response.content)
        if response.status_code == 400:
            assert error_message(response, JSON)


def gzip_bomb(n_bytes):
    """gzip of `n_bytes` zero bytes, made without compressing them: one full-flushed block, repeated.

    Its length and checksum are never reached by a reader that stops at its limit.
    """
    compressor = zlib.compressobj(9, wbits=-15)
    unit = 16 * MEBIBYTE
    compressor.compress(b"\0") + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(unit)) + compressor.flush(zlib.Z_FULL_FLUSH)
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    return header + block * (n_bytes // unit) + b"\x03\x00" + struct.pack("<II", 0, n_bytes & 0xFFFFFFFF)


def zstd_bomb(n_bytes):
    """A zstd frame of `n_bytes` zero bytes: run-length blocks of 128 KiB, 4 bytes each."""
    n_blocks = n_bytes >> 17
    blocks = [(1 << 17) << 3 | 1 << 1 | (i == n_blocks - 1) for i in range(n_blocks)]
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(struct.pack("<I", block) for block in blocks)


@pytest.fixture(scope="module")
def bombs():
    made = {
        "gzip": gzip_bomb(10 * GIBIBYTE),
        "deflate": b"\x78\xda" + gzip_bomb(10 * GIBIBYTE)[10:],
        "zstd": zstd_bomb(10 * GIBIBYTE),
    }
    for encoding, size in [("gzip", gzip_bomb(64 * MEBIBYTE)), ("zstd", zstd_bomb(64 * MEBIBYTE))]:
        if encoding == "gzip":
            assert len(zlib.decompressobj(-15).decompress(size[10:])) == 64 * MEBIBYTE
        else:
            assert len(zstandard.ZstdDecompressor().decompressobj().decompress(size)) == 64 * MEBIBYTE
    return made


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_compression_bomb_is_refused_in_bounded_memory(server, bombs, encoding):
    """10 GiB of zeros, four at a time: 413, and memory stays near the limit of the decompressed body."""
    server.send(otlp.request())
    before = server.peak_memory_bytes()
    bomb = bombs[encoding]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: server.post(bomb, Content_Encoding=encoding), range(4)))
    assert [response.status_code for response in responses] == [413] * 4
    for response in responses:
        assert error_message(response, PROTOBUF)
    grown = server.peak_memory_bytes() - before
    print(f"{encoding}: {len(bomb)} bytes say 10 GiB; peak memory {before >> 20} MiB + {grown >> 20} MiB")
    # Per request its compressed body and at most the limit of the decompressed one.
    assert grown < 4 * (len(bomb) + BODY_LIMIT_BYTES) + 64 * MEBIBYTE
    server.send(otlp.request())


@pytest.mark.parametrize("is_length_declared", [True, False])
def test_a_body_over_the_limit_is_refused(server, is_length_declared):
    """100 MiB, with its length declared or chunked. The server may answer before it has read all of it."""
    address = urlsplit(server.http)
    chunk, n_chunks = bytes(MEBIBYTE), 100
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        length = f"Content-Length: {n_chunks * MEBIBYTE}" if is_length_declared else "Transfer-Encoding: chunked"
        connection.sendall(
            f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\n{length}\r\n\r\n".encode()
        )
        try:
            for _ in range(n_chunks):
                connection.sendall(chunk if is_length_declared else f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            if not is_length_declared:
                connection.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            status_line = connection.makefile("rb").readline()
        except ConnectionResetError:
            status_line = b""
    # A client that writes on after the answer may lose it to the reset; the server must live and have kept its memory.
    assert status_line in (b"", b"HTTP/1.1 413 Payload Too Large\r\n"), status_line
    assert server.peak_memory_bytes() < 400 * MEBIBYTE
    server.send(otlp.request())


def test_a_request_just_below_the_limit_is_stored(server):
    """About 40 MiB of protobuf that compresses well: a large, honest batch."""
    message = otlp.request(service="big", n_spans=20_000, values={"text": "a value of some length " * 80, "n": 1})
    body = message.SerializeToString()
    assert 30 * MEBIBYTE < len(body) < BODY_LIMIT_BYTES
    response = server.post(zstd_body(body), Content_Encoding="zstd")
    assert response.status_code == 200, response.content
    (trace_id,) = otlp.trace_ids(message)
    assert len(server.trace_v1(trace_id)["spans"]) == 20_000
    print(f"{len(body)} bytes, peak memory {server.peak_memory_bytes() >> 20} MiB")


def test_browsers_may_send(server):
    """The preflight of a browser's SDK: any origin, with its content type and own headers."""
    response = requests.options(
        server.http + "/v1/traces",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-custom",
        },
        timeout=30,
    )
    assert response.status_code in (200, 204)
    assert response.headers["access-control-allow-origin"] in ("*", "https://shop.example")
    allowed = response.headers["access-control-allow-headers"].lower()
    assert allowed == "*" or {"content-type", "x-custom"} <= {name.strip() for name in allowed.split(",")}
    response = server.post(VALID, Origin="https://shop.example")
    assert response.headers["access-control-allow-origin"] in ("*", "https://shop.example")


def test_tenants_do_not_see_each_other(server):
    mine, theirs = otlp.request(service="mine"), otlp.request(service="theirs")
    assert server.post(mine.SerializeToString(), X_Scope_OrgID="me").status_code == 200
    assert server.post(theirs.SerializeToString(), X_Scope_OrgID="them").status_code == 200

    def get(path, tenant):
        return requests.get(server.http + "/jaeger" + path, headers={"X-Scope-OrgID": tenant} if tenant else {}, timeout=30)

    assert get("/api/services", "me").json()["data"] == ["mine"]
    assert get("/api/services", "them").json()["data"] == ["theirs"]
    assert get("/api/services", None).json()["data"] == []
    (trace_id,) = otlp.trace_ids(mine)
    assert [get(f"/api/traces/{trace_id}", tenant).status_code for tenant in ("me", "them", None)] == [200, 404, 404]
    for tenant in ["../me", "a/b", "", "x" * 1000, "a b", "."]:
        status = server.post(VALID, X_Scope_OrgID=tenant).status_code
        assert status in (200, 400), (tenant, status)
    names = {path.name for path in (server.data / "objects").iterdir() if not path.name.startswith(".")}
    assert all(name.startswith("tenant=") for name in names), names
    assert {path.name for path in server.data.parent.iterdir()} == {"data"}, "nothing is written beside the folder"


def test_slow_and_broken_connections_do_not_stop_others(server):
    address = urlsplit(server.http)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(50)]
    for i, connection in enumerate(idle):
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"[: 10 + i])
    server.send(otlp.request())
    for connection in idle:
        connection.close()
    server.send(otlp.request())


def test_the_port_may_not_be_taken_twice(server, tmp_path):
    with pytest.raises(AssertionError, match="did not start"):
        Server(tmp_path / "other", http=server.http.removeprefix("http://")).start()
