"""Files that survive a kill at any moment: checkpoints of a run, and weights to hand on."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from orchestrator.errors import CheckpointError

_DIGEST_BYTES = 32
_NAME = re.compile(r"checkpoint-(\d{8})\.pt")


def save_checkpoint(folder: Path, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write `state` as the newest checkpoint in `folder` and remove all but the newest `keep`.

    `state` holds tensors, numbers, strings, lists and dicts. The file appears whole or not at all.
    """
    if keep < 1:
        raise ValueError(f"keep must be 1 or above, not {keep}")
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    existing = _checkpoints(folder)
    number = _number(existing[0]) + 1 if existing else 1
    path = folder / f"checkpoint-{number:08d}.pt"
    _write_atomically(path, hashlib.sha256(content).digest() + content)
    left_by_a_kill = folder.glob(".checkpoint-*.tmp")
    for old in [*existing[keep - 1 :], *left_by_a_kill]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The state in the newest intact checkpoint, its tensors on the CPU; None when there is none: begin anew.

    Warns of each damaged file, by its path.
    """
    for _, content in _intact(folder):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return None


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint; None when there is none. Names sort as they were written."""
    return next((path for path, _ in _intact(folder)), None)


def save_weights(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Write the model's state dict and `metadata` as a safetensors file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(path, safetensors.torch.save(tensors, metadata=metadata))


def load_weights(path: Path, model: nn.Module) -> dict[str, str]:
    """Copy a safetensors file's weights into `model` and return the file's metadata.

    Raises `CheckpointError`, and leaves the model as it was, when the file cannot be read, its names or
    shapes are not the model's, or a value is NaN or infinite.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    set_weights(model, tensors, path)
    return metadata


def set_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Copy named tensors into `model`; raises as `load_weights` does, with `source` as where they are from."""
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not in the model" for name in tensors if name not in expected]
    for name, tensor in tensors.items():
        if name in expected and tensor.shape != expected[name].shape:
            problems.append(f"{name} is {list(tensor.shape)}, the model's is {list(expected[name].shape)}")
        if not tensor.isfinite().all():
            problems.append(f"{name} holds NaN or infinite values")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(tensors)


def _intact(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Intact checkpoints and what `torch.load` takes of them, the newest first; warns of the others."""
    paths = _checkpoints(folder)
    for path in paths:
        content = path.read_bytes()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            yield path, content
        else:
            instead = "the run starts from its beginning" if path == paths[-1] else "trying the one before"
            warnings.warn(f"checkpoint {path} is damaged; {instead}", stacklevel=3)


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in folder.glob("checkpoint-*.pt") if _number(path)]
    return sorted(found, key=_number, reverse=True)


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # The new name itself is on disk only when the folder is.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
