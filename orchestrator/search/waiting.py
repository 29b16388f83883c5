"""The trials that wait: for others of their bracket or population, or in a final run for other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from orchestrator.search.brackets import Bracket, Exploit, Verdict
from orchestrator.search.halving import Halving
from orchestrator.search.plan import Arm, Plan
from orchestrator.search.population import Population
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.schedulers import BracketScheduler, PopulationScheduler


class Judge(Protocol):
    """What decides on the waiting trials of one variant's search."""

    brackets: tuple[Bracket, ...]

    def bracket(self, number: int) -> Bracket:
        """The bracket of the trial of this number."""

    def verdict(self, bracket: Bracket, look_up: Callable[[int], Record | None]) -> Verdict:
        """Judge a bracket; `look_up` gives the record of a number, None while there is none."""


class Waiting:
    """The trials of an experiment that wait; `records` is followed as it changes."""

    def __init__(self, plan: Plan, records: Mapping[str, Record]) -> None:
        self._plan = plan
        self._records = records
        self._judges = {arm.name: judge for arm in plan.arms if arm.variant.space and (judge := _judge(plan, arm))}
        self._verdicts: dict[tuple[str, int], Verdict] = {}
        self._final = {id: r for id, r in records.items() if r.trial.phase is Phase.FINAL and r.status is Status.PAUSED}
        for name, judge in self._judges.items():
            for bracket in judge.brackets:
                self._judge(name, bracket)

    def next_rung(self, record: Record) -> int | None:
        """The epoch after which a trial is to wait; None where it is to run to its end."""
        rungs, passed = self._rungs(record), len(record.rungs)
        return rungs[passed] if passed < len(rungs) else None

    def passed(self, record: Record) -> tuple[int, ...]:
        """Epochs of the rungs where a trial has waited, as `Record.rungs` has their values."""
        return self._rungs(record)[: len(record.rungs)]

    def follow(self, record: Record) -> None:
        """A trial waits, has got other values or has ended: judge its bracket again."""
        trial = record.trial
        if trial.phase is Phase.SEARCH and (judge := self._judges.get(trial.variant)) is not None:
            self._judge(trial.variant, judge.bracket(trial.index))
        elif trial.phase is Phase.FINAL and record.status is Status.PAUSED:
            self._final[trial.id] = record

    @property
    def go_on(self) -> Iterator[Record]:
        """The waiting search trials that may go on."""
        return (r for verdict in self._verdicts.values() for r in verdict.go_on if r.status is Status.PAUSED)

    @property
    def final(self) -> Iterator[Record]:
        """The waiting final runs, which may all go on."""
        return (r for r in self._final.values() if r.status is Status.PAUSED)

    @property
    def out(self) -> list[Record]:
        """The waiting trials that will not go on."""
        return [r for verdict in self._verdicts.values() for r in verdict.out if r.status is Status.PAUSED]

    @property
    def exploits(self) -> list[Exploit]:
        """The waiting trials that are to take over others before they go on."""
        return [exploit for verdict in self._verdicts.values() for exploit in verdict.exploits]

    def _rungs(self, record: Record) -> tuple[int, ...]:
        trial = record.trial
        if trial.phase is not Phase.SEARCH:
            return tuple(change.epoch for change in trial.changes)
        judge = self._judges.get(trial.variant)
        return () if judge is None else judge.bracket(trial.index).rungs

    def _judge(self, variant: str, bracket: Bracket) -> None:
        arm = self._plan.by_name[variant]
        key = (variant, bracket.first)
        verdict = self._judges[variant].verdict(bracket, lambda n: self._records.get(self._plan.search_id(arm, n)))
        if verdict == Verdict():
            self._verdicts.pop(key, None)
        else:
            self._verdicts[key] = verdict


def _judge(plan: Plan, arm: Arm) -> Judge | None:
    search = plan.spec.search
    scheduler, better = search.scheduler, 1 if search.mode == "max" else -1
    if isinstance(scheduler, BracketScheduler):
        return Halving(arm.count, arm.max_epochs, scheduler, better)
    if isinstance(scheduler, PopulationScheduler):
        return Population(arm.count, arm.max_epochs, scheduler, better, f"{plan.spec.seed}/{arm.name}")
    return None
