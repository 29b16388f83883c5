"""A strict reader of the IDX files that MNIST and its relatives come in."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.errors import DataError

_UINT8 = 0x08


def read_idx(path: Path, dimensions: int, sha256: str | None = None) -> Tensor:
    """The uint8 tensor in an IDX file, which may be gzipped (named .gz).

    `dimensions` is how many the tensor must have; `sha256`, where given, must be the hex digest of the
    uncompressed file. Raises `DataError` naming the file when it cannot be read or is anything else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, _UINT8, dimensions])
    if content[:4] != magic:
        raise DataError(f"{path} is not an IDX file of {dimensions} dimensions: it must begin with {magic.hex()}")
    if len(content) < header:
        raise DataError(f"{path} is cut short: its header is {header} bytes, the file {len(content)}")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    values = torch.Size(shape).numel()
    if len(content) - header != values:
        raise DataError(f"{path} must hold {values} values for shape {list(shape)}, not {len(content) - header}")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path} does not hold the content it should (its SHA-256 differs)",
            hint="get the file again, or set data.verify to false to use other data of the same format",
        )
    if values == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)
