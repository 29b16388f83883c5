"""What the batches of an epoch gave, kept on the device and read once, at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from orchestrator import names
from orchestrator.distillation.criterion import CriterionOutput
from orchestrator.errors import DivergenceError
from orchestrator.training.world import World

_LOSSES = (names.TRAIN_LOSS, names.TRAIN_LOSS_CE, names.TRAIN_LOSS_KD)
_PER_SAMPLE = {
    names.TEMPERATURE_CLAMPED_LOW: 1,
    names.TEMPERATURE_CLAMPED_HIGH: 1,
    names.TRAIN_AGREEMENT: 100,
}
"""Flags that are told as a share of the samples, and the share's unit; the others are counted."""
TEMPERATURE_BINS = 40
"""Of a histogram of temperatures, equally wide."""
_QUANTILES = {names.TEMPERATURE_P10: 0.1, names.TEMPERATURE_P50: 0.5, names.TEMPERATURE_P90: 0.9}


class Mistake(NamedTuple):
    """Samples of one class that the teacher takes for one other, and whose targets were repaired."""

    label: int
    taken_for: int
    samples: int


class EpochMeter:
    """Collects one epoch; no method but `read` makes the host wait for the device.

    `features` are the methods of the feature losses, whose losses come with every batch; `keeps_mistakes` has it keep
    which of the teacher's mistakes were repaired.
    """

    def __init__(self, world: World, features: Sequence[str] = (), *, keeps_mistakes: bool = False) -> None:
        self._world = world
        self._keeps_mistakes = keeps_mistakes
        self._mistakes: list[Tensor] = []
        self._classes = 0
        self._features = tuple(features)
        self._names: tuple[str, ...] = ()
        self._steps: list[tuple[int, int]] = []
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._temperatures: list[Tensor] = []
        self._all_temperatures: Tensor | None = None
        self._flags: dict[str, list[Tensor]] = {}

    def add(
        self,
        step: tuple[int, int],
        output: CriterionOutput,
        logits: Tensor,
        target: Tensor,
        total: Tensor,
        features: Mapping[str, Tensor],
    ) -> None:
        """Record what this process has of a step, or of a part of it; the losses of all add up to the step's.

        The step's number from 1 and the samples that it has in all; the criterion's output, logits [B, C], labels [B],
        the loss that was differentiated, and the unweighted feature losses by method.
        """
        self._steps.append(step)
        self._names = (*_LOSSES, *map(names.loss_metric, (*output.terms, *self._features)))
        self._losses += [total.detach(), output.loss_ce, output.loss_kd, *output.terms.values()]
        self._losses += [features[method].detach() for method in self._features]
        self._correct.append(logits.detach().argmax(1) == target)
        if output.temperature is not None:
            self._temperatures.append(output.temperature)
        label, top = output.label, output.teacher_top
        if self._keeps_mistakes and label is not None and top is not None and output.adjusted is not None:
            self._classes = logits.shape[1]
            # One that was not repaired is below 0.
            self._mistakes.append(torch.where(output.adjusted, label * self._classes + top, -1))
        for name, flag in (
            (names.TEMPERATURE_CLAMPED_LOW, output.clamped_low),
            (names.TEMPERATURE_CLAMPED_HIGH, output.clamped_high),
            (names.ADJUSTMENT_WRONG, output.wrong),
            (names.ADJUSTMENT_ADJUSTED, output.adjusted),
            (names.TRAIN_AGREEMENT, output.agreement),
        ):
            if flag is not None:
                self._flags.setdefault(name, []).append(flag)

    def read(self, trial: str, epoch: int) -> dict[str, float]:
        """The epoch's metrics over all processes; every process must call it.

        Raises `DivergenceError` naming `trial`, `epoch` (from 1) and the first step whose loss is not finite.
        """
        device = self._losses[0].device
        weights = torch.tensor([samples for _, samples in self._steps], dtype=torch.float64, device=device)
        # A process's losses are its addends of the batch's, times the processes.
        losses = torch.stack(self._losses).view(-1, len(self._names)).double() / self._world.size
        counts = torch.stack(
            [
                weights.new_tensor(sum(map(len, self._correct))),
                *(torch.cat(flags).sum().double() for flags in (self._correct, *self._flags.values())),
            ]
        )
        losses, counts = self._world.sum(losses), self._world.sum(counts)
        losses = losses * weights[:, None]

        diverged = (~losses.isfinite().all(1)).nonzero()
        if len(diverged):
            raise DivergenceError(f"{trial}: the training loss", epoch=epoch, step=self._steps[int(diverged[0])][0])
        samples, correct, *flag_counts = counts.tolist()
        metrics = dict(zip(self._names, (losses.sum(0) / samples).tolist(), strict=True))
        metrics[names.TRAIN_ACC1] = 100 * correct / samples
        for name, count in zip(self._flags, flag_counts, strict=True):
            metrics[name] = _PER_SAMPLE[name] * count / samples if name in _PER_SAMPLE else count
        if self._temperatures:
            self._all_temperatures = self._world.gather(torch.cat(self._temperatures))
            metrics |= _describe(self._all_temperatures)
        return metrics

    def mistakes(self) -> list[Mistake]:
        """The repaired mistakes of the teacher; empty where none was, or none are kept. Every process must call it."""
        if not self._mistakes:
            return []
        pairs = self._world.gather(torch.cat(self._mistakes))
        pairs, counts = pairs[pairs >= 0].unique(return_counts=True)
        found = zip(pairs.tolist(), counts.tolist(), strict=True)
        return [Mistake(pair // self._classes, pair % self._classes, count) for pair, count in found]

    def histogram(self, low: float, high: float) -> list[int] | None:
        """Samples by temperature in `TEMPERATURE_BINS` bins between two bounds; to be called after `read`.

        None where no temperature was seen, or the bounds leave no choice.
        """
        if self._all_temperatures is None or low == high:
            return None
        counts = torch.histc(self._all_temperatures.float(), TEMPERATURE_BINS, low, high)
        return [int(count) for count in counts.tolist()]


def _describe(temperatures: Tensor) -> dict[str, float]:
    """Mean, bounds and quantiles of [N]."""
    values = temperatures.double()
    levels = torch.tensor(list(_QUANTILES.values()), dtype=values.dtype, device=values.device)
    summary = torch.cat([torch.stack([values.mean(), *values.aminmax()]), values.quantile(levels)])
    keys = (names.TEMPERATURE_MEAN, names.TEMPERATURE_MIN, names.TEMPERATURE_MAX, *_QUANTILES)
    return dict(zip(keys, summary.tolist(), strict=True))
