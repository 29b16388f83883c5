"""The agenda: which trial is next, over teachers, search and final runs, also after an interruption.

It knows nothing of Ray: whoever runs trials asks `next`, and reports with `finish`. Given the
records of earlier sessions it goes on where they ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.search.plan import Arm, Plan
from orchestrator.search.trials import Phase, Record, Status, Trial
from orchestrator.spec.search import SearchSpec


class Sampler(Protocol):
    """Draws the values of one variant's trials; `Agenda` calls it."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values for a new trial; None when it has no more, or waits for results."""

    def tell(self, trial_id: str, params: Mapping[str, Any], value: float | None) -> None:
        """A trial's final metric, None if it failed; also called for trials of earlier sessions."""


class PlannedSampler:
    """Hands out points that were known from the start."""

    def __init__(self, points: Iterable[Mapping[str, Any]]) -> None:
        self._points = iter(points)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        point = next(self._points, None)
        return None if point is None else dict(point)

    def tell(self, trial_id: str, params: Mapping[str, Any], value: float | None) -> None:
        """Results do not change what is planned."""


MakeSampler = Callable[[Arm, int], Sampler]
"""Makes the sampler of an arm whose points are not planned; also told how many points it drew before."""


class Agenda:
    """Orders an experiment's trials.

    Teachers come first, and a variant waits for its own alone. Search trials then alternate between
    the variants, so that a search that is cut short is still fair. When a variant's search has
    ended, its best configuration is run on the final seeds.
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
            id: record if record.status.ended else replace(record, status=Status.INTERRUPTED)
            for id, record in records.items()
            if not (record.trial.phase is Phase.TEACHER and record.trial.variant not in ready_teachers)
            or not record.status.ended
        }
        self._ready = set(ready_teachers)
        self._out_of_budget = out_of_budget
        self._resume = [record.trial for record in self.records.values() if not record.status.ended]
        self._samplers: dict[str, Sampler] = {}
        for arm in plan.arms:
            past = self._of(Phase.SEARCH, arm.name)
            if arm.points is not None:
                self._samplers[arm.name] = PlannedSampler(itertools.islice(arm.points, len(past), None))
                continue
            self._samplers[arm.name] = make_sampler(arm, len(past))
            for record in past:
                if record.status.ended:
                    self._tell(record)

    def next(self) -> Trial | None:
        """The trial to start now; None when there is none, or none before a running one ends."""
        trial = self._interrupted() or self._teacher() or self._search() or self._final()
        if trial is not None:
            record = self.records.setdefault(trial.id, Record(trial))
            record.status, record.reason = Status.RUNNING, None
        return trial

    def finish(self, record: Record) -> None:
        """Take in a trial's outcome; one that was interrupted is handed out again."""
        self.records[record.trial.id] = record
        if not record.status.ended:
            self._resume.append(record.trial)
        if record.trial.phase is Phase.TEACHER and record.status is Status.FINISHED:
            self._ready.add(record.trial.variant)
        if record.trial.phase is Phase.SEARCH and record.status.ended:
            self._tell(record)

    @property
    def running(self) -> list[Record]:
        return [record for record in self.records.values() if record.status is Status.RUNNING]

    @property
    def budget_spent(self) -> bool:
        """Whether the spec's limits forbid more search trials."""
        limit = self.plan.spec.budget.max_failures
        failures = sum(record.status is Status.FAILED for record in self.records.values())
        return self._out_of_budget() or (limit is not None and failures >= limit)

    def best(self, variant: str) -> Record | None:
        """The variant's best search trial by the spec's metric, one that ran to its end if there is one."""
        return best_record(self._of(Phase.SEARCH, variant), self.plan.spec.search)

    def _interrupted(self) -> Trial | None:
        for position, trial in enumerate(self._resume):
            if self._ready.issuperset(source.key for source in self.plan.sources_of(trial) if source.key is not None):
                return self._resume.pop(position)
        return None

    def _teacher(self) -> Trial | None:
        for key in self.plan.teachers_wanting(self.plan.unfinished(self.records), self._ready.__contains__):
            trial = self.plan.teacher_trial(key)
            if trial.id not in self.records and self._ready.issuperset(self.plan.teachers[key].after):
                return trial
        return None

    def _search(self) -> Trial | None:
        if self.budget_spent:
            return None
        for arm in sorted(self.plan.arms, key=lambda arm: len(self._of(Phase.SEARCH, arm.name))):
            index = len(self._of(Phase.SEARCH, arm.name))
            if index >= arm.count or not self._has_teacher(arm):
                continue
            params = self._samplers[arm.name].suggest(self.plan.search_trial(arm, index, {}).id)
            if params is not None:
                return self.plan.search_trial(arm, index, params)
        return None

    def _final(self) -> Trial | None:
        for arm in self.plan.arms:
            search = self._of(Phase.SEARCH, arm.name)
            complete = len(search) >= arm.count or self.budget_spent
            if not complete or any(not record.status.ended for record in search):
                continue
            best = self.best(arm.name)
            index = len(self._of(Phase.FINAL, arm.name))
            if best is not None and index < self.plan.spec.search.final_seeds and self._has_teacher(arm):
                return self.plan.final_trial(arm, index, best.trial.params)
        return None

    def _has_teacher(self, arm: Arm) -> bool:
        return self._ready.issuperset(arm.teacher_keys)

    def _of(self, phase: Phase, variant: str) -> list[Record]:
        return [r for r in self.records.values() if r.trial.phase is phase and r.trial.variant == variant]

    def _tell(self, record: Record) -> None:
        value = record.metrics.get(self.plan.spec.search.metric) if record.status.has_result else None
        self._samplers[record.trial.variant].tell(record.trial.id, record.trial.params, value)


def best_record(records: Iterable[Record], search: SearchSpec) -> Record | None:
    """The best of the trials that have a result, by the spec's metric; complete ones go before stopped ones."""
    with_result = [r for r in records if r.status.has_result and search.metric in r.metrics]
    complete = [r for r in with_result if r.status is Status.FINISHED] or with_result
    sign = 1 if search.mode == "max" else -1
    return max(complete, key=lambda record: sign * record.metrics[search.metric], default=None)
