"""Where data sets are found agrees with where they are loaded from."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.data import load_dataset
from orchestrator.data.finding import PUBLISHED_SETS, find_dataset
from orchestrator.errors import DataError


@pytest.mark.parametrize("name", PUBLISHED_SETS)
def test_what_is_missing_is_told_as_loading_tells_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as loading:
        load_dataset(name, tmp_path)
    with pytest.raises(DataError) as finding:
        find_dataset(name, tmp_path)
    assert str(finding.value) == str(loading.value)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", ["cifar-10-python.tar.gz"]),
        ("cifar100", ["cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"]),
        ("cinic10", ["CINIC-10/train/a", "CINIC-10/test/a"]),
        ("tiny-imagenet", ["tiny-imagenet-200/wnids.txt"]),
        (
            "fashion-mnist",
            [
                f"fashion-mnist/{part}-{kind}-ubyte.gz"
                for part in ("train", "t10k")
                for kind in ("images-idx3", "labels-idx1")
            ],
        ),
    ],
)
def test_the_first_place_with_all_files_is_found(name: str, files: list[str], tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    assert find_dataset(name, tmp_path) == tmp_path / files[0].partition("/")[0]
    # Without a root they are looked for among the downloads.
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "downloads").symlink_to(tmp_path)
    found = find_dataset(name, None, cache)
    assert found is not None
    assert found.resolve() == tmp_path / files[0].partition("/")[0] or name == "fashion-mnist"


def test_others_are_where_their_root_is(tmp_path: Path) -> None:
    assert find_dataset("digits", None) is None
    assert find_dataset("digits", tmp_path / "nowhere") is None
    assert find_dataset("image-folder", tmp_path) == tmp_path
    with pytest.raises(DataError, match="there is no"):
        find_dataset("arrays", tmp_path / "nowhere")
