"""Starts the release binary on free ports with a data folder of its own, and speaks to it.

A `Server` is a context manager: it ends the process that it started by its id, also when a test fails,
and a stop by SIGTERM has to end with exit code 0.
"""

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import requests

import otlp

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SPANDREL_BIN") or ROOT / "target" / "release" / "spandrel")
READY = re.compile(r"\blistening\b(.*)")
START_SECONDS = 30
STOP_SECONDS = 30
PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def environment(**extra):
    """This process's environment without settings that would change what a server does, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPANDREL_", "OTEL_", "AWS_"))}
    return {**kept, **extra}


def run(*arguments, **variables):
    """What a command of the binary printed; anything but exit code 0 is an error."""
    command = [str(BINARY), *map(str, arguments)]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class StoredWindow(NamedTuple):
    """The files of one signal and level in one window, as `inspect` shows them."""

    signal: str
    window: str
    level: int
    n_files: int
    n_items: int


def stored_windows(table):
    """The lines of `inspect`, of all tenants."""
    found = re.findall(r"^(traces|metrics|logs) +(\S+) +(\d+) +(\d+) +(\d+) ", table, re.MULTILINE)
    return [StoredWindow(signal, window, *map(int, numbers)) for signal, window, *numbers in found]


class Server:
    """A running `spandrel serve`."""

    def __init__(
        self,
        data,
        *arguments,
        http="127.0.0.1:0",
        jaeger="127.0.0.1:0",
        prometheus="127.0.0.1:0",
        env=None,
        preexec_fn=None,
    ):
        self.data = Path(data)
        self.command = [
            str(BINARY),
            "serve",
            "--data",
            str(data),
            "--http",
            http,
            "--classic-ports",
            "on",
            "--listen.jaeger",
            jaeger,
            "--listen.prometheus",
            prometheus,
            "--listen.health",
            "off",
            *map(str, arguments),
        ]
        self.env = environment(**(env or {}))
        self.preexec_fn = preexec_fn
        self.process = None
        self.lines = []
        self.exit_code = None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()
            print("server log:\n" + self.log()[-8000:])

    def start(self):
        """Starts the process and waits for its `listening` line."""
        ready = threading.Event()
        self.lines, self.exit_code = [], None
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=self.preexec_fn,
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, self.lines, ready), daemon=True)
        self.reader.start()
        if not ready.wait(START_SECONDS) or self.process.poll() is not None and not self.addresses():
            self.kill()
            raise AssertionError(f"server did not start: exit code {self.exit_code}\n{self.log()}")
        found = self.addresses()
        if not found:
            self.kill()
            raise AssertionError(f"server did not start: exit code {self.exit_code}\n{self.log()}")
        self.http = f"http://{found['http']}"
        self.jaeger = f"http://{found['jaeger']}" if "jaeger" in found else None
        self.prometheus = f"http://{found['prometheus']}" if "prometheus" in found else None
        return self

    @staticmethod
    def _read(pipe, lines, ready):
        for line in pipe:
            lines.append(line)
            if READY.search(line):
                ready.set()
        pipe.close()
        ready.set()

    def addresses(self):
        """Name and address of every port in the `listening` line, empty before it was printed."""
        for line in list(self.lines):
            found = READY.search(line)
            if found:
                pairs = dict(re.findall(r"([\w.]+)=([\d.]+:\d+)", found.group(1)))
                if "http" in pairs:
                    return pairs
        return {}

    def log(self):
        """What the process printed so far."""
        return "".join(self.lines)

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        """Sends a signal and does not wait."""
        os.kill(self.pid, number)

    def wait(self, seconds=STOP_SECONDS):
        """Waits for the end of the process and returns its exit code."""
        try:
            self.exit_code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"server did not end within {seconds} s\n{self.log()[-4000:]}") from None
        self.reader.join(5)
        self.process = None
        return self.exit_code

    def stop(self):
        """Stops by SIGTERM; anything but exit code 0 is an error."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code} after SIGTERM\n{self.log()[-4000:]}"

    def kill(self):
        """Stops by SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.exit_code = self.process.wait()
            self.reader.join(5)
            self.process = None

    def peak_memory_bytes(self):
        """The largest resident memory of the process so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE).group(1)) * 1024

    # OTLP

    def post(self, body, content_type=PROTOBUF, path="/v1/traces", **headers):
        """Posts raw bytes to the OTLP door and returns the response, whatever its status."""
        return requests.post(
            self.http + path,
            data=body,
            headers={"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}},
            timeout=60,
        )

    def send(self, *messages):
        """Sends requests as protobuf; each must be accepted in full."""
        for message in messages:
            response = self.post(message.SerializeToString())
            assert response.status_code == 200, f"{response.status_code} {response.content!r}"
            assert response.content == b"", f"partial success: {response.content!r}"

    # Jaeger

    def get(self, path, *, base=None, session=requests, **params):
        """GET of a Jaeger path on the one endpoint, or on `base`. Returns the response, whatever its status."""
        return session.get((base or self.http + "/jaeger") + path, params=params, timeout=60)

    def data_of(self, path, **params):
        """The `data` of a v1 answer that has to succeed."""
        response = self.get(path, **params)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text[:2000]}"
        body = response.json()
        assert body["errors"] is None, body["errors"]
        return body["data"]

    def services(self):
        return self.data_of("/api/services")

    def operations(self, service):
        return self.data_of(f"/api/services/{quote(service, safe='')}/operations")

    def search(self, **params):
        """Traces of a v1 search."""
        return self.data_of("/api/traces", **params)

    def trace_v1(self, trace_id):
        """The one trace of a v1 lookup."""
        data = self.data_of(f"/api/traces/{trace_id}")
        assert len(data) == 1
        return data[0]

    def trace_v3(self, trace_id, session=requests):
        """The trace as an OTLP request, read through API v3."""
        response = self.get(f"/api/v3/traces/{trace_id}", session=session)
        assert response.status_code == 200, f"{response.status_code} {response.text[:2000]}"
        return v3_result(response)

    def stored_windows(self):
        """What the index names, by window and level."""
        response = requests.get(self.http + "/-/inspect", timeout=60)
        assert response.status_code == 200, response.text
        return stored_windows(response.text)

    def metric(self, family, **labels):
        """The value of a counter without labels, or with these alone; 0 where there is none."""
        inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
        name = f"{family}{{{inside}}} " if inside else f"{family} "
        page = requests.get(self.http + "/metrics", timeout=60).text
        return sum(int(line[len(name) :]) for line in page.splitlines() if line.startswith(name))

    def stored_files(self, pattern="*.parquet"):
        """Paths of the stored objects."""
        return sorted((self.data / "objects").rglob(pattern))


def v3_result(response):
    """The OTLP request inside an API v3 answer, parsed strictly."""
    body = json.loads(response.content)
    assert list(body) == ["result"], body
    return otlp.from_json(otlp.ExportTraceServiceRequest(), body["result"], "$.result")
