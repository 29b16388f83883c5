"""Where the public data sets are published, what their files are called, and where they are looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import DataError


@dataclass(frozen=True)
class Archive:
    """One published file."""

    file: str
    url: str
    md5: str


@dataclass(frozen=True)
class Published:
    """A data set as its authors publish it."""

    title: str
    page: str
    """The authors' page."""
    place: str
    """What to put where, as an instruction that follows "put"."""
    archives: tuple[Archive, ...] = ()
    """What `data.download` fetches; nothing where the set has to be fetched by hand."""


_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

# The MD5 sums of the CIFAR and Fashion-MNIST files are those in torchvision's datasets/cifar.py and
# datasets/mnist.py; that of Tiny ImageNet's archive is the one its many public loaders agree on.
PUBLISHED = {
    "cifar10": Published(
        "CIFAR-10",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar-10-python.tar.gz, or the folder cifar-10-batches-py that it holds, into data.root",
        (
            Archive(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
    ),
    "cifar100": Published(
        "CIFAR-100",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar-100-python.tar.gz, or the folder cifar-100-python that it holds, into data.root",
        (
            Archive(
                "cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
    ),
    "cinic10": Published(
        "CINIC-10",
        "https://datashare.ed.ac.uk/handle/10283/3192",
        "the folders train, valid and test that CINIC-10.tar.gz holds into data.root or its folder CINIC-10",
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        "the four files (each with or without .gz) into data.root or its folder fashion-mnist; on Debian or Ubuntu "
        "run `apt-get install dataset-fashion-mnist` instead and leave data.root unset",
        tuple(
            Archive(f"{name}.gz", f"{_FASHION_URL}/{name}.gz", md5)
            for name, md5 in (
                ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
                ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
                ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
            )
        ),
    ),
    "tiny-imagenet": Published(
        "Tiny ImageNet",
        "http://cs231n.stanford.edu",
        "tiny-imagenet-200.zip, or the folder tiny-imagenet-200 that it holds, into data.root",
        (
            Archive(
                "tiny-imagenet-200.zip",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
    ),
}


def data_root(name: str, root: Path | None, cache: Path | None) -> Path:
    """The folder a set's files are in, or go into: `root`, else `downloads` in the cache.

    Raises `DataError` where there is neither.
    """
    if root is not None:
        return root
    if cache is not None:
        return cache / "downloads"
    raise DataError(f"{PUBLISHED[name].title} needs data.root, the folder with its files", hint=_hint(name))


def missing(name: str, places: Sequence[Path], what: str = "files") -> DataError:
    """The error for a set whose files are in none of `places`: what to put where, and where to get it."""
    return DataError(
        f"{PUBLISHED[name].title}'s {what} are in none of: {', '.join(map(str, places))}", hint=_hint(name)
    )


def damaged(where: str, problem: str, name: str | None = None) -> DataError:
    """The error for a file whose content is wrong."""
    again = f"get it again from {PUBLISHED[name].page}" if name else "get it again"
    return DataError(f"{where} {problem}", hint=f"the file is damaged or of another kind: {again}")


def other_content(where: str, name: str) -> DataError:
    """The error for a file whose checksum is not the published one's."""
    return DataError(
        f"{where} does not hold the content that is published (its checksum differs)",
        hint=f"remove it and get it again from {PUBLISHED[name].page}, or set data.verify to false to use other data "
        "of the same format",
    )


def _hint(name: str) -> str:
    published = PUBLISHED[name]
    fetch = "set data.download to true to fetch it, or " if published.archives else ""
    return f"{fetch}put {published.place}; it is published at {published.page}"
