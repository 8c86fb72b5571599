"""The functions started by hand against the Runtime API of `cargo lambda watch`, a second implementation of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

import otlp
from aws import bootstrap_of, free_port
from lambdas import storage_variables, zip_of
from spandrel import PROTOBUF, environment, v3_result

pytestmark = [pytest.mark.xdist_group("ministack"), pytest.mark.timeout(120)]


def end(process):
    """Ends a process and the group that it started in."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


@pytest.fixture
def watch(ministack, tmp_path):
    """Base URL of the emulated function URLs; both functions run behind it."""
    ministack.create_storage("watch")
    # It looks for the functions' names among the binaries of the project that it is started in.
    (tmp_path / "src" / "bin").mkdir(parents=True)
    for name in ("ingest", "query"):
        (tmp_path / "src" / "bin" / f"{name}.rs").write_text("fn main() {}\n")
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n\n[workspace]\n')
    port = free_port()
    started = []
    with open(tmp_path / "log", "wb") as log:

        def start(command, **env):
            options = {"cwd": tmp_path, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            started.append(subprocess.Popen(command, env=environment(**env), start_new_session=True, **options))

        try:
            cargo_lambda = str(Path(sys.executable).parent / "cargo-lambda")
            start(
                [cargo_lambda, "lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
            )
            wait_until_it_listens(port, started[0], tmp_path / "log")
            for name in ("ingest", "query"):
                (tmp_path / name).mkdir()
                start(
                    [str(bootstrap_of(zip_of(name), tmp_path / name))],
                    **ministack.environment(),
                    **storage_variables("watch"),
                    # Its events name no function URL, yet carry paths as they were sent.
                    SPANDREL_RAW_PATH="encoded",
                    AWS_LAMBDA_RUNTIME_API=f"http://127.0.0.1:{port}/.rt/{name}",
                    AWS_LAMBDA_FUNCTION_NAME=name,
                    AWS_LAMBDA_FUNCTION_VERSION="1",
                    AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512",
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            for process in reversed(started):
                end(process)
            print((tmp_path / "log").read_text(errors="replace")[-4000:])


def wait_until_it_listens(port, process, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError(f"cargo lambda watch did not start\n{log.read_text(errors='replace')}")


def test_functions_work_on_another_runtime_api(watch):
    """Paths arrive as they were sent here, where the other emulator decodes them."""
    message = otlp.request(service="a/b", n_spans=3)
    (trace_id,) = otlp.trace_ids(message)
    url = f"{watch}/lambda-url"
    response = requests.post(
        f"{url}/ingest/v1/traces", data=message.SerializeToString(), headers={"Content-Type": PROTOBUF}, timeout=30
    )
    assert (response.status_code, response.content) == (200, b"")
    response = requests.get(f"{url}/query/jaeger/api/v3/traces/{trace_id}", timeout=30)
    assert response.status_code == 200, response.text
    otlp.assert_same(otlp.records(message), otlp.records(v3_result(response)))
    response = requests.get(f"{url}/query/jaeger/api/services/a%2Fb/operations", timeout=30)
    assert sorted(response.json()["data"]) == ["GET /cart", "step 1", "step 2"]

    started = time.monotonic()
    n = 200
    with requests.Session() as session:
        for _ in range(n):
            assert session.get(f"{url}/query/jaeger/api/services", timeout=30).json()["data"] == ["a/b"]
    print(f"{(time.monotonic() - started) / n * 1e3:.2f} ms a request")
