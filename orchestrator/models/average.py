"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class AveragedTeacher(nn.Module):
    """The average of several classifiers' outputs, as logits [B, C] for images [B, C', H, W].

    Args:
        networks: at least one, with the same classes.
        average: "logits" takes the mean of the logits; "probabilities" the logarithm of the mean of the
            softmax at temperature 1, in float32, which is a logit too: softmax gives that mean back.
    """

    def __init__(self, networks: Sequence[nn.Module], average: Literal["logits", "probabilities"]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.average = average

    def forward(self, images: Tensor) -> Tensor:
        outputs = torch.stack([network(images).float() for network in self.networks])
        if self.average == "logits":
            return outputs.mean(dim=0)
        return torch.logsumexp(outputs.log_softmax(dim=2), dim=0) - torch.tensor(len(self.networks)).log()
