"""What the families of networks share: checked settings, scaled channels, convolutions with their norm."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from orchestrator.models.norm import make_norm


class Settings:
    """The keyword arguments of every factory, checked; see `orchestrator.models.build_model`.

    `stem_stride` becomes the architecture's own where it is None. Raises `ValueError` for one out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        norm: str = "batch",
        stem_stride: int | None = None,
        own_stride: int = 1,
    ) -> None:
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.norm = norm
        self.stem_stride = own_stride if stem_stride is None else stem_stride
        self._width = width
        if not 0 < width < math.inf:
            raise ValueError(f"width must be finite and > 0, got {width}")
        for name in ("num_classes", "in_channels", "stem_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")

    def channels(self, count: int, multiple: int = 1) -> int:
        """`count` times the width, rounded to a multiple of `multiple`, which it is at least."""
        return max(1, round(count * self._width / multiple)) * multiple


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, norm: str, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    """A convolution padded to keep the image's size at stride 1, and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=bias),
        make_norm(norm, out_channels),
    )


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, norm: str, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    """`conv_norm` and a ReLU after it."""
    return conv_norm(in_channels, out_channels, kernel, norm, stride=stride, groups=groups, bias=bias).append(nn.ReLU())


def initialise_convolutions(network: nn.Module) -> None:
    """Normal weights with variance 2 / (kernel area x output channels), and zero biases.

    He et al., "Delving Deep into Rectifiers", 2015, equation 14. A grouped convolution counts all its output
    channels, as the networks of the distillation literature do.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def stage_ends(blocks_per_stage: list[int], prefix: str = "stages") -> tuple[str, ...]:
    """Names of the last block of each stage, where the blocks of all stages lie in one sequence."""
    ends = [0]
    for count in blocks_per_stage:
        ends.append(ends[-1] + count)
    return tuple(f"{prefix}.{end - 1}" for _, end in pairwise(ends))


def pooled(features: Tensor) -> Tensor:
    """Mean over all pixels: [B, channels, h, w] to [B, channels]."""
    return features.mean(dim=(2, 3))


def shuffle_channels(features: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` equal groups, so that the next grouped convolution mixes them.

    Zhang et al., "ShuffleNet", 2018, figure 1c. `features` is [B, channels, h, w], and so is the result.
    """
    return features.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
