import pytest
import torch
from torch import Tensor

from orchestrator.data import Augmentation, normalise, uniform


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
