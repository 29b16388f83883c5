"""What becomes of an exception that ends a trial."""

from __future__ import annotations

import contextlib
import errno
import traceback
from pathlib import Path
from typing import Any

from orchestrator.errors import (
    BuildError,
    DataError,
    DivergenceError,
    OrchestratorError,
    RegistryError,
    ResourceError,
    StorageError,
    TeacherError,
)
from orchestrator.execution.job import FAILURE, FATAL, LASTING, MEMORY
from orchestrator.execution.memory import in_short, ran_out
from orchestrator.store.trial import TrialFolder

CUDA = "CUDA error"
"""Words of the errors of the driver, where their type does not tell."""


def failed(error: Exception, folder: str) -> dict[str, Any]:
    """The trial's last result; the traceback goes into the trial's own `folder`."""
    trial = TrialFolder(Path(folder))
    # Where the disk is full, the reason itself has to be enough.
    with contextlib.suppress(OSError):
        trial.path.mkdir(parents=True, exist_ok=True)
        trial.error.write_text("".join(traceback.format_exception(error)))
    memory = ran_out(error)
    return {
        FAILURE: in_short(error) if memory else _in_one_line(error),
        FATAL: not memory and _hits_all(error),
        LASTING: isinstance(error, DivergenceError),
        MEMORY: memory,
        "done": True,
    }


def breaks_gpu(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, leaves a process with a GPU that fails every later call."""
    if ran_out(error):
        return False
    while error is not None:
        if type(error).__name__ == "AcceleratorError" or (isinstance(error, RuntimeError) and CUDA in str(error)):
            return True
        error = error.__cause__
    return False


def _hits_all(error: Exception) -> bool:
    """Whether every other trial would fail alike."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, (BuildError, DataError, RegistryError, ResourceError, StorageError, TeacherError))


def _in_one_line(error: Exception) -> str:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text if isinstance(error, OrchestratorError) else f"{type(error).__name__}: {text}"
