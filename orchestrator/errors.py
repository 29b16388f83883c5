"""Typed errors: each says what is wrong, where, which value, and what to do about it.

Every error a user can cause or meet derives from `OrchestratorError`; the command line prints
`str(error)` and exits with `exit_code`, without a traceback.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any


class OrchestratorError(Exception):
    """An error with a message for the user, an optional hint, and the process's exit code."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


def first_line(error: BaseException) -> str:
    """An error's text up to its first line break; its type where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec."""

    path: str
    """Dotted path of the field, "" for the file as a whole."""
    rule: str
    """What the field must satisfy, as a sentence fragment."""
    value: Any = None
    has_value: bool = False
    hint: str | None = None
    line: int | None = None
    """Line of the file, counted from 1."""

    def __str__(self) -> str:
        where = self.path or "spec"
        line = f" (line {self.line})" if self.line is not None else ""
        value = f": {_short(self.value)}" if self.has_value else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{line}{value}: {self.rule}{hint}"


def _short(value: Any, limit: int = 80) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class SpecError(OrchestratorError):
    """A spec that cannot be used; carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: list[Problem], source: str | None = None) -> None:
        self.problems = problems
        self.source = source
        count = len(problems)
        head = f"{source or 'spec'}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in problems)]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.source)


class UsageError(OrchestratorError):
    """A command that cannot mean anything: a wrong option, a name that does not exist."""

    exit_code = 2


class RegistryError(OrchestratorError):
    """An unknown or twice-registered name."""

    exit_code = 2


class DataError(OrchestratorError):
    """A data set that is missing, damaged or does not fit the model."""


class CheckpointError(OrchestratorError):
    """A checkpoint that is missing, damaged or of another model."""


class BuildError(OrchestratorError):
    """The parts of a run do not fit together, so that it cannot start, whatever its seed."""

    exit_code = 2


class TeacherError(CheckpointError):
    """The teacher's weights cannot be used, by any trial."""


class TrackingError(OrchestratorError):
    """The tracking store cannot be reached or refuses what is written."""


class StorageError(OrchestratorError):
    """The store of a home that is a URI cannot be read or written; `passing`: trying again may help."""

    def __init__(self, message: str, *, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class ResourceError(OrchestratorError):
    """A trial needs more than the machine or cluster has, so that nothing can start."""

    exit_code = 2


class DivergenceError(OrchestratorError):
    """Training produced NaN or infinite values; `epoch` and `step` count from 1."""

    def __init__(self, what: str, *, epoch: int, step: int) -> None:
        super().__init__(
            f"{what} became NaN or infinite in epoch {epoch}, step {step}",
            hint="lower training.optimizer.lr, or set training.gradient_clip",
        )
        self.what = what
        self.epoch = epoch
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), epoch=self.epoch, step=self.step), (self.what,)
