"""Each operation beside torchvision's tensor kernel of the same parameters, and exactly where it is exact."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from orchestrator.data import color

SIZES = [(1, 9, 7), (3, 9, 7), (3, 32, 32), (3, 1, 1), (1, 2, 8)]
FACTORS = [0.0, 0.1, 0.73, 1.0, 1.27, 1.9]


def batch(size: tuple[int, int, int], count: int = 24) -> Tensor:
    """Noise, some of it of few values, a gradient and even images."""
    generator = torch.Generator().manual_seed(sum(size))
    images = torch.randint(0, 256, (count, *size), generator=generator, dtype=torch.uint8)
    images[:4] = images[:4] // 8 + 100
    images[4:8] = images[4:8] // 85 * 60
    images[8] = 0
    images[9] = 255
    images[10] = 77
    images[11] = torch.linspace(0, 255, images[11].numel()).view(size).to(torch.uint8)
    return images


def assert_close(found: Tensor, expected: Tensor, levels: int) -> None:
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    assert (found.int() - expected.int()).abs().max() <= levels


def one_by_one(function, images: Tensor, values: list[float]) -> Tensor:
    return torch.stack([function(image, value) for image, value in zip(images, values, strict=True)])


# One level, where the brightness of a pixel is rounded (ours is Pillow's, to 65536ths) or a product is a whole number.
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("ours", "theirs", "levels"),
    [
        (color.brightness, reference.adjust_brightness, 0),
        (color.contrast, reference.adjust_contrast, 1),
        (color.saturation, reference.adjust_saturation, 1),
        (color.sharpness, reference.adjust_sharpness, 1),
    ],
)
def test_enhancements_equal_torchvisions(size, ours, theirs, levels):
    images = batch(size)
    before = images.clone()
    values = (FACTORS * 4)[: len(images)]
    assert_close(ours(images, torch.tensor(values)), one_by_one(theirs, images, values), levels)
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", SIZES)
def test_hue_equals_torchvisions(size):
    images = batch(size)
    values = [-0.5, -0.31, -0.1, 0.0, 0.07, 0.25, 0.4, 0.5] * 3
    assert_close(color.hue(images, torch.tensor(values)), one_by_one(reference.adjust_hue, images, values), 1)


def test_hue_keeps_largest_and_smallest_channel_and_a_third_turn_moves_channels_on():
    images = batch((3, 9, 7))
    turned = color.hue(images, torch.full((24,), 0.123))
    assert torch.equal(turned.amax(1), images.amax(1))
    assert torch.equal(turned.amin(1), images.amin(1))
    assert torch.equal(color.hue(images, torch.zeros(24)), images)
    assert torch.equal(color.hue(images, torch.full((24,), 1 / 3)), images.roll(1, 1))


@pytest.mark.parametrize("size", SIZES)
def test_tables_equal_torchvisions(size):
    images = batch(size)
    bits = [0, 1, 2, 4, 7, 8] * 4
    assert torch.equal(color.posterize(images, torch.tensor(bits)), one_by_one(reference.posterize, images, bits))
    thresholds = [0.0, 51.0, 100.5, 178.5, 254.0, 255.0] * 4
    assert torch.equal(
        color.solarize(images, torch.tensor(thresholds)), one_by_one(reference.solarize, images, thresholds)
    )
    assert torch.equal(color.autocontrast(images), reference.autocontrast(images))
    assert torch.equal(color.equalize(images), reference.equalize(images))


@pytest.mark.parametrize("size", [(1, 9, 7), (2, 4, 4), (4, 4, 4)])
def test_only_three_channels_have_colour(size):
    images = batch(size)
    assert torch.equal(color.saturation(images, torch.full((24,), 0.1)), images)
    assert torch.equal(color.hue(images, torch.full((24,), 0.3)), images)
    assert color.contrast(images, torch.full((24,), 1.5)).shape == images.shape


def test_a_factor_of_one_changes_nothing_and_zero_takes_everything():
    images = batch((3, 9, 7))
    one, zero = torch.ones(24), torch.zeros(24)
    for enhance in (color.brightness, color.contrast, color.saturation, color.sharpness):
        assert torch.equal(enhance(images, one), images)
    assert not color.brightness(images, zero).any()
    assert torch.equal(color.contrast(images, zero).amin((1, 2, 3)), color.contrast(images, zero).amax((1, 2, 3)))
    grey = color.saturation(images, zero)
    assert torch.equal(grey, grey[:, :1].expand_as(grey))


def test_small_images_cannot_be_sharpened():
    images = batch((3, 2, 9))
    assert torch.equal(color.sharpness(images, torch.full((24,), 1.9)), images)
