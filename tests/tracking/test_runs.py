"""What a run's record tells: the values that made it, and nothing that had no part in it."""

import pytest
from tracking_stores import EXPERIMENT, trial_info

from orchestrator import load_spec
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Status
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.variants import flatten
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.runs import own_values, source_tags

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 60},
    "teacher": {"model": "resnet8", "train_samples": 80},
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {"temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12}},
    "training": {"epochs": 4},
}


def values(*, trains_teacher=False, **overrides):
    run = make_plan(load_spec(SPEC, overrides)).arms[0].variant.run
    return own_values(run.model_dump(), trains_teacher=trains_teacher, has_teacher=run.needs_teacher)


def params(**arguments):
    return flatten(values(**arguments))


def test_a_teacher_has_its_own_values_alone():
    seen = params(trains_teacher=True)
    assert {name.partition(".")[0] for name in seen} == {"seed", "data", "teacher"}
    assert seen["teacher.training.epochs"] == 4
    assert seen["teacher.train_samples"] == 80
    # The student's subset, and a file that was not read.
    assert not {"data.train_samples", "teacher.checkpoint"} & set(seen)


def test_a_student_has_its_values_and_those_of_its_teacher():
    seen = params()
    assert seen["student.width"] == 0.125
    assert seen["distillation.temperature.max"] == 12
    assert seen["training.epochs"] == seen["teacher.training.epochs"] == 4
    assert seen["data.train_samples"] == 60
    assert "teacher.checkpoint" not in seen


def test_a_teacher_from_a_file_has_no_training():
    seen = params(teacher={"model": "resnet8", "checkpoint": "t.safetensors"})
    assert seen["teacher.checkpoint"] == "t.safetensors"
    assert not [name for name in seen if name.startswith("teacher.train")]


def test_a_student_without_a_teacher_has_nothing_of_one():
    seen = params(distillation={"kd_weight": 0.0})
    assert not [name for name in seen if name.startswith(("teacher", "distillation.temp", "distillation.adj"))]
    assert seen["distillation.kd_weight"] == 0
    assert seen["student.width"] == 0.125


@pytest.mark.parametrize("overrides", [{}, {"distillation": {"kd_weight": 0.0}}])
def test_a_students_values_are_the_spec_of_its_run(overrides):
    run = make_plan(load_spec(SPEC, overrides)).arms[0].variant.run
    again = RunSpec.model_validate(values(**overrides))
    assert (again.student, again.training, again.data) == (run.student, run.training, run.data)


@pytest.mark.parametrize(
    ("commit", "expected"),
    [
        ("", {}),
        ("abc", {"mlflow.source.git.commit": "abc", "mlflow.source.git.dirty": "false"}),
        ("abc (changed)", {"mlflow.source.git.commit": "abc", "mlflow.source.git.dirty": "true"}),
    ],
)
def test_the_source_is_told_in_mlflows_tags(commit, expected):
    assert source_tags(commit, "ada") == {
        "mlflow.source.name": "orchestrator",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": "ada",
        **expected,
    }


def experiment_at(commit):
    return RunInfo(EXPERIMENT.key, EXPERIMENT.name, tags={"orchestrator.hash": "1234", **source_tags(commit, "ada")})


def test_every_run_tells_its_name_user_source_and_commit(mlflow_store):
    tracker = mlflow_store.tracker()
    tracker.open(experiment_at("abc (changed)"))
    tracker.start(trial_info("a"))
    assert tracker.close(Status.FINISHED) == []
    for key, name in ((EXPERIMENT.key, EXPERIMENT.name), ("a", "a")):
        run = mlflow_store.run(key)
        assert run.data.tags.items() >= source_tags("abc (changed)", "ada").items()
        assert (run.data.tags["mlflow.runName"], run.info.run_name) == (name, name)
        assert run.info.user_id == "ada"
    assert "orchestrator.hash" not in mlflow_store.run("a").data.tags


def test_a_run_has_the_commit_of_the_session_that_began_it(mlflow_store):
    for commit, keys in (("first", ["a"]), ("second", ["a", "b"])):
        tracker = mlflow_store.tracker()
        tracker.open(experiment_at(commit))
        for key in keys:
            tracker.start(trial_info(key))
        assert tracker.close(Status.INTERRUPTED) == []
    commits = {key: mlflow_store.run(key).data.tags["mlflow.source.git.commit"] for key in ("a", "b")}
    assert commits == {"a": "first", "b": "second"}


def test_runs_are_found_again_over_several_pages(mlflow_store, tracker, monkeypatch):
    keys = [f"t{number}" for number in range(7)]
    for key in keys:
        tracker.start(trial_info(key))
        tracker.end(key, Status.FINISHED)
    tracker.close(Status.INTERRUPTED)
    monkeypatch.setattr("orchestrator.tracking.mlflow_store.PAGE", 3)
    second = mlflow_store.tracker()
    second.open(EXPERIMENT)
    assert {second.status(key) for key in keys} == {Status.FINISHED}
    second.close(Status.FINISHED)


def test_opening_asks_as_often_for_many_runs_as_for_few(mlflow_store, wrap_calls):
    asked = []
    wrap_calls(before=lambda name, *args, **kwargs: asked.append(name))
    counts = []
    for session in range(3):
        asked.clear()
        tracker = mlflow_store.tracker()
        tracker.open(EXPERIMENT)
        counts.append(len(asked))
        for number in range(10 * session, 10 * session + 10):
            tracker.start(trial_info(f"t{number}"))
            tracker.end(f"t{number}", Status.FINISHED)
        tracker.close(Status.INTERRUPTED)
    assert counts[1] == counts[2]
