"""Wrong labels on purpose, to study training on data that are not clean."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from orchestrator.data.split import draw_by_class
from orchestrator.errors import DataError

NoiseKind = Literal["symmetric", "asymmetric"]


def noisy_labels(labels: Tensor, classes: int, fraction: float, kind: NoiseKind, seed: int) -> Tensor:
    """A copy of `labels` (int64 [N], 0 to `classes` - 1) of which a share is wrong; a pure function of its arguments.

    round(N * fraction) labels change, in each class its share of them, rounded by largest remainder. "symmetric"
    gives each one of the other classes, all equally likely; "asymmetric" the class that follows, and 0 after
    the last (the pair flip of Han et al. 2018, Co-teaching). Raises `DataError` for a fraction outside 0..1, and
    for one class.
    """
    if not 0 <= fraction <= 1:
        raise DataError(f"data.label_noise.fraction must lie between 0 and 1, not {fraction}")
    if classes < 2 and fraction > 0:
        raise DataError("data.label_noise needs at least two classes")
    generator = torch.Generator().manual_seed(seed)
    changed = draw_by_class(labels, labels.bincount(minlength=classes), round(len(labels) * fraction), generator)
    if kind == "asymmetric":
        steps = torch.ones(len(changed), dtype=torch.int64)
    else:
        steps = torch.randint(1, max(classes, 2), (len(changed),), generator=generator)
    noisy = labels.clone()
    noisy[changed] = (labels[changed] + steps) % classes
    return noisy
