"""CINIC-10 (Darlow et al. 2018): CIFAR-10's classes in 3 x 90,000 images, 32 x 32, RGB, from CIFAR-10 and ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from orchestrator.data.decode import decode
from orchestrator.data.image_folder import check_counts, class_folders, labelled
from orchestrator.data.images import Dataset
from orchestrator.data.published import data_root, missing
from orchestrator.data.tree import FolderTree
from orchestrator.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_EACH = 9_000
"""Images of each class in each part."""

# Of the training images, as in github.com/BayesWatch/cinic-10.
_MEAN, _STD = (0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835)


def load_cinic10(
    root: Path | None = None,
    verify: bool = True,
    *,
    cache: Path | None = None,
    image_size: int | None = None,
    include_valid: bool = False,
) -> Dataset:
    """The PNG files below `root` or `root`/CINIC-10: `train` trains, `test` tests.

    `include_valid` adds the images of `valid` to those of `train`, else they stay unseen: validation images are split
    from the training images, as everywhere. `verify` asks for the published 9,000 images of each class in each
    part. Decoded images are kept in `cache`. Raises `DataError` naming the folder or file that is missing or wrong.
    """
    parts = ("train", "valid", "test") if include_valid else ("train", "test")
    found = find_cinic10(root, cache, parts)
    tree = FolderTree(found, parts)
    listed = []
    for part in parts:
        files = class_folders(tree, part)
        if lacking := [name for name in CLASSES if name not in files]:
            raise DataError(f"{found / part} has no folder {lacking[0]}")
        listed.append(labelled(files, CLASSES, str(found / part)))
        if verify:
            check_counts(listed[-1], CLASSES, _EACH, str(found / part))
    train = list(chain(*listed[:-1]))
    images = decode("cinic10", tree, train, listed[-1], channels=3, image_size=image_size, cache=cache)
    return Dataset(
        name="cinic10",
        train=images.train,
        test=images.test,
        classes=CLASSES,
        mean=_MEAN,
        std=_STD,
        flip=True,
        crop_padding=images.train.images.shape[2] // 8,
    )


def find_cinic10(root: Path | None, cache: Path | None, parts: Sequence[str] = ("train", "test")) -> Path:
    """The folder with the parts; raises `DataError` without one."""
    place = data_root("cinic10", root, cache)
    places = [place / "CINIC-10", place]
    found = next((folder for folder in places if all((folder / part).is_dir() for part in parts)), None)
    if found is None:
        raise missing("cinic10", places, f"folders {', '.join(parts[:-1])} and test")
    return found
