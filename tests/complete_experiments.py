"""Experiments that are complete, as their folders tell, without anything having been trained."""

from __future__ import annotations

from orchestrator.execution.runner import _store
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Status, created, ended
from orchestrator.store.home import ExperimentFolder, Home


def complete(home: Home, plan: Plan) -> ExperimentFolder:
    """The plan's experiment as if all its trials had run, three epochs each."""
    home.create()
    folder = home.experiment(plan.spec)
    trials = [plan.teacher_trial(key) for key in plan.teachers]
    for arm in plan.arms:
        trials += [plan.search_trial(arm, n, (arm.points or ())[n]) for n in range(arm.count)]
        trials += [plan.final_trial(arm, n, (arm.points or ())[0]) for n in range(plan.spec.search.final_seeds)]
    with folder.opened(plan.spec):
        folder.journal.append({"event": "experiment", "key": "k", "id": folder.id})
        for number, trial in enumerate(trials):
            metrics = {"val/acc1": 80.0 + number % 7, "time/epoch_s": 0.5 + number % 3}
            if trial.phase is Phase.FINAL:
                metrics["test/acc1"] = 80.0 + number % 5
            folder.journal.append(created(trial))
            folder.journal.append(ended(Record(trial, Status.FINISHED, metrics, 3)))
            folder.trial(trial.id).path.mkdir(parents=True)
            for epoch in range(1, 5):
                # The fourth was trained before a stop arrived.
                folder.trial(trial.id).add_metrics(epoch, {**metrics, "val/acc1": 70.0 + epoch})
        folder.journal.append({"event": "tracked", "store": _store(plan.spec, home)})
    return folder
