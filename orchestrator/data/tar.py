"""Named members of a gzipped tar archive, read into memory; nothing is ever written to a path that an archive names."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

from orchestrator.data.published import damaged

_MAX_MEMBER_BYTES = 512 * 2**20
_CHUNK = 2**20


def read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The contents of the named files in a gzipped tar archive.

    Raises `DataError` naming the archive when it is damaged, and the member when it is missing, twice there,
    no ordinary file, or larger than 512 MiB.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name not in names:
                    continue
                if name in found:
                    raise damaged(f"{path}:{name}", "is in the archive twice")
                if not member.isreg() or member.size > _MAX_MEMBER_BYTES:
                    raise damaged(f"{path}:{name}", "must be an ordinary file of at most 512 MiB")
                file = archive.extractfile(member)
                found[name] = file.read() if file else b""
            # The compression's own checksum comes last, behind the end of the archive.
            while archive.fileobj is not None and archive.fileobj.read(_CHUNK):
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise damaged(str(path), f"cannot be read: {error}") from error
    if lacking := [name for name in names if name not in found]:
        raise damaged(str(path), f"does not hold {', '.join(lacking)}")
    return found
