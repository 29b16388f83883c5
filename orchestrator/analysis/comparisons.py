"""Variants compared with their references, and corrected for how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.analysis.difference import LEVEL, POWER, Difference, holm, paired, unpaired
from orchestrator.analysis.formats import format_p
from orchestrator.analysis.statistics import MIN_FOR_INTERVAL
from orchestrator.errors import UsageError
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.variants import variant_specs

DEFAULT_REFERENCE = "kd"


@dataclass(frozen=True)
class Comparison:
    """The test accuracy of one variant beside that of its reference, in percentage points."""

    variant: str
    reference: str
    is_paired: bool
    """Whether seeds are compared one by one; else the runs of both sides are independent."""
    difference: Difference | None
    """None where there are no runs to compare."""
    p_holm: float | None = None
    """After Holm's correction over the comparisons that were made together."""
    together: int = 1
    """How many those are."""

    @property
    def shown(self) -> bool:
        """Whether the difference is more than chance, by the corrected p."""
        return self.p_holm is not None and self.p_holm < LEVEL

    @cached_property
    def detectable(self) -> float | None:
        """Smallest true difference, in points, that most such experiments would show."""
        return self.difference.detectable(self.together) if self.difference else None

    def to_dict(self) -> dict[str, Any]:
        seen = self.difference
        return {
            "variant": self.variant,
            "reference": self.reference,
            "test": "paired t" if self.is_paired else "Welch t",
            "n": seen.count if seen else 0,
            "difference": seen and seen.mean,
            "interval_95": list(seen.interval) if seen and seen.interval else None,
            "p": seen and seen.p,
            "p_holm": self.p_holm,
            "comparisons": self.together,
            "shown": self.shown,
            "hedges_g": seen and seen.effect,
            "detectable": self.detectable,
        }

    def to_row(self) -> dict[str, Any]:
        """The same without nesting."""
        row = self.to_dict()
        interval = row.pop("interval_95") or (None, None)
        at = list(row).index("difference") + 1
        items = list(row.items())
        return dict([*items[:at], ("difference_low", interval[0]), ("difference_high", interval[1]), *items[at:]])


BySeed = Mapping[int, float]
"""Test accuracies in percent by seed."""


def compared(variant: str, values: BySeed, reference: str, others: BySeed, *, by_seed: bool = True) -> Comparison:
    """One comparison, not yet corrected for others."""
    seen = paired(others, values) if by_seed else unpaired([*others.values()], [*values.values()])
    return Comparison(variant, reference, by_seed, seen)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that are made together, with Holm's correction over those that could be tested."""
    tested = [c.difference.p for c in comparisons if c.difference and c.difference.p is not None]
    adjusted = iter(holm(tested))
    return [
        replace(c, p_holm=next(adjusted), together=len(tested)) if c.difference and c.difference.p is not None else c
        for c in comparisons
    ]


def references(spec: ExperimentSpec, chosen: str | None = None) -> dict[str, str]:
    """What each variant is compared with; those that are compared with none are left out.

    `chosen` is compared with all others. Without it a variant's own reference counts, then `default_reference`;
    what others name as their own is not compared itself.
    Raises `UsageError` where there is no such variant.
    """
    arms = variant_specs(spec)
    if chosen is not None and chosen not in arms:
        close = nearest(chosen, arms)
        raise UsageError(
            f"there is no variant {chosen!r} in {spec.name}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(arms)}",
        )
    shared = chosen or default_reference(spec)
    own = {} if chosen else {name: arm.reference for name, arm in arms.items() if arm.reference}
    found = {name: own.get(name, shared) for name in arms if name in own or name not in own.values()}
    return {name: reference for name, reference in found.items() if reference != name}


def default_reference(spec: ExperimentSpec) -> str:
    """The spec's own reference, else the variant named kd, else the first one."""
    arms = variant_specs(spec)
    return spec.search.reference or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in arms else next(iter(arms)))


def verdict(comparisons: Sequence[Comparison]) -> list[str]:
    """What the comparisons show, what they do not, and what they could not have shown, in sentences."""
    tested = [c for c in comparisons if c.p_holm is not None]
    shown = [c for c in tested if c.shown]
    unseen = [c for c in tested if not c.shown]
    lines = [f"{told(c)}." for c in shown]
    if unseen:
        one = {c.reference for c in unseen}
        what = f"from {one.pop()}" if len(one) == 1 else "from its reference"
        names = ", ".join(c.variant for c in unseen)
        if shown:
            lines.append(f"No difference {what} is shown for {names}.")
        else:
            lowest = min(c.p_holm for c in tested if c.p_holm is not None)
            over = f" after Holm's correction for {len(tested)} comparisons" if len(tested) > 1 else ""
            some = f"{names} does not differ" if len(tested) == 1 else f"of {names} none differs"
            which = "no variant differs" if len(tested) == len(comparisons) else some
            lines.append(f"No difference shown: {which} {what} by more than chance{over} (smallest p {lowest:.2g}).")
    lines += power(tested)
    lines += untested(comparisons)
    lines += [
        f"{c.variant} and {c.reference} differ by the same {abs(c.difference.mean):.2f} points with every seed: "
        "without any spread there is no test."
        for c in comparisons
        if c.difference and c.difference.interval and c.difference.p is None
    ]
    return lines


def untested(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence on what has too few runs for a test, if anything has."""
    few = [c for c in comparisons if c.difference and c.difference.interval is None]
    if not few:
        return []
    named = ", ".join(f"{c.variant} ({_runs(c)})" for c in few)
    return [f"Not tested: {named}; a test takes {MIN_FOR_INTERVAL}."]


def _runs(comparison: Comparison) -> str:
    """How many there are to compare."""
    count = comparison.difference.count if comparison.difference else 0
    many = "" if count == 1 else "s"
    if comparison.is_paired:
        return f"{count} seed{many} in common with {comparison.reference}"
    return f"{count} run{many}, against {comparison.reference}"


def told(comparison: Comparison) -> str:
    """A difference that is shown, in words; no whole sentence."""
    seen = comparison.difference
    if seen is None or seen.interval is None:
        return ""
    sign, side = (1, "better") if seen.mean > 0 else (-1, "worse")
    low, high = sorted(sign * end for end in seen.interval)
    return (
        f"{comparison.variant} is {side} than {comparison.reference} by {abs(seen.mean):.2f} points "
        f"({low:.2f} to {high:.2f}; p {format_p(comparison.p_holm)})"
    )


def power(tested: Sequence[Comparison]) -> list[str]:
    """How small a difference the experiment could have shown, where it shows none."""
    visible = sorted(c.detectable for c in tested if c.detectable is not None and not c.shown)
    if not visible:
        return []
    least, most = f"{visible[0]:.1f}", f"{visible[-1]:.1f}"
    size = least if least == most else f"{least} to {most}"
    return [
        f"With this spread and as many seeds, {100 * POWER:.0f} % of such experiments would show a true difference of "
        f"{size} points; most would miss a much smaller one."
    ]
