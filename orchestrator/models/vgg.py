"""VGG networks for small images (Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, table 1).

Configurations A, B, D and E with norms, and the 8-layer one of the distillation literature (one layer a stage);
their three fully connected layers are one, behind a global average pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from orchestrator.models.layers import Settings, conv_norm_relu, initialise_convolutions, pooled

STAGE_CHANNELS = (64, 128, 256, 512, 512)
MIN_LAST_SIZE = 4
"""Side, in pixels, up to which maps are not pooled before the last stage."""


class VGG(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes].

    Every stage but the first halves the image; the last one only where its maps would be larger than 4 pixels, so
    images of 32 pixels keep maps of 4.

    Args:
        layers: convolutions of each of the five stages.
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`.

    Raises:
        ValueError: an argument is out of its range, or the images are smaller than 8 pixels after the stem's stride.
    """

    feature_layers: tuple[str, ...] = tuple(f"stages.{stage}" for stage in range(len(STAGE_CHANNELS)))
    """The five stages; each puts out maps [B, channels, h, w], after the ReLU and before the next pool."""
    classifier_layer = "head"

    def __init__(self, layers: Sequence[int], **settings: Any) -> None:
        super().__init__()
        given = Settings(**settings)
        channels = given.in_channels
        self.stages = nn.Sequential()
        for stage, (count, base) in enumerate(zip(layers, STAGE_CHANNELS, strict=True)):
            convolutions = nn.Sequential()
            for position in range(count):
                stride = given.stem_stride if stage == position == 0 else 1
                out_channels = given.channels(base)
                convolutions.append(conv_norm_relu(channels, out_channels, 3, given.norm, stride=stride, bias=True))
                channels = out_channels
            self.stages.append(convolutions)
        self.head = nn.Linear(channels, given.num_classes)
        initialise_convolutions(self)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = images
        last = len(self.stages) - 1
        for position, stage in enumerate(self.stages):
            if 0 < position < last or (position == last and min(features.shape[2:]) > MIN_LAST_SIZE):
                features = _halved(features)
            features = stage(features)
        logits: Tensor = self.head(pooled(features))
        return logits


def _halved(features: Tensor) -> Tensor:
    if min(features.shape[2:]) < 2:
        raise ValueError("the images are too small for VGG: 8 pixels at least, after the stride of stem_stride")
    return functional.max_pool2d(features, 2)


vgg8 = partial(VGG, (1, 1, 1, 1, 1))
vgg11 = partial(VGG, (1, 1, 2, 2, 2))
vgg13 = partial(VGG, (2, 2, 2, 2, 2))
vgg16 = partial(VGG, (2, 2, 3, 3, 3))
vgg19 = partial(VGG, (2, 2, 4, 4, 4))
