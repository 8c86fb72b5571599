"""A store that answers 503 for a while: senders are told to come again, nothing that was acknowledged is lost, all settles."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

import otlp
from load import assert_stored_once
from spandrel import PROTOBUF, Server
from test_compaction import settled_s, wait_until

SECOND_NS = 1_000_000_000
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "date", "server"}


class Unreliable:
    """A proxy in front of an AWS that answers every request by 503 while `is_out`. A context manager."""

    def __init__(self, upstream):
        self.is_out, self.n_refused = False, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if proxy.is_out:
                    proxy.n_refused += 1
                    return self.send(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
                headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
                done = requests.request(self.command, upstream + self.path, data=body, headers=headers, timeout=60)
                self.send(done.status_code, {k: v for k, v in done.headers.items() if k.lower() not in HOP_BY_HOP}, done.content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def send(self, status, headers, body):
                self.send_response_only(status)
                for key, value in headers.items():
                    if key.lower() != "content-encoding":
                        self.send_header(key, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(body)))
                elif "Content-Length" not in headers:
                    self.send_header("Content-Length", "0")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        # A question by id asks for all windows at once.
        listener = type("Listener", (ThreadingHTTPServer,), {"request_queue_size": 256})
        self.server = listener(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.xdist_group("ministack")
@pytest.mark.timeout(180)
def test_a_store_that_answers_503_for_a_while_costs_no_data(ministack, tmp_path):
    ministack.create_storage("outage")
    start_ns = settled_s() * SECOND_NS
    messages = [otlp.request(service=f"service-{n % 2}", n_spans=3, start_ns=start_ns + n * SECOND_NS) for n in range(16)]
    before, during = messages[:10], messages[10:]
    with Unreliable(ministack.url) as store:
        env = {**ministack.environment(), "AWS_ENDPOINT_URL": store.url, "SPANDREL_COMPACT_GRACE_S": "1"}
        locations = ["--object-store", "s3://outage/prefix", "--index", "dynamodb://outage", "--compact-interval-ms", 100]
        with Server(tmp_path / "data", *locations, env=env) as server:
            server.send(*before)
            assert_stored_once(server, before)
            store.is_out = True
            for message in during:
                response = server.post(message.SerializeToString())
                assert (response.status_code, response.headers["content-type"]) == (503, PROTOBUF), response.content
            answer = requests.get(f"{server.jaeger}/api/services", timeout=60)
            assert answer.status_code >= 500, "what cannot be read is no empty answer"
            wait_until(lambda: server.metric("spandrel_compact_failures_total") > 0)
            assert store.n_refused > len(during)
            store.is_out = False
            server.send(*during)
            assert_stored_once(server, messages)
            # One file that comes late waits for others.
            wait_until(lambda: sum(window.n_files for window in server.stored_windows() if window.level == 0) <= 1)
            assert sum(window.n_items for window in server.stored_windows()) == 48, "no request is stored twice"
            assert_stored_once(server, messages)
