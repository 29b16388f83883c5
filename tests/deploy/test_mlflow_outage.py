"""A search whose MLflow server is gone for half a minute, and the database behind it for longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_service import ADMIN, MLflowService

from orchestrator import names
from tests.execution.conftest import Shell
from tests.tracking.tracking_stores import MLflowStore

AWAY_S = 30.0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def trained(shell: Shell) -> int:
    """Epochs that all trials have behind them, by their own files."""
    files = shell.home.glob("experiments/tiny-*/trials/*/metrics.jsonl")
    return sum(len(path.read_text().splitlines()) for path in files)


LONG = {
    "data.train_samples": 600,
    "training.epochs": 5000,
    "training.checkpoint_interval_s": 600,
    "search.num_samples": 1,
    "search.final_seeds": 0,
    "search.variants": {"dtd": {}},
}
"""A trial that goes on until it is stopped: the test takes as long as the outage, and little more."""


def test_trials_go_on_and_no_metric_is_missing_or_doubled(
    shell: Shell, service: MLflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": ADMIN}
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    shell.environment |= account
    running = shell.start("run", shell.spec({**LONG, "tracking": {"uri": service.uri}}))
    shell.wait_until(lambda: trained(shell) > 20, running)
    before = trained(shell)
    try:
        service.postgres.stop()
        # For a moment the server answers, that it cannot.
        time.sleep(2)
        service.stop()
        time.sleep(AWAY_S)
        meanwhile = trained(shell) - before
    finally:
        service.postgres.start()
        service.start()
    assert shell.run("stop", "tiny", "--now").returncode == 0
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert meanwhile > 20
    store = MLflowStore(service.uri, tmp_path, name="tiny")
    records = shell.records()
    assert sum(record.epochs for record in records.values()) >= before + meanwhile
    for key, record in records.items():
        seen = store.trial(key).epochs
        assert [entry["epoch"] for entry in seen] == list(range(1, record.epochs + 1)), key
        assert all(names.VAL_ACC1 in entry for entry in seen), key
