"""Whether a trial's teacher logits are stored, and the key of the store: all that they depend on."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import __version__, build
from orchestrator.catalog import MODELS, TORCHVISION
from orchestrator.data.logit_store import Elsewhere
from orchestrator.errors import TeacherError
from orchestrator.execution.job import Job
from orchestrator.execution.logits import StoredLogits
from orchestrator.search.logits import GB, ITEM_BYTES, Keeping
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import TORCHVISION_WEIGHTS, ModelSpec, TeacherSpec

if TYPE_CHECKING:
    from torch import nn


def stored_logits(
    job: Job,
    run: RunSpec,
    splits: build.Splits,
    images: Callable[[], str],
    teacher: Callable[[], nn.Module],
    elsewhere: Elsewhere | None = None,
) -> tuple[StoredLogits | None, Keeping | None]:
    """A trial's stored logits, None where its teacher is run in every step, and which of it came about.

    `images` gives the digest of the training images, `teacher` the network, on the run's device.
    """
    if job.logits is None:
        return None, None
    keeping = Keeping(**{name: value for name, value in job.logits.items() if name != "folder"})
    # Not known before where the data set's size is not.
    size = keeping.views * len(splits.train) * len(splits.dataset.classes) * ITEM_BYTES[keeping.dtype]
    if keeping.stored and size > keeping.limit and not keeping.forced:
        keeping = replace(keeping, stored=False, why=f"{size / GB:.3g} GB are above resources.teacher_logits_gb")
    if not keeping.stored:
        return None, keeping
    key = {
        "teachers": [_teacher_key(teacher) for teacher in job.teachers],
        "average": run.scheme.model_dump(include={"average"}),
        "images": images(),
        "normalisation": [splits.dataset.mean, splits.dataset.std],
        "augmentation": _augmentation_key(run, splits),
        "code": {"orchestrator": __version__, "torch": version("torch")},
    }
    strict = keeping.forced and "dtype" in run.distillation.teacher_logits.model_fields_set
    folder = Path(job.logits["folder"])
    return StoredLogits(folder, key, keeping, teacher, strict=strict, elsewhere=elsewhere), keeping


def _augmentation_key(run: RunSpec, splits: build.Splits) -> dict[str, Any]:
    """What an image's look depends on beside the view; the same for "standard" and a section that says the same."""
    given, dataset = run.data.augmentation, splits.dataset
    if not build.build_augmentation(run.data, dataset).varies:
        return {}
    usual = {"crop": dataset.crop_padding, "flip": dataset.flip}
    return usual if isinstance(given, str) else {**usual, **given.model_dump(exclude_defaults=True)}


def _teacher_key(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What a network's answers depend on: its architecture, its code, and what is in the file of its weights."""
    spec = TeacherSpec.model_validate(teacher["model"])
    model = spec.model_dump(include={*ModelSpec.model_fields, "key_mapping"}, exclude_defaults=True)
    model["code"] = _code(spec.model)
    weights = str(teacher["weights"])
    if weights.startswith(TORCHVISION_WEIGHTS):
        return {**model, "weights": weights}
    try:
        status = Path(weights).stat()
        return {**model, "weights": _file_digest(weights, status.st_mtime_ns, status.st_size)}
    except OSError as error:
        raise TeacherError(f"{weights} cannot be read: {error}") from error


@lru_cache(maxsize=64)
def _code(model: str) -> dict[str, str]:
    """What tells one state of a model's code from another: its file and its package's version; none for our own."""
    factory = MODELS[model]
    while isinstance(factory, partial):
        factory = factory.func
    module = inspect.getmodule(factory) or inspect.getmodule(type(factory))
    package = "torchvision" if model.startswith(TORCHVISION) else module.__name__.split(".")[0] if module else ""
    if package == "orchestrator":
        return {}
    code = {name: version(name) for name in packages_distributions().get(package, ())}
    file = getattr(module, "__file__", None)
    if file and package != "torchvision":
        code["file"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return code


@lru_cache(maxsize=64)
def _file_digest(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
