"""Experiments that are complete, as their folders tell, without anything having been trained."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.build import blueprint, build_network
from orchestrator.data import load_dataset
from orchestrator.execution.runner import _store
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.training import save_weights


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


def leave_students(folder: ExperimentFolder, plan: Plan, trials: Iterable[Trial]) -> None:
    """The students of those that are final runs, with the weights that they would have begun with."""
    for trial in trials:
        if trial.phase is Phase.FINAL:
            run = plan.run_of(trial)
            dataset = load_dataset(run.data.dataset)
            made = blueprint(run.student, run.data, dataset)
            network = build_network(run.student, dataset, trial.seed)
            save_weights(folder.trial(trial.id).weights, network, {"blueprint": made.to_text()})
