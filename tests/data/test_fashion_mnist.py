import gzip
import struct
from pathlib import Path

import pytest
import torch

from orchestrator.data import fashion_mnist, load_dataset
from orchestrator.data.idx import read_idx
from orchestrator.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _idx(values: bytes, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values


def _contents(train: int = 12, test: int = 10) -> dict[str, bytes]:
    def images(count: int) -> bytes:
        return _idx(bytes(i % 251 for i in range(count * 28 * 28)), count, 28, 28)

    def labels(count: int) -> bytes:
        return _idx(bytes(i % 10 for i in range(count)), count)

    return dict(zip(FILES, (images(train), labels(train), images(test), labels(test)), strict=True))


def _write(folder: Path, contents: dict[str, bytes], zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "."])
def test_files_are_found_and_read(tmp_path: Path, place: str, zipped: bool) -> None:
    _write(tmp_path / place, _contents(), zipped)
    data = load_dataset("fashion-mnist", tmp_path, verify=False)
    assert data.train.images.shape == (12, 1, 28, 28)
    assert len(data.test) == 10
    assert data.train.labels.tolist() == [*range(10), 0, 1]
    assert data.train.images.flatten().tolist() == [i % 251 for i in range(12 * 784)]
    assert (data.flip, data.crop_padding) == (True, 2)


def test_other_content_is_refused_unless_verify_is_off(tmp_path: Path) -> None:
    _write(tmp_path, _contents())
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte .*SHA-256[\s\S]*data.verify"):
        load_dataset("fashion-mnist", tmp_path)


def test_missing_files_are_an_error_that_says_where_and_what_to_do(tmp_path: Path) -> None:
    contents = _contents()
    del contents[FILES[3]]
    _write(tmp_path / "fashion-mnist", contents)
    with pytest.raises(DataError) as caught:
        load_dataset("fashion-mnist", tmp_path)
    for text in (
        "FashionMNIST/raw",
        "fashion-mnist,",
        str(tmp_path),
        "apt-get install dataset-fashion-mnist",
    ):
        assert text in str(caught.value)


def test_without_a_root_the_debian_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        load_dataset("fashion-mnist")
    _write(tmp_path, _contents(), zipped=True)
    assert len(load_dataset("fashion-mnist", verify=False).train) == 12


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (bytes(9), "has 9 labels, but .*t10k-images-idx3-ubyte has 10 images"),
        (bytes(9) + b"\x0c", "has the label 12; they are 0 to 9"),
    ],
)
def test_labels_that_do_not_fit_name_their_file(tmp_path: Path, labels: bytes, message: str) -> None:
    _write(tmp_path, _contents() | {FILES[3]: _idx(labels, len(labels))})
    with pytest.raises(DataError, match=f"^{tmp_path}/t10k-labels-idx1-ubyte {message}"):
        load_dataset("fashion-mnist", tmp_path, verify=False)


GOOD = _idx(bytes(range(6)), 2, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"", "is not an IDX file of 2 dimensions"),
        ("a", _idx(bytes(6), 6), "is not an IDX file of 2 dimensions: it must begin with 00000802"),
        ("a", b"\x00\x00\x0d\x02" + GOOD[4:], "is not an IDX file"),
        ("a", GOOD[:9], "is cut short: its header is 12 bytes, the file 9"),
        ("a", GOOD[:-1], r"must hold 6 values for shape \[2, 3\], not 5"),
        ("a", GOOD + b"\x00", "must hold 6 values .* not 7"),
        ("a.gz", GOOD, "cannot be read"),
        ("a.gz", gzip.compress(GOOD, mtime=0)[:-3], "cannot be read"),
        (
            "a.gz",
            gzip.compress(GOOD, mtime=0)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD, mtime=0)[15:],
            "cannot be read",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 2)
    assert str(path) in str(caught.value)


def test_a_good_file_gives_its_values(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(GOOD)
    assert read_idx(tmp_path / "a", 2).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "b", 2)


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_published_files_pass() -> None:
    data = load_dataset("fashion-mnist")
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    pixels = data.train.images.to(torch.float64) / 255
    assert abs(pixels.mean() - data.mean[0]) < 1e-4
    assert abs(pixels.std() - data.std[0]) < 1e-4
