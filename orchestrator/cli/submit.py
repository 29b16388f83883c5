"""submit: an experiment as a job of a Ray cluster; following it from here."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestrator.cli.options import Format, FormatOption, SetOption, SpecArgument
from orchestrator.cli.remote import ONE_PYTHON, home_there
from orchestrator.cli.terminal import is_quiet, screen
from orchestrator.errors import UsageError
from orchestrator.spec import load_spec
from orchestrator.spec.loading import to_yaml

if TYPE_CHECKING:
    from orchestrator.execution.jobs import Job, Jobs

URL = "URL of the cluster's dashboard, such as http://10.0.0.1:8265."


def submit(
    spec: SpecArgument,
    address: Annotated[str, typer.Option(metavar="URL", help=URL, show_default=False)],
    set: SetOption = None,
    home: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder that all nodes of the cluster share, or a URI such as s3://bucket/prefix; "
            "default: ORCHESTRATOR_HOME there, else ~/.orchestrator.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show what it prints until it ends, and exit with its code.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="As --follow, without showing what it prints.")] = False,
    pip: Annotated[
        bool, typer.Option("--pip", help="Install this machine's versions of what is needed, but Ray, there first.")
    ] = False,
    python: Annotated[
        str | None, typer.Option(metavar="FILE", help="Python on the cluster; default: python.", show_default=False)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> int:
    """Run an experiment on a Ray cluster: its driver runs there, and goes on when this command has ended.

    Sends this package and the spec, and nothing else. The same command again joins the attempt that runs; once
    that has ended, however it did, another one continues where it was, with the --home, --python and --pip of before.
    """
    if follow and format is Format.JSON:
        raise UsageError("--follow shows what the job prints; with --format json use --wait")
    if python is not None and pip:
        raise UsageError(ONE_PYTHON)
    checked = load_spec(spec, set)
    place = None if home is None else home_there(home)
    from orchestrator.execution.jobs import START_VARIABLE, Jobs
    from orchestrator.execution.package import build_package
    from orchestrator.execution.portable import check_portable, needed_plugins, needed_variables, requirements

    check_portable(checked, str(spec))
    console = screen()
    package = build_package(to_yaml(checked.model_dump(exclude_unset=True)))
    jobs = Jobs(address)
    job, is_new = jobs.submit(checked, package, place, python, requirements() if pip else ())
    variables, plugins = needed_variables(checked), needed_plugins(checked)
    if format is Format.JSON:
        if wait:
            job = jobs.follow(job, lambda text: None, lambda text: None)
        needs = {"variables": variables, "plugins": plugins}
        content = {"id": checked.id, "new": is_new, "sent_bytes": len(package.content) if is_new else 0}
        print(json.dumps({**content, "needs": needs, "job": job.to_dict()}, indent=2))
        return job.exit_code if wait else 0
    if not is_quiet():
        console.print(f"[bold]{checked.name}[/] ({checked.id})")
    if is_new:
        lines = [f"Sent: {package}"]
        if variables:
            lines.append(f"The cluster's environment must have {', '.join(variables)}: values are not sent")
        if job.setup.pip:
            lines.append(f"Ray gives the installation 15 minutes, or {START_VARIABLE} of its head's environment")
        if plugins:
            lines.append(f"The cluster must have installed {', '.join(plugins)}")
        if checked.tracking.uri is None and os.environ.get("MLFLOW_TRACKING_URI"):
            lines.append("MLFLOW_TRACKING_URI is not sent: without tracking.uri the cluster's own is used")
        lines.append(f"Attempt {job.attempt} is job {job.id}; its home there: {job.setup.home}")
    else:
        lines = [f"Attempt {job.attempt} is {job.state} already as job {job.id}, and nothing was sent"]
        if job.is_anothers:
            lines.append(f"It is {job.owner}'s")
        if place not in (None, job.setup.home):
            lines.append(f"Its home there is {job.setup.home}, not {place}")
    for line in [job.id] if is_quiet() else lines:
        console.print(line, soft_wrap=True, markup=False)
    if follow or wait:
        return watch(jobs, job, console, show=follow)
    if not is_quiet():
        print_ways(jobs, job, console)
    return 0


def watch(jobs: Jobs, job: Job, console: Console, *, show: bool = True) -> int:
    """Follow a job to its end; the exit code is the job's own. Ctrl-C leaves the job alone."""

    def write(text: str) -> None:
        if show:
            console.file.write(text)
            console.file.flush()

    try:
        ended = jobs.follow(job, write, lambda text: _tell(console, text))
    except KeyboardInterrupt:
        console.print(f"\nThe job goes on: attempt {job.attempt} of {job.experiment}.", markup=False)
        print_ways(jobs, job, console)
        return 130
    # Where the driver came to an end of its own, it has said why.
    why = ended.message.splitlines()[:1] if ended.state == "failed" and ended.code is None else []
    _tell(console, ": ".join([f"Attempt {ended.attempt} of {ended.experiment} has {ended.ending}", *why]))
    if ended.advice:
        _tell(console, ended.advice)
    return ended.exit_code


def print_ways(jobs: Jobs, job: Job, console: Console) -> None:
    """Say how the job is followed and ended, and where its results are."""
    for what, words in (
        ("Follow it", ["logs", job.experiment, "--follow"]),
        ("Its results", ["results", job.experiment]),
        ("Save it and end", ["pause", job.experiment]),
    ):
        line = shlex.join(["orchestrator", *words, "--address", jobs.address])
        console.print(f"{what}: {line}", soft_wrap=True, markup=False)


def _tell(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, style="dim")
