"""Several objectives at once: what nothing else is better than in everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

from orchestrator import names
from orchestrator.analysis.difference import Difference, paired
from orchestrator.analysis.rows import markdown_table
from orchestrator.errors import UsageError
from orchestrator.registry import nearest
from orchestrator.search.trials import Record

PARAMETERS, MULTIPLY_ADDS = "student.parameters", "student.flops"
TEST = "test/"
"""How the objectives begin that final runs alone have."""


class Objective(NamedTuple):
    """A figure of a run that is wanted large or small."""

    name: str
    sign: int
    """1 where larger is better, -1 where smaller is."""
    exact: bool
    """Whether it is the same in every run of a configuration, so that no chance is in it."""

    def of(self, record: Record) -> float | None:
        """The run's value; None where it has none."""
        return record.value(self.name)


_LARGER = [f"{part}/acc1" for part in ("train", "val", "test")] + [names.TRAIN_AGREEMENT, names.THROUGHPUT]
_SMALLER = [f"{part}/{what}" for part in ("val", "test") for what in ("loss", "ece")] + [names.TRAIN_LOSS]
_COSTS = [names.EPOCH_TIME, "seconds"]
_EXACT = ["epochs", PARAMETERS, MULTIPLY_ADDS]
OBJECTIVES = {
    **{name: Objective(name, 1, False) for name in _LARGER},
    **{name: Objective(name, -1, False) for name in (*_SMALLER, *_COSTS)},
    **{name: Objective(name, -1, True) for name in _EXACT},
}


def objectives(listed: str) -> list[Objective]:
    """The objectives of a list with commas; raises `UsageError` for one that is not known, and for fewer than two."""
    wanted = list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    for name in wanted:
        if name not in OBJECTIVES:
            close = nearest(name, OBJECTIVES)
            raise UsageError(
                f"--pareto {name!r} is not an objective" + (f"; did you mean {close!r}?" if close else ""),
                hint=f"known: {', '.join(OBJECTIVES)}",
            )
    if len(wanted) < 2:
        raise UsageError(f"--pareto {listed!r}: takes two objectives or more", hint=f"such as test/acc1,{PARAMETERS}")
    return [OBJECTIVES[name] for name in wanted]


@dataclass(frozen=True)
class Candidate:
    """What may be on the front: a variant over its final seeds, or one search trial."""

    name: str
    values: Mapping[str, Mapping[int, float]]
    """By objective, then by seed."""

    def mean(self, objective: Objective) -> float:
        return fmean(self.values[objective.name].values())

    def text(self, objective: Objective) -> str:
        """The mean in a table, with its standard deviation where it has one."""
        values, mean = [*self.values[objective.name].values()], self.mean(objective)
        if objective.exact:
            return f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"
        percent = objective.name.endswith(("acc1", "ece", "agreement"))
        shown = [mean, stdev(values)] if len(values) > 1 else [mean]
        return " ± ".join(f"{v:.2f}" if percent else f"{v:,.0f}" if abs(mean) >= 100 else f"{v:.3g}" for v in shown)


@dataclass(frozen=True)
class Placed:
    """A candidate and where it stands."""

    candidate: Candidate
    above: tuple[str, ...]
    """Others that are at least as good in every mean and better in one; none: it is on the front."""
    surely: bool
    """Whether one of those is at least as good in everything by more than chance: by the 95% interval of the
    difference where a figure varies between runs."""

    @property
    def standing(self) -> str:
        """In a word: "yes" on the front, "no" below it, "perhaps" where chance may have put it below."""
        return "yes" if not self.above else "no" if self.surely else "perhaps"


@dataclass(frozen=True)
class Front:
    """Every candidate, placed by the same objectives."""

    objectives: tuple[Objective, ...]
    placed: tuple[Placed, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "objectives": {o.name: "max" if o.sign > 0 else "min" for o in self.objectives},
            "candidates": [
                {
                    "name": p.candidate.name,
                    **{o.name: p.candidate.mean(o) for o in self.objectives},
                    "on_front": p.standing,
                    "dominated_by": list(p.above),
                }
                for p in self.placed
            ],
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """A header and a row of text for each candidate."""
        rows = [
            [
                p.candidate.name,
                *(p.candidate.text(objective) for objective in self.objectives),
                p.standing
                + (f": below {', '.join(p.above[:2])}{', ...' if len(p.above) > 2 else ''}" if p.above else ""),
            ]
            for p in self.placed
        ]
        return ["candidate", *(objective.name for objective in self.objectives), "on the front"], rows

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return f"{markdown_table(self.table())}\n\n{self.note}"

    @property
    def note(self) -> str:
        """How to read the table, in a sentence or two."""
        text = "On the Pareto front: no other has means at least as good in all of these, and better in one."
        if any(p.standing == "perhaps" for p in self.placed):
            text += " Perhaps: below another by the means, but not by more than chance."
        if not self.placed:
            return "No run has a value of each objective."
        if all(len(values) == 1 for p in self.placed for values in p.candidate.values.values()):
            text += " Each figure is of one run: how much it would vary is not known."
        return text


Compare = Callable[[str, str, Mapping[int, float], Mapping[int, float]], Difference | None]
"""The difference of the second candidate's values to the first one's, by their names."""


def front(
    candidates: Sequence[Candidate],
    wanted: Sequence[Objective],
    compare: Compare = lambda first, second, a, b: paired(a, b),
) -> Front:
    """Place every candidate; all have values of all objectives."""
    placed = []
    for mine in candidates:
        above = [other for other in candidates if other is not mine and _dominates(other, mine, wanted)]
        surely = any(all(_no_worse(o, mine, other, compare) for o in wanted) for other in above)
        placed.append(Placed(mine, tuple(other.name for other in above), surely))
    return Front(tuple(wanted), tuple(placed))


def candidate(name: str, records: Sequence[Record], wanted: Sequence[Objective]) -> Candidate | None:
    """The runs of one configuration, by seed; None where an objective has no value in any."""
    values: dict[str, dict[int, float]] = {}
    for objective in wanted:
        found = {record.trial.seed: objective.of(record) for record in records}
        values[objective.name] = {seed: value for seed, value in found.items() if value is not None}
    return Candidate(name, values) if all(values.values()) else None


def _dominates(other: Candidate, mine: Candidate, wanted: Sequence[Objective]) -> bool:
    gains = [o.sign * (other.mean(o) - mine.mean(o)) for o in wanted]
    return min(gains) >= 0 and max(gains) > 0


def _no_worse(objective: Objective, mine: Candidate, other: Candidate, compare: Compare) -> bool:
    if objective.exact:
        return True  # the means have told
    seen = compare(mine.name, other.name, mine.values[objective.name], other.values[objective.name])
    if seen is None or seen.interval is None:
        return False
    low, high = seen.interval
    return (low if objective.sign > 0 else -high) >= 0
