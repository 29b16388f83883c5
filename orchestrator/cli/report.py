"""report: an experiment on one page."""

from __future__ import annotations

import sys
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import HomeOption, JsonOption, NameArgument, choices
from orchestrator.cli.terminal import is_quiet
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.experiment import Experiment


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MARKDOWN = "md"


def report(
    name: NameArgument = None,
    format: Annotated[
        ReportFormat,
        typer.Option(
            "--format",
            metavar=choices(ReportFormat),
            help="html: one page with charts, for screens and print; md: text.",
        ),
    ] = ReportFormat.HTML,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write; - for standard output; default ID.html or ID.md.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="VARIANT",
            help="Variant that the others are compared with; default: the spec's search.reference, else kd.",
            autocompletion=complete.variants,
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Write an experiment's report: question, answer, charts, cost, failures, environment, how to repeat it."""
    if json and output == Path("-"):
        raise UsageError("--json tells of a file; with --output - standard output has the report itself")
    experiment = Experiment.load(name, home)
    text = experiment.report(str(format), reference)
    if output == Path("-"):
        sys.stdout.write(text)
        return 0
    path = output or Path(f"{experiment.id}.{format}")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OrchestratorError(
            f"cannot write {path}: {error.strerror or error}", hint="choose another file with --output"
        ) from None
    size = len(text.encode())
    if json:
        told = {"id": experiment.id, "format": str(format), "path": str(path), "bytes": size}
        print(dumps({**told, "state": str(experiment.state), "reference": reference}, indent=2))
    else:
        print(path if is_quiet() else f"{path} ({size / 2**20:.1f} MiB)")
    return 0
