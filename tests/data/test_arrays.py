"""Arrays in .npz, .npy and .safetensors files."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from data_files import pixels

from orchestrator.data import load_dataset
from orchestrator.errors import DataError

LABELS = np.array([0, 1, 2, 0, 1, 2])


def arrays(*shape: int, **changes: np.ndarray) -> dict[str, np.ndarray]:
    shape = shape or (8, 8, 3)
    made = {
        "train_images": pixels(6, *shape, seed=1),
        "train_labels": LABELS,
        "test_images": pixels(3, *shape, seed=2),
        "test_labels": LABELS[:3],
    }
    return made | changes


def write(root: Path, content: dict[str, np.ndarray], kind: str) -> Path:
    """Returns what `data.root` is to be."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "npy":
        for name, array in content.items():
            np.save(root / f"{name}.npy", array, allow_pickle=True)
        return root
    path = root / f"set.{kind}"
    if kind == "npz":
        np.savez(path, **content)
    else:
        safetensors.numpy.save_file(content, path)
    return path


KINDS = ("npz", "npy", "safetensors")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", [False, True])
def test_arrays_arrive_from_each_kind_of_file(tmp_path: Path, kind: str, inside: bool) -> None:
    content = arrays()
    path = write(tmp_path, content, kind)
    data = load_dataset("arrays", tmp_path if inside else path, cache=tmp_path / "cache")
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), content["train_images"])
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.classes == ("0", "1", "2")
    scaled = content["train_images"].reshape(-1, 3) / 255
    assert data.mean == pytest.approx(tuple(scaled.mean(0)), abs=1e-12)
    assert data.std == pytest.approx(tuple(scaled.std(0)), abs=1e-12)
    assert (data.flip, data.crop_padding) == (True, 1)


@pytest.mark.parametrize(
    ("shape", "channels", "first"),
    [((8, 9), 1, True), ((8, 9, 3), 3, False), ((3, 8, 9), 3, True), ((8, 9, 1), 1, False), ((1, 8, 9), 1, True)],
)
def test_every_layout_is_understood(tmp_path: Path, shape: tuple[int, ...], channels: int, first: bool) -> None:
    content = arrays(*shape)
    data = load_dataset("arrays", write(tmp_path, content, "npz"))
    assert data.train.images.shape == (6, channels, 8, 9)
    raw = content["train_images"]
    value = raw.reshape(6, channels, 8, 9)[2, -1, 4, 5] if first else raw[2, 4, 5, -1]
    assert data.train.images[2, -1, 4, 5] == value
    assert data.flip is (channels == 3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i4", "uint64", "int64"])
def test_labels_of_every_whole_number_type(tmp_path: Path, dtype: str) -> None:
    data = load_dataset("arrays", write(tmp_path, arrays(train_labels=LABELS.astype(dtype)), "npz"))
    assert data.train.labels.dtype == torch.int64
    assert data.train.labels.tolist() == LABELS.tolist()


def test_fortran_order_is_read(tmp_path: Path) -> None:
    content = arrays(train_images=np.asfortranarray(pixels(6, 8, 8, 3, seed=1)))
    data = load_dataset("arrays", write(tmp_path, content, "npy"))
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), content["train_images"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": pixels(6, 8, 8, 3).astype(np.float32)}, r"train_images.* is float32 \[6, 8, 8, 3\]; images"),
        ({"train_images": pixels(6, 8)}, r"train_images.* is uint8 \[6, 8\]; images must be"),
        ({"train_images": pixels(6, 8, 8, 4)}, r"train_images.* has the shape \[6, 8, 8, 4\]: one of"),
        ({"train_images": pixels(6, 3, 8, 3)}, r"train_images.* has the shape \[6, 3, 8, 3\]: one of"),
        ({"train_images": pixels(0, 8, 8, 3)}, r"train_images.* has no images"),
        ({"train_images": pixels(5, 8, 8, 3)}, r"train_images has 5 images, train_labels 6 labels"),
        ({"test_images": pixels(3, 9, 8, 3)}, r"train images are \[3, 8, 8\], test images \[3, 9, 8\]"),
        ({"train_labels": LABELS.astype(np.float64)}, r"train_labels.* is float64 \[6\]; labels must be"),
        ({"train_labels": LABELS[:, None]}, r"train_labels.* is int64 \[6, 1\]; labels must be"),
        ({"train_labels": LABELS - 1}, r"train_labels.* has the label -1"),
        ({"train_labels": LABELS * 2}, r"the class '1' has no training image"),
        ({"train_labels": LABELS * 10**12}, r"train_labels.* has the label 2000000000000, but 6 images cannot show"),
        ({"test_labels": LABELS[:3] + 1}, r"test labels must be 0 to 2, not 1 to 3"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, kind: str, changes: dict, message: str) -> None:
    root = write(tmp_path, arrays(**changes), kind)
    with pytest.raises(DataError, match=rf"^(data.root: )?{root}.*{message}"):
        load_dataset("arrays", root)


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    content = arrays()
    del content["test_labels"]
    with pytest.raises(DataError, match=r"test_labels[\s\S]*data.root must be"):
        load_dataset("arrays", write(tmp_path, content, kind))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, arrays(), "npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_labels.npy", archive.read("train_labels.npy"))
    with pytest.raises(DataError, match="has the array train_labels 2 times"):
        load_dataset("arrays", path)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_pickled_arrays_are_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    witness = tmp_path / "was-run"
    root = write(tmp_path / "set", arrays(train_labels=np.array([Evil(witness)] * 6)), kind)
    with pytest.raises(DataError, match=r"train_labels.* cannot be read: Object arrays cannot be loaded"):
        load_dataset("arrays", root)
    (tmp_path / "set" / "train_images.npy").write_bytes(pickle.dumps(Evil(witness)))
    if kind == "npy":
        with pytest.raises(DataError, match=r"train_images.npy cannot be read"):
            load_dataset("arrays", root)
    assert not witness.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_named(tmp_path: Path, kind: str) -> None:
    write(tmp_path, arrays(), kind)
    path = tmp_path / ("train_images.npy" if kind == "npy" else f"set.{kind}")
    whole = path.read_bytes()
    huge = whole.replace(b"(6, 8, 8, 3), }    ", b"(6, 8, 8, 30000), }"[:19])
    for content in (b"", b"x" * 500, whole[:40], whole[: len(whole) // 2], huge if huge != whole else b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=path.name):
            load_dataset("arrays", tmp_path)


def test_a_root_that_is_no_set_of_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"arrays needs data.root[\s\S]*train_images"):
        load_dataset("arrays")
    with pytest.raises(DataError, match=r"there is no .*train_images.npy"):
        load_dataset("arrays", tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"a.txt is not an .npz or .safetensors file"):
        load_dataset("arrays", tmp_path / "a.txt")
    write(tmp_path, arrays(), "npz")
    write(tmp_path, arrays(), "safetensors")
    with pytest.raises(DataError, match=r"more than one set of arrays: set.npz, set.safetensors"):
        load_dataset("arrays", tmp_path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, arrays(), "npz")
    first = load_dataset("arrays", path, cache=tmp_path / "cache")
    write(tmp_path, arrays(train_images=pixels(6, 8, 8, 3, seed=9)), "npz")
    os.utime(path, ns=(1, 1))
    assert not torch.equal(load_dataset("arrays", path, cache=tmp_path / "cache").train.images, first.train.images)
