"""CINIC-10 from folders as they are published."""

from pathlib import Path

import numpy as np
import pytest
from data_files import write_images
from PIL import Image

from orchestrator.data import cinic10, load_dataset
from orchestrator.errors import DataError


def cinic(root: Path, each: int = 1) -> None:
    for part in ("train", "test"):
        write_images(root, part, dict.fromkeys(cinic10.CLASSES, each), shape=(32, 32, 3))


@pytest.mark.parametrize("place", [".", "CINIC-10"])
def test_cinic10_reads_train_and_test_and_leaves_valid(tmp_path: Path, place: str) -> None:
    cinic(tmp_path / place)
    write_images(tmp_path / place, "valid", {"unknown": 1}, shape=(5, 5, 3))
    data = load_dataset("cinic10", tmp_path, verify=False)
    assert data.train.images.shape == (10, 3, 32, 32)
    assert data.train.labels.tolist() == list(range(10))
    assert (data.classes[4], data.flip, data.crop_padding) == ("deer", True, 4)
    assert data.std[0] == 0.24205776


def test_cinic10_trains_on_valid_where_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cinic(tmp_path)
    with pytest.raises(DataError, match=r"CINIC-10's folders train, valid and test are in none of"):
        load_dataset("cinic10", tmp_path, verify=False, include_valid=True)
    write_images(tmp_path, "valid", dict.fromkeys(cinic10.CLASSES, 2), shape=(32, 32, 3))
    data = load_dataset("cinic10", tmp_path, verify=False, include_valid=True)
    assert data.train.labels.tolist() == [*range(10), *sorted([*range(10)] * 2)]
    with Image.open(tmp_path / "valid" / "truck" / "1.png") as image:
        assert np.array_equal(data.train.images[-1].permute(1, 2, 0).numpy(), np.asarray(image))
    assert len(data.test) == 10
    monkeypatch.setattr(cinic10, "_EACH", 1)
    with pytest.raises(DataError, match=rf"{tmp_path}/valid: the class 'airplane' has 2 images; 1 are published"):
        load_dataset("cinic10", tmp_path, include_valid=True)
    with pytest.raises(DataError, match=r"data.include_valid is true, but digits has no"):
        load_dataset("digits", include_valid=True)


def test_cinic10_asks_for_the_published_counts(tmp_path: Path) -> None:
    cinic(tmp_path)
    with pytest.raises(
        DataError, match=rf"{tmp_path}/train: the class 'airplane' has 1 images; 9000 .*[\s\S]*data.verify"
    ):
        load_dataset("cinic10", tmp_path)


def test_cinic10_that_is_not_there_or_lacks_a_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CINIC-10's folders train and test are in none of[\s\S]*datashare.ed.ac.uk"):
        load_dataset("cinic10", tmp_path)
    write_images(tmp_path, "train", dict.fromkeys(cinic10.CLASSES[:9], 1))
    write_images(tmp_path, "test", {"ship": 1})
    with pytest.raises(DataError, match=r"train has no folder truck"):
        load_dataset("cinic10", tmp_path, verify=False)
