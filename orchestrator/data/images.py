"""Labelled images and data sets, held whole in memory as uint8 tensors."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.catalog import DATASETS
from orchestrator.errors import DataError


@dataclass(frozen=True)
class Images:
    """N labelled images; raises `DataError` when the tensors do not fit each other."""

    images: Tensor
    """uint8 [N, C, H, W], 0 to 255."""
    labels: Tensor
    """int64 [N], class numbers from 0."""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise DataError(f"images must be uint8 [N, C, H, W], not {describe(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1:
            raise DataError(f"labels must be int64 [N], not {describe(self.labels)}")
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images come with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Images:
        """The same images on `device`; tensors already there are shared, not copied."""
        return Images(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> Images:
        """Copies of the images at `indices` (int64 [M], on the images' device), in that order."""
        return Images(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A data set with its usual constants; raises `DataError` when the parts do not fit each other."""

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    """Name of each class; class k has label k."""
    mean: tuple[float, ...]
    """Per channel, of the training pixels scaled to 0..1."""
    std: tuple[float, ...]
    flip: bool
    """Whether the usual augmentation mirrors images left to right."""
    crop_padding: int
    """Pixels of zero padding, on each side, before the usual augmentation's random crop."""

    def __post_init__(self) -> None:
        for part, data in (("train", self.train), ("test", self.test)):
            if len(data) == 0:
                raise DataError(f"{self.name}: the {part} set has no images")
            low, high = int(data.labels.min()), int(data.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(f"{self.name}: {part} labels must be 0 to {len(self.classes) - 1}, not {low} to {high}")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataError(
                f"{self.name}: train images are {list(self.train.images.shape[1:])}, "
                f"test images {list(self.test.images.shape[1:])}"
            )
        counts = self.train.labels.bincount(minlength=len(self.classes))
        if (counts == 0).any():
            empty = self.classes[int((counts == 0).nonzero()[0])]
            raise DataError(f"{self.name}: the class {empty!r} has no training image")
        channels = self.train.images.shape[1]
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            raise DataError(f"{self.name}: mean and std need {channels} values, and std values above 0")


def load_dataset(
    name: str,
    root: Path | None = None,
    *,
    verify: bool = True,
    download: bool = False,
    cache: Path | None = None,
    image_size: int | None = None,
    include_valid: bool = False,
) -> Dataset:
    """Load a registered data set.

    `root` is the folder that holds the files, None where the set is usually installed; `verify` checks the
    files' checksums; `download` fetches files that are missing; `cache` is a folder to keep decoded images (and
    downloads, without a root) in; `image_size`, in pixels, resizes; `include_valid` trains on the
    set's own validation part as well. A loader takes root and verify, and those of the others that it names as
    parameters. Raises `RegistryError` for an unknown name, `DataError` for missing or
    damaged files, naming them or the root, and for an `image_size` or
    `include_valid` that the loader does not take.
    """
    loader = DATASETS[name]
    taken = inspect.signature(loader).parameters
    if image_size is not None and "image_size" not in taken:
        raise DataError(
            f"data.image_size is {image_size}, but {name} is not resized", hint="leave data.image_size unset"
        )
    if include_valid and "include_valid" not in taken:
        raise DataError(f"data.include_valid is true, but {name} has no validation part of its own")
    options = {"download": download, "cache": cache, "image_size": image_size, "include_valid": include_valid}
    try:
        return loader(root=root, verify=verify, **{name: value for name, value in options.items() if name in taken})
    except DataError as error:
        if root is None or str(root) in error.message:
            raise
        raise DataError(f"data.root: {root}: {error.message}", hint=error.hint) from error


def describe(tensor: Tensor) -> str:
    """Type and shape, as in "uint8 [2, 3]"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
