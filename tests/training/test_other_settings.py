"""A run that goes on from another's checkpoint with settings of its own."""

from typing import Any

import pytest
import torch
from training_runs import CE_ONLY, DISTILL, make_run, network

from orchestrator.training.optim import adamw, sgd


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_state_is_taken_and_settings_are_kept(optimizer: Any) -> None:
    def start(seed: int, **settings: float) -> Any:
        student = network(seed)
        return make_run(student, CE_ONLY, optimizer=optimizer(student.parameters(), **settings))

    first = start(0, lr=0.01, weight_decay=0.1)
    first.train_epoch()
    second = start(1, lr=0.02, weight_decay=0.3)
    second.restore(first.state())
    (group,) = second.optimizer.param_groups
    assert group["weight_decay"] == 0.3
    for mine, theirs in zip(second.student.parameters(), first.student.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        states = second.optimizer.state[mine], first.optimizer.state[theirs]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert second.train_epoch()["optimizer/lr"] == pytest.approx(0.02)
    assert second.optimizer.param_groups[0]["weight_decay"] == 0.3


def test_another_loss_goes_on_from_the_same_weights() -> None:
    first = make_run(network(0), CE_ONLY)
    first.train_epoch()
    second = make_run(network(1), DISTILL, teacher=network(5))
    second.restore(first.state())
    assert second.epoch == 1
    assert "train/loss_kd" in second.train_epoch()
