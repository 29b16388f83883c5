"""Small data sets in the formats of the published ones."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2's cPickle wrote with protocol 2: byte strings as `str`, arrays of an old NumPy."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)

    def save_string(self, value: bytes) -> None:
        if len(value) < 256:
            self.write(b"U" + bytes([len(value)]) + value)
        else:
            self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    def save_array(self, array: np.ndarray) -> None:
        self.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01")
        self.save(array.shape)
        self.write(b"cnumpy\ndtype\n")
        self.save(array.dtype.str.replace("|", "").encode())
        self.write(b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        self.save(array.tobytes())
        self.write(b"tb")

    dispatch[bytes] = save_string
    dispatch[np.ndarray] = save_array


def python2_pickle(content: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file).dump(content)
    return file.getvalue()


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar10_parts(each: int = 4) -> dict[str, dict[bytes, Any]]:
    """The seven files' content, `each` images in a batch but 10 in the test batch; labels run 0..9 over and over."""

    def batch(number: int, count: int, title: str) -> dict[bytes, Any]:
        first = (number - 1) * each
        return {
            b"batch_label": title.encode(),
            b"labels": [(first + index) % 10 for index in range(count)],
            b"data": pixels(count, 3072, seed=number),
            b"filenames": [f"image_s_{index:06d}.png".encode() for index in range(count)],
        }

    names = b"airplane automobile bird cat deer dog frog horse ship truck".split()
    return {
        **{f"data_batch_{k}": batch(k, each, f"training batch {k} of 5") for k in range(1, 6)},
        "test_batch": batch(6, 10, "testing batch 1 of 1"),
        "batches.meta": {b"num_cases_per_batch": each, b"label_names": names, b"num_vis": 3072},
    }


def cifar100_parts() -> dict[str, dict[bytes, Any]]:
    def part(count: int, seed: int) -> dict[bytes, Any]:
        return {
            b"filenames": [f"{index}.png".encode() for index in range(count)],
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": [index % 100 for index in range(count)],
            b"coarse_labels": [index % 20 for index in range(count)],
            b"data": pixels(count, 3072, seed=seed),
        }

    return {
        "train": part(200, 1),
        "test": part(100, 2),
        "meta": {
            b"fine_label_names": [f"fine_{k}".encode() for k in range(100)],
            b"coarse_label_names": [f"coarse_{k}".encode() for k in range(20)],
        },
    }


def write_parts(folder: Path, parts: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in parts.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else python2_pickle(content))


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def image_bytes(array: np.ndarray, kind: str = "PNG") -> bytes:
    """[H, W] or [H, W, 3] as the content of an image file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def write_images(root: Path, part: str, counts: Mapping[str, int], shape: tuple[int, ...] = (8, 8, 3)) -> None:
    """`counts` PNG files in each class folder of root/part."""
    for number, (name, count) in enumerate(sorted(counts.items())):
        folder = root / part / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, array in enumerate(pixels(count, *shape, seed=number)):
            (folder / f"{index}.png").write_bytes(image_bytes(array))
