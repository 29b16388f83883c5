"""Files of named tensors: checksummed, written whole or not at all, and mapped into memory when read."""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_MAGIC = b"ORCHDATA"
_PREFIX = struct.Struct("<8sIQ")
"""Magic, CRC-32 of all that follows, length of the JSON header; then header, padding and tensors."""
_ALIGN = 64
_CHUNK = 16 * 2**20
_DTYPES = {name: getattr(torch, name) for name in ("uint8", "int64", "float16", "float32")}


@dataclass(frozen=True)
class Bundle:
    """Named tensors (uint8, int64, float16 or float32) and a JSON-like description."""

    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any]


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write the file; raises `OSError` where that cannot be done, and leaves nothing then."""
    tensors = {name: tensor.contiguous() for name, tensor in bundle.tensors.items()}
    places, end = {}, 0
    for name, tensor in tensors.items():
        places[name] = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "offset": end,
        }
        end = _aligned(end + tensor.nbytes)
    header = json.dumps({"tensors": places, "info": dict(bundle.info), "bytes": end}).encode()
    padding = bytes(_aligned(_PREFIX.size + len(header)) - _PREFIX.size - len(header))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_PREFIX.pack(_MAGIC, 0, len(header)) + header + padding)
            crc = zlib.crc32(header + padding)
            for tensor in tensors.values():
                gap = bytes(_aligned(tensor.nbytes) - tensor.nbytes)
                for piece in (tensor.flatten().view(torch.uint8).numpy().data, memoryview(gap)):
                    file.write(piece)
                    crc = zlib.crc32(piece, crc)
            file.seek(0)
            file.write(_PREFIX.pack(_MAGIC, crc, len(header)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_bundle(path: Path) -> Bundle | None:
    """What the file holds, mapped; None where there is no file or it is damaged."""
    try:
        with path.open("rb") as file:
            # A private mapping: pages are shared until they are written to, and never go back to the file.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        magic, crc, length = _PREFIX.unpack_from(content)
        start = _aligned(_PREFIX.size + length)
        if magic != _MAGIC or _crc(content) != crc:
            return None
        header = json.loads(content[_PREFIX.size : _PREFIX.size + length])
        if len(content) != start + header["bytes"]:
            return None
        tensors = {name: _tensor(content, start, place) for name, place in header["tensors"].items()}
        return Bundle(tensors, header["info"])
    except (OSError, ValueError, LookupError, struct.error):
        return None


def _crc(content: mmap.mmap) -> int:
    crc = 0
    with memoryview(content) as view:
        for start in range(_PREFIX.size, len(content), _CHUNK):
            crc = zlib.crc32(view[start : start + _CHUNK], crc)
    return crc


def _tensor(content: mmap.mmap, start: int, place: Mapping[str, Any]) -> Tensor:
    shape, dtype = place["shape"], _DTYPES[place["dtype"]]
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + place["offset"]).view(shape)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
