"""Feature losses from the spec to a trained student."""

from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import build, load_spec, names
from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.data import Dataset, load_dataset
from orchestrator.distillation.features import FeatureLoss, Setup
from orchestrator.errors import CheckpointError, RegistryError
from orchestrator.spec.variants import variants
from orchestrator.training import TrainingRun, save_weights

BUILT_IN = ["attention_transfer", "crd", "fitnet", "nst", "pkt", "review", "rkd", "sp", "vid"]
WITH_CONNECTORS = ["crd", "fitnet", "review", "vid"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def make(digits: Dataset, *features: dict[str, Any], **overrides: Any) -> TrainingRun:
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "train_samples": 150},
        "teacher": {"model": "resnet14", "width": 0.5},
        "student": {"model": "resnet8", "width": 0.25, "norm": "group"},
        "distillation": {"features": list(features)},
        "training": {"epochs": 2, "batch_size": 64, "optimizer": {"lr": 0.01}, "precision": "float32"},
    }
    values = {name.replace("__", "."): value for name, value in overrides.items()}
    run = variants(load_spec(content, values))[0].run
    return build.build_student_run(run, build.build_splits(run, digits, 0), build.build_teacher(run, digits))


def test_the_built_in_methods() -> None:
    assert set(BUILT_IN) <= set(FEATURE_LOSSES)
    assert all(names.is_metric(names.loss_metric(method)) for method in BUILT_IN)


@pytest.mark.parametrize("method", BUILT_IN)
def test_every_method_trains(digits: Dataset, method: str) -> None:
    run = make(digits, {"method": method})
    (term,) = run.features
    connectors = [parameter.detach().clone() for parameter in term.loss.parameters()]
    first, last = run.train_epoch(), run.train_epoch()
    for metrics in (first, last):
        assert torch.tensor(metrics[names.loss_metric(method)]).isfinite()
        assert metrics[names.TRAIN_LOSS_KD] > 0
    assert bool(connectors) == (method in WITH_CONNECTORS)
    moved = [not torch.equal(before, after) for before, after in zip(connectors, term.loss.parameters(), strict=True)]
    assert all(moved)
    assert not any(parameter.grad is not None for parameter in run.teacher.parameters())


@pytest.mark.parametrize("method", ["attention_transfer", "fitnet", "rkd", "sp"])
def test_a_loss_alone_falls(digits: Dataset, method: str) -> None:
    run = make(digits, {"method": method}, distillation__kd_weight=0, training__epochs=4)
    losses = [run.train_epoch()[names.loss_metric(method)] for _ in range(4)]
    assert losses[-1] < 0.95 * losses[0]


def test_the_total_is_the_weighted_sum(digits: Dataset) -> None:
    run = make(
        digits,
        {"method": "fitnet", "weight": 3.0},
        {"method": "pkt", "weight": 70.0},
        distillation__ce_weight=0.3,
        distillation__kd_weight=0.6,
    )
    metrics = run.train_epoch()
    expected = 0.3 * metrics[names.TRAIN_LOSS_CE] + 0.6 * metrics[names.TRAIN_LOSS_KD]
    expected += 3 * metrics[names.loss_metric("fitnet")] + 70 * metrics[names.loss_metric("pkt")]
    assert metrics[names.TRAIN_LOSS] == pytest.approx(expected, rel=1e-5)


def test_a_warm_up_keeps_a_loss_out_at_first(digits: Dataset) -> None:
    slow = {"method": "fitnet", "weight": 100.0, "warmup_epochs": 1000.0}
    metrics = make(digits, slow, training__epochs=1000).train_epoch()
    logits = 0.1 * metrics[names.TRAIN_LOSS_CE] + 0.9 * metrics[names.TRAIN_LOSS_KD]
    added = metrics[names.TRAIN_LOSS] - logits
    assert 0 < added < 0.001 * 100 * metrics[names.loss_metric("fitnet")]


def test_a_warm_up_that_is_not_set_ends_with_a_shorter_training(digits: Dataset) -> None:
    for epochs, expected in ((10, 10), (30, 20)):
        (term,) = make(digits, {"method": "review"}, training__epochs=epochs).features
        assert term.warmup_epochs == expected


def test_without_the_logit_loss_the_teacher_serves_the_features_alone(digits: Dataset) -> None:
    run = make(digits, {"method": "sp"}, distillation__kd_weight=0)
    metrics = run.train_epoch()
    assert metrics[names.loss_metric("sp")] > 0
    assert metrics[names.TRAIN_LOSS_KD] == 0
    assert names.TEMPERATURE_MEAN not in metrics


def test_connectors_are_no_part_of_the_student(digits: Dataset, tmp_path: Any) -> None:
    run, bare = make(digits, {"method": "fitnet"}, {"method": "crd"}), make(digits)
    assert run.student.state_dict().keys() == bare.student.state_dict().keys()
    save_weights(tmp_path / "weights.safetensors", run.student, {})
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    connectors = {id(p) for term in run.features for p in term.loss.parameters()}
    assert connectors
    assert trained == {id(p) for p in run.student.parameters()} | connectors


def test_features_leave_the_students_start_alone(digits: Dataset) -> None:
    with_features, bare = make(digits, {"method": "vid"}).student, make(digits).student
    assert all(torch.equal(a, b) for a, b in zip(with_features.parameters(), bare.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_restored_run_goes_on_exactly(digits: Dataset, precision: str) -> None:
    features = [{"method": method} for method in ("crd", "vid", "review", "rkd")]

    def fresh() -> TrainingRun:
        return make(digits, *features, training__precision=precision)

    whole, first, second = fresh(), fresh(), fresh()
    whole.train_epoch()
    expected = whole.train_epoch()
    first.train_epoch()
    second.restore(first.state())
    metrics = second.train_epoch()
    for method in ("crd", "vid", "review", "rkd"):
        assert metrics[names.loss_metric(method)] == expected[names.loss_metric(method)]
    state, other = whole.state(), second.state()
    for part in ("student", "features"):
        assert all(torch.equal(value, other[part][name]) for name, value in state[part].items())


def test_a_checkpoint_of_other_features_is_refused(digits: Dataset) -> None:
    with pytest.raises(CheckpointError, match="does not fit the run"):
        make(digits, {"method": "vid"}).restore(make(digits).state())


def test_usual_layers(digits: Dataset) -> None:
    run = make(digits, *({"method": method} for method in BUILT_IN))
    student, teacher = (list(network.feature_layers) for network in (run.student, run.teacher))
    layers = {term.method: (list(term.layers), list(term.teacher_layers)) for term in run.features}
    assert student != teacher
    for method in ("attention_transfer", "nst", "vid"):
        assert layers[method] == (student, teacher)
    assert layers["review"] == ([*student, "embedding"], [*teacher, "embedding"])
    assert layers["fitnet"] == ([student[1]], [teacher[1]])
    assert layers["sp"] == ([student[2]], [teacher[2]])
    for method in ("rkd", "pkt", "crd"):
        assert layers[method] == (["embedding"], ["embedding"])


def test_stages_with_maps_of_one_size_pair_where_one_network_has_more(digits: Dataset) -> None:
    run = make(digits, *({"method": m} for m in BUILT_IN), teacher__model="vgg8", teacher__width=0.125)
    student, teacher = list(run.student.feature_layers), list(run.teacher.feature_layers)
    assert (len(student), len(teacher)) == (3, 5)
    layers = {term.method: (list(term.layers), list(term.teacher_layers)) for term in run.features}
    assert layers["attention_transfer"] == (student, teacher[:3])
    assert layers["review"] == ([*student, "embedding"], [*teacher[:3], "embedding"])
    assert layers["fitnet"] == (student[1:2], teacher[1:2])
    assert layers["sp"] == (student[2:], teacher[4:])


def test_named_layers_and_options_reach_the_loss(digits: Dataset) -> None:
    named = {"layers": ["stem", "stages.1"], "teacher_layers": ["stages.0", "stages.3"]}
    run = make(digits, {"method": "attention_transfer", "power": 3.0, "weight": 5.0, **named})
    (term,) = run.features
    assert (term.layers, term.teacher_layers) == (("stem", "stages.1"), ("stages.0", "stages.3"))
    assert (term.loss.power, term.weight) == (3.0, 5.0)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"method": "sp", "layers": ["stages.7"]}, r"features\.0: ResNet has no layer 'stages.7'; did you mean"),
        ({"method": "sp", "layers": ["stem", "stages.0"]}, r"features\.0: .* got 2 and 1"),
        (
            {"method": "nst", "layers": ["embedding"], "teacher_layers": ["stem"]},
            r"features\.0: neuron selectivity transfer compares places",
        ),
    ],
)
def test_layers_that_do_not_suit_name_the_entry(digits: Dataset, feature: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        make(digits, feature)


class Halfway(FeatureLoss):
    """A plugin: a learned bridge between the last stages."""

    default_layers = "last"

    def __init__(self, setup: Setup, *, bias: bool) -> None:
        super().__init__(setup)
        self.bridge = nn.Conv2d(setup.student[0][0], setup.teacher[0][0], 1, bias=bias)

    def compute(self, student: Any, teacher: Any, batch: Any) -> Any:
        per_sample = (self.bridge(student[0]) - teacher[0]).abs().mean((1, 2, 3))
        return batch.workers.share_of_mean(per_sample)


def test_a_plugins_loss_trains(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURE_LOSSES, "_entries", dict(FEATURE_LOSSES._entries))
    FEATURE_LOSSES.register("halfway")(Halfway)
    run = make(digits, {"method": "halfway", "weight": 2.0, "options": {"bias": False}})
    assert run.features[0].loss.bridge.bias is None
    metrics = run.train_epoch()
    assert metrics["train/loss_halfway"] > 0
    assert names.is_metric("train/loss_halfway")
