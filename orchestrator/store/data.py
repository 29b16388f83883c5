"""Data sets that lie in an object store: brought to each machine once."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock

from orchestrator.errors import DataError
from orchestrator.spec.base import expand_environment
from orchestrator.spec.data import DataSpec
from orchestrator.spec.uris import is_uri
from orchestrator.store.remote import Entry, Remote, local_folder


def remote_root(root: str | None) -> str | None:
    """The URI that `data.root` is; None where it is a path."""
    if root is None or not is_uri(uri := expand_environment(root, "data.root")):
        return None
    return uri


def files_at(uri: str) -> list[str]:
    """The files of a data set in a store; raises `DataError` where there is none."""
    remote = Remote(uri, field="data.root")
    return [remote.name(path) for path in _entries(remote)]


def with_local_root(data: DataSpec, cache: Path | None = None) -> DataSpec:
    """The section, its `root` a folder of this machine where it was a URI.

    Files lie below `cache`, else below the folder of `remote.local_folder`. Those that are there, as the store has
    them by size and time, are not asked for again; one process brings them while others wait. What is in them is
    looked at by whoever loads the data set.
    """
    if (uri := remote_root(data.root)) is None:
        return data
    digest = hashlib.sha256(uri.encode()).hexdigest()[:24]
    above = local_folder(uri) if cache is None else cache / "data" / digest
    # A file's suffix tells what it is.
    remote = Remote(uri, above / PurePosixPath(urlsplit(uri).path).name, "data.root")
    above.mkdir(parents=True, exist_ok=True)
    with FileLock(above.with_name(f"{above.name}.lock")):
        entries = _entries(remote)
        remote.pull_all(path for path, entry in entries.items() if not remote.is_as_here(path, entry))
    return data.model_copy(update={"root": str(remote.folder)})


def _entries(remote: Remote) -> dict[Path, Entry]:
    """The files of a folder, or the one file that the URI names."""
    file = remote.entry(remote.folder)
    entries = {remote.folder: file} if file else remote.entries(remote.folder)
    if not entries:
        raise DataError(f"data.root: there is nothing in {remote.name(remote.folder)}")
    return entries
