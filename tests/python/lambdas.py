"""Where the Lambda zips are, built by tests/run with cargo-lambda."""

import os
from pathlib import Path

import pytest

from spandrel import ROOT

FOLDER = Path(os.environ.get("SPANDREL_LAMBDA_DIR") or ROOT / "target" / "lambda")


def zip_of(name):
    """The zip of a function. Missing means that tests/run was not used: an error, not a skip."""
    path = FOLDER / name / "bootstrap.zip"
    if not path.exists():
        pytest.fail(f"{path} is missing: run tests/run build", pytrace=False)
    return path


def storage_variables(name):
    """Environment of both functions for the bucket and table of that name."""
    # All of them run on this machine: none may keep files where another one looks for them.
    stores = {"SPANDREL_OBJECT_STORE": f"s3://{name}/data", "SPANDREL_INDEX": f"dynamodb://{name}"}
    return {**stores, "SPANDREL_CACHE_DIR": "off"}
