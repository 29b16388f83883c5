"""Networks, from the sections that name them: their initial or given weights, and their sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from orchestrator.build.seeds import Stream, stream_seed
from orchestrator.data import Dataset
from orchestrator.errors import BuildError, CheckpointError, first_line
from orchestrator.export.blueprint import Blueprint
from orchestrator.models import build_model, flop_count, parameter_count
from orchestrator.models.average import AveragedTeacher
from orchestrator.models.torchvision_models import published_weights
from orchestrator.spec.data import DataSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import TORCHVISION_WEIGHTS, ModelSpec, TeacherSpec
from orchestrator.spec.scheme import Ensemble, SchemeSpec
from orchestrator.training import fit_pretrained, load_pretrained, load_weights


def build_network(model: ModelSpec, dataset: Dataset, seed: int) -> nn.Module:
    """A network with initial weights that depend on the seed alone.

    Raises `BuildError` where the model does not take these settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return build_model(
                **_settings(model), num_classes=len(dataset.classes), in_channels=dataset.train.images.shape[1]
            )
        except ValueError as error:
            raise BuildError(f"model {model.model}: {error}") from error


def _settings(model: ModelSpec) -> dict[str, Any]:
    """What `build_model` is told of an architecture, whatever the images."""
    chosen = {name: getattr(model, name) for name in ("width", "norm", "stem_stride", "small_images")}
    return {"name": model.model, **chosen}


def blueprint(model: ModelSpec, data: DataSpec, dataset: Dataset) -> Blueprint:
    """What whoever is given a network's weights has to know beside them."""
    channels, height, width = dataset.train.images.shape[1:]
    return Blueprint(
        _settings(model),
        data.dataset,
        dataset.classes,
        (channels, height, width),
        dataset.mean,
        dataset.std,
        data.image_size,
    )


class NetworkSize(NamedTuple):
    """How large a network is."""

    parameters: int
    multiply_adds: int
    """Of one image's forward pass; see `orchestrator.models.flop_count`."""


_sizes: dict[object, NetworkSize] = {}


def network_size(model: ModelSpec, network: Callable[[], nn.Module], dataset: Dataset) -> NetworkSize:
    """The size of a network for the images of a data set; asked for and counted once for each architecture.

    Raises `BuildError` where the network cannot take such images.
    """
    shape = tuple(dataset.train.images.shape[1:])
    key = (model.model_dump_json(), shape, len(dataset.classes))
    if key not in _sizes:
        built = network()
        try:
            _sizes[key] = NetworkSize(parameter_count(built), flop_count(built, (1, *shape)))
        except (ValueError, RuntimeError) as error:
            size = f"{shape[1]} x {shape[2]} pixels and {shape[0]} channel{'s' if shape[0] > 1 else ''}"
            message = f"model {model.model} cannot take images of {size}: {first_line(error)}"
            raise BuildError(message, hint="choose another model, or other images") from error
    return _sizes[key]


def build_teacher(run: RunSpec, dataset: Dataset) -> nn.Module:
    """The teacher's network, with its initial weights."""
    if run.teacher is None:
        raise ValueError("this run has no teacher")
    return build_network(run.teacher, dataset, stream_seed(run.seed, Stream.TEACHER_INIT))


def join_teachers(scheme: SchemeSpec, networks: Sequence[nn.Module]) -> nn.Module:
    """One network that answers for all."""
    return AveragedTeacher(networks, scheme.average) if isinstance(scheme, Ensemble) else networks[0]


def load_teacher(teacher: TeacherSpec, path: Path, network: nn.Module) -> None:
    """Copy a teacher's weights into its network: those of stage 0, or those that `teacher.checkpoint` names.

    `path` is where they lie on this machine, or torchvision's name for them. Raises `CheckpointError` that names
    the field where they do not fit.
    """
    if teacher.checkpoint is None:
        load_weights(path, network)
        return
    try:
        if str(path).startswith(TORCHVISION_WEIGHTS):
            weights = str(path).removeprefix(TORCHVISION_WEIGHTS)
            fit_pretrained(path, published_weights(teacher.model, weights, download=teacher.download), network)
        else:
            load_pretrained(path, network, teacher.key_mapping)
    except CheckpointError as error:
        raise CheckpointError(f"teacher.checkpoint: {error.message}", hint=error.hint) from error
