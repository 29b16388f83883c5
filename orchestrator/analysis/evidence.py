"""What charts and reports are made from: results, and what the trials that they rest on have told epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from orchestrator import names
from orchestrator.analysis.epochs import Repairs, Run
from orchestrator.analysis.results import Results


@dataclass(frozen=True)
class Evidence:
    """Plain data of one experiment."""

    results: Results
    runs: tuple[Run, ...]
    """Of each variant its final runs; where it has none yet, its best search trial, or the one that got farthest."""
    teachers: tuple[Run, ...] = ()
    """The networks of stage 0 that were trained in this experiment."""

    @property
    def variants(self) -> tuple[str, ...]:
        """In the order of the spec."""
        return tuple(variant.name for variant in self.results.variants)

    @property
    def repaired(self) -> dict[str, tuple[float, float]]:
        """Training images of the last epoch by variant: those the teacher is wrong on, and those adjusted.

        Means over runs; variants that do not distil are left out.
        """
        found: dict[str, tuple[float, float]] = {}
        for name in self.variants:
            last = [run.epochs[-1] for run in self.runs if run.variant == name and run.epochs]
            told = [epoch for epoch in last if names.ADJUSTMENT_WRONG in epoch]
            if told:
                wrong = fmean(epoch[names.ADJUSTMENT_WRONG] for epoch in told)
                found[name] = wrong, fmean(epoch.get(names.ADJUSTMENT_ADJUSTED, 0.0) for epoch in told)
        return found

    @property
    def repairs(self) -> dict[str, dict[str, Repairs]]:
        """Repaired targets by variant and class, means over runs; variants without any are left out."""
        found: dict[str, dict[str, Repairs]] = {}
        for name in self.variants:
            mine = [run.repairs for run in self.runs if run.variant == name]
            labels = dict.fromkeys(label for repairs in mine for label in repairs)
            if labels:
                found[name] = {label: _mean([r[label] for r in mine if label in r], len(mine)) for label in labels}
        return found

    @property
    def classes(self) -> dict[str, dict[str, float]]:
        """Accuracy in percent by variant and class, on the images that its runs were evaluated on last; means."""
        found: dict[str, dict[str, float]] = {}
        for name in self.variants:
            mine = [run.classes for run in self.runs if run.variant == name and run.classes]
            labels = dict.fromkeys(label for classes in mine for label in classes)
            if mine:
                found[name] = {label: fmean(classes[label] for classes in mine if label in classes) for label in labels}
        return found

    @property
    def teacher_classes(self) -> dict[str, float] | None:
        """Accuracy in percent by class of the one teacher, on validation images; None where that is not known."""
        return dict(self.teachers[0].classes) if len(self.teachers) == 1 and self.teachers[0].classes else None


def _mean(repairs: Sequence[Repairs], runs: int) -> Repairs:
    """Of one class; a run that repaired none counts."""
    named: dict[str, float] = {}
    for each in repairs:
        named[each.taken_for] = named.get(each.taken_for, 0) + each.times
    most = max(named, key=lambda name: named[name])
    return Repairs(sum(each.images for each in repairs) / runs, most, named[most] / runs)
