"""A folder that cannot be written, a full disk, a file that cannot grow, a stop under load."""

import os
import resource
import shutil
import signal
import subprocess
import threading

import pytest

import otlp
from load import Load, assert_stored_once
from spandrel import PROTOBUF, Server

MEBIBYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """An own file system of 24 MiB; skipped where this user may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def start_must_fail(data):
    """Starts on `data`, expects a clear error, and returns what was printed."""
    server = Server(data)
    done = subprocess.run(server.command, env=server.env, capture_output=True, text=True, timeout=30)
    text = done.stdout + done.stderr
    print(text)
    assert done.returncode > 0, done.returncode
    assert "panicked" not in text
    return text


def test_a_read_only_folder_is_a_clear_error_at_start(small_disk):
    remount(small_disk, "ro")
    text = start_must_fail(small_disk / "data")
    assert str(small_disk / "data") in text


def test_a_data_folder_that_is_a_file_is_a_clear_error_at_start(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    text = start_must_fail(tmp_path / "data")
    assert str(tmp_path / "data") in text
    assert (tmp_path / "data").read_text() == "not a folder"


def is_refused_for_now(response):
    """503 with a status message: the client keeps the data and sends it again. 500 would make it drop the data."""
    return response.status_code == 503 and response.headers["content-type"] == PROTOBUF and response.content != b""


def test_a_folder_that_becomes_read_only_is_an_error_to_retry(small_disk):
    before, during = otlp.request(service="before"), otlp.request(service="during")
    with Server(small_disk / "data") as server:
        server.send(before)
        # Open files keep a file system from becoming read-only, so the objects' folder is taken away instead.
        objects = small_disk / "data" / "objects"
        hidden = small_disk / "hidden"
        objects.rename(hidden)
        objects.write_text("")
        response = server.post(during.SerializeToString())
        assert is_refused_for_now(response), (response.status_code, response.content)
        objects.unlink()
        hidden.rename(objects)
        server.send(during)
        assert_stored_once(server, [before, during])


def incompressible(n_bytes):
    """A request of one span whose stored form is about `n_bytes` long, in values below the limit of one value."""
    sizes = [500_000] * (n_bytes // 500_000) + [n_bytes % 500_000]
    return otlp.request(service="big", values={f"noise {i}": os.urandom(size) for i, size in enumerate(sizes)})


def test_a_full_disk_refuses_and_recovers(small_disk):
    """Until the disk is full every request is stored; then 503; after room was made, all is well again."""
    with Server(small_disk / "data") as server:
        stored, refused = [], None
        for _ in range(200):
            message = incompressible(200_000)
            response = server.post(message.SerializeToString())
            if response.status_code != 200:
                refused = message
                break
            stored.append(message)
        assert refused is not None, "the disk never became full"
        assert is_refused_for_now(response), (response.status_code, response.content)
        print(f"{len(stored)} requests stored before the disk was full: {response.content!r}")
        for _ in range(5):
            assert is_refused_for_now(server.post(incompressible(2_000_000).SerializeToString()))
        assert stored
        assert_stored_once(server, stored)

        remount(small_disk, "size=96m")
        server.send(refused)
        stored.append(refused)
        assert_stored_once(server, stored)

    leftovers = [path for path in (small_disk / "data" / "objects").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert leftovers == [], "no half-written files are left"
    with Server(small_disk / "data") as server:
        assert_stored_once(server, stored)


def test_a_disk_that_is_full_at_start_is_a_clear_error(small_disk):
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free))
    start_must_fail(small_disk / "data")


def test_a_file_that_cannot_grow_is_an_error_to_retry(tmp_path):
    """A limit on file sizes: a large object fails with EFBIG, smaller ones are stored."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MEBIBYTE, 8 * MEBIBYTE))

    small = otlp.request(service="small")
    large = otlp.ExportTraceServiceRequest()
    for _ in range(12):
        large.MergeFrom(incompressible(1_000_000))
    with Server(tmp_path / "data", preexec_fn=limit) as server:
        server.send(small)
        response = server.post(large.SerializeToString())
        assert is_refused_for_now(response), (response.status_code, response.content)
        another = otlp.request(service="another")
        server.send(another)
        assert_stored_once(server, [small, another])
        for trace_id in otlp.trace_ids(large):
            assert server.get(f"/api/traces/{trace_id}").status_code == 404
    with Server(tmp_path / "data") as server:
        server.send(large)
        assert_stored_once(server, [small, another])


def test_a_stop_under_load_ends_well_and_loses_nothing(tmp_path):
    server = Server(tmp_path / "data").start()
    try:
        with Load(server.http) as load:
            load.wait_for(200)
            load.gives_up.set()
            load.is_stopping.set()
            server.stop()
        assert load.statuses <= {200, 503}, load.statuses
    finally:
        server.kill()
    print(f"{len(load.acknowledged)} of {len(load.begun)} requests acknowledged before the stop")
    with Server(tmp_path / "data") as server:
        assert_stored_once(server, load.acknowledged)


def test_a_stop_waits_for_the_request_in_flight(tmp_path):
    """SIGTERM while a body is still arriving: the request is finished, then the server ends with 0."""
    message = otlp.request(service="in flight", n_spans=50)
    body = message.SerializeToString()
    arrived, stopped = threading.Event(), threading.Event()

    def chunks():
        yield body[:100]
        arrived.set()
        stopped.wait(10)
        yield body[100:]

    answers = []
    with Server(tmp_path / "data") as server:
        sender = threading.Thread(target=lambda: answers.append(server.post(chunks()).status_code))
        sender.start()
        arrived.wait(10)
        server.send(otlp.request())
        server.signal(signal.SIGTERM)
        stopped.set()
        assert server.wait() == 0
        sender.join()
    assert answers == [200]
    with Server(tmp_path / "data") as server:
        assert_stored_once(server, [message])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_with_code_0(tmp_path, number):
    with Server(tmp_path / "data") as server:
        server.signal(number)
        assert server.wait() == 0
