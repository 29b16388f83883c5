import math

import pytest
import torch
from torch import nn

from orchestrator.catalog import OPTIMIZERS, SCHEDULES
from orchestrator.training.optim import adamw, constant, cosine, sgd, step


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_equals_the_formula_in_any_layout(nesterov: bool) -> None:
    weight = nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    optimizer = sgd([weight], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    expected, velocity = weight.detach().clone(), torch.zeros(4, 3, 3, 3)
    for seed in range(3):
        target = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (weight * target).sum().backward()
        optimizer.step()
        gradient = target + 0.01 * expected
        velocity = 0.9 * velocity + gradient
        expected = expected - 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        torch.testing.assert_close(weight.detach(), expected)


def test_adamw_decays_every_parameter() -> None:
    layer = nn.BatchNorm2d(2)
    optimizer = adamw(layer.parameters(), lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), torch.full((2,), 0.95))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(10), {0: 1, 5: 1, 9.9: 1}),
        (constant(10, warmup_epochs=2), {0: 0, 0.5: 0.25, 2: 1, 7: 1}),
        (step(10, milestones=[3, 6.5], gamma=0.2), {0: 1, 2.99: 1, 3: 0.2, 6.4: 0.2, 6.5: 0.04, 9: 0.04}),
        (step(240), {149.9: 1, 150: 0.1, 180: 0.01, 210: 0.001}),
        (step(8, warmup_epochs=4, milestones=[2], gamma=0.5), {1: 0.25, 3: 0.375, 4: 0.5}),
        (step(8, milestones=[]), {0: 1, 7.9: 1}),
        (cosine(10), {0: 1, 5: 0.5, 2.5: (1 + math.sqrt(0.5)) / 2, 10: 0}),
        (cosine(10, min_factor=0.2), {0: 1, 5: 0.6, 10: 0.2}),
        (cosine(10, warmup_epochs=5), {2.5: (1 + math.sqrt(0.5)) / 4, 5: 0.5}),
    ],
)
def test_schedules_give_the_factor_of_their_definition(schedule: object, expected: dict[float, float]) -> None:
    assert {progress: schedule(progress) for progress in expected} == pytest.approx(expected)


def test_the_catalog_names_them() -> None:
    assert OPTIMIZERS["sgd"] is sgd
    assert OPTIMIZERS["adamw"] is adamw
    assert [SCHEDULES[name] for name in ("constant", "step", "cosine")] == [constant, step, cosine]
