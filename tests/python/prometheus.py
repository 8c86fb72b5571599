"""A Prometheus of our own beside the server: the reference for PromQL, and a client that writes and asks."""

import subprocess
import time
from pathlib import Path

import pytest
import requests

from aws import free_port
from spandrel import environment

TESTS = Path(__file__).resolve().parent.parent
FOLDER = TESTS / ".prometheus" / "usr" / "bin"


def binary(name):
    """`prometheus` or `promtool`; the test is skipped where they could not be installed."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: tests/install-prometheus says why")
    return str(path)


class Prometheus:
    """A running Prometheus that takes remote write and knows the experimental functions. A context manager."""

    def __init__(self, folder, config="global: {scrape_interval: 1s}\n", port=None):
        self.folder = folder
        self.config = config
        self.port = port or free_port()

    def __enter__(self):
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(self.config)
        address = f"127.0.0.1:{self.port}"
        self.url = f"http://{address}"
        command = [
            binary("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=promql-experimental-functions,metadata-wal-records,native-histograms",
        ]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/-/ready", timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        self.__exit__(None)
        raise AssertionError(f"prometheus did not start\n{(folder / 'log').read_text(errors='replace')[-4000:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
