"""The scripts of PromQL say what a real Prometheus answers."""

import pytest

from promql_script import FOLDER, Fresh, answered

SCRIPTS = sorted(FOLDER.glob("*.test"))


def test_there_are_scripts():
    assert len(SCRIPTS) > 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_prometheus_answers(script):
    found = answered(script, Fresh)
    written = script.read_text().splitlines()
    assert found == written
