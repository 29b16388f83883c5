"""What all commands have in common: how much they say, and help with examples, exit codes and environment variables."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.pages import COMMON, EXIT_CODES, FILES, PAGES, VARIABLES
from orchestrator.cli.terminal import Volume, tracebacks, volume
from orchestrator.errors import UsageError

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors alone.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show Ray's and MLflow's own lines too, and tracebacks.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Command(TyperCommand):
    """A command whose help ends as a manual's page does, and whose arguments stand in it as they do in a manual's."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = [str(self.options_metavar)]
        for argument in self._arguments:
            name = f"{argument.metavar}..." if argument.nargs != 1 else str(argument.metavar)
            pieces.append(name if argument.required else f"[{name}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments = {str(argument.metavar): argument.get_help_record(ctx)[1] for argument in self._arguments}
        if arguments:
            _write_table(formatter, "Arguments", arguments)
        options = (param.get_help_record(ctx) for param in self.get_params(ctx) if param.param_type_name == "option")
        _write_table(formatter, "Options", dict(record for record in options if record))

    @property
    def _arguments(self) -> list[Any]:
        return [param for param in self.params if param.param_type_name == "argument"]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        page = PAGES[str(self.name)]
        _write_lines(formatter, "Examples", page.examples)
        _write_table(formatter, "Exit codes", {**EXIT_CODES, **page.codes})
        _write_table(formatter, "Environment", {name: VARIABLES[name] for name in (*page.variables, *COMMON)})


class Group(TyperGroup):
    """The program itself."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_table(formatter, "Exit codes", EXIT_CODES)
        _write_table(formatter, "Environment", VARIABLES)
        _write_table(formatter, "Files", FILES)
        formatter.write("\n`orchestrator COMMAND --help` has examples of each command.\n")


def _write_lines(formatter: Any, title: str, lines: tuple[str, ...]) -> None:
    with formatter.section(title):
        for line in lines:
            formatter.write(f"  {line}\n")


def _write_table(formatter: Any, title: str, rows: dict[str, str]) -> None:
    with formatter.section(title):
        formatter.write_dl(list(rows.items()))


def with_volume(command: Callable[..., int]) -> Callable[..., int]:
    """The command with --quiet, --verbose and --debug, which are the same everywhere on the line."""
    taken = {"quiet": QuietOption, "verbose": VerboseOption, "debug": DebugOption}

    @functools.wraps(command)
    def wrapped(*, quiet: bool, verbose: bool, debug: bool, **given: Any) -> int:
        set_volume(quiet, verbose, debug)
        return command(**given)

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in taken.items()
    ]
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**command.__annotations__, **taken}
    return wrapped


def set_volume(quiet: bool, verbose: bool, debug: bool) -> None:
    """Take in the flags, wherever on the line they stood; raises `UsageError` where they contradict each other."""
    if (quiet and (verbose or volume.get() is Volume.VERBOSE)) or (verbose and volume.get() is Volume.QUIET):
        raise UsageError("--quiet and --verbose exclude each other")
    if quiet or verbose:
        volume.set(Volume.QUIET if quiet else Volume.VERBOSE)
    if debug or verbose:
        tracebacks.set(True)
    if verbose:
        logging.getLogger("orchestrator").setLevel(logging.DEBUG)
