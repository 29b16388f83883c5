"""Where a data set's files are, found without reading them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.data.cifar import find_cifar
from orchestrator.data.cinic10 import find_cinic10
from orchestrator.data.fashion_mnist import find_fashion_mnist
from orchestrator.data.tiny_imagenet import find_tiny_imagenet
from orchestrator.errors import DataError

_FINDERS: dict[str, Callable[[Path | None, Path | None], Path]] = {
    "cifar10": partial(find_cifar, "cifar10"),
    "cifar100": partial(find_cifar, "cifar100"),
    "cinic10": find_cinic10,
    "fashion-mnist": find_fashion_mnist,
    "tiny-imagenet": find_tiny_imagenet,
}
PUBLISHED_SETS = tuple(_FINDERS)
"""Data sets of files that are published; `digits` comes with a package, others are a user's own."""


def find_dataset(name: str, root: Path | None, cache: Path | None = None) -> Path | None:
    """The file or folder that a data set would be read from; `root` and `cache` are as `load_dataset` has them.

    None for one that has no files of its own, or that another package brings. Raises `DataError` that says what
    to put where, for files that are not there; whether those that are there are whole, only loading them tells.
    """
    if name in _FINDERS:
        return _FINDERS[name](root, cache)
    if name == "digits":
        return None
    if root is not None and not root.exists():
        raise DataError(f"data.root: there is no {root}", hint="name the data set's file or folder on this machine")
    return root
