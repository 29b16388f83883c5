"""Some of a data set's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from orchestrator.data.images import Dataset, Images
from orchestrator.errors import DataError
from orchestrator.registry import nearest


def keep_classes(dataset: Dataset, chosen: Sequence[str | int]) -> Dataset:
    """The data set with the `chosen` classes alone, by name or number, numbered anew in its own order.

    Mean and standard deviation stay those of the whole set. Raises `DataError` for a class that is not there or
    chosen twice, and for fewer than two.
    """
    numbers = [_number(dataset, item) for item in chosen]
    if twice := [item for item, number in zip(chosen, numbers, strict=True) if numbers.count(number) > 1]:
        raise DataError(f"data.classes has the class {twice[-1]!r} twice")
    if len(numbers) < 2:
        raise DataError(f"data.classes must keep at least two classes, not {len(numbers)}")
    kept = torch.tensor(sorted(numbers))
    anew = torch.full((len(dataset.classes),), -1, dtype=torch.int64)
    anew[kept] = torch.arange(len(kept))

    def part(images: Images) -> Images:
        labels = anew[images.labels]
        there = (labels >= 0).nonzero().flatten()
        return Images(images.images[there], labels[there])

    return replace(
        dataset,
        train=part(dataset.train),
        test=part(dataset.test),
        classes=tuple(dataset.classes[number] for number in sorted(numbers)),
    )


def _number(dataset: Dataset, item: str | int) -> int:
    if isinstance(item, str):
        if item in dataset.classes:
            return dataset.classes.index(item)
        close = nearest(item, dataset.classes)
        more = ", ..." if len(dataset.classes) > 20 else ""
        hint = f"did you mean {close!r}?" if close else f"its classes: {', '.join(dataset.classes[:20])}{more}"
        raise DataError(f"data.classes has {item!r}, which is no class of {dataset.name}", hint=hint)
    if not 0 <= item < len(dataset.classes):
        raise DataError(
            f"data.classes has the number {item}, but {dataset.name} has classes 0 to {len(dataset.classes) - 1}"
        )
    return item
