"""Folders of PNG and JPEG files, as image-folder, CINIC-10 and Tiny ImageNet have them."""

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import image_bytes, pixels, write_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from orchestrator.data import cinic10, load_dataset, tiny_imagenet
from orchestrator.data.decode import _open
from orchestrator.data.stats import channel_stats
from orchestrator.data.tree import FolderTree
from orchestrator.errors import DataError


def two_classes(root: Path, **options) -> Path:
    write_images(root, "train", {"cat": 3, "dog": 2}, **options)
    write_images(root, "test", {"cat": 1, "dog": 1}, **options)
    return root


def test_every_pixel_and_label_arrives(tmp_path: Path) -> None:
    data = load_dataset("image-folder", two_classes(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    expected = np.concatenate([pixels(3, 8, 8, 3, seed=0), pixels(2, 8, 8, 3, seed=1)])
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), expected)
    assert (data.flip, data.crop_padding) == (True, 1)
    scaled = expected.reshape(-1, 3) / 255
    assert data.mean == pytest.approx(tuple(scaled.mean(0)), abs=1e-12)
    assert data.std == pytest.approx(tuple(scaled.std(0)), abs=1e-12)


def test_val_is_the_test_set_where_there_is_no_test(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"a": 2, "b": 2})
    write_images(tmp_path, "val", {"a": 3, "b": 1})
    assert len(load_dataset("image-folder", tmp_path).test) == 4
    write_images(tmp_path, "test", {"a": 1, "b": 1})
    assert len(load_dataset("image-folder", tmp_path).test) == 2


@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (True, 3)])
def test_grey_stays_grey_only_where_all_are(tmp_path: Path, colour: bool, channels: int) -> None:
    two_classes(tmp_path, shape=(8, 8))
    if colour:
        (tmp_path / "test" / "dog" / "9.png").write_bytes(image_bytes(pixels(1, 8, 8, 3)[0]))
    data = load_dataset("image-folder", tmp_path)
    assert data.train.images.shape == (5, channels, 8, 8)
    grey = pixels(3, 8, 8, seed=0)
    assert np.array_equal(data.train.images[:3, 0].numpy(), grey)
    assert len(data.mean) == channels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    two_classes(tmp_path)
    Image.fromarray(pixels(1, 8, 8, 3)[0]).convert(mode).save(tmp_path / "train" / "cat" / "x.tiff")
    assert load_dataset("image-folder", tmp_path).train.images.shape == (6, 3, 8, 8)


def test_images_lie_at_any_depth_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    two_classes(tmp_path)
    deep = tmp_path / "train" / "dog" / "more" / "still"
    deep.mkdir(parents=True)
    (deep / "1.JPEG").write_bytes(image_bytes(pixels(1, 8, 8, 3)[0], "JPEG"))
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "train" / "dog" / "._1.png").write_bytes(b"x")
    (tmp_path / "train" / "dog" / "loop").symlink_to(tmp_path / "train")
    assert len(load_dataset("image-folder", tmp_path).train) == 6


def test_images_of_mixed_sizes_name_the_file_and_both_sizes(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "test" / "dog" / "0.png").write_bytes(image_bytes(pixels(1, 6, 10, 3)[0]))
    message = r"test/dog/0.png is 10 x 6 pixels, but .*train/cat/0.png is 8 x 8[\s\S]*data.image_size"
    with pytest.raises(DataError, match=message):
        load_dataset("image-folder", tmp_path)
    data = load_dataset("image-folder", tmp_path, image_size=16)
    assert data.train.images.shape == (5, 3, 16, 16)
    assert data.crop_padding == 2


def test_resizing_scales_the_shorter_side_and_takes_the_centre(tmp_path: Path) -> None:
    two_classes(tmp_path)
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32, 0] = 200
    (tmp_path / "train" / "cat" / "0.png").write_bytes(image_bytes(wide))
    image = load_dataset("image-folder", tmp_path, image_size=8).train.images[0]
    assert image[1:].max() == 0
    assert (image[0, :, 1:-1] > 190).all()


def test_a_size_that_is_there_already_changes_nothing(tmp_path: Path) -> None:
    two_classes(tmp_path)
    one, two = load_dataset("image-folder", tmp_path), load_dataset("image-folder", tmp_path, image_size=8)
    assert torch.equal(one.train.images, two.train.images)


def png(array: np.ndarray) -> bytes:
    return image_bytes(array)


DEEP = io.BytesIO()
Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(DEEP, "PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image that can be read: its format is not known"),
        (b"no image at all", "is not an image that can be read: its format is not known"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is not an image that can be read"),
        (png(pixels(1, 8, 8, 3)[0])[:80], "is not an image that can be read: .*truncated"),
        (image_bytes(pixels(1, 64, 64, 3)[0], "JPEG")[:900], "is not an image that can be read: .*truncated"),
        (DEEP.getvalue(), "has more than 8 bits a channel"),
    ],
)
def test_a_file_that_is_no_whole_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (two_classes(tmp_path) / "train" / "dog" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=f"train/dog/1.png {message}"):
        load_dataset("image-folder", tmp_path, image_size=8)


WHOLE = {kind: image_bytes(pixels(1, 12, 9, 3)[0], kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_a_data_error_or_an_image(tmp_path_factory, kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 80) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    (folder / "x").write_bytes(content)
    # Any other error, or a crash, fails the test.
    with contextlib.suppress(DataError):
        _open(FolderTree(folder), "x", load=True)


def test_the_first_of_several_bad_files_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"a": 200, "b": 200}, shape=(4, 4, 3))
    write_images(tmp_path, "test", {"a": 1, "b": 1}, shape=(4, 4, 3))
    for name in ("a/30.png", "b/0.png", "b/150.png"):
        (tmp_path / "train" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"train/a/30.png"):
        load_dataset("image-folder", tmp_path, image_size=8)


def test_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image-folder needs data.root[\s\S]*train/CLASS"):
        load_dataset("image-folder")
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path}/train"):
        load_dataset("image-folder", tmp_path)
    write_images(tmp_path, "train", {"cat": 1, "dog": 1})
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path}/test"):
        load_dataset("image-folder", tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"test has no class folders"):
        load_dataset("image-folder", tmp_path)
    write_images(tmp_path, "test", {"cat": 1, "fox": 1})
    with pytest.raises(DataError, match=r"test has a class 'fox' that the training images do not have"):
        load_dataset("image-folder", tmp_path)


def test_an_empty_class_a_stray_image_and_another_file_are_named(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "train" / "fox").mkdir()
    with pytest.raises(DataError, match=r"class folder .*train/fox has no images"):
        load_dataset("image-folder", tmp_path)
    (tmp_path / "train" / "fox").rmdir()
    stray = tmp_path / "train" / "1.png"
    stray.write_bytes(b"")
    with pytest.raises(DataError, match=r"train/1.png lies beside the class folders"):
        load_dataset("image-folder", tmp_path)
    stray.rename(tmp_path / "train" / "cat" / "notes.txt")
    with pytest.raises(DataError, match=r"train/cat/notes.txt is not an image; they end in .bmp"):
        load_dataset("image-folder", tmp_path)


# CINIC-10


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


# Tiny ImageNet

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


# What all share


def test_other_sets_are_not_resized() -> None:
    with pytest.raises(DataError, match=r"data.image_size is 32, but digits is not resized"):
        load_dataset("digits", image_size=32)


def test_a_channel_of_one_value_has_the_deviation_one() -> None:
    images = torch.zeros(5, 2, 3, 3, dtype=torch.uint8)
    images[:, 1] = torch.arange(9, dtype=torch.uint8).view(3, 3)
    mean, std = channel_stats(images)
    assert mean[0] == 0
    assert std[0] == 1
    assert std[1] == pytest.approx(np.arange(9).std() / 255)
