import pytest
import torch

from orchestrator.data import Dataset, Images, load_dataset
from orchestrator.errors import DataError, RegistryError


def _images(count: int = 4, channels: int = 1, size: int = 2) -> Images:
    pixels = torch.arange(count * channels * size * size, dtype=torch.uint8).view(count, channels, size, size)
    return Images(pixels, torch.arange(count))


def _dataset(**changes: object) -> Dataset:
    parts = {
        "name": "tiny",
        "train": _images(),
        "test": _images(),
        "classes": ("a", "b", "c", "d"),
        "mean": (0.5,),
        "std": (0.25,),
        "flip": False,
        "crop_padding": 0,
    }
    return Dataset(**(parts | changes))


def test_take_keeps_order_and_copies() -> None:
    data = _images()
    taken = data.take(torch.tensor([2, 0]))
    assert len(taken) == 2
    assert taken.labels.tolist() == [2, 0]
    assert torch.equal(taken.images, torch.stack([data.images[2], data.images[0]]))
    taken.images.zero_()
    assert data.images[2].sum() > 0


def test_to_keeps_content() -> None:
    moved = _images().to(torch.device("cpu"))
    assert torch.equal(moved.images, _images().images)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (
            torch.zeros(2, 2, 2, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            r"not uint8 \[2, 2, 2\]",
        ),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), "labels must be int64"),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            "2 images .* 3 labels",
        ),
    ],
)
def test_images_refuse_what_does_not_fit(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Images(images, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "b", "c")}, "train labels must be 0 to 2, not 0 to 3"),
        (
            {"test": Images(_images().images, torch.tensor([0, 1, -1, 2]))},
            "test labels must be 0 to 3, not -1",
        ),
        ({"test": _images().take(torch.tensor([], dtype=torch.int64))}, "the test set has no images"),
        ({"test": _images(size=3)}, r"train images are \[1, 2, 2\], test images \[1, 3, 3\]"),
        ({"mean": (0.1, 0.2)}, "need 1 values"),
        ({"std": (0.0,)}, "above 0"),
    ],
)
def test_dataset_refuses_parts_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _dataset(**changes)


def test_a_dataset_that_fits_is_taken() -> None:
    assert _dataset().classes[3] == "d"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RegistryError, match="digits"):
        load_dataset("digit")
