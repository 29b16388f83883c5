"""The Tune trainable: runs one session after the other in the same actor."""

from __future__ import annotations

import contextlib
import errno
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.errors import DataError, OrchestratorError, RegistryError, TeacherError
from orchestrator.execution.job import DESCRIBED, FAILURE, FATAL, Job
from orchestrator.store.home import TrialFolder

if TYPE_CHECKING:
    from orchestrator.execution.session import Session


class DistillationTrainable(tune.Trainable):
    """One trial of an experiment; `reset_config` takes the next one, and keeps data and teacher loaded.

    A trial that fails reports so as its last result instead of raising: its actor, and what that has
    loaded, goes on to serve the next trial. Only the death of the process is left to Ray.
    """

    def setup(self, config: dict[str, Any]) -> None:
        # The driver imports this module too, and does without torch.
        import torch

        from orchestrator.execution.session import Cache

        torch.set_num_threads(config["threads"])
        self._cache = Cache()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._job = Job.from_json(new_config["job"])
        self._session: Session | None = None
        return True

    def step(self) -> dict[str, Any]:
        from orchestrator.execution.session import Session

        try:
            first = self._session is None
            if self._session is None:
                self._session = Session(self._job, self._cache)
            metrics: dict[str, Any] = {**self._session.train_epoch()}
            if first:
                metrics[DESCRIBED] = self._session.described
        except Exception as error:
            self._session = None
            self._keep_traceback()
            return {
                FAILURE: _in_one_line(error),
                FATAL: _hits_all(error),
                "done": True,
            }
        return {**metrics, "done": self._session.done}

    def cleanup(self) -> None:
        """The actor ends: keep what an interrupted trial has trained."""
        if self._session is not None and not self._session.done:
            self._session.save()

    def _keep_traceback(self) -> None:
        folder = TrialFolder(Path(self._job.folder))
        text = traceback.format_exc()
        # Where the disk is full, the reason itself has to be enough.
        with contextlib.suppress(OSError):
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.error.write_text(text)


def _hits_all(error: Exception) -> bool:
    """Whether every other trial would fail alike."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, (DataError, RegistryError, TeacherError))


def _in_one_line(error: Exception) -> str:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text if isinstance(error, OrchestratorError) else f"{type(error).__name__}: {text}"
