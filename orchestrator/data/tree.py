"""The files of a data set, below a folder or inside a zip archive, by their paths relative to it."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from orchestrator.data.published import damaged

MAX_FILE_BYTES = 256 * 2**20


class FileTree(ABC):
    """Files by name ("train/cat/1.png"); hidden ones, whose name begins with a dot, are left out."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.stamps: dict[str, list[int]] = {}
        """Of each file numbers that change with its content, in the order of the names."""
        self.folders: set[str] = set()

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content; raises `DataError` where it is not there or cannot be read."""

    @abstractmethod
    def label(self, name: str) -> str:
        """What to call a file in messages."""

    def text(self, name: str) -> list[str]:
        """A text file's lines that are not blank."""
        try:
            return [line for line in self.read(name).decode("utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise damaged(self.label(name), f"is not text: {error}") from error


class FolderTree(FileTree):
    """The files in some of the entries of a folder, all of them where none are named."""

    def __init__(self, where: Path, entries: Iterable[str] = ()) -> None:
        super().__init__(where)
        seen: set[str] = set()
        found: dict[str, list[int]] = {}
        for start in [where / entry for entry in entries] or [where]:
            if start.is_file():
                found[start.relative_to(where).as_posix()] = _stamp(start.stat())
            self._walk(start, seen, found)
        self.stamps = dict(sorted(found.items()))

    def _walk(self, folder: Path, seen: set[str], found: dict[str, list[int]]) -> None:
        real = os.path.realpath(folder)
        if real in seen or not folder.is_dir():
            return
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = (folder.relative_to(self.where) / entry.name).as_posix()
                    if entry.is_dir():
                        self.folders.add(name)
                        self._walk(folder / entry.name, seen, found)
                    else:
                        found[name] = _stamp(entry.stat())
        except OSError as error:
            raise damaged(str(error.filename or folder), f"cannot be read: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        try:
            return (self.where / name).read_bytes()
        except OSError as error:
            raise damaged(self.label(name), f"cannot be read: {error.strerror}") from error

    def label(self, name: str) -> str:
        return str(self.where / name)


class ZipTree(FileTree):
    """The files below one folder of a zip archive, read in place: none is ever written anywhere."""

    def __init__(self, where: Path, folder: str) -> None:
        super().__init__(where)
        self._folder = folder
        try:
            self._archive = zipfile.ZipFile(where)
        except (OSError, zipfile.BadZipFile) as error:
            raise damaged(str(where), f"cannot be read: {error}") from error
        for info in sorted(self._archive.infolist(), key=lambda info: info.filename):
            path = PurePosixPath(info.filename)
            if path.parts[:1] != (folder,) or any(part.startswith(".") for part in path.parts):
                continue
            name = path.relative_to(folder).as_posix()
            if info.is_dir():
                self.folders.add(name)
                continue
            if name in self.stamps:
                raise damaged(self.label(name), "is in the archive twice")
            if info.file_size > MAX_FILE_BYTES:
                raise damaged(self.label(name), f"is larger than {MAX_FILE_BYTES // 2**20} MiB")
            self.stamps[name] = [info.file_size, info.CRC]

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(f"{self._folder}/{name}")
        except KeyError:
            raise damaged(self.label(name), "is not in the archive") from None
        except (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise damaged(self.label(name), f"cannot be read: {error}") from error

    def label(self, name: str) -> str:
        return f"{self.where}:{self._folder}/{name}"


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]
