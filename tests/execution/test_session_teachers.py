"""The teacher of a trial on one process, without Ray."""

import pytest
import torch

from orchestrator import build, names
from orchestrator.catalog import DATASETS
from orchestrator.data import load_dataset
from orchestrator.errors import CheckpointError, TeacherError
from orchestrator.execution.cache import Cache
from orchestrator.execution.session import Session
from orchestrator.search.trials import Phase
from orchestrator.training import evaluate, load_weights, save_weights
from tests.execution.session_trials import finish, job, run_spec


def test_the_teachers_file_is_what_students_learn_from(tmp_path, teacher):
    spec = run_spec()
    dataset = load_dataset("digits")
    expected = build.build_teacher(spec, dataset)
    told = load_weights(teacher, expected)
    assert told["trial"] == "t"
    session = Session(job(tmp_path, teacher=teacher), Cache())
    loaded = session.training.teacher
    assert loaded is not None
    for name, value in expected.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    splits = build.build_splits(spec, dataset, 0)
    seen = evaluate(expected, splits.val, dataset.mean, dataset.std, batch_size=32)
    assert told["val_acc1"] == f"{seen.acc1:.2f}"


def test_another_teacher_gives_another_student(tmp_path, teacher):
    other = tmp_path / "other.safetensors"
    finish(Session(job(tmp_path, Phase.TEACHER, other, trial="o", seed=5), Cache()))
    mine = finish(Session(job(tmp_path, teacher=teacher, trial="a"), Cache()))
    theirs = finish(Session(job(tmp_path, teacher=other, trial="b"), Cache()))
    assert mine[-1][names.TRAIN_LOSS_KD] != theirs[-1][names.TRAIN_LOSS_KD]


def test_the_teachers_trial_learns_from_labels_alone(tmp_path):
    reported = finish(Session(job(tmp_path, Phase.TEACHER, tmp_path / "made.safetensors"), Cache()))
    assert names.TEMPERATURE_MEAN not in reported[0]
    assert names.TEST_ACC1 not in reported[-1]
    assert reported[-1][names.TRAIN_LOSS] == pytest.approx(reported[-1][names.TRAIN_LOSS_CE])


def test_the_data_set_and_the_teacher_are_loaded_once(tmp_path, teacher, monkeypatch):
    loads = []
    digits = DATASETS["digits"]
    monkeypatch.setitem(DATASETS._entries, "digits", lambda root, verify: loads.append(root) or digits(root, verify))
    cache = Cache()
    first = Session(job(tmp_path, teacher=teacher, trial="a"), cache)
    finish(first)
    second = Session(job(tmp_path, teacher=teacher, trial="b", seed=9), cache)
    assert second.training.teacher is first.training.teacher
    assert len(loads) == 1
    Session(job(tmp_path, teacher=teacher, trial="c", data__root=str(tmp_path)), cache)
    assert len(loads) == 2


@pytest.mark.parametrize("damage", ["cut", "missing", "other"])
def test_a_damaged_teacher_is_a_clear_error(tmp_path, teacher, damage):
    path = tmp_path / "teacher.safetensors"
    content = teacher.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    overrides = {}
    if damage == "other":
        path.write_bytes(content)
        overrides["teacher__width"] = 0.5
    with pytest.raises(CheckpointError) as caught:
        Session(job(tmp_path, teacher=path, **overrides), Cache())
    assert str(path) in str(caught.value)


def test_a_failed_load_leaves_nothing_in_the_cache(tmp_path, teacher):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(b"damaged")
    cache = Cache()
    for _ in range(2):
        with pytest.raises(CheckpointError):
            Session(job(tmp_path, teacher=path), cache)
    path.write_bytes(teacher.read_bytes())
    assert Session(job(tmp_path, teacher=path), cache).training.teacher is not None


def test_two_descriptions_of_a_teacher_do_not_share_a_network(tmp_path, teacher):
    """As where two variants name one checkpoint, and one of them a model that it is not of."""
    cache = Cache()
    Session(job(tmp_path, teacher=teacher, trial="a"), cache)
    with pytest.raises(CheckpointError):
        Session(job(tmp_path, teacher=teacher, trial="b", teacher__width=0.5), cache)


def from_file(path):
    """The teacher as a file that the spec names."""
    return {"teacher__checkpoint": str(path), "teacher__train_samples": None}


def test_a_teacher_from_a_file_is_judged_before_it_teaches(tmp_path, teacher):
    session = Session(job(tmp_path, teacher=teacher, **from_file(teacher)), Cache())
    dataset = load_dataset("digits")
    splits = build.build_splits(run_spec(), dataset, 0)
    seen = evaluate(session.training.teacher, splits.val, dataset.mean, dataset.std, batch_size=32)
    assert session.described["teacher.val_acc1"] == pytest.approx(seen.acc1)


def test_a_teacher_whose_logits_are_not_finite_is_named_and_not_the_student(tmp_path, teacher):
    network = build.build_teacher(run_spec(), load_dataset("digits"))
    load_weights(teacher, network)
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.running_var.fill_(-1)
    path = tmp_path / "broken.safetensors"
    save_weights(path, network, {})
    with pytest.raises(TeacherError, match=r"broken\.safetensors.* NaN or infinite"):
        Session(job(tmp_path, teacher=path, **from_file(path)), Cache())
