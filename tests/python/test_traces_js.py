"""What the OpenTelemetry JavaScript SDK sends is read back without loss."""

import shutil
import subprocess

import pytest

import jaeger
import otlp
from spandrel import ROOT, environment

SCRIPT = ROOT / "tests" / "js" / "send.mjs"
NODE = shutil.which("node") or pytest.skip("node is not installed", allow_module_level=True)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_javascript_sdk_trace_is_read_back_without_loss(server, relay, encoding, compression):
    done = subprocess.run(
        [NODE, SCRIPT, encoding, compression, relay.url, "web"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    trace_id = done.stdout.strip()

    sent = relay.sent()
    assert len(sent) == 6
    for exchange in relay.exchanges:
        assert exchange.headers["content-type"] == f"application/{'json' if encoding == 'json' else 'x-protobuf'}"
        assert exchange.headers.get("content-encoding", "none") == compression

    n_fields = otlp.assert_same(sent, otlp.records(server.trace_v3(trace_id)))
    n_values = jaeger.assert_shows(server.trace_v1(trace_id), sent)
    print(f"{encoding}, {compression}: {n_fields} fields equal through API v3, {n_values} values through API v1")
