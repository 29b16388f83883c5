"""Errors as data, for programs that have asked for JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import Any

from orchestrator.errors import OrchestratorError, Problem, SpecError

about: ContextVar[dict[str, Any]] = ContextVar("about")
"""What a command knows of what it was about, for the error that ends it."""


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--format json` or `--json` stands in a command line, which may be one that cannot be read otherwise."""
    pairs = itertools.pairwise(arguments)
    return not {"--format=json", "--json"}.isdisjoint(arguments) or ("--format", "json") in pairs


def failure(error: BaseException | str, code: int, kind: str | None = None) -> dict[str, Any]:
    """What went wrong, as JSON-like data; of a spec every problem."""
    told: dict[str, Any] = {"kind": kind or type(error).__name__, "message": str(error), "hint": None}
    if isinstance(error, OrchestratorError):
        told |= {"message": error.message, "hint": error.hint}
    if isinstance(error, SpecError):
        told |= {"message": str(error).partition("\n")[0], "problems": [problem_dict(p) for p in error.problems]}
    return {**about.get({}), "error": told, "exit_code": code}


def problem_dict(problem: Problem) -> dict[str, Any]:
    """One problem of a spec, as JSON-like data."""
    try:
        json.dumps(problem.value, allow_nan=False)
    except (TypeError, ValueError):
        problem = replace(problem, value=str(problem.value))
    return asdict(problem)
