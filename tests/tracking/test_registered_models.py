"""Students as MLflow has them: logged with what they take, registered once, and the best under aliases."""

import json
from dataclasses import replace

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from student_models import CLASSES, IMAGE, student_model
from tracking_stores import EXPERIMENT, away, epochs, trial_info

from orchestrator import names
from orchestrator.export.student import load_student
from orchestrator.search.trials import Status
from orchestrator.tracking.mlflow_store import download

NAME = "exp-1234"


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """Three students of two variants."""
    folder = tmp_path_factory.mktemp("students")
    return {key: student_model(folder, key) for key in ("kd-final-0", "kd-final-1", "la+dtd-final-0")}


def session(store, models=(), trials=("kd-final-0", "kd-final-1", "la+dtd-final-0"), patience_s=20.0):
    """One session of an experiment; returns what it says could not be written. None is a student that is missing."""
    tracker = store.tracker(patience_s=patience_s)
    tracker.open(EXPERIMENT)
    for key in trials:
        tracker.start(trial_info(key))
        for entry in epochs(1, 2):
            tracker.log(key, entry)
        tracker.end(key, Status.FINISHED)
    ranked = [None if model is None else replace(model, rank=rank) for rank, model in enumerate(models)]
    tracker.register(NAME, [model for model in ranked if model])
    return tracker.close(Status.FINISHED)


def versions(store):
    """Variant by version."""
    found = store.client.search_model_versions(f"name='{NAME}'")
    return {int(version.version): version.tags["orchestrator.variant"] for version in found}


def aliases(store):
    return {alias: int(version) for alias, version in store.client.get_registered_model(NAME).aliases.items()}


def logged(store, name):
    """The one logged model of this name."""
    experiment = store.client.get_experiment_by_name(store.name).experiment_id
    (found,) = store.client.search_logged_models([experiment], f"name = '{name}'")
    return found


def test_the_best_of_each_variant_is_registered_with_what_it_takes(mlflow_store, students):
    best = [students["la+dtd-final-0"], students["kd-final-1"]]
    assert session(mlflow_store, best) == []
    client = mlflow_store.client
    assert versions(mlflow_store) == {1: "la+dtd", 2: "kd"}
    assert aliases(mlflow_store) == {"champion": 1, "challenger": 2}
    version = client.get_model_version(NAME, "1")
    run = mlflow_store.run("la+dtd-final-0").info.run_id
    assert (version.run_id, version.description) == (run, "la+dtd-final-0: val/acc1 52.00")
    assert version.tags["val/acc1"] == "52.0"

    model = logged(mlflow_store, "la+dtd")
    assert (model.source_run_id, str(model.status)) == (run, "READY")
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": version.version}]
    assert model.params["training.optimizer.lr"] == "0.1"
    assert {metric.key: (metric.value, metric.step) for metric in model.metrics} == {"val/acc1": (52.0, 2)}
    # A metric that is told of the model as well is still one point of its run; `history` fails where it is two.
    assert mlflow_store.history(run)[2][names.VAL_ACC1] == 52.0
    assert [output.model_id for output in client.get_run(run).outputs.model_outputs] == [model.model_id]

    files = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
    # Each card leads to its own student.
    for name, key in (("la+dtd", "la+dtd-final-0"), ("kd", "kd-final-1")):
        own = logged(mlflow_store, name)
        (mlflow_store.folder / name).mkdir()
        found = download(f"models:/{own.model_id}", mlflow_store.uri, mlflow_store.folder / name)
        assert (found / "README.md").read_text() == f"# {key}\n\nIt is models:/{own.model_id}.\n"
        assert (found / "data" / f"{key}.safetensors").read_bytes() == students[key].weights.read_bytes()
    assert {"MLmodel", "README.md", "data", "input_example.json", "requirements.txt"} <= files
    assert not {file for file in files if file.endswith((".pkl", ".lock", ".toml"))}


def test_whoever_loads_it_from_mlflow_gets_the_student(mlflow_store, students):
    session(mlflow_store, [students["kd-final-0"]])
    served = mlflow.pyfunc.load_model(logged(mlflow_store, "kd").artifact_location)
    assert (served.input_example.shape, served.input_example.dtype) == ((1, *IMAGE), np.float32)
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, *IMAGE)
    student = load_student(students["kd-final-0"].weights)
    images = torch.rand(3, *IMAGE)
    with torch.inference_mode():
        expected = student(images).numpy()
    np.testing.assert_allclose(served.predict(images.numpy()), expected, rtol=1e-5, atol=1e-6)
    assert served.get_raw_model().blueprint.classes == CLASSES
    with pytest.raises(MlflowException, match="shape"):
        served.predict(images.numpy()[:, :1])


def test_nothing_is_registered_twice_and_aliases_follow_the_winner(mlflow_store, students):
    kd, second, both = students["kd-final-0"], students["kd-final-1"], students["la+dtd-final-0"]
    session(mlflow_store, [kd, both])
    for _ in range(2):
        assert session(mlflow_store, [kd, both]) == []
        assert versions(mlflow_store) == {1: "kd", 2: "la+dtd"}
        assert aliases(mlflow_store) == {"champion": 1, "challenger": 2}
    assert len(mlflow_store.client.search_logged_models([mlflow_store.run("kd-final-0").info.experiment_id])) == 2

    session(mlflow_store, [both, kd])
    assert aliases(mlflow_store) == {"champion": 2, "challenger": 1}
    session(mlflow_store, [both, second])
    assert versions(mlflow_store) == {1: "kd", 2: "la+dtd", 3: "kd"}
    assert aliases(mlflow_store) == {"champion": 2, "challenger": 3}


def test_who_is_next_has_not_won_where_the_best_is_missing(mlflow_store, students):
    kd, both = students["kd-final-0"], students["la+dtd-final-0"]
    session(mlflow_store, [None, kd])
    assert aliases(mlflow_store) == {"challenger": 1}
    # Nor where its run could not be made.
    session(mlflow_store, [replace(both, key="la+dtd-final-9"), kd])
    assert aliases(mlflow_store) == {"challenger": 1}
    session(mlflow_store, [both, kd])
    assert aliases(mlflow_store) == {"champion": 2, "challenger": 1}
    session(mlflow_store, [None, kd])
    assert aliases(mlflow_store) == {"champion": 2, "challenger": 1}


def test_an_alias_that_somebody_has_moved_stays_until_another_wins(mlflow_store, students):
    kd, both = students["kd-final-0"], students["la+dtd-final-0"]
    session(mlflow_store, [kd, both])
    mlflow_store.client.set_registered_model_alias(NAME, "champion", "2")
    session(mlflow_store, [kd, both])
    assert aliases(mlflow_store)["champion"] == 2
    session(mlflow_store, [students["kd-final-1"], both])
    assert aliases(mlflow_store)["champion"] == 3


@pytest.mark.parametrize("call", ["log_model_artifacts", "create_model_version"])
def test_a_registry_that_is_away_is_told_and_caught_up_later(mlflow_store, students, wrap_calls, call):
    refused = True

    def refuse(name, *args, **kwargs):
        if refused and name == call:
            raise away()

    wrap_calls(before=refuse)
    best = [students["kd-final-0"], students["la+dtd-final-0"]]
    unwritten = session(mlflow_store, best, patience_s=0.2)
    assert unwritten
    assert all("the store does not answer" in line for line in unwritten), unwritten
    assert {mlflow_store.trial(key).status for key in mlflow_store.trials()} == {"finished"}
    refused = False
    assert session(mlflow_store, best) == []
    assert versions(mlflow_store) == {1: "kd", 2: "la+dtd"}
    assert aliases(mlflow_store) == {"champion": 1, "challenger": 2}
    found = mlflow_store.client.search_logged_models([mlflow_store.run("kd-final-0").info.experiment_id])
    assert [str(model.status) for model in found] == ["READY"] * 2


def test_an_answer_that_got_lost_makes_no_second_version(mlflow_store, students, wrap_calls):
    lost = {"create_registered_model", "create_logged_model", "create_model_version", "finalize_logged_model"}

    def lose(name, *args, **kwargs):
        if name in lost:
            lost.remove(name)
            raise away()

    wrap_calls(after=lose)
    assert session(mlflow_store, [students["kd-final-0"]]) == []
    assert not lost
    assert versions(mlflow_store) == {1: "kd"}


def test_a_server_that_refuses_models_keeps_no_run_from_ending(mlflow_store, students, wrap_calls):
    def refuse(name, *args, **kwargs):
        if name == "create_registered_model":
            raise MlflowException("you may not", error_code=PERMISSION_DENIED)

    wrap_calls(before=refuse)
    (line,) = session(mlflow_store, [students["kd-final-0"]])
    assert "you may not" in line
    assert mlflow_store.experiment().status == "finished"


def test_without_a_student_nothing_is_registered(mlflow_store, students):
    assert session(mlflow_store) == []
    assert mlflow_store.client.search_registered_models() == []
    # Where a trial's run could not be made, that was told.
    assert session(mlflow_store, [replace(students["kd-final-0"], key="kd-final-9")]) == []
    assert versions(mlflow_store) == {}
