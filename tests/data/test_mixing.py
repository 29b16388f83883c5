import pytest
import torch
from torch import Tensor

from orchestrator.data import Augmentation, Images
from orchestrator.data.mixing import Mixing
from orchestrator.data.policy import TrivialAugment

COUNT = 101


def train(size: tuple[int, int, int] = (3, 9, 7), count: int = COUNT) -> Images:
    pixels = torch.randint(0, 256, (count, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 7)


def augmentation(mixing: Mixing | None) -> Augmentation:
    return Augmentation(2, True, policy=TrivialAugment(), cutout=3, mixing=mixing)


def test_without_mixing_a_batch_is_the_augmented_images() -> None:
    images, indices = train(), torch.tensor([5, 3, 70])
    augment = augmentation(None)
    found, mix = augment.batch(images, indices, seed=1, view=2)
    assert mix is None
    assert torch.equal(found, augment(images.images[indices], indices, seed=1, view=2))


def expected_parts(augment: Augmentation, data: Images, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Own images, partners' images and partners, augmented one by one."""
    partners = augment.mixing.partners(indices, len(data), seed=1, view=2)

    def view_of(samples: Tensor) -> Tensor:
        return torch.cat([augment(data.images[i : i + 1], torch.tensor([i]), seed=1, view=2) for i in samples.tolist()])

    return view_of(indices), view_of(partners), partners


def test_mixup_blends_two_augmented_images_and_their_labels() -> None:
    data, indices = train(), torch.arange(COUNT)
    augment = augmentation(Mixing(0.4, None))
    found, mix = augment.batch(data, indices, seed=1, view=2)
    own, other, partners = expected_parts(augment, data, indices)
    assert torch.equal(mix.labels, data.labels[partners])
    share = mix.share.double().view(-1, 1, 1, 1)
    blended = share * own + (1 - share) * other
    assert (found.double() - blended).abs().max() <= 0.5001
    assert mix.share.std() > 0.2


@pytest.mark.parametrize("size", [(3, 9, 7), (1, 1, 1), (1, 8, 8)])
def test_cutmix_takes_a_box_from_the_partner_and_counts_its_pixels(size: tuple[int, int, int]) -> None:
    data, indices = train(size), torch.arange(COUNT)
    augment = augmentation(Mixing(None, 1.0))
    found, mix = augment.batch(data, indices, seed=1, view=2)
    own, other, _ = expected_parts(augment, data, indices)
    height, width = size[1:]
    for image, a, b, share in zip(found, own, other, mix.share.tolist(), strict=True):
        from_b = (image != a).any(0)
        assert torch.equal(torch.where(from_b, b, a), image)
        boxed = round((1 - share) * height * width)
        rows, columns = from_b.nonzero(as_tuple=True)
        if len(rows):
            # Pixels that are equal in both images do not show, so the box is at least what shows.
            box = (int(rows.max() - rows.min()) + 1) * (int(columns.max() - columns.min()) + 1)
            assert int(from_b.sum()) <= box <= boxed or a.equal(b)


def test_cutmix_boxes_have_the_shares_area_and_lie_anywhere() -> None:
    count, size = 20_000, 32
    indices = torch.arange(count)
    black = torch.zeros(1, 1, size, size, dtype=torch.uint8).expand(count, 1, size, size)
    cut, share = Mixing(None, 1.0)(black, black + 255, indices, seed=0, view=0)
    torch.testing.assert_close((cut == 0).double().mean((1, 2, 3)).float(), share)
    # Uniform shares, and what the border cuts off is left to the image itself.
    assert 0.5 < share.mean() < 0.7
    covered = (cut[:, 0] > 0).double().mean(0)
    torch.testing.assert_close(covered, covered.flip(0), rtol=0, atol=0.02)
    torch.testing.assert_close(covered, covered.T, rtol=0, atol=0.02)
    assert covered.min() > 0.1


def test_with_both_each_sample_picks_one() -> None:
    count = 4000
    indices = torch.arange(count)
    black = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    mixed, share = Mixing(1.0, 1.0)(black, black + 255, indices, seed=0, view=0)
    levels = mixed.flatten(1)
    cuts = ((levels == 0) | (levels == 255)).all(1)
    even = (levels == levels[:, :1]).all(1)
    assert (cuts | even).all()
    assert (~even).double().mean() == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(levels.double().mean(1).float(), 255 * (1 - share), rtol=0, atol=0.51)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, None), (None, 1.0), (1.0, 1.0)])
def test_the_probability_of_being_mixed(mixup: float | None, cutmix: float | None) -> None:
    indices = torch.arange(4000)
    images = torch.zeros(4000, 1, 8, 8, dtype=torch.uint8)
    never, share = Mixing(mixup, cutmix, 0.0)(images, images + 255, indices, seed=0, view=0)
    assert torch.equal(never, images)
    assert (share == 1).all()
    _, share = Mixing(mixup, cutmix, 0.3)(images, images + 255, indices, seed=0, view=0)
    assert (share < 1).double().mean() == pytest.approx(0.3, abs=0.04)


def test_partners_come_evenly_from_the_whole_training_set() -> None:
    partners = Mixing(1.0, None).partners(torch.arange(50_000), 10, seed=0, view=0)
    assert partners.bincount(minlength=10).tolist() == [pytest.approx(5000, rel=0.06)] * 10
    assert not torch.equal(partners, Mixing(1.0, None).partners(torch.arange(50_000), 10, seed=0, view=1))


@pytest.mark.parametrize("mixing", [Mixing(0.2, None), Mixing(None, 1.0), Mixing(0.2, 1.0, 0.7)])
@pytest.mark.parametrize("size", [(3, 9, 7), (1, 8, 8), (1, 1, 1)])
def test_a_batch_does_not_depend_on_its_order_size_or_workers(mixing: Mixing, size: tuple[int, int, int]) -> None:
    data, augment = train(size), augmentation(mixing)
    before = data.images.clone()
    indices = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    whole, mix = augment.batch(data, indices, seed=1, view=2)
    assert torch.equal(data.images, before)
    assert (whole.dtype, whole.shape) == (torch.uint8, data.images.shape)
    for batch_size in (1, 17):
        parts = [augment.batch(data, part, seed=1, view=2) for part in indices.split(batch_size)]
        assert torch.equal(torch.cat([images for images, _ in parts]), whole)
        assert torch.equal(torch.cat([part.share for _, part in parts]), mix.share)
        assert torch.equal(torch.cat([part.labels for _, part in parts]), mix.labels)
    again = augment.batch(data, indices.flip(0), seed=1, view=2)
    assert torch.equal(again[0], whole.flip(0))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((None, None), "mixup or cutmix"), ((0.0, None), "mixup"), ((None, -1.0), "-1"), ((1.0, None, 1.1), "1.1")],
)
def test_what_cannot_be_mixed_is_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Mixing(*arguments)
