"""Tiny ImageNet (Stanford's CS231n): 200 classes of 500 training and 50 validation images, 64 x 64, RGB."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from orchestrator.data.bundle import Bundle
from orchestrator.data.cache import cached
from orchestrator.data.decode import decode
from orchestrator.data.download import fetch, file_md5
from orchestrator.data.image_folder import check_counts, class_folders, labelled
from orchestrator.data.images import Dataset
from orchestrator.data.published import PUBLISHED, damaged, data_root, missing, other_content
from orchestrator.data.tree import FileTree, FolderTree, ZipTree
from orchestrator.errors import DataError

_FOLDER = "tiny-imagenet-200"
_CLASSES = 200
_ENTRIES = ("wnids.txt", "words.txt", "train", "val")

# Of all training pixels, as most public code has them (some of it divides by deviations within images,
# 0.2302, 0.2265, 0.2262, instead).
_MEAN, _STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)


def load_tiny_imagenet(
    root: Path | None = None,
    verify: bool = True,
    *,
    download: bool = False,
    cache: Path | None = None,
    image_size: int | None = None,
) -> Dataset:
    """The set below `root`/tiny-imagenet-200 or `root`, or straight from `root`/tiny-imagenet-200.zip.

    Its `val` images are the test set here, because the labels of `test` are not public; validation images are
    split from `train`, as everywhere. Classes are in the order of their WordNet numbers. `verify` asks for the
    published archive, by its checksum, and for the published number of images of each class. Decoded images are
    kept in `cache`. Raises `DataError` naming the file that is missing or wrong.
    """
    place = data_root("tiny-imagenet", root, cache)
    tree = _find(place)
    if tree is None and download:
        fetch("tiny-imagenet", place)
        tree = _find(place)
    if tree is None:
        raise missing("tiny-imagenet", _places(place))
    if verify and isinstance(tree, ZipTree):
        _check_archive(tree.where, cache)
    wnids = sorted(tree.text("wnids.txt"))
    if twice := [wnid for wnid, count in Counter(wnids).items() if count > 1]:
        raise damaged(tree.label("wnids.txt"), f"lists {twice[0]} twice", "tiny-imagenet")
    if verify and len(wnids) != _CLASSES:
        raise damaged(tree.label("wnids.txt"), f"lists {len(wnids)} classes, not {_CLASSES}", "tiny-imagenet")
    folders = class_folders(_without_boxes(tree), "train")
    if lacking := [wnid for wnid in wnids if wnid not in folders]:
        raise DataError(f"{tree.label('train')} has no folder {lacking[0]}, which wnids.txt lists")
    train, test = labelled(folders, wnids, tree.label("train")), _validation(tree, wnids)
    if verify:
        check_counts(train, wnids, 500, tree.label("train"))
        check_counts(test, wnids, 50, tree.label("val"))
    images = decode("tiny-imagenet", tree, train, test, channels=3, image_size=image_size, cache=cache)
    return Dataset(
        name="tiny-imagenet",
        train=images.train,
        test=images.test,
        classes=_class_names(tree, wnids),
        mean=_MEAN,
        std=_STD,
        flip=True,
        crop_padding=images.train.images.shape[2] // 8,
    )


def find_tiny_imagenet(root: Path | None, cache: Path | None) -> Path:
    """The folder or archive that it would be read from; raises `DataError` without one."""
    place = data_root("tiny-imagenet", root, cache)
    tree = _find(place)
    if tree is None:
        raise missing("tiny-imagenet", _places(place))
    return tree.where


def _places(place: Path) -> list[Path]:
    return [place / _FOLDER, place, place / f"{_FOLDER}.zip"]


def _find(place: Path) -> FileTree | None:
    *folders, archive = _places(place)
    for folder in folders:
        if (folder / "wnids.txt").is_file():
            return FolderTree(folder, _ENTRIES)
    return ZipTree(archive, _FOLDER) if archive.is_file() else None


def _check_archive(archive: Path, cache: Path | None) -> None:
    """Raise `DataError` for other content than the published; the sum is kept in `cache` while the file stays."""
    status = archive.stat()
    key = [str(archive.resolve()), status.st_size, status.st_mtime_ns]
    found = cached(cache, "tiny-imagenet-md5", key, lambda: Bundle({}, {"md5": file_md5(archive)}))
    if found.info["md5"] != PUBLISHED["tiny-imagenet"].archives[0].md5:
        raise other_content(str(archive), "tiny-imagenet")


def _without_boxes(tree: FileTree) -> FileTree:
    """Leave out the bounding boxes that lie in each class folder beside the images."""
    for name in [name for name in tree.stamps if name.startswith("train/") and name.endswith("_boxes.txt")]:
        del tree.stamps[name]
    return tree


def _validation(tree: FileTree, wnids: list[str]) -> list[tuple[str, int]]:
    """Name and label of each validation image, as val_annotations.txt lists them."""
    listing = "val/val_annotations.txt"
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    found: dict[str, int] = {}
    for line in tree.text(listing):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        name = f"val/images/{file}"
        if wnid not in numbers:
            raise damaged(tree.label(listing), f"gives {file} the class {wnid!r}, which wnids.txt lacks")
        if name in found:
            raise damaged(tree.label(listing), f"lists {file} twice")
        if name not in tree.stamps:
            raise damaged(tree.label(name), f"is not there, but {listing} lists it")
        found[name] = numbers[wnid]
    if not found:
        raise damaged(tree.label(listing), "lists no images")
    return sorted(found.items())


def _class_names(tree: FileTree, wnids: list[str]) -> tuple[str, ...]:
    """The first word for each class; with the number behind it where two classes share the word."""
    words = dict(line.split("\t", 1) for line in tree.text("words.txt") if "\t" in line)
    names = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    shared = Counter(names)
    return tuple(name if shared[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))
