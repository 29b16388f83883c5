"""Trials on one process, without Ray, for tests."""

import json

from orchestrator import load_spec
from orchestrator.execution.job import Job
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 60, "validation_fraction": 0.1},
    "teacher": {"model": "resnet8", "width": 0.25, "train_samples": 80},
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {
        "temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12},
        "adjustment": {"rule": "probability_shift"},
    },
    "training": {"epochs": 4, "batch_size": 32, "checkpoint_interval_s": 0},
}


def run_spec(**overrides):
    values = {name.replace("__", "."): value for name, value in overrides.items()}
    return make_plan(load_spec(SPEC, values)).arms[0].variant.run


def job(folder, phase=Phase.SEARCH, teacher=None, trial="t", split_seed=0, **overrides):
    run = run_spec(**overrides)
    made = Job(
        trial=trial,
        phase=phase,
        run=run.model_dump(exclude_unset=True),
        split_seed=split_seed,
        folder=str(folder / trial),
        teachers=[{"model": run.teacher.model_dump(exclude_unset=True), "weights": str(teacher)}]
        if teacher is not None and phase is not Phase.TEACHER
        else [],
        weights=str(teacher) if phase is Phase.TEACHER else None,
        distils=phase is not Phase.TEACHER,
    )
    return Job.from_json(made.to_json())


def finish(session):
    reported = []
    while not session.done:
        reported.append(session.train_epoch())
    return reported


def on_disk(folder, trial="t"):
    return [json.loads(line) for line in (folder / trial / "metrics.jsonl").read_text().splitlines()]


def without_times(entries):
    return [
        {name: value for name, value in entry.items() if not name.startswith(("time/", "throughput/"))}
        for entry in entries
    ]
