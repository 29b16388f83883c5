"""Values set over a spec's own (`--set`): where each belongs, and whether it reaches any run."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import Problem, UsageError
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec, put
from orchestrator.spec.search import VARIANT_SECTIONS
from orchestrator.spec.variants import Variant, flatten, variant_specs, variants

_SPACE = "search.space."
_VARIANTS = "search.variants."


def override(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a spec's content with the values at the dotted paths set, sections before their fields.

    Keys of spaces and variants have dots in them: the longest key that is there is meant, so that
    `search.space.training.optimizer.lr.low` is an end of the domain of training.optimizer.lr. Where none is,
    the rest of the path is a new key. Raises `UsageError` for a part of a variant that is not there.
    """
    result = copy.deepcopy(dict(tree))
    for path in sorted(values, key=lambda path: path.count(".")):
        put(result, _keys(result, path), values[path])
    return result


def _keys(tree: Mapping[str, Any], path: str) -> list[str]:
    """The keys on the way to a dotted path."""
    if path.startswith(_SPACE):
        return ["search", "space", *_dotted(_at(tree, "search", "space"), path.removeprefix(_SPACE))]
    if not path.startswith(_VARIANTS):
        return path.split(".")
    arms = _at(tree, "search", "variants")
    name, *parts = _dotted({name: {} for name in arms}, path.removeprefix(_VARIANTS))
    part = re.match(r"(.+?)\.(set|space)(\.|$)", name)
    if part and name not in arms:
        name = part[1]
        close = nearest(name, arms)
        raise UsageError(
            f"{path}: there is no variant {name!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"a new one is set as a whole: {_VARIANTS}{name}={{set: {{...}}}}",
        )
    if len(parts) > 1 and parts[0] in ("set", "space"):
        parts = [parts[0], *_dotted(_at(tree, "search", "variants", name, parts[0]), ".".join(parts[1:]))]
    return ["search", "variants", name, *parts]


def _dotted(known: Mapping[str, Any], rest: str) -> list[str]:
    """The longest known key that `rest` is or goes on from into its mapping, and the keys below; else all as one."""
    for key in sorted((key for key in known if isinstance(key, str)), key=len, reverse=True):
        if rest == key:
            return [key]
        if rest.startswith(f"{key}.") and isinstance(known[key], dict):
            return [key, *rest.removeprefix(f"{key}.").split(".")]
    return [rest]


def _at(tree: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The mapping under the keys, empty where there is none."""
    node: Any = tree
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def without_effect(spec: ExperimentSpec, values: Mapping[str, Any]) -> tuple[list[Problem], list[Problem]]:
    """The overrides of a checked spec that reach no run, and those that reach some of its variants alone."""
    none: list[Problem] = []
    some: list[Problem] = []
    arms = variants(spec)
    for path, value in _leaves(spec, arms, values).items():
        own = {arm.name: place for arm in arms if (place := _own_place(spec, arm, path))}
        if not own:
            continue
        how = " or ".join(sorted({"searched" if ".space." in place else "set" for place in own.values()}))
        # Where the field itself has a value, that is what to set; else the sections that replace the one it is in.
        places = list(dict.fromkeys(p for p in own.values() if p.endswith(f".{path}")) or dict.fromkeys(own.values()))
        hint = f"set {', '.join(places[:3])}{' and so on' if len(places) > 3 else ''} instead"
        if how == "searched" and not isinstance(value, (dict, list)):
            hint += f", to {{type: choice, values: [{json.dumps(value)}]}} for this value alone"
        every = f"it is {how}" + (" in every variant" if spec.search.variants else "")
        if len(own) < len(arms):
            some.append(Problem(path, f"has no effect in {', '.join(own)}: it is {how} there", hint=hint))
        elif path.partition(".")[0] == "training" and any(_teaches_alike(spec, arm) for arm in arms):
            some.append(Problem(path, f"has an effect on the teacher's training alone: {every}", hint=hint))
        else:
            none.append(Problem(path, f"has no effect: {every}", hint=hint))
    return none, some


def _leaves(spec: ExperimentSpec, arms: Sequence[Variant], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set for all variants; of a section that no variant replaces, those in it."""
    leaves: dict[str, Any] = {}
    for path in sorted(values, key=lambda path: path.count(".")):
        if path.partition(".")[0] in VARIANT_SECTIONS:
            replaced = any(_own_place(spec, arm, path) for arm in arms)
            leaves |= (not replaced and flatten({path: values[path]})) or {path: values[path]}
    return leaves


def _own_place(spec: ExperimentSpec, arm: Variant, path: str) -> str | None:
    """Where the variant's value of a field comes from, if not from the spec's own sections."""
    own = variant_specs(spec)[arm.name]
    for part, keys in (("space", arm.space), ("set", own.set)):
        for key in keys:
            if path == key or path.startswith(f"{key}."):
                shared = part == "space" and key not in own.space
                return f"search.space.{key}" if shared else f"search.variants.{arm.name}.{part}.{key}"
    return None


def _teaches_alike(spec: ExperimentSpec, arm: Variant) -> bool:
    """Whether the variant's teacher is trained with the spec's own `training`."""
    teacher = arm.run.teacher if arm.run.needs_teacher else None
    written = spec.teacher is not None and spec.teacher.training is not None
    return teacher is not None and not written and teacher.training == spec.training
