"""Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images of clothing, 28 x 28, grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from orchestrator.data.download import fetch
from orchestrator.data.idx import read_idx
from orchestrator.data.images import Dataset, Images
from orchestrator.data.published import damaged, data_root, missing

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# SHA-256 of the uncompressed files: repackaged archives differ, their content does not.
_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load_fashion_mnist(
    root: Path | None = None, verify: bool = True, *, download: bool = False, cache: Path | None = None
) -> Dataset:
    """Read the four IDX files, gzipped or not.

    They are looked for in `root`/FashionMNIST/raw, `root`/fashion-mnist and `root`; without a root in the
    folder of Debian's package and in the `downloads` of `cache`. `download` fetches them into fashion-mnist in
    `root` or in those downloads. `verify` accepts only the published content, otherwise any number of images in
    the same format will do. Raises `DataError` when files are missing (naming the folders) or damaged.
    """
    folders = _folders(root, cache)
    if download and _find(folders) is None:
        fetch("fashion-mnist", data_root("fashion-mnist", root, cache) / "fashion-mnist")
    files = _found(folders)

    def read(name: str, dimensions: int) -> Tensor:
        return read_idx(files[name], dimensions, _SHA256[name] if verify else None)

    def part(prefix: str) -> Images:
        names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        images, labels = read(names[0], 3), read(names[1], 1)
        where = str(files[names[1]])
        if len(images) != len(labels):
            raise damaged(where, f"has {len(labels)} labels, but {files[names[0]]} has {len(images)} images")
        if (labels > 9).any():
            raise damaged(where, f"has the label {int(labels.max())}; they are 0 to 9")
        return Images(images.unsqueeze(1), labels.long())

    return Dataset(
        name="fashion-mnist",
        train=part("train"),
        test=part("t10k"),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mean=(0.2860,),
        std=(0.3530,),
        flip=True,
        crop_padding=2,
    )


def find_fashion_mnist(root: Path | None, cache: Path | None) -> Path:
    """The folder with the four files; raises `DataError` without one."""
    return next(iter(_found(_folders(root, cache)).values())).parent


def _folders(root: Path | None, cache: Path | None) -> list[Path]:
    """Where the files are looked for."""
    if root is not None:
        return [root / "FashionMNIST" / "raw", root / "fashion-mnist", root]
    return [DEBIAN_FOLDER, *([cache / "downloads" / "fashion-mnist"] if cache else [])]


def _found(folders: Sequence[Path]) -> dict[str, Path]:
    files = _find(folders)
    if files is None:
        raise missing("fashion-mnist", folders, f"four files ({', '.join(_SHA256)})")
    return files


def _find(folders: Sequence[Path]) -> dict[str, Path] | None:
    """Path of each file, all from the first folder that has the four."""
    for folder in folders:
        found = {name: path for name in _SHA256 for path in (folder / f"{name}.gz", folder / name) if path.is_file()}
        if len(found) == len(_SHA256):
            return found
    return None
