"""Reading `ray start` commands with Ray's own parser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import click
from ray.scripts.scripts import start


def options_of(arguments: list[str]) -> dict[str, Any]:
    """What `ray start` makes of its arguments; fails on one that it does not know."""
    try:
        return dict(start.make_context("ray start", list(arguments)).params)
    except click.ClickException as error:
        raise AssertionError(f"ray start {shlex.join(arguments)}: {error.format_message()}") from error


def started_in(line: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Environment and options of the `ray start` in a line of shell."""
    command = next(part for part in re.split(r"[;&|]+", line) if re.search(r"\bray start\b", part))
    words = shlex.split(command)
    at = words.index("start")
    assert words[at - 1].endswith("ray")
    environment = dict(word.split("=", 1) for word in words[: at - 1])
    return environment, options_of(words[at + 1 :])


def arguments_from(parameters: Mapping[str, str]) -> list[str]:
    """KubeRay's `rayStartParams` as the operator writes them; true and false are switches, but for a few."""
    arguments = []
    for name, value in parameters.items():
        assert isinstance(value, str), f"rayStartParams.{name}: {value!r} is not text"
        if value in ("true", "false") and name not in ("include-dashboard", "include-log-monitor", "log-color"):
            arguments += [f"--{name}"] if value == "true" else []
        else:
            arguments.append(f"--{name}={value}")
    return arguments
