"""`data`: the images, their split and augmentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.catalog import DATASETS
from orchestrator.spec.augmentation import AugmentationChoice
from orchestrator.spec.base import Section, known_in


class DataSpec(Section):
    """Which images the student learns from. Test images are set apart by the data set itself."""

    dataset: Annotated[str, known_in(DATASETS)] = Field(description="Name of a registered data set.")
    root: str | None = Field(
        None,
        description="Folder that holds the data set's files; may use ~ and ${env:NAME}. Unset: where it is usual.",
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the training images, per class, held out to choose configurations on.",
    )
    train_samples: int | None = Field(
        None,
        ge=1,
        description="Student's training images: a stratified subset of this size; unset: the whole split.",
    )
    augmentation: AugmentationChoice = Field(
        "standard",
        description="none, standard (the data set's usual random crop and flip), or a section of what to vary.",
    )
    verify: bool = Field(True, description="Check the files' checksums; false takes other files of the same format.")
