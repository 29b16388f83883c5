"""Optimizers and learning-rate schedules.

Weight decay acts on every parameter, norms and biases too, as in the recipes of the KD literature.

A schedule is a pure function from progress, in epochs with their fraction, to a factor on the optimizer's
own rate. It has no state, so continuing a run needs none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from torch import nn, optim

Schedule = Callable[[float], float]


def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """Stochastic gradient descent; `lr` is the peak rate."""
    return optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)


def adamw(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 1e-2) -> optim.Optimizer:
    """Adam with decoupled weight decay; `lr` is the peak rate."""
    return optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def constant(epochs: int, warmup_epochs: float = 0.0) -> Schedule:
    """1 after the warm-up."""
    return _after_warmup(lambda progress: 1.0, warmup_epochs)


def step(
    epochs: int, warmup_epochs: float = 0.0, milestones: Sequence[float] | None = None, gamma: float = 0.1
) -> Schedule:
    """Multiplied by `gamma` at each milestone, in epochs; None: at 5/8, 6/8 and 7/8 of `epochs`."""
    drops = [epochs * share / 8 for share in (5, 6, 7)] if milestones is None else list(milestones)
    return _after_warmup(lambda progress: gamma ** sum(progress >= drop for drop in drops), warmup_epochs)


def cosine(epochs: int, warmup_epochs: float = 0.0, min_factor: float = 0.0) -> Schedule:
    """Half a cosine from 1 at the start to `min_factor` after `epochs`."""
    return _after_warmup(
        lambda progress: min_factor + (1 - min_factor) * (1 + math.cos(math.pi * progress / epochs)) / 2,
        warmup_epochs,
    )


def _after_warmup(schedule: Schedule, warmup_epochs: float) -> Schedule:
    """`schedule` times a factor that rises linearly from 0 to 1 over the warm-up."""
    if warmup_epochs == 0:
        return schedule
    return lambda progress: min(1.0, progress / warmup_epochs) * schedule(progress)
