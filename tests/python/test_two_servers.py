"""Two servers: refused on one folder, welcome on one object store and index."""

import concurrent.futures
import subprocess

import pytest

import otlp
from spandrel import Server


def test_a_second_server_on_the_same_folder_is_refused(server):
    server.send(otlp.request(service="first"))
    second = Server(server.data)
    done = subprocess.run(second.command, env=second.env, capture_output=True, text=True, timeout=30)
    text = done.stdout + done.stderr
    print(text)
    assert done.returncode not in (0, None) and done.returncode > 0, "an error, not a signal"
    assert "panicked" not in text
    assert str(server.data) in text
    assert any(word in text.lower() for word in ("in use", "lock", "another", "already")), text
    server.send(otlp.request(service="second"))
    assert sorted(server.services()) == ["first", "second"]


@pytest.mark.xdist_group("ministack")
def test_two_gateways_store_the_same_requests_once(ministack, tmp_path):
    """The same requests go to both at the same time: each is answered 200 by both and stored once."""
    ministack.create_storage("gateways")
    locations = ["--object-store", "s3://gateways/prefix", "--index", "dynamodb://gateways"]
    messages = [otlp.request(service=f"gw-{i % 3}", n_spans=3) for i in range(40)]
    bodies = [message.SerializeToString() for message in messages]
    with (
        Server(tmp_path / "a", *locations, env=ministack.environment()) as first,
        Server(tmp_path / "b", *locations, env=ministack.environment()) as second,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = [pool.submit(server.post, body) for body in bodies for server in (first, second, first)]
        assert [answer.result().status_code for answer in answers] == [200] * 120
        for server in (first, second):
            assert sorted(server.services()) == ["gw-0", "gw-1", "gw-2"]
            for message in messages:
                (trace_id,) = otlp.trace_ids(message)
                otlp.assert_same(otlp.records(message), otlp.records(server.trace_v3(trace_id)))
            found = server.search(service="gw-0", limit=100)
            assert sorted(len(trace["spans"]) for trace in found) == [3] * 14

    # One of each request, and none that was merged.
    objects = [key for key in ministack.objects("gateways") if "/l0-" in key]
    assert len(objects) == 40
    assert all(key.startswith("prefix/tenant=default/signal=traces/date=") for key in objects), objects[:3]
