"""The weights of an experiment's trained students, wherever its home lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.errors import CheckpointError
from orchestrator.store.folder import ExperimentFolder


def student_weights(folder: ExperimentFolder, trial_id: str) -> Path:
    """The file with the student of a final run, brought to this machine where its experiment is in an object store.

    Raises `CheckpointError` where there is none.
    """
    path = folder.trial(trial_id).weights
    if not (folder.shared.remote.fetch(path) if folder.shared else path.is_file()):
        raise CheckpointError(
            f"{trial_id} of {folder.id} has left no student: there is no file {path}",
            hint="only final runs that have ended leave one (search.final_seeds)",
        )
    return path


def digest_of(path: Path) -> str:
    """What tells a file's content from any other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
