"""`distillation.loss` and `distillation.logit_standardization`."""

from typing import Any

import pytest

from orchestrator.catalog import LOSSES
from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from orchestrator.spec.experiment import ExperimentSpec

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


def load(search: dict[str, Any] | None = None, **distillation: Any) -> ExperimentSpec:
    return load_spec({**SPEC, "distillation": distillation, "search": search or {}})


def test_the_default_is_standard_distillation() -> None:
    section = load().distillation
    assert section.loss.method == "kd"
    assert section.logit_standardization is False


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({}, {"method": "kd"}),
        ({"method": "dkd"}, {"method": "dkd", "alpha": 1, "beta": 8}),
        ({"method": "dkd", "alpha": 0.5, "beta": 2}, {"method": "dkd", "alpha": 0.5, "beta": 2}),
        ({"method": "dist"}, {"method": "dist", "beta": 1, "gamma": 1}),
    ],
)
def test_losses_have_their_papers_weights(given: dict[str, Any], filled: dict[str, Any]) -> None:
    assert load(loss=given).distillation.loss.model_dump() == filled
    assert filled["method"] in LOSSES


@pytest.mark.parametrize(
    ("distillation", "problem"),
    [
        ({"loss": {"method": "dks"}}, "distillation.loss.method: 'dks': is not a known loss; did you mean 'dk"),
        ({"loss": {"method": "dkd", "gamma": 1}}, "distillation.loss.gamma: unknown key"),
        ({"loss": {"method": "dkd", "alpha": -1}}, "distillation.loss.alpha: -1: must be >= 0"),
        (
            {"loss": {"method": "dkd", "alpha": 0, "beta": 0}},
            "distillation.loss.beta: 0.0: must be above 0 where alpha",
        ),
        ({"loss": {"method": "dist", "beta": 0, "gamma": 0}}, "distillation.loss.gamma: 0.0: must be above 0 where be"),
        ({"loss": {"alpha": 1}}, "distillation.loss.alpha: unknown key"),
        ({"logit_standardization": 1}, "distillation.logit_standardization: 1: must be true or false"),
    ],
)
def test_what_cannot_be_is_refused(distillation: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(**distillation)
    assert any(str(found).startswith(problem) for found in caught.value.problems), caught.value.problems


def test_everything_goes_together_and_is_searched() -> None:
    spec = load(
        temperature={"method": "flsw", "beta": 20},
        adjustment={"rule": "probability_shift"},
        loss={"method": "dkd"},
        logit_standardization=True,
        search={"space": {"distillation.loss.beta": {"type": "uniform", "low": 1, "high": 8}}},
    )
    assert (spec.distillation.loss.method, spec.distillation.temperature.method) == ("dkd", "flsw")
    assert list(spec.search.space) == ["distillation.loss.beta"]


def test_variants_differ_in_the_loss() -> None:
    search = {"variants": {"kd": {}, "dkd": {"set": {"distillation.loss": {"method": "dkd", "beta": 2}}}}}
    assert set(load(search=search).search.variants) == {"kd", "dkd"}
