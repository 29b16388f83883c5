"""What a spec may ask of a data set whose size is known."""

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}
LEFT = "only {} training images are left after validation_fraction {}"


@pytest.mark.parametrize(
    ("values", "path", "rule"),
    [
        ({"data.train_samples": 1295}, "data.train_samples", LEFT.format(1294, 0.1)),
        ({"data.train_samples": 1200, "data.validation_fraction": 0.5}, "data.train_samples", LEFT.format(719, 0.5)),
        (
            {"data": {"dataset": "fashion-mnist", "train_samples": 54_001}},
            "data.train_samples",
            LEFT.format(54_000, 0.1),
        ),
        ({"data.train_samples": 9}, "data.train_samples", "must be >= 10, one image of each class"),
        ({"teacher.train_samples": 5000}, "teacher.train_samples", LEFT.format(1294, 0.1)),
        (
            {"search.variants": {"a": {"set": {"data.train_samples": 2000}}}},
            "search.variants.a.set.data.train_samples",
            LEFT.format(1294, 0.1),
        ),
        (
            {"data.validation_fraction": 0.001},
            "data.validation_fraction",
            "holds out 1 of 1438 training images; both parts need one of all 10 classes",
        ),
        (
            {"data.validation_fraction": 0.999},
            "data.validation_fraction",
            "holds out 1437 of 1438 training images; both parts need one of all 10 classes",
        ),
    ],
)
def test_more_images_than_there_are(values: dict, path: str, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(BASE, values)
    (problem,) = caught.value.problems
    assert (problem.path, problem.rule) == (path, rule)


@pytest.mark.parametrize(
    "values",
    [
        {"data.train_samples": 1294, "teacher.train_samples": 1294},
        {"data.train_samples": 10},
        # Other files of the same format may hold any number of images.
        {"data": {"dataset": "fashion-mnist", "verify": False, "train_samples": 100_000}},
    ],
)
def test_as_many_images_as_there_may_be(values: dict) -> None:
    load_spec(BASE, values)
