"""From a YAML file (or a mapping) and overrides to a checked `ExperimentSpec`."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.errors import Problem, SpecError, UsageError
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.first_points import check_points
from orchestrator.spec.overrides import override, without_effect
from orchestrator.spec.problems import problems_of
from orchestrator.spec.variants import check_search

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
"""Values of a spec with its aliases written out; a few lines of them can stand for billions."""
Lines = dict[tuple[str | int, ...], int]
_log = logging.getLogger(__name__)


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: 1e-3 is a number, and on, off, yes and no are text."""


def _scalar(convert: Callable[[str], Any]) -> Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except (ValueError, KeyError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{_short(text)} cannot be read as {kind}", node.start_mark
            ) from None

    return construct


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_constructors = {
    None: yaml.SafeLoader.construct_undefined,
    "tag:yaml.org,2002:map": yaml.SafeLoader.construct_yaml_map,
    "tag:yaml.org,2002:seq": yaml.SafeLoader.construct_yaml_seq,
    "tag:yaml.org,2002:str": yaml.SafeLoader.construct_yaml_str,
    "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
    "tag:yaml.org,2002:bool": _scalar(lambda text: {"true": True, "false": False}[text.lower()]),
    "tag:yaml.org,2002:int": _scalar(int),
    "tag:yaml.org,2002:float": _scalar(lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))),
}


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that YAML 1.1 or 1.2 would read as something else."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()),
        *_Loader.yaml_implicit_resolvers.get(first, ()),
    ]
    for first in {**yaml.SafeDumper.yaml_implicit_resolvers, **_Loader.yaml_implicit_resolvers}
}
_UNICODE_BREAKS = re.compile("[\x85\u2028\u2029]")
"""Line breaks to YAML 1.1, which folds them into spaces unless they are escaped in double quotes."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _UNICODE_BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def load_spec(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Iterable[str] | None = None
) -> ExperimentSpec:
    """Read and check a spec.

    `source` is a YAML file or a mapping of the same shape; `overrides` maps dotted paths to values,
    or lists "path=value" texts whose values are read as YAML. Raises `SpecError` with every problem
    that was found, overrides that reach no run included; warns of one that reaches some variants alone.
    """
    name = None if isinstance(source, Mapping) else str(source)
    raw, lines = (dict(source), {}) if isinstance(source, Mapping) else _read(Path(source))
    texts = [] if isinstance(overrides, Mapping) else list(overrides or ())
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(texts)
    raw = override(raw, values)
    partial: list[Problem] = []
    try:
        spec = ExperimentSpec.model_validate(raw)
        problems = check_search(spec, lines) or check_points(spec, lines)
        if not problems:
            problems, partial = without_effect(spec, values)
    except ValidationError as error:
        problems = problems_of(error, ExperimentSpec, raw, lines)
    if problems:
        raise SpecError([_at_override(problem, values, texts) for problem in problems], name)
    for problem in partial:
        _log.warning("warning: %s", problem)
    return spec


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Read "dotted.path=value" texts; each value is YAML, so lists and mappings work too."""
    values: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not all(path.strip().split(".")):
            raise UsageError(f"--set {text!r} is not of the form path=value", hint="such as search.num_samples=4")
        values[path.strip()], _, problems = _parse(value)
        if problems:
            where = f"{problems[0].path} " if problems[0].path else ""
            raise UsageError(f"--set {_short(text)}: the value: {where}{problems[0].rule}")
    return values


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises `SpecError` where it holds none."""
    return _read(path)[0]


def to_yaml(content: Any) -> str:
    """YAML text that `load_spec` reads back to the same values."""
    return str(yaml.dump(json.loads(json.dumps(content)), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


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
    raw, lines, problems = _parse(text)
    if problems:
        raise SpecError(problems, source)
    if not isinstance(raw, dict):
        raise SpecError([Problem("", "must be a mapping of keys to values")], source)
    return raw, lines


def _parse(text: str) -> tuple[Any, Lines, list[Problem]]:
    """The value of a YAML text, each field's line, and what keeps the text from being read."""
    problems: list[Problem] = []
    lines: Lines = {}
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            return None, lines, problems
        if _size(node, {}) > MAX_VALUES:
            return None, lines, [Problem("", f"has more than {MAX_VALUES} values: not a spec")]
        _walk(node, (), lines, problems)
        value = None if problems else yaml.load(text, _Loader)
    except RecursionError:
        return None, lines, [Problem("", "is not valid YAML: it is nested too deeply")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        return None, lines, [Problem("", f"is not valid YAML: {_first_line(error)}", line=line)]
    return value, lines, problems


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Values in a node, with what aliases stand for; infinite where one stands for what it is in."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        inner = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_size(n, sizes) for n in inner))
    return sizes[id(node)]


def _walk(node: yaml.Node, loc: tuple[str | int, ...], lines: Lines, problems: list[Problem]) -> None:
    """Note each value's line, and refuse what YAML would let pass in silence: a key given twice, or not text."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                name = f" {key.value}" if isinstance(key, yaml.ScalarNode) else ""
                problems.append(Problem(".".join(map(str, loc)), f"has the key{name}, which is not text", line=line))
                continue
            name = str(key.value)
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


def _at_override(problem: Problem, values: Mapping[str, Any], texts: Iterable[str]) -> Problem:
    """The problem as it is told where an override made it: without a line, and whether a value was forgotten."""
    if not any(problem.path == path or problem.path.startswith(f"{path}.") for path in values):
        return problem
    empty = {path.strip() for path, _, value in (text.partition("=") for text in texts) if not value.strip()}
    if problem.path in empty and problem.has_value and problem.value is None:
        problem = replace(problem, rule=f"nothing was given after '='; {problem.rule}", has_value=False)
    return replace(problem, line=None)


def _short(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
