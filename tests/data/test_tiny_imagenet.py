"""Tiny ImageNet from its folder and its archive."""

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import image_bytes, pixels
from PIL import Image

from orchestrator.data import load_dataset, tiny_imagenet
from orchestrator.data.published import PUBLISHED
from orchestrator.errors import DataError

WNIDS = ("n02124075", "n01443537", "n04067472")


def tiny(root: Path, size: int = 64) -> Path:
    folder = root / "tiny-imagenet-200"
    for number, wnid in enumerate(sorted(WNIDS)):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for index, array in enumerate(pixels(2, size, size, 3, seed=number)):
            (images / f"{wnid}_{index}.JPEG").write_bytes(image_bytes(array, "JPEG"))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    (folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG").write_bytes(
        image_bytes(pixels(1, size, size)[0], "JPEG")
    )
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for index in range(6):
        (folder / "val" / "images" / f"val_{index}.JPEG").write_bytes(
            image_bytes(pixels(1, size, size, 3, seed=100 + index)[0], "JPEG")
        )
        lines.append(f"val_{index}.JPEG\t{WNIDS[index % 3]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn02124075\tcat, Egyptian cat\nn04067472\tcat\nn09999999\tother\n"
    )
    (folder / "test" / "images").mkdir(parents=True)
    return folder


def test_tiny_imagenet_is_tested_on_its_validation_images(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    data = load_dataset("tiny-imagenet", tmp_path, verify=False)
    assert data.train.images.shape == (6, 3, 64, 64)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.classes == ("goldfish", "cat (n02124075)", "cat (n04067472)")
    assert data.test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert (data.flip, data.crop_padding) == (True, 8)
    with Image.open(folder / "val" / "images" / "val_4.JPEG") as image:
        assert np.array_equal(data.test.images[4].permute(1, 2, 0).numpy(), np.asarray(image))
    assert data.train.images[3].float().std(0).max() == 0, "a grey image among RGB ones"


def test_tiny_imagenet_may_be_resized(tmp_path: Path) -> None:
    tiny(tmp_path)
    data = load_dataset("tiny-imagenet", tmp_path, verify=False, image_size=32)
    assert (data.train.images.shape[2:], data.crop_padding) == ((32, 32), 4)


def zipped(root: Path, *, twice: str = "", without: str = "") -> Path:
    folder = tiny(root)
    path = root / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.txt", "x")
        archive.writestr("/tmp/evil.txt", "x")
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(root).as_posix()
            if without and name.endswith(without):
                continue
            archive.write(file, name)
            if twice and name.endswith(twice):
                archive.write(file, name)
    folder.rename(root / "away")
    return path


def test_the_zip_archive_is_read_in_place(tmp_path: Path) -> None:
    zipped(tmp_path)
    archived = load_dataset("tiny-imagenet", tmp_path, verify=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away", "tiny-imagenet-200.zip"]
    folder = load_dataset("tiny-imagenet", tmp_path / "away", verify=False)
    assert torch.equal(archived.train.images, folder.train.images)
    assert torch.equal(archived.test.labels, folder.test.labels)


def test_the_zip_archive_is_verified_by_its_checksum_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path)
    with pytest.raises(DataError, match=rf"{path} does not hold the content that is published"):
        load_dataset("tiny-imagenet", tmp_path, cache=tmp_path / "cache")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    known = PUBLISHED["tiny-imagenet"]
    changed = replace(known, archives=(replace(known.archives[0], md5=md5),))
    monkeypatch.setitem(PUBLISHED, "tiny-imagenet", changed)
    monkeypatch.delattr(tiny_imagenet, "file_md5")
    with pytest.raises(DataError, match=r"wnids.txt lists 3 classes, not 200"):
        load_dataset("tiny-imagenet", tmp_path, cache=tmp_path / "cache")
    os.utime(path)
    with pytest.raises(NameError, match="file_md5"):
        load_dataset("tiny-imagenet", tmp_path, cache=tmp_path / "cache")


def test_zip_archives_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"tiny-imagenet-200.zip cannot be read"):
        load_dataset("tiny-imagenet", tmp_path, verify=False)
    place = whole.index(b"JFIF") + 200
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(DataError, match=r"zip:tiny-imagenet-200/.*JPEG cannot be read: Bad CRC"):
        load_dataset("tiny-imagenet", tmp_path, verify=False)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"twice": "val_2.JPEG"}, r"val/images/val_2.JPEG is in the archive twice"),
        ({"without": "val_2.JPEG"}, r"val/images/val_2.JPEG is not there, but val/val_annotations.txt lists it"),
        ({"without": "words.txt"}, r"words.txt is not in the archive"),
    ],
)
def test_zip_archives_that_lack_or_repeat_a_file(tmp_path: Path, change: dict[str, str], message: str) -> None:
    zipped(tmp_path, **change)
    with pytest.raises(DataError, match=message):
        load_dataset("tiny-imagenet", tmp_path, verify=False)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("wnids.txt", "n04067472", "n01443537", "wnids.txt lists n01443537 twice"),
        ("wnids.txt", "n04067472", "n00000001", "train has no folder n00000001, which wnids.txt lists"),
        ("wnids.txt", "n04067472\n", "", "train has a class 'n04067472'"),
        ("val/val_annotations.txt", "n04067472", "n00000001", "gives val_2.JPEG the class 'n00000001'"),
        ("val/val_annotations.txt", "val_1.JPEG", "val_0.JPEG", "lists val_0.JPEG twice"),
        ("val/val_annotations.txt", "val_1.JPEG", "../../x.JPEG", "x.JPEG is not there"),
    ],
)
def test_listings_that_do_not_fit_are_named(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    path = tiny(tmp_path) / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        load_dataset("tiny-imagenet", tmp_path, verify=False)


def test_tiny_imagenet_asks_for_the_published_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path)
    with pytest.raises(DataError, match=r"wnids.txt lists 3 classes, not 200"):
        load_dataset("tiny-imagenet", tmp_path)
    monkeypatch.setattr(tiny_imagenet, "_CLASSES", 3)
    with pytest.raises(DataError, match=r"tiny-imagenet-200/train: the class 'n01443537' has 2 images; 500 are"):
        load_dataset("tiny-imagenet", tmp_path)
    with pytest.raises(DataError, match=r"Tiny ImageNet's files are in none of[\s\S]*tiny-imagenet-200.zip"):
        load_dataset("tiny-imagenet", tmp_path / "nowhere")
