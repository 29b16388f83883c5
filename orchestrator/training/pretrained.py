"""Weights that others have published: torch and safetensors files, nested or not, under their own names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from orchestrator.errors import CheckpointError
from orchestrator.models.mapping import mapped_names
from orchestrator.training.checkpoint import set_weights

NESTED_UNDER = ("model", "state_dict", "model_state_dict", "net")
"""Keys under which checkpoints of a training run keep the network's state dict."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that `DataParallel` and `torch.compile` put before every name."""
_COUNTER = "num_batches_tracked"


def load_pretrained(path: Path, model: nn.Module, key_mapping: str | None = None) -> None:
    """Copy the weights of a published file into `model`.

    Args:
        path: a safetensors file, or what `torch.save` wrote: a state dict, or a dict that holds one under a key of
            `NESTED_UNDER`. It is read without running code of its own.
        model: a network of the same architecture and number of classes.
        key_mapping: a name in `orchestrator.models.mapping.MAPPINGS`; None takes the names as they are.

    Raises:
        CheckpointError: the file cannot be read, tells another number of classes apart, or its names, shapes or
            values do not fit; the model is left as it was.
    """
    fit_pretrained(path, read_tensors(path), model, key_mapping)


def fit_pretrained(
    source: object, published: Mapping[str, Tensor], model: nn.Module, key_mapping: str | None = None
) -> None:
    """Copy a published state dict into `model`, as `load_pretrained` does; `source` names it in errors."""
    tensors = dict(published)
    if key_mapping is not None:
        names = mapped_names(tensors, key_mapping, model)
        tensors = {names[name]: tensor for name, tensor in tensors.items()}
    expected = model.state_dict()
    # Batch norms count batches for an average that they do not use here; old files have no such counts.
    for name in expected:
        if name.endswith(_COUNTER) and name not in tensors and name.replace(_COUNTER, "running_mean") in tensors:
            tensors[name] = torch.zeros((), dtype=torch.long)
    _check_classes(source, model, tensors)
    try:
        set_weights(model, tensors, source)
    except CheckpointError as error:
        if key_mapping is None and not set(tensors) & set(expected):
            error.hint = "none of its names are the model's: is teacher.key_mapping missing?"
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors or torch file, its names without wrappers; raises `CheckpointError`."""
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        content = safetensors.torch.load_file(path) if is_safetensors else _read_torch(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    tensors = _state_dict(path, content)
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _read_torch(path: Path) -> object:
    """What `torch.save` wrote; the options of a training run beside the weights do no harm, other classes may."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged or foreign pickle can fail in any way
        raise CheckpointError(
            f"{path} is neither a safetensors file nor whole and plain weights of torch",
            hint="save them where they were made, with torch.save(model.state_dict(), ...)",
        ) from error


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in NESTED_UNDER:
            if isinstance(content.get(key), Mapping):
                return _state_dict(path, content[key])
        if content and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
            return dict(content)
    raise CheckpointError(
        f"{path} holds no state dict, neither itself nor under one of the keys {', '.join(NESTED_UNDER)}"
    )


def _check_classes(source: object, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    classifier = getattr(model, "classifier_layer", None)
    weight = tensors.get(f"{classifier}.weight")
    if classifier is None or weight is None or weight.ndim == 0:
        return
    wanted = cast(Tensor, model.get_submodule(classifier).weight).shape[0]
    if weight.shape[0] != wanted:
        raise CheckpointError(f"{source} tells {weight.shape[0]} classes apart, the data set has {wanted}")
