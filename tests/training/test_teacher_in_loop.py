import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from training_runs import CE_ONLY, CLASSES, DISTILL, make_run, network, training_data, without_times

from orchestrator.data import Augmentation
from orchestrator.data.views import View, Views
from orchestrator.distillation.features import FeatureTerm, Setup
from orchestrator.distillation.features.fitnet import FitNet
from orchestrator.training.optim import sgd
from orchestrator.training.view_logits import view_logits


def test_the_teacher_stays_as_it_is_and_sees_what_the_student_sees() -> None:
    student, teacher = network(norm="batch").eval(), network(seed=5, norm="batch").train()
    before = copy.deepcopy(teacher.state_dict())
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    student.register_forward_pre_hook(lambda module, args: seen["student"].append(args[0]))
    teacher.register_forward_pre_hook(lambda module, args: seen["teacher"].append(args[0]))
    data = training_data(augmentation=Augmentation(1, True))
    run = make_run(student, DISTILL, data=data, teacher=teacher, epochs=2, settings={"eval_every": 2})
    seen["teacher"].clear()
    run.train_epoch()
    assert len(seen["teacher"]) == 4
    assert all(torch.equal(a, b) for a, b in zip(seen["student"], seen["teacher"], strict=True))
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.training


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("with_features", [False, True])
def test_a_folded_teacher_teaches_the_same(
    precision: str, with_features: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> dict[str, float]:
        student, teacher = network(), network(seed=5, norm="batch").eval()
        loss = FitNet(Setup([(4, 8, 8)], [(4, 8, 8)], torch.arange(4)))
        term = FeatureTerm("fitnet", loss, 1.0, ("stages.0",), ("stages.0",))
        run = make_run(
            student,
            DISTILL,
            teacher=teacher,
            features=[term] if with_features else [],
            settings={"precision": precision},
            optimizer=sgd([*student.parameters(), *loss.parameters()], lr=0.05),
        )
        return without_times(run.train_epoch())

    expected = trained()
    monkeypatch.setattr("orchestrator.models.folding.LARGE", 0)
    assert trained() == pytest.approx(expected, rel=1e-4 if precision == "float32" else 0.1, abs=1e-4)


def test_targets_stand_for_the_teacher_view_by_view() -> None:
    teacher, asked = network(1).eval(), []
    data = training_data(augmentation=Augmentation(1, True))

    def targets(view: View) -> torch.Tensor:
        asked.append(view)
        return view_logits(teacher, data, view, precision="float32", device=torch.device("cpu"))

    live = make_run(criterion=DISTILL, teacher=teacher, data=data)
    stored = make_run(criterion=DISTILL, targets=targets, data=data)
    for _ in range(2):
        assert without_times(stored.train_epoch()) == pytest.approx(without_times(live.train_epoch()), rel=1e-4)
    assert asked == [View(3, 0), View(3, 1)]
    assert stored.teacher is None


def test_views_come_again_and_have_a_seed_of_their_own() -> None:
    asked = []

    def targets(view: View) -> torch.Tensor:
        asked.append(view)
        return torch.zeros(101, CLASSES)

    run = make_run(criterion=DISTILL, targets=targets, data=replace(training_data(), views=Views(9, 2)))
    while not run.done:
        run.train_epoch()
    assert asked == [View(9, 0), View(9, 1)] * 2


def test_targets_are_not_asked_for_where_nothing_needs_a_teacher() -> None:
    def targets(view: View) -> torch.Tensor:
        raise AssertionError("asked")

    make_run(criterion=CE_ONLY, targets=targets).train_epoch()
