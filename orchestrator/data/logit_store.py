"""Teacher logits of whole training sets, by view: computed once, by whichever process needs them first."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from orchestrator.data.bundle import Bundle, read_bundle, write_bundle
from orchestrator.data.views import View
from orchestrator.errors import TeacherError

_VERSION = 1
"""Part of every key: raised when the same key would give other logits than before, as by another augmentation."""
_POLL_S = 0.02
IN_USE_S = 3600
"""A shard that was read so lately is not removed to make room: whoever reads it will come again."""


class Shard(NamedTuple):
    """A teacher's logits of all images of one view."""

    logits: Tensor
    """float16 or float32 [N, C], mapped from the file where there was room for one."""
    max_error: float
    """Largest difference between a logit as it is stored and as the teacher gave it."""
    mean_error: float


class Elsewhere(Protocol):
    """Where other machines keep shards under the same paths."""

    def find(self, path: Path) -> bool:
        """Bring a shard that another machine has made here; False where there is none."""

    def keep(self, path: Path) -> None:
        """Let others have a shard that was made here; does not wait."""


class LogitStore:
    """The shards of one teacher, data set and augmentation, in a folder that many processes read and fill.

    A shard is made by the first process that needs it. Others that need it at the same time make, meanwhile, those
    that they will need later, so that no process idles and none repeats another's work. A process that dies lets go
    of what it was making, and the next one takes over.

    Args:
        root: folder of all stores; this one's shards lie below it, under a hash of `key`.
        key: JSON-like, all that the logits depend on beside seed and number of the view.
        dtype: of the logits in the files, float16 or float32.
        limit: bytes that all stores below `root` may take; the least recently used shards of any store go first.
        strict: whether logits beyond the range of `dtype` are an error; else their view is kept in float32.
        elsewhere: asked before a shard is made, and told of those that were.
    """

    def __init__(
        self,
        root: Path,
        key: Mapping[str, Any],
        *,
        dtype: str,
        limit: float,
        strict: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._about = json.dumps({"version": _VERSION, "dtype": dtype, **key}, sort_keys=True, indent=2)
        self.folder = root / hashlib.sha256(self._about.encode()).hexdigest()[:24]
        self._root = root
        self._name = dtype
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._limit = limit
        self._strict = strict
        self._elsewhere = elsewhere
        self._writable = True
        self._crowded = False
        """Whether the latest shard found no room; then none is made ahead of its time."""

    def get(self, view: View, make: Callable[[View], Tensor], ahead: Iterable[View] = ()) -> Shard:
        """The shard of a view, made where it is missing or damaged.

        `make` gives the teacher's logits, floating point [N, C], of a view; `ahead` are the views that will be asked
        for later, the next first. Raises `TeacherError` for logits that are not finite, or under `strict` beyond the
        dtype's range. A folder that cannot be written or has no room costs time alone.
        """
        later = list(ahead)
        while True:
            if (found := self._read(view)) is not None or (found := self._fill(view, make)) is not None:
                return found
            if self._crowded:
                return self._shard(self._made(view, make))
            if not any(self._fill(other, make) for other in later if not self._path(other).exists()):
                time.sleep(_POLL_S)

    def _fill(self, view: View, make: Callable[[View], Tensor]) -> Shard | None:
        """Make a shard; None where another process is at it."""
        path = self._path(view)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            if not self._writable:
                return self._shard(self._made(view, make))
            self._prepare()
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except OSError as error:
            return self._shard(self._unkept(error, self._made(view, make)))
        try:
            if (found := self._read(view)) is not None:
                return found
            if self._elsewhere and self._elsewhere.find(path) and (found := self._read(view)) is not None:
                return found
            made = self._made(view, make)
            try:
                if not self._keep(path, made):
                    return self._shard(made)
            except OSError as error:
                return self._shard(self._unkept(error, made))
            if self._elsewhere:
                self._elsewhere.keep(path)
            return self._read(view) or self._shard(made)
        finally:
            # Whoever gets a lock on the file that was removed finds the shard, or makes it.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def _made(self, view: View, make: Callable[[View], Tensor]) -> Bundle:
        exact = make(view).detach().cpu()
        logits = exact.to(self._dtype)
        if not (self._strict or logits.isfinite().all()):
            logits = exact.float()
        for values, problem, hint in (
            (exact, "are NaN or infinite", None),
            (logits, f"are too large for {self._name}", "leave distillation.teacher_logits.dtype out, or set float32"),
        ):
            wrong = ~values.isfinite().all(dim=1)
            if wrong.any():
                raise TeacherError(
                    f"the teacher's logits of training image {int(wrong.nonzero()[0])} {problem}", hint=hint
                )
        error = (exact.double() - logits.double()).abs()
        return Bundle({"logits": logits}, {"max_error": error.max().item(), "mean_error": error.mean().item()})

    def _prepare(self) -> None:
        """Make the folder, with a file that tells people what is in it."""
        about = self.folder / "about.json"
        if not about.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".about.{os.getpid()}.tmp"
            temporary.write_text(self._about)
            temporary.replace(about)

    def _keep(self, path: Path, made: Bundle) -> bool:
        """Write the shard; False where there is no room for it."""
        # The lock is ours, so these are what a kill has left.
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        self._crowded = not self._make_room(made.tensors["logits"].nbytes)
        if not self._crowded:
            write_bundle(path, made)
        return not self._crowded

    def _make_room(self, size: int) -> bool:
        """Remove the least recently used shards until `size` bytes more keep the limit; none where that cannot be.

        Shards in use stay: two experiments that read in turns what does not fit together would else remove, each
        time, what the other one needs next. Processes that have a removed file mapped keep its content.
        """
        shards = []
        for path in self._root.glob("*/*.bin"):
            with suppress(OSError):
                status = path.stat()
                shards.append((status.st_mtime, status.st_size, path))
        excess = size + sum(taken for _, taken, _ in shards) - self._limit
        unused = sorted(shard for shard in shards if shard[0] < time.time() - IN_USE_S)
        if excess > sum(taken for _, taken, _ in unused):
            return False
        for _, taken, path in unused:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= taken
        return True

    def _read(self, view: View) -> Shard | None:
        path = self._path(view)
        found = read_bundle(path)
        if found is None or (self._strict and found.tensors["logits"].dtype != self._dtype):
            return None
        # For `_make_room`; in a folder that is only read there is nothing to note.
        with suppress(OSError):
            os.utime(path)
        return self._shard(found)

    def _unkept(self, error: OSError, made: Bundle) -> Bundle:
        self._writable = False
        warnings.warn(f"{self.folder}: logits cannot be kept ({error}): they are computed again", stacklevel=2)
        return made

    def _path(self, view: View) -> Path:
        return self.folder / f"seed{view.seed}-view{view.number}.bin"

    @staticmethod
    def _shard(bundle: Bundle) -> Shard:
        return Shard(bundle.tensors["logits"], bundle.info["max_error"], bundle.info["mean_error"])
