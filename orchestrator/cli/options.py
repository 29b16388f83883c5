"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete


def choices(of: type[StrEnum]) -> str:
    """How help shows an option that takes one of these."""
    return "|".join(of)


class Format(StrEnum):
    """How a command prints what it has to say."""

    TABLE = "table"
    JSON = "json"


class RunFormat(StrEnum):
    """How a run tells what happens."""

    TABLE = "table"
    JSON = "json"
    JSON_LINES = "json-lines"


class RowFormat(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class ResultFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


SpecArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC", help="YAML file of the experiment.", show_default=False, autocompletion=complete.specs
    ),
]
NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Name or id of an experiment; default: the one that ran last.",
        autocompletion=complete.experiments,
    ),
]
NamedArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name or id of an experiment.", show_default=False, autocompletion=complete.experiments
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a value of the spec; may be repeated.",
        show_default=False,
    ),
]
HomeOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="Folder of experiments and the MLflow store, or a URI such as s3://bucket/prefix; "
        "default ORCHESTRATOR_HOME, else ./.orchestrator.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Tell what was written as JSON, for programs.")]
"""Of commands whose --format is that of a file."""
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="Of experiments that were submitted to this Ray cluster: its dashboard, such as http://10.0.0.1:8265; "
        "--home is a folder there.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar=choices(Format), help="table for people, json for programs.")
]
