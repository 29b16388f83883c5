"""Folders of images: a folder for each part, in it a folder for each class, as torchvision's ImageFolder reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from orchestrator.data.decode import ENDINGS, Files, decode
from orchestrator.data.images import Dataset
from orchestrator.data.split import SPLIT_SEED, TEST_FRACTION, stratified_split
from orchestrator.data.tree import FileTree, FolderTree
from orchestrator.errors import DataError

_TEST_PARTS = ("test", "val", "valid")
_LAYOUT = (
    "data.root must hold train/CLASS/*.png (or .jpg, ...) and test/CLASS/*, val/CLASS/* or valid/CLASS/*; or CLASS/* "
    "alone, of which a fixed part is the test set"
)


def load_image_folder(
    root: Path | None = None, verify: bool = True, *, cache: Path | None = None, image_size: int | None = None
) -> Dataset:
    """`root`/train and the first of `root`/test, val and valid; classes in the order of their names.

    Where `root` has none of these folders, it holds the classes' own, and of each class a fifth, always the same
    while the files keep their names, is for testing. Images are grey where all are, else RGB. All have one size, or
    are resized to `image_size`. Normalised by their own training pixels; the standard augmentation mirrors, and pads
    an eighth of the size for the crop. `verify` changes nothing. Raises `DataError` naming the folder or file that
    is missing or wrong, and for a class without images in either part.
    """
    if root is None:
        raise DataError("image-folder needs data.root, the folder with the images", hint=_LAYOUT)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", hint=_LAYOUT)
    test_part = next((part for part in _TEST_PARTS if (root / part).is_dir()), "test")
    lacking = [part for part in ("train", test_part) if not (root / part).is_dir()]
    if len(lacking) == 1:
        raise DataError(f"there is no folder {root / lacking[0]}", hint=_LAYOUT)
    if lacking:
        tree = FolderTree(root)
        files = class_folders(tree)
        train, test = _split(labelled(files, list(files)), root)
    else:
        tree = FolderTree(root, ("train", test_part))
        files = class_folders(tree, "train")
        train = labelled(files, list(files))
        test = labelled(class_folders(tree, test_part), list(files), tree.label(test_part))
    classes = tuple(files)
    if len(classes) < 2:
        raise DataError(f"{root} has images of one class alone, {classes[0]!r}", hint=_LAYOUT)
    if untested := set(range(len(classes))) - {label for _, label in test}:
        raise DataError(
            f"the class {classes[min(untested)]!r} of {root} has no test image",
            hint="every class needs some: add them, or move the class's folder away",
        )
    images = decode("image-folder", tree, train, test, channels="auto", image_size=image_size, cache=cache)
    return Dataset(
        name="image-folder",
        train=images.train,
        test=images.test,
        classes=classes,
        mean=images.mean,
        std=images.std,
        flip=True,
        crop_padding=min(images.train.images.shape[2:]) // 8,
    )


def _split(files: Files, where: Path) -> tuple[Files, Files]:
    labels = torch.tensor([label for _, label in files])
    try:
        kept, held_out = stratified_split(labels, TEST_FRACTION, SPLIT_SEED)
    except DataError as error:
        raise DataError(f"{where} has too few images to test on a fifth of them: {error.message}") from None
    return [files[index] for index in kept.tolist()], [files[index] for index in held_out.tolist()]


def class_folders(tree: FileTree, part: str = "") -> dict[str, list[str]]:
    """The image files of each class folder in `part`, at any depth, both in the order of their names.

    Raises `DataError` for a class without images, and for files that are no images or in no class.
    """
    start = f"{part}/" if part else ""
    found: dict[str, list[str]] = {
        folder: []
        for name in tree.folders
        if name.startswith(start) and "/" not in (folder := name.removeprefix(start))
    }
    for name in tree.stamps:
        if not name.startswith(start):
            continue
        folder, inside, _ = name.removeprefix(start).partition("/")
        if not inside:
            raise DataError(f"{tree.label(name)} lies beside the class folders", hint="move it into one, or away")
        if not name.lower().endswith(ENDINGS):
            raise DataError(
                f"{tree.label(name)} is not an image; they end in {', '.join(ENDINGS)}", hint="move it away"
            )
        found.setdefault(folder, []).append(name)
    if not found:
        raise DataError(f"{tree.label(part)} has no class folders", hint=_LAYOUT)
    if empty := [name for name, files in found.items() if not files]:
        raise DataError(f"the class folder {tree.label(f'{start}{empty[0]}')} has no images")
    return dict(sorted(found.items()))


def labelled(
    files: Mapping[str, Sequence[str]], classes: Sequence[str], where: str = "the folder"
) -> list[tuple[str, int]]:
    """Each file with its class's number; raises `DataError` for a class that is not among `classes`."""
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := [name for name in files if name not in numbers]:
        raise DataError(
            f"{where} has a class {unknown[0]!r} that the training images do not have",
            hint=f"they have {len(classes)}: {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}",
        )
    return [(name, numbers[group]) for group, names in files.items() for name in names]


def check_counts(files: Sequence[tuple[str, int]], classes: Sequence[str], expected: int, where: str) -> None:
    """Raise `DataError` unless every class has its published number of images, `expected`, in the part `where`."""
    counts = Counter(label for _, label in files)
    for label, name in enumerate(classes):
        if counts[label] != expected:
            raise DataError(
                f"{where}: the class {name!r} has {counts[label]} images; {expected} are published",
                hint="unpack the archive again, or set data.verify to false to use other images of the same layout",
            )
