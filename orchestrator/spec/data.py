"""`data`: the images, their split and augmentation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from orchestrator.catalog import DATASET_SIZES, DATASETS
from orchestrator.spec.augmentation import AugmentationChoice
from orchestrator.spec.base import Section, broken_rule, known_in


def subset_rule(size: int, images: int, classes: int, fraction: float) -> str | None:
    """The rule that a subset breaks: at most the images that the validation split leaves, at least one of a class."""
    if size > images:
        return f"only {images} training images are left after validation_fraction {fraction:g}"
    return f"must be >= {classes}, one image of each class" if size < classes else None


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

    def refused_subset(self, size: int | None) -> str | None:
        """The rule that a subset of the training split breaks, None where the data set's size is not known."""
        if self._size is None or size is None:
            return None
        images, classes = self._size
        return subset_rule(size, images - round(images * self.validation_fraction), classes, self.validation_fraction)

    @property
    def _size(self) -> tuple[int, int] | None:
        """Training images and classes, where they are known; other files may hold any number."""
        return DATASET_SIZES.get(self.dataset) if self.verify else None

    @model_validator(mode="after")
    def _images_suffice(self) -> Self:
        if self._size is not None:
            images, classes = self._size
            held_out = round(images * self.validation_fraction)
            if not classes <= held_out <= images - classes:
                rule = f"holds out {held_out} of {images} training images; both parts need one of all {classes} classes"
                raise broken_rule("validation_fraction", rule, self.validation_fraction)
        if refused := self.refused_subset(self.train_samples):
            raise broken_rule("train_samples", refused, self.train_samples)
        return self
