"""The Typer application, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from orchestrator import __version__
from orchestrator.cli import (
    compare,
    control,
    doctor,
    export,
    extend,
    logs,
    predict,
    report,
    results,
    run,
    specs,
    status,
    submit,
    ui,
)
from orchestrator.cli.command import (
    Command,
    DebugOption,
    Group,
    QuietOption,
    VerboseOption,
    set_volume,
    with_volume,
)
from orchestrator.cli.failure import asks_for_json, failure
from orchestrator.cli.terminal import tracebacks
from orchestrator.environment import version_of
from orchestrator.errors import OrchestratorError
from orchestrator.store.home import HOME_VARIABLE

SUMMARY = """
Specs in, compared runs out: searches over knowledge-distillation hyperparameters.

\b
  orchestrator validate SPEC               check it, tell every problem
  orchestrator plan SPEC                   what it would run, and how much
  orchestrator run specs/quickstart.yaml   run it, or continue it
  orchestrator status quickstart --follow  how far it is, meanwhile
  orchestrator results quickstart          its variants compared, again
  orchestrator report quickstart           all of it on one page, with charts
  orchestrator compare quickstart other    several experiments side by side
  orchestrator ui                          its runs in MLflow
  orchestrator submit SPEC --address URL   run it on a Ray cluster
  orchestrator doctor                      what keeps any from running here
"""

app = typer.Typer(
    cls=Group,
    help=SUMMARY,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_versions(wanted: bool) -> None:
    """The package's version, and those of what does its work, none of which is loaded for it."""
    if wanted:
        parts = ", ".join(f"{package} {version_of(package)}" for package in ("torch", "ray", "mlflow"))
        print(f"orchestrator {__version__} ({parts})")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help=f"Folder of experiments and the MLflow store, or a URI such as s3://bucket/prefix; "
            f"default {HOME_VARIABLE}, else ./.orchestrator.",
        ),
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_versions, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    set_volume(quiet, verbose, debug)
    if home is not None:
        # The same as after the command, where another one is stronger.
        context.default_map = {str(context.invoked_subcommand): {"home": home}}


def _add(command: Callable[..., int], summary: str, name: str | None = None) -> None:
    app.command(name, short_help=summary, cls=Command)(with_volume(command))


_add(specs.validate, "Check a spec and tell every problem at once.")
_add(specs.plan, "Show what a spec would run, and how long that may take.")
_add(run.run, "Run an experiment, or continue it; repeats nothing.")
_add(submit.submit, "Run an experiment on a Ray cluster, driver included.")
_add(results.results, "Show an experiment's trials and compare its variants.")
_add(report.report, "Write an experiment's report: one page with charts.")
_add(compare.compare, "Compare experiments: specs, variants, and how fair it is.")
_add(export.export, "Write a trained student, with its card, for others.")
_add(predict.predict, "Tell which classes a trained student takes images for.")
_add(status.status, "Tell how far an experiment is; --follow keeps telling.")
_add(logs.logs, "Print an experiment's log, or what ended a trial.")
_add(control.stop, "End an experiment or some trials; results are kept.")
_add(control.pause, "Interrupt an experiment as Ctrl-C does; run continues it.")
_add(extend.extend, "Add samples, final seeds, time or variants.")
_add(results.list_experiments, "List experiments, the latest first.", "list")
_add(doctor.doctor, "Check what experiments need, and tell what to do.")
_add(ui.ui, "Open MLflow's pages on the home folder's store.")
_add(specs.schema, "Print the spec's JSON Schema, for editors.")


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the run failed, 2 bad spec or usage, 130 interrupted, 141 its reader left."""
    sys.exit(copy_context().run(_run, sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        result: Any = app(arguments, prog_name="orchestrator", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except TyperException as error:
        usage: Any = error  # typer's public name for it lacks what all of its kind have
        usage.show()
        return _told(arguments, usage.format_message(), int(usage.exit_code), "UsageError")
    except OrchestratorError as error:
        if tracebacks.get():
            console.print_exception()
        console.print("[bold red]error:[/] ", end="")
        console.print(str(error), markup=False)
        return _told(arguments, error, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted")
        return _told(arguments, "interrupted", 130, "KeyboardInterrupt")
    except (BrokenPipeError, SystemExit) as error:
        # Typer turns the first into the second.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # Whoever read our output has gone, as `head` does; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if tracebacks.get():
            console.print_exception()
        console.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        console.print(str(error), markup=False)
        if not tracebacks.get():
            console.print("  this is a fault of the orchestrator; --debug shows where")
        return _told(arguments, error, 1)


def _told(arguments: list[str], error: BaseException | str, code: int, kind: str | None = None) -> int:
    """The exit code; where JSON was asked for, the error is on stdout as that, too."""
    if asks_for_json(arguments):
        print(json.dumps(failure(error, code, kind), indent=2))
    return code
