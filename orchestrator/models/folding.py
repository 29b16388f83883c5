"""Frozen networks without their batch norms, which become part of the convolutions before them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orchestrator.models.factory import LARGE, flop_count
from orchestrator.models.norm import SyncBatchNorm

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm)

_folded: WeakKeyDictionary[nn.Module, tuple[object, nn.Module | None]] = WeakKeyDictionary()


def folded(model: nn.Module, example: Tensor, keep: Iterable[str] = ()) -> nn.Module:
    """A frozen copy of `model` in eval mode with fewer layers to run: outputs are the same up to rounding.

    A batch norm is folded where it alone reads the output of a convolution, and both run once in a forward pass, as
    one pass of `example` ([1, C, H, W], on the model's device) shows; other norms stay, such as those before the
    convolution. In its place is an `nn.Identity`, so all layers keep their names. Weights are folded in float64 and
    rounded once: float32 logits move by about 1e-6 of their size. A network of fewer multiply-adds than `LARGE`, which
    would gain nothing that shows, is returned itself.

    The copy is made once for each `model`, and again when its weights have changed in place; it must not be changed.

    Args:
        model: left as it is.
        example: any images of the right shape.
        keep: dotted names of layers whose outputs are read and must stay what they are; a norm's own may be, but
            not that of the convolution before it.
    """
    kept = frozenset(keep)
    state = model.state_dict(keep_vars=True).values()
    key = (kept, example.shape, example.device, [(value.data_ptr(), value._version) for value in state])
    if model not in _folded or _folded[model][0] != key:
        _folded[model] = (key, _fold(model, example, kept))
    # A weak dictionary's value must not be its key.
    return _folded[model][1] or model


def _fold(model: nn.Module, example: Tensor, keep: frozenset[str]) -> nn.Module | None:
    if flop_count(model, example.shape) < LARGE:
        return None
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    for convolution, name in _pairs(frozen, example, keep):
        norm: Any = frozen.get_submodule(name)
        values = (norm.running_mean, norm.running_var, norm.weight, norm.bias, convolution.bias)
        exact: list[Any] = [None if value is None else value.double() for value in values]
        mean, variance, scale, shift, bias = exact
        weight = convolution.weight
        joint = fuse_conv_bn_weights(weight.double(), bias, mean, variance, norm.eps, scale, shift)
        convolution.weight, convolution.bias = (
            nn.Parameter(value.to(weight.dtype), requires_grad=False) for value in joint
        )
        frozen.set_submodule(name, nn.Identity())
    return frozen


def _pairs(model: nn.Module, example: Tensor, keep: frozenset[str]) -> list[tuple[nn.Conv2d, str]]:
    """The convolutions that can take up a norm, and the name of that norm."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    runs: Counter[nn.Module] = Counter()
    made_by: dict[int, nn.Conv2d] = {}
    read: dict[nn.Module, int] = {}

    def keep_output(module: nn.Module, inputs: Any, output: Any) -> None:
        runs[module] += 1
        if type(module) is nn.Conv2d:
            made_by[id(output)] = module
        elif type(module) in _NORMS:
            read[module] = id(inputs[0])

    handles = [module.register_forward_hook(keep_output) for module in names]
    with torch.no_grad(), _Uses() as uses:
        model(example)
    for handle in handles:
        handle.remove()
    pairs = []
    for norm, features in read.items():
        convolution = made_by.get(features)
        if (
            convolution is not None
            and uses.count[features] == 1
            and runs[convolution] == runs[norm] == 1
            and len(names[convolution]) == len(names[norm]) == 1
            and names[convolution][0] not in keep
            # Weight normalisation and its like compute the weight anew in every pass.
            and "weight" in convolution._parameters
            and norm.running_mean is not None
        ):
            pairs.append((convolution, names[norm][0]))
    return pairs


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an argument of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[object] = []
        """So that no two tensors share an id."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        output = func(*args, **(kwargs or {}))
        self._alive.append((args, kwargs, output))
        return output
