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
_CLUSTERS = ("test_address", "test_cut_off_hosts", "test_kills", "test_submit")
"""Tests of the folder `execution` that start clusters or whole experiments of their own."""


def _group(item: pytest.Item) -> str:
    """Which tests one process has to itself: those on a local Ray, and those with servers; "" for all others."""
    folder = item.path.relative_to(_TESTS).parts[0]
    if folder == "deploy" or item.path.stem in _CLUSTERS:
        return "servers"
    return "ray" if folder == "execution" else ""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Where tests run side by side (pytest-xdist), two of a group never meet, which would be too much for two cores."""
    if group := _group(item):
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups are handed out in this order: those on a local Ray take about as long as all others."""
    items.sort(key=lambda item: ("ray", "", "servers").index(_group(item)))


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
