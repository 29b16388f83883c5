"""plan --measure on a real, small experiment: what it tells, and how near it comes to the run itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.search.trials import Phase
from orchestrator.store.journal import Journal
from tests.execution.conftest import Shell

WORK = {
    "data": {"dataset": "digits", "train_samples": 800, "validation_fraction": 0.1},
    "teacher": {"model": "resnet14", "width": 0.5, "training": {"epochs": 10, "schedule": {"method": "constant"}}},
    "student": {"model": "resnet8", "width": 0.5},
    "training": {"epochs": 12, "batch_size": 40, "schedule": {"method": "cosine"}},
}
TOLERANCE = 3.0
"""By which a run may miss the forecast's range: others may work on the machine, now or then."""


def forecast(shell: Shell, changes: dict[str, Any], *more: str) -> dict[str, Any]:
    done = shell.run("plan", shell.spec(changes), "--measure", "--measure-seconds", "3", "--format", "json", *more)
    assert done.returncode == 0, done.stdout
    return dict(json.loads(done.stdout)["forecast"])


def near(seconds: float, span: dict[str, float]) -> bool:
    return span["low"] / TOLERANCE <= seconds <= span["high"] * TOLERANCE


def test_the_run_takes_about_as_long_as_was_forecast(shell: Shell) -> None:
    told = forecast(shell, WORK)
    stages = {stage["stage"]: stage for stage in told["stages"]}
    assert {name: stage["runs"] for name, stage in stages.items()} == {"teacher": 1, "search": 4, "final": 4}
    assert told["seconds"]["low"] < told["seconds"]["likely"] < told["seconds"]["high"]
    assert not told["of_what_is_left"]
    assert any("Assumed" in line for line in told["assumes"])
    for kind in told["measured"]:
        assert 0 < kind["validation_s"] < kind["epoch_alone_s"]["high"]
    done = shell.run("run", shell.spec(WORK))
    assert done.returncode == 0, done.stdout
    events = Journal(shell.experiment() / "journal.jsonl").read()
    ends = {event["id"]: event["at"] for event in events if event["event"] == "ended"}
    begins = {event["trial"]["id"]: (event["at"], event["trial"]["phase"]) for event in events if "trial" in event}
    for phase in Phase:
        mine = [id for id, (_, of) in begins.items() if of == phase]
        seconds = max(ends[id] for id in mine) - min(begins[id][0] for id in mine)
        if phase is not Phase.TEACHER:
            # The first trial of all also loads PyTorch and the data, which counts as start-up.
            assert near(seconds, stages[phase]["seconds"]), (phase, seconds, stages[phase])
    (started,) = (event["started"] for event in events if event["event"] == "session")
    assert near(max(ends.values()) - started, told["seconds"])
    # Nothing of the experiment is left to forecast but its start.
    again = forecast(shell, WORK)
    assert (again["of_what_is_left"], again["stages"]) == (True, [])


def test_people_are_shown_a_table_with_what_it_takes_for_granted(shell: Shell) -> None:
    search = {"search.scheduler": {"method": "asha"}, "distillation.teacher_logits.keep": "live"}
    done = shell.run("plan", shell.spec(search), "--measure", "--measure-seconds", "1")
    assert done.returncode == 0, done.stdout
    stages = ("stage 0: teacher", "stage 1: search", "stage 2: final runs", "together")
    for words in (*stages, "la+dtd", "asha stops trials"):
        assert words in done.stdout
    assert not (shell.home / "experiments").exists()
    assert not (shell.home / "teachers").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"dataset": "fashion-mnist", "root": "nowhere"}}, "nowhere"),
        ({"resources": {"cpus_per_worker": 4000}}, "4000"),
        ({"distillation.features": [{"method": "fitnet", "weight": 1.0, "layers": ["gone"]}]}, "gone"),
    ],
)
def test_what_would_keep_the_runs_from_starting_is_told(shell: Shell, changes: dict[str, Any], told: str) -> None:
    done = shell.run("plan", shell.spec(changes), "--measure", "--measure-seconds", "1")
    assert done.returncode in (1, 2), done.stdout
    assert told in done.stdout
    assert "Traceback" not in done.stdout


def test_trials_of_several_workers_are_measured_by_their_parts(shell: Shell) -> None:
    told = forecast(shell, {"resources": {"num_workers": 2}, "search.num_samples": 1})
    assert told["trials_at_once"] == 1
    assert any("one of 2 parts" in line for line in told["assumes"])
