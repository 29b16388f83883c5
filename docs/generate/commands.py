"""The reference of the command line as a Markdown page, by Typer's own generator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import typer
from typer.cli import get_docs_for_click

from orchestrator.cli.app import app
from orchestrator.cli.pages import COMMON, EXIT_CODES, FILES, PAGES, VARIABLES, Page

PAGE = "reference/commands.md"
_AS_IT_STANDS = re.compile(r"\x08\n((?:.+\n)+)")
"""A paragraph that help shows line by line."""
_TYPE = re.compile(r"(?<=[A-Z]) <[^`>]+>(?=`)")
"""Of an argument, in Python's words."""


def _end_of(page: Page) -> str:
    examples = "\n".join(page.examples)
    variables = {name: VARIABLES[name] for name in (*page.variables, *COMMON)}
    parts = [f"**Examples**:\n\n```text\n{examples}\n```\n", _table("Exit codes", {**EXIT_CODES, **page.codes})]
    return "\n".join([*parts, _table("Environment", variables)])


def _table(title: str, rows: Mapping[str, str]) -> str:
    return f"**{title}**:\n\n" + "".join(f"* `{name}`: {text}\n" for name, text in rows.items())


def page() -> str:
    """Every command with its arguments, options, examples, exit codes and variables, as `--help` tells them."""
    command: Any = typer.main.get_command(app)
    for name, one in command.commands.items():
        one.epilog = _end_of(PAGES[name])
    command.epilog = "\n".join(
        [_table("Exit codes", EXIT_CODES), _table("Environment", VARIABLES), _table("Files", FILES)]
    )
    with typer.Context(command, info_name="orchestrator") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="orchestrator", title="Every command")
    text = _TYPE.sub("", text)
    return _AS_IT_STANDS.sub(lambda paragraph: f"```text\n{paragraph[1]}```\n", text)
