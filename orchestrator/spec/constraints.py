"""Rules between searched values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_CONSTRAINT = re.compile(r"^\s*(\S+)\s*(<=|>=)\s*(\S+)\s*$")


class Constraint:
    """`left <= right` (or >=) between dotted paths or numbers, kept by moving a searched value.

    Where a drawn point breaks the rule, the left side is set to the right side's value if it is
    searched, else the right side to the left's. A grid leaves such points out.
    """

    def __init__(self, text: str) -> None:
        match = _CONSTRAINT.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not of the form 'path <= path' or 'path >= path'")
        self.text = text
        self.left, self.operator, self.right = match.groups()

    @property
    def paths(self) -> list[str]:
        return [side for side in (self.left, self.right) if _number(side) is None]

    def holds(self, look_up: Mapping[str, Any]) -> bool:
        """Whether the rule holds; where a field is absent, as in another form of its section, it does."""
        if any(path not in look_up for path in self.paths):
            return True
        left, right = self._values(look_up)
        return bool(left <= right if self.operator == "<=" else left >= right)

    def repair(self, point: Mapping[str, Any], look_up: Mapping[str, Any]) -> dict[str, Any]:
        """`point` with one searched value moved so that the rule holds, if either side is searched."""
        if self.holds(look_up):
            return dict(point)
        left, right = self._values(look_up)
        if self.left in point:
            return {**point, self.left: right}
        return {**point, self.right: left} if self.right in point else dict(point)

    def _values(self, look_up: Mapping[str, Any]) -> tuple[Any, Any]:
        return tuple(  # type: ignore[return-value]
            look_up[side] if (number := _number(side)) is None else number for side in (self.left, self.right)
        )


def _number(text: str) -> float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


def _constraint_text(text: str) -> str:
    try:
        constraint = Constraint(text)
    except ValueError as error:
        raise PydanticCustomError("rule", "{rule}", {"rule": str(error)}) from None
    if not constraint.paths:
        raise PydanticCustomError("rule", "{rule}", {"rule": "must name at least one field"})
    return text


ConstraintText = Annotated[str, AfterValidator(_constraint_text)]
