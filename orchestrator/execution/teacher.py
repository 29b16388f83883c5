"""Teachers that a spec names instead of training them: their weights, on this machine before any trial starts."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from orchestrator.errors import UsageError
from orchestrator.spec.base import expand_environment, location
from orchestrator.spec.model import TORCHVISION_WEIGHTS
from orchestrator.spec.uris import is_uri
from orchestrator.store.home import Home
from orchestrator.store.remote import Remote

MLFLOW = re.compile(r"(models|runs|mlflow-artifacts):/.+")
STORED = "uri-"
"""What begins the names of files that `bring_teacher` brings."""
SUFFIXES = (".safetensors", ".pt", ".pth")
"""Files of weights in a folder of artifacts."""


def teacher_weights(checkpoint: str, home: Home) -> str:
    """Where a trial finds what `teacher.checkpoint` names: a file, or the name of weights of torchvision."""
    text = expand_environment(checkpoint, "teacher.checkpoint")
    if text.startswith(TORCHVISION_WEIGHTS):
        return text
    is_model = MLFLOW.fullmatch(text)
    if is_model or is_uri(text):
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return str(home.path / "teachers" / f"{'mlflow-' if is_model else STORED}{digest}")
    return str(location(checkpoint, "teacher.checkpoint"))


def fetch_teachers(checkpoints: Iterable[str], home: Home, tracking_uri: str) -> None:
    """Download teachers from MLflow and other stores, and look that every other file is there.

    `checkpoints` are as `teacher.checkpoint` has them. A model's version never changes and is downloaded once;
    an alias or the latest version is, in every session. Raises `UsageError` for what is not there.
    """
    for checkpoint in checkpoints:
        text = expand_environment(checkpoint, "teacher.checkpoint")
        if text.startswith(TORCHVISION_WEIGHTS):
            continue
        path = Path(teacher_weights(checkpoint, home))
        if MLFLOW.fullmatch(text):
            moves = "@" in text or text.endswith("/latest")
            remote = home.remote
            if moves or not (remote.fetch(path) if remote else path.is_file()):
                _download(text, path, tracking_uri)
                if remote:
                    remote.push(path)
                    remote.settle(path)
        elif is_uri(text):
            bring_teacher(checkpoint, path)
        elif not path.is_file():
            raise UsageError(f"teacher.checkpoint: there is no file {path}")


def bring_teacher(checkpoint: str, path: Path) -> None:
    """Have the file that `teacher.checkpoint` names by a URI at `path`, and anew where it has changed in the store.

    One process brings it while others wait. Raises `UsageError` where the store has none.
    """
    remote = Remote(expand_environment(checkpoint, "teacher.checkpoint"), path, "teacher.checkpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        entry = remote.entry(path)
        if entry is None or not (remote.is_as_here(path, entry) or remote.pull(path)):
            raise UsageError(f"teacher.checkpoint: there is no file {remote.name(path)}")


def _download(artifact: str, path: Path, tracking_uri: str) -> None:
    from orchestrator.tracking.mlflow_store import download

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        found = download(artifact, tracking_uri, Path(folder))
        shutil.move(_weights_in(found, artifact), path)


def _weights_in(found: Path, artifact: str) -> Path:
    """The file of weights that was downloaded; of several, the only one of the first suffix that any has."""
    if found.is_file():
        return found
    for suffix in SUFFIXES:
        files = sorted(found.rglob(f"*{suffix}"))
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(str(file.relative_to(found)) for file in files)
            raise UsageError(
                f"teacher.checkpoint: {artifact} holds {len(files)} files of weights: {names}",
                hint="name one of them, as models:/NAME/VERSION/PATH or runs:/ID/PATH",
            )
    raise UsageError(f"teacher.checkpoint: {artifact} holds no file that ends in {', '.join(SUFFIXES)}")
