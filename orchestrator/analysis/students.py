"""Which trained students are handed on: of each variant the best of its final runs, by validation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from orchestrator.analysis.results import Results, VariantResult
from orchestrator.errors import UsageError
from orchestrator.registry import nearest
from orchestrator.search.trials import Record


@dataclass(frozen=True)
class TrainedStudent:
    """The student of one final run."""

    variant: VariantResult
    record: Record
    metric: str
    """What students are chosen by."""
    value: float
    """Its own."""
    mean: float
    """Over the variant's final runs, by which variants are ordered."""


def best_students(results: Results) -> list[TrainedStudent]:
    """The best student of every variant that has a final run with a result, the best variant's first.

    Both go by the search's first metric, which is never one of test images: variants by its mean over their final
    seeds, and of one variant's students the best. So the test accuracy of what is handed on stays an honest one.
    Where values are alike, the variant that the spec names first, and the seed that ran first.
    """
    sign = _sign(results)
    by_variant = (_students(results, variant) for variant in results.variants)
    best = [max(students, key=lambda student: sign * student.value) for students in by_variant if students]
    return sorted(best, key=lambda student: -sign * student.mean)


def find_student(
    results: Results, variant: str | None = None, seed: int | None = None, trial: str | None = None
) -> TrainedStudent:
    """The student of a final run, of a variant's seed, or the best of a variant or of all.

    Raises `UsageError` for what does not exist, naming what does.
    """
    best = best_students(results)
    if not best:
        seeds = results.spec.search.final_seeds
        raise UsageError(
            f"{results.id} has no trained student: "
            + ("no final run has a result" if seeds else "search.final_seeds is 0"),
            hint=None if seeds else f"make some with: orchestrator extend {results.id} --final-seeds 1",
        )
    if variant is not None:
        best = [_named("variant", variant, {student.variant.name: student for student in best})]
    if trial is None and seed is None:
        return best[0]
    if trial is not None:
        students = {s.record.trial.id: s for each in best for s in _students(results, each.variant)}
        found = _named("final run", trial, students)
        if seed not in (None, found.record.trial.seed):
            raise UsageError(f"{trial} has the seed {found.record.trial.seed}, not {seed}", hint="give one of the two")
        return found
    own = {str(student.record.trial.seed): student for student in _students(results, best[0].variant)}
    return _named(f"final run of {best[0].variant.name} with the seed", str(seed), own)


def _students(results: Results, variant: VariantResult) -> list[TrainedStudent]:
    metric = results.spec.search.first_metric
    values = [(value, record) for record in variant.finals if (value := record.value(metric)) is not None]
    mean = fmean(value for value, _ in values) if values else 0.0
    return [TrainedStudent(variant, record, metric, value, mean) for value, record in values]


def _sign(results: Results) -> int:
    search = results.spec.search
    return search.objectives[search.first_metric]


def _named(what: str, name: str, known: Mapping[str, TrainedStudent]) -> TrainedStudent:
    if name not in known:
        close = nearest(name, known)
        raise UsageError(
            f"there is no {what} {name} with a trained student" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(known)}",
        )
    return known[name]
