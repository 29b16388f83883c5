"""What this machine offers, found without loading torch or Ray."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Schedulable resources."""

    cpus: float
    gpus: float = 0


def this_machine() -> Machine:
    """CPU cores this process may use, within a container's quota, and NVIDIA GPUs that are visible."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return Machine(cpus=max(1, min(cpus, int(quota) if quota else cpus)), gpus=_visible_gpus())


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else float(limit) / float(period)
    except (OSError, ValueError):
        return None


def _visible_gpus() -> int:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in re.split(r"[,\s]+", chosen) if name and name != "-1"])
    devices = Path("/proc/driver/nvidia/gpus")
    return len(list(devices.iterdir())) if devices.is_dir() else 0
