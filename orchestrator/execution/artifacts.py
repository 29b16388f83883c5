"""Tables that are kept of a trial when it has ended, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.training import Evaluation, Mistake


def class_table(classes: Sequence[str], seen: Evaluation | None) -> str:
    """One row a class: its images, how many were right, and how many images were taken for it.

    `acc1` (recall) and `precision` are in percent, and empty where there is nothing to divide by.
    """
    counted = zip(classes, seen.classes if seen else (), strict=False)
    return _csv(
        ["class", "images", "correct", "predicted", "acc1", "precision"],
        [[name, *n, _percent(n.correct, n.images), _percent(n.correct, n.predicted)] for name, n in counted],
    )


def mistake_table(classes: Sequence[str], mistakes: Iterable[Mistake]) -> str:
    """One row a class: images whose targets were repaired, and what the teacher most often took them for, how often.

    The class with most comes first; those without any are left out.
    """
    by_class: dict[str, list[Mistake]] = {}
    for mistake in mistakes:
        by_class.setdefault(classes[mistake.label], []).append(mistake)
    rows = []
    for name, mine in by_class.items():
        most = max(mine, key=lambda mistake: mistake.samples)
        rows.append([name, sum(mistake.samples for mistake in mine), classes[most.taken_for], most.samples])
    return _csv(["class", "repaired", "taken_for", "times"], sorted(rows, key=lambda row: -row[1]))


def temperature_table(epochs: Sequence[Mapping[str, Any]]) -> str:
    """One row an epoch: samples by temperature; a column is named after its bin's lower edge.

    Where the bounds change in mid-training, that is its share of the way between them, and columns give them.
    """
    bins, bounds = len(epochs[0]["counts"]), [entry["bounds"] for entry in epochs]
    shares = [number / bins for number in range(bins)]
    low, high = bounds[0]
    if all(pair == bounds[0] for pair in bounds):
        edges = [f"{low + (high - low) * share:.6g}" for share in shares]
        return _csv(["epoch", *edges], [[entry["epoch"], *entry["counts"]] for entry in epochs])
    rows = [[entry["epoch"], *entry["bounds"], *entry["counts"]] for entry in epochs]
    return _csv(["epoch", "min", "max", *(f"{share:.6g}" for share in shares)], rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else ""


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
