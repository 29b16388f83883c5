"""What a trial needs to run, and what it says when it cannot; read by the driver, so without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from orchestrator.store.remote import local_folder

FAILURE: Final = "failure"
"""Key of a result that says in one line why the trial failed."""
FATAL: Final = "fatal"
"""Key of such a result where every other trial would fail alike: missing data, an unknown plugin."""
LASTING: Final = "lasting"
"""Key of such a result where the same trial would fail in the same way again: it diverged."""
MEMORY: Final = "memory"
"""Key of such a result where memory ran out."""
DIED: Final = "died"
"""Key of such a result where the trial's workers died."""

INTERRUPTED: Final = "interrupted"
"""Key of a result that says nothing but that training was left in the middle of an epoch."""

DESCRIBED: Final = "described"
"""Key of a trial's first result: what only its process knows of its networks, by dotted name."""

DATA: Final = "data"
"""Key of what is described that tells of the images: a list of `tracking.base.DataSet` as plain data."""


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
    teachers: list[dict[str, Any]] = field(default_factory=list)
    """What the student learns from: each a `TeacherSpec` under "model", and under "weights" where those are."""
    weights: str | None = None
    """Where a network of stage 0 leaves its own weights."""
    distils: bool = True
    """Whether the student is trained, and not the run's teacher on labels."""
    until: int | None = None
    """The epoch after which the trial waits for others, its checkpoint saved; None where it runs to its end."""
    watched: list[str] = field(default_factory=list)
    """Dotted paths of fields and sections whose numbers are metrics of every epoch: they change in mid-training."""
    cache: str | None = None
    """Folder that all trials share for decoded images and downloads."""
    logits: Mapping[str, Any] | None = None
    """Where the teacher's logits come from: a `search.logits.Keeping`, and under "folder" where stored ones are."""

    students: list[dict[str, Any]] = field(default_factory=list)
    """Runs to build once before this one trains: each a "name", a `RunSpec` under "run", and "teachers", which are
    `ModelSpec`s. What cannot be built is told before hours go into a teacher."""

    home: Mapping[str, str] | None = None
    """Of a home in an object store its "uri", the "folder" that stands for it here, and the experiment's "life"."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job, with the paths of the machine that reads it."""
        fields = json.loads(text)
        if home := fields.get("home"):
            here = str(local_folder(home["uri"]))
            fields = _moved(fields, home["folder"], here)
        return cls(**fields)


def _moved(value: Any, before: str, after: str) -> Any:
    """A value in which every text that is a path in one folder is one in another."""
    if isinstance(value, dict):
        return {name: _moved(inner, before, after) for name, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, before, after) for inner in value]
    is_path = isinstance(value, str) and (value == before or value.startswith(f"{before}/"))
    return f"{after}{value[len(before) :]}" if is_path else value
