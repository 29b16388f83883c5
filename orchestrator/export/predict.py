"""Asking an exported student about images: files, or those of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.data.decode import ENDINGS, open_image, pixels, size_text
from orchestrator.data.images import Dataset
from orchestrator.errors import DataError, UsageError
from orchestrator.export.blueprint import Blueprint, Format
from orchestrator.export.formats import Exported


@dataclass(frozen=True)
class Prediction:
    """What a student takes an image for."""

    image: str
    top: tuple[tuple[str, float], ...]
    """Classes and their probabilities, the most probable first."""
    label: str | None = None
    """The image's class, where it is known."""

    @property
    def right(self) -> bool:
        return self.top[0][0] == self.label


Batch = tuple[list[str], Tensor, list[str | None]]
"""Names of images, the images, uint8 [B, C, H, W], and their classes where they are known."""


def model_file(folder: Path) -> Path | None:
    """What an exported folder is run by: weights, else ONNX, else a program of torch; None where it has none."""
    return next((path for format in Format if (path := folder / format.file).is_file()), None)


def predict(exported: Exported, batches: Iterable[Batch], top: int) -> Iterator[Prediction]:
    """The student's `top` classes for each image of each batch, in order."""
    classes = exported.blueprint.classes
    for names, images, labels in batches:
        with torch.inference_mode():
            probabilities = exported.logits(images.float() / 255).double().softmax(1)
        values, numbers = probabilities.topk(min(top, len(classes)))
        for name, label, mine, of in zip(names, labels, values.tolist(), numbers.tolist(), strict=True):
            yield Prediction(name, tuple((classes[n], value) for n, value in zip(of, mine, strict=True)), label)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and the image files at any depth of the folders that are, in the order of their names.

    Raises `UsageError` for a path that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in ENDINGS)
            if not inside:
                raise UsageError(f"there are no images in {path}", hint=f"their names end in {', '.join(ENDINGS)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"there is no file or folder {path}")
    return found


def from_files(blueprint: Blueprint, files: Iterable[Path], size: int, *, resize: bool = False) -> Iterator[Batch]:
    """Batches of at most `size` image files as the student takes them; colours become grey where it knows no other.

    Files of another size are resized where the student's training images were, or `resize` is given: the whole
    is covered and its centre taken. Raises `DataError` naming a file that is no image, or of another size.
    """
    if blueprint.image[0] not in (1, 3):
        raise UsageError(f"the student takes {blueprint.takes}, and files give grey or RGB ones")
    left = iter(files)
    while batch := list(islice(left, size)):
        images = torch.stack([_read(blueprint, file, resize) for file in batch])
        yield [str(file) for file in batch], images, [None] * len(batch)


def from_dataset(blueprint: Blueprint, dataset: Dataset, size: int) -> Iterator[Batch]:
    """Batches of the test images of a data set; raises `DataError` where it has other classes or images."""
    shape = tuple(dataset.test.images.shape[1:])
    if dataset.classes != blueprint.classes or shape != blueprint.image:
        raise DataError(
            f"{dataset.name} has {len(dataset.classes)} classes of images {list(shape)}; the student knows "
            f"{len(blueprint.classes)}, of images {list(blueprint.image)}",
            hint="try it on the data set that it was trained for",
        )
    test = dataset.test
    for start in range(0, len(test), size):
        labels = test.labels[start : start + size].tolist()
        names = [f"test {number}" for number in range(start, start + len(labels))]
        yield names, test.images[start : start + size], [dataset.classes[label] for label in labels]


def _read(blueprint: Blueprint, file: Path, resize: bool) -> Tensor:
    channels, height, width = blueprint.image
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    image = open_image(content, str(file))
    if image.size != (width, height) and not resize and blueprint.image_size is None:
        raise DataError(
            f"{file} is {size_text(image.size)} pixels, but the student takes {blueprint.takes}",
            hint="--resize resizes it: the shorter side, then the centre",
        )
    return pixels(image, channels, (width, height))
