"""Settings of a process that trains, for all of its runs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache

import torch

from orchestrator.errors import ResourceError, first_line

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**30


@cache
def require_compiler(device: torch.device) -> None:
    """Raises `ResourceError` where `torch.compile` does not work, as without a C++ compiler."""
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"training.compile is true, but torch cannot compile for {device}: {first_line(error)}",
            hint="install g++ for a processor or a matching Triton for a GPU, or set training.compile to false",
        ) from error


def prepare_process(threads: int) -> None:
    """Let torch compute with `threads` threads, and keep freed memory for the next step.

    Left alone, glibc gives the memory of every large activation back to the system and fetches it anew in every step:
    a tenth of a float32 step's time goes into clearing pages. Up to 1 GiB of it is kept instead. Other systems keep it
    anyway or have other means. On a GPU float32 is float32: without this, cuDNN would compute convolutions in TF32.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    # Only independent operations of a scripted graph would use them, and they take their turn once work has begun.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
