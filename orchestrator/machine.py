"""What this machine offers, found without loading torch or Ray."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Schedulable resources of a computer, or of a cluster of several."""

    cpus: float
    gpus: float = 0
    nodes: tuple[Machine, ...] = ()
    """The computers of a cluster; empty for a single one."""
    custom: Mapping[str, float] | None = None
    """Ray's custom resources of a cluster's node; None where a Ray that is started for one experiment has any."""

    @classmethod
    def cluster(cls, nodes: Iterable[Machine]) -> Machine:
        """All of them together."""
        several = tuple(nodes)
        return cls(sum(node.cpus for node in several), sum(node.gpus for node in several), several)

    def workers(self, cpus: float, gpus: float, custom: Mapping[str, float] | None = None) -> int:
        """How many workers find a place, each of which needs so much of one node.

        A share of a GPU is a share of a single one.
        """
        if self.nodes:
            return sum(node.workers(cpus, gpus, custom) for node in self.nodes)
        fit = int(self.cpus // cpus)
        if self.custom is not None:
            fit = min([fit, *(int(self.custom.get(name, 0) / each + 1e-9) for name, each in (custom or {}).items())])
        if 0 < gpus < 1:
            return min(fit, int(self.gpus) * int(1 / gpus + 1e-9))
        return min(fit, int(self.gpus // gpus)) if gpus else fit


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
