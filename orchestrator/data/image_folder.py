"""Folders of images: a folder for each part, in it a folder for each class, as torchvision's ImageFolder reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.data.decode import ENDINGS, decode
from orchestrator.data.images import Dataset
from orchestrator.data.tree import FileTree, FolderTree
from orchestrator.errors import DataError

_LAYOUT = "data.root must hold train/CLASS/*.png (or .jpg, ...) and test/CLASS/* or, without that, val/CLASS/*"


def load_image_folder(
    root: Path | None = None, verify: bool = True, *, cache: Path | None = None, image_size: int | None = None
) -> Dataset:
    """`root`/train and `root`/test, or `root`/val where there is no test; classes in the order of their names.

    Images are grey where all are, else RGB. All have one size, or are resized to `image_size`. Normalised by
    their own training pixels; the standard augmentation mirrors, and pads an eighth of the size for the crop.
    `verify` changes nothing. Raises `DataError` naming the folder or file that is missing or wrong.
    """
    if root is None:
        raise DataError("image-folder needs data.root, the folder with the images", hint=_LAYOUT)
    test_part = "test" if (root / "test").is_dir() or not (root / "val").is_dir() else "val"
    for part in ("train", test_part):
        if not (root / part).is_dir():
            raise DataError(f"there is no folder {root / part}", hint=_LAYOUT)
    tree = FolderTree(root, ("train", test_part))
    train, test = class_folders(tree, "train"), class_folders(tree, test_part)
    classes = tuple(train)
    images = decode(
        "image-folder",
        tree,
        labelled(train, classes),
        labelled(test, classes, tree.label(test_part)),
        channels="auto",
        image_size=image_size,
        cache=cache,
    )
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


def class_folders(tree: FileTree, part: str) -> dict[str, list[str]]:
    """The image files of each class folder in `part`, at any depth, both in the order of their names.

    Raises `DataError` for a class without images, and for files that are no images or in no class.
    """
    found: dict[str, list[str]] = {
        name.removeprefix(f"{part}/"): []
        for name in tree.folders
        if name.startswith(f"{part}/") and name.count("/") == 1
    }
    for name in tree.stamps:
        if not name.startswith(f"{part}/"):
            continue
        if name.count("/") == 1:
            raise DataError(f"{tree.label(name)} lies beside the class folders", hint="move it into one, or away")
        if not name.lower().endswith(ENDINGS):
            raise DataError(
                f"{tree.label(name)} is not an image; they end in {', '.join(ENDINGS)}", hint="move it away"
            )
        found.setdefault(name.split("/")[1], []).append(name)
    if not found:
        raise DataError(f"{tree.label(part)} has no class folders", hint=_LAYOUT)
    if empty := [name for name, files in found.items() if not files]:
        raise DataError(f"the class folder {tree.label(f'{part}/{empty[0]}')} has no images")
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
