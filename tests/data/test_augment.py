from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from orchestrator.data import Augmentation, normalise, uniform
from orchestrator.data.color import hue, saturation
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.policy import RandAugment, TrivialAugment


def _splitmix(counter: int) -> float:
    mask = 2**64 - 1
    bits = counter & mask
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
    bits ^= bits >> 31
    return (bits >> 40) / 2**24


def _reference_uniform(seed: int, view: int, index: int, stream: int) -> float:
    return _splitmix(
        seed * 0xD1342543DE82EF95 + view * 0xA0761D6478BD642F + stream * 0xE7037ED1A0B428DB + index * 0x9E3779B97F4A7C15
    )


def test_uniform_never_changes() -> None:
    # Results of stored runs depend on these values.
    assert uniform(7, 3, torch.tensor([0, 1, 59_999]), 1).tolist() == [
        0.3874970078468323,
        0.7936508655548096,
        0.19768774509429932,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63, -5])
def test_uniform_is_the_counter_based_generator_it_says(seed: int) -> None:
    indices = [0, 1, 2, 1000, 2**40]
    expected = [_reference_uniform(seed, 9, index, 2) for index in indices]
    assert uniform(seed, 9, torch.tensor(indices), 2).tolist() == expected


def test_uniform_is_flat() -> None:
    values = uniform(0, 0, torch.arange(100_000), 0)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    counts = (values * 100).long().bincount(minlength=100).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert 55 < chi_square < 160  # 99 degrees of freedom; outside by chance once in a thousand


def test_uniform_does_not_correlate_between_neighbours() -> None:
    indices = torch.arange(50_000)
    values = [
        uniform(seed, view, indices, stream)
        for seed, view, stream in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    ]
    values.append(uniform(0, 0, indices + 1, 0))
    correlation = torch.corrcoef(torch.stack(values)) - torch.eye(len(values))
    assert correlation.abs().max() < 0.02  # 4.5 standard deviations


def _batch(count: int = 32, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def _reference_augment(image: Tensor, index: int, padding: int, flip: bool, seed: int, view: int) -> Tensor:
    _, height, width = image.shape
    places = 2 * padding + 1
    place = int(_reference_uniform(seed, view, index, 0) * places**2)
    top, left = divmod(place, places)
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source_row, source_column = row + top - padding, column + left - padding
            if 0 <= source_row < height and 0 <= source_column < width:
                out[:, row, column] = image[:, source_row, source_column]
    if flip and _reference_uniform(seed, view, index, 1) < 0.5:
        out = out.flip(2)
    return out


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_augmentation_equals_the_slow_version(padding: int, flip: bool) -> None:
    images, indices = _batch(), torch.arange(100, 132)
    before = images.clone()
    augmented = Augmentation(padding, flip)(images, indices, seed=5, view=2)
    expected = [
        _reference_augment(image, int(i), padding, flip, 5, 2) for image, i in zip(images, indices, strict=True)
    ]
    assert torch.equal(augmented, torch.stack(expected))
    assert torch.equal(images, before)


def test_augmentation_depends_on_the_sample_and_not_on_its_batch() -> None:
    augment = Augmentation(2, True)
    images, indices = _batch(), torch.arange(32) * 7
    whole = augment(images, indices, seed=1, view=4)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[order], indices[order], seed=1, view=4), whole[order])
    halves = [augment(images[half], indices[half], seed=1, view=4) for half in (slice(0, 9), slice(9, 32))]
    assert torch.equal(torch.cat(halves), whole)


def test_seed_and_view_change_the_outcome() -> None:
    augment = Augmentation(2, True)
    outcomes = [augment(_batch(), torch.arange(32), seed=s, view=v) for s, v in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(outcomes[a], outcomes[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_every_crop_and_flip_is_equally_likely() -> None:
    # A single lit pixel shows where the crop was taken and whether it was mirrored.
    count = 18_000
    image = torch.zeros(1, 3, 4, dtype=torch.uint8)
    image[0, 1, 1] = 255
    images = image.expand(count, 1, 3, 4)
    augmented = Augmentation(1, True)(images, torch.arange(count), seed=0, view=0)
    _, frequency = augmented.flatten(1).unique(dim=0, return_counts=True)
    expected = count / 18
    # Rows 0-2 by columns 0-2, or mirrored 1-3: columns 1 and 2 are reached both ways.
    assert sorted(round(float(f) / expected) for f in frequency) == [1] * 6 + [2] * 6


def test_without_padding_and_flip_images_pass_unchanged() -> None:
    images = _batch()
    assert torch.equal(Augmentation(0, False)(images, torch.arange(32), seed=0, view=0), images)


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="not -1"):
        Augmentation(-1, True)


EVERYTHING = {
    "crop and flip": Augmentation(3, True),
    "cutout": Augmentation(0, False, cutout=3, cutout_fill=(9,)),
    "jitter": Augmentation(0, False, color_jitter=ColorJitter(0.4, 0.4, 0.4, 0.2)),
    "randaugment": Augmentation(0, False, policy=RandAugment()),
    "all": Augmentation(
        2, True, color_jitter=ColorJitter(0.8, 0, 0.4), policy=TrivialAugment(), cutout=4, cutout_fill=(1,)
    ),
}


@pytest.mark.parametrize("augment", EVERYTHING.values(), ids=EVERYTHING)
@pytest.mark.parametrize("size", [(3, 9, 7), (1, 8, 8), (3, 1, 1), (1, 1, 1), (2, 3, 5)])
def test_every_option_depends_on_the_sample_alone(augment: Augmentation, size: tuple[int, int, int]) -> None:
    images, indices = _batch(50, *size), torch.randperm(10_000)[:50]
    before = images.clone()
    whole = augment(images, indices, seed=1, view=4)
    assert torch.equal(images, before)
    assert (whole.dtype, whole.shape) == (torch.uint8, images.shape)
    order = torch.randperm(50)
    assert torch.equal(augment(images[order], indices[order], seed=1, view=4), whole[order])
    alone = [augment(images[i : i + 1], indices[i : i + 1], seed=1, view=4) for i in range(50)]
    assert torch.equal(torch.cat(alone), whole)
    # An epoch shared by three workers.
    shares = [augment(images[rank::3], indices[rank::3], seed=1, view=4) for rank in range(3)]
    assert all(torch.equal(share, whole[rank::3]) for rank, share in enumerate(shares))


@pytest.mark.parametrize("augment", EVERYTHING.values(), ids=EVERYTHING)
def test_every_option_changes_with_seed_and_view(augment: Augmentation) -> None:
    images, indices = _batch(), torch.arange(32)
    outcomes = [augment(images, indices, seed=s, view=v) for s, v in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(outcomes[a], outcomes[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_cutout_paints_one_square_in_the_colour_given(size: int) -> None:
    images = torch.zeros(8000, 2, 8, 8, dtype=torch.uint8)
    cut = Augmentation(0, False, cutout=size, cutout_fill=(7, 200))(images, torch.arange(8000), seed=0, view=0)
    painted = cut[:, 0] == 7
    assert torch.equal(painted, cut[:, 1] == 200)
    assert torch.equal(painted | (cut[:, 0] == 0), torch.ones_like(painted))
    rows, columns = painted.any(2).sum(1), painted.any(1).sum(1)
    assert torch.equal(rows * columns, painted.sum((1, 2)))
    assert rows.max() == columns.max() == min(size, 8)
    if size % 2:
        # The centre is any pixel, evenly: pixel (r, c) is hit by the centres within half a side of it.
        near = torch.tensor([sum(abs(r - c) <= size // 2 for c in range(8)) for r in range(8)])
        expected = near[:, None] * near / 64
        torch.testing.assert_close(painted.double().mean(0), expected.double(), rtol=0, atol=0.03)


def test_half_of_the_images_are_mirrored_and_every_crop_is_taken() -> None:
    count = 20_000
    image = torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5) + 1
    augmented = Augmentation(2, True)(image.expand(count, 1, 5, 5), torch.arange(count), seed=3, view=1)[:, 0]
    middle = augmented[:, 2, 2].long() - 1
    torch.testing.assert_close(middle.bincount(minlength=25) / count, torch.full((25,), 1 / 25), rtol=0, atol=0.006)
    right = augmented[:, 2, 3].int() - augmented[:, 2, 2].int()
    shown = augmented[:, 2, 3] > 0
    assert (right[shown] < 0).double().mean() == pytest.approx(0.5, abs=0.015)


def test_jitter_draws_evenly_from_its_ranges() -> None:
    images = torch.full((20_000, 1, 1, 1), 100, dtype=torch.uint8)
    bright = Augmentation(0, False, color_jitter=ColorJitter(brightness=0.3))
    levels = bright(images, torch.arange(20_000), seed=0, view=0).flatten().double()
    assert (levels.min(), levels.max()) == (70, 129)
    assert levels.mean() == pytest.approx(99.5, abs=0.5)
    assert levels.var() == pytest.approx(60**2 / 12, rel=0.05)
    strong = Augmentation(0, False, color_jitter=ColorJitter(brightness=1.5))
    levels = strong(images, torch.arange(20_000), seed=0, view=0).flatten().double()
    assert (levels.min(), levels.max()) == (0, 249)


def test_jitter_takes_both_orders() -> None:
    images, indices = _batch(64), torch.arange(64)
    jitter = ColorJitter(saturation=0.9, hue=0.4)
    found = jitter(images, indices, seed=0, view=0)
    factor = uniform(0, 0, indices, 18) * (1.9 - (1 - 0.9)) + (1 - 0.9)
    turn = uniform(0, 0, indices, 19) * 0.8 - 0.4
    orders = (hue(saturation(images, factor), turn), saturation(hue(images, turn), factor))
    same = torch.stack([(found == order).flatten(1).all(1) for order in orders])
    assert same.any(0).all()
    assert same.sum(1).min() > 16


def test_options_that_are_off_change_nothing() -> None:
    images, indices = _batch(), torch.arange(32)
    for augment in (
        Augmentation(0, False, color_jitter=ColorJitter()),
        Augmentation(0, False, policy=RandAugment(num_ops=0)),
    ):
        assert torch.equal(augment(images, indices, seed=0, view=0), images)
    grey = _batch(channels=1)
    colour = Augmentation(0, False, color_jitter=ColorJitter(saturation=0.9, hue=0.5))
    assert torch.equal(colour(grey, indices, seed=0, view=0), grey)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Augmentation(0, False, cutout=-2), "cutout must be 0 or above, not -2"),
        (lambda: Augmentation(0, False, cutout=2, cutout_fill=(256,)), "256"),
        (lambda: ColorJitter(contrast=-0.1), "contrast .* -0.1"),
        (lambda: ColorJitter(brightness=float("inf")), "brightness"),
        (lambda: ColorJitter(hue=0.6), "hue .* 0.6"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalise_equals_the_formula(layout: torch.memory_format) -> None:
    images = _batch().contiguous(memory_format=layout)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (images.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(
        3, 1, 1
    )
    normalised = normalise(images, mean, std)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=layout)
    torch.testing.assert_close(normalised.double(), expected, rtol=1e-6, atol=1e-6)
    assert normalise(images, mean, std, torch.float64).dtype == torch.float64
