"""Which folder a spec's experiment is in: its own, that of the experiment which it extends, or a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import OrchestratorError
from orchestrator.search.extension import Change, compare, grown
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


@dataclass(frozen=True)
class Placed:
    """A spec and the folder of its experiment."""

    folder: ExperimentFolder
    spec: ExperimentSpec
    """What is in force: the spec as it was given, with the extensions of earlier times."""
    notes: tuple[str, ...] = ()
    """What whoever gave the spec has to know."""
    changes: tuple[Change, ...] = ()
    """Extensions that the folder does not know of yet."""
    known: tuple[Change, ...] = ()
    """Those that it knew of when it was looked at."""


def place(spec: ExperimentSpec, home: Home) -> Placed:
    """Find the spec's experiment, by its hash, or by what it differs in from others of its name."""
    folder = home.experiment(spec)
    if folder.journal.path.exists():
        changes = folder.extensions()[0]
        now = grown(spec, changes)
        told = (f"{folder.id} goes on as it was extended: {_listed(changes)}",) if now != spec else ()
        return Placed(folder, now, told, known=tuple(changes))
    notes: list[str] = []
    for other in home.of_name(spec.name):
        try:
            changes, hashes = other.extensions()
            there = other.spec()
        except (OrchestratorError, OSError):
            continue
        if there.hash not in hashes and there.id != other.id:
            # Of another version of the orchestrator, under which the same spec gives other results.
            continue
        given = grown(spec, changes)
        found = compare(there, given)
        if found.obstacle is None:
            told = (f"{other.id} is extended: {_listed(found.changes)}",) if found.changes else ()
            return Placed(other, given, told, found.changes, tuple(changes))
        if not notes:
            notes.append(f"this is a new experiment: it differs from {other.id} in {found.obstacle}")
    return Placed(folder, spec, tuple(notes))


def _listed(changes: Sequence[Change]) -> str:
    return ", ".join(map(str, changes))
