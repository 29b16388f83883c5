import hashlib

import torch
from sklearn import datasets

from orchestrator.data import load_dataset


def test_digits_hold_scikit_learns_images_once_each() -> None:
    data = load_dataset("digits")
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert (data.flip, data.crop_padding) == (False, 1)
    source = datasets.load_digits()
    expected = torch.from_numpy((source.images * 255 / 16).round()).to(torch.uint8).flatten(1)
    loaded = torch.cat([data.train.images, data.test.images]).flatten(1)

    def rows(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, ...]]:
        return sorted(map(tuple, torch.cat([images.long(), labels[:, None]], dim=1).tolist()))

    labels = torch.cat([data.train.labels, data.test.labels])
    assert rows(loaded, labels) == rows(expected, torch.from_numpy(source.target))
    assert loaded.max() == 255


def test_the_split_is_stratified_and_never_changes() -> None:
    data = load_dataset("digits")
    share = data.test.labels.bincount() / (data.train.labels.bincount() + data.test.labels.bincount())
    assert (share - 0.2).abs().max() < 0.01
    digest = hashlib.sha256(data.test.images.numpy().tobytes()).hexdigest()
    assert digest[:16] == "7e63521adaf93ffa"


def test_the_constants_are_those_of_the_training_images() -> None:
    data = load_dataset("digits")
    pixels = data.train.images.double() / 255
    assert abs(pixels.mean() - data.mean[0]) < 1e-4
    assert abs(pixels.std() - data.std[0]) < 1e-4
