"""Networks of torchvision by name: `torchvision/efficientnet_b0`.

They keep their own widths. The classifier is made for the classes asked for, batch norms become the norm asked for,
and where the images have not three channels the first convolution is made anew.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.catalog import TORCHVISION
from orchestrator.errors import CheckpointError, RegistryError
from orchestrator.models.norm import NORMS, make_norm

STEMS = {
    "DenseNet": ("features.conv0", "features.pool0"),
    "EfficientNet": ("features.0.0", None),
    "GoogLeNet": ("conv1.conv", "maxpool1"),
    "MNASNet": ("layers.0", None),
    "MobileNetV2": ("features.0.0", None),
    "MobileNetV3": ("features.0.0", None),
    "RegNet": ("stem.0", None),
    "ResNet": ("conv1", "maxpool"),
    "ShuffleNetV2": ("conv1.0", "maxpool"),
}
"""By torchvision's class: the strided first convolution, and the max-pool after it where there is one."""
WITHOUT_AUXILIARY = ("googlenet", "inception_v3")
"""Networks that otherwise put out the logits of further classifiers in training."""
STAGES = ("features", "layers", "trunk_output", "blocks")
"""Names under which networks keep their stages in a sequence."""
PROBE_SIZE = 224
"""Side in pixels of the images that stages are told apart by."""


def by_name(name: str) -> partial[nn.Module]:
    """The factory of `torchvision/<name>`; raises `RegistryError` for a name that torchvision does not have."""
    from torchvision import models

    wanted = name.removeprefix(TORCHVISION)
    known = models.list_models(module=models)
    if wanted not in known:
        raise RegistryError(
            f"torchvision has no classifier {wanted!r}",
            hint=f"nearest: {', '.join(get_close_matches(wanted, known, 5)) or 'none'}; "
            "torchvision.models.list_models(module=torchvision.models) tells all",
        )
    return partial(build, wanted)


def build(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    width: float = 1.0,
    norm: str = "batch",
    stem_stride: int | None = None,
    small_images: bool = False,
) -> nn.Module:
    """A torchvision classifier from images [B, in_channels, H, W] to logits [B, num_classes].

    Args:
        name: as torchvision says it.
        num_classes, in_channels, norm: see `orchestrator.models.build_model`.
        width, stem_stride: must be left at 1 and None.
        small_images: for images of 32 to 64 pixels: the first convolution becomes a 3x3 one of stride 1, and the
            max-pool after it goes.

    Raises:
        ValueError: an argument is out of its range or means nothing for this network.
    """
    from torchvision import models

    if width != 1:
        raise ValueError(f"width must be 1 for {TORCHVISION}{name}, whose channels are fixed, got {width}")
    if stem_stride is not None:
        raise ValueError(f"stem_stride has no meaning for {TORCHVISION}{name}; small_images changes its stem")
    for field, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise ValueError(f"{field} must be >= 1, got {value}")
    further = {"aux_logits": False, "init_weights": True} if name in WITHOUT_AUXILIARY else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **further)
    linear = [layer for layer, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or model.get_submodule(linear[-1]).out_features != num_classes:
        raise ValueError(f"{TORCHVISION}{name} ends in no linear layer, which the training needs; choose another model")
    if small_images:
        _fit_small_images(model, name)
    if in_channels != 3:
        _fit_channels(model, name, in_channels)
    if norm != "batch":
        _replace_norms(model, name, norm)
    model.classifier_layer = linear[-1]
    model.feature_layers = _stage_ends(model)  # type: ignore[assignment]
    return model


def published_weights(name: str, weights: str, *, download: bool) -> Mapping[str, Tensor]:
    """The state dict that torchvision publishes for a network, from torch's cache of downloads.

    Args:
        name: a model's name, with or without the prefix.
        weights: the name of its weights, such as DEFAULT or IMAGENET1K_V1.
        download: fetch the file where the cache has it not.

    Raises:
        CheckpointError: there are no such weights, or they are not on this machine and may not be downloaded.
    """
    from torchvision import models

    if name.removeprefix(TORCHVISION) in WITHOUT_AUXILIARY:
        raise CheckpointError(f"the published weights of {name} are for images that it normalises itself")
    kinds = models.get_model_weights(name.removeprefix(TORCHVISION))
    if weights not in kinds.__members__:
        raise CheckpointError(f"torchvision has no weights {weights} of {name}; known: {', '.join(kinds.__members__)}")
    chosen = kinds[weights]
    path = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
    if not path.is_file() and not download:
        raise CheckpointError(
            f"the weights {weights} of {name} are not on this machine",
            hint=f"set teacher.download to true, or put {chosen.url} at {path}",
        )
    try:
        state: Mapping[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"the weights {weights} of {name} cannot be had from {chosen.url}: {error}") from error
    return state


def _fit_small_images(model: nn.Module, name: str) -> None:
    kind = type(model).__name__
    if kind not in STEMS:
        raise ValueError(
            f"small_images is not known to fit {TORCHVISION}{name}: its first layers are not told apart; "
            f"it fits {', '.join(STEMS)}"
        )
    convolution, pool = STEMS[kind]
    old = model.get_submodule(convolution)
    _replace_convolution(model, convolution, old, kernel_size=3, stride=1, padding=1)
    if pool is not None:
        model.set_submodule(pool, nn.Identity())


def _fit_channels(model: nn.Module, name: str, in_channels: int) -> None:
    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != 3 or module.groups != 1:
                break
            _replace_convolution(model, layer, module, in_channels=in_channels)
            model.transform_input = False  # type: ignore[assignment]  # of the Inceptions, which reorder colours
            return
    raise ValueError(f"in_channels must be 3 for {TORCHVISION}{name}, got {in_channels}")


def _replace_convolution(model: nn.Module, layer: str, old: Any, **changed: Any) -> None:
    """Put a new convolution in place of `old`, initialised as He et al., 2015, do."""
    settings = {
        name: getattr(old, name) for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding")
    }
    new = nn.Conv2d(**{**settings, "bias": old.bias is not None, **changed})
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(layer, new)


def _replace_norms(model: nn.Module, name: str, norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    layers = [(layer, module) for layer, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        raise ValueError(f"norm must be batch for {TORCHVISION}{name}, which has none to replace, got {norm!r}")
    for layer, old in layers:
        new: Any = make_norm(norm, old.num_features)
        new.eps = old.eps
        if norm == "sync_batch":
            new.momentum = old.momentum
        with torch.no_grad():
            new.weight.copy_(old.weight)
            new.bias.copy_(old.bias)
        model.set_submodule(layer, new)


def _stage_ends(model: nn.Module) -> tuple[str, ...]:
    """The last layers that put out square maps of each size; empty where a network has none, as transformers.

    Looked at are the children of the network and of what it keeps its stages in.
    """
    probe = copy.deepcopy(model).to("meta").eval()
    ends: dict[int, str] = {}

    def keep(layer: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            ends[output.shape[2]] = layer

    for name, child in probe.named_children():
        inner = child.named_children() if name in STAGES else [("", child)]
        for position, module in inner:
            if not isinstance(module, nn.AdaptiveAvgPool2d):
                layer = f"{name}.{position}".rstrip(".")
                module.register_forward_hook(lambda _module, _inputs, output, layer=layer: keep(layer, output))
    first = next(module for module in probe.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        probe(torch.empty(1, first.in_channels, PROBE_SIZE, PROBE_SIZE, device="meta"))
    return tuple(ends[size] for size in sorted(ends, reverse=True)) if len(ends) > 1 else ()
