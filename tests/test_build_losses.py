"""From `distillation.loss` to what the criterion computes."""

from typing import Any

import pytest
import torch

from orchestrator import build
from orchestrator.catalog import LOSSES
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import Lesson, LogitLoss, SoftTargets
from orchestrator.spec.distillation import DistillationSpec


def criterion(**sections: Any) -> Criterion:
    return build.build_criterion(DistillationSpec.model_validate(sections))


@pytest.mark.parametrize(
    ("section", "kind", "weights"),
    [
        ({"method": "kd"}, SoftTargets, {"kd": 1}),
        ({"method": "dkd", "alpha": 0.5, "beta": 3.0}, DecoupledKD, {"tckd": 0.5, "nckd": 3.0}),
        ({"method": "dist", "beta": 0.5, "gamma": 3.0}, Correlation, {"inter": 0.5, "intra": 3.0}),
    ],
)
def test_losses_reach_the_criterion(section: dict[str, Any], kind: type[LogitLoss], weights: dict[str, float]) -> None:
    made = criterion(loss=section)
    assert type(made.loss) is kind
    assert made.loss.weights == weights
    assert not made.standardize


def test_the_default_is_standard_distillation() -> None:
    assert type(criterion().loss) is SoftTargets


def test_adjustment_temperature_decoupling_and_standardisation_are_one_spec() -> None:
    made = criterion(
        temperature={"method": "flsw", "beta": 20.0},
        adjustment={"rule": "probability_shift"},
        loss={"method": "dkd"},
        logit_standardization=True,
    )
    assert made.standardize
    student, teacher = torch.randn(2, 8, 10)
    output = made(student.requires_grad_(), teacher, torch.arange(8))
    output.total.backward()
    assert output.total.isfinite()
    assert student.grad is not None
    assert {"loss_tckd", "loss_nckd", "temperature/mean", "adjustment/adjusted"} <= output.parts.keys()


class Distance(LogitLoss):
    """A plugin: mean squared distance of logs."""

    def __init__(self, factor: float) -> None:
        super().__init__(distance=factor)

    def terms(self, lesson: Lesson) -> dict[str, torch.Tensor]:
        return {"distance": (lesson.soften_student() - lesson.finite_log_probs_teacher()).square().mean(dim=1)}


def test_a_plugins_loss_works_from_the_spec_to_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    LOSSES.register("distance")(Distance)
    section = {"method": "distance", "options": {"factor": 3.0}}
    spec = DistillationSpec.model_validate({"loss": section})
    assert spec.loss.model_dump() == section
    student, teacher = torch.randn(2, 4, 10)
    output = build.build_criterion(spec)(student, teacher, torch.arange(4))
    expected = ((student / 4).log_softmax(1) - (teacher / 4).log_softmax(1)).square().mean()
    torch.testing.assert_close(output.loss_kd, 3 * expected)
