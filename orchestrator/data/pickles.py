"""Pickles of plain data and uint8 arrays, read without running anything that a pickle can ask for.

The CIFAR files are pickles, and a pickle may call any function of any module. Here the only names that resolve
are the few that Python and NumPy write for byte strings and arrays, and each stands for a class of this module.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from typing import Any

import torch
from torch import Tensor

from orchestrator.data.published import damaged
from orchestrator.errors import DataError


class PickledArray:
    """A NumPy array of uint8 in C order, as its pickle describes it."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self._content = b""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes) or is_fortran:
            raise ValueError("an array in it is not of uint8 in C order")
        if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) != len(content):
            raise ValueError(f"an array in it has {len(content)} values and the shape {shape}")
        self.shape, self._content = tuple(shape), content

    def tensor(self) -> Tensor:
        """uint8, of its own memory."""
        if not self._content:
            return torch.empty(self.shape, dtype=torch.uint8)
        return torch.frombuffer(bytearray(self._content), dtype=torch.uint8).view(self.shape)


# Classes, not functions, and each with a __setstate__: a pickle can set attributes on what it has resolved.


class _Ndarray:
    """The type that an array is rebuilt as; no more than a name here."""

    def __init__(self) -> None:
        raise ValueError("it builds an array in an unknown way")

    def __setstate__(self, state: Any) -> None: ...


class _Reconstruct:
    """NumPy's function that makes an empty array, whose state comes after."""

    def __new__(cls, kind: Any, shape: Any, code: Any) -> Any:
        if kind is not _Ndarray:
            raise ValueError("it builds an array in an unknown way")
        return PickledArray()

    def __setstate__(self, state: Any) -> None: ...


class _Dtype:
    """NumPy's dtype, uint8 alone."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if code not in ("u1", b"u1", "|u1", b"|u1"):
            raise ValueError(f"an array in it is of type {code!r}, not uint8")

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which uint8 does not have."""


class _Encode:
    """How Python 3 writes a byte string into a pickle for Python 2."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError("it encodes text in an unknown way")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None: ...


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._where = where

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"{self._where} asks for {module_name}.{global_name}, which a data file has no need of; it was not run",
                hint="do not use this file: it may be meant to do harm",
            ) from None


def read_pickle(content: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle of numbers, byte strings, lists, dictionaries and uint8 arrays.

    Keys come as text, byte strings as they are, arrays as `PickledArray`. `where` names the file in errors.
    Raises `DataError` for a pickle that is damaged, holds anything else (numbers of more than 64 bits among it), or
    has a key twice or one that is no text.
    """
    try:
        _check_numbers(content)
        found = _Unpickler(content, where).load()
    except (
        pickle.UnpicklingError,
        struct.error,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        raise damaged(where, f"cannot be read: {error}") from error
    if type(found) is not dict:
        raise damaged(where, f"must hold a dictionary, not {type(found).__name__}")
    keys = [text_of(key, where) for key in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise damaged(where, f"has the key {twice[0]!r} twice")
    return dict(zip(keys, found.values(), strict=True))


def text_of(value: Any, where: str) -> str:
    """A key or name of a pickle, which Python 2 wrote as bytes; raises `DataError` for anything but text."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise damaged(where, f"has a key or name that is not text but {type(value).__name__}")
    return value


def _check_numbers(content: bytes) -> None:
    """Raise `ValueError` where reading the pickle would ask for more memory than its size warrants.

    The reader makes a table as long as the largest place that a value is stored at, and byte arrays as long as the
    pickle says; numbers of thousands of digits cannot be printed.
    """
    for code, argument, _ in pickletools.genops(content):
        if not isinstance(argument, int):
            continue
        if "PUT" in code.name and argument > len(content):
            raise ValueError(f"it stores a value at the place {argument}")
        if abs(argument) >= 2**63:
            raise ValueError("it holds a number of more than 64 bits")
