"""The device of a process, from what Ray has granted it."""

from __future__ import annotations

import ray
import torch

from orchestrator.errors import ResourceError


def granted_device() -> torch.device:
    """The first GPU that Ray has granted to this actor, of those that it can see; the CPU where there is none.

    Raises `ResourceError` where torch cannot use the GPU.
    """
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ResourceError(
            "resources.gpus_per_worker asks for a GPU, which Ray has, but torch cannot use it",
            hint="install torch with CUDA and a driver that suits it, or set gpus_per_worker to 0",
        )
    # Ray shows an actor its own GPUs alone, so that they count from 0.
    return torch.device("cuda", 0)
