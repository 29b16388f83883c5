"""`data.augmentation`: its short forms, its section, what is refused, and searching it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import Problem, SpecError
from orchestrator.search.plan import make_plan
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.spec.augmentation import AugmentationSpec
from orchestrator.spec.variants import variants

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet8"},
    "student": {"model": "resnet8"},
}


def spec_with(augmentation: Any = None, **search: Any) -> ExperimentSpec:
    data = BASE["data"] | ({} if augmentation is None else {"augmentation": augmentation})
    return load_spec(BASE | {"data": data, "search": {"sampler": "random", **search}})


def problems(*args: Any, **search: Any) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        spec_with(*args, **search)
    return caught.value.problems


@pytest.mark.parametrize("name", ["none", "standard"])
def test_short_forms_stay_as_they_are(name: str) -> None:
    assert spec_with(name).data.augmentation == name
    assert spec_with().data.augmentation == "standard"


def test_a_section_leaves_crop_and_flip_to_the_data_set_and_the_rest_off() -> None:
    for given in ({}, dict.fromkeys(AugmentationSpec.model_fields.keys() - {"mix_probability"})):
        section = spec_with(given).data.augmentation
        assert isinstance(section, AugmentationSpec)
        assert section == AugmentationSpec()
        assert (section.crop, section.flip, section.mixup, section.policy) == (None, None, None, None)


def test_every_option_is_read() -> None:
    given = {
        "crop": 4,
        "flip": True,
        "cutout": 8,
        "color_jitter": {"brightness": 0.4, "hue": 0.1},
        "policy": {"method": "randaugment", "num_ops": 3, "magnitude": 12},
        "mixup": 0.2,
        "cutmix": 1.0,
        "mix_probability": 0.5,
    }
    dumped = spec_with(given).data.augmentation.model_dump(exclude_unset=True)
    assert dumped == given
    assert spec_with({"policy": {}}).data.augmentation.policy.method == "randaugment"
    assert spec_with({"policy": {"method": "trivialaugment"}}).data.augmentation.policy.method == "trivialaugment"


@pytest.mark.parametrize(
    ("given", "path", "rule"),
    [
        ("strong", "", "must be 'none' or 'standard'"),
        (3, "", "must be 'none' or 'standard'"),
        ({"crop": -1}, ".crop", "must be >= 0"),
        ({"flip": 1}, ".flip", "must be true or false"),
        ({"cutout": 0}, ".cutout", "must be >= 1"),
        ({"cutuot": 8}, ".cutuot", "unknown key"),
        ({"mixup": 0}, ".mixup", "must be > 0.0"),
        ({"cutmix": 101}, ".cutmix", "must be <= 100.0"),
        ({"mix_probability": 1.5}, ".mix_probability", "must be <= 1.0"),
        ({"color_jitter": {"hue": 0.6}}, ".color_jitter.hue", "must be <= 0.5"),
        ({"color_jitter": {"colour": 0.6}}, ".color_jitter.colour", "unknown key"),
        ({"policy": {"magnitude": 31}}, ".policy.magnitude", "must be <= 30"),
        ({"policy": {"method": "trivialaugment", "magnitude": 3}}, ".policy.magnitude", "unknown key"),
        ({"policy": {"method": "trivial"}}, ".policy.method", "must be one of 'randaugment', 'trivialaugment'"),
    ],
)
def test_what_is_refused_names_its_field(given: Any, path: str, rule: str) -> None:
    (problem,) = problems(given)
    assert problem.path == f"data.augmentation{path}"
    assert problem.rule == rule


def test_a_wrong_key_is_told_the_nearest() -> None:
    (problem,) = problems({"cutuot": 8})
    assert problem.hint == "did you mean 'cutout'?"


def test_options_can_be_searched_and_leave_the_teacher_alone() -> None:
    uniform = {"type": "uniform", "low": 0.1, "high": 1.0}
    randint = {"type": "randint", "low": 3, "high": 15}
    spec = spec_with(space={"data.augmentation.mixup": uniform, "data.augmentation.policy.magnitude": randint})
    plan = make_plan(spec)
    (arm,) = plan.arms
    seen = set()
    for point in arm.points:
        run = plan.run_of(plan.search_trial(arm, 0, point))
        assert run.data.augmentation.mixup == point["data.augmentation.mixup"]
        assert run.data.augmentation.policy.magnitude == point["data.augmentation.policy.magnitude"]
        seen.add(run.data.augmentation.mixup)
    assert len(seen) == arm.count
    assert [teacher.run.data.augmentation for teacher in plan.teachers.values()] == ["standard"]


def test_variants_set_and_search_options() -> None:
    choice = {"type": "choice", "values": [None, 8]}
    arms = variants(
        spec_with(
            variants={
                "plain": {},
                "mixed": {"set": {"data.augmentation.cutmix": 1.0}, "space": {"data.augmentation.cutout": choice}},
                "off": {"set": {"data.augmentation": "none"}},
            }
        )
    )
    by_name = {arm.name: arm for arm in arms}
    assert by_name["plain"].run.data.augmentation == "standard"
    assert by_name["off"].run.data.augmentation == "none"
    assert by_name["mixed"].run.data.augmentation == AugmentationSpec(cutmix=1.0)
    assert by_name["mixed"].run.with_values({"data.augmentation.cutout": None}).data.augmentation.cutout is None


def test_a_domain_beyond_a_field_is_refused() -> None:
    (problem,) = problems(space={"data.augmentation.mixup": {"type": "uniform", "low": 0.0, "high": 1.0}})
    assert problem.path == "search.space.data.augmentation.mixup"
    assert "must be > 0" in problem.rule


@pytest.mark.parametrize("path", ["data.dataset", "data.augmentations", "data"])
def test_the_rest_of_the_data_cannot_be_searched(path: str) -> None:
    (problem,) = problems(space={path: {"type": "choice", "values": ["digits"]}})
    assert problem.path == f"search.space.{path}"


def test_a_section_changes_the_hash_and_a_short_form_does_not() -> None:
    plain = spec_with()
    assert spec_with("standard").hash == plain.hash
    hashes = {spec_with(given).hash for given in ({"mixup": 0.2}, {"mixup": 0.3}, {"cutmix": 0.2}, "none")}
    assert len(hashes | {plain.hash}) == 5


def test_the_documented_section_is_valid_and_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")
    given = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["data"]["augmentation"]
    section = spec_with(given).data.augmentation
    assert section.model_fields_set == set(AugmentationSpec.model_fields)
