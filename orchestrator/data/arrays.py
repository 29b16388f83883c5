"""Images that come as arrays: one .npz or .safetensors file, or a folder of .npy files."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from orchestrator.data.bundle import Bundle
from orchestrator.data.cache import cached
from orchestrator.data.decode import decoded
from orchestrator.data.images import Dataset, describe
from orchestrator.data.published import damaged
from orchestrator.data.stats import channel_stats
from orchestrator.errors import DataError

NAMES = ("train_images", "train_labels", "test_images", "test_labels")
_LAYOUT = (
    f"data.root must be a .npz or .safetensors file with the arrays {', '.join(NAMES)}, or a folder with one such "
    "file or with the four as .npy files"
)
_NPY_ERRORS = (
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_arrays(root: Path | None = None, verify: bool = True, *, cache: Path | None = None) -> Dataset:
    """The arrays train_images, train_labels, test_images and test_labels in or below `root`.

    Images are uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, labels whole numbers [N] from
    0. Classes are named by their numbers. Normalised by the training pixels; the standard augmentation mirrors
    RGB images only, and pads an eighth of the size for the crop. `verify` changes nothing. Raises `DataError`
    naming the file, and the array where it is one that is wrong.
    """
    if root is None:
        raise DataError("arrays needs data.root, the file or folder with the arrays", hint=_LAYOUT)
    files = _find(root)
    stamps = [
        [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(set(files.values()))
    ]
    images = decoded(cached(cache, "arrays", stamps, lambda: _read(files)))
    channels, height, width = images.train.images.shape[1:]
    return Dataset(
        name="arrays",
        train=images.train,
        test=images.test,
        classes=tuple(str(number) for number in range(int(images.train.labels.max()) + 1)),
        mean=images.mean,
        std=images.std,
        flip=channels == 3,
        crop_padding=min(height, width) // 8,
    )


def _find(root: Path) -> dict[str, Path]:
    """The file of each array."""
    if root.is_file():
        if root.suffix not in (".npz", ".safetensors"):
            raise DataError(f"{root} is not an .npz or .safetensors file", hint=_LAYOUT)
        return dict.fromkeys(NAMES, root)
    single = {name: root / f"{name}.npy" for name in NAMES}
    there = [path for path in single.values() if path.is_file()]
    whole = sorted([*root.glob("*.npz"), *root.glob("*.safetensors")])
    if len(whole) + bool(there) > 1:
        raise DataError(f"{root} holds more than one set of arrays: {', '.join(p.name for p in [*whole, *there])}")
    if whole:
        return dict.fromkeys(NAMES, whole[0])
    if lacking := [str(path) for path in single.values() if path not in there]:
        raise DataError(f"there is no {lacking[0]}", hint=_LAYOUT)
    return single


def _read(files: Mapping[str, Path]) -> Bundle:
    first = next(iter(files.values()))
    if first.suffix == ".safetensors":
        raw = _safetensors(first)
    elif first.suffix == ".npz":
        raw = _npz(first)
    else:
        raw = {name: _npy_file(path) for name, path in files.items()}
    tensors: dict[str, Tensor] = {}
    for part in ("train", "test"):
        for kind, check in (("images", _images), ("labels", _labels)):
            name = f"{part}_{kind}"
            path = files[name]
            tensors[name] = check(raw[name], str(path) if path.suffix == ".npy" else f"{path}:{name}")
        images, labels = len(tensors[f"{part}_images"]), len(tensors[f"{part}_labels"])
        if images != labels:
            raise DataError(f"{first}: {part}_images has {images} images, {part}_labels {labels} labels")
    known, path = tensors["train_labels"], files["train_labels"]
    if (last := int(known.max())) >= len(known):
        # Before a name is made for each class: one stray label may ask for billions.
        where = str(path) if path.suffix == ".npy" else f"{path}:train_labels"
        raise DataError(f"{where} has the label {last}, but {len(known)} images cannot show {last + 1} classes")
    mean, std = channel_stats(tensors["train_images"])
    return Bundle(tensors, {"mean": mean, "std": std})


def _npy(source: Any, where: str) -> Tensor:
    """The array in an open .npy file."""
    try:
        array = np.lib.format.read_array(source, allow_pickle=False)
        # Tensors have the machine's byte order and run forwards.
        return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
    except _NPY_ERRORS as error:
        raise damaged(where, f"cannot be read: {error}") from error


def _npy_file(path: Path) -> Tensor:
    try:
        with path.open("rb") as file:
            return _npy(file, str(path))
    except OSError as error:
        raise damaged(str(path), f"cannot be read: {error}") from error


def _npz(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            for name in NAMES:
                count = members.count(f"{name}.npy")
                if count != 1:
                    raise DataError(f"{path} has the array {name} {count} times, not once", hint=_LAYOUT)
                with archive.open(f"{name}.npy") as member:
                    found[name] = _npy(member, f"{path}:{name}")
    except (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(str(path), f"cannot be read: {error}") from error
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if lacking := [name for name in NAMES if name not in names]:
                raise DataError(f"{path} does not have the array {lacking[0]}", hint=_LAYOUT)
            return {name: file.get_tensor(name) for name in NAMES}
    except (OSError, safetensors.SafetensorError) as error:
        raise damaged(str(path), f"cannot be read as safetensors: {error}") from error


def _images(array: Tensor, where: str) -> Tensor:
    """uint8 [N, C, H, W]."""
    if array.dtype != torch.uint8 or array.dim() not in (3, 4):
        raise DataError(f"{where} is {describe(array)}; images must be uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]")
    if 0 in array.shape:
        raise DataError(f"{where} has no images: its shape is {list(array.shape)}")
    if array.dim() == 3:
        return array.unsqueeze(1)
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if first == last:
        raise DataError(
            f"{where} has the shape {list(array.shape)}: one of the second and the last number must be 1 or 3, the "
            "channels, and the other not"
        )
    return array if first else array.permute(0, 3, 1, 2).contiguous()


def _labels(array: Tensor, where: str) -> Tensor:
    """int64 [N]."""
    if array.dtype.is_floating_point or array.dtype.is_complex or array.dtype == torch.bool or array.dim() != 1:
        raise DataError(f"{where} is {describe(array)}; labels must be whole numbers [N]")
    labels = array.long()
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{where} has the label {int(labels.min())}; they begin at 0")
    return labels
