"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32 x 32, RGB."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orchestrator.data.download import fetch
from orchestrator.data.images import Dataset, Images
from orchestrator.data.pickles import PickledArray, read_pickle, text_of
from orchestrator.data.published import damaged, data_root, missing, other_content
from orchestrator.data.tar import read_members

_VALUES = 3 * 32 * 32


@dataclass(frozen=True)
class _Layout:
    """The python version's files, with the MD5 of each as torchvision's datasets/cifar.py lists them."""

    name: str
    archive: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    label_key: str
    class_key: str
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def md5(self) -> dict[str, str]:
        return {**self.train, **self.test, **self.meta}


# Mean and standard deviation of all training pixels, the values in common use: CIFAR-10's as in
# github.com/kuangliu/pytorch-cifar/issues/19, CIFAR-100's as in the RepDistiller code (Tian et al. 2020).
_CIFAR10 = _Layout(
    name="cifar10",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
    label_key="labels",
    class_key="label_names",
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
_CIFAR100 = _Layout(
    name="cifar100",
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
    label_key="fine_labels",
    class_key="fine_label_names",
    classes=100,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


def load_cifar10(
    root: Path | None = None, verify: bool = True, *, download: bool = False, cache: Path | None = None
) -> Dataset:
    """CIFAR-10's python version, from its folder or straight from its archive; see `load_cifar100`."""
    return _load(_CIFAR10, root, verify, download, cache)


def load_cifar100(
    root: Path | None = None, verify: bool = True, *, download: bool = False, cache: Path | None = None
) -> Dataset:
    """CIFAR-100's python version with its 100 fine labels, from its folder or straight from its archive.

    Looked for in `root`/cifar-100-python, `root` and `root`/cifar-100-python.tar.gz; without a root in the
    `downloads` of `cache`, where `download` puts the archive. `verify` accepts only the published content,
    otherwise any number of images will do. Raises `DataError` for files that are missing or damaged, and
    for pickles that ask for more than data.
    """
    return _load(_CIFAR100, root, verify, download, cache)


def find_cifar(name: str, root: Path | None, cache: Path | None) -> Path:
    """The folder or archive that `name`, cifar10 or cifar100, would be read from; raises `DataError` without one."""
    layout = _CIFAR10 if name == _CIFAR10.name else _CIFAR100
    return _source(layout, data_root(layout.name, root, cache))


def _load(layout: _Layout, root: Path | None, verify: bool, download: bool, cache: Path | None) -> Dataset:
    place = data_root(layout.name, root, cache)
    if download and not any(path.exists() for path in _places(layout, place)):
        fetch(layout.name, place)
    contents = _contents(layout, place)
    parts: dict[str, dict[str, Any]] = {}
    for name, (where, content) in contents.items():
        if verify and hashlib.md5(content, usedforsecurity=False).hexdigest() != layout.md5[name]:
            raise other_content(where, layout.name)
        parts[name] = read_pickle(content, where)

    def images(names: Collection[str]) -> Images:
        found = [_images(layout, parts[name], contents[name][0]) for name in names]
        return Images(torch.cat([part.images for part in found]), torch.cat([part.labels for part in found]))

    (meta,) = layout.meta
    return Dataset(
        name=layout.name,
        train=images(layout.train),
        test=images(layout.test),
        classes=_class_names(layout, parts[meta], contents[meta][0]),
        mean=layout.mean,
        std=layout.std,
        flip=True,
        crop_padding=4,
    )


def _places(layout: _Layout, place: Path) -> list[Path]:
    return [place / layout.folder, place / next(iter(layout.test)), place / layout.archive]


def _source(layout: _Layout, place: Path) -> Path:
    """The folder with all files, or the archive; raises `DataError` where there is neither."""
    folder, single, archive = _places(layout, place)
    if not folder.is_dir() and single.is_file():
        folder = place
    if folder.is_dir():
        if lacking := [name for name in layout.md5 if not (folder / name).is_file()]:
            raise missing(layout.name, [folder], f"files {', '.join(lacking)}")
        return folder
    if not archive.is_file():
        raise missing(layout.name, [folder, archive])
    return archive


def _contents(layout: _Layout, place: Path) -> dict[str, tuple[str, bytes]]:
    """Of each file by name: what to call it in errors, and its bytes."""
    source = _source(layout, place)
    if source.is_dir():
        try:
            return {name: (str(source / name), (source / name).read_bytes()) for name in layout.md5}
        except OSError as error:
            raise damaged(str(error.filename or source), f"cannot be read: {error}", layout.name) from error
    members = read_members(source, [f"{layout.folder}/{name}" for name in layout.md5])
    return {name: (f"{source}:{layout.folder}/{name}", members[f"{layout.folder}/{name}"]) for name in layout.md5}


def _images(layout: _Layout, part: dict[str, Any], where: str) -> Images:
    data, labels = part.get("data"), part.get(layout.label_key)
    if not isinstance(data, PickledArray) or len(data.shape) != 2 or data.shape[1] != _VALUES:
        found = list(data.shape) if isinstance(data, PickledArray) else type(data).__name__
        raise damaged(where, f"must have uint8 [N, {_VALUES}] under 'data', not {found}", layout.name)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise damaged(where, f"must have a list of whole numbers under {layout.label_key!r}", layout.name)
    if len(labels) != data.shape[0]:
        raise damaged(where, f"has {data.shape[0]} images and {len(labels)} {layout.label_key}", layout.name)
    for label in labels:
        if not 0 <= label < layout.classes:
            raise damaged(where, f"has the label {label}; they are 0 to {layout.classes - 1}", layout.name)
    return Images(data.tensor().view(-1, 3, 32, 32), torch.tensor(labels, dtype=torch.int64))


def _class_names(layout: _Layout, meta: dict[str, Any], where: str) -> tuple[str, ...]:
    names = meta.get(layout.class_key)
    if not isinstance(names, list) or len(names) != layout.classes:
        raise damaged(where, f"must have {layout.classes} names under {layout.class_key!r}", layout.name)
    return tuple(text_of(name, where) for name in names)
