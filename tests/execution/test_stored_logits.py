"""A trial that reads its teacher's logits from the shared store, beside one that runs the teacher."""

import gc
import weakref
from dataclasses import asdict

import pytest
import torch

from orchestrator import build, load_spec, names
from orchestrator.catalog import MODELS
from orchestrator.errors import TeacherError
from orchestrator.execution import logit_key
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import Job
from orchestrator.execution.session import Session
from orchestrator.search.logits import Keeping
from orchestrator.search.plan import make_plan
from orchestrator.training import save_weights

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 60, "validation_fraction": 0.1},
    "teacher": {"model": "resnet8", "width": 0.25},
    "student": {"model": "resnet8", "width": 0.125, "norm": "group"},
    "distillation": {"temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12}},
    "training": {"epochs": 3, "batch_size": 32, "checkpoint_interval_s": 0, "optimizer": {"lr": 0.02}},
}
CROP_AND_MIX = {"crop": 1, "mixup": 0.4, "cutmix": 1.0}


def weights_of_a_teacher(folder, seed=0, width=0.25):
    spec = load_spec(SPEC, {"teacher.width": width})
    run = make_plan(spec).arms[0].variant.run.model_copy(update={"seed": seed})
    path = folder / f"teacher-{seed}-{width}.safetensors"
    save_weights(path, build.build_teacher(run, build.load_data(run.data)), {})
    return path


@pytest.fixture
def weights(tmp_path):
    return weights_of_a_teacher(tmp_path)


def session(folder, weights, trial="t", *, stored=True, dtype="float32", views=3, limit=1e9, forced=False, **overrides):
    values = {name.replace("__", "."): value for name, value in overrides.items()}
    run = make_plan(load_spec(SPEC, values)).arms[0].variant.run
    given = weights if isinstance(weights, list) else [weights]
    keeping = Keeping(stored, "asked for", dtype, forced, views, limit)
    model = run.teacher.model_dump(exclude_unset=True)
    job = Job(
        trial=trial,
        phase="search",
        run=run.model_dump(exclude_unset=True),
        split_seed=0,
        folder=str(folder / trial),
        teachers=[{"model": model, "weights": str(path)} for path in given],
        logits={**asdict(keeping), "folder": str(folder / "store")},
    )
    return Session(Job.from_json(job.to_json()), Cache())


def finish(made):
    metrics = []
    while not made.done:
        metrics.append(made.train_epoch())
    return metrics


def compared(metrics):
    """Without times, and without what only stored logits have."""
    apart = ("time/", "throughput/", "teacher_logits/")
    return [{name: value for name, value in epoch.items() if not name.startswith(apart)} for epoch in metrics]


def no_teacher(monkeypatch):
    def load(*arguments):
        raise AssertionError("the teacher is loaded")

    monkeypatch.setattr(build, "load_teacher", load)


@pytest.mark.parametrize("augmentation", ["standard", "none", CROP_AND_MIX], ids=["crop", "none", "mixed"])
def test_stored_logits_train_as_the_live_teacher_does(tmp_path, weights, augmentation):
    live = finish(session(tmp_path, weights, "live", stored=False, data__augmentation=augmentation))
    stored = finish(session(tmp_path, weights, "stored", data__augmentation=augmentation))
    assert len(live) == 3
    for one, other in zip(compared(live), compared(stored), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert len(list(tmp_path.glob("store/*/*.bin"))) == (1 if augmentation == "none" else 3)


def test_the_next_trial_needs_no_teacher(tmp_path, weights, monkeypatch):
    first = finish(session(tmp_path, weights, "first"))
    no_teacher(monkeypatch)
    second = session(tmp_path, weights, "second")
    assert compared(finish(second)) == compared(first)
    assert second.described["teacher_logits"] == "stored as float32"
    assert second.described["teacher.parameters"] == session(tmp_path, weights, "first").described["teacher.parameters"]


def test_a_missing_view_has_the_teacher_loaded_once(tmp_path, weights):
    finish(session(tmp_path, weights, "first"))
    next(tmp_path.glob("store/*/*view1.bin")).unlink()
    again = session(tmp_path, weights, "again")
    assert compared(finish(again)) == compared(finish(session(tmp_path, weights, "third")))
    assert len(list(tmp_path.glob("store/*/*.bin"))) == 3


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "live"])
def test_what_a_trial_held_goes_with_it_and_not_when_garbage_is_collected(tmp_path, weights, stored):
    made = session(tmp_path, weights, stored=stored)
    made.train_epoch()
    held = [
        weakref.ref(made.training),
        weakref.ref(made.training.student),
        weakref.ref(made.training.data.train.images),
    ]
    if stored:
        held.append(weakref.ref(made._stored._latest[1]))
    gc.disable()
    try:
        del made
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()


def test_half_precision_is_told_in_each_epoch(tmp_path, weights):
    metrics = finish(session(tmp_path, weights, dtype="float16"))
    assert all(0 < epoch[names.LOGITS_MEAN_ERROR] < epoch[names.LOGITS_MAX_ERROR] < 0.01 for epoch in metrics)
    assert {names.LOGITS_MAX_ERROR, names.LOGITS_MEAN_ERROR} <= names.METRICS
    assert finish(session(tmp_path, weights, "exact"))[0][names.LOGITS_MAX_ERROR] == 0
    assert names.LOGITS_MAX_ERROR not in finish(session(tmp_path, weights, "live", stored=False))[0]


def test_a_killed_trial_ends_as_if_nothing_had_happened(tmp_path, weights):
    whole = finish(session(tmp_path, weights, "whole", dtype="float16"))
    killed = session(tmp_path, weights, "killed", dtype="float16")
    begun = [killed.train_epoch()]
    rest = finish(session(tmp_path, weights, "killed", dtype="float16"))
    assert compared(begun + rest) == compared(whole)


def test_as_many_views_as_epochs_are_what_a_search_sees_live(tmp_path, weights):
    live = finish(session(tmp_path, weights, "live", stored=False))
    for epochs, same in ((3, True), (2, False)):
        views = finish(session(tmp_path, weights, f"views-{epochs}", stored=False, data__views=epochs))
        assert compared(views)[:2] == compared(live)[:2]
        assert (compared(views) == compared(live)) == same


def test_runs_of_other_seeds_share_views(tmp_path, weights, monkeypatch):
    finish(session(tmp_path, weights, "first", data__views=2))
    assert len(list(tmp_path.glob("store/*/*.bin"))) == 2
    no_teacher(monkeypatch)
    run = session(tmp_path, weights, "second", data__views=2, training__batch_size=20)
    finish(run)


@pytest.mark.parametrize(
    "change",
    [
        {"data__train_samples": 61},
        {"data__validation_fraction": 0.2},
        {"data__augmentation": {"crop": 2}},
        {"data__augmentation": {"cutout": 2}},
        {"training__precision": "bf16"},
        {"dtype": "float16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_logits_has_another_store(tmp_path, weights, change):
    session(tmp_path, weights, "a").train_epoch()
    session(tmp_path, weights, "b", **change).train_epoch()
    assert len(list(tmp_path.glob("store/*"))) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"training__batch_size": 20},
        {"student__width": 0.25},
        {"distillation__kd_weight": 0.5},
        {"data__augmentation": {"crop": 1}},
        {"teacher__width": 0.25, "teacher__training": {"epochs": 7}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_shares_the_store(tmp_path, weights, change, monkeypatch):
    finish(session(tmp_path, weights, "a"))
    no_teacher(monkeypatch)
    finish(session(tmp_path, weights, "b", **change))


def test_other_weights_or_members_have_another_store(tmp_path, weights):
    other = weights_of_a_teacher(tmp_path, seed=1)
    session(tmp_path, weights, "a").train_epoch()
    session(tmp_path, other, "b").train_epoch()
    scheme = {"method": "ensemble", "teachers": [{"model": "resnet8"}]}
    session(tmp_path, [weights, other], "c", scheme=scheme).train_epoch()
    session(tmp_path, [weights, other], "d", scheme={**scheme, "average": "probabilities"}).train_epoch()
    assert len(list(tmp_path.glob("store/*"))) == 4
    weights.write_bytes(other.read_bytes())
    session(tmp_path, weights, "e").train_epoch()
    assert len(list(tmp_path.glob("store/*"))) == 4, "it is the weights that count, not where they lie"


def test_another_version_or_code_of_a_plugin_has_another_store(tmp_path, weights, monkeypatch):
    def stores(**overrides):
        logit_key._code.cache_clear()
        finish(session(tmp_path, weights, f"t{len(list(tmp_path.glob('t*')))}", **overrides))
        return len(list(tmp_path.glob("store/*")))

    assert [stores(), stores()] == [1, 1]
    monkeypatch.setattr(logit_key, "__version__", "0.0.1")
    assert stores() == 2
    monkeypatch.setattr(logit_key, "version", lambda package: "99")
    assert stores() == 3
    monkeypatch.syspath_prepend(tmp_path)
    plugin = tmp_path / "plugin_of_a_test.py"
    monkeypatch.setitem(MODELS._entries, "mine", "plugin_of_a_test:make")
    source = "from orchestrator.models.resnet import resnet8\ndef make(**given): return resnet8(**given)\n"
    for text, count in ((source, 4), (source, 4), (source + "# changed", 5)):
        plugin.write_text(text)
        assert stores(teacher__model="mine") == count


def test_what_turns_out_too_large_is_not_stored(tmp_path, weights):
    made = session(tmp_path, weights, limit=1000)
    finish(made)
    assert made.described["teacher_logits"].startswith("live: ")
    assert not (tmp_path / "store").exists()
    assert (
        session(tmp_path, weights, "forced", limit=1000, forced=True).described["teacher_logits"].startswith("stored")
    )


def test_weights_that_are_gone_are_told(tmp_path):
    with pytest.raises(TeacherError, match="cannot be read"):
        session(tmp_path, tmp_path / "gone.safetensors")


def test_a_teacher_with_broken_weights_stops_everything(tmp_path, weights):
    def break_it(network):
        with torch.no_grad():
            next(network.parameters()).fill_(1e38)

    made = session(tmp_path, weights)
    break_it(made._teacher())
    with pytest.raises(TeacherError, match="NaN or infinite"):
        made.train_epoch()
