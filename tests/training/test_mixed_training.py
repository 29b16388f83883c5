"""Mixed images in training: what the networks see, and what the loss is told."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import DISTILL, make_run, network, training_data

from orchestrator.data import Augmentation, normalise
from orchestrator.data.mixing import Mixing
from orchestrator.distillation.criterion import Criterion, CriterionOutput

MIXED = Augmentation(1, True, mixing=Mixing(0.5, 1.0, 0.8))


class Spy(Criterion):
    """Records what a step's loss is computed from."""

    def __init__(self) -> None:
        super().__init__(DISTILL.ce_weight, DISTILL.kd_weight, DISTILL.temperature, DISTILL.adjustment)
        self.calls: list[tuple[Tensor, Any]] = []

    def __call__(self, logits_student: Tensor, *args: Any, **kwargs: Any) -> CriterionOutput:
        self.calls.append((args[1], kwargs["mix"]))
        return super().__call__(logits_student, *args, **kwargs)


def seen_by(module: nn.Module) -> list[Tensor]:
    """The inputs of all later calls."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    return seen


def test_both_networks_see_the_mixed_images_and_the_loss_both_labels() -> None:
    student, teacher, spy = network(), network(1), Spy()
    data = training_data(augmentation=MIXED)
    inputs, teacher_inputs = seen_by(student), seen_by(teacher)
    run = make_run(student, spy, data=data, teacher=teacher)
    for epoch in range(2):
        for calls in (spy.calls, inputs, teacher_inputs):
            calls.clear()
        run.train_epoch()
        order = torch.cat([target for target, _ in spy.calls])
        assert torch.equal(order.sort().values, data.train.labels.sort().values)
        expected, mix = MIXED.batch(data.train, torch.arange(101), seed=3, view=epoch)
        known = {
            tuple(image.flatten().tolist()): (label, partner, share)
            for image, label, partner, share in zip(
                normalise(expected, data.mean, data.std),
                data.train.labels.tolist(),
                mix.labels.tolist(),
                mix.share.tolist(),
                strict=True,
            )
        }
        for step, (target, told) in enumerate(spy.calls):
            assert torch.equal(inputs[step], teacher_inputs[step])
            found = [known[tuple(image.flatten().tolist())] for image in inputs[step]]
            assert found == list(zip(target.tolist(), told.partner.tolist(), told.share.tolist(), strict=True))


def test_without_mixing_the_loss_is_told_of_none() -> None:
    spy = Spy()
    make_run(criterion=spy, data=training_data(augmentation=Augmentation(1, True)), teacher=network(1)).train_epoch()
    assert [mix for _, mix in spy.calls] == [None] * 4


def test_a_run_with_mixing_continues_exactly() -> None:
    whole, first = (make_run(data=training_data(augmentation=MIXED)) for _ in range(2))
    expected = [whole.train_epoch() for _ in range(2)][1]
    first.train_epoch()
    second = make_run(network(5), data=training_data(augmentation=MIXED))
    second.restore(first.state())
    assert second.train_epoch()["train/loss"] == expected["train/loss"]


def test_the_cross_entropy_is_mixed_as_the_images_are() -> None:
    data, student = training_data(augmentation=MIXED), network()
    images, mix = MIXED.batch(data.train, torch.arange(101), seed=3, view=0)
    with torch.no_grad():
        logits = student(normalise(images, data.mean, data.std))
    own, partners = (
        nn.functional.cross_entropy(logits, labels, reduction="none") for labels in (data.train.labels, mix.labels)
    )
    expected = (mix.share * own + (1 - mix.share) * partners).mean().item()
    metrics = make_run(student, lr=1e-12, data=data).train_epoch()
    assert metrics["train/loss_ce"] == pytest.approx(expected, rel=1e-4)
