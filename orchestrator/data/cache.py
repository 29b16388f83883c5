"""Bundles of tensors that are made once, and mapped into memory by every process that needs them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from orchestrator.data.bundle import Bundle, read_bundle, write_bundle

_VERSION = 1
"""Part of every key: raised when the same files would give other tensors than before."""


def cached(folder: Path | None, name: str, key: object, make: Callable[[], Bundle]) -> Bundle:
    """What `make` returns, read from `folder` where it was made before for the same `key` (JSON-like).

    A file that is damaged is made again; processes that ask at once wait for the first. Tensors that come
    from a file are mapped, so that processes share their memory and what one writes no other sees. Without a
    folder, or with one that cannot be written, everything is made each time.
    """
    if folder is None:
        return make()
    digest = hashlib.sha256(json.dumps([_VERSION, name, key], sort_keys=True).encode()).hexdigest()[:24]
    path = folder / "images" / f"{name}-{digest}.bin"
    if (found := read_bundle(path)) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError as error:
        return _unkept(path, error, make())
    try:
        if (found := read_bundle(path)) is not None:
            return found
        made = make()
        try:
            write_bundle(path, made)
        except OSError as error:
            return _unkept(path, error, made)
        return read_bundle(path) or made
    finally:
        lock.release()


def _unkept(path: Path, error: OSError, made: Bundle) -> Bundle:
    warnings.warn(f"{path} cannot be kept ({error}): the images are decoded in every process", stacklevel=3)
    return made
