"""Trying a store out leaves nothing to be seen in it."""

from pathlib import Path

import pytest
from mlflow.entities import ViewType

from orchestrator.errors import TrackingError
from orchestrator.tracking.mlflow_store import TRIED, open_client, place_to_try, try_out


def test_a_store_is_tried_out_again_and_again_and_shows_nothing_of_it(tmp_path: Path) -> None:
    uri, artifacts = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"
    client = open_client(uri)
    for _ in range(3):
        with place_to_try(uri, "anna", artifacts) as name:
            try_out(uri, name)
            assert client.search_runs([client.get_experiment_by_name(name).experiment_id]) == []
    # Of each user's own: on a server with accounts nobody may write to another's.
    assert name == f"{TRIED}-anna"
    assert name not in [experiment.name for experiment in client.search_experiments()]
    (kept,) = client.search_experiments(ViewType.DELETED_ONLY, filter_string=f"name = '{name}'")
    assert len(client.search_runs([kept.experiment_id], run_view_type=ViewType.ALL)) == 1
    assert len(list(artifacts.rglob("tried.txt"))) == 1


def test_a_store_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used: Connection refused"):
        try_out("http://me:secret@127.0.0.1:9", "any")
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(TrackingError, match="not a database"):
        try_out(f"sqlite:///{tmp_path}/mlflow.db", "any")
