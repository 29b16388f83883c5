"""The layer that gives the logits, exact under mixed precision too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Classifier(nn.Linear):
    """A linear layer that autocast leaves in the precision of its weights: [B, D] to logits [B, C].

    In bf16, with three significant digits, several classes would often share the largest logit.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.is_meta or not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.to(self.weight.dtype), self.weight, self.bias)


def exact_classifier(model: nn.Module) -> None:
    """Make the linear layer that `model` names as its `classifier_layer` a `Classifier`, with the same weights.

    A model that names none, or another kind of layer, stays as it is.
    """
    name = getattr(model, "classifier_layer", None)
    if isinstance(name, str) and type(layer := model.get_submodule(name)) is nn.Linear:
        exact = Classifier(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        exact.weight, exact.bias = layer.weight, layer.bias
        model.set_submodule(name, exact.train(layer.training))
