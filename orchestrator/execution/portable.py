"""What a spec needs where it is sent to: variables, plugins, packages, and paths that mean something there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from orchestrator import catalog
from orchestrator.environment import version_of
from orchestrator.errors import Problem, SpecError
from orchestrator.execution.package import DISTRIBUTION
from orchestrator.execution.teacher import MLFLOW
from orchestrator.registry import Registry
from orchestrator.search.plan import make_plan
from orchestrator.spec.base import environment_names
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.model import TORCHVISION_WEIGHTS
from orchestrator.spec.uris import is_uri


def needed_variables(spec: ExperimentSpec) -> list[str]:
    """Names of the environment variables that the spec uses; what they hold is never sent."""
    return sorted({name for text in _texts(spec.model_dump(exclude_unset=True)) for name in environment_names(text)})


def needed_plugins(spec: ExperimentSpec) -> list[str]:
    """The installed packages that add what the spec names, such as "my-package 0.1 (loss absolute)"."""
    used = set(_texts(spec.model_dump(exclude_unset=True)))
    found = []
    for registry in vars(catalog).values():
        if isinstance(registry, Registry):
            for point in metadata.entry_points(group=registry.group):
                if point.name in used and point.dist is not None:
                    found.append(f"{point.dist.name} {point.dist.version} ({registry.kind} {point.name})")
    return sorted(found)


def requirements() -> list[str]:
    """What this package needs, in the versions that are installed here; Ray's is the cluster's own."""
    names = [
        re.split(r"[\s;<>=!~\[(]", text, maxsplit=1)[0]
        for text in metadata.requires(DISTRIBUTION) or []
        if "extra ==" not in text
    ]
    # "+cpu" and the like name a build that the package index may not have.
    return [f"{name}=={version_of(name).partition('+')[0]}" for name in names if name != "ray"]


def check_portable(spec: ExperimentSpec, source: str | None = None) -> None:
    """Refuse what means nothing on another machine; raises `SpecError`."""
    problems = []
    warm_start = spec.search.warm_start
    uris = {"tracking.uri": spec.tracking.uri, "search.warm_start.uri": warm_start.uri if warm_start else None}
    for path, uri in uris.items():
        if uri is not None and re.match(r"sqlite:///(?![/$])", uri):
            problems.append(_here(path, uri, "sqlite:////FOLDER/FILE, or a server"))
    plan = make_plan(spec)
    for root in dict.fromkeys(arm.variant.run.data.root for arm in plan.arms):
        if root is not None and not _is_rooted(root):
            problems.append(_here("data.root", root, "a folder from the root of the cluster's machines"))
    for checkpoint in plan.checkpoints:
        named = MLFLOW.fullmatch(checkpoint) or checkpoint.startswith(TORCHVISION_WEIGHTS)
        if not named and not _is_rooted(checkpoint):
            problems.append(
                _here("teacher.checkpoint", checkpoint, "a file on the cluster's machines, or models:/NAME/VERSION")
            )
    if problems:
        raise SpecError(problems, source)


def _here(path: str, value: str, instead: str) -> Problem:
    return Problem(path, f"is a path below this folder, which the cluster does not have; name {instead}", value, True)


def _is_rooted(path: str) -> bool:
    return path.startswith(("/", "~", "${env:")) or is_uri(path)


def _texts(content: Any) -> Iterator[str]:
    """Every text in JSON-like content, keys included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _texts(value)
