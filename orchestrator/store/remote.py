"""A folder of this machine and its twin in an object store, or on any other file system that pyarrow knows.

All paths are those of this machine; each stands for the file of the same name below the URI. pyarrow, which is only
loaded here, finds credentials by itself, and they are never asked for or kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from orchestrator.errors import StorageError, UsageError
from orchestrator.spec.uris import refuse_secrets

T = TypeVar("T")
CACHE_VARIABLE = "ORCHESTRATOR_CACHE"
PATIENCE_S = 60.0
"""Seconds that a store which does not answer is asked again."""
_WHOLE = ("s3", "gcs", "abfs")
"""Kinds of file systems on which a file appears whole or not at all."""
_TEMPORARY = ".uploading"
_CHUNK = 8 * 2**20
_AT_ONCE = 16
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_AWS = re.compile(r"AWS Error (?P<code>\w+) during \w+ operation[^:]*: (?P<detail>.*)", re.DOTALL)
_NO_RIGHTS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of one who may read and write there"
_LASTING = {
    "NO_SUCH_BUCKET": "create the bucket, or correct its name",
    "ACCESS_DENIED": _NO_RIGHTS,
    "INVALID_ACCESS_KEY_ID": _NO_RIGHTS,
    "INVALID_CLIENT_TOKEN_ID": _NO_RIGHTS,
    "SIGNATURE_DOES_NOT_MATCH": _NO_RIGHTS,
    "UNRECOGNIZED_CLIENT": _NO_RIGHTS,
}
"""What no waiting mends, and what does."""


@dataclass(frozen=True)
class Entry:
    """A file in the store."""

    size: int
    """In bytes."""
    changed_ns: int
    """Nanoseconds since 1970, by the store's clock."""


def local_folder(uri: str) -> Path:
    """Where this machine keeps what it needs of a URI: below ORCHESTRATOR_CACHE, else ~/.cache/orchestrator."""
    root = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/orchestrator").expanduser().absolute()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", uri.partition("?")[0]).strip("-")[:40]
    return root / f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


class Remote:
    """The twin of `folder` at a URI of any kind that pyarrow or fsspec knows.

    Everything raises `StorageError`, which names the URI, the reason and what to do. Nothing is asked of the store
    before the first call.
    """

    def __init__(self, uri: str, folder: Path | None = None, field: str = "--home") -> None:
        refuse_secrets(uri, field)
        base, mark, options = uri.partition("?")
        self.uri = base.rstrip("/") + mark + options
        self.folder = local_folder(self.uri) if folder is None else folder
        self._connected: tuple[Any, str] | None = None
        self._connecting = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["uri"], state["folder"])  # type: ignore[misc]

    def name(self, path: Path) -> str:
        """The URI of a file or folder, for people."""
        return self.uri_of(path).partition("?")[0]

    def uri_of(self, path: Path) -> str:
        """The URI of a file or folder, for pyarrow and who uses it."""
        base, mark, options = self.uri.partition("?")
        relative = path.relative_to(self.folder).as_posix()
        return (base if relative == "." else f"{base}/{relative}") + mark + options

    def entry(self, path: Path) -> Entry | None:
        """A file in the store; None where there is none."""
        store, name = self._at(path)
        with self._reaching("look for", path):
            return _entry(store.get_file_info(name))

    def entries(self, folder: Path) -> dict[Path, Entry]:
        """All files below a folder in the store."""
        return {path: entry for path, entry in self._list(folder, recursive=True) if entry is not None}

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder."""
        return [path for path, entry in self._list(folder, recursive=False) if entry is None]

    def read(self, path: Path) -> bytes | None:
        """A small file's content; None where there is none."""
        return self._steadily(path, lambda: self._read(path))

    def write(self, path: Path, content: Any) -> None:
        """Write a file, bytes or a buffer, such that others see it whole or not at all."""
        store, name = self._at(path)
        whole = store.type_name in _WHOLE
        target = name if whole else f"{name}.{uuid.uuid4().hex}{_TEMPORARY}"
        with self._reaching("write", path):
            if not whole:
                store.create_dir(name.rpartition("/")[0], recursive=True)
            with store.open_output_stream(target) as file:
                file.write(content)
            if not whole:
                store.move(target, name)

    def push(self, path: Path) -> None:
        """Bring a file of this machine to the store."""
        import pyarrow

        if path.stat().st_size:
            with pyarrow.memory_map(str(path)) as file:
                self.write(path, file.read_buffer())
        else:
            self.write(path, b"")

    def settle(self, path: Path) -> None:
        """Give a file of this machine the time of the store's, by which `is_as_here` knows it."""
        self._settle(path, self.entry(path))

    def pull(self, path: Path) -> bool:
        """Replace a file of this machine by the store's; False, and nothing is done, where the store has none."""
        return self._steadily(path, lambda: self._pull(path)) or False

    def fetch(self, path: Path) -> bool:
        """Have a file that never changes on this machine, pulled by one process where several ask; whether it is."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                return path.exists() or self.pull(path)
        return True

    def pull_all(self, paths: Iterable[Path]) -> None:
        """`pull` of many small files, several at once."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(self.pull, paths))

    def is_as_here(self, path: Path, entry: Entry) -> bool:
        """Whether this machine's file is the store's, by size and time."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return (status.st_size, status.st_mtime_ns) == (entry.size, entry.changed_ns)

    def remove(self, path: Path) -> None:
        """Remove a file from the store, if it is there."""
        store, name = self._at(path)
        with suppress(FileNotFoundError), self._reaching("remove", path):
            store.delete_file(name)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder from the store, if it is there."""
        store, name = self._at(folder)
        with suppress(FileNotFoundError), self._reaching("remove", folder):
            store.delete_dir(name)

    def move_folder(self, folder: Path, to: Path, first: str) -> None:
        """Give a folder in the store another name; `first` is the file without which the folder counts for nothing.

        An object store copies each file. Where that is cut short, the old folder is whole, or `first` is at its new
        place alone.
        """
        paths = list(self.entries(folder))
        store = self._at(folder)[0]
        for path in paths:
            with self._reaching("copy", path):
                target = self._at(to / path.relative_to(folder))[1]
                if store.type_name not in _WHOLE:
                    store.create_dir(target.rpartition("/")[0], recursive=True)
                store.copy_file(self._at(path)[1], target)
        self.remove(folder / first)
        self.remove_folder(folder)

    def _steadily(self, path: Path, action: Callable[[], T]) -> T | None:
        """What an action gives that reads a file, which may be written anew or removed between two of its requests."""
        try:
            return action()
        except StorageError as error:
            if not error.passing:
                raise
        return None if self.entry(path) is None else action()

    def _read(self, path: Path) -> bytes | None:
        store, name = self._at(path)
        try:
            with self._reaching("read", path), store.open_input_file(name) as file:
                return bytes(file.readall())
        except FileNotFoundError:
            return None

    def _pull(self, path: Path) -> bool:
        store, name = self._at(path)
        entry = self.entry(path)
        if entry is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                for chunk in self._chunks(store, name, path):
                    file.write(chunk)
            if (size := temporary.stat().st_size) != entry.size:
                raise StorageError(
                    f"{self.name(path)}: {size} bytes came instead of {entry.size}",
                    hint="it may have been written anew meanwhile; try again",
                    passing=True,
                )
            self._settle(temporary, entry)
            temporary.replace(path)
        except FileNotFoundError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _chunks(self, store: Any, name: str, path: Path) -> Iterator[bytes]:
        with self._reaching("read", path):
            file = store.open_input_file(name)
        with file:
            while True:
                with self._reaching("read", path):
                    chunk = file.read(_CHUNK)
                if not chunk:
                    return
                yield chunk

    def _list(self, folder: Path, *, recursive: bool) -> Iterator[tuple[Path, Entry | None]]:
        from pyarrow import fs

        store, name = self._at(folder)
        with self._reaching("list", folder):
            found = store.get_file_info(fs.FileSelector(name, recursive=recursive, allow_not_found=True))
        for info in found:
            relative = info.path.lstrip("/")[len(name.lstrip("/")) :].strip("/")
            # In an object store a name may be anything.
            if not relative or relative.endswith(_TEMPORARY) or ".." in relative.split("/"):
                continue
            if (entry := _entry(info)) is not None:
                yield folder / relative, entry
            elif info.type == fs.FileType.Directory:
                yield folder / relative, None

    @staticmethod
    def _settle(path: Path, entry: Entry | None) -> None:
        with suppress(OSError):
            if entry is not None:
                os.utime(path, ns=(entry.changed_ns, entry.changed_ns))

    def _at(self, path: Path) -> tuple[Any, str]:
        """The file system, and what it calls a path."""
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
        store, base = self._connected
        relative = path.relative_to(self.folder).as_posix()
        return store, base if relative == "." else f"{base.rstrip('/')}/{relative}"

    def _connect(self) -> tuple[Any, str]:
        from pyarrow import ArrowInvalid, ArrowNotImplementedError, fs

        uri = self.uri
        if uri.startswith("s3:") and "allow_delayed_open" not in uri:
            # Small files are then written in one request instead of three.
            uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
        try:
            try:
                found = fs.FileSystem.from_uri(uri)
            except (ArrowInvalid, ArrowNotImplementedError) as error:
                if "nrecognized filesystem" not in str(error):
                    raise
                found = fs.FileSystem.from_uri(f"fsspec+{uri}")
        except (ImportError, ValueError, OSError) as error:
            raise UsageError(
                f"{self.uri} cannot be used as a place to store: {without_secrets(str(error).splitlines()[0])}",
                hint="known are s3://, gs://, abfs://, hdfs://, file:// and what an installed fsspec package adds",
            ) from None
        if not found[1].strip("/"):
            raise UsageError(f"{self.uri} names no place", hint="such as s3://BUCKET/FOLDER")
        return found

    @contextmanager
    def _reaching(self, doing: str, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            raise self._told(doing, path, error) from None

    def _told(self, doing: str, path: Path, error: Exception) -> StorageError:
        text = without_secrets(str(error))
        code, match = "", _AWS.search(text)
        if match is not None:
            code = match["code"]
            text = f"{code}: {match['detail'].partition(' (Request ID')[0]}"
        hint = _LASTING.get(code)
        if isinstance(error, PermissionError):
            hint = hint or "give the user who runs this the right to write there"
        return StorageError(
            f"cannot {doing} {self.name(path)}: {(text.splitlines() or [type(error).__name__])[0]}",
            hint=hint or "see that it can be reached from here (AWS_ENDPOINT_URL names a store that is not Amazon's)",
            passing=hint is None,
        )


def patiently(action: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Do what a store may refuse for a while again until it succeeds, or this time is over."""
    end, pause = time.monotonic() + seconds, 0.5
    while True:
        try:
            action()
            return
        except StorageError as error:
            if not error.passing or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def without_secrets(text: str) -> str:
    """The text without credentials of the environment."""
    for name in _SECRETS:
        if len(value := os.environ.get(name, "")) > 3:
            text = text.replace(value, "***")
    return text


def _entry(info: Any) -> Entry | None:
    from pyarrow import fs

    return Entry(info.size, info.mtime_ns or 0) if info.type == fs.FileType.File else None
