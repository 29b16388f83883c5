"""`distillation.features`, and paths into lists."""

from typing import Any

import pytest

from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from orchestrator.spec.experiment import ExperimentSpec, assign
from orchestrator.spec.variants import flatten, variants

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}
WEIGHT = "distillation.features.0.weight"


def load(*features: Any, search: dict[str, Any] | None = None, **distillation: Any) -> ExperimentSpec:
    return load_spec({**SPEC, "distillation": {**distillation, "features": list(features)}, "search": search or {}})


def problems(*features: Any, **rest: Any) -> list[str]:
    with pytest.raises(SpecError) as error:
        load(*features, **rest)
    return [str(problem) for problem in error.value.problems]


def test_every_built_in_method_has_a_section_with_its_usual_weight() -> None:
    built_in = ["attention_transfer", "crd", "fitnet", "nst", "pkt", "review", "rkd", "sp", "vid"]
    found = load(*({"method": method} for method in built_in)).distillation.features
    assert {feature.method: feature.weight for feature in found} == {
        "attention_transfer": 1000,
        "crd": 0.8,
        "fitnet": 1,
        "nst": 50,
        "pkt": 30000,
        "review": 1,
        "rkd": 1,
        "sp": 3000,
        "vid": 1,
    }
    assert set(built_in) <= set(FEATURE_LOSSES)
    assert {feature.method for feature in found if type(feature).__name__ == "PluginFeature"} == set()


@pytest.mark.parametrize(
    ("feature", "problem"),
    [
        ({"method": "fitnet", "weight": 0}, "distillation.features.0.weight: 0: must be > 0"),
        ({"method": "fitnets"}, "distillation.features.0.method: 'fitnets': is not a known feature; did you mean 'fit"),
        ({"weight": 2}, "distillation.features.0.method: is required"),
        ({"method": "sp", "power": 2}, "distillation.features.0.power: unknown key"),
        ("sp", "distillation.features.0: 'sp': must be a mapping"),
        ({"method": "sp", "layers": []}, "distillation.features.0.layers: []: must not be empty"),
        ({"method": "sp", "layers": ["a", "a"]}, "features.0.layers: ['a', 'a']: must not name a layer twice"),
        (
            {"method": "sp", "layers": ["a"], "teacher_layers": ["a", "b"]},
            "features.0.teacher_layers: ['a', 'b']: must name one layer for each of layers (1)",
        ),
        ({"method": "crd", "layers": ["a", "b"]}, "distillation.features.0.layers: ['a', 'b']: "),
        (
            {"method": "rkd", "distance_weight": 0, "angle_weight": 0},
            "features.0.angle_weight: 0.0: must be above 0 where distance_weight is 0",
        ),
    ],
)
def test_what_is_wrong_names_the_entry(feature: Any, problem: str) -> None:
    (found,) = problems(feature)
    assert problem in found


def test_a_method_listed_twice_is_refused() -> None:
    (found,) = problems({"method": "sp"}, {"method": "nst"}, {"method": "sp", "weight": 2})
    assert found == "distillation.features.2.method: 'sp': is listed twice; give one entry all its layers"


def test_features_alone_need_the_teacher() -> None:
    spec = load({"method": "sp"}, kd_weight=0)
    assert spec.needs_teacher
    assert not load(kd_weight=0).needs_teacher
    with pytest.raises(SpecError, match=r"teacher: is needed where .*there are features"):
        load_spec({**SPEC, "teacher": None, "distillation": {"kd_weight": 0, "features": [{"method": "sp"}]}})


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"temperature": {"method": "flsw"}}, "temperature: 'flsw'"),
        ({"temperature": {"method": "constant", "base": 2.0}}, "temperature: 'constant'"),
        ({"adjustment": {"rule": "probability_shift"}}, "adjustment: 'probability_shift'"),
        ({"loss": {"method": "dkd"}}, "loss: 'dkd'"),
        ({"logit_standardization": True}, "logit_standardization: true"),
        ({"warmup_epochs": 2}, "warmup_epochs: 2.0"),
    ],
)
def test_what_acts_on_the_logits_is_refused_beside_features_without_a_logit_loss(
    section: dict[str, Any], name: str
) -> None:
    (found,) = problems({"method": "sp"}, kd_weight=0, **section)
    assert found.startswith(f"distillation.{name}: acts on the logit loss alone, which kd_weight 0 leaves out")
    load({"method": "sp"}, **section)


@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"cutmix": 1.0, "mix_probability": 0.5}])
def test_contrastive_distillation_takes_no_mixed_images(mixing: dict[str, Any]) -> None:
    mixed = {**SPEC["data"], "augmentation": mixing}
    spec = {**SPEC, "data": mixed, "distillation": {"features": [{"method": "sp"}, {"method": "crd"}]}}
    with pytest.raises(
        SpecError, match=r"features\.1\.method: 'crd': tells samples apart .* mixup and cutmix make one"
    ):
        load_spec(spec)
    load_spec({**spec, "distillation": {"features": [{"method": "sp"}]}})
    load_spec({**spec, "data": {**mixed, "augmentation": {**mixing, "mix_probability": 0}}})


def test_something_must_train_the_classifier() -> None:
    assert "kd_weight" in problems({"method": "sp"}, ce_weight=0, kd_weight=0)[0]


def test_paths_go_into_lists() -> None:
    tree = {"a": [{"b": 1}, {"b": 2}], "c": [3, 4]}
    assert assign(tree, {"a.1.b": 5, "c.0": 6}) == {"a": [{"b": 1}, {"b": 5}], "c": [6, 4]}
    assert tree == {"a": [{"b": 1}, {"b": 2}], "c": [3, 4]}
    assert flatten(tree) == {"a.0.b": 1, "a.1.b": 2, "c": [3, 4]}
    for path in ("a.2.b", "a.x.b", "a.-1.b", "a.².b"):
        item = path.split(".")[1]
        assert assign(tree, {path: 5})["a"] == {item: {"b": 5}}


def test_a_weight_can_be_searched_set_and_constrained() -> None:
    search = {
        "space": {WEIGHT: {"type": "loguniform", "low": 1, "high": 5}},
        "variants": {"free": {}, "fixed": {"set": {WEIGHT: 3}}},
        "constraints": [f"{WEIGHT} <= 4"],
    }
    free, fixed = variants(load({"method": "sp"}, search=search))
    assert free.run.with_values({WEIGHT: 2.5}).distillation.features[0].weight == 2.5
    assert free.repaired({WEIGHT: 4.5}) == {WEIGHT: 4.0}
    assert fixed.run.distillation.features[0].weight == 3
    assert WEIGHT not in fixed.space


def test_a_weight_can_be_set_from_outside() -> None:
    content = {**SPEC, "distillation": {"features": [{"method": "sp"}]}}
    assert load_spec(content, {WEIGHT: 7.0}).distillation.features[0].weight == 7
    with pytest.raises(SpecError, match="must be a list; a path can name the items that the list has"):
        load_spec(content, {"distillation.features.1.weight": 7.0})


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (WEIGHT, "reaches a value that is not valid: with distillation.features.0.weight = -1.0"),
        ("distillation.features.1.weight", "there is no field distillation.features.1.weight"),
        ("distillation.features.sp.weight", "there is no field distillation.features.sp.weight"),
        ("distillation.features.0.wieght", "there is no field distillation.features.0.wieght; did you mean 'weight'"),
    ],
)
def test_both_ends_of_a_domain_in_a_list_are_checked(path: str, problem: str) -> None:
    search = {"space": {path: {"type": "uniform", "low": -1, "high": 5}}}
    (found,) = problems({"method": "sp"}, search=search)
    assert found.startswith(f"search.space.{path}: {problem}")


def test_a_variant_without_the_entry_is_told() -> None:
    search = {
        "space": {WEIGHT: {"type": "uniform", "low": 1, "high": 5}},
        "variants": {"kd": {"set": {"distillation.features": []}}, "sp": {}},
    }
    (found,) = problems({"method": "sp"}, search=search)
    assert "variant 'kd' has no such field" in found
    (found,) = problems({"method": "sp"}, search={"variants": {"a": {"set": {"distillation.features.2.weight": 7}}}})
    assert found.startswith("search.variants.a.set.distillation.features.2.weight")


def test_whole_lists_can_be_searched() -> None:
    lists = [[], [{"method": "sp"}], [{"method": "rkd", "weight": 2}]]
    search = {"sampler": "grid", "space": {"distillation.features": {"type": "choice", "values": lists}}}
    (only,) = variants(load(search=search))
    assert [p["distillation.features"] for p in only.grid()] == lists
    search["space"] = {"distillation.features": {"type": "choice", "values": [[], [{"method": "spp"}]]}}
    (found,) = problems(search=search)
    assert "is not a known feature" in found
