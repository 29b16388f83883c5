"""Writing a student in the formats that are offered, and running what was written."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import CheckpointError, OrchestratorError, UsageError, first_line
from orchestrator.export.blueprint import KEY, Blueprint, Format, format_of
from orchestrator.export.student import Student, load_student

INPUT, OUTPUT = "images", "logits"
"""What the exported programs call their input and their output."""
ONNX_WRITERS, ONNX_RUNNERS = ("onnx", "onnxscript"), ("onnxruntime",)
INSTALL_ONNX = "pip install 'distillation-orchestrator[onnx]', or pip install onnx onnxscript onnxruntime"
_EXAMPLES = 2
"""Images that a program is traced with: of one alone the tracer would make a constant."""


@dataclass(frozen=True)
class Exported:
    """A student that can be asked, whatever it was written as."""

    blueprint: Blueprint
    logits: Callable[[Tensor], Tensor]
    """Of images, float32 [B, C, H, W] of 0 to 1, on the CPU."""


def write(student: Student, weights: Path, folder: Path, format: Format) -> Path:
    """Write the student into a folder; `weights` is the file that it was loaded from. Returns the new file.

    Raises `UsageError` where a package is missing, `OrchestratorError` where the network cannot be written so.
    """
    path = folder / format.file
    if format is Format.SAFETENSORS:
        shutil.copyfile(weights, path)
        return path
    if format is Format.ONNX:
        require(ONNX_WRITERS)
    try:
        with _quiet():
            program = _program(student)
            if format is Format.ONNX:
                _write_onnx(program, student.blueprint, path)
            else:
                torch.export.save(program, path, extra_files={KEY: student.blueprint.to_text()})
    except Exception as error:  # the exporters raise whatever a network makes them stumble over
        raise OrchestratorError(
            f"{student.blueprint.network.get('name')} cannot be written as {format}: {first_line(error)}",
            hint=f"--format {Format.SAFETENSORS} takes every network",
        ) from error
    return path


def load(path: Path) -> Exported:
    """What runs an exported file; raises `CheckpointError` where it cannot be read, `UsageError` without onnxruntime.

    Safetensors and ONNX files are data alone. A program of torch.export is read by way of pickle, which can run code:
    load one only from where you would run a program from.
    """
    format = format_of(path)
    if format is Format.SAFETENSORS:
        student = load_student(path)
        return Exported(student.blueprint, student)
    if format is Format.TORCH_EXPORT:
        return _load_program(path)
    if format is Format.ONNX:
        require(ONNX_RUNNERS)
        return _load_onnx(path)
    known = ", ".join(each.file.removeprefix("model") for each in Format)
    raise UsageError(f"{path} is no exported student: its name ends in none of {known}")


def require(packages: tuple[str, ...]) -> None:
    """Raise `UsageError` for a package that is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"the format onnx needs {' and '.join(missing)}", hint=INSTALL_ONNX)


def _program(student: Student) -> torch.export.ExportedProgram:
    example = torch.zeros(_EXAMPLES, *student.blueprint.image)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(student.eval(), (example,), dynamic_shapes=({0: batch},))


def _write_onnx(program: torch.export.ExportedProgram, blueprint: Blueprint, path: Path) -> None:
    written = torch.onnx.export(program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False)
    if written is None:
        raise RuntimeError("torch.onnx wrote nothing")
    written.model.metadata_props[KEY] = blueprint.to_text()
    written.model.metadata_props["classes"] = json.dumps(blueprint.classes)
    written.save(path, external_data=False)


def _load_program(path: Path) -> Exported:
    extra = {KEY: ""}
    try:
        with _quiet():
            module = torch.export.load(path, extra_files=extra).module()
    except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as a program of torch.export: {first_line(error)}") from error
    return Exported(Blueprint.from_text(extra[KEY] or None, path), module)


def _load_onnx(path: Path) -> Exported:
    import onnxruntime

    try:
        # By its content: an error of a path that does not exist would be of onnxruntime's own kind.
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # its classes are made by a C++ library, and have no common base
        raise CheckpointError(f"{path} cannot be read as ONNX: {first_line(error)}") from error
    known: dict[str, Any] = session.get_modelmeta().custom_metadata_map

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return Exported(Blueprint.from_text(known.get(KEY), path), logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters tell of their own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
