"""The section `data`: its options, what they exclude, and what they make another experiment of."""

import pytest

from orchestrator.search.plan import make_plan
from orchestrator.spec import ExperimentSpec, load_spec

HEAD = """\
name: tiny
teacher: {model: resnet14}
student: {model: resnet8}
data: """
BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


def teacher_key(spec: ExperimentSpec) -> str:
    (only,) = make_plan(spec).teachers
    return only


def test_every_option_is_read(load) -> None:
    text = (
        "{dataset: tiny-imagenet, root: ~/sets, download: true, image_size: 32, classes: [goldfish, 3, '7'],\n"
        "  label_noise: {fraction: 0.2, kind: asymmetric}}"
    )
    data = load(HEAD + text).data
    assert (data.dataset, data.download, data.image_size) == ("tiny-imagenet", True, 32)
    assert data.classes == ["goldfish", 3, "7"]
    assert (data.label_noise.fraction, data.label_noise.kind) == (0.2, "asymmetric")


def test_what_is_left_out_changes_nothing(load) -> None:
    data = load(HEAD + "{dataset: cifar10}").data
    assert (data.download, data.image_size, data.classes, data.label_noise) == (False, None, None, None)
    assert load(HEAD + "{dataset: cifar10, label_noise: {fraction: 0.1}}").data.label_noise.kind == "symmetric"


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        ("{dataset: image-folder}", "data.root", "is needed with the dataset image-folder"),
        ("{dataset: arrays}", "data.root", "is needed with the dataset arrays"),
        ("{dataset: digits, classes: [1]}", "data.classes", "must be two or more different classes"),
        ("{dataset: digits, classes: [1, 2, 1]}", "data.classes", "must be two or more different classes"),
        ("{dataset: digits, classes: []}", "data.classes", "must be two or more different classes"),
        ("{dataset: digits, image_size: 4}", "data.image_size", "must be >= 8"),
        ("{dataset: digits, label_noise: {}}", "data.label_noise.fraction", "is required"),
        ("{dataset: digits, label_noise: {fraction: 1.0}}", "data.label_noise.fraction", "must be < 1.0"),
        ("{dataset: digits, label_noise: {fraction: -0.1}}", "data.label_noise.fraction", "must be >= 0.0"),
        (
            "{dataset: digits, label_noise: {fraction: 0.1, kind: pairs}}",
            "data.label_noise.kind",
            "must be 'symmetric' or 'asymmetric'",
        ),
        ("{dataset: cifar100, train_samples: 99}", "data.train_samples", "must be >= 100, one image of each class"),
        ("{dataset: cifar10, include_valid: true}", "data.include_valid", "only cinic10 has a folder valid"),
        (
            "{dataset: cinic10, include_valid: true, train_samples: 162001}",
            "data.train_samples",
            "only 162000 training images are left after validation_fraction 0.1",
        ),
        (
            "{dataset: cifar10, train_samples: 45001}",
            "data.train_samples",
            "only 45000 training images are left after validation_fraction 0.1",
        ),
    ],
)
def test_what_cannot_be_names_the_field(problems, data: str, path: str, rule: str) -> None:
    (only,) = problems(HEAD + data)
    assert (only.path, only.rule) == (path, rule)


@pytest.mark.parametrize("data", ["{dataset: digits, classes: [1, 2], train_samples: 2}"])
def test_sizes_are_not_judged_where_they_are_not_known(load, data: str) -> None:
    assert load(HEAD + data).data.train_samples == 2


@pytest.mark.parametrize(
    "values",
    [{"data.classes": [0, 1]}, {"data.label_noise": {"fraction": 0.1}}, {"data.image_size": 16}],
)
def test_what_changes_the_images_or_labels_changes_experiment_and_teacher(values: dict) -> None:
    assert load_spec(BASE, values).hash != load_spec(BASE).hash
    assert teacher_key(load_spec(BASE, values)) != teacher_key(load_spec(BASE))


def test_training_on_valid_makes_another_experiment_and_teacher() -> None:
    one, other = (load_spec(BASE | {"data": {"dataset": "cinic10", "include_valid": on}}) for on in (False, True))
    assert one.hash == load_spec(BASE | {"data": {"dataset": "cinic10"}}).hash != other.hash
    assert teacher_key(one) != teacher_key(other)
    assert one.data.source != other.data.source
    assert (one.data.training_images(), other.data.training_images()) == (81_000, 162_000)


def test_downloading_changes_neither() -> None:
    assert load_spec(BASE, {"data.download": True}).hash == load_spec(BASE).hash
    assert teacher_key(load_spec(BASE, {"data.download": True})) == teacher_key(load_spec(BASE))


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ({"dataset": "cifar10"}, True),
        ({"dataset": "cifar10", "verify": False}, False),
        ({"dataset": "image-folder"}, False),
        ({"dataset": "arrays"}, False),
    ],
)
def test_a_teacher_depends_on_the_folder_where_the_images_do(data: dict, same: bool) -> None:
    one, other = (
        teacher_key(load_spec(BASE | {"data": {**data, "root": root}})) for root in ("/sets/one", "/sets/other")
    )
    assert (one == other) is same
