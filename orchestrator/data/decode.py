"""Image files decoded, once, into one uint8 tensor for each part of a data set."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from orchestrator.data.bundle import Bundle
from orchestrator.data.cache import cached
from orchestrator.data.images import Images
from orchestrator.data.published import damaged
from orchestrator.data.stats import channel_stats
from orchestrator.data.tree import FileTree
from orchestrator.errors import DataError

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Pillow reads more formats, some of them through other programs.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F")
"""Modes, and beginnings of modes, with more than 8 bits a channel."""
_CHUNK = 64
_MAX_THREADS = 16


@dataclass(frozen=True)
class Decoded:
    """Both parts, and the training pixels' mean and standard deviation per channel, scaled to 0..1."""

    train: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]


Files = Sequence[tuple[str, int]]
"""Name and label of each file."""


def decode(
    name: str,
    tree: FileTree,
    train: Files,
    test: Files,
    *,
    channels: Literal["auto"] | int,
    image_size: int | None,
    cache: Path | None,
) -> Decoded:
    """Every image of both parts, in the order given, uint8 [N, C, H, W]; kept in `cache`, if there is one.

    `channels` is 3, 1, or "auto": 1 where all the files are grey. Images are resized to `image_size` pixels:
    their shorter side to that length, then the centre. Without it all must have the first one's size. Raises
    `DataError` naming the file that is no image, cut short, of more than 8 bits, or of another size.
    """
    parts = {"train": train, "test": test}

    def make() -> Bundle:
        names = [file for files in parts.values() for file, _ in files]
        depth = _channels(tree, names) if channels == "auto" else channels
        size = (image_size, image_size) if image_size else _open(tree, names[0]).size
        reader = _Reader(tree, depth, image_size, size, names[0])
        tensors = {}
        for part, files in parts.items():
            tensors[f"{part}_images"] = reader.read([file for file, _ in files])
            tensors[f"{part}_labels"] = torch.tensor([label for _, label in files], dtype=torch.int64)
        mean, std = channel_stats(tensors["train_images"])
        return Bundle(tensors, {"mean": mean, "std": std})

    stamps = [[part, file, label, *tree.stamps[file]] for part, files in parts.items() for file, label in files]
    bundle = cached(cache, name, [str(tree.where.resolve()), stamps, channels, image_size], make)
    return decoded(bundle)


def decoded(bundle: Bundle) -> Decoded:
    """The parts that a bundle holds."""
    train, test = (
        Images(bundle.tensors[f"{part}_images"], bundle.tensors[f"{part}_labels"]) for part in ("train", "test")
    )
    return Decoded(train, test, tuple(bundle.info["mean"]), tuple(bundle.info["std"]))


@dataclass(frozen=True)
class _Reader:
    tree: FileTree
    channels: int
    image_size: int | None
    size: tuple[int, int]
    """Width and height."""
    first: str
    """The file whose size all must have."""

    def read(self, names: Sequence[str]) -> Tensor:
        width, height = self.size
        images = torch.empty(len(names), self.channels, height, width, dtype=torch.uint8)

        def work(start: int) -> None:
            for index in range(start, min(start + _CHUNK, len(names))):
                images[index] = self._pixels(names[index])

        pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
        try:
            # In order, so that of several bad files it is always the first that is named.
            for _ in pool.map(work, range(0, len(names), _CHUNK)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return images

    def _pixels(self, name: str) -> Tensor:
        """uint8 [C, H, W]."""
        image = _open(self.tree, name, load=True)
        if self.image_size is None and image.size != self.size:
            raise DataError(
                f"{self.tree.label(name)} is {size_text(image.size)} pixels, but {self.tree.label(self.first)} is "
                f"{size_text(self.size)}",
                hint="all images must have one size; set data.image_size to resize them",
            )
        return pixels(image, self.channels, self.size)


def _channels(tree: FileTree, names: Sequence[str]) -> int:
    return 1 if all(_open(tree, name).mode in _GREY for name in names) else 3


def _open(tree: FileTree, name: str, *, load: bool = False) -> Image.Image:
    return open_image(tree.read(name), tree.label(name), load=load)


def open_image(content: bytes, label: str, *, load: bool = True) -> Image.Image:
    """The image in a file's content, its pixels read only if asked for; `label` names the file in errors.

    Raises `DataError` for what is no image, cut short, or of more than 8 bits a channel.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if load:
            image.load()
    except (
        Image.DecompressionBombError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise damaged(label, f"is not an image that can be read: {_reason(error)}") from error
    if image.mode.startswith(_DEEP):
        raise DataError(
            f"{label} has more than 8 bits a channel (mode {image.mode})",
            hint="convert the images to 8 bits a channel",
        )
    return image


def pixels(image: Image.Image, channels: int, size: tuple[int, int]) -> Tensor:
    """The image as uint8 [channels, H, W], grey or RGB, of a size in width and height.

    One of another size is resized to cover that, and its centre taken.
    """
    width, height = size
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != size:
        scale = max(width / image.width, height / image.height)
        covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
        image = image.resize(covering, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    content = bytearray(image.tobytes())
    return torch.frombuffer(content, dtype=torch.uint8).view(height, width, channels).permute(2, 0, 1)


def _reason(error: Exception) -> str:
    # Pillow's own text names a buffer in memory.
    return "its format is not known" if "cannot identify" in str(error) else str(error)


def size_text(size: tuple[int, int]) -> str:
    """Width and height."""
    return f"{size[0]} x {size[1]}"
