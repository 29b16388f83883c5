"""Teachers that a spec names: where their weights are found, and that they are there before Ray starts."""

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from orchestrator.errors import TrackingError, UsageError
from orchestrator.execution.teacher import fetch_teachers, teacher_weights
from orchestrator.store.home import Home
from orchestrator.store.remote import Remote


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("home"))
    made.create()
    return made


@pytest.fixture(scope="module")
def client(home):
    return MlflowClient(home.tracking_uri)


@pytest.fixture
def store(client, home, tmp_path, monkeypatch):
    """The client, and a run of this test's own; MLflow's default store is not to be touched."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/another.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    experiment = client.create_experiment(tmp_path.name, home.artifacts.as_uri())
    yield client, client.create_run(experiment).info.run_id
    assert not (tmp_path / "another.db").exists()


def fetch(home, checkpoint):
    fetch_teachers([checkpoint], home, home.tracking_uri)
    return teacher_weights(checkpoint, home)


def upload(store, tmp_path, content, file="teacher.pt", folder="model"):
    client, run = store
    path = tmp_path / file
    torch.save(content, path)
    client.log_artifact(run, str(path), folder)


def test_files_are_where_the_spec_says(home, tmp_path, monkeypatch):
    (tmp_path / "t.pt").touch()
    monkeypatch.setenv("TEACHERS", str(tmp_path))
    assert fetch(home, "${env:TEACHERS}/t.pt") == str(tmp_path / "t.pt")


def test_a_missing_file_is_told_before_anything_runs(home, tmp_path):
    with pytest.raises(UsageError, match=f"teacher.checkpoint: there is no file {tmp_path}/gone.pt"):
        fetch(home, str(tmp_path / "gone.pt"))


def test_torchvisions_weights_are_named_to_the_trials(home):
    assert fetch(home, "torchvision:DEFAULT") == "torchvision:DEFAULT"


def test_a_file_in_a_store_is_brought_once_and_again_when_it_has_changed(home, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("BUCKET", s3)
    checkpoint, store = "${env:BUCKET}/teachers/t.pt", Remote(f"{s3}/teachers", tmp_path)
    with pytest.raises(UsageError, match=f"teacher.checkpoint: there is no file {s3}/teachers/t.pt"):
        fetch(home, checkpoint)
    for value in (1.0, 2.0):
        torch.save({"w": torch.full([round(value)], value)}, tmp_path / "t.pt")
        store.push(tmp_path / "t.pt")
        found = Path(fetch(home, checkpoint))
        assert torch.load(found)["w"][0] == value
        written = found.stat().st_ino
        fetch(home, checkpoint)
        assert found.stat().st_ino == written
    assert found.parent == home.path / "teachers"


def test_artifacts_of_a_run_are_downloaded(home, store, tmp_path):
    upload(store, tmp_path, {"w": torch.ones(2)})
    for checkpoint in (f"runs:/{store[1]}/model/teacher.pt", f"runs:/{store[1]}/model"):
        assert torch.load(fetch(home, checkpoint))["w"].tolist() == [1, 1]
    assert not list((home.path / "teachers").glob(".mlflow-*"))


def test_a_models_version_is_downloaded_once_and_an_alias_every_time(home, store, tmp_path):
    client, run = store
    client.create_registered_model("good")
    for value in (1.0, 2.0):
        upload(store, tmp_path, {"w": torch.tensor(value)}, folder=f"v{value:.0f}")
        version = client.create_model_version("good", f"{home.artifacts.as_uri()}/{run}/artifacts/v{value:.0f}", run)
        client.set_registered_model_alias("good", "best", version.version)
        for moving in ("models:/good@best", "models:/good/latest"):
            assert torch.load(fetch(home, moving))["w"] == value
        assert torch.load(fetch(home, "models:/good/1"))["w"] == 1.0
    first = fetch(home, "models:/good/1")
    client.delete_registered_model("good")
    assert fetch(home, "models:/good/1") == first


def test_what_mlflow_does_not_have_is_an_error_that_names_it(home, store):
    for gone in ("models:/gone/1", "models:/gone@best", "models:/gone/latest", "runs:/gone/x"):
        with pytest.raises(TrackingError, match=f"{gone} cannot be downloaded from MLflow at sqlite.*gone"):
            fetch(home, gone)


def test_a_folder_must_hold_one_file_of_weights(home, store, tmp_path):
    uri = f"runs:/{store[1]}/model"
    upload(store, tmp_path, {}, file="notes.txt")
    with pytest.raises(UsageError, match=r"holds no file that ends in .safetensors, .pt, .pth"):
        fetch(home, uri)
    upload(store, tmp_path, {}, file="a.pth")
    upload(store, tmp_path, {}, file="b.pth")
    with pytest.raises(UsageError, match=r"holds 2 files of weights: a.pth, b.pth"):
        fetch(home, uri)
