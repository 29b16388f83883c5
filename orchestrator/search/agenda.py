"""The agenda: which trial is next, over teachers, search and final runs, also after an interruption.

It knows nothing of Ray: whoever runs trials asks `next`, and reports with `finish`. Given the
records of earlier sessions it goes on where they ended.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.search.brackets import Exploit
from orchestrator.search.plan import Arm, Plan
from orchestrator.search.population import lineage
from orchestrator.search.ranking import best_first, best_record, values_of
from orchestrator.search.trials import Change, Phase, Record, Status, Trial
from orchestrator.search.waiting import Waiting
from orchestrator.search.winners import place_of

Told = float | tuple[float, ...] | None
"""A trial's metric, or each of several in the order of the spec; None where it failed."""


class Sampler(Protocol):
    """Draws the values of one variant's trials; `Agenda` calls it."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values for a new trial; None when it has no more, or waits for results."""

    def tell(self, trial_id: str, params: Mapping[str, Any], value: Told) -> None:
        """A trial's final metric, None if it failed; also called for trials of earlier sessions."""

    def observe(self, trial_id: str, params: Mapping[str, Any], epochs: int, value: float) -> None:
        """A trial's metric after so many epochs, at a rung or its end; called with scheduler bohb, before `tell`."""


class PlannedSampler:
    """Hands out points that were known from the start."""

    def __init__(self, points: Iterable[Mapping[str, Any]]) -> None:
        self._points = iter(points)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        point = next(self._points, None)
        return None if point is None else dict(point)

    def tell(self, trial_id: str, params: Mapping[str, Any], value: Told) -> None:
        """Results do not change what is planned."""

    def observe(self, trial_id: str, params: Mapping[str, Any], epochs: int, value: float) -> None:
        """Nor do those on the way."""


MakeSampler = Callable[[Arm, int], Sampler]
"""Makes the sampler of an arm whose points are not planned; also told how many points it drew before."""


class Agenda:
    """Orders an experiment's trials.

    Teachers come first, and a variant waits for its own alone. The variants that have theirs take turns, and those
    that come later catch up first. Where a budget may end the search, none gets more than a trial ahead of one that
    still waits for its teacher, so that a search that it ends is fair. When a variant's search has ended, its best
    configuration is run on the final seeds.

    `records` is the truth; the counts beside it follow each change, so that `next` costs the same
    however many trials there are.
    """

    def __init__(
        self,
        plan: Plan,
        make_sampler: MakeSampler,
        records: Mapping[str, Record],
        ready_teachers: Iterable[str],
        out_of_budget: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.records = {
            id: record if record.status.ended else replace(record, status=_at_the_start(record.status))
            for id, record in records.items()
            if not (record.trial.phase is Phase.TEACHER and record.trial.variant not in ready_teachers)
            or not record.status.ended
        }
        self._ready = set(ready_teachers)
        self._out_of_budget = out_of_budget
        self._spent: str | None = None
        self._resume = {id: record.trial for id, record in self.records.items() if record.status is Status.INTERRUPTED}
        self._running: dict[str, Record] = {}
        self._paused = {id: record for id, record in self.records.items() if record.status is Status.PAUSED}
        self._waiting = Waiting(plan, self.records)
        self._begun: Counter[tuple[Phase, str]] = Counter()
        """Trials that were ever handed out, by phase and variant."""
        self._ended: Counter[tuple[Phase, str]] = Counter()
        self._free: Counter[str] = Counter()
        """By variant: below this number, every search trial was handed out."""
        self._finals: dict[str, list[Trial]] = {arm.name: [] for arm in plan.arms}
        """Final runs that were ever handed out, by variant; those of earlier winners too."""
        self._failures = 0
        self._epochs = 0
        """Of search trials that do not run now."""
        for record in self.records.values():
            self._count_begin(record.trial)
            self._epochs += _epochs_of_search(record)
            self._count_end(record)
        self._winners: dict[str, list[Record]] = {}
        """The best trials of the variants whose search is over, as many as final runs repeat."""
        self._samplers: dict[str, Sampler] = {}
        for arm in plan.arms:
            past = self._search_of(arm.name)
            if arm.points is not None:
                left = [point for n, point in enumerate(arm.points) if plan.search_id(arm, n) not in self.records]
                self._samplers[arm.name] = PlannedSampler(left)
                continue
            self._samplers[arm.name] = make_sampler(arm, len(past))
            for record in past:
                for epochs, value in zip(self._waiting.passed(record), record.rungs, strict=True):
                    self._observe(record, epochs, value)
                if record.status.ended:
                    self._tell(record)

    def next(self) -> Trial | None:
        """The trial to start now; None when there is none, or none before a running one ends."""
        trial = self._interrupted() or self._teacher() or self._promoted() or self._search() or self._final()
        if trial is not None:
            if trial.id not in self.records:
                self.records[trial.id] = Record(trial)
                self._count_begin(trial)
            self._paused.pop(trial.id, None)
            record = self._running[trial.id] = self.records[trial.id]
            self._epochs -= _epochs_of_search(record)
            record.status, record.reason, record.died = Status.RUNNING, None, False
        return trial

    def finish(self, record: Record) -> None:
        """Take in the outcome of a trial that ran or waited; one that was interrupted is handed out again."""
        if self._running.pop(record.trial.id, None) is not None:
            self._epochs += _epochs_of_search(record)
        for waiting in (self._paused, self._resume):
            waiting.pop(record.trial.id, None)
        self.records[record.trial.id] = record
        self._count_end(record)
        if record.status is Status.PAUSED:
            self._paused[record.trial.id] = record
        if record.status is Status.INTERRUPTED:
            self._resume[record.trial.id] = record.trial
        if record.trial.phase is Phase.TEACHER and record.status is Status.FINISHED:
            self._ready.add(record.trial.variant)
        if record.trial.phase is Phase.SEARCH and record.status is Status.PAUSED:
            self._observe(record, record.epochs, record.rungs[-1])
        if record.trial.phase is Phase.SEARCH and record.status.ended:
            self._tell(record)
        self._waiting.follow(record)

    def next_rung(self, record: Record) -> int | None:
        """The epoch after which a trial is to wait; None where it is to run to its end."""
        return self._waiting.next_rung(record)

    @property
    def exploits(self) -> list[Exploit]:
        """Trials that are to take over others, by `change`, before any of their population goes on."""
        return self._waiting.exploits

    def change(self, record: Record, change: Change) -> None:
        """A waiting trial has taken over another one, and goes on with these values."""
        record.changes += (change,)
        self._waiting.follow(record)

    @property
    def out(self) -> list[Record]:
        """Trials that wait in vain: others were better, or the search is to begin no more."""
        if not self.budget_spent:
            return self._waiting.out
        paused = [record for record in self._paused.values() if record.trial.phase is Phase.SEARCH]
        return [*paused, *filter(self.cuts, (self.records[id] for id in self._resume))]

    def cuts(self, record: Record) -> bool:
        """Whether a trial is to stop where it is, as the budget is spent."""
        stops = self.plan.spec.budget.when_spent == "stop" and record.trial.phase is Phase.SEARCH
        return stops and self.budget_spent

    @property
    def outdated(self) -> list[Record]:
        """Final runs that were interrupted, and of whose variant a better configuration has been found since."""
        finals = (trial for trial in self._resume.values() if trial.phase is Phase.FINAL)
        return [self.records[trial.id] for trial in finals if self._counts(trial) is False]

    @property
    def running(self) -> list[Record]:
        return list(self._running.values())

    @property
    def budget_spent(self) -> bool:
        """Whether the spec's limits forbid more search trials."""
        return self.spent is not None

    @property
    def spent(self) -> str | None:
        """The field of the limit that forbids more search trials; once there is one, it stays."""
        if self._spent is None:
            budget = self.plan.spec.budget
            reached = {
                "budget.time_s": self._out_of_budget(),
                "budget.max_failures": budget.max_failures is not None and self._failures >= budget.max_failures,
                "budget.student_epochs": budget.student_epochs is not None and self.trained >= budget.student_epochs,
            }
            self._spent = next((field for field, is_reached in reached.items() if is_reached), None)
        return self._spent

    @property
    def trained(self) -> int:
        """Student-epochs of the search so far; one that is trained again after an interruption counts once."""
        return self._epochs + sum(map(_epochs_of_search, self._running.values()))

    def best(self, variant: str) -> Record | None:
        """The variant's best search trial by the spec's metric, one that ran to its end if there is one."""
        return best_record(self._search_of(variant), self.plan.spec.search)

    def _interrupted(self) -> Trial | None:
        for trial in self._resume.values():
            if trial.phase is Phase.TEACHER and trial.variant not in self._wanted(lambda key: False):
                continue
            if trial.phase is Phase.FINAL and not self._counts(trial):
                continue
            if self._ready.issuperset(source.key for source in self.plan.sources_of(trial) if source.key is not None):
                return self._resume.pop(trial.id)
        return None

    def _teacher(self) -> Trial | None:
        if self._ready.issuperset(self.plan.teachers):
            return None
        for key in self._wanted(self._ready.__contains__):
            trial = self.plan.teacher_trial(key)
            if trial.id not in self.records and self._ready.issuperset(self.plan.teachers[key].after):
                return trial
        return None

    def _promoted(self) -> Trial | None:
        """A trial that has waited, and goes on."""
        search = () if self.budget_spent else self._waiting.go_on
        waiting = (record.trial for record in itertools.chain(self._waiting.final, search))
        return next((trial for trial in waiting if self._has_teacher(self.plan.by_name[trial.variant])), None)

    def _search(self) -> Trial | None:
        if self.budget_spent:
            return None
        most = self._most_begun()
        for arm in sorted(self.plan.arms, key=lambda arm: self._begun[Phase.SEARCH, arm.name]):
            begun = self._begun[Phase.SEARCH, arm.name]
            if begun >= arm.count or begun > most or not self._has_teacher(arm):
                continue
            index = self._free_index(arm)
            params = self._params(arm, index)
            if params is not None:
                return self.plan.search_trial(arm, index, params)
        return None

    def _most_begun(self) -> float:
        """With how many trials begun a variant may begin another one, while others wait for their teachers."""
        if not self.plan.spec.budget.may_end_search or self._ready.issuperset(self.plan.teachers):
            return math.inf
        failed = {r.trial.variant for r in self.records.values() if r.trial.phase is Phase.TEACHER and r.status.ended}
        return min(
            (
                self._begun[Phase.SEARCH, arm.name]
                for arm in self.plan.arms
                if self._begun[Phase.SEARCH, arm.name] < arm.count
                and (wanting := self.plan.teachers_wanting([arm], self._ready.__contains__))
                # One that has failed does not come, and is not waited for.
                and not failed.intersection(wanting)
            ),
            default=math.inf,
        )

    def _free_index(self, arm: Arm) -> int:
        """The lowest number that no search trial of the arm has; a mended journal may lack some in the middle."""
        while self.plan.search_id(arm, self._free[arm.name]) in self.records:
            self._free[arm.name] += 1
        return self._free[arm.name]

    def _params(self, arm: Arm, index: int) -> Mapping[str, Any] | None:
        """Values of the arm's next trial: a point that is to be tried first, else what its sampler draws."""
        if arm.points is None and index < len(arm.first):
            return arm.first[index]
        return self._samplers[arm.name].suggest(self.plan.search_trial(arm, index, {}).id)

    def _final(self) -> Trial | None:
        for arm in self.plan.arms:
            winners = self._winning(arm) if self._has_teacher(arm) else []
            begun = {(place_of(trial, winners), trial.index) for trial in self._finals[arm.name]}
            for place, winner in enumerate(winners):
                for seed in range(self.plan.spec.search.final_seeds):
                    if (place, seed) not in begun:
                        values = lineage(winner, self.records.__getitem__)
                        apart = place > 0 or any(trial.index == seed for trial in self._finals[arm.name])
                        return self.plan.final_trial(arm, seed, *values, repeats=winner.trial, apart=apart)
        return None

    def _counts(self, final: Trial) -> bool | None:
        """Whether a final run is one of what its variant's final runs repeat; None as long as the search goes on."""
        winners = self._winning(self.plan.by_name[final.variant])
        return place_of(final, winners) is not None if winners else None

    def _winning(self, arm: Arm) -> list[Record]:
        """What final runs repeat, the best first; nothing where the search is not over, or nothing has a result."""
        group = (Phase.SEARCH, arm.name)
        if self._ended[group] < self._begun[group] or not (self._begun[group] >= arm.count or self.budget_spent):
            return []
        if arm.name not in self._winners:
            search = self.plan.spec.search
            self._winners[arm.name] = best_first(self._search_of(arm.name), search, search.final_configs)
        return self._winners[arm.name]

    def _wanted(self, there: Callable[[str], bool]) -> list[str]:
        """Keys of the teachers that students who may still be run need, but for those that are there."""
        return self.plan.teachers_wanting(filter(self._has_students_left, self.plan.arms), there)

    def _has_students_left(self, arm: Arm) -> bool:
        """Whether students of the arm are under way or to come; a spent budget leaves it what its search has begun."""
        search, final = (Phase.SEARCH, arm.name), (Phase.FINAL, arm.name)
        if self._ended[search] < self._begun[search] or self._ended[final] < self._begun[final]:
            return True
        if self._begun[search] < arm.count and not self.budget_spent:
            return True
        winners = self._winning(arm)
        current = sum(place_of(trial, winners) is not None for trial in self._finals[arm.name])
        return current < len(winners) * self.plan.spec.search.final_seeds

    def _has_teacher(self, arm: Arm) -> bool:
        return self._ready.issuperset(arm.teacher_keys)

    def _search_of(self, variant: str) -> list[Record]:
        return [r for r in self.records.values() if r.trial.phase is Phase.SEARCH and r.trial.variant == variant]

    def _count_begin(self, trial: Trial) -> None:
        self._begun[_group(trial)] += 1
        if trial.phase is Phase.FINAL and trial.variant in self._finals:
            self._finals[trial.variant].append(trial)

    def _count_end(self, record: Record) -> None:
        self._ended[_group(record.trial)] += record.status.ended
        self._failures += record.status is Status.FAILED

    def _observe(self, record: Record, epochs: int, value: float) -> None:
        if self.plan.spec.search.scheduler.method == "bohb":
            self._samplers[record.trial.variant].observe(record.trial.id, record.trial.params, epochs, value)

    def _tell(self, record: Record) -> None:
        values = values_of(record, self.plan.spec.search)
        if record.status is Status.FINISHED and values is not None:
            self._observe(record, record.epochs, values[0])
        told = values[0] if values is not None and len(values) == 1 else values
        self._samplers[record.trial.variant].tell(record.trial.id, record.trial.params, told)


def _at_the_start(status: Status) -> Status:
    """What an open trial of an earlier session is; nothing runs any more."""
    return status if status is Status.PAUSED else Status.INTERRUPTED


def _epochs_of_search(record: Record) -> int:
    return record.epochs if record.trial.phase is Phase.SEARCH else 0


def _group(trial: Trial) -> tuple[Phase, str]:
    return trial.phase, trial.variant
