"""Successive halving in brackets: who waits, who goes on and who is out, told from the records alone.

Trials are in brackets by their numbers. Each runs to its bracket's first rung, a number of epochs, and waits
there until all of its bracket have; then the best go on to the next rung, and the others are out. As nothing but
recorded values decides, an interrupted search goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.schedulers import BracketScheduler


@dataclass(frozen=True)
class Bracket:
    """Trials with consecutive numbers that are compared with each other."""

    first: int
    size: int
    rungs: tuple[int, ...]
    """Epochs after which its trials wait; those that are left after the last rung run to their end."""

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.size)


def brackets_of(count: int, epochs: int, scheduler: BracketScheduler) -> tuple[Bracket, ...]:
    """The brackets of so many trials of so many epochs (Li et al. 2018, algorithm 1), largest first.

    After the smallest they begin again; the last one has the trials that are left.
    """
    eta, grace = scheduler.reduction_factor, min(scheduler.grace_period, epochs)
    halvings = int(math.log(epochs / grace, eta) + 1e-9)
    found: list[Bracket] = []
    first = 0
    while first < count:
        s = halvings - len(found) % (halvings + 1)
        size = math.ceil((halvings + 1) / (s + 1) * eta**s - 1e-9)
        rungs = {int(epochs * eta**-i + 1e-9) for i in range(1, s + 1)}
        found.append(Bracket(first, min(size, count - first), tuple(sorted(rungs))))
        first += size
    return tuple(found)


@dataclass(frozen=True)
class Verdict:
    """What a bracket's waiting trials are to do; those in neither list wait on."""

    go_on: tuple[Record, ...] = ()
    out: tuple[Record, ...] = ()


class Halving:
    """The brackets of one variant's search; `better` is 1 where a larger metric is better, else -1."""

    def __init__(self, count: int, epochs: int, scheduler: BracketScheduler, better: int) -> None:
        self.brackets = brackets_of(count, epochs, scheduler)
        self._of_number = {number: bracket for bracket in self.brackets for number in bracket.numbers}
        self._eta = scheduler.reduction_factor
        self._better = better

    def bracket(self, number: int) -> Bracket:
        return self._of_number[number]

    def next_rung(self, record: Record) -> int | None:
        """The epoch after which the trial is to wait; None where it is to run to its end."""
        rungs = self.bracket(record.trial.index).rungs
        passed = len(record.rungs)
        return rungs[passed] if passed < len(rungs) else None

    def verdict(self, bracket: Bracket, look_up: Callable[[int], Record | None]) -> Verdict:
        """Judge a bracket; `look_up` gives the record of a number, None while there is none."""
        members = [look_up(number) for number in bracket.numbers]
        size = float(bracket.size)
        go_on: list[Record] = []
        out: list[Record] = []
        for passed in range(1, len(bracket.rungs) + 1):
            if any(record is None or not _is_through(record, passed) for record in members):
                break
            there = [record for record in members if record is not None and len(record.rungs) >= passed]
            size = max(size // self._eta, 1)
            ranked = sorted(there, key=lambda r: (-self._better * r.rungs[passed - 1], r.trial.index))
            survivors = ranked[: int(size)]
            out += _waiting(ranked[int(size) :], passed)
            go_on += _waiting(survivors, passed)
            members = list(survivors)
        return Verdict(tuple(go_on), tuple(out))


def _is_through(record: Record, passed: int) -> bool:
    """Whether so many rungs lie behind the trial, or it has ended before."""
    return len(record.rungs) >= passed or record.status.ended


def _waiting(records: Iterable[Record], passed: int) -> list[Record]:
    return [r for r in records if r.status is Status.PAUSED and len(r.rungs) == passed]


class Waiting:
    """The trials of an experiment that wait for others of their brackets; `records` is followed as it changes."""

    def __init__(self, plan: Plan, records: Mapping[str, Record]) -> None:
        self._plan = plan
        self._records = records
        self._halvings: dict[str, Halving] = {}
        scheduler, better = plan.spec.search.scheduler, 1 if plan.spec.search.mode == "max" else -1
        if isinstance(scheduler, BracketScheduler):
            for arm in plan.arms:
                if arm.variant.space:
                    self._halvings[arm.name] = Halving(arm.count, arm.max_epochs, scheduler, better)
        self._verdicts: dict[tuple[str, int], Verdict] = {}
        for name, halving in self._halvings.items():
            for bracket in halving.brackets:
                self._judge(name, bracket)

    def next_rung(self, record: Record) -> int | None:
        """The epoch after which a trial is to wait; None where it is to run to its end."""
        halving = self._halvings.get(record.trial.variant) if record.trial.phase is Phase.SEARCH else None
        return None if halving is None else halving.next_rung(record)

    def passed(self, record: Record) -> tuple[int, ...]:
        """Epochs of the rungs where a trial has waited, as `Record.rungs` has their values."""
        rungs = self._halvings[record.trial.variant].bracket(record.trial.index).rungs if record.rungs else ()
        return rungs[: len(record.rungs)]

    def follow(self, record: Record) -> None:
        """A trial waits or has ended: judge its bracket again."""
        halving = self._halvings.get(record.trial.variant) if record.trial.phase is Phase.SEARCH else None
        if halving is not None:
            self._judge(record.trial.variant, halving.bracket(record.trial.index))

    @property
    def go_on(self) -> Iterator[Record]:
        """The waiting trials that may go on."""
        return (r for verdict in self._verdicts.values() for r in verdict.go_on if r.status is Status.PAUSED)

    @property
    def out(self) -> list[Record]:
        """The waiting trials that will not go on."""
        return [r for verdict in self._verdicts.values() for r in verdict.out if r.status is Status.PAUSED]

    def _judge(self, variant: str, bracket: Bracket) -> None:
        arm = self._plan.by_name[variant]
        key = (variant, bracket.first)
        verdict = self._halvings[variant].verdict(bracket, lambda n: self._records.get(self._plan.search_id(arm, n)))
        if verdict == Verdict():
            self._verdicts.pop(key, None)
        else:
            self._verdicts[key] = verdict
