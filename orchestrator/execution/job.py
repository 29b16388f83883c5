"""What a trial needs to run, and what it says when it cannot; read by the driver, so without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

FAILURE: Final = "failure"
"""Key of a result that says in one line why the trial failed."""
FATAL: Final = "fatal"
"""Key of such a result where every other trial would fail alike: missing data, an unknown plugin."""


@dataclass(frozen=True)
class Job:
    """One trial as plain data, which travels to whoever runs it."""

    trial: str
    phase: str
    run: Mapping[str, Any]
    """The resolved `RunSpec`."""
    split_seed: int
    folder: str
    """The trial's own."""
    teacher: str | None
    """The teacher's weights: read by a student, written by a teacher's own trial."""
    cache: str | None = None
    """Folder that all trials share for decoded images and downloads."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))
