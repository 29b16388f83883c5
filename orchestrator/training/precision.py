"""Which arithmetic the networks use, and how; the loss is float32 always."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from orchestrator.errors import ResourceError
from orchestrator.models import LARGE

Precision = Literal["float32", "bf16"]


def resolve_precision(
    requested: Literal["auto", "float32", "bf16"], device: torch.device, network: nn.Module, multiply_adds: int
) -> tuple[Precision, str]:
    """The precision to train `network` in on `device` and the reason, as a phrase for the log.

    `multiply_adds` are those of one image's forward pass. Raises `ResourceError` when bf16 is asked for on a GPU that
    lacks it.
    """
    if requested == "float32":
        return "float32", "asked for"
    units = _bf16_units(device)
    if requested == "bf16":
        if device.type != "cpu" and units is None:
            raise ResourceError(f"{device} cannot compute in bf16", hint="set training.precision to auto")
        return "bf16", "asked for"
    if units is None:
        return "float32", f"auto: {'this processor' if device.type == 'cpu' else device} has no bf16 units"
    if device.type != "cpu":
        return "bf16", f"auto: {units}"
    size = f"{multiply_adds / 1e6:.3g} million multiply-adds an image"
    if multiply_adds < LARGE:
        return "float32", f"auto: at {size} bf16 gains little, as below {LARGE // 10**6} million"
    if any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules()):
        return "float32", "auto: on a processor gradients of grouped convolutions are slower in bf16"
    return "bf16", f"auto: this processor has {units}, and {size} gain by it"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which to run a network; does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _bf16_units(device: torch.device) -> str | None:
    """What computes in bf16 on `device`, None where it would be emulated."""
    if device.type == "cuda":
        # Ampere was the first with bf16 units; torch's own check counts emulation, too.
        return f"{device} computes in bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else None
    if device.type == "cpu":
        units = torch.cpu.get_capabilities()
        return next((name for name in ("amx_bf16", "avx512_bf16") if units.get(name)), None)
    return None
