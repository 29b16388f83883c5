"""A trial's folder: its metrics by epoch, its checkpoints, what describes it, why it failed."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import CheckpointError
from orchestrator.store.files import to_disk, write_atomically


class TrialFolder:
    """One trial on disk: its metrics by epoch, its checkpoints, its traceback."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The student's weights after the last epoch; written for final runs."""
        return self.path / "student.safetensors"

    @property
    def error(self) -> Path:
        return self.path / "error.txt"

    @property
    def artifacts(self) -> Path:
        """Folder of small text files that describe the trial when it has ended; they go to the tracker."""
        return self.path / "artifacts"

    def claim(self) -> str:
        """Become the one process that writes here; any earlier one is to find out by `is_claimed`."""
        mine = uuid.uuid4().hex
        (self.path / "writer").write_text(mine)
        return mine

    def is_claimed(self, by: str) -> bool:
        """Whether nobody else has claimed it since."""
        return (self.path / "writer").read_text() == by

    def described(self) -> dict[str, str]:
        """The artifacts' text by file name."""
        return {path.name: path.read_text() for path in sorted(self.artifacts.glob("*.csv"))}

    @property
    def _logs(self) -> tuple[EpochLog, EpochLog]:
        return EpochLog(self.path / "metrics.jsonl"), EpochLog(self.path / "temperatures.jsonl")

    def metrics(self) -> list[dict[str, float]]:
        """The metrics of each epoch, with the key "epoch" counted from 1; a cut last line is left out."""
        return self._logs[0].read()

    def temperatures(self) -> list[dict[str, Any]]:
        """The histogram of temperatures of each epoch, under "epoch", "counts" and "bounds"."""
        return self._logs[1].read()

    def add_metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._logs[0].add({"epoch": epoch, **metrics})

    def add_temperatures(self, epoch: int, counts: Sequence[int], bounds: tuple[float, float]) -> None:
        """Keep an epoch's samples by temperature, in bins of equal width between the bounds."""
        self._logs[1].add({"epoch": epoch, "counts": list(counts), "bounds": list(bounds)})

    def take_checkpoints(self, other: TrialFolder) -> None:
        """Have another trial's checkpoints in place of the own ones, all of them or none.

        Raises `CheckpointError` where it has none.
        """
        found = sorted(other.checkpoints.glob("checkpoint-*.pt"))
        if not found:
            raise CheckpointError(f"{other.checkpoints}: there is no checkpoint", hint="start over with --fresh")
        taken = self.path / "checkpoints.taken"
        shutil.rmtree(taken, ignore_errors=True)
        taken.mkdir(parents=True)
        for path in found:
            try:
                # A checkpoint is never written to again, so that two names may stand for it.
                (taken / path.name).hardlink_to(path)
            except OSError:
                to_disk(shutil.copyfile(path, taken / path.name))
        to_disk(taken)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        taken.rename(self.checkpoints)
        to_disk(self.path)

    @property
    def is_saved(self) -> bool:
        """Whether there is a checkpoint of the last epoch that was logged: it is written after its metrics."""
        saved = [path.stat().st_mtime_ns for path in self.checkpoints.glob("checkpoint-*.pt")]
        logged = self._logs[0].written_at
        return bool(saved) and logged is not None and max(saved) >= logged

    def sync_logs(self) -> None:
        """Wait until what was logged is on disk, as what tells that these epochs are done will be."""
        for log in self._logs:
            log.sync()

    def rewind(self, epoch: int) -> None:
        """Forget what was logged after this epoch, before training goes on from its checkpoint."""
        for log in self._logs:
            log.rewind(epoch)


class EpochLog:
    """A file of JSON lines, one an epoch; a last line that a crash cut short does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole entries; raises `CheckpointError` that names the line which is damaged."""
        if not self._path.exists():
            return []
        entries: list[dict[str, Any]] = []
        for number, line in enumerate(self._path.read_text(errors="replace").split("\n")[:-1], start=1):
            try:
                entries.append(json.loads(line))
            except ValueError:
                raise CheckpointError(
                    f"{self._path}, line {number}: damaged",
                    hint="delete that line and what follows it, or start over with --fresh",
                ) from None
        return entries

    def add(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def sync(self) -> None:
        if self._path.exists():
            to_disk(self._path)

    @property
    def written_at(self) -> int | None:
        """When it was last written to, in nanoseconds; None where there is none."""
        return self._path.stat().st_mtime_ns if self._path.exists() else None

    def rewind(self, epoch: int) -> None:
        if self._path.exists():
            kept = "".join(json.dumps(entry) + "\n" for entry in self.read() if entry["epoch"] <= epoch)
            # What stays as it is keeps its time, too.
            if kept != self._path.read_text():
                write_atomically(self._path, kept)
