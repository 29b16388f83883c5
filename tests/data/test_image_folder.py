"""Folders of PNG and JPEG files, as image-folder, CINIC-10 and Tiny ImageNet have them."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import image_bytes, pixels, write_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from orchestrator.data import load_dataset
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


def test_valid_is_a_name_of_the_test_set_too(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"a": 2, "b": 2})
    write_images(tmp_path, "valid", {"a": 3, "b": 1})
    assert load_dataset("image-folder", tmp_path).test.labels.tolist() == [0, 0, 0, 1]


def test_a_fifth_of_each_class_is_for_testing_where_there_are_no_parts(tmp_path: Path) -> None:
    write_images(tmp_path, ".", {"cat": 15, "dog": 5})
    data = load_dataset("image-folder", tmp_path, cache=tmp_path / ".cache")
    assert data.classes == ("cat", "dog")
    assert (data.train.labels.bincount().tolist(), data.test.labels.bincount().tolist()) == ([12, 4], [3, 1])
    given = np.concatenate([pixels(15, 8, 8, 3, seed=0), pixels(5, 8, 8, 3, seed=1)])
    found = torch.cat([data.train.images, data.test.images]).permute(0, 2, 3, 1).numpy()
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in given)
    again = load_dataset("image-folder", tmp_path)
    assert torch.equal(again.test.images, data.test.images)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cat": 1, "dog": 3}, "{} has too few images to test on a fifth of them: .* at least 2 samples, not 1"),
        ({"cat": 1, "dog": 20}, "the class 'cat' of {} has no test image"),
        ({"cat": 20}, "{} has images of one class alone, 'cat'"),
    ],
)
def test_folders_of_too_few_images_to_part_are_named(tmp_path: Path, counts: dict, message: str) -> None:
    write_images(tmp_path, ".", counts)
    with pytest.raises(DataError, match="^" + message.format(tmp_path)):
        load_dataset("image-folder", tmp_path)


def test_a_class_without_test_images_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"cat": 1, "dog": 1})
    write_images(tmp_path, "test", {"cat": 1})
    with pytest.raises(DataError, match=f"the class 'dog' of {tmp_path} has no test image"):
        load_dataset("image-folder", tmp_path)


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
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path}/nowhere"):
        load_dataset("image-folder", tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"{tmp_path} has no class folders[\s\S]*CLASS/\* alone"):
        load_dataset("image-folder", tmp_path)
    write_images(tmp_path, "test", {"cat": 1, "dog": 1})
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path}/train"):
        load_dataset("image-folder", tmp_path)
    shutil.rmtree(tmp_path / "test")
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
