"""The Typer application, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
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
from orchestrator.environment import version_of
from orchestrator.errors import OrchestratorError
from orchestrator.store.home import HOME_VARIABLE

EXAMPLES = """
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
    help=EXAMPLES,
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
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_versions, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    if home is not None:
        # The same as after the command, where another one is stronger.
        context.default_map = {str(context.invoked_subcommand): {"home": home}}


app.command(short_help="Check a spec and tell every problem at once.")(specs.validate)
app.command(short_help="Show what a spec would run, and how long that may take.")(specs.plan)
app.command(short_help="Run an experiment, or continue it; repeats nothing.")(run.run)
app.command(short_help="Run an experiment on a Ray cluster, driver included.")(submit.submit)
app.command("results", short_help="Show an experiment's trials and compare its variants.")(results.results)
app.command(short_help="Write an experiment's report: one page with charts.")(report.report)
app.command(short_help="Compare experiments: specs, variants, and how fair it is.")(compare.compare)
app.command(short_help="Write a trained student, with its card, for others.")(export.export)
app.command(short_help="Tell which classes a trained student takes images for.")(predict.predict)
app.command(short_help="Tell how far an experiment is; --follow keeps telling.")(status.status)
app.command(short_help="Print an experiment's log, or what ended a trial.")(logs.logs)
app.command(short_help="End an experiment or some trials; results are kept.")(control.stop)
app.command(short_help="Interrupt an experiment as Ctrl-C does; run continues it.")(control.pause)
app.command(short_help="Add samples, final seeds, time or variants.")(extend.extend)
app.command("list", short_help="List experiments, the latest first.")(results.list_experiments)
app.command(short_help="Check what experiments need, and tell what to do.")(doctor.doctor)
app.command(short_help="Open MLflow's pages on the home folder's store.")(ui.ui)
app.command(short_help="Print the spec's JSON Schema, for editors.")(specs.schema)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the run failed, 2 bad spec or usage, 130 interrupted, 141 its reader left."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    # --debug is taken anywhere on the line.
    code = _run([argument for argument in given if argument != "--debug"], debug)
    sys.exit(code)


def _run(arguments: list[str], debug: bool) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        result: Any = app(arguments, prog_name="orchestrator", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except TyperException as error:
        usage: Any = error  # typer's public name for it lacks what all of its kind have
        usage.show()
        return int(usage.exit_code)
    except OrchestratorError as error:
        if debug:
            raise
        console.print("[bold red]error:[/] ", end="")
        console.print(str(error), markup=False)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted")
        return 130
    except (BrokenPipeError, SystemExit) as error:
        # Typer turns the first into the second.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # Whoever read our output has gone, as `head` does; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if debug:
            raise
        console.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        console.print(str(error), markup=False)
        console.print("  this is a fault of the orchestrator; --debug shows where")
        return 1
