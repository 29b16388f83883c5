"""One trial on one process, without Ray."""

import shutil
from dataclasses import replace

import pytest
import torch

from orchestrator import build, names
from orchestrator.catalog import DATASETS
from orchestrator.data import load_dataset
from orchestrator.errors import BuildError, OrchestratorError
from orchestrator.execution.cache import Cache
from orchestrator.execution.failing import failed
from orchestrator.execution.job import FATAL, Job
from orchestrator.execution.session import WORTH, Session
from orchestrator.export.blueprint import Blueprint
from orchestrator.models import parameter_count
from orchestrator.search.trials import Phase
from orchestrator.store.trial import TrialFolder
from orchestrator.training import evaluate, load_latest, load_weights
from tests.execution.session_trials import finish, job, on_disk, run_spec, without_times


def test_a_job_survives_its_journey(tmp_path):
    made = job(tmp_path, Phase.FINAL, tmp_path / "teacher")
    assert Job.from_json(made.to_json()) == made
    assert made.phase == Phase.FINAL


def test_each_epoch_is_reported_and_on_disk_once(tmp_path, teacher):
    reported = finish(Session(job(tmp_path, teacher=teacher), Cache()))
    assert [entry["epoch"] for entry in reported] == [1, 2, 3, 4]
    assert on_disk(tmp_path) == reported
    expected = {names.TRAIN_LOSS_KD, names.VAL_ACC1, names.TEMPERATURE_MEAN, names.EPOCH_TIME}
    for entry in reported:
        assert expected | {names.ADJUSTMENT_WRONG} <= set(entry)
        assert set(entry) - {"epoch"} <= names.METRICS


def test_the_epochs_of_a_checkpoint_are_on_disk_before_it(tmp_path, teacher, monkeypatch):
    synced = []
    monkeypatch.setattr(TrialFolder, "sync_logs", lambda folder: synced.append(len(folder.metrics())))
    finish(Session(job(tmp_path, teacher=teacher), Cache()))
    assert synced == [1, 2, 3, 4]


@pytest.fixture
def costly_saving(monkeypatch):
    monkeypatch.setattr("orchestrator.execution.session.WORTH", 1e9)


@pytest.mark.parametrize("killed_after", [(1,), (3,), (1, 1, 1)])
def test_a_killed_trial_ends_as_if_nothing_had_happened(tmp_path, teacher, killed_after):
    whole = finish(Session(job(tmp_path, Phase.FINAL, teacher, "whole"), Cache()))
    for epochs in killed_after:
        session = Session(job(tmp_path, Phase.FINAL, teacher, "killed"), Cache())
        for _ in range(epochs):
            session.train_epoch()
        assert not session.done  # and it is killed: only its files are left
    last = Session(job(tmp_path, Phase.FINAL, teacher, "killed"), Cache())
    assert last.training.epoch == sum(killed_after)
    finish(last)
    assert without_times(on_disk(tmp_path, "killed")) == without_times(whole)
    weights = [build.build_network(run_spec().student, load_dataset("digits"), seed=0) for _ in ("whole", "killed")]
    for network, trial in zip(weights, ("whole", "killed"), strict=True):
        load_weights(tmp_path / trial / "student.safetensors", network)
    states = [network.state_dict() for network in weights]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_epochs_after_the_last_checkpoint_are_trained_again_and_kept_once(tmp_path, teacher, costly_saving):
    slow = {"training__checkpoint_interval_s": 1000.0}
    whole = finish(Session(job(tmp_path, teacher=teacher, trial="whole", **slow), Cache()))
    session = Session(job(tmp_path, teacher=teacher, **slow), Cache())
    for _ in range(3):
        session.train_epoch()
    assert [entry["epoch"] for entry in on_disk(tmp_path)] == [1, 2, 3]
    assert not session.done
    # The kill cut a line short.
    with (tmp_path / "t" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train/lo')
    again = Session(job(tmp_path, teacher=teacher, **slow), Cache())
    assert again.training.epoch == 1
    assert [entry["epoch"] for entry in on_disk(tmp_path)] == [1]
    finish(again)
    assert without_times(on_disk(tmp_path)) == without_times(whole)


def test_a_trial_without_a_checkpoint_starts_again(tmp_path):
    alone = {"distillation": {"kd_weight": 0.0}}
    session = Session(job(tmp_path, **alone), Cache())
    session.train_epoch()
    shutil.rmtree(tmp_path / "t" / "checkpoints")
    again = Session(job(tmp_path, **alone), Cache())
    assert (again.training.epoch, on_disk(tmp_path)) == (0, [])


def test_a_trial_whose_checkpoints_are_all_damaged_starts_again(tmp_path, teacher):
    whole = finish(Session(job(tmp_path, teacher=teacher, trial="whole"), Cache()))
    killed = Session(job(tmp_path, teacher=teacher), Cache())
    for _ in range(3):
        killed.train_epoch()
    files = list((tmp_path / "t" / "checkpoints").iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged") as caught:
        again = Session(job(tmp_path, teacher=teacher), Cache())
    assert all(any(str(file) in str(warning.message) for warning in caught) for file in files)
    assert len(files) == 2
    finish(again)
    assert without_times(on_disk(tmp_path)) == without_times(whole)


def test_checkpoints_are_taken_at_the_interval_and_once_an_epoch(tmp_path, costly_saving):
    checkpoints = tmp_path / "t" / "checkpoints"
    session = Session(job(tmp_path, distillation={"kd_weight": 0.0}, training__checkpoint_interval_s=1000.0), Cache())
    session.train_epoch()
    (only,) = checkpoints.iterdir()
    session.save()
    session.train_epoch()
    assert list(checkpoints.iterdir()) == [only]
    session.save()
    session.save()
    assert len(list(checkpoints.iterdir())) == 2


def test_an_epoch_that_is_worth_it_is_saved_whatever_the_interval(tmp_path, monkeypatch):
    session = Session(job(tmp_path, distillation={"kd_weight": 0.0}, training__checkpoint_interval_s=1000.0), Cache())
    session.train_epoch()
    session._saved_at -= WORTH * session._saving_s
    session.train_epoch()
    assert load_latest(tmp_path / "t" / "checkpoints")["epoch"] == 2


def test_a_final_run_is_tested_once_and_its_weights_are_those_that_were(tmp_path, teacher):
    reported = finish(Session(job(tmp_path, Phase.FINAL, teacher, seed=3), Cache()))
    assert [names.TEST_ACC1 in entry for entry in reported] == [False, False, False, True]
    dataset = load_dataset("digits")
    network = build.build_network(run_spec().student, dataset, seed=0)
    told = load_weights(tmp_path / "t" / "student.safetensors", network)
    seen = evaluate(network, dataset.test, dataset.mean, dataset.std, batch_size=32)
    assert seen.acc1 == reported[-1][names.TEST_ACC1]
    assert seen.loss == pytest.approx(reported[-1][names.TEST_LOSS], rel=1e-4)
    made = Blueprint.from_text(told.pop("blueprint"), "its file")
    assert (made.dataset, made.classes, made.image) == ("digits", dataset.classes, (1, 8, 8))
    assert (made.network["name"], made.network["width"], made.mean) == ("resnet8", 0.125, dataset.mean)
    assert told == {
        "trial": "t",
        "val_acc1": f"{reported[-1][names.VAL_ACC1]:.2f}",
        "test_acc1": f"{seen.acc1:.2f}",
    }


class Untested:
    """The digits, but whoever looks at the test images fails."""

    def __init__(self):
        self._digits = load_dataset("digits")

    def __getattr__(self, name):
        if name == "test":
            raise AssertionError("the test set was read")
        return getattr(self._digits, name)


def test_teachers_and_the_search_never_read_the_test_set(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS._entries, "untested", lambda root, verify: Untested())
    data = {"data__dataset": "untested"}
    made = tmp_path / "teacher.safetensors"
    finish(Session(job(tmp_path, Phase.TEACHER, made, "teacher", **data), Cache()))
    finish(Session(job(tmp_path, Phase.SEARCH, made, "search", **data), Cache()))
    assert not (tmp_path / "search" / "student.safetensors").exists()
    with pytest.raises(AssertionError, match="test set was read"):
        finish(Session(job(tmp_path, Phase.FINAL, made, "final", **data), Cache()))


def untried(**overrides):
    run = run_spec(**overrides)
    teachers = [run.teacher.model_dump(exclude_unset=True)]
    return {"name": "variant 'hints'", "run": run.model_dump(exclude_unset=True), "teachers": teachers}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"distillation__features": [{"method": "fitnet", "layers": ["nope"]}]}, r"features\.0: .* no layer 'nope'"),
        ({"student": {"model": "vgg8", "stem_stride": 2}}, r"vgg8 cannot take images of 8 x 8 pixels and 1 channel"),
        ({"student": {"model": "torchvision/vgg11", "norm": "group"}}, r"norm must be batch for torchvision/vgg11"),
        ({"scheme": {"method": "mutual", "peers": [{"model": "vgg8", "stem_stride": 2}]}}, r"vgg8 cannot take"),
    ],
)
def test_a_student_that_cannot_be_built_ends_all_before_its_teacher_is_trained(tmp_path, overrides, told):
    made = replace(
        job(tmp_path, Phase.TEACHER, tmp_path / "made.safetensors"), students=[untried(), untried(**overrides)]
    )
    with pytest.raises(BuildError, match=f"variant 'hints' cannot be built: .*{told}") as caught:
        Session(Job.from_json(made.to_json()), Cache())
    assert failed(caught.value, str(tmp_path))[FATAL]
    assert not (tmp_path / "t" / "metrics.jsonl").exists()
    Session(replace(made, students=[untried()]), Cache()).train_epoch()


def test_a_trial_does_not_depend_on_what_its_process_ran_before(tmp_path, teacher):
    cache = Cache()
    finish(Session(job(tmp_path, Phase.FINAL, teacher, "before", seed=7), cache))
    after = finish(Session(job(tmp_path, Phase.FINAL, teacher, "after"), cache))
    fresh = finish(Session(job(tmp_path, Phase.FINAL, teacher, "fresh"), Cache()))
    assert without_times(after) == without_times(fresh)


def test_trials_on_the_same_images_share_them(tmp_path, teacher):
    cache = Cache()

    def images(trial, **overrides):
        return Session(job(tmp_path, teacher=teacher, trial=trial, **overrides), cache).training.data.train.images

    first = images("first")
    assert images("second", seed=3, student__width=0.25).data_ptr() == first.data_ptr()
    fewer = images("fewer", data__train_samples=50)
    assert len(fewer) == 50
    assert torch.equal(images("again"), first)
    assert images("again").data_ptr() != first.data_ptr(), "only the latest are kept"


def test_sizes_of_the_networks_are_told(tmp_path, teacher):
    session = Session(job(tmp_path, teacher=teacher), Cache())
    assert session.described["student.parameters"] == parameter_count(session.training.student)
    assert session.described["teacher.flops"] > session.described["student.flops"] > 0
    assert "teacher.val_acc1" not in session.described
    assert session.described["precision"] == "float32"
    assert session.described["precision.reason"].startswith("auto: ")


def test_sizes_are_those_of_the_classes_that_are_kept(tmp_path):
    cache = Cache()
    alone = {"distillation": {"kd_weight": 0.0}}
    for trial, overrides in (("all", {}), ("two", {"data__classes": [0, 1]})):
        session = Session(job(tmp_path, trial=trial, **alone, **overrides), cache)
        assert session.described["student.parameters"] == parameter_count(session.training.student)


def test_a_trial_that_waits_on_its_way_ends_as_one_that_does_not(tmp_path, teacher):
    whole = Session(job(tmp_path / "whole", teacher=teacher), Cache())
    finish(whole)
    legs = []
    for until in (1, 3, None):
        made = replace(job(tmp_path / "legs", teacher=teacher, training__checkpoint_interval_s=1000), until=until)
        session = Session(made, Cache())
        begin = session.training.epoch
        finish(session)
        legs.append((begin, session.training.epoch))
        if until:
            assert load_latest(session.folder.checkpoints)["epoch"] == until
    assert legs == [(0, 1), (1, 3), (3, 4)]
    assert without_times(session.folder.metrics()) == without_times(whole.folder.metrics())


def test_a_process_that_was_replaced_writes_no_more(tmp_path, teacher):
    cut_off = Session(job(tmp_path, teacher=teacher), Cache())
    cut_off.train_epoch()
    replacing = Session(job(tmp_path, teacher=teacher), Cache())
    with pytest.raises(OrchestratorError, match="another process goes on with this trial"):
        cut_off.train_epoch()
    with pytest.raises(OrchestratorError, match="another process"):
        cut_off.save()
    assert [entry["epoch"] for entry in on_disk(tmp_path)] == [1]
    finish(replacing)
    assert [entry["epoch"] for entry in on_disk(tmp_path)] == [1, 2, 3, 4]
