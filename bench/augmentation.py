"""Augmentation of whole batches beside torchvision's per-sample pipeline, on one thread.

Both sides turn stored 3 x 32 x 32 images into normalised float batches of 128, with the same options. torchvision's
is the usual one: PIL images, transforms in a data set's __getitem__, and a DataLoader without worker processes. Rounds
of both sides alternate; printed are medians in samples a second of CPU time, and the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from orchestrator.data import Augmentation, Images, normalise
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.mixing import Mixing
from orchestrator.data.policy import RandAugment, TrivialAugment

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
BATCH = 128
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


class Cutout:
    """The usual cutout of a normalised image: a square of the mean around a random pixel."""

    def __init__(self, size: int) -> None:
        self.half = size // 2

    def __call__(self, image: Tensor) -> Tensor:
        row, column = (int(torch.randint(side, ())) for side in image.shape[1:])
        top, left = max(row - self.half, 0), max(column - self.half, 0)
        image[:, top : row + self.half, left : column + self.half] = 0
        return image


class Mixed:
    """Mixup of a batch with itself in another order, as is usual."""

    def __init__(self, loader: DataLoader[tuple[Tensor, int]]) -> None:
        self.loader = loader
        self.share = torch.distributions.Beta(0.2, 0.2)

    def __iter__(self):  # type: ignore[no-untyped-def]
        for images, labels in self.loader:
            share = float(self.share.sample())
            order = torch.randperm(len(images))
            yield share * images + (1 - share) * images[order], labels


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """PIL images behind a transform."""

    def __init__(self, images: Tensor, transform: Callable[[object], Tensor]) -> None:
        self.pictures = [to_pil_image(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), 0


def theirs(pixels: Tensor, before: list[object], after: list[object]) -> DataLoader[tuple[Tensor, int]]:
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        *before,
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
        *after,
    ]
    return DataLoader(Pictures(pixels, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, num_workers=0)


def ours(train: Images, augmentation: Augmentation, view: int) -> None:
    for indices in torch.randperm(len(train)).split(BATCH):
        images, _ = augmentation.batch(train, indices, seed=0, view=view)
        normalise(images, MEAN, STD)


def cases(pixels: Tensor) -> dict[str, tuple[Augmentation, object]]:
    fill = tuple(round(255 * level) for level in MEAN)
    plain = theirs(pixels, [], [])
    return {
        "crop + flip": (Augmentation(4, True), plain),
        "+ cutout 16": (Augmentation(4, True, cutout=16, cutout_fill=fill), theirs(pixels, [], [Cutout(16)])),
        "+ colour jitter": (
            Augmentation(4, True, color_jitter=ColorJitter(**JITTER)),
            theirs(pixels, [transforms.ColorJitter(**JITTER)], []),
        ),
        "+ RandAugment 2, 9": (
            Augmentation(4, True, policy=RandAugment()),
            theirs(pixels, [transforms.RandAugment()], []),
        ),
        "+ TrivialAugment": (
            Augmentation(4, True, policy=TrivialAugment()),
            theirs(pixels, [transforms.TrivialAugmentWide()], []),
        ),
        "+ mixup 0.2": (Augmentation(4, True, mixing=Mixing(0.2, None)), Mixed(plain)),
    }


def rate(count: int, work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return count / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--images", type=int, default=2560, help="of torchvision's rounds; ours take four times as many"
    )
    parser.add_argument("--quick", action="store_true", help="one round of few images: does it run, not how fast")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images = 1, 2 * BATCH
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    # Smooth patches, as the operations of a policy cost more or less on images of few levels.
    coarse = torch.rand(options.images, 3, 8, 8, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear").mul(255).to(torch.uint8)
    train = Images(pixels.repeat(4, 1, 1, 1), torch.zeros(4 * len(pixels), dtype=torch.int64))
    print(f"Augmentation of batches of {BATCH} images of 3 x 32 x 32, medians of {options.rounds} rounds")
    print(f"{platform.processor() or platform.machine()}, one thread, torch {torch.__version__}")
    print(f"{'samples/s':22} {'torchvision':>12} {'here':>10} {'ratio':>7}")
    for name, (augmentation, loader) in cases(pixels).items():
        rates: list[tuple[float, float]] = []
        ours(train, augmentation, 0)
        for view in range(options.rounds):
            slow = rate(len(pixels), lambda: sum(1 for _ in loader))  # noqa: B023 - called at once
            fast = rate(len(train), lambda: ours(train, augmentation, view))  # noqa: B023
            rates.append((slow, fast))
        medians = [statistics.median(side) for side in zip(*rates, strict=True)]
        ratio = statistics.median(fast / slow for slow, fast in rates)
        print(f"{name:22} {medians[0]:12,.0f} {medians[1]:10,.0f} {ratio:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
