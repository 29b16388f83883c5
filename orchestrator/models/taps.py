"""What a network computes on its way to the logits: outputs of named layers, and the embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn

from orchestrator.errors import RegistryError
from orchestrator.registry import nearest

EMBEDDING: Final = "embedding"
"""Name of the classifier's input, beside the names of layers."""


class Tap:
    """Calls a network and collects features of the same forward pass.

    A network says where its stages end (`feature_layers`, dotted names of submodules, shallow to deep) and which
    layer gives the logits (`classifier_layer`); any other submodule can be named just as well.

    Nothing stays behind: hooks live for one call, and the tensors belong to the caller. Features carry gradient
    where the call does; under autocast they have the dtype that the layer gave.

    Args:
        model: the network itself, not wrapped for data parallelism.
        layers: dotted names of submodules, or `EMBEDDING`.

    Raises:
        RegistryError: the model has no such layer.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        self.model = model
        self.layers = tuple(dict.fromkeys(layers))
        self._modules = {layer: self._module(layer) for layer in self.layers}

    def __call__(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's output for `inputs`, and by layer its features ([B, ...]; the embedding [B, D]).

        Of a layer that runs several times the last output counts. Raises `ValueError` when a layer did not run
        or gave something else than a tensor.
        """
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for layer, module in self._modules.items():
                if layer == EMBEDDING:
                    handle = module.register_forward_pre_hook(_keep_input(layer, found))
                else:
                    handle = module.register_forward_hook(_keep_output(layer, found))
                hooks.callback(handle.remove)
            output = self.model(inputs)
        for layer in self.layers:
            if layer not in found:
                raise ValueError(f"layer {layer!r} of {type(self.model).__name__} gave no tensor in the forward pass")
        return output, found

    def _module(self, layer: str) -> nn.Module:
        modules = dict(self.model.named_modules())
        modules.pop("")
        name = _classifier(self.model) if layer == EMBEDDING else layer
        if name in modules:
            return modules[name]
        close = nearest(layer, [*modules, EMBEDDING])
        stages = [*getattr(self.model, "feature_layers", ()), EMBEDDING]
        raise RegistryError(
            f"{type(self.model).__name__} has no layer {layer!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"ends of its stages: {', '.join(stages)}; all its layers: {', '.join(modules)}",
        )


def stage_layers(model: nn.Module) -> tuple[str, ...]:
    """The layers that end the model's stages, shallow to deep; raises `RegistryError` where it names none."""
    layers: tuple[str, ...] = tuple(getattr(model, "feature_layers", ()))
    if not layers:
        raise RegistryError(
            f"{type(model).__name__} does not say where its stages end",
            hint="name the layers in the spec, or give the class an attribute feature_layers",
        )
    return layers


def feature_shapes(model: nn.Module, layers: Iterable[str], example: Tensor) -> dict[str, tuple[int, ...]]:
    """Shape of each layer's features without the batch, found by passing `example` [1, C, H, W] through the model.

    The model is in eval mode meanwhile, so running statistics stay as they are. Raises as `Tap`.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            _, features = Tap(model, layers)(example)
    finally:
        for module, training in modes.items():
            module.training = training
    return {layer: tuple(values.shape[1:]) for layer, values in features.items()}


def _classifier(model: nn.Module) -> str:
    name = getattr(model, "classifier_layer", None)
    if not isinstance(name, str):
        raise RegistryError(
            f"{type(model).__name__} does not say which layer is its classifier, so it has no {EMBEDDING!r}",
            hint="name another layer, or give the class an attribute classifier_layer",
        )
    return name


def _keep_output(layer: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found[layer] = output

    return keep


def _keep_input(layer: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            found[layer] = inputs[0]

    return keep
