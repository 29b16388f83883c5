"""Specs for the search tests, and a runner that has a formula in place of training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.search.agenda import Agenda, MakeSampler
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended, replay
from orchestrator.spec import load_spec

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "distillation": {"temperature": {"method": "flsw"}},
    "training": {"epochs": 5},
    "search": {"sampler": "random", "num_samples": 4},
}
LR = {"type": "loguniform", "low": 0.01, "high": 0.2}
TWO_ARMS = {
    "search.space": {"training.optimizer.lr": LR},
    "search.variants": {
        "kd": {"set": {"distillation.temperature": {"method": "constant"}}},
        "dtd": {"space": {"distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16}}},
    },
}
ALONE = {"distillation.kd_weight": 0, "distillation.ce_weight": 1}
THREE_ARMS = TWO_ARMS | {"search.variants": TWO_ARMS["search.variants"] | {"alone": {"set": ALONE}}}


def plan_of(values: Mapping[str, Any] | None = None) -> Plan:
    return make_plan(load_spec(BASE, values or {}))


def formula(trial: Trial) -> float:
    """The validation accuracy that a trial reaches: depends on its values and its seed."""
    return 90 - 100 * abs(trial.params.get("training.optimizer.lr", 0.1) - 0.08) + trial.seed * 1e-3


Outcome = Callable[[Trial], Record]


def finished(trial: Trial) -> Record:
    return Record(trial, Status.FINISHED, {"val/acc1": formula(trial)}, epochs=5)


def failed(trial: Trial) -> Record:
    return Record(trial, Status.FAILED, {"val/acc1": 99.9}, epochs=1, reason="broken")


class CrashError(Exception):
    """The process is gone."""


class FakeRunner:
    """Runs an agenda's trials with several workers, and keeps the journal's events as the driver does."""

    def __init__(
        self,
        plan: Plan,
        events: Iterable[Mapping[str, Any]] = (),
        *,
        workers: int = 3,
        outcome: Outcome = finished,
        make_sampler: MakeSampler | None = None,
        ready: Iterable[str] = (),
        out_of_budget: Callable[[], bool] = lambda: False,
        seed: int = 0,
        watch: Callable[[FakeRunner], None] = lambda runner: None,
    ) -> None:
        self.plan = plan
        self.events = [dict(event) for event in events]
        past = replay(self.events)
        done = {
            r.trial.variant for r in past.values() if r.trial.phase is Phase.TEACHER and r.status is Status.FINISHED
        }
        self.agenda = Agenda(plan, make_sampler or _no_sampler, past, {*ready, *done}, out_of_budget)
        self.journaled = set(past)
        self.started: list[Trial] = []
        self.ended: list[Trial] = []
        self.running: list[Trial] = []
        self._workers = workers
        self._outcome = outcome
        self._rng = random.Random(seed)
        self._watch = watch

    def start_one(self) -> bool:
        trial = self.agenda.next()
        if trial is None:
            return False
        if trial.id not in self.journaled:
            self.journaled.add(trial.id)
            self.events.append(created(trial))
        self.started.append(trial)
        self.running.append(trial)
        self._watch(self)
        return True

    def end_one(self, trial: Trial | None = None) -> None:
        trial = trial or self._rng.choice(self.running)
        self.running.remove(trial)
        record = self._outcome(trial)
        self.events.append(ended(record))
        self.agenda.finish(record)
        self.ended.append(trial)
        self._watch(self)

    def run(self, crash_after: int | None = None) -> FakeRunner:
        """Run until nothing is left, or until so many events are in the journal."""
        while True:
            while len(self.running) < self._workers and self.start_one():
                self._crash_if(crash_after)
            if not self.running:
                return self
            self.end_one()
            self._crash_if(crash_after)

    def _crash_if(self, crash_after: int | None) -> None:
        if crash_after is not None and len(self.events) >= crash_after:
            raise CrashError

    def ids(self, phase: Phase, variant: str | None = None) -> list[str]:
        return [t.id for t in self.started if t.phase is phase and variant in (None, t.variant)]


def _no_sampler(arm: object, drawn: int) -> Any:
    raise AssertionError("planned points need no sampler")
