"""The home folder: where experiments, teachers and the default MLflow store live."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.uris import is_uri
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.remote import Remote
from orchestrator.store.weights import is_whole, metadata

HOME_VARIABLE = "ORCHESTRATOR_HOME"
DEFAULT_HOME = ".orchestrator"
MIN_FREE_BYTES = 200 * 2**20
KEPT_FREE_BYTES = 2 * 10**9
"""Disk that stored logits of teachers leave free."""
LOOKS_AT_ONCE = 16
"""Experiments of an object store that are looked at together."""


def default_home() -> str:
    """The home where none is named."""
    return os.environ.get(HOME_VARIABLE) or DEFAULT_HOME


class Home:
    """Locations below one folder; `path` defaults to ORCHESTRATOR_HOME, then ./.orchestrator.

    It may be a URI such as s3://bucket/prefix: then `path` is a folder that stands for it on this machine, and
    `remote` brings what others must see to the store, and back. Printed, a home is what the user has given.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        given = str(path or default_home())
        self.remote = Remote(given) if is_uri(given) else None
        self.path = self.remote.folder if self.remote else Path(given).expanduser().absolute()

    def __str__(self) -> str:
        return self.remote.uri if self.remote else str(self.path)

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """MLflow's own file."""
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def cache(self) -> Path:
        """Decoded images and downloaded data sets; all of it can be made again."""
        return self.path / "cache"

    @property
    def teacher_logits(self) -> Path:
        """Logits of teachers, one folder for each teacher, data set and augmentation; see docs/teacher-logits.md."""
        return self.cache / "teacher-logits"

    def room_for_logits(self) -> int:
        """Bytes that the store of teachers' logits may take, with what it has, if the disk is to keep some free."""
        folder = next(path for path in (self.path, *self.path.parents) if path.exists())
        taken = 0
        for path in self.teacher_logits.glob("*/*.bin"):
            # Another experiment may remove it at any time.
            with suppress(OSError):
                taken += path.stat().st_size
        return max(0, shutil.disk_usage(folder).free + taken - KEPT_FREE_BYTES)

    @property
    def option(self) -> list[str]:
        """The command-line words that name this home; none for the default one."""
        return [] if self.path == Path(DEFAULT_HOME).absolute() else ["--home", str(self)]

    def teacher(self, key: str) -> Path:
        """The weights of the teacher with this key; the file exists once it is trained."""
        return self.path / "teachers" / f"{key}.safetensors"

    def has_teacher(self, key: str) -> bool:
        """Whether its weights are there and whole; a file that was cut short is as good as none."""
        if self.remote:
            # What a store shows is whole.
            return self.remote.entry(self.teacher(key)) is not None
        return is_whole(self.teacher(key))

    def teacher_accuracy(self, key: str) -> float | None:
        """Validation accuracy in percent that is kept with the teacher's weights; None where there is none."""
        try:
            accuracy = float((metadata(self.teacher(key)) or {})["val_acc1"])
        except (ValueError, KeyError, TypeError):
            return None
        return accuracy if 0 <= accuracy <= 100 else None

    def create(self) -> None:
        """Make the folder; raises where that is not possible or hardly any disk is left."""
        try:
            for folder in (self.path / "experiments", self.path / "teachers"):
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise OrchestratorError(
                f"cannot write to the home folder {self.path}: {error.strerror or error}",
                hint=f"choose another with --home or {HOME_VARIABLE}",
            ) from None
        if free < MIN_FREE_BYTES:
            raise OrchestratorError(
                f"only {free / 2**20:.0f} MiB are free on the disk of {self.path}; an experiment needs "
                f"{MIN_FREE_BYTES / 2**20:.0f}",
                hint=f"free some, or choose another place with --home or {HOME_VARIABLE}",
            )

    def own(self, spec: ExperimentSpec) -> ExperimentFolder:
        """The folder of the spec's id."""
        folder = ExperimentFolder(self.path / "experiments" / spec.id, self.remote)
        folder.look(trials=False)
        return folder

    def experiment(self, spec: ExperimentSpec) -> ExperimentFolder:
        """The folder of the spec's id, or of the experiment that was extended to it."""
        own = self.own(spec)
        if own.journal.path.exists():
            return own
        return next((folder for folder in self.of_name(spec.name) if folder.was_extended_to(spec.id)), own)

    def of_name(self, name: str) -> list[ExperimentFolder]:
        """The experiments of this name, the latest first, but for those that were set aside."""
        return [folder for folder in self.experiments() if folder.name == name and not folder.is_set_aside]

    def experiments(self) -> list[ExperimentFolder]:
        """Every experiment that was started here, the latest first."""
        if self.remote:
            folders = self.remote.folders(self.path / "experiments")
            with ThreadPoolExecutor(LOOKS_AT_ONCE) as threads:
                list(threads.map(lambda path: ExperimentFolder(path, self.remote).look(trials=False), folders))
        else:
            folders = [path.parent for path in (self.path / "experiments").glob("*/journal.jsonl")]
        found = [path for path in folders if (path / "journal.jsonl").exists()]
        found.sort(key=lambda path: -(path / "journal.jsonl").stat().st_mtime)
        return [ExperimentFolder(path, self.remote) for path in found]

    def find(self, name: str) -> ExperimentFolder:
        """The experiment of this name or id, or that was extended to it.

        Of several with one name it is one that runs, else the one that ran last.
        """
        experiments = self.experiments()
        if named := [folder for folder in experiments if name in (folder.id, folder.name)]:
            return next((folder for folder in named if len(named) > 1 and folder.is_running()), named[0])
        for folder in experiments:
            if name.startswith(f"{folder.name}-") and not folder.is_set_aside and folder.was_extended_to(name):
                return folder
        known = [folder.id for folder in experiments]
        close = nearest(name, known)
        raise UsageError(
            f"there is no experiment {name!r} in {self}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(known) or 'none yet; start one with: orchestrator run SPEC'}",
        )
