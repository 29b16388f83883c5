"""One experiment, read from its folder: how far it is, and what it has found."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.epochs import Run, class_accuracies, class_repairs
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.results import Results, VariantResult
from orchestrator.analysis.rows import frame
from orchestrator.analysis.students import find_student
from orchestrator.environment import AGAIN_VARIABLE
from orchestrator.errors import UsageError
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.standing import State, what_is_left
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.search.winners import outdated
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import to_yaml
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home

if TYPE_CHECKING:
    from pandas import DataFrame

    from orchestrator.analysis.charts.style import Chart
    from orchestrator.export.student import Student

HOW_TO_START = "start one with: orchestrator run SPEC"


@dataclass(frozen=True)
class Experiment:
    """One experiment as it was when it was read."""

    home: Home
    folder: ExperimentFolder
    plan: Plan
    records: Mapping[str, Record]
    state: State
    stopped: bool = False
    """Whether `orchestrator stop` has ended its last session."""
    spent: str | None = None
    """Of `State.SPENT`: the field of the limit that its search has reached, such as budget.time_s."""

    @classmethod
    def load(cls, name: str | None = None, home: str | Path | None = None) -> Experiment:
        """Read the experiment of this name or id; of several with one name, one that runs, else the one that ran last.

        Without a name it is the one that ran last of all.

        `home` is the folder that everything is kept in; None: ORCHESTRATOR_HOME, else ./.orchestrator.
        Raises `UsageError` where there is none.
        """
        place = Home(home)
        if name is None:
            experiments = place.experiments()
            if not experiments:
                raise UsageError(f"no experiment has run in {place} yet", hint=HOW_TO_START)
            folder = experiments[0]
        else:
            folder = place.find(name)
        folder.look()
        return cls.read(folder, place)

    @classmethod
    def read(cls, folder: ExperimentFolder, home: Home) -> Experiment:
        """Read the experiment's folder."""
        running = folder.is_running()
        records = folder.records()
        begun = running and folder.session_now() is not None
        for record in records.values():
            if record.status is Status.RUNNING and not begun:
                # Its process was killed before it could say so, and another has not begun.
                record.status = Status.INTERRUPTED
        spec = folder.spec()
        plan = make_plan(spec).finding(records, home.has_teacher)
        limit = spec.budget.time_s
        out_of_time = limit is not None and folder.seconds() >= limit
        left, spent = what_is_left(plan, records, home.has_teacher, out_of_budget=out_of_time)
        over = State.INTERRUPTED if left else Results(spec, records).outcome(plan, spent)
        state = State.RUNNING if running else over
        stopped = not running and folder.was_stopped()
        return cls(home, folder, plan, records, state, stopped, spent if state is State.SPENT else None)

    @property
    def spec(self) -> ExperimentSpec:
        return self.plan.spec

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.id

    def results(self, reference: str | None = None) -> Results:
        """What it has found; `reference` names the variant that the others are compared with."""
        return Results(self.spec, self.records, reference, self.id)

    def student(self, variant: str | None = None, seed: int | None = None, trial: str | None = None) -> Student:
        """A trained student with its weights: of a final run, of a variant's seed, or the best by validation.

        Raises `UsageError` for one that does not exist, `CheckpointError` for one whose weights are not there.
        """
        from orchestrator.export.student import load_student
        from orchestrator.store.students import student_weights

        found = find_student(self.results(), variant, seed, trial)
        return load_student(student_weights(self.folder, found.record.trial.id))

    def metrics(self) -> DataFrame:
        """One row for each metric of each epoch of each trial, in the columns trial to value."""
        rows: list[dict[str, Any]] = []
        for record in self.records.values():
            trial = record.trial
            about = {"trial": trial.id, "phase": str(trial.phase), "variant": trial.variant, "seed": trial.seed}
            # The file may hold epochs that were trained before a scheduler's stop arrived.
            past = record.epochs if record.status.ended else None
            for epoch in self.folder.trial(trial.id).metrics()[:past]:
                values = {name: value for name, value in epoch.items() if name != "epoch"}
                rows += [{**about, "epoch": epoch["epoch"], "metric": m, "value": v} for m, v in values.items()]
        return frame(rows)

    def evidence(self, reference: str | None = None) -> Evidence:
        """What charts and reports are made from; `reference` as in `results`."""
        results = self.results(reference)
        runs = [record for variant in results.variants for record in self._telling(variant)]
        return Evidence(results, tuple(map(self._run, runs)), tuple(map(self._run, results.teachers)))

    def charts(self, reference: str | None = None) -> list[Chart]:
        """All charts that there is something to draw for; each has a plotly `figure`."""
        from orchestrator.analysis.charts.every import every_chart

        return every_chart(self.evidence(reference))

    def report(self, format: str = "html", reference: str | None = None) -> str:
        """All of it on one page, "html" or "md"; `reference` as in `results`."""
        from orchestrator.analysis.report.content import Circumstances
        from orchestrator.analysis.report.html import to_html
        from orchestrator.analysis.report.markdown import to_markdown
        from orchestrator.analysis.report.page import make_page

        page = make_page(
            self.evidence(reference),
            Circumstances(
                id=self.id,
                state=self.state,
                spent=self.spent,
                found_teachers=self.found_teachers,
                seconds=self.folder.seconds(),
                environments=self.folder.environments(),
                stored_logits=self.folder.logit_decisions(),
                spec=to_yaml(self.spec.model_dump(exclude_unset=True)),
                sizes={arm.name: arm.size and arm.size.parameters for arm in self.plan.arms},
            ),
        )
        return to_html(page) if format == "html" else to_markdown(page)

    def _telling(self, variant: VariantResult) -> Sequence[Record]:
        """The runs of a variant that its curves are drawn of."""
        if variant.finals:
            return variant.finals
        if variant.best:
            return [variant.best]
        mine = [r for r in self.records.values() if r.trial.variant == variant.name and r.trial.phase is Phase.SEARCH]
        return sorted(mine, key=lambda record: -record.epochs)[:1]

    def _run(self, record: Record) -> Run:
        trial, folder = record.trial, self.folder.trial(record.trial.id)
        past = record.epochs if record.status.ended else None
        told = self.folder.described(trial.id)
        return Run(
            trial.id,
            trial.variant,
            trial.seed,
            folder.metrics()[:past],
            folder.temperatures()[:past],
            class_accuracies(told["classes.csv"]) if "classes.csv" in told else None,
            class_repairs(told.get("mistakes.csv", "")),
        )

    @property
    def ended(self) -> int:
        """Trials that have ended, but for final runs of configurations that are not the best any more."""
        past = outdated(self.records, self.spec.search)
        return sum(record.status.ended for id, record in self.records.items() if id not in past)

    @property
    def counts(self) -> dict[str, int]:
        """Trials by status."""
        results = self.results()
        return {str(status): results.count(status) for status in Status}

    @property
    def found_teachers(self) -> dict[str, float | None]:
        """Validation accuracy in percent of the teachers that were found again, by key; None where it is not kept."""
        return {key: self.home.teacher_accuracy(key) for key in self.plan.teachers if key in self.plan.found}

    def advice(self, spec: Sequence[str] = ()) -> str | None:
        """How to go on; None where nothing has to be done, or the folder's spec would start another experiment.

        `spec`: the words that name the spec on the command line; default: the folder's own copy.
        """
        if self.home.experiment(self.spec).path != self.folder.path:
            return None
        if again := os.environ.get(AGAIN_VARIABLE):
            # Started on a cluster, from a machine where neither the home nor the spec's file mean anything.
            ways = {
                State.INTERRUPTED: "continue with",
                State.FAILED: "change the spec, and run it with",
                State.SPENT: f"raise {self.spent}, and run it again with",
            }
            return f"{ways[self.state]}: {again}" if self.state in ways else None
        words = ["orchestrator", "run", *(spec or [str(self.folder.path / "spec.yaml")]), *self.home.option]
        if self.state is State.INTERRUPTED:
            return f"continue with: {shlex.join(words)}"
        if self.state is State.SPENT:
            return f"raise {self.spent}, and run it again: {shlex.join(words)}"
        if self.state is State.FAILED:
            return f"change the spec, or start over with: {shlex.join([*words, '--fresh'])}"
        return None
