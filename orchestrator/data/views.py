"""Which augmentation of the images a run sees in which epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class View(NamedTuple):
    """One augmentation of all images: what `Augmentation` takes beside the samples' indices."""

    seed: int
    number: int


@dataclass(frozen=True)
class Views:
    """The views of a run, epoch by epoch; raises `ValueError` for a count below 1."""

    seed: int
    count: int | None = None
    """After so many epochs the views come again; None: every epoch has a new one."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be 1 or above, not {self.count}")

    def of(self, epoch: int) -> View:
        """The view of an epoch, counted from 0."""
        return View(self.seed, epoch if self.count is None else epoch % self.count)
