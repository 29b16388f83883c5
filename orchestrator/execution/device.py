"""The device of a process, from what Ray has granted it."""

from __future__ import annotations

import ray
import torch

from orchestrator.errors import ResourceError

FIRST = torch.device("cuda", 0)
"""Ray shows an actor its own GPUs alone, so that they count from 0."""


def granted_device(device: torch.device = FIRST) -> torch.device:
    """The GPU that Ray has granted to this process, which counts it as `device`; the CPU where it has granted none.

    A process that shares its GPU gets no more of the memory than its share, and runs out where it needs more: it
    would else take what belongs to its neighbours, and one of those would run out in its place.

    Raises `ResourceError` where torch cannot use the GPU.
    """
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ResourceError(
            "resources.gpus_per_worker asks for a GPU, which Ray has, but torch cannot use it",
            hint="install torch with CUDA and a driver that suits it, or set gpus_per_worker to 0",
        )
    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0)
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)
    return device
