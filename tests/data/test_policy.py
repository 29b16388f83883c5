"""The drawn operations beside torchvision's, the maps beside its affine and rotate, and what draws look like."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandAugment as ReferenceRandAugment
from torchvision.transforms.v2 import TrivialAugmentWide as ReferenceTrivialAugment
from torchvision.transforms.v2 import functional as reference

from orchestrator.data.draws import Stream, integers, uniform
from orchestrator.data.geometry import affine
from orchestrator.data.policy import (
    BINS,
    OPERATIONS,
    RAND_AUGMENT,
    TRIVIAL_AUGMENT,
    Policy,
    RandAugment,
    Ranges,
    TrivialAugment,
    affine_map,
    operation_value,
)

SIZES = [(3, 32, 32), (1, 9, 7), (3, 8, 8), (2, 5, 6), (3, 1, 1)]
MAPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def batch(size: tuple[int, int, int], count: int = 16) -> Tensor:
    return torch.randint(1, 256, (count, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def torchvisions(name: str, image: Tensor, value: float) -> Tensor:
    """What torchvision's RandAugment does with the parameter `value`."""
    if name.startswith("shear"):
        slope = math.degrees(math.atan(value))
        shear = [slope, 0.0] if name == "shear_x" else [0.0, slope]
        return reference.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    if name.startswith("translate"):
        shift = [int(value), 0] if name == "translate_x" else [0, int(value)]
        return reference.affine(image, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    return reference.rotate(image, value)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MAPS)
def test_maps_equal_torchvisions(size, name):
    height, width = size[1:]
    values = [
        operation_value(name, ranges, magnitude, sign, height, width)
        for ranges in (RAND_AUGMENT, TRIVIAL_AUGMENT)
        for magnitude in range(0, BINS, 5)
        for sign in (1, -1)
    ]
    images = batch(size, len(values))
    maps = torch.tensor([affine_map(name, value, height, width) for value in values], dtype=torch.float32)
    for value, map_, image, found in zip(values, maps, images, affine(images, maps), strict=True):
        # Nearest pixels may differ where a source lies in the middle of two, and nowhere else.
        differ = (found != torchvisions(name, image, value)).any(0)
        assert not (differ & ~in_the_middle(map_, height, width)).any(), value


def in_the_middle(map_: Tensor, height: int, width: int) -> Tensor:
    """bool [H, W]: output pixels whose source is halfway between two pixels of the input."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([columns - (width - 1) / 2, rows - (height - 1) / 2, torch.ones(height, width)]).double()
    x, y = torch.einsum("ij,jhw->ihw", map_.double(), points)
    halves = [(c + (size - 1) / 2) % 1 - 0.5 for c, size in ((x, width), (y, height))]
    return (halves[0].abs() < 1e-4) | (halves[1].abs() < 1e-4)


def test_every_image_gets_its_drawn_operation_with_its_parameter():
    images, indices = batch((3, 9, 7), 400), torch.arange(400)
    for policy in (RandAugment(1, 20), TrivialAugment()):
        outcome = policy(images, indices, seed=2, view=1)
        drawn = zip(
            integers(2, 1, indices, Stream.POLICY, len(OPERATIONS)).tolist(),
            integers(2, 1, indices, Stream.POLICY + 1, BINS).tolist(),
            (uniform(2, 1, indices, Stream.POLICY + 2) < 0.5).tolist(),
            strict=True,
        )
        seen = set()
        for image, found, (operation, magnitude, negative) in zip(images, outcome, drawn, strict=True):
            name, sign = OPERATIONS[operation], -1 if negative else 1
            magnitude = magnitude if policy.magnitude is None else policy.magnitude
            value = operation_value(name, policy.ranges, magnitude, sign, 9, 7)
            assert (found.int() - expected_of(name, image, value).int()).abs().max() <= 1, (name, value)
            seen.add((name, sign))
        assert len(seen) == 2 * len(OPERATIONS)


def expected_of(name: str, image: Tensor, value: float) -> Tensor:
    if name in MAPS:
        maps = torch.tensor([affine_map(name, value, *image.shape[1:])], dtype=torch.float32)
        return affine(image[None], maps)[0]
    return {
        "brightness": lambda: reference.adjust_brightness(image, value),
        "color": lambda: reference.adjust_saturation(image, value),
        "contrast": lambda: reference.adjust_contrast(image, value),
        "sharpness": lambda: reference.adjust_sharpness(image, value),
        "posterize": lambda: reference.posterize(image, int(value)),
        "solarize": lambda: reference.solarize(image, value),
        "autocontrast": lambda: reference.autocontrast(image),
        "equalize": lambda: reference.equalize(image),
        "identity": lambda: image,
    }[name]()


@pytest.mark.parametrize(
    ("ranges", "theirs"), [(RAND_AUGMENT, ReferenceRandAugment), (TRIVIAL_AUGMENT, ReferenceTrivialAugment)]
)
def test_parameters_equal_torchvisions(ranges: Ranges, theirs: type):
    space = theirs._AUGMENTATION_SPACE
    assert sorted(key.lower() for key in space) == sorted(name.replace("_", "") for name in OPERATIONS)
    for name in OPERATIONS:
        (key,) = (key for key in space if key.lower() == name.replace("_", ""))
        magnitudes, signed = space[key][0](BINS, 32, 48), space[key][1]
        if magnitudes is None:
            continue
        for magnitude in range(BINS):
            found = operation_value(name, ranges, magnitude, -1, 32, 48)
            value = float(magnitudes[magnitude]) * (-1 if signed else 1)
            if name in ("brightness", "color", "contrast", "sharpness"):
                value += 1
            elif name == "solarize":
                value *= 255
            assert found == pytest.approx(value, abs=1e-4), (name, magnitude)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("policy", [RandAugment(), RandAugment(3, 30), TrivialAugment()])
def test_an_image_depends_on_its_sample_alone(size, policy):
    images, indices = batch(size, 60), torch.arange(60) * 5
    before = images.clone()
    whole = policy(images, indices, seed=1, view=4)
    assert torch.equal(images, before)
    assert (whole.dtype, whole.shape) == (torch.uint8, images.shape)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert torch.equal(policy(images[order], indices[order], seed=1, view=4), whole[order])
    alone = [policy(images[i : i + 1], indices[i : i + 1], seed=1, view=4) for i in range(60)]
    assert torch.equal(torch.cat(alone), whole)
    if size[1] > 1:
        assert not torch.equal(policy(images, indices, seed=2, view=4), whole)
        assert not torch.equal(policy(images, indices, seed=1, view=5), whole)


def test_operations_follow_each_other():
    images, indices = batch((3, 8, 8), 40), torch.arange(40)
    twice = RandAugment(2, 15)(images, indices, seed=0, view=0)
    assert not torch.equal(twice, RandAugment(1, 15)(images, indices, seed=0, view=0))
    assert torch.equal(RandAugment(0, 15)(images, indices, seed=0, view=0), images)
    assert len(RandAugment(2, 15)(images[:0], indices[:0], seed=0, view=0)) == 0


def test_magnitude_zero_is_none_or_a_table_alone():
    """At magnitude 0 only autocontrast and equalize, which have none, change an image."""
    images = torch.zeros(64, 1, 8, 8, dtype=torch.uint8) + 100
    assert torch.equal(RandAugment(2, 0)(images, torch.arange(64), seed=0, view=0), images)


@pytest.mark.parametrize(("num_ops", "magnitude", "named"), [(-1, 9, "num_ops"), (2, 31, "magnitude"), (2, -1, "-1")])
def test_what_is_out_of_range_is_refused(num_ops, magnitude, named):
    with pytest.raises(ValueError, match=named):
        Policy(num_ops, magnitude, RAND_AUGMENT)
