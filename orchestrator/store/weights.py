"""Files of weights, looked at without loading them: only the standard library is needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 100 * 2**20
"""Longest header of a safetensors file; a damaged one may claim more."""
DIGEST_BYTES = 32
"""A checkpoint begins with a SHA-256."""
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, little-endian; the tensors follow the header."""


def metadata(path: Path) -> dict[str, Any] | None:
    """What is kept with the weights by name; None where nothing can be read."""
    header = _header(path)
    kept = header[0].get("__metadata__") if header else None
    return kept if isinstance(kept, dict) else None


def is_whole(path: Path) -> bool:
    """Whether the file is there and has the length that its own header tells, so that nothing was cut off.

    Values that were changed in place are not seen: those show when the weights are loaded.
    """
    header = _header(path)
    if header is None:
        return False
    entries, begin = header
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
        return path.stat().st_size == begin + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def is_intact(checkpoint: Path) -> bool:
    """Whether a checkpoint is as it was written: its digest is that of what follows."""
    content = checkpoint.read_bytes()
    return hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]


def _header(path: Path) -> tuple[dict[str, Any], int] | None:
    """The header and where the tensors begin; None where there is no file or no header in it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
    except (OSError, ValueError, RecursionError):
        return None
    return (header, LENGTH_BYTES + length) if isinstance(header, dict) else None
