"""From a YAML file (or a mapping) and overrides to a checked `ExperimentSpec`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.errors import Problem, SpecError, UsageError
from orchestrator.spec.experiment import ExperimentSpec, assign
from orchestrator.spec.problems import problems_of
from orchestrator.spec.variants import check_search

MAX_BYTES = 1_000_000
Lines = dict[tuple[str | int, ...], int]


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: 1e-3 is a number, and on, off, yes and no are text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
_Loader.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: float(loader.construct_scalar(node).replace(".inf", "inf").replace(".nan", "nan").lower())
)


def load_spec(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Iterable[str] | None = None
) -> ExperimentSpec:
    """Read and check a spec.

    `source` is a YAML file or a mapping of the same shape; `overrides` maps dotted paths to values,
    or lists "path=value" texts whose values are read as YAML. Raises `SpecError` with every problem
    that was found.
    """
    name = None if isinstance(source, Mapping) else str(source)
    raw, lines = (dict(source), {}) if isinstance(source, Mapping) else _read(Path(source))
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides or ())
    raw = assign(raw, values)
    lines = {loc: line for loc, line in lines.items() if not _overridden(loc, values)}
    try:
        spec = ExperimentSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(problems_of(error, ExperimentSpec, raw, lines), name) from None
    problems = check_search(spec, lines)
    if problems:
        raise SpecError(problems, name)
    return spec


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Read "dotted.path=value" texts; each value is YAML, so lists and mappings work too."""
    values: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise UsageError(f"--set {text!r} is not of the form path=value", hint="such as search.num_samples=4")
        try:
            values[path.strip()] = yaml.load(value, _Loader)  # noqa: S506  (a SafeLoader)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {text!r}: the value is not valid YAML: {_first_line(error)}") from None
    return values


def to_yaml(content: Any) -> str:
    """YAML text that `load_spec` reads back to the same values."""
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> tuple[dict[str, Any], Lines]:
    source = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError([Problem("", f"the file is larger than {MAX_BYTES} bytes: not a spec")], source)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([Problem("", "there is no such file")], source) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem("", f"the file cannot be read: {error}")], source) from None
    try:
        node = yaml.compose(text, _Loader)
        problems: list[Problem] = []
        lines: Lines = {}
        if node is not None:
            _walk(node, (), lines, problems)
        raw = yaml.load(text, _Loader) if not problems else None  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise SpecError([Problem("", f"is not valid YAML: {_first_line(error)}", line=line)], source) from None
    if problems:
        raise SpecError(problems, source)
    if not isinstance(raw, dict):
        raise SpecError([Problem("", "must be a mapping with keys such as name, data and student")], source)
    return raw, lines


def _walk(node: yaml.Node, loc: tuple[str | int, ...], lines: Lines, problems: list[Problem]) -> None:
    """Note each value's line, and refuse what YAML would let pass in silence: a key given twice."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            path = (*loc, name)
            if name in seen:
                problems.append(Problem(".".join(map(str, path)), "is given twice", line=line))
            seen.add(name)
            lines[path] = line
            _walk(value, path, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*loc, index)] = value.start_mark.line + 1
            _walk(value, (*loc, index), lines, problems)


def _overridden(loc: tuple[str | int, ...], values: Mapping[str, Any]) -> bool:
    path = ".".join(str(part) for part in loc)
    return any(path == key or path.startswith(f"{key}.") for key in values)


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
