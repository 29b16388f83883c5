"""Builds networks by their name in the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.catalog import MODELS, TORCHVISION
from orchestrator.models.classifier import exact_classifier

LARGE = 5_000_000
"""Multiply-adds for one image from which on a network's time goes into arithmetic, and no longer between operations;
`bench/precision.py` shows it."""


def build_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    width: float = 1.0,
    norm: str = "batch",
    stem_stride: int | None = None,
    small_images: bool = False,
) -> nn.Module:
    """A freshly initialised network that maps images [B, in_channels, H, W] to logits [B, num_classes].

    The layer that it names as its classifier gives float32 logits under autocast too.

    Args:
        name: a name in `catalog.MODELS`; its factory takes the keyword arguments of this function.
        num_classes: C, >= 1.
        in_channels: channels of the images, >= 1.
        width: factor on the number of channels of every layer, > 0.
        norm: "batch", "group" or "sync_batch"; see `orchestrator.models.norm`.
        stem_stride: stride of the first layer in pixels, >= 1; 2 or more suits large images. None is the
            architecture's own: 2 for mobilenet_v2 and 1 for all others.
        small_images: for torchvision's networks alone, which are made for large ones; see
            `orchestrator.models.torchvision_models.build`.

    Raises:
        RegistryError: there is no such model.
        ValueError: an argument is out of its range.
    """
    factory = MODELS[name]
    if small_images:
        if not name.startswith(TORCHVISION):
            raise ValueError(f"small_images has no meaning for {name}, only for {TORCHVISION}<name>")
        factory = partial(factory, small_images=True)
    model: nn.Module = factory(
        num_classes=num_classes, in_channels=in_channels, width=width, norm=norm, stem_stride=stem_stride
    )
    exact_classifier(model)
    return model


def flop_count(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one forward pass in eval mode over images of `input_shape` [B, C, H, W].

    One multiplication with its addition counts as one, as in the papers of these networks. Counted are
    convolutions, matrix products and attention; norms, activations and pools are not. A model on torch's meta
    device is counted without computing anything.
    """
    device = next(model.parameters()).device
    training = model.training
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(*input_shape, device=device))
    finally:
        model.train(training)
    return int(counter.get_total_flops()) // 2


def parameter_count(model: nn.Module) -> int:
    """Number of values in the parameters of `model`; running statistics of norms are not parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
