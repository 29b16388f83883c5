"""Which arithmetic the networks use, and how; the loss is float32 always."""

from __future__ import annotations

from typing import Literal

import torch

from orchestrator.errors import ResourceError

Precision = Literal["float32", "bf16"]


def resolve_precision(requested: Literal["auto", "float32", "bf16"], device: torch.device) -> tuple[Precision, str]:
    """The precision to use on `device` and the reason, as a phrase for the log.

    Raises `ResourceError` when bf16 is asked for on a GPU that lacks it.
    """
    if requested == "float32":
        return "float32", "asked for"
    supported = device.type == "cpu" or (device.type == "cuda" and _cuda_has_bf16(device))
    if requested == "bf16":
        if not supported:
            raise ResourceError(f"{device} cannot compute in bf16", hint="set training.precision to auto")
        return "bf16", "asked for"
    if device.type == "cpu":
        return "float32", "auto on a CPU, where the accuracy under bf16 is not established"
    if not supported:
        return "float32", f"auto, and {device} cannot compute in bf16"
    return "bf16", f"auto, and {device} computes in bf16"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which to run a network; does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _cuda_has_bf16(device: torch.device) -> bool:
    # Ampere was the first with bf16 units; torch's own check counts emulation, too.
    return torch.cuda.get_device_capability(device) >= (8, 0)
