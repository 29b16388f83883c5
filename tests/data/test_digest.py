"""Short names for sets of images, by what is in them."""

import torch

from orchestrator.data import Images
from orchestrator.data.digest import SAMPLE, quick_digest


def images(count: int = 5) -> Images:
    pixels = torch.arange(count * 2 * 3 * 3).remainder(251).to(torch.uint8)
    return Images(pixels.view(count, 2, 3, 3), torch.arange(count) % 3)


def test_the_same_images_have_the_same_digest() -> None:
    assert quick_digest(images()) == quick_digest(images())
    assert len(quick_digest(images())) == 16


def test_pixels_labels_order_and_shape_count() -> None:
    one = images()
    pixels, labels = one.images.clone(), one.labels.clone()
    pixels[4, 1, 2, 2] += 1
    labels[0] = 2
    others = [
        Images(pixels, one.labels),
        Images(one.images, labels),
        one.take(torch.tensor([1, 0, 2, 3, 4])),
        Images(one.images.view(5, 1, 6, 3), one.labels),
        images(4),
    ]
    assert len({quick_digest(other) for other in [one, *others]}) == 6


def test_of_many_images_some_count_from_the_first_to_the_last() -> None:
    many = images(3 * SAMPLE)
    for place in (0, -1):
        pixels = many.images.clone()
        pixels[place] += 1
        assert quick_digest(Images(pixels, many.labels)) != quick_digest(many)
