"""How far an experiment is, read from its folder: what status, list, results and the end of a run tell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from orchestrator.analysis.results import Results
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.standing import State, anything_left
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import ExperimentFolder, Home


@dataclass(frozen=True)
class Standing:
    """One experiment at one moment."""

    home: Home
    folder: ExperimentFolder
    plan: Plan
    records: Mapping[str, Record]
    state: State

    @cached_property
    def results(self) -> Results:
        return Results(self.plan.spec, self.records)

    @property
    def ended(self) -> int:
        return sum(record.status.ended for record in self.records.values())

    @property
    def counts(self) -> dict[str, int]:
        """Trials by status."""
        return {str(status): self.results.count(status) for status in Status}

    @property
    def found_teachers(self) -> dict[str, float | None]:
        """Validation accuracy in percent of the teachers that were found again, by key; None where it is not kept."""
        return {key: self.home.teacher_accuracy(key) for key in self.plan.teachers if key in self.plan.found}

    def advice(self, spec: Sequence[str] = ()) -> str | None:
        """How to go on; None where nothing has to be done, or the folder's spec would start another experiment.

        `spec`: the words that name the spec on the command line; default: the folder's own copy.
        """
        if self.folder.id != self.plan.spec.id:
            return None
        words = ["orchestrator", "run", *(spec or [str(self.folder.path / "spec.yaml")]), *self.home.option]
        if self.state is State.INTERRUPTED:
            return f"continue with: {shlex.join(words)}"
        if self.state is State.FAILED:
            return f"change the spec, or start over with: {shlex.join([*words, '--fresh'])}"
        return None


def standing_of(folder: ExperimentFolder, home: Home) -> Standing:
    """Read the experiment's folder."""
    running = folder.is_running()
    records = folder.records()
    for record in records.values():
        if record.status is Status.RUNNING and not running:
            # Its process was killed before it could say so.
            record.status = Status.INTERRUPTED
    spec = folder.spec()
    plan = make_plan(spec).finding(records, home.has_teacher)
    limit = spec.budget.time_s
    out_of_time = limit is not None and folder.seconds() >= limit
    if running:
        state = State.RUNNING
    elif anything_left(plan, records, home.has_teacher, out_of_budget=out_of_time):
        state = State.INTERRUPTED
    else:
        state = State.COMPLETE if Results(spec, records).answered else State.FAILED
    return Standing(home, folder, plan, records, state)
