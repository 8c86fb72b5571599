"""Sustained loads that know what was acknowledged, and a server that crashes under them."""

import threading
import time

import requests

import otlp
import remote_write
from spandrel import PROTOBUF, Server


class Crashing:
    """A server that is killed and comes back on the same folder and ports. A context manager."""

    def __init__(self, data, *arguments, env=None):
        self.data, self.arguments, self.env = data, arguments, env
        self.server = Server(data, *arguments, env=env).start()
        self.ports = {name: url.removeprefix("http://") for name, url in [("http", self.server.http), ("jaeger", self.server.jaeger)]}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.server.stop()
        else:
            self.server.kill()
            print(self.server.log()[-4000:])

    def crash(self):
        """`kill -9`, and a new process."""
        self.server.kill()
        self.server = Server(self.data, *self.arguments, env=self.env, **self.ports).start()


class Load:
    """Threads that send requests of one trace each, and send each again until it is acknowledged.

    A context manager: on leaving, every request that was begun is finished or given up.
    `acknowledged` has the records of all spans whose request got a 2xx; `begun` those of every request sent.
    Spans start now, or with `start_ns` from then on, a second later with each request of a thread.
    """

    def __init__(self, url, *, n_threads=4, n_spans=4, requests_per_s=400, service="load", start_ns=None):
        self.url = f"{url}/v1/traces"
        self.n_threads, self.n_spans, self.service = n_threads, n_spans, service
        self.start_ns = start_ns
        self.pause_s = n_threads / requests_per_s
        self.acknowledged, self.begun = [], []
        self.n_retries, self.statuses = 0, set()
        self.is_stopping = threading.Event()
        self.gives_up = threading.Event()
        self.progress = threading.Condition()
        self.threads = [threading.Thread(target=self._send, args=(i,)) for i in range(n_threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.is_stopping.set()
        if kind is not None:
            self.gives_up.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, n_requests, timeout_s=30):
        """Waits until `n_requests` more requests have been acknowledged."""
        with self.progress:
            target = len(self.acknowledged) + n_requests
            reached = self.progress.wait_for(lambda: len(self.acknowledged) >= target, timeout_s)
        assert reached, f"only {len(self.acknowledged)} of {target} requests acknowledged; statuses {self.statuses}"

    def _send(self, thread):
        n = 0
        while not self.is_stopping.is_set():
            message = otlp.request(
                service=f"{self.service}-{thread}",
                n_spans=self.n_spans,
                start_ns=self.start_ns and self.start_ns + n * 1_000_000_000,
                values={"thread": thread, "n": n, "text": f"value {n} " * 20},
            )
            n += 1
            self.begun.append(message)
            started = time.monotonic()
            if self._deliver(message.SerializeToString()):
                with self.progress:
                    self.acknowledged.append(message)
                    self.progress.notify_all()
            self.is_stopping.wait(max(0.0, self.pause_s - (time.monotonic() - started)))

    def _deliver(self, body):
        while not self.gives_up.is_set():
            try:
                response = requests.post(self.url, data=body, headers={"Content-Type": PROTOBUF}, timeout=30)
                self.statuses.add(response.status_code)
                if response.status_code == 200:
                    return True
            except requests.RequestException:
                pass
            self.n_retries += 1
            self.gives_up.wait(0.02)
        return False


class Samples(threading.Thread):
    """Writes one request after the other, each until it is acknowledged; `n` is the number of those that were."""

    def __init__(self, base, start_ms):
        super().__init__(daemon=True)
        self.base, self.start_ms = base, start_ms
        self.n, self.n_retries, self.is_over, self.wrong = 0, 0, False, None

    def run(self):
        while not self.is_over:
            series = [({"__name__": "x", "n": str(n)}, [(self.start_ms + self.n, float(self.n))]) for n in range(20)]
            body = remote_write.request(series)
            while True:
                try:
                    status = remote_write.post(self.base, body).status_code
                except requests.RequestException:
                    status = None
                if status == 204:
                    break
                if status not in (None, 503):
                    self.wrong = status
                    return
                self.n_retries += 1
                time.sleep(0.01)
            self.n += 1


def assert_stored_once(server, messages, n_threads=4):
    """Reads every trace of `messages` back by its id; each span is there exactly once, unchanged. Returns the count."""
    n_spans = [0] * n_threads
    errors = []

    def check(thread):
        with requests.Session() as session:
            for message in messages[thread::n_threads]:
                sent = otlp.records(message)
                (trace_id,) = otlp.trace_ids(message)
                try:
                    otlp.assert_same(sent, otlp.records(server.trace_v3(trace_id, session)))
                except AssertionError as error:
                    errors.append(f"trace {trace_id}: {error}")
                n_spans[thread] += len(sent)

    threads = [threading.Thread(target=check, args=(i,)) for i in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, f"{len(errors)} of {len(messages)} traces differ:\n" + "\n".join(errors[:5])
    return sum(n_spans)
