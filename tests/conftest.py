"""For all tests."""

import itertools
import logging
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell starts what it runs in the background with Ctrl-C ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# GNU readline, which pytest loads, leaves the size of a terminal to the processes that it starts.
os.environ.pop("COLUMNS", None)

SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID0000",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+0000",
    "AWS_SESSION_TOKEN": "plantedtoken0000",
}
_BUCKETS = itertools.count(1)
_TESTS = Path(__file__).parent
WITH_RAY = ("execution", "deploy")
"""Folders of tests that start Ray or servers; two such tests at once are too much for two cores."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Where tests run side by side (pytest-xdist), one process has those with Ray, and others have the rest."""
    if item.path.relative_to(_TESTS).parts[0] in WITH_RAY:
        item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a bucket of its own, which the environment gives access to, and a machine that knows nothing of it."""
    for name, value in {**SECRETS, "AWS_ENDPOINT_URL": s3_server, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "cache"))
    bucket = f"bucket-{next(_BUCKETS)}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{bucket}", method="PUT"), timeout=10).close()
    return f"s3://{bucket}"
