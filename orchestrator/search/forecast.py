"""How long an experiment will take: its agenda, run on a clock that measured times drive.

The agenda decides as it will when trials really run: what waits for which teacher, who waits at a rung, when a budget
is spent, and which stages overlap. Only what trials find is not known, so a search that stops weak trials has a range.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from orchestrator.search.agenda import Agenda
from orchestrator.search.logits import LogitPlan
from orchestrator.search.plan import Plan
from orchestrator.search.standing import Anything
from orchestrator.search.trials import Change, Phase, Record, Status, Trial
from orchestrator.spec.schedulers import ASHAScheduler, MedianScheduler

_GOLDEN = (math.sqrt(5) - 1) / 2


class Case(IntEnum):
    """Of a range: the shortest, what is likely, and the longest."""

    LOW = 0
    LIKELY = 1
    HIGH = 2


@dataclass(frozen=True)
class Span:
    """Seconds, by `Case`."""

    low: float
    likely: float
    high: float

    def at(self, case: Case) -> float:
        return (self.low, self.likely, self.high)[case]

    def to_dict(self) -> dict[str, float]:
        return {"low": round(self.low, 3), "likely": round(self.likely, 3), "high": round(self.high, 3)}

    def plus(self, seconds: float) -> Span:
        return Span(self.low + seconds, self.likely + seconds, self.high + seconds)

    @classmethod
    def around(cls, spans: Sequence[Span]) -> Span:
        """The smallest low, the largest high, and between them the mean."""
        likely = sum(span.likely for span in spans) / len(spans)
        return cls(min(span.low for span in spans), likely, max(span.high for span in spans))


@dataclass(frozen=True)
class Timing:
    """Seconds of one kind of run, in one company of other runs."""

    start: Span
    """Once, before the first epoch."""
    epoch: Span
    """Validation included, and what the driver does of it on the same cores."""
    test: Span
    """Of a final run, once."""
    view: Span
    """Of the teacher, for each view of the training images whose logits are to be stored; 0 without a store."""

    @classmethod
    def around(cls, timings: Sequence[Timing]) -> Timing:
        """Of several kinds, of which it is not known how many runs have which."""
        parts = ("start", "epoch", "test", "view")
        return cls(*(Span.around([getattr(timing, part) for timing in timings]) for part in parts))


@dataclass(frozen=True)
class Cost:
    """The timings of one kind of run: alone, and with as many others as run at once."""

    alone: Timing
    crowded: Timing

    @classmethod
    def around(cls, costs: Sequence[Cost]) -> Cost:
        return cls(Timing.around([c.alone for c in costs]), Timing.around([c.crowded for c in costs]))


@dataclass(frozen=True)
class Forecast:
    """What is still to run of an experiment, in seconds."""

    start_up: Span
    stages: Mapping[Phase, tuple[int, Span]]
    """Runs of each stage, and how long after its first run begins its last one ends; stages may overlap."""
    total: Span
    spent: Mapping[str, str | None]
    """Which budget ends the search, if one does, by the `Case`'s name."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {
            "seconds": self.total.to_dict(),
            "start_up": self.start_up.to_dict(),
            "stages": [
                {"stage": str(phase), "runs": runs, "seconds": span.to_dict()}
                for phase, (runs, span) in self.stages.items()
            ],
            "search_ends_by": dict(self.spent),
        }


def forecast(
    plan: Plan,
    logits: LogitPlan,
    costs: Mapping[str, Cost],
    slots: int,
    start_up: Span,
    *,
    records: Mapping[str, Record] | None = None,
    ready: Collection[str] = (),
    spent_s: float = 0.0,
) -> Forecast:
    """Run the agenda on a clock.

    Args:
        plan, logits: of the experiment.
        costs: by variant, and by the key of every network of stage 0 that is to be trained.
        slots: trials that run at once.
        start_up: what passes before the first trial begins.
        records: of earlier sessions; `ready`: keys of teachers that are there; `spent_s`: seconds of those sessions.
    """
    clocks = [
        _Clock(plan, logits, costs, slots, case, records or {}, ready, spent_s + start_up.at(case)) for case in Case
    ]
    for clock in clocks:
        clock.run()
    lengths = {phase: [clock.length(phase) for clock in clocks] for phase in Phase}
    runs = {phase: max(clock.runs(phase) for clock in clocks) for phase in Phase}
    return Forecast(
        start_up,
        {phase: (runs[phase], Span(*sorted(lengths[phase]))) for phase in Phase if runs[phase]},
        Span(*sorted(start_up.at(clock.case) + clock.now for clock in clocks)),
        {clock.case.name.lower(): clock.agenda.spent for clock in clocks},
    )


@dataclass
class _Run:
    """A trial under way."""

    record: Record
    epochs: float
    """To train now."""
    alone_s: float
    crowded_s: float
    began: int
    """Epochs that it had before."""
    share: float = 0.0
    """Done of it."""

    def seconds(self, company: float) -> float:
        """All of it would take, with none of the slots beside it taken (0) or all (1)."""
        return max(self.alone_s + (self.crowded_s - self.alone_s) * company, 1e-9)


@dataclass
class _Stage:
    runs: int = 0
    begin: float = math.inf
    end: float = 0.0


@dataclass
class _Clock:
    plan: Plan
    logits: LogitPlan
    costs: Mapping[str, Cost]
    slots: int
    case: Case
    records: Mapping[str, Record]
    ready: Collection[str]
    spent_s: float
    now: float = 0.0
    stages: dict[Phase, _Stage] = field(default_factory=lambda: {phase: _Stage() for phase in Phase})

    def __post_init__(self) -> None:
        self._limit = self.plan.spec.budget.time_s
        self.agenda = Agenda(self.plan, lambda arm, drawn: Anything(), self.records, self.ready, self._out_of_time)
        self._running: list[_Run] = []
        self._views: dict[str, float] = {}
        """Views of each set of stored logits that have been made."""

    def runs(self, phase: Phase) -> int:
        return self.stages[phase].runs

    def length(self, phase: Phase) -> float:
        stage = self.stages[phase]
        return stage.end - stage.begin if stage.runs else 0.0

    def run(self) -> None:
        """Until nothing is left."""
        while True:
            self._begin()
            if not self._running:
                return
            self._advance()
            for run in [run for run in self._running if run.share >= 1 - 1e-9]:
                self._end(run, rung=self.agenda.next_rung(run.record))
            for run in [run for run in self._running if self.agenda.cuts(run.record)]:
                self._end(run, rung=None)

    def _out_of_time(self) -> bool:
        return self._limit is not None and self.spent_s + self.now >= self._limit - 1e-9

    def _begin(self) -> None:
        while out := self.agenda.out:
            for record in out:
                record.status = Status.STOPPED
                self.agenda.finish(record)
        for exploit in self.agenda.exploits:
            source = exploit.source.trial
            self.agenda.change(exploit.loser, Change(exploit.epoch, source.params, source.id))
        while len(self._running) < self.slots and (trial := self.agenda.next()) is not None:
            self._running.append(self._started(trial))
            stage = self.stages[trial.phase]
            stage.begin = min(stage.begin, self.now)

    def _started(self, trial: Trial) -> _Run:
        record, cost, case = self.agenda.records[trial.id], self.costs[trial.variant], self.case
        last = self._epochs(trial)
        rung = self.agenda.next_rung(record)
        epochs = max(min(last, rung or last) - record.epochs, 0.0)
        views = self._new_views(trial, record.epochs + epochs)
        tests = trial.phase is Phase.FINAL
        alone, crowded = (
            timing.start.at(case)
            + epochs * timing.epoch.at(case)
            + views * timing.view.at(case)
            + tests * timing.test.at(case)
            for timing in (cost.alone, cost.crowded)
        )
        return _Run(record, epochs, alone, crowded, record.epochs)

    def _advance(self) -> None:
        """To the next moment at which something changes."""
        company = (len(self._running) - 1) / (self.slots - 1) if self.slots > 1 else 0.0
        speeds = [1 / run.seconds(company) for run in self._running]
        step = min((1 - run.share) / speed for run, speed in zip(self._running, speeds, strict=True))
        if self._limit is not None and not self._out_of_time():
            step = min(step, self._limit - self.spent_s - self.now)
        step = min(step, self._to_epoch_limit(speeds))
        self.now += step
        for run, speed in zip(self._running, speeds, strict=True):
            run.share += step * speed
            run.record.epochs = run.began + math.floor(run.epochs * run.share + 1e-6)

    def _to_epoch_limit(self, speeds: Sequence[float]) -> float:
        """Seconds in which the budget of student-epochs cannot be spent, or at the end of which it may just be."""
        limit = self.plan.spec.budget.student_epochs
        if limit is None or self.agenda.budget_spent:
            return math.inf
        rates = {
            index: run.epochs * speed
            for index, (run, speed) in enumerate(zip(self._running, speeds, strict=True))
            if run.record.trial.phase is Phase.SEARCH and run.epochs > 0
        }
        missing = limit - self.agenda.trained - len(rates)
        if not rates or missing > 0:
            return missing / sum(rates.values()) if rates else math.inf
        # So near to it, from each whole epoch to the next.
        parts = {index: self._running[index].epochs * self._running[index].share for index in rates}
        return min((math.floor(parts[index] + 1e-6) + 1 - parts[index]) / rate for index, rate in rates.items())

    def _end(self, run: _Run, rung: int | None) -> None:
        record, stage = run.record, self.stages[run.record.trial.phase]
        self._running.remove(run)
        stage.runs, stage.end = stage.runs + 1, self.now
        # Of all that it could be chosen by.
        record.metrics = dict.fromkeys(self.plan.spec.search.objectives, _chance(record.trial.index))
        record.status = Status.FINISHED
        if rung is not None and record.epochs >= rung:
            record.status = Status.PAUSED
            record.rungs = [*record.rungs, _chance(record.trial.index)]
        self.agenda.finish(record)

    def _epochs(self, trial: Trial) -> float:
        """That the trial will have when it ends."""
        if trial.phase is Phase.TEACHER:
            return self.plan.teachers[trial.variant].training.epochs
        arm = self.plan.by_name[trial.variant]
        domain = arm.variant.space.get("training.epochs")
        epochs = float(trial.params.get("training.epochs", arm.max_epochs))
        if domain is not None and "training.epochs" not in trial.params:
            low = min(domain.extremes)
            epochs = Span(low, (low + epochs) / 2, epochs).at(self.case)
        return self._stopped(epochs, trial) if trial.phase is Phase.SEARCH else epochs

    def _stopped(self, epochs: float, trial: Trial) -> float:
        """Of so many epochs, those after which a scheduler stops a trial."""
        scheduler = self.plan.spec.search.scheduler
        if self.case is Case.HIGH or not isinstance(scheduler, (ASHAScheduler, MedianScheduler)):
            return epochs
        rung, luck = float(scheduler.grace_period), _chance(trial.index)
        if self.case is Case.LOW:
            return min(rung, epochs)
        if isinstance(scheduler, MedianScheduler):
            return epochs if luck < 0.5 else min(epochs, (rung + epochs) / 2)
        while rung < epochs and luck < 1 / scheduler.reduction_factor:
            rung, luck = rung * scheduler.reduction_factor, luck * scheduler.reduction_factor
        return min(rung, epochs)

    def _new_views(self, trial: Trial, epochs: float) -> float:
        """Views of the teacher's logits that nobody has stored before this trial needs them."""
        if trial.phase is Phase.TEACHER:
            teacher = self.plan.teachers[trial.variant]
            run, sources = teacher.run, teacher.sources
        else:
            arm = self.plan.by_name[trial.variant]
            run, sources = arm.variant.run, arm.sources
        shared = self.logits.shared(run, sources, trial.seed) if self.plan.distils(trial) else None
        if shared is None:
            return 0.0
        name, keeping = shared
        before = self._views.get(name, 0.0)
        self._views[name] = max(before, min(epochs, keeping.views))
        return self._views[name] - before


def _chance(number: int) -> float:
    """A number from 0 to 1 for each trial, spread evenly over any run of trials."""
    return (number * _GOLDEN) % 1
