"""The driver by itself: what it makes of a killed session."""

from __future__ import annotations

from pathlib import Path

from orchestrator import load_spec
from orchestrator.execution.driver import Driver
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda, PlannedSampler
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home
from orchestrator.tracking.memory import MemoryTracker
from tests.execution.conftest import SPEC


def test_checkpoints_of_ended_trials_go_also_where_the_driver_was_killed_before_it_removed_them(tmp_path: Path) -> None:
    spec = load_spec(SPEC)
    plan, home = make_plan(spec), Home(tmp_path)
    folder = home.experiment(spec)
    arm = plan.by_name["alone"]
    trials = [plan.search_trial(arm, n, arm.points[n]) for n in range(2)]
    for trial in trials:
        folder.trial(trial.id).checkpoints.mkdir(parents=True)
    ended, interrupted = trials
    records = {ended.id: Record(ended, Status.FINISHED), interrupted.id: Record(interrupted, Status.INTERRUPTED)}
    agenda = Agenda(plan, lambda arm, drawn: PlannedSampler([]), records, plan.teachers)
    tracker = MemoryTracker()
    Driver(agenda, home, folder, tracker, Watcher(), "{}").reconcile()
    assert not folder.trial(ended.id).checkpoints.exists()
    assert folder.trial(interrupted.id).checkpoints.exists()
    assert {key: run.status for key, run in tracker.runs.items()} == {ended.id: Status.FINISHED}
