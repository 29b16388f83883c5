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
from orchestrator.store.remote import Remote, local_folder


def with_local_root(data: DataSpec, cache: Path | None = None) -> DataSpec:
    """The section, its `root` a folder of this machine where it was a URI.

    Files lie below `cache`, else below the folder of `remote.local_folder`. Those that are there, as the store has
    them by size and time, are not asked for again; one process brings them while others wait. What is in them is
    looked at by whoever loads the data set.
    """
    if data.root is None or not is_uri(uri := expand_environment(data.root, "data.root")):
        return data
    digest = hashlib.sha256(uri.encode()).hexdigest()[:24]
    above = local_folder(uri) if cache is None else cache / "data" / digest
    # A file's suffix tells what it is.
    remote = Remote(uri, above / PurePosixPath(urlsplit(uri).path).name, "data.root")
    root = remote.folder
    above.mkdir(parents=True, exist_ok=True)
    with FileLock(above.with_name(f"{above.name}.lock")):
        file = remote.entry(root)
        entries = {root: file} if file else remote.entries(root)
        if not entries:
            raise DataError(f"data.root: there is nothing in {remote.name(root)}")
        remote.pull_all(path for path, entry in entries.items() if not remote.is_as_here(path, entry))
    return data.model_copy(update={"root": str(root)})
