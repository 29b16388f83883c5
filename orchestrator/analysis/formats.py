"""Values and figures as text in a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.search.trials import Change


def format_values(values: Mapping[str, Any]) -> str:
    """Searched values in one line, by the shortest name that tells them apart."""
    return ", ".join(f"{name} {_round(values[path])}" for path, name in short_names(values).items())


def format_changes(first: Mapping[str, Any], changes: Sequence[Change]) -> str:
    """Searched values in one line, and what they become in mid-training."""
    later = (f"after epoch {change.epoch}: {format_values(change.params)}" for change in changes)
    return "; ".join([format_values(first), *later])


def format_number(value: float | None) -> str:
    """A metric in a table."""
    return "-" if value is None else f"{value:.2f}"


def format_interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    """The ends of an interval in a table; `sign` "+" shows that of each."""
    return "-" if interval is None else f"{interval[0]:{sign}.2f} to {interval[1]:{sign}.2f}"


def format_p(p: float | None) -> str:
    """A p-value in a table."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """For each dotted path its last parts, as many as it takes to tell it from the others."""
    parts = {path: path.split(".") for path in paths}
    short: dict[str, str] = {}
    for path, mine in parts.items():
        for count in range(1, len(mine) + 1):
            tail = mine[-count:]
            if sum(other[-count:] == tail for other in parts.values()) == 1:
                break
        short[path] = ".".join(tail)
    return short


def _round(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def format_seconds(seconds: float) -> str:
    """A time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
