"""What makes the comparison of a search's variants unfair, and can be counted."""

from __future__ import annotations

from collections.abc import Mapping

MAX_NAMES = 3
"""Variants that are named with a number that they share."""


def unequal(counts: Mapping[str, int], what: str = "search trials") -> str | None:
    """A sentence where variants differ by more than one in their number of `what`, which is as far as turns go."""
    if not counts or max(counts.values()) - min(counts.values()) <= 1:
        return None
    shares: dict[int, list[str]] = {}
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        shares.setdefault(count, []).append(name)
    told = (f"{count} of {', '.join(names[:MAX_NAMES])}{_more(names)}" for count, names in shares.items())
    return f"Variants differ in {what}: {'; '.join(told)}. The best of more trials is better by chance alone."


def _more(names: list[str]) -> str:
    return f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
