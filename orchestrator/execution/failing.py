"""What becomes of an exception that ends a trial."""

from __future__ import annotations

import contextlib
import errno
import traceback
from pathlib import Path
from typing import Any

from orchestrator.errors import BuildError, DataError, OrchestratorError, RegistryError, ResourceError, TeacherError
from orchestrator.execution.job import FAILURE, FATAL
from orchestrator.store.home import TrialFolder


def failed(error: Exception, folder: str) -> dict[str, Any]:
    """The trial's last result; the traceback goes into the trial's own `folder`."""
    trial = TrialFolder(Path(folder))
    # Where the disk is full, the reason itself has to be enough.
    with contextlib.suppress(OSError):
        trial.path.mkdir(parents=True, exist_ok=True)
        trial.error.write_text("".join(traceback.format_exception(error)))
    return {FAILURE: _in_one_line(error), FATAL: _hits_all(error), "done": True}


def _hits_all(error: Exception) -> bool:
    """Whether every other trial would fail alike."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, (BuildError, DataError, RegistryError, ResourceError, TeacherError))


def _in_one_line(error: Exception) -> str:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text if isinstance(error, OrchestratorError) else f"{type(error).__name__}: {text}"
