"""Mixup and CutMix, whose second image comes from the whole training set and not from the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.data.draws import Stream, beta, integers, uniform
from orchestrator.data.geometry import choose, inside


@dataclass(frozen=True)
class Partners:
    """What was mixed into the B images of a batch."""

    labels: Tensor
    """int64 [B], of the partners."""
    share: Tensor
    """float32 [B] in [0, 1], of each sample's own image and label; the partner has the rest."""


class Mixing:
    """Mixes a sample's image with that of a partner; the labels are mixed in the same shares.

    Both papers take the partner from the batch and draw one share for all of it. Here partner and share are drawn
    for each sample, by (seed, view, sample index), from all training samples, so that neither batches nor workers
    change them.

    For distillation a mixed image is one more input that the teacher is asked about:

    - The cross entropy is mixed: share * CE(label) + (1 - share) * CE(partner's label).
    - Standard KD and DTD act on the logits of both networks for the mixed image and need no label.
    - The teacher is wrong where its top class is neither of the two labels; LA repairs such a target with the
      label of the larger share, and `adjustment/wrong` counts them.

    Args:
        mixup: alpha of Mixup (Zhang et al. 2018): share ~ Beta(alpha, alpha), images are blended; None is off.
        cutmix: alpha of CutMix (Yun et al. 2019): share ~ Beta(alpha, alpha), a box of the rest's area comes from
            the partner; the share is what is left after the box is cut off at the border. None is off.
        probability: of a sample being mixed at all; of both methods each mixed sample draws one, evenly.

    Raises:
        ValueError: both are off, an alpha is not above 0, or the probability is outside 0 to 1.
    """

    def __init__(self, mixup: float | None, cutmix: float | None, probability: float = 1.0) -> None:
        if mixup is None and cutmix is None:
            raise ValueError("mixup or cutmix must be given")
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if alpha is not None and not 0 < alpha < float("inf"):
                raise ValueError(f"{name} must be finite and above 0, not {alpha}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be 0 to 1, not {probability}")
        self.mixup = mixup
        self.cutmix = cutmix
        self.probability = probability

    def partners(self, indices: Tensor, count: int, *, seed: int, view: int) -> Tensor:
        """Of each sample (int64 [B]) the partner among `count` samples, int64 [B]; it may be the sample itself."""
        return integers(seed, view, indices, Stream.MIX_PARTNER, count)

    def __call__(
        self, images: Tensor, others: Tensor, indices: Tensor, *, seed: int, view: int
    ) -> tuple[Tensor, Tensor]:
        """Mixed images, and the share of each sample's own image and label, float32 [B].

        Args:
            images: uint8 [B, C, H, W]; not changed.
            others: the partners' images, likewise.
            indices: int64 [B], of the samples in the data set.
            seed: of the run.
            view: numbers the variants of one sample, such as the epoch.
        """
        draws = uniform(seed, view, indices, Stream.MIX_SHARE)
        off = uniform(seed, view, indices, Stream.MIX_GATE) >= self.probability
        if self.mixup is None or self.cutmix is None:
            cuts = torch.full_like(off, self.cutmix is not None)
        else:
            cuts = uniform(seed, view, indices, Stream.MIX_METHOD) < 0.5
        share = torch.ones_like(draws)
        if self.mixup is not None:
            blended = torch.where(cuts | off, 1.0, beta(draws, self.mixup))
            share = torch.where(cuts, share, blended)
            images = _blend(images, others, blended)
        if self.cutmix is not None:
            kept = torch.where(cuts & ~off, beta(draws, self.cutmix), 1.0)
            box, left = self._boxes(kept, indices, images.shape[2], images.shape[3], seed, view)
            images = choose(box, others, images)
            share = torch.where(cuts, left, share)
        return images, share

    @staticmethod
    def _boxes(kept: Tensor, indices: Tensor, height: int, width: int, seed: int, view: int) -> tuple[Tensor, Tensor]:
        """bool [B, 1, H, W], boxes of about a share 1 - kept (float32 [B]) of the area; and what they leave, [B]."""
        edges = []
        for size, stream in ((height, Stream.MIX_ROW), (width, Stream.MIX_COLUMN)):
            centre = integers(seed, view, indices, stream, size)
            side = ((1 - kept).sqrt() * size).long()
            start = centre - side // 2
            edges += [start.clamp(min=0), (start + side).clamp(max=size)]
        top, bottom, left, right = edges
        area = (bottom - top) * (right - left)
        return inside(top, bottom, left, right, height, width), 1 - area.to(torch.float32) / (height * width)


def _blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """share * images + (1 - share) * others, rounded; exactly the images where the share is 1."""
    share = share.view(-1, 1, 1, 1)
    blended = images.to(torch.float32).mul_(share).add_(others.to(torch.float32).mul_(1 - share))
    return blended.round_().to(torch.int16).to(torch.uint8)
