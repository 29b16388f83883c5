"""doctor: whether this machine, or a cluster, can run experiments, and what to do where it cannot."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.cli import complete
from orchestrator.cli.options import Format, FormatOption, HomeOption, SetOption
from orchestrator.cli.remote import ONE_PYTHON, run_there
from orchestrator.cli.tables import NARROW, table_of
from orchestrator.cli.terminal import is_quiet, screen_of_our_own
from orchestrator.errors import UsageError
from orchestrator.spec import load_spec
from orchestrator.store.home import Home

if TYPE_CHECKING:
    from orchestrator.execution.checks import Finding

_STYLES = {"ok": "green", "absent": "dim", "warning": "yellow", "broken": "red"}


def doctor(
    spec: Annotated[
        Path | None,
        typer.Argument(
            metavar="SPEC",
            help="YAML file of an experiment: look at what it needs, too.",
            autocompletion=complete.specs,
        ),
    ] = None,
    set: SetOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Ray cluster, all of whose nodes are looked at: HOST:PORT, or its dashboard's URL.",
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="FILE", help="Python on the cluster of a dashboard; default: python.")
    ] = None,
    pip: Annotated[
        bool, typer.Option("--pip", help="Have Ray install there what is needed, as `submit --pip` does.")
    ] = False,
    format: FormatOption = Format.TABLE,
    home: HomeOption = None,
) -> int:
    """Check what experiments need: versions, Ray, MLflow, devices, data sets, disk and memory.

    Begins nothing and leaves nothing behind. Exits with 1 where something is broken.
    """
    checked = None if spec is None else load_spec(spec, set)
    if python is not None and pip:
        raise UsageError(ONE_PYTHON)
    if address is not None and "://" in address:
        file = [] if checked is None else ["spec.yaml"]
        words = ["doctor", *file, "--address", "auto", "--format", format]
        return run_there(address, words, checked, home, python, pip)
    if python is not None or pip:
        option = "--pip" if pip else "--python"
        raise UsageError(f"{option} is for a cluster, by its dashboard's URL", hint="--address http://HEAD:8265")
    descriptor, name = tempfile.mkstemp(prefix="orchestrator-doctor-", suffix=".log")
    os.close(descriptor)
    with screen_of_our_own(Path(name)) as console:
        with console.status("Looking") if console.draws and format is Format.TABLE else nullcontext():
            from orchestrator.execution.doctor import diagnose

            findings = diagnose(Home(home), Path(name), checked, address)
        broken = sum(finding.state == "broken" for finding in findings)
        if format is Format.JSON:
            found = {"healthy": not broken, "findings": [finding.to_dict() for finding in findings]}
            console.file.write(json.dumps(found, indent=2) + "\n")
        else:
            print_findings(findings, console)
    if not broken:
        # Otherwise it may tell more.
        Path(name).unlink()
    return 1 if broken else 0


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """One row a check, what to do below what was found; then what it comes to."""
    nodes = any(finding.node for finding in findings)
    apart = nodes and console.width >= NARROW
    columns = (*(("node",) if apart else ()), "check", "", "found")
    table = table_of(*columns, text=("node", "check", ""), folded=("found",))
    last = None
    shown = [finding for finding in findings if not is_quiet() or finding.state in ("broken", "warning")]
    for finding in shown:
        found = escape(finding.found)
        if finding.advice and finding.state != "ok":
            found += f"\n[dim]{escape(finding.advice)}[/]"
        node, last = finding.node if finding.node != last else "", finding.node
        if node and not apart:
            table.add_row(f"[bold]{escape(node)}[/]", "", "")
        cells = [escape(finding.check), f"[{_STYLES[finding.state]}]{finding.state}[/]", found]
        table.add_row(*([escape(node)] if apart else []), *cells)
    if shown:
        console.print(table)
    counts = {state: sum(finding.state == state for finding in findings) for state in ("broken", "warning")}
    if counts["broken"]:
        console.print(f"[red]{counts['broken']} broken[/]: experiments will fail until that is mended")
    elif counts["warning"]:
        console.print(f"Experiments can run; {counts['warning']} warning{'s' if counts['warning'] > 1 else ''}")
    else:
        console.print("Experiments can run")
