"""Fixtures: a server on a fresh data folder, a relay that records what a client sends, an AWS emulator."""

import pytest

from aws import MiniStack
from relay import Relay
from spandrel import BINARY, Server


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing: run tests/run, or set SPANDREL_BIN", returncode=2)


@pytest.fixture
def server(tmp_path):
    """A running server with an empty data folder; its stop by SIGTERM is part of the test."""
    with Server(tmp_path / "data") as running:
        yield running


@pytest.fixture
def relay(server):
    """A proxy in front of the server's OTLP door that records every request."""
    with Relay(server.http) as running:
        yield running


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    """An AWS emulator on a free port; one for each test process."""
    with MiniStack(tmp_path_factory.mktemp("ministack")) as running:
        yield running
