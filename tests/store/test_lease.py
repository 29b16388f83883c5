"""Two drivers of one experiment whose folder lies in an object store."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.store import lease
from orchestrator.store.lease import Lease, is_held
from orchestrator.store.remote import Remote

FOLDER = Path("/home-on-this-machine/experiments/x/drivers")


@pytest.fixture(params=["s3", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    uri = request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}"
    return Remote(uri, FOLDER.parents[2])


@pytest.fixture
def driver(remote: Remote) -> Callable[[str], Lease]:
    return lambda node: Lease(remote, FOLDER, node)


def test_a_second_driver_is_refused_and_leaves_no_trace(driver: Callable[[str], Lease], remote: Remote) -> None:
    with driver("one").held("x"):
        with pytest.raises(UsageError, match="already running on") as raised, driver("two").held("x"):
            pass
        assert f"process {os.getpid()}" in str(raised.value)
        assert len(remote.entries(FOLDER)) == 1
        assert is_held(remote, FOLDER, "two")
        assert not is_held(remote, FOLDER, "one")
    assert remote.entries(FOLDER) == {}
    with driver("two").held("x") as told:
        assert told is None


def test_of_many_that_begin_at_once_never_two_drive(driver: Callable[[str], Lease]) -> None:
    inside: list[str] = []
    most = []

    def run(node: str) -> None:
        try:
            with driver(node).held("x"):
                inside.append(node)
                most.append(len(inside))
                time.sleep(0.3)
                inside.remove(node)
        except UsageError:
            pass

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most, default=1) == 1


def test_the_claim_of_a_dead_process_of_this_machine_does_not_count(
    driver: Callable[[str], Lease], remote: Remote
) -> None:
    dead = driver("here")
    dead._acquire("x")
    with driver("here").held("x") as told:
        assert told is None
        assert len(remote.entries(FOLDER)) == 1
    assert remote.entries(FOLDER) == {}


@pytest.mark.parametrize("remote", ["file"], indirect=True)
def test_a_silent_driver_is_replaced_and_notices(
    driver: Callable[[str], Lease], remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    silent = driver("there")
    silent._acquire("x")
    silent.check()
    time.sleep(2.2)
    with driver("here").held("x") as told:
        assert "takes over from" in str(told)
        assert "silent for" in str(told)
        with pytest.raises(StorageError, match="taken over"):
            silent.check()
        with pytest.raises(StorageError, match="taken over"):
            silent.check()
        assert len(remote.entries(FOLDER)) == 1


@pytest.mark.parametrize("remote", ["file"], indirect=True)
def test_a_claim_stays_fresh(driver: Callable[[str], Lease], remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_S", 1.5)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    beats = []
    with driver("there").held("x", lambda: beats.append(1)):
        time.sleep(3)
        with pytest.raises(UsageError, match="already running"), driver("here").held("x"):
            pass
    assert len(beats) > 5


def test_a_claim_that_cannot_be_read_counts_for_nothing(driver: Callable[[str], Lease], remote: Remote) -> None:
    remote.write(FOLDER / "odd.json", json.dumps([1]).encode())
    with driver("here").held("x"):
        pass
