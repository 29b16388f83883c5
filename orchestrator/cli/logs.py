"""logs: what Ray and the workers of an experiment have written, or what became of one of its trials."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import names
from orchestrator.analysis.formats import format_values
from orchestrator.analysis.rows import trial_dict
from orchestrator.cli import complete
from orchestrator.cli.options import ClusterOption, Format, FormatOption, HomeOption, NameArgument
from orchestrator.cli.remote import ask_there, logs_there, no_home
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.registry import nearest
from orchestrator.search.trials import Change, Record

LOOK_EVERY_S = 0.5
CHUNK = 1 << 16
SHOWN = (names.TRAIN_LOSS, names.VAL_LOSS, names.VAL_ACC1, names.TEST_ACC1, names.EPOCH_TIME)
"""Metrics that a trial's log has; MLflow has them all."""


def logs(
    name: NameArgument = None,
    trial: Annotated[
        str | None,
        typer.Option(
            "--trial",
            metavar="ID",
            help="A trial's epochs, its end, and its traceback where it failed.",
            autocompletion=complete.trials,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as long as it runs.")] = False,
    format: FormatOption = Format.TABLE,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Print the log of an experiment: the output of Ray and of its workers, or of one trial.

    Of a submitted one it is what its driver prints; following that ends with the driver's exit code.
    """
    if follow and format is Format.JSON:
        raise UsageError(
            "--follow is for people; programs are told by `run --format json-lines`, or by looking again",
            hint="orchestrator status NAME --follow --format json writes a line whenever something has changed",
        )
    if address is not None:
        if trial is None:
            no_home("logs", home)
            return logs_there(address, name, follow, format)
        if follow:
            raise UsageError("--follow is not for a trial on a cluster", hint="leave out --trial, or --follow")
        words = ["--trial", trial, *(["--format", format] if format is Format.JSON else [])]
        return ask_there(address, "logs", [name], words, home)
    experiment = Experiment.load(name, home)
    if format is Format.JSON:
        content = _log_of(experiment) if trial is None else _content(experiment, trial)
        print(json.dumps(content, indent=2))
        return 0
    try:
        if trial is None:
            _print_log(experiment, follow)
        else:
            _print_trial(experiment, trial, follow)
    except KeyboardInterrupt:
        return 0
    return 0


def _log_of(experiment: Experiment) -> dict[str, Any]:
    path = _log_path(experiment)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {"id": experiment.id, "log": str(path), "lines": lines}


def _log_path(experiment: Experiment) -> Path:
    path = experiment.folder.log
    if not path.exists():
        raise UsageError(f"{experiment.id} has no log {path}", hint="nothing has been written to it yet")
    return path


def _print_log(experiment: Experiment, follow: bool) -> None:
    path = _log_path(experiment)
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


def _record_of(experiment: Experiment, id: str) -> Record:
    if id not in experiment.records:
        close = nearest(id, experiment.records)
        raise UsageError(
            f"{experiment.id} has no trial {id!r} that has begun" + (f"; did you mean {close!r}?" if close else ""),
            hint="orchestrator results shows those that have",
        )
    return experiment.records[id]


def _content(experiment: Experiment, id: str) -> dict[str, Any]:
    """All that there is of a trial, as JSON-like data: its epochs with all metrics, and why it failed."""
    record, folder = _record_of(experiment, id), experiment.folder.trial(id)
    history = folder.metrics()[: record.epochs if record.status.ended else None]
    traceback = folder.error.read_text() if folder.error.exists() else None
    return {"experiment": experiment.id, **trial_dict(record), "history": history, "traceback": traceback}


def _print_trial(experiment: Experiment, id: str, follow: bool) -> None:
    folder, seen = experiment.folder.trial(id), 0
    about = _record_of(experiment, id).trial
    values = format_values(about.params)
    print(f"{id}: {about.phase} trial of {about.variant}, seed {about.seed}{f', {values}' if values else ''}")
    while True:
        record = experiment.records[id]
        # A scheduler's stop may have come after later epochs were trained.
        history = folder.metrics()[: record.epochs if record.status.ended else None]
        changes = {change.epoch: change for change in record.made}
        for epoch in history[seen:]:
            if change := changes.get(int(epoch["epoch"]) - 1):
                print(_told(change, id), flush=True)
            shown = "  ".join(f"{name} {epoch[name]:.4g}" for name in SHOWN if name in epoch)
            print(f"epoch {epoch['epoch']:.0f}  {shown}", flush=True)
        seen = max(seen, len(history))
        if not follow or record.status.ended or not experiment.folder.is_running():
            break
        time.sleep(LOOK_EVERY_S)
        experiment = Experiment.load(experiment.id, str(experiment.home))
    if record.made and record.made[-1].epoch == seen:
        print(_told(record.made[-1], id))
    why = (record.reason or "").removeprefix(f"{record.status} ")
    print(f"{record.status}{f': {why}' if why else ''}")
    if folder.error.exists():
        before = "an earlier attempt failed:\n" if record.status.has_result else ""
        print(f"\n{before}{folder.error.read_text()}", end="")


def _told(change: Change, id: str) -> str:
    """What a trial goes on with after an epoch."""
    whose = "" if change.source in (None, id) else f", with the weights of {change.source}"
    return f"after epoch {change.epoch}: {format_values(change.params)}{whose}"
