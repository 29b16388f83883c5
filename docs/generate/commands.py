"""The reference of the command line as a Markdown page, by Typer's own generator."""

from __future__ import annotations

import re

import typer
from typer.cli import get_docs_for_click

from orchestrator.cli.app import app

PAGE = "reference/commands.md"
_AS_IT_STANDS = re.compile(r"\x08\n((?:.+\n)+)")
"""A paragraph that help shows line by line."""


def page() -> str:
    """Every command with its arguments and options, as `--help` tells them."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="orchestrator") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="orchestrator", title="Every command")
    return _AS_IT_STANDS.sub(lambda paragraph: f"```text\n{paragraph[1]}```\n", text)
