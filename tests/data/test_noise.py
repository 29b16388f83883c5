"""Wrong labels on purpose, and subsets of classes."""

import pytest
import torch

from orchestrator.data import Dataset, Images
from orchestrator.data.classes import keep_classes
from orchestrator.data.noise import noisy_labels
from orchestrator.errors import DataError

COUNTS = [400, 300, 200, 100]
LABELS = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))[torch.randperm(1000, generator=torch.Generator())]


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.25, 0.6, 1.0])
def test_the_share_is_exact_and_spread_over_the_classes(kind: str, fraction: float) -> None:
    before = LABELS.clone()
    noisy = noisy_labels(LABELS, 4, fraction, kind, seed=1)
    wrong = noisy != LABELS
    assert int(wrong.sum()) == round(1000 * fraction)
    for label, count in enumerate(COUNTS):
        assert abs(int(wrong[label == LABELS].sum()) - count * fraction) < 1
    assert int(noisy.min()) >= 0
    assert int(noisy.max()) <= 3
    assert torch.equal(LABELS, before)


def test_asymmetric_noise_gives_the_class_that_follows() -> None:
    noisy = noisy_labels(LABELS, 4, 0.4, "asymmetric", seed=1)
    wrong = noisy != LABELS
    assert torch.equal(noisy[wrong], (LABELS[wrong] + 1) % 4)


def test_symmetric_noise_gives_every_other_class_alike() -> None:
    labels = torch.zeros(30_000, dtype=torch.int64)
    counts = noisy_labels(labels, 4, 1.0, "symmetric", seed=1).bincount(minlength=4)
    assert counts[0] == 0
    # Binomial(30000, 1/3): five standard deviations are 408.
    assert (counts[1:] - 10_000).abs().max() < 408


def test_every_sample_has_the_same_chance_to_be_wrong() -> None:
    labels = torch.arange(10).repeat(2)
    wrong = sum((noisy_labels(labels, 10, 0.5, "symmetric", seed) != labels).long() for seed in range(1000))
    # Binomial(1000, 1/2): five standard deviations are 79.
    assert (wrong - 500).abs().max() < 79


def test_the_seed_decides() -> None:
    one = noisy_labels(LABELS, 4, 0.3, "symmetric", seed=1)
    assert torch.equal(one, noisy_labels(LABELS, 4, 0.3, "symmetric", seed=1))
    assert not torch.equal(one, noisy_labels(LABELS, 4, 0.3, "symmetric", seed=2))


def test_a_class_without_samples_does_no_harm() -> None:
    labels = torch.tensor([0, 0, 2, 2])
    assert int((noisy_labels(labels, 5, 0.5, "asymmetric", seed=0) != labels).sum()) == 2
    assert noisy_labels(labels[:0], 5, 0.5, "symmetric", seed=0).tolist() == []


@pytest.mark.parametrize(("classes", "fraction"), [(4, -0.1), (4, 1.1), (1, 0.1)])
def test_noise_that_cannot_be_names_the_field(classes: int, fraction: float) -> None:
    with pytest.raises(DataError, match=r"data\.label_noise"):
        noisy_labels(LABELS.clamp(max=classes - 1), classes, fraction, "symmetric", seed=0)


# Classes


def dataset() -> Dataset:
    labels = torch.tensor([3, 0, 1, 2, 3, 0])
    images = Images(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), labels)
    return Dataset("tiny", images, images.take(torch.arange(4)), ("cat", "dog", "7", "fox"), (0.5,), (0.5,), True, 0)


@pytest.mark.parametrize("chosen", [["fox", "dog"], [1, 3], ["dog", 3]])
def test_the_chosen_classes_stay_in_the_sets_own_order(chosen: list) -> None:
    kept = keep_classes(dataset(), chosen)
    assert kept.classes == ("dog", "fox")
    assert kept.train.labels.tolist() == [1, 0, 1]
    assert kept.train.images.flatten().tolist() == [0, 2, 4]
    assert kept.test.labels.tolist() == [1, 0]
    assert (kept.mean, kept.flip) == ((0.5,), True)


def test_a_number_as_text_is_a_name() -> None:
    assert keep_classes(dataset(), ["7", 0]).classes == ("cat", "7")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["cat", "foxx"], "data.classes has 'foxx', which is no class of tiny\n  did you mean 'fox'"),
        (["cat", "zzz"], "its classes: cat, dog, 7, fox"),
        (["cat", 4], "data.classes has the number 4, but tiny has classes 0 to 3"),
        (["cat", -1], "data.classes has the number -1"),
        (["cat", "dog", 0], "data.classes has the class 0 twice"),
        (["cat"], "data.classes must keep at least two classes, not 1"),
    ],
)
def test_classes_that_cannot_be_kept_name_the_field(chosen: list, message: str) -> None:
    with pytest.raises(DataError) as caught:
        keep_classes(dataset(), chosen)
    assert message in str(caught.value)


def test_a_test_set_without_the_chosen_classes_is_refused() -> None:
    whole = dataset()
    only = Dataset(
        "tiny",
        whole.train,
        whole.test.take(torch.tensor([1])),
        whole.classes,
        (0.5,),
        (0.5,),
        flip=True,
        crop_padding=0,
    )
    with pytest.raises(DataError, match="the test set has no images"):
        keep_classes(only, ["dog", "fox"])
