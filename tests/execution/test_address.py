"""Joining a Ray that runs already."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from ray_heads import TOKEN, free_port, ray_head

from orchestrator.search.trials import Status
from orchestrator.store.journal import Journal
from tests.execution.conftest import Shell


@pytest.fixture
def head() -> Iterator[str]:
    with ray_head() as address:
        yield address


def test_an_experiment_runs_on_a_cluster_that_asks_for_a_token(shell: Shell, head: str) -> None:
    resources = {"custom_resources": {"lab": 0.5}, "share": 0.5}
    spec = shell.spec({"search.num_samples": 1, "search.final_seeds": 0, "resources": resources})
    shell.environment |= {"RAY_AUTH_TOKEN": TOKEN}
    elsewhere = ("--set", "name=elsewhere", "--set", "data.dataset=fashion-mnist", "--set", "data.root=/nowhere")
    missing = shell.run("run", spec, *elsewhere, "--address", head)
    assert missing.returncode == 1
    assert "1 node of the cluster cannot run this experiment" in missing.stdout
    assert re.search(r"\d  data fashion-mnist  Fashion-MNIST's four files .* put the four files", missing.stdout)
    assert "trials, " not in missing.stdout
    done = shell.run("run", spec, "--address", head)
    assert done.returncode == 0, done.stdout
    assert f"joining Ray at {head}" in done.stdout
    assert "looking at the cluster's nodes" in done.stdout
    assert {record.status for record in shell.records().values()} == {Status.FINISHED}
    # There are two places, and the experiment takes its half.
    (session,) = [
        event for event in Journal(shell.experiment() / "journal.jsonl").read() if event["event"] == "session"
    ]
    assert session["at_once"] == 1
    for path in shell.home.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_where_nothing_listens_is_said_at_once(shell: Shell) -> None:
    began = time.monotonic()
    done = shell.run("run", shell.spec(), "--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot be joined" in done.stdout
    assert "Connection refused" in done.stdout
    assert "Traceback" not in done.stdout
    assert time.monotonic() - began < 60
