"""Fetching published archives: continued where a connection broke, checked, and there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

from orchestrator.data.published import PUBLISHED, Archive
from orchestrator.errors import DataError

ATTEMPTS = 5
"""Tries in a row that may bring nothing; one that brings bytes starts the count again."""
PAUSE_S = 1.0
"""Pause after the first failed try; it doubles with each."""
_TIMEOUT_S = 30.0
_CHUNK = 2**20


def fetch(name: str, folder: Path) -> None:
    """Download every archive of a published data set into `folder`, but those that are there.

    Raises `DataError` for a set that has to be fetched by hand, a server that cannot be reached, a full disk,
    and content that is not the published one's.
    """
    published = PUBLISHED[name]
    if not published.archives:
        raise DataError(
            f"data.download cannot fetch {published.title}",
            hint=f"get it from {published.page} and put {published.place}",
        )
    for archive in published.archives:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{archive.file}.lock"):
                if not (folder / archive.file).exists():
                    _download(archive, folder / archive.file)
        except OSError as error:
            raise DataError(f"cannot download {archive.file} into {folder}: {error}") from error


def file_md5(path: Path) -> str:
    """In hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(archive: Archive, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(archive.url, part)
            break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                failures = ATTEMPTS
            after = part.stat().st_size if part.exists() else 0
            failures = 0 if after > before else failures + 1
            if failures >= ATTEMPTS:
                raise DataError(
                    f"cannot download {archive.url}: {error}",
                    hint=f"what has come so far is kept in {part}; try again later, or put {target.name} into "
                    f"{target.parent} yourself",
                ) from error
            time.sleep(PAUSE_S * 2**failures)
    if (digest := file_md5(part)) != archive.md5:
        part.unlink()
        raise DataError(
            f"{archive.url} gave other content than is published (its MD5 is {digest}, not {archive.md5})",
            hint=f"try again later, or put {target.name} into {target.parent} yourself",
        )
    part.replace(target)


def _continue(url: str, part: Path) -> None:
    """Append what is left of the file at `url` to `part`; raises `ConnectionError` where it ends too soon."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # All of it is here, or the file is another one by now: its checksum tells.
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink()
        raise ConnectionError(f"the server has no bytes from {start} on") from error
    with response:
        length = response.headers.get("Content-Length")
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != start:
                raise ConnectionError("the server sent another part of the file than it was asked for")
        else:
            start = 0
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
            received = file.tell() - start
    if length is not None and received < int(length):
        raise ConnectionError(f"the connection broke after {start + received} of {start + int(length)} bytes")
