"""Commands for experiments that were submitted to a cluster; everything they tell comes from there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from orchestrator.cli.failure import asks_for_json
from orchestrator.cli.options import Format
from orchestrator.cli.tables import table_of
from orchestrator.cli.terminal import screen
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.spec import ExperimentSpec
from orchestrator.spec.loading import to_yaml
from orchestrator.spec.uris import is_uri, refuse_secrets

if TYPE_CHECKING:
    from orchestrator.execution.jobs import Job, Jobs, Setup

CHANGING = ("stop", "extend")
"""Commands that change the experiment they are about."""
ONE_PYTHON = "--pip and --python exclude each other: Ray installs packages for the Python that it runs in itself"


def home_there(home: str) -> str:
    """A folder on the cluster, where what is relative to this one's means nothing, or a URI."""
    if is_uri(home):
        refuse_secrets(home, "--home")
    elif not home.startswith(("/", "~")):
        raise UsageError(f"--home {home!r} is a folder on the cluster, whose path must begin with / or ~")
    return home


def no_home(command: str, home: str | None) -> None:
    """Refuse --home where it would change nothing."""
    if home is not None:
        raise UsageError(
            f"{command} takes no --home with --address: it asks the cluster's Ray, which knows all that was submitted",
            hint="leave out --home",
        )


def run_there(
    address: str,
    words: Sequence[str],
    spec: ExperimentSpec | None = None,
    home: str | None = None,
    python: str | None = None,
    pip: bool = False,
) -> int:
    """Run one of this program's commands on the cluster, and print what it printed.

    `spec` goes with it as the file `package.SPEC`; `home` is a folder on the cluster, and `python` a program there;
    with `pip` Ray installs this machine's versions of what is needed.
    """
    from orchestrator.execution.jobs import Jobs, Setup
    from orchestrator.execution.portable import requirements

    file = None if spec is None else to_yaml(spec.model_dump(exclude_unset=True))
    setup = Setup(python=python or "python", pip=tuple(requirements()) if pip else ())
    return _run(Jobs(address), words, _in(setup, home), file)


def ask_there(
    address: str,
    command: str,
    names: Sequence[str | None],
    more: Sequence[str] = (),
    home: str | None = None,
    file: str | None = None,
) -> int:
    """Run a command that is about experiments on the cluster, in the home folder of the first and with its Python.

    Each of `names` is as `Jobs.find` has it; the text `file` goes with the command as the file `package.SPEC`.
    """
    from orchestrator.execution.jobs import Jobs

    jobs = Jobs(address)
    found = [_found(jobs, name, command if command in CHANGING else None) for name in names]
    return _run(jobs, [command, *(job.experiment for job in found), *more], _in(found[0].setup, home), file)


def status_there(address: str, name: str | None, format: Format, home: str | None = None) -> int:
    """How far an experiment is, and what has become of the job that runs it."""
    from orchestrator.execution.jobs import Jobs

    jobs = Jobs(address)
    job = _found(jobs, name)
    words = ["status", job.experiment, "--format", format]
    code, text = _answer(jobs, words, _in(job.setup, home))
    if format is Format.JSON:
        told = _first_object(text) or {"error": text.strip()}
        print(json.dumps({**told, "job": job.to_dict()}, indent=2))
    else:
        print(f"Attempt {job.attempt}, job {job.id}: {job.state}")
        print(text, end="")
    # Before its first trial there may be nothing but the job.
    return 0 if job.state == "pending" else code


def list_there(address: str, format: Format) -> int:
    """The last attempt at every experiment that was submitted to the cluster, the latest first."""
    from orchestrator.execution.jobs import Jobs

    jobs = Jobs(address)
    last = {job.experiment: job for job in jobs.all()}
    found = sorted(last.values(), key=lambda job: -(job.started or 0.0))
    if format is Format.JSON:
        print(json.dumps([job.to_dict() for job in found], indent=2))
        return 0
    console = screen()
    if not found:
        console.print(f"Nothing was submitted to {jobs.address}", soft_wrap=True, markup=False)
        return 0
    columns = ("experiment", "attempt", "state", "begun", "owner", "home")
    table = table_of(*columns, text=("state", "begun", "owner"), folded=("experiment", "home"))
    for job in found:
        begun = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M") if job.started else ""
        table.add_row(
            escape(job.experiment), str(job.attempt), job.state, begun, escape(job.owner), escape(job.setup.home)
        )
    console.print(table)
    return 0


def logs_there(address: str, name: str | None, follow: bool, format: Format) -> int:
    """What an experiment's driver has printed in its last attempt; following it ends with its exit code."""
    from orchestrator.cli.submit import watch
    from orchestrator.execution.jobs import Jobs

    jobs = Jobs(address)
    job = _found(jobs, name)
    if follow:
        return watch(jobs, job, screen())
    text = jobs.log(job)
    if format is Format.JSON:
        print(json.dumps({"id": job.experiment, "job": job.to_dict(), "lines": text.splitlines()}, indent=2))
    else:
        print(text, end="")
    return 0


def pause_there(address: str, name: str | None, format: Format) -> int:
    """Have an experiment's driver save what runs, and end."""
    from orchestrator.execution.jobs import Jobs

    jobs = Jobs(address)
    job = _found(jobs, name, "pause")
    asked = not job.is_over
    told = f"{job.experiment} does not run: attempt {job.attempt} has {job.ending}"
    if asked:
        with screen().status("What runs is being saved") if format is Format.TABLE else nullcontext():
            job = jobs.stop(job)
        told = f"Attempt {job.attempt} of {job.experiment} has {job.ending}; submit its spec again to continue it"
    if format is Format.JSON:
        print(json.dumps({"id": job.experiment, "asked": asked, "taken": asked, "job": job.to_dict()}, indent=2))
    else:
        print(told)
    return 0


def _found(jobs: Jobs, name: str | None, to: str | None = None) -> Job:
    """As `Jobs.find`; where it is another's, that is told."""
    job = jobs.find(name, to)
    if job.is_anothers:
        # Beside what programs read.
        print(f"{job.experiment} is {job.owner}'s", file=sys.stderr)
    return job


def _in(setup: Setup, home: str | None) -> Setup:
    """The same in the home folder that is named, if one is."""
    return setup if home is None else replace(setup, home=home_there(home))


def _run(jobs: Jobs, words: Sequence[str], setup: Setup, file: str | None = None) -> int:
    code, text = _answer(jobs, words, setup, file)
    if code and asks_for_json(words):
        # Without the errors for people that follow it.
        told = _first_object(text)
        if told is None:
            raise OrchestratorError(text.strip() or "the command printed nothing on the cluster")
        text = json.dumps(told, indent=2) + "\n"
    print(text, end="")
    return code


def _answer(jobs: Jobs, words: Sequence[str], setup: Setup, file: str | None = None) -> tuple[int, str]:
    from orchestrator.execution.package import build_package

    return jobs.command(words, build_package(file), setup)


def _first_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text begins with."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
