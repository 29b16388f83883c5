"""logs: what Ray and the workers of an experiment have written, or what became of one of its trials."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import names
from orchestrator.analysis.formats import format_values
from orchestrator.cli.options import ClusterOption, HomeOption, NameArgument
from orchestrator.cli.remote import ask_there, logs_there, no_home
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.registry import nearest

LOOK_EVERY_S = 0.5
CHUNK = 1 << 16
SHOWN = (names.TRAIN_LOSS, names.VAL_LOSS, names.VAL_ACC1, names.TEST_ACC1, names.EPOCH_TIME)
"""Metrics that a trial's log has; MLflow has them all."""


def logs(
    name: NameArgument = None,
    trial: Annotated[
        str | None,
        typer.Option("--trial", metavar="ID", help="A trial's epochs, its end, and its traceback where it failed."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as long as it runs.")] = False,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Print the log of an experiment: the output of Ray and of its workers, or of one trial.

    Of a submitted one it is what its driver prints; following that ends with the driver's exit code.
    """
    if address is not None:
        if trial is None:
            no_home("logs", home)
            return logs_there(address, name, follow)
        if follow:
            raise UsageError("--follow is not for a trial on a cluster", hint="leave out --trial, or --follow")
        return ask_there(address, "logs", name, ["--trial", trial], home)
    experiment = Experiment.load(name, home)
    try:
        if trial is None:
            _print_log(experiment, follow)
        else:
            _print_trial(experiment, trial, follow)
    except KeyboardInterrupt:
        return 0
    return 0


def _print_log(experiment: Experiment, follow: bool) -> None:
    path = experiment.folder.log
    if not path.exists():
        raise UsageError(f"{experiment.id} has no log {path}", hint="nothing has been written to it yet")
    for text in _texts(path, experiment.folder.is_running if follow else lambda: False):
        sys.stdout.write(text)
        sys.stdout.flush()


def _texts(path: Path, goes_on: Callable[[], bool]) -> Iterator[str]:
    """What the file has, and what is added to it as long as it `goes_on`."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        last = False
        while True:
            while text := file.read(CHUNK):
                yield text
            if last:
                return
            # What was written before it ended is still to be read.
            last = not goes_on()
            if not last:
                time.sleep(LOOK_EVERY_S)


def _print_trial(experiment: Experiment, id: str, follow: bool) -> None:
    if id not in experiment.records:
        close = nearest(id, experiment.records)
        raise UsageError(
            f"{experiment.id} has no trial {id!r} that has begun" + (f"; did you mean {close!r}?" if close else ""),
            hint="orchestrator results shows those that have",
        )
    folder, seen = experiment.folder.trial(id), 0
    about = experiment.records[id].trial
    values = format_values(about.params)
    print(f"{id}: {about.phase} trial of {about.variant}, seed {about.seed}{f', {values}' if values else ''}")
    while True:
        record = experiment.records[id]
        # A scheduler's stop may have come after later epochs were trained.
        history = folder.metrics()[: record.epochs if record.status.ended else None]
        for epoch in history[seen:]:
            shown = "  ".join(f"{name} {epoch[name]:.4g}" for name in SHOWN if name in epoch)
            print(f"epoch {epoch['epoch']:.0f}  {shown}", flush=True)
        seen = max(seen, len(history))
        if not follow or record.status.ended or not experiment.folder.is_running():
            break
        time.sleep(LOOK_EVERY_S)
        experiment = Experiment.load(experiment.id, experiment.home.path)
    why = (record.reason or "").removeprefix(f"{record.status} ")
    print(f"{record.status}{f': {why}' if why else ''}")
    if folder.error.exists():
        before = "an earlier attempt failed:\n" if record.status.has_result else ""
        print(f"\n{before}{folder.error.read_text()}", end="")
