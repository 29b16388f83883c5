"""What a trial's process is sent: its job, as plain data that any node can carry out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from orchestrator.execution.job import Job
from orchestrator.execution.teacher import teacher_weights
from orchestrator.search.agenda import Agenda
from orchestrator.search.logits import plan_logits
from orchestrator.search.teachers import Source
from orchestrator.search.trials import Phase, Record
from orchestrator.spec.experiment import RunSpec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


class Briefing:
    """Makes the jobs of one session's trials."""

    def __init__(self, agenda: Agenda, home: Home, folder: ExperimentFolder) -> None:
        self._agenda = agenda
        self._home = home
        self._folder = folder
        self._logits = plan_logits(agenda.plan, home.room_for_logits(), folder.logit_decisions())
        self._tried: set[object] = set()
        """Data sets that the variants on them have been sent to be built with."""
        self.gang: dict[str, Any] | None = None
        """The terms on which a trial gets workers; None where it needs none."""

    def keep_decisions(self) -> None:
        """Write down what was decided of logits, for later sessions to keep to."""
        known = self._folder.logit_decisions()
        if new := {name: made for name, made in self._logits.decisions.items() if name not in known}:
            self._folder.journal.append({"event": "logits", "decided": new})

    def config(self, record: Record, run: RunSpec) -> dict[str, Any]:
        """Tune's configuration of a trial that is about to start or go on, with these values."""
        trial, plan = record.trial, self._agenda.plan
        keeping = self._logits.of(trial, run)
        job = Job(
            trial=trial.id,
            phase=trial.phase,
            run=run.model_dump(exclude_unset=True),
            split_seed=plan.spec.seed,
            folder=str(self._folder.trial(trial.id).path),
            teachers=[self._source(source) for source in plan.sources_of(trial)],
            weights=str(self._home.teacher(trial.variant)) if trial.phase is Phase.TEACHER else None,
            distils=plan.distils(trial),
            until=self._agenda.next_rung(record),
            watched=plan.changing(trial),
            cache=str(self._home.cache),
            logits=None if keeping is None else {**asdict(keeping), "folder": str(self._home.teacher_logits)},
            students=self._untried(run),
            home=self._home_of(record),
        )
        threads = plan.spec.resources.cpus_per_worker
        return {"job": job.to_json(), "threads": threads, "gang": self.gang}

    def _home_of(self, record: Record) -> dict[str, str] | None:
        """Where the trial's files have to get to, beyond its machine."""
        if self._home.remote is None or self._folder.shared is None:
            return None
        # What a machine knows of the trial before it took over another's checkpoint does not count any more.
        life = f"{self._folder.shared.life}-{len(record.made)}"
        return {"uri": self._home.remote.uri, "folder": str(self._home.path), "life": life}

    def _untried(self, run: RunSpec) -> list[dict[str, Any]]:
        """For the session's first trial on a data set: one run of each variant on it, and of each assistant."""
        source, plan = run.data.source, self._agenda.plan
        if source in self._tried:
            return []
        self._tried.add(source)
        named = [(f"variant {arm.name!r}", arm.example, arm.sources) for arm in plan.unfinished(self._agenda.records)]
        named += [
            (plan.teacher_trial(key).id, teacher.run, teacher.sources)
            for key, teacher in plan.teachers.items()
            if teacher.trains_student
        ]
        found: dict[str, dict[str, Any]] = {}
        for name, example, sources in named:
            if example.data.source == source:
                teachers = [source.model.model_dump(exclude_unset=True) for source in sources]
                built = example.model_dump(exclude={"seed", "training", "teacher"})
                made = {"name": name, "run": example.model_dump(exclude_unset=True), "teachers": teachers}
                found.setdefault(json.dumps([built, teachers], sort_keys=True), made)
        return list(found.values())

    def _source(self, source: Source) -> dict[str, Any]:
        if source.checkpoint is not None:
            weights = teacher_weights(source.checkpoint, self._home)
        else:
            weights = str(self._home.teacher(str(source.key)))
        return {"model": source.model.model_dump(exclude_unset=True), "weights": weights}
