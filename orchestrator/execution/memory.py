"""Telling that memory ran out, however that shows, and what to do about it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from orchestrator.search.logits import GB
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.resources import ResourcesSpec

_WORDS = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|std::bad_alloc|\w+_STATUS_ALLOC_FAILED", re.IGNORECASE
)
_ASKED = re.compile(r"tried to allocate ([\d.]+) ?(\w+)", re.IGNORECASE)
RAY_KILLED = "low on memory"
"""Words of Ray where its memory monitor has killed a process."""
VMSTAT = Path("/proc/vmstat")


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that memory ran out, on a GPU or elsewhere."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        # torch has no type of its own for memory that is not a GPU's.
        if isinstance(error, RuntimeError) and _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def in_short(error: BaseException) -> str:
    """That memory ran out, and where it is told, how much was asked for."""
    asked = _ASKED.search(str(error))
    if asked is None:
        return "out of memory"
    amount = f"{float(asked[1]) / GB:.3g} GB" if asked[2] == "bytes" else f"{asked[1]} {asked[2]}"
    return f"out of memory, asking for {amount} more"


class KernelKills:
    """Processes of this machine that the kernel has killed as memory ran out, those of other containers included."""

    def __init__(self) -> None:
        self._seen = self._count()

    def new(self) -> bool:
        """Whether there is one that nobody has been told of; a process that has died asks once."""
        found = self._count() > self._seen
        self._seen += found
        return found

    def _count(self) -> int:
        try:
            found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0


def advice(run: RunSpec, resources: ResourcesSpec, concurrent: int, *, distils: bool) -> str:
    """What would need less memory: first what leaves the experiment as it is, then what makes another one of it."""
    training, path = (run.training, "training") if distils else (run.teacher_training, "teacher.training")
    gpus = resources.gpus_per_worker
    here, other = [], [f"a smaller {path}.batch_size (now {training.batch_size})"]
    if concurrent > 1 and gpus < 1:
        here.append(f"fewer trials at once (resources.max_concurrent_trials, now {concurrent})")
    if 0 < gpus < 1:
        here.append(f"a larger share of a GPU (resources.gpus_per_worker, now {gpus:g})")
    if not (distils and run.distillation.relating_samples):
        other.append(f"a larger {path}.accumulation (now {training.accumulation})")
    if training.precision != "bf16":
        other.append(f"{path}.precision: bf16")
    if distils and run.needs_teacher and run.distillation.teacher_logits.keep == "live":
        other.append("distillation.teacher_logits.keep: stored, which needs no teacher there")
    changed = f"as another experiment, {_listed(other)}"
    return f"try {_listed(here)}; or, {changed}" if here else f"try, {changed}"


def _listed(parts: list[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
