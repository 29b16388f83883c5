"""scikit-learn's 1797 handwritten digits of 8 x 8 pixels; they ship inside that package."""

from __future__ import annotations

from pathlib import Path

import torch

from orchestrator.data.images import Dataset, Images
from orchestrator.data.split import SPLIT_SEED, TEST_FRACTION, stratified_split

# Of the training images of that split.
_MEAN, _STD = (0.3058,), (0.3759,)


def load_digits(root: Path | None = None, verify: bool = True) -> Dataset:
    """The digits, split into 1438 training and 359 test images; `root` and `verify` change nothing."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = (torch.from_numpy(digits.images) * 255 / 16).round().to(torch.uint8)
    everything = Images(pixels.unsqueeze(1), torch.from_numpy(digits.target).long())
    train, test = stratified_split(everything.labels, TEST_FRACTION, SPLIT_SEED)
    return Dataset(
        name="digits",
        train=everything.take(train),
        test=everything.take(test),
        classes=tuple(str(digit) for digit in range(10)),
        mean=_MEAN,
        std=_STD,
        flip=False,
        crop_padding=1,
    )
